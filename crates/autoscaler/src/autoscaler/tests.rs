//! Whole courses in simulated time, and what must hold over any course.

use std::cell::RefCell;

use proptest::prelude::*;

use super::*;

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
            (390, 1), // the last recommendation of 12 was at 90
            (420, 0), // KEDA, at the first poll more than 300 s after the last active one, at 90
        ]
    );
    assert_eq!(changes[0].1.by, Actor::Keda);
    assert_eq!(changes[1].1, Change { from: 1, to: 5, by: Actor::Hpa, why: "60 / 5 asks for 12".to_owned() });
    assert_eq!(changes[4].1.why, "inactive for 330 s");
}

#[test]
fn zero_comes_at_a_poll_from_any_number_of_replicas() {
    let spec = Spec { cooldown_period: seconds(20), polling_interval: seconds(10), ..Spec::default() };
    let changes = play(spec, 200, |at| messages(if at < 40 { 50 } else { 0 }));
    // Scale-down stabilization (300 s) holds the HPA at 10; KEDA does not care.
    assert_eq!(replicas(&changes), [(0, 1), (15, 5), (30, 10), (60, 0)]);
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
    // Polls at 0, 30, 60, 90; syncs at 15, 30, … while there are replicas. At 60 the cooldown is just not over.
    assert_eq!(seen.into_inner(), [0, 15, 30, 30, 45, 60, 60, 75, 90]);
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
fn a_spec_that_kubernetes_would_refuse_is_refused() {
    let refuse = |spec: Spec| Autoscaler::new(spec, Duration::ZERO).unwrap_err();
    assert_eq!(refuse(Spec { max_replicas: 0, ..Spec::default() }), SpecError::MaxReplicas { min: 0, max: 0 });
    let spec = Spec { min_replicas: 5, max_replicas: 4, ..Spec::default() };
    assert_eq!(
        refuse(spec).to_string(),
        "maxReplicaCount: 4 is not allowed; allowed is a number from 1 and not below minReplicaCount (5)"
    );
    let spec = Spec { polling_interval: Duration::ZERO, ..Spec::default() };
    assert_eq!(refuse(spec), SpecError::ZeroInterval("pollingInterval"));
    let mut spec = Spec::default();
    spec.behavior.scale_down.policies.clear();
    assert_eq!(refuse(spec), SpecError::NoPolicies("scaleDown"));
}

proptest! {
    /// Over any course of answers: within the bounds, to zero only at a poll and never within the cooldown after
    /// activity, never a change on an error.
    #[test]
    fn rules_hold_over_any_course(
        course in prop::collection::vec(prop::option::of(0..400u32), 1..80),
        min in 0..3u32,
        max in 3..30u32,
        polling in 1..40u64,
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
        let mut last_active = None;
        for count in course {
            let now = autoscaler.next_due();
            let Some(step) = autoscaler.due(now) else { continue };
            let answers = count.and_then(messages);
            if step == Step::Poll && answers.is_some_and(|answers| answers.active) {
                last_active = Some(now);
            }
            let change = autoscaler.answer(step, answers, now);
            prop_assert!((min..=max).contains(&autoscaler.replicas()));
            if let Some(change) = change {
                prop_assert!(answers.is_some(), "changed on an error: {change:?}");
                prop_assert_eq!(change.to, autoscaler.replicas());
                if change.to == 0 {
                    prop_assert_eq!(step, Step::Poll);
                    prop_assert!(last_active.is_none_or(|at| now.saturating_sub(at) > seconds(cooldown)));
                }
                if change.from == 0 {
                    prop_assert_eq!((change.by, change.to), (Actor::Keda, 1));
                }
            }
        }
    }
}
