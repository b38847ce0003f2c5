//! The Job that makes load: fill batches up to the link's limit, send, and count only what the broker has confirmed.
//!
//! [`send_all`] is the loop, [`pace`] when the next messages are due, [`Progress`] what a person sees meanwhile. What was
//! not confirmed is sent again, so a message may arrive twice but none is reported that did not arrive. It does not know
//! who receives.

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::Context as _;
use clap::Parser;
use tokio_util::sync::CancellationToken;
use workload::{DestinationFlags, Ledger, Seconds};

pub mod pace;
mod progress;
mod send_loop;

pub use progress::Progress;
pub use send_loop::{Plan, SendError, Sent, send_all};

/// The program's name, as it stands in front of its error lines.
pub const NAME: &str = "sender";

/// Sends messages with the bodies {"foo":"bar","id":0}, {"foo":"bar","id":1}, … to a Service Bus queue or topic
///
/// Exits with 0 once the broker has confirmed every message. Whatever else ends it (an error, a signal) is said together
/// with how many messages were confirmed, and the exit code is 1.
#[derive(Parser, Clone, Debug)]
#[command(name = NAME, version)]
pub struct Args {
    /// Which queue or topic.
    #[command(flatten)]
    pub destination: DestinationFlags,
    /// How many messages to send
    #[arg(long, env = "NR_MESSAGES", value_name = "COUNT", default_value = "1000")]
    pub messages: u64,
    /// Id of the first message; the others count up from it
    #[arg(long, value_name = "ID", default_value = "0")]
    pub first_id: u64,
    /// Messages per batch at most [default: as many as the link's limit has room for]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_size: Option<u32>,
    /// Messages per second on average; 0 sends as fast as possible
    #[arg(long, value_name = "RATE", allow_negative_numbers = true, default_value = "0")]
    pub rate: Rate,
    /// How long a batch that is not confirmed is tried again, in seconds
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, default_value = "60")]
    pub retry_for: Seconds,
    /// Append the id of each confirmed message to this file, one a line
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    /// How it logs.
    #[command(flatten)]
    pub log: runtime::LogArgs,
}

/// Messages per second, 0 (no limit) to a million.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate(pub f64);

/// Not such a rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a number of messages per second from 0 (no limit) to 1000000")]
pub struct BadRate;

impl FromStr for Rate {
    type Err = BadRate;

    fn from_str(text: &str) -> Result<Self, BadRate> {
        text.parse().ok().filter(|rate| (0.0..=1_000_000.0).contains(rate)).map(Self).ok_or(BadRate)
    }
}

/// Sends until all is confirmed, `shutdown` is cancelled, or an error ends it. Prints the summary on stdout.
pub async fn run(args: Args, shutdown: CancellationToken) -> anyhow::Result<ExitCode> {
    let Args { destination: flags, messages, first_id, batch_size, rate, retry_for, ledger, log: _ } = args;
    let destination = flags.open()?;
    if first_id.checked_add(messages).is_none() {
        anyhow::bail!("--first-id {first_id} with --messages {messages} counts beyond 2^64-1, the largest id");
    }
    let ledger = ledger.as_deref().map(Ledger::open).transpose().context("prepare --ledger")?;
    let plan = Plan {
        messages,
        first_id,
        batch_size: batch_size.map_or(usize::MAX, |size| size as usize),
        rate: rate.0,
        retry_for: retry_for.0,
    };
    let client = flags.namespace.client;
    tracing::info!(entity = destination.name.path(), namespace = destination.namespace, %client, messages, "sending");
    let mut progress = Progress::on_stderr(messages);
    let (sent, result) = send_all(destination.client.as_ref(), plan, ledger.as_ref(), &mut progress, &shutdown).await;
    progress.clear();
    if let Err(error) = destination.client.close().await {
        tracing::debug!(%error, "the client did not close cleanly");
    }
    match result {
        Ok(()) => {
            println!("{sent}");
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            if sent.in_doubt > 0 {
                tracing::warn!(
                    messages = sent.in_doubt,
                    "ended without knowing of the last batch: its messages may be there without being confirmed"
                );
            }
            if sent.retries > 0 {
                tracing::warn!(tries = sent.retries, "not confirmed and made again, so messages may be there twice");
            }
            let meaning =
                error.client_error().filter(|error| !error.is_transient()).map(|error| destination.explain(error));
            let confirmed = format!("{} of {messages} messages confirmed", sent.messages);
            let error = anyhow::Error::new(error);
            Err(match meaning {
                Some(meaning) => error.context(meaning),
                None => error,
            }
            .context(confirmed))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_finite_number_in_range() {
        assert_eq!("2.5".parse(), Ok(Rate(2.5)));
        assert_eq!("0".parse(), Ok(Rate(0.0)));
        for text in ["", "-1", "1e7", "NaN", "inf", "fast"] {
            assert_eq!(text.parse::<Rate>(), Err(BadRate), "{text}");
        }
    }
}
