//! The namespace's budget of credits, as Service Bus throttles: so many at the beginning of each second.
//!
//! What would be too much is refused; a message that is delivered cannot be, so it is charged all the same, and what
//! comes after pays for it (at most one second's worth). Without a limit nothing is counted here.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The service's own: credits are given anew each second.
const PERIOD: Duration = Duration::from_secs(1);

/// The budget is used up until the next period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UsedUp;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Budget {
    per_second: Option<NonZeroU32>,
    period: Mutex<Period>,
}

#[derive(Debug)]
struct Period {
    began: Instant,
    left: i64,
}

impl Budget {
    pub(crate) fn new(per_second: Option<NonZeroU32>, now: Instant) -> Self {
        let left = per_second.map_or(0, |credits| i64::from(credits.get()));
        Self { per_second, period: Mutex::new(Period { began: now, left }) }
    }

    /// Takes so many credits, or none of them. More than a whole second's worth is let through when all of it is there,
    /// or it never would be.
    pub(crate) fn take(&self, credits: u64, now: Instant) -> Result<(), UsedUp> {
        let credits = i64::try_from(credits).unwrap_or(i64::MAX);
        let take = |left: &mut i64, full: i64| {
            if *left < credits.min(full) {
                return Err(UsedUp);
            }
            *left -= credits;
            Ok(())
        };
        self.with_period(now, take).unwrap_or(Ok(()))
    }

    /// Charges credits for what has happened already.
    pub(crate) fn charge(&self, credits: u64, now: Instant) {
        let credits = i64::try_from(credits).unwrap_or(i64::MAX);
        self.with_period(now, |left, _| *left = left.saturating_sub(credits));
    }

    /// Changes what is left of the period of `now`; nothing to change without a limit.
    fn with_period<T>(&self, now: Instant, change: impl FnOnce(&mut i64, i64) -> T) -> Option<T> {
        let full = i64::from(self.per_second?.get());
        let mut period = self.period.lock().unwrap_or_else(PoisonError::into_inner);
        let periods = now.saturating_duration_since(period.began).as_secs() / PERIOD.as_secs();
        if periods > 0 {
            period.began += Duration::from_secs(periods);
            let given = full.saturating_mul(i64::try_from(periods).unwrap_or(i64::MAX));
            period.left = period.left.saturating_add(given).min(full);
        }
        let changed = change(&mut period.left, full);
        period.left = period.left.max(-full);
        Some(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_brings_its_credits_and_none_are_saved() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let budget = Budget::new(NonZeroU32::new(25), start);
        assert_eq!([0, 1, 2].map(|call| budget.take(10, at(call))), [Ok(()), Ok(()), Err(UsedUp)]);
        assert_eq!(budget.take(5, at(999)), Ok(()), "what is left is enough for less");
        assert_eq!(budget.take(1, at(999)), Err(UsedUp));
        assert_eq!(budget.take(25, at(10_000)), Ok(()));
        assert_eq!(budget.take(1, at(10_999)), Err(UsedUp));
        assert_eq!(budget.take(1, at(11_000)), Ok(()));
    }

    #[test]
    fn what_happened_is_paid_for_later_but_not_for_ever() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let budget = Budget::new(NonZeroU32::new(10), start);
        budget.charge(15, at(0));
        assert_eq!(budget.take(6, at(1)), Err(UsedUp));
        assert_eq!(budget.take(5, at(1)), Ok(()));
        budget.charge(1_000_000, at(1));
        assert_eq!((budget.take(1, at(2)), budget.take(10, at(3))), (Err(UsedUp), Ok(())));
    }

    #[test]
    fn more_than_a_seconds_worth_passes_when_all_of_it_is_there() {
        let start = Instant::now();
        let budget = Budget::new(NonZeroU32::new(5), start);
        assert_eq!(budget.take(10, start), Ok(()));
        assert_eq!(budget.take(1, start + Duration::from_secs(1)), Err(UsedUp));
        assert_eq!(budget.take(1, start + Duration::from_secs(2)), Ok(()));
    }

    #[test]
    fn without_a_limit_everything_passes() {
        let now = Instant::now();
        let budget = Budget::new(None, now);
        assert!((0..10_000).all(|_| budget.take(1_000_000, now) == Ok(())));
    }
}
