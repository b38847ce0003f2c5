//! A second HPA, slow and obvious: it forgets nothing, works in whole numbers and looks through its whole past each time.
//!
//! Written from Kubernetes' description of the algorithm (docs: "Horizontal Pod Autoscaling", "Algorithm details" and
//! "Configurable scaling behavior"), not from `hpa.rs`. Percentages are those that floating point holds exactly, so that
//! whole numbers must give the same; the tolerance is 10 %.

use std::time::Duration;

use proptest::prelude::*;

use super::super::Hpa;
use super::seconds;
use crate::spec::{Behavior, Rules, ScalingPolicy, Select, Spec};

/// A sync that has been.
struct Past {
    at: Duration,
    /// What the metric asked for; the replicas themselves for the first look; nothing if out of bounds.
    wanted: Option<i64>,
    change: i64,
}

#[derive(Default)]
struct Oracle {
    past: Vec<Past>,
}

impl Oracle {
    fn sync(&mut self, spec: &Spec, thousandths: i64, target: i64, current: i64, now: Duration) -> i64 {
        if self.past.is_empty() {
            self.past.push(Past { at: now, wanted: Some(current), change: 0 });
        }
        let (low, high) = (i64::from(spec.min_replicas.max(1)), i64::from(spec.max_replicas));
        let (wanted, result) = if (low..=high).contains(&current) {
            let wanted = wanted(thousandths, target * 1_000, current);
            (Some(wanted), self.bounded(spec, wanted, current, now).clamp(low, high))
        } else {
            (None, current.clamp(low, high))
        };
        self.past.push(Past { at: now, wanted, change: result - current });
        result
    }

    fn bounded(&self, spec: &Spec, wanted: i64, current: i64, now: Duration) -> i64 {
        let Behavior { scale_up, scale_down } = &spec.behavior;
        let lowest = self.wanted_within(scale_up.stabilization_window, now).fold(wanted, i64::min);
        let highest = self.wanted_within(scale_down.stabilization_window, now).fold(wanted, i64::max);
        if lowest > current {
            lowest.min(self.limit(scale_up, current, now, 1).max(current))
        } else if highest < current {
            highest.max(self.limit(scale_down, current, now, -1).min(current))
        } else {
            current
        }
    }

    fn wanted_within(&self, window: Duration, now: Duration) -> impl Iterator<Item = i64> {
        self.past.iter().filter(move |past| past.at + window > now).filter_map(|past| past.wanted)
    }

    /// How far the rules for one direction (1 up, -1 down) let the replicas go.
    fn limit(&self, rules: &Rules, current: i64, now: Duration, direction: i64) -> i64 {
        let reach = |policy: &ScalingPolicy| {
            let recent = self.past.iter().filter(|past| past.at + policy.period() > now);
            let start = current - recent.map(|past| past.change).sum::<i64>();
            match *policy {
                ScalingPolicy::Pods { pods, .. } => start + direction * i64::from(pods),
                ScalingPolicy::Percent { percent, .. } => {
                    let hundredths = start * (100 + direction * i64::from(percent));
                    // Up is rounded up, down towards zero.
                    if direction > 0 { -(-hundredths).div_euclid(100) } else { hundredths / 100 }
                }
            }
        };
        let mut reaches: Vec<i64> = rules.policies.iter().map(reach).collect();
        reaches.sort_by_key(|reach| reach * direction);
        match rules.select {
            Select::Disabled => current,
            Select::Min => reaches[0],
            Select::Max => reaches[reaches.len() - 1],
        }
    }
}

/// The quotient rounded up, or what there is if the value is within a tenth of what that would be for.
fn wanted(value: i64, target: i64, current: i64) -> i64 {
    let on_target = target * current;
    if (value - on_target).abs() * 10 <= on_target { current } else { (value + target - 1) / target }
}

fn rules() -> impl Strategy<Value = Rules> {
    let policy = (any::<bool>(), 1..8u32, prop::sample::select(vec![25, 50, 75, 100]), 1..90u64).prop_map(
        |(by_pods, pods, percent, period)| {
            let period = seconds(period);
            if by_pods { ScalingPolicy::Pods { pods, period } } else { ScalingPolicy::Percent { percent, period } }
        },
    );
    let select = prop::sample::select(vec![Select::Max, Select::Max, Select::Min, Select::Disabled]);
    (prop_oneof![Just(0), 1..120u64], prop::collection::vec(policy, 1..4), select)
        .prop_map(|(window, policies, select)| Rules { stabilization_window: seconds(window), policies, select })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]
    /// Over any course, with replicas that somebody else changes now and then (KEDA, a person), both say the same.
    #[test]
    fn any_course_is_as_the_oracle_says(
        scale_up in rules(),
        scale_down in rules(),
        min in 0..4u32,
        above in 1..60u32,
        target in 1..10u32,
        course in prop::collection::vec((1..40u64, 0..400_000u32, prop::option::weighted(0.05, 1..80u32)), 1..60),
    ) {
        let spec = Spec {
            min_replicas: min,
            max_replicas: min + above,
            behavior: Behavior { scale_up, scale_down },
            ..Spec::default()
        };
        spec.validate().unwrap();
        let (mut hpa, mut oracle) = (Hpa::default(), Oracle::default());
        let (mut now, mut current) = (Duration::ZERO, min.max(1));
        for (pause, thousandths, other) in course {
            now += seconds(pause);
            current = other.unwrap_or(current);
            let expected = oracle.sync(&spec, thousandths.into(), target.into(), current.into(), now);
            let got = hpa.sync(&spec, f64::from(thousandths) / 1_000.0, target.into(), current, now).replicas;
            prop_assert_eq!(i64::from(got), expected, "from {} at {:?}", current, now);
            current = got;
        }
    }
}
