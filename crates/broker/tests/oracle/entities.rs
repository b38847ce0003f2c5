//! The model's entities: what the administration API does with them, what they hold, and how they are found.

use broker::state::{
    Address, Counts, Effect, EntityName, EntityStatus, MessageState, Part, QueueProperties, QueueSnapshot, ReceiverId,
    Refusal, TopicProperties, TopicSnapshot,
};

use super::{
    Body,
    model::Model,
    record::{Message, Queue, Topic},
};

impl Model {
    /// All queues, topics and subscriptions, each in the order of their names.
    pub(super) fn list(&self) -> (Vec<QueueSnapshot>, Vec<TopicSnapshot>, Vec<QueueSnapshot>) {
        let mut queues: Vec<&Queue> = self.queues.iter().collect();
        queues.sort_by_key(|queue| queue.name.as_str().to_lowercase());
        let described = |of_topic| {
            let wanted = queues.iter().filter(move |queue| queue.name.topic().is_some() == of_topic);
            wanted.map(|queue| self.describe(queue)).collect()
        };
        let mut topics: Vec<&Topic> = self.topics.iter().collect();
        topics.sort_by_key(|topic| topic.name.as_str().to_lowercase());
        let topics = topics.into_iter().map(|topic| TopicSnapshot {
            name: topic.name.clone(),
            properties: topic.properties.clone(),
            counts: Counts {
                scheduled: self.at(&Address::main(topic.name.clone())).count() as u64,
                ..Counts::default()
            },
            subscriptions: self.subscriptions(&topic.name).len(),
            size_bytes: self.size(&topic.name),
            created_at: topic.created_at,
            updated_at: topic.updated_at,
            accessed_at: topic.accessed_at,
        });
        (described(false), topics.collect(), described(true))
    }

    fn describe(&self, queue: &Queue) -> QueueSnapshot {
        let main: Vec<&Message> = self.at(&Address::main(queue.name.clone())).collect();
        let count = |wanted: fn(&Message) -> bool| main.iter().filter(|message| wanted(message)).count() as u64;
        let ready = count(Message::available);
        let forwards = queue.properties.forward_to.is_some();
        let (available, transfer) = if forwards { (0, ready) } else { (ready, 0) };
        let locked = count(|message| message.lock.is_some());
        let deferred = count(|message| message.lock.is_none() && message.state == MessageState::Deferred);
        let mut active = available;
        if self.config.count_locked_as_active {
            active += locked;
        }
        if self.config.count_deferred_as_active {
            active += deferred;
        }
        let part = |part| self.at(&Address { queue: queue.name.clone(), part }).count() as u64;
        QueueSnapshot {
            name: queue.name.clone(),
            properties: queue.properties.clone(),
            counts: Counts {
                active,
                dead_letter: part(Part::DeadLetter),
                scheduled: count(|message| message.state == MessageState::Scheduled),
                available,
                locked,
                deferred,
                transfer,
                transfer_dead_letter: part(Part::TransferDeadLetter),
            },
            size_bytes: self.size(&queue.name),
            created_at: queue.created_at,
            updated_at: queue.updated_at,
            accessed_at: queue.accessed_at,
        }
    }

    pub(super) fn create_queue(&mut self, name: EntityName, mut properties: QueueProperties) -> Result<(), Refusal> {
        self.check_free(&name)?;
        self.check_targets(&name, &properties, None, None)?;
        match name.topic() {
            None => self.check_number()?,
            Some(topic_name) => {
                let topic = self.topic(topic_name).ok_or_else(|| Refusal::NotFound { name: topic_name.clone() })?;
                properties.max_size_bytes = topic.properties.max_size_bytes;
                let max = self.config.max_subscriptions;
                if self.subscriptions(topic_name).len() >= max {
                    return Err(Refusal::TooManySubscriptions { topic: topic_name.clone(), max });
                }
            }
        }
        let (created_at, updated_at) = (self.now, self.now);
        self.queues.push(Queue { name, properties, numbers: 0, created_at, updated_at, accessed_at: None });
        Ok(())
    }

    pub(super) fn create_topic(&mut self, name: EntityName, properties: TopicProperties) -> Result<(), Refusal> {
        self.check_free(&name)?;
        self.check_number()?;
        let (created_at, updated_at) = (self.now, self.now);
        self.topics.push(Topic { name, properties, numbers: 0, created_at, updated_at, accessed_at: None });
        Ok(())
    }

    pub(super) fn update_queue(
        &mut self,
        name: &EntityName,
        mut properties: QueueProperties,
        effects: &mut Vec<Effect<Body>>,
    ) -> Result<(), Refusal> {
        let not_found = || Refusal::NotFound { name: name.clone() };
        let before = self.queue(name).map_err(|_| not_found())?.properties.clone();
        self.check_targets(name, &properties, before.forward_to.as_ref(), before.forward_dead_letters_to.as_ref())?;
        if let Some(topic) = name.topic().and_then(|topic| self.topic(topic)) {
            properties.max_size_bytes = topic.properties.max_size_bytes;
        }
        let now = self.now;
        let queue = self.queue_mut(name)?;
        queue.properties = properties;
        queue.updated_at = now;
        for part in Part::ALL {
            if let Err(reason) = Self::check_receive_here(self.queue(name)?, part) {
                self.detach(&Address { queue: name.clone(), part }, &reason, effects);
            }
        }
        self.wake(name);
        Ok(())
    }

    pub(super) fn update_topic(
        &mut self,
        name: &EntityName,
        properties: &TopicProperties,
        effects: &mut Vec<Effect<Body>>,
    ) -> Result<(), Refusal> {
        let now = self.now;
        let topic = self.topics.iter_mut().find(|topic| topic.name == *name);
        let topic = topic.ok_or_else(|| Refusal::NotFound { name: name.clone() })?;
        topic.properties = properties.clone();
        topic.updated_at = now;
        for subscription in self.subscriptions(name) {
            self.queue_mut(&subscription)?.properties.max_size_bytes = properties.max_size_bytes;
            if matches!(properties.status, EntityStatus::Disabled | EntityStatus::ReceiveDisabled) {
                let reason = Refusal::EntityDisabled { name: name.clone(), status: properties.status };
                self.detach_all(&subscription, &reason, effects);
            }
        }
        self.wake(name);
        Ok(())
    }

    pub(super) fn delete(&mut self, name: &EntityName, effects: &mut Vec<Effect<Body>>) -> Result<(), Refusal> {
        if self.topic(name).is_none() && self.queue(name).is_err() {
            return Err(Refusal::NotFound { name: name.clone() });
        }
        let mut gone = self.subscriptions(name);
        gone.push(name.clone());
        for name in gone {
            self.detach_all(&name, &Refusal::NotFound { name: name.clone() }, effects);
            self.queues.retain(|queue| queue.name != name);
            self.topics.retain(|topic| topic.name != name);
            self.messages.retain(|message| message.at.queue != name);
            effects.push(Effect::Deleted { name });
        }
        self.wake(name);
        Ok(())
    }

    fn detach_all(&mut self, name: &EntityName, reason: &Refusal, effects: &mut Vec<Effect<Body>>) {
        for part in Part::ALL {
            self.detach(&Address { queue: name.clone(), part }, reason, effects);
        }
    }

    fn detach(&mut self, address: &Address, reason: &Refusal, effects: &mut Vec<Effect<Body>>) {
        let mut gone: Vec<ReceiverId> =
            self.receivers.iter().filter(|one| one.at == *address).map(|one| one.id).collect();
        gone.sort_unstable();
        for receiver in gone {
            self.receivers.retain(|one| one.id != receiver);
            self.line.retain(|id| *id != receiver);
            effects.push(Effect::Detach { receiver, reason: reason.clone() });
        }
    }

    fn check_free(&self, name: &EntityName) -> Result<(), Refusal> {
        let taken = self.topic(name).is_some() || self.queue(name).is_ok();
        if taken { Err(Refusal::AlreadyExists { name: name.clone() }) } else { Ok(()) }
    }

    fn check_number(&self) -> Result<(), Refusal> {
        let number = self.topics.len() + self.queues.iter().filter(|queue| queue.name.topic().is_none()).count();
        let max = self.config.max_entities;
        if number >= max { Err(Refusal::TooManyEntities { max }) } else { Ok(()) }
    }

    /// Each new target is another queue or topic that exists.
    fn check_targets(
        &self,
        name: &EntityName,
        properties: &QueueProperties,
        forward_to: Option<&EntityName>,
        forward_dead_letters_to: Option<&EntityName>,
    ) -> Result<(), Refusal> {
        let asked = [
            (properties.forward_to.as_ref(), forward_to),
            (properties.forward_dead_letters_to.as_ref(), forward_dead_letters_to),
        ];
        for (target, before) in asked {
            let Some(target) = target else { continue };
            let exists = self.topic(target).is_some() || (self.queue(target).is_ok() && target.topic().is_none());
            if Some(target) != before && (target == name || !exists) {
                return Err(Refusal::ForwardTarget { target: target.clone() });
            }
        }
        Ok(())
    }

    pub(super) fn check_room(&self, name: &EntityName, more_bytes: u64, max_bytes: u64) -> Result<(), Refusal> {
        let size_bytes = self.size(name);
        if more_bytes > 0 && size_bytes + more_bytes > max_bytes {
            // Under the name it was created with, which is a part of texts.
            let topic = self.topic(name).map(|topic| &topic.name);
            let shown = topic.or(self.queue(name).ok().map(|queue| &queue.name)).expect("there").clone();
            return Err(Refusal::QuotaExceeded { name: shown, size_bytes, more_bytes, max_bytes });
        }
        Ok(())
    }

    /// Of a queue or subscription what is in it, of a topic what is in it and in its subscriptions.
    pub(super) fn size(&self, name: &EntityName) -> u64 {
        let counts = |message: &&Message| message.at.queue == *name || message.at.queue.topic() == Some(name);
        self.messages.iter().filter(counts).map(Message::size).sum()
    }

    pub(super) fn max_size(&self, name: &EntityName) -> u64 {
        match (self.topic(name), self.queue(name)) {
            (Some(topic), _) => topic.properties.max_size_bytes,
            (None, Ok(queue)) => queue.properties.max_size_bytes,
            (None, Err(_)) => 0,
        }
    }

    pub(super) fn topic(&self, name: &EntityName) -> Option<&Topic> {
        self.topics.iter().find(|topic| topic.name == *name)
    }

    /// The subscriptions of a topic in the order of their names.
    pub(super) fn subscriptions(&self, topic: &EntityName) -> Vec<EntityName> {
        let mut names: Vec<EntityName> =
            self.queues.iter().map(|queue| queue.name.clone()).filter(|name| name.topic() == Some(topic)).collect();
        names.sort_by_key(|name| name.as_str().to_lowercase());
        names
    }

    pub(super) fn queue(&self, name: &EntityName) -> Result<&Queue, Refusal> {
        if self.topic(name).is_some() {
            let what = "messages are received from a subscription, not from a topic";
            return Err(Refusal::NotAllowed { name: name.clone(), what });
        }
        let found = self.queues.iter().find(|queue| queue.name == *name);
        found.ok_or_else(|| Refusal::NotFound { name: name.clone() })
    }

    pub(super) fn queue_mut(&mut self, name: &EntityName) -> Result<&mut Queue, Refusal> {
        let found = self.queues.iter_mut().find(|queue| queue.name == *name);
        found.ok_or_else(|| Refusal::NotFound { name: name.clone() })
    }

    pub(super) fn next_number(&mut self, name: &EntityName) -> u64 {
        let topic = self.topics.iter_mut().find(|topic| topic.name == *name).map(|topic| &mut topic.numbers);
        let queue = self.queues.iter_mut().find(|queue| queue.name == *name).map(|queue| &mut queue.numbers);
        let numbers = topic.or(queue).expect("checked before");
        *numbers += 1;
        *numbers
    }
}
