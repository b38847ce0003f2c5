//! The newest shared reading of everything asked for: the one place where the scaler waits for Service Bus.
//!
//! Demand-driven: young enough means the cache answers; else everybody who asks awaits one refresh, of that entity alone or
//! of a page of the listing with all its neighbours. When a refresh fails, or credits are short, the last reading stands in
//! until it is too old; then the failure is the answer, never a made-up zero.
//!
//! The story: [`Readings`] keeps an `entry` for each target; its `rack` asks the pure `catalogue` what to read; the
//! `namespace` begins that when its budget and its `backoff` allow. Deciding and replying happen elsewhere.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use scaling::Moment;
use tokio::sync::watch;

use crate::config::{ConfigHandle, Freshness};
use crate::entity::Target;
use crate::keyed_hash::Digest;
use crate::metrics::{CacheAnswer, Metrics};
use crate::source::{Query, ReadFailure, Source};

mod backoff;
mod budget;
mod cache;
mod catalogue;
mod entry;
mod episodes;
mod matching;
mod namespace;
mod rack;
mod record;
mod turns;
mod waiting;

use backoff::RETRY_PAUSE;
use cache::EntryCache;
use entry::{Asked, Entry};
use namespace::{Clock, Namespace};
pub(crate) use record::{Matched, Seen};

/// Under what a reading is kept: the access, which stands for namespace and credential, and the target in one spelling.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    access: Digest,
    target: Target,
}

/// The cache. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct Readings(Arc<Inner>);

struct Inner {
    source: Arc<dyn Source>,
    config: ConfigHandle,
    metrics: Metrics,
    refresh_deadline: Duration,
    clock: Clock,
    entries: EntryCache,
    /// By address: two brokers on one machine are two namespaces, and what speaks no TLS is not what does.
    namespaces: Mutex<HashMap<String, Weak<Namespace>>>,
}

impl Readings {
    /// An empty cache before `source`, with the limits and budgets of `config` at each moment. A refresh fails when it takes longer than
    /// `refresh_deadline`.
    ///
    /// Newcomers beyond `limits.entities` are refused where access is checked, so that they push nobody out; here, as a
    /// second line, the least recently used entry goes, which costs its history and a read when it is asked for again.
    pub(crate) fn new(
        source: Arc<dyn Source>,
        config: ConfigHandle,
        metrics: Metrics,
        refresh_deadline: Duration,
    ) -> Self {
        let entries = EntryCache::new(config.snapshot().limits.entities);
        let namespaces = Mutex::default();
        let clock = Clock::start();
        Self(Arc::new(Inner { source, config, metrics, refresh_deadline, clock, entries, namespaces }))
    }

    /// Now, on the clock that readings are stamped with.
    pub(crate) fn now(&self) -> Moment {
        self.0.clock.now()
    }

    /// The key under which this is cached.
    pub(crate) fn key(query: &Query) -> Key {
        let target = match &query.target {
            Target::Entity(entity) => Target::Entity(entity.folded()),
            matching @ Target::Matching(_) => matching.clone(),
        };
        Key { access: query.access.digest(), target }
    }

    /// The newest reading for one call of KEDA's, at most `freshness.cache_ttl` old; or, if it cannot be refreshed, at most
    /// `freshness.max_staleness` old. Callers that ask at the same time share one refresh, which a caller that hangs up
    /// does not end.
    pub(crate) async fn newest(&self, query: &Query, freshness: Freshness) -> Result<Seen, Arc<ReadFailure>> {
        let Freshness { cache_ttl, max_staleness } = freshness;
        let entry = self.entry(query).await;
        let now = self.now();
        let (cached, answer) = match entry.ask(cache_ttl, now) {
            Asked::Known(record) => (CacheAnswer::Hit, record.answer(max_staleness, None, now)),
            Asked::Refused(failure) => (CacheAnswer::Hit, entry.record().answer(max_staleness, Some(failure), now)),
            Asked::Wait(tries) => (CacheAnswer::Miss, entry.settled(tries, max_staleness).await),
        };
        self.0.metrics.cache(cached);
        if let Ok(seen) = &answer {
            self.0.metrics.reading_age(seen.age);
        }
        answer
    }

    /// For push streams: follows a target without reading it. Looked at by [`Followed::look`].
    pub(crate) async fn follow(&self, query: &Query) -> Followed {
        Followed(self.entry(query).await)
    }

    async fn entry(&self, query: &Query) -> Arc<Entry> {
        let key = Self::key(query);
        let entry = match self.0.entries.get(&key).await {
            Some(entry) => entry,
            None => self.newcomer(key, query).await,
        };
        // At every call, since the cache counts when it has time to, and entries go without a word.
        self.0.metrics.cache_entries(self.0.entries.count());
        entry
    }

    async fn newcomer(&self, key: Key, query: &Query) -> Arc<Entry> {
        let listing = match &query.target {
            Target::Entity(entity) => entity.listing(),
            Target::Matching(matching) => matching.listing.clone(),
        };
        let rack = self.namespace(query.access.namespace()).rack(&query.access, &listing);
        let entry = rack.entry(&key, &query.target);
        let limit = self.0.config.snapshot().limits.entities;
        self.0.entries.insert(key, Arc::clone(&entry), limit).await;
        entry
    }

    fn namespace(&self, of: &servicebus::Namespace) -> Arc<Namespace> {
        let Inner { source, config, metrics, refresh_deadline, clock, namespaces, .. } = &*self.0;
        let key = of.administration_url().to_ascii_lowercase();
        let mut namespaces = namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(namespace) = namespaces.get(&key).and_then(Weak::upgrade) {
            return namespace;
        }
        // A new one is rare enough to look for dead ones each time.
        namespaces.retain(|_, namespace| namespace.strong_count() > 0);
        let (source, config, metrics) = (Arc::clone(source), config.clone(), metrics.clone());
        let host = of.host().to_ascii_lowercase();
        let namespace = Arc::new(Namespace::new(&host, *clock, *refresh_deadline, source, config, metrics));
        namespaces.insert(key, Arc::downgrade(&namespace));
        namespace
    }
}

/// A target that push streams follow. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Followed(Arc<Entry>);

impl Followed {
    /// Which listing it is read from, with which credential; equal for those that one operation can refresh together.
    pub(crate) fn catalogue(&self) -> usize {
        Arc::as_ptr(&self.0.rack) as usize
    }

    /// Tells it from every other target for as long as it lives.
    pub(crate) fn identity(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }

    /// Wants it read if the newest reading is older than that, whenever the budget allows; `period` is how often that is
    /// wished for. [`Self::begin`] lets it begin.
    pub(crate) fn look(&self, older_than: Duration, period: Duration) {
        self.0.look(older_than, period, self.0.rack.namespace.clock.now());
    }

    /// When it was last read, if ever.
    pub(crate) fn read_at(&self) -> Option<Moment> {
        self.0.record().window.last().map(|newest| newest.at)
    }

    /// Lets begin what was wanted of this namespace.
    pub(crate) fn begin(&self) {
        self.0.rack.namespace.pump();
    }

    /// Tells of every try to read it.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.0.follow()
    }

    /// Whether anybody listens to [`Self::changes`].
    pub(crate) fn is_followed(&self) -> bool {
        self.0.is_followed()
    }

    /// The number of tries so far, if the next is to be waited for by somebody to whom a reading is good for that long: as a
    /// call would have to wait.
    pub(crate) fn awaited(&self, good_for: Duration) -> Option<u64> {
        let (record, namespace) = (self.0.record(), &self.0.rack.namespace);
        let now = namespace.clock.now();
        let is_due =
            record.is_due(good_for, RETRY_PAUSE, || namespace.recovered_at(), now) && namespace.refusal(now).is_none();
        is_due.then_some(record.tries)
    }

    /// Whether the try after so many is still to be waited for; where credits are short, nobody does.
    pub(crate) fn is_awaited(&self, tries: u64) -> bool {
        let Entry { rack, what, .. } = &*self.0;
        let is_short = || rack.namespace.shortage(rack.namespace.clock.now()).is_some() && rack.is_waiting(what);
        self.0.record().tries == tries && !is_short()
    }

    /// What is known now; none before the first try has ended.
    pub(crate) fn latest(&self, freshness: Freshness) -> Option<Result<Seen, Arc<ReadFailure>>> {
        let record = self.0.record();
        let is_known = record.failure.is_some() || !record.window.is_empty();
        is_known.then(|| {
            let now = self.0.rack.namespace.clock.now();
            // What is active is looked at every `cacheTtl` only, and later where credits are short.
            let max_staleness = freshness.max_staleness.max(freshness.cache_ttl * 2);
            let problem = (!record.can_stand_in(max_staleness, now)).then(|| self.0.rack.namespace.no_answer());
            record.answer(max_staleness, problem, now)
        })
    }
}

#[cfg(test)]
mod tests;
