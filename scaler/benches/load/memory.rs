//! Memory of one `ScaledObject`: by how much the process's resident memory grows when each of many has been asked about so
//! often that its history is full, divided by their number. Everything counts: readings, metrics, explanations, caches of
//! the way there. Requests are made before, and freed memory is not given back, so it errs upwards.

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use crate::{requests, servers};

/// Readings in a full history.
const READINGS: usize = 64;
/// Linux's page size where this is run.
const PAGE_BYTES: f64 = 4096.0;

/// In bytes, with so many of them.
pub(crate) async fn of_one(count: usize) -> anyhow::Result<f64> {
    let shutdown = CancellationToken::new();
    // What is measured later is not to share the machine with this one.
    let _ends_here = shutdown.clone().drop_guard();
    let scaler = servers::scaler(shutdown).await?;
    let requests = requests::get_metrics(count);
    // What the calls themselves need, whoever they are about.
    let one = vec![requests[0].clone(); 1_000];
    servers::warm(&scaler.client, &one).await?;
    let before = resident_bytes()?;
    scaler.config.replace(servers::cold_config()?);
    for _ in 0..READINGS {
        servers::warm(&scaler.client, &requests).await?;
    }
    Ok((resident_bytes()? - before) / count as f64)
}

fn resident_bytes() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/self/statm").context("read /proc/self/statm")?;
    let pages: f64 = text.split(' ').nth(1).context("a second number in /proc/self/statm")?.parse()?;
    Ok(pages * PAGE_BYTES)
}
