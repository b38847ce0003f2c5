//! What is written down while a run goes on: series for view and chart, steps for the summary, moments that matter.
//!
//! Pure bookkeeping: the director says what it sees and when, in seconds since the run began.

use std::collections::VecDeque;

use crate::chart::{Chart, Mark};
use crate::ledger::Audit;
use crate::series::Series;
use crate::summary::Step;

/// Throughput is the mean over so many seconds.
const THROUGHPUT_SECONDS: f64 = 3.0;

/// How many workers there are, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Workforce {
    /// Wanted by the autoscaler.
    pub wanted: u32,
    /// At the queue.
    pub ready: u32,
    /// Alive, stopping ones included.
    pub processes: u32,
}

/// The notes of a run.
#[derive(Clone, Debug)]
pub struct Recorder {
    /// Messages in the queue.
    pub depth: Series,
    /// Messages handled.
    pub handled: Series,
    /// Replicas wanted, whenever that changed.
    pub wanted: Vec<Step>,
    /// Workers ready, whenever that changed.
    pub ready: Vec<Step>,
    /// Worker processes, whenever that changed.
    pub processes: Vec<Step>,
    /// Things that happened.
    pub marks: Vec<Mark>,
    recent: VecDeque<(f64, u64)>,
    last_handled_at: Option<f64>,
}

impl Default for Recorder {
    fn default() -> Self {
        let zero = vec![Step { at: 0.0, replicas: 0 }];
        Self {
            depth: Series::default(),
            handled: Series::default(),
            wanted: zero.clone(),
            ready: zero.clone(),
            processes: zero,
            marks: Vec::new(),
            recent: VecDeque::new(),
            last_handled_at: None,
        }
    }
}

impl Recorder {
    /// Notes how many messages there are in the queue.
    pub fn note_depth(&mut self, at: f64, active: u64) {
        self.depth.push(at, active as f64);
    }

    /// Notes what is seen at this moment.
    pub fn note(&mut self, at: f64, audit: &Audit, workforce: Workforce) {
        let handled = audit.handled();
        if self.handled.last() < handled as f64 {
            self.last_handled_at = Some(at);
        }
        self.handled.push(at, handled as f64);
        self.recent.push_back((at, handled));
        while self.recent.front().is_some_and(|(then, _)| *then < at - THROUGHPUT_SECONDS) {
            self.recent.pop_front();
        }
        let Workforce { wanted, ready, processes } = workforce;
        note_step(&mut self.wanted, at, wanted);
        note_step(&mut self.ready, at, ready);
        note_step(&mut self.processes, at, processes);
    }

    /// Marks a moment on the chart.
    pub fn mark(&mut self, at: f64, label: impl Into<String>) {
        self.marks.push(Mark { at, label: label.into() });
    }

    /// Messages handled per second, lately.
    pub fn throughput(&self) -> f64 {
        match (self.recent.front(), self.recent.back()) {
            (Some((from, before)), Some((until, after))) if until > from => (after - before) as f64 / (until - from),
            _ => 0.0,
        }
    }

    /// When a message was handled last.
    pub fn last_handled_at(&self) -> Option<f64> {
        self.last_handled_at
    }

    /// When the last worker process was gone, if workers ran and none is left.
    pub fn zero_at(&self) -> Option<f64> {
        match self.processes.as_slice() {
            [_, .., last] if last.replicas == 0 => Some(last.at),
            _ => None,
        }
    }

    /// The chart of the run.
    pub fn chart(&self, title: String, subtitle: String, seconds: f64) -> Chart {
        Chart {
            title,
            subtitle,
            seconds,
            depth: self.depth.points().to_vec(),
            handled: self.handled.points().to_vec(),
            wanted: points(&self.wanted),
            ready: points(&self.ready),
            marks: self.marks.clone(),
        }
    }
}

/// A staircase as points, each of which holds until the next.
pub fn points(steps: &[Step]) -> Vec<(f64, f64)> {
    steps.iter().map(|step| (step.at, f64::from(step.replicas))).collect()
}

fn note_step(steps: &mut Vec<Step>, at: f64, replicas: u32) {
    if steps.last().is_none_or(|step| step.replicas != replicas) {
        steps.push(Step { at, replicas });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workforce(count: u32) -> Workforce {
        Workforce { wanted: count, ready: count, processes: count }
    }

    #[test]
    fn steps_are_noted_when_they_change_and_throughput_is_the_recent_mean() {
        let (mut recorder, mut audit) = (Recorder::default(), Audit::default());
        for second in 0..10_u64 {
            audit.handle(second * 10..second * 10 + 10);
            recorder.note(second as f64, &audit, workforce(if second < 5 { 2 } else { 3 }));
        }
        assert_eq!(recorder.ready.iter().map(|step| step.replicas).collect::<Vec<_>>(), [0, 2, 3]);
        assert!((recorder.throughput() - 10.0).abs() < 1e-9, "{}", recorder.throughput());
        assert_eq!((recorder.last_handled_at(), recorder.zero_at()), (Some(9.0), None));
        recorder.note(10.0, &audit, workforce(0));
        assert_eq!((recorder.last_handled_at(), recorder.zero_at()), (Some(9.0), Some(10.0)));
    }

    #[test]
    fn zero_before_any_worker_is_not_back_to_zero() {
        let mut recorder = Recorder::default();
        recorder.note(1.0, &Audit::default(), workforce(0));
        assert_eq!(recorder.zero_at(), None);
    }
}
