//! Keeps the configuration in step with its file: looked at every second and at SIGHUP, applied as a whole or not at all.
//!
//! Read and compared rather than watched by the operating system: Kubernetes swaps a symbolic link, other volumes send
//! no events, and reading works on all of them. A bad file costs one log line and changes nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio_util::sync::CancellationToken;

use super::{Config, ConfigHandle};
use crate::looks::{Complaint, Look, Looks};

/// Follows one config file until `shutdown`, looking at it every `interval`. `hangup` is SIGHUP, where the caller wants
/// it heard.
pub async fn follow(
    path: PathBuf,
    handle: ConfigHandle,
    interval: Duration,
    hangup: Option<Signal>,
    shutdown: CancellationToken,
) {
    let mut complaint = Complaint::default();
    let mut looks = Looks::new(interval, hangup, shutdown);
    while let Some(look) = looks.next().await {
        match read_settled(&path, interval / 10).await {
            Ok(None) => {}
            Ok(Some(config)) => {
                if *handle.snapshot() != config {
                    let profiles = config.profiles.keys().map(String::as_str).collect::<Vec<_>>().join(",");
                    handle.replace(config);
                    tracing::info!(file = %path.display(), profiles, "the config file changed and is in force");
                } else if look == Look::Asked {
                    handle.look_again();
                    tracing::info!(file = %path.display(), "the config file was read again and says the same");
                }
                complaint.settle();
            }
            Err(error) => {
                let text = format!("{error:#}");
                if complaint.is_worth_a_line(&text, look) {
                    tracing::error!(problem = text, "the config file is refused; the configuration before it stays");
                }
            }
        }
    }
}

/// Reads the file twice, `pause` apart, and takes it if both reads agree: somebody may be in the middle of writing it, and
/// the first half of a file can be a good file with less in it.
async fn read_settled(path: &Path, pause: Duration) -> anyhow::Result<Option<Config>> {
    let first = read_off_the_runtime(path).await;
    tokio::time::sleep(pause).await;
    let second = read_off_the_runtime(path).await;
    match (first, second) {
        (Ok(first), Ok(second)) if first != second => Ok(None),
        (_, second) => Ok(Some(Config::from_bytes(path, second)?)),
    }
}

async fn read_off_the_runtime(path: &Path) -> io::Result<Vec<u8>> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || Config::bytes(&path)).await?
}
