//! The HPA's algorithm for one external metric of type `AverageValue`.
//!
//! Read from Kubernetes 1.34, `pkg/controller/podautoscaler/horizontal.go` (behaviour, stabilization, events) and
//! `replica_calculator.go` (the quotient and the tolerance). Owns the memory that both need: what was recommended and
//! what was done, as far back as any window reaches.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::time::Duration;

use crate::spec::{Behavior, Rules, ScalingPolicy, Select, Spec};

/// The HPA's memory.
#[derive(Clone, Debug, Default)]
pub struct Hpa {
    /// Whether it has looked at its target before, whatever came of it.
    started: bool,
    recommendations: VecDeque<(Duration, u32)>,
    /// Replicas added (positive) or taken away (negative) by the HPA.
    events: VecDeque<(Duration, i64)>,
}

/// What one look at the metric led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recommendation {
    /// What the metric alone asks for.
    pub raw: u32,
    /// After stabilization, limits on the rate, minimum and maximum.
    pub replicas: u32,
}

impl Hpa {
    /// `recordInitialRecommendation`: at its first look, before it asks for any metric and even at 0 replicas, the HPA
    /// takes the replicas it finds for a recommendation. So a scale-up window also holds right after the start. Later
    /// calls do nothing; [`sync`](Self::sync) includes it.
    pub fn start(&mut self, current: u32, now: Duration) {
        if !self.started {
            self.started = true;
            self.recommendations.push_back((now, current));
        }
    }

    /// One sync: what the replicas are to be, given the metric's value and target and the replicas there are (not 0: at
    /// 0 the HPA does nothing). The change, if any, is remembered.
    pub fn sync(&mut self, spec: &Spec, value: f64, target: f64, current: u32, now: Duration) -> Recommendation {
        self.start(current, now);
        let (min, max) = (spec.min_replicas.max(1), spec.max_replicas);
        let raw = desired(value, target, current, spec.tolerance);
        // Outside the bounds the HPA goes to the bound without looking at the metric.
        let replicas = if current > max {
            max
        } else if current < min {
            min
        } else {
            let stabilized = self.stabilize(&spec.behavior, current, raw, now);
            self.limit(&spec.behavior, current, stabilized, (min, max), now)
        };
        if replicas != current {
            self.events.push_back((now, i64::from(replicas) - i64::from(current)));
        }
        Recommendation { raw, replicas }
    }

    /// `stabilizeRecommendationWithBehaviors`: up to the lowest of the scale-up window, down to the highest of the
    /// scale-down window.
    fn stabilize(&mut self, behavior: &Behavior, current: u32, desired: u32, now: Duration) -> u32 {
        let (up, down) = (behavior.scale_up.stabilization_window, behavior.scale_down.stabilization_window);
        self.recommendations.retain(|(at, _)| is_within(*at, now, up.max(down)));
        let since = |window: Duration| {
            self.recommendations
                .iter()
                .filter(move |(at, _)| is_within(*at, now, window))
                .map(|(_, replicas)| *replicas)
        };
        let lowest = since(up).chain([desired]).min().unwrap_or(desired);
        let highest = since(down).chain([desired]).max().unwrap_or(desired);
        self.recommendations.push_back((now, desired));
        current.max(lowest).min(highest)
    }

    /// `convertDesiredReplicasWithBehaviorRate`: no further than the rules for this direction allow by now.
    fn limit(&mut self, behavior: &Behavior, current: u32, desired: u32, (min, max): (u32, u32), now: Duration) -> u32 {
        let periods = behavior.scale_up.policies.iter().chain(&behavior.scale_down.policies).map(ScalingPolicy::period);
        let longest = periods.max().unwrap_or_default();
        self.events.retain(|(at, _)| is_within(*at, now, longest));
        match desired.cmp(&current) {
            Ordering::Greater => desired.min(max).min(self.up_limit(&behavior.scale_up, current, now).max(current)),
            Ordering::Less => desired.max(min).max(self.down_limit(&behavior.scale_down, current, now).min(current)),
            Ordering::Equal => current,
        }
    }

    /// `calculateScaleUpLimitWithScalingRules`.
    fn up_limit(&self, rules: &Rules, current: u32, now: Duration) -> u32 {
        let proposals = rules.policies.iter().map(|policy| {
            let start = self.at_period_start(policy.period(), current, now);
            match *policy {
                ScalingPolicy::Pods { pods, .. } => start + i64::from(pods),
                ScalingPolicy::Percent { percent, .. } => {
                    (start as f64 * (1.0 + f64::from(percent) / 100.0)).ceil() as i64
                }
            }
        });
        let limit = match rules.select {
            Select::Disabled => None,
            Select::Max => proposals.max(),
            Select::Min => proposals.min(),
        };
        limit.map_or(current, to_replicas)
    }

    /// `calculateScaleDownLimitWithBehaviors`. The smallest change is the highest number.
    fn down_limit(&self, rules: &Rules, current: u32, now: Duration) -> u32 {
        let proposals = rules.policies.iter().map(|policy| {
            let start = self.at_period_start(policy.period(), current, now);
            match *policy {
                ScalingPolicy::Pods { pods, .. } => start - i64::from(pods),
                ScalingPolicy::Percent { percent, .. } => {
                    (start as f64 * (1.0 - f64::from(percent) / 100.0)).trunc() as i64
                }
            }
        });
        let limit = match rules.select {
            Select::Disabled => None,
            Select::Max => proposals.min(),
            Select::Min => proposals.max(),
        };
        limit.map_or(current, to_replicas)
    }

    /// The replicas at the start of the period, as far as the HPA itself changed them since.
    fn at_period_start(&self, period: Duration, current: u32, now: Duration) -> i64 {
        let changed: i64 =
            self.events.iter().filter(|(at, _)| is_within(*at, now, period)).map(|(_, change)| change).sum();
        i64::from(current) - changed
    }
}

/// `GetExternalPerPodMetricReplicas`: the quotient rounded up, unless the metric is as good as on target. Value and
/// target arrive as KEDA delivers them: in whole thousandths.
pub fn desired(value: f64, target: f64, current: u32, tolerance: f64) -> u32 {
    let (value, target) = (thousandths(value), thousandths(target));
    if target == 0.0 {
        return current;
    }
    let ratio = value / (target * f64::from(current));
    if ((1.0 - tolerance)..=(1.0 + tolerance)).contains(&ratio) {
        return current;
    }
    // `as` saturates, which is what a number beyond any replica count should do.
    (value / target).ceil() as u32
}

fn thousandths(number: f64) -> f64 {
    if number.is_finite() && number > 0.0 { (number * 1_000.0).round() } else { 0.0 }
}

fn to_replicas(number: i64) -> u32 {
    u32::try_from(number.max(0)).unwrap_or(u32::MAX)
}

/// Kubernetes counts what is strictly younger than the window.
fn is_within(at: Duration, now: Duration, window: Duration) -> bool {
    now.saturating_sub(at) < window
}

#[cfg(test)]
mod tests;
