//! Topics and subscriptions: sent to the one, received from the other, each under its own address.

use servicebus::{Adapter, EntityName, FailureKind, Settlement};

use crate::scene::{AUDIT, BILLING, EVENTS, LONG_WAIT, Scene, expected_ids, ids, message, receive, receive_one, send};

pub(crate) async fn every_subscription_gets_what_is_sent_to_the_topic(adapter: Adapter) {
    let scene = Scene::new(adapter).await;
    let topic = scene.client(EntityName::topic(EVENTS));
    assert!(topic.max_batch_bytes().await.expect("a limit") >= 100_000);
    send(&*topic, 0..20).await;
    for name in [AUDIT, BILLING] {
        let subscription = scene.client(EntityName::subscription(EVENTS, name));
        let messages = receive(&*subscription, 20).await;
        assert_eq!(ids(&messages), expected_ids(0..20));
        for message in messages {
            subscription.settle(message.lock_token, Settlement::Complete).await.expect("completed");
        }
        assert_eq!(scene.subscription_counts(name).await.active, 0, "{name}");
    }
}

pub(crate) async fn a_subscription_is_settled_renewed_and_peeked_like_a_queue(adapter: Adapter) {
    let scene = Scene::new(adapter).await;
    send(&*scene.bystander(EntityName::topic(EVENTS)), 0..3).await;
    let client = scene.client(EntityName::subscription(EVENTS, AUDIT));
    let messages = receive(&*client, 3).await;
    let renewed = client.renew(messages[0].lock_token).await.expect("renewed");
    assert!(renewed >= messages[0].locked_until);
    assert_eq!(client.peek(0, 10).await.expect("peeked").len(), 3, "locked ones are seen, too");
    client.settle(messages[0].lock_token, Settlement::Complete).await.expect("completed");
    client.settle(messages[1].lock_token, Settlement::Abandon).await.expect("abandoned");
    let again = receive_one(&*client).await;
    assert_eq!((again.sequence_number, again.delivery_count), (messages[1].sequence_number, 1));
    let settlement = Settlement::DeadLetter { reason: "BadBody".to_owned(), description: "no JSON".to_owned() };
    client.settle(messages[2].lock_token, settlement).await.expect("dead-lettered");
    let counts = scene.subscription_counts(AUDIT).await;
    assert_eq!((counts.active, counts.dead_letter), (1, 1));
    assert_eq!(scene.subscription_counts(BILLING).await.active, 3, "the other subscription is another");
    let dead_letters = scene.client(&format!("{EVENTS}/Subscriptions/{AUDIT}/$DeadLetterQueue"));
    let dead = receive_one(&*dead_letters).await;
    assert_eq!(dead.message_id, messages[2].message_id);
    dead_letters.settle(dead.lock_token, Settlement::Complete).await.expect("completed");
    assert_eq!(scene.subscription_counts(AUDIT).await.dead_letter, 0);
}

pub(crate) async fn an_unknown_topic_or_subscription_is_not_found(adapter: Adapter) {
    let scene = Scene::new(adapter).await;
    let error = scene.client(EntityName::topic("nothing")).send(&[message(1)]).await.expect_err("no topic");
    assert_eq!(error.kind, FailureKind::NotFound, "{error:?}");
    for (topic, name) in [(EVENTS, "nobody"), ("nothing", AUDIT)] {
        let client = scene.client(EntityName::subscription(topic, name));
        let error = client.receive(1, LONG_WAIT).await.expect_err("no subscription");
        assert_eq!(error.kind, FailureKind::NotFound, "{error:?}");
    }
}

/// What cannot be is refused, and not waited for.
pub(crate) async fn a_topic_gives_nothing_and_a_subscription_takes_nothing(adapter: Adapter) {
    let scene = Scene::new(adapter).await;
    let error = scene.client(EntityName::topic(EVENTS)).receive(1, LONG_WAIT).await.expect_err("a topic");
    assert!(!error.is_transient(), "{error:?}");
    let subscription = scene.client(EntityName::subscription(EVENTS, AUDIT));
    let error = subscription.send(&[message(1)]).await.expect_err("a subscription");
    assert!(!error.is_transient(), "{error:?}");
}
