//! When files that are followed are looked at: every so often, at once when SIGHUP asks for it, and not any more after the stop.
//!
//! Owns the wait between two looks, the rule that what is being written is not taken, and what was wrong at the last. What a
//! look does is the follower's business.

use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio_util::sync::CancellationToken;

/// Tells a follower when to look.
pub(crate) struct Looks {
    interval: Duration,
    hangup: Option<Signal>,
    shutdown: CancellationToken,
}

/// Why it is time to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// The interval is over.
    Due,
    /// Somebody sent SIGHUP, and wants to hear what came of it.
    Asked,
}

impl Looks {
    /// Every `interval`, and at SIGHUP where the caller gives it, until `shutdown`.
    pub(crate) fn new(interval: Duration, hangup: Option<Signal>, shutdown: CancellationToken) -> Self {
        Self { interval, hangup, shutdown }
    }

    /// Waits for the next look; `None` after the stop.
    pub(crate) async fn next(&mut self) -> Option<Look> {
        tokio::select! {
            () = self.shutdown.cancelled() => None,
            () = tokio::time::sleep(self.interval) => Some(Look::Due),
            () = received(&mut self.hangup) => Some(Look::Asked),
        }
    }
}

/// What was wrong at the last look, so that it is said once and not at every look.
#[derive(Debug, Default)]
pub(crate) struct Complaint(Option<String>);

impl Complaint {
    /// Whether this problem is to be logged: it is another than at the last look, or somebody asked.
    pub(crate) fn is_worth_a_line(&mut self, problem: &str, look: Look) -> bool {
        let is_old = self.0.as_deref() == Some(problem);
        if !is_old {
            self.0 = Some(problem.to_owned());
        }
        !is_old || look == Look::Asked
    }

    /// There is nothing to complain of any more.
    pub(crate) fn settle(&mut self) {
        self.0 = None;
    }
}

/// What reading twice, `pause` apart, gives; `None` where the two differ: somebody may be in the middle of writing, and the first
/// half of a file can be a good file with less in it. What cannot be read is told as it is at the second time.
pub(crate) async fn settled<T: PartialEq, E, Reading: Future<Output = Result<T, E>>>(
    pause: Duration,
    read: impl Fn() -> Reading,
) -> Option<Result<T, E>> {
    let first = read().await;
    tokio::time::sleep(pause).await;
    match (first, read().await) {
        (Ok(first), Ok(second)) if first != second => None,
        (_, second) => Some(second),
    }
}

async fn received(hangup: &mut Option<Signal>) {
    let heard = match hangup {
        Some(signal) => signal.recv().await,
        None => None,
    };
    if heard.is_none() {
        // Nobody will ask.
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_look_is_due_after_the_interval_and_none_after_the_stop() {
        let (interval, shutdown) = (Duration::from_secs(5), CancellationToken::new());
        let mut looks = Looks::new(interval, None, shutdown.clone());
        let begun = Instant::now();
        assert_eq!(looks.next().await, Some(Look::Due));
        assert_eq!(begun.elapsed(), interval);
        shutdown.cancel();
        assert_eq!(looks.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_changes_between_two_reads_is_not_taken() {
        for (reads, taken) in [
            ([Ok("a"), Ok("a")], Some(Ok("a"))),
            ([Ok("a"), Ok("ab")], None),
            ([Err("gone"), Ok("a")], Some(Ok("a"))),
            ([Ok("a"), Err("gone")], Some(Err("gone"))),
        ] {
            let left = std::cell::RefCell::new(reads.into_iter());
            let read = || std::future::ready(left.borrow_mut().next().expect("it is read twice"));
            assert_eq!(settled(Duration::from_millis(100), read).await, taken);
        }
    }

    #[test]
    fn a_problem_is_said_once_and_to_who_asks() {
        let mut complaint = Complaint::default();
        for (problem, look, is_said) in [
            ("one", Look::Due, true),
            ("one", Look::Due, false),
            ("one", Look::Asked, true),
            ("one", Look::Due, false),
            ("two", Look::Due, true),
            ("one", Look::Due, true),
        ] {
            assert_eq!(complaint.is_worth_a_line(problem, look), is_said, "{problem} {look:?}");
        }
        complaint.settle();
        assert!(complaint.is_worth_a_line("one", Look::Due), "it came back");
    }
}
