//! The client port: the one small trait through which workers and senders use a queue, whatever adapter is behind it.
//!
//! Two adapters implement it: ours on `crates/amqp` (the default) and the crate `azservicebus` (cargo feature). The
//! trait promises what a worker needs in order to lose nothing: the outcome of every settlement is the broker's own
//! word, everything has a deadline, and calls may run side by side.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use uuid::Uuid;

/// A message to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingMessage {
    /// Chosen by the application, at most 128 characters; also the key of duplicate detection. Always set: some SDKs
    /// fail on messages without one.
    pub message_id: String,
    /// For example `application/json`.
    pub content_type: Option<String>,
    /// The body, sent as one `data` section.
    pub body: Bytes,
    /// Accepted now, delivered from then on.
    pub scheduled_enqueue_time: Option<SystemTime>,
}

/// Names one delivery of one message; valid until its lock runs out. In RFC byte order, as management calls want it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LockToken(pub Uuid);

/// A message received under a lock.
#[derive(Clone, Debug)]
pub struct ReceivedMessage {
    /// Names this delivery when settling or renewing.
    pub lock_token: LockToken,
    /// When the lock runs out unless renewed, by the broker's clock.
    pub locked_until: SystemTime,
    /// The broker's number for this message; kept over redelivery.
    pub sequence_number: i64,
    /// Earlier deliveries that failed; 0 at the first delivery.
    pub delivery_count: u32,
    /// The sender's id for it, when it has one.
    pub message_id: Option<String>,
    /// When the broker accepted it.
    pub enqueued_time: Option<SystemTime>,
    /// The body: its data sections joined.
    pub body: Bytes,
}

/// A message seen without a lock.
#[derive(Clone, Debug)]
pub struct PeekedMessage {
    /// The broker's number for this message.
    pub sequence_number: i64,
    /// The sender's id for it, when it has one.
    pub message_id: Option<String>,
    /// The body: its data sections joined.
    pub body: Bytes,
}

/// What is to become of a received message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// Handled: remove it.
    Complete,
    /// Not handled: deliver it again, its delivery count raised.
    Abandon,
    /// Never looked at: deliver it again as if it had not been delivered. Where an adapter cannot release, it abandons.
    Release,
    /// Cannot be handled: move it to the dead-letter sub-queue.
    DeadLetter {
        /// A short code, such as `BadBody`.
        reason: String,
        /// For a person to read.
        description: String,
    },
}

/// What kind of failure a call met, as far as a caller acts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureKind {
    /// The entity does not exist.
    NotFound,
    /// The credential was refused.
    Unauthorized,
    /// The lock ran out, or the message was settled before.
    LockLost,
    /// The service asks to slow down.
    Throttled,
    /// No answer in time.
    Timeout,
    /// The connection or link broke; the adapter recovers at the next call.
    ConnectionLost,
    /// The message or batch exceeds the link's limit.
    TooLarge,
    /// The entity is full or disabled, or refused the message for another reason that stays.
    Refused,
    /// The peer broke the protocol, or the adapter met a defect of its library.
    Internal,
}

/// A call on the client port failed.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct ClientError {
    /// What a caller can act on.
    pub kind: FailureKind,
    /// One line for people; holds no secret.
    pub what: String,
    /// The layer below, if it had something to say.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ClientError {
    /// An error without a lower layer.
    pub fn new(kind: FailureKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), source: None }
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(
            self.kind,
            FailureKind::Throttled | FailureKind::Timeout | FailureKind::ConnectionLost | FailureKind::Internal
        )
    }
}

/// One entity of one namespace: a queue, a subscription (which takes no messages), or a topic (which gives none). Cheap to share; all calls may run at the same time and all have deadlines.
///
/// A broken connection fails the calls in flight with [`FailureKind::ConnectionLost`]; the next call connects again.
#[async_trait]
pub trait QueueClient: Send + Sync + 'static {
    /// The largest batch the link accepts, encoded, in bytes.
    async fn max_batch_bytes(&self) -> Result<usize, ClientError>;

    /// Sends all messages as one batch: `Ok` means that the broker has accepted every one of them. After an error that
    /// [is transient](ClientError::is_transient) the batch may or may not have been accepted.
    async fn send(&self, messages: &[OutgoingMessage]) -> Result<(), ClientError>;

    /// Receives under lock: returns as soon as at least one message is here, with at most `max_messages`; empty when
    /// `max_wait` has passed. Dropping the future loses no message.
    async fn receive(&self, max_messages: usize, max_wait: Duration) -> Result<Vec<ReceivedMessage>, ClientError>;

    /// Settles one delivery; `Ok` means that the broker has confirmed this very outcome.
    async fn settle(&self, lock_token: LockToken, settlement: Settlement) -> Result<(), ClientError>;

    /// Renews a lock; returns when it now runs out.
    async fn renew(&self, lock_token: LockToken) -> Result<SystemTime, ClientError>;

    /// Looks at up to `max_messages` messages from a sequence number on, locking nothing.
    async fn peek(&self, from_sequence_number: i64, max_messages: usize) -> Result<Vec<PeekedMessage>, ClientError>;

    /// Gives back what was received but not handed out, and closes. Later calls fail.
    async fn close(&self) -> Result<(), ClientError>;
}
