//! What is remembered, for how long, and how much of it.

use scaling::Decision;

use super::*;
use crate::readings::Seen;

fn reference(name: &str, metadata: &[(&str, &str)]) -> ScaledObjectRef {
    let scaler_metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    ScaledObjectRef { name: name.to_owned(), namespace: "demo".to_owned(), scaler_metadata }
}

fn orders(name: &str) -> ScaledObjectRef {
    reference(name, &[("queueName", "orders"), ("connectionFromEnv", "Endpoint=sb://a;SharedAccessKey=PLANTED")])
}

fn kept(triggers: &KnownTriggers) -> usize {
    let generations = triggers.0.generations.read().expect("no panic before");
    generations.young.len() + generations.old.len()
}

#[tokio::test(start_paused = true)]
async fn a_reference_is_parsed_once_and_another_secret_is_another_entry() {
    let triggers = KnownTriggers::default();
    let first = triggers.get(&orders("receiver"));
    assert!(Arc::ptr_eq(&first, &triggers.get(&orders("receiver"))));
    let mut rotated = orders("receiver");
    rotated.scaler_metadata.insert("connectionFromEnv".to_owned(), "Endpoint=sb://b".to_owned());
    let rotated = triggers.get(&rotated);
    assert!(!Arc::ptr_eq(&first, &rotated));
    assert_eq!(first.id(), rotated.id(), "but it is the same trigger");
    assert!(triggers.get(&reference("receiver", &[])).trigger().is_err(), "unsound metadata is remembered, too");
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_about_stays_and_the_rest_is_forgotten_within_two_hours() {
    let triggers = KnownTriggers::default();
    let busy = triggers.get(&orders("busy"));
    triggers.get(&orders("idle"));
    for _ in 0..3 {
        tokio::time::advance(GENERATION).await;
        triggers.tidy();
        assert!(Arc::ptr_eq(&busy, &triggers.get(&orders("busy"))));
    }
    assert_eq!(kept(&triggers), 1);
}

#[tokio::test(start_paused = true)]
async fn endless_names_and_endless_metadata_keep_to_the_bounds() {
    let triggers = KnownTriggers::default();
    let long = "x".repeat(12 * 1024);
    let mut pushed_out = 0;
    let first = triggers.get(&orders("first"));
    for number in 0..12_000 {
        triggers.get(&reference(&format!("receiver-{number}"), &[("queueName", "orders"), ("unknown", &long)]));
        let generations = triggers.0.generations.read().expect("no panic before");
        assert!(generations.weight <= MAX_WEIGHT);
        pushed_out += usize::from(generations.young.len() == 1);
    }
    assert!(pushed_out >= 2, "more than two generations were filled");
    assert!(!Arc::ptr_eq(&first, &triggers.get(&orders("first"))), "it was pushed out");
    let before = kept(&triggers);
    let endless = "x".repeat(MAX_KEPT_BYTES);
    assert!(triggers.get(&reference("receiver", &[("queueName", "orders"), ("unknown", &endless)])).trigger().is_ok());
    assert_eq!(kept(&triggers), before, "what is too large is not kept");
}

#[tokio::test(start_paused = true)]
async fn is_active_is_told_once_and_soon_what_get_metrics_was_told() {
    let triggers = KnownTriggers::default();
    let known = triggers.get(&orders("receiver"));
    let judged = |active| Judged {
        decision: Decision { replicas: 1.0, active, why: "a test".to_owned() },
        seen: Seen::of_test(),
    };
    assert_eq!(known.active_as_told(), None, "nothing was told");
    known.told_metrics(judged(true));
    assert_eq!((known.active_as_told(), known.active_as_told()), (Some(true), None), "good for one call");
    known.told_metrics(judged(true));
    tokio::time::advance(PAIR_WINDOW).await;
    assert_eq!(known.active_as_told(), None, "too late");
    known.told_metrics(judged(true));
    known.told_stream(judged(false));
    assert_eq!(known.active_as_told(), Some(true), "what a stream was told between is another matter");
    known.told_metrics(judged(true));
    known.refused(&Status::unavailable("a later call failed"));
    assert_eq!(known.active_as_told(), None, "what was refused since is not told otherwise");
    known.told_activity(judged(false));
    assert_eq!(known.active_as_told(), None, "it is no GetMetrics");
}

#[tokio::test(start_paused = true)]
async fn what_is_remembered_of_keys_that_mean_nothing_is_bounded() {
    let keys: Vec<_> = (0..10_000).map(|number| format!("{number}{}", "x".repeat(1_000))).collect();
    let metadata: Vec<_> = [("queueName", "orders")].into_iter().chain(keys.iter().map(|key| (&**key, ""))).collect();
    let known = KnownTriggers::default().get(&reference("receiver", &metadata));
    let warnings = &known.trigger().expect("it is sound").warnings;
    let bytes: usize = warnings.iter().map(|warning| warning.key().len()).sum();
    assert!((1..=MAX_WARNINGS).contains(&warnings.len()) && bytes < MAX_WARNINGS * 100, "{warnings:?}");
}

#[tokio::test(start_paused = true)]
async fn warnings_about_metadata_are_a_few_lines_however_many_triggers_have_them() {
    let triggers = KnownTriggers::default();
    for number in 0..1_000 {
        let metadata = [("queueName", "orders"), ("messagecount", "7"), ("queue_name", "orders")];
        for _ in 0..2 {
            triggers.get(&reference(&format!("receiver-{number}"), &metadata));
        }
    }
    assert_eq!(triggers.0.warnings.take_unlogged(), 1_990, "ten were logged, and none twice");
}
