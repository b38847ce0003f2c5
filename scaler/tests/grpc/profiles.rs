//! What the config file gives triggers: policies by name, swapped while the scaler runs and seen at the very next call, the
//! specification unmoved; and bounds for their own wishes.

use std::path::Path;
use std::time::Duration;

use futures_util::FutureExt as _;
use scaler::config::{Config, ConfigHandle, reload};
use testbench::replace;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::support::{Scaler, assert_refused, broker_with, eventually, send, trigger};

const ONE: &str = "profiles: {gold: {policy: weighted, weights: 'active=1'}}";
const TRIPLE: &str = "profiles: {gold: {policy: weighted, weights: 'active=3'}}";

fn follow(path: &Path, handle: &ConfigHandle, shutdown: &CancellationToken) {
    let (interval, shutdown) = (Duration::from_millis(40), shutdown.clone());
    tokio::spawn(reload::follow(path.to_owned(), handle.clone(), interval, false, None, shutdown));
}

#[tokio::test]
async fn a_profile_swapped_while_running_counts_from_the_next_call_on() {
    let broker = broker_with(&["orders"]).await;
    send(broker.connection_string(), "orders", 10).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("scaler.yaml");
    replace(&file, format!("cacheTtlSeconds: 300\n{ONE}"));
    let scaler = Scaler::start(&format!("cacheTtlSeconds: 300\n{ONE}")).await;
    follow(&file, &scaler.config, &scaler.shutdown);
    let trigger = trigger(broker.connection_string(), &[("queueName", "orders"), ("policyProfile", "gold")]);
    let specification =
        scaler.client.clone().get_metric_spec(trigger.clone()).await.expect("sound metadata").into_inner();
    assert_eq!(scaler.metric(&trigger).await.expect("the queue can be read").metric_value, 10);

    replace(&file, format!("cacheTtlSeconds: 300\n{TRIPLE}"));
    let swapped = Config::parse(&format!("cacheTtlSeconds: 300\n{TRIPLE}")).expect("a good file");
    eventually("the new file to be in force", || {
        std::future::ready((*scaler.config.snapshot() == swapped).then_some(()))
    })
    .await;
    assert_eq!(scaler.metric(&trigger).await.expect("the queue can be read").metric_value, 30);
    assert_eq!(scaler.reads(), 1, "a new policy needs no new reading");
    let after = scaler.client.clone().get_metric_spec(trigger).await.expect("sound metadata").into_inner();
    assert_eq!(after, specification, "the HPA's target does not move");
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_a_good_one_after_it_counts() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("scaler.yaml");
    replace(&file, ONE);
    let before = Config::read(&file).expect("a good file");
    let handle = ConfigHandle::new(before.clone());
    let shutdown = CancellationToken::new();
    // The follower says in the log when it has refused a file; this is the log of this test alone.
    let log = folder.path().join("log");
    let writer = std::fs::File::create(&log).expect("the folder is writable");
    let _guard = tracing::subscriber::set_default(tracing_subscriber::fmt().with_writer(writer).finish());
    follow(&file, &handle, &shutdown);
    // The good half of a file with a bad half must not count either.
    let all_bad = ["profiles: {gold: {policy: magic}}", "cacheTtlSeconds: 1\nprofiles: {gold: {}}", "]", "unknown: 1"];
    for (refused_before, bad) in all_bad.into_iter().enumerate() {
        replace(&file, bad);
        eventually("the bad file to be refused", async || {
            let said = std::fs::read_to_string(&log).expect("it is there");
            (said.matches("the config file is refused").count() > refused_before).then_some(())
        })
        .await;
        assert_eq!(*handle.snapshot(), before, "{bad:?} must change nothing");
    }
    std::fs::remove_file(&file).expect("the file is there");
    replace(&file, TRIPLE);
    let good = Config::read(&file).expect("a good file");
    eventually("the good file to be in force", || std::future::ready((*handle.snapshot() == good).then_some(()))).await;
    shutdown.cancel();
}

#[tokio::test]
async fn an_unknown_profile_is_refused_with_the_known_ones_and_costs_no_read() {
    let broker = broker_with(&["orders"]).await;
    let scaler = Scaler::start(ONE).await;
    let trigger = trigger(broker.connection_string(), &[("queueName", "orders"), ("policyProfile", "silver")]);
    let words = ["policyProfile", "silver", "gold"];
    assert_refused(scaler.metric(&trigger).await, Code::FailedPrecondition, &words);
    assert_refused(scaler.watch(&trigger).await, Code::FailedPrecondition, &words);
    assert_eq!(scaler.reads(), 0);
    scaler.config.replace(Config::parse("profiles: {silver: {policy: messageCount}}").expect("a good file"));
    eventually("the profile that was added", || scaler.metric(&trigger).map(Result::ok)).await;
}

#[tokio::test]
async fn policies_in_metadata_need_no_file() {
    let broker = broker_with(&["orders"]).await;
    send(broker.connection_string(), "orders", 10).await;
    let scaler = Scaler::start("").await;
    let metadata = [("queueName", "orders"), ("policy", "weighted"), ("weights", "active=0.5,scheduled=1")];
    let value = scaler.metric(&trigger(broker.connection_string(), &metadata)).await.expect("the queue can be read");
    assert_eq!((value.metric_value, value.metric_value_float), (5, 5.0));
}

#[tokio::test]
async fn a_trigger_has_its_own_freshness_within_the_operators_bounds() {
    let broker = broker_with(&["orders"]).await;
    let scaler = Scaler::start("cacheTtlSeconds: 300\ncacheTtlBoundsSeconds: {min: 0, max: 200}").await;
    let wish = |cache_ttl| trigger(broker.connection_string(), &[("queueName", "orders"), ("cacheTtl", cache_ttl)]);
    assert_refused(
        scaler.metric(&wish("201s")).await,
        Code::InvalidArgument,
        &["cacheTtl", "201s", "200s", "config file"],
    );
    assert_eq!(scaler.reads(), 0);
    let others = trigger(broker.connection_string(), &[("queueName", "orders")]);
    scaler.metric(&others).await.expect("the queue can be read");
    scaler.metric(&others).await.expect("the queue can be read");
    scaler.metric(&wish("200s")).await.expect("within the bounds");
    assert_eq!(scaler.reads(), 1, "young enough for all of them");
    scaler.metric(&wish("0s")).await.expect("within the bounds");
    assert_eq!(scaler.reads(), 2, "never young enough for this one");
}
