//! A message on its way into a queue, topic or subscription: sent by a client, copied by a topic, or forwarded.
//!
//! It says what the message brings along; when it expires there and which number it gets is the receiving entity's rule.

use std::{sync::Arc, time::Duration};

use super::{
    MESSAGE_OVERHEAD_BYTES,
    backlog::Origin,
    effect::DeadLetter,
    event::{Content, NewMessage},
    timestamp::Timestamp,
};

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Arrival<C> {
    pub(super) content: Arc<C>,
    /// What it counts, overhead included.
    pub(super) size_bytes: u64,
    pub(super) time_to_live: Option<Duration>,
    /// The end that it had where it comes from, and that it keeps unless an earlier one applies.
    pub(super) expires_by: Option<Timestamp>,
    pub(super) scheduled_for: Option<Timestamp>,
    pub(super) dead_letter: Option<Arc<DeadLetter>>,
    pub(super) origin: Origin,
}

impl<C: Content> From<NewMessage<C>> for Arrival<C> {
    fn from(message: NewMessage<C>) -> Self {
        let NewMessage { content, time_to_live, scheduled_for } = message;
        Self {
            size_bytes: content.size_bytes().saturating_add(MESSAGE_OVERHEAD_BYTES),
            content: Arc::new(content),
            time_to_live,
            expires_by: None,
            scheduled_for,
            dead_letter: None,
            origin: Origin::default(),
        }
    }
}

impl<C> Arrival<C> {
    /// Another of the same, sharing the content. Not `Clone`, which would ask for a content that can be cloned.
    pub(super) fn copy(&self) -> Self {
        Self {
            content: Arc::clone(&self.content),
            size_bytes: self.size_bytes,
            time_to_live: self.time_to_live,
            expires_by: self.expires_by,
            scheduled_for: self.scheduled_for,
            dead_letter: self.dead_letter.clone(),
            origin: self.origin.clone(),
        }
    }
}
