//! How many log lines one cause may bring about: what anybody outside can cause a thousand times a second is told ten times
//! a minute, with the number of lines that were left out.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Lines in a row before any is left out, and in a minute after that.
const LINES_PER_MINUTE: u32 = 10;
const MINUTE: Duration = Duration::from_mins(1);

/// One cause's share of the log.
#[derive(Debug, Default)]
pub(crate) struct LogRate(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    minute_began: Option<Instant>,
    lines: u32,
    unlogged: u64,
}

impl LogRate {
    /// Whether a line is in order now, and if so how many were left out since the last one.
    pub(crate) fn turn(&self) -> Option<u64> {
        let now = Instant::now();
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.minute_began.is_none_or(|began| now.duration_since(began) >= MINUTE) {
            state.minute_began = Some(now);
            state.lines = 0;
        }
        if state.lines == LINES_PER_MINUTE {
            state.unlogged += 1;
            return None;
        }
        state.lines += 1;
        Some(std::mem::take(&mut state.unlogged))
    }

    /// How many lines were left out since this or a line said so.
    pub(crate) fn take_unlogged(&self) -> u64 {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).unlogged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ten_a_minute_and_the_next_says_how_many_were_left_out() {
        let rate = LogRate::default();
        let turns: Vec<_> = (0..1_000).filter_map(|_| rate.turn()).collect();
        assert_eq!(turns, [0; 10]);
        tokio::time::advance(MINUTE).await;
        assert_eq!((rate.turn(), rate.turn()), (Some(990), Some(0)));
    }
}
