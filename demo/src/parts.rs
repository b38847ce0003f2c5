//! The flags that each program is started with. Secrets are not among them: those go through the environment.

use std::ffi::OsString;
use std::path::Path;
use std::time::SystemTime;

use anyhow::Context as _;
use servicebus::Adapter;

use crate::args::RunArgs;
use crate::stage::Stage;

/// A worker spends this part of its grace period on finishing what it has in hand, and the rest on giving back.
const DRAIN_SHARE: f64 = 0.7;

/// The broker, with one queue, on a free port.
pub fn broker(args: &RunArgs, queue: &str) -> Vec<OsString> {
    let queue = format!("{queue},lock-duration={}ms", args.lock_duration.0.as_millis());
    let mut arguments = words(&["--listen", "127.0.0.1:0", "--queue", &queue]);
    if args.client == Adapter::Azservicebus {
        // That crate loses acknowledgements that come at once; Azure's never do.
        arguments.extend(words(&["--acknowledge-delay-ms", "2"]));
    }
    arguments
}

/// The scaler, with this config file, on a free port.
pub fn scaler(stage: &Stage, config: &Path) -> Vec<OsString> {
    let mut arguments = words(&["serve", "--listen", "127.0.0.1:0", "--config"]);
    arguments.push(config.into());
    if let Some(endpoint) = stage.allowed_endpoint() {
        arguments.extend(words(&["--allow-endpoint", endpoint]));
    }
    arguments
}

/// The sender, with this ledger.
pub fn sender(args: &RunArgs, stage: &Stage, ledger: &Path) -> anyhow::Result<Vec<OsString>> {
    let (messages, rate) = (args.messages.to_string(), args.send_rate.0.to_string());
    let mut arguments =
        words(&["--queue", &stage.queue, "--client", args.client.name(), "--messages", &messages, "--rate", &rate]);
    if args.connection_string_file.is_some() {
        // A queue that outlives the run may still give out an earlier run's messages; ids tell the two apart.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("read the clock")?;
        arguments.extend(words(&["--first-id", &(now.as_millis() * 1_000_000).to_string()]));
    }
    arguments.extend(["--ledger".into(), ledger.into()]);
    Ok(arguments)
}

/// A worker, but for the files of its own.
pub fn worker(args: &RunArgs, stage: &Stage) -> Vec<OsString> {
    let wait_time = args.wait_time.to_string();
    let drain = args.termination_grace_period.0.mul_f64(DRAIN_SHARE).as_secs_f64().to_string();
    let (queue, client) = (stage.queue.as_str(), args.client.name());
    words(&["--queue", queue, "--client", client, "--wait-time", &wait_time, "--drain-timeout", &drain])
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}
