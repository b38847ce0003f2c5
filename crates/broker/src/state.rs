//! The broker's memory: queues, topics, messages, locks, receivers, as one state machine without clock or I/O.
//!
//! [`State::apply`] takes one [`Event`] and the current time and returns the [`Effect`]s the listeners must perform; it
//! never waits. All mutable state of the broker is owned here, and one task owns the [`State`]. Sessions, filters,
//! duplicate detection and transactions are not here.

mod administration;
mod arrival;
mod backlog;
mod deadlines;
mod description;
mod effect;
mod entities;
mod event;
mod lock_tokens;
mod name;
mod queue;
mod receivers;
mod rest;
#[cfg(test)]
mod tests;
mod timestamp;
mod topic;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use deadlines::Deadlines;
use entities::{Entities, send_to_subscription};
use lock_tokens::LockTokens;
use queue::Queue;
use receivers::Receivers;
use rest::Unsettled;

pub use description::{Counts, EntityStatus, QueueProperties, QueueSnapshot, TopicProperties, TopicSnapshot};
pub use effect::{DeadLetter, Delivery, Effect, Lock, MessageState, MessageView, Refusal};
pub use event::{Content, Event, LockToken, NewMessage, Outcome, ReceiveMode, ReceiverId, RequestId, SequenceNumber};
pub use name::{Address, EntityName, InvalidName, MAX_NAME_LENGTH, MAX_SUBSCRIPTION_NAME_LENGTH, Part};
pub use rest::MAX_MOVES;
pub use timestamp::Timestamp;

/// What each message counts on top of its content against its queue's size, in bytes: about what its record and its
/// places in the indexes take, so that a queue of empty messages is bounded too.
pub const MESSAGE_OVERHEAD_BYTES: u64 = 512;

/// What holds for all entities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How many queues and topics there may be at once (Service Bus: 10 000 in a namespace).
    pub max_entities: usize,
    /// How many subscriptions a topic may have (Service Bus: 2 000).
    pub max_subscriptions: usize,
    /// Whether `ActiveMessageCount` includes messages under a peek-lock. Scalers rely on it: without, a busy queue looks
    /// empty.
    pub count_locked_as_active: bool,
    /// Whether `ActiveMessageCount` includes deferred messages, as the service is believed to do.
    pub count_deferred_as_active: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_entities: 10_000,
            max_subscriptions: 2_000,
            count_locked_as_active: true,
            count_deferred_as_active: true,
        }
    }
}

/// All entities with their messages, locks and receivers.
///
/// Invariants: every message is in exactly one place (available, locked, deferred or scheduled, in a queue or subscription
/// or one of its dead-letter queues, or scheduled in a topic); a receiver never gets more than its credit; every request is
/// answered once.
#[derive(Debug)]
pub struct State<C: Content> {
    config: Config,
    entities: Entities<C>,
    /// Where each receiver is subscribed.
    receivers: HashMap<ReceiverId, Address>,
    deadlines: Deadlines,
    /// What has changed and is not at rest yet.
    unsettled: Unsettled,
    /// For each target that takes no messages at the moment, who has some for it.
    waiting: BTreeMap<EntityName, BTreeSet<EntityName>>,
    lock_tokens: LockTokens,
    now: Timestamp,
}

impl<C: Content> State<C> {
    /// An empty broker. `seed` feeds the generator of lock tokens: random in production, so that tokens cannot be
    /// guessed; fixed in tests.
    pub fn new(config: Config, seed: [u8; 32]) -> Self {
        Self {
            config,
            entities: Entities::new(),
            receivers: HashMap::new(),
            deadlines: Deadlines::default(),
            unsettled: Unsettled::default(),
            waiting: BTreeMap::new(),
            lock_tokens: LockTokens::new(seed),
            now: Timestamp::from_millis(i64::MIN),
        }
    }

    /// Lets time pass up to `now`, applies one event, and returns what to do, in order: first what time brought, then the
    /// answer, then deliveries. Never waits. A `now` earlier than one seen before counts as that one.
    pub fn apply(&mut self, event: Event<C>, now: Timestamp) -> Vec<Effect<C>> {
        self.now = self.now.max(now);
        let mut effects = Vec::new();
        for name in self.deadlines.due(self.now) {
            self.unsettled.add(name);
        }
        self.settle_down(&mut effects);
        self.handle(event, &mut effects);
        self.settle_down(&mut effects);
        effects
    }

    /// When the next lock, time to live or schedule is due: apply [`Event::Tick`] then. `None` when nothing is. The time
    /// of the last event, when it left messages to forward.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        if self.unsettled.is_empty() { self.deadlines.first() } else { Some(self.now) }
    }

    /// One queue or subscription as of the last event.
    pub fn describe(&self, name: &EntityName) -> Option<QueueSnapshot> {
        self.entities.queue(name).map(|queue| self.snapshot(queue))
    }

    /// One topic as of the last event.
    pub fn describe_topic(&self, name: &EntityName) -> Option<TopicSnapshot> {
        self.entities.topics.get(name).map(topic::Topic::snapshot)
    }

    /// All queues as of the last event, in the order of their names without regard to case. Lazy, so a page is
    /// `.skip(n).take(m)`.
    pub fn list(&self) -> impl Iterator<Item = QueueSnapshot> {
        self.entities.queues.values().map(|queue| self.snapshot(queue))
    }

    /// All topics, as [`Self::list`] does.
    pub fn list_topics(&self) -> impl Iterator<Item = TopicSnapshot> {
        self.entities.topics.values().map(topic::Topic::snapshot)
    }

    /// The subscriptions of a topic, as [`Self::list`] does; `None` when there is no such topic.
    pub fn list_subscriptions<'a>(
        &'a self,
        topic: &EntityName,
    ) -> Option<impl Iterator<Item = QueueSnapshot> + use<'a, C>> {
        let topic = self.entities.topics.get(topic)?;
        Some(topic.subscriptions.values().map(|queue| self.snapshot(queue)))
    }

    /// Whether there is an entity of this name, of whatever kind.
    pub fn exists(&self, name: &EntityName) -> bool {
        self.entities.find(name).is_some()
    }

    /// Whether messages may be sent there now; the refusal is that of a [`Event::Send`].
    pub fn check_send_allowed(&self, name: &EntityName) -> Result<(), Refusal> {
        self.entities.check_send_allowed(name)
    }

    /// Whether this token locks a message there. For clients whose tokens may arrive in either of two byte orders.
    pub fn holds_lock(&self, address: &Address, lock_token: &LockToken) -> bool {
        self.entities.queue(&address.queue).is_some_and(|queue| queue.holds_lock(address.part, lock_token))
    }

    /// The bytes that the messages of these numbers count together; 0 for one that is not there.
    pub fn size_of(&self, address: &Address, numbers: &[SequenceNumber]) -> u64 {
        let Some(queue) = self.entities.queue(&address.queue) else { return 0 };
        numbers.iter().fold(0, |sum, number| sum.saturating_add(queue.size_of(address.part, *number)))
    }

    /// Does what an event asks for and answers it. What it changes is noted as unsettled.
    fn handle(&mut self, event: Event<C>, effects: &mut Vec<Effect<C>>) {
        let now = self.now;
        match event {
            Event::Tick => {}

            Event::CreateQueue { request, name, properties } => {
                let result = self.create_queue(&name, properties);
                effects.push(Effect::Administered { request, result });
            }
            Event::CreateTopic { request, name, properties } => {
                let result = self.create_topic(name, properties);
                effects.push(Effect::Administered { request, result });
            }
            Event::UpdateQueue { request, name, properties } => {
                let result = self.update_queue(&name, properties, effects);
                effects.push(Effect::Administered { request, result });
                self.unsettle(&name);
            }
            Event::UpdateTopic { request, name, properties } => {
                let result = self.update_topic(&name, properties, effects);
                effects.push(Effect::Administered { request, result });
                self.unsettle(&name);
            }
            Event::Delete { request, name } => {
                let result = self.delete(&name, effects);
                effects.push(Effect::Administered { request, result });
            }

            Event::Send { request, to, messages } => {
                let result = self.send(&to, messages);
                effects.push(Effect::Sent { request, result });
                self.unsettle(&to);
            }
            Event::CancelScheduled { request, to, sequence_numbers } => {
                let result = self.cancel_scheduled(&to, &sequence_numbers);
                effects.push(Effect::ScheduleCancelled { request, result });
                self.unsettled.add(to);
            }

            Event::Subscribe { receiver, address, mode } => {
                let result = self.subscribe(receiver, address, mode);
                effects.push(Effect::Subscribed { receiver, result });
            }
            Event::Credit { receiver, limit } => {
                if let Some((name, receivers)) = self.receivers_of(receiver) {
                    receivers.allow(receiver, limit);
                    self.unsettled.add(name);
                }
            }
            Event::Drain { receiver } => {
                // Nothing is left to deliver: whoever has credit was served before the last event ended, and time just now.
                if let Some((_, receivers)) = self.receivers_of(receiver) {
                    receivers.void_credit(receiver);
                    effects.push(Effect::Drained { receiver });
                }
            }
            Event::Unsubscribe { receiver } => {
                if let Some((_, receivers)) = self.receivers_of(receiver) {
                    receivers.unsubscribe(receiver);
                    self.receivers.remove(&receiver);
                }
            }

            Event::Settle { request, address: Address { queue: name, part }, lock_token, outcome } => {
                let result = self.queue(&name).and_then(|queue| queue.settle(part, &lock_token, outcome, now));
                effects.push(Effect::Settled { request, result });
                self.unsettled.add(name);
            }
            Event::RenewLocks { request, address: Address { queue: name, part }, lock_tokens } => {
                let result = self.queue(&name).and_then(|queue| queue.renew_locks(part, &lock_tokens, now));
                effects.push(Effect::LocksRenewed { request, result });
                self.unsettled.add(name);
            }
            Event::ReceiveDeferred { request, address, sequence_numbers, mode } => {
                let result = self.entities.check_receive_allowed(&address).and_then(|()| {
                    match self.entities.queue_mut(&address.queue) {
                        Some(queue) => {
                            queue.receive_deferred(address.part, &sequence_numbers, mode, &mut self.lock_tokens, now)
                        }
                        None => Err(Refusal::NotFound { name: address.queue.clone() }),
                    }
                });
                effects.push(Effect::DeferredReceived { request, result });
                self.unsettled.add(address.queue);
            }
            Event::Peek { request, address: Address { queue: name, part }, from, max } => {
                let result = self.queue(&name).map(|queue| queue.peek(part, from, max));
                effects.push(Effect::Peeked { request, result });
            }
        }
    }

    fn send(&mut self, to: &EntityName, messages: Vec<NewMessage<C>>) -> Result<Vec<SequenceNumber>, Refusal> {
        let now = self.now;
        if let Some(topic) = self.entities.topics.get_mut(to) {
            return topic.send(messages, now);
        }
        let queue = self.entities.queue_mut(to).ok_or_else(|| Refusal::NotFound { name: to.clone() })?;
        if to.topic().is_some() { Err(send_to_subscription(to)) } else { queue.send(messages, now) }
    }

    fn cancel_scheduled(&mut self, to: &EntityName, numbers: &[SequenceNumber]) -> Result<(), Refusal> {
        match self.entities.topics.get_mut(to) {
            Some(topic) => topic.cancel_scheduled(numbers),
            None => self.queue(to)?.cancel_scheduled(numbers),
        }
    }

    fn subscribe(&mut self, receiver: ReceiverId, address: Address, mode: ReceiveMode) -> Result<(), Refusal> {
        if self.receivers.contains_key(&receiver) {
            return Err(Refusal::ReceiverExists { receiver });
        }
        self.entities.check_receive_allowed(&address)?;
        self.queue(&address.queue)?.receivers_mut(address.part).subscribe(receiver, mode);
        self.receivers.insert(receiver, address);
        Ok(())
    }

    /// The queue or subscription of this name, or why there is none.
    fn queue(&mut self, name: &EntityName) -> Result<&mut Queue<C>, Refusal> {
        if self.entities.queue(name).is_none() {
            return Err(self.entities.no_queue(name));
        }
        self.entities.queue_mut(name).ok_or_else(|| Refusal::NotFound { name: name.clone() })
    }

    fn receivers_of(&mut self, receiver: ReceiverId) -> Option<(EntityName, &mut Receivers)> {
        let Address { queue: name, part } = self.receivers.get(&receiver)?;
        Some((name.clone(), self.entities.queue_mut(name)?.receivers_mut(*part)))
    }

    fn forget(&mut self, receivers: &[ReceiverId]) {
        for receiver in receivers {
            self.receivers.remove(receiver);
        }
    }

    fn snapshot(&self, queue: &Queue<C>) -> QueueSnapshot {
        queue.snapshot(self.config.count_locked_as_active, self.config.count_deferred_as_active)
    }
}
