//! What the broker counts of what clients ask for, and the control endpoint that tells it.

use amqp::{DeliveryState, Map, Value};
use broker::{Broker, ControlKey, Operation, Options, Outcome, QueueOptions, SubscriptionOptions, Tally};

use super::admin::EMPTY_DESCRIPTION;
use super::broker_with;
use super::client::{Client, message};
use super::http::{call, get, raw};

fn tally(operations: u64, credits: u64) -> Tally {
    Tally { operations, credits }
}

#[tokio::test]
async fn administration_costs_ten_credits_whatever_becomes_of_it() {
    let broker = broker_with(&["q"]).await;
    let address = broker.addresses()[0];
    for (method, path, headers, body, status) in [
        ("GET", "/q", "", "", 200),
        ("GET", "/Q?api-version=2021-05", "", "", 200),
        ("GET", "/missing", "", "", 404),
        ("GET", "/$Resources/Queues", "", "", 200),
        ("GET", "/$resources/topics", "", "", 200),
        ("GET", "/$namespaceinfo", "", "", 200),
        ("PUT", "/new", "", EMPTY_DESCRIPTION, 201),
        ("PUT", "/new", "", EMPTY_DESCRIPTION, 409),
        ("PUT", "/new", "If-Match: *\r\n", EMPTY_DESCRIPTION, 200),
        ("DELETE", "/new", "", "", 200),
        ("PATCH", "/q", "", "", 405),
    ] {
        assert_eq!(call(address, method, path, headers, body).await.status, status, "{method} {path}");
    }
    assert_eq!(raw(address, "GET", "/q", "", "").await.status, 401);
    assert_eq!(raw(address, "GET", "/health", "", "").await.status, 200);
    let counts = broker.counters();
    for (operation, outcome, operations) in [
        (Operation::GetQueue, Outcome::Ok, 2),
        (Operation::GetQueue, Outcome::NotFound, 1),
        (Operation::GetQueue, Outcome::Unauthorized, 1),
        (Operation::ListQueues, Outcome::Ok, 1),
        (Operation::ListTopics, Outcome::Ok, 1),
        (Operation::Namespace, Outcome::Ok, 1),
        (Operation::Create, Outcome::Ok, 1),
        (Operation::Create, Outcome::Refused, 1),
        (Operation::Update, Outcome::Ok, 1),
        (Operation::Delete, Outcome::Ok, 1),
        (Operation::Other, Outcome::Refused, 1),
    ] {
        assert_eq!(counts.with_outcome(operation, outcome), tally(operations, 10 * operations), "{operation:?}");
    }
    assert_eq!((counts.total, counts.administration, counts.data), (tally(12, 120), tally(12, 120), tally(0, 0)));
}

#[tokio::test]
async fn topics_and_what_is_below_them_have_kinds_of_their_own() {
    let options = Options {
        topics: vec!["t".to_owned()],
        subscriptions: vec![SubscriptionOptions::new("t", "s")],
        ..Options::default()
    };
    let broker = Broker::start(options).await.expect("starts");
    for path in ["/t", "/T/Subscriptions/s", "/t/subscriptions", "/t/Subscriptions/s/Rules", "/$Resources/Topics"] {
        assert_eq!(get(broker.addresses()[0], path).await.status, 200, "{path}");
    }
    assert_eq!(get(broker.addresses()[0], "/t/Subscriptions/missing").await.status, 404);
    let counts = broker.counters();
    for operation in [
        Operation::GetTopic,
        Operation::GetSubscription,
        Operation::ListSubscriptions,
        Operation::Rules,
        Operation::ListTopics,
    ] {
        assert_eq!(counts.with_outcome(operation, Outcome::Ok), tally(1, 10), "{operation:?}");
    }
    assert_eq!(counts.with_outcome(Operation::GetSubscription, Outcome::NotFound), tally(1, 10));
    assert_eq!(counts.total, tally(6, 60));
}

#[tokio::test]
async fn messages_cost_one_credit_each() {
    let broker = broker_with(&["q"]).await;
    let mut client = Client::login(&broker).await;
    let sender = client.sender("q").await;
    assert_eq!(client.send(sender, &message("1")).await, DeliveryState::Accepted);
    let batch = [message("2"), message("3"), message("4")];
    assert_eq!(client.send_batch(sender, &batch).await, DeliveryState::Accepted);
    let node = client.node("q/$management").await;
    for (from, found) in [(0, 4), (100, 0)] {
        let arguments = Map::from([("from-sequence-number", Value::Long(from)), ("message-count", Value::Int(10))]);
        let reply = client.manage(node, "peek-message", arguments).await;
        assert_eq!(reply.status(), if found > 0 { 200 } else { 204 });
    }
    let receiver = client.receiver("q", 2).await;
    client.receive(receiver).await;
    client.receive(receiver).await;
    let counts = broker.counters();
    assert_eq!(counts.of(Operation::Send), tally(2, 4));
    assert_eq!(counts.of(Operation::Peek), tally(2, 5), "four messages, and a look that found none");
    assert_eq!(counts.of(Operation::Receive), tally(2, 2));
    assert_eq!((counts.data, counts.administration), (counts.total, tally(0, 0)));
    assert_eq!(counts.outcome(Outcome::Ok), counts.total);
    assert_eq!((counts.connections.open, counts.connections.open_amqp, counts.connections.accepted), (1, 1, 1));
}

#[tokio::test]
async fn the_control_endpoint_tells_and_resets_them() {
    let broker = broker_with(&["q"]).await;
    let address = broker.addresses()[0];
    assert_eq!(get(address, "/q").await.status, 200);
    let answer = raw(address, "GET", "/$counters", "", "").await;
    assert!(answer.head.to_lowercase().contains("content-type: application/json"), "{answer:?}");
    let counts: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!(counts["operations"]["get-queue"]["ok"], serde_json::json!({"operations": 1, "credits": 10}));
    assert_eq!(counts["total"]["credits"], 10, "asking for the counters is not counted");
    assert_eq!(counts["connections"]["accepted"], 2);
    let reset = raw(address, "DELETE", "/%24counters/", "", "").await;
    assert!(reset.body.contains("\"get-queue\""), "a reset tells what was: {reset:?}");
    assert_eq!(broker.counters().total, tally(0, 0));
    assert_eq!(raw(address, "PUT", "/$counters", "", "").await.status, 405);
    let page = raw(address, "DELETE", "/$counters", "Origin: http://evil.example\r\n", "").await;
    assert_ne!(page.status, 200, "a page in a browser is refused");
}

#[tokio::test]
async fn a_control_key_never_shows() {
    let key = ControlKey::new("sixteen-bytes-or-more").expect("long enough");
    assert!(ControlKey::new("too-short").is_none());
    let options = Options { queues: vec![QueueOptions::new("q")], control_key: Some(key), ..Options::default() };
    assert!(!format!("{options:?}").contains("sixteen"));
    let broker = Broker::start(options).await.expect("starts");
    assert_eq!(raw(broker.addresses()[0], "GET", "/$counters", "", "").await.status, 200);
}
