//! The loop: receive as many messages as there are free hands, and let each be handled beside the others.
//!
//! It owns what is in hand, and it alone decides when to stop. A broken connection is no reason: it waits and tries
//! again. How a message is handled and settled is in `delivery`.

use std::sync::Arc;
use std::time::Duration;

use servicebus::{Backoff, ClientError, QueueClient, ReceivedMessage};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::delivery::{End, handle_and_settle};
use crate::{Figures, Handler};

/// How long one receive waits for a message. It can be given up at any time, so long costs nothing.
const RECEIVE_WAIT: Duration = Duration::from_secs(30);
/// Before a queue is taken for empty it is asked once more, for this long: an answer has to come all the way, and a machine
/// that stood still for a while has heard nothing.
const LAST_ASK: Duration = Duration::from_secs(1);
/// How long the messages that were not finished in time may take to be given back.
const GIVE_BACK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the client may take to give back what it holds and to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How the loop works.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Messages handled at the same time, at least 1.
    pub concurrency: usize,
    /// How long messages in hand may take to be finished once it was told to stop.
    pub drain_timeout: Duration,
    /// Ends by itself when nothing was in hand and no message has come for this long, and for a second at least; `None` goes
    /// on for ever.
    pub exit_when_idle: Option<Duration>,
}

/// The loop has come to its end.
#[derive(Debug)]
pub struct Stopped {
    /// What it did.
    pub figures: Figures,
    /// Why, unless it was told to.
    pub cause: Option<Failure>,
}

/// What ends the loop before it is told to.
#[derive(Debug)]
pub enum Failure {
    /// The queue cannot be used, and waiting would not help.
    Client(ClientError),
    /// Readiness could not be announced.
    Announce(anyhow::Error),
}

/// Receives, handles and settles until `shutdown` is cancelled, it was idle for long enough, or the queue turns out unusable.
/// Then it receives no more,
/// lets what is in hand be finished within the drain timeout, gives the rest back and closes the client.
///
/// `announce` is called once, when the queue was reached for the first time.
pub async fn receive_and_settle(
    client: Arc<dyn QueueClient>,
    handler: Arc<dyn Handler>,
    settings: Settings,
    shutdown: CancellationToken,
    announce: impl FnOnce() -> anyhow::Result<()>,
) -> Stopped {
    let mut hands = Hands::new(client.clone(), handler);
    let cause = match reach(client.as_ref(), &shutdown).await {
        Reached::Yes => match announce() {
            Ok(()) => receive(client.as_ref(), &mut hands, settings, &shutdown).await.err(),
            Err(error) => Some(Failure::Announce(error)),
        },
        Reached::ToldToStop => None,
        Reached::Never(error) => Some(Failure::Client(error)),
    };
    hands.drain(settings.drain_timeout).await;
    match tokio::time::timeout(CLOSE_TIMEOUT, client.close()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the client did not close cleanly"),
        Err(_) => tracing::debug!("the client did not close in time"),
    }
    Stopped { figures: hands.figures, cause }
}

/// Whether the queue could be reached.
enum Reached {
    Yes,
    ToldToStop,
    Never(ClientError),
}

/// Makes sure that the queue is there and lets us in, by peeking at it. Waits for a broker that is not up yet.
async fn reach(client: &dyn QueueClient, shutdown: &CancellationToken) -> Reached {
    let mut outage = Outage::default();
    loop {
        let peeked = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Reached::ToldToStop,
            peeked = client.peek(0, 1) => peeked,
        };
        let pause = match peeked {
            Ok(_) => {
                outage.over();
                return Reached::Yes;
            }
            Err(error) if error.is_transient() => outage.goes_on(&error),
            Err(error) => return Reached::Never(error),
        };
        tokio::select! {
            () = shutdown.cancelled() => return Reached::ToldToStop,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Fills free hands until it is told to stop or was idle for long enough (both `Ok`), or receiving fails for good.
async fn receive(
    client: &dyn QueueClient,
    hands: &mut Hands,
    settings: Settings,
    shutdown: &CancellationToken,
) -> Result<(), Failure> {
    let mut outage = Outage::default();
    let mut not_before = Instant::now();
    // Only a queue that was asked, and gave nothing for so long, is empty: neither an outage is idleness nor the time that it
    // takes to connect, which a receive does not count as waiting.
    let mut idle_since = Instant::now();
    loop {
        let free = settings.concurrency.max(1).saturating_sub(hands.busy());
        let patience = settings.exit_when_idle.filter(|_| hands.busy() == 0);
        let receiving = async {
            tokio::time::sleep_until(not_before).await;
            let left = patience.map(|patience| (idle_since + patience).saturating_duration_since(Instant::now()));
            let (wait, is_last) = match left {
                Some(left) if left <= LAST_ASK => (LAST_ASK, true),
                Some(left) => (left.saturating_sub(LAST_ASK).min(RECEIVE_WAIT), false),
                None => (RECEIVE_WAIT, false),
            };
            (client.receive(free, wait).await, is_last)
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            () = hands.one_done(), if hands.busy() > 0 => idle_since = Instant::now(),
            (received, is_last) = receiving, if free > 0 => match received {
                Ok(messages) => {
                    outage.over();
                    if !messages.is_empty() {
                        idle_since = Instant::now();
                    } else if is_last {
                        tracing::info!("no message has come for as long as --exit-when-idle says");
                        return Ok(());
                    }
                    for message in messages {
                        hands.take(message);
                    }
                }
                Err(error) if error.is_transient() => {
                    not_before = Instant::now() + outage.goes_on(&error);
                    idle_since = not_before;
                }
                Err(error) => return Err(Failure::Client(error)),
            },
        }
    }
}

/// A time without a connection: pauses between tries, and one log line for it however long it lasts.
struct Outage {
    backoff: Backoff,
}

impl Default for Outage {
    fn default() -> Self {
        Self { backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(5)) }
    }
}

impl Outage {
    /// Another failure; returns how long to wait.
    fn goes_on(&mut self, error: &ClientError) -> Duration {
        if self.backoff.failures() == 0 {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            tracing::warn!(%error, cause, "cannot receive; trying again until it works");
        }
        self.backoff.after_failure(rand::random())
    }

    /// A success.
    fn over(&mut self) {
        if self.backoff.failures() > 0 {
            tracing::info!(tries = self.backoff.failures(), "receiving again");
            self.backoff.reset();
        }
    }
}

/// The messages in hand, each in a task of its own.
struct Hands {
    client: Arc<dyn QueueClient>,
    handler: Arc<dyn Handler>,
    tasks: JoinSet<End>,
    hurry: CancellationToken,
    figures: Figures,
}

impl Hands {
    fn new(client: Arc<dyn QueueClient>, handler: Arc<dyn Handler>) -> Self {
        let (tasks, hurry, figures) = (JoinSet::new(), CancellationToken::new(), Figures::default());
        Self { client, handler, tasks, hurry, figures }
    }

    fn busy(&self) -> usize {
        self.tasks.len()
    }

    fn take(&mut self, message: ReceivedMessage) {
        tracing::debug!(sequence_number = message.sequence_number, "received");
        let (client, handler, hurry) = (self.client.clone(), self.handler.clone(), self.hurry.clone());
        self.tasks.spawn(async move { handle_and_settle(client.as_ref(), handler.as_ref(), message, &hurry).await });
    }

    /// Waits until one message is through; at once when there is none.
    async fn one_done(&mut self) {
        match self.tasks.join_next().await {
            None => {}
            Some(Ok(end)) => self.figures.count(end),
            // The handler's panics are caught, so this is one of the client or our own. Nothing was settled.
            Some(Err(error)) => {
                tracing::error!(%error, "a message was dropped by a panic; it comes again when its lock has run out");
                self.figures.count(End::LostLock);
            }
        }
    }

    /// Lets what is in hand be finished, and has it given back when that takes too long.
    async fn drain(&mut self, timeout: Duration) {
        if self.busy() > 0 {
            tracing::info!(in_hand = self.busy(), timeout_seconds = timeout.as_secs_f64(), "finishing what is in hand");
        }
        if self.all_done_within(timeout).await {
            return;
        }
        let unfinished = self.busy();
        self.hurry.cancel();
        if self.all_done_within(GIVE_BACK_TIMEOUT).await {
            tracing::warn!(unfinished, "the drain timeout is over; what was not finished was given back");
            return;
        }
        let left = self.busy();
        tracing::warn!(
            unfinished,
            left,
            "the drain timeout is over; messages left come again when their locks run out"
        );
        self.tasks.abort_all();
        for _ in 0..left {
            self.figures.count(End::LostLock);
        }
    }

    async fn all_done_within(&mut self, timeout: Duration) -> bool {
        let all = async {
            while self.busy() > 0 {
                self.one_done().await;
            }
        };
        tokio::time::timeout(timeout, all).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use servicebus::FailureKind;

    use super::*;
    use crate::Outcome;
    use crate::fake::{Asked, Fake, Says, message};

    const SETTINGS: Settings =
        Settings { concurrency: 2, drain_timeout: Duration::from_secs(10), exit_when_idle: None };

    async fn stopped(fake: &Arc<Fake>, work: Duration, shutdown_after: Duration) -> Stopped {
        let shutdown = CancellationToken::new();
        let handler = Arc::new(Says(Outcome::Complete, work));
        let working = receive_and_settle(fake.clone(), handler, SETTINGS, shutdown.clone(), || Ok(()));
        let stopping = async {
            tokio::time::sleep(shutdown_after).await;
            shutdown.cancel();
        };
        tokio::join!(working, stopping).0
    }

    fn fill(fake: &Fake, count: usize) {
        let messages = (0..count).map(|_| message("{}", Duration::from_mins(5)));
        fake.messages.lock().expect("no panic before").extend(messages);
    }

    #[tokio::test(start_paused = true)]
    async fn only_as_many_messages_are_in_hand_as_may_be() {
        let fake = Arc::new(Fake::default());
        fill(&fake, 100);
        let stopped = stopped(&fake, Duration::from_secs(1), Duration::from_millis(4_500)).await;
        assert!(stopped.cause.is_none());
        assert_eq!(stopped.figures, Figures { handled: 10, ..Figures::default() }, "two at a time, five rounds begun");
        assert_eq!(fake.messages.lock().expect("no panic before").len(), 90, "the rest was never received");
        assert_eq!(fake.asked().last(), Some(&Asked::Close));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_finished_in_time_is_given_back() {
        let fake = Arc::new(Fake::default());
        fill(&fake, 2);
        let stopped = stopped(&fake, Duration::from_hours(1), Duration::from_secs(1)).await;
        assert_eq!(stopped.figures, Figures { abandoned: 2, ..Figures::default() });
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_waited_out() {
        let fake = Arc::new(Fake::default());
        *fake.peek_failures.lock().expect("no panic before") = [FailureKind::ConnectionLost; 5].into();
        *fake.receive_failures.lock().expect("no panic before") = [FailureKind::Timeout; 5].into();
        fill(&fake, 3);
        let stopped = stopped(&fake, Duration::ZERO, Duration::from_mins(2)).await;
        assert!(stopped.cause.is_none());
        assert_eq!(stopped.figures.handled, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn told_to_end_when_idle_it_works_first_and_an_outage_is_not_idleness() {
        let fake = Arc::new(Fake::default());
        *fake.receive_failures.lock().expect("no panic before") = [FailureKind::Timeout; 20].into();
        fill(&fake, 3);
        let settings = Settings { exit_when_idle: Some(Duration::from_secs(2)), ..SETTINGS };
        let handler = Arc::new(Says(Outcome::Complete, Duration::from_secs(7)));
        let begun = Instant::now();
        let stopped = receive_and_settle(fake.clone(), handler, settings, CancellationToken::new(), || Ok(())).await;
        assert!(stopped.cause.is_none());
        assert_eq!(stopped.figures.handled, 3, "after twenty failures, and although handling takes longer than 2 s");
        assert!(begun.elapsed() > Duration::from_secs(16), "two rounds of handling, then the two seconds");
        assert_eq!(fake.asked().last(), Some(&Asked::Close));
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_it_takes_to_connect_is_not_idleness() {
        for patience in [0, 2, 45] {
            let fake = Arc::new(Fake::default());
            *fake.connecting.lock().expect("no panic before") = Duration::from_secs(4);
            fill(&fake, 1);
            let patience = Duration::from_secs(patience);
            let settings = Settings { exit_when_idle: Some(patience), ..SETTINGS };
            let handler = Arc::new(Says(Outcome::Complete, Duration::ZERO));
            let begun = Instant::now();
            let stopped = receive_and_settle(fake, handler, settings, CancellationToken::new(), || Ok(())).await;
            assert!(stopped.cause.is_none());
            assert_eq!(stopped.figures.handled, 1, "{patience:?}: there was one to be had");
            let idle = begun.elapsed().saturating_sub(Duration::from_secs(4));
            let wanted = patience.max(LAST_ASK);
            assert!(idle >= wanted && idle < wanted + Duration::from_secs(1), "{patience:?}: {idle:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_that_stays_ends_the_loop_after_what_is_in_hand() {
        let fake = Arc::new(Fake::default());
        fill(&fake, 1);
        let failing = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            fake.receive_failures.lock().expect("no panic before").push_back(FailureKind::NotFound);
        };
        // The receive that waits for a second message comes back after its wait, and the next one fails.
        let (stopped, ()) = tokio::join!(stopped(&fake, Duration::from_secs(35), Duration::from_hours(1)), failing);
        assert!(matches!(stopped.cause, Some(Failure::Client(error)) if error.kind == FailureKind::NotFound));
        assert_eq!(stopped.figures, Figures { handled: 1, ..Figures::default() });
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_cannot_be_used_is_never_announced() {
        let fake = Arc::new(Fake::default());
        fake.peek_failures.lock().expect("no panic before").push_back(FailureKind::Unauthorized);
        let handler = Arc::new(Says(Outcome::Complete, Duration::ZERO));
        let announce = || anyhow::bail!("must not be called");
        let stopped = receive_and_settle(fake, handler, SETTINGS, CancellationToken::new(), announce).await;
        assert!(matches!(stopped.cause, Some(Failure::Client(error)) if error.kind == FailureKind::Unauthorized));
    }
}
