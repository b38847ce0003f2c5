//! What entities are called: names compared without regard to letter case, and the parts that messages live in.
//!
//! A queue and a topic have a name, a subscription has its topic's and its own. Taking an address out of an AMQP attach or
//! an HTTP path (scheme, host, `/$DeadLetterQueue`, `/$management`) is the listeners' work; here are only the results.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

/// The longest entity path, in characters (Service Bus quotas: "entity path").
pub const MAX_NAME_LENGTH: usize = 260;

/// The longest name of a subscription, in characters (the same table: "subscription name").
pub const MAX_SUBSCRIPTION_NAME_LENGTH: usize = 50;

/// What stands between a topic's name and that of its subscription; never a part of a queue's or topic's own name.
const SUBSCRIPTIONS: &str = "Subscriptions";

/// The name of a queue, topic or subscription: compared case-insensitively, shown as it was first written. Cheap to clone.
#[derive(Clone)]
pub struct EntityName(Arc<Spelling>);

struct Spelling {
    /// What is compared.
    key: String,
    display: String,
    /// Of a subscription: its topic.
    topic: Option<EntityName>,
}

/// Why a text is no entity name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Empty, or longer than [`MAX_NAME_LENGTH`] or [`MAX_SUBSCRIPTION_NAME_LENGTH`].
    #[error("entity name has {length} characters; allowed are 1 to {max}")]
    Length {
        /// Length of the refused text in characters.
        length: usize,
        /// The longest allowed.
        max: usize,
    },
    /// `Subscriptions` as a later part of a path is what leads from a topic to its subscriptions.
    #[error("entity name {name:?} may not have 'Subscriptions' between or after '/'")]
    Reserved {
        /// The refused text.
        name: String,
    },
    /// A character outside the allowed set, or not allowed at that place.
    #[error(
        "entity name {name:?} may hold letters, digits, '.', '-', '_' and single '/', and must start and end with a \
         letter or digit"
    )]
    Characters {
        /// The refused text.
        name: String,
    },
}

impl EntityName {
    /// The name of a queue or topic. Checked against the rule of the emulator's `Config-schema.json`: ASCII letters and
    /// digits, with `_`, `-`, `.` and (single) `/` between them.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        check(name, MAX_NAME_LENGTH)?;
        if name.split('/').skip(1).any(|part| part.eq_ignore_ascii_case(SUBSCRIPTIONS)) {
            return Err(InvalidName::Reserved { name: name.to_owned() });
        }
        Ok(Self::spelt(name.to_owned(), None))
    }

    /// The name of a subscription: its topic, and its own name, of the same letters without `/`.
    pub fn subscription(topic: &Self, name: &str) -> Result<Self, InvalidName> {
        check(name, MAX_SUBSCRIPTION_NAME_LENGTH)?;
        if name.contains('/') {
            return Err(InvalidName::Characters { name: name.to_owned() });
        }
        Ok(Self::spelt(format!("{topic}/{SUBSCRIPTIONS}/{name}"), Some(topic.clone())))
    }

    fn spelt(display: String, topic: Option<Self>) -> Self {
        Self(Arc::new(Spelling { key: display.to_ascii_lowercase(), display, topic }))
    }

    /// Takes a path apart: the topic's path and what follows `/Subscriptions`, or `None` where that is not in it.
    pub fn split_subscription(path: &str) -> Option<(&str, &str)> {
        let mut start = path.find('/')? + 1;
        loop {
            let (part, rest) = path[start..].split_once('/').unwrap_or((&path[start..], ""));
            if part.eq_ignore_ascii_case(SUBSCRIPTIONS) {
                return Some((&path[..start - 1], rest));
            }
            start += part.len() + 1;
            if start > path.len() {
                return None;
            }
        }
    }

    /// The name as it was written; of a subscription `topic/Subscriptions/name`.
    pub fn as_str(&self) -> &str {
        &self.0.display
    }

    /// Of a subscription its name in its topic, of a queue or topic its whole name.
    pub fn own_name(&self) -> &str {
        let start = self.topic().map_or(0, |topic| topic.as_str().len() + SUBSCRIPTIONS.len() + 2);
        &self.as_str()[start..]
    }

    /// Of a subscription, its topic.
    pub fn topic(&self) -> Option<&Self> {
        self.0.topic.as_ref()
    }
}

fn check(name: &str, max: usize) -> Result<(), InvalidName> {
    let length = name.chars().count();
    if length == 0 || length > max {
        return Err(InvalidName::Length { length, max });
    }
    let bytes = name.as_bytes();
    let ends = [bytes[0], bytes[bytes.len() - 1]];
    let well_formed = ends.iter().all(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_-./".contains(byte))
        && !name.contains("//");
    if well_formed { Ok(()) } else { Err(InvalidName::Characters { name: name.to_owned() }) }
}

impl PartialEq for EntityName {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for EntityName {}

impl PartialOrd for EntityName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for EntityName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.key.cmp(&other.0.key)
    }
}

impl Hash for EntityName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key.hash(state);
    }
}

impl fmt::Debug for EntityName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), formatter)
    }
}

impl fmt::Display for EntityName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// The places of a queue or subscription in which messages wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The queue itself.
    Main,
    /// Its `/$DeadLetterQueue`.
    DeadLetter,
    /// Its `/$Transfer/$DeadLetterQueue`: messages that could not be forwarded.
    TransferDeadLetter,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Main, Self::DeadLetter, Self::TransferDeadLetter];
}

/// Where messages are received, peeked and settled: a queue or subscription, or one of its dead-letter queues.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The queue or subscription.
    pub queue: EntityName,
    /// Which of its parts.
    pub part: Part,
}

impl Address {
    /// The queue itself.
    pub fn main(queue: EntityName) -> Self {
        Self { queue, part: Part::Main }
    }

    /// The queue's dead-letter queue.
    pub fn dead_letter(queue: EntityName) -> Self {
        Self { queue, part: Part::DeadLetter }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part {
            Part::Main => write!(formatter, "{}", self.queue),
            Part::DeadLetter => write!(formatter, "{}/$DeadLetterQueue", self.queue),
            Part::TransferDeadLetter => write!(formatter, "{}/$Transfer/$DeadLetterQueue", self.queue),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_by_more_than_case() {
        let orders = EntityName::new("Orders").unwrap();
        assert_eq!(orders, EntityName::new("oRDERS").unwrap());
        assert_eq!(orders.as_str(), "Orders");
        assert!(orders < EntityName::new("payments").unwrap());
        assert!(EntityName::new("Zebra").unwrap() > EntityName::new("apple").unwrap());
    }

    #[test]
    fn only_the_schema_names_are_names() {
        for good in ["q", "7", "a/b", "a.b-c_d", &"x".repeat(MAX_NAME_LENGTH)] {
            assert!(EntityName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "$Resources", "q/$DeadLetterQueue", "a b", "é", "_a", "a?", "a\n"] {
            assert!(EntityName::new(bad).is_err(), "{bad}");
        }
        assert_eq!(EntityName::new(&"x".repeat(261)).unwrap_err(), InvalidName::Length { length: 261, max: 260 });
        for reserved in ["t/subscriptions", "a/SUBSCRIPTIONS/b"] {
            assert!(matches!(EntityName::new(reserved), Err(InvalidName::Reserved { .. })), "{reserved}");
        }
        assert!(EntityName::new("subscriptions/a").is_ok(), "the first part may be called so");
    }

    #[test]
    fn a_subscription_has_its_topic_and_a_name_of_its_own() {
        let topic = EntityName::new("Area/Orders").unwrap();
        let audit = EntityName::subscription(&topic, "Audit").unwrap();
        assert_eq!((audit.as_str(), audit.own_name()), ("Area/Orders/Subscriptions/Audit", "Audit"));
        assert_eq!((audit.topic(), topic.topic(), topic.own_name()), (Some(&topic), None, "Area/Orders"));
        let other = EntityName::new("area/ORDERS").unwrap();
        assert_eq!(EntityName::subscription(&other, "AUDIT").unwrap(), audit);
        for bad in ["", "a/b", "a b", &"x".repeat(MAX_SUBSCRIPTION_NAME_LENGTH + 1)] {
            assert!(EntityName::subscription(&topic, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_path_is_taken_apart_at_the_first_subscriptions_after_a_topic() {
        for (path, parts) in [
            ("t/Subscriptions/s", Some(("t", "s"))),
            ("a/b/subscriptions/s/Rules/r", Some(("a/b", "s/Rules/r"))),
            ("t/SUBSCRIPTIONS", Some(("t", ""))),
            ("subscriptions/Subscriptions/subscriptions", Some(("subscriptions", "subscriptions"))),
            ("subscriptions", None),
            ("a/subscriptionss/b", None),
            ("", None),
            ("/", None),
        ] {
            assert_eq!(EntityName::split_subscription(path), parts, "{path}");
        }
    }

    #[test]
    fn an_address_reads_as_on_the_wire() {
        let queue = EntityName::new("Orders").unwrap();
        assert_eq!(Address::main(queue.clone()).to_string(), "Orders");
        assert_eq!(Address::dead_letter(queue.clone()).to_string(), "Orders/$DeadLetterQueue");
        let transfer = Address { queue, part: Part::TransferDeadLetter };
        assert_eq!(transfer.to_string(), "Orders/$Transfer/$DeadLetterQueue");
    }
}
