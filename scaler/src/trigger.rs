//! Trigger metadata, raw to typed: what KEDA's built-in `azure-servicebus` trigger means by each key means the same here.
//!
//! Pure: no I/O, no configuration of this scaler. What only the surroundings can answer (was the connection's variable
//! resolved, does the profile exist, may this host be called) does not fail the parsing, because `GetMetricSpec` must be
//! answered from the metadata's own text: an error there switches off the user's `fallback` (keda#8056).

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use scaling::{Base, Key, PolicyError, Settings};

use crate::entity::Target;

mod connection;
mod keys;
mod metric_name;
mod target;
mod value;

pub use connection::{Connection, ConnectionProblem};
pub(crate) use keys::{KEDA_KEYS, are_ours};
pub use keys::{KEYS, likely_meant};
pub use value::go_boolean;

use keys::{ACTIVATION_MESSAGE_COUNT, CACHE_TTL, MAX_STALENESS, MESSAGE_COUNT, POLICY, POLICY_PROFILE};
pub(crate) use value::shown;
use value::text;

const CONNECTION: &str = "connection";

/// Far beyond any use, and small enough that value and target stay exact in KEDA's thousandths.
const MAX_MESSAGE_COUNT: u32 = 1_000_000;
/// The longest `cacheTtl`.
pub(crate) const MAX_CACHE_TTL: Duration = Duration::from_mins(5);
/// The longest `maxStaleness`.
pub(crate) const MAX_MAX_STALENESS: Duration = Duration::from_mins(20);

/// A trigger whose metadata is sound.
#[derive(Clone, Debug)]
pub struct Trigger {
    /// What it counts.
    pub target: Target,
    /// Messages per replica, which is also the target that the HPA gets, and the count above which it is active.
    pub base: Base,
    /// How to decide.
    pub policy: PolicyChoice,
    /// How old its readings may be, as it wishes.
    pub freshness: FreshnessWish,
    /// Where it reads, and as whom.
    pub connection: Connection,
    /// What is worth saying about its metadata though nothing is refused, sorted.
    pub warnings: Vec<Warning>,
}

/// How old readings may be, as the trigger wishes; the operator's bounds come on top. None: as the config file says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FreshnessWish {
    /// A reading younger than this is used again; at most 5 minutes.
    pub cache_ttl: Option<Duration>,
    /// While nothing can be read, the last reading is used up to this age; at most 20 minutes.
    pub max_staleness: Option<Duration>,
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

/// Metadata that has no effect, though it was probably meant to have one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Warning {
    /// A key that means nothing here, cut when long. Ignored, as KEDA does.
    UnknownKey(String),
    /// A known key where it changes nothing.
    WithoutEffect {
        /// The key.
        key: &'static str,
        /// When it would have an effect.
        why: &'static str,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey(key) => {
                write!(formatter, "metadata {} is ignored: this scaler knows no such key", shown(key))?;
                match likely_meant(key) {
                    Some(meant) => write!(formatter, "; {meant} was probably meant"),
                    None => Ok(()),
                }
            }
            Self::WithoutEffect { key, why } => write!(formatter, "metadata {key} is ignored: {why}"),
        }
    }
}

/// Metadata that cannot be right, whatever the surroundings. Names the key, the value and what is allowed; a value that
/// may hold a secret is not shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TriggerError {
    /// A required key is not there.
    #[error("metadata {key} is missing: {allowed}{}", likes(like.as_deref()))]
    Missing {
        /// The key.
        key: &'static str,
        /// What to write.
        allowed: &'static str,
        /// A key that is there and looks like it.
        like: Option<String>,
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
    /// A pattern that is none, or that takes too much to match.
    #[error(
        "metadata {key}: {value:?} is not a pattern that useRegex can use: {problem} (allowed is Go's regular expression \
         syntax, at most {} bytes, matched against the whole name)",
        crate::entity::MAX_PATTERN_BYTES
    )]
    Pattern {
        /// The key.
        key: &'static str,
        /// What was given, cut when long.
        value: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A secret in plain metadata.
    #[error(
        "metadata {key} is refused: it would put a secret into the ScaledObject. Set connectionFromEnv to the name of \
         an environment variable of the scale target that holds the connection string, filled from a Secret; or set \
         connectionRef to the name of a connection in the scaler's config file"
    )]
    SecretInMetadata {
        /// The key it stands under.
        key: String,
    },
    /// Two keys that exclude each other.
    #[error("metadata {first} and {second} exclude each other: give one of the two")]
    Exclusive {
        /// One of them.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// The policy's own keys are wrong, or there is no such policy.
    #[error("metadata {0}")]
    Policy(PolicyError),
}

fn likes(like: Option<&str>) -> String {
    like.map(|key| format!(" ({} looks like it, but is another key)", shown(key))).unwrap_or_default()
}

impl Warning {
    /// The key it is about.
    pub fn key(&self) -> &str {
        match self {
            Self::UnknownKey(key) => key,
            Self::WithoutEffect { key, .. } => key,
        }
    }
}

impl TriggerError {
    /// The key it is about, where that is one: of two that exclude each other, the second.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Missing { like, .. } => like.as_deref(),
            Self::Invalid { key, .. } | Self::Pattern { key, .. } => Some(key),
            Self::SecretInMetadata { key } | Self::Policy(PolicyError::UnknownKey { key, .. }) => Some(key),
            Self::Exclusive { second, .. } => Some(second),
            Self::Policy(PolicyError::Unknown(_)) => Some(POLICY.name),
            Self::Policy(PolicyError::Key(error)) => Some(error.key),
        }
    }

    fn missing(key: &Key, metadata: &HashMap<String, String>) -> Self {
        let is_like = |other: &&String| other.as_str() != key.name && likely_meant(other) == Some(key.name);
        let like = metadata.keys().filter(is_like).min().cloned();
        Self::Missing { key: key.name, allowed: key.allowed, like }
    }
}

impl Trigger {
    /// Parses a trigger's metadata as KEDA forwards it.
    pub fn parse(metadata: &HashMap<String, String>) -> Result<Self, TriggerError> {
        no_secret(metadata, holds_secret)?;
        let mut warnings = Vec::new();
        let target = target::target(metadata, &mut warnings)?;
        let base = base(metadata)?;
        let policy = policy_choice(metadata, base)?;
        let freshness = FreshnessWish {
            cache_ttl: value::duration(metadata, &CACHE_TTL, MAX_CACHE_TTL)?,
            max_staleness: value::duration(metadata, &MAX_STALENESS, MAX_MAX_STALENESS)?,
        };
        let connection = connection::connection(metadata, &mut warnings)?;
        let is_own = |key: &str| match &policy {
            PolicyChoice::Inline { policy, .. } => own_keys(policy).any(|own| own == key),
            // A profile brings its own.
            PolicyChoice::Profile(_) => false,
        };
        let is_known =
            |key: &str| KEYS.iter().any(|known| known.name == key) || KEDA_KEYS.contains(&key) || is_own(key);
        warnings.extend(metadata.keys().filter(|key| !is_known(key)).map(|key| unknown(key)));
        warnings.sort_unstable();
        Ok(Self { target, base, policy, freshness, connection, warnings })
    }

    /// The name of the trigger's one metric, as the built-in trigger forms it wherever that is sound and distinct:
    /// `azure-servicebus-{queue}`; of a subscription with topic, subscription and a hash.
    pub fn metric_name(&self) -> String {
        metric_name::metric_name(&self.target)
    }

    /// What the built-in trigger calls the same metric, for those who come from it.
    pub fn built_in_metric_name(&self) -> String {
        metric_name::built_in_metric_name(&self.target)
    }
}

/// Refuses a secret in metadata as it is written, before KEDA has it. A `…FromEnv` key names a variable there; what can be
/// none is taken for the secret itself.
pub(crate) fn no_written_secret(metadata: &HashMap<String, String>) -> Result<(), TriggerError> {
    let is_no_variable = |key: &str, value: &str| key.ends_with("FromEnv") && value.contains(['=', ';']);
    no_secret(metadata, |key, value| holds_secret(key, value) || is_no_variable(key, value))
}

fn no_secret(metadata: &HashMap<String, String>, is_secret: impl Fn(&str, &str) -> bool) -> Result<(), TriggerError> {
    let secret = metadata.iter().filter(|(key, value)| is_secret(key, value)).map(|(key, _)| key).min();
    secret.map_or(Ok(()), |key| Err(TriggerError::SecretInMetadata { key: shown(key) }))
}

/// Whether a secret is written into the metadata itself: under the key of that name, or a connection string under any
/// other. What stands under a `…FromEnv` key is not written there; KEDA put it in.
fn holds_secret(key: &str, value: &str) -> bool {
    let is_connection_string = || {
        // To a connection string, neither letter case nor blanks around its keys matter.
        let value = value.to_ascii_lowercase();
        let mut behind_name = value.split("sharedaccesskey").skip(1);
        behind_name.any(|rest| rest.trim_start().starts_with('=')) || value.contains("sharedaccesssignature")
    };
    keys::bare(key) == CONNECTION || (!key.ends_with("FromEnv") && is_connection_string())
}

fn base(metadata: &HashMap<String, String>) -> Result<Base, TriggerError> {
    let defaults = Base::default();
    let count = value::whole(metadata, &MESSAGE_COUNT, 1..=i64::from(MAX_MESSAGE_COUNT))?;
    let count = count.and_then(|count| u32::try_from(count).ok()).unwrap_or(defaults.message_count());
    let activation = value::whole(metadata, &ACTIVATION_MESSAGE_COUNT, 0..=i64::MAX)?;
    let activation = activation.map_or(defaults.activation_message_count(), i64::unsigned_abs);
    Base::new(count, activation).map_err(|_| value::wrong(&MESSAGE_COUNT, &count.to_string()))
}

fn policy_choice(metadata: &HashMap<String, String>, base: Base) -> Result<PolicyChoice, TriggerError> {
    match (text(metadata, &POLICY), text(metadata, &POLICY_PROFILE)) {
        (Some(_), Some(_)) => Err(TriggerError::Exclusive { first: POLICY.name, second: POLICY_PROFILE.name }),
        (None, Some(profile)) => Ok(PolicyChoice::Profile(profile.to_owned())),
        (policy, None) => {
            let policy = policy.unwrap_or(scaling::DEFAULT_POLICY);
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

fn unknown(key: &str) -> Warning {
    let mut of_policies = scaling::POLICIES.iter().flat_map(|policy| policy.keys);
    match of_policies.find(|known| known.name == key) {
        Some(known) => Warning::WithoutEffect { key: known.name, why: "it is a key of another policy" },
        None => Warning::UnknownKey(shown(key)),
    }
}

/// The metadata keys that a policy reads beside those of every trigger.
fn own_keys(policy: &str) -> impl Iterator<Item = &'static str> {
    let entry = scaling::POLICIES.iter().find(|entry| entry.name == policy);
    entry.into_iter().flat_map(|entry| entry.keys.iter().map(|key| key.name))
}

#[cfg(test)]
mod tests;
