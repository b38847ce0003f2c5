//! The administration client against the real broker, and against servers that misbehave.

use std::time::Duration;

use broker::{Broker, Options, QueueOptions};
use servicebus::{
    AdministrationClient, AdministrationError, AdministrationOptions, ConnectionString, EntityCounts, EntityName,
    EntitySettings, EntityStatus,
};

#[path = "administration/faults.rs"]
mod faults;
#[path = "administration/servers.rs"]
mod servers;
#[path = "administration/subscriptions.rs"]
mod subscriptions;

/// A busy machine must not fail a test that is not about deadlines.
const PATIENT: Duration = Duration::from_secs(30);

fn client(connection: &str, options: AdministrationOptions) -> AdministrationClient {
    let connection = ConnectionString::parse(connection).expect("a connection string");
    AdministrationClient::with_options(&connection, options).expect("a client")
}

fn patient() -> AdministrationOptions {
    AdministrationOptions { timeout: PATIENT, ..AdministrationOptions::default() }
}

async fn broker_with(queues: &[&str]) -> (Broker, AdministrationClient) {
    let queues = queues.iter().map(|name| QueueOptions::new(*name)).collect();
    let broker = Broker::start(Options { queues, ..Options::default() }).await.expect("a broker");
    let client = client(broker.connection_string(), patient());
    (broker, client)
}

#[tokio::test]
async fn a_queue_is_described_made_and_removed() {
    let (_broker, client) = broker_with(&["orders"]).await;
    let queue = client.queue("orders").await.expect("described");
    assert_eq!(
        (queue.name.as_str(), queue.counts, queue.status),
        ("orders", EntityCounts::default(), EntityStatus::Active)
    );
    assert_eq!((queue.lock_duration, queue.max_delivery_count), (Duration::from_mins(1), 10));
    assert!(!queue.requires_session);

    let error = client.queue("nowhere").await.expect_err("there is none");
    assert!(
        matches!(&error, AdministrationError::NotFound { entity, .. } if *entity == EntityName::queue("nowhere")),
        "{error:?}"
    );
    assert!(!error.is_transient());

    let new = EntitySettings {
        lock_duration: Some(Duration::from_secs(30)),
        max_delivery_count: Some(3),
        ..EntitySettings::default()
    };
    let made = client.create_queue("area/invoices", &new).await.expect("made");
    assert_eq!((made.lock_duration, made.max_delivery_count), (Duration::from_secs(30), 3));
    let error = client.create_queue("area/invoices", &new).await.expect_err("it exists");
    assert!(matches!(error, AdministrationError::AlreadyExists { .. }), "{error:?}");
    assert_eq!(client.queue("area/invoices").await.expect("described"), made);
    client.delete_queue("area/invoices").await.expect("removed");
    let error = client.delete_queue("area/invoices").await.expect_err("removed before");
    assert!(matches!(error, AdministrationError::NotFound { .. }), "{error:?}");
}

#[tokio::test]
async fn queues_are_listed_page_by_page() {
    let names: Vec<String> = (0..7).map(|index| format!("queue-{index}")).collect();
    let (broker, _) = broker_with(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for (page_size, operations) in [(1, 7), (3, 3), (7, 2), (100, 1)] {
        let client = client(broker.connection_string(), AdministrationOptions { page_size, ..patient() });
        broker.reset_counters();
        let (mut pages, mut found, mut asked) = (client.queues(), Vec::new(), 0);
        while !pages.is_finished() {
            asked += 1;
            let Some(page) = pages.next().await.expect("a page") else { break };
            assert!((1..=page_size as usize).contains(&page.len()), "{} queues on a page of {page_size}", page.len());
            found.extend(page.into_iter().map(|queue| queue.name));
        }
        assert_eq!(found, names, "pages of {page_size}");
        assert!(pages.is_finished());
        let counted = broker.counters().administration.operations;
        assert_eq!((counted, asked), (operations, operations), "pages of {page_size}");
        assert!(pages.next().await.expect("over").is_none());
    }
    let (_broker, client) = broker_with(&[]).await;
    assert!(client.queues().next().await.expect("a page").is_none(), "no queues");
}

#[tokio::test]
async fn a_wrong_key_is_unauthorized_and_not_shown() {
    let (broker, _) = broker_with(&["orders"]).await;
    let address = broker.addresses()[0];
    let wrong = format!(
        "Endpoint=sb://{address};SharedAccessKeyName={};SharedAccessKey=V1JPTkctS0VZ;UseDevelopmentEmulator=true",
        broker::EMULATOR_KEY_NAME
    );
    let error = client(&wrong, patient()).queue("orders").await.expect_err("a wrong key");
    assert!(matches!(error, AdministrationError::Unauthorized { status: 401, .. }), "{error:?}");
    assert!(!format!("{error:?} {error}").contains("V1JPTkctS0VZ"), "{error:?}");
}
