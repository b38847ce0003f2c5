//! The `$management` node, and how replies find their way.

use amqp::{Attach, Body, DeliveryState, Map, Message, Value};
use bytes::Bytes;

use super::broker_with;
use super::client::{Client, in_seconds, message, token};
use super::http::get;

fn tokens(tokens: &[[u8; 16]]) -> Map {
    Map::from([("lock-tokens", Value::Array(tokens.iter().map(|token| Value::Uuid(*token)).collect()))])
}

fn peek(from: i64, count: i32) -> Map {
    Map::from([("from-sequence-number", Value::Long(from)), ("message-count", Value::Int(count))])
}

fn numbers(numbers: &[i64]) -> Map {
    Map::from([("sequence-numbers", Value::Array(numbers.iter().map(|number| Value::Long(*number)).collect()))])
}

/// The messages in a reply, decoded.
fn messages(reply: &super::client::Reply) -> Vec<Message> {
    let items = reply.field("messages").as_list().expect("a list");
    let decode = |item: &Value| {
        let encoded = item.as_map().and_then(|item| item.get("message")).and_then(Value::as_binary);
        Message::decode(encoded.expect("a binary")).expect("a message")
    };
    items.iter().map(decode).collect()
}

#[tokio::test]
async fn locks_are_renewed_and_unknown_ones_are_lost() {
    let broker = broker_with(&["q"]).await;
    let mut client = Client::login(&broker).await;
    let sender = client.sender("q").await;
    client.send(sender, &message("1")).await;
    let receiver = client.receiver("q", 1).await;
    let received = client.receive(receiver).await;
    let node = client.node("q/$management").await;
    let reply = client.manage(node, "renew-lock", tokens(&[received.lock_token()])).await;
    assert_eq!(reply.status(), 200);
    let expirations = reply.field("expirations");
    assert!(matches!(expirations, Value::Array(_)), "{expirations:?}");
    let until = expirations.as_list().and_then(|list| list[0].as_timestamp()).expect("a timestamp");
    assert!(until >= received.locked_until());
    // A client that read its token from the delivery tag sends it in the other byte order.
    let turned: [u8; 16] = received.tag[..].try_into().expect("16 bytes");
    assert_eq!(client.manage(node, "renew-lock", tokens(&[turned])).await.status(), 200);
    let reply = client.manage(node, "renew-lock", tokens(&[received.lock_token(), [9; 16]])).await;
    assert_eq!((reply.status(), reply.condition()), (410, Some("com.microsoft:message-lock-lost")));
    let reply = client.manage(node, "renew-lock", Map::default()).await;
    assert_eq!((reply.status(), reply.condition()), (400, Some("com.microsoft:argument-error")));
}

#[tokio::test]
async fn a_peek_sees_everything_and_locks_nothing() {
    let broker = broker_with(&["q"]).await;
    let mut client = Client::login(&broker).await;
    let sender = client.sender("q").await;
    for id in ["1", "2", "3"] {
        client.send(sender, &message(id)).await;
    }
    let receiver = client.receiver("q", 1).await;
    client.receive(receiver).await;
    let node = client.node("amqps://host/q/$management").await;
    let reply = client.manage(node, "peek-message", peek(0, 2)).await;
    assert_eq!(reply.status(), 200);
    let seen = messages(&reply);
    let number = |message: &Message| message.message_annotations.get("x-opt-sequence-number").and_then(Value::as_i64);
    assert_eq!(seen.iter().map(number).collect::<Vec<_>>(), [Some(1), Some(2)], "the locked one too");
    assert_eq!(messages(&client.manage(node, "peek-message", peek(3, 10)).await).len(), 1);
    assert_eq!(client.manage(node, "peek-message", peek(4, 10)).await.status(), 204);
    assert_eq!(client.manage(node, "peek-message", peek(1, 0)).await.status(), 400);
    let mut without_body = peek(1, 1);
    without_body.insert("omit-message-body", true);
    let reply = client.manage(node, "peek-message", without_body).await;
    assert_eq!(messages(&reply)[0].body, Body::empty());
    client.engine().set_credit(receiver, 10).expect("attached");
    assert_eq!(client.drain(receiver).await.len(), 2, "peeking locked nothing");
}

#[tokio::test]
async fn scheduled_messages_wait_and_can_be_taken_back() {
    let broker = broker_with(&["q"]).await;
    let mut client = Client::login(&broker).await;
    let node = client.node("q/$management").await;
    let mut later = message("later");
    let due = i64::try_from(in_seconds(3_600)).expect("in range") * 1_000;
    later.message_annotations.insert(Value::symbol("x-opt-scheduled-enqueue-time"), Value::Timestamp(due));
    let item = |message: &Message| {
        Value::Map(Map::from([("message-id", Value::Null), ("message", Value::Binary(message.encode()))]))
    };
    let body = Map::from([("messages", Value::List(vec![item(&later), item(&later)]))]);
    let reply = client.manage(node, "schedule-message", body).await;
    assert_eq!(reply.status(), 200, "{reply:?}");
    assert_eq!(reply.field("sequence-numbers"), &Value::Array(vec![Value::Long(1), Value::Long(2)]));
    assert_eq!(get(broker.addresses()[0], "/q").await.counts(), [0, 0, 2]);
    let reply = client.manage(node, "cancel-scheduled-message", numbers(&[1])).await;
    assert_eq!(reply.status(), 200);
    assert_eq!(get(broker.addresses()[0], "/q").await.counts(), [0, 0, 1]);
    let reply = client.manage(node, "cancel-scheduled-message", numbers(&[1])).await;
    assert_eq!((reply.status(), reply.condition()), (404, Some("com.microsoft:message-not-found")));
    let broken = Value::Map(Map::from([("message", Value::Binary(Bytes::from_static(b"?")))]));
    let reply = client.manage(node, "schedule-message", Map::from([("messages", Value::List(vec![broken]))])).await;
    assert_eq!(reply.status(), 400);
}

#[tokio::test]
async fn a_message_scheduled_over_the_link_comes_when_it_is_due() {
    let broker = broker_with(&["q"]).await;
    let mut client = Client::login(&broker).await;
    let sender = client.sender("q").await;
    let mut soon = message("soon");
    let due = i64::try_from(in_seconds(1)).expect("in range") * 1_000;
    soon.message_annotations.insert(Value::symbol("x-opt-scheduled-enqueue-time"), Value::Timestamp(due));
    client.send(sender, &soon).await;
    let receiver = client.receiver("q", 1).await;
    let received = client.receive(receiver).await;
    let enqueued = received.message.message_annotations.get("x-opt-enqueued-time").and_then(Value::as_timestamp);
    assert!(enqueued >= Some(due), "{enqueued:?} before {due}");
}

#[tokio::test]
async fn messages_are_settled_deferred_and_received_by_number() {
    let broker = broker_with(&["q"]).await;
    let mut client = Client::login(&broker).await;
    let sender = client.sender("q").await;
    client.send_batch(sender, &[message("1"), message("2"), message("3")]).await;
    let receiver = client.receiver("q", 3).await;
    let first = client.receive(receiver).await;
    let second = client.receive(receiver).await;
    let third = client.receive(receiver).await;
    let node = client.node("q/$management").await;
    let disposition = |token: [u8; 16], status: &str| {
        let mut body = tokens(&[token]);
        body.insert("disposition-status", status);
        body
    };
    let reply = client.manage(node, "update-disposition", disposition(first.lock_token(), "completed")).await;
    assert_eq!(reply.status(), 200);
    let reply = client.manage(node, "update-disposition", disposition(first.lock_token(), "completed")).await;
    assert_eq!((reply.status(), reply.condition()), (410, Some("com.microsoft:message-lock-lost")));
    let mut dead_letter = disposition(second.lock_token(), "suspended");
    dead_letter.insert("deadletter-reason", "Bad");
    assert_eq!(client.manage(node, "update-disposition", dead_letter).await.status(), 200);
    let reply = client.manage(node, "update-disposition", disposition(third.lock_token(), "defered")).await;
    assert_eq!(reply.status(), 200);
    let reply = client.manage(node, "update-disposition", disposition(third.lock_token(), "deferred")).await;
    assert_eq!(reply.status(), 400, "only the wire's own spelling is known");
    assert_eq!(get(broker.addresses()[0], "/q").await.counts(), [1, 1, 0]);

    let mut body = numbers(&[third.sequence_number()]);
    body.insert("receiver-settle-mode", 1u32);
    let reply = client.manage(node, "receive-by-sequence-number", body.clone()).await;
    assert_eq!(reply.status(), 200);
    let item = reply.field("messages").as_list().expect("a list")[0].as_map().expect("a map").clone();
    let token = item.get("lock-token").and_then(Value::as_uuid).expect("a token");
    let received = Message::decode(item.get("message").and_then(Value::as_binary).expect("a binary")).expect("decodes");
    assert_eq!(received.delivery_annotations.get("x-opt-lock-token"), Some(&Value::Uuid(token)));
    let reply = client.manage(node, "receive-by-sequence-number", body).await;
    assert_eq!((reply.status(), reply.condition()), (404, Some("com.microsoft:message-not-found")));
    let reply = client.manage(node, "update-disposition", disposition(token, "completed")).await;
    assert_eq!(reply.status(), 200);
    assert_eq!(get(broker.addresses()[0], "/q").await.counts(), [0, 1, 0]);
    let dead = client.node("q/$DeadLetterQueue/$management").await;
    let seen = messages(&client.manage(dead, "peek-message", peek(1, 10)).await);
    assert_eq!(seen[0].application_properties.get("DeadLetterReason"), Some(&Value::from("Bad")));
}

#[tokio::test]
async fn what_is_not_supported_is_said_so() {
    let broker = broker_with(&["q"]).await;
    let mut client = Client::login(&broker).await;
    let node = client.node("q/$management").await;
    for operation in ["renew-session-lock", "enumerate-rules", "batch-delete-messages", "make-coffee"] {
        let reply = client.manage(node, operation, Map::default()).await;
        assert_eq!((reply.status(), reply.condition()), (501, Some("amqp:not-implemented")), "{operation}");
    }
}

#[tokio::test]
async fn replies_find_their_link_by_target_by_name_or_by_session() {
    let broker = broker_with(&["q"]).await;
    let mut client = Client::login(&broker).await;
    let decoy = client.node_with_reply_link("q/$management", "decoy", "decoy-target").await;
    let by_target = client.node_with_reply_link("q/$management", "one", "amqp://localhost-1a2b3c4d;0:0:3").await;
    let by_name = client.node_with_reply_link("q/$management", "cbs-two", "").await;
    let request = || Message {
        application_properties: Map::from([("operation", "com.microsoft:peek-message")]),
        ..Message::with_body(Body::value(&Value::Map(peek(1, 1))))
    };
    // Each request helper waits on its own node's reply link, so a reply elsewhere would time out; the correlation id
    // must come back with its type.
    for (node, reply_to, id) in [
        (by_target, Some("amqp://localhost-1a2b3c4d;0:0:3"), Value::Ulong(0)),
        (by_name, Some("cbs-two"), Value::from("text")),
        (decoy, Some("decoy-target"), Value::Uuid([3; 16])),
        (by_name, None, Value::from("newest on the session")),
    ] {
        assert_eq!(client.request(node, request(), id, reply_to).await.status(), 204);
    }
}

#[tokio::test]
async fn a_request_without_a_reply_link_is_rejected() {
    let broker = broker_with(&["q"]).await;
    let mut client = Client::connect(broker.addresses()[0]).await;
    let (link, _) = client.attach(Attach::sender("requests", "here", "$cbs")).await.expect("accepted");
    let request = Message {
        application_properties: Map::from([("operation", "put-token"), ("name", "sb://h/")]),
        ..Message::with_body(Body::value(&Value::from(token("sb://h/"))))
    };
    let outcome = client.send(link, &request).await;
    let DeliveryState::Rejected(Some(error)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(error.condition.as_str(), "amqp:precondition-failed");
}

#[tokio::test]
async fn deferred_messages_come_in_one_reply_or_stay_where_they_are() {
    let broker = broker_with(&["q"]).await;
    let mut client = Client::login(&broker).await;
    let sender = client.sender("q").await;
    let receiver = client.receiver("q", 17).await;
    let mut deferred = Vec::new();
    for number in 0..17 {
        let mut large = message(&number.to_string());
        large.body = amqp::Body::data(vec![b'x'; 250_000]);
        assert_eq!(client.send(sender, &large).await, DeliveryState::Accepted);
        let received = client.receive(receiver).await;
        deferred.push(received.sequence_number());
        let defer = DeliveryState::Modified {
            delivery_failed: None,
            undeliverable_here: Some(true),
            message_annotations: None,
        };
        assert_eq!(client.settle(receiver, received.id, defer.clone()).await, defer);
    }
    // Late replies wait on the connection; that one is large must not cost its messages.
    broker.faults().add("latency=1ms,plane=amqp,operation=receive".parse().expect("a fault")).expect("room");
    let node = client.node("q/$management").await;
    let take = |deferred: &[i64]| {
        let mut body = numbers(deferred);
        body.insert("receiver-settle-mode", 0u32);
        body
    };
    let reply = client.manage(node, "receive-by-sequence-number", take(&deferred)).await;
    assert_eq!((reply.status(), reply.condition()), (413, Some("amqp:link:message-size-exceeded")));
    for some in deferred.chunks(4) {
        let reply = client.manage(node, "receive-by-sequence-number", take(some)).await;
        assert_eq!(messages(&reply).len(), some.len());
    }
    assert_eq!(client.manage(node, "peek-message", peek(1, 10)).await.status(), 204, "all were taken");
}
