//! Links on which the client sends.

use std::time::{Duration, Instant};

use amqp::{AmqpError, Attach, Body, DeliveryState, Map, Message, Value};
use broker::{Broker, Options, QueueOptions};
use bytes::Bytes;

use super::broker_with;
use super::client::{Client, id_of, message};
use super::http::get;

fn rejection(state: DeliveryState) -> AmqpError {
    match state {
        DeliveryState::Rejected(Some(error)) => error,
        other => panic!("not rejected: {other:?}"),
    }
}

#[tokio::test]
async fn single_messages_and_batches_arrive_byte_for_byte() {
    let broker = broker_with(&["orders"]).await;
    let mut client = Client::login(&broker).await;
    let sender = client.sender("amqps://127.0.0.1:5672/Orders").await;
    let mut first = message("1");
    first.application_properties = Map::from([("colour", Value::from("red")), ("none", Value::Null)]);
    first.body = Body::value(&Value::List(vec![Value::Int(1), Value::Null]));
    assert_eq!(client.send(sender, &first).await, DeliveryState::Accepted);
    let batch: Vec<Message> = (2..=20).map(|number| message(&number.to_string())).collect();
    assert_eq!(client.send_batch(sender, &batch).await, DeliveryState::Accepted);
    assert_eq!(get(broker.addresses()[0], "/orders").await.counts(), [20, 0, 0]);

    let receiver = client.receiver("orders", 20).await;
    let received = client.receive(receiver).await;
    assert_eq!(received.message.body, first.body);
    assert_eq!(received.message.application_properties, first.application_properties);
    for expected in 2..=20 {
        assert_eq!(id_of(&client.receive(receiver).await.message), expected.to_string());
    }
}

#[tokio::test]
async fn the_link_says_its_limits() {
    let broker = broker_with(&["q"]).await;
    let mut client = Client::login(&broker).await;
    let (_, reply) = client.attach(Attach::sender("s", "here", "q")).await.expect("accepted");
    assert_eq!(reply.max_message_size, Some(262_144));
    let properties = reply.properties.expect("properties");
    assert_eq!(properties.get("com.microsoft:max-message-batch-size"), Some(&Value::Ulong(262_144)));
    assert_eq!(reply.target.and_then(|target| target.address).as_deref(), Some("q"));
    assert_eq!(reply.source.and_then(|source| source.address).as_deref(), Some("here"));
}

#[tokio::test]
async fn what_is_too_large_or_broken_is_rejected_and_the_link_lives() {
    let broker = broker_with(&["q"]).await;
    let mut client = Client::login(&broker).await;
    let sender = client.sender("q").await;
    let large = Message::with_body(Body::data(vec![0; 262_144]));
    let error = rejection(client.send(sender, &large).await);
    assert_eq!(error.condition.as_str(), "amqp:link:message-size-exceeded");
    let error = rejection(client.send_payload(sender, 0, Bytes::from_static(b"\x00\x53\x75\xa0")).await);
    assert_eq!(error.condition.as_str(), "amqp:decode-error");
    let error = rejection(client.send_payload(sender, 7, message("x").encode()).await);
    assert_eq!(error.condition.as_str(), "amqp:not-implemented");
    let broken = Message::with_body(Body::data_sections_from([message("a").encode(), Bytes::from_static(b"?")]));
    let error = rejection(client.send_payload(sender, 0x8001_3700, broken.encode()).await);
    assert_eq!(error.condition.as_str(), "amqp:decode-error");
    assert_eq!(client.send(sender, &message("good")).await, DeliveryState::Accepted);
    assert_eq!(get(broker.addresses()[0], "/q").await.counts(), [1, 0, 0], "none of the broken batch is stored");
}

#[tokio::test]
async fn a_message_sent_settled_is_stored_without_an_outcome() {
    let broker = broker_with(&["q"]).await;
    let mut client = Client::login(&broker).await;
    let sender = client.sender("q").await;
    client.send_only(sender, 0, message("quiet").encode(), true).await;
    let receiver = client.receiver("q", 1).await;
    assert_eq!(id_of(&client.receive(receiver).await.message), "quiet");
}

#[tokio::test]
async fn credit_is_renewed_for_as_long_as_messages_come() {
    let broker = broker_with(&["q"]).await;
    let mut client = Client::login(&broker).await;
    let sender = client.sender("q").await;
    for number in 0..1_200 {
        client.send_only(sender, 0, message(&number.to_string()).encode(), true).await;
    }
    assert_eq!(client.send(sender, &message("last")).await, DeliveryState::Accepted);
    assert_eq!(get(broker.addresses()[0], "/q").await.counts(), [1_201, 0, 0]);
}

/// The kinds of AMQP frames in a chunk of bytes.
fn frame_kinds(mut bytes: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let Some((length, _)) = bytes.split_first_chunk::<4>() {
        let (frame, rest) = bytes.split_at(u32::from_be_bytes(*length) as usize);
        kinds.push(frame[10]);
        bytes = rest;
    }
    kinds
}

#[tokio::test]
async fn refusals_come_in_one_piece_and_name_the_reason() {
    let broker = broker_with(&["q"]).await;
    let mut client = Client::login(&broker).await;
    let error = client.attach(Attach::sender("a", "here", "missing")).await.expect_err("no such queue");
    assert_eq!(frame_kinds(&client.last_read), [0x12, 0x16], "attach and detach in one write");
    assert_eq!(error.condition.as_str(), "amqp:not-found");
    let text = error.description.expect("a text");
    assert!(text.starts_with("The messaging entity 'sb://127.0.0.1/missing' could not be found."), "{text}");
    for (target, condition) in [
        ("q/$DeadLetterQueue", "amqp:not-allowed"),
        ("missing/$management", "amqp:not-found"),
        ("topic/Subscriptions/s", "amqp:not-found"),
        ("not a name", "amqp:not-found"),
    ] {
        let error = client.attach(Attach::sender(target, "here", target)).await.expect_err(target);
        assert_eq!(error.condition.as_str(), condition, "{target}: {error}");
    }
    let sender = client.sender("q").await;
    assert_eq!(client.send(sender, &message("1")).await, DeliveryState::Accepted, "the connection lives");
}

#[tokio::test]
async fn deleting_a_queue_ends_its_links() {
    let broker = broker_with(&["q", "other"]).await;
    let mut client = Client::login(&broker).await;
    let (sender, receiver) = (client.sender("q").await, client.receiver("q", 5).await);
    let other = client.sender("other").await;
    let deleted = super::http::call(broker.addresses()[0], "DELETE", "/q", "", "").await;
    assert_eq!(deleted.status, 200);
    for link in [sender, receiver] {
        let error = client.detached(link).await.expect("a reason");
        assert_eq!(error.condition.as_str(), "amqp:not-found");
    }
    assert_eq!(client.send(other, &message("1")).await, DeliveryState::Accepted);
}

#[tokio::test]
async fn acknowledgements_wait_when_asked_to() {
    let delay = Duration::from_millis(50);
    let options = Options { queues: vec![QueueOptions::new("q")], acknowledge_delay: delay, ..Options::default() };
    let broker = Broker::start(options).await.expect("starts");
    let mut client = Client::login(&broker).await;
    let sender = client.sender("q").await;
    let begun = Instant::now();
    assert_eq!(client.send(sender, &message("1")).await, DeliveryState::Accepted);
    assert!(begun.elapsed() >= delay, "acknowledged after {:?}", begun.elapsed());
}
