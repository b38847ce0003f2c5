//! What a trigger can count: one queue or subscription, or all whose names match a pattern, taken together.
//!
//! Plain data. Metadata becomes this in [`crate::trigger`]; `readings` reads it.

use std::fmt;
use std::sync::{Arc, LazyLock};

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use regex::{Regex, RegexBuilder};

mod go_syntax;

/// The longest pattern, in bytes. Names have at most 260 characters.
pub const MAX_PATTERN_BYTES: usize = 256;
/// The most memory that one compiled pattern may take, in bytes.
const MAX_COMPILED_BYTES: usize = 256 * 1024;
/// Most patterns that are remembered compiled, or with what is wrong with them: they are matched at each reading of a
/// listing. Nothing but time depends on it.
const MAX_COMPILED: u64 = 64;

/// A queue or a subscription.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Entity {
    /// A queue, by its path in the namespace.
    Queue(String),
    /// A subscription of a topic.
    Subscription {
        /// The topic's path in the namespace.
        topic: String,
        /// The subscription's own name.
        subscription: String,
    },
}

impl Entity {
    /// The listing in which it stands.
    pub fn listing(&self) -> Listing {
        match self {
            Self::Queue(_) => Listing::Queues,
            Self::Subscription { topic, .. } => Listing::Subscriptions { topic: topic.clone() },
        }
    }

    /// Its name as a listing gives it: of a subscription without the topic.
    pub fn name(&self) -> &str {
        match self {
            Self::Queue(name) => name,
            Self::Subscription { subscription, .. } => subscription,
        }
    }

    /// The same in the one spelling that caches use: the service does not tell letter cases of names apart.
    #[must_use]
    pub fn folded(&self) -> Self {
        match self {
            Self::Queue(name) => Self::Queue(name.to_ascii_lowercase()),
            Self::Subscription { topic, subscription } => Self::Subscription {
                topic: topic.to_ascii_lowercase(),
                subscription: subscription.to_ascii_lowercase(),
            },
        }
    }
}

impl fmt::Display for Entity {
    /// As people say it: `queue orders`, `subscription orders/billing`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue(name) => write!(formatter, "queue {name}"),
            Self::Subscription { topic, subscription } => write!(formatter, "subscription {topic}/{subscription}"),
        }
    }
}

/// What the namespace can list, in pages: all its queues, or all subscriptions of one topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Listing {
    /// All queues.
    Queues,
    /// All subscriptions of a topic.
    Subscriptions {
        /// The topic's path in the namespace.
        topic: String,
    },
}

impl Listing {
    /// The same in the one spelling that caches use.
    #[must_use]
    pub fn folded(&self) -> Self {
        match self {
            Self::Queues => Self::Queues,
            Self::Subscriptions { topic } => Self::Subscriptions { topic: topic.to_ascii_lowercase() },
        }
    }

    /// The entity of that name in it.
    pub fn entity(&self, name: &str) -> Entity {
        match self {
            Self::Queues => Entity::Queue(name.to_owned()),
            Self::Subscriptions { topic } => {
                Entity::Subscription { topic: topic.clone(), subscription: name.to_owned() }
            }
        }
    }
}

impl fmt::Display for Listing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queues => formatter.write_str("queues"),
            Self::Subscriptions { topic } => write!(formatter, "subscriptions of topic {topic}"),
        }
    }
}

/// How the counts of several entities become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Operation {
    /// All together.
    #[default]
    Sum,
    /// The largest.
    Max,
    /// The mean, rounded down, as the built-in trigger divides.
    Average,
}

/// A sound pattern, in Go's syntax, that a whole name must match. Holds its text alone: what it compiles to may take hundreds
/// of KiB, and triggers are remembered by the thousand. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct NamePattern {
    text: Arc<str>,
}

impl NamePattern {
    /// Checks a pattern, within limits of length and memory. The error says what is wrong, in one line.
    pub fn new(text: &str) -> Result<Self, String> {
        compiled(text).map(|_| Self { text: text.into() }).map_err(|problem| problem.to_string())
    }

    /// As written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Compiled: what this returns says of a name whether the whole of it matches.
    pub fn matcher(&self) -> impl Fn(&str) -> bool + use<> {
        let compiled = compiled(&self.text).expect("it could be compiled when it was checked");
        move |name| compiled.is_match(name)
    }
}

type Compiled = Result<Regex, Arc<str>>;

static COMPILED: LazyLock<Cache<Box<str>, Compiled>> =
    LazyLock::new(|| Cache::builder().max_capacity(MAX_COMPILED).eviction_policy(EvictionPolicy::lru()).build());

fn compiled(text: &str) -> Compiled {
    // What is too long must not take up the memory either.
    if text.len() > MAX_PATTERN_BYTES {
        return Err(format!("it has {} bytes, more than {MAX_PATTERN_BYTES}", text.len()).into());
    }
    COMPILED.get(text).unwrap_or_else(|| {
        let compiled = compile(text).map_err(Arc::from);
        COMPILED.insert(text.into(), compiled.clone());
        compiled
    })
}

fn compile(text: &str) -> Result<Regex, String> {
    // No group is left open or closed too often, so nothing can leave the parentheses put around it.
    let pattern = format!(r"\A(?:{})\z", go_syntax::translate(text)?);
    let mut builder = RegexBuilder::new(&pattern);
    builder.size_limit(MAX_COMPILED_BYTES).dfa_size_limit(MAX_COMPILED_BYTES).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(limit) => format!("it takes more than {limit} bytes of memory"),
        // Of the text that the translation wrote, which the last line does not show.
        error => {
            let lines = error.to_string();
            let reason = lines.lines().last().unwrap_or_default();
            reason.strip_prefix("error: ").unwrap_or(reason).to_owned()
        }
    })
}

impl fmt::Debug for NamePattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(formatter)
    }
}

/// All entities of a listing whose names match, counted as one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Matching {
    /// Where they stand.
    pub listing: Listing,
    /// Which of them.
    pub pattern: NamePattern,
    /// How their counts become one.
    pub operation: Operation,
}

/// What a trigger counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// One queue or subscription.
    Entity(Entity),
    /// Several, as one.
    Matching(Matching),
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entity(entity) => entity.fmt(formatter),
            Self::Matching(Matching { listing, pattern, .. }) => {
                write!(formatter, "{listing} that match {:?}", pattern.text())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_is_forgotten_is_compiled_again() {
        let first = NamePattern::new("first-.*").expect("a sound pattern");
        for number in 0..2 * MAX_COMPILED {
            NamePattern::new(&format!("other-{number}")).expect("a sound pattern");
        }
        COMPILED.invalidate("first-.*");
        let is_match = first.matcher();
        assert!(is_match("first-1") && !is_match("other-1"));
        assert!(NamePattern::new(&"a".repeat(MAX_PATTERN_BYTES + 1)).is_err());
        assert!(!COMPILED.contains_key("a".repeat(MAX_PATTERN_BYTES + 1).as_str()), "it takes up no memory");
    }
}
