//! Links on which the client sends: messages and batches in, outcomes out.
//!
//! Every outcome is settled, whatever the link's modes say: one client ignores others and hangs.

use std::time::Duration;

use amqp::{AmqpError, Attach, DeliveryId, DeliveryState, Incoming, LinkId, SessionId};

use super::admission::Denied;
use super::{LinkKind, MAX_MESSAGE_BYTES, Peer, SENDER_CREDIT, refusals};
use crate::content::decode_transfer;
use crate::counters::{Operation, Outcome};
use crate::state::{Address, Effect, EntityName, Event, Part};

impl Peer {
    /// Opens a link to a queue or topic.
    pub(super) fn open_sending(
        &mut self,
        link: LinkId,
        session: SessionId,
        attach: &Attach,
        address: Address,
        scope: String,
    ) -> Result<(), AmqpError> {
        if address.part != Part::Main {
            let text = refusals::tracked("Messages cannot be sent to a dead-letter queue.");
            return Err(AmqpError::new("amqp:not-allowed", text));
        }
        let asks = |key: &str| attach.properties.as_ref().and_then(|properties| properties.get(key)).is_some();
        if asks("com.microsoft:transfer-destination-address") {
            let text = "sending via another entity is not supported by this broker";
            return Err(AmqpError::new("amqp:not-implemented", text));
        }
        self.hub
            .read(|state| state.check_send_allowed(&address.queue))
            .map_err(|refusal| refusals::error(&refusal, &self.host()))?;
        self.accept(link, session, attach, LinkKind::Sending(address.queue), Some(scope));
        let _ = self.engine.set_credit(link, SENDER_CREDIT);
        Ok(())
    }

    /// A message or batch has come.
    pub(super) fn on_message(&mut self, link: LinkId, delivery: Incoming) {
        let Some(LinkKind::Sending(queue)) = self.links.get(&link).map(|link| &link.kind) else { return };
        let queue = queue.clone();
        let Incoming { id, message_format, settled, payload, .. } = delivery;
        let admission = self.admit(Some(Operation::Send), queue.as_str(), false);
        let stored = match admission.refusal.map(Denied::error) {
            None => self.store(&queue, message_format, &payload),
            Some(Some(error)) => Err(error),
            Some(None) => {
                self.settings.counters.count(Operation::Send, Outcome::Error, 1);
                return self.replenish(link);
            }
        };
        self.settings.counters.count_send(&stored);
        let state = match stored {
            Ok(_) => DeliveryState::Accepted,
            Err(error) => {
                tracing::info!(%queue, %error, "message rejected");
                DeliveryState::Rejected(Some(error))
            }
        };
        if !settled {
            self.acknowledge(link, id, state, admission.latency);
        }
        self.replenish(link);
    }

    /// A delivery above the limit has come and was dropped.
    pub(super) fn on_oversized(&mut self, link: LinkId, id: DeliveryId, settled: bool) {
        let text = format!(
            "The received message exceeds the limit ({MAX_MESSAGE_BYTES} bytes) currently allowed on the link."
        );
        tracing::info!(limit = MAX_MESSAGE_BYTES, "message rejected: too large");
        self.settings.counters.count(Operation::Send, Outcome::Refused, 1);
        if !settled {
            let error = AmqpError::new("amqp:link:message-size-exceeded", refusals::tracked(&text));
            self.acknowledge(link, id, DeliveryState::Rejected(Some(error)), Duration::ZERO);
        }
        self.replenish(link);
    }

    /// Stores the messages; how many there were.
    fn store(&self, queue: &EntityName, message_format: u32, payload: &bytes::Bytes) -> Result<u64, AmqpError> {
        let messages = decode_transfer(message_format, payload)
            .map_err(|error| AmqpError::new(error.condition(), refusals::tracked(&refusals::sentence(&error))))?;
        self.spend(messages.len() as u64)?;
        let result = self.hub.request(
            |request| Event::Send { request, to: queue.clone(), messages },
            |effect| match effect {
                Effect::Sent { result, .. } => Some(result),
                _ => None,
            },
        );
        result.map(|numbers| numbers.len() as u64).map_err(|refusal| refusals::error(&refusal, &self.host()))
    }
}
