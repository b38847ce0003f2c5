//! One topic: a copy of every message to each of its subscriptions, and the messages that wait for their time.
//!
//! Every subscription has the rule that is always true, so nothing is filtered here. A scheduled message waits in the topic
//! and is copied when its time comes; a topic too full for the copies then keeps it and tries again. Its size is that of the
//! waiting messages and of all subscriptions, so one bound holds for whatever a sender can cause.

use std::{collections::BTreeMap, time::Duration};

use super::{
    arrival::Arrival,
    backlog::{Backlog, Place, Stored},
    description::{Counts, TopicProperties, TopicSnapshot},
    effect::Refusal,
    event::{Content, NewMessage, SequenceNumber},
    name::EntityName,
    queue::Queue,
    timestamp::Timestamp,
};

/// How long a message whose time has come waits in a full topic until the next try.
const RETRY: Duration = Duration::from_secs(1);

/// A topic with its subscriptions.
#[derive(Debug)]
pub(super) struct Topic<C> {
    pub(super) name: EntityName,
    pub(super) properties: TopicProperties,
    pub(super) updated_at: Timestamp,
    pub(super) subscriptions: BTreeMap<EntityName, Queue<C>>,
    created_at: Timestamp,
    accessed_at: Option<Timestamp>,
    scheduled: Backlog<C>,
    scheduled_bytes: u64,
    last_sequence_number: SequenceNumber,
}

impl<C: Content> Topic<C> {
    pub(super) fn new(name: EntityName, properties: TopicProperties, now: Timestamp) -> Self {
        Self {
            name,
            properties,
            updated_at: now,
            subscriptions: BTreeMap::new(),
            created_at: now,
            accessed_at: None,
            scheduled: Backlog::new(false),
            scheduled_bytes: 0,
            last_sequence_number: 0,
        }
    }

    /// Takes all messages or none, and numbers them in their order. The copies have numbers of their own.
    pub(super) fn send(
        &mut self,
        messages: Vec<NewMessage<C>>,
        now: Timestamp,
    ) -> Result<Vec<SequenceNumber>, Refusal> {
        self.check_send_allowed()?;
        let arrivals: Vec<Arrival<C>> = messages.into_iter().map(Arrival::from).collect();
        let waits = |arrival: &Arrival<C>| arrival.scheduled_for.is_some_and(|due| due > now);
        let more_bytes = arrivals.iter().fold(0_u64, |sum, one| {
            let stored = if waits(one) { one.size_bytes } else { self.size_of_copies(one.size_bytes) };
            sum.saturating_add(stored)
        });
        self.check_room(more_bytes)?;
        self.accessed_at = Some(now);
        let numbers = arrivals.into_iter().map(|arrival| match arrival.scheduled_for.filter(|due| *due > now) {
            Some(due) => self.schedule(arrival, due, now),
            None => self.publish(arrival, now),
        });
        Ok(numbers.collect())
    }

    /// Gives a copy to each subscription, whatever status and size; returns the number in the topic.
    pub(super) fn publish(&mut self, mut arrival: Arrival<C>, now: Timestamp) -> SequenceNumber {
        let number = self.next_number();
        let own_end = self.properties.default_time_to_live.map(|span| now.saturating_add(span));
        arrival.expires_by = [arrival.expires_by, own_end].into_iter().flatten().min();
        arrival.origin.number = arrival.origin.number.or(Some(number));
        for subscription in self.subscriptions.values_mut() {
            subscription.accept(arrival.copy(), now);
        }
        number
    }

    /// Takes back all of these scheduled messages, or none.
    pub(super) fn cancel_scheduled(&mut self, numbers: &[SequenceNumber]) -> Result<(), Refusal> {
        if let Some(&sequence_number) = numbers.iter().find(|number| self.scheduled.get(**number).is_none()) {
            return Err(Refusal::MessageNotFound { sequence_number });
        }
        for number in numbers {
            if let Some(message) = self.scheduled.remove(*number) {
                self.scheduled_bytes -= message.size_bytes;
            }
        }
        Ok(())
    }

    /// Copies the scheduled messages whose time has come; whether there were any.
    pub(super) fn let_time_pass(&mut self, now: Timestamp) -> bool {
        let mut any = false;
        while let Some(number) = self.scheduled.due_scheduled(now) {
            let Some(message) = self.scheduled.get(number) else { break };
            let more_bytes = self.size_of_copies(message.size_bytes).saturating_sub(message.size_bytes);
            if self.check_room(more_bytes).is_err() {
                self.scheduled.put(number, Place::Scheduled { due: now.saturating_add(RETRY) });
                continue;
            }
            let Some(message) = self.scheduled.remove(number) else { break };
            self.scheduled_bytes -= message.size_bytes;
            let arrival = Arrival {
                content: message.content,
                size_bytes: message.size_bytes,
                time_to_live: message.time_to_live,
                expires_by: None,
                scheduled_for: message.scheduled_for,
                dead_letter: None,
                origin: message.origin,
            };
            self.publish(arrival, now);
            any = true;
        }
        any
    }

    /// When [`Self::let_time_pass`] has something to do next.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.scheduled.next_deadline()
    }

    /// The topic as the administration API shows it.
    pub(super) fn snapshot(&self) -> TopicSnapshot {
        TopicSnapshot {
            name: self.name.clone(),
            properties: self.properties.clone(),
            counts: Counts { scheduled: self.scheduled.len() as u64, ..Counts::default() },
            subscriptions: self.subscriptions.len(),
            size_bytes: self.size_bytes(),
            created_at: self.created_at,
            updated_at: self.updated_at,
            accessed_at: self.accessed_at,
        }
    }

    pub(super) fn check_send_allowed(&self) -> Result<(), Refusal> {
        let status = self.properties.status;
        if status.allows_send() { Ok(()) } else { Err(Refusal::EntityDisabled { name: self.name.clone(), status }) }
    }

    /// Whether messages may be received from its subscriptions.
    pub(super) fn check_receive_allowed(&self) -> Result<(), Refusal> {
        let status = self.properties.status;
        if status.allows_receive() { Ok(()) } else { Err(Refusal::EntityDisabled { name: self.name.clone(), status }) }
    }

    /// Whether so many bytes more fit in.
    pub(super) fn check_room(&self, more_bytes: u64) -> Result<(), Refusal> {
        let (size_bytes, max_bytes) = (self.size_bytes(), self.properties.max_size_bytes);
        if more_bytes == 0 || size_bytes.saturating_add(more_bytes) <= max_bytes {
            return Ok(());
        }
        Err(Refusal::QuotaExceeded { name: self.name.clone(), size_bytes, more_bytes, max_bytes })
    }

    /// What the copies of a message count together.
    pub(super) fn size_of_copies(&self, size_bytes: u64) -> u64 {
        size_bytes.saturating_mul(self.subscriptions.len() as u64)
    }

    fn size_bytes(&self) -> u64 {
        self.subscriptions.values().fold(self.scheduled_bytes, |sum, one| sum.saturating_add(one.size_bytes()))
    }

    fn schedule(&mut self, arrival: Arrival<C>, due: Timestamp, now: Timestamp) -> SequenceNumber {
        let number = self.next_number();
        self.scheduled_bytes += arrival.size_bytes;
        let message = Stored {
            content: arrival.content,
            size_bytes: arrival.size_bytes,
            enqueued_at: now,
            time_to_live: arrival.time_to_live,
            expires_at: None,
            scheduled_for: arrival.scheduled_for,
            delivery_count: 0,
            dead_letter: None,
            origin: arrival.origin,
            place: Place::Scheduled { due },
        };
        self.scheduled.insert(number, message);
        number
    }

    fn next_number(&mut self) -> SequenceNumber {
        self.last_sequence_number += 1;
        self.last_sequence_number
    }
}
