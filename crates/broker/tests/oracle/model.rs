//! The broker as one flat list of messages that is searched from end to end for everything.
//!
//! Written to be checked by reading it beside the rules of the dialect: no index, no counter that could be computed, no
//! cleverness. Lock tokens are 1, 2, 3 … in the order in which they are given out.

use broker::state::{
    Address, Config, Counts, Delivery, Effect, EntityName, EntityStatus, Event, Lock, LockToken,
    MESSAGE_OVERHEAD_BYTES, MessageState, NewMessage, Outcome, Part, QueueProperties, QueueSnapshot, ReceiveMode,
    ReceiverId, Refusal, Timestamp,
};
use uuid::Uuid;

use super::{
    Body,
    record::{Message, Queue, Receiver, bury, expiry, fail, lock_end},
};

pub(super) struct Model {
    config: Config,
    queues: Vec<Queue>,
    messages: Vec<Message>,
    receivers: Vec<Receiver>,
    /// Receivers with credit, the one to serve next first. Those of all queues in one line: each place looks for the first
    /// of its own.
    line: Vec<ReceiverId>,
    /// How many have been given out.
    pub(super) tokens: u128,
    now: Timestamp,
}

impl Model {
    pub(super) fn new(config: Config) -> Self {
        let now = Timestamp::from_millis(0);
        Self { config, queues: vec![], messages: vec![], receivers: vec![], line: vec![], tokens: 0, now }
    }

    pub(super) fn apply(&mut self, event: Event<Body>, now: Timestamp) -> Vec<Effect<Body>> {
        self.now = self.now.max(now);
        let mut effects = vec![];
        for queue in self.due_queues() {
            self.rest(&queue, &mut effects);
        }
        match event {
            Event::Tick => {}
            Event::CreateQueue { request, name, properties } => {
                let result = self.create(name, properties);
                effects.push(Effect::Administered { request, result });
            }
            Event::CreateTopic { .. } | Event::UpdateTopic { .. } => unreachable!("no command makes topics"),
            Event::UpdateQueue { request, name, properties } => {
                let now = self.now;
                let result = self.queue(&name).map(|queue| {
                    queue.properties = properties.clone();
                    queue.updated_at = now;
                });
                if result.is_ok() && matches!(properties.status, EntityStatus::Disabled | EntityStatus::ReceiveDisabled)
                {
                    let reason = Refusal::EntityDisabled { name: name.clone(), status: properties.status };
                    self.detach(&name, &reason, &mut effects);
                }
                effects.push(Effect::Administered { request, result });
                self.rest(&name, &mut effects);
            }
            Event::Delete { request, name } => {
                let result = self.queue(&name).map(|_| ());
                if result.is_ok() {
                    self.detach(&name, &Refusal::NotFound { name: name.clone() }, &mut effects);
                    self.queues.retain(|queue| queue.name != name);
                    self.messages.retain(|message| message.at.queue != name);
                    effects.push(Effect::Deleted { name });
                }
                effects.push(Effect::Administered { request, result });
            }
            Event::Send { request, to: queue, messages } => {
                let result = self.send(&queue, messages);
                effects.push(Effect::Sent { request, result });
                self.rest(&queue, &mut effects);
            }
            Event::CancelScheduled { request, to: queue, sequence_numbers } => {
                let result = self.cancel(&queue, &sequence_numbers);
                effects.push(Effect::ScheduleCancelled { request, result });
            }
            Event::Subscribe { receiver, address, mode } => {
                let result = self.subscribe(receiver, address, mode);
                effects.push(Effect::Subscribed { receiver, result });
            }
            Event::Credit { receiver, limit } => {
                let Some(found) = self.receivers.iter_mut().find(|one| one.id == receiver) else { return effects };
                found.limit = limit;
                let (queue, has_credit) = (found.at.queue.clone(), found.limit > found.delivered);
                if !has_credit {
                    self.line.retain(|id| *id != receiver);
                } else if !self.line.contains(&receiver) {
                    self.line.push(receiver);
                }
                self.rest(&queue, &mut effects);
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
                self.rest(&address.queue, &mut effects);
            }
            Event::RenewLocks { request, address, lock_tokens } => {
                let result = self.renew(&address, &lock_tokens);
                effects.push(Effect::LocksRenewed { request, result });
            }
            Event::ReceiveDeferred { request, address, sequence_numbers, mode } => {
                let result = self.receive_deferred(&address, &sequence_numbers, mode);
                effects.push(Effect::DeferredReceived { request, result });
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
        effects
    }

    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
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

    pub(super) fn list(&self) -> Vec<QueueSnapshot> {
        let mut queues: Vec<&Queue> = self.queues.iter().collect();
        queues.sort_by_key(|queue| queue.name.as_str().to_lowercase());
        queues.into_iter().map(|queue| self.snapshot(queue)).collect()
    }

    fn snapshot(&self, queue: &Queue) -> QueueSnapshot {
        let main: Vec<&Message> = self.at(&Address::main(queue.name.clone())).collect();
        let count = |wanted: fn(&Message) -> bool| main.iter().filter(|message| wanted(message)).count() as u64;
        let available = count(Message::available);
        let locked = count(|message| message.lock.is_some());
        let deferred = count(|message| message.lock.is_none() && message.state == MessageState::Deferred);
        let mut active = available;
        if self.config.count_locked_as_active {
            active += locked;
        }
        if self.config.count_deferred_as_active {
            active += deferred;
        }
        QueueSnapshot {
            name: queue.name.clone(),
            properties: queue.properties.clone(),
            counts: Counts {
                active,
                dead_letter: self.at(&Address::dead_letter(queue.name.clone())).count() as u64,
                scheduled: count(|message| message.state == MessageState::Scheduled),
                available,
                locked,
                deferred,
                ..Counts::default()
            },
            size_bytes: self.size(&queue.name),
            created_at: queue.created_at,
            updated_at: queue.updated_at,
            accessed_at: queue.accessed_at,
        }
    }

    /// Queues where something is due, the one with the earliest deadline first.
    fn due_queues(&self) -> Vec<EntityName> {
        let mut due: Vec<(Timestamp, String, EntityName)> = vec![];
        for queue in &self.queues {
            let of_queue = self.messages.iter().filter(|message| message.at.queue == queue.name);
            if let Some(deadline) = of_queue.filter_map(Message::deadline).min().filter(|first| *first <= self.now) {
                due.push((deadline, queue.name.as_str().to_lowercase(), queue.name.clone()));
            }
        }
        due.sort();
        due.into_iter().map(|(_, _, name)| name).collect()
    }

    /// All that happens by itself: first what time brings, then deliveries.
    fn rest(&mut self, name: &EntityName, effects: &mut Vec<Effect<Body>>) {
        let now = self.now;
        let Ok(queue) = self.queue(name) else { return };
        let properties = queue.properties.clone();

        let mut activated: Vec<(Option<Timestamp>, u64)> = self
            .at(&Address::main(name.clone()))
            .filter(|message| message.state == MessageState::Scheduled && message.scheduled_for <= Some(now))
            .map(|message| (message.scheduled_for, message.number))
            .collect();
        activated.sort_unstable();
        for (_, old_number) in activated {
            let number = self.next_number(name);
            let message = self.find(&Address::main(name.clone()), old_number).expect("just seen");
            message.number = number;
            message.state = MessageState::Active;
            message.enqueued_at = now;
            message.expires_at = expiry(message.time_to_live, &properties, now);
        }

        for message in self.messages.iter_mut().filter(|message| message.at.queue == *name) {
            if message.lock.is_some_and(|lock| lock.until <= now) {
                fail(message, &properties);
            }
        }

        let expired = |message: &Message| {
            message.at == Address::main(name.clone())
                && message.available()
                && message.expires_at.is_some_and(|end| end <= now)
        };
        if properties.dead_letter_on_expiration {
            for message in self.messages.iter_mut().filter(|message| expired(message)) {
                bury(message, Some("TTLExpiredException"), Some("The message expired and was dead lettered."));
            }
        } else {
            self.messages.retain(|message| !expired(message));
        }

        for address in [Address::main(name.clone()), Address::dead_letter(name.clone())] {
            while let Some(number) = self.at(&address).filter(|one| one.available()).map(|one| one.number).min() {
                let belongs = |id: &ReceiverId| self.receivers.iter().any(|one| one.id == *id && one.at == address);
                let Some(position) = self.line.iter().position(belongs) else { break };
                let id = self.line.remove(position);
                let receiver = self.receivers.iter_mut().find(|one| one.id == id).expect("in line");
                receiver.delivered += 1;
                let mode = receiver.mode;
                if receiver.delivered < receiver.limit {
                    self.line.push(id);
                }
                let delivery = self.hand_out(&address, number, mode);
                effects.push(Effect::Deliver { receiver: id, delivery });
            }
        }
    }

    fn create(&mut self, name: EntityName, properties: QueueProperties) -> Result<(), Refusal> {
        if self.queue(&name).is_ok() {
            return Err(Refusal::AlreadyExists { name });
        }
        if self.queues.len() == self.config.max_entities {
            return Err(Refusal::TooManyEntities { max: self.config.max_entities });
        }
        let (created_at, updated_at) = (self.now, self.now);
        self.queues.push(Queue { name, properties, numbers: 0, created_at, updated_at, accessed_at: None });
        Ok(())
    }

    fn send(&mut self, name: &EntityName, messages: Vec<NewMessage<Body>>) -> Result<Vec<u64>, Refusal> {
        let now = self.now;
        let properties = self.queue(name)?.properties.clone();
        if matches!(properties.status, EntityStatus::Disabled | EntityStatus::SendDisabled) {
            return Err(Refusal::EntityDisabled { name: name.clone(), status: properties.status });
        }
        let more: u64 = messages.iter().map(|message| message.content.bytes + MESSAGE_OVERHEAD_BYTES).sum();
        self.check_room(name, more, properties.max_size_bytes)?;
        self.queue(name)?.accessed_at = Some(now);
        let mut numbers = vec![];
        for message in messages {
            let number = self.next_number(name);
            let waits = message.scheduled_for.is_some_and(|due| due > now);
            self.messages.push(Message {
                at: Address::main(name.clone()),
                number,
                body: message.content,
                enqueued_at: now,
                time_to_live: message.time_to_live,
                expires_at: if waits { None } else { expiry(message.time_to_live, &properties, now) },
                scheduled_for: message.scheduled_for,
                failures: 0,
                dead_letter: None,
                dead_letter_bytes: 0,
                lock: None,
                state: if waits { MessageState::Scheduled } else { MessageState::Active },
            });
            numbers.push(number);
        }
        Ok(numbers)
    }

    fn cancel(&mut self, name: &EntityName, numbers: &[u64]) -> Result<(), Refusal> {
        self.queue(name)?;
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
        self.check_receive(&at.queue)?;
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
                message.dead_letter_bytes =
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
        self.queue(&address.queue)?.accessed_at = Some(now);
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
        self.check_receive(&address.queue)?;
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

    fn hand_out(&mut self, address: &Address, number: u64, mode: ReceiveMode) -> Delivery<Body> {
        let now = self.now;
        let queue = self.queue(&address.queue).expect("holds the message");
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

    fn detach(&mut self, name: &EntityName, reason: &Refusal, effects: &mut Vec<Effect<Body>>) {
        let mut gone: Vec<(Part, ReceiverId)> =
            self.receivers.iter().filter(|one| one.at.queue == *name).map(|one| (one.at.part, one.id)).collect();
        gone.sort_unstable();
        for (_, receiver) in gone {
            self.receivers.retain(|one| one.id != receiver);
            self.line.retain(|id| *id != receiver);
            effects.push(Effect::Detach { receiver, reason: reason.clone() });
        }
    }

    fn check_receive(&mut self, name: &EntityName) -> Result<(), Refusal> {
        let status = self.queue(name)?.properties.status;
        match status {
            EntityStatus::Active | EntityStatus::SendDisabled => Ok(()),
            EntityStatus::Disabled | EntityStatus::ReceiveDisabled => {
                Err(Refusal::EntityDisabled { name: name.clone(), status })
            }
        }
    }

    fn check_room(&self, name: &EntityName, more_bytes: u64, max_bytes: u64) -> Result<(), Refusal> {
        let size_bytes = self.size(name);
        if more_bytes > 0 && size_bytes + more_bytes > max_bytes {
            return Err(Refusal::QuotaExceeded { name: name.clone(), size_bytes, more_bytes, max_bytes });
        }
        Ok(())
    }

    fn size(&self, name: &EntityName) -> u64 {
        self.messages.iter().filter(|message| message.at.queue == *name).map(Message::size).sum()
    }

    fn queue(&mut self, name: &EntityName) -> Result<&mut Queue, Refusal> {
        let found = self.queues.iter_mut().find(|queue| queue.name == *name);
        found.ok_or_else(|| Refusal::NotFound { name: name.clone() })
    }

    fn next_number(&mut self, name: &EntityName) -> u64 {
        let queue = self.queue(name).expect("checked before");
        queue.numbers += 1;
        queue.numbers
    }

    fn at(&self, address: &Address) -> impl Iterator<Item = &Message> {
        self.messages.iter().filter(move |message| message.at == *address)
    }

    fn find(&mut self, address: &Address, number: u64) -> Option<&mut Message> {
        self.messages.iter_mut().find(|message| message.at == *address && message.number == number)
    }
}
