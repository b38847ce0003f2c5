//! Being let in: putting the token on the `$cbs` node, early again before it ends.
//!
//! The node and its messages are those of "AMQP Claims-Based Security"; Service Bus adds the token type. The token is
//! put for the entity itself, which covers its `$management` node.

use std::time::{Duration, Instant, SystemTime};

use amqp::{Attach, Body, Connection, Event, LinkId, Map, Message, Outgoing, Properties, SessionId, Value};
use bytes::Bytes;
use secrecy::ExposeSecret as _;

use super::conversation::Context;
use super::failure::{Failure, kind_of_status};
use crate::FailureKind;
use crate::said::said;

const NODE: &str = "$cbs";
const REPLY_TO: &str = "cbs-reply";
/// How soon to try again when a renewal was refused or got no answer. The old token may still be good meanwhile.
const RETRY: Duration = Duration::from_secs(10);

/// The two links to `$cbs` and the token put there.
pub(super) struct Claims {
    request: LinkId,
    response: LinkId,
    request_ready: bool,
    response_ready: bool,
    next_id: u64,
    /// The request that has no answer yet.
    asked: Option<u64>,
    /// When to put a token (again).
    due: Option<Instant>,
    let_in: bool,
}

impl Claims {
    pub(super) fn attach(engine: &mut Connection, session: SessionId, now: Instant) -> Result<Self, amqp::Gone> {
        let request = engine.attach(session, Attach::sender("cbs-request", "cbs-request", NODE))?;
        let response = engine.attach(session, Attach::receiver("cbs-response", NODE, REPLY_TO))?;
        Ok(Self {
            request,
            response,
            request_ready: false,
            response_ready: false,
            next_id: 0,
            asked: None,
            due: Some(now),
            let_in: false,
        })
    }

    pub(super) fn owns(&self, link: LinkId) -> bool {
        link == self.request || link == self.response
    }

    /// Whether a token of ours has been accepted on this connection.
    pub(super) fn let_in(&self) -> bool {
        self.let_in
    }

    /// When the next token is to be put. What is due already waits for the peer, not for time.
    pub(super) fn next_deadline(&self, now: Instant) -> Option<Instant> {
        self.due.filter(|due| *due > now)
    }

    /// Puts a token if it is time to.
    pub(super) fn pump(&mut self, context: &mut Context<'_>) {
        let Context { engine, settings, now, wall, .. } = context;
        let (now, wall) = (*now, *wall);
        let ready = self.request_ready && self.response_ready && engine.sendable(self.request) > 0;
        if !ready || self.due.is_none_or(|due| due > now) {
            return;
        }
        let audience = settings.connection.audience(&settings.peer.path);
        let token = settings.connection.credential().token(&audience, wall, settings.token_lifetime);
        self.next_id += 1;
        let mut properties = Map::from([
            ("operation", Value::from("put-token")),
            ("type", Value::from("servicebus.windows.net:sastoken")),
            ("name", Value::from(audience.as_str())),
        ]);
        if let Some(since) = token.expires.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok()) {
            properties.insert("expiration", Value::Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)));
        }
        let message = Message {
            properties: Some(Properties {
                message_id: Some(Value::Ulong(self.next_id)),
                reply_to: Some(REPLY_TO.to_owned()),
                ..Properties::default()
            }),
            application_properties: properties,
            ..Message::with_body(Body::value(&Value::from(token.text.expose_secret())))
        };
        let outgoing = Outgoing {
            tag: Bytes::copy_from_slice(&self.next_id.to_be_bytes()),
            message_format: 0,
            payload: message.encode(),
            settled: true,
        };
        // The answer gets its credit first: it cannot come without.
        if engine.set_credit(self.response, 1).is_ok() && engine.send(self.request, outgoing).is_ok() {
            self.asked = Some(self.next_id);
            // Until there is an answer; a ready token cannot be renewed.
            self.due = settings.connection.key().map(|_| now + RETRY);
        }
    }

    /// Takes an event of one of the two links. An error ends the connection.
    pub(super) fn on_event(&mut self, context: &mut Context<'_>, event: Event) -> Result<(), Failure> {
        match event {
            Event::Attached { link, .. } if link == self.request => self.request_ready = true,
            Event::Attached { .. } => self.response_ready = true,
            Event::Delivery { link, delivery } => {
                if !delivery.settled {
                    let _ = context.engine.settle(link, delivery.id, amqp::DeliveryState::Accepted, true);
                }
                return self.on_answer(context, &delivery.payload);
            }
            Event::Detached { error, .. } => return Err(Failure::ended(error, context.peer(), "putting the token")),
            _ => {}
        }
        Ok(())
    }

    fn on_answer(&mut self, context: &Context<'_>, payload: &Bytes) -> Result<(), Failure> {
        let (settings, peer, now) = (context.settings, context.peer(), context.now);
        let malformed = || Failure::of_kind(FailureKind::Internal, peer, "answering to the token");
        let message = Message::decode(payload).map_err(|error| malformed().because(error))?;
        let answers = message.properties.as_ref().and_then(|properties| properties.correlation_id.as_ref());
        if self.asked.is_none() || answers.and_then(Value::as_u64) != self.asked {
            return Ok(());
        }
        self.asked = None;
        let status = message.application_properties.get("status-code").and_then(Value::as_i64).ok_or_else(malformed)?;
        if (200..300).contains(&status) {
            self.let_in = true;
            // A token that we sign is renewed when a quarter of its life is left.
            self.due = settings.connection.key().map(|_| now + settings.token_lifetime.mul_f64(0.75));
            return Ok(());
        }
        let description = message.application_properties.get("status-description").and_then(Value::as_str);
        let refusal = Refusal { status, description: said(description.unwrap_or("no description")) };
        if self.let_in {
            tracing::warn!(%refusal, host = peer.host, "the token was not renewed; trying again");
            self.due = Some(now + RETRY);
            return Ok(());
        }
        Err(Failure::of_kind(kind_of_status(status), peer, "putting the token").because(refusal))
    }
}

/// What `$cbs` said.
#[derive(Debug, thiserror::Error)]
#[error("status {status}: {description}")]
struct Refusal {
    status: i64,
    description: String,
}
