//! All child processes of a run, and how they leave: in order when the play is over, quickly when it is broken off.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::child::{Child, Exit};

/// How long the programs may take to stop after the run is over.
const CURTAIN: Duration = Duration::from_secs(6);
/// How long workers and sender may take when the run is broken off, and then broker and scaler. Together with killing and
/// waiting they stay below the five seconds that somebody who pressed Ctrl-C is promised.
const BREAK_OFF_CLIENTS: Duration = Duration::from_millis(2_500);
const BREAK_OFF_SERVERS: Duration = Duration::from_millis(1_500);

/// Stops one child at the end of a run. A child that must be killed, or fails, is a problem, said in words.
pub async fn dismiss(child: &Child) -> Result<(), String> {
    let exit = child.stop(CURTAIN).await;
    if exit.0.success() {
        return Ok(());
    }
    let after = if exit.0.code().is_none() { format!(" after {} s", CURTAIN.as_secs()) } else { String::new() };
    Err(format!(
        "{} did not stop cleanly when asked to: {exit}{after}; its log is {}",
        child.name(),
        child.log().display()
    ))
}

/// Stops everything at once, clients before servers, and kills what takes too long. Returns when nothing is left.
pub async fn break_off(clients: &[&Child], servers: &[&Child]) {
    stop_all(clients, BREAK_OFF_CLIENTS).await;
    stop_all(servers, BREAK_OFF_SERVERS).await;
}

async fn stop_all(children: &[&Child], grace: Duration) {
    for child in children {
        child.signal(Signal::SIGTERM);
    }
    if tokio::time::timeout(grace, all_ended(children)).await.is_err() {
        for child in children {
            child.signal(Signal::SIGKILL);
        }
        all_ended(children).await;
    }
}

async fn all_ended(children: &[&Child]) -> Vec<Exit> {
    let mut exits = Vec::with_capacity(children.len());
    for child in children {
        exits.push(child.ended().await);
    }
    exits
}
