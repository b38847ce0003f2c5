//! The broker's memory: queues, messages, locks, receivers, as one state machine without clock or I/O.
//!
//! [`State::apply`] takes one [`Event`] and the current time and returns the [`Effect`]s the listeners must perform; it
//! never waits. All mutable state of the broker is owned here, and one task owns the [`State`]. Topics, sessions,
//! forwarding, duplicate detection and transactions are not here yet.

mod backlog;
mod deadlines;
mod description;
mod effect;
mod event;
mod lock_tokens;
mod name;
mod queue;
mod receivers;
#[cfg(test)]
mod tests;
mod timestamp;

use std::collections::{BTreeMap, HashMap};

use deadlines::Deadlines;
use lock_tokens::LockTokens;
use queue::Queue;
use receivers::Receivers;

pub use description::{Counts, EntityStatus, QueueProperties, QueueSnapshot};
pub use effect::{DeadLetter, Delivery, Effect, Lock, MessageState, MessageView, Refusal};
pub use event::{Content, Event, LockToken, NewMessage, Outcome, ReceiveMode, ReceiverId, RequestId, SequenceNumber};
pub use name::{Address, EntityName, InvalidName, MAX_NAME_LENGTH, Part};
pub use timestamp::Timestamp;

/// What each message counts on top of its content against its queue's size, in bytes: about what its record and its
/// places in the indexes take, so that a queue of empty messages is bounded too.
pub const MESSAGE_OVERHEAD_BYTES: u64 = 512;

/// What holds for all queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How many queues there may be at once (Service Bus: 10 000 in a namespace).
    pub max_queues: usize,
    /// Whether `ActiveMessageCount` includes messages under a peek-lock. Scalers rely on it: without, a busy queue looks
    /// empty.
    pub count_locked_as_active: bool,
    /// Whether `ActiveMessageCount` includes deferred messages, as the service is believed to do.
    pub count_deferred_as_active: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_queues: 10_000, count_locked_as_active: true, count_deferred_as_active: true }
    }
}

/// All queues with their messages, locks and receivers.
///
/// Invariants: every message is in exactly one place (available, locked, deferred or scheduled, in the queue or in its
/// dead-letter queue); a receiver never gets more than its credit; every request is answered once.
#[derive(Debug)]
pub struct State<C: Content> {
    config: Config,
    queues: BTreeMap<EntityName, Queue<C>>,
    /// Where each receiver is subscribed.
    receivers: HashMap<ReceiverId, Address>,
    deadlines: Deadlines,
    lock_tokens: LockTokens,
    now: Timestamp,
}

impl<C: Content> State<C> {
    /// An empty broker. `seed` feeds the generator of lock tokens: random in production, so that tokens cannot be
    /// guessed; fixed in tests.
    pub fn new(config: Config, seed: [u8; 32]) -> Self {
        Self {
            config,
            queues: BTreeMap::new(),
            receivers: HashMap::new(),
            deadlines: Deadlines::default(),
            lock_tokens: LockTokens::new(seed),
            now: Timestamp::from_millis(i64::MIN),
        }
    }

    /// Lets time pass up to `now`, applies one event, and returns what to do, in order: first what time brought, then the
    /// answer, then deliveries. Never waits. A `now` earlier than one seen before counts as that one.
    pub fn apply(&mut self, event: Event<C>, now: Timestamp) -> Vec<Effect<C>> {
        self.now = self.now.max(now);
        let now = self.now;
        let mut effects = Vec::new();
        for name in self.deadlines.due(now) {
            self.settle_down(&name, &mut effects);
        }
        match event {
            Event::Tick => {}

            Event::CreateQueue { request, name, properties } => {
                let result = self.create(name, properties);
                effects.push(Effect::Administered { request, result });
            }
            Event::UpdateQueue { request, name, properties } => {
                let result = self.update(&name, properties, &mut effects);
                effects.push(Effect::Administered { request, result });
                self.settle_down(&name, &mut effects);
            }
            Event::DeleteQueue { request, name } => {
                let result = self.delete(&name, &mut effects);
                effects.push(Effect::Administered { request, result });
            }

            Event::Send { request, queue: name, messages } => {
                let result = self.queue(&name).and_then(|queue| queue.send(messages, now));
                effects.push(Effect::Sent { request, result });
                self.settle_down(&name, &mut effects);
            }
            Event::CancelScheduled { request, queue: name, sequence_numbers } => {
                let result = self.queue(&name).and_then(|queue| queue.cancel_scheduled(&sequence_numbers));
                effects.push(Effect::ScheduleCancelled { request, result });
                self.settle_down(&name, &mut effects);
            }

            Event::Subscribe { receiver, address, mode } => {
                let result = self.subscribe(receiver, address, mode);
                effects.push(Effect::Subscribed { receiver, result });
            }
            Event::Credit { receiver, limit } => {
                if let Some((name, receivers)) = self.receivers_of(receiver) {
                    receivers.allow(receiver, limit);
                    self.settle_down(&name, &mut effects);
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
                self.settle_down(&name, &mut effects);
            }
            Event::RenewLocks { request, address: Address { queue: name, part }, lock_tokens } => {
                let result = self.queue(&name).and_then(|queue| queue.renew_locks(part, &lock_tokens, now));
                effects.push(Effect::LocksRenewed { request, result });
                self.settle_down(&name, &mut effects);
            }
            Event::ReceiveDeferred { request, address: Address { queue: name, part }, sequence_numbers, mode } => {
                let result = match self.queues.get_mut(&name) {
                    Some(queue) => queue.receive_deferred(part, &sequence_numbers, mode, &mut self.lock_tokens, now),
                    None => Err(Refusal::NotFound { name: name.clone() }),
                };
                effects.push(Effect::DeferredReceived { request, result });
                self.settle_down(&name, &mut effects);
            }
            Event::Peek { request, address: Address { queue: name, part }, from, max } => {
                let result = self.queue(&name).map(|queue| queue.peek(part, from, max));
                effects.push(Effect::Peeked { request, result });
            }
        }
        effects
    }

    /// When the next lock, time to live or schedule is due: apply [`Event::Tick`] then. `None` when nothing is.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.first()
    }

    /// One queue as of the last event.
    pub fn describe(&self, name: &EntityName) -> Option<QueueSnapshot> {
        self.queues.get(name).map(|queue| self.snapshot(queue))
    }

    /// All queues as of the last event, in the order of their names without regard to case. Lazy, so a page is
    /// `.skip(n).take(m)`.
    pub fn list(&self) -> impl Iterator<Item = QueueSnapshot> {
        self.queues.values().map(|queue| self.snapshot(queue))
    }

    /// Whether this token locks a message there. For clients whose tokens may arrive in either of two byte orders.
    pub fn holds_lock(&self, address: &Address, lock_token: &LockToken) -> bool {
        self.queues.get(&address.queue).is_some_and(|queue| queue.holds_lock(address.part, lock_token))
    }

    fn create(&mut self, name: EntityName, properties: QueueProperties) -> Result<(), Refusal> {
        if let Some(queue) = self.queues.get(&name) {
            return Err(Refusal::AlreadyExists { name: queue.name.clone() });
        }
        if self.queues.len() >= self.config.max_queues {
            return Err(Refusal::TooManyQueues { max: self.config.max_queues });
        }
        self.queues.insert(name.clone(), Queue::new(name, properties, self.now));
        Ok(())
    }

    fn update(
        &mut self,
        name: &EntityName,
        properties: QueueProperties,
        effects: &mut Vec<Effect<C>>,
    ) -> Result<(), Refusal> {
        let now = self.now;
        let queue = self.queue(name)?;
        queue.properties = properties;
        queue.updated_at = now;
        if let Err(reason) = queue.check_receive_allowed() {
            let gone = detach_all(queue, &reason, effects);
            self.forget(&gone);
        }
        Ok(())
    }

    fn delete(&mut self, name: &EntityName, effects: &mut Vec<Effect<C>>) -> Result<(), Refusal> {
        let not_found = || Refusal::NotFound { name: name.clone() };
        let mut queue = self.queues.remove(name).ok_or_else(not_found)?;
        self.deadlines.set(name, None);
        let reason = Refusal::NotFound { name: queue.name.clone() };
        let gone = detach_all(&mut queue, &reason, effects);
        self.forget(&gone);
        effects.push(Effect::QueueDeleted { name: queue.name });
        Ok(())
    }

    fn subscribe(&mut self, receiver: ReceiverId, address: Address, mode: ReceiveMode) -> Result<(), Refusal> {
        if self.receivers.contains_key(&receiver) {
            return Err(Refusal::ReceiverExists { receiver });
        }
        let queue = self.queue(&address.queue)?;
        queue.check_receive_allowed()?;
        queue.receivers_mut(address.part).subscribe(receiver, mode);
        self.receivers.insert(receiver, address);
        Ok(())
    }

    /// Brings a queue to rest after a change: nothing overdue, nobody with credit beside an available message.
    fn settle_down(&mut self, name: &EntityName, effects: &mut Vec<Effect<C>>) {
        if let Some(queue) = self.queues.get_mut(name) {
            queue.let_time_pass(self.now);
            queue.deliver(&mut self.lock_tokens, self.now, effects);
            self.deadlines.set(name, queue.next_deadline());
        }
    }

    fn queue(&mut self, name: &EntityName) -> Result<&mut Queue<C>, Refusal> {
        self.queues.get_mut(name).ok_or_else(|| Refusal::NotFound { name: name.clone() })
    }

    fn receivers_of(&mut self, receiver: ReceiverId) -> Option<(EntityName, &mut Receivers)> {
        let Address { queue: name, part } = self.receivers.get(&receiver)?;
        Some((name.clone(), self.queues.get_mut(name)?.receivers_mut(*part)))
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

fn detach_all<C: Content>(queue: &mut Queue<C>, reason: &Refusal, effects: &mut Vec<Effect<C>>) -> Vec<ReceiverId> {
    let mut gone: Vec<ReceiverId> = queue.receivers_mut(Part::Main).clear().collect();
    gone.extend(queue.receivers_mut(Part::DeadLetter).clear());
    effects.extend(gone.iter().map(|receiver| Effect::Detach { receiver: *receiver, reason: reason.clone() }));
    gone
}
