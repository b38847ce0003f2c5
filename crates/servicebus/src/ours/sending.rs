//! The link to the queue on which we send: batches wait for credit, go out unsettled, and end with the peer's outcome.

use std::collections::{HashMap, VecDeque};

use amqp::{AmqpError, Attach, DeliveryId, DeliveryState, Event, LinkId, Outgoing, SendError, Value};
use bytes::Bytes;
use uuid::Uuid;

use super::call::{CallId, Job};
use super::conversation::Context;
use super::failure::Failure;
use super::slot::Slot;
use crate::FailureKind;
use crate::said::said;

/// Bytes that wait for the socket above which no further batch is put behind them.
const ENOUGH_OUTPUT: usize = 1 << 20;
/// The batch limit where the peer states none: Service Bus's standard tier, or its premium tier.
const STANDARD_BATCH_BYTES: u64 = 256 << 10;
const PREMIUM_BATCH_BYTES: u64 = 1 << 20;

#[derive(Default)]
pub(super) struct Sending {
    slot: Slot,
    limits: Limits,
    asking_limit: Vec<CallId>,
    queue: VecDeque<CallId>,
    in_flight: HashMap<DeliveryId, CallId>,
    next_tag: u64,
}

/// What the peer takes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Limits {
    message: u64,
    batch: u64,
}

impl Limits {
    /// From the peer's attach. Zero and null mean no limit to a message (part 2, section 2.7.3).
    fn of(attach: &Attach) -> Self {
        let message = attach.max_message_size.filter(|size| *size > 0);
        let stated = attach
            .properties
            .as_ref()
            .and_then(|properties| properties.get("com.microsoft:max-message-batch-size"))
            .and_then(Value::as_u64)
            .filter(|size| *size > 0);
        let batch = stated.unwrap_or(match message {
            Some(size) if size < PREMIUM_BATCH_BYTES => size,
            Some(_) => PREMIUM_BATCH_BYTES,
            None => STANDARD_BATCH_BYTES,
        });
        let message = message.unwrap_or(u64::MAX);
        Self { message, batch: batch.min(message) }
    }
}

impl Sending {
    pub(super) fn ask_limit(&mut self, call: CallId) {
        self.asking_limit.push(call);
    }

    pub(super) fn send(&mut self, call: CallId) {
        self.queue.push_back(call);
    }

    pub(super) fn owns(&self, link: LinkId) -> bool {
        self.slot.is(link)
    }

    pub(super) fn slot(&mut self) -> &mut Slot {
        &mut self.slot
    }

    /// Does what can be done now.
    pub(super) fn pump(&mut self, context: &mut Context<'_>) {
        if self.asking_limit.is_empty() && self.queue.is_empty() {
            return;
        }
        let peer = context.peer();
        self.slot.ensure(context.engine, context.session, context.now, || {
            let name = format!("send-{}", Uuid::new_v4());
            let mut attach = Attach::sender(name.clone(), name, peer.path.clone());
            attach.snd_settle_mode = Some(0);
            attach.rcv_settle_mode = Some(0);
            attach
        });
        let Some(link) = self.slot.ready() else { return };
        for id in self.asking_limit.drain(..) {
            if let Some(call) = context.calls.finish(id)
                && let Job::Limit(reply) = call.job
            {
                let _ = reply.send(Ok(usize::try_from(self.limits.batch).unwrap_or(usize::MAX)));
            }
        }
        while let Some(id) = self.queue.front().copied() {
            let Some(call) = context.calls.get_mut(id) else {
                self.queue.pop_front();
                continue;
            };
            let Job::Send { transfer, .. } = &call.job else {
                self.queue.pop_front();
                continue;
            };
            let limit = if transfer.message_format == 0 { self.limits.message } else { self.limits.batch };
            if transfer.payload.len() as u64 > limit {
                self.queue.pop_front();
                context.calls.fail(id, Failure::of_kind(FailureKind::TooLarge, peer, "sending"));
                continue;
            }
            if call.job.is_abandoned() {
                self.queue.pop_front();
                context.calls.finish(id);
                continue;
            }
            if context.engine.sendable(link) == 0 || context.engine.output_len() > ENOUGH_OUTPUT {
                return;
            }
            self.next_tag += 1;
            let outgoing = Outgoing {
                tag: Bytes::copy_from_slice(&self.next_tag.to_be_bytes()),
                message_format: transfer.message_format,
                payload: transfer.payload.clone(),
                settled: false,
            };
            match context.engine.send(link, outgoing) {
                Ok(delivery) => {
                    call.sent = true;
                    self.in_flight.insert(delivery, id);
                    self.queue.pop_front();
                }
                // The credit or the link went; an event says so.
                Err(SendError::NoCredit | SendError::Gone) => return,
            }
        }
    }

    pub(super) fn on_event(&mut self, context: &mut Context<'_>, event: Event) {
        match event {
            Event::Attached { attach, .. } => {
                self.limits = Limits::of(&attach);
                self.slot.accepted();
            }
            Event::Disposition { link, id, state, settled } => {
                if let Some(state) = context.outcome(link, id, state, settled) {
                    self.on_outcome(context, id, state);
                }
            }
            Event::Credit { link, drain: true } => {
                // We send what there is at once, so nothing is left to be sent before saying so.
                let _ = context.engine.drained(link);
            }
            Event::Detached { error, .. } => self.on_detached(context, error),
            _ => {}
        }
    }

    fn on_outcome(&mut self, context: &mut Context<'_>, id: DeliveryId, state: Option<DeliveryState>) {
        let peer = context.peer();
        let Some(call) = self.in_flight.remove(&id).and_then(|call| context.calls.finish(call)) else { return };
        let Job::Send { reply, .. } = call.job else { return };
        let result = match state {
            Some(DeliveryState::Accepted) => Ok(()),
            Some(DeliveryState::Rejected(Some(error))) => Err(Failure::from_amqp(error, peer, "sending")),
            Some(DeliveryState::Rejected(None)) => Err(Failure::of_kind(FailureKind::Refused, peer, "sending")),
            other => {
                let outcome = said(&format!("the outcome of the transfer was {other:?}"));
                let error = AmqpError::new("amqp:internal-error", outcome);
                Err(Failure::of_kind(FailureKind::Internal, peer, "sending").because(error))
            }
        };
        let _ = reply.send(result.map_err(Into::into));
    }

    fn on_detached(&mut self, context: &mut Context<'_>, error: Option<AmqpError>) {
        self.slot = Slot::Absent;
        let failure = Failure::ended(error, context.peer(), "sending");
        let waiting = self.asking_limit.drain(..).chain(self.queue.drain(..));
        for id in waiting.chain(self.in_flight.drain().map(|(_, id)| id)) {
            context.calls.fail(id, failure.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use amqp::Map;

    use super::*;

    #[test]
    fn the_batch_limit_is_what_the_peer_states_or_its_tier_s() {
        let limits = |size: Option<u64>, batch: Option<u64>| {
            let mut attach = Attach::sender("n", "s", "t");
            attach.max_message_size = size;
            attach.properties =
                batch.map(|batch| Map::from([("com.microsoft:max-message-batch-size", Value::Ulong(batch))]));
            let Limits { message, batch } = Limits::of(&attach);
            (message, batch)
        };
        assert_eq!(limits(Some(262_144), None), (262_144, 262_144));
        assert_eq!(limits(Some(104_857_600), None), (104_857_600, 1 << 20));
        assert_eq!(limits(Some(104_857_600), Some(4_096)), (104_857_600, 4_096));
        assert_eq!(limits(Some(1_000), Some(4_096)), (1_000, 1_000));
        assert_eq!(limits(None, None), (u64::MAX, 262_144));
        assert_eq!(limits(Some(0), None), (u64::MAX, 262_144));
    }
}
