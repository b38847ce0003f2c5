//! When files that are followed are looked at: every so often, at once when SIGHUP asks for it, and not any more after the stop.
//!
//! Owns the wait between two looks. What a look does, and what it says of a file that is no good, is the follower's business.

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
}
