//! The scaler's config file: cache bounds, budget, limits, connections, policy profiles. Parsed and checked as a whole or
//! refused as a whole.
//!
//! [`Config::parse`] is pure; [`ConfigHandle`] owns the configuration in force and hands out snapshots of it; the file is
//! watched by [`reload`]. Addresses and paths are flags, and everything about one trigger is in its metadata. No secret
//! stands in the file, and none that somebody puts there by mistake stands in an error.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use scaling::{Base, Settings};
use serde::Deserialize;
use tokio::sync::watch;

pub mod connections;
pub mod reload;

use crate::bounded_file;
use crate::config::connections::{ConnectionText, RegisteredConnection};
use crate::trigger::{MAX_CACHE_TTL, MAX_MAX_STALENESS, shown};

/// A config file with every key, and what each means: what `scaler config --example` prints.
pub const EXAMPLE: &str = include_str!("config/example.yaml");

/// The largest config file that is read, in bytes.
const MAX_BYTES: usize = 1024 * 1024;
/// What `cacheTtlSeconds` and its bounds may be.
const CACHE_TTL_SECONDS: RangeInclusive<f64> = 0.0..=MAX_CACHE_TTL.as_secs_f64();
/// What `maxStalenessSeconds` and its bounds may be.
const MAX_STALENESS_SECONDS: RangeInclusive<f64> = 0.0..=MAX_MAX_STALENESS.as_secs_f64();
/// What a budget may be, in credits a second.
const CREDITS_PER_SECOND: RangeInclusive<f64> = 1.0..=1_000_000.0;

/// The configuration in force at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// How old readings may be, where a trigger does not say.
    pub freshness: Freshness,
    /// What a trigger's own `cacheTtl` may be.
    pub cache_ttl_bounds: RangeInclusive<Duration>,
    /// What a trigger's own `maxStaleness` may be.
    pub max_staleness_bounds: RangeInclusive<Duration>,
    /// What reading may cost.
    pub credits: Credits,
    /// What Kubernetes namespaces may use.
    pub limits: Limits,
    /// Credentials by name, for `connectionRef`.
    pub connections: BTreeMap<String, RegisteredConnection>,
    /// Policies by name, for `policyProfile`.
    pub profiles: BTreeMap<String, Profile>,
}

/// How old a reading may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// Younger readings are answered from the cache.
    pub cache_ttl: Duration,
    /// When a refresh fails, the last reading is good for this long.
    pub max_staleness: Duration,
}

/// What reading a Service Bus namespace may cost, in credits a second: a management operation costs 10, a peeked message 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Credits {
    default: f64,
    by_host: BTreeMap<String, f64>,
}

impl Credits {
    /// The budget of a namespace, by its host; at least 1.
    pub fn per_second(&self, host: &str) -> f64 {
        self.by_host.get(&host.to_ascii_lowercase()).copied().unwrap_or(self.default)
    }
}

/// What may be in use at a time. Everything is at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Distinct credentials of one Kubernetes namespace.
    pub credentials_per_namespace: usize,
    /// Entities of one Kubernetes namespace.
    pub entities_per_namespace: usize,
    /// Patterns of one Kubernetes namespace.
    pub patterns_per_namespace: usize,
    /// Entities and patterns of all Kubernetes namespaces together.
    pub entities: usize,
}

/// A policy with its settings, under a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// One of the registry's policies.
    pub policy: String,
    /// The policy's own keys.
    pub settings: Settings,
}

impl Default for Config {
    fn default() -> Self {
        FileText::default().checked().expect("the defaults are within their own bounds")
    }
}

/// A config file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("failed to read config file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// It is not what a config file looks like.
    #[error("config file {}: {problem}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line or key, in one line.
        problem: String,
    },
}

/// The file, key for key.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct FileText {
    cache_ttl_seconds: f64,
    max_staleness_seconds: f64,
    cache_ttl_bounds_seconds: BoundsText,
    max_staleness_bounds_seconds: BoundsText,
    credits_per_second: f64,
    credits_per_second_by_host: BTreeMap<String, f64>,
    limits: LimitsText,
    connections: BTreeMap<String, ConnectionText>,
    profiles: BTreeMap<String, BTreeMap<String, Scalar>>,
}

impl Default for FileText {
    fn default() -> Self {
        Self {
            cache_ttl_seconds: 5.0,
            max_staleness_seconds: 60.0,
            // Not from 0: a trigger would make every call a read.
            cache_ttl_bounds_seconds: BoundsText { min: 1.0, max: *CACHE_TTL_SECONDS.end() },
            max_staleness_bounds_seconds: BoundsText { min: 0.0, max: *MAX_STALENESS_SECONDS.end() },
            credits_per_second: 50.0,
            credits_per_second_by_host: BTreeMap::new(),
            limits: LimitsText::default(),
            connections: BTreeMap::new(),
            profiles: BTreeMap::new(),
        }
    }
}

/// Both ends are said, so that neither is forgotten.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BoundsText {
    min: f64,
    max: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct LimitsText {
    credentials_per_namespace: usize,
    entities_per_namespace: usize,
    patterns_per_namespace: usize,
    entities: usize,
}

impl Default for LimitsText {
    fn default() -> Self {
        Self {
            credentials_per_namespace: 50,
            entities_per_namespace: 5_000,
            patterns_per_namespace: 100,
            entities: 20_000,
        }
    }
}

/// A setting as people write it: `weights: "active=1"` and `perReplica: 5` are both fine.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Boolean(bool),
    Whole(i64),
    Number(f64),
    Text(String),
}

impl From<Scalar> for String {
    fn from(scalar: Scalar) -> Self {
        match scalar {
            Scalar::Boolean(value) => value.to_string(),
            Scalar::Whole(value) => value.to_string(),
            Scalar::Number(value) => value.to_string(),
            Scalar::Text(value) => value,
        }
    }
}

impl Config {
    /// Reads and checks a config file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::from_bytes(path, Self::bytes(path))
    }

    /// What a config file holds; an error where it is larger than one may be.
    fn bytes(path: &Path) -> std::io::Result<Vec<u8>> {
        bounded_file::read(path, MAX_BYTES)
    }

    /// Checks what reading the file at `path` gave.
    fn from_bytes(path: &Path, read: std::io::Result<Vec<u8>>) -> Result<Self, ConfigError> {
        let bytes = read.map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        let text = std::str::from_utf8(&bytes).map_err(|error| format!("it is not UTF-8: {error}"));
        text.and_then(Self::parse).map_err(|problem| ConfigError::Invalid { path: path.to_owned(), problem })
    }

    /// Checks the text of a config file. The error says what is wrong and where, in one line.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("{} bytes are more than the {MAX_BYTES} that a config file may have", text.len()));
        }
        // An empty file, or one of comments alone, is YAML's null: every default.
        let file: Option<FileText> =
            serde_saphyr::from_str(text).map_err(|error| without_values(&in_one_line(&error)))?;
        file.unwrap_or_default().checked()
    }

    /// The profile of this name. The error names those there are.
    pub fn profile(&self, name: &str) -> Result<&Profile, UnknownProfile> {
        self.profiles.get(name).ok_or_else(|| {
            let known = self.profiles.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            let known = if known.is_empty() { "none".to_owned() } else { known };
            UnknownProfile { profile: shown(name), known }
        })
    }

    /// How old readings may be for a trigger that asks for this, where it does. What is asked for must be within the
    /// operator's bounds; the error names key, value and bounds.
    pub fn freshness_for(
        &self,
        cache_ttl: Option<Duration>,
        max_staleness: Option<Duration>,
    ) -> Result<Freshness, OutOfBounds> {
        let within = |key, asked: Option<Duration>, bounds: &RangeInclusive<Duration>, default| match asked {
            None => Ok(default),
            Some(asked) if bounds.contains(&asked) => Ok(asked),
            Some(asked) => Err(OutOfBounds { key, asked, min: *bounds.start(), max: *bounds.end() }),
        };
        Ok(Freshness {
            cache_ttl: within("cacheTtl", cache_ttl, &self.cache_ttl_bounds, self.freshness.cache_ttl)?,
            max_staleness: within(
                "maxStaleness",
                max_staleness,
                &self.max_staleness_bounds,
                self.freshness.max_staleness,
            )?,
        })
    }
}

/// A trigger names a profile that is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("metadata policyProfile: {profile:?} is not in the scaler's config file; known there: {known}")]
pub struct UnknownProfile {
    /// The profile asked for.
    pub profile: String,
    /// Those there are.
    pub known: String,
}

/// A trigger asks for what the operator does not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("metadata {key}: {asked:?} is not between {min:?} and {max:?}, the bounds in the scaler's config file")]
pub struct OutOfBounds {
    /// The metadata key.
    pub key: &'static str,
    /// What it asks for.
    pub asked: Duration,
    /// The least that is allowed.
    pub min: Duration,
    /// The most that is allowed.
    pub max: Duration,
}

impl FileText {
    fn checked(self) -> Result<Config, String> {
        let Self {
            cache_ttl_seconds,
            max_staleness_seconds,
            cache_ttl_bounds_seconds,
            max_staleness_bounds_seconds,
            credits_per_second,
            credits_per_second_by_host,
            limits,
            connections,
            profiles,
        } = self;
        let LimitsText { credentials_per_namespace, entities_per_namespace, patterns_per_namespace, entities } = limits;
        let by_host = credits_per_second_by_host.into_iter().map(|(host, credits)| {
            let key = format!("creditsPerSecondByHost.{host:?}");
            in_range(&key, credits, &CREDITS_PER_SECOND).map(|credits| (host.to_ascii_lowercase(), credits))
        });
        Ok(Config {
            freshness: Freshness {
                cache_ttl: seconds("cacheTtlSeconds", cache_ttl_seconds, &CACHE_TTL_SECONDS)?,
                max_staleness: seconds("maxStalenessSeconds", max_staleness_seconds, &MAX_STALENESS_SECONDS)?,
            },
            cache_ttl_bounds: cache_ttl_bounds_seconds.checked("cacheTtlBoundsSeconds", &CACHE_TTL_SECONDS)?,
            max_staleness_bounds: max_staleness_bounds_seconds
                .checked("maxStalenessBoundsSeconds", &MAX_STALENESS_SECONDS)?,
            credits: Credits {
                default: in_range("creditsPerSecond", credits_per_second, &CREDITS_PER_SECOND)?,
                by_host: by_host.collect::<Result<_, _>>()?,
            },
            limits: Limits {
                credentials_per_namespace: in_range(
                    "limits.credentialsPerNamespace",
                    credentials_per_namespace,
                    &(1..=10_000),
                )?,
                entities_per_namespace: in_range(
                    "limits.entitiesPerNamespace",
                    entities_per_namespace,
                    &(1..=1_000_000),
                )?,
                patterns_per_namespace: in_range("limits.patternsPerNamespace", patterns_per_namespace, &(1..=10_000))?,
                entities: in_range("limits.entities", entities, &(1..=1_000_000))?,
            },
            connections: connections
                .into_iter()
                .map(|(name, text)| connections::registered(&name, text).map(|connection| (name, connection)))
                .collect::<Result<_, _>>()?,
            profiles: profiles
                .into_iter()
                .map(|(name, keys)| profile(&name, keys).map(|profile| (name, profile)))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl BoundsText {
    fn checked(self, key: &str, allowed: &RangeInclusive<f64>) -> Result<RangeInclusive<Duration>, String> {
        let Self { min, max } = self;
        let bounds = seconds(&format!("{key}.min"), min, allowed)?..=seconds(&format!("{key}.max"), max, allowed)?;
        if bounds.is_empty() { Err(format!("{key}: min {min} is more than max {max}")) } else { Ok(bounds) }
    }
}

fn profile(name: &str, keys: BTreeMap<String, Scalar>) -> Result<Profile, String> {
    let mut settings: Settings = keys.into_iter().map(|(key, value)| (key, value.into())).collect();
    let policy = settings
        .remove("policy")
        .ok_or_else(|| format!("profile {name:?} has no `policy`; allowed are {}", scaling::policy_names()))?;
    scaling::build_policy(&policy, Base::default(), &settings).map_err(|error| format!("profile {name:?}: {error}"))?;
    Ok(Profile { policy, settings })
}

fn seconds(key: &str, value: f64, allowed: &RangeInclusive<f64>) -> Result<Duration, String> {
    in_range(key, value, allowed).map(Duration::from_secs_f64)
}

fn in_range<T: PartialOrd + std::fmt::Display>(key: &str, value: T, allowed: &RangeInclusive<T>) -> Result<T, String> {
    if allowed.contains(&value) {
        Ok(value)
    } else {
        Err(format!("{key}: {value} is not between {} and {}", allowed.start(), allowed.end()))
    }
}

/// Cuts the texts out of serde's complaints about types (`string "…"`): where a connection string or a secret stands in
/// place of a mapping, serde would repeat it.
fn without_values(message: &str) -> String {
    const BEFORE: &str = "string \"";
    let mut safe = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(start) = rest.find(BEFORE) {
        safe.push_str(&rest[..start]);
        safe.push_str("a string");
        let value = &rest[start + BEFORE.len()..];
        let mut is_escaped = false;
        let end = value.char_indices().find(|&(_, character)| {
            let is_end = character == '"' && !is_escaped;
            is_escaped = character == '\\' && !is_escaped;
            is_end
        });
        rest = end.map_or("", |(end, _)| &value[end + 1..]);
    }
    safe.push_str(rest);
    safe
}

/// serde-saphyr draws the offending line with a caret; a log line has room for the message alone, which names the place.
pub(crate) fn in_one_line(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().render_with_formatter(&serde_saphyr::UserMessageFormatter);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The configuration in force. Readers take a snapshot and keep to it for one request. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct ConfigHandle(Arc<Current>);

#[derive(Debug, Default)]
struct Current {
    config: ArcSwap<Config>,
    /// Counts the times that those who follow what the configuration points to were asked to look again.
    looks: watch::Sender<u64>,
}

impl ConfigHandle {
    /// Starts with this one.
    pub fn new(config: Config) -> Self {
        Self(Arc::new(Current { config: ArcSwap::from_pointee(config), looks: watch::Sender::default() }))
    }

    /// The configuration as it is now.
    pub fn snapshot(&self) -> Arc<Config> {
        self.0.config.load_full()
    }

    /// Puts another one in force, as a whole, from the next request on.
    pub fn replace(&self, config: Config) {
        self.0.config.store(Arc::new(config));
        self.look_again();
    }

    /// Asks those who follow files that the configuration names to look at them now.
    pub fn look_again(&self) {
        self.0.looks.send_modify(|looks| *looks = looks.wrapping_add(1));
    }

    /// Tells when the configuration was replaced or [`Self::look_again`] was called.
    pub fn looks(&self) -> watch::Receiver<u64> {
        self.0.looks.subscribe()
    }
}

#[cfg(test)]
mod tests;
