//! The triggers that calls are about: each parsed once, named, and remembered with what it was told last. So a poll costs one
//! look-up, `IsActive` is a view of the `GetMetrics` just before it, a warning is said once, and `/explain` has what to say.
//!
//! Owns a bounded memory in two generations: what is asked about moves to the younger; when that is full, or an hour old, it
//! becomes the older one, and the one before that is forgotten. Whoever names triggers without end pushes others out, who are
//! then parsed again; nobody is answered otherwise for it. Keys are a keyed hash over the whole reference, secrets included,
//! so that no caller can meet another's entry.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use externalscaler::ScaledObjectRef;
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::access::Access;
use crate::decisions::Judged;
use crate::keyed_hash::{Digest, KeyedHash};
use crate::log_rate::LogRate;
use crate::metrics::{Metrics, TriggerSeries};
use crate::trigger::{Trigger, TriggerError};
use crate::trigger_id::TriggerId;

mod explanation;

pub(crate) use explanation::Explanation;

/// `IsActive` follows `GetMetrics` within milliseconds (KEDA asks in this order, each time: its
/// `pkg/scalers/external_scaler.go`); a later one is a call of its own.
const PAIR_WINDOW: Duration = Duration::from_secs(1);
/// A generation holds at most so much, by weight.
const MAX_WEIGHT: usize = 48 * 1024 * 1024;
/// What an entry weighs besides its metadata, in bytes: names, parsed forms, the last decision.
const OWN_WEIGHT: usize = 1_024;
/// A reference larger than this is parsed at every call instead of kept.
const MAX_KEPT_BYTES: usize = 16 * 1024;
/// Most warnings that are remembered of one trigger; whoever has more has a file of something else.
const MAX_WARNINGS: usize = 20;
/// A generation grows no older.
const GENERATION: Duration = Duration::from_hours(1);

/// The memory. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct KnownTriggers(Arc<Inner>);

struct Inner {
    keys: KeyedHash,
    generations: RwLock<Generations>,
    /// References are the callers': what is said of one is said once, but there are as many as anybody likes.
    warnings: LogRate,
}

struct Generations {
    young: HashMap<Digest, Arc<Known>>,
    old: HashMap<Digest, Arc<Known>>,
    weight: usize,
    since: Instant,
}

/// One trigger.
pub(crate) struct Known {
    id: TriggerId,
    trigger: Result<Trigger, TriggerError>,
    weight: usize,
    series: OnceLock<TriggerSeries>,
    access: OnceLock<Access>,
    latest: Mutex<Latest>,
}

/// What a trigger was told last.
#[derive(Default)]
struct Latest {
    told: Option<Told>,
    /// On a push stream, beside the calls: a `GetMetrics` and its `IsActive` stay a pair.
    pushed: Option<Told>,
    /// A `GetMetrics` was told this, and no `IsActive` yet.
    is_half_of_pair: bool,
    refused: Option<Refused>,
}

struct Told {
    at: Instant,
    judged: Judged,
}

struct Refused {
    at: Instant,
    code: Code,
    problem: String,
}

impl Default for KnownTriggers {
    fn default() -> Self {
        let generations = Generations { young: HashMap::new(), old: HashMap::new(), weight: 0, since: Instant::now() };
        let (keys, warnings) = (KeyedHash::random(), LogRate::default());
        Self(Arc::new(Inner { keys, generations: RwLock::new(generations), warnings }))
    }
}

impl KnownTriggers {
    /// The trigger of this reference, parsed if it is not known. What its metadata is warned about is logged then, in ten
    /// lines a minute at most.
    pub(crate) fn get(&self, scaled_object: &ScaledObjectRef) -> Arc<Known> {
        let digest = self.digest(scaled_object);
        let generations = &self.0.generations;
        if let Some(known) = generations.read().unwrap_or_else(PoisonError::into_inner).young.get(&digest) {
            return Arc::clone(known);
        }
        if let Some(known) = generations.write().unwrap_or_else(PoisonError::into_inner).renewed(digest) {
            return known;
        }
        let known = Arc::new(Known::parsed(scaled_object));
        if known.weight > MAX_KEPT_BYTES {
            return known;
        }
        let mut generations = generations.write().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have been faster.
        if let Some(theirs) = generations.renewed(digest) {
            return theirs;
        }
        generations.keep(digest, Arc::clone(&known));
        drop(generations);
        known.log_warnings(&self.0.warnings);
        known
    }

    /// Lets go of what nobody asked about for an hour or two, and tells how many warnings were left out. Whoever runs the server calls this now and then.
    pub(crate) fn tidy(&self) {
        let mut generations = self.0.generations.write().unwrap_or_else(PoisonError::into_inner);
        if generations.since.elapsed() >= GENERATION {
            generations.age();
        }
        drop(generations);
        let unlogged = self.0.warnings.take_unlogged();
        if unlogged > 0 {
            tracing::warn!(unlogged, "more metadata is ignored; /explain and scaler check say which");
        }
    }

    /// What there is to say of the triggers of a `ScaledObject`, by their hash.
    pub(crate) fn explain(&self, namespace: &str, name: &str) -> Vec<Explanation> {
        let generations = self.0.generations.read().unwrap_or_else(PoisonError::into_inner);
        let all = generations.young.values().chain(generations.old.values());
        let mut found: Vec<_> = all.filter(|known| known.id.is_of(namespace, name)).map(Arc::clone).collect();
        drop(generations);
        found.sort_unstable_by(|one, other| one.id.cmp(&other.id));
        found.iter().filter_map(|known| known.explain()).collect()
    }

    fn digest(&self, scaled_object: &ScaledObjectRef) -> Digest {
        let ScaledObjectRef { name, namespace, scaler_metadata } = scaled_object;
        let mut metadata: Vec<_> = scaler_metadata.iter().collect();
        metadata.sort_unstable();
        let metadata = metadata.into_iter().flat_map(|(key, value)| [key.as_bytes(), value.as_bytes()]);
        self.0.keys.of([namespace.as_bytes(), name.as_bytes()].into_iter().chain(metadata))
    }
}

impl Generations {
    /// The entry, from now on among the young.
    fn renewed(&mut self, digest: Digest) -> Option<Arc<Known>> {
        if let Some(known) = self.young.get(&digest) {
            return Some(Arc::clone(known));
        }
        let known = self.old.remove(&digest)?;
        self.keep(digest, Arc::clone(&known));
        Some(known)
    }

    fn keep(&mut self, digest: Digest, known: Arc<Known>) {
        if self.weight + known.weight + OWN_WEIGHT > MAX_WEIGHT {
            self.age();
        }
        self.weight += known.weight + OWN_WEIGHT;
        self.young.insert(digest, known);
    }

    fn age(&mut self) {
        self.old = std::mem::take(&mut self.young);
        self.weight = 0;
        self.since = Instant::now();
    }
}

impl Known {
    fn parsed(scaled_object: &ScaledObjectRef) -> Self {
        let ScaledObjectRef { name, namespace, scaler_metadata } = scaled_object;
        let metadata = scaler_metadata.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        let trigger = Trigger::parse(scaler_metadata).map(|mut trigger| {
            trigger.warnings.truncate(MAX_WARNINGS);
            trigger.warnings.shrink_to_fit();
            trigger
        });
        Self {
            id: TriggerId::of(scaled_object),
            trigger,
            weight: name.len() + namespace.len() + metadata,
            series: OnceLock::new(),
            access: OnceLock::new(),
            latest: Mutex::default(),
        }
    }

    /// Its name among all.
    pub(crate) fn id(&self) -> &TriggerId {
        &self.id
    }

    /// Its series among these metrics, which are the same each time.
    pub(crate) fn series(&self, metrics: &Metrics) -> &TriggerSeries {
        self.series.get_or_init(|| metrics.trigger_series(&self.id))
    }

    /// The access that its own connection string leads to, once it was resolved.
    pub(crate) fn access(&self) -> &OnceLock<Access> {
        &self.access
    }

    /// What its metadata says, if it is sound.
    pub(crate) fn trigger(&self) -> Result<&Trigger, TriggerError> {
        self.trigger.as_ref().map_err(Clone::clone)
    }

    /// `GetMetrics` was told this; the `IsActive` that follows is to be told the same.
    pub(crate) fn told_metrics(&self, judged: Judged) {
        let mut latest = self.latest();
        latest.told = Some(Told { at: Instant::now(), judged });
        latest.is_half_of_pair = true;
    }

    /// `IsActive` was told this, on its own.
    pub(crate) fn told_activity(&self, judged: Judged) {
        let mut latest = self.latest();
        latest.told = Some(Told { at: Instant::now(), judged });
        latest.is_half_of_pair = false;
    }

    /// A push stream was told this.
    pub(crate) fn told_stream(&self, judged: Judged) {
        self.latest().pushed = Some(Told { at: Instant::now(), judged });
    }

    /// Whether it is active by the decision that the `GetMetrics` just before was told. Good for one `IsActive`.
    pub(crate) fn active_as_told(&self) -> Option<bool> {
        let mut latest = self.latest();
        let is_half_of_pair = std::mem::take(&mut latest.is_half_of_pair);
        let told = latest.told.as_ref().filter(|told| is_half_of_pair && told.at.elapsed() < PAIR_WINDOW)?;
        Some(told.judged.decision.active)
    }

    /// A call about it was refused.
    pub(crate) fn refused(&self, status: &Status) {
        let mut latest = self.latest();
        let problem = status.message().to_owned();
        latest.refused = Some(Refused { at: Instant::now(), code: status.code(), problem });
        latest.is_half_of_pair = false;
    }

    fn latest(&self) -> std::sync::MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log_warnings(&self, rate: &LogRate) {
        let (namespace, name) = (self.id.namespace(), self.id.name());
        for warning in self.trigger.iter().flat_map(|trigger| &trigger.warnings) {
            if let Some(unlogged) = rate.turn() {
                tracing::warn!(namespace, name, unlogged, "{warning}");
            }
        }
    }
}

#[cfg(test)]
mod tests;
