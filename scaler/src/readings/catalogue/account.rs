//! The account that keeps reading from ever costing more than the built-in trigger: every operation is paid before it
//! begins, by a call for which the built-in would have made one, too. One for all listings of a namespace, so that what
//! one topic saves another can spend.
//!
//! A call pays in what the built-in's answer to it costs: one operation, or for a pattern the pages of its listing. What an
//! answer from the cache did not cost is free to be spent on pages. A call that waits keeps its share for itself, so that
//! whatever a page turns out not to hold can still be read alone.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use scaling::Moment;

/// Over how long newly asked for entities are counted: the default `cacheTtl`.
const WINDOW: Duration = Duration::from_secs(5);

/// What was paid in and not spent. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account(Arc<Mutex<State>>);

/// In operations.
#[derive(Debug, Default)]
struct State {
    /// What the built-in would have spent on the calls so far.
    paid: u64,
    /// What was spent on them.
    spent: u64,
    /// Of what was paid, the share of calls that wait.
    set_aside: u64,
    newcomers: Newcomers,
}

/// How many entities were asked for that nobody had asked for within their `cacheTtl`, in this window and the one before.
#[derive(Debug, Default)]
struct Newcomers {
    began: Moment,
    current: u32,
    previous: u32,
}

impl Account {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call, or several, for which the built-in would have spent this, cost nothing of their own.
    pub(super) fn save(&self, operations: u64) {
        self.state().paid += operations;
    }

    /// A call begins to wait, with an operation of its own set aside.
    pub(super) fn wait(&self) {
        let mut state = self.state();
        state.paid += 1;
        state.set_aside += 1;
    }

    /// A call that waited needs no operation of its own any more.
    pub(super) fn release(&self) {
        let mut state = self.state();
        debug_assert!(state.set_aside > 0, "released what was not set aside");
        state.set_aside = state.set_aside.saturating_sub(1);
    }

    /// The operation that a call had set aside begins.
    pub(super) fn spend_own(&self) {
        self.release();
        self.state().spent += 1;
    }

    /// An operation begins that savings pay.
    pub(super) fn spend_savings(&self) {
        self.state().spent += 1;
    }

    /// A page is read that the built-in would have read as well, for the same pattern.
    pub(super) fn spend_on_pattern(&self) {
        let mut state = self.state();
        state.paid += 1;
        state.spent += 1;
    }

    /// What may be spent on pages. Below zero only by a loan; see [`super::Catalogue`].
    pub(super) fn free(&self) -> i64 {
        let state = self.state();
        state.paid as i64 - (state.spent + state.set_aside) as i64
    }

    /// An entity is asked for that nobody had asked for within its `cacheTtl`.
    pub(super) fn newcomer(&self, now: Moment) {
        let newcomers = &mut self.state().newcomers;
        newcomers.turn(now);
        newcomers.current = newcomers.current.saturating_add(1);
    }

    /// How many entities were newly asked for within the last seconds, about as many as are in demand.
    pub(super) fn newcomers(&self, now: Moment) -> u32 {
        let newcomers = &mut self.state().newcomers;
        newcomers.turn(now);
        let passed = now.0.saturating_sub(newcomers.began.0).as_secs_f64() / WINDOW.as_secs_f64();
        newcomers.current + (f64::from(newcomers.previous) * (1.0 - passed)) as u32
    }

    /// What was paid and spent.
    #[cfg(test)]
    pub(super) fn totals(&self) -> (u64, u64) {
        let state = self.state();
        (state.paid, state.spent)
    }
}

impl Newcomers {
    fn turn(&mut self, now: Moment) {
        let passed = now.0.saturating_sub(self.began.0);
        if passed >= WINDOW {
            self.previous = if passed < 2 * WINDOW { self.current } else { 0 };
            self.current = 0;
            // Windows keep their grid, so that a busy time is not cut where a call happens to come.
            let windows = passed.as_nanos() / WINDOW.as_nanos();
            self.began = Moment(self.began.0 + WINDOW * u32::try_from(windows).unwrap_or(u32::MAX));
        }
    }
}
