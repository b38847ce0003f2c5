//! Which operation comes next: for the oldest wish, a page where somebody can pay it and it is likely to serve others, too;
//! else the entity alone.

use std::sync::Arc;
use std::time::Duration;

use scaling::Moment;

use super::wants::Want;
use super::{Asker, Catalogue, MAX_PAGES, Next, Operation, Payer, Proposal};

/// Where nothing was ever saved, nobody could find out that pages are cheaper: 500 idle queues, each looked at every 30 s,
/// never give an answer from the cache. So one operation for every so many entities in demand may be spent before it is
/// earned: pages are all but certain to earn it back within seconds. It is not lent again before they have.
const ENTITIES_FOR_A_LOAN: u32 = 8;
/// The most that is ever lent, in operations.
const MOST_LENT: u32 = 16;
/// How long an entity whose page is not known waits for the pages that are being looked through, before it is read alone.
const PATIENCE: Duration = Duration::from_secs(1);
impl Catalogue {
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
        if asker != scan_asker || self.searching.is_some() {
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
        let Some((name, want)) = self.wants.first(asker, true) else { return Next::Nothing };
        let Some(index) = self.pages.place_of(name) else { return Next::Nothing };
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
        let Some((name, want)) = self.wants.first(asker, false) else { return Next::Nothing };
        if self.searching.is_some() {
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
        let is_needed = |name: &str| self.demand.contains(name, now) || self.wants.is_open(name);
        self.pages.names_on(index).any(|name| &**name != wanted && is_needed(name))
    }

    /// The page to look at next for entities of which it is not known where they stand; none when it is cheaper to read
    /// those alone.
    fn next_to_search(&self, now: Moment) -> Option<(usize, usize)> {
        let waiting = self.wants.unplaced();
        let of_interest = self.interest.names().filter(|name| self.wants.get(name).is_none());
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
            let is_worth_it = pages < MAX_PAGES && wanted > pages && unplaced(2) >= 2;
            // One that was known when it began to be read may be on its way yet.
            return Some(self.pages.end()).filter(|(end, _)| is_worth_it && !self.in_flight.contains_key(end));
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
        let is_needed = |name: &&Arc<str>| self.interest.contains(name, now) || self.wants.get(name).is_some();
        self.unlisted.keys().filter(is_needed).take(enough).count()
    }
}

/// How many operations may be lent with so many entities in demand, for a page that is known to hold what it is read for, or
/// that is not. One less for the latter, so that what was found out can be used, and earns both back.
pub(super) fn loan(in_demand: u32, is_placed: bool) -> i64 {
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
