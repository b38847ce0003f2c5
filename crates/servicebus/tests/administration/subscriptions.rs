//! Topics and subscriptions on the real broker: described, listed, made, changed and removed.

use std::time::Duration;

use broker::{Broker, Options, QueueOptions, SubscriptionOptions};
use bytes::Bytes;
use servicebus::{
    Adapter, AdministrationClient, AdministrationError, AdministrationOptions, ConnectionString, EntityCounts,
    EntityName, EntitySettings, EntityStatus, OutgoingMessage,
};

use crate::{client, patient};

async fn broker_with(subscriptions: &[String]) -> (Broker, AdministrationClient) {
    let subscriptions = subscriptions.iter().map(|name| SubscriptionOptions::new("area/events", name)).collect();
    let topics = vec!["area/events".to_owned()];
    let queues = vec![QueueOptions::new("orders")];
    let options = Options { queues, topics, subscriptions, ..Options::default() };
    let broker = Broker::start(options).await.expect("a broker");
    let client = client(broker.connection_string(), patient());
    (broker, client)
}

#[tokio::test]
async fn a_subscription_is_described_with_all_its_counts() {
    let (broker, client) = broker_with(&["audit".to_owned(), "billing".to_owned()]).await;
    let connection = ConnectionString::parse(broker.connection_string()).expect("the broker's own");
    let sender = servicebus::connect(&connection, EntityName::topic("area/events"), Adapter::Ours).expect("a client");
    let messages = [1, 2, 3].map(|number| OutgoingMessage {
        message_id: format!("m-{number}"),
        content_type: None,
        body: Bytes::from_static(b"{}"),
        scheduled_enqueue_time: None,
    });
    sender.send(&messages).await.expect("accepted");
    let audit = client.subscription("area/events", "audit").await.expect("described");
    assert_eq!((audit.name.as_str(), audit.status, audit.requires_session), ("audit", EntityStatus::Active, false));
    assert_eq!((audit.lock_duration, audit.max_delivery_count), (Duration::from_mins(1), 10));
    assert_eq!(audit.counts, EntityCounts { active: 3, ..EntityCounts::default() });
    for (topic, name) in [("area/events", "nobody"), ("nothing", "audit"), ("orders", "audit")] {
        let error = client.subscription(topic, name).await.expect_err("there is none");
        let expected = EntityName::subscription(topic, name);
        assert!(matches!(&error, AdministrationError::NotFound { entity, .. } if *entity == expected), "{error:?}");
    }
}

#[tokio::test]
async fn subscriptions_are_listed_page_by_page() {
    let names: Vec<String> = (0..205).map(|index| format!("s-{index:03}")).collect();
    let (broker, _) = broker_with(&names).await;
    for page_size in [70, 100] {
        let client = client(broker.connection_string(), AdministrationOptions { page_size, ..patient() });
        broker.reset_counters();
        let (mut pages, mut found, mut asked) = (client.subscriptions("area/events"), Vec::new(), 0);
        while !pages.is_finished() {
            asked += 1;
            found.extend(pages.next().await.expect("a page").unwrap_or_default().into_iter().map(|found| found.name));
        }
        assert_eq!(found, names);
        let counted = broker.counters().administration.operations;
        assert_eq!((counted, asked), (3, 3), "pages of {page_size}");
    }
}

#[tokio::test]
async fn topics_without_subscriptions_and_no_topics_are_told_apart() {
    let (_broker, client) = broker_with(&[]).await;
    let mut pages = client.subscriptions("area/events");
    assert!(pages.next().await.expect("a page").is_none() && pages.is_finished());
    for topic in ["nothing", "orders"] {
        let error = client.subscriptions(topic).next().await.expect_err("no topic");
        let expected = EntityName::topic(topic);
        assert!(matches!(&error, AdministrationError::NotFound { entity, .. } if *entity == expected), "{error:?}");
    }
    let error = client.subscriptions("../orders").next().await.expect_err("no name");
    assert!(error.to_string().starts_with("topic name \"../orders\" is not allowed: "), "{error}");
}

#[tokio::test]
async fn topics_and_subscriptions_are_made_changed_and_removed() {
    let (_broker, client) = broker_with(&[]).await;
    client.create_topic("news").await.expect("made");
    let error = client.create_topic("news").await.expect_err("it exists");
    assert_eq!(error.to_string(), "topic \"news\" exists already on 127.0.0.1");
    let settings = EntitySettings { lock_duration: Some(Duration::from_secs(30)), ..EntitySettings::default() };
    let made = client.create_subscription("news", "readers", &settings).await.expect("made");
    assert_eq!((made.name.as_str(), made.lock_duration), ("readers", Duration::from_secs(30)));
    let error = client.create_subscription("news", "readers", &settings).await.expect_err("it exists");
    assert!(matches!(error, AdministrationError::AlreadyExists { .. }), "{error:?}");
    let error = client.create_subscription("nothing", "readers", &settings).await.expect_err("no topic");
    assert!(matches!(error, AdministrationError::NotFound { .. }), "{error:?}");
    let disabled = EntitySettings { status: Some(EntityStatus::Disabled), ..EntitySettings::default() };
    client.update_subscription("news", "readers", &disabled).await.expect("changed");
    let status = client.subscription("news", "readers").await.expect("described").status;
    assert_eq!(status, EntityStatus::Disabled);
    let error = client.update_subscription("news", "nobody", &disabled).await.expect_err("there is none");
    assert!(matches!(error, AdministrationError::NotFound { .. }), "{error:?}");
    client.update_queue("orders", &disabled).await.expect("changed");
    assert_eq!(client.queue("orders").await.expect("described").status, EntityStatus::Disabled);
    client.delete_subscription("news", "readers").await.expect("removed");
    client.delete_topic("news").await.expect("removed");
    let error = client.delete_topic("news").await.expect_err("removed before");
    assert!(matches!(error, AdministrationError::NotFound { .. }), "{error:?}");
}
