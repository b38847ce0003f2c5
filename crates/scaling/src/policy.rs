//! What a policy is, and the list of all of them.
//!
//! A new policy is one file in `policy/` (copy `message_count.rs`) and one line in [`POLICIES`]; documentation, metadata
//! checks and the property tests below go through that list.

mod message_count;
mod weighted;

use std::collections::BTreeMap;
use std::fmt;

use crate::reading::{Moment, Window};

/// All policies.
pub const POLICIES: &[Entry] = &[message_count::ENTRY, weighted::ENTRY];

/// The policy of a trigger that names none.
pub const DEFAULT_POLICY: &str = message_count::ENTRY.name;

/// A policy's own settings: the metadata keys it declares, with their text.
pub type Settings = BTreeMap<String, String>;

/// What a policy says.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The replicas it wants: finite, not negative, not necessarily whole (the HPA rounds up).
    pub replicas: f64,
    /// Whether the target should run at all.
    pub active: bool,
    /// Why, in one line for people.
    pub why: String,
}

/// Turns readings into replicas. A pure function of the window and the moment, so that a restart or a second replica of
/// the scaler loses nothing but the window.
pub trait Policy: fmt::Debug + Send + Sync {
    /// Decides. `now` is on the same clock as the readings' times and never before them.
    fn decide(&self, window: &Window<'_>, now: Moment) -> Decision;
}

/// One policy in the list of all.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its name in metadata and profiles.
    pub name: &'static str,
    /// What it does, in one sentence.
    pub summary: &'static str,
    /// The metadata keys it reads beside the base ones.
    pub keys: &'static [Key],
    /// Makes it from checked base settings and its own keys.
    build: Build,
}

type Build = fn(Base, &Settings) -> Result<Box<dyn Policy>, KeyError>;

/// One metadata key of a policy.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it means.
    pub doc: &'static str,
    /// What it may be.
    pub allowed: &'static str,
    /// What it is when not given.
    pub default: &'static str,
}

/// The settings that every trigger has, whatever its policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    message_count: u32,
    activation_message_count: u64,
}

impl Base {
    /// `message_count`: messages that one replica is for, at least 1. `activation_message_count`: active only above it.
    pub fn new(message_count: u32, activation_message_count: u64) -> Result<Self, BaseError> {
        if message_count == 0 { Err(BaseError) } else { Ok(Self { message_count, activation_message_count }) }
    }

    /// Messages that one replica is for; at least 1.
    pub fn message_count(&self) -> u32 {
        self.message_count
    }

    /// The target is active when it has strictly more messages than this.
    pub fn activation_message_count(&self) -> u64 {
        self.activation_message_count
    }
}

impl Default for Base {
    /// KEDA's defaults: 5 messages a replica, active from the first.
    fn default() -> Self {
        Self { message_count: 5, activation_message_count: 0 }
    }
}

/// `messageCount` is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("messageCount: 0 is not allowed; allowed is a whole number from 1")]
pub struct BaseError;

/// A policy's key has a value that is not allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {value:?} {problem}; allowed is {allowed}")]
pub struct KeyError {
    /// The key.
    pub key: &'static str,
    /// Its value, shortened if long.
    pub value: String,
    /// What is wrong with it.
    pub problem: String,
    /// What would be right.
    pub allowed: &'static str,
}

impl KeyError {
    /// An error about `key`, with at most the first 100 characters of its value.
    fn new(key: &Key, value: &str, problem: impl Into<String>) -> Self {
        let shown = match value.char_indices().nth(100) {
            Some((end, _)) => format!("{}…", &value[..end]),
            None => value.to_owned(),
        };
        Self { key: key.name, value: shown, problem: problem.into(), allowed: key.allowed }
    }
}

/// A policy could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// There is no policy of this name.
    #[error("policy: {0:?} does not exist; allowed are {known}", known = policy_names())]
    Unknown(String),
    /// The policy does not know this key.
    #[error("policy {policy} has no key {key:?}; allowed are {known}")]
    UnknownKey {
        /// The policy.
        policy: &'static str,
        /// The key.
        key: String,
        /// The keys it has, or `none`.
        known: String,
    },
    /// A key's value is not allowed.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Makes a policy by name. `settings` holds the policy's own keys and nothing else.
pub fn build_policy(name: &str, base: Base, settings: &Settings) -> Result<Box<dyn Policy>, PolicyError> {
    let entry =
        POLICIES.iter().find(|entry| entry.name == name).ok_or_else(|| PolicyError::Unknown(name.to_owned()))?;
    if let Some(key) = settings.keys().find(|key| entry.keys.iter().all(|known| known.name != key.as_str())) {
        let known: Vec<&str> = entry.keys.iter().map(|key| key.name).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(PolicyError::UnknownKey { policy: entry.name, key: key.clone(), known });
    }
    let policy = (entry.build)(base, settings)?;
    Ok(Box::new(Receivable(policy)))
}

/// A number for people: at most three decimals, none that say nothing.
fn shown(number: f64) -> String {
    let text = format!("{number:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The names of all policies, for texts.
pub fn policy_names() -> String {
    POLICIES.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", ")
}

/// What holds for every policy: an entity that gives out no messages needs no replicas, whatever it holds.
#[derive(Debug)]
struct Receivable(Box<dyn Policy>);

impl Policy for Receivable {
    fn decide(&self, window: &Window<'_>, now: Moment) -> Decision {
        let status = window.newest().status;
        if status.is_receivable() {
            return self.0.decide(window, now);
        }
        Decision { replicas: 0.0, active: false, why: format!("its status is {status:?}: nothing can be received") }
    }
}

#[cfg(test)]
mod tests;
