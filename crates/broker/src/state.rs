//! The broker's memory: queues, messages, locks, receivers, as one state machine without clock or I/O.
//!
//! [`State::apply`] takes one [`Event`] and the current time and returns the [`Effect`]s the listeners must perform; it
//! never waits. All mutable state of the broker is owned here, and one task owns the [`State`]. Topics, sessions,
//! forwarding, duplicate detection and transactions are not here yet.

mod description;
mod effect;
mod event;
mod name;
mod timestamp;

pub use description::{Counts, EntityStatus, QueueProperties, QueueSnapshot};
pub use effect::{DeadLetter, Delivery, Effect, Lock, MessageState, MessageView, Refusal};
pub use event::{Content, Event, LockToken, NewMessage, Outcome, ReceiveMode, ReceiverId, RequestId, SequenceNumber};
pub use name::{Address, EntityName, InvalidName, MAX_NAME_LENGTH, Part};
pub use timestamp::Timestamp;

/// What each message counts on top of its content against its queue's size, in bytes: about what its record and its
/// places in the indexes take, so that a queue of empty messages is bounded too.
pub const MESSAGE_OVERHEAD_BYTES: u64 = 512;

/// What holds for all queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How many queues there may be at once (Service Bus: 10 000 in a namespace).
    pub max_queues: usize,
    /// Whether `ActiveMessageCount` includes messages under a peek-lock. Scalers rely on it: without, a busy queue looks
    /// empty.
    pub count_locked_as_active: bool,
    /// Whether `ActiveMessageCount` includes deferred messages, as the service is believed to do.
    pub count_deferred_as_active: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_queues: 10_000, count_locked_as_active: true, count_deferred_as_active: true }
    }
}

/// All queues with their messages, locks and receivers.
///
/// Invariants: every message is in exactly one place (available, locked, deferred or scheduled, in the queue or in its
/// dead-letter queue); a receiver never gets more than its credit; every request is answered once.
#[derive(Debug)]
pub struct State<C: Content> {
    config: Config,
    marker: std::marker::PhantomData<C>,
}

impl<C: Content> State<C> {
    /// An empty broker. `seed` feeds the generator of lock tokens: random in production, so that tokens cannot be
    /// guessed; fixed in tests.
    pub fn new(config: Config, seed: [u8; 32]) -> Self {
        todo!("{config:?} {seed:?}")
    }

    /// Lets time pass up to `now`, applies one event, and returns what to do, in order. Never waits. A `now` earlier than
    /// one seen before counts as that one.
    pub fn apply(&mut self, event: Event<C>, now: Timestamp) -> Vec<Effect<C>> {
        todo!("{event:?} {now:?}")
    }

    /// When the next lock, time to live or schedule is due: apply [`Event::Tick`] then. `None` when nothing is.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        todo!()
    }

    /// One queue as of the last event.
    pub fn describe(&self, name: &EntityName) -> Option<QueueSnapshot> {
        todo!("{name} {:?}", self.config)
    }

    /// All queues as of the last event, in the order of their names without regard to case. Lazy, so a page is
    /// `.skip(n).take(m)`.
    pub fn list(&self) -> impl Iterator<Item = QueueSnapshot> {
        std::iter::empty()
    }

    /// Whether this token locks a message there. For clients whose tokens may arrive in either of two byte orders.
    pub fn holds_lock(&self, address: &Address, lock_token: &LockToken) -> bool {
        todo!("{address} {lock_token}")
    }
}
