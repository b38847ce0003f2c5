//! The timeline: a line whenever something that matters has changed.

use std::time::{Duration, Instant};

use crate::cluster::Replicas;

/// What is shown, and when each first happened.
pub struct Timeline {
    start: Instant,
    last: Option<(Replicas, usize)>,
    /// The most replicas that were wanted.
    pub peak: i32,
    /// When the first pod was wanted, and ready.
    pub first_wanted: Option<Duration>,
    pub first_ready: Option<Duration>,
    /// When none was wanted any more.
    pub back_to_zero: Option<Duration>,
}

impl Timeline {
    /// Time starts now.
    pub fn start() -> Self {
        Self { start: Instant::now(), last: None, peak: 0, first_wanted: None, first_ready: None, back_to_zero: None }
    }

    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Notes what is seen now, and prints it if the replicas have changed.
    pub fn note(&mut self, replicas: Replicas, handled: usize) {
        let now = self.elapsed();
        self.peak = self.peak.max(replicas.wanted);
        if replicas.wanted > 0 {
            self.first_wanted.get_or_insert(now);
            self.back_to_zero = None;
        } else if self.first_wanted.is_some() {
            self.back_to_zero.get_or_insert(now);
        }
        if replicas.ready > 0 {
            self.first_ready.get_or_insert(now);
        }
        if self.last.is_none_or(|(last, _)| last != replicas) {
            self.say(&format!("replicas {:>2}, ready {:>2}, handled {handled}", replicas.wanted, replicas.ready));
        }
        self.last = Some((replicas, handled));
    }

    pub fn say(&self, text: &str) {
        println!("{:>7.1} s  {text}", self.elapsed().as_secs_f64());
    }
}
