//! KEDA's own part: between zero and one, at polls and pushes.
//!
//! Read from KEDA's `pkg/scaling/executor/scale_scaledobjects.go` (`RequestScale`, `scaleFromZeroOrIdle`,
//! `scaleToZeroOrIdle`) and seen on a cluster with KEDA 2.20 and 2.21. Owns the time of the last activity.

use std::time::Duration;

use crate::spec::Spec;

/// KEDA's memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keda {
    last_active: Option<Duration>,
}

impl Keda {
    /// A poll was answered. Returns the replicas to go to and why, if KEDA changes them.
    pub fn poll(&mut self, spec: &Spec, active: bool, current: u32, now: Duration) -> Option<(u32, String)> {
        if active {
            self.last_active = Some(now);
        }
        let first = spec.min_replicas.max(1);
        if active && current == 0 {
            return Some((first, "active".to_owned()));
        }
        if !active && current > 0 && spec.min_replicas == 0 {
            return self.to_zero(spec, now);
        }
        (current < spec.min_replicas).then(|| (spec.min_replicas, "below minReplicaCount".to_owned()))
    }

    /// The stream of an `external-push` trigger said something. Only `true` counts, and it acts at once.
    pub fn push(&mut self, spec: &Spec, active: bool, current: u32, now: Duration) -> Option<(u32, String)> {
        if !active {
            return None;
        }
        self.last_active = Some(now);
        (current == 0).then(|| (spec.min_replicas.max(1), "active, by push".to_owned()))
    }

    /// From any number at once, when the last activity is at least the cooldown period ago.
    ///
    /// KEDA's source asks for strictly longer (`LastActiveTime.Add(cooldownPeriod).Before(time.Now())`), but it keeps
    /// `LastActiveTime` in whole seconds, rounded down, and looks a little after the poll: on a cluster the poll that
    /// comes exactly one cooldown period after the last active one scales to zero.
    fn to_zero(self, spec: &Spec, now: Duration) -> Option<(u32, String)> {
        let idle = self.last_active.map(|at| now.saturating_sub(at));
        match idle {
            Some(idle) if idle < spec.cooldown_period => None,
            Some(idle) => Some((0, format!("inactive for {:.0} s", idle.as_secs_f64()))),
            None => Some((0, "never active".to_owned())),
        }
    }
}
