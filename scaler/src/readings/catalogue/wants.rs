//! The entities of one listing that somebody waits for, and the order of those whose turn has not come.
//!
//! Pure. Four queues: for calls and for push streams, with the page known and not. Each wish keeps its place by its age,
//! whichever queue it is in.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use scaling::Moment;

use super::Asker;

/// An entity that somebody waits for.
#[derive(Debug)]
pub(super) struct Want {
    sequence: u64,
    /// Since when it is due.
    pub(super) since: Moment,
    /// How often its like is wished for.
    pub(super) period: Duration,
    pub(super) asker: Asker,
    pub(super) progress: Progress,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// In a queue.
    Waiting,
    /// On a page that is being read.
    Riding,
    /// Being read alone.
    Getting,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Wants {
    by_name: HashMap<Arc<str>, Want>,
    queues: [[BTreeMap<u64, Arc<str>>; 2]; 2],
    next_sequence: u64,
}

impl Wants {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// The wish for an entity.
    pub(super) fn get(&self, name: &str) -> Option<&Want> {
        self.by_name.get(name)
    }

    /// Whether it waits for its turn.
    pub(super) fn is_waiting(&self, name: &str) -> bool {
        self.get(name).is_some_and(|want| want.progress == Progress::Waiting)
    }

    /// Whether it is coming, but not alone.
    pub(super) fn is_open(&self, name: &str) -> bool {
        self.get(name).is_some_and(|want| want.progress != Progress::Getting)
    }

    /// The oldest that wait, whose page is known or is not.
    pub(super) fn first(&self, asker: Asker, is_placed: bool) -> Option<(&Arc<str>, &Want)> {
        let (_, name) = self.queue(asker, is_placed).first_key_value()?;
        Some((name, self.by_name.get(name)?))
    }

    /// All that wait and whose page is not known.
    pub(super) fn unplaced(&self) -> impl Iterator<Item = &Arc<str>> + Clone {
        self.queues.iter().flat_map(|queues| queues[0].values())
    }

    /// Somebody begins to wait; in a queue, unless a page with it is under way.
    pub(super) fn add(
        &mut self,
        name: &Arc<str>,
        asker: Asker,
        since: Moment,
        period: Duration,
        place: Option<usize>,
        is_riding: bool,
    ) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let progress = if is_riding { Progress::Riding } else { Progress::Waiting };
        if !is_riding {
            self.queues[asker as usize][usize::from(place.is_some())].insert(sequence, Arc::clone(name));
        }
        self.by_name.insert(Arc::clone(name), Want { sequence, since, period, asker, progress });
    }

    /// A call waits for what a push stream waits for already.
    pub(super) fn join(&mut self, name: &Arc<str>, place: Option<usize>) {
        let was_waiting = self.is_waiting(name);
        self.leave_queue(name);
        let Some(want) = self.by_name.get_mut(name) else { return };
        want.asker = Asker::Call;
        if was_waiting {
            self.queue_again(name, place);
        }
    }

    /// Its turn has come.
    pub(super) fn advance(&mut self, name: &str, progress: Progress) {
        self.leave_queue(name);
        if let Some(want) = self.by_name.get_mut(name) {
            want.progress = progress;
        }
    }

    /// Back into the queue that fits what is known now, unless it is being read alone.
    pub(super) fn queue_again(&mut self, name: &Arc<str>, place: Option<usize>) {
        self.leave_queue(name);
        let Some(want) = self.by_name.get_mut(name).filter(|want| want.progress != Progress::Getting) else { return };
        want.progress = Progress::Waiting;
        self.queues[want.asker as usize][usize::from(place.is_some())].insert(want.sequence, Arc::clone(name));
    }

    /// Nobody waits for it any more.
    pub(super) fn remove(&mut self, name: &str) -> Option<Want> {
        self.leave_queue(name);
        self.by_name.remove(name)
    }

    /// All that wait for their turn.
    pub(super) fn waiting(&self) -> Vec<Arc<str>> {
        self.queues.iter().flatten().flat_map(BTreeMap::values).cloned().collect()
    }

    fn queue(&self, asker: Asker, is_placed: bool) -> &BTreeMap<u64, Arc<str>> {
        &self.queues[asker as usize][usize::from(is_placed)]
    }

    fn leave_queue(&mut self, name: &str) {
        let Some(want) = self.by_name.get(name) else { return };
        for queue in &mut self.queues[want.asker as usize] {
            queue.remove(&want.sequence);
        }
    }
}
