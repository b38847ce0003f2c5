//! Addresses: what a link's source or target, a token's audience or an HTTP path names.
//!
//! Clients write the same entity in many ways (`orders`, `amqps://host:5672/orders/`, `sb://HOST/Orders`), so one place
//! strips scheme and host. Whether the entity exists is the state's business, not this file's.

use crate::state::{Address, EntityName, Part};

/// What an address means to this broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// `$cbs`: where tokens are put.
    Tokens,
    /// A queue, topic or subscription, or a dead-letter queue of one.
    Entity(Address),
    /// The `$management` node of an entity.
    Management(Address),
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
            Some(owner) => entity(owner).map_or(Self::Nameless, Self::Management),
            None => entity(path).map_or(Self::Nameless, Self::Entity),
        }
    }
}

fn entity(path: &str) -> Option<Address> {
    let sub_queue = |suffix, part| Some((strip_suffix(path, suffix)?, part));
    let (path, part) = sub_queue("/$transfer/$deadletterqueue", Part::TransferDeadLetter)
        .or_else(|| sub_queue("/$deadletterqueue", Part::DeadLetter))
        .unwrap_or((path, Part::Main));
    let queue = match EntityName::split_subscription(path) {
        Some((topic, name)) => EntityName::subscription(&EntityName::new(topic).ok()?, name).ok()?,
        None => EntityName::new(path).ok()?,
    };
    Some(Address { queue, part })
}

/// Takes off an ASCII suffix without regard to letter case.
fn strip_suffix<'a>(text: &'a str, suffix: &str) -> Option<&'a str> {
    let (head, tail) = text.split_at_checked(text.len().checked_sub(suffix.len())?)?;
    tail.eq_ignore_ascii_case(suffix).then_some(head)
}

/// The path of an address: scheme, host, query and outer slashes taken away.
pub(crate) fn path_of(address: &str) -> &str {
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
        let subscription = EntityName::subscription(&queue("t"), "s").expect("a valid name");
        for address in ["t/Subscriptions/s", "amqps://h:1/T/subscriptions/S/", "t/SUBSCRIPTIONS/s"] {
            assert_eq!(Node::parse(address), Node::Entity(Address::main(subscription.clone())), "{address}");
        }
        let transfer = Address { queue: subscription.clone(), part: Part::TransferDeadLetter };
        assert_eq!(Node::parse("t/Subscriptions/s/$Transfer/$DeadLetterQueue"), Node::Entity(transfer));
        let dead = Address::dead_letter(subscription);
        assert_eq!(Node::parse("t/subscriptions/s/$deadletterqueue/$management"), Node::Management(dead));
        assert_eq!(Node::parse("subscriptions"), Node::Entity(Address::main(queue("subscriptions"))));
        for nameless in [
            "",
            "amqp://host",
            "a b",
            "$management",
            "q/$other",
            "t/Subscriptions",
            "t/Subscriptions/s/Rules",
            "q/$transfer",
        ] {
            assert_eq!(Node::parse(nameless), Node::Nameless, "{nameless}");
        }
    }

    #[test]
    fn scopes_cover_whole_segments_only() {
        assert!(covers("", "orders"));
        assert!(covers("orders", "orders"));
        assert!(covers("orders", "orders/$management"));
        assert!(covers("topic", &scope_of("sb://h/Topic/Subscriptions/Audit/$DeadLetterQueue")));
        assert!(!covers("topic/subscriptions/a", "topic/subscriptions/audit"));
        assert!(!covers("topic/subscriptions/audit", "topic"));
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
