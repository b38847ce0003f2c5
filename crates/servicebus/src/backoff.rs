//! How long to wait before the next try, of a dial here or of a call in worker and sender: doubling, bounded, with
//! jitter. Pure: chance comes in as an argument.

use std::time::Duration;

/// Pauses that double from `first` up to `most`. Each is between half and the whole of its step, so that many workers
/// that lost the same broker do not come back in the same moment.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    /// Pauses from `first` to `most`; `most` is raised to `first` where it is less.
    pub const fn new(first: Duration, most: Duration) -> Self {
        let most = if most.as_nanos() < first.as_nanos() { first } else { most };
        Self { first, most, failures: 0 }
    }

    /// The pause after one more failure. `chance` is uniform in 0..=1; values outside are brought inside.
    pub fn after_failure(&mut self, chance: f64) -> Duration {
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        let step = self.first.saturating_mul(factor).min(self.most);
        let chance = if chance.is_finite() { chance.clamp(0.0, 1.0) } else { 1.0 };
        step.mul_f64(0.5 + chance / 2.0)
    }

    /// Starts again at `first`, after a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// How many failures there were since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIRST: Duration = Duration::from_millis(100);
    const MOST: Duration = Duration::from_secs(5);

    #[test]
    fn pauses_double_up_to_the_most_and_start_again_after_a_success() {
        let mut backoff = Backoff::new(FIRST, MOST);
        let pauses: Vec<u128> = (0..8).map(|_| backoff.after_failure(1.0).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(backoff.failures(), 8);
        backoff.reset();
        assert_eq!(backoff.after_failure(1.0), FIRST);
    }

    proptest! {
        #[test]
        fn pauses_grow_and_stay_bounded(chances in proptest::collection::vec(0.0..=1.0, 1..40)) {
            let mut backoff = Backoff::new(FIRST, MOST);
            for (index, chance) in chances.iter().enumerate() {
                let pause = backoff.after_failure(*chance);
                let whole = FIRST.saturating_mul(1 << index.min(10)).min(MOST);
                prop_assert!(pause >= whole / 2 && pause <= whole, "{pause:?} after {index} failures");
            }
            backoff.reset();
            prop_assert!(backoff.after_failure(0.999) <= FIRST);
        }

        #[test]
        fn a_pause_is_never_less_than_half_the_first_nor_more_than_the_most(
            failures in 0_usize..200, chance in any::<f64>(), first in 1_u64..10_000, most in 0_u64..100_000,
        ) {
            let (first, most) = (Duration::from_millis(first), Duration::from_millis(most));
            let mut backoff = Backoff::new(first, most);
            for _ in 0..failures {
                backoff.after_failure(0.5);
            }
            let pause = backoff.after_failure(chance);
            prop_assert!(pause >= first / 2 && pause <= most.max(first), "{pause:?}");
        }
    }
}
