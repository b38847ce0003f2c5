//! What is known of one entity, or of what a pattern took together, after the latest try: a value, replaced as a whole.

use std::sync::Arc;
use std::time::Duration;

use scaling::{Moment, Reading, Window};

use crate::source::{LockSettings, Observed, ReadFailure};

/// How many readings are kept for policies that look back. 64 bytes each, so 4 KiB for an entity.
pub(super) const WINDOW_LENGTH: usize = 64;

/// What the cache answers: the newest reading with those before it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The readings kept, oldest first; never empty.
    pub(super) readings: Arc<[Reading]>,
    /// How old the newest reading was when it was handed out.
    pub age: Duration,
    /// Why there is no younger one, when an older one stands in.
    pub stale_because: Option<Arc<ReadFailure>>,
    /// Of a pattern: what it took together.
    pub matched: Option<Matched>,
    /// Of one entity: how it locks messages, as the newest reading said.
    pub locks: Option<LockSettings>,
}

/// What a pattern took together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Matched {
    /// How many entities were counted.
    pub counted: usize,
    /// How many more match but were left out, since they give out no messages (`Disabled`, `ReceiveDisabled`).
    pub disabled: usize,
}

impl Seen {
    /// One reading of nothing, for tests of what is done with it.
    #[cfg(test)]
    pub(crate) fn of_test() -> Self {
        let reading = Reading {
            at: Moment::default(),
            counts: scaling::Counts::default(),
            status: scaling::EntityStatus::Active,
            requires_session: false,
        };
        Self { readings: [reading].into(), age: Duration::ZERO, stale_because: None, matched: None, locks: None }
    }

    /// The readings as policies want them.
    pub(crate) fn window(&self) -> Window<'_> {
        Window::new(&self.readings).expect("a Seen is made from at least one reading")
    }

    /// The newest reading.
    pub(crate) fn newest(&self) -> &Reading {
        self.readings.last().expect("a Seen is made from at least one reading")
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    pub(super) window: Arc<[Reading]>,
    matched: Option<Matched>,
    locks: Option<LockSettings>,
    /// Why the latest try gave nothing.
    pub(super) failure: Option<Arc<ReadFailure>>,
    tried_at: Moment,
    /// How many tries there were, so that who waits sees that one is over.
    pub(super) tries: u64,
}

impl Record {
    /// After the counts were read, as they were at that moment.
    pub(super) fn after_reading(&self, observed: &Observed, matched: Option<Matched>, at: Moment, now: Moment) -> Self {
        let Observed { counts, status, requires_session, locks } = *observed;
        // Two ways lead to a reading, alone and by page; one that was overtaken adds nothing.
        let is_overtaken = self.window.last().is_some_and(|newest| newest.at >= at);
        let window = if is_overtaken {
            Arc::clone(&self.window)
        } else {
            let kept = self.window.len().saturating_sub(WINDOW_LENGTH - 1);
            self.window[kept..].iter().copied().chain([Reading { at, counts, status, requires_session }]).collect()
        };
        let locks = if is_overtaken { self.locks } else { locks };
        Self { window, matched, locks, failure: None, tried_at: now, tries: self.tries + 1 }
    }

    /// After a try that gave nothing.
    pub(super) fn after_failure(&self, failure: Arc<ReadFailure>, now: Moment) -> Self {
        // An entity that is gone has no past: should it come back, it is another one.
        let is_gone = matches!(*failure, ReadFailure::NotFound(_));
        let window = if is_gone { Arc::default() } else { Arc::clone(&self.window) };
        Self { window, failure: Some(failure), tried_at: now, tries: self.tries + 1, ..self.clone() }
    }

    /// Whether it should be read, for somebody to whom a reading is good for `cache_ttl`. A failed try is not repeated
    /// before `pause`, whoever asks, unless the namespace recovered since.
    pub(super) fn is_due(
        &self,
        cache_ttl: Duration,
        pause: Duration,
        recovered_at: impl FnOnce() -> Moment,
        now: Moment,
    ) -> bool {
        if self.window.last().is_some_and(|newest| now.0.saturating_sub(newest.at.0) < cache_ttl) {
            return false;
        }
        self.failure.is_none() || recovered_at() > self.tried_at || now.0.saturating_sub(self.tried_at.0) >= pause
    }

    /// Whether there is a reading that may stand in for a younger one.
    pub(super) fn can_stand_in(&self, max_staleness: Duration, now: Moment) -> bool {
        self.window.last().is_some_and(|newest| now.0.saturating_sub(newest.at.0) <= max_staleness)
    }

    /// The answer to somebody who asks. `problem` is why there is nothing younger, if it is not what this says itself.
    pub(super) fn answer(
        &self,
        max_staleness: Duration,
        problem: Option<Arc<ReadFailure>>,
        now: Moment,
    ) -> Result<Seen, Arc<ReadFailure>> {
        let problem = self.failure.clone().or(problem);
        let Some(newest) = self.window.last() else {
            return Err(problem.unwrap_or_else(|| Arc::new(ReadFailure::Unreachable("never read".to_owned()))));
        };
        match problem {
            Some(problem) if !self.can_stand_in(max_staleness, now) => Err(problem),
            stale_because => Ok(Seen {
                readings: Arc::clone(&self.window),
                age: now.0.saturating_sub(newest.at.0),
                stale_because,
                matched: self.matched,
                locks: self.locks,
            }),
        }
    }
}
