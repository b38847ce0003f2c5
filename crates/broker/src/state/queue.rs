//! One queue with its dead-letter queues: the rules of sending, locking, settling and expiring. A subscription is one too.
//!
//! Time passes here in [`Queue::let_time_pass`] and messages go out in [`Queue::deliver`]; `entities.rs` calls both after
//! every change, so between two events nothing is overdue and nobody with credit waits beside an available message.

mod forwarding;

use std::{sync::Arc, time::Duration};

use super::{
    MESSAGE_OVERHEAD_BYTES,
    arrival::Arrival,
    backlog::{Backlog, Place, Stored},
    description::{Counts, QueueProperties, QueueSnapshot},
    effect::{DeadLetter, Delivery, Effect, Lock, MessageView, Refusal},
    event::{Content, LockToken, NewMessage, Outcome, ReceiveMode, SequenceNumber},
    lock_tokens::LockTokens,
    name::{EntityName, Part},
    receivers::Receivers,
    timestamp::Timestamp,
};

/// A queue.
#[derive(Debug)]
pub(super) struct Queue<C> {
    pub(super) name: EntityName,
    pub(super) properties: QueueProperties,
    pub(super) updated_at: Timestamp,
    created_at: Timestamp,
    accessed_at: Option<Timestamp>,
    main: PartState<C>,
    dead_letter: PartState<C>,
    transfer_dead_letter: PartState<C>,
    last_sequence_number: SequenceNumber,
    size_bytes: u64,
}

/// The queue itself, or one of its dead-letter queues.
#[derive(Debug)]
struct PartState<C> {
    backlog: Backlog<C>,
    receivers: Receivers,
}

impl<C> PartState<C> {
    fn new(messages_expire: bool) -> Self {
        Self { backlog: Backlog::new(messages_expire), receivers: Receivers::default() }
    }
}

impl<C: Content> Queue<C> {
    pub(super) fn new(name: EntityName, properties: QueueProperties, now: Timestamp) -> Self {
        Self {
            name,
            properties,
            updated_at: now,
            created_at: now,
            accessed_at: None,
            main: PartState::new(true),
            dead_letter: PartState::new(false),
            transfer_dead_letter: PartState::new(false),
            last_sequence_number: 0,
            size_bytes: 0,
        }
    }

    /// Stores all messages or none, and numbers them in their order.
    pub(super) fn send(
        &mut self,
        messages: Vec<NewMessage<C>>,
        now: Timestamp,
    ) -> Result<Vec<SequenceNumber>, Refusal> {
        self.check_send_allowed()?;
        let arrivals: Vec<Arrival<C>> = messages.into_iter().map(Arrival::from).collect();
        self.check_room(arrivals.iter().fold(0, |sum, one| sum.saturating_add(one.size_bytes)))?;
        self.accessed_at = Some(now);
        Ok(arrivals.into_iter().map(|arrival| self.accept(arrival, now)).collect())
    }

    /// Stores a message, whatever the queue's status and size.
    pub(super) fn accept(&mut self, arrival: Arrival<C>, now: Timestamp) -> SequenceNumber {
        let due = arrival.scheduled_for.filter(|due| *due > now);
        let own_end = || self.expiry(arrival.time_to_live, now);
        let stored = Stored {
            content: arrival.content,
            size_bytes: arrival.size_bytes,
            enqueued_at: now,
            time_to_live: arrival.time_to_live,
            expires_at: if due.is_some() { None } else { [arrival.expires_by, own_end()].into_iter().flatten().min() },
            scheduled_for: arrival.scheduled_for,
            delivery_count: 0,
            dead_letter: arrival.dead_letter,
            origin: arrival.origin,
            place: due.map_or(Place::Available, |due| Place::Scheduled { due }),
        };
        self.size_bytes += stored.size_bytes;
        self.add(stored)
    }

    /// Takes back all of these scheduled messages, or none.
    pub(super) fn cancel_scheduled(&mut self, numbers: &[SequenceNumber]) -> Result<(), Refusal> {
        let scheduled = |number: SequenceNumber| {
            self.main.backlog.get(number).is_some_and(|message| matches!(message.place, Place::Scheduled { .. }))
        };
        if let Some(&sequence_number) = numbers.iter().find(|number| !scheduled(**number)) {
            return Err(Refusal::MessageNotFound { sequence_number });
        }
        for number in numbers {
            self.discard(Part::Main, *number);
        }
        Ok(())
    }

    /// Does what the holder of a lock decided.
    pub(super) fn settle(
        &mut self,
        part: Part,
        token: &LockToken,
        outcome: Outcome<C::Properties>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let number = self.part(part).backlog.locked_by(token).ok_or(Refusal::LockLost)?;
        match outcome {
            Outcome::Complete => self.discard(part, number),
            Outcome::Release => self.part_mut(part).backlog.unlock(number),
            Outcome::Abandon { properties } => {
                self.amend(part, number, properties.as_ref(), 0)?;
                self.fail_delivery(part, number);
            }
            Outcome::Defer { properties } => {
                self.amend(part, number, properties.as_ref(), 0)?;
                self.part_mut(part).backlog.put(number, Place::Deferred);
            }
            Outcome::DeadLetter { reason, description, properties } => {
                if part != Part::Main {
                    return Err(Refusal::AlreadyDeadLettered);
                }
                let text_bytes = [&reason, &description].into_iter().flatten().map(|text| text.len() as u64).sum();
                self.amend(part, number, properties.as_ref(), text_bytes)?;
                self.move_to_dead_letter(number, DeadLetter { reason, description });
            }
        }
        self.accessed_at = Some(now);
        Ok(())
    }

    /// Extends all of these locks, or none.
    pub(super) fn renew_locks(
        &mut self,
        part: Part,
        tokens: &[LockToken],
        now: Timestamp,
    ) -> Result<Vec<Timestamp>, Refusal> {
        let until = self.lock_end(now);
        let backlog = &mut self.part_mut(part).backlog;
        let numbers: Option<Vec<SequenceNumber>> = tokens.iter().map(|token| backlog.locked_by(token)).collect();
        for number in numbers.ok_or(Refusal::LockLost)? {
            if let Some(Place::Locked { lock, deferred }) = backlog.get(number).map(|message| message.place) {
                backlog.put(number, Place::Locked { lock: Lock { until, ..lock }, deferred });
            }
        }
        Ok(vec![until; tokens.len()])
    }

    /// Hands out all of these deferred messages, or none.
    pub(super) fn receive_deferred(
        &mut self,
        part: Part,
        numbers: &[SequenceNumber],
        mode: ReceiveMode,
        tokens: &mut LockTokens,
        now: Timestamp,
    ) -> Result<Vec<Delivery<C>>, Refusal> {
        let backlog = &self.part(part).backlog;
        let mut seen = std::collections::HashSet::new();
        let missing = numbers.iter().find(|number| {
            let deferred = backlog.get(**number).is_some_and(|message| message.place == Place::Deferred);
            !deferred || !seen.insert(**number)
        });
        if let Some(&sequence_number) = missing {
            return Err(Refusal::MessageNotFound { sequence_number });
        }
        Ok(numbers.iter().filter_map(|number| self.hand_out(part, *number, mode, tokens, now)).collect())
    }

    /// Messages in every state, from a number on.
    pub(super) fn peek(&self, part: Part, from: SequenceNumber, max: usize) -> Vec<MessageView<C>> {
        self.part(part).backlog.from(from).take(max).map(|(number, message)| message.view(number)).collect()
    }

    /// Does what is due: activates scheduled messages, ends locks, expires messages.
    pub(super) fn let_time_pass(&mut self, now: Timestamp) {
        while let Some(number) = self.main.backlog.due_scheduled(now) {
            let Some(mut message) = self.main.backlog.remove(number) else { break };
            message.enqueued_at = now;
            message.expires_at = self.expiry(message.time_to_live, now);
            message.place = Place::Available;
            self.add(message);
        }
        for part in Part::ALL {
            while let Some(number) = self.part(part).backlog.overdue_lock(now) {
                self.fail_delivery(part, number);
            }
        }
        while let Some(number) = self.main.backlog.expired(now) {
            if self.properties.dead_letter_on_expiration {
                let why = dead_letter("TTLExpiredException", "The message expired and was dead lettered.".to_owned());
                self.move_to_dead_letter(number, why);
            } else {
                self.discard(Part::Main, number);
            }
        }
    }

    /// When [`Self::let_time_pass`] has something to do next.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        let parts = [&self.main, &self.dead_letter, &self.transfer_dead_letter];
        parts.into_iter().filter_map(|part| part.backlog.next_deadline()).min()
    }

    /// Gives available messages, lowest number first, to the receivers whose turn it is.
    pub(super) fn deliver(&mut self, tokens: &mut LockTokens, now: Timestamp, effects: &mut Vec<Effect<C>>) {
        for part in Part::ALL {
            while self.part(part).receivers.anyone_in_line() {
                let Some(number) = self.part(part).backlog.first_available() else { break };
                let Some((receiver, mode)) = self.part_mut(part).receivers.take_turn() else { break };
                let delivery = self.hand_out(part, number, mode, tokens, now);
                effects.extend(delivery.map(|delivery| Effect::Deliver { receiver, delivery }));
            }
        }
    }

    pub(super) fn receivers_mut(&mut self, part: Part) -> &mut Receivers {
        &mut self.part_mut(part).receivers
    }

    pub(super) fn holds_lock(&self, part: Part, token: &LockToken) -> bool {
        self.part(part).backlog.locked_by(token).is_some()
    }

    /// The queue as the administration API shows it.
    pub(super) fn snapshot(&self, count_locked: bool, count_deferred: bool) -> QueueSnapshot {
        let backlog = &self.main.backlog;
        let [ready, locked, deferred, scheduled, dead_letter, transfer_dead_letter] = [
            backlog.available_len(),
            backlog.locked_len(),
            backlog.deferred_len(),
            backlog.scheduled_len(),
            self.dead_letter.backlog.len(),
            self.transfer_dead_letter.backlog.len(),
        ]
        .map(|count| count as u64);
        let (available, transfer) = if self.properties.forward_to.is_some() { (0, ready) } else { (ready, 0) };
        let active = available + if count_locked { locked } else { 0 } + if count_deferred { deferred } else { 0 };
        QueueSnapshot {
            name: self.name.clone(),
            properties: self.properties.clone(),
            counts: Counts {
                active,
                dead_letter,
                scheduled,
                available,
                locked,
                deferred,
                transfer,
                transfer_dead_letter,
            },
            size_bytes: self.size_bytes,
            created_at: self.created_at,
            updated_at: self.updated_at,
            accessed_at: self.accessed_at,
        }
    }

    /// What one message counts.
    pub(super) fn size_of(&self, part: Part, number: SequenceNumber) -> u64 {
        self.part(part).backlog.get(number).map_or(0, |message| message.size_bytes)
    }

    /// What its messages count, the dead-letter queues included.
    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Whether a receiver may take messages from a part. That a subscription's topic may forbid it is not known here.
    pub(super) fn check_receive_allowed(&self, part: Part) -> Result<(), Refusal> {
        let status = self.properties.status;
        if !status.allows_receive() {
            return Err(Refusal::EntityDisabled { name: self.name.clone(), status });
        }
        if self.target(part).is_some() {
            let what = "cannot create a message receiver on an entity with auto-forwarding enabled";
            return Err(Refusal::NotAllowed { name: self.name.clone(), what });
        }
        Ok(())
    }

    pub(super) fn check_send_allowed(&self) -> Result<(), Refusal> {
        let status = self.properties.status;
        if status.allows_send() { Ok(()) } else { Err(Refusal::EntityDisabled { name: self.name.clone(), status }) }
    }

    /// Whether so many bytes more fit in.
    pub(super) fn check_room(&self, more_bytes: u64) -> Result<(), Refusal> {
        self.check_room_up_to(more_bytes, self.properties.max_size_bytes)
    }

    fn check_room_up_to(&self, more_bytes: u64, max_bytes: u64) -> Result<(), Refusal> {
        if more_bytes == 0 || self.size_bytes.saturating_add(more_bytes) <= max_bytes {
            return Ok(());
        }
        Err(Refusal::QuotaExceeded { name: self.name.clone(), size_bytes: self.size_bytes, more_bytes, max_bytes })
    }

    /// Stores a message under the next number.
    fn add(&mut self, message: Stored<C>) -> SequenceNumber {
        self.last_sequence_number += 1;
        self.main.backlog.insert(self.last_sequence_number, message);
        self.last_sequence_number
    }

    /// The lesser of the sender's and the queue's time to live counts ("Message expiration" in the service's guide).
    fn expiry(&self, time_to_live: Option<Duration>, from: Timestamp) -> Option<Timestamp> {
        let spans = [time_to_live, self.properties.default_time_to_live];
        spans.into_iter().flatten().min().map(|span| from.saturating_add(span))
    }

    /// A lock lasts at least 1 ms, or it would end in the moment that gives it.
    fn lock_end(&self, now: Timestamp) -> Timestamp {
        now.saturating_add(self.properties.lock_duration.max(Duration::from_millis(1)))
    }

    fn hand_out(
        &mut self,
        part: Part,
        number: SequenceNumber,
        mode: ReceiveMode,
        tokens: &mut LockTokens,
        now: Timestamp,
    ) -> Option<Delivery<C>> {
        self.accessed_at = Some(now);
        match mode {
            ReceiveMode::PeekLock => {
                let lock = Lock { token: tokens.next(), until: self.lock_end(now) };
                let backlog = &mut self.part_mut(part).backlog;
                let deferred = backlog.get(number)?.place == Place::Deferred;
                let message = backlog.put(number, Place::Locked { lock, deferred })?;
                Some(Delivery { lock: Some(lock), message: message.view(number) })
            }
            ReceiveMode::ReceiveAndDelete => {
                let message = self.part_mut(part).backlog.remove(number)?;
                self.size_bytes -= message.size_bytes;
                Some(Delivery { lock: None, message: message.view(number) })
            }
        }
    }

    /// Ends a lock without success. In the dead-letter queue there is no maximum to reach.
    fn fail_delivery(&mut self, part: Part, number: SequenceNumber) {
        let max = self.properties.max_delivery_count;
        let backlog = &mut self.part_mut(part).backlog;
        let used = backlog.raise_delivery_count(number);
        if part == Part::Main && used >= max {
            let text = format!("Message could not be consumed after {max} delivery attempts.");
            self.move_to_dead_letter(number, dead_letter("MaxDeliveryCountExceeded", text));
        } else {
            backlog.unlock(number);
        }
    }

    /// Moves a message over, under the same number: only activation of a scheduled message changes a number
    /// (<https://github.com/MicrosoftDocs/azure-docs/issues/97032>).
    fn move_to_dead_letter(&mut self, number: SequenceNumber, why: DeadLetter) {
        let Some(mut message) = self.main.backlog.remove(number) else { return };
        message.place = Place::Available;
        message.dead_letter = Some(Arc::new(why));
        self.dead_letter.backlog.insert(number, message);
    }

    fn discard(&mut self, part: Part, number: SequenceNumber) {
        if let Some(message) = self.part_mut(part).backlog.remove(number) {
            self.size_bytes -= message.size_bytes;
        }
    }

    /// Merges a receiver's changes into a message, which also grows by `more_bytes` of text (the text of an earlier
    /// dead-lettering, forwarded to here, stays counted). A full queue leaves an eighth of its size for this, so that its
    /// messages can still be dead-lettered with a reason.
    fn amend(
        &mut self,
        part: Part,
        number: SequenceNumber,
        properties: Option<&C::Properties>,
        more_bytes: u64,
    ) -> Result<(), Refusal> {
        let Some(message) = self.part(part).backlog.get(number) else { return Ok(()) };
        let before = message.size_bytes;
        let mut content = Arc::clone(&message.content);
        let mut after = before.saturating_add(more_bytes);
        if let Some(properties) = properties {
            let unchanged = content.size_bytes();
            Arc::make_mut(&mut content).amend(properties);
            after = after.saturating_add(content.size_bytes()).saturating_sub(unchanged);
        }
        let size_bytes = after.saturating_sub(MESSAGE_OVERHEAD_BYTES);
        if after > before && size_bytes > C::MAX_BYTES {
            return Err(Refusal::MessageTooLarge { size_bytes, max_bytes: C::MAX_BYTES });
        }
        let max_bytes = self.properties.max_size_bytes.saturating_add(self.properties.max_size_bytes / 8);
        self.check_room_up_to(after.saturating_sub(before), max_bytes)?;
        self.size_bytes = self.size_bytes - before + after;
        self.part_mut(part).backlog.rewrite(number, content, after);
        Ok(())
    }

    fn part(&self, part: Part) -> &PartState<C> {
        match part {
            Part::Main => &self.main,
            Part::DeadLetter => &self.dead_letter,
            Part::TransferDeadLetter => &self.transfer_dead_letter,
        }
    }

    fn part_mut(&mut self, part: Part) -> &mut PartState<C> {
        match part {
            Part::Main => &mut self.main,
            Part::DeadLetter => &mut self.dead_letter,
            Part::TransferDeadLetter => &mut self.transfer_dead_letter,
        }
    }
}

fn dead_letter(reason: &str, description: String) -> DeadLetter {
    DeadLetter { reason: Some(reason.to_owned()), description: Some(description) }
}
