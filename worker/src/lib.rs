//! The receiver that the scaler scales: receive under lock, handle, settle; at least once, nothing lost.
//!
//! [`Handler`] is what a user of the library writes; [`Simulated`] is the one that the binary runs: it waits as long as work
//! would take. [`receive_and_settle`] is the loop around either. The loop owns which messages are in hand; locks and
//! messages belong to the broker, so a worker that is killed loses nothing. Scaling is none of its business.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser;
use tokio_util::sync::CancellationToken;
use workload::{Ledger, Seconds, SourceFlags};

mod delivery;
#[cfg(test)]
mod fake;
mod figures;
mod handler;
mod receive_loop;
mod renewal;
mod simulated;

pub use figures::Figures;
pub use handler::{Handler, Outcome};
pub use receive_loop::{Failure, Settings, Stopped, receive_and_settle};
pub use simulated::Simulated;

/// The program's name, as it stands in front of its error lines.
pub const NAME: &str = "worker";

/// Receives messages from a Service Bus queue or subscription and handles them until SIGTERM
///
/// Handling is simulated: it takes --wait-time per message. A message is completed after it was handled; one whose body is
/// not {"foo":"bar","id":N} goes to the dead-letter queue.
#[derive(Parser, Clone, Debug)]
#[command(name = NAME, version)]
pub struct Args {
    /// Which queue or subscription.
    #[command(flatten)]
    pub source: SourceFlags,
    /// Simulated work per message, in seconds, such as 1 or 0.25
    #[arg(long, env = "WAIT_TIME", value_name = "SECONDS", allow_negative_numbers = true, default_value = "1")]
    pub wait_time: Seconds,
    /// Messages handled at the same time, 1 to 1000
    #[arg(long, value_name = "COUNT", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub concurrency: u16,
    /// Append the id of each handled message to this file, one a line, before the message is completed
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    /// After SIGTERM, finish what is in hand within this many seconds, then give it back; keep it below the pod's
    /// terminationGracePeriodSeconds (Kubernetes' default is 30)
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, default_value = "25")]
    pub drain_timeout: Seconds,
    /// End with success once nothing is in hand and no message has come for this many seconds, one at least: for a Job,
    /// which must end by itself [default: work until SIGTERM]
    #[arg(long, env = "EXIT_WHEN_IDLE", value_name = "SECONDS", allow_negative_numbers = true)]
    pub exit_when_idle: Option<Seconds>,
    /// Write the ready line to this file too, atomically, once the queue or subscription was reached
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// How it logs.
    #[command(flatten)]
    pub log: runtime::LogArgs,
}

/// Works until `shutdown` is cancelled, or there is no more work if it was told to end then; drains: exit code 0. An error that
/// no waiting mends (no such queue, refused credential) ends it too, after what is in hand is finished.
pub async fn run(args: Args, shutdown: CancellationToken) -> anyhow::Result<ExitCode> {
    let Args { source: flags, wait_time, concurrency, ledger, drain_timeout, exit_when_idle, ready_file, log: _ } =
        args;
    let source = flags.open()?;
    let ledger = ledger.as_deref().map(Ledger::open).transpose().context("prepare --ledger")?;
    let handler = Arc::new(Simulated::new(wait_time.0, ledger));
    let settings = Settings {
        concurrency: usize::from(concurrency),
        drain_timeout: drain_timeout.0,
        exit_when_idle: exit_when_idle.map(|patience| patience.0),
    };
    tracing::info!(
        entity = source.name.path(),
        namespace = source.namespace,
        client = %flags.namespace.client,
        wait_time_seconds = wait_time.0.as_secs_f64(),
        concurrency,
        "working"
    );
    let announce = || runtime::announce(&runtime::Ready::default(), ready_file.as_deref());
    let stopped = receive_and_settle(source.client.clone(), handler, settings, shutdown, announce).await;
    let Figures { handled, abandoned, dead_lettered, lost_locks } = stopped.figures;
    tracing::info!(handled, abandoned, dead_lettered, lost_locks, "stopped");
    match stopped.cause {
        None => Ok(ExitCode::SUCCESS),
        Some(Failure::Announce(error)) => Err(error),
        Some(Failure::Client(error)) => {
            let meaning = source.explain(&error);
            Err(anyhow::Error::new(error).context(meaning))
        }
    }
}
