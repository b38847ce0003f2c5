//! How the state comes to rest after a change: what is due happens, messages move on, receivers get theirs.
//!
//! An entity that changed is noted in [`Unsettled`] and brought to rest in its turn; what it forwards makes its target one
//! that changed. Forwarding can multiply messages (a topic whose subscriptions forward to topics), so one step moves a
//! limited number and leaves the others for the next one, which is then due at once.

use std::collections::{HashSet, VecDeque};

use super::{
    State,
    effect::{Effect, Refusal},
    event::Content,
    name::{EntityName, Part},
};

/// How often a message may be forwarded (Service Bus quotas: "forwarding hops").
const MAX_HOPS: u8 = 4;
/// Messages that forwarding stores at a time, but that a topic's copies are stored together: some milliseconds of work, for
/// which all else waits. A step has two times: before its event and after it.
pub const MAX_MOVES: usize = 1_000;

/// Entities that changed, each once, in the order in which they did.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    order: VecDeque<EntityName>,
    members: HashSet<EntityName>,
}

impl Unsettled {
    pub(super) fn add(&mut self, name: EntityName) {
        if self.members.insert(name.clone()) {
            self.order.push_back(name);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    fn next(&mut self) -> Option<EntityName> {
        let name = self.order.pop_front()?;
        self.members.remove(&name);
        Some(name)
    }
}

/// Whether a message can move to its target.
enum Way {
    /// It can; so many are stored there.
    Open { copies: usize },
    /// Not now: the target takes none.
    Closed,
    /// Never: to the transfer dead-letter queue, for this reason.
    Blocked { reason: &'static str, description: String },
}

impl<C: Content> State<C> {
    /// Notes an entity that changed, and of a topic its subscriptions.
    pub(super) fn unsettle(&mut self, name: &EntityName) {
        self.unsettled.add(name.clone());
        if let Some(topic) = self.entities.topics.get(name) {
            for subscription in topic.subscriptions.keys() {
                self.unsettled.add(subscription.clone());
            }
        }
    }

    /// Brings all that changed to rest: nothing overdue, nothing that could move on, nobody with credit beside an
    /// available message.
    pub(super) fn settle_down(&mut self, effects: &mut Vec<Effect<C>>) {
        let mut moves_left = MAX_MOVES;
        while moves_left > 0
            && let Some(name) = self.unsettled.next()
        {
            if let Some(topic) = self.entities.topics.get_mut(&name) {
                let published = topic.let_time_pass(self.now);
                self.deadlines.set(&name, topic.next_deadline());
                if published {
                    for subscription in topic.subscriptions.keys() {
                        self.unsettled.add(subscription.clone());
                    }
                }
                continue;
            }
            if let Some(queue) = self.entities.queue_mut(&name) {
                queue.let_time_pass(self.now);
            }
            self.forward(&name, Part::Main, &mut moves_left);
            self.forward(&name, Part::DeadLetter, &mut moves_left);
            if let Some(queue) = self.entities.queue_mut(&name) {
                queue.deliver(&mut self.lock_tokens, self.now, effects);
                self.deadlines.set(&name, queue.next_deadline());
            }
        }
    }

    /// Lets those forward again that wait for this target.
    pub(super) fn wake_sources(&mut self, target: &EntityName) {
        for source in self.waiting.remove(target).unwrap_or_default() {
            let Some(queue) = self.entities.queue(&source) else { continue };
            let has_some = |part| queue.target(part) == Some(target) && queue.first_to_forward(part).is_some();
            if Part::ALL.into_iter().any(has_some) {
                self.unsettled.add(source);
            }
        }
    }

    /// Forgets that an entity waits for its targets.
    pub(super) fn stop_waiting(&mut self, source: &EntityName) {
        let Some(queue) = self.entities.queue(source) else { return };
        for target in Part::ALL.into_iter().filter_map(|part| queue.target(part)) {
            if let Some(sources) = self.waiting.get_mut(target) {
                sources.remove(source);
                if sources.is_empty() {
                    self.waiting.remove(target);
                }
            }
        }
    }

    /// Moves what one part of a queue has for its target, in the order of the numbers.
    fn forward(&mut self, name: &EntityName, part: Part, moves_left: &mut usize) {
        loop {
            let Some(source) = self.entities.queue(name) else { return };
            let Some(target) = source.target(part).cloned() else { return };
            let Some((number, message)) = source.first_to_forward(part) else { return };
            if *moves_left == 0 {
                self.unsettled.add(name.clone());
                return;
            }
            let moved = match self.way_to(&target, message.size_bytes, message.origin.hops) {
                Way::Closed => {
                    self.waiting.entry(target).or_default().insert(name.clone());
                    return;
                }
                Way::Blocked { reason, description } => {
                    if let Some(source) = self.entities.queue_mut(name) {
                        source.give_up_forwarding(part, number, reason, description);
                    }
                    1
                }
                Way::Open { copies } => {
                    let taken = self.entities.queue_mut(name).and_then(|it| it.take_for_forwarding(part, number));
                    let Some(arrival) = taken else { return };
                    if let Some(topic) = self.entities.topics.get_mut(&target) {
                        topic.publish(arrival, self.now);
                    } else if let Some(queue) = self.entities.queue_mut(&target) {
                        queue.accept(arrival, self.now);
                    }
                    self.unsettle(&target);
                    copies.max(1)
                }
            };
            *moves_left = moves_left.saturating_sub(moved);
        }
    }

    /// Reasons but the first are this broker's own words; the service's are not published.
    fn way_to(&self, target: &EntityName, size_bytes: u64, hops: u8) -> Way {
        if hops >= MAX_HOPS {
            let description = format!("The message has been forwarded {MAX_HOPS} times, the most it may.");
            return Way::Blocked { reason: "MaxTransferHopCountExceeded", description };
        }
        let (allowed, room, copies) = if let Some(topic) = self.entities.topics.get(target) {
            let room = topic.check_room(topic.size_of_copies(size_bytes));
            (topic.check_send_allowed(), room, topic.subscriptions.len())
        } else if let Some(queue) = self.entities.queue(target) {
            (queue.check_send_allowed(), queue.check_room(size_bytes), 1)
        } else {
            return blocked("TransferDestinationNotFound", &Refusal::NotFound { name: target.clone() });
        };
        match (allowed, room) {
            (Err(_), _) => Way::Closed,
            (Ok(()), Err(full)) => blocked("TransferDestinationQuotaExceeded", &full),
            (Ok(()), Ok(())) => Way::Open { copies },
        }
    }
}

fn blocked(reason: &'static str, why: &Refusal) -> Way {
    Way::Blocked { reason, description: format!("The message could not be forwarded: {why}.") }
}
