//! Points in time as the wire knows them: whole milliseconds since the Unix epoch.
//!
//! The state machine never reads a clock. Its caller passes the current time in, so tests run in simulated time and the
//! `x-opt-enqueued-time` and `x-opt-locked-until` annotations follow from the same number.

use std::time::Duration;

/// Milliseconds since 1970-01-01T00:00Z, as in an AMQP `timestamp`; negative before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The latest time there is; what additions saturate at, and so "never".
    pub const MAX: Self = Self(i64::MAX);

    /// The point `milliseconds` after the Unix epoch.
    pub const fn from_millis(milliseconds: i64) -> Self {
        Self(milliseconds)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// `span` later, cut to whole milliseconds; [`Timestamp::MAX`] when that is out of range.
    #[must_use]
    pub fn saturating_add(self, span: Duration) -> Self {
        i64::try_from(span.as_millis()).map_or(Self::MAX, |milliseconds| Self(self.0.saturating_add(milliseconds)))
    }

    /// The time from `earlier` to `self`; zero when `earlier` is not earlier.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        let milliseconds = i128::from(self.0) - i128::from(earlier.0);
        Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn additions_saturate_instead_of_wrapping() {
        let start = Timestamp::from_millis(1_000);
        assert_eq!(start.saturating_add(Duration::from_micros(1_999)), Timestamp::from_millis(1_001));
        assert_eq!(start.saturating_add(Duration::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::MAX.saturating_add(Duration::from_millis(1)), Timestamp::MAX);
    }

    #[test]
    fn the_span_since_a_later_time_is_zero() {
        let (early, late) = (Timestamp::from_millis(-5), Timestamp::from_millis(7));
        assert_eq!(late.saturating_since(early), Duration::from_millis(12));
        assert_eq!(early.saturating_since(late), Duration::ZERO);
        assert_eq!(Timestamp::MAX.saturating_since(Timestamp::from_millis(i64::MIN)), Duration::from_millis(u64::MAX));
    }
}
