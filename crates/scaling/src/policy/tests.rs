//! What must hold for every policy, now and later: these tests go through the list.

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::reading::{Counts, EntityStatus, Reading};

pub(super) fn reading(counts: Counts) -> Reading {
    Reading { at: Moment::default(), counts, status: EntityStatus::Active, requires_session: false }
}

pub(super) fn decide(policy: &dyn Policy, reading: Reading) -> Decision {
    let readings = [reading];
    let window = Window::new(&readings).unwrap();
    policy.decide(&window, reading.at)
}

pub(super) fn counts() -> impl Strategy<Value = Counts> {
    let count = || prop_oneof![Just(0), 0..1_000u64, any::<u64>()];
    (count(), count(), count(), count(), count()).prop_map(
        |(active, dead_letter, scheduled, transfer, transfer_dead_letter)| Counts {
            active,
            dead_letter,
            scheduled,
            transfer,
            transfer_dead_letter,
        },
    )
}

pub(super) fn base() -> impl Strategy<Value = Base> {
    (1..=1_000_000u32, prop_oneof![Just(0), any::<u64>()])
        .prop_map(|(count, activation)| Base::new(count, activation).unwrap())
}

/// Every policy with its defaults, and with every key set to its documented default.
fn all(base: Base) -> Vec<(&'static str, Box<dyn Policy>)> {
    POLICIES
        .iter()
        .flat_map(|entry| {
            let spelled: Settings =
                entry.keys.iter().map(|key| (key.name.to_owned(), key.default.to_owned())).collect();
            [Settings::new(), spelled].map(|settings| (entry.name, build_policy(entry.name, base, &settings).unwrap()))
        })
        .collect()
}

proptest! {
    #[test]
    fn replicas_are_finite_and_not_negative(base in base(), counts in counts()) {
        for (name, policy) in all(base) {
            let decision = decide(&*policy, reading(counts));
            prop_assert!(decision.replicas.is_finite() && decision.replicas >= 0.0, "{name}: {decision:?}");
            prop_assert!(!decision.why.is_empty() && !decision.why.contains('\n'), "{name}: {decision:?}");
        }
    }

    #[test]
    fn nothing_there_means_none_wanted(base in base()) {
        for (name, policy) in all(base) {
            let decision = decide(&*policy, reading(Counts::default()));
            prop_assert_eq!((decision.replicas, decision.active), (0.0, false), "{}", name);
        }
    }

    #[test]
    fn more_active_messages_never_mean_fewer_replicas(base in base(), counts in counts(), more in any::<u64>()) {
        for (name, policy) in all(base) {
            let few = decide(&*policy, reading(counts));
            let active = counts.active.saturating_add(more);
            let many = decide(&*policy, reading(Counts { active, ..counts }));
            prop_assert!(many.replicas >= few.replicas, "{name}: {few:?} {many:?}");
            prop_assert!(many.active >= few.active, "{name}: {few:?} {many:?}");
        }
    }

    #[test]
    fn what_gives_out_nothing_needs_no_replicas(base in base(), counts in counts()) {
        for status in [EntityStatus::Disabled, EntityStatus::ReceiveDisabled] {
            for (name, policy) in all(base) {
                let decision = decide(&*policy, Reading { status, ..reading(counts) });
                prop_assert_eq!((decision.replicas, decision.active), (0.0, false), "{}", name);
                prop_assert!(decision.why.contains(&format!("{status:?}")), "{}", decision.why);
            }
        }
    }

    #[test]
    fn no_text_of_a_key_makes_a_policy_panic(text in any::<String>()) {
        for entry in POLICIES {
            for key in entry.keys {
                let settings = Settings::from([(key.name.to_owned(), text.clone())]);
                if let Err(error) = build_policy(entry.name, Base::default(), &settings) {
                    prop_assert!(error.to_string().contains(key.name) && error.to_string().contains(key.allowed));
                }
            }
        }
    }
}

#[test]
fn every_file_is_in_the_list_and_names_differ() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/policy");
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|file| file != "tests.rs")
        .map(|file| file.trim_end_matches(".rs").replace('_', ""));
    let listed: BTreeSet<String> = POLICIES.iter().map(|entry| entry.name.to_lowercase()).collect();
    assert_eq!(files.collect::<BTreeSet<_>>(), listed);
    assert_eq!(listed.len(), POLICIES.len());
}

#[test]
fn names_and_keys_that_do_not_exist_are_refused_with_those_that_do() {
    let refuse = |name: &str, key: &str| {
        let settings = Settings::from([(key.to_owned(), "1".to_owned())]);
        build_policy(name, Base::default(), &settings).unwrap_err().to_string()
    };
    assert_eq!(refuse("fastest", "x"), "policy: \"fastest\" does not exist; allowed are messageCount, weighted");
    assert_eq!(refuse("messageCount", "weights"), "policy messageCount has no key \"weights\"; allowed are none");
    assert_eq!(refuse("weighted", "wieghts"), "policy weighted has no key \"wieghts\"; allowed are weights");
    assert_eq!(Base::new(0, 0), Err(BaseError));
}

#[test]
fn a_long_value_is_shortened_in_the_error() {
    let settings = Settings::from([("weights".to_owned(), "ä".repeat(10_000))]);
    let error = build_policy("weighted", Base::default(), &settings).unwrap_err();
    let PolicyError::Key(error) = error else { panic!("{error}") };
    assert_eq!(error.value.chars().count(), 101);
}
