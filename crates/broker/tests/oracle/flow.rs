//! What happens by itself in the model: times come, messages move on, receivers get theirs.

use broker::state::{Address, Effect, EntityName, EntityStatus, MAX_MOVES, MessageState, Part, Refusal, Timestamp};

use super::{
    Body,
    model::Model,
    record::{Message, bury, expiry, fail},
};

impl Model {
    /// Entities where something is due, the one with the earliest deadline first.
    pub(super) fn due(&self) -> Vec<EntityName> {
        let names = self.queues.iter().map(|queue| &queue.name).chain(self.topics.iter().map(|topic| &topic.name));
        let mut due: Vec<(Timestamp, String, EntityName)> = vec![];
        for name in names {
            let here = self.messages.iter().filter(|message| message.at.queue == *name);
            if let Some(deadline) = here.filter_map(Message::deadline).min().filter(|first| *first <= self.now) {
                due.push((deadline, name.as_str().to_lowercase(), name.clone()));
            }
        }
        due.sort();
        due.into_iter().map(|(_, _, name)| name).collect()
    }

    /// Notes that an entity changed.
    pub(super) fn mark(&mut self, name: &EntityName) {
        if !self.changed.contains(name) {
            self.changed.push(name.clone());
        }
    }

    /// The same, and of a topic its subscriptions.
    pub(super) fn mark_all(&mut self, name: &EntityName) {
        self.mark(name);
        for subscription in self.subscriptions(name) {
            self.mark(&subscription);
        }
    }

    /// Marks who has something to forward to this target.
    pub(super) fn wake(&mut self, target: &EntityName) {
        let mut sources: Vec<EntityName> = self.queues.iter().map(|queue| queue.name.clone()).collect();
        sources.sort_by_key(|name| name.as_str().to_lowercase());
        for name in sources {
            let has_some = [Part::Main, Part::DeadLetter].into_iter().any(|part| {
                let from = Address { queue: name.clone(), part };
                self.target(&from).as_ref() == Some(target) && self.at(&from).any(Message::available)
            });
            if has_some {
                self.mark(&name);
            }
        }
    }

    pub(super) fn come_to_rest(&mut self, effects: &mut Vec<Effect<Body>>) {
        let mut moves_left = MAX_MOVES;
        while moves_left > 0 && !self.changed.is_empty() {
            let name = self.changed.remove(0);
            if self.topic(&name).is_some() {
                if self.publish_due(&name) {
                    for subscription in self.subscriptions(&name) {
                        self.mark(&subscription);
                    }
                }
                continue;
            }
            if self.queue(&name).is_err() {
                continue;
            }
            self.let_time_pass(&name);
            for part in [Part::Main, Part::DeadLetter] {
                self.forward(&Address { queue: name.clone(), part }, &mut moves_left);
            }
            for part in Part::ALL {
                self.deliver(&Address { queue: name.clone(), part }, effects);
            }
        }
    }

    /// The scheduled messages whose time has come, in the order of their times.
    fn due_here(&self, name: &EntityName) -> Vec<u64> {
        let mut due: Vec<(Option<Timestamp>, u64)> = self
            .at(&Address::main(name.clone()))
            .filter(|message| message.state == MessageState::Scheduled && message.due <= Some(self.now))
            .map(|message| (message.due, message.number))
            .collect();
        due.sort_unstable();
        due.into_iter().map(|(_, number)| number).collect()
    }

    /// Copies what is due in a topic; what does not fit is tried again in a second. Whether anything was copied.
    fn publish_due(&mut self, topic: &EntityName) -> bool {
        let (now, here) = (self.now, Address::main(topic.clone()));
        let mut any = false;
        for number in self.due_here(topic) {
            let size = self.find(&here, number).expect("just seen").size();
            let more = (size * self.subscriptions(topic).len() as u64).saturating_sub(size);
            if self.check_room(topic, more, self.max_size(topic)).is_err() {
                let later = now.saturating_add(std::time::Duration::from_secs(1));
                self.find(&here, number).expect("just seen").due = Some(later);
                continue;
            }
            let message = self.find(&here, number).expect("just seen").clone();
            self.messages.retain(|one| !(one.at == here && one.number == number));
            self.arrive(topic, message);
            any = true;
        }
        any
    }

    fn let_time_pass(&mut self, name: &EntityName) {
        let now = self.now;
        let properties = self.queue(name).expect("there").properties.clone();
        for old_number in self.due_here(name) {
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
    }

    fn target(&self, from: &Address) -> Option<EntityName> {
        let properties = &self.queue(&from.queue).ok()?.properties;
        match from.part {
            Part::Main => properties.forward_to.clone(),
            Part::DeadLetter => properties.forward_dead_letters_to.clone(),
            Part::TransferDeadLetter => None,
        }
    }

    /// Moves messages on, the lowest number first, until one must wait.
    fn forward(&mut self, from: &Address, moves_left: &mut usize) {
        while let Some(target) = self.target(from) {
            let Some(number) = self.at(from).filter(|one| one.available()).map(|one| one.number).min() else { return };
            if *moves_left == 0 {
                return self.mark(&from.queue);
            }
            let message = self.find(from, number).expect("just seen").clone();
            let is_topic = self.topic(&target).is_some();
            let copies = if is_topic { self.subscriptions(&target).len() } else { 1 };
            let status = match (self.topic(&target), self.queue(&target)) {
                (Some(topic), _) => Some(topic.properties.status),
                (None, Ok(queue)) => Some(queue.properties.status),
                (None, Err(_)) => None,
            };
            let more = message.size() * copies as u64;
            let problem = if message.hops == 4 {
                let text = "The message has been forwarded 4 times, the most it may.".to_owned();
                Some(("MaxTransferHopCountExceeded", text))
            } else if status.is_none() {
                Some(("TransferDestinationNotFound", could_not(&Refusal::NotFound { name: target.clone() })))
            } else if matches!(status, Some(EntityStatus::Disabled | EntityStatus::SendDisabled)) {
                return;
            } else {
                let room = self.check_room(&target, more, self.max_size(&target));
                room.err().map(|full| ("TransferDestinationQuotaExceeded", could_not(&full)))
            };
            if let Some((reason, text)) = problem {
                let stranded = self.find(from, number).expect("just seen");
                bury(stranded, Some(reason), Some(&text));
                stranded.at.part = Part::TransferDeadLetter;
                *moves_left -= 1;
                continue;
            }
            self.messages.retain(|one| !(one.at == *from && one.number == number));
            let mut moved = message;
            moved.first_number = moved.first_number.or(Some(number));
            moved.hops += 1;
            if from.part == Part::DeadLetter {
                // Its time to live is over with its first life.
                moved.dead_letter_source = Some(from.queue.clone());
                moved.time_to_live = None;
                moved.expires_at = None;
            }
            self.arrive(&target, moved);
            self.mark_all(&target);
            *moves_left = moves_left.saturating_sub(copies.max(1));
        }
    }

    fn deliver(&mut self, address: &Address, effects: &mut Vec<Effect<Body>>) {
        while let Some(number) = self.at(address).filter(|one| one.available()).map(|one| one.number).min() {
            let Some(position) =
                self.line.iter().position(|id| self.receivers.iter().any(|one| one.id == *id && one.at == *address))
            else {
                break;
            };
            let id = self.line.remove(position);
            let receiver = self.receivers.iter_mut().find(|one| one.id == id).expect("in line");
            receiver.delivered += 1;
            let mode = receiver.mode;
            if receiver.delivered < receiver.limit {
                self.line.push(id);
            }
            let delivery = self.hand_out(address, number, mode);
            effects.push(Effect::Deliver { receiver: id, delivery });
        }
    }
}

fn could_not(why: &Refusal) -> String {
    format!("The message could not be forwarded: {why}.")
}
