//! One listing read with one credential, and the entries of its entities: hands what the pure [`Catalogue`] decides to the
//! namespace, and what comes back to the entries.
//!
//! Lives for as long as one of its entries does. Lock order: namespace, rack, entry; no lock is held over an await.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use scaling::Moment;

use super::Key;
use super::catalogue::{Asker, Catalogue, Operation, PageFailure, Patterns};
use super::entry::{Entry, What};
use super::matching::combined;
use super::namespace::Namespace;
use super::record::Record;
use crate::access::Access;
use crate::entity::{Entity, Listing, Matching, Target};
use crate::source::{Observed, Page, ReadFailure};

/// Dead entries, and wishes for them, are looked for when there are so many more than the last time.
const SWEEP_AFTER: usize = 1_000;

/// See the module.
pub(super) struct Rack {
    pub(super) namespace: Arc<Namespace>,
    pub(super) access: Access,
    pub(super) listing: Listing,
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) catalogue: Catalogue,
    entries: HashMap<Arc<str>, Weak<Entry>>,
    patterns: Vec<Weak<Entry>>,
    sweep_at: usize,
    /// The credential was refused a listing; whether for everything will show.
    refused: Option<Arc<ReadFailure>>,
    /// That it may read and not list was told.
    is_told: bool,
}

impl Rack {
    pub(super) fn new(namespace: Arc<Namespace>, access: Access, listing: Listing) -> Self {
        // A topic may have 2,000 subscriptions, but few have more than a hundred.
        let is_short = matches!(listing, Listing::Subscriptions { .. });
        let catalogue = Catalogue::new(namespace.account.clone(), is_short);
        Self { namespace, access, listing, state: Mutex::new(State { catalogue, ..State::default() }) }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entry of that key, made if there is none. A page that was read lately is its first reading.
    pub(super) fn entry(self: &Arc<Self>, key: &Key, target: &Target) -> Arc<Entry> {
        let mut state = self.state();
        state.sweep();
        let rack = Arc::clone(self);
        match target {
            Target::Entity(entity) => {
                let name: Arc<str> = entity.folded().name().into();
                if let Some(entry) = state.entries.get(&name).and_then(Weak::upgrade) {
                    return entry;
                }
                let seed = state.catalogue.pages().find(&name);
                let record = seed.map_or_else(Record::default, |(observed, at)| {
                    Record::default().after_reading(&observed, None, at, at)
                });
                let what = What::Entity { entity: entity.clone(), name: Arc::clone(&name) };
                let entry = Arc::new(Entry::new(key.clone(), what, rack, record));
                state.entries.insert(name, Arc::downgrade(&entry));
                entry
            }
            Target::Matching(pattern) => {
                let known = state.patterns.iter().filter_map(Weak::upgrade).find(|entry| entry.key == *key);
                known.unwrap_or_else(|| {
                    let what = What::Pattern(pattern.clone());
                    let entry = Arc::new(Entry::new(key.clone(), what, rack, Record::default()));
                    state.patterns.push(Arc::downgrade(&entry));
                    entry
                })
            }
        }
    }

    /// A call was answered by a reading that is young enough.
    pub(super) fn answered(&self, what: &What, cache_ttl: Duration, now: Moment) {
        let catalogue = &mut self.state().catalogue;
        match what {
            What::Entity { name, .. } => catalogue.answered(name, cache_ttl, now),
            What::Pattern(_) => catalogue.pattern_answered(),
        }
    }

    /// A call was answered by a failure, since the namespace is left alone.
    pub(super) fn refused(&self, what: &What, cache_ttl: Duration, now: Moment) {
        let catalogue = &mut self.state().catalogue;
        match what {
            What::Entity { name, .. } => catalogue.answered(name, cache_ttl, now),
            What::Pattern(_) => catalogue.pattern_refused(),
        }
    }

    /// A call needs a younger reading. Gives it if the pages have it; else it waits from now on.
    pub(super) fn call(self: &Arc<Self>, entry: &Arc<Entry>, cache_ttl: Duration, now: Moment) -> Option<Arc<Record>> {
        let mut state = self.state();
        match &entry.what {
            What::Entity { name, .. } => state.catalogue.call(name, cache_ttl, now),
            What::Pattern(pattern) if state.catalogue.is_whole(cache_ttl, now) => {
                state.catalogue.pattern_answered();
                drop(state);
                return Some(self.evaluate(entry, pattern, now));
            }
            What::Pattern(_) => {
                entry.set_wanted();
                state.catalogue.want_all(Asker::Call, cache_ttl, cache_ttl, now);
            }
        }
        drop(state);
        self.namespace.wait_for(self);
        None
    }

    /// Push streams need a younger reading, due `since` then.
    pub(super) fn look(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        older_than: Duration,
        period: Duration,
        since: Moment,
        now: Moment,
    ) {
        let mut state = self.state();
        match &entry.what {
            What::Entity { name, .. } => state.catalogue.look(name, period, since),
            What::Pattern(pattern) if state.catalogue.is_whole(older_than, now) => {
                drop(state);
                self.evaluate(entry, pattern, now);
                return;
            }
            What::Pattern(_) => {
                entry.set_wanted();
                state.catalogue.want_all(Asker::Watcher, older_than, period, now);
            }
        }
        drop(state);
        self.namespace.wait_for(self);
    }

    /// Whether this waits for its turn.
    pub(super) fn is_waiting(&self, what: &What) -> bool {
        match what {
            What::Entity { name, .. } => self.state().catalogue.is_waiting(name),
            What::Pattern(_) => self.state().catalogue.is_scan_waiting(),
        }
    }

    /// How the entity of that name is asked for.
    pub(super) fn entity(&self, name: &Arc<str>) -> Entity {
        let entry = self.state().entries.get(name).and_then(Weak::upgrade);
        match entry.as_deref().map(|entry| &entry.what) {
            Some(What::Entity { entity, .. }) => entity.clone(),
            _ => self.listing.entity(name),
        }
    }

    /// An entity was read alone, from `began` on. That is how old the reading is: what it says may have changed since.
    pub(super) fn got(&self, name: &Arc<str>, result: &Result<Observed, Arc<ReadFailure>>, began: Moment, now: Moment) {
        let entry = {
            let mut state = self.state();
            match result {
                Ok(_) => state.catalogue.got(name, true, now),
                Err(failure) if matches!(**failure, ReadFailure::NotFound(_)) => {
                    state.catalogue.got(name, false, now);
                }
                Err(_) => state.catalogue.get_failed(name),
            }
            self.learn_about_listing(&mut state, result, now);
            state.entries.get(name).and_then(Weak::upgrade)
        };
        let Some(entry) = entry else { return };
        match result {
            Ok(observed) => drop(entry.succeed(observed, None, began, now)),
            Err(failure) => entry.fail(failure, now),
        }
    }

    /// Whether a refused listing is a matter of rights shows at the next read of an entity.
    fn learn_about_listing(&self, state: &mut State, result: &Result<Observed, Arc<ReadFailure>>, now: Moment) {
        match result {
            Ok(_) => {
                let Some(problem) = state.refused.take().filter(|_| !std::mem::replace(&mut state.is_told, true))
                else {
                    return;
                };
                let (host, listing) = (self.access.host(), &self.listing);
                tracing::warn!(host, %listing, %problem, "the credential may not list; entities are read one by one");
            }
            Err(failure) if matches!(**failure, ReadFailure::Unauthorized(_)) && state.refused.take().is_some() => {
                state.catalogue.forgive_listing(now);
            }
            Err(_) => {}
        }
    }

    /// A page was read, from `began` on.
    pub(super) fn got_page(&self, index: usize, result: Result<Page, Arc<ReadFailure>>, began: Moment, now: Moment) {
        match result {
            Ok(page) => self.place_page(index, page, began, now),
            Err(failure) => {
                let is_refused = matches!(*failure, ReadFailure::Unauthorized(_));
                let how = if is_refused { PageFailure::Refused } else { PageFailure::Other };
                let patterns = {
                    let mut state = self.state();
                    state.catalogue.page_failed(index, how, now);
                    state.refused = is_refused.then(|| Arc::clone(&failure));
                    state.wanted_patterns()
                };
                for entry in patterns {
                    entry.fail(&failure, now);
                }
            }
        }
    }

    fn place_page(&self, index: usize, page: Page, began: Moment, now: Moment) {
        let mut state = self.state();
        let Page { entities, has_more } = page;
        let (seen, patterns) = state.catalogue.page_read(index, entities, has_more, began, now);
        (state.refused, state.is_told) = (None, false);
        let live = |(name, observed)| Some((state.entries.get::<Arc<str>>(&name)?.upgrade()?, observed));
        let seen: Vec<(Arc<Entry>, Observed)> = seen.into_iter().filter_map(live).collect();
        let wanted = if patterns == Patterns::Unchanged { Vec::new() } else { state.wanted_patterns() };
        drop(state);
        match patterns {
            Patterns::Unchanged => {}
            Patterns::Ready => {
                for entry in wanted {
                    if let What::Pattern(pattern) = &entry.what {
                        self.evaluate(&entry, pattern, now);
                    }
                }
            }
            Patterns::Endless => {
                let text = format!("the listing of {} does not end", self.listing);
                let failure = Arc::new(ReadFailure::Unexpected(text));
                for entry in wanted {
                    entry.fail(&failure, now);
                }
            }
        }
        for (entry, observed) in seen {
            entry.succeed(&observed, None, began, now);
        }
    }

    /// Reads a pattern's counts off the pages, all of which are known. Names are looked through without a lock, since a
    /// listing may have thousands and many patterns.
    fn evaluate(&self, entry: &Entry, pattern: &Matching, now: Moment) -> Arc<Record> {
        loop {
            let names = self.state().catalogue.names();
            let matching = entry.matches(pattern, &names);
            let state = self.state();
            let pages = state.catalogue.pages();
            // One that came meanwhile may match; one that only moved counts, wherever it is.
            if pages.membership() == names.membership {
                let entities = matching.iter().filter_map(|name| pages.observed(name));
                let (observed, matched) = combined(entities, pattern.operation);
                return entry.succeed(&observed, Some(matched), pages.oldest().unwrap_or(now), now);
            }
        }
    }

    /// All who wait for an operation to begin are told this instead.
    pub(super) fn give_up(&self, failure: &Arc<ReadFailure>, now: Moment) {
        let entries: Vec<Arc<Entry>> = {
            let mut state = self.state();
            let names = state.catalogue.give_up();
            let entries = names.iter().filter_map(|name| state.entries.get(name)?.upgrade()).collect::<Vec<_>>();
            entries.into_iter().chain(state.wanted_patterns()).collect()
        };
        for entry in entries {
            entry.fail(failure, now);
        }
    }
}

impl State {
    fn wanted_patterns(&self) -> Vec<Arc<Entry>> {
        self.patterns.iter().filter_map(Weak::upgrade).filter(|entry| entry.is_wanted()).collect()
    }

    fn sweep(&mut self) {
        let count = self.entries.len() + self.patterns.len();
        if count >= self.sweep_at {
            self.entries.retain(|_, entry| entry.strong_count() > 0);
            self.patterns.retain(|entry| entry.strong_count() > 0);
            // Else whoever names entities faster than the budget reads them would be waited for without end.
            self.catalogue.give_up_unless(|name| self.entries.contains_key(name));
            self.sweep_at = (self.entries.len() + self.patterns.len()) * 2 + SWEEP_AFTER;
        }
    }
}

/// What an operation is to the metrics.
pub(super) fn kind(listing: &Listing, operation: &Operation) -> crate::metrics::OperationKind {
    use crate::metrics::OperationKind::{GetQueue, GetSubscription, ListQueues, ListSubscriptions};
    match (listing, operation) {
        (Listing::Queues, Operation::Get(_)) => GetQueue,
        (Listing::Queues, Operation::Page { .. }) => ListQueues,
        (Listing::Subscriptions { .. }, Operation::Get(_)) => GetSubscription,
        (Listing::Subscriptions { .. }, Operation::Page { .. }) => ListSubscriptions,
    }
}
