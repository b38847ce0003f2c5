//! The scaler's config file: cache bounds and policy profiles. Parsed and checked as a whole or refused as a whole.
//!
//! [`Config::parse`] is pure; [`ConfigHandle`] owns the configuration in force and hands out snapshots of it; the file is
//! watched by [`reload`]. Addresses and paths are flags, and everything about one trigger is in its metadata.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use scaling::{Base, Settings};
use serde::Deserialize;

pub mod reload;

use crate::readings::Freshness;

/// The largest config file that is read, in bytes.
const MAX_BYTES: usize = 1024 * 1024;

/// The configuration in force at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// How old readings may be.
    pub freshness: Freshness,
    /// Policies by name, for `policyProfile`.
    pub profiles: BTreeMap<String, Profile>,
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
        let FileText { cache_ttl_seconds, max_staleness_seconds, .. } = FileText::default();
        Self {
            freshness: Freshness {
                cache_ttl: Duration::from_secs_f64(cache_ttl_seconds),
                max_staleness: Duration::from_secs_f64(max_staleness_seconds),
            },
            profiles: BTreeMap::new(),
        }
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
    profiles: BTreeMap<String, BTreeMap<String, Scalar>>,
}

impl Default for FileText {
    fn default() -> Self {
        Self { cache_ttl_seconds: 5.0, max_staleness_seconds: 60.0, profiles: BTreeMap::new() }
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
        Self::from_bytes(path, std::fs::read(path))
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
        let file: Option<FileText> = serde_saphyr::from_str(text).map_err(|error| in_one_line(&error))?;
        let FileText { cache_ttl_seconds, max_staleness_seconds, profiles } = file.unwrap_or_default();
        let cache_ttl = seconds("cacheTtlSeconds", cache_ttl_seconds, 0.0..=300.0)?;
        let max_staleness = seconds("maxStalenessSeconds", max_staleness_seconds, 0.0..=1_200.0)?;
        let profiles = profiles
            .into_iter()
            .map(|(name, keys)| profile(&name, keys).map(|profile| (name, profile)))
            .collect::<Result<_, _>>()?;
        Ok(Self { freshness: Freshness { cache_ttl, max_staleness }, profiles })
    }
}

fn profile(name: &str, keys: BTreeMap<String, Scalar>) -> Result<Profile, String> {
    let mut settings: Settings = keys.into_iter().map(|(key, value)| (key, value.into())).collect();
    let policy = settings
        .remove("policy")
        .ok_or_else(|| format!("profile {name:?} has no `policy`; allowed are {}", crate::trigger::policy_names()))?;
    scaling::build_policy(&policy, Base::default(), &settings).map_err(|error| format!("profile {name:?}: {error}"))?;
    Ok(Profile { policy, settings })
}

fn seconds(key: &str, value: f64, allowed: std::ops::RangeInclusive<f64>) -> Result<Duration, String> {
    if allowed.contains(&value) {
        Ok(Duration::from_secs_f64(value))
    } else {
        Err(format!("{key}: {value} is not between {} and {}", allowed.start(), allowed.end()))
    }
}

/// serde-saphyr draws the offending line with a caret; a log line has room for the message alone, which names the place.
pub(crate) fn in_one_line(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().render_with_formatter(&serde_saphyr::UserMessageFormatter);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The configuration in force. Readers take a snapshot and keep to it for one request.
#[derive(Clone, Debug, Default)]
pub struct ConfigHandle(Arc<ArcSwap<Config>>);

impl ConfigHandle {
    /// Starts with this one.
    pub fn new(config: Config) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(config)))
    }

    /// The configuration as it is now.
    pub fn snapshot(&self) -> Arc<Config> {
        self.0.load_full()
    }

    /// Puts another one in force, as a whole, from the next request on.
    pub fn replace(&self, config: Config) {
        self.0.store(Arc::new(config));
    }
}
