//! The newest shared reading of every queue asked for: the one place where the scaler waits for Service Bus.
//!
//! Demand-driven: young enough means the cache answers; else everybody who asks awaits one refresh. When a refresh fails,
//! the last reading stands in until it is too old; then the failure is the answer, never a made-up zero. Owns the cache
//! and nothing else: deciding and replying happen elsewhere.

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use moka::policy::EvictionPolicy;
use scaling::{Moment, Reading, Window};
use tokio::time::Instant;

use crate::config::ConfigHandle;
use crate::entity::Target;
use crate::keyed_hash::Digest;
use crate::metrics::Metrics;
use crate::source::{Observed, Query, ReadFailure, Source};

/// Most queues (with credential) remembered at a time; the least recently used are forgotten first.
const MAX_ENTITIES: u64 = 10_000;
/// Forgotten when nobody asked for this long. Longer than any `maxStalenessSeconds`.
const FORGET_AFTER: Duration = Duration::from_mins(30);
/// How many readings of a queue are kept for policies that look back.
const WINDOW_LENGTH: usize = 64;
/// A failed refresh is not repeated before this has passed, whoever asks.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause while the namespace throttles, whatever it asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How old a reading may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// Younger readings are answered from the cache.
    pub cache_ttl: Duration,
    /// When a refresh fails, the last reading is good for this long.
    pub max_staleness: Duration,
}

/// Under what a reading is kept: the access, which stands for namespace and credential, and the entity in one spelling.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    access: Digest,
    target: Target,
}

/// What the cache answers: the newest reading with those before it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The readings kept of this queue, oldest first; never empty.
    readings: Arc<[Reading]>,
    /// How old the newest reading was when it was handed out.
    pub age: Duration,
    /// Why there is no younger one, when the last refresh failed.
    pub stale_because: Option<Arc<ReadFailure>>,
    /// Of a pattern: what it took together.
    pub matched: Option<Matched>,
}

/// What a pattern took together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Matched {
    /// How many entities were counted.
    pub counted: usize,
    /// How many more match but were left out, since they give out no messages (Disabled, ReceiveDisabled).
    pub disabled: usize,
}

impl Seen {
    /// The readings as policies want them.
    pub fn window(&self) -> Window<'_> {
        Window::new(&self.readings).expect("a Seen is made from at least one reading")
    }

    /// The newest reading.
    pub fn newest(&self) -> &Reading {
        self.readings.last().expect("a Seen is made from at least one reading")
    }
}

/// The cache. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Readings {
    source: Arc<dyn Source>,
    cache: Cache<Key, Arc<Record>>,
    refresh_deadline: Duration,
    origin: Instant,
}

/// All that is known of one queue after its latest refresh. Replaced as a whole, never changed.
struct Record {
    window: Arc<[Reading]>,
    refreshed_at: Moment,
    failure: Option<Arc<ReadFailure>>,
    /// Refreshes failed in a row.
    failures: u32,
    /// No refresh before this, after a failure.
    retry_at: Moment,
}

impl Readings {
    /// An empty cache before `source`, with the limits and budgets of `config`. A refresh fails when it takes longer than
    /// `refresh_deadline`.
    pub fn new(source: Arc<dyn Source>, config: ConfigHandle, metrics: Metrics, refresh_deadline: Duration) -> Self {
        let _ = (config, metrics);
        let cache = Cache::builder()
            .max_capacity(MAX_ENTITIES)
            .time_to_idle(FORGET_AFTER)
            // moka's default may refuse a newcomer; a reading that is not kept would be read again by the next call.
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self { source, cache, refresh_deadline, origin: Instant::now() }
    }

    /// Now, on the clock that readings are stamped with.
    pub fn now(&self) -> Moment {
        Moment(self.origin.elapsed())
    }

    /// The key under which this is cached.
    pub fn key(&self, query: &Query) -> Key {
        let target = match &query.target {
            Target::Entity(entity) => Target::Entity(entity.folded()),
            matching @ Target::Matching(_) => matching.clone(),
        };
        Key { access: query.access.digest(), target }
    }

    /// The newest reading, at most `freshness.cache_ttl` old; or, if it cannot be refreshed, at most
    /// `freshness.max_staleness` old. Callers that ask at the same time share one refresh.
    pub async fn newest(&self, query: &Query, freshness: Freshness) -> Result<Seen, Arc<ReadFailure>> {
        let key = self.key(query);
        if let Some(record) = self.cache.get(&key).await
            && !record.is_due(self.now(), freshness.cache_ttl)
        {
            return record.answer(self.now(), freshness.max_staleness);
        }
        // A task of its own: a caller that hangs up neither wastes the refresh nor hands it on to the next in line.
        let refresh = tokio::spawn(self.clone().refreshed(key, query.clone(), freshness.cache_ttl));
        match refresh.await {
            Ok(record) => record.answer(self.now(), freshness.max_staleness),
            Err(error) => Err(Arc::new(ReadFailure::Unreachable(format!("the refresh was cut short: {error}")))),
        }
    }

    async fn read(&self, query: &Query) -> Result<Observed, ReadFailure> {
        match &query.target {
            Target::Entity(entity) => self.source.read(&query.access, entity).await,
            Target::Matching(_) => Err(ReadFailure::Unreachable("patterns are not supported yet".to_owned())),
        }
    }

    async fn refreshed(self, key: Key, query: Query, cache_ttl: Duration) -> Arc<Record> {
        let refresh = async {
            let previous = self.cache.get(&key).await;
            let result = tokio::time::timeout(self.refresh_deadline, self.read(&query)).await;
            let result = result.unwrap_or_else(|_| {
                Err(ReadFailure::Unreachable(format!(
                    "no answer from the namespace within {:.1} s",
                    self.refresh_deadline.as_secs_f64()
                )))
            });
            let record = Record::after(previous.as_deref(), result, self.now());
            log_change(&query, previous.as_deref(), &record);
            Arc::new(record)
        };
        let is_due = |record: &Arc<Record>| record.is_due(self.now(), cache_ttl);
        self.cache.entry_by_ref(&key).or_insert_with_if(refresh, is_due).await.into_value()
    }
}

impl Record {
    fn after(previous: Option<&Record>, result: Result<Observed, ReadFailure>, now: Moment) -> Self {
        let window = previous.map(|previous| Arc::clone(&previous.window)).unwrap_or_default();
        match result {
            Ok(observed) => {
                let Observed { counts, status, requires_session } = observed;
                let kept = window.len().saturating_sub(WINDOW_LENGTH - 1);
                let reading = Reading { at: now, counts, status, requires_session };
                let window = window[kept..].iter().copied().chain([reading]).collect();
                Self { window, refreshed_at: now, failure: None, failures: 0, retry_at: now }
            }
            Err(failure) => {
                let failures = previous.map_or(0, |previous| previous.failures).saturating_add(1);
                let pause = pause_after(&failure, failures, rand::random_range(0.8..1.2));
                // A queue that is gone has no past: should it come back, it is another one.
                let window = if matches!(failure, ReadFailure::NotFound(_)) { Arc::default() } else { window };
                let failure = Some(Arc::new(failure));
                Self { window, refreshed_at: now, failure, failures, retry_at: Moment(now.0 + pause) }
            }
        }
    }

    fn is_due(&self, now: Moment, cache_ttl: Duration) -> bool {
        if self.failure.is_some() {
            now >= self.retry_at
        } else {
            now.0.saturating_sub(self.refreshed_at.0) >= cache_ttl
        }
    }

    fn answer(&self, now: Moment, max_staleness: Duration) -> Result<Seen, Arc<ReadFailure>> {
        let Some(newest) = self.window.last() else {
            return Err(self
                .failure
                .clone()
                .unwrap_or_else(|| Arc::new(ReadFailure::Unreachable("never read".to_owned()))));
        };
        let age = now.0.saturating_sub(newest.at.0);
        match &self.failure {
            Some(failure) if age > max_staleness => Err(Arc::clone(failure)),
            failure => {
                Ok(Seen { readings: Arc::clone(&self.window), age, stale_because: failure.clone(), matched: None })
            }
        }
    }
}

/// One line when an old reading begins to stand in for a queue that cannot be read, and one when it can be read again,
/// however often it is tried between. Where no reading stands in, the caller gets the problem.
fn log_change(query: &Query, previous: Option<&Record>, record: &Record) {
    let (target, host) = (&query.target, query.access.host());
    let before = previous.and_then(|previous| previous.failure.as_deref());
    match (before, record.failure.as_deref()) {
        (None, Some(problem)) if !record.window.is_empty() => {
            tracing::warn!(%target, host, %problem, "it cannot be read; the reading from before stands in");
        }
        (Some(_), None) => tracing::info!(%target, host, "it can be read again"),
        _ => {}
    }
}

/// How long to leave the namespace alone after `failures` failures in a row. Only throttling is answered by waiting
/// longer and longer: after an outage the first good reading should come at once. `jitter` spreads scalers that were
/// throttled together.
fn pause_after(failure: &ReadFailure, failures: u32, jitter: f64) -> Duration {
    match failure {
        ReadFailure::Throttled { retry_after, .. } => {
            let doubling = RETRY_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(5));
            retry_after.unwrap_or(doubling).max(doubling).min(LONGEST_PAUSE).mul_f64(jitter)
        }
        _ => RETRY_PAUSE,
    }
}

#[cfg(test)]
mod tests;
