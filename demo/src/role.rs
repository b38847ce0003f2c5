//! The hidden roles: `demo role broker …` is the broker, and so on, so that one `cargo run` builds all the demo needs.
//!
//! A role calls the same `run()` as the deployed program's `main`, with the same flags. All it adds is that it dies with
//! the demo, however the demo dies.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;

use crate::child::PARENT_VARIABLE;

/// Which of the deployed programs to be.
#[derive(Subcommand, Clone, Debug)]
pub enum Role {
    /// The broker
    Broker(broker::Args),
    /// The scaler
    Scaler(scaler::Args),
    /// The sender
    Sender(sender::Args),
    /// A worker
    Worker(worker::Args),
}

impl Role {
    /// Is that program, to the end.
    pub fn play(self) -> ExitCode {
        if let Err(error) = die_with_parent() {
            eprintln!("demo: {error:#}");
            return ExitCode::FAILURE;
        }
        match self {
            Self::Broker(args) => {
                let log = args.log.clone();
                runtime::main("broker", &log, |shutdown| broker::run(args, shutdown))
            }
            Self::Scaler(args) => {
                let log = args.log.clone();
                runtime::main("scaler", &log, |shutdown| scaler::run(args, shutdown))
            }
            Self::Sender(args) => {
                let log = args.log.clone();
                runtime::main("sender", &log, |shutdown| sender::run(args, shutdown))
            }
            Self::Worker(args) => {
                let log = args.log.clone();
                runtime::main("worker", &log, |shutdown| worker::run(args, shutdown))
            }
        }
    }
}

/// Ties this process to the demo that started it: even `kill -9` of the demo leaves nothing behind. Does nothing in a
/// role started by hand.
fn die_with_parent() -> anyhow::Result<()> {
    let Some(parent) = std::env::var_os(PARENT_VARIABLE) else { return Ok(()) };
    let parent: u32 = parent
        .to_str()
        .and_then(|text| text.parse().ok())
        .with_context(|| format!("{PARENT_VARIABLE}={} is no process id", parent.display()))?;
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).context("tie this process to the demo's")?;
    // The demo may have died before the line above; then this process has another parent by now.
    if std::os::unix::process::parent_id() != parent {
        anyhow::bail!("the demo that started this process (process {parent}) is gone");
    }
    #[cfg(not(target_os = "linux"))]
    watch_parent(parent)?;
    Ok(())
}

/// Where the kernel cannot tell: look every half second who the parent is.
#[cfg(not(target_os = "linux"))]
fn watch_parent(parent: u32) -> anyhow::Result<()> {
    let watch = move || {
        while std::os::unix::process::parent_id() == parent {
            std::thread::sleep(std::time::Duration::from_millis(500));
        }
        std::process::exit(1);
    };
    std::thread::Builder::new().name("parent-watch".to_owned()).spawn(watch).context("watch the demo's process")?;
    Ok(())
}
