//! What must be true of the effects whatever the rules are: nothing lost, nothing held twice, no credit overdrawn, one
//! answer for each request, numbers without gaps.
//!
//! Knows only events, effects and what a peek shows; nothing of the model.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use broker::state::{
    Address, Delivery, Effect, EntityName, Event, LockToken, MessageState, MessageView, Outcome, Part, ReceiverId,
    RequestId, State, Timestamp,
};
use proptest::{prelude::*, test_runner::TestCaseError};

use super::{
    Body,
    commands::{self, World},
};

#[derive(Default)]
pub(super) struct Ledger {
    /// What every place held after the last step, by the id of the message.
    held: BTreeMap<u32, (Address, MessageView<Body>)>,
    /// Under whose lock a message is, and until when.
    locks: HashMap<u32, (LockToken, Timestamp)>,
    receivers: HashMap<ReceiverId, Account>,
    /// All numbers each of the present queues has given.
    numbers: BTreeMap<EntityName, BTreeSet<u64>>,
    now: Option<Timestamp>,
}

struct Account {
    address: Address,
    delivered: u64,
    limit: u64,
}

impl Ledger {
    /// Follows one step.
    pub(super) fn check(
        &mut self,
        state: &mut State<Body>,
        event: &Event<Body>,
        effects: &[Effect<Body>],
        now: Timestamp,
    ) -> Result<(), TestCaseError> {
        let now = self.now.map_or(now, |before| before.max(now));
        self.now = Some(now);
        check_answers(event, effects)?;
        // What time brought came under the old limit, the rest under the new one.
        if let Event::Credit { receiver, limit } = event
            && let Some(account) = self.receivers.get_mut(receiver)
        {
            account.limit = account.limit.max(*limit);
        }
        let gone = self.follow_effects(event, effects, now)?;
        self.check_places(state, event, &gone, now)?;
        match event {
            Event::Credit { receiver, limit } => {
                if let Some(account) = self.receivers.get_mut(receiver) {
                    account.limit = *limit;
                }
            }
            Event::Drain { receiver } => {
                if let Some(account) = self.receivers.get_mut(receiver) {
                    account.limit = account.delivered;
                }
            }
            Event::Unsubscribe { receiver } => {
                self.receivers.remove(receiver);
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn check_numbers_are_gap_free(&self) -> Result<(), TestCaseError> {
        for (queue, numbers) in &self.numbers {
            let expected: BTreeSet<u64> = (1..=numbers.len() as u64).collect();
            prop_assert_eq!(numbers, &expected, "numbers of {}", queue);
        }
        Ok(())
    }

    /// Goes through the effects in their order; returns the ids of the messages that went for good.
    fn follow_effects(
        &mut self,
        event: &Event<Body>,
        effects: &[Effect<Body>],
        now: Timestamp,
    ) -> Result<BTreeSet<u32>, TestCaseError> {
        let mut gone = BTreeSet::new();
        for effect in effects {
            match effect {
                Effect::Subscribed { receiver, result: Ok(()) } => {
                    let Event::Subscribe { address, .. } = event else { unreachable!("checked as an answer") };
                    let account = Account { address: address.clone(), delivered: 0, limit: 0 };
                    prop_assert!(self.receivers.insert(*receiver, account).is_none(), "{:?} twice", receiver);
                }
                Effect::Detach { receiver, .. } => {
                    prop_assert!(self.receivers.remove(receiver).is_some(), "{:?} was not there", receiver);
                }
                Effect::Deliver { receiver, delivery } => {
                    let Some(account) = self.receivers.get_mut(receiver) else {
                        return Err(TestCaseError::fail(format!("{receiver:?} is not subscribed")));
                    };
                    account.delivered += 1;
                    prop_assert!(account.delivered <= account.limit, "{:?} beyond its credit", receiver);
                    let queue = account.address.queue.clone();
                    self.numbers.entry(queue).or_default().insert(delivery.message.sequence_number);
                    gone.extend(self.hand_out(delivery, now)?);
                }
                Effect::DeferredReceived { result: Ok(deliveries), .. } => {
                    for delivery in deliveries {
                        gone.extend(self.hand_out(delivery, now)?);
                    }
                }
                Effect::Settled { result: Ok(()), .. } => {
                    let Event::Settle { lock_token, outcome, .. } = event else { unreachable!("checked as an answer") };
                    let holder = self.locks.iter().find(|(_, (token, until))| token == lock_token && *until > now);
                    let Some(id) = holder.map(|(id, _)| *id) else {
                        return Err(TestCaseError::fail("settled without a lock"));
                    };
                    self.locks.remove(&id);
                    if matches!(outcome, Outcome::Complete) {
                        gone.insert(id);
                    }
                }
                Effect::LocksRenewed { result: Ok(ends), .. } => {
                    let Event::RenewLocks { lock_tokens, .. } = event else { unreachable!("checked as an answer") };
                    prop_assert_eq!(lock_tokens.len(), ends.len());
                    for (token, end) in lock_tokens.iter().zip(ends) {
                        let lock = self.locks.values_mut().find(|(holder, until)| holder == token && *until > now);
                        prop_assert!(lock.is_some(), "renewed without a lock");
                        if let Some((_, until)) = lock {
                            *until = *end;
                        }
                    }
                }
                Effect::Sent { result: Ok(numbers), .. } => {
                    let Event::Send { to: queue, messages, .. } = event else { unreachable!("checked as an answer") };
                    prop_assert_eq!(numbers.len(), messages.len());
                    self.numbers.entry(queue.clone()).or_default().extend(numbers);
                }
                Effect::ScheduleCancelled { result: Ok(()), .. } => {
                    let Event::CancelScheduled { to: queue, sequence_numbers, .. } = event else {
                        unreachable!("checked as an answer")
                    };
                    let cancelled = self.held.iter().filter(|(_, (address, view))| {
                        *address == Address::main(queue.clone()) && sequence_numbers.contains(&view.sequence_number)
                    });
                    gone.extend(cancelled.map(|(id, _)| *id));
                }
                Effect::Deleted { name } => {
                    let of_queue = self.held.iter().filter(|(_, (address, _))| address.queue == *name);
                    gone.extend(of_queue.map(|(id, _)| *id));
                    self.locks.retain(|id, _| !gone.contains(id));
                    self.numbers.remove(name);
                }
                _ => {}
            }
        }
        Ok(gone)
    }

    /// A message goes to one holder only. Returns its id if it went for good.
    fn hand_out(&mut self, delivery: &Delivery<Body>, now: Timestamp) -> Result<Option<u32>, TestCaseError> {
        let id = delivery.message.content.id;
        if let Some((token, until)) = self.locks.get(&id) {
            prop_assert!(*until <= now, "message {} handed out while {} holds it", id, token);
        }
        let Some(lock) = delivery.lock else {
            self.locks.remove(&id);
            return Ok(Some(id));
        };
        prop_assert!(lock.until > now, "a lock that is over when it is given");
        self.locks.insert(id, (lock.token, lock.until));
        Ok(None)
    }

    /// Every message is in one place, and none has vanished but those that are `gone` or expired.
    fn check_places(
        &mut self,
        state: &mut State<Body>,
        event: &Event<Body>,
        gone: &BTreeSet<u32>,
        now: Timestamp,
    ) -> Result<(), TestCaseError> {
        let mut held = BTreeMap::new();
        for address in commands::addresses(World::Queues) {
            let peek = Event::Peek { request: RequestId(u64::MAX), address: address.clone(), from: 0, max: usize::MAX };
            let effects = state.apply(peek, now);
            let [Effect::Peeked { result, .. }] = effects.as_slice() else {
                return Err(TestCaseError::fail(format!("a peek in the same moment gave {effects:?}")));
            };
            let views = result.as_ref().map(Vec::as_slice).unwrap_or_default();
            for view in views {
                prop_assert_eq!(view.dead_letter.is_some(), address.part == Part::DeadLetter);
                self.numbers.entry(address.queue.clone()).or_default().insert(view.sequence_number);
                let twice = held.insert(view.content.id, (address.clone(), view.clone()));
                prop_assert!(twice.is_none(), "message {} is in two places", view.content.id);
            }
            if let Some(queue) = state.describe(&address.queue) {
                let both = held.values().filter(|(place, _)| place.queue == address.queue).count() as u64;
                prop_assert!(address.part == Part::Main || queue.counts.total() == both, "{:?}, not {}", queue, both);
            }
        }
        let over = |id: &u32, address: &Address, view: &MessageView<Body>| {
            address.part == Part::Main
                && view.state == MessageState::Active
                && view.expires_at.is_some_and(|end| end <= now)
                && self.locks.get(id).is_none_or(|(_, until)| *until <= now)
        };
        for (id, (address, view)) in &self.held {
            let (still_held, is_gone) = (held.contains_key(id), gone.contains(id));
            let accounted_for = if is_gone { !still_held } else { still_held || over(id, address, view) };
            prop_assert!(accounted_for, "message {} ({:?}) after {:?}", id, view, event);
        }
        for (id, (address, view)) in &held {
            prop_assert!(!over(id, address, view), "message {} ({:?}) outlived its time", id, view);
        }
        if let Event::Send { to: queue, messages, .. } = event {
            let ids: Vec<u32> = messages.iter().map(|message| message.content.id).collect();
            let arrived = ids.iter().filter(|id| held.contains_key(id) || gone.contains(id)).count();
            prop_assert!(arrived == 0 || arrived == ids.len(), "only {} of {} in {}", arrived, ids.len(), queue);
        }
        for id in held.keys().filter(|id| !self.held.contains_key(id)) {
            let sent =
                matches!(event, Event::Send { messages, .. } if messages.iter().any(|one| one.content.id == *id));
            prop_assert!(sent, "message {} came from nowhere", id);
        }
        self.held = held;
        Ok(())
    }
}

/// Exactly one answer to a request, and none to anything else.
pub(super) fn check_answers(event: &Event<Body>, effects: &[Effect<Body>]) -> Result<(), TestCaseError> {
    let answered: Vec<&Effect<Body>> = effects
        .iter()
        .filter(|effect| {
            !matches!(
                effect,
                Effect::Deliver { .. } | Effect::Drained { .. } | Effect::Detach { .. } | Effect::Deleted { .. }
            )
        })
        .collect();
    let fits = match (event, answered.as_slice()) {
        (
            Event::CreateQueue { request, .. }
            | Event::CreateTopic { request, .. }
            | Event::UpdateQueue { request, .. }
            | Event::UpdateTopic { request, .. }
            | Event::Delete { request, .. },
            [Effect::Administered { request: answer, .. }],
        )
        | (Event::Send { request, .. }, [Effect::Sent { request: answer, .. }])
        | (Event::CancelScheduled { request, .. }, [Effect::ScheduleCancelled { request: answer, .. }])
        | (Event::Settle { request, .. }, [Effect::Settled { request: answer, .. }])
        | (Event::RenewLocks { request, .. }, [Effect::LocksRenewed { request: answer, .. }])
        | (Event::ReceiveDeferred { request, .. }, [Effect::DeferredReceived { request: answer, .. }])
        | (Event::Peek { request, .. }, [Effect::Peeked { request: answer, .. }]) => request == answer,
        (Event::Subscribe { receiver, .. }, [Effect::Subscribed { receiver: answer, .. }]) => receiver == answer,
        (Event::Tick | Event::Credit { .. } | Event::Drain { .. } | Event::Unsubscribe { .. }, []) => true,
        _ => false,
    };
    prop_assert!(fits, "{:?} was answered by {:?}", event, answered);
    Ok(())
}
