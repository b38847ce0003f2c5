//! How long to wait before dialling again after a failure. Pure: the randomness is an argument.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
/// Short enough that a call made right after the peer came back succeeds within two seconds of that.
const LONGEST: Duration = Duration::from_millis(1500);

/// Counts failures in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The connection works.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// How long to wait after one more failure: doubling, and between half and the whole of it, so that clients that
    /// lost the same peer do not come back in step. `random` is any number.
    pub(super) fn next(&mut self, random: u64) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let half = whole / 2;
        half + half.mul_f64((random % 1_000) as f64 / 1_000.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn waits_grow_and_stay_bounded(randoms in proptest::collection::vec(any::<u64>(), 1..40)) {
            let mut backoff = Backoff::default();
            for (index, random) in randoms.iter().enumerate() {
                let wait = backoff.next(*random);
                let whole = FIRST.saturating_mul(1 << index.min(10)).min(LONGEST);
                prop_assert!(wait >= whole / 2 && wait <= whole, "{wait:?} after {index} failures");
            }
            backoff.reset();
            prop_assert!(backoff.next(999) <= FIRST);
        }
    }
}
