//! Creating, changing and deleting entities.
//!
//! A change that forbids receiving detaches the receivers; whoever waits to forward to a changed or deleted entity looks
//! again.

use super::{
    State,
    description::{QueueProperties, TopicProperties},
    effect::{Effect, Refusal},
    event::{Content, ReceiverId},
    name::{EntityName, Part},
    queue::Queue,
    topic::Topic,
};

impl<C: Content> State<C> {
    pub(super) fn create_queue(&mut self, name: &EntityName, mut properties: QueueProperties) -> Result<(), Refusal> {
        self.check_is_free(name)?;
        self.check_targets(name, &properties, None)?;
        let now = self.now;
        let Some(topic_name) = name.topic() else {
            self.check_number()?;
            self.entities.queues.insert(name.clone(), Queue::new(name.clone(), properties, now));
            return Ok(());
        };
        let not_found = || Refusal::NotFound { name: topic_name.clone() };
        let topic = self.entities.topics.get_mut(topic_name).ok_or_else(not_found)?;
        let max = self.config.max_subscriptions;
        if topic.subscriptions.len() >= max {
            return Err(Refusal::TooManySubscriptions { topic: topic.name.clone(), max });
        }
        properties.max_size_bytes = topic.properties.max_size_bytes;
        // The topic's name is shown as the topic was created with it.
        let name = EntityName::subscription(&topic.name, name.own_name()).unwrap_or_else(|_| name.clone());
        topic.subscriptions.insert(name.clone(), Queue::new(name, properties, now));
        Ok(())
    }

    pub(super) fn create_topic(&mut self, name: EntityName, properties: TopicProperties) -> Result<(), Refusal> {
        if name.topic().is_some() {
            return Err(Refusal::NotAllowed { name, what: "a subscription's name cannot be a topic's" });
        }
        self.check_is_free(&name)?;
        self.check_number()?;
        self.entities.topics.insert(name.clone(), Topic::new(name, properties, self.now));
        Ok(())
    }

    pub(super) fn update_queue(
        &mut self,
        name: &EntityName,
        mut properties: QueueProperties,
        effects: &mut Vec<Effect<C>>,
    ) -> Result<(), Refusal> {
        let before = self.entities.queue(name).ok_or_else(|| Refusal::NotFound { name: name.clone() })?;
        self.check_targets(name, &properties, Some(&before.properties))?;
        if let Some(topic) = name.topic().and_then(|topic| self.entities.topics.get(topic)) {
            properties.max_size_bytes = topic.properties.max_size_bytes;
        }
        self.stop_waiting(name);
        let now = self.now;
        let mut gone = Vec::new();
        if let Some(queue) = self.entities.queue_mut(name) {
            queue.properties = properties;
            queue.updated_at = now;
            for part in Part::ALL {
                if let Err(reason) = queue.check_receive_allowed(part) {
                    detach(queue, part, &reason, &mut gone, effects);
                }
            }
        }
        self.forget(&gone);
        self.wake_sources(name);
        Ok(())
    }

    pub(super) fn update_topic(
        &mut self,
        name: &EntityName,
        properties: TopicProperties,
        effects: &mut Vec<Effect<C>>,
    ) -> Result<(), Refusal> {
        let not_found = || Refusal::NotFound { name: name.clone() };
        let topic = self.entities.topics.get_mut(name).ok_or_else(not_found)?;
        topic.properties = properties;
        topic.updated_at = self.now;
        let allowed = topic.check_receive_allowed();
        let mut gone = Vec::new();
        for subscription in topic.subscriptions.values_mut() {
            subscription.properties.max_size_bytes = topic.properties.max_size_bytes;
            if let Err(reason) = &allowed {
                for part in Part::ALL {
                    detach(subscription, part, reason, &mut gone, effects);
                }
            }
        }
        self.forget(&gone);
        self.wake_sources(name);
        Ok(())
    }

    pub(super) fn delete(&mut self, name: &EntityName, effects: &mut Vec<Effect<C>>) -> Result<(), Refusal> {
        if let Some(topic) = self.entities.topics.get(name) {
            let subscriptions: Vec<EntityName> = topic.subscriptions.keys().cloned().collect();
            for subscription in &subscriptions {
                self.stop_waiting(subscription);
            }
        }
        if let Some(topic) = self.entities.topics.remove(name) {
            for mut subscription in topic.subscriptions.into_values() {
                self.remove(&mut subscription, effects);
            }
            self.deadlines.set(name, None);
            effects.push(Effect::Deleted { name: topic.name });
        } else {
            self.stop_waiting(name);
            let removed = match name.topic() {
                Some(topic) => self.entities.topics.get_mut(topic).and_then(|topic| topic.subscriptions.remove(name)),
                None => self.entities.queues.remove(name),
            };
            let mut queue = removed.ok_or_else(|| Refusal::NotFound { name: name.clone() })?;
            self.remove(&mut queue, effects);
        }
        self.wake_sources(name);
        Ok(())
    }

    /// Ends everything that belongs to a queue which is no longer among the entities.
    fn remove(&mut self, queue: &mut Queue<C>, effects: &mut Vec<Effect<C>>) {
        let reason = Refusal::NotFound { name: queue.name.clone() };
        let mut gone = Vec::new();
        for part in Part::ALL {
            detach(queue, part, &reason, &mut gone, effects);
        }
        self.forget(&gone);
        self.deadlines.set(&queue.name, None);
        effects.push(Effect::Deleted { name: queue.name.clone() });
    }

    fn check_is_free(&self, name: &EntityName) -> Result<(), Refusal> {
        match self.entities.find(name) {
            Some(name) => Err(Refusal::AlreadyExists { name: name.clone() }),
            None => Ok(()),
        }
    }

    fn check_number(&self) -> Result<(), Refusal> {
        let max = self.config.max_entities;
        let number = self.entities.queues.len() + self.entities.topics.len();
        if number < max { Ok(()) } else { Err(Refusal::TooManyEntities { max }) }
    }

    /// A destination must exist when it is chosen
    /// (<https://learn.microsoft.com/azure/service-bus-messaging/service-bus-auto-forwarding>); one that has been deleted
    /// since does not stand in the way of other changes.
    fn check_targets(
        &self,
        name: &EntityName,
        properties: &QueueProperties,
        before: Option<&QueueProperties>,
    ) -> Result<(), Refusal> {
        for (target, before) in [
            (&properties.forward_to, before.map(|before| &before.forward_to)),
            (&properties.forward_dead_letters_to, before.map(|before| &before.forward_dead_letters_to)),
        ] {
            let Some(target) = target.as_ref().filter(|target| before.is_none_or(|old| old.as_ref() != Some(*target)))
            else {
                continue;
            };
            if target == name || target.topic().is_some() || self.entities.find(target).is_none() {
                return Err(Refusal::ForwardTarget { target: target.clone() });
            }
        }
        Ok(())
    }
}

fn detach<C: Content>(
    queue: &mut Queue<C>,
    part: Part,
    reason: &Refusal,
    gone: &mut Vec<ReceiverId>,
    effects: &mut Vec<Effect<C>>,
) {
    for receiver in queue.receivers_mut(part).clear() {
        effects.push(Effect::Detach { receiver, reason: reason.clone() });
        gone.push(receiver);
    }
}
