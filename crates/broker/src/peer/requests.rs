//! Request and reply over a pair of links: to `$cbs`, where tokens are put, and to the `$management` nodes.
//!
//! Clients find their reply link in different ways (by its target address, by its name, or simply as the other link of
//! the pair), so a reply is routed by trying these in turn. A reply's correlation id is the request's message id, type
//! and all. `$cbs` and `$management` spell the status fields differently, and clients read only their own spelling.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use amqp::{AmqpError, Attach, Body, DeliveryState, Incoming, LinkId, Map, Message, Outgoing, Properties, Value};
use bytes::Bytes;

use super::admission::{Admission, Denied, LateAnswer};
use super::{LinkKind, MAX_NAME_BYTES, Peer, management, refusals};
use crate::access::TokenError;
use crate::counters::Outcome;
use crate::state::{Address, EntityName};

/// With so many bytes of replies waiting on one connection, for credit or for their time, a request is rejected.
const MAX_PENDING_BYTES: usize = 1 << 20;

/// A node that answers requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RequestNode {
    /// `$cbs`.
    Tokens,
    /// The `$management` node of an entity.
    Management(Address),
}

impl RequestNode {
    /// The queue it belongs to.
    pub(super) fn queue(&self) -> Option<&EntityName> {
        match self {
            Self::Tokens => None,
            Self::Management(address) => Some(&address.queue),
        }
    }
}

/// A link over which a node replies.
pub(super) struct Replies {
    pub(super) node: RequestNode,
    /// What requests may name as their reply-to.
    target: Option<String>,
    /// The client wants to settle each reply itself.
    is_unsettled: bool,
    pending: VecDeque<Bytes>,
}

impl Replies {
    pub(super) fn new(node: RequestNode, attach: &Attach) -> Self {
        Self {
            node,
            target: attach
                .target
                .as_ref()
                .and_then(|target| target.address.clone())
                .filter(|target| target.len() <= MAX_NAME_BYTES),
            is_unsettled: attach.snd_settle_mode == Some(0),
            pending: VecDeque::new(),
        }
    }
}

/// What a node answers.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: i32,
    pub(super) description: String,
    pub(super) condition: Option<&'static str>,
    pub(super) body: Body,
    /// Messages in the body, or stored by the request.
    pub(super) messages: u64,
}

impl Peer {
    /// A request has come.
    pub(super) fn on_request(&mut self, link: LinkId, delivery: &Incoming) {
        let Some(LinkKind::Requests(node)) = self.links.get(&link).map(|link| &link.kind) else { return };
        let node = node.clone();
        let state = match Message::decode(&delivery.payload) {
            Ok(request) => {
                let answered = self.answer(link, &node, &request);
                if let Err(error) = &answered {
                    self.settle_account(&node, &request, Outcome::of_condition(error.condition.as_str()), 0);
                }
                answered
            }
            Err(error) => Err(AmqpError::new("amqp:decode-error", refusals::tracked(&format!("{error}.")))),
        };
        let state = match state {
            Ok(()) => DeliveryState::Accepted,
            Err(error) => {
                tracing::info!(%error, "request rejected");
                DeliveryState::Rejected(Some(error))
            }
        };
        if !delivery.settled {
            self.acknowledge(link, delivery.id, state, Duration::ZERO);
        }
        self.replenish(link);
    }

    /// Answers a request over its reply link; an error if there is no way to.
    fn answer(&mut self, link: LinkId, node: &RequestNode, request: &Message) -> Result<(), AmqpError> {
        let reply_link = self.reply_link(link, node, request).ok_or_else(|| {
            AmqpError::new("amqp:precondition-failed", "no link is attached over which the reply could go")
        })?;
        let Admission { latency, refusal } = self.admit_request(node, request);
        // Asked before anything is done: a reply that is not sent would lose the messages in it.
        let waits = self.engine.sendable(reply_link) == 0 || !latency.is_zero();
        if waits && self.pending_reply_bytes() >= MAX_PENDING_BYTES {
            let text = format!("more than {MAX_PENDING_BYTES} bytes of replies wait on the connection");
            return Err(AmqpError::new("amqp:resource-limit-exceeded", text));
        }
        let denied = match refusal.map(Denied::reply) {
            Some(None) => {
                self.settle_account(node, request, Outcome::Error, 0);
                return Ok(());
            }
            Some(denied) => denied,
            None => None,
        };
        let (status, description, error_condition, reply) = match node {
            RequestNode::Tokens => {
                let reply = denied.unwrap_or_else(|| self.put_token(request));
                ("status-code", "status-description", "error-condition", reply)
            }
            RequestNode::Management(address) => {
                let host = self.host();
                let reply = denied.unwrap_or_else(|| management::answer(&self.hub, address, request, &host));
                self.settle_account(node, request, Outcome::of_reply(reply.status), reply.messages);
                ("statusCode", "statusDescription", "errorCondition", reply)
            }
        };
        let Reply { status: code, description: text, condition, body, messages: _ } = reply;
        let mut application_properties = Map::from([(status, Value::Int(code)), (description, Value::from(text))]);
        if let Some(condition) = condition {
            application_properties.insert(error_condition, Value::symbol(condition));
        }
        let tracking = "com.microsoft:tracking-id";
        if let Some(id) = request.application_properties.get(tracking) {
            application_properties.insert(tracking, id.clone());
        }
        let correlation_id = request.properties.as_ref().and_then(|properties| properties.message_id.clone());
        let properties = Properties { correlation_id, ..Properties::default() };
        let message = Message { properties: Some(properties), application_properties, body, ..Message::default() };
        self.answer_after(latency, reply_link, LateAnswer::Reply(message.encode()));
        Ok(())
    }

    /// The link over which the reply to a request goes.
    fn reply_link(&self, link: LinkId, node: &RequestNode, request: &Message) -> Option<LinkId> {
        let reply_to = request.properties.as_ref().and_then(|properties| properties.reply_to.as_deref());
        let session = self.links.get(&link).map(|link| link.session);
        let candidates = || {
            self.links.iter().filter_map(|(id, link)| match &link.kind {
                LinkKind::Replies(replies) if replies.node == *node => Some((*id, link, replies)),
                _ => None,
            })
        };
        // Link ids grow, so the greatest is the newest.
        let by_target =
            candidates().filter(|(_, _, replies)| reply_to.is_some() && replies.target.as_deref() == reply_to);
        let by_name = candidates().filter(|(_, link, _)| reply_to == Some(link.name.as_str()));
        let on_session = candidates().filter(|(_, link, _)| Some(link.session) == session);
        let newest = |links: &mut dyn Iterator<Item = LinkId>| links.max();
        newest(&mut by_target.map(|(id, ..)| id))
            .or_else(|| newest(&mut by_name.map(|(id, ..)| id)))
            .or_else(|| newest(&mut on_session.map(|(id, ..)| id)))
            .or_else(|| newest(&mut candidates().map(|(id, ..)| id)))
    }

    /// Puts a reply at the end of those that go out over its link, as it has credit.
    pub(super) fn queue_reply(&mut self, link: LinkId, reply: Bytes) {
        if let Some(super::Link { kind: LinkKind::Replies(replies), .. }) = self.links.get_mut(&link) {
            replies.pending.push_back(reply);
        }
        self.flush_replies(link);
    }

    fn pending_reply_bytes(&self) -> usize {
        let bytes = |link: &super::Link| match &link.kind {
            // Each counts something even when it is short.
            LinkKind::Replies(replies) => replies.pending.iter().map(|reply| reply.len() + 128).sum(),
            _ => 0,
        };
        let late = self.late.iter().map(|late| match &late.answer {
            LateAnswer::Reply(reply) => reply.len() + 128,
            LateAnswer::Outcome(..) => 0,
        });
        self.links.values().map(bytes).chain(late).sum()
    }

    /// Sends as many replies as the link has credit for.
    pub(super) fn flush_replies(&mut self, link: LinkId) {
        while self.engine.sendable(link) > 0 {
            let Some(super::Link { kind: LinkKind::Replies(replies), .. }) = self.links.get_mut(&link) else { return };
            let Some(payload) = replies.pending.pop_front() else { return };
            let settled = !replies.is_unsettled;
            self.next_tag += 1;
            let tag = Bytes::copy_from_slice(&self.next_tag.to_be_bytes());
            if let Err(error) = self.engine.send(link, Outgoing { tag, message_format: 0, payload, settled }) {
                tracing::debug!(%error, "a reply could not be sent");
            }
        }
    }

    /// `put-token`: checks a token and remembers what it allows.
    fn put_token(&mut self, request: &Message) -> Reply {
        let properties = &request.application_properties;
        let text = |key: &str| properties.get(key).and_then(Value::as_str);
        match text("operation") {
            Some("put-token") => {}
            // Taking a token back early is not needed by any client we know.
            _ => return denied(501, "amqp:not-implemented", "Only the operation put-token is supported."),
        }
        let Some(audience) = text("name").filter(|audience| audience.len() <= MAX_NAME_BYTES) else {
            return denied(400, "amqp:invalid-field", "The request names no audience, or one that is too long.");
        };
        let body = request.body.as_value();
        let Some(token) = body.as_ref().and_then(Value::as_str) else {
            return denied(400, "amqp:invalid-field", "The body of the request is not a token.");
        };
        let permit = match self.settings.access.check_audience(token, audience, SystemTime::now()) {
            Ok(permit) => permit,
            Err(error) => {
                tracing::info!(audience = audience.get(..200).unwrap_or(audience), %error, "token refused");
                let status = if matches!(error, TokenError::Malformed) { 400 } else { 401 };
                return denied(status, "amqp:unauthorized-access", &refusals::tracked(&format!("{error}.")));
            }
        };
        match self.permits.add(permit) {
            // The Rust client takes no other success than 202.
            Ok(()) => {
                Reply { status: 202, description: "Accepted".to_owned(), condition: None, body: no_body(), messages: 0 }
            }
            Err(error) => denied(403, "amqp:resource-limit-exceeded", &format!("{error}.")),
        }
    }
}

fn denied(status: i32, condition: &'static str, description: &str) -> Reply {
    Reply { status, description: description.to_owned(), condition: Some(condition), body: no_body(), messages: 0 }
}

fn no_body() -> Body {
    Body::value(&Value::Null)
}
