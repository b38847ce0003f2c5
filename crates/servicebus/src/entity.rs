//! The names of entities: of what kind each is, and the path under which the service has it.
//!
//! The service does not tell letter cases of names apart; this keeps the spelling it was given.

use std::fmt;

/// Between a topic and the name of one of its subscriptions.
const SUBSCRIPTIONS: &str = "/Subscriptions/";

/// Which entity of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EntityName {
    /// A queue, by its path.
    Queue(String),
    /// A topic, by its path.
    Topic(String),
    /// A subscription.
    Subscription {
        /// The path of its topic.
        topic: String,
        /// Its own name.
        name: String,
    },
}

impl EntityName {
    /// A queue.
    pub fn queue(path: impl Into<String>) -> Self {
        Self::Queue(path.into())
    }

    /// A topic.
    pub fn topic(path: impl Into<String>) -> Self {
        Self::Topic(path.into())
    }

    /// A subscription of a topic.
    pub fn subscription(topic: impl Into<String>, name: impl Into<String>) -> Self {
        Self::Subscription { topic: topic.into(), name: name.into() }
    }

    /// Its path in the namespace, such as `orders` or `events/Subscriptions/audit`.
    pub fn path(&self) -> String {
        match self {
            Self::Queue(path) | Self::Topic(path) => path.clone(),
            Self::Subscription { topic, name } => format!("{topic}{SUBSCRIPTIONS}{name}"),
        }
    }

    /// Checks the name as AMQP has it: sub-queues such as `orders/$DeadLetterQueue` are entities there.
    pub(crate) fn check_address(&self) -> Result<(), BadEntityName> {
        let is_address = |text: &str| {
            let ends = text.starts_with('/') || text.ends_with('/');
            !text.is_empty() && !ends && text.chars().count() <= 260 && !text.chars().any(char::is_control)
        };
        let (argument, value) = match self {
            Self::Queue(path) if !is_address(path) => ("queue name", path),
            Self::Topic(topic) | Self::Subscription { topic, .. } if !is_address(topic) => ("topic name", topic),
            Self::Subscription { name, .. } if !is_address(name) => ("subscription name", name),
            _ => return Ok(()),
        };
        Err(BadEntityName { argument, value: value.chars().take(300).collect(), allowed: ADDRESS })
    }

    /// Checks what cannot be sent, or would name something else. Says which argument and what is allowed.
    pub(crate) fn check(&self) -> Result<(), BadEntityName> {
        let (argument, value, allowed) = match self {
            Self::Queue(path) if !is_path(path) => ("queue name", path, PATH),
            Self::Topic(topic) | Self::Subscription { topic, .. } if !is_path(topic) => ("topic name", topic, PATH),
            Self::Subscription { name, .. } if !is_subscription_name(name) => {
                ("subscription name", name, SUBSCRIPTION_NAME)
            }
            _ => return Ok(()),
        };
        Err(BadEntityName { argument, value: value.chars().take(300).collect(), allowed })
    }
}

/// A name that no entity can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{argument} {value:?} is not allowed: {allowed}")]
pub struct BadEntityName {
    /// Which name.
    pub argument: &'static str,
    /// Its value, cut after 300 characters.
    pub value: String,
    /// What is allowed.
    pub allowed: &'static str,
}

const PATH: &str =
    "1 to 260 characters, no control characters, no empty part, `.` or `..` between slashes, no `$` first";
/// The service allows 50 characters of letters, digits, `.`, `-`, `_`; this only keeps a name from being a path.
const SUBSCRIPTION_NAME: &str = "1 to 260 characters, no control characters, no slash, not `.` or `..`, no `$` first";

const ADDRESS: &str = "1 to 260 characters, no control characters, no `/` at its ends";

fn is_path(path: &str) -> bool {
    has_allowed_text(path) && !path.split('/').any(|part| matches!(part, "" | "." | ".."))
}

fn is_subscription_name(name: &str) -> bool {
    has_allowed_text(name) && !matches!(name, "" | "." | "..") && !name.contains('/')
}

fn has_allowed_text(text: &str) -> bool {
    text.chars().count() <= 260 && !text.starts_with('$') && !text.chars().any(char::is_control)
}

/// From a path as the service has it: a subscription if it looks like one's, else a queue. That something is a topic, no path
/// says.
impl From<&str> for EntityName {
    fn from(path: &str) -> Self {
        match path.to_ascii_lowercase().find(&SUBSCRIPTIONS.to_ascii_lowercase()) {
            Some(at) => Self::subscription(&path[..at], &path[at + SUBSCRIPTIONS.len()..]),
            None => Self::queue(path),
        }
    }
}

impl From<&String> for EntityName {
    fn from(path: &String) -> Self {
        path.as_str().into()
    }
}

impl From<&Self> for EntityName {
    fn from(entity: &Self) -> Self {
        entity.clone()
    }
}

impl fmt::Display for EntityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue(path) => write!(f, "queue {path:?}"),
            Self::Topic(path) => write!(f, "topic {path:?}"),
            Self::Subscription { topic, name } => write!(f, "subscription {name:?} of topic {topic:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_whether_it_is_a_subscription_s() {
        assert_eq!(EntityName::from("area/orders"), EntityName::queue("area/orders"));
        for path in ["area/events/Subscriptions/audit", "area/events/subscriptions/audit"] {
            assert_eq!(EntityName::from(path), EntityName::subscription("area/events", "audit"));
        }
        let dead = EntityName::from("t/Subscriptions/s/$DeadLetterQueue");
        assert_eq!(dead.path(), "t/Subscriptions/s/$DeadLetterQueue");
        assert_eq!(dead.to_string(), "subscription \"s/$DeadLetterQueue\" of topic \"t\"");
    }

    #[test]
    fn a_name_is_one_path_and_never_another() {
        for (entity, path) in [
            (EntityName::queue("Orders/EU"), "Orders/EU"),
            (EntityName::topic("events"), "events"),
            (EntityName::subscription("area/events", "audit"), "area/events/Subscriptions/audit"),
        ] {
            assert_eq!(entity.check(), Ok(()));
            assert_eq!(entity.path(), path);
        }
        for path in
            ["", "/", "//evil.example/q", "a//b", "a/../b", "..", "$Resources/Queues", "a\r\nb", &"q".repeat(261)]
        {
            assert!(EntityName::queue(path).check().is_err(), "{path:?}");
            assert!(EntityName::topic(path).check().is_err(), "{path:?}");
            assert!(EntityName::subscription(path, "s").check().is_err(), "{path:?}");
            assert!(EntityName::subscription("t", path).check().is_err(), "{path:?}");
        }
        let error = EntityName::subscription("t", "a/b").check().expect_err("a path");
        assert!(error.to_string().starts_with("subscription name \"a/b\" is not allowed: 1 to 260"), "{error}");
    }
}
