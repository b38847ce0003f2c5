//! Everything that can happen to the broker's state: requests of clients and of the administration API, and time.
//!
//! An event that carries a [`RequestId`] is answered by exactly one effect with the same id, returned by the same
//! [`super::State::apply`] call. What is refused changes nothing.

use std::{fmt, time::Duration};

use uuid::Uuid;

use super::{
    description::{QueueProperties, TopicProperties},
    name::{Address, EntityName},
    timestamp::Timestamp,
};

/// What the listeners store as a message. The state machine looks only at its size.
pub trait Content: Clone + fmt::Debug {
    /// What a receiver may change while it settles: on the wire a map that is merged into the application properties.
    type Properties: Clone + fmt::Debug;

    /// The most it may count after a change, the reason of a dead-lettering included.
    const MAX_BYTES: u64 = u64::MAX;

    /// The bytes this content counts for, its properties included.
    fn size_bytes(&self) -> u64;

    /// Merges `properties` in, replacing those that are there already.
    fn amend(&mut self, properties: &Self::Properties);
}

/// Ties an event to its answer. Chosen by the caller; the state machine never compares two of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// One subscribed receiver. Chosen by the caller and unique among those subscribed, over all connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReceiverId(pub u64);

/// The number a queue, topic or subscription gives a message: 1, 2, 3 … without gaps.
pub type SequenceNumber = u64;

/// The proof that a message is locked for its holder; new for each delivery. On the wire a UUID.
pub type LockToken = Uuid;

/// How a receiver takes messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiveMode {
    /// A message stays, locked, until it is settled or its lock runs out.
    PeekLock,
    /// A message is gone once it is delivered.
    ReceiveAndDelete,
}

/// A message on its way in.
#[derive(Debug, Clone)]
pub struct NewMessage<C> {
    /// What to store.
    pub content: C,
    /// The sender's time to live, counted from the moment the message becomes active; `None` leaves it to the queue.
    pub time_to_live: Option<Duration>,
    /// When it shall become active; `None` or a time that has come means now.
    pub scheduled_for: Option<Timestamp>,
}

/// What the holder of a lock decides.
#[derive(Debug, Clone)]
pub enum Outcome<P> {
    /// Done: the message goes away.
    Complete,
    /// Failed: back to its place, with its delivery count raised, or to the dead-letter queue when that reaches the maximum.
    Abandon {
        /// Changes to merge into the content.
        properties: Option<P>,
    },
    /// Not even tried (AMQP `released`): back to its place, the delivery count as it was.
    Release,
    /// Set aside, to be received by its sequence number only.
    Defer {
        /// Changes to merge into the content.
        properties: Option<P>,
    },
    /// Into the dead-letter queue. Refused for messages that are in one.
    DeadLetter {
        /// Becomes `DeadLetterReason`.
        reason: Option<String>,
        /// Becomes `DeadLetterErrorDescription`.
        description: Option<String>,
        /// Further changes to merge into the content.
        properties: Option<P>,
    },
}

/// One thing that happens. After each are named the answer and what it may be refused with.
#[derive(Debug, Clone)]
pub enum Event<C: Content> {
    /// Time has passed; see [`super::State::next_deadline`]. Every other event lets time pass too.
    Tick,

    /// Creates a queue, or a subscription if the name is one's: a subscription is a queue that is filled by its topic.
    /// → [`super::Effect::Administered`], or `AlreadyExists`, `TooManyEntities`, `TooManySubscriptions`, `NotFound` (the
    /// topic), `ForwardTarget`.
    CreateQueue {
        /// For the answer.
        request: RequestId,
        /// Its name, shown as written here from now on.
        name: EntityName,
        /// Its properties.
        properties: QueueProperties,
    },
    /// Creates a topic. → [`super::Effect::Administered`], or `AlreadyExists`, `TooManyEntities`.
    CreateTopic {
        /// For the answer.
        request: RequestId,
        /// Its name, shown as written here from now on.
        name: EntityName,
        /// Its properties.
        properties: TopicProperties,
    },
    /// Writes the properties of a queue or subscription. Messages keep the times they have; a status that forbids
    /// receiving detaches all receivers, and forwarding those of the part it empties.
    /// → [`super::Effect::Administered`], or `NotFound`, `ForwardTarget` (of a target that was another before).
    UpdateQueue {
        /// For the answer.
        request: RequestId,
        /// The queue.
        name: EntityName,
        /// All of its properties.
        properties: QueueProperties,
    },
    /// Writes a topic's properties; a status that forbids receiving detaches the receivers of all subscriptions.
    /// → [`super::Effect::Administered`], or `NotFound`.
    UpdateTopic {
        /// For the answer.
        request: RequestId,
        /// The topic.
        name: EntityName,
        /// All of its properties.
        properties: TopicProperties,
    },
    /// Deletes a queue, topic or subscription with all its messages, a topic with all its subscriptions; detaches the
    /// receivers, then says [`super::Effect::Deleted`]. → [`super::Effect::Administered`], or `NotFound`.
    Delete {
        /// For the answer.
        request: RequestId,
        /// The entity.
        name: EntityName,
    },

    /// Stores messages, all of them or none; scheduled ones among them wait for their time. A topic gives a copy to each
    /// of its subscriptions, whatever their status. → [`super::Effect::Sent`], or `NotFound`, `EntityDisabled`,
    /// `QuotaExceeded`, `NotAllowed` (to a subscription).
    Send {
        /// For the answer.
        request: RequestId,
        /// The queue or topic.
        to: EntityName,
        /// One message, a batch, or none.
        messages: Vec<NewMessage<C>>,
    },
    /// Takes back scheduled messages, all of them or none. → [`super::Effect::ScheduleCancelled`], or `NotFound`,
    /// `MessageNotFound`.
    CancelScheduled {
        /// For the answer.
        request: RequestId,
        /// The queue or topic.
        to: EntityName,
        /// The numbers [`super::Effect::Sent`] gave; repetitions do no harm.
        sequence_numbers: Vec<SequenceNumber>,
    },

    /// A receiver attaches, with no credit yet. → [`super::Effect::Subscribed`], or `NotFound`, `EntityDisabled`,
    /// `NotAllowed` (from a topic, or from a queue that forwards), `ReceiverExists`.
    Subscribe {
        /// Its id from now on.
        receiver: ReceiverId,
        /// Where it receives.
        address: Address,
        /// How.
        mode: ReceiveMode,
    },
    /// Says how many messages a receiver takes: `limit` is the number of deliveries since it subscribed up to which it may
    /// be sent more, that is *deliveries written to the link so far + the link's credit now*. As a total it stays right
    /// whatever is still on its way between state and link; a smaller limit takes credit back. Ignored for a receiver
    /// that is gone.
    Credit {
        /// The receiver.
        receiver: ReceiverId,
        /// Deliveries allowed in all.
        limit: u64,
    },
    /// Asks to use up the credit now: what is there is delivered, the rest of the credit is void, and
    /// [`super::Effect::Drained`] says so. Without effect for a receiver that is gone.
    Drain {
        /// The receiver.
        receiver: ReceiverId,
    },
    /// A receiver is gone. Its locks live on until they are settled or run out. Ignored when it is gone already.
    Unsubscribe {
        /// The receiver.
        receiver: ReceiverId,
    },

    /// The holder of a lock, on whatever link or connection, decides. → [`super::Effect::Settled`], or `NotFound`,
    /// `LockLost`, `AlreadyDeadLettered`, `MessageTooLarge` and `QuotaExceeded` (by its changes: it stays locked).
    Settle {
        /// For the answer.
        request: RequestId,
        /// Where the message was received.
        address: Address,
        /// The lock.
        lock_token: LockToken,
        /// The decision.
        outcome: Outcome<C::Properties>,
    },
    /// Extends locks to the queue's lock duration from now, all of them or none.
    /// → [`super::Effect::LocksRenewed`], or `NotFound`, `LockLost`.
    RenewLocks {
        /// For the answer.
        request: RequestId,
        /// Where the messages were received.
        address: Address,
        /// The locks.
        lock_tokens: Vec<LockToken>,
    },
    /// Receives deferred messages by number, all of them or none.
    /// → [`super::Effect::DeferredReceived`], or `NotFound`, `EntityDisabled`, `NotAllowed`, `MessageNotFound` (also for a deferred one
    /// that is locked, or a number named twice).
    ReceiveDeferred {
        /// For the answer.
        request: RequestId,
        /// Where they were deferred.
        address: Address,
        /// Their numbers.
        sequence_numbers: Vec<SequenceNumber>,
        /// With a lock, or for good.
        mode: ReceiveMode,
    },
    /// Looks at messages in every state, in the order of their numbers, without locking them.
    /// → [`super::Effect::Peeked`], or `NotFound`.
    Peek {
        /// For the answer.
        request: RequestId,
        /// Where to look.
        address: Address,
        /// The lowest number wanted.
        from: SequenceNumber,
        /// How many at most.
        max: usize,
    },
}
