//! All queues, topics and subscriptions by name: who there is, and what each allows.
//!
//! Queues and topics share one space of names; a subscription lives in its topic. Owns no rules about messages.

use std::collections::BTreeMap;

use super::{
    effect::Refusal,
    event::Content,
    name::{Address, EntityName},
    queue::Queue,
    topic::Topic,
};

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Entities<C> {
    pub(super) queues: BTreeMap<EntityName, Queue<C>>,
    pub(super) topics: BTreeMap<EntityName, Topic<C>>,
}

impl<C: Content> Entities<C> {
    pub(super) fn new() -> Self {
        Self { queues: BTreeMap::new(), topics: BTreeMap::new() }
    }

    /// The queue or subscription of this name.
    pub(super) fn queue(&self, name: &EntityName) -> Option<&Queue<C>> {
        match name.topic() {
            Some(topic) => self.topics.get(topic)?.subscriptions.get(name),
            None => self.queues.get(name),
        }
    }

    /// The queue or subscription of this name, to change it.
    pub(super) fn queue_mut(&mut self, name: &EntityName) -> Option<&mut Queue<C>> {
        match name.topic() {
            Some(topic) => self.topics.get_mut(topic)?.subscriptions.get_mut(name),
            None => self.queues.get_mut(name),
        }
    }

    /// As first written, the name of the entity that is called so.
    pub(super) fn find(&self, name: &EntityName) -> Option<&EntityName> {
        let topic = || self.topics.get(name).map(|topic| &topic.name);
        self.queue(name).map(|queue| &queue.name).or_else(topic)
    }

    /// Whether clients may send there now.
    pub(super) fn check_send_allowed(&self, name: &EntityName) -> Result<(), Refusal> {
        if let Some(topic) = self.topics.get(name) {
            return topic.check_send_allowed();
        }
        let queue = self.queue(name).ok_or_else(|| Refusal::NotFound { name: name.clone() })?;
        if name.topic().is_some() {
            return Err(send_to_subscription(name));
        }
        queue.check_send_allowed()
    }

    /// Whether receivers may take messages there now. A status of the topic holds for its subscriptions
    /// (<https://learn.microsoft.com/dotnet/api/microsoft.servicebus.messaging.entitystatus>).
    pub(super) fn check_receive_allowed(&self, address: &Address) -> Result<(), Refusal> {
        let name = &address.queue;
        let queue = self.queue(name).ok_or_else(|| self.no_queue(name))?;
        if let Some(topic) = name.topic().and_then(|topic| self.topics.get(topic)) {
            topic.check_receive_allowed()?;
        }
        queue.check_receive_allowed(address.part)
    }

    /// Why there is no queue or subscription of this name.
    pub(super) fn no_queue(&self, name: &EntityName) -> Refusal {
        if self.topics.contains_key(name) {
            let what = "messages are received from a subscription, not from a topic";
            return Refusal::NotAllowed { name: name.clone(), what };
        }
        Refusal::NotFound { name: name.clone() }
    }
}

pub(super) fn send_to_subscription(name: &EntityName) -> Refusal {
    Refusal::NotAllowed { name: name.clone(), what: "messages are sent to a topic, not to a subscription" }
}
