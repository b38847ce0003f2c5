//! Clients that begin calls and do not go on with them, and clients that leave open what they began: neither costs memory
//! without end.

use std::time::Duration;

use externalscaler::ScaledObjectRef;
use futures_util::{StreamExt as _, stream};
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use crate::support::{MESSAGES, Scaler, scaled_object, until, value, within};
use crate::wire::Wire;

const CALLS: u32 = 50;
const MIB: usize = 1024 * 1024;

/// A connection on which calls were begun.
async fn with_begun_calls(scaler: &Scaler) -> Wire {
    let mut wire = Wire::connect(scaler).await;
    for call in 0..CALLS {
        wire.begin(call, "GetMetrics").await;
    }
    wire
}

#[tokio::test]
async fn calls_whose_messages_never_come_are_answered_and_forgotten() {
    let scaler = Scaler::start().await;
    let _wire = with_begun_calls(&scaler).await;
    assert_eq!(value(&scaler.client().await, "receiver").await.expect("others are served"), MESSAGES as i64);

    let scaler = Scaler::start_with(|parts| parts.timings.arrival_deadline = Duration::from_millis(200)).await;
    let mut wire = with_begun_calls(&scaler).await;
    let mut answered = 0;
    while answered < CALLS {
        // An answer of trailers alone: refused.
        answered += u32::from(wire.next().await.is_end());
    }
}

/// A client of reflection that has asked these and does not hang up.
async fn reflection(
    channel: &Channel,
    questions: Vec<ServerReflectionRequest>,
) -> Result<Streaming<ServerReflectionResponse>, Status> {
    let mut client = ServerReflectionClient::new(channel.clone());
    let asked = client.server_reflection_info(stream::iter(questions).chain(stream::pending()));
    within("reflection to begin", asked).await.map(tonic::Response::into_inner)
}

async fn channel(scaler: &Scaler) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{}", scaler.address)).expect("a valid address");
    within("connect", endpoint.connect()).await.expect("the scaler accepts connections")
}

#[tokio::test]
async fn what_reflection_is_asked_counts_until_it_ends() {
    const HOST: usize = 15 * 1024;
    const QUESTIONS: usize = 64;
    let scaler = Scaler::start().await;
    let channel = channel(&scaler).await;
    let question = ServerReflectionRequest {
        host: "x".repeat(HOST),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut open = Vec::new();
    let mut answers = 0;
    let refused = 'asking: loop {
        assert!(answers * HOST <= 16 * MIB, "{answers} questions were answered, and all are still held");
        let mut stream = match reflection(&channel, vec![question.clone(); QUESTIONS]).await {
            Ok(stream) => stream,
            Err(refused) => break refused,
        };
        for _ in 0..QUESTIONS {
            match within("an answer", stream.message()).await {
                Ok(answer) => answers += usize::from(answer.expect("it asks on").message_response.is_some()),
                Err(refused) => break 'asking refused,
            }
        }
        open.push(stream);
    };
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(answers * HOST > 8 * MIB, "{answers} questions were answered");
    drop(open);
    let client = scaler.client().await;
    until("what was held to be given back", async || value(&client, "receiver").await.is_ok()).await;
}

#[tokio::test]
async fn reflection_that_never_asks_is_not_waited_for() {
    let scaler = Scaler::start_with(|parts| parts.timings.arrival_deadline = Duration::from_millis(200)).await;
    let mut stream = reflection(&channel(&scaler).await, Vec::new()).await.expect("it begins");
    let refused = within("the end", stream.message()).await.expect_err("nothing was asked");
    assert_eq!(refused.code(), Code::DeadlineExceeded, "{refused}");
}

#[tokio::test]
async fn what_open_push_streams_were_asked_with_counts_until_they_end() {
    const KEY: usize = 250_000;
    let scaler = Scaler::start().await;
    let client = scaler.client().await;
    let large = |number: usize| -> ScaledObjectRef {
        let mut trigger = scaled_object(&format!("receiver-{number}"));
        trigger.scaler_metadata.insert("x".repeat(KEY), String::new());
        trigger
    };
    let open_one = async |number: usize| {
        let mut client = client.clone();
        let opened = client.stream_metric_spec(large(number));
        let mut stream = within("the stream to open", opened).await?.into_inner();
        within("the specification", stream.message()).await.map(|_| stream)
    };
    let mut open = Vec::new();
    let refused = loop {
        assert!(open.len() * KEY <= 32 * MIB, "{} are open with a key of {KEY} bytes each", open.len());
        match open_one(open.len()).await {
            Ok(stream) => open.push(stream),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(open.len() * KEY > 30 * MIB, "{} are open", open.len());
    assert_eq!(value(&client, "receiver").await.expect("calls are served"), MESSAGES as i64);
    drop(open);
    until("what was held to be given back", async || open_one(0).await.is_ok()).await;
}
