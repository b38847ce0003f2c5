//! Addresses: what a link's source or target, a token's audience or an HTTP path names.
//!
//! Clients write the same entity in many ways (`orders`, `amqps://host:5672/orders/`, `sb://HOST/Orders`), so one place
//! strips scheme and host. Whether the entity exists is the state's business, not this file's.

use crate::state::{Address, EntityName};

/// What an address means to this broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// `$cbs`: where tokens are put.
    Tokens,
    /// A queue, or its dead-letter sub-queue.
    Entity(Address),
    /// The `$management` node of an entity.
    Management(Address),
    /// A kind of entity that exists in Service Bus but not in this broker; the text says which.
    Unsupported(&'static str),
    /// A text that cannot name any entity.
    Nameless,
}

impl Node {
    /// Reads an address. Never fails: what names nothing is [`Node::Nameless`].
    pub(crate) fn parse(address: &str) -> Self {
        let path = path_of(address);
        if path.eq_ignore_ascii_case("$cbs") {
            return Self::Tokens;
        }
        match strip_suffix(path, "/$management") {
            Some(owner) => entity(owner).map_or_else(|other| other, Self::Management),
            None => entity(path).map_or_else(|other| other, Self::Entity),
        }
    }
}

fn entity(path: &str) -> Result<Address, Node> {
    if names_subscription(path) {
        return Err(Node::Unsupported("topics and subscriptions"));
    }
    if strip_suffix(path, "/$transfer/$deadletterqueue").is_some() {
        return Err(Node::Unsupported("transfer dead-letter queues"));
    }
    let (queue, dead_letter) = match strip_suffix(path, "/$deadletterqueue") {
        Some(queue) => (queue, true),
        None => (path, false),
    };
    let queue = EntityName::new(queue).map_err(|_| Node::Nameless)?;
    Ok(if dead_letter { Address::dead_letter(queue) } else { Address::main(queue) })
}

/// Whether a path is of the form `topic/Subscriptions…`. A queue may be called `subscriptions` all the same.
pub(crate) fn names_subscription(path: &str) -> bool {
    path.split('/').skip(1).any(|segment| segment.eq_ignore_ascii_case("subscriptions"))
}

/// Takes off an ASCII suffix without regard to letter case.
fn strip_suffix<'a>(text: &'a str, suffix: &str) -> Option<&'a str> {
    let (head, tail) = text.split_at_checked(text.len().checked_sub(suffix.len())?)?;
    tail.eq_ignore_ascii_case(suffix).then_some(head)
}

/// The path of an address: scheme, host, query and outer slashes taken away.
fn path_of(address: &str) -> &str {
    let path = match address.split_once("://") {
        Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
        None => address,
    };
    path.split_once('?').map_or(path, |(path, _)| path).trim_matches('/')
}

/// The part of the namespace that an address stands for when rights are compared: its path, lower-cased.
pub(crate) fn scope_of(address: &str) -> String {
    path_of(address).to_lowercase()
}

/// Whether a token for `scope` also covers `path`: the scope's segments begin the path. The empty scope is the whole
/// namespace.
pub(crate) fn covers(scope: &str, path: &str) -> bool {
    match path.strip_prefix(scope) {
        Some(rest) => scope.is_empty() || rest.is_empty() || rest.starts_with('/'),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn queue(name: &str) -> EntityName {
        EntityName::new(name).expect("a valid name")
    }

    #[test]
    fn every_client_spelling_names_the_same_queue() {
        for address in [
            "Orders",
            "orders/",
            "/orders",
            "amqps://127.0.0.1:5672/orders",
            "amqp://Host/ORDERS",
            "sb://host/orders/?a=b",
        ] {
            assert_eq!(Node::parse(address), Node::Entity(Address::main(queue("orders"))), "{address}");
        }
    }

    #[test]
    fn sub_queues_and_management_nodes() {
        let dead = Address::dead_letter(queue("a/b"));
        assert_eq!(Node::parse("a/b/$DeadLetterQueue"), Node::Entity(dead.clone()));
        assert_eq!(Node::parse("amqp://h/a/b/$deadletterqueue/$management"), Node::Management(dead));
        assert_eq!(Node::parse("a/$management"), Node::Management(Address::main(queue("a"))));
        assert_eq!(Node::parse("amqp://h/$cbs"), Node::Tokens);
        assert!(matches!(Node::parse("t/Subscriptions/s"), Node::Unsupported(_)));
        assert_eq!(Node::parse("subscriptions"), Node::Entity(Address::main(queue("subscriptions"))));
        assert!(matches!(Node::parse("q/$Transfer/$DeadLetterQueue"), Node::Unsupported(_)));
        for nameless in ["", "amqp://host", "a b", "$management", "q/$other"] {
            assert_eq!(Node::parse(nameless), Node::Nameless, "{nameless}");
        }
    }

    #[test]
    fn scopes_cover_whole_segments_only() {
        assert!(covers("", "orders"));
        assert!(covers("orders", "orders"));
        assert!(covers("orders", "orders/$management"));
        assert!(!covers("order", "orders"));
        assert!(!covers("orders/a", "orders"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,60}") {
            let _ = (Node::parse(&text), scope_of(&text));
        }
    }
}
