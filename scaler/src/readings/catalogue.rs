//! How the entities of one listing are read with one credential: which operation comes next, one entity or one page of up
//! to a hundred, and who pays for it.
//!
//! Pure: no I/O, and time is an argument. A GET and a page cost the same ten credits, so once it is known on which page an
//! entity stands, reading that page costs nothing more and refreshes all its neighbours. Finding out where entities stand
//! does cost: pages are read for that when more entities are in demand than there are pages, and from savings alone.
//!
//! **Invariant**: what calls cost is at no moment more than what the built-in trigger would have spent on the same calls,
//! plus a loan of one for every eight entities in demand, so none for few. See [`Account`].
//!
//! Names are in the one spelling that caches use. Readings are not kept here but for the pages themselves, of which
//! patterns are views.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use scaling::Moment;

use crate::source::Observed;

mod account;
mod choice;
mod demand;
mod pages;
mod wants;

pub(crate) use account::Account;
use demand::Demand;
pub(crate) use pages::Names;
use pages::Pages;
use wants::{Progress, Wants};

/// For how long somebody who asked for an entity is taken to ask again, in deciding whether to look where it stands.
const INTEREST: Duration = Duration::from_mins(10);
/// Without the right to list, or when the listing fails, single entities are read one by one for this long.
const LISTING_REFUSED: Duration = Duration::from_mins(10);
const LISTING_FAILED: Duration = Duration::from_secs(30);
/// More pages than any namespace has (10,000 queues and topics on Azure); what goes on beyond is not a listing.
const MAX_PAGES: usize = 200;

/// Who wants an entity read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// A call of KEDA's, which the built-in trigger would have spent an operation on.
    Call,
    /// A push stream.
    Watcher,
}

/// Who pays an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Payer {
    /// The call that it answers.
    Reserved,
    /// What answers from the cache saved.
    Savings,
    /// The pattern that needs every page.
    Pattern,
    /// Push streams.
    Watchers,
}

/// One management operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Read one entity.
    Get(Arc<str>),
    /// Read the page that comes after so many entities.
    Page {
        /// Its number, from 0.
        index: usize,
        /// How many entities come before it.
        skip: usize,
    },
}

/// An operation that could begin.
#[derive(Clone, Debug)]
pub(crate) struct Proposal {
    pub(crate) operation: Operation,
    /// How long it has been wanted.
    pub(crate) since: Moment,
    /// How often its like is wished for.
    pub(crate) period: Duration,
    payer: Payer,
}

/// What could be done.
#[derive(Clone, Debug)]
pub(crate) enum Next {
    /// This.
    Start(Proposal),
    /// Nothing before that moment, unless something else happens.
    NotBefore(Moment),
    /// Nothing, unless something else happens.
    Nothing,
}

/// Why a page could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageFailure {
    /// The credential may not list.
    Refused,
    /// Anything else.
    Other,
}

/// Whether patterns can be answered now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patterns {
    /// Nobody waits, or not all pages are there.
    Unchanged,
    /// All pages are young enough for those who wait.
    Ready,
    /// The listing does not end.
    Endless,
}

/// Calls for patterns that wait for all pages.
#[derive(Debug)]
struct Scan {
    since: Moment,
    period: Duration,
    /// Pages read at or before this are too old; none are without it.
    newer_than: Option<Moment>,
    calls: u64,
    /// Pages read and paid for on account of these calls.
    advanced: u64,
}

/// A page that is being read.
#[derive(Debug, Default)]
struct Flight {
    /// How many entities come before it.
    skip: usize,
    /// Who waits for it.
    riders: Vec<Arc<str>>,
}

/// All that is known of one listing; see the module.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    is_short: bool,
    pages: Pages,
    wants: Wants,
    /// Pages being read.
    in_flight: HashMap<usize, Flight>,
    /// The one of them that is read to look through all.
    searching: Option<usize>,
    /// Entities that are there though no page held them, and since when that is known.
    unlisted: HashMap<Arc<str>, Moment>,
    demand: Demand,
    /// Those that were asked for lately and were not young enough.
    interest: Demand,
    account: Account,
    scan: Option<Scan>,
    no_listing_before: Moment,
}

impl Catalogue {
    /// With the account that it shares with the other listings of its namespace. `is_short` where the first page is all but
    /// certain to be the only one.
    pub(crate) fn new(account: Account, is_short: bool) -> Self {
        Self { is_short, account, ..Self::default() }
    }

    /// A call for this entity was answered without waiting. It stays in demand for as long as a reading is good.
    pub(crate) fn answered(&mut self, name: &Arc<str>, cache_ttl: Duration, now: Moment) {
        self.account.save(1);
        self.ask(name, cache_ttl, now);
    }

    /// A call needs this entity read.
    pub(crate) fn call(&mut self, name: &Arc<str>, cache_ttl: Duration, now: Moment) {
        self.ask(name, cache_ttl, now);
        self.interest.ask(name, Moment(now.0 + INTEREST), now);
        self.want(name, Asker::Call, cache_ttl, now);
    }

    /// Push streams need this entity read as soon as may be, due `since` then (which may be a little later than now);
    /// `period` is how often they wish for it.
    pub(crate) fn look(&mut self, name: &Arc<str>, period: Duration, since: Moment) {
        self.want(name, Asker::Watcher, period, since);
    }

    fn ask(&mut self, name: &Arc<str>, cache_ttl: Duration, now: Moment) {
        if self.demand.ask(name, Moment(now.0 + cache_ttl), now) {
            self.account.newcomer(now);
        }
    }

    fn want(&mut self, name: &Arc<str>, asker: Asker, period: Duration, since: Moment) {
        let place = self.pages.place_of(name);
        if let Some(want) = self.wants.get(name) {
            if asker == Asker::Watcher {
                return;
            }
            if want.asker == Asker::Call || want.progress == Progress::Getting {
                // The operation that is coming answers this call as well.
                self.account.save(1);
            } else {
                self.account.wait();
                self.wants.join(name, place);
            }
            return;
        }
        if asker == Asker::Call {
            self.account.wait();
        }
        let flight = place.and_then(|place| self.in_flight.get_mut(&place));
        self.wants.add(name, asker, since, period, place, flight.is_some());
        if let Some(flight) = flight {
            flight.riders.push(Arc::clone(name));
        }
    }

    /// Whether this entity still waits for its turn.
    pub(crate) fn is_waiting(&self, name: &str) -> bool {
        self.wants.is_waiting(name)
    }

    /// A call for a pattern was answered by a failure, at once.
    pub(crate) fn pattern_refused(&mut self) {
        self.account.save(1);
    }

    /// A call for a pattern was answered from pages that were there: the built-in would have read them all.
    pub(crate) fn pattern_answered(&mut self) {
        self.account.save(self.pages.count() as u64);
    }

    /// Wants all pages, none older than `cache_ttl`; but who joins others takes what is read for those already.
    pub(crate) fn want_all(&mut self, asker: Asker, cache_ttl: Duration, period: Duration, now: Moment) {
        let calls = u64::from(asker == Asker::Call);
        // Pages of this very moment are young enough even for those who want none from a cache.
        let newer_than = now.0.checked_sub(cache_ttl.max(Duration::from_nanos(1))).map(Moment);
        let scan = self.scan.get_or_insert(Scan { since: now, period, newer_than, calls: 0, advanced: 0 });
        scan.calls += calls;
        // Else a listing that takes longer to read than those who ask for it find young enough would never be read to its end.
        let before_scan = scan.since.0.checked_sub(Duration::from_nanos(1)).map(Moment);
        scan.newer_than = scan.newer_than.max(newer_than.min(before_scan));
    }

    /// Whether all pages are known and younger than that.
    pub(crate) fn is_whole(&self, cache_ttl: Duration, now: Moment) -> bool {
        let oldest = self.pages.is_complete().then(|| self.pages.oldest()).flatten();
        oldest.is_some_and(|oldest| now.0.saturating_sub(oldest.0) < cache_ttl)
    }

    /// Whether patterns wait for a page's turn.
    pub(crate) fn is_scan_waiting(&self) -> bool {
        self.scan.is_some() && self.searching.is_none()
    }

    /// The one spelling of a name that the service writes so.
    fn name(&mut self, written: &str) -> Arc<str> {
        let folded = written.to_ascii_lowercase();
        let name = self.pages.known_name(&folded).unwrap_or_else(|| folded.into());
        self.pages.spell(&name, written);
        name
    }

    /// What the pages hold.
    pub(crate) fn pages(&self) -> &Pages {
        &self.pages
    }

    /// The names of all that counts as there now.
    pub(crate) fn names(&mut self) -> Arc<Names> {
        self.pages.names()
    }

    /// Begins what [`Self::propose`] proposed; nothing else may have happened between.
    pub(crate) fn begin(&mut self, proposal: &Proposal) {
        match proposal.payer {
            Payer::Reserved => self.account.spend_own(),
            Payer::Savings => self.account.spend_savings(),
            // The built-in has no counterpart to push streams; their budget alone limits them.
            Payer::Watchers => {}
            Payer::Pattern => {
                self.account.spend_on_pattern();
                if let Some(scan) = &mut self.scan {
                    scan.advanced += 1;
                }
            }
        }
        match &proposal.operation {
            Operation::Get(name) => self.wants.advance(name, Progress::Getting),
            Operation::Page { index, skip } => {
                let names = self.pages.names_on(*index);
                let waits_here =
                    |name: &&Arc<str>| self.wants.is_waiting(name) && self.pages.place_of(name) == Some(*index);
                let riders: Vec<Arc<str>> = names.filter(waits_here).cloned().collect();
                for name in &riders {
                    self.wants.advance(name, Progress::Riding);
                }
                let is_known = *index < self.pages.count();
                // What nobody waits for by its place is read to find others.
                if proposal.payer == Payer::Pattern || !is_known || riders.is_empty() {
                    self.searching = Some(*index);
                }
                self.in_flight.insert(*index, Flight { skip: *skip, riders });
            }
        }
    }

    /// An entity was read alone, and is there or is not.
    pub(crate) fn got(&mut self, name: &Arc<str>, is_there: bool, now: Moment) {
        self.settle(name);
        if !is_there {
            self.unlisted.remove(name);
            self.pages.remove(name);
        } else if self.pages.place_of(name).is_none() {
            self.unlisted.insert(Arc::clone(name), now);
            if self.unlisted.len() > 2 * self.interest.len() + 1_000 {
                let interest = &self.interest;
                self.unlisted.retain(|name, _| interest.contains(name, now));
            }
        }
    }

    /// An entity could not be read.
    pub(crate) fn get_failed(&mut self, name: &str) {
        self.settle(name);
    }

    /// A page was read from `began` on: the entities on it by the names that the service writes, and whether more come after
    /// it. Whoever wanted one of them has it now. Says which they are, in the one spelling that caches use.
    pub(crate) fn page_read(
        &mut self,
        index: usize,
        entities: Vec<(String, Observed)>,
        has_more: bool,
        began: Moment,
        now: Moment,
    ) -> (Vec<(Arc<str>, Observed)>, Patterns) {
        let flight = self.land(index);
        let entities: Vec<_> =
            entities.into_iter().map(|(written, observed)| (self.name(&written), observed)).collect();
        let seen = entities.clone();
        (seen, self.take_page(index, flight, entities, has_more, (began, now)))
    }

    fn take_page(
        &mut self,
        index: usize,
        flight: Flight,
        entities: Vec<(Arc<str>, Observed)>,
        has_more: bool,
        (began, now): (Moment, Moment),
    ) -> Patterns {
        self.no_listing_before = Moment::default();
        for (name, _) in &entities {
            // One that is being read alone is answered by that.
            if self.wants.is_open(name) {
                self.settle(name);
            }
            self.unlisted.remove(name);
        }
        for name in self.pages.replace(index, flight.skip, entities, has_more, (began, now)) {
            self.requeue(&name);
        }
        for name in flight.riders {
            self.requeue(&name);
        }
        let Some(scan) = &self.scan else { return Patterns::Unchanged };
        if !self.pages.is_complete() && self.pages.count() >= MAX_PAGES {
            self.patterns_failed();
            return Patterns::Endless;
        }
        if self.pages.next_to_scan(scan.newer_than).is_some() {
            return Patterns::Unchanged;
        }
        // Each of them would have read every page.
        self.account.save((scan.calls * self.pages.count() as u64).saturating_sub(scan.advanced));
        self.scan = None;
        Patterns::Ready
    }

    /// A page could not be read; who waited for it is read alone.
    pub(crate) fn page_failed(&mut self, index: usize, failure: PageFailure, now: Moment) {
        for name in self.land(index).riders {
            self.requeue(&name);
        }
        let pause = match failure {
            PageFailure::Refused => LISTING_REFUSED,
            PageFailure::Other => LISTING_FAILED,
        };
        self.no_listing_before = self.no_listing_before.max(Moment(now.0 + pause));
        self.patterns_failed();
    }

    /// The credential is refused for everything, so that its refusal to list said nothing.
    pub(crate) fn forgive_listing(&mut self, now: Moment) {
        self.no_listing_before = self.no_listing_before.min(Moment(now.0 + LISTING_FAILED));
    }

    /// Gives up all who wait for an operation to begin, and says who they are. What has begun goes on.
    pub(crate) fn give_up(&mut self) -> Vec<Arc<str>> {
        let names = self.wants.waiting();
        for name in &names {
            self.settle(name);
        }
        self.patterns_failed();
        names
    }

    /// Gives up those who wait for an operation to begin and of whom nobody knows any more.
    pub(crate) fn give_up_unless(&mut self, is_known: impl Fn(&str) -> bool) {
        for name in self.wants.waiting() {
            if !is_known(&name) {
                self.settle(&name);
            }
        }
    }

    /// Calls for patterns were answered by a failure. The built-in would have spent at least one operation on each.
    fn patterns_failed(&mut self) {
        if let Some(scan) = self.scan.take() {
            self.account.save(scan.calls.saturating_sub(scan.advanced));
        }
    }

    /// A page is not being read any more.
    fn land(&mut self, index: usize) -> Flight {
        if self.searching == Some(index) {
            self.searching = None;
        }
        self.in_flight.remove(&index).unwrap_or_default()
    }

    /// Nobody waits for this entity any more.
    fn settle(&mut self, name: &str) {
        if let Some(want) = self.wants.remove(name)
            && want.asker == Asker::Call
            && want.progress != Progress::Getting
        {
            self.account.release();
        }
    }

    fn requeue(&mut self, name: &Arc<str>) {
        self.wants.queue_again(name, self.pages.place_of(name));
    }

    /// How many somebody waits for.
    #[cfg(test)]
    pub(crate) fn wanted(&self) -> usize {
        self.wants.len()
    }

    /// What was paid and spent.
    #[cfg(test)]
    pub(crate) fn account(&self) -> &Account {
        &self.account
    }
}

#[cfg(test)]
mod tests;
