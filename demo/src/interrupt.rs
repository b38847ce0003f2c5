//! Which signal asked the demo to stop: the exit code says it, as shells expect (128 + the signal's number).

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The runtime cancels its token on the same signals that are heard here; whichever is noticed first, the other is not
/// far.
const SAME_MOMENT: Duration = Duration::from_millis(200);

/// Hears SIGINT, SIGTERM and whoever cancels the token.
#[derive(Debug)]
pub struct Interrupts {
    shutdown: CancellationToken,
    /// Set when the token was seen cancelled: how long to wait for the signal that did it.
    wait_until: Option<Instant>,
    interrupt: Signal,
    terminate: Signal,
}

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl Interrupts {
    /// Listens from now on.
    pub fn listen(shutdown: CancellationToken) -> anyhow::Result<Self> {
        Ok(Self {
            shutdown,
            wait_until: None,
            interrupt: signal(SignalKind::interrupt()).context("listen for SIGINT")?,
            terminate: signal(SignalKind::terminate()).context("listen for SIGTERM")?,
        })
    }

    /// Waits for the next one. A cancelled token without a signal counts as SIGTERM.
    pub async fn next(&mut self) -> Interrupt {
        let Self { shutdown, wait_until, interrupt, terminate } = self;
        let cancelled = async {
            shutdown.cancelled().await;
            tokio::time::sleep_until(*wait_until.get_or_insert_with(|| Instant::now() + SAME_MOMENT)).await;
        };
        tokio::select! {
            biased;
            _ = interrupt.recv() => Interrupt::Interrupt,
            _ = terminate.recv() => Interrupt::Terminate,
            () = cancelled => Interrupt::Terminate,
        }
    }
}

impl Interrupt {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }

    /// The exit code of a program that it ended.
    pub fn exit_code(self) -> ExitCode {
        match self {
            Self::Interrupt => ExitCode::from(130),
            Self::Terminate => ExitCode::from(143),
        }
    }
}
