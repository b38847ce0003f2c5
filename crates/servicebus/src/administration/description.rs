//! What the administration API tells about an entity, and what one can be told to be like. Data only.

use std::time::Duration;

/// A queue or a subscription as the service describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EntityDescription {
    /// A queue's path in the namespace, or a subscription's own name, as the service writes it.
    pub name: String,
    /// What it holds.
    pub counts: EntityCounts,
    /// Whether it takes and gives messages.
    pub status: EntityStatus,
    /// How long a lock lives without being renewed. [`Duration::MAX`] where the service says "never".
    pub lock_duration: Duration,
    /// After how many failed deliveries a message is dead-lettered, ≥ 1.
    pub max_delivery_count: u32,
    /// Whether messages are received by session only.
    pub requires_session: bool,
}

/// The five message counts of a queue or subscription (`CountDetails`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct EntityCounts {
    /// Deliverable messages; on Azure believed to include locked ones.
    pub active: u64,
    /// Messages in the dead-letter sub-queue.
    pub dead_letter: u64,
    /// Messages scheduled for later.
    pub scheduled: u64,
    /// Messages waiting to be forwarded.
    pub transfer: u64,
    /// Messages that could not be forwarded.
    pub transfer_dead_letter: u64,
}

/// The `Status` of a queue or subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntityStatus {
    /// Everything works.
    Active,
    /// Neither sends nor receives.
    Disabled,
    /// Receives work, sends do not.
    SendDisabled,
    /// Sends work, receives do not.
    ReceiveDisabled,
    /// Any other, such as `Creating` or `Restoring`, in the service's word.
    Other(String),
}

impl EntityStatus {
    /// The service's word for it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Active => "Active",
            Self::Disabled => "Disabled",
            Self::SendDisabled => "SendDisabled",
            Self::ReceiveDisabled => "ReceiveDisabled",
            Self::Other(word) => word,
        }
    }
}

impl From<String> for EntityStatus {
    fn from(word: String) -> Self {
        match word.as_str() {
            "Active" => Self::Active,
            "Disabled" => Self::Disabled,
            "SendDisabled" => Self::SendDisabled,
            "ReceiveDisabled" => Self::ReceiveDisabled,
            _ => Self::Other(word),
        }
    }
}

/// What a queue or subscription is to be like; `None` leaves it to the service: its default at creation, as it is (or again
/// its default) at a change. A new subscription takes every message of its topic.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct EntitySettings {
    /// How long a lock lives; the service allows 5 s to 5 min.
    pub lock_duration: Option<Duration>,
    /// After how many failed deliveries a message is dead-lettered, ≥ 1.
    pub max_delivery_count: Option<u32>,
    /// Whether messages are received by session only; not to be changed later.
    pub requires_session: Option<bool>,
    /// How long a message lives unless it says otherwise.
    pub default_message_time_to_live: Option<Duration>,
    /// Whether expired messages go to the dead-letter sub-queue instead of vanishing.
    pub dead_lettering_on_message_expiration: Option<bool>,
    /// Whether it takes and gives messages.
    pub status: Option<EntityStatus>,
}
