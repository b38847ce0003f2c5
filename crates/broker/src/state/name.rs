//! What entities are called: names compared without regard to letter case, and the two parts messages live in.
//!
//! Taking an address out of an AMQP attach or an HTTP path (scheme, host, `/$DeadLetterQueue`, `/$management`) is the
//! listeners' work; here are only the results.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

/// The longest entity path, in characters (Service Bus quotas: "entity path").
pub const MAX_NAME_LENGTH: usize = 260;

/// The name of a queue: compared case-insensitively, shown as it was first written. Cheap to clone.
#[derive(Clone)]
pub struct EntityName {
    key: Arc<str>,
    display: Arc<str>,
}

/// Why a text is no entity name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Empty, or longer than [`MAX_NAME_LENGTH`].
    #[error("entity name has {length} characters; allowed are 1 to {MAX_NAME_LENGTH}")]
    Length {
        /// Length of the refused text in characters.
        length: usize,
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
    /// Checks a name against the rule of the emulator's `Config-schema.json`: ASCII letters and digits, with `_`, `-`, `.`
    /// and (single) `/` between them.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        let length = name.chars().count();
        if length == 0 || length > MAX_NAME_LENGTH {
            return Err(InvalidName::Length { length });
        }
        let bytes = name.as_bytes();
        let ends = [bytes[0], bytes[bytes.len() - 1]];
        let well_formed = ends.iter().all(u8::is_ascii_alphanumeric)
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_-./".contains(byte))
            && !name.contains("//");
        if !well_formed {
            return Err(InvalidName::Characters { name: name.to_owned() });
        }
        Ok(Self { key: name.to_ascii_lowercase().into(), display: name.into() })
    }

    /// The name as it was written.
    pub fn as_str(&self) -> &str {
        &self.display
    }
}

impl PartialEq for EntityName {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
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
        self.key.cmp(&other.key)
    }
}

impl Hash for EntityName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl fmt::Debug for EntityName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.display, formatter)
    }
}

impl fmt::Display for EntityName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.display)
    }
}

/// The two places of an entity in which messages wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The queue itself.
    Main,
    /// Its `/$DeadLetterQueue`.
    DeadLetter,
}

/// Where messages are received, peeked and settled: an entity, or its dead-letter queue.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The queue.
    pub queue: EntityName,
    /// Which of its two parts.
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
        assert_eq!(EntityName::new(&"x".repeat(261)).unwrap_err(), InvalidName::Length { length: 261 });
    }

    #[test]
    fn an_address_reads_as_on_the_wire() {
        let queue = EntityName::new("Orders").unwrap();
        assert_eq!(Address::main(queue.clone()).to_string(), "Orders");
        assert_eq!(Address::dead_letter(queue).to_string(), "Orders/$DeadLetterQueue");
    }
}
