//! Keeps the configuration in step with its file: looked at every second and at SIGHUP, applied as a whole or not at all.
//!
//! Read and compared rather than watched by the operating system: Kubernetes swaps a symbolic link, other volumes send
//! no events, and reading works on all of them. A bad file costs one log line and changes nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio_util::sync::CancellationToken;

use super::connections::say_what_cannot_be_known;
use super::{Config, ConfigError, ConfigHandle};
use crate::looks::{Complaint, Look, Looks, settled};

/// Follows one config file until `shutdown`, looking at it every `interval`. `hangup` is SIGHUP, where the caller wants
/// it heard; `are_callers_known` says whether client certificates are checked.
pub async fn follow(
    path: PathBuf,
    handle: ConfigHandle,
    interval: Duration,
    are_callers_known: bool,
    hangup: Option<Signal>,
    shutdown: CancellationToken,
) {
    let mut complaint = Complaint::default();
    let mut looks = Looks::new(interval, hangup, shutdown);
    while let Some(look) = looks.next().await {
        match read(&path, interval / 10).await {
            None => {}
            Some(Ok(config)) => {
                let before = handle.snapshot();
                if *before != config {
                    let profiles = config.profiles.keys().map(String::as_str).collect::<Vec<_>>().join(",");
                    if before.connections.is_empty() && !are_callers_known {
                        say_what_cannot_be_known(&config);
                    }
                    handle.replace(config);
                    tracing::info!(file = %path.display(), profiles, "the config file changed and is in force");
                } else if look == Look::Asked {
                    handle.look_again();
                    tracing::info!(file = %path.display(), "the config file was read again and says the same");
                }
                complaint.settle();
            }
            Some(Err(error)) => {
                let text = format!("{:#}", anyhow::Error::new(error));
                if complaint.is_worth_a_line(&text, look) {
                    tracing::error!(problem = text, "the config file is refused; the configuration before it stays");
                }
            }
        }
    }
}

/// The configuration in the file; `None` while it is being written.
async fn read(path: &Path, pause: Duration) -> Option<Result<Config, ConfigError>> {
    settled(pause, || read_off_the_runtime(path)).await.map(|read| Config::from_bytes(path, read))
}

async fn read_off_the_runtime(path: &Path) -> io::Result<Vec<u8>> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || Config::bytes(&path)).await?
}
