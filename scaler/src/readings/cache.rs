//! The entries that are kept: a bounded cache, as large as `limits.entities` in the config file says now.
//!
//! moka cannot resize a cache, so another limit is another cache,
//! into which the entries move; one that is asked for meanwhile is found all the same, since its rack knows it for as long
//! as it lives.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use moka::future::Cache;
use moka::policy::EvictionPolicy;

use super::Key;
use super::entry::Entry;

/// Kept for so long without being asked for: a polling interval longer than a day would be strange.
const KEPT: Duration = Duration::from_hours(26);

/// See the module.
pub(super) struct EntryCache(RwLock<Arc<Limited>>);

/// A cache with the limit that it was made for.
struct Limited {
    limit: usize,
    entries: Cache<Key, Arc<Entry>>,
}

impl EntryCache {
    /// Nothing yet, and so many at most.
    pub(super) fn new(limit: usize) -> Self {
        Self(RwLock::new(Arc::new(Limited::new(limit))))
    }

    pub(super) async fn get(&self, key: &Key) -> Option<Arc<Entry>> {
        self.current().entries.get(key).await
    }

    /// Keeps one more, and so many at most from now on.
    pub(super) async fn insert(&self, key: Key, entry: Arc<Entry>, limit: usize) {
        let mut current = self.current();
        if current.limit != limit {
            current = self.limited(limit);
        }
        current.entries.insert(key, entry).await;
    }

    /// How many are kept, or a little while ago were.
    pub(super) fn count(&self) -> u64 {
        self.current().entries.entry_count()
    }

    fn current(&self) -> Arc<Limited> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn limited(&self, limit: usize) -> Arc<Limited> {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have been faster.
        if current.limit != limit {
            let before = std::mem::replace(&mut *current, Arc::new(Limited::new(limit)));
            tokio::spawn(Arc::clone(&current).take_over(before));
        }
        Arc::clone(&current)
    }

    /// Does now what is left for later, so that a test can see it.
    #[cfg(test)]
    pub(super) async fn tidy(&self) {
        self.current().entries.run_pending_tasks().await;
    }
}

impl Limited {
    fn new(limit: usize) -> Self {
        let entries = Cache::builder()
            .max_capacity(limit as u64)
            .time_to_idle(KEPT)
            // moka's default may refuse a newcomer; a reading that is not kept would be read again by the next call.
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self { limit, entries }
    }

    /// In no order: where the limit became lower, any of them may have to go.
    async fn take_over(self: Arc<Self>, before: Arc<Self>) {
        for (key, entry) in &before.entries {
            if !self.entries.contains_key(&*key) {
                self.entries.insert((*key).clone(), entry).await;
            }
        }
    }
}
