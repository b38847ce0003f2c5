//! What push triggers cost the namespace, beside poll triggers of the same scaler under KEDA's call pattern.
//!
//! KEDA polls every 30 s whatever the trigger's type, `GetMetricSpec`, `GetMetrics` and `IsActive`; while there are replicas,
//! the HPA's sync asks for the specification and the metrics every 15 s besides. An `external-push` trigger holds a stream
//! on top. The objects' timers are spread at random with a fixed seed; every cell is a broker and a scaler of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use broker::Tally;
use externalscaler::{GetMetricsRequest, ScaledObjectRef};
use futures_util::future::try_join_all;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinSet;

use crate::listening::Listener;
use crate::paced::Client;
use crate::stack::{Stack, metrics_request, queue};

/// KEDA's default `pollingInterval`.
pub(crate) const POLLING_INTERVAL: Duration = Duration::from_secs(30);
/// The HPA's sync period.
const SYNC_INTERVAL: Duration = Duration::from_secs(15);
/// Messages that are being sent at a time, and streams being opened.
const AT_ONCE: usize = 32;

/// `ScaledObject`s with a queue each.
#[derive(Clone, Copy)]
pub(crate) struct Cell {
    pub(crate) objects: usize,
    /// Each queue holds a message and each object has replicas.
    pub(crate) is_busy: bool,
    pub(crate) is_push: bool,
    pub(crate) seed: u64,
}

/// What a minute of it costs.
#[derive(Clone, Copy)]
pub(crate) struct Minute {
    /// Polls and syncs: the built-in trigger would read once for each.
    pub(crate) asked: f64,
    pub(crate) operations: f64,
    pub(crate) credits: f64,
    /// Calls that were answered by an error.
    pub(crate) errors: u64,
}

#[derive(Default)]
struct Asked {
    times: AtomicU64,
    errors: AtomicU64,
}

/// Measures all cells at once, over so many polling intervals and after one that does not count.
pub(crate) async fn measure(cells: &[Cell], intervals: u32, read_latency: Duration) -> anyhow::Result<Vec<Minute>> {
    try_join_all(cells.iter().map(|cell| one(*cell, intervals, read_latency))).await
}

async fn one(cell: Cell, intervals: u32, read_latency: Duration) -> anyhow::Result<Minute> {
    let Cell { objects, is_busy, is_push, seed } = cell;
    let stack = Stack::start(objects, "", read_latency).await?;
    if is_busy {
        let filling = (0..objects).map(|number| fill(&stack, number));
        stream::iter(filling).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    }
    let mut listeners = Vec::new();
    if is_push {
        let opening =
            (0..objects).map(|number| Listener::push(&stack.client, stack.scaled_object(number, &queue(number))));
        listeners = stream::iter(opening).buffered(AT_ONCE).try_collect().await?;
    }
    let asked = Arc::new(Asked::default());
    let mut timers = JoinSet::new();
    let mut chance = StdRng::seed_from_u64(seed);
    for number in 0..objects {
        let object = stack.scaled_object(number, &queue(number));
        let request = metrics_request(&stack.client, &object).await?;
        let mut phase = |interval: Duration| interval.mul_f64(chance.random_range(0.0..1.0));
        let poll = (phase(POLLING_INTERVAL), POLLING_INTERVAL, true);
        let sync = is_busy.then(|| (phase(SYNC_INTERVAL), SYNC_INTERVAL, false));
        for (phase, interval, is_poll) in std::iter::once(poll).chain(sync) {
            let (client, object, request) = (stack.client.clone(), object.clone(), request.clone());
            timers.spawn(ask(client, object, request, phase, interval, is_poll, Arc::clone(&asked)));
        }
    }
    tokio::time::sleep(POLLING_INTERVAL).await;
    let count = || (asked.times.load(Ordering::Relaxed), asked.errors.load(Ordering::Relaxed));
    let before = count();
    stack.forget();
    tokio::time::sleep(POLLING_INTERVAL * intervals).await;
    let Tally { operations, credits } = stack.spent();
    let after = count();
    drop((timers, listeners));
    stack.stop().await?;
    let minutes = (POLLING_INTERVAL * intervals).as_secs_f64() / 60.0;
    Ok(Minute {
        asked: (after.0 - before.0) as f64 / minutes,
        operations: operations as f64 / minutes,
        credits: credits as f64 / minutes,
        errors: after.1 - before.1,
    })
}

async fn fill(stack: &Stack, number: usize) -> anyhow::Result<()> {
    let mailbox = stack.mailbox(&queue(number))?;
    mailbox.put().await?;
    mailbox.close().await
}

async fn ask(
    mut client: Client,
    object: ScaledObjectRef,
    request: GetMetricsRequest,
    phase: Duration,
    interval: Duration,
    is_poll: bool,
    asked: Arc<Asked>,
) {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + phase, interval);
    loop {
        ticks.tick().await;
        asked.times.fetch_add(1, Ordering::Relaxed);
        let answers = async {
            client.get_metric_spec(object.clone()).await?;
            client.get_metrics(request.clone()).await?;
            if is_poll {
                client.is_active(object.clone()).await?;
            }
            Ok::<_, tonic::Status>(())
        };
        if answers.await.is_err() {
            asked.errors.fetch_add(1, Ordering::Relaxed);
        }
    }
}
