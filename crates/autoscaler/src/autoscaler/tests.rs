//! Whole courses in simulated time, and what must hold over any course.

use std::cell::RefCell;

use proptest::prelude::*;

use super::*;
use crate::spec::{Behavior, ScalingPolicy};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Plays until `end`, with answers by time (`None` is an error); returns the changes with their second.
fn play(spec: Spec, end: u64, answers: impl Fn(u64) -> Option<Answers>) -> Vec<(u64, Change)> {
    let mut autoscaler = Autoscaler::new(spec, Duration::ZERO).unwrap();
    let mut changes = Vec::new();
    while autoscaler.next_due() <= seconds(end) {
        let now = autoscaler.next_due();
        while let Some(step) = autoscaler.due(now) {
            let change = autoscaler.answer(step, answers(now.as_secs()), now);
            changes.extend(change.map(|change| (now.as_secs(), change)));
        }
    }
    changes
}

fn replicas(changes: &[(u64, Change)]) -> Vec<(u64, u32)> {
    changes.iter().map(|(at, change)| (*at, change.to)).collect()
}

#[expect(clippy::unnecessary_wraps, reason = "tests mix it with errors, which are None")]
fn messages(count: u32) -> Option<Answers> {
    Some(Answers { target: 5.0, value: count.into(), active: count > 0 })
}

#[test]
fn a_burst_goes_from_zero_to_many_and_back_with_all_defaults() {
    let changes = play(Spec::default(), 700, |at| messages(if (40..100).contains(&at) { 60 } else { 0 }));
    assert_eq!(
        replicas(&changes),
        [
            (60, 1),  // KEDA, at the first poll that sees it
            (75, 5),  // the HPA, four more
            (90, 10), // twice as many
            // At 105 the metric is 0 but 12 was recommended within 300 s: up to what that still asks for.
            (390, 0), // KEDA, at the poll 300 s after the last active one, at 90; the HPA would have gone to 1
        ]
    );
    assert_eq!(changes[0].1.by, Actor::Keda);
    assert_eq!(changes[1].1, Change { from: 1, to: 5, by: Actor::Hpa, why: "60 / 5 asks for 12".to_owned() });
    assert_eq!(changes[3].1, Change { from: 10, to: 0, by: Actor::Keda, why: "inactive for 300 s".to_owned() });
}

#[test]
fn zero_comes_at_a_poll_from_any_number_of_replicas() {
    let spec = Spec { cooldown_period: seconds(20), polling_interval: seconds(10), ..Spec::default() };
    let changes = play(spec, 200, |at| messages(if at < 40 { 50 } else { 0 }));
    // Scale-down stabilization (300 s) holds the HPA at 10; KEDA does not care.
    assert_eq!(replicas(&changes), [(0, 1), (15, 5), (30, 10), (50, 0)]);
}

#[test]
fn errors_hold_the_replicas_and_do_not_count_as_activity() {
    let spec = Spec { cooldown_period: seconds(60), ..Spec::default() };
    let changes =
        play(spec, 600, |at| if (40..400).contains(&at) { None } else { messages(if at < 40 { 20 } else { 0 }) });
    // Held at 4 until answers come again; then the old recommendations are forgotten, and the cooldown is long over.
    assert_eq!(replicas(&changes), [(0, 1), (15, 4), (405, 1), (420, 0)]);
}

#[test]
fn a_push_wakes_at_once_and_false_does_nothing() {
    let mut autoscaler = Autoscaler::new(Spec::default(), Duration::ZERO).unwrap();
    assert_eq!(autoscaler.push(false, seconds(1)), None);
    let change = autoscaler.push(true, seconds(2)).unwrap();
    assert_eq!((change.from, change.to, change.by), (0, 1, Actor::Keda));
    assert_eq!(autoscaler.push(true, seconds(3)), None);
    assert_eq!(autoscaler.push(false, seconds(4)), None);
    assert_eq!(autoscaler.replicas(), 1);
}

#[test]
fn calls_come_when_a_cluster_makes_them() {
    let seen = RefCell::new(Vec::new());
    play(Spec { cooldown_period: seconds(30), ..Spec::default() }, 90, |at| {
        seen.borrow_mut().push(at);
        messages(u32::from(at < 40))
    });
    // Polls at 0, 30, 60, 90; syncs at 15, 30, 45 while there are replicas. The poll at 60 comes before the sync at 60.
    assert_eq!(seen.into_inner(), [0, 15, 30, 30, 45, 60, 90]);
}

#[test]
fn the_target_of_the_first_answer_stays() {
    let changes = play(Spec::default(), 40, |at| {
        Some(Answers { target: if at == 0 { 5.0 } else { 1.0 }, value: 15.0, active: true })
    });
    assert_eq!(replicas(&changes), [(0, 1), (15, 3)]);
}

#[test]
fn a_minimum_is_kept_without_activity() {
    let changes = play(Spec { min_replicas: 2, ..Spec::default() }, 1_000, |_| messages(0));
    assert_eq!(changes, []);
}

#[test]
fn a_step_held_up_is_not_made_up_for() {
    let mut autoscaler = Autoscaler::new(Spec::default(), Duration::ZERO).unwrap();
    assert_eq!(autoscaler.due(seconds(95)), Some(Step::Poll));
    autoscaler.answer(Step::Poll, messages(0), seconds(95));
    assert_eq!(autoscaler.due(seconds(95)), None);
    assert_eq!(autoscaler.next_due(), seconds(105), "the sync; the poll is at 120");
}

#[test]
fn neither_late_steps_nor_the_end_of_time_make_it_panic_or_hurry() {
    let spec = Spec { polling_interval: Duration::from_nanos(1), ..Spec::default() };
    let mut autoscaler = Autoscaler::new(spec, Duration::ZERO).unwrap();
    // A step held up is not made up for, however short its interval is.
    assert_eq!(autoscaler.due(seconds(100)), Some(Step::Poll));
    autoscaler.answer(Step::Poll, messages(0), seconds(100));
    assert!(autoscaler.next_due() > seconds(100));
    assert_eq!(autoscaler.due(seconds(100)), None);
    autoscaler.answer(Step::Poll, messages(1), Duration::MAX);
    autoscaler.answer(Step::Sync, messages(1), Duration::MAX);
    assert_eq!(autoscaler.next_due(), Duration::MAX);
}

/// The HPA takes the replicas that it finds at its first look for a recommendation, even at 0 and on an error.
#[test]
fn a_scale_up_window_also_holds_right_after_the_start() {
    let mut spec = Spec { max_replicas: 4, ..Spec::default() };
    spec.behavior.scale_up.stabilization_window = seconds(60);
    // At 15 the HPA finds 0 replicas. Until 75 its lowest recommendation is 0, so that the 1 of KEDA stays.
    assert_eq!(replicas(&play(spec.clone(), 100, |at| messages(if at < 30 { 0 } else { 20 }))), [(30, 1), (75, 4)]);
    let spec = Spec { min_replicas: 1, ..spec };
    let changes = play(spec, 100, |at| if at == 15 { None } else { messages(20) });
    assert_eq!(replicas(&changes), [(75, 4)]);
}

#[test]
fn a_spec_that_kubernetes_would_refuse_is_refused() {
    let refuse = |spec: Spec| Autoscaler::new(spec, Duration::ZERO).unwrap_err();
    assert_eq!(refuse(Spec { max_replicas: 0, ..Spec::default() }), SpecError::MaxReplicas { min: 0, max: 0 });
    let spec = Spec { min_replicas: 5, max_replicas: 4, ..Spec::default() };
    assert_eq!(
        refuse(spec).to_string(),
        "maxReplicaCount: 4 is not allowed; allowed is a number from 1 and not below minReplicaCount (5)"
    );
    let spec = Spec { polling_interval: Duration::ZERO, ..Spec::default() };
    assert_eq!(refuse(spec), SpecError::Zero("pollingInterval"));
    let spec = Spec { sync_interval: Duration::MAX, ..Spec::default() };
    assert!(matches!(refuse(spec), SpecError::TooLong { field: "syncPeriod", .. }));
    let spec = Spec { tolerance: -0.1, ..Spec::default() };
    assert_eq!(refuse(spec).to_string(), "tolerance: -0.1 is not allowed; allowed is a number from 0");
    let with = |change: fn(&mut Behavior)| {
        let mut spec = Spec::default();
        change(&mut spec.behavior);
        refuse(spec).to_string()
    };
    assert_eq!(
        with(|behavior| behavior.scale_down.policies.clear()),
        "scaleDown.policies: empty is not allowed; allowed is at least one policy"
    );
    assert_eq!(
        with(|behavior| behavior.scale_up.stabilization_window = seconds(3_601)),
        "scaleUp.stabilizationWindowSeconds: 3601s is not allowed; allowed is at most 3600s"
    );
    assert_eq!(
        with(|behavior| behavior.scale_up.policies[0] = ScalingPolicy::Pods { pods: 0, period: seconds(15) }),
        "scaleUp.policies.value: 0 is not allowed; allowed is a number from 1"
    );
    assert_eq!(
        with(|behavior| behavior.scale_down.policies[0] = ScalingPolicy::Percent { percent: 1, period: seconds(1_801) }),
        "scaleDown.policies.periodSeconds: 1801s is not allowed; allowed is at most 1800s"
    );
    assert_eq!(
        with(|behavior| behavior.scale_down.policies[0] = ScalingPolicy::Percent { percent: 1, period: Duration::ZERO }),
        "scaleDown.policies.periodSeconds: 0 is not allowed; allowed is a duration above 0"
    );
}

/// Something that happens to an autoscaler.
#[derive(Clone, Copy, Debug)]
enum Happening {
    /// The next step is due, and this many messages are seen (or none is, for an error).
    Step(Option<u32>),
    /// The push stream says something, so many seconds before the next step.
    Push(bool, u64),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        2 => prop::option::weighted(0.8, 0..400u32).prop_map(Happening::Step),
        3 => Just(Happening::Step(Some(0))),
        1 => (any::<bool>(), 0..5u64).prop_map(|(active, before)| Happening::Push(active, before)),
    ]
}

proptest! {
    /// Over any course: within the bounds; never a change on an error; from zero by KEDA alone, to the minimum; to zero
    /// exactly at the polls that find nothing a cooldown period or more after the last activity, and nowhere else.
    #[test]
    fn rules_hold_over_any_course(
        course in prop::collection::vec(happening(), 1..80),
        min in 0..3u32,
        max in 3..30u32,
        polling in 5..40u64,
        cooldown in 0..200u64,
    ) {
        let spec = Spec {
            polling_interval: seconds(polling),
            cooldown_period: seconds(cooldown),
            min_replicas: min,
            max_replicas: max,
            ..Spec::default()
        };
        let mut autoscaler = Autoscaler::new(spec, Duration::ZERO).unwrap();
        let (mut last_active, mut clock) = (None, Duration::ZERO);
        for happening in course {
            let before = autoscaler.replicas();
            let change = match happening {
                Happening::Push(active, early) => {
                    clock = clock.max(autoscaler.next_due().saturating_sub(seconds(early)));
                    let change = autoscaler.push(active, clock);
                    if active {
                        last_active = Some(clock);
                    }
                    prop_assert_eq!(change.is_some(), active && before == 0);
                    change
                }
                Happening::Step(count) => {
                    clock = clock.max(autoscaler.next_due());
                    let Some(step) = autoscaler.due(clock) else { continue };
                    let answers = count.and_then(messages);
                    let active = answers.is_some_and(|answers| answers.active);
                    if step == Step::Poll && active {
                        last_active = Some(clock);
                    }
                    let change = autoscaler.answer(step, answers, clock);
                    prop_assert!(answers.is_some() || change.is_none(), "changed on an error: {change:?}");
                    let cold = last_active.is_none_or(|at| at + seconds(cooldown) <= clock);
                    let ends = step == Step::Poll && answers.is_some() && !active && min == 0 && cold;
                    prop_assert_eq!(autoscaler.replicas() == 0, ends || (before == 0 && !(step == Step::Poll && active)));
                    change
                }
            };
            prop_assert!((min..=max).contains(&autoscaler.replicas()));
            if let Some(change) = change {
                prop_assert_eq!((change.from, change.to), (before, autoscaler.replicas()));
                prop_assert_ne!(change.from, change.to);
                if change.from == 0 {
                    prop_assert_eq!((change.by, change.to), (Actor::Keda, 1));
                }
            } else {
                prop_assert_eq!(autoscaler.replicas(), before);
            }
        }
    }
}
