//! What the model keeps of entities, messages and receivers, and the rules about a single message.

use std::{sync::Arc, time::Duration};

use broker::state::{
    Address, Content, DeadLetter, EntityName, Lock, MESSAGE_OVERHEAD_BYTES, MessageState, MessageView, Part,
    QueueProperties, ReceiveMode, ReceiverId, Timestamp, TopicProperties,
};

use super::Body;

/// A queue or a subscription.
pub(super) struct Queue {
    pub(super) name: EntityName,
    pub(super) properties: QueueProperties,
    pub(super) numbers: u64,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
    pub(super) accessed_at: Option<Timestamp>,
}

pub(super) struct Topic {
    pub(super) name: EntityName,
    pub(super) properties: TopicProperties,
    pub(super) numbers: u64,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
    pub(super) accessed_at: Option<Timestamp>,
}

/// A message, or one of a topic's copies. One that is scheduled on a topic is at the topic's name.
#[derive(Clone)]
pub(super) struct Message {
    pub(super) at: Address,
    pub(super) number: u64,
    pub(super) body: Body,
    pub(super) enqueued_at: Timestamp,
    pub(super) time_to_live: Option<Duration>,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) scheduled_for: Option<Timestamp>,
    /// Of a scheduled one: when it is looked at next.
    pub(super) due: Option<Timestamp>,
    /// The number where it was first sent, if that was elsewhere.
    pub(super) first_number: Option<u64>,
    pub(super) hops: u32,
    pub(super) dead_letter_source: Option<EntityName>,
    pub(super) failures: u32,
    pub(super) dead_letter: Option<DeadLetter>,
    pub(super) dead_letter_bytes: u64,
    pub(super) lock: Option<Lock>,
    pub(super) state: MessageState,
}

pub(super) struct Receiver {
    pub(super) id: ReceiverId,
    pub(super) at: Address,
    pub(super) mode: ReceiveMode,
    pub(super) delivered: u64,
    pub(super) limit: u64,
}

impl Message {
    pub(super) fn size(&self) -> u64 {
        self.body.size_bytes() + MESSAGE_OVERHEAD_BYTES + self.dead_letter_bytes
    }

    pub(super) fn available(&self) -> bool {
        self.lock.is_none() && self.state == MessageState::Active
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        match (self.lock, self.state, self.at.part) {
            (Some(lock), _, _) => Some(lock.until),
            (None, MessageState::Scheduled, _) => self.due,
            (None, MessageState::Active, Part::Main) => self.expires_at,
            _ => None,
        }
    }

    pub(super) fn view(&self) -> MessageView<Body> {
        MessageView {
            sequence_number: self.number,
            enqueue_sequence_number: self.first_number.unwrap_or(self.number),
            enqueued_at: self.enqueued_at,
            expires_at: self.expires_at,
            scheduled_for: self.scheduled_for,
            delivery_count: self.failures,
            state: self.state,
            dead_letter: self.dead_letter.clone().map(Arc::new),
            dead_letter_source: self.dead_letter_source.clone(),
            content: Arc::new(self.body.clone()),
        }
    }
}

pub(super) fn expiry(
    time_to_live: Option<Duration>,
    properties: &QueueProperties,
    from: Timestamp,
) -> Option<Timestamp> {
    let span = match (time_to_live, properties.default_time_to_live) {
        (Some(own), Some(default)) => own.min(default),
        (Some(only), None) | (None, Some(only)) => only,
        (None, None) => return None,
    };
    Some(from.saturating_add(span))
}

pub(super) fn lock_end(properties: &QueueProperties, from: Timestamp) -> Timestamp {
    from.saturating_add(properties.lock_duration.max(Duration::from_millis(1)))
}

/// A lock ended without success.
pub(super) fn fail(message: &mut Message, properties: &QueueProperties) {
    message.lock = None;
    message.failures += 1;
    if message.at.part == Part::Main && message.failures >= properties.max_delivery_count {
        let text = format!("Message could not be consumed after {} delivery attempts.", properties.max_delivery_count);
        bury(message, Some("MaxDeliveryCountExceeded"), Some(&text));
    }
}

pub(super) fn bury(message: &mut Message, reason: Option<&str>, description: Option<&str>) {
    message.at.part = Part::DeadLetter;
    message.lock = None;
    message.state = MessageState::Active;
    message.dead_letter =
        Some(DeadLetter { reason: reason.map(str::to_owned), description: description.map(str::to_owned) });
}
