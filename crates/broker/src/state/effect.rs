//! Everything the state machine wants done: deliveries, answers, detaches. The listeners do it, in the order given.
//!
//! Contents are shared (`Arc`), so an effect costs no copy of a message. What AMQP or HTTP makes of a [`Refusal`] (a
//! condition, a status) is decided by the listener that tells it.

use std::sync::Arc;

use super::{
    description::EntityStatus,
    event::{LockToken, ReceiverId, RequestId, SequenceNumber},
    name::EntityName,
    timestamp::Timestamp,
};

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect<C> {
    /// Send a message to a receiver. Never more than its credit. If the receiver's link has gone in the meantime, a
    /// locked message can be given back with [`super::Outcome::Release`].
    Deliver {
        /// To whom.
        receiver: ReceiverId,
        /// What.
        delivery: Delivery<C>,
    },
    /// The receiver's credit is used up or void, as it asked: tell its link.
    Drained {
        /// Whose.
        receiver: ReceiverId,
    },
    /// Close the receiver's link; it is no longer subscribed.
    Detach {
        /// Whose.
        receiver: ReceiverId,
        /// `NotFound` when its queue was deleted, `EntityDisabled` when receiving was forbidden, `NotAllowed` when its
        /// queue began to forward.
        reason: Refusal,
    },
    /// Close whatever else belongs to this entity: sender and management links. Follows the receivers' `Detach`; that of a
    /// topic follows those of its subscriptions.
    Deleted {
        /// The entity that is gone.
        name: EntityName,
    },

    /// Answers the events that create, update and delete entities.
    Administered {
        /// Of the event.
        request: RequestId,
        /// Done or why not.
        result: Result<(), Refusal>,
    },
    /// Answers `Send`.
    Sent {
        /// Of the event.
        request: RequestId,
        /// The messages' numbers, in the order of the messages.
        result: Result<Vec<SequenceNumber>, Refusal>,
    },
    /// Answers `CancelScheduled`.
    ScheduleCancelled {
        /// Of the event.
        request: RequestId,
        /// Done or why not.
        result: Result<(), Refusal>,
    },
    /// Answers `Subscribe`.
    Subscribed {
        /// Of the event.
        receiver: ReceiverId,
        /// Done or why not.
        result: Result<(), Refusal>,
    },
    /// Answers `Settle`.
    Settled {
        /// Of the event.
        request: RequestId,
        /// Done or why not.
        result: Result<(), Refusal>,
    },
    /// Answers `RenewLocks`.
    LocksRenewed {
        /// Of the event.
        request: RequestId,
        /// When each lock now runs out, in the order of the tokens.
        result: Result<Vec<Timestamp>, Refusal>,
    },
    /// Answers `ReceiveDeferred`.
    DeferredReceived {
        /// Of the event.
        request: RequestId,
        /// The messages, in the order of the numbers.
        result: Result<Vec<Delivery<C>>, Refusal>,
    },
    /// Answers `Peek`.
    Peeked {
        /// Of the event.
        request: RequestId,
        /// The messages, lowest number first; empty when there are none.
        result: Result<Vec<MessageView<C>>, Refusal>,
    },
}

/// A message handed to a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery<C> {
    /// The lock it is handed over with; `None` in receive-and-delete mode.
    pub lock: Option<Lock>,
    /// The message.
    pub message: MessageView<C>,
}

/// A peek-lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    /// What settling and renewing name.
    pub token: LockToken,
    /// When it runs out unless it is renewed.
    pub until: Timestamp,
}

/// A message as it is seen from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageView<C> {
    /// Its number in the queue; the dead-letter queue keeps it. A scheduled message gets a new one when its time comes.
    pub sequence_number: SequenceNumber,
    /// The number it had where it was first sent: the topic's, or that of the queue it was forwarded from.
    pub enqueue_sequence_number: SequenceNumber,
    /// When it was stored; for one that was scheduled, when its time came.
    pub enqueued_at: Timestamp,
    /// When its time to live ends; `None` when never, or as long as it is scheduled. Not acted on in the dead-letter queue.
    pub expires_at: Option<Timestamp>,
    /// When it shall become active, or was to.
    pub scheduled_for: Option<Timestamp>,
    /// Earlier deliveries that failed; the wire's `delivery-count`.
    pub delivery_count: u32,
    /// Which `x-opt-message-state` it is in.
    pub state: MessageState,
    /// Why it was dead-lettered; `None` when it was not. Kept when a dead-lettered message is forwarded.
    pub dead_letter: Option<Arc<DeadLetter>>,
    /// Where it was dead-lettered, if it was forwarded from there.
    pub dead_letter_source: Option<EntityName>,
    /// What was sent, with the changes receivers made.
    pub content: Arc<C>,
}

/// The state a peek shows. Locked messages are active, or deferred if they were received as such.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageState {
    /// Delivered to whoever asks.
    Active,
    /// Set aside.
    Deferred,
    /// Waiting for its time.
    Scheduled,
}

impl MessageState {
    /// The value of the annotation `x-opt-message-state`.
    pub fn code(self) -> i32 {
        match self {
            Self::Active => 0,
            Self::Deferred => 1,
            Self::Scheduled => 2,
        }
    }
}

/// Why a message was dead-lettered: the application properties `DeadLetterReason` and `DeadLetterErrorDescription`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Short; fixed texts when the broker did it.
    pub reason: Option<String>,
    /// Longer.
    pub description: Option<String>,
}

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such entity.
    #[error("the messaging entity '{name}' could not be found")]
    NotFound {
        /// As asked for.
        name: EntityName,
    },
    /// There is one of that name already.
    #[error("the messaging entity '{name}' already exists")]
    AlreadyExists {
        /// As it is shown.
        name: EntityName,
    },
    /// The broker's limit on queues and topics is reached.
    #[error("the broker holds {max} queues and topics, the most it may")]
    TooManyEntities {
        /// [`super::Config::max_entities`].
        max: usize,
    },
    /// A topic's limit on subscriptions is reached.
    #[error("the topic '{topic}' has {max} subscriptions, the most it may")]
    TooManySubscriptions {
        /// The topic.
        topic: EntityName,
        /// [`super::Config::max_subscriptions`].
        max: usize,
    },
    /// Something that this kind of entity, or one set up like this, does not do.
    #[error("{what}: '{name}'")]
    NotAllowed {
        /// The entity.
        name: EntityName,
        /// What was tried and cannot be.
        what: &'static str,
    },
    /// Forwarding to what is no queue or topic, or to itself.
    #[error("'{target}' cannot be the destination for auto-forwarding: it must be another queue or topic that exists")]
    ForwardTarget {
        /// The destination asked for.
        target: EntityName,
    },
    /// The entity's status forbids it.
    #[error("the messaging entity '{name}' is in status {}", status.as_str())]
    EntityDisabled {
        /// The entity.
        name: EntityName,
        /// Its status.
        status: EntityStatus,
    },
    /// The entity is full, or would be.
    #[error(
        "the messaging entity '{name}' holds {size_bytes} bytes, {more_bytes} more exceed its maximum of {max_bytes}"
    )]
    QuotaExceeded {
        /// The entity.
        name: EntityName,
        /// What it holds.
        size_bytes: u64,
        /// What was to be added.
        more_bytes: u64,
        /// The maximum that applies.
        max_bytes: u64,
    },
    /// The changes that come with a settlement would make the message too large.
    #[error("the message would have {size_bytes} bytes with its changes; {max_bytes} are allowed")]
    MessageTooLarge {
        /// What it would count.
        size_bytes: u64,
        /// The maximum.
        max_bytes: u64,
    },
    /// The id of the receiver is taken.
    #[error("receiver {} is subscribed already", receiver.0)]
    ReceiverExists {
        /// The id.
        receiver: ReceiverId,
    },
    /// The token is unknown: never given out here, settled, or run out.
    #[error(
        "the lock supplied is invalid: either the lock expired, or the message has already been removed from the queue"
    )]
    LockLost,
    /// A message of the dead-letter queue cannot be dead-lettered.
    #[error("a message in the dead-letter queue cannot be dead-lettered again")]
    AlreadyDeadLettered,
    /// No message with that number in the state asked for.
    #[error("no message with sequence number {sequence_number} could be found in the state asked for")]
    MessageNotFound {
        /// The first number that was not found.
        sequence_number: SequenceNumber,
    },
}
