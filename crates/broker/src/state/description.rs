//! What the administration API reads and writes of an entity: its properties, its counts, its times.
//!
//! Plain data. Ranges of values that come over the wire (a lock of 5 s to 5 min, say) are checked where they are parsed;
//! the state machine works with whatever it is given.

use std::time::Duration;

use super::{name::EntityName, timestamp::Timestamp};

/// What a queue or subscription was created with. [`Default`] gives Service Bus's own defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueProperties {
    /// How long a peek-lock lasts, and how much a renewal adds from its moment on. At least 1 ms is applied.
    pub lock_duration: Duration,
    /// Deliveries after which a message that failed each of them is dead-lettered; 0 counts as 1.
    pub max_delivery_count: u32,
    /// Upper limit of every message's time to live; `None` is "forever" (`P10675199DT2H48M5.4775807S`).
    pub default_time_to_live: Option<Duration>,
    /// Whether expired messages go to the dead-letter queue rather than away.
    pub dead_letter_on_expiration: bool,
    /// Room for messages in bytes, the dead-letter queues included; each message counts its own size and
    /// [`super::MESSAGE_OVERHEAD_BYTES`]. A subscription always has its topic's.
    pub max_size_bytes: u64,
    /// What is allowed at the moment.
    pub status: EntityStatus,
    /// Whether messages belong to sessions. Kept and shown only: sessions are not implemented, so the listeners refuse to
    /// create such a queue.
    pub requires_session: bool,
    /// Free text of the queue's owner.
    pub user_metadata: Option<String>,
    /// The queue or topic to which messages move on once they are active; nobody receives from here then.
    pub forward_to: Option<EntityName>,
    /// The queue or topic to which dead-lettered messages move on; nobody receives from the dead-letter queue then.
    pub forward_dead_letters_to: Option<EntityName>,
}

impl Default for QueueProperties {
    fn default() -> Self {
        Self {
            lock_duration: Duration::from_mins(1),
            max_delivery_count: 10,
            default_time_to_live: None,
            dead_letter_on_expiration: false,
            max_size_bytes: 1024 * 1024 * 1024,
            status: EntityStatus::Active,
            requires_session: false,
            user_metadata: None,
            forward_to: None,
            forward_dead_letters_to: None,
        }
    }
}

/// What a topic was created with. [`Default`] gives Service Bus's own defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicProperties {
    /// Upper limit of every message's time to live, in all subscriptions; `None` is "forever".
    pub default_time_to_live: Option<Duration>,
    /// Room in bytes for the scheduled messages and those of all subscriptions together.
    pub max_size_bytes: u64,
    /// What is allowed at the moment; one that forbids receiving does so for every subscription.
    pub status: EntityStatus,
    /// Free text of the topic's owner.
    pub user_metadata: Option<String>,
}

impl Default for TopicProperties {
    fn default() -> Self {
        let QueueProperties { default_time_to_live, max_size_bytes, status, user_metadata, .. } =
            QueueProperties::default();
        Self { default_time_to_live, max_size_bytes, status, user_metadata }
    }
}

/// What an entity allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EntityStatus {
    /// Everything.
    #[default]
    Active,
    /// Neither sending nor receiving.
    Disabled,
    /// Receiving only.
    SendDisabled,
    /// Sending only.
    ReceiveDisabled,
}

impl EntityStatus {
    /// Whether messages may be sent and scheduled.
    pub fn allows_send(self) -> bool {
        matches!(self, Self::Active | Self::ReceiveDisabled)
    }

    /// Whether messages may be received. Settling, renewing and peeking are always allowed.
    pub fn allows_receive(self) -> bool {
        matches!(self, Self::Active | Self::SendDisabled)
    }

    /// The word of the administration API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "Active",
            Self::Disabled => "Disabled",
            Self::SendDisabled => "SendDisabled",
            Self::ReceiveDisabled => "ReceiveDisabled",
        }
    }
}

/// How many messages an entity holds, by kind. Of a topic only `scheduled` can be other than 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// `ActiveMessageCount`: deliverable ones, and locked and deferred ones as [`super::Config`] says.
    pub active: u64,
    /// Everything in the dead-letter queue, locked ones included.
    pub dead_letter: u64,
    /// Messages whose scheduled time has not come.
    pub scheduled: u64,
    /// Of the queue itself: messages that a receiver can get now.
    pub available: u64,
    /// Of the queue itself: messages under a peek-lock.
    pub locked: u64,
    /// Of the queue itself: messages set aside, not locked.
    pub deferred: u64,
    /// `TransferMessageCount`: messages that wait to be forwarded, because their target takes none at the moment.
    pub transfer: u64,
    /// `TransferDeadLetterMessageCount`: messages that could not be forwarded.
    pub transfer_dead_letter: u64,
}

impl Counts {
    /// `MessageCount`: all messages of the entity, the dead-letter queues included.
    pub fn total(&self) -> u64 {
        let main = self.available + self.locked + self.deferred + self.scheduled + self.transfer;
        main + self.dead_letter + self.transfer_dead_letter
    }
}

/// One queue or subscription as it was when the last event had been applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSnapshot {
    /// The name as first written.
    pub name: EntityName,
    /// What it was created with or last updated to.
    pub properties: QueueProperties,
    /// How many messages, by kind.
    pub counts: Counts,
    /// `SizeInBytes`: what counts against [`QueueProperties::max_size_bytes`].
    pub size_bytes: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its properties were last written.
    pub updated_at: Timestamp,
    /// When messages were last sent, received or settled; `None` when never (`0001-01-01T00:00:00Z`).
    pub accessed_at: Option<Timestamp>,
}

/// One topic as it was when the last event had been applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSnapshot {
    /// The name as first written.
    pub name: EntityName,
    /// What it was created with or last updated to.
    pub properties: TopicProperties,
    /// The messages that wait in the topic itself: scheduled ones.
    pub counts: Counts,
    /// How many subscriptions it has.
    pub subscriptions: usize,
    /// `SizeInBytes`: what counts against [`TopicProperties::max_size_bytes`].
    pub size_bytes: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its properties were last written.
    pub updated_at: Timestamp,
    /// When messages were last sent to it; `None` when never.
    pub accessed_at: Option<Timestamp>,
}
