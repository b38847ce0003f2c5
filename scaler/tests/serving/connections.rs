//! How a connection ends, by its age or with the scaler: nothing new, calls answered, every stream ended with OK.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream;
use tokio::net::TcpStream;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;

use crate::support::{MESSAGES, Scaler, active_stream, assert_ends_with_ok, scaled_object, until, value, within};
use crate::wire::{DATA, GOAWAY, Wire};

#[tokio::test]
async fn an_old_connection_ends_its_streams_with_ok_and_answers_its_calls() {
    let scaler = Scaler::start_with(|parts| {
        // Long enough for everything to be there before it ends.
        parts.timings.max_connection_age = Some(Duration::from_secs(3));
        parts.config.replace(scaler::config::Config::parse("cacheTtlSeconds: 0").expect("a good config"));
    })
    .await;
    let client = scaler.client().await;
    let activity = active_stream(&client, "receiver").await;
    let mut specification =
        client.clone().stream_metric_spec(scaled_object("receiver")).await.expect("it opens").into_inner();
    within("the specification", specification.message()).await.expect("no error").expect("a message");
    scaler.hold();
    let in_flight = tokio::spawn({
        let client = client.clone();
        async move { value(&client, "in-flight").await }
    });
    let all_are_there = || {
        let connections = scaler.count("servicebus_scaler_connections_open");
        (connections, scaler.count("servicebus_scaler_grpc_requests_in_flight")) == (1, 1)
    };
    until("the call to be in flight on the one connection", async || all_are_there()).await;
    assert_ends_with_ok(activity).await;
    let end = within("the end of the stream", specification.message()).await.expect("it ends with OK");
    assert_eq!(end, None);
    assert!(!in_flight.is_finished(), "the source is held");
    assert!(all_are_there(), "the connection waits for its call");
    scaler.let_go();
    let answer = within("the call in flight", in_flight).await.expect("no panic").expect("it is answered");
    assert_eq!(answer, MESSAGES as i64);
    // The client's channel takes a new connection by itself, as KEDA's does.
    within("a call on a new connection", value(&client, "later")).await.expect("it is answered");
    let ok = |method: &str| format!("servicebus_scaler_grpc_requests_total{{method=\"{method}\",code=\"OK\"}}");
    until("both streams to be counted", async || {
        (scaler.count(&ok("StreamIsActive")), scaler.count(&ok("StreamMetricSpec"))) == (1, 1)
    })
    .await;
}

#[tokio::test]
async fn at_the_stop_goaway_comes_before_the_end_of_a_stream() {
    let scaler = Scaler::start().await;
    let mut wire = Wire::connect(&scaler).await;
    wire.begin(0, "StreamMetricSpec").await;
    // `ScaledObjectRef` with `queueName: orders` alone, in protobuf.
    let field =
        |number: u8, value: &[u8]| [&[number << 3 | 2, u8::try_from(value.len()).expect("short")], value].concat();
    let metadata = [field(1, b"queueName"), field(2, b"orders")].concat();
    wire.ask(0, &field(3, &metadata)).await;
    while wire.next().await.kind != DATA {}
    scaler.shutdown.cancel();
    let mut is_told = false;
    loop {
        let frame = wire.next().await;
        is_told |= frame.kind == GOAWAY;
        if frame.is_end() {
            break;
        }
    }
    assert!(is_told, "KEDA would open the stream again on the connection that is about to end");
}

#[tokio::test]
async fn one_push_stream_too_many_is_refused_and_a_place_given_back_is_used_again() {
    let scaler = Scaler::start_with(|parts| parts.most_streams = 2).await;
    let client = scaler.client().await;
    let specification = async || {
        let mut client = client.clone();
        within("the stream to open", client.stream_metric_spec(scaled_object("receiver"))).await
    };
    let activity = active_stream(&client, "receiver").await;
    let _specification = specification().await.expect("there is a place");
    let refused = specification().await.expect_err("both places are taken");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(refused.message().contains("all 2 push streams"), "{refused}");
    drop(activity);
    until("a place to be given back", async || specification().await.is_ok()).await;
}

#[tokio::test]
async fn the_stop_waits_for_calls_and_for_nobody_who_only_listens() {
    // Were anything waited for until it is cut off, the test would fail: the deadlines are far longer than it may take.
    let scaler = Scaler::start_at(testbench::own_address(), |_| {}).await;
    let client = scaler.client().await;
    let streams = join_all((0..50).map(|number| active_stream(&client, if number % 2 == 0 { "a" } else { "b" }))).await;

    let channel = || async {
        let endpoint = tonic::transport::Channel::from_shared(format!("http://{}", scaler.address)).expect("valid");
        endpoint.connect().await.expect("the scaler accepts connections")
    };
    // A client of reflection that keeps its stream open, as grpcurl does while a person reads.
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(channel().await)
        .server_reflection_info(stream::iter([list]).chain(stream::pending()))
        .await
        .expect("reflection answers")
        .into_inner();
    within("the list", reflection.message()).await.expect("no error").expect("an answer");
    let mut health = HealthClient::new(channel().await)
        .watch(HealthCheckRequest::default())
        .await
        .expect("health can be watched")
        .into_inner();
    within("the status", health.message()).await.expect("no error").expect("a status");
    // Connections on which nothing is asked, and on which nothing is even said.
    let _idle = channel().await;
    let _silent = TcpStream::connect(scaler.address).await.expect("the port is open");
    until("all to be open", async || scaler.count("servicebus_scaler_connections_open") == 5).await;
    assert_eq!(scaler.count("servicebus_scaler_streams_open{kind=\"activity\"}"), 50);

    scaler.hold();
    let in_flight: Vec<_> = (0..50)
        .map(|number| {
            let client = client.clone();
            // Another queue than the streams', so that its first reading is waited for.
            tokio::spawn(async move {
                let mut trigger = scaled_object(&format!("receiver-{number}"));
                trigger.scaler_metadata.insert("queueName".to_owned(), "refunds".to_owned());
                client.clone().is_active(trigger).await
            })
        })
        .collect();
    until("the calls to be in flight", async || scaler.count("servicebus_scaler_grpc_requests_in_flight") == 50).await;

    scaler.shutdown.cancel();
    for stream in streams {
        assert_ends_with_ok(stream).await;
    }
    while within("the end of reflection", reflection.message()).await.expect("it ends with OK").is_some() {}
    while within("the end of the watch", health.message()).await.expect("it ends with OK").is_some() {}
    until("nobody to listen any more", async || TcpStream::connect(scaler.address).await.is_err()).await;
    assert!(in_flight.iter().all(|call| !call.is_finished()), "the source is held");
    scaler.let_go();
    for call in in_flight {
        assert!(within("a call in flight", call).await.expect("no panic").expect("it is answered").into_inner().result);
    }
    scaler.ended().await;
}
