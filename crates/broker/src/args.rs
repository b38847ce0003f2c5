//! The command line, and its reading into checked [`Options`]. Nothing is opened before all of it is valid.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use std::{convert::Infallible, fmt};

use anyhow::{Context as _, bail};
use runtime::LogArgs;

use crate::access::SharedAccessKey;
use crate::control::ControlKey;
use crate::durations;
use crate::faults::Fault;
use crate::options::{Options, QueueOptions, SubscriptionOptions};
use crate::tls::{CertificateSource, TlsOptions};

/// A small local Service Bus: AMQP 1.0 and the HTTP administration API on one port.
///
/// Official SDKs reach it with `Endpoint=sb://127.0.0.1:PORT;…;UseDevelopmentEmulator=true;`. It keeps everything in
/// memory. When it serves, it prints one line of JSON with its addresses and connection string on stdout.
#[derive(clap::Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
pub struct Args {
    /// Address to listen on, repeatable; port 0 picks a free port. Each speaks AMQP and HTTP alike
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:5672")]
    pub listen: Vec<SocketAddr>,
    /// Queue to create at the start, repeatable; options as in `orders,lock-duration=10s,max-delivery-count=3`
    #[arg(long, value_name = "NAME")]
    pub queue: Vec<String>,
    /// Topic to create at the start, repeatable
    #[arg(long, value_name = "NAME")]
    pub topic: Vec<String>,
    /// Subscription to create at the start in a topic that --topic names, repeatable; options as for a queue
    #[arg(long, value_name = "TOPIC/NAME")]
    pub subscription: Vec<String>,
    /// Lock duration of queues and subscriptions that do not say otherwise: 1s to 5m
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = lock_duration)]
    pub lock_duration: Duration,
    /// Deliveries after which a message is dead-lettered, for queues and subscriptions that do not say otherwise
    #[arg(long, value_name = "COUNT", default_value = "10", value_parser = clap::value_parser!(u32).range(1..=2000))]
    pub max_delivery_count: u32,
    /// Whether the active message count includes messages under a lock, as Azure's is believed to
    #[arg(long, value_name = "BOOL", default_value = "true", action = clap::ArgAction::Set)]
    pub active_count_includes_locked: bool,
    /// Write the ready line to this file too, atomically
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// Shared access key that clients may sign with, repeatable; without any, the emulator's well-known key. It may do
    /// everything unless it is followed by `,rights=listen+send` or `,entity=orders`
    #[arg(long, value_name = "NAME=KEY[,…]", env = "BROKER_SHARED_ACCESS_KEY", hide_env_values = true)]
    pub shared_access_key: Vec<Secret>,
    /// File with shared access keys, one a line, written as above; empty lines and lines with # are skipped
    #[arg(long, value_name = "FILE")]
    pub shared_access_key_file: Option<PathBuf>,
    /// Let every JSON web token pass, unchecked. Without it only shared access signatures are accepted
    #[arg(long)]
    pub accept_any_jwt: bool,
    /// Wait this long before acknowledging a message sent; 2 keeps the Rust crate azservicebus 0.25 from losing
    /// acknowledgements
    #[arg(long, value_name = "MILLISECONDS", default_value = "0", value_parser = clap::value_parser!(u64).range(0..=10_000))]
    pub acknowledge_delay_ms: u64,
    /// Connections served at the same time; more are closed at once
    #[arg(long, value_name = "COUNT", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=65_535))]
    pub max_connections: u32,
    /// Serve TLS too (AMQPS and HTTPS, on the same addresses) with the certificate in this PEM file
    #[arg(long, help_heading = "TLS", value_name = "FILE", requires = "tls_key", conflicts_with = "tls_generate")]
    pub tls_certificate: Option<PathBuf>,
    /// The certificate's private key, PEM
    #[arg(long, help_heading = "TLS", value_name = "FILE", requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,
    /// Serve TLS too with a certificate made at the start, valid for localhost, 127.0.0.1, `::1`, the addresses
    /// listened on and these names, separated by commas
    #[arg(long, help_heading = "TLS", value_name = "NAME,…", num_args = 0..=1, value_delimiter = ',')]
    pub tls_generate: Option<Vec<String>>,
    /// Write the certificate that clients must trust to this PEM file, atomically, before the ready line
    #[arg(long, help_heading = "TLS", value_name = "FILE", requires = "tls_generate")]
    pub tls_ca_file: Option<PathBuf>,
    /// Send clients away that do not speak TLS
    #[arg(long, help_heading = "TLS")]
    pub tls_only: bool,
    /// File with a key (at least 16 bytes) that lets callers from other machines use the control endpoint (/$counters and
    /// /$faults), as `Authorization: Bearer KEY`. Without it, only callers on this machine may
    #[arg(long, help_heading = "Faults, counters, throttling", value_name = "FILE")]
    pub control_key_file: Option<PathBuf>,
    /// Let faults be added at the control endpoint; never where anybody relies on this broker
    #[arg(long, help_heading = "Faults, counters, throttling")]
    pub allow_faults: bool,
    /// Fault from the start, repeatable: `latency=50ms..5s`, `throttle=30s,entity=orders,next=3`, `status=500,for=1m` and
    /// the other kinds that docs/broker.md lists
    #[arg(long, help_heading = "Faults, counters, throttling", value_name = "FAULT")]
    pub fault: Vec<Fault>,
    /// Throttle as the service does: so many credits each second for the whole namespace. A management operation
    /// costs 10, a message 1; the service's own limit is 1000
    #[arg(long, help_heading = "Faults, counters, throttling", value_name = "CREDITS")]
    pub credits_per_second: Option<NonZeroU32>,
    /// Logs.
    #[command(flatten)]
    pub log: LogArgs,
}

impl Args {
    /// Checks what clap could not and reads the key file.
    pub(crate) fn into_options(self) -> anyhow::Result<(Options, Option<PathBuf>)> {
        let Self {
            listen,
            queue,
            topic,
            subscription,
            lock_duration,
            max_delivery_count,
            active_count_includes_locked,
            ready_file,
            shared_access_key,
            shared_access_key_file,
            accept_any_jwt,
            acknowledge_delay_ms,
            max_connections,
            tls_certificate,
            tls_key,
            tls_generate,
            tls_ca_file,
            tls_only,
            control_key_file,
            allow_faults,
            fault,
            credits_per_second,
            log: _,
        } = self;
        let mut keys = Vec::new();
        for text in &shared_access_key {
            keys.push(text.0.parse::<SharedAccessKey>().context("read --shared-access-key")?);
        }
        if let Some(path) = &shared_access_key_file {
            keys.extend(keys_in_file(path)?);
        }
        if keys.is_empty() {
            keys.push(SharedAccessKey::emulator());
        }
        let mut queues: Vec<QueueOptions> = Vec::new();
        for text in &queue {
            let options = queue_options(text, lock_duration, max_delivery_count)
                .with_context(|| format!("read --queue {text:?}"))?;
            if queues.iter().any(|other| other.name.eq_ignore_ascii_case(&options.name)) {
                bail!("--queue {text:?}: this queue is named twice (letter case does not distinguish queues)");
            }
            queues.push(options);
        }
        let source = match (tls_certificate, tls_key, tls_generate) {
            (Some(certificate), Some(key), _) => Some(CertificateSource::Files { certificate, key }),
            (_, _, Some(names)) => Some(CertificateSource::Generated { names }),
            _ => None,
        };
        if source.is_none() && tls_only {
            bail!("--tls-only needs --tls-generate, or --tls-certificate and --tls-key");
        }
        let tls = source.map(|certificate| TlsOptions { certificate, authority_file: tls_ca_file, only: tls_only });
        let control_key = control_key_file.as_deref().map(control_key_in_file).transpose()?;
        let mut subscriptions: Vec<SubscriptionOptions> = Vec::new();
        for text in &subscription {
            let options = subscription_options(text, lock_duration, max_delivery_count, &topic)
                .with_context(|| format!("read --subscription {text:?}"))?;
            subscriptions.push(options);
        }
        let options = Options {
            listen,
            queues,
            topics: topic,
            subscriptions,
            active_count_includes_locked,
            keys,
            accept_any_jwt,
            acknowledge_delay: Duration::from_millis(acknowledge_delay_ms),
            max_connections: max_connections as usize,
            tls,
            control_key,
            allow_faults,
            faults: fault,
            credits_per_second,
        };
        Ok((options, ready_file))
    }
}

/// A text from the command line that must not be printed.
#[derive(Clone)]
pub struct Secret(String);

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

/// The range: Azure's maximum is five minutes; its minimum of five seconds is lowered for tests.
fn lock_duration(text: &str) -> Result<Duration, String> {
    let duration = durations::parse_flag(text).map_err(|error| error.to_string())?;
    if (Duration::from_secs(1)..=Duration::from_mins(5)).contains(&duration) {
        Ok(duration)
    } else {
        Err("a lock duration is 1s to 5m".to_owned())
    }
}

fn queue_options(text: &str, lock_duration: Duration, max_delivery_count: u32) -> anyhow::Result<QueueOptions> {
    let mut parts = text.split(',');
    let name = parts.next().unwrap_or_default().trim();
    let mut options = QueueOptions { lock_duration, max_delivery_count, ..QueueOptions::new(name) };
    for part in parts {
        let (key, value) = part.split_once('=').with_context(|| format!("option {part:?} is not KEY=VALUE"))?;
        match key.trim() {
            "lock-duration" => {
                options.lock_duration =
                    self::lock_duration(value.trim()).map_err(anyhow::Error::msg).with_context(|| part.to_owned())?;
            }
            "max-delivery-count" => {
                options.max_delivery_count = value
                    .trim()
                    .parse()
                    .ok()
                    .filter(|count| (1..=2000).contains(count))
                    .with_context(|| format!("{part}: a max delivery count is 1 to 2000"))?;
            }
            _ => bail!("option {key:?} is not known; known are lock-duration and max-delivery-count"),
        }
    }
    Ok(options)
}

fn subscription_options(
    text: &str,
    lock_duration: Duration,
    max_delivery_count: u32,
    topics: &[String],
) -> anyhow::Result<SubscriptionOptions> {
    let QueueOptions { name, lock_duration, max_delivery_count } =
        queue_options(text, lock_duration, max_delivery_count)?;
    let (topic, name) = name.rsplit_once('/').context("a subscription is written TOPIC/NAME")?;
    if !topics.iter().any(|other| other.eq_ignore_ascii_case(topic)) {
        bail!("no --topic {topic} is given");
    }
    Ok(SubscriptionOptions { topic: topic.to_owned(), name: name.to_owned(), lock_duration, max_delivery_count })
}

fn keys_in_file(path: &Path) -> anyhow::Result<Vec<SharedAccessKey>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("read --shared-access-key-file {}", path.display()))?;
    let mut keys = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            let key = line.parse().with_context(|| format!("{} line {}", path.display(), index + 1))?;
            keys.push(key);
        }
    }
    if keys.is_empty() {
        bail!("--shared-access-key-file {} holds no key; write one NAME=KEY a line", path.display());
    }
    Ok(keys)
}

fn control_key_in_file(path: &Path) -> anyhow::Result<ControlKey> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read --control-key-file {}", path.display()))?;
    ControlKey::new(text.trim()).with_context(|| {
        format!("--control-key-file {}: a control key has at least {} bytes", path.display(), ControlKey::MIN_BYTES)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &[&str]) -> anyhow::Result<Options> {
        let cli = Cli::try_parse_from(std::iter::once(&"broker").chain(words))?;
        Ok(cli.args.into_options()?.0)
    }

    #[test]
    fn the_defaults_serve_the_well_known_connection_string() {
        let options = parse(&[]).expect("valid");
        assert_eq!(options.listen, ["127.0.0.1:5672".parse().expect("an address")]);
        assert_eq!(options.keys, [SharedAccessKey::emulator()]);
        assert!(options.queues.is_empty());
    }

    #[test]
    fn queues_take_options() {
        let options = parse(&[
            "--queue",
            "a/b",
            "--queue",
            "c,lock-duration=2s,max-delivery-count=3",
            "--lock-duration",
            "PT30S",
        ])
        .expect("valid");
        let [first, second] = options.queues.as_slice() else { panic!("two queues") };
        assert_eq!(
            (first.name.as_str(), first.lock_duration, first.max_delivery_count),
            ("a/b", Duration::from_secs(30), 10)
        );
        assert_eq!(
            (second.name.as_str(), second.lock_duration, second.max_delivery_count),
            ("c", Duration::from_secs(2), 3)
        );
    }

    #[test]
    fn topics_have_subscriptions_with_options() {
        let options = parse(&[
            "--topic",
            "a/T",
            "--subscription",
            "A/t/audit,max-delivery-count=3",
            "--active-count-includes-locked",
            "false",
        ])
        .expect("valid");
        let [audit] = options.subscriptions.as_slice() else { panic!("one subscription") };
        assert_eq!((audit.topic.as_str(), audit.name.as_str(), audit.max_delivery_count), ("A/t", "audit", 3));
        assert_eq!((options.topics, options.active_count_includes_locked), (vec!["a/T".to_owned()], false));
    }

    #[test]
    fn errors_name_the_flag_the_value_and_what_is_allowed() {
        for (words, wanted) in [
            (vec!["--lock-duration", "9m"], "1s to 5m"),
            (vec!["--queue", "q,lock-duration=1d"], "PT30S"),
            (vec!["--queue", "q,colour=red"], "known are lock-duration and max-delivery-count"),
            (vec!["--queue", "q", "--queue", "Q"], "named twice"),
            (vec!["--subscription", "t/s"], "no --topic t is given"),
            (vec!["--topic", "t", "--subscription", "t"], "written TOPIC/NAME"),
            (vec!["--active-count-includes-locked", "maybe"], "true, false"),
            (vec!["--max-delivery-count", "0"], "1..=2000"),
            (vec!["--shared-access-key-file", "/nonexistent/keys"], "/nonexistent/keys"),
        ] {
            let error = format!("{:#}", parse(&words).expect_err("must be refused"));
            assert!(error.contains(wanted), "{words:?}: {error}");
        }
    }

    #[test]
    fn a_bad_key_is_not_repeated() {
        let error = format!("{:#}", parse(&["--shared-access-key", "PLANTED"]).expect_err("no equals sign"));
        assert!(error.contains("NAME=KEY") && !error.contains("PLANTED"), "{error}");
    }

    #[test]
    fn keys_come_from_a_file() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), "# keys\n\none=first\ntwo = second=\n").expect("written");
        let path = file.path().to_str().expect("utf-8");
        let options = parse(&["--shared-access-key-file", path]).expect("valid");
        assert_eq!(options.keys.iter().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    }
}
