//! The `$management` node of a queue, topic or subscription, or of a dead-letter queue: one request in, one reply out.
//!
//! Requests are AMQP maps with string keys. What this broker does not do (sessions, rules, batch deletion) is answered
//! with 501 `amqp:not-implemented`.

use std::collections::BTreeSet;

use amqp::{Body, Map, Message, Value};
use bytes::Bytes;
use uuid::Uuid;

use super::requests::Reply;
use super::{MAX_MESSAGE_BYTES, refusals};
use crate::access::Right;
use crate::content::{ContentError, decode_messages, encode_delivery, encode_peeked};
use crate::hub::Hub;
use crate::state::{Address, Delivery, Effect, Event, LockToken, Outcome, Part, ReceiveMode, Refusal, SequenceNumber};

/// Messages in one reply; a client that wants more asks again.
const MAX_MESSAGES: usize = 1_000;
/// Bytes of the messages that one reply gives away; it must hold all or none.
const MAX_GIVEN_BYTES: u64 = 1 << 20;
/// Tokens or numbers in one request.
const MAX_ITEMS: usize = 5_000;

/// Answers one request. `host` is the name the client knows us by.
pub(super) fn answer(hub: &Hub, address: &Address, request: &Message, host: &str) -> Reply {
    let operation = request.application_properties.get("operation").and_then(Value::as_str).unwrap_or_default();
    let body = request.body.as_value();
    let empty = Map::default();
    let arguments = Arguments(body.as_ref().and_then(Value::as_map).unwrap_or(&empty));
    let node = ManagementNode { hub, address };
    let result = match operation.strip_prefix("com.microsoft:") {
        Some("renew-lock") => node.renew_lock(&arguments),
        Some("peek-message") => node.peek(&arguments),
        Some("schedule-message") => node.schedule(&arguments),
        Some("cancel-scheduled-message") => node.cancel_scheduled(&arguments),
        Some("update-disposition") => node.update_disposition(&arguments),
        Some("receive-by-sequence-number") => node.receive_deferred(&arguments),
        _ => {
            let operation: String = operation.chars().take(64).collect();
            Err(Failed {
                status: 501,
                condition: "amqp:not-implemented",
                text: format!("The operation '{operation}' is not supported by this broker."),
            })
        }
    };
    match result {
        Ok(Some(map)) => Reply {
            status: 200,
            description: "OK".to_owned(),
            condition: None,
            messages: messages_in(&map),
            body: Body::value(&Value::Map(map)),
        },
        Ok(None) => Reply {
            status: 204,
            description: "NoContent".to_owned(),
            condition: None,
            body: Body::empty(),
            messages: 0,
        },
        Err(failed) => {
            let Failed { status, condition, text } = failed.for_host(host);
            tracing::debug!(operation, status, text, "management request refused");
            Reply {
                status,
                description: refusals::tracked(&text),
                condition: Some(condition),
                body: Body::value(&Value::Map(Map::default())),
                messages: 0,
            }
        }
    }
}

/// The right that an operation needs.
pub(super) fn right(operation: &str) -> Right {
    match operation {
        "com.microsoft:schedule-message" | "com.microsoft:cancel-scheduled-message" => Right::Send,
        _ => Right::Listen,
    }
}

/// Messages that a reply holds, or that were stored.
fn messages_in(reply: &Map) -> u64 {
    let items = reply.get("messages").or_else(|| reply.get("sequence-numbers")).and_then(Value::as_list);
    items.map_or(0, |items| items.len() as u64)
}

/// Why a request was not done.
struct Failed {
    status: i32,
    condition: &'static str,
    text: String,
}

impl Failed {
    fn argument(text: impl Into<String>) -> Self {
        Self { status: 400, condition: "com.microsoft:argument-error", text: text.into() }
    }

    /// The service names host and entity when an entity is missing.
    fn for_host(self, host: &str) -> Self {
        match self.condition {
            "amqp:not-found" => Self { text: self.text.replace("entity '", &format!("entity 'sb://{host}/")), ..self },
            _ => self,
        }
    }
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Self {
            status: refusals::status(&refusal),
            condition: refusals::condition(&refusal),
            text: refusals::text(&refusal),
        }
    }
}

/// The body of a reply; `None` is "no content".
type Answered = Result<Option<Map>, Failed>;

struct ManagementNode<'a> {
    hub: &'a Hub,
    address: &'a Address,
}

impl ManagementNode<'_> {
    fn renew_lock(&self, arguments: &Arguments<'_>) -> Answered {
        let lock_tokens = self.lock_tokens(arguments)?;
        let until = self.hub.request(
            |request| Event::RenewLocks { request, address: self.address.clone(), lock_tokens },
            |effect| match effect {
                Effect::LocksRenewed { result, .. } => Some(result),
                _ => None,
            },
        )?;
        let expirations = until.into_iter().map(|at| Value::Timestamp(at.as_millis())).collect();
        Ok(Some(Map::from([("expirations", Value::Array(expirations))])))
    }

    fn peek(&self, arguments: &Arguments<'_>) -> Answered {
        let from = arguments.number("from-sequence-number")?.max(0);
        let count = arguments.number("message-count")?;
        if count < 1 {
            return Err(Failed::argument("message-count must be at least 1."));
        }
        let max = usize::try_from(count).unwrap_or(MAX_MESSAGES).min(MAX_MESSAGES);
        let omit_body = arguments.0.get("omit-message-body").and_then(Value::as_bool).unwrap_or(false);
        let messages = self.hub.request(
            |request| Event::Peek { request, address: self.address.clone(), from: from as SequenceNumber, max },
            |effect| match effect {
                Effect::Peeked { result, .. } => Some(result),
                _ => None,
            },
        )?;
        let encoded = messages.iter().map(|message| encode_peeked(message, omit_body));
        let items: Vec<Value> =
            within_one_message(encoded).map(|message| Value::Map(Map::from([("message", message)]))).collect();
        Ok((!items.is_empty()).then(|| Map::from([("messages", Value::List(items))])))
    }

    fn schedule(&self, arguments: &Arguments<'_>) -> Answered {
        if self.address.part != Part::Main {
            return Err(Failed {
                status: 400,
                condition: "amqp:not-allowed",
                text: "Messages cannot be sent to a dead-letter queue.".to_owned(),
            });
        }
        let mut encoded = Vec::new();
        for item in arguments.list("messages")? {
            let message = item.as_map().and_then(|item| item.get("message")).and_then(Value::as_binary);
            let message = message.ok_or_else(|| Failed::argument("an item of messages has no binary message."))?;
            // Memory of its own: the message must not keep the whole request alive.
            encoded.push(Bytes::copy_from_slice(message));
        }
        let messages = decode_messages(encoded).map_err(|error| Failed {
            status: if matches!(error, ContentError::TooLarge { .. }) { 413 } else { 400 },
            condition: error.condition(),
            text: refusals::sentence(&error),
        })?;
        let numbers = self.hub.request(
            |request| Event::Send { request, to: self.address.queue.clone(), messages },
            |effect| match effect {
                Effect::Sent { result, .. } => Some(result),
                _ => None,
            },
        )?;
        let numbers = numbers.into_iter().map(|number| Value::Long(number as i64)).collect();
        Ok(Some(Map::from([("sequence-numbers", Value::Array(numbers))])))
    }

    fn cancel_scheduled(&self, arguments: &Arguments<'_>) -> Answered {
        let sequence_numbers = arguments.sequence_numbers()?;
        self.hub.request(
            |request| Event::CancelScheduled { request, to: self.address.queue.clone(), sequence_numbers },
            |effect| match effect {
                Effect::ScheduleCancelled { result, .. } => Some(result),
                _ => None,
            },
        )?;
        Ok(Some(Map::default()))
    }

    fn receive_deferred(&self, arguments: &Arguments<'_>) -> Answered {
        let sequence_numbers = arguments.sequence_numbers()?;
        let mode = match arguments.0.get("receiver-settle-mode").and_then(Value::as_i64) {
            Some(0) => ReceiveMode::ReceiveAndDelete,
            _ => ReceiveMode::PeekLock,
        };
        let bytes = self.hub.read(|state| state.size_of(self.address, &sequence_numbers));
        if bytes > MAX_GIVEN_BYTES {
            return Err(Failed {
                status: 413,
                condition: "amqp:link:message-size-exceeded",
                text: format!("The messages have {bytes} bytes; {MAX_GIVEN_BYTES} are given away at a time."),
            });
        }
        let deliveries: Vec<Delivery<_>> = self.hub.request(
            |request| Event::ReceiveDeferred { request, address: self.address.clone(), sequence_numbers, mode },
            |effect| match effect {
                Effect::DeferredReceived { result, .. } => Some(result),
                _ => None,
            },
        )?;
        let items = deliveries.iter().map(|delivery| {
            let token = delivery.lock.map_or_else(Uuid::new_v4, |lock| lock.token);
            Value::Map(Map::from([
                ("lock-token", Value::Uuid(token.into_bytes())),
                ("message", Value::Binary(encode_delivery(delivery))),
            ]))
        });
        Ok(Some(Map::from([("messages", Value::List(items.collect()))])))
    }

    fn update_disposition(&self, arguments: &Arguments<'_>) -> Answered {
        let lock_tokens = self.lock_tokens(arguments)?;
        let text = |key: &str| arguments.0.get(key).and_then(Value::as_str).map(str::to_owned);
        let properties = arguments.0.get("properties-to-modify").and_then(Value::as_map).cloned();
        let outcome = match text("disposition-status").as_deref() {
            Some("completed") => Outcome::Complete,
            Some("abandoned") => Outcome::Abandon { properties },
            // Spelt so on the wire.
            Some("defered") => Outcome::Defer { properties },
            Some("suspended") => Outcome::DeadLetter {
                reason: text("deadletter-reason"),
                description: text("deadletter-description"),
                properties,
            },
            _ => {
                return Err(Failed::argument(
                    "disposition-status must be one of completed, abandoned, defered, suspended.",
                ));
            }
        };
        // All or nothing, as far as it can be known beforehand.
        let lock_tokens: BTreeSet<LockToken> = lock_tokens.into_iter().collect();
        let is_held = |token: &LockToken| self.hub.read(|state| state.holds_lock(self.address, token));
        if !lock_tokens.iter().all(is_held) {
            return Err(Refusal::LockLost.into());
        }
        for token in lock_tokens {
            self.hub.settle(self.address, token, outcome.clone())?;
        }
        Ok(Some(Map::default()))
    }

    /// The lock tokens of a request. Bodies hold them in RFC byte order; a client that read its token from the delivery
    /// tag as it stands sends it with the first groups turned round, so both are looked for.
    fn lock_tokens(&self, arguments: &Arguments<'_>) -> Result<Vec<LockToken>, Failed> {
        let tokens = arguments.items("lock-tokens")?.iter().map(|value| {
            let token = Uuid::from_bytes(
                value.as_uuid().ok_or_else(|| Failed::argument("lock-tokens must be an array of uuids."))?,
            );
            let turned = Uuid::from_bytes(token.to_bytes_le());
            let is_held = |token| self.hub.read(|state| state.holds_lock(self.address, token));
            Ok(if !is_held(&token) && is_held(&turned) { turned } else { token })
        });
        tokens.collect()
    }
}

/// As many as fit into one message, but at least one.
fn within_one_message(encoded: impl Iterator<Item = Bytes>) -> impl Iterator<Item = Bytes> {
    let mut total = 0;
    encoded
        .enumerate()
        .take_while(move |(index, message)| {
            total += message.len() as u64;
            *index == 0 || total <= MAX_MESSAGE_BYTES
        })
        .map(|(_, message)| message)
}

/// The map in a request's body.
struct Arguments<'a>(&'a Map);

impl<'a> Arguments<'a> {
    fn number(&self, key: &str) -> Result<i64, Failed> {
        let number = self.0.get(key).and_then(Value::as_i64);
        number.ok_or_else(|| Failed::argument(format!("{key} must be a whole number.")))
    }

    /// A list or array that is not empty.
    fn items(&self, key: &str) -> Result<&'a [Value], Failed> {
        let items = self.0.get(key).and_then(Value::as_list).unwrap_or_default();
        if items.is_empty() || items.len() > MAX_ITEMS {
            return Err(Failed::argument(format!("{key} must hold 1 to {MAX_ITEMS} items.")));
        }
        Ok(items)
    }

    fn list(&self, key: &str) -> Result<&'a [Value], Failed> {
        self.items(key)
    }

    fn sequence_numbers(&self) -> Result<Vec<SequenceNumber>, Failed> {
        let key = "sequence-numbers";
        let number = |value: &Value| {
            value.as_u64().ok_or_else(|| Failed::argument(format!("{key} must be an array of whole numbers.")))
        };
        self.items(key)?.iter().map(number).collect()
    }
}
