//! Who waits for one namespace, and whose turn it is: calls before push streams, but of four operations one is the push
//! streams', so that neither starves. Among either, credentials take turns, and of one credential the oldest wish goes first.
//!
//! Knows nothing of credits or of what the namespace bears; locks each rack that it looks at, one after the other.

use std::collections::HashMap;
use std::sync::Arc;

use scaling::Moment;

use super::catalogue::{Asker, Next, Proposal};
use super::rack::Rack;
use super::turns::Turns;
use crate::keyed_hash::Digest;

/// After so many operations in a row for calls, one is the push streams'.
const CALLS_IN_A_ROW: u32 = 3;

/// See the module.
#[derive(Default)]
pub(super) struct Waiting {
    /// Racks on which somebody may wait, by their addresses.
    racks: HashMap<usize, Arc<Rack>>,
    turns: Turns,
    calls_in_a_row: u32,
}

/// Where a wish stands among those of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    turn: u64,
    since: Moment,
}

impl Waiting {
    /// Somebody waits on this rack.
    pub(super) fn join(&mut self, rack: &Arc<Rack>) {
        self.racks.entry(Arc::as_ptr(rack) as usize).or_insert_with(|| Arc::clone(rack));
    }

    /// Nobody waits any more.
    pub(super) fn clear(&mut self) {
        self.racks.clear();
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.racks.is_empty()
    }

    /// The rack whose turn it is, and for whom; or when to look again, if that is known.
    pub(super) fn next(&mut self, now: Moment) -> Result<(Arc<Rack>, Asker), Option<Moment>> {
        let mut best: [Option<(Place, Arc<Rack>)>; 2] = [None, None];
        let mut later: Option<Moment> = None;
        let turns = &self.turns;
        self.racks.retain(|_, rack| {
            let mut is_waiting = false;
            let turn = turns.of(rack.access.digest());
            for (best, asker) in best.iter_mut().zip([Asker::Call, Asker::Watcher]) {
                match rack.state().catalogue.propose(asker, now) {
                    Next::Start(Proposal { since, .. }) => {
                        is_waiting = true;
                        let place = Place { turn, since };
                        if best.as_ref().is_none_or(|(first, _)| place < *first) {
                            *best = Some((place, Arc::clone(rack)));
                        }
                    }
                    Next::NotBefore(when) => {
                        is_waiting = true;
                        later = Some(later.map_or(when, |later| later.min(when)));
                    }
                    // What is under way comes back to the rack.
                    Next::Nothing => {}
                }
            }
            is_waiting
        });
        let [call, watcher] = best;
        match (call, watcher) {
            (Some(_), Some((_, rack))) if self.calls_in_a_row >= CALLS_IN_A_ROW => Ok((rack, Asker::Watcher)),
            (Some((_, rack)), _) => Ok((rack, Asker::Call)),
            (None, Some((_, rack))) => Ok((rack, Asker::Watcher)),
            (None, None) => Err(later),
        }
    }

    /// An operation begins, for those.
    pub(super) fn begun(&mut self, rack: &Rack, asker: Asker) {
        self.turns.take(rack.access.digest());
        self.calls_in_a_row = if asker == Asker::Call { self.calls_in_a_row + 1 } else { 0 };
    }

    /// An operation that had begun ended with this credential refused.
    pub(super) fn refused(&mut self, credential: Digest) {
        self.turns.refused(credential);
    }
}
