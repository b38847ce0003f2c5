//! Links on which the client receives: locks, settlements, credit.

use std::time::Duration;

use amqp::{AmqpError, Attach, DeliveryState, Event, LinkId, Map, Source, Value};
use broker::{Broker, Options, QueueOptions};

use super::broker_with;
use super::client::{Client, id_of, in_seconds, message};
use super::http::get;

/// Long enough to settle in, short enough to wait for.
const LOCK: Duration = Duration::from_secs(1);

/// A broker whose queue `q` has short locks and three deliveries a message, a client, and a link to send on.
async fn short_locks() -> (Broker, Client, LinkId) {
    let queue = QueueOptions { lock_duration: LOCK, max_delivery_count: 3, ..QueueOptions::new("q") };
    let broker = Broker::start(Options { queues: vec![queue], ..Options::default() }).await.expect("starts");
    let mut client = Client::login(&broker).await;
    let sender = client.sender("q").await;
    (broker, client, sender)
}

/// A broker with queue `q` holding `count` messages with ids from 0 on, and a client.
async fn filled(count: usize) -> (Broker, Client) {
    let broker = broker_with(&["q"]).await;
    let mut client = Client::login(&broker).await;
    let sender = client.sender("q").await;
    let batch: Vec<_> = (0..count).map(|number| message(&number.to_string())).collect();
    assert_eq!(client.send_batch(sender, &batch).await, DeliveryState::Accepted);
    (broker, client)
}

fn abandon() -> DeliveryState {
    DeliveryState::Modified { delivery_failed: Some(true), undeliverable_here: None, message_annotations: None }
}

fn condition(state: &DeliveryState) -> Option<&str> {
    match state {
        DeliveryState::Rejected(Some(error)) => Some(error.condition.as_str()),
        _ => None,
    }
}

#[tokio::test]
async fn a_completed_message_is_gone() {
    let (broker, mut client) = filled(1).await;
    let receiver = client.receiver("q", 10).await;
    let received = client.receive(receiver).await;
    assert!(!received.settled && received.delivery_count() == 0);
    assert_eq!(received.tag.len(), 16);
    let turned = uuid::Uuid::from_bytes(received.lock_token()).to_bytes_le();
    assert_eq!(received.tag, turned.as_slice(), "the tag is the token in .NET byte order");
    assert_eq!(get(broker.addresses()[0], "/q").await.counts(), [1, 0, 0], "locked counts as active");
    assert_eq!(client.settle(receiver, received.id, DeliveryState::Accepted).await, DeliveryState::Accepted);
    assert_eq!(get(broker.addresses()[0], "/q").await.counts(), [0, 0, 0]);
}

#[tokio::test]
async fn an_abandoned_message_returns_with_its_count_raised_and_a_released_one_without() {
    let (_broker, mut client) = filled(1).await;
    let receiver = client.receiver("q", 10).await;
    let first = client.receive(receiver).await;
    assert_eq!(client.settle(receiver, first.id, abandon()).await, abandon(), "the same outcome comes back");
    let second = client.receive(receiver).await;
    assert_eq!((second.delivery_count(), second.sequence_number()), (1, first.sequence_number()));
    assert_ne!(second.lock_token(), first.lock_token());
    assert_eq!(client.settle(receiver, second.id, DeliveryState::Released).await, DeliveryState::Released);
    assert_eq!(client.receive(receiver).await.delivery_count(), 1);
}

#[tokio::test]
async fn abandoning_merges_properties() {
    let (_broker, mut client) = filled(1).await;
    let receiver = client.receiver("q", 10).await;
    let first = client.receive(receiver).await;
    let changes = Map::from([(Value::symbol("attempt"), Value::Int(1))]);
    let state =
        DeliveryState::Modified { delivery_failed: None, undeliverable_here: None, message_annotations: Some(changes) };
    client.settle(receiver, first.id, state).await;
    let second = client.receive(receiver).await;
    assert_eq!(second.message.application_properties.get("attempt"), Some(&Value::Int(1)));
}

#[tokio::test]
async fn a_dead_lettered_message_is_in_the_sub_queue_with_its_reason() {
    let (broker, mut client) = filled(2).await;
    let receiver = client.receiver("q", 2).await;
    let (first, second) = (client.receive(receiver).await, client.receive(receiver).await);
    let info = Map::from([
        (Value::symbol("DeadLetterReason"), "Bad"),
        (Value::symbol("DeadLetterErrorDescription"), "very bad"),
    ]);
    let error = AmqpError { info: Some(info), ..AmqpError::new("com.microsoft:dead-letter", "text") };
    let answer = client.settle(receiver, first.id, DeliveryState::Rejected(Some(error))).await;
    assert_eq!(answer, DeliveryState::Rejected(None), "a bare rejected");
    let answer = client.settle(receiver, second.id, DeliveryState::Rejected(None)).await;
    assert_eq!(answer, DeliveryState::Rejected(None));
    assert_eq!(get(broker.addresses()[0], "/q").await.counts(), [0, 2, 0]);

    let dead = client.receiver("q/$DeadLetterQueue", 2).await;
    let received = client.receive(dead).await;
    let property = |name| received.message.application_properties.get(name).and_then(Value::as_str);
    assert_eq!((property("DeadLetterReason"), property("DeadLetterErrorDescription")), (Some("Bad"), Some("very bad")));
    let again = client.settle(dead, received.id, DeliveryState::Rejected(None)).await;
    assert_eq!(condition(&again), Some("amqp:not-allowed"), "not twice");
    let received = client.receive(dead).await;
    assert_eq!(client.settle(dead, received.id, DeliveryState::Accepted).await, DeliveryState::Accepted);
    assert_eq!(get(broker.addresses()[0], "/q").await.counts(), [0, 1, 0]);
}

#[tokio::test]
async fn a_lock_that_runs_out_costs_a_delivery_and_cannot_be_settled() {
    let queue = QueueOptions { lock_duration: LOCK, max_delivery_count: 100, ..QueueOptions::new("q") };
    let broker = Broker::start(Options { queues: vec![queue], ..Options::default() }).await.expect("starts");
    let mut client = Client::login(&broker).await;
    let sender = client.sender("q").await;
    client.send(sender, &message("1")).await;
    let receiver = client.receiver("q", 100).await;
    let mut lost = client.receive(receiver).await;
    loop {
        let newest = client.receive(receiver).await;
        let count = lost.delivery_count() + 1;
        assert_eq!((id_of(&newest.message).as_str(), newest.delivery_count()), ("1", count));
        let answer = client.settle(receiver, lost.id, DeliveryState::Accepted).await;
        assert_eq!(condition(&answer), Some("com.microsoft:message-lock-lost"));
        let answer = client.settle(receiver, newest.id, DeliveryState::Accepted).await;
        if answer == DeliveryState::Accepted {
            break;
        }
        // On a machine that stands still for as long as a lock lasts, that of the newest runs out, too.
        let now = i64::try_from(in_seconds(0)).expect("in range") * 1_000;
        assert!(now + 1_000 > newest.locked_until(), "{answer:?} to the newest lock while it was good");
        lost = client.receive(receiver).await;
    }
}

#[tokio::test]
async fn after_the_last_delivery_a_message_is_dead_lettered_by_the_broker() {
    let (broker, mut client, sender) = short_locks().await;
    client.send(sender, &message("1")).await;
    let receiver = client.receiver("q", 10).await;
    for _ in 0..2 {
        let received = client.receive(receiver).await;
        client.settle(receiver, received.id, abandon()).await;
    }
    // The third fails by letting the lock run out.
    client.receive(receiver).await;
    let dead = client.receiver("q/$deadletterqueue", 1).await;
    let received = client.receive(dead).await;
    let reason = received.message.application_properties.get("DeadLetterReason").and_then(Value::as_str);
    assert_eq!(reason, Some("MaxDeliveryCountExceeded"));
    assert_eq!(get(broker.addresses()[0], "/q").await.counts(), [0, 1, 0]);
}

#[tokio::test]
async fn a_killed_connection_keeps_its_locks_until_they_run_out() {
    let (broker, mut client, sender) = short_locks().await;
    client.send(sender, &message("1")).await;
    let mut worker = Client::login(&broker).await;
    let link = worker.receiver("q", 1).await;
    let locked_until = worker.receive(link).await.locked_until();
    drop(worker);
    let receiver = client.receiver("q", 1).await;
    let received = client.receive(receiver).await;
    assert_eq!(received.delivery_count(), 1);
    let enqueued_again = received.locked_until() - 1_000;
    assert!(enqueued_again >= locked_until, "delivered {} ms before the lock ran out", locked_until - enqueued_again);
}

#[tokio::test]
async fn never_more_than_the_credit_and_a_drain_ends_it() {
    let (_broker, mut client) = filled(10).await;
    let receiver = client.receiver("q", 3).await;
    assert_eq!(client.drain(receiver).await.len(), 3, "exactly the credit");
    client.engine().set_credit(receiver, 100).expect("attached");
    assert_eq!(client.drain(receiver).await.len(), 7, "what there is, and the rest of the credit is void");
    client.engine().set_credit(receiver, 5).expect("attached");
    assert_eq!(client.drain(receiver).await.len(), 0);
}

#[tokio::test]
async fn received_and_deleted_messages_are_gone_at_once() {
    let (broker, mut client) = filled(3).await;
    let attach = Attach { snd_settle_mode: Some(1), ..Attach::receiver("r", "q", "here") };
    let (link, reply) = client.attach(attach).await.expect("accepted");
    assert_eq!(reply.snd_settle_mode, Some(1));
    client.engine().set_credit(link, 2).expect("attached");
    for expected in ["0", "1"] {
        let received = client.receive(link).await;
        assert!(received.settled);
        assert_eq!(id_of(&received.message), expected);
    }
    assert_eq!(get(broker.addresses()[0], "/q").await.counts(), [1, 0, 0]);
}

#[tokio::test]
async fn two_receivers_never_hold_the_same_message() {
    let (broker, mut one) = filled(200).await;
    let mut two = Client::login(&broker).await;
    let (first, second) = (one.receiver("q", 150).await, two.receiver("q", 150).await);
    let mut ids: Vec<String> = one.drain(first).await.iter().map(|received| id_of(&received.message)).collect();
    ids.extend(two.drain(second).await.iter().map(|received| id_of(&received.message)));
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 200);
}

#[tokio::test]
async fn a_client_that_does_not_read_locks_little() {
    let broker = broker_with(&["q"]).await;
    let mut client = Client::login(&broker).await;
    let sender = client.sender("q").await;
    let mut large = message("large");
    large.body = amqp::Body::data(vec![7; 200_000]);
    for _ in 0..250 {
        assert_eq!(client.send(sender, &large).await, DeliveryState::Accepted);
    }
    let mut idle = Client::login(&broker).await;
    idle.receiver("q", 5_000).await;
    // From here on it does not read: its socket's buffers take some megabytes of the fifty, and then nothing.
    idle.flush().await;
    let receiver = client.receiver("q", 5_000).await;
    for _ in 0..80 {
        client.receive(receiver).await;
    }
}

#[tokio::test]
async fn a_receiver_that_leaves_gives_nothing_back_but_what_it_was_not_sent() {
    let (_broker, mut client) = filled(2).await;
    let receiver = client.receiver("q", 1).await;
    let held = client.receive(receiver).await;
    client.engine().detach(receiver, None).expect("attached");
    client.detached(receiver).await;
    let again = client.receiver("q", 10).await;
    let rest = client.drain(again).await;
    assert_eq!(rest.len(), 1, "the other one; the first is still locked");
    assert_ne!(id_of(&rest[0].message), id_of(&held.message));
}

#[tokio::test]
async fn filters_and_sessions_are_refused() {
    let (_broker, mut client) = filled(1).await;
    for (filter, expected) in [
        ("com.microsoft:session-filter", "amqp:not-allowed"),
        ("apache.org:selector-filter:string", "amqp:not-implemented"),
    ] {
        let filter_map = Map::from([(Value::symbol(filter), Value::from("x"))]);
        let source = Source { address: Some("q".to_owned()), filter: Some(filter_map), ..Source::default() };
        let attach = Attach { source: Some(source), ..Attach::receiver(filter, "q", "here") };
        let error = client.attach(attach).await.expect_err(filter);
        assert_eq!(error.condition.as_str(), expected);
    }
}

#[tokio::test]
async fn transactions_are_refused() {
    let broker = broker_with(&["q"]).await;
    let mut client = Client::login(&broker).await;
    // attach(name "tx", handle 99, role sender, …, source, target coordinator), which the engine does not write.
    let body = b"\x00\x53\x12\xc0\x12\x07\xa1\x02tx\x52\x63\x42\x40\x40\x00\x53\x28\x45\x00\x53\x30\x45";
    let length = u32::try_from(8 + body.len()).expect("small").to_be_bytes();
    client.write_raw(&[&length[..], b"\x02\x00\x00\x00", body].concat()).await;
    let error = client
        .wait("refusal", |event| match event {
            Event::Detached { error: Some(error), .. } => Some(error.clone()),
            _ => None,
        })
        .await;
    assert_eq!(error.condition.as_str(), "amqp:not-implemented");
}
