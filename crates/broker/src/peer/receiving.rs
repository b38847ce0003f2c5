//! Links on which the client receives: credit to the state, deliveries to the client, settlements to the state.
//!
//! A delivery's tag is its lock token. A settlement is answered with the outcome the client sent, settled, or with
//! `rejected` and an error when the lock was lost.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use amqp::{AmqpError, Attach, DeliveryId, DeliveryState, LinkId, Map, Outgoing, SessionId, Value};
use uuid::Uuid;

use super::{LinkKind, Peer, refusals};
use crate::content::{StoredMessage, delivery_tag, encode_delivery};
use crate::counters::{self, Operation};
use crate::faults::Loss;
use crate::state::{Address, Delivery, Event, LockToken, Outcome, ReceiveMode, ReceiverId, Refusal};

/// Deliveries the state may have under way to one link beyond those written: enough to keep a fast client busy, few
/// enough that little is locked in vain when a client is slow.
const WINDOW: u64 = 100;
/// Unsettled deliveries on one link; a client gets no more until it settles some. The service's own limit is near it.
const MAX_UNSETTLED: u64 = 5_000;

const SESSION_FILTER: &str = "com.microsoft:session-filter";

/// What is kept for one receiver.
pub(super) struct Receiving {
    pub(super) id: ReceiverId,
    pub(super) address: Address,
    /// Deliveries that the state handed over and that wait no longer: written to the link, or given back. The state counts
    /// both as delivered.
    handled: u64,
    /// What the state was last told it may deliver in all.
    limit: u64,
    /// Deliveries that wait for the session's window.
    pub(super) pending: VecDeque<Delivery<StoredMessage>>,
    unsettled: HashMap<DeliveryId, LockToken>,
    /// The state has said that the drain is done, but deliveries still wait.
    is_drained: bool,
}

impl Peer {
    /// Opens a link from a queue or its dead-letter queue.
    pub(super) fn open_receiving(
        &mut self,
        link: LinkId,
        session: SessionId,
        attach: &Attach,
        address: Address,
        scope: String,
    ) -> Result<(), AmqpError> {
        check_filters(attach.source.as_ref().and_then(|source| source.filter.as_ref()))?;
        // Only a client that asked for settled deliveries gets them; every other gets a lock.
        let mode =
            if attach.snd_settle_mode == Some(1) { ReceiveMode::ReceiveAndDelete } else { ReceiveMode::PeekLock };
        let id = self.hub.subscribe(address.clone(), mode, &self.push_sender).map_err(|refusal| match refusal {
            Refusal::NotFound { .. } => refusals::not_found(&self.host(), &address.to_string()),
            other => refusals::error(&other, &self.host()),
        })?;
        self.receivers.insert(id, link);
        let receiving = Receiving {
            id,
            address,
            handled: 0,
            limit: 0,
            pending: VecDeque::new(),
            unsettled: HashMap::new(),
            is_drained: false,
        };
        self.accept(link, session, attach, LinkKind::Receiving(receiving), Some(scope));
        Ok(())
    }

    /// The client granted credit, its window opened, or it asks to use up the credit.
    pub(super) fn on_credit(&mut self, link: LinkId, drain: bool) {
        match self.links.get(&link).map(|link| &link.kind) {
            Some(LinkKind::Receiving(_)) => {
                self.flush_pending(link);
                if drain {
                    self.drain(link);
                } else {
                    self.stale_credit.insert(link);
                }
            }
            Some(LinkKind::Replies(_)) => {
                self.flush_replies(link);
                if drain {
                    let _ = self.engine.drained(link);
                }
            }
            _ => {}
        }
    }

    /// Tells the state how many deliveries the link takes.
    pub(super) fn grant(&mut self, link: LinkId) {
        self.set_limit(link, WINDOW);
    }

    /// Uses up the credit: everything there is goes out, and then the state says that it is done.
    fn drain(&mut self, link: LinkId) {
        self.set_limit(link, u64::MAX);
        if let Some(receiving) = receiving(&mut self.links, link) {
            self.hub.tell(Event::Drain { receiver: receiving.id });
        }
    }

    fn set_limit(&mut self, link: LinkId, window: u64) {
        let sendable = u64::from(self.engine.sendable(link));
        let Some(receiving) = receiving(&mut self.links, link) else { return };
        let room = MAX_UNSETTLED.saturating_sub(receiving.unsettled.len() as u64);
        let limit = receiving.handled + sendable.min(window).min(room);
        if limit != receiving.limit {
            receiving.limit = limit;
            self.hub.tell(Event::Credit { receiver: receiving.id, limit });
        }
    }

    /// The state hands over a message.
    pub(super) fn on_delivery(&mut self, receiver: ReceiverId, delivery: Delivery<StoredMessage>) {
        // A link that is gone had its deliveries given back when it went.
        let Some(link) = self.receivers.get(&receiver).copied() else { return };
        let Some(receiving) = receiving(&mut self.links, link) else { return };
        receiving.pending.push_back(delivery);
        self.flush_pending(link);
        self.give_back_without_credit(link);
    }

    /// The client took its credit back while deliveries were under way: locks go back at once. What was received for
    /// good stays for the next credit.
    fn give_back_without_credit(&mut self, link: LinkId) {
        if self.engine.credit(link) > 0 {
            return;
        }
        let Some(receiving) = receiving(&mut self.links, link) else { return };
        if receiving.pending.iter().all(|delivery| delivery.lock.is_none()) {
            return;
        }
        let pending = std::mem::take(&mut receiving.pending);
        receiving.handled += pending.len() as u64;
        let address = receiving.address.clone();
        // First the limit, or the state would hand the same messages over again.
        self.grant(link);
        for delivery in &pending {
            self.hub.release(&address, delivery);
        }
    }

    fn flush_pending(&mut self, link: LinkId) {
        while self.engine.sendable(link) > 0 {
            let Some(receiving) = receiving(&mut self.links, link) else { return };
            let Some(delivery) = receiving.pending.pop_front() else { break };
            let tag = delivery.lock.map_or_else(Uuid::new_v4, |lock| lock.token);
            let outgoing = Outgoing {
                tag: delivery_tag(tag),
                message_format: 0,
                payload: encode_delivery(&delivery),
                settled: delivery.lock.is_none(),
            };
            match self.engine.send(link, outgoing) {
                Ok(id) => {
                    receiving.handled += 1;
                    self.settings.counters.count(Operation::Receive, counters::Outcome::Ok, 1);
                    self.settings.budget.charge(1, Instant::now());
                    if let Some(lock) = delivery.lock {
                        receiving.unsettled.insert(id, lock.token);
                    }
                }
                Err(error) => {
                    // `sendable` has just said otherwise, so the link ended in between.
                    tracing::debug!(%error, "a delivery could not be sent");
                    receiving.pending.push_front(delivery);
                    return;
                }
            }
        }
        self.stale_credit.insert(link);
        self.answer_drain(link);
    }

    /// The state has delivered all it could.
    pub(super) fn on_drained(&mut self, receiver: ReceiverId) {
        let Some(link) = self.receivers.get(&receiver).copied() else { return };
        if let Some(receiving) = receiving(&mut self.links, link) {
            receiving.is_drained = true;
            // The rest of the limit is void, as is the rest of the link's credit.
            receiving.limit = receiving.handled + receiving.pending.len() as u64;
        }
        self.answer_drain(link);
    }

    fn answer_drain(&mut self, link: LinkId) {
        let Some(receiving) = receiving(&mut self.links, link) else { return };
        if receiving.is_drained && receiving.pending.is_empty() {
            receiving.is_drained = false;
            let _ = self.engine.drained(link);
        }
    }

    /// The client tells the outcome of a delivery.
    pub(super) fn on_disposition(&mut self, link: LinkId, id: DeliveryId, state: Option<DeliveryState>, settled: bool) {
        let Some(receiving) = receiving(&mut self.links, link) else {
            // A reply of ours: whatever became of it, it is done with.
            let _ = self.engine.settle(link, id, state.unwrap_or(DeliveryState::Accepted), true);
            return;
        };
        let Some(token) = receiving.unsettled.get(&id).copied() else { return };
        let address = receiving.address.clone();
        let Some(state) = state else {
            if settled {
                // Forgotten without an outcome: the lock runs out by itself.
                receiving.unsettled.remove(&id);
                self.stale_credit.insert(link);
            }
            return;
        };
        let is_final = !matches!(state, DeliveryState::Received { .. });
        let loss = is_final.then(|| self.settings.faults.judge_settlement(&address.to_string())).flatten();
        if loss == Some(Loss::Settlement) {
            tracing::info!(queue = %address, "a settlement was lost by a fault on demand");
            if settled {
                receiving.unsettled.remove(&id);
                self.stale_credit.insert(link);
            }
            return;
        }
        let answer = match outcome(&state) {
            Ok(Some(outcome)) => match self.hub.settle(&address, token, outcome) {
                Ok(()) => same_outcome(state),
                Err(refusal) => {
                    tracing::debug!(queue = %address, %refusal, "settlement refused");
                    DeliveryState::Rejected(Some(refusals::error(&refusal, &self.host())))
                }
            },
            // Received in part: no outcome yet.
            Ok(None) => return,
            Err(error) => DeliveryState::Rejected(Some(error)),
        };
        if let Some(receiving) = self::receiving(&mut self.links, link) {
            receiving.unsettled.remove(&id);
        }
        self.stale_credit.insert(link);
        if !settled && loss.is_none() {
            let _ = self.engine.settle(link, id, answer, true);
        }
    }
}

fn receiving(links: &mut HashMap<LinkId, super::Link>, link: LinkId) -> Option<&mut Receiving> {
    match links.get_mut(&link) {
        Some(super::Link { kind: LinkKind::Receiving(receiving), .. }) => Some(receiving),
        _ => None,
    }
}

/// What a delivery state asks of the state machine; `None` for one that is not final.
fn outcome(state: &DeliveryState) -> Result<Option<Outcome<Map>>, AmqpError> {
    Ok(Some(match state {
        DeliveryState::Accepted => Outcome::Complete,
        DeliveryState::Released => Outcome::Release,
        DeliveryState::Modified { undeliverable_here: Some(true), message_annotations, .. } => {
            Outcome::Defer { properties: message_annotations.clone() }
        }
        DeliveryState::Modified { message_annotations, .. } => {
            Outcome::Abandon { properties: message_annotations.clone() }
        }
        DeliveryState::Rejected(error) => {
            let info = error.as_ref().and_then(|error| error.info.clone());
            let description = error.as_ref().and_then(|error| error.description.clone());
            dead_letter(info, description)
        }
        DeliveryState::Received { .. } => return Ok(None),
        DeliveryState::Other(_) => {
            return Err(AmqpError::new("amqp:not-implemented", "transactions are not supported by this broker"));
        }
    }))
}

/// The info map holds reason and description; whatever else is in it becomes properties of the message.
fn dead_letter(info: Option<Map>, description: Option<String>) -> Outcome<Map> {
    let mut info = info.unwrap_or_default();
    let mut take = |key: &str| info.remove(key).as_ref().and_then(Value::as_str).map(str::to_owned);
    let (reason, told) = (take("DeadLetterReason"), take("DeadLetterErrorDescription"));
    let properties = (!info.is_empty()).then_some(info);
    Outcome::DeadLetter { reason, description: told.or(description), properties }
}

/// The answer to a settlement that was done. A dead-lettering is answered without its error, which clients would take
/// for a failure.
fn same_outcome(state: DeliveryState) -> DeliveryState {
    match state {
        DeliveryState::Rejected(_) => DeliveryState::Rejected(None),
        other => other,
    }
}

/// Filters that we would not apply are refused rather than ignored.
fn check_filters(filters: Option<&Map>) -> Result<(), AmqpError> {
    let Some((key, _)) = filters.and_then(|filters| filters.iter().next()) else { return Ok(()) };
    Err(match key.as_str() {
        Some(SESSION_FILTER) => AmqpError::new(
            "amqp:not-allowed",
            refusals::tracked("A session receiver cannot be created on an entity that does not require sessions."),
        ),
        name => {
            let name: String = name.unwrap_or("without a name").chars().take(64).collect();
            AmqpError::new("amqp:not-implemented", format!("the filter {name} is not supported by this broker"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_lettering_reads_reason_and_description_from_the_info_map() {
        let info = Map::from([
            (Value::symbol("DeadLetterReason"), "Bad"),
            (Value::symbol("DeadLetterErrorDescription"), "very bad"),
            (Value::symbol("colour"), "red"),
        ]);
        let error = AmqpError { info: Some(info), ..AmqpError::new("com.microsoft:dead-letter", "text") };
        let outcome = outcome(&DeliveryState::Rejected(Some(error))).expect("known").expect("final");
        let Outcome::DeadLetter { reason, description, properties } = outcome else { panic!("{outcome:?}") };
        assert_eq!((reason.as_deref(), description.as_deref()), (Some("Bad"), Some("very bad")));
        assert_eq!(properties, Some(Map::from([(Value::symbol("colour"), "red")])));
        assert_eq!(
            same_outcome(DeliveryState::Rejected(Some(AmqpError::new("a", "b")))),
            DeliveryState::Rejected(None)
        );
    }

    #[test]
    fn modified_is_abandon_or_defer() {
        let modified = |undeliverable_here| DeliveryState::Modified {
            delivery_failed: Some(true),
            undeliverable_here,
            message_annotations: None,
        };
        assert!(matches!(outcome(&modified(None)), Ok(Some(Outcome::Abandon { .. }))));
        assert!(matches!(outcome(&modified(Some(false))), Ok(Some(Outcome::Abandon { .. }))));
        assert!(matches!(outcome(&modified(Some(true))), Ok(Some(Outcome::Defer { .. }))));
        assert!(outcome(&DeliveryState::Other(Value::Null)).is_err());
    }

    #[test]
    fn filters_are_refused_by_name() {
        assert!(check_filters(Some(&Map::default())).is_ok());
        let session = Map::from([(Value::symbol(SESSION_FILTER), Value::Null)]);
        assert_eq!(check_filters(Some(&session)).expect_err("refused").condition.as_str(), "amqp:not-allowed");
        let selector = Map::from([(Value::symbol("apache.org:selector-filter:string"), Value::from("a"))]);
        assert_eq!(check_filters(Some(&selector)).expect_err("refused").condition.as_str(), "amqp:not-implemented");
    }
}
