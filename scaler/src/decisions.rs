//! From a trigger to the one decision that every view shares: check the endpoint, get the newest reading, ask the policy.
//!
//! Owns the short memory that makes `IsActive` a view of the `GetMetrics` just before it, whatever happened to cache,
//! profiles or queue in between (KEDA asks in this order, each time: its `pkg/scalers/external_scaler.go`).

use std::sync::Arc;
use std::time::Duration;

use externalscaler::ScaledObjectRef;
use moka::future::{Cache, CacheBuilder};
use moka::policy::EvictionPolicy;
use scaling::{Decision, Policy};
use tokio::sync::watch;

use crate::config::{Config, ConfigHandle, OutOfBounds};
use crate::connections::{AccessRefused, Connections};
use crate::entity::Target;
use crate::keyed_hash::{Digest, KeyedHash};
use crate::readings::{Freshness, Readings, Seen};
use crate::source::{Query, ReadFailure};
use crate::trigger::{PolicyChoice, Trigger, TriggerError};

/// `IsActive` follows `GetMetrics` within milliseconds; a later one is a call of its own.
const PAIR_WINDOW: Duration = Duration::from_secs(1);
/// Most pairs, and most warnings, remembered at a time.
const MAX_REMEMBERED: u64 = 10_000;

/// A decision and what it was made from.
#[derive(Clone, Debug)]
pub struct Judged {
    /// What the policy said.
    pub decision: Decision,
    /// The readings it said it of.
    pub seen: Seen,
}

/// Why there is no decision.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refusal {
    /// The metadata cannot be right.
    #[error(transparent)]
    Trigger(#[from] TriggerError),
    /// There is no credential that may be used there.
    #[error(transparent)]
    Access(#[from] AccessRefused),
    /// It asks for fresher or staler readings than the operator allows.
    #[error(transparent)]
    Freshness(#[from] OutOfBounds),
    /// The profile is not in the config file.
    #[error("metadata policyProfile: {profile:?} is not in the scaler's config file; known there: {known}")]
    UnknownProfile {
        /// The profile asked for.
        profile: String,
        /// Those there are.
        known: String,
    },
    /// `GetMetrics` was asked for a metric that is not this trigger's.
    #[error("metricName: {asked:?} is not this trigger's metric, which is {own:?}")]
    OtherMetric {
        /// The metric asked for.
        asked: String,
        /// The trigger's metric.
        own: String,
    },
    /// Service Bus could not be read, and no reading young enough is left.
    #[error("failed to read the {target}: {failure}")]
    Read {
        /// What was to be read.
        target: Target,
        /// Why it was not.
        failure: Arc<ReadFailure>,
    },
    /// The cap on push streams is reached.
    #[error("all {0} push streams of this scaler are taken")]
    TooManyStreams(usize),
    /// The call took too long.
    #[error("no answer within {0:?}")]
    Deadline(Duration),
}

fn known_profiles(config: &Config) -> String {
    if config.profiles.is_empty() {
        return "none".to_owned();
    }
    config.profiles.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// The refusal that a failed read becomes.
pub(crate) fn unreadable(trigger: &Trigger, failure: Arc<ReadFailure>) -> Refusal {
    Refusal::Read { target: trigger.target.clone(), failure }
}

/// moka's default may refuse a newcomer; what was told last is what must be remembered.
fn remembering<V: Clone + Send + Sync + 'static>() -> CacheBuilder<Digest, V, Cache<Digest, V>> {
    Cache::builder().max_capacity(MAX_REMEMBERED).eviction_policy(EvictionPolicy::lru())
}

/// Decides. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Decisions {
    readings: Readings,
    config: ConfigHandle,
    connections: Connections,
    keys: KeyedHash,
    /// Decisions told by `GetMetrics` and not yet by `IsActive`.
    pairs: Cache<Digest, Judged>,
    warned: Cache<Digest, ()>,
}

impl Decisions {
    /// Decides on these readings, with the profiles of this configuration, by these connections.
    pub fn new(readings: Readings, config: ConfigHandle, connections: Connections) -> Self {
        Self {
            readings,
            config,
            connections,
            keys: KeyedHash::random(),
            pairs: remembering().time_to_live(PAIR_WINDOW).build(),
            warned: remembering().build(),
        }
    }

    /// The decision for `GetMetrics`, kept for the `IsActive` that follows.
    pub async fn for_metrics(&self, scaled_object: &ScaledObjectRef, trigger: &Trigger) -> Result<Judged, Refusal> {
        let pair = self.digest(scaled_object);
        match self.judge(&scaled_object.namespace, trigger).await {
            Ok(judged) => {
                self.pairs.insert(pair, judged.clone()).await;
                Ok(judged)
            }
            Err(refusal) => {
                self.pairs.invalidate(&pair).await;
                Err(refusal)
            }
        }
    }

    /// The decision for `IsActive`: that of the `GetMetrics` just before, or one of its own.
    pub async fn for_activity(&self, scaled_object: &ScaledObjectRef, trigger: &Trigger) -> Result<Judged, Refusal> {
        match self.pairs.remove(&self.digest(scaled_object)).await {
            Some(judged) => Ok(judged),
            None => self.judge(&scaled_object.namespace, trigger).await,
        }
    }

    /// Reads and decides, for a trigger in this Kubernetes namespace.
    pub async fn judge(&self, namespace: &str, trigger: &Trigger) -> Result<Judged, Refusal> {
        let query = self.query(namespace, trigger)?;
        // Before the read: a profile that is not there needs no reading, and must not cost one.
        self.policy(trigger)?;
        let freshness = self.freshness(trigger)?;
        let seen = self.readings.newest(&query, freshness).await.map_err(|failure| unreadable(trigger, failure))?;
        self.decide(trigger, seen)
    }

    /// Decides on these readings, with the configuration as it is now.
    pub fn decide(&self, trigger: &Trigger, seen: Seen) -> Result<Judged, Refusal> {
        let decision = self.policy(trigger)?.decide(&seen.window(), self.readings.now());
        tracing::debug!(
            target = %trigger.target,
            replicas = decision.replicas,
            active = decision.active,
            why = decision.why,
            age_seconds = seen.age.as_secs_f64(),
            "decided"
        );
        Ok(Judged { decision, seen })
    }

    /// The policy that this trigger's metadata or profile names, as the configuration is now.
    pub fn policy(&self, trigger: &Trigger) -> Result<Box<dyn Policy>, Refusal> {
        let config = self.config.snapshot();
        let (policy, settings) = match &trigger.policy {
            PolicyChoice::Inline { policy, settings } => (policy, settings),
            PolicyChoice::Profile(name) => {
                let profile = config
                    .profiles
                    .get(name)
                    .ok_or_else(|| Refusal::UnknownProfile { profile: name.clone(), known: known_profiles(&config) })?;
                (&profile.policy, &profile.settings)
            }
        };
        // Both kinds were built once before, when they were parsed; a failure here is still an answer, not a panic.
        scaling::build_policy(policy, trigger.base, settings)
            .map_err(|error| Refusal::Trigger(TriggerError::Policy(error)))
    }

    /// How old readings may be for this trigger, as the configuration is now.
    pub fn freshness(&self, trigger: &Trigger) -> Result<Freshness, Refusal> {
        let wish = &trigger.freshness;
        Ok(self.config.snapshot().freshness_for(wish.cache_ttl, wish.max_staleness)?)
    }

    /// Rings when [`Self::query`] may say something else for the same trigger: who holds a query asks again then.
    pub fn access_changes(&self) -> watch::Receiver<()> {
        self.connections.changes()
    }

    /// What to read for this trigger of a `ScaledObject` in this Kubernetes namespace, its access checked.
    pub fn query(&self, namespace: &str, trigger: &Trigger) -> Result<Query, Refusal> {
        let access = self.connections.resolve(namespace, trigger)?;
        Ok(Query { access, target: trigger.target.clone() })
    }

    /// Logs what the trigger's metadata is warned about, once for each `ScaledObject` and its metadata.
    pub async fn warn_once(&self, scaled_object: &ScaledObjectRef, trigger: &Trigger) {
        if trigger.warnings.is_empty() {
            return;
        }
        if self.warned.entry(self.digest(scaled_object)).or_insert(()).await.is_fresh() {
            for warning in &trigger.warnings {
                tracing::warn!("{warning}");
            }
        }
    }

    /// Names this trigger among all: one `ScaledObject` may hold several, and the reference carries no index.
    fn digest(&self, scaled_object: &ScaledObjectRef) -> Digest {
        let ScaledObjectRef { name, namespace, scaler_metadata } = scaled_object;
        let mut metadata: Vec<_> = scaler_metadata.iter().collect();
        metadata.sort_unstable();
        let metadata = metadata.into_iter().flat_map(|(key, value)| [key.as_bytes(), value.as_bytes()]);
        self.keys.of([namespace.as_bytes(), name.as_bytes()].into_iter().chain(metadata))
    }
}
