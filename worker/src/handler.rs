//! What a user of the library writes: one message in, one outcome out.

use async_trait::async_trait;
use servicebus::ReceivedMessage;

/// What became of a message, as its handler sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done: the message is removed.
    Complete,
    /// Failed, but may succeed later: the message is delivered again, and dead-lettered by the broker after as many
    /// deliveries as the queue allows.
    Abandon {
        /// For the log.
        why: String,
    },
    /// Can never succeed: the message is moved to the dead-letter queue.
    DeadLetter {
        /// A short code, such as `BadBody`.
        reason: String,
        /// For a person to read.
        description: String,
    },
}

/// Handles messages. While it does, the loop renews the message's lock.
///
/// Delivery is at least once: the same message may come again after a lost lock or a crash, so handling must bear
/// repetition. The future is dropped at its next await point when the lock is lost (another worker has the message by
/// then) or when the drain timeout is over. A panic counts as [`Outcome::Abandon`].
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Handles one message.
    async fn handle(&self, message: &ReceivedMessage) -> Outcome;
}
