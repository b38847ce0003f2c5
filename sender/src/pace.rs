//! When messages are due at a given rate. Pure: time comes in as an argument.
//!
//! Messages are sent in groups ten times a second rather than one by one, since a batch costs a round trip; the first group
//! leaves at once. Time lost in an outage is made up afterwards, so the average holds.

use std::time::Duration;

/// Groups per second.
const GROUPS_PER_SECOND: f64 = 10.0;

/// How many more messages may be sent, `elapsed` after the start and with `sent` sent before. A `rate` (messages per
/// second) of 0 or less, or not a number, is no limit.
pub fn due(rate: f64, elapsed: Duration, sent: u64) -> u64 {
    if !is_limited(rate) {
        return u64::MAX;
    }
    // `as` saturates, so a long time at a high rate is no problem.
    let allowed = (elapsed.as_secs_f64() * rate + group(rate)).floor() as u64;
    allowed.saturating_sub(sent)
}

/// How long after the start the next group is due, when `sent` messages were sent before.
pub fn next(rate: f64, sent: u64) -> Duration {
    if !is_limited(rate) {
        return Duration::ZERO;
    }
    Duration::try_from_secs_f64(sent as f64 / rate).unwrap_or(Duration::MAX)
}

fn is_limited(rate: f64) -> bool {
    rate > 0.0
}

/// Messages in a group, at least one.
fn group(rate: f64) -> f64 {
    (rate / GROUPS_PER_SECOND).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn without_a_rate_everything_is_due_at_once() {
        assert_eq!(due(0.0, Duration::ZERO, 10), u64::MAX);
        assert_eq!(next(0.0, 10), Duration::ZERO);
    }

    #[test]
    fn groups_leave_ten_times_a_second() {
        assert_eq!(due(100.0, Duration::ZERO, 0), 10);
        assert_eq!(due(100.0, Duration::ZERO, 10), 0);
        assert_eq!(next(100.0, 10), Duration::from_millis(100));
        assert_eq!(due(100.0, Duration::from_millis(100), 10), 10);
    }

    #[test]
    fn slow_rates_send_one_message_at_a_time() {
        assert_eq!(due(0.5, Duration::ZERO, 0), 1);
        assert_eq!(next(0.5, 1), Duration::from_secs(2));
        assert_eq!(due(0.5, Duration::from_secs(2), 1), 1);
    }

    #[test]
    fn an_outage_is_made_up() {
        assert_eq!(due(100.0, Duration::from_secs(10), 10), 1_000);
    }

    proptest! {
        /// Waiting as long as told makes something due, and never more than one group above the average.
        #[test]
        fn the_average_holds(rate in 0.001_f64..1e6, sent in 0_u64..1_000_000) {
            let elapsed = next(rate, sent);
            let more = due(rate, elapsed + Duration::from_micros(1), sent);
            prop_assert!(more >= 1, "nothing due after {elapsed:?}");
            let most = (elapsed.as_secs_f64() + 1e-6) * rate + group(rate) + 1.0;
            prop_assert!((sent + more) as f64 <= most, "{more} more after {elapsed:?}");
        }
    }
}
