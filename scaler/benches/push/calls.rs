//! `GetMetrics` on the one connection that also carries thousands of push streams, as KEDA's operator has it.
//!
//! Calls are made at a fixed rate (`paced`).
//! What is asked for is in the cache: it is the connection that is measured, not Service Bus.

use std::time::Duration;

use anyhow::ensure;

use crate::paced::paced;
use crate::stack::{Stack, metrics_request, queue};
use crate::summary::Times;
use crate::wakeups::open;

/// `ScaledObject`s that are asked about in turn.
const ASKED: usize = 100;
/// Readings stay in the cache for longer than this runs.
const WARM: &str = "cacheTtlSeconds: 300";

/// How many streams beside, and the calls.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) streams: usize,
    /// Calls a second.
    pub(crate) rate: u32,
    /// How often both are measured, and for how long each time.
    pub(crate) turns: usize,
    pub(crate) length: Duration,
}

/// How long calls took.
pub(crate) struct Measured {
    pub(crate) without: Times,
    /// Beside the streams.
    pub(crate) beside: Times,
}

/// Measures without streams and with them in turns, so that what else the machine does meets both alike.
pub(crate) async fn measure(load: Load, read_latency: Duration) -> anyhow::Result<Measured> {
    let Load { streams, rate, turns, length } = load;
    let stack = Stack::start(streams, WARM, read_latency).await?;
    let mut requests = Vec::new();
    for number in 0..ASKED.min(streams) {
        let request = metrics_request(&stack.client, &stack.scaled_object(number, &queue(number))).await?;
        // Into the cache.
        stack.client.clone().get_metrics(request.clone()).await?;
        requests.push(request);
    }
    let (mut without, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..turns {
        without.extend(paced(&stack.client, &requests, rate, length).await?);
        let listeners = open(&stack, streams, queue).await?;
        beside.extend(paced(&stack.client, &requests, rate, length).await?);
        // Or it was not what it says it is.
        let connections = stack.metric("servicebus_scaler_connections_open ").await?;
        ensure!(connections.to_bits() == 1_f64.to_bits(), "{connections} connections are open instead of one");
        let still_open = listeners.iter().filter(|listener| listener.is_open()).count();
        ensure!(still_open == streams, "{still_open} of {streams} streams are open");
    }
    stack.stop().await?;
    Ok(Measured { without: without.into_iter().collect(), beside: beside.into_iter().collect() })
}
