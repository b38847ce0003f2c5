//! Requests to the entity's `$management` node: renewing locks, peeking, and settling by lock token alone.
//!
//! Two links, one for requests and one for answers, matched by correlation id. The operations are those of Microsoft's
//! "AMQP 1.0 in Azure Service Bus: request-response-based operations".

use std::collections::{HashMap, VecDeque};

use amqp::{AmqpError, Attach, Body, DeliveryState, Event, LinkId, Map, Message, Outgoing, Properties, Value};
use bytes::Bytes;
use uuid::Uuid;

use super::call::{Call, CallId, Calls, Job};
use super::conversation::Context;
use super::decode;
use super::failure::{Failure, Peer, kind_of_status};
use super::slot::Slot;
use crate::said::said;
use crate::{FailureKind, LockToken, PeekedMessage, Settlement};

/// Credit granted for answers at a time.
const ANSWER_CREDIT: u32 = 100;

pub(super) struct Managing {
    request: Slot,
    response: Slot,
    reply_to: String,
    queue: VecDeque<CallId>,
    asked: HashMap<u64, CallId>,
    next_id: u64,
}

impl Managing {
    pub(super) fn new() -> Self {
        Self {
            request: Slot::Absent,
            response: Slot::Absent,
            reply_to: format!("management-{}", Uuid::new_v4()),
            queue: VecDeque::new(),
            asked: HashMap::new(),
            next_id: 0,
        }
    }

    pub(super) fn ask(&mut self, call: CallId) {
        self.queue.push_back(call);
    }

    pub(super) fn owns(&self, link: LinkId) -> bool {
        self.request.is(link) || self.response.is(link)
    }

    pub(super) fn slots(&mut self) -> [&mut Slot; 2] {
        [&mut self.request, &mut self.response]
    }

    /// Forgets requests whose calls have ended.
    pub(super) fn forget_ended(&mut self, calls: &mut Calls) {
        self.asked.retain(|_, call| calls.get_mut(*call).is_some());
    }

    /// Sends what can be sent now.
    pub(super) fn pump(&mut self, context: &mut Context<'_>) {
        if self.queue.is_empty() {
            return;
        }
        let Context { session, now, .. } = *context;
        let node = || format!("{}/$management", context.settings.peer.path);
        let reply_to = self.reply_to.clone();
        self.request.ensure(context.engine, session, now, || {
            Attach::sender(format!("{reply_to}-request"), reply_to.clone(), node())
        });
        self.response
            .ensure(context.engine, session, now, || Attach::receiver(reply_to.clone(), node(), reply_to.clone()));
        let (Some(request), Some(response)) = (self.request.ready(), self.response.ready()) else { return };
        let timeout = u32::try_from(context.settings.call_timeout.as_millis()).unwrap_or(u32::MAX);
        let engine = &mut *context.engine;
        while engine.sendable(request) > 0 {
            let Some(id) = self.queue.pop_front() else { return };
            let Some(call) = context.calls.get_mut(id) else { continue };
            let Some((operation, body)) = request_of(&call.job) else { continue };
            if (engine.credit(response) as usize) <= self.asked.len() {
                let credit = ANSWER_CREDIT.saturating_add(self.asked.len() as u32);
                let _ = engine.set_credit(response, credit);
            }
            self.next_id += 1;
            let message = Message {
                properties: Some(Properties {
                    message_id: Some(Value::Ulong(self.next_id)),
                    reply_to: Some(self.reply_to.clone()),
                    ..Properties::default()
                }),
                application_properties: Map::from([
                    ("operation", Value::from(operation)),
                    ("com.microsoft:server-timeout", Value::Uint(timeout)),
                ]),
                ..Message::with_body(Body::value(&Value::Map(body)))
            };
            let outgoing = Outgoing {
                tag: Bytes::copy_from_slice(&self.next_id.to_be_bytes()),
                message_format: 0,
                payload: message.encode(),
                settled: true,
            };
            if engine.send(request, outgoing).is_err() {
                // The link went; an event says so and fails the call.
                self.queue.push_front(id);
                return;
            }
            call.sent = true;
            self.asked.insert(self.next_id, id);
        }
    }

    /// Takes an event of one of the two links. Gives the token whose lock was renewed, if one was.
    pub(super) fn on_event(&mut self, context: &mut Context<'_>, event: Event) -> Option<LockToken> {
        match event {
            Event::Attached { link, .. } if self.request.is(link) => self.request.accepted(),
            Event::Attached { .. } => self.response.accepted(),
            Event::Delivery { link, delivery } => {
                if !delivery.settled {
                    let _ = context.engine.settle(link, delivery.id, DeliveryState::Accepted, true);
                }
                return self.on_answer(context, &delivery.payload);
            }
            Event::Oversized { link, id, settled: false } => {
                let _ = context.engine.settle(link, id, DeliveryState::Rejected(None), true);
            }
            Event::Detached { link, error, .. } => {
                let other = if self.request.is(link) { &mut self.response } else { &mut self.request };
                other.drop_link(context.engine);
                (self.request, self.response) = (Slot::Absent, Slot::Absent);
                let failure = Failure::ended(error, context.peer(), "asking $management");
                for id in self.queue.drain(..).chain(self.asked.drain().map(|(_, id)| id)) {
                    context.calls.fail(id, failure.clone());
                }
            }
            _ => {}
        }
        None
    }

    fn on_answer(&mut self, context: &mut Context<'_>, payload: &Bytes) -> Option<LockToken> {
        let message = match Message::decode(payload) {
            Ok(message) => message,
            Err(error) => {
                // Its call cannot be told and runs into its deadline.
                tracing::warn!(error = &error as &dyn std::error::Error, "an answer of $management is not understood");
                return None;
            }
        };
        let correlation = message.properties.as_ref()?.correlation_id.as_ref()?.as_u64()?;
        let call = self.asked.remove(&correlation).and_then(|id| context.calls.finish(id))?;
        answer(call, &message, context.peer())
    }
}

/// The operation and body of a request; `None` for what is not asked of `$management`.
fn request_of(job: &Job) -> Option<(&'static str, Map)> {
    let tokens = |token: &LockToken| Value::Array(vec![Value::Uuid(*token.0.as_bytes())]);
    match job {
        Job::Renew { lock_token, .. } => {
            Some(("com.microsoft:renew-lock", Map::from([("lock-tokens", tokens(lock_token))])))
        }
        Job::Peek { from_sequence_number, max_messages, .. } => Some((
            "com.microsoft:peek-message",
            Map::from([
                ("from-sequence-number", Value::Long(*from_sequence_number)),
                ("message-count", Value::Int(*max_messages)),
            ]),
        )),
        Job::Settle { lock_token, settlement, .. } => {
            // There is no word for releasing here, so a message is abandoned instead.
            let status = match settlement {
                Settlement::Complete => "completed",
                Settlement::Abandon | Settlement::Release => "abandoned",
                Settlement::DeadLetter { .. } => "suspended",
            };
            let mut body =
                Map::from([("disposition-status", Value::from(status)), ("lock-tokens", tokens(lock_token))]);
            if let Settlement::DeadLetter { reason, description } = settlement {
                body.insert("deadletter-reason", reason.as_str());
                body.insert("deadletter-description", description.as_str());
            }
            Some(("com.microsoft:update-disposition", body))
        }
        Job::Limit(_) | Job::Send { .. } => None,
    }
}

/// Answers a call. Gives the token whose lock was renewed, if one was.
fn answer(call: Call, message: &Message, peer: &Peer) -> Option<LockToken> {
    let doing = call.job.doing();
    let malformed = || Failure::of_kind(FailureKind::Internal, peer, doing);
    let properties = &message.application_properties;
    let Some(status) = properties.get("statusCode").and_then(Value::as_i64) else {
        call.job.fail(malformed());
        return None;
    };
    if !(200..300).contains(&status) {
        let description = properties.get("statusDescription").and_then(Value::as_str).unwrap_or("no description");
        let failure = match properties.get("errorCondition").and_then(Value::as_str) {
            Some(condition) => Failure::from_amqp(AmqpError::new(condition, description), peer, doing),
            None => Failure::of_kind(kind_of_status(status), peer, doing)
                .because(AmqpError::new(&format!("status {status}"), said(description))),
        };
        call.job.fail(failure);
        return None;
    }
    let body = message.body.as_value();
    let body = body.as_ref().and_then(Value::as_map);
    // Whoever asked may have gone; then nobody needs the answer.
    match call.job {
        Job::Settle { reply, .. } => drop(reply.send(Ok(()))),
        Job::Renew { lock_token, reply } => {
            let expirations = body.and_then(|body| body.get("expirations")).and_then(Value::as_list);
            let result = decode::time(expirations.and_then(<[Value]>::first)).ok_or_else(|| malformed().into());
            let renewed = result.is_ok();
            drop(reply.send(result));
            return renewed.then_some(lock_token);
        }
        Job::Peek { reply, .. } => {
            let messages = match body.and_then(|body| body.get("messages")).and_then(Value::as_list) {
                // 204: there are none, and no body says so.
                None if status == 204 => Ok(Vec::new()),
                None => Err(malformed()),
                Some(messages) => messages.iter().map(|message| peeked(message, &malformed)).collect(),
            };
            drop(reply.send(messages.map_err(Into::into)));
        }
        Job::Limit(_) | Job::Send { .. } => {}
    }
    None
}

fn peeked(message: &Value, malformed: &dyn Fn() -> Failure) -> Result<PeekedMessage, Failure> {
    match message.as_map().and_then(|message| message.get("message")) {
        Some(Value::Binary(encoded)) => decode::peeked(encoded).map_err(|error| malformed().because(error)),
        _ => Err(malformed()),
    }
}
