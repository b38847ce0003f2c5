//! The account that keeps a catalogue from ever costing more than the built-in trigger: every operation is paid before
//! it begins, by a call for which the built-in would have made one, too.
//!
//! A call pays in what the built-in's answer to it costs: one operation, or for a pattern the pages of its listing. What an
//! answer from the cache did not cost is free to be spent on pages. Calls that wait keep their share reserved, so that
//! whatever a page turns out not to hold can still be read singly.

/// What was paid in and what was spent, in operations.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Account {
    /// What the built-in would have spent on the calls so far.
    paid: u64,
    /// Operations of push streams, which the built-in has no counterpart for: paid as they are made.
    granted: u64,
    spent: u64,
    /// Set aside for calls that wait.
    reserved: u64,
}

impl Account {
    /// A call, or several: the built-in would spend this on it.
    pub(super) fn pay(&mut self, operations: u64) {
        self.paid += operations;
    }

    /// An operation that push streams want, paid and made.
    pub(super) fn grant_and_spend(&mut self) {
        self.granted += 1;
        self.spent += 1;
    }

    /// A call begins to wait for an operation of its own.
    pub(super) fn reserve(&mut self) {
        self.reserved += 1;
    }

    /// A call that waited needs no operation of its own any more.
    pub(super) fn release(&mut self) {
        debug_assert!(self.reserved > 0, "released what was not reserved");
        self.reserved = self.reserved.saturating_sub(1);
    }

    /// The operation that a call reserved begins.
    pub(super) fn spend_reserved(&mut self) {
        self.release();
        self.spent += 1;
    }

    /// An operation begins that the free part pays.
    pub(super) fn spend(&mut self) {
        self.spent += 1;
    }

    /// What may be spent on pages. Below zero only by a loan; see [`super::Catalogue`].
    pub(super) fn free(&self) -> i64 {
        (self.paid + self.granted) as i64 - (self.spent + self.reserved) as i64
    }

    /// Paid in by calls.
    #[cfg(test)]
    pub(crate) fn paid(&self) -> u64 {
        self.paid
    }

    /// Spent on behalf of calls.
    #[cfg(test)]
    pub(crate) fn spent_on_calls(&self) -> u64 {
        self.spent - self.granted
    }
}
