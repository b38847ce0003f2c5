//! The pages of one listing as they were last read, where each entity stands on them, and what a pattern sees of them.
//!
//! Service Bus pages by position: an entity made or removed shifts all that come after it, so pages read at different
//! moments may hold one entity twice or not at all. Twice is settled by the newer page. One that its page does not hold
//! any more still counts until every page has been read since: only then is it known to be nowhere, and not on its way
//! from one page to another. A lone match that was on its way would otherwise be a zero for a busy deployment.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use scaling::Moment;

use crate::source::Observed;

/// How long one that its page does not hold any more may count. Patterns are evaluated when no page is older than
/// `cacheTtl`, five minutes at most, or than it takes to read them all.
const LOST_FOR: Duration = Duration::from_hours(1);

/// The pages known, without a gap.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    known: Vec<Page>,
    /// Whether nothing comes after the last of them.
    is_complete: bool,
    places: HashMap<Arc<str>, (u32, u32)>,
    lost: HashMap<Arc<str>, (Observed, Moment)>,
    /// How the service writes names, where that is not the one spelling that caches use.
    spellings: HashMap<Arc<str>, Arc<str>>,
    membership: u64,
    /// As last asked for.
    names: Arc<Names>,
}

/// The names of all that counts as there, since some moment.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Changes whenever they do; 0 before the first.
    pub(crate) membership: u64,
    /// Each with how the service writes it, where that is different.
    names: Vec<(Arc<str>, Option<Arc<str>>)>,
}

impl Names {
    /// Those of which the service's spelling is such.
    pub(crate) fn matching(&self, is_match: impl Fn(&str) -> bool) -> Arc<[Arc<str>]> {
        let names = self.names.iter().filter(|(name, written)| is_match(written.as_ref().unwrap_or(name)));
        names.map(|(name, _)| Arc::clone(name)).collect()
    }
}

#[derive(Debug)]
struct Page {
    skip: usize,
    read_at: Moment,
    entities: Vec<(Arc<str>, Observed)>,
}

impl Pages {
    /// How many are known.
    pub(super) fn count(&self) -> usize {
        self.known.len()
    }

    /// Whether they are all there are.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// When the oldest of them was read.
    pub(crate) fn oldest(&self) -> Option<Moment> {
        self.known.iter().map(|page| page.read_at).min()
    }

    /// On which of them an entity stands.
    pub(super) fn place_of(&self, name: &str) -> Option<usize> {
        self.places.get(name).map(|(page, _)| *page as usize)
    }

    /// The name as it is kept already, so that it is kept once.
    pub(super) fn known_name(&self, name: &str) -> Option<Arc<str>> {
        self.places.get_key_value(name).map(|(name, _)| Arc::clone(name))
    }

    /// What a page said of an entity, and when.
    pub(crate) fn find(&self, name: &str) -> Option<(Observed, Moment)> {
        let (page, index) = self.places.get(name)?;
        let page = self.known.get(*page as usize)?;
        page.entities.get(*index as usize).map(|(_, observed)| (*observed, page.read_at))
    }

    /// What counts as there: as [`Self::find`], and those on their way between pages.
    pub(crate) fn observed(&self, name: &str) -> Option<Observed> {
        self.find(name).map(|(observed, _)| observed).or_else(|| self.lost.get(name).map(|(observed, _)| *observed))
    }

    /// The names of all that counts as there now, to be looked through without holding anybody up.
    pub(super) fn names(&mut self) -> Arc<Names> {
        if self.names.membership != self.membership {
            let names = self.places.keys().chain(self.lost.keys());
            let names = names.map(|name| (Arc::clone(name), self.spellings.get(name).cloned())).collect();
            self.names = Arc::new(Names { membership: self.membership, names });
        }
        Arc::clone(&self.names)
    }

    /// The service writes this name so, now.
    pub(super) fn spell(&mut self, name: &Arc<str>, written: &str) {
        let is_news = if **name == *written {
            self.spellings.remove(name).is_some()
        } else {
            let is_other = self.spellings.get(name).is_none_or(|known| **known != *written);
            if is_other {
                self.spellings.insert(Arc::clone(name), written.into());
            }
            is_other
        };
        self.membership += u64::from(is_news);
    }

    /// As [`Names::membership`], now.
    pub(crate) fn membership(&self) -> u64 {
        self.membership
    }

    /// The names that a page held when it was read.
    pub(super) fn names_on(&self, index: usize) -> impl Iterator<Item = &Arc<str>> {
        self.known.get(index).into_iter().flat_map(|page| page.entities.iter().map(|(name, _)| name))
    }

    /// How many entities come before a page.
    pub(super) fn skip_of(&self, index: usize) -> usize {
        self.known.get(index).map_or_else(|| self.end().1, |page| page.skip)
    }

    /// The page after the last that is known: its number, and how many entities come before it.
    pub(super) fn end(&self) -> (usize, usize) {
        (self.known.len(), self.known.last().map_or(0, |page| page.skip + page.entities.len()))
    }

    /// The first page, in order, that is not known or was read at or before that moment.
    pub(super) fn next_to_scan(&self, newer_than: Option<Moment>) -> Option<(usize, usize)> {
        let old = self.known.iter().position(|page| newer_than.is_some_and(|moment| page.read_at <= moment));
        match old {
            Some(index) => Some((index, self.known[index].skip)),
            None => (!self.is_complete).then(|| self.end()),
        }
    }

    /// The pages read before that moment.
    pub(super) fn read_before(&self, moment: Moment) -> impl Iterator<Item = (usize, usize)> + Clone {
        let pages = self.known.iter().enumerate();
        pages.filter(move |(_, page)| page.read_at < moment).map(|(index, page)| (index, page.skip))
    }

    /// It is known not to be there.
    pub(super) fn remove(&mut self, name: &str) {
        if self.places.remove(name).is_some() | self.lost.remove(name).is_some() {
            self.spellings.remove(name);
            self.membership += 1;
        }
    }

    /// Takes a page as it was read from the first moment to the second, after so many entities. Says which entities are not
    /// where they were.
    pub(super) fn replace(
        &mut self,
        index: usize,
        skip: usize,
        entities: Vec<(Arc<str>, Observed)>,
        has_more: bool,
        (began, now): (Moment, Moment),
    ) -> Vec<Arc<str>> {
        if index > self.known.len() || skip != self.skip_of(index) {
            // While it was read, others turned out not to be as they were: the pages between are not known any more, or
            // it begins elsewhere now, and what stands between them would count as gone.
            return Vec::new();
        }
        let mut moved = Vec::new();
        // With another length, the positions that later pages were read at mean nothing.
        let is_end = !has_more || entities.is_empty();
        let is_same_length = self.known.get(index).is_some_and(|page| page.entities.len() == entities.len());
        if is_end || !is_same_length {
            self.is_complete = is_end;
            self.cut_off(index + 1, now, &mut moved);
        } else if index + 1 == self.known.len() {
            self.is_complete = false;
        }
        for (position, (name, _)) in entities.iter().enumerate() {
            let place = (index as u32, position as u32);
            if let Some(known) = self.places.get_mut(name) {
                *known = place;
            } else {
                self.places.insert(Arc::clone(name), place);
                if self.lost.remove(name).is_none() {
                    self.membership += 1;
                }
            }
        }
        // What moved while it was read may be missing on it.
        let page = Page { skip, read_at: began, entities };
        if index == self.known.len() {
            self.known.push(page);
        } else {
            let before = std::mem::replace(&mut self.known[index], page);
            self.lose(index, before.entities, now, &mut moved);
        }
        self.forget_lost(now);
        moved
    }

    /// Forgets the pages from this one on.
    fn cut_off(&mut self, from: usize, now: Moment, moved: &mut Vec<Arc<str>>) {
        while self.known.len() > from {
            let index = self.known.len() - 1;
            let Some(page) = self.known.pop() else { return };
            self.lose(index, page.entities, now, moved);
        }
    }

    /// Takes note of those that stood on a page and are not on it now.
    fn lose(&mut self, index: usize, before: Vec<(Arc<str>, Observed)>, now: Moment, moved: &mut Vec<Arc<str>>) {
        for (name, observed) in before {
            let Some((page, position)) = self.places.get(&name) else { continue };
            let is_there = |page: &Page| page.entities.get(*position as usize).is_some_and(|(there, _)| *there == name);
            if *page as usize == index && !self.known.get(index).is_some_and(is_there) {
                self.places.remove(&name);
                self.lost.insert(Arc::clone(&name), (observed, now));
                moved.push(name);
            }
        }
    }

    /// Those that every page was read without are gone; so are those that were lost so long ago that every page will be
    /// read again before anybody looks.
    fn forget_lost(&mut self, now: Moment) {
        if self.lost.is_empty() {
            return;
        }
        let oldest = self.oldest().filter(|_| self.is_complete);
        let before = self.lost.len();
        let spellings = &mut self.spellings;
        self.lost.retain(|name, (_, since)| {
            let is_recent = now.0.saturating_sub(since.0) < LOST_FOR;
            let is_here = is_recent && oldest.is_none_or(|oldest| *since > oldest);
            if !is_here {
                spellings.remove(name);
            }
            is_here
        });
        self.membership += (before - self.lost.len()) as u64;
    }
}
