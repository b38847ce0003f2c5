//! Many push streams of which nobody has anything to tell: what looking costs, how often each queue is looked at, what the
//! metric says about it, and how long `true` then takes.

use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::listening::Listener;
use crate::stack::{Stack, queue};
use crate::summary::Times;
use crate::wakeups::{Plan, Sleeper, close, open, wake};

/// The metric by which the scaler says that its budget stretches its periods.
const STRETCH: &str = "servicebus_scaler_budget_stretch_ratio{";
/// Between two looks at the counters.
const SAMPLE: Duration = Duration::from_secs(1);

/// How many streams, of how many queues, and for how long.
#[derive(Clone, Copy)]
pub(crate) struct Quiet {
    pub(crate) streams: usize,
    /// The streams are dealt out to these, one after another.
    pub(crate) queues: usize,
    /// Before anything is counted; credits saved up at the start are spent by then.
    pub(crate) settle: Duration,
    pub(crate) window: Duration,
    /// Queues that are woken afterwards, and how often each.
    pub(crate) woken: usize,
    pub(crate) rounds: usize,
    pub(crate) seed: u64,
}

/// What came of it.
pub(crate) struct Measured {
    pub(crate) operations_a_minute: f64,
    pub(crate) credits_a_minute: f64,
    /// Between two looks at the same queue.
    pub(crate) between: Times,
    /// The metric, as a mean over the window.
    pub(crate) stretch: f64,
    /// From acceptance to `true` afterwards.
    pub(crate) woken: Times,
    /// What one read took, alone.
    pub(crate) read: Times,
}

/// Measures, with the scaler's defaults.
pub(crate) async fn measure(quiet: Quiet, read_latency: Duration) -> anyhow::Result<Measured> {
    let Quiet { streams, queues, settle, window, woken, rounds, seed } = quiet;
    let stack = Stack::start(queues, "", read_latency).await?;
    let read = stack.read_times().await?;
    let listeners = open(&stack, streams, |number| queue(number % queues)).await?;
    tokio::time::sleep(settle).await;

    stack.forget();
    let begun = Instant::now();
    let mut stretches = Vec::new();
    while begun.elapsed() < window {
        tokio::time::sleep(SAMPLE).await;
        stretches.push(stack.metric(STRETCH).await?);
    }
    let (spent, minutes) = (stack.spent(), begun.elapsed().as_secs_f64() / 60.0);
    let (looked_at, between) = stack.looks.between();
    ensure!(looked_at == queues, "{looked_at} of {queues} queues were looked at within {window:?}");
    let still_open = listeners.iter().filter(|listener| listener.is_open()).count();
    ensure!(still_open == streams, "{still_open} of {streams} streams are open after {window:?}");

    let (mut sleepers, _others) = sleepers(&stack, listeners, queues, woken)?;
    let within = Duration::from_secs_f64(between.quantile(0.5));
    let times = wake(&mut sleepers, Plan { queues: woken, rounds, within, seed }).await?;
    close(sleepers).await?;
    stack.stop().await?;
    Ok(Measured {
        operations_a_minute: spent.operations as f64 / minutes,
        credits_a_minute: spent.credits as f64 / minutes,
        between,
        stretch: stretches.iter().sum::<f64>() / stretches.len() as f64,
        woken: times,
        read,
    })
}

/// Some of the queues, evenly out of all, with all who listen for them; and all other listeners.
fn sleepers(
    stack: &Stack,
    listeners: Vec<Listener>,
    queues: usize,
    woken: usize,
) -> anyhow::Result<(Vec<Sleeper>, Vec<Listener>)> {
    let every = (queues / woken).max(1);
    let mut sleepers = Vec::new();
    for number in (0..queues).step_by(every) {
        sleepers.push(Sleeper { mailbox: stack.mailbox(&queue(number))?, listeners: Vec::new() });
    }
    let mut others = Vec::new();
    for (number, listener) in listeners.into_iter().enumerate() {
        let number = number % queues;
        if number.is_multiple_of(every) {
            sleepers[number / every].listeners.push(listener);
        } else {
            others.push(listener);
        }
    }
    Ok((sleepers, others))
}
