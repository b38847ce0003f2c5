//! Which refusals are worth a log line. KEDA asks again every few seconds, for every trigger, so one problem would be
//! thousands of lines: a trigger's problem is told once in ten minutes, and of one gRPC code no more than ten lines a
//! minute, with the number of those left out. Metrics count all of them, and `/explain` shows each trigger's.
//!
//! Owns a bounded memory of what was told.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tonic::{Code, Status};

use crate::log_rate::LogRate;
use crate::metrics::code_name;
use crate::trigger_id::TriggerId;

/// The same problem of the same trigger is told again after this.
const AGAIN_AFTER: Duration = Duration::from_mins(10);
/// Most problems remembered; with more than that, only the rate holds back.
const MAX_REMEMBERED: usize = 10_000;
/// gRPC has the codes 0 to 16.
const CODES: usize = 17;

/// The memory.
#[derive(Debug)]
pub(crate) struct RefusalLog {
    told: Mutex<HashMap<(TriggerId, u64), Instant>>,
    hasher: RandomState,
    rates: [LogRate; CODES],
}

impl Default for RefusalLog {
    fn default() -> Self {
        Self { told: Mutex::default(), hasher: RandomState::new(), rates: std::array::from_fn(|_| LogRate::default()) }
    }
}

impl RefusalLog {
    /// Whether this refusal is to be logged, and if so how many of its code were left out since the last one.
    pub(crate) fn turn(&self, id: &TriggerId, status: &Status) -> Option<u64> {
        let now = Instant::now();
        // What follows the first colon may differ each time: durations, tracking identifiers, moments.
        let kind = status.message().split(": ").next().unwrap_or_default();
        let problem = (id.clone(), self.hasher.hash_one((status.code() as i32, kind)));
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(&problem).is_some_and(|at| now.duration_since(*at) < AGAIN_AFTER) {
            return None;
        }
        if told.len() < MAX_REMEMBERED || told.contains_key(&problem) {
            told.insert(problem, now);
        }
        drop(told);
        self.rates.get(status.code() as usize)?.turn()
    }

    /// Forgets what is long past, and tells the number of refusals that were left out and have no later line to say so.
    /// Whoever runs the server calls this now and then.
    pub(crate) fn tidy(&self) {
        let now = Instant::now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, at| now.duration_since(*at) < AGAIN_AFTER);
        if told.len() < told.capacity() / 4 {
            told.shrink_to_fit();
        }
        drop(told);
        for (number, rate) in (0_i32..).zip(&self.rates) {
            let unlogged = rate.take_unlogged();
            if unlogged > 0 {
                let code = code_name(Code::from(number));
                tracing::warn!(
                    code,
                    unlogged,
                    "more triggers were refused alike; metrics count them, /explain says why"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use externalscaler::ScaledObjectRef;

    use super::*;

    fn id(number: usize) -> TriggerId {
        TriggerId::of(&ScaledObjectRef { name: format!("receiver-{number}"), ..ScaledObjectRef::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn a_problem_of_thousands_that_lasts_is_ten_lines_in_ten_minutes() {
        let log = RefusalLog::default();
        let mut lines = 0;
        let mut left_out = 0;
        // Every trigger asks every 15 seconds; the text says how long it took, which is never the same.
        for round in 0_u64..39 {
            for number in 0..2_000 {
                let status = Status::unavailable(format!("failed to read the queue: no answer within {round} ms"));
                if let Some(unlogged) = log.turn(&id(number), &status) {
                    lines += 1;
                    left_out += unlogged;
                }
            }
            left_out += log.rates.iter().map(LogRate::take_unlogged).sum::<u64>();
            tokio::time::advance(Duration::from_secs(15)).await;
        }
        assert_eq!((lines, left_out), (10, 1_990));
    }

    #[tokio::test(start_paused = true)]
    async fn another_problem_of_the_same_trigger_is_told_and_the_same_one_again_after_a_while() {
        let log = RefusalLog::default();
        let gone = Status::not_found("failed to read the queue orders: it does not exist");
        assert_eq!(log.turn(&id(1), &gone), Some(0));
        assert_eq!(log.turn(&id(1), &gone), None);
        assert_eq!(log.turn(&id(1), &Status::unavailable("failed to read the queue orders: throttled")), Some(0));
        assert_eq!(log.turn(&id(2), &gone), Some(0), "another trigger's is another problem");
        tokio::time::advance(AGAIN_AFTER).await;
        log.tidy();
        assert_eq!(log.turn(&id(1), &gone), Some(0));
    }
}
