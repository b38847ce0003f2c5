//! What cannot be answered is an error with a code and words that help; never a zero.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use scaler::serve::Timings;
use testbench::Nobody;
use tokio::net::TcpListener;
use tonic::Code;

use crate::support::{Scaler, assert_refused, broker_with, eventually, quick, send, trigger, within};

/// Trigger metadata beside the connection.
type Metadata = [(&'static str, &'static str)];

#[tokio::test]
async fn bad_metadata_is_an_invalid_argument_in_every_call() {
    let broker = broker_with(&["orders"]).await;
    let scaler = Scaler::start("").await;
    let bad: &[(&Metadata, &[&str])] = &[
        (&[], &["queueName", "missing"]),
        (&[("queueName", "orders"), ("messageCount", "0")], &["messageCount", "\"0\"", "from 1"]),
        (&[("queueName", "orders"), ("policy", "magic")], &["policy", "magic", "weighted"]),
        (&[("queueName", "orders"), ("connection", "Endpoint=sb://x")], &["connection", "connectionFromEnv"]),
        (&[("topicName", "news")], &["subscriptionName", "missing"]),
        (&[("queueName", "orders("), ("useRegex", "true")], &["queueName", "orders("]),
    ];
    for (metadata, words) in bad {
        let trigger = trigger(broker.connection_string(), metadata);
        let mut client = scaler.client.clone();
        assert_refused(client.get_metric_spec(trigger.clone()).await, Code::InvalidArgument, words);
        assert_refused(scaler.is_active(&trigger).await, Code::InvalidArgument, words);
        assert_refused(client.stream_is_active(trigger.clone()).await, Code::InvalidArgument, words);
        assert_refused(client.stream_metric_spec(trigger.clone()).await, Code::InvalidArgument, words);
        let request = externalscaler::GetMetricsRequest { scaled_object_ref: Some(trigger), ..Default::default() };
        assert_refused(client.get_metrics(request).await, Code::InvalidArgument, words);
    }
    assert_eq!(scaler.reads(), 0);
}

#[tokio::test]
async fn an_unresolved_variable_fails_the_reads_and_says_where_keda_looks() {
    let scaler = Scaler::start("").await;
    let mut trigger = trigger("", &[("queueName", "orders")]);
    trigger.scaler_metadata.remove("connectionFromEnv");
    let words = ["connectionFromEnv", "could not resolve", "scale target"];
    assert_refused(scaler.is_active(&trigger).await, Code::InvalidArgument, &words);
    assert_refused(scaler.metric(&trigger).await, Code::InvalidArgument, &words);
    let specification = scaler.client.clone().get_metric_spec(trigger).await;
    assert!(specification.is_ok(), "the specification needs no connection: {specification:?}");
}

#[tokio::test]
async fn a_missing_queue_is_not_found_until_it_is_there() {
    let broker = broker_with(&["orders"]).await;
    let scaler = Scaler::start("").await;
    let trigger = trigger(broker.connection_string(), &[("queueName", "refunds")]);
    assert_refused(scaler.metric(&trigger).await, Code::NotFound, &["refunds"]);
    assert_refused(scaler.is_active(&trigger).await, Code::NotFound, &["refunds"]);
    let administration = testbench::administration(broker.connection_string());
    administration.create_queue("refunds", &servicebus::EntitySettings::default()).await.expect("the queue is made");
    let value = eventually("the new queue to be seen", || scaler.metric(&trigger).map(Result::ok)).await;
    assert_eq!(value.metric_value, 0);
    administration.delete_queue("refunds").await.expect("the queue is removed");
    let scaler = Scaler::start("cacheTtlSeconds: 0").await;
    assert_refused(scaler.metric(&trigger).await, Code::NotFound, &["refunds"]);
}

#[tokio::test]
async fn a_refused_credential_is_unauthenticated_and_not_repeated_in_the_text() {
    let broker = broker_with(&["orders"]).await;
    let scaler = Scaler::start("").await;
    let (rest, _) = broker.connection_string().split_once(";SharedAccessKey=").expect("a key");
    let wrong = format!("{rest};SharedAccessKey=PLANTED-but-wrong;UseDevelopmentEmulator=true");
    let trigger = trigger(&wrong, &[("queueName", "orders")]);
    assert_refused(scaler.metric(&trigger).await, Code::Unauthenticated, &["refused the credential"]);
    let status = scaler.is_active(&trigger).await.expect_err("refused as well");
    assert!(!status.message().contains("PLANTED"), "{status}");
}

#[tokio::test]
async fn a_namespace_that_is_away_is_unavailable_once_no_reading_is_young_enough() {
    let broker = broker_with(&["orders"]).await;
    send(broker.connection_string(), "orders", 3).await;
    let scaler = Scaler::start("{cacheTtlSeconds: 0, maxStalenessSeconds: 1.5}").await;
    let trigger = trigger(broker.connection_string(), &[("queueName", "orders")]);
    let before_the_reading = Instant::now();
    assert_eq!(scaler.metric(&trigger).await.expect("the queue can be read").metric_value, 3);
    // Not a stop of the broker: another test's could get its port.
    broker.faults().add("reset".parse().expect("a fault")).expect("room for a fault");
    // Until the reading is too old, it stands in; then comes the error, and never a zero between.
    let status = within("the reading to grow too old", async {
        loop {
            match scaler.metric(&trigger).await {
                Ok(value) => assert_eq!(value.metric_value, 3),
                Err(status) => return status,
            }
        }
    })
    .await;
    let age = before_the_reading.elapsed();
    assert!(age >= Duration::from_millis(1_500), "refused at an age of {age:?}");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_refused(scaler.is_active(&trigger).await, Code::Unavailable, &["failed to read the queue"]);
    assert!(scaler.client.clone().get_metric_spec(trigger).await.is_ok(), "the specification stays");
}

#[tokio::test]
async fn a_namespace_where_nobody_listens_is_unavailable() {
    let nobody = Nobody::start();
    let scaler = Scaler::start("").await;
    let trigger = trigger(&emulator_at(nobody.address()), &[("queueName", "orders")]);
    assert_refused(scaler.is_active(&trigger).await, Code::Unavailable, &["failed to read the queue"]);
}

#[tokio::test]
async fn a_namespace_that_never_answers_is_unavailable_within_the_deadline() {
    let timings = Timings { refresh_deadline: Duration::from_millis(300), ..quick() };
    assert_gives_up(timings, &["no answer", "0.3 s"]).await;
}

#[tokio::test]
async fn a_call_has_a_deadline_of_its_own() {
    let timings = Timings { call_deadline: Duration::from_millis(200), ..quick() };
    assert_gives_up(timings, &["no answer within 200ms"]).await;
}

/// That a scaler with these deadlines does not wait for a namespace that takes connections and never says anything.
async fn assert_gives_up(timings: Timings, words: &[&str]) {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = silent.local_addr().expect("a bound address");
    let scaler = Scaler::start_with("", timings).await;
    let trigger = trigger(&emulator_at(address), &[("queueName", "orders")]);
    assert_refused(scaler.is_active(&trigger).await, Code::Unavailable, words);
}

/// A connection string for an emulator at this address.
fn emulator_at(address: SocketAddr) -> String {
    format!("Endpoint=sb://{address};SharedAccessKeyName=a;SharedAccessKey=b;UseDevelopmentEmulator=true")
}

#[tokio::test]
async fn a_host_that_is_not_allowed_gets_no_connection() {
    let stranger = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    stranger.set_nonblocking(true).expect("a socket");
    let address = stranger.local_addr().expect("a bound address");
    let scaler = Scaler::start("").await;
    // Not an emulator: a loopback address over TLS is a host like any other.
    let connection = format!("Endpoint=sb://{address};SharedAccessKeyName=a;SharedAccessKey=PLANTED");
    let trigger = trigger(&connection, &[("queueName", "orders")]);
    let listed = format!("--allow-endpoint {address}");
    for answer in [scaler.metric(&trigger).await.map(drop), scaler.is_active(&trigger).await.map(drop)] {
        assert_refused(answer, Code::FailedPrecondition, &["not allowed", &listed]);
    }
    assert_refused(scaler.watch(&trigger).await, Code::FailedPrecondition, &["not allowed", &listed]);
    assert_eq!(scaler.reads(), 0);
    // Who connects waits in the listener's queue from then on.
    assert!(stranger.accept().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock), "nobody connected");
}

#[tokio::test]
async fn a_message_far_larger_than_kedas_is_refused_and_the_server_lives_on() {
    let broker = broker_with(&["orders"]).await;
    let scaler = Scaler::start("").await;
    let huge = "x".repeat(1024 * 1024);
    let oversized = trigger(broker.connection_string(), &[("queueName", "orders"), ("unknown", &huge)]);
    let answer = scaler.client.clone().get_metric_spec(oversized).await;
    assert_refused(answer, Code::OutOfRange, &["too large"]);
    let trigger = trigger(broker.connection_string(), &[("queueName", "orders")]);
    assert_eq!(scaler.metric(&trigger).await.expect("the queue can be read").metric_value, 0);
}
