//! The link from the queue on which we receive: credit for those who wait, settlements with the peer's outcome.
//!
//! Credit is what the waiting callers ask for. When they go, the rest is taken back by draining, which alone tells when
//! nothing is under way any more. A settlement goes over this link while the delivery is known on it; afterwards over
//! `$management`, because lock tokens outlive links.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use amqp::{AmqpError, Attach, Connection, DeliveryId, DeliveryState, Event, Incoming, LinkId, Map, Value};
use uuid::Uuid;

use super::call::{CallId, Job};
use super::conversation::Context;
use super::decode;
use super::failure::{Failure, Peer};
use super::slot::Slot;
use crate::said::said;
use crate::{FailureKind, LockToken, Settlement};

/// The most credit at one time: the largest burst that Service Bus sends under locks.
const MOST_CREDIT: u32 = 2_047;
/// How long the peer may take to answer a drain before credit is granted again regardless.
const DRAIN_PATIENCE: Duration = Duration::from_secs(2);
/// Deliveries that nobody settled or renewed for this long are forgotten; no lock lasts longer than five minutes.
const FORGET_AFTER: Duration = Duration::from_mins(10);

#[derive(Default)]
pub(super) struct Receiving {
    slot: Slot,
    draining_since: Option<Instant>,
    by_token: HashMap<LockToken, Held>,
    by_delivery: HashMap<DeliveryId, LockToken>,
    settling: HashMap<DeliveryId, (CallId, DeliveryState)>,
    swept: Option<Instant>,
}

/// A delivery on the present link that is locked by us, as far as we know.
#[derive(Clone, Copy)]
struct Held {
    delivery: DeliveryId,
    since: Instant,
}

impl Receiving {
    pub(super) fn owns(&self, link: LinkId) -> bool {
        self.slot.is(link)
    }

    pub(super) fn slot(&mut self) -> &mut Slot {
        &mut self.slot
    }

    /// Settles over this link if the delivery is known on it and is not being settled already; says whether it did.
    pub(super) fn settle(&mut self, context: &mut Context<'_>, id: CallId) -> bool {
        let Some(call) = context.calls.get_mut(id) else { return true };
        let Job::Settle { lock_token, settlement, .. } = &call.job else { return false };
        let (Some(link), Some(held)) = (self.slot.ready(), self.by_token.get(lock_token)) else { return false };
        if self.settling.contains_key(&held.delivery) {
            return false;
        }
        let outcome = outcome(settlement);
        if context.engine.settle(link, held.delivery, outcome.clone(), false).is_err() {
            return false;
        }
        call.sent = true;
        self.settling.insert(held.delivery, (id, outcome));
        true
    }

    /// The lock was renewed.
    pub(super) fn renewed(&mut self, lock_token: LockToken, now: Instant) {
        if let Some(held) = self.by_token.get_mut(&lock_token) {
            held.since = now;
        }
    }

    /// Gives a message back that nobody has looked at: released, and settled by us, as the official SDKs do.
    pub(super) fn release(&mut self, engine: &mut Connection, lock_token: LockToken) -> bool {
        let (Some(link), Some(held)) = (self.slot.ready(), self.forget(lock_token)) else { return false };
        engine.settle(link, held.delivery, DeliveryState::Released, true).is_ok()
    }

    /// Makes the link and its credit what the waiting callers need.
    pub(super) fn pump(&mut self, context: &mut Context<'_>) {
        let (peer, now) = (context.peer(), context.now);
        if context.inbox.has_waiters() {
            self.slot.ensure(context.engine, context.session, now, || {
                let name = format!("receive-{}", Uuid::new_v4());
                let mut attach = Attach::receiver(name.clone(), peer.path.clone(), name);
                // Peek-lock: unsettled deliveries, and the peer's word on each settlement.
                attach.snd_settle_mode = Some(0);
                attach.rcv_settle_mode = Some(1);
                attach
            });
        }
        let Some(link) = self.slot.ready() else { return };
        self.sweep(context.engine, link, now);
        context.inbox.start_waits(now);
        if self.draining_since.is_some_and(|since| now < since + DRAIN_PATIENCE) {
            return;
        }
        let unanswered = self.draining_since.take().is_some();
        let (wanted, granted) = (context.inbox.wanted().min(MOST_CREDIT), context.engine.credit(link));
        if wanted > granted || unanswered {
            let _ = context.engine.set_credit(link, wanted);
        } else if wanted < granted {
            self.drain(context.engine, link, now);
        }
    }

    /// Asks for no more; says whether nothing is under way any more.
    pub(super) fn quiesce(&mut self, engine: &mut Connection, now: Instant) -> bool {
        let Some(link) = self.slot.ready() else { return true };
        if self.draining_since.is_none() && engine.credit(link) > 0 {
            self.drain(engine, link, now);
        }
        self.draining_since.is_none()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.draining_since.map(|since| since + DRAIN_PATIENCE)
    }

    pub(super) fn on_event(&mut self, context: &mut Context<'_>, event: Event) {
        match event {
            Event::Attached { .. } => self.slot.accepted(),
            Event::Delivery { link, delivery } => self.on_delivery(context, link, &delivery),
            Event::Oversized { link, id, settled } => {
                tracing::warn!("a message larger than the client's limit was abandoned");
                if !settled {
                    abandon_at_once(context.engine, link, id);
                }
            }
            Event::Drained { .. } => self.draining_since = None,
            Event::Disposition { link, id, state, settled } => {
                if let Some(state) = context.outcome(link, id, state, settled) {
                    self.on_outcome(context, id, state);
                }
            }
            Event::Detached { error, .. } => self.on_detached(context, error),
            _ => {}
        }
    }

    fn on_delivery(&mut self, context: &mut Context<'_>, link: LinkId, delivery: &Incoming) {
        let (now, wall) = (context.now, context.wall);
        match decode::received(&delivery.tag, &delivery.payload, wall) {
            Ok(message) => {
                if !delivery.settled {
                    self.by_token.insert(message.lock_token, Held { delivery: delivery.id, since: now });
                    self.by_delivery.insert(delivery.id, message.lock_token);
                }
                context.inbox.add(message, now, wall);
            }
            Err(error) => {
                // Abandoned as often as the queue allows, it ends in the dead-letter sub-queue for a person to see.
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "a delivery that is no Service Bus message was abandoned");
                if !delivery.settled {
                    abandon_at_once(context.engine, link, delivery.id);
                }
            }
        }
    }

    fn on_outcome(&mut self, context: &mut Context<'_>, id: DeliveryId, state: Option<DeliveryState>) {
        if let Some(token) = self.by_delivery.get(&id).copied() {
            self.forget(token);
        }
        let Some((call, asked)) = self.settling.remove(&id) else { return };
        let Some(call) = context.calls.finish(call) else { return };
        let Job::Settle { reply, .. } = call.job else { return };
        let _ = reply.send(confirmed(&asked, state, context.peer()).map_err(Into::into));
    }

    fn on_detached(&mut self, context: &mut Context<'_>, error: Option<AmqpError>) {
        let peer = context.peer();
        context.inbox.fail_waiters(&Failure::ended(error.clone(), peer, "receiving"), true);
        let failure = Failure::ended(error, peer, "settling a message");
        for (_, (call, _)) in self.settling.drain() {
            context.calls.fail(call, failure.clone());
        }
        *self = Self { swept: self.swept, ..Self::default() };
    }

    fn drain(&mut self, engine: &mut Connection, link: LinkId, now: Instant) {
        if engine.drain(link).is_ok() {
            self.draining_since = Some(now);
        }
    }

    fn forget(&mut self, lock_token: LockToken) -> Option<Held> {
        let held = self.by_token.remove(&lock_token)?;
        self.by_delivery.remove(&held.delivery);
        Some(held)
    }

    /// Forgets deliveries that no caller came back to, so that they do not pile up.
    fn sweep(&mut self, engine: &mut Connection, link: LinkId, now: Instant) {
        if self.swept.is_some_and(|at| now < at + FORGET_AFTER / 10) {
            return;
        }
        self.swept = Some(now);
        let old: Vec<LockToken> = self
            .by_token
            .iter()
            .filter(|(_, held)| now >= held.since + FORGET_AFTER && !self.settling.contains_key(&held.delivery))
            .map(|(token, _)| *token)
            .collect();
        for token in old {
            if let Some(held) = self.forget(token) {
                // The lock has been over for long, so this changes nothing at the peer.
                let _ = engine.settle(link, held.delivery, DeliveryState::Released, true);
            }
        }
    }
}

fn abandon_at_once(engine: &mut Connection, link: LinkId, id: DeliveryId) {
    let _ = engine.settle(link, id, outcome(&Settlement::Abandon), true);
}

/// What a settlement is on the wire.
fn outcome(settlement: &Settlement) -> DeliveryState {
    match settlement {
        Settlement::Complete => DeliveryState::Accepted,
        Settlement::Abandon => {
            DeliveryState::Modified { delivery_failed: Some(true), undeliverable_here: None, message_annotations: None }
        }
        Settlement::Release => DeliveryState::Released,
        Settlement::DeadLetter { reason, description } => DeliveryState::Rejected(Some(AmqpError {
            info: Some(Map(vec![
                (Value::symbol("DeadLetterReason"), Value::from(reason.as_str())),
                (Value::symbol("DeadLetterErrorDescription"), Value::from(description.as_str())),
            ])),
            ..AmqpError::new("com.microsoft:dead-letter", description.as_str())
        })),
    }
}

/// Whether the peer's answer confirms what was asked. A rejection with an error is a refusal of the settlement, also of
/// a dead-lettering, which is confirmed by a rejection without one.
fn confirmed(asked: &DeliveryState, answer: Option<DeliveryState>, peer: &Peer) -> Result<(), Failure> {
    const DOING: &str = "settling a message";
    match (asked, answer) {
        (_, Some(DeliveryState::Rejected(Some(error)))) => Err(Failure::from_amqp(error, peer, DOING)),
        (asked, Some(answer)) if std::mem::discriminant(asked) == std::mem::discriminant(&answer) => Ok(()),
        (_, other) => {
            let outcome = said(&format!("another outcome was answered: {other:?}"));
            Err(Failure::of_kind(FailureKind::Internal, peer, DOING)
                .because(AmqpError::new("amqp:internal-error", outcome)))
        }
    }
}
