//! The broker as one flat list of messages that is searched from end to end for everything.
//!
//! Written to be checked by reading it beside the rules of the dialect: no index, no counter that could be computed, no
//! cleverness. Lock tokens are 1, 2, 3 … in the order in which they are given out. What happens by itself is in `flow.rs`,
//! what the administration API does in `entities.rs`.

use broker::state::{
    Address, Config, Delivery, Effect, EntityName, EntityStatus, Event, Lock, LockToken, MESSAGE_OVERHEAD_BYTES,
    MessageState, NewMessage, Outcome, Part, QueueProperties, ReceiveMode, ReceiverId, Refusal, Timestamp,
};
use uuid::Uuid;

use super::{
    Body,
    record::{Message, Queue, Receiver, Topic, bury, expiry, fail, lock_end},
};

pub(super) struct Model {
    pub(super) config: Config,
    /// Queues and subscriptions.
    pub(super) queues: Vec<Queue>,
    pub(super) topics: Vec<Topic>,
    pub(super) messages: Vec<Message>,
    pub(super) receivers: Vec<Receiver>,
    /// Receivers with credit, the one to serve next first. Those of all queues in one line: each place looks for the first
    /// of its own.
    pub(super) line: Vec<ReceiverId>,
    /// Entities that changed, the one to look at next first.
    pub(super) changed: Vec<EntityName>,
    /// How many have been given out.
    pub(super) tokens: u128,
    pub(super) now: Timestamp,
}

impl Model {
    pub(super) fn new(config: Config) -> Self {
        Self {
            config,
            queues: vec![],
            topics: vec![],
            messages: vec![],
            receivers: vec![],
            line: vec![],
            changed: vec![],
            tokens: 0,
            now: Timestamp::from_millis(0),
        }
    }

    pub(super) fn apply(&mut self, event: Event<Body>, now: Timestamp) -> Vec<Effect<Body>> {
        self.now = self.now.max(now);
        let mut effects = vec![];
        for name in self.due() {
            self.mark(&name);
        }
        self.come_to_rest(&mut effects);
        self.handle(event, &mut effects);
        self.come_to_rest(&mut effects);
        effects
    }

    fn handle(&mut self, event: Event<Body>, effects: &mut Vec<Effect<Body>>) {
        match event {
            Event::Tick => {}
            Event::CreateQueue { request, name, properties } => {
                let result = self.create_queue(name, properties);
                effects.push(Effect::Administered { request, result });
            }
            Event::CreateTopic { request, name, properties } => {
                let result = self.create_topic(name, properties);
                effects.push(Effect::Administered { request, result });
            }
            Event::UpdateQueue { request, name, properties } => {
                let result = self.update_queue(&name, properties, effects);
                effects.push(Effect::Administered { request, result });
                self.mark_all(&name);
            }
            Event::UpdateTopic { request, name, properties } => {
                let result = self.update_topic(&name, &properties, effects);
                effects.push(Effect::Administered { request, result });
                self.mark_all(&name);
            }
            Event::Delete { request, name } => {
                let result = self.delete(&name, effects);
                effects.push(Effect::Administered { request, result });
            }
            Event::Send { request, to, messages } => {
                let result = self.send(&to, messages);
                effects.push(Effect::Sent { request, result });
                self.mark_all(&to);
            }
            Event::CancelScheduled { request, to, sequence_numbers } => {
                let result = self.cancel(&to, &sequence_numbers);
                effects.push(Effect::ScheduleCancelled { request, result });
                self.mark(&to);
            }
            Event::Subscribe { receiver, address, mode } => {
                let result = self.subscribe(receiver, address, mode);
                effects.push(Effect::Subscribed { receiver, result });
            }
            Event::Credit { receiver, limit } => {
                let Some(found) = self.receivers.iter_mut().find(|one| one.id == receiver) else { return };
                found.limit = limit;
                let (queue, has_credit) = (found.at.queue.clone(), found.limit > found.delivered);
                if !has_credit {
                    self.line.retain(|id| *id != receiver);
                } else if !self.line.contains(&receiver) {
                    self.line.push(receiver);
                }
                self.mark(&queue);
            }
            Event::Drain { receiver } => {
                if let Some(found) = self.receivers.iter_mut().find(|one| one.id == receiver) {
                    found.limit = found.delivered;
                    self.line.retain(|id| *id != receiver);
                    effects.push(Effect::Drained { receiver });
                }
            }
            Event::Unsubscribe { receiver } => {
                self.receivers.retain(|one| one.id != receiver);
                self.line.retain(|id| *id != receiver);
            }
            Event::Settle { request, address, lock_token, outcome } => {
                let result = self.settle(&address, lock_token, outcome);
                effects.push(Effect::Settled { request, result });
                self.mark(&address.queue);
            }
            Event::RenewLocks { request, address, lock_tokens } => {
                let result = self.renew(&address, &lock_tokens);
                effects.push(Effect::LocksRenewed { request, result });
                self.mark(&address.queue);
            }
            Event::ReceiveDeferred { request, address, sequence_numbers, mode } => {
                let result = self.receive_deferred(&address, &sequence_numbers, mode);
                effects.push(Effect::DeferredReceived { request, result });
                self.mark(&address.queue);
            }
            Event::Peek { request, address, from, max } => {
                let result = self.queue(&address.queue).map(|_| ()).map(|()| {
                    let mut views: Vec<_> =
                        self.at(&address).filter(|one| one.number >= from).map(Message::view).collect();
                    views.sort_by_key(|view| view.sequence_number);
                    views.truncate(max);
                    views
                });
                effects.push(Effect::Peeked { request, result });
            }
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        if !self.changed.is_empty() {
            return Some(self.now);
        }
        self.messages.iter().filter_map(Message::deadline).min()
    }

    pub(super) fn holds_lock(&self, address: &Address, token: Uuid) -> bool {
        self.at(address).any(|message| message.lock.is_some_and(|lock| lock.token == token))
    }

    /// Every lock there is, and where.
    pub(super) fn locks(&self) -> Vec<(Address, LockToken)> {
        self.messages.iter().filter_map(|message| Some((message.at.clone(), message.lock?.token))).collect()
    }

    /// The numbers of the messages in one state, locked or not.
    pub(super) fn numbers(&self, address: &Address, state: MessageState) -> Vec<u64> {
        self.at(address).filter(|message| message.state == state).map(|message| message.number).collect()
    }

    fn send(&mut self, name: &EntityName, messages: Vec<NewMessage<Body>>) -> Result<Vec<u64>, Refusal> {
        let now = self.now;
        let status = match (self.topic(name), self.queue(name)) {
            (Some(topic), _) => topic.properties.status,
            (None, Ok(_)) if name.topic().is_some() => {
                let what = "messages are sent to a topic, not to a subscription";
                return Err(Refusal::NotAllowed { name: name.clone(), what });
            }
            (None, Ok(queue)) => queue.properties.status,
            (None, Err(_)) => return Err(Refusal::NotFound { name: name.clone() }),
        };
        if matches!(status, EntityStatus::Disabled | EntityStatus::SendDisabled) {
            return Err(Refusal::EntityDisabled { name: name.clone(), status });
        }
        let waits = |message: &NewMessage<Body>| message.scheduled_for.is_some_and(|due| due > now);
        let size = |message: &NewMessage<Body>| message.content.bytes + MESSAGE_OVERHEAD_BYTES;
        let copies = if self.topic(name).is_some() { self.subscriptions(name).len() as u64 } else { 1 };
        let more: u64 = messages.iter().map(|one| if waits(one) { size(one) } else { size(one) * copies }).sum();
        self.check_room(name, more, self.max_size(name))?;
        match self.topics.iter_mut().find(|topic| topic.name == *name) {
            Some(topic) => topic.accessed_at = Some(now),
            None => self.queue_mut(name)?.accessed_at = Some(now),
        }
        let mut numbers = vec![];
        for message in messages {
            let waits = waits(&message);
            let sent = Message {
                at: Address::main(name.clone()),
                number: 0,
                body: message.content,
                enqueued_at: now,
                time_to_live: message.time_to_live,
                expires_at: None,
                scheduled_for: message.scheduled_for,
                due: message.scheduled_for,
                first_number: None,
                hops: 0,
                dead_letter_source: None,
                failures: 0,
                dead_letter: None,
                dead_letter_bytes: 0,
                lock: None,
                state: if waits { MessageState::Scheduled } else { MessageState::Active },
            };
            if waits {
                let number = self.next_number(name);
                self.messages.push(Message { number, ..sent });
                numbers.push(number);
            } else {
                numbers.push(self.arrive(name, sent));
            }
        }
        Ok(numbers)
    }

    /// An active message comes to a queue, or its copies to the subscriptions of a topic; returns its number there. The
    /// end that it has already is the latest it can have.
    pub(super) fn arrive(&mut self, name: &EntityName, message: Message) -> u64 {
        let now = self.now;
        let number = self.next_number(name);
        if let Some(topic) = self.topic(name) {
            let own_end = topic.properties.default_time_to_live.map(|span| now.saturating_add(span));
            let expires_at = [message.expires_at, own_end].into_iter().flatten().min();
            let first_number = message.first_number.or(Some(number));
            for subscription in self.subscriptions(name) {
                let copy = Message { expires_at, first_number, ..message.clone() };
                self.arrive(&subscription, copy);
            }
            return number;
        }
        let properties = self.queue(name).expect("just numbered").properties.clone();
        let own_end = expiry(message.time_to_live, &properties, now);
        self.messages.push(Message {
            at: Address::main(name.clone()),
            number,
            enqueued_at: now,
            expires_at: [message.expires_at, own_end].into_iter().flatten().min(),
            failures: 0,
            lock: None,
            state: MessageState::Active,
            ..message
        });
        number
    }

    fn cancel(&mut self, name: &EntityName, numbers: &[u64]) -> Result<(), Refusal> {
        if self.topic(name).is_none() {
            self.queue(name)?;
        }
        let address = Address::main(name.clone());
        for number in numbers {
            let found = self.find(&address, *number).is_some_and(|message| message.state == MessageState::Scheduled);
            if !found {
                return Err(Refusal::MessageNotFound { sequence_number: *number });
            }
        }
        self.messages.retain(|message| message.at != address || !numbers.contains(&message.number));
        Ok(())
    }

    fn subscribe(&mut self, id: ReceiverId, at: Address, mode: ReceiveMode) -> Result<(), Refusal> {
        if self.receivers.iter().any(|receiver| receiver.id == id) {
            return Err(Refusal::ReceiverExists { receiver: id });
        }
        self.check_receive(&at)?;
        self.receivers.push(Receiver { id, at, mode, delivered: 0, limit: 0 });
        Ok(())
    }

    fn settle(&mut self, address: &Address, token: LockToken, outcome: Outcome<Vec<u8>>) -> Result<(), Refusal> {
        let now = self.now;
        let properties = self.queue(&address.queue)?.properties.clone();
        let locked = self.at(address).find(|message| message.lock.is_some_and(|lock| lock.token == token));
        let mut message = locked.ok_or(Refusal::LockLost)?.clone();
        let (before, number) = (message.size(), message.number);
        let mut keep = true;
        match outcome {
            Outcome::Complete => keep = false,
            Outcome::Release => message.lock = None,
            Outcome::Abandon { properties: marks } => {
                message.body.marks.extend(marks.unwrap_or_default());
                fail(&mut message, &properties);
            }
            Outcome::Defer { properties: marks } => {
                message.body.marks.extend(marks.unwrap_or_default());
                message.lock = None;
                message.state = MessageState::Deferred;
            }
            Outcome::DeadLetter { reason, description, properties: marks } => {
                if address.part != Part::Main {
                    return Err(Refusal::AlreadyDeadLettered);
                }
                message.body.marks.extend(marks.unwrap_or_default());
                bury(&mut message, reason.as_deref(), description.as_deref());
                // On top of what an earlier dead-lettering, forwarded to here, counts.
                message.dead_letter_bytes +=
                    (reason.unwrap_or_default().len() + description.unwrap_or_default().len()) as u64;
            }
        }
        if keep {
            let max = properties.max_size_bytes + properties.max_size_bytes / 8;
            self.check_room(&address.queue, message.size() - before, max)?;
        }
        self.messages.retain(|one| !(one.at == *address && one.number == number));
        if keep {
            self.messages.push(message);
        }
        self.queue_mut(&address.queue)?.accessed_at = Some(now);
        Ok(())
    }

    fn renew(&mut self, address: &Address, tokens: &[LockToken]) -> Result<Vec<Timestamp>, Refusal> {
        let now = self.now;
        let until = lock_end(&self.queue(&address.queue)?.properties, now);
        if !tokens.iter().all(|token| self.holds_lock(address, *token)) {
            return Err(Refusal::LockLost);
        }
        for lock in self.messages.iter_mut().filter_map(|message| message.lock.as_mut()) {
            if tokens.contains(&lock.token) {
                lock.until = until;
            }
        }
        Ok(tokens.iter().map(|_| until).collect())
    }

    fn receive_deferred(
        &mut self,
        address: &Address,
        numbers: &[u64],
        mode: ReceiveMode,
    ) -> Result<Vec<Delivery<Body>>, Refusal> {
        self.check_receive(address)?;
        for (position, number) in numbers.iter().enumerate() {
            let deferred = self
                .find(address, *number)
                .is_some_and(|message| message.state == MessageState::Deferred && message.lock.is_none());
            if !deferred || numbers[..position].contains(number) {
                return Err(Refusal::MessageNotFound { sequence_number: *number });
            }
        }
        Ok(numbers.iter().map(|number| self.hand_out(address, *number, mode)).collect())
    }

    pub(super) fn hand_out(&mut self, address: &Address, number: u64, mode: ReceiveMode) -> Delivery<Body> {
        let now = self.now;
        let queue = self.queue_mut(&address.queue).expect("holds the message");
        queue.accessed_at = Some(now);
        let until = lock_end(&queue.properties, now);
        let message = self.find(address, number).expect("just seen");
        let view = message.view();
        if mode == ReceiveMode::ReceiveAndDelete {
            self.messages.retain(|one| !(one.at == *address && one.number == number));
            return Delivery { lock: None, message: view };
        }
        self.tokens += 1;
        let lock = Some(Lock { token: Uuid::from_u128(self.tokens), until });
        self.find(address, number).expect("just seen").lock = lock;
        Delivery { lock, message: view }
    }

    fn check_receive(&self, address: &Address) -> Result<(), Refusal> {
        let queue = self.queue(&address.queue)?;
        let disabled = |status| matches!(status, EntityStatus::Disabled | EntityStatus::ReceiveDisabled);
        if let Some(topic) = address.queue.topic().and_then(|topic| self.topic(topic)) {
            let status = topic.properties.status;
            if disabled(status) {
                return Err(Refusal::EntityDisabled { name: topic.name.clone(), status });
            }
        }
        Self::check_receive_here(queue, address.part)
    }

    /// The same without regard to the topic.
    pub(super) fn check_receive_here(queue: &Queue, part: Part) -> Result<(), Refusal> {
        let (name, status) = (queue.name.clone(), queue.properties.status);
        if matches!(status, EntityStatus::Disabled | EntityStatus::ReceiveDisabled) {
            return Err(Refusal::EntityDisabled { name, status });
        }
        let QueueProperties { forward_to, forward_dead_letters_to, .. } = &queue.properties;
        let forwards = match part {
            Part::Main => forward_to.is_some(),
            Part::DeadLetter => forward_dead_letters_to.is_some(),
            Part::TransferDeadLetter => false,
        };
        if forwards {
            let what = "cannot create a message receiver on an entity with auto-forwarding enabled";
            return Err(Refusal::NotAllowed { name, what });
        }
        Ok(())
    }

    pub(super) fn at(&self, address: &Address) -> impl Iterator<Item = &Message> {
        self.messages.iter().filter(move |message| message.at == *address)
    }

    pub(super) fn find(&mut self, address: &Address, number: u64) -> Option<&mut Message> {
        self.messages.iter_mut().find(|message| message.at == *address && message.number == number)
    }
}
