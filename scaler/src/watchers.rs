//! Pollers behind push streams: one for each listing and credential, however many entities of it are watched and however
//! many streams watch them, and none when nobody does. Owns the table of what is watched; reads through the shared cache.
//!
//! While an entity is inactive for one of its streams it is looked at every interval, by the cheapest way and within the
//! budget, so that 0 → 1 does not wait for a poll; once active for all, only as often as `cacheTtl` says. A poller tells of
//! readings, not decisions: each stream has its own policy and its own activation.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Freshness;
use crate::readings::{Followed, Readings, Seen};
use crate::source::{Query, ReadFailure};

/// The newest outcome; `None` until the first read has ended.
pub(crate) type Latest = Option<Result<Seen, Arc<ReadFailure>>>;

/// A reading that is younger than this share of the interval at a look need not be read again: somebody else just did, or
/// the poller's own read was that late. So a read may take the rest of the interval without being left out the next time.
const YOUNG_ENOUGH: f64 = 0.25;

/// All that is watched. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct Watchers(Arc<Inner>);

struct Inner {
    readings: Readings,
    interval: Duration,
    shutdown: CancellationToken,
    /// By catalogue, then by target.
    pollers: Mutex<HashMap<usize, HashMap<usize, Watched>>>,
}

struct Watched {
    target: Followed,
    viewers: Arc<Mutex<Viewers>>,
}

/// The streams that watch one target.
#[derive(Default)]
struct Viewers {
    /// How many of them do not know it as active.
    inactive: usize,
    /// How many have which `cacheTtl`.
    by_cache_ttl: BTreeMap<Duration, usize>,
}

/// One stream's view of a target. Dropping it ends the view.
pub(crate) struct Watch {
    target: Followed,
    freshness: Freshness,
    /// How often the target had been tried before the view began, if what was read then is too old to begin with.
    awaited: Option<u64>,
    changes: watch::Receiver<()>,
    viewers: Arc<Mutex<Viewers>>,
    is_inactive: bool,
}

impl Watchers {
    /// Nothing is watched yet. Pollers look every `interval` until `shutdown`.
    pub(crate) fn new(readings: Readings, interval: Duration, shutdown: CancellationToken) -> Self {
        Self(Arc::new(Inner { readings, interval, shutdown, pollers: Mutex::default() }))
    }

    /// Follows a target, which is read at once if it has not been lately. Starts a poller if there is none for its
    /// listing; it ends by itself when nothing of that is watched any more.
    pub(crate) async fn subscribe(&self, query: &Query, freshness: Freshness) -> Watch {
        let target = self.0.readings.follow(query).await;
        let awaited = target.awaited(freshness.cache_ttl.max(self.0.interval));
        let watch = {
            let mut pollers = self.0.pollers();
            let is_first = !pollers.contains_key(&target.catalogue());
            let watched = pollers.entry(target.catalogue()).or_default();
            let watched = watched
                .entry(target.identity())
                .or_insert_with(|| Watched { target: target.clone(), viewers: Arc::default() });
            let viewers = Arc::clone(&watched.viewers);
            of(&viewers).come(freshness.cache_ttl);
            let changes = target.changes();
            if is_first {
                tokio::spawn(poll(Arc::clone(&self.0), target.catalogue()));
            }
            Watch { target, freshness, awaited, changes, viewers, is_inactive: true }
        };
        // The poller goes on from there.
        watch.target.look(self.0.interval, self.0.interval);
        watch.target.begin();
        watch
    }
}

impl Inner {
    fn pollers(&self) -> MutexGuard<'_, HashMap<usize, HashMap<usize, Watched>>> {
        self.pollers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// What is known now. An old reading, which was brought in for somebody who asks less often, is not: the read that the
    /// view began with will tell.
    pub(crate) fn latest(&mut self) -> Latest {
        self.changes.borrow_and_update();
        let is_awaited = self.awaited.is_some_and(|tries| self.target.is_awaited(tries));
        if is_awaited { None } else { self.target.latest(self.freshness) }
    }

    /// Returns when there is something newer; `false` when there never will be.
    pub(crate) async fn changed(&mut self) -> bool {
        self.changes.changed().await.is_ok()
    }

    /// The stream found it active, or not; what is not known to be active is looked at more often.
    pub(crate) fn found(&mut self, active: bool) {
        if active == self.is_inactive {
            self.is_inactive = !active;
            of(&self.viewers).found(active);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.found(true);
        of(&self.viewers).leave(self.freshness.cache_ttl);
    }
}

impl Viewers {
    /// One more, who does not know the target as active.
    fn come(&mut self, cache_ttl: Duration) {
        self.inactive += 1;
        *self.by_cache_ttl.entry(cache_ttl).or_default() += 1;
    }

    /// One found it active, or not any more.
    fn found(&mut self, active: bool) {
        if active {
            self.inactive -= 1;
        } else {
            self.inactive += 1;
        }
    }

    /// One who found it active leaves.
    fn leave(&mut self, cache_ttl: Duration) {
        let Some(count) = self.by_cache_ttl.get_mut(&cache_ttl) else { return };
        *count -= 1;
        if *count == 0 {
            self.by_cache_ttl.remove(&cache_ttl);
        }
    }

    /// How often they want the target looked at.
    fn period(&self, interval: Duration) -> Duration {
        match self.by_cache_ttl.first_key_value() {
            Some((shortest, _)) if self.inactive == 0 => (*shortest).max(interval),
            _ => interval,
        }
    }
}

fn of(viewers: &Mutex<Viewers>) -> MutexGuard<'_, Viewers> {
    viewers.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn poll(watchers: Arc<Inner>, catalogue: usize) {
    let mut ticks = tokio::time::interval(watchers.interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = watchers.shutdown.cancelled() => {
                watchers.pollers().remove(&catalogue);
                return;
            }
            _ = ticks.tick() => {}
        }
        let mut due: Vec<(Followed, Duration)> = {
            let mut pollers = watchers.pollers();
            // Under the lock, so that a stream that comes now either finds this poller alive or starts another.
            let Some(watched) = pollers.get_mut(&catalogue) else { return };
            watched.retain(|_, watched| watched.target.is_followed());
            if watched.is_empty() {
                pollers.remove(&catalogue);
                return;
            }
            let period = |watched: &Watched| of(&watched.viewers).period(watchers.interval);
            watched.values().map(|watched| (watched.target.clone(), period(watched))).collect()
        };
        // Where credits are short, what was read longest ago is read first: in no order, some would wait for twice as long.
        due.sort_by_cached_key(|(target, _)| target.read_at());
        let early = watchers.interval.mul_f64(1.0 - YOUNG_ENOUGH);
        for (target, period) in &due {
            target.look(period.saturating_sub(early), *period);
        }
        if let Some((target, _)) = due.first() {
            target.begin();
        }
    }
}
