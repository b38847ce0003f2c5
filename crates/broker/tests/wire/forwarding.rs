//! Messages that move on by themselves, over HTTP and AMQP.

use amqp::{Attach, DeliveryState, Value};

use super::admin::described;
use super::client::{Client, id_of, message, token};
use super::http::{call, get, raw};
use super::topics::broker_with_topic;

#[tokio::test]
async fn messages_are_forwarded_wait_for_their_target_and_end_in_the_transfer_dead_letter_queue() {
    let broker = broker_with_topic(&["s"]).await;
    let address = broker.addresses()[0];
    let put = async |path: &str, kind: &str, headers: &str, inner: &str| {
        call(address, "PUT", path, headers, &described(kind, inner)).await
    };
    let missing = put("/t/Subscriptions/new", "Subscription", "", "<ForwardTo>nowhere</ForwardTo>").await;
    assert_eq!(missing.status, 400, "{missing:?}");
    assert!(missing.element("Detail").contains("nowhere&apos; cannot be the destination"), "{}", missing.body);
    put("/Target", "Queue", "", "").await;
    let forwards = format!("<ForwardTo>sb://{address}/target</ForwardTo>");
    let changed = put("/t/Subscriptions/s", "Subscription", "If-Match: *\r\n", &forwards).await;
    assert_eq!((changed.status, changed.element("ForwardTo")), (200, format!("sb://{address}/target").as_str()));

    let mut client = Client::login(&broker).await;
    let sender = client.sender("t").await;
    let refused = client.attach(Attach::receiver("r", "t/Subscriptions/s", "here")).await.expect_err("it forwards");
    assert_eq!(refused.condition.as_str(), "amqp:not-allowed");
    let text = refused.description.expect("a text");
    assert!(text.starts_with("Cannot create a message receiver on an entity with auto-forwarding enabled"), "{text}");
    client.send(sender, &message("1")).await;
    let receiver = client.receiver("target", 5).await;
    let received = client.receive(receiver).await;
    assert_eq!(id_of(&received.message), "1");
    client.settle(receiver, received.id, DeliveryState::Accepted).await;

    put("/target", "Queue", "If-Match: *\r\n", "<Status>SendDisabled</Status>").await;
    client.send(sender, &message("2")).await;
    let waiting = get(address, "/t/Subscriptions/s").await;
    assert_eq!((waiting.counts(), waiting.transfer_counts()), ([0, 0, 0], [1, 0]));
    assert_eq!(waiting.element("MessageCount"), "1");
    put("/target", "Queue", "If-Match: *\r\n", "<Status>Active</Status>").await;
    assert_eq!(id_of(&client.receive(receiver).await.message), "2");
    assert_eq!(call(address, "DELETE", "/target", "", "").await.status, 200);
    client.send(sender, &message("3")).await;
    assert_eq!(get(address, "/t/Subscriptions/s").await.transfer_counts(), [0, 1]);
    let given_up = client.receiver("t/subscriptions/s/$Transfer/$DeadLetterQueue", 1).await;
    let received = client.receive(given_up).await;
    let reason = received.message.application_properties.get("DeadLetterReason").and_then(Value::as_str);
    assert_eq!((id_of(&received.message).as_str(), reason), ("3", Some("TransferDestinationNotFound")));
    client.settle(given_up, received.id, DeliveryState::Accepted).await;
    assert_eq!(get(address, "/t/Subscriptions/s").await.transfer_counts(), [0, 0]);
}

#[tokio::test]
async fn who_lets_messages_be_forwarded_must_be_allowed_to_reach_the_destination() {
    let broker = broker_with_topic(&[]).await;
    let address = broker.addresses()[0];
    for name in ["own", "other"] {
        assert_eq!(call(address, "PUT", &format!("/{name}"), "", &described("Queue", "")).await.status, 201);
    }
    let with = |resource: &str| format!("Authorization: {}\r\nIf-Match: *\r\n", token(resource));
    let body = described("Queue", "<ForwardTo>other</ForwardTo>");
    let refused = raw(address, "PUT", "/own", &with("http://h/own"), &body).await;
    assert_eq!(refused.status, 401, "{refused:?}");
    assert!(refused.element("Detail").contains("ServiceBusSupplementaryAuthorization"), "{}", refused.body);
    let headers = |second: &str| {
        let second = token(second);
        format!("{}ServiceBusSupplementaryAuthorization: {second}\r\n", with("http://h/own"))
    };
    assert_eq!(raw(address, "PUT", "/own", &headers("http://h/t"), &body).await.status, 401);
    assert_eq!(raw(address, "PUT", "/own", &headers("http://h/other"), &body).await.status, 200);
    let again = raw(address, "PUT", "/own", &with("http://h/own"), &body).await;
    assert_eq!((again.status, again.element("ForwardTo")), (200, format!("sb://{address}/other").as_str()));
}
