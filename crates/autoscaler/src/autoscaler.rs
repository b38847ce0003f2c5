//! KEDA and the HPA together: who looks when, what they ask, what becomes of the replicas.

use std::time::Duration;

use crate::hpa::Hpa;
use crate::keda::Keda;
use crate::spec::{Spec, SpecError};

/// A call to the scaler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `GetMetricSpec`.
    MetricSpec,
    /// `GetMetrics`.
    Metrics,
    /// `IsActive`.
    IsActive,
}

/// What both steps ask for, in this order (KEDA's `pkg/scaling/scale_handler.go`; seen on a cluster).
pub const CALLS: [Call; 3] = [Call::MetricSpec, Call::Metrics, Call::IsActive];

/// Something to do: ask the scaler, then [`answer`](Autoscaler::answer).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// KEDA's poll.
    Poll,
    /// The HPA's sync.
    Sync,
}

/// What the scaler answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answers {
    /// The metric's target, from `GetMetricSpec`.
    pub target: f64,
    /// The metric's value, from `GetMetrics`.
    pub value: f64,
    /// From `IsActive`.
    pub active: bool,
}

/// Who changed the replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// KEDA, between zero and the minimum.
    Keda,
    /// The HPA, from one up.
    Hpa,
}

/// A change of the replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Replicas before.
    pub from: u32,
    /// Replicas from now on.
    pub to: u32,
    /// Who changed them.
    pub by: Actor,
    /// Why, in a few words.
    pub why: String,
}

/// One `ScaledObject`, its HPA and the replicas of its target.
#[derive(Clone, Debug)]
pub struct Autoscaler {
    spec: Spec,
    keda: Keda,
    hpa: Hpa,
    replicas: u32,
    /// The HPA's target, written when the `ScaledObject` is made: a target that moves later does not reach the HPA
    /// (unless pushed, which is not played here).
    target: Option<f64>,
    next_poll: Duration,
    next_sync: Duration,
}

impl Autoscaler {
    /// A `ScaledObject` made now, for a target with 0 replicas (or the minimum). KEDA polls at once; the HPA syncs one
    /// interval after.
    pub fn new(spec: Spec, now: Duration) -> Result<Self, SpecError> {
        spec.validate()?;
        Ok(Self {
            replicas: spec.min_replicas,
            keda: Keda::default(),
            hpa: Hpa::default(),
            target: None,
            next_poll: now,
            next_sync: now.saturating_add(spec.sync_interval),
            spec,
        })
    }

    /// The replicas that the target is told to have.
    pub fn replicas(&self) -> u32 {
        self.replicas
    }

    /// What it was made from.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// When the next step is due.
    pub fn next_due(&self) -> Duration {
        self.next_poll.min(self.next_sync)
    }

    /// The step that is due now, if any. Call until it gives none. A sync at 0 replicas asks nothing and is passed over.
    pub fn due(&mut self, now: Duration) -> Option<Step> {
        if self.next_sync <= now && self.replicas == 0 {
            self.hpa.start(0, now);
            self.next_sync = next(self.next_sync, self.spec.sync_interval, now);
        }
        if self.next_poll <= now && self.next_poll <= self.next_sync {
            return Some(Step::Poll);
        }
        (self.next_sync <= now).then_some(Step::Sync)
    }

    /// Hands in what a due step's calls gave. An error (`None`) changes nothing: replicas are held.
    pub fn answer(&mut self, step: Step, answers: Option<Answers>, now: Duration) -> Option<Change> {
        match step {
            Step::Poll => self.next_poll = next(self.next_poll, self.spec.polling_interval, now),
            Step::Sync => {
                self.hpa.start(self.replicas, now);
                self.next_sync = next(self.next_sync, self.spec.sync_interval, now);
            }
        }
        let answers = answers?;
        let target = *self.target.get_or_insert(answers.target);
        match step {
            Step::Poll => {
                let (to, why) = self.keda.poll(&self.spec, answers.active, self.replicas, now)?;
                self.change(to, Actor::Keda, why)
            }
            Step::Sync if self.replicas == 0 => None,
            Step::Sync => {
                let recommendation = self.hpa.sync(&self.spec, answers.value, target, self.replicas, now);
                let why = if recommendation.raw == recommendation.replicas {
                    format!("{} / {target}", answers.value)
                } else {
                    format!("{} / {target} asks for {}", answers.value, recommendation.raw)
                };
                self.change(recommendation.replicas, Actor::Hpa, why)
            }
        }
    }

    /// The stream of an `external-push` trigger said whether the target is active.
    pub fn push(&mut self, active: bool, now: Duration) -> Option<Change> {
        let (to, why) = self.keda.push(&self.spec, active, self.replicas, now)?;
        self.change(to, Actor::Keda, why)
    }

    fn change(&mut self, to: u32, by: Actor, why: String) -> Option<Change> {
        let from = std::mem::replace(&mut self.replicas, to);
        (from != to).then_some(Change { from, to, by, why })
    }
}

/// The next time on the grid that is not past: a step that was held up is not made up for.
fn next(last: Duration, interval: Duration, now: Duration) -> Duration {
    let steps = now.saturating_sub(last).as_nanos() / interval.as_nanos() + 1;
    let nanoseconds = interval.as_nanos().saturating_mul(steps).min(Duration::MAX.as_nanos());
    last.saturating_add(Duration::from_nanos_u128(nanoseconds))
}

#[cfg(test)]
mod tests;
