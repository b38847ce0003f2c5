//! Measured times in order, and the goals that they are held against.

use std::time::Duration;

/// Measured times, sorted.
#[derive(Clone, Default)]
pub(crate) struct Times(Vec<Duration>);

impl FromIterator<Duration> for Times {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Self {
        let mut times: Vec<Duration> = times.into_iter().collect();
        times.sort_unstable();
        Self(times)
    }
}

impl Times {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Such a share of them is at most this, in seconds; not a number where there are none, which meets no goal.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let rank = (self.0.len() as f64 * share).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).map_or(f64::NAN, Duration::as_secs_f64)
    }

    /// Their mean, in seconds.
    pub(crate) fn mean(&self) -> f64 {
        self.0.iter().map(Duration::as_secs_f64).sum::<f64>() / self.0.len() as f64
    }
}

/// What was to be reached, and whether it was.
#[derive(Default)]
pub(crate) struct Goals(Vec<Goal>);

struct Goal {
    what: String,
    measured: f64,
    at_most: f64,
}

impl Goal {
    fn is_met(&self) -> bool {
        self.measured <= self.at_most
    }
}

impl Goals {
    /// What was measured is to be at most that.
    pub(crate) fn at_most(&mut self, what: impl Into<String>, measured: f64, at_most: f64) {
        self.0.push(Goal { what: what.into(), measured, at_most });
    }

    /// Prints all of them. Says whether all were met.
    pub(crate) fn print(&self) -> bool {
        println!("{:<76}{:>10}{:>10}", "goals", "measured", "at most");
        for goal in &self.0 {
            let verdict = if goal.is_met() { "met" } else { "MISSED" };
            println!("{:<76}{:>10.3}{:>10.3}  {verdict}", goal.what, goal.measured, goal.at_most);
        }
        self.0.iter().all(Goal::is_met)
    }
}
