//! Opening links: what an address names, whether the client may use it, the reply.
//!
//! Source, target and settle modes are echoed as they came. What is refused is refused in one write, with the reason.

use std::time::SystemTime;

use amqp::{AmqpError, Attach, LinkId, Role, SessionId};

use super::requests::{Replies, RequestNode};
use super::{Link, LinkKind, MAX_MESSAGE_BYTES, MAX_NAME_BYTES, Peer, SENDER_CREDIT, refusals};
use crate::access::Right;
use crate::address::{Node, scope_of};
use crate::state::Address;

impl Peer {
    /// The client wants a link.
    pub(super) fn on_attach(&mut self, link: LinkId, session: SessionId, attach: &Attach) {
        if let Err(error) = self.open_link(link, session, attach) {
            tracing::info!(link = attach.name, %error, "link refused");
            let _ = self.engine.refuse(link, error);
        }
    }

    /// Accepts a link or says why not.
    fn open_link(&mut self, link: LinkId, session: SessionId, attach: &Attach) -> Result<(), AmqpError> {
        if attach.coordinator {
            return Err(AmqpError::new("amqp:not-implemented", "transactions are not supported by this broker"));
        }
        let address = match attach.role {
            Role::Sender => attach.target.as_ref().and_then(|target| target.address.as_deref()),
            Role::Receiver => attach.source.as_ref().and_then(|source| source.address.as_deref()),
        };
        let address = address.ok_or_else(|| AmqpError::new("amqp:invalid-field", "the link names no address"))?;
        if attach.name.len().max(address.len()) > MAX_NAME_BYTES {
            let text = format!("the names of links and nodes have at most {MAX_NAME_BYTES} bytes");
            return Err(AmqpError::new("amqp:invalid-field", text));
        }
        let node = Node::parse(address);
        let right = match (&node, attach.role) {
            (Node::Entity(_), Role::Sender) => Some(Right::Send),
            (Node::Entity(_), Role::Receiver) => Some(Right::Listen),
            _ => None,
        };
        let scope = if node == Node::Tokens { None } else { Some(self.check_permit(address, right)?) };
        let node = match node {
            Node::Tokens => RequestNode::Tokens,
            Node::Management(address) => {
                self.check_exists(&address)?;
                RequestNode::Management(address)
            }
            Node::Entity(address) => {
                let scope = scope.unwrap_or_default();
                return match attach.role {
                    Role::Sender => self.open_sending(link, session, attach, address, scope),
                    Role::Receiver => self.open_receiving(link, session, attach, address, scope),
                };
            }
            Node::Nameless => return Err(refusals::not_found(&self.host(), address)),
        };
        let kind = match attach.role {
            Role::Sender => LinkKind::Requests(node),
            Role::Receiver => LinkKind::Replies(Replies::new(node, attach)),
        };
        self.accept(link, session, attach, kind, scope);
        if attach.role == Role::Sender {
            let _ = self.engine.set_credit(link, SENDER_CREDIT);
        }
        Ok(())
    }

    /// Accepts a link: everything echoed, our limits added.
    pub(super) fn accept(
        &mut self,
        link: LinkId,
        session: SessionId,
        attach: &Attach,
        kind: LinkKind,
        scope: Option<String>,
    ) {
        let mut reply = attach.reply();
        reply.max_message_size = Some(MAX_MESSAGE_BYTES);
        if let (LinkKind::Sending(_), Some(properties)) = (&kind, &mut reply.properties) {
            let key = amqp::Value::symbol("com.microsoft:max-message-batch-size");
            properties.insert(key, MAX_MESSAGE_BYTES);
        }
        self.links.insert(link, Link { session, name: attach.name.clone(), scope, kind });
        if self.engine.accept(link, reply).is_err() {
            self.forget_link(link);
        }
    }

    /// The scope that a token must cover for links to this address; an error if no valid token does.
    fn check_permit(&self, address: &str, right: Option<Right>) -> Result<String, AmqpError> {
        let scope = scope_of(address);
        let scope = scope.strip_suffix("/$management").unwrap_or(&scope).to_owned();
        let now = SystemTime::now();
        if self.permits.allow(&scope, right, now) {
            return Ok(scope);
        }
        if let Some(right) = right
            && self.permits.allow(&scope, None, now)
        {
            return Err(refusals::right_missing(right, &self.host(), &scope));
        }
        let text = format!(
            "Unauthorized access. A valid token that covers the resource is required; put one to $cbs first. Resource:'sb://{}/{scope}'",
            self.host()
        );
        Err(AmqpError::new("amqp:unauthorized-access", refusals::tracked(&text)))
    }

    fn check_exists(&self, address: &Address) -> Result<(), AmqpError> {
        if self.hub.read(|state| state.exists(&address.queue)) {
            Ok(())
        } else {
            Err(refusals::not_found(&self.host(), &address.to_string()))
        }
    }
}
