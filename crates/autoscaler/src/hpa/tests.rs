//! The arithmetic by tables, by properties, and by an oracle that plays any course slowly and obviously.

mod oracle;

use proptest::prelude::*;

use super::*;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// No window and no limit on the rate that could be felt.
fn free() -> Spec {
    let free = Rules {
        stabilization_window: Duration::ZERO,
        policies: vec![ScalingPolicy::Pods { pods: 1_000_000, period: seconds(1) }],
        select: Select::Max,
    };
    Spec { behavior: Behavior { scale_up: free.clone(), scale_down: free }, ..Spec::default() }
}

#[test]
fn the_quotient_is_rounded_up_except_within_the_tolerance() {
    for (value, target, current, expected) in [
        (0.0, 5.0, 1, 0),
        (1.0, 5.0, 3, 1),
        (5.0, 5.0, 3, 1),
        (5.001, 5.0, 3, 2),
        (100.0, 5.0, 1, 20),
        // 10 % and no more: one more on ten replicas is not acted on, and neither is one less.
        (55.0, 5.0, 10, 10),
        (55.001, 5.0, 10, 12),
        (45.0, 5.0, 10, 10),
        (44.999, 5.0, 10, 9),
        // 10 / (1/3) as KEDA rounds it is 10000 / 333 thousandths.
        (10.0, 1.0 / 3.0, 1, 31),
        (f64::NAN, 5.0, 3, 0),
        (-1.0, 5.0, 3, 0),
        (f64::MAX, 5.0, 3, u32::MAX),
        (7.0, 0.0, 3, 3),
    ] {
        assert_eq!(desired(value, target, current, 0.1), expected, "{value} / {target} at {current}");
    }
}

#[test]
fn default_behaviour_doubles_or_adds_four_every_fifteen_seconds() {
    let (spec, mut hpa) = (Spec::default(), Hpa::default());
    let mut current = 1;
    let mut steps = Vec::new();
    for sync in 0..8 {
        current = hpa.sync(&spec, 500.0, 5.0, current, seconds(15 * sync)).replicas;
        steps.push(current);
    }
    assert_eq!(steps, [5, 10, 20, 40, 80, 100, 100, 100]);
}

#[test]
fn limits_count_the_whole_period_not_the_sync() {
    let (spec, mut hpa) = (Spec::default(), Hpa::default());
    assert_eq!(hpa.sync(&spec, 500.0, 5.0, 1, seconds(0)).replicas, 5);
    // Five seconds later the fifteen are not over: nothing more is allowed.
    assert_eq!(hpa.sync(&spec, 500.0, 5.0, 5, seconds(5)).replicas, 5);
    assert_eq!(hpa.sync(&spec, 500.0, 5.0, 5, seconds(15)).replicas, 10);
}

#[test]
fn scaling_down_waits_for_the_highest_of_the_window() {
    let (spec, mut hpa) = (Spec::default(), Hpa::default());
    assert_eq!(hpa.sync(&spec, 50.0, 5.0, 10, seconds(0)).replicas, 10);
    for at in [15, 150, 299] {
        assert_eq!(hpa.sync(&spec, 5.0, 5.0, 10, seconds(at)), Recommendation { raw: 1, replicas: 10 }, "{at} s");
    }
    assert_eq!(hpa.sync(&spec, 5.0, 5.0, 10, seconds(300)).replicas, 1);
}

#[test]
fn scaling_up_waits_for_the_lowest_of_its_window() {
    let mut spec = free();
    spec.behavior.scale_up.stabilization_window = seconds(60);
    let mut hpa = Hpa::default();
    assert_eq!(hpa.sync(&spec, 10.0, 5.0, 2, seconds(0)).replicas, 2);
    assert_eq!(hpa.sync(&spec, 50.0, 5.0, 2, seconds(30)).replicas, 2);
    assert_eq!(hpa.sync(&spec, 40.0, 5.0, 2, seconds(60)).replicas, 8, "the lowest since second 0, which is too old");
}

#[test]
fn the_choice_of_the_policy_is_by_the_change_it_allows() {
    let policies = vec![
        ScalingPolicy::Pods { pods: 2, period: seconds(60) },
        ScalingPolicy::Percent { percent: 50, period: seconds(60) },
    ];
    let go = |select: Select, current: u32, value: f64| {
        let rules = Rules { stabilization_window: Duration::ZERO, policies: policies.clone(), select };
        let spec = Spec { behavior: Behavior { scale_up: rules.clone(), scale_down: rules }, ..Spec::default() };
        Hpa::default().sync(&spec, value, 1.0, current, Duration::ZERO).replicas
    };
    assert_eq!([go(Select::Max, 10, 99.0), go(Select::Min, 10, 99.0), go(Select::Disabled, 10, 99.0)], [15, 12, 10]);
    assert_eq!([go(Select::Max, 10, 1.0), go(Select::Min, 10, 1.0), go(Select::Disabled, 10, 1.0)], [5, 8, 10]);
    // Up is rounded up, down is cut off.
    assert_eq!([go(Select::Max, 5, 99.0), go(Select::Max, 5, 1.0)], [8, 2]);
}

#[test]
fn bounds_come_before_the_metric() {
    let spec = Spec { min_replicas: 2, max_replicas: 4, ..free() };
    let mut hpa = Hpa::default();
    assert_eq!(hpa.sync(&spec, 100.0, 5.0, 9, Duration::ZERO).replicas, 4);
    assert_eq!(hpa.sync(&spec, 100.0, 5.0, 1, Duration::ZERO).replicas, 2);
    assert_eq!(hpa.sync(&spec, 0.0, 5.0, 4, Duration::ZERO).replicas, 2);
    assert_eq!(hpa.sync(&spec, 100.0, 5.0, 2, Duration::ZERO).replicas, 4);
}

#[test]
fn at_least_one_replica_stays_whatever_the_minimum() {
    assert_eq!(Hpa::default().sync(&free(), 0.0, 5.0, 3, Duration::ZERO).replicas, 1);
}

/// Kubernetes computes in floating point: 100 × 1.1 is a little over 110 and rounded up.
#[test]
fn percentages_have_kubernetes_floating_point() {
    let mut spec = free();
    spec.max_replicas = 1_000;
    spec.behavior.scale_up.policies = vec![ScalingPolicy::Percent { percent: 10, period: seconds(60) }];
    assert_eq!(Hpa::default().sync(&spec, 999.0, 1.0, 100, Duration::ZERO).replicas, 111);
}

proptest! {
    /// More messages never mean fewer replicas, whatever the tolerance makes of them.
    #[test]
    fn a_higher_value_never_gives_fewer(value in 0..5_000u32, more in 0..5_000u32, current in 1..100u32, target in 1..50u32) {
        let go = |value: u32| Hpa::default().sync(&Spec::default(), value.into(), target.into(), current, Duration::ZERO);
        prop_assert!(go(value + more).replicas >= go(value).replicas);
    }

    /// Without windows and limits there is nothing but the quotient and the bounds.
    #[test]
    fn without_behaviour_it_is_the_clamped_quotient(
        count in 0..10_000u32,
        target in 1..100u32,
        current in 1..200u32,
        min in 0..5u32,
        above in 1..200u32,
    ) {
        let spec = Spec { min_replicas: min, max_replicas: min + above, tolerance: 0.0, ..free() };
        let got = Hpa::default().sync(&spec, count.into(), target.into(), current, Duration::ZERO).replicas;
        let (low, high) = (min.max(1), min + above);
        let quotient = count.div_ceil(target);
        let expected = if current > high { high } else if current < low { low } else { quotient.clamp(low, high) };
        prop_assert_eq!(got, expected);
    }

    /// Whatever the metric does, the replicas stay within the bounds and change no faster than the defaults allow.
    #[test]
    fn never_beyond_bounds_nor_faster_than_allowed(
        values in prop::collection::vec((0..5_000u32, 1..40u64), 1..60),
        max in 1..300u32,
    ) {
        let spec = Spec { max_replicas: max, ..Spec::default() };
        let (mut hpa, mut now, mut current) = (Hpa::default(), Duration::ZERO, 1);
        let mut history = vec![(now, current)];
        for (value, pause) in values {
            now += seconds(pause);
            let next = hpa.sync(&spec, value.into(), 5.0, current, now).replicas;
            prop_assert!((1..=max).contains(&next));
            // Among the replicas of the last fifteen seconds, and those held when they began, the lowest.
            let start = now.saturating_sub(seconds(15));
            let held = history.iter().rev().find(|(at, _)| *at <= start).map(|(_, replicas)| *replicas);
            let lowest = history.iter().filter(|(at, _)| *at > start).map(|(_, replicas)| *replicas).chain(held).min();
            let lowest = lowest.unwrap_or(current);
            // From the period's start at most doubled, or four more; scale-downs in between give back room.
            let highest = history.iter().filter(|(at, _)| *at > start).map(|(_, replicas)| *replicas).chain(held).max();
            let room = highest.unwrap_or(current).max(lowest);
            prop_assert!(next <= (room * 2).max(room + 4), "{history:?} then {next}");
            current = next;
            history.push((now, current));
        }
    }
}
