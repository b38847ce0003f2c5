//! What a worker did, counted by what became of each message.

use crate::delivery::End;

/// Counts since the start. Every message received is in exactly one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Completed, and the broker confirmed it.
    pub handled: u64,
    /// Given back, to be delivered again.
    pub abandoned: u64,
    /// Moved to the dead-letter queue.
    pub dead_lettered: u64,
    /// The lock was lost before the outcome was confirmed: the message may be handled again.
    pub lost_locks: u64,
}

impl Figures {
    pub(crate) fn count(&mut self, end: End) {
        let counter = match end {
            End::Handled => &mut self.handled,
            End::Abandoned => &mut self.abandoned,
            End::DeadLettered => &mut self.dead_lettered,
            End::LostLock => &mut self.lost_locks,
        };
        *counter += 1;
    }
}
