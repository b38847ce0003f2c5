//! How the entities of one listing are read with one credential: which operation comes next, one entity or one page of up
//! to a hundred, and who pays for it.
//!
//! Pure: no I/O, and time is an argument. A GET and a page cost the same ten credits, so once it is known on which page an
//! entity stands, reading that page costs nothing more and refreshes all its neighbours. Finding out where entities stand
//! does cost: pages are read for that when more entities are in demand than there are pages, and from savings alone.
//!
//! **Invariant**: what calls cost is at no moment more than what the built-in trigger would have spent on the same calls,
//! plus a [`loan`] of one for every eight entities in demand, so none for few. See [`Account`].
//!
//! Names are in the one spelling that caches use. Readings are not kept here but for the pages themselves, of which
//! patterns are views.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use scaling::Moment;

use crate::source::Observed;

mod account;
mod demand;
mod pages;

pub(crate) use account::Account;
use demand::Demand;
use pages::Pages;

/// Where nothing was ever saved, nobody could find out that pages are cheaper: 500 idle queues, each looked at every 30 s,
/// never give an answer from the cache. So one operation for every so many entities in demand may be spent before it is
/// earned: pages are all but certain to earn it back within seconds. It is not lent again before they have.
const ENTITIES_FOR_A_LOAN: u32 = 8;
/// The most that is ever lent, in operations.
const MOST_LENT: u32 = 16;
/// For how long somebody who asked for an entity is taken to ask again, in deciding whether to look where it stands.
const INTEREST: Duration = Duration::from_mins(10);
/// How long an entity whose page is not known waits for the pages that are being looked through, before it is read alone.
const PATIENCE: Duration = Duration::from_secs(1);
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

#[derive(Debug)]
struct Want {
    sequence: u64,
    since: Moment,
    period: Duration,
    asker: Asker,
    progress: Progress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// In a queue.
    Waiting,
    /// On a page that is being read.
    Riding,
    /// Being read alone.
    Getting,
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

/// Those who wait, oldest first, one queue for each asker and for whether the page is known.
type Queues = [[BTreeMap<u64, Arc<str>>; 2]; 2];

/// All that is known of one listing; see the module.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    is_short: bool,
    pages: Pages,
    wants: HashMap<Arc<str>, Want>,
    queues: Queues,
    next_sequence: u64,
    /// Pages being read, with those who wait for them.
    in_flight: HashMap<usize, Vec<Arc<str>>>,
    /// Whether one of them is read to look through all.
    is_searching: Option<usize>,
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
        if let Some(want) = self.wants.get_mut(name) {
            if asker == Asker::Watcher {
                return;
            }
            if want.asker == Asker::Call || want.progress == Progress::Getting {
                // The operation that is coming answers this call as well.
                self.account.save(1);
            } else {
                self.account.wait();
                want.asker = Asker::Call;
                if want.progress == Progress::Waiting {
                    let is_placed = usize::from(place.is_some());
                    self.queues[Asker::Watcher as usize][is_placed].remove(&want.sequence);
                    self.queues[Asker::Call as usize][is_placed].insert(want.sequence, Arc::clone(name));
                }
            }
            return;
        }
        if asker == Asker::Call {
            self.account.wait();
        }
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let mut want = Want { sequence, since, period, asker, progress: Progress::Waiting };
        match place.and_then(|place| self.in_flight.get_mut(&place)) {
            Some(riders) => {
                want.progress = Progress::Riding;
                riders.push(Arc::clone(name));
            }
            None => {
                self.queues[asker as usize][usize::from(place.is_some())].insert(sequence, Arc::clone(name));
            }
        }
        self.wants.insert(Arc::clone(name), want);
    }

    /// Whether this entity still waits for its turn.
    pub(crate) fn is_waiting(&self, name: &str) -> bool {
        self.wants.get(name).is_some_and(|want| want.progress == Progress::Waiting)
    }

    /// A call for a pattern was answered by a failure, at once.
    pub(crate) fn pattern_refused(&mut self) {
        self.account.save(1);
    }

    /// A call for a pattern was answered from pages that were there: the built-in would have read them all.
    pub(crate) fn pattern_answered(&mut self) {
        self.account.save(self.pages.count() as u64);
    }

    /// Wants all pages, none older than `cache_ttl`.
    pub(crate) fn want_all(&mut self, asker: Asker, cache_ttl: Duration, period: Duration, now: Moment) {
        let calls = u64::from(asker == Asker::Call);
        // Pages of this very moment are young enough even for those who want none from a cache.
        let newer_than = now.0.checked_sub(cache_ttl.max(Duration::from_nanos(1))).map(Moment);
        let scan = self.scan.get_or_insert(Scan { since: now, period, newer_than, calls: 0, advanced: 0 });
        scan.calls += calls;
        scan.newer_than = scan.newer_than.max(newer_than);
    }

    /// Whether all pages are known and younger than that.
    pub(crate) fn is_whole(&self, cache_ttl: Duration, now: Moment) -> bool {
        let oldest = self.pages.is_complete().then(|| self.pages.oldest()).flatten();
        oldest.is_some_and(|oldest| now.0.saturating_sub(oldest.0) < cache_ttl)
    }

    /// Whether patterns wait for a page's turn.
    pub(crate) fn is_scan_waiting(&self) -> bool {
        self.scan.is_some() && self.in_flight.is_empty()
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

    /// What should be done next for this asker.
    pub(crate) fn propose(&mut self, asker: Asker, now: Moment) -> Next {
        self.demand.prune(now);
        self.interest.prune(now);
        let candidates = [self.propose_scan(asker), self.propose_placed(asker, now), self.propose_unplaced(asker, now)];
        let mut best = Next::Nothing;
        for candidate in candidates {
            best = match (best, candidate) {
                (Next::Start(one), Next::Start(other)) => {
                    Next::Start(if other.since < one.since { other } else { one })
                }
                (start @ Next::Start(_), _) | (_, start @ Next::Start(_)) => start,
                (Next::NotBefore(one), Next::NotBefore(other)) => Next::NotBefore(one.min(other)),
                (wait @ Next::NotBefore(_), _) | (_, wait) => wait,
            };
        }
        best
    }

    fn propose_scan(&self, asker: Asker) -> Next {
        let Some(scan) = &self.scan else { return Next::Nothing };
        let scan_asker = if scan.calls > 0 { Asker::Call } else { Asker::Watcher };
        if asker != scan_asker || self.is_searching.is_some() {
            return Next::Nothing;
        }
        let Some((index, skip)) = self.pages.next_to_scan(scan.newer_than) else { return Next::Nothing };
        if self.in_flight.contains_key(&index) || index >= MAX_PAGES {
            return Next::Nothing;
        }
        let payer = if scan.calls > 0 { Payer::Pattern } else { Payer::Watchers };
        let operation = Operation::Page { index, skip };
        Next::Start(Proposal { operation, since: scan.since, period: scan.period, payer })
    }

    fn propose_placed(&self, asker: Asker, now: Moment) -> Next {
        let Some((_, name)) = self.queues[asker as usize][1].first_key_value() else { return Next::Nothing };
        let (Some(want), Some(index)) = (self.wants.get(name), self.pages.place_of(name)) else { return Next::Nothing };
        let payer = self.payer_of_a_page(asker, true, now).filter(|_| now >= self.no_listing_before);
        let page = payer.filter(|_| self.is_worth_reading(index, name, now));
        Next::Start(match page {
            Some(payer) => {
                let operation = Operation::Page { index, skip: self.pages.skip_of(index) };
                Proposal { operation, since: want.since, period: want.period, payer }
            }
            None => alone(name, want),
        })
    }

    fn propose_unplaced(&self, asker: Asker, now: Moment) -> Next {
        let Some((_, name)) = self.queues[asker as usize][0].first_key_value() else { return Next::Nothing };
        let Some(want) = self.wants.get(name) else { return Next::Nothing };
        if self.is_searching.is_some() {
            let patient_until = Moment(want.since.0 + PATIENCE);
            return if now < patient_until { Next::NotBefore(patient_until) } else { Next::Start(alone(name, want)) };
        }
        let payer = self.payer_of_a_page(asker, self.is_first_of_few(), now).filter(|_| now >= self.no_listing_before);
        let search = payer.and_then(|payer| Some((payer, self.next_to_search(now)?)));
        Next::Start(match search {
            Some((payer, (index, skip))) => {
                let operation = Operation::Page { index, skip };
                Proposal { operation, since: want.since, period: want.period, payer }
            }
            None => alone(name, want),
        })
    }

    /// Whether nothing is known yet of a listing whose first page holds all.
    fn is_first_of_few(&self) -> bool {
        self.is_short && self.pages.count() == 0
    }

    /// Who could pay a page now: one that is known to hold what it is read for, or one that is not.
    fn payer_of_a_page(&self, asker: Asker, is_placed: bool, now: Moment) -> Option<Payer> {
        if asker == Asker::Watcher {
            return Some(Payer::Watchers);
        }
        let free = self.account.free();
        let is_paid = free >= 1 || free > -loan(self.account.newcomers(now), is_placed);
        is_paid.then_some(Payer::Savings)
    }

    /// Whether anybody else is likely to need this page before it is too old: another of its entities waits, or was asked
    /// for just before.
    fn is_worth_reading(&self, index: usize, wanted: &str, now: Moment) -> bool {
        let is_needed = |name: &str| {
            self.demand.contains(name, now)
                || self.wants.get(name).is_some_and(|want| want.progress != Progress::Getting)
        };
        self.pages.names_on(index).any(|name| &**name != wanted && is_needed(name))
    }

    /// The page to look at next for entities of which it is not known where they stand; none when it is cheaper to read
    /// those alone.
    fn next_to_search(&self, now: Moment) -> Option<(usize, usize)> {
        let waiting = self.queues.iter().flat_map(|queues| queues[0].values());
        let of_interest = self.interest.names().filter(|name| !self.wants.contains_key(*name));
        let unplaced = |enough: usize| {
            let names = waiting.clone().chain(of_interest.clone());
            names.filter(|name| self.pages.place_of(name).is_none()).take(enough).count()
        };
        if self.is_first_of_few() {
            return Some(self.pages.end());
        }
        if !self.pages.is_complete() {
            // There is at least one page more than those known. That it holds nothing wanted is possible, so more must be
            // of interest than there are pages altogether.
            let pages = self.pages.count() + 1;
            let wanted = self.interest.len().max(self.wants.len());
            return (pages < MAX_PAGES && wanted > pages && unplaced(2) >= 2).then(|| self.pages.end());
        }
        // The pages held them not when they were read. Those read since an entity was found alone need no second look.
        let found_alone = waiting.clone().filter_map(|name| self.unlisted.get(name)).max().copied()?;
        let stale = self.pages.read_before(found_alone);
        let first = stale.clone().find(|(index, _)| !self.in_flight.contains_key(index))?;
        let pages = stale.count();
        let is_worth_it = self.unlisted_of_interest(pages + 1, now) > pages;
        is_worth_it.then_some(first)
    }

    fn unlisted_of_interest(&self, enough: usize, now: Moment) -> usize {
        let is_needed = |name: &&Arc<str>| self.interest.contains(name, now) || self.wants.contains_key(*name);
        self.unlisted.keys().filter(is_needed).take(enough).count()
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
            Operation::Get(name) => {
                self.unqueue(name);
                if let Some(want) = self.wants.get_mut(name) {
                    want.progress = Progress::Getting;
                }
            }
            Operation::Page { index, .. } => {
                let names: Vec<Arc<str>> = self.pages.names_on(*index).cloned().collect();
                let is_known = *index < self.pages.count();
                let mut riders = Vec::new();
                for name in names {
                    if self.is_waiting(&name) && self.pages.place_of(&name) == Some(*index) {
                        self.unqueue(&name);
                        if let Some(want) = self.wants.get_mut(&name) {
                            want.progress = Progress::Riding;
                        }
                        riders.push(name);
                    }
                }
                // What nobody waits for by its place is read to find others.
                if proposal.payer == Payer::Pattern || !is_known || riders.is_empty() {
                    self.is_searching = Some(*index);
                }
                self.in_flight.insert(*index, riders);
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

    /// A page was read: the entities on it by the names that the service writes, and whether more come after it. Whoever
    /// wanted one of them has it now. Says which they are, in the one spelling that caches use.
    pub(crate) fn page_read(
        &mut self,
        index: usize,
        entities: Vec<(String, Observed)>,
        has_more: bool,
        now: Moment,
    ) -> (Vec<(Arc<str>, Observed)>, Patterns) {
        let riders = self.land(index);
        let entities: Vec<_> =
            entities.into_iter().map(|(written, observed)| (self.name(&written), observed)).collect();
        let seen = entities.clone();
        (seen, self.take_page(index, riders, entities, has_more, now))
    }

    fn take_page(
        &mut self,
        index: usize,
        riders: Vec<Arc<str>>,
        entities: Vec<(Arc<str>, Observed)>,
        has_more: bool,
        now: Moment,
    ) -> Patterns {
        self.no_listing_before = Moment::default();
        for (name, _) in &entities {
            // One that is being read alone is answered by that.
            if self.wants.get(name).is_some_and(|want| want.progress != Progress::Getting) {
                self.settle(name);
            }
            self.unlisted.remove(name);
        }
        for name in self.pages.replace(index, entities, has_more, now) {
            self.requeue(&name);
        }
        for name in riders {
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
        for name in self.land(index) {
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
        let queued = self.queues.iter_mut().flatten();
        let names: Vec<Arc<str>> = queued.flat_map(|queue| std::mem::take(queue).into_values()).collect();
        for name in &names {
            self.settle(name);
        }
        self.patterns_failed();
        names
    }

    /// Calls for patterns were answered by a failure. The built-in would have spent at least one operation on each.
    fn patterns_failed(&mut self) {
        if let Some(scan) = self.scan.take() {
            self.account.save(scan.calls.saturating_sub(scan.advanced));
        }
    }

    /// A page is not being read any more. Says who waited for it.
    fn land(&mut self, index: usize) -> Vec<Arc<str>> {
        if self.is_searching == Some(index) {
            self.is_searching = None;
        }
        self.in_flight.remove(&index).unwrap_or_default()
    }

    /// Nobody waits for this entity any more.
    fn settle(&mut self, name: &str) {
        self.unqueue(name);
        if let Some(want) = self.wants.remove(name)
            && want.asker == Asker::Call
            && want.progress != Progress::Getting
        {
            self.account.release();
        }
    }

    fn unqueue(&mut self, name: &str) {
        let Some(want) = self.wants.get(name) else { return };
        for queue in &mut self.queues[want.asker as usize] {
            queue.remove(&want.sequence);
        }
    }

    /// Back into the queue that fits what is known now, at the place that its age gives it.
    fn requeue(&mut self, name: &Arc<str>) {
        self.unqueue(name);
        let place = self.pages.place_of(name);
        let Some(want) = self.wants.get_mut(name) else { return };
        if want.progress == Progress::Getting {
            return;
        }
        want.progress = Progress::Waiting;
        self.queues[want.asker as usize][usize::from(place.is_some())].insert(want.sequence, Arc::clone(name));
    }

    /// What was paid and spent.
    #[cfg(test)]
    pub(crate) fn account(&self) -> &Account {
        &self.account
    }
}

/// How many operations may be lent with so many entities in demand, for a page that is known to hold what it is read for, or
/// that is not. One less for the latter, so that what was found out can be used, and earns both back.
fn loan(in_demand: u32, is_placed: bool) -> i64 {
    let lent = (in_demand / ENTITIES_FOR_A_LOAN).min(MOST_LENT);
    // What was lent to look around when more were in demand must not keep fewer from earning it back.
    let lent = if is_placed && lent > 0 { lent + 1 } else { lent };
    i64::from(lent.saturating_sub(u32::from(!is_placed)))
}

fn alone(name: &Arc<str>, want: &Want) -> Proposal {
    let payer = match want.asker {
        Asker::Call => Payer::Reserved,
        Asker::Watcher => Payer::Watchers,
    };
    Proposal { operation: Operation::Get(Arc::clone(name)), since: want.since, period: want.period, payer }
}

#[cfg(test)]
mod tests;
