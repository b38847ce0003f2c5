//! When a namespace may be asked again after it throttled or did not answer. One for each namespace, since both concern
//! all of its entities alike.
//!
//! Pure: time and jitter are arguments. Throttling is answered by waiting longer and longer, at least as long as the
//! namespace asks for; an outage by one probe a second, so that the first call after it is over gets through. What the
//! namespace says about one entity (there is none, it may not be read, it is a topic) is an answer like any other here.

use std::sync::Arc;
use std::time::Duration;

use scaling::Moment;

use crate::source::ReadFailure;

/// While a namespace does not answer, and between two tries of an entity that cannot be read.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause while the namespace throttles and does not say for how long.
const LONGEST_OWN_PAUSE: Duration = Duration::from_secs(10);
/// The longest pause that a namespace can ask for.
const LONGEST_ASKED_PAUSE: Duration = Duration::from_secs(30);
/// So many reads without an answer in a row are an outage; fewer may be the entity's own trouble.
const OUTAGE_AFTER: u32 = 3;

/// Whether an operation may begin.
#[derive(Clone, Debug)]
pub(crate) enum Gate {
    /// Yes.
    Open,
    /// One, to see whether the trouble is over.
    Probe,
    /// Not now; the one that tries is on its way.
    Probing,
    /// Not now, for this reason.
    Closed(Arc<ReadFailure>),
}

/// The state of one namespace.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    trouble: Option<Trouble>,
    /// Reads without an answer in a row.
    unanswered: u32,
    /// Throttled in a row, probes alone counted.
    throttled: u32,
    recovered_at: Moment,
}

#[derive(Debug)]
struct Trouble {
    failure: Arc<ReadFailure>,
    began_at: Moment,
    not_before: Moment,
    is_probing: bool,
}

impl Backoff {
    /// Whether an operation may begin now.
    pub(crate) fn gate(&self, now: Moment) -> Gate {
        match &self.trouble {
            None => Gate::Open,
            Some(trouble) if trouble.is_probing => Gate::Probing,
            Some(trouble) if now < trouble.not_before => Gate::Closed(Arc::clone(&trouble.failure)),
            Some(_) => Gate::Probe,
        }
    }

    /// An operation begins, as [`Self::gate`] allowed.
    pub(crate) fn begin(&mut self) {
        if let Some(trouble) = &mut self.trouble {
            trouble.is_probing = true;
        }
    }

    /// The namespace answered an operation that began then.
    pub(crate) fn answered(&mut self, began: Moment, now: Moment) {
        self.unanswered = 0;
        let Some(trouble) = &self.trouble else { return };
        // What was accepted before the throttling began does not say that it is over. Any answer ends an outage.
        let is_throttled = matches!(*trouble.failure, ReadFailure::Throttled { .. });
        if !is_throttled || began >= trouble.began_at {
            (self.trouble, self.throttled, self.recovered_at) = (None, 0, now);
        }
    }

    /// An operation that began then was throttled or got no answer. Says whether what waits can give up waiting.
    /// `jitter`, from 1.0 to 1.2, spreads scalers that were throttled together.
    pub(crate) fn failed(&mut self, failure: &Arc<ReadFailure>, began: Moment, now: Moment, jitter: f64) -> bool {
        // Others that were under way when the trouble began tell the same story again.
        let is_old_news = self.trouble.as_ref().is_some_and(|trouble| began < trouble.began_at);
        let pause = if let ReadFailure::Throttled { retry_after, .. } = &**failure {
            self.throttled += u32::from(!is_old_news);
            throttle_pause(*retry_after, self.throttled).mul_f64(jitter)
        } else {
            self.unanswered = self.unanswered.saturating_add(1);
            if self.trouble.is_none() && self.unanswered < OUTAGE_AFTER {
                return false;
            }
            RETRY_PAUSE
        };
        let not_before = Moment(now.0 + pause);
        match &mut self.trouble {
            Some(trouble) if is_old_news => trouble.not_before = trouble.not_before.max(not_before),
            Some(trouble) => {
                trouble.failure = Arc::clone(failure);
                trouble.not_before = not_before;
                trouble.is_probing = false;
            }
            None => {
                let failure = Arc::clone(failure);
                self.trouble = Some(Trouble { failure, began_at: now, not_before, is_probing: false });
            }
        }
        true
    }

    /// An operation ended before the namespace was asked: nothing is known that was not before.
    pub(crate) fn not_asked(&mut self) {
        if let Some(trouble) = &mut self.trouble {
            trouble.is_probing = false;
        }
    }

    /// Whether the namespace is left alone, or asked only to see whether it is over.
    pub(crate) fn is_in_trouble(&self) -> bool {
        self.trouble.is_some()
    }

    /// When the last trouble ended; the origin if there was none.
    pub(crate) fn recovered_at(&self) -> Moment {
        self.recovered_at
    }
}

/// How long to leave the namespace alone after it throttled so many times in a row.
fn throttle_pause(retry_after: Option<Duration>, times: u32) -> Duration {
    let doubling = RETRY_PAUSE.saturating_mul(1 << times.saturating_sub(1).min(5)).min(LONGEST_OWN_PAUSE);
    doubling.max(retry_after.unwrap_or_default().min(LONGEST_ASKED_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Moment {
        Moment(Duration::from_secs_f64(seconds))
    }

    fn throttled(retry_after: Option<u64>) -> Arc<ReadFailure> {
        let retry_after = retry_after.map(Duration::from_secs);
        Arc::new(ReadFailure::Throttled { what: "slow down".to_owned(), retry_after })
    }

    fn unreachable() -> Arc<ReadFailure> {
        Arc::new(ReadFailure::Unreachable("gone".to_owned()))
    }

    #[test]
    fn throttling_pauses_longer_and_longer_and_as_long_as_asked() {
        let seconds =
            |retry_after: Option<u64>, times| throttle_pause(retry_after.map(Duration::from_secs), times).as_secs();
        assert_eq!([1, 2, 3, 4, 5, 60].map(|times| seconds(None, times)), [1, 2, 4, 8, 10, 10]);
        assert_eq!([1, 5].map(|times| seconds(Some(7), times)), [7, 10]);
        assert_eq!(seconds(Some(3_600), 1), 30);
    }

    #[test]
    fn all_that_were_under_way_are_one_throttling_and_one_probe_ends_it() {
        let mut backoff = Backoff::default();
        for began in [0.0, 0.1, 0.2] {
            assert!(backoff.failed(&throttled(Some(5)), at(began), at(1.0 + began), 1.0));
        }
        backoff.answered(at(0.3), at(1.5));
        assert!(matches!(backoff.gate(at(6.1)), Gate::Closed(_)), "the last of them asked for five seconds at 1.2");
        assert!(matches!(backoff.gate(at(6.2)), Gate::Probe));
        backoff.begin();
        assert!(matches!(backoff.gate(at(6.3)), Gate::Probing), "one is enough");
        assert!(backoff.failed(&throttled(None), at(6.2), at(6.4), 1.0));
        assert!(matches!(backoff.gate(at(8.3)), Gate::Closed(_)), "the second in a row: two seconds");
        assert!(matches!(backoff.gate(at(8.4)), Gate::Probe));
        backoff.begin();
        backoff.answered(at(8.4), at(8.5));
        assert!(matches!(backoff.gate(at(8.5)), Gate::Open));
        assert_eq!(backoff.recovered_at(), at(8.5));
    }

    #[test]
    fn an_outage_is_probed_every_second_and_any_answer_ends_it() {
        let mut backoff = Backoff::default();
        for _ in 0..2 {
            assert!(!backoff.failed(&unreachable(), at(0.0), at(2.5), 1.0));
            assert!(matches!(backoff.gate(at(2.5)), Gate::Open), "two may be about an entity");
        }
        assert!(backoff.failed(&unreachable(), at(0.0), at(2.5), 1.0));
        for probe in 0..100 {
            let now = 3.5 + f64::from(probe);
            assert!(matches!(backoff.gate(at(now - 0.1)), Gate::Closed(_)), "probe {probe}");
            assert!(matches!(backoff.gate(at(now)), Gate::Probe), "probe {probe}");
            backoff.begin();
            assert!(backoff.failed(&unreachable(), at(now), at(now), 1.0));
        }
        backoff.answered(at(1.0), at(103.0));
        assert!(matches!(backoff.gate(at(103.0)), Gate::Open));
    }

    #[test]
    fn a_probe_that_never_left_is_made_again() {
        let mut backoff = Backoff::default();
        assert!(backoff.failed(&throttled(Some(5)), at(0.0), at(0.0), 1.0));
        assert!(matches!(backoff.gate(at(5.0)), Gate::Probe));
        backoff.begin();
        backoff.not_asked();
        assert!(matches!(backoff.gate(at(5.0)), Gate::Probe), "nobody knows more than before");
        assert!(backoff.is_in_trouble());
    }

    #[test]
    fn an_entity_that_cannot_be_read_among_others_is_no_outage() {
        let mut backoff = Backoff::default();
        for round in 0..10 {
            let now = at(f64::from(round));
            assert!(!backoff.failed(&unreachable(), now, now, 1.0));
            backoff.answered(now, now);
        }
    }
}
