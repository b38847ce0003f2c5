//! What reading may cost a Service Bus namespace: a token bucket in credits, and the factor by which it stretches periods.
//!
//! Pure: time is an argument. Credits are Microsoft's measure for throttling ("Throttling operations on Azure Service Bus":
//! 10 for a management operation; the standard tier has 1,000 a second for everybody). What does not fit is not refused
//! but done later, so a short budget shows as older readings and in [`Stretch`], not as failures.

use std::time::Duration;

use scaling::Moment;

/// The bucket holds what comes in during this time: enough to look at twenty entities at once after a quiet time, at the
/// default of 50 credits a second.
const BURST: Duration = Duration::from_secs(4);
/// The least that the bucket can hold: one management operation, or it could never be paid.
const LEAST_BURST: f64 = 10.0;

/// A bucket of credits. Starts full.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    credits_per_second: f64,
    level: f64,
    level_at: Moment,
}

impl Budget {
    /// A full bucket into which so many credits come each second; at least 1.
    pub(crate) fn new(credits_per_second: f64, now: Moment) -> Self {
        let credits_per_second = credits_per_second.max(1.0);
        Self { credits_per_second, level: capacity(credits_per_second), level_at: now }
    }

    /// From now on so many credits come in each second; at least 1.
    pub(crate) fn set_rate(&mut self, credits_per_second: f64, now: Moment) {
        self.fill(now);
        self.credits_per_second = credits_per_second.max(1.0);
        self.level = self.level.min(capacity(self.credits_per_second));
    }

    /// How many credits come in each second.
    pub(crate) fn rate(&self) -> f64 {
        self.credits_per_second
    }

    /// Takes so many credits, at most [`LEAST_BURST`] of them; or says when there will be enough.
    pub(crate) fn spend(&mut self, credits: f64, now: Moment) -> Result<(), Moment> {
        self.fill(now);
        if self.level >= credits {
            self.level -= credits;
            return Ok(());
        }
        // A nanosecond more than computed, so that rounding does not make the next try come too early.
        let wait = Duration::from_secs_f64((credits - self.level) / self.credits_per_second);
        Err(Moment(now.0 + wait + Duration::from_nanos(1)))
    }

    /// Gives back what was taken for an operation that was not made.
    pub(crate) fn give_back(&mut self, credits: f64) {
        self.level = (self.level + credits).min(capacity(self.credits_per_second));
    }

    fn fill(&mut self, now: Moment) {
        let passed = now.0.saturating_sub(self.level_at.0);
        let level = self.level + passed.as_secs_f64() * self.credits_per_second;
        self.level = level.min(capacity(self.credits_per_second));
        self.level_at = self.level_at.max(now);
    }
}

fn capacity(credits_per_second: f64) -> f64 {
    (credits_per_second * BURST.as_secs_f64()).max(LEAST_BURST)
}

/// By how much the budget makes periods longer than wished: 1 when it does not, 2 when what should be read every second is
/// read every two. Smoothed over the latest operations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch(f64);

impl Default for Stretch {
    fn default() -> Self {
        Self(1.0)
    }
}

impl Stretch {
    /// How much the latest operation counts.
    const WEIGHT: f64 = 0.2;
    /// Closer to 1 than this is 1: an average only ever comes near.
    const NEGLIGIBLE: f64 = 0.02;

    /// An operation begins that should have come after `period`, and had to wait for credits for so long on top.
    #[must_use]
    pub(crate) fn after(self, waited: Duration, period: Duration) -> Self {
        // A period of zero is a wish for "always"; a second is as good as that.
        let period = if period.is_zero() { Duration::from_secs(1) } else { period };
        let factor = 1.0 + waited.as_secs_f64() / period.as_secs_f64();
        let smoothed = self.0 + Self::WEIGHT * (factor - self.0);
        Self(if smoothed < 1.0 + Self::NEGLIGIBLE { 1.0 } else { smoothed })
    }

    /// The factor, at least 1.
    pub(crate) fn factor(self) -> f64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(milliseconds: u64) -> Moment {
        Moment(Duration::from_millis(milliseconds))
    }

    proptest! {
        #[test]
        fn never_more_than_the_burst_and_what_came_in(
            rate in 1.0..1_000.0_f64,
            steps in proptest::collection::vec((0_u64..500, 1.0..=10.0_f64), 1..200),
        ) {
            let (mut budget, mut now, mut spent) = (Budget::new(rate, at(0)), 0, 0.0);
            for (pause, credits) in steps {
                now += pause;
                if budget.spend(credits, at(now)).is_ok() {
                    spent += credits;
                }
                let most = capacity(rate) + rate * at(now).0.as_secs_f64();
                prop_assert!(spent <= most + 1e-6, "{spent} of {most} after {now} ms");
            }
        }

        #[test]
        fn what_does_not_fit_fits_when_it_said(rate in 1.0..1_000.0_f64, credits in 1.0..=10.0_f64) {
            let mut budget = Budget::new(rate, at(0));
            while budget.spend(credits, at(0)).is_ok() {}
            let when = budget.spend(credits, at(0)).expect_err("it is empty");
            let just_before = Moment(when.0.saturating_sub(Duration::from_micros(1)));
            prop_assert!(budget.clone().spend(credits, just_before).is_err());
            prop_assert!(budget.spend(credits, when).is_ok());
        }

        #[test]
        fn the_factor_is_never_below_one_nor_above_the_worst(waits in proptest::collection::vec(0_u64..10_000, 0..100)) {
            let stretch = waits.iter().fold(Stretch::default(), |stretch, wait| stretch.after(at(*wait).0, at(1_000).0));
            prop_assert!((1.0..=11.0).contains(&stretch.factor()), "{stretch:?}");
        }
    }

    #[test]
    fn a_clock_that_stands_still_or_a_lower_rate_fills_nothing() {
        let mut budget = Budget::new(50.0, at(0));
        for _ in 0..20 {
            assert_eq!(budget.spend(10.0, at(0)), Ok(()));
        }
        assert!(budget.spend(10.0, at(0)).is_err(), "four seconds' worth is twenty operations");
        budget.set_rate(10.0, at(0));
        assert!(budget.spend(10.0, at(999)).is_err());
        assert_eq!(budget.spend(10.0, at(1_001)), Ok(()));
        assert_eq!(Budget::new(0.0, at(0)).spend(10.0, at(0)), Ok(()), "even the smallest bucket holds an operation");
    }

    #[test]
    fn the_factor_follows_and_comes_back_to_one() {
        let second = Duration::from_secs(1);
        let short = (0..50).fold(Stretch::default(), |stretch, _| stretch.after(second, second));
        assert!((short.factor() - 2.0).abs() < 0.01, "{short:?}");
        let calm = (0..50).fold(short, |stretch, _| stretch.after(Duration::ZERO, second));
        assert!((calm.factor() - 1.0).abs() < f64::EPSILON, "{calm:?}");
    }
}
