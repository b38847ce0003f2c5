//! Trigger metadata, raw to typed: what KEDA's built-in `azure-servicebus` trigger means by each key means the same here.
//!
//! Pure: no I/O, no configuration of this scaler. What only the surroundings can answer (was the connection's variable
//! resolved, does the profile exist, may this host be called) does not fail the parsing, because `GetMetricSpec` must be
//! answered from the metadata's own text: an error there switches off the user's `fallback` (keda#8056).

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::str::FromStr;

use scaling::{Base, Key, PolicyError, Settings};
use servicebus::{ConnectionString, ConnectionStringError};

use crate::entity::{Entity, Target};

const QUEUE_NAME: Key = Key {
    name: "queueName",
    doc: "the queue",
    allowed: "the name of a queue: 1 to 260 letters, digits, periods, hyphens, underscores and inner slashes",
    default: "",
};
const MESSAGE_COUNT: Key = Key {
    name: "messageCount",
    doc: "messages per replica; the target that the HPA gets",
    allowed: "a whole number from 1 to 1000000",
    default: "5",
};
const ACTIVATION_MESSAGE_COUNT: Key = Key {
    name: "activationMessageCount",
    doc: "active only with strictly more messages than this",
    allowed: "a whole number from 0",
    default: "0",
};
const CONNECTION_FROM_ENV: Key = Key {
    name: "connectionFromEnv",
    doc: "holds the connection string; KEDA puts the variable's value here",
    allowed: "the name of an environment variable of the scale target's container",
    default: "",
};
const POLICY: Key = Key {
    name: "policy",
    doc: "how many replicas the readings call for",
    allowed: "the name of a policy",
    default: scaling::DEFAULT_POLICY,
};
const POLICY_PROFILE: Key = Key {
    name: "policyProfile",
    doc: "a policy by name, instead of policy",
    allowed: "a name in the scaler's config file",
    default: "",
};

/// The keys that every trigger may have; an empty default means that there is none. A policy's own keys come on top.
pub const KEYS: [Key; 6] =
    [QUEUE_NAME, MESSAGE_COUNT, ACTIVATION_MESSAGE_COUNT, CONNECTION_FROM_ENV, POLICY, POLICY_PROFILE];

const CONNECTION: &str = "connection";
const USE_REGEX: &str = "useRegex";

/// Keys that KEDA reads itself and forwards all the same (`pkg/scalers/external_scaler.go`).
pub(crate) const KEDA_KEYS: [&str; 7] =
    ["scalerAddress", "enableTLS", "unsafeSsl", "caCert", "tlsClientCert", "tlsClientKey", "tlsCertFile"];

/// Keys whose features are not here yet: ignoring them would scale on something else.
const UNSUPPORTED_KEYS: [&str; 3] = ["topicName", "subscriptionName", "connectionRef"];

/// Far beyond any use, and small enough that value and target stay exact in KEDA's thousandths.
const MAX_MESSAGE_COUNT: u32 = 1_000_000;
/// Longest queue name that Service Bus allows, in characters.
const MAX_QUEUE_NAME: usize = 260;
/// Values longer than this are cut in error texts.
const MAX_SHOWN: usize = 64;

/// A trigger whose metadata is sound.
#[derive(Clone, Debug)]
pub struct Trigger {
    /// What it counts.
    pub target: Target,
    /// Messages per replica, which is also the target that the HPA gets, and the count above which it is active.
    pub base: Base,
    /// How to decide.
    pub policy: PolicyChoice,
    /// Keys that mean nothing here, sorted. Ignored, as KEDA does, but worth a warning.
    pub ignored: Vec<String>,
    connection: Result<ConnectionString, ConnectionProblem>,
}

/// How the trigger says which policy decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyChoice {
    /// In its metadata.
    Inline {
        /// One of the registry's policies.
        policy: String,
        /// The policy's own keys.
        settings: Settings,
    },
    /// By a name in the scaler's config file.
    Profile(String),
}

/// Metadata that cannot be right, whatever the surroundings. Names the key, the value and what is allowed; a value that
/// may hold a secret is not shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TriggerError {
    /// A required key is not there.
    #[error("metadata {key} is missing: {allowed}")]
    Missing {
        /// The key.
        key: &'static str,
        /// What to write.
        allowed: &'static str,
    },
    /// A value of a form that is not allowed.
    #[error("metadata {key}: {value:?} is not {allowed}")]
    Invalid {
        /// The key.
        key: &'static str,
        /// What was given, cut when long.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// A feature of the built-in trigger that this scaler does not have.
    #[error("metadata {key} is not supported yet: this scaler reads queues, by queueName and connectionFromEnv")]
    NotSupported {
        /// The key.
        key: &'static str,
    },
    /// A secret in plain metadata.
    #[error(
        "metadata {key} is refused: it would put a secret into the ScaledObject. Set connectionFromEnv to the name of \
         an environment variable of the scale target that holds the connection string, filled from a Secret"
    )]
    SecretInMetadata {
        /// The key it stands under.
        key: String,
    },
    /// Two keys that exclude each other.
    #[error("metadata policy and policyProfile exclude each other: give one of the two")]
    PolicyAndProfile,
    /// The policy's own keys are wrong, or there is no such policy.
    #[error("metadata {0}")]
    Policy(PolicyError),
}

/// Why there is no connection string, though the metadata may be sound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionProblem {
    /// The key is not there: not written, or KEDA left it out.
    #[error(
        "metadata connectionFromEnv is missing: either the trigger does not name a variable, or KEDA could not resolve it. \
         KEDA looks in the environment of the scale target's container (its env and envFrom, and the Secrets and ConfigMaps \
         they name) and leaves out what it does not find"
    )]
    Unresolved,
    /// The value is no connection string.
    #[error("the connection string that KEDA resolved for connectionFromEnv cannot be used: {0}")]
    Invalid(ConnectionStringError),
}

impl Trigger {
    /// Parses a trigger's metadata as KEDA forwards it.
    pub fn parse(metadata: &HashMap<String, String>) -> Result<Self, TriggerError> {
        let value = |key: &str| metadata.get(key).map(String::as_str);
        if let Some(key) = metadata.iter().find_map(|(key, value)| holds_secret(key, value).then_some(key)) {
            return Err(TriggerError::SecretInMetadata { key: shown(key) });
        }
        if let Some(key) = UNSUPPORTED_KEYS.into_iter().find(|key| metadata.contains_key(*key)) {
            return Err(TriggerError::NotSupported { key });
        }
        match value(USE_REGEX) {
            None | Some("false") => {}
            Some(_) => return Err(TriggerError::NotSupported { key: USE_REGEX }),
        }
        let base = base(value(MESSAGE_COUNT.name), value(ACTIVATION_MESSAGE_COUNT.name))?;
        let policy = policy_choice(metadata, base)?;
        let policy_keys: Vec<_> = match &policy {
            PolicyChoice::Inline { policy, .. } => own_keys(policy).collect(),
            // A profile brings its own.
            PolicyChoice::Profile(_) => Vec::new(),
        };
        let is_known = |key: &str| {
            KEYS.iter().any(|known| known.name == key)
                || KEDA_KEYS.contains(&key)
                || key == USE_REGEX
                || policy_keys.contains(&key)
        };
        let mut ignored: Vec<String> = metadata.keys().filter(|key| !is_known(key)).cloned().collect();
        ignored.sort_unstable();
        Ok(Self {
            target: Target::Entity(Entity::Queue(queue_name(value(QUEUE_NAME.name))?)),
            base,
            policy,
            ignored,
            connection: connection(value(CONNECTION_FROM_ENV.name)),
        })
    }

    /// The namespace and the credential, if the surroundings gave one.
    pub fn connection(&self) -> Result<&ConnectionString, ConnectionProblem> {
        self.connection.as_ref().map_err(Clone::clone)
    }

    /// The name of the trigger's one metric, as the built-in trigger forms it: `azure-servicebus-{queue}`, in lower case
    /// and with `-` for what a Kubernetes metric name cannot hold. KEDA does not correct names of external scalers
    /// (keda#1168, keda#4954).
    pub fn metric_name(&self) -> String {
        let allowed = |character: char| match character.to_ascii_lowercase() {
            letter @ ('a'..='z' | '0'..='9' | '-' | '_') => letter,
            _ => '-',
        };
        let name = match &self.target {
            Target::Entity(entity) => entity.name(),
            Target::Matching(matching) => matching.pattern.text(),
        };
        format!("azure-servicebus-{}", name.chars().map(allowed).collect::<String>())
    }
}

/// The names of all policies, for texts.
pub fn policy_names() -> String {
    scaling::POLICIES.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", ")
}

/// Whether a secret is written into the metadata itself: under the key of that name, or a connection string under any
/// other. What stands under a `…FromEnv` key is not written there; KEDA put it in.
fn holds_secret(key: &str, value: &str) -> bool {
    let is_connection_string = || value.contains("SharedAccessKey=") || value.contains("SharedAccessSignature");
    key == CONNECTION || (!key.ends_with("FromEnv") && is_connection_string())
}

fn queue_name(value: Option<&str>) -> Result<String, TriggerError> {
    let name = value.filter(|name| !name.is_empty());
    let name = name.ok_or(TriggerError::Missing { key: QUEUE_NAME.name, allowed: QUEUE_NAME.allowed })?;
    let is_allowed = |character: char| character.is_alphanumeric() || matches!(character, '.' | '-' | '_' | '/');
    let has_good_parts = name.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if name.chars().count() > MAX_QUEUE_NAME || !name.chars().all(is_allowed) || !has_good_parts {
        return Err(wrong(&QUEUE_NAME, name));
    }
    Ok(name.to_owned())
}

fn base(message_count: Option<&str>, activation_message_count: Option<&str>) -> Result<Base, TriggerError> {
    let defaults = Base::default();
    let count = whole(&MESSAGE_COUNT, message_count, defaults.message_count(), 1..=MAX_MESSAGE_COUNT)?;
    let any_count = 0..=i64::MAX.unsigned_abs();
    let default = defaults.activation_message_count();
    let activation = whole(&ACTIVATION_MESSAGE_COUNT, activation_message_count, default, any_count)?;
    Base::new(count, activation).map_err(|_| wrong(&MESSAGE_COUNT, &count.to_string()))
}

fn whole<T: FromStr + PartialOrd>(
    key: &Key,
    text: Option<&str>,
    default: T,
    range: RangeInclusive<T>,
) -> Result<T, TriggerError> {
    match text {
        None => Ok(default),
        Some(text) => text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| wrong(key, text)),
    }
}

fn wrong(key: &Key, value: &str) -> TriggerError {
    TriggerError::Invalid { key: key.name, value: shown(value), allowed: key.allowed }
}

fn connection(value: Option<&str>) -> Result<ConnectionString, ConnectionProblem> {
    match value {
        None | Some("") => Err(ConnectionProblem::Unresolved),
        Some(text) => ConnectionString::parse(text).map_err(ConnectionProblem::Invalid),
    }
}

fn policy_choice(metadata: &HashMap<String, String>, base: Base) -> Result<PolicyChoice, TriggerError> {
    match (metadata.get(POLICY.name), metadata.get(POLICY_PROFILE.name)) {
        (Some(_), Some(_)) => Err(TriggerError::PolicyAndProfile),
        (None, Some(profile)) => Ok(PolicyChoice::Profile(profile.clone())),
        (policy, None) => {
            let policy = policy.map_or(scaling::DEFAULT_POLICY, String::as_str);
            let own = own_keys(policy).filter_map(|key| metadata.get_key_value(key));
            let settings = own.map(|(key, value)| (key.clone(), value.clone())).collect();
            match scaling::build_policy(policy, base, &settings) {
                Ok(_) => Ok(PolicyChoice::Inline { policy: policy.to_owned(), settings }),
                Err(PolicyError::Unknown(name)) => Err(TriggerError::Policy(PolicyError::Unknown(shown(&name)))),
                Err(error) => Err(TriggerError::Policy(error)),
            }
        }
    }
}

/// The metadata keys that a policy reads beside those of every trigger.
fn own_keys(policy: &str) -> impl Iterator<Item = &'static str> {
    let entry = scaling::POLICIES.iter().find(|entry| entry.name == policy);
    entry.into_iter().flat_map(|entry| entry.keys.iter().map(|key| key.name))
}

fn shown(value: &str) -> String {
    if value.chars().count() <= MAX_SHOWN {
        return value.to_owned();
    }
    value.chars().take(MAX_SHOWN).chain(['…']).collect()
}

#[cfg(test)]
mod tests;
