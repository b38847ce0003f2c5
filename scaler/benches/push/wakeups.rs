//! From a message's acceptance by the broker to `true` at KEDA's end: on push streams, and by polls alone.
//!
//! Many queues at once, each in a phase of its own: an empty queue gets one message at a random moment, is emptied when
//! everybody who listens has heard `true`, and gets the next some time after they have heard `false`.

use std::time::Duration;

use futures_util::future::try_join_all;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::listening::Listener;
use crate::mailbox::Mailbox;
use crate::stack::{Stack, queue};
use crate::summary::Times;

/// Streams that are being opened at a time.
const OPENING: usize = 100;

/// How many wake-ups, of what, and by which chance.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) queues: usize,
    /// Wake-ups of each queue.
    pub(crate) rounds: usize,
    /// The moment of the message is drawn from so long a time.
    pub(crate) within: Duration,
    pub(crate) seed: u64,
}

/// A queue and all who listen for it.
pub(crate) struct Sleeper {
    pub(crate) mailbox: Mailbox,
    pub(crate) listeners: Vec<Listener>,
}

/// What was measured of push streams.
pub(crate) struct Measured {
    /// From acceptance to `true`.
    pub(crate) times: Times,
    /// What one read took, alone.
    pub(crate) read: Times,
}

/// On push streams, with the scaler's defaults.
pub(crate) async fn by_push(plan: Plan, read_latency: Duration) -> anyhow::Result<Measured> {
    let stack = Stack::start(plan.queues, "", read_latency).await?;
    let read = stack.read_times().await?;
    let mut sleepers = Vec::new();
    for (number, listener) in (0..).zip(open(&stack, plan.queues, queue).await?) {
        sleepers.push(Sleeper { mailbox: stack.mailbox(&queue(number))?, listeners: vec![listener] });
    }
    let times = wake(&mut sleepers, plan).await?;
    close(sleepers).await?;
    stack.stop().await?;
    Ok(Measured { times, read })
}

/// By polls alone, every `interval`, with this config file and a broker that answers reads at once.
pub(crate) async fn by_polls(plan: Plan, config: &str, interval: Duration) -> anyhow::Result<Times> {
    let stack = Stack::start(plan.queues, config, Duration::ZERO).await?;
    let mut chance = StdRng::seed_from_u64(plan.seed);
    let mut sleepers = Vec::new();
    for number in 0..plan.queues {
        let phase = interval.mul_f64(chance.random_range(0.0..1.0));
        let object = stack.scaled_object(number, &queue(number));
        let listener = Listener::polling(&stack.client, object, interval, phase);
        sleepers.push(Sleeper { mailbox: stack.mailbox(&queue(number))?, listeners: vec![listener] });
    }
    let times = wake(&mut sleepers, plan).await?;
    close(sleepers).await?;
    stack.stop().await?;
    Ok(times)
}

/// Opens so many push streams, each for the queue that is its own by `queue_of`, and waits until each has said `false`.
pub(crate) async fn open(
    stack: &Stack,
    streams: usize,
    queue_of: impl Fn(usize) -> String,
) -> anyhow::Result<Vec<Listener>> {
    let opening =
        (0..streams).map(|number| Listener::push(&stack.client, stack.scaled_object(number, &queue_of(number))));
    let mut listeners: Vec<Listener> = stream::iter(opening).buffered(OPENING).try_collect().await?;
    try_join_all(listeners.iter_mut().map(|listener| listener.until(false))).await?;
    Ok(listeners)
}

/// Wakes every queue as often as planned.
pub(crate) async fn wake(sleepers: &mut [Sleeper], plan: Plan) -> anyhow::Result<Times> {
    let woken = sleepers.iter_mut().zip(plan.seed..).map(|(sleeper, seed)| async move {
        let Sleeper { mailbox, listeners } = sleeper;
        let mut chance = StdRng::seed_from_u64(seed);
        let mut times = Vec::new();
        for _ in 0..plan.rounds {
            try_join_all(listeners.iter_mut().map(|listener| listener.until(false))).await?;
            tokio::time::sleep(plan.within.mul_f64(chance.random_range(0.0..1.0))).await;
            let accepted = mailbox.put().await?;
            let heard = try_join_all(listeners.iter_mut().map(|listener| listener.until(true))).await?;
            times.extend(heard.into_iter().map(|at| at.saturating_duration_since(accepted)));
            mailbox.take().await?;
        }
        anyhow::Ok(times)
    });
    Ok(try_join_all(woken).await?.into_iter().flatten().collect())
}

/// Closes what was opened for the queues.
pub(crate) async fn close(sleepers: Vec<Sleeper>) -> anyhow::Result<()> {
    try_join_all(sleepers.into_iter().map(|sleeper| sleeper.mailbox.close())).await?;
    Ok(())
}
