//! What every test starts from: a broker, a proxy before it, clients through the proxy or around it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::{Broker, Options, QueueOptions, SubscriptionOptions};
use bytes::Bytes;
use servicebus::{
    Adapter, AdministrationClient, AdministrationOptions, ClientOptions, ConnectionString, EntityCounts, EntityName,
    OutgoingMessage, QueueClient, ReceivedMessage, Settlement, connect_with,
};
use testbench::Proxy;

/// A queue whose locks outlast every test: what comes again within the deadline was given back.
pub(crate) const ORDERS: &str = "orders";
/// A queue whose locks run out soon.
pub(crate) const BRIEF: &str = "brief";
/// A topic, and its subscriptions.
pub(crate) const EVENTS: &str = "area/events";
pub(crate) const AUDIT: &str = "audit";
pub(crate) const BILLING: &str = "billing";
const BRIEF_LOCK: Duration = Duration::from_secs(2);
/// A queue whose locks run out while a test waits, but not while the machine stands still for a moment.
pub(crate) const RENEWED: &str = "renewed";
pub(crate) const RENEWED_LOCK: Duration = Duration::from_secs(10);
/// Longer than any wait that is to end by a message; a client waits for an answer for as long.
pub(crate) const LONG_WAIT: Duration = Duration::from_secs(100);
/// What is to end at once has ended within this, though the machine may stand still meanwhile. Far from [`LONG_WAIT`], which
/// is what it takes if it waits for something.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(30);
/// The deadline of each test.
const DEADLINE: Duration = Duration::from_mins(4);

/// Fails a test that hangs.
pub(crate) async fn within_deadline(test: impl Future<Output = ()>) {
    tokio::time::timeout(DEADLINE, test)
        .await
        .unwrap_or_else(|_| panic!("the test hangs: not over within {DEADLINE:?}"));
}

pub(crate) struct Scene {
    pub(crate) broker: Broker,
    pub(crate) proxy: Proxy,
    adapter: Adapter,
}

impl Scene {
    pub(crate) async fn new(adapter: Adapter) -> Self {
        let broker = start_broker().await;
        let proxy = Proxy::start(broker.addresses()[0]).await;
        Self { broker, proxy, adapter }
    }

    /// A connection string that leads through the proxy.
    pub(crate) fn through_proxy(&self) -> String {
        let (direct, proxied) = (self.broker.addresses()[0].to_string(), self.proxy.address().to_string());
        self.broker.connection_string().replace(&direct, &proxied)
    }

    /// A client through the proxy.
    pub(crate) fn client(&self, entity: impl Into<EntityName>) -> Arc<dyn QueueClient> {
        patient_client(&self.through_proxy(), entity, self.adapter)
    }

    /// A client through the proxy whose calls have two seconds.
    pub(crate) fn impatient_client(&self, queue: &str) -> Arc<dyn QueueClient> {
        let timeout = Duration::from_secs(2);
        let options = ClientOptions { call_timeout: timeout, connect_timeout: timeout, ..ClientOptions::default() };
        connect_with(&parse(&self.through_proxy()), queue, self.adapter, &options).expect("a client")
    }

    /// Another client, of the default adapter and around the proxy: the world outside the client under test.
    pub(crate) fn bystander(&self, entity: impl Into<EntityName>) -> Arc<dyn QueueClient> {
        patient_client(self.broker.connection_string(), entity, Adapter::Ours)
    }

    pub(crate) fn administration(&self) -> AdministrationClient {
        // A busy machine must not fail a test that is not about deadlines.
        let options = AdministrationOptions { timeout: LONG_WAIT, ..AdministrationOptions::default() };
        AdministrationClient::with_options(&parse(self.broker.connection_string()), options).expect("a client")
    }

    pub(crate) async fn counts(&self, queue: &str) -> EntityCounts {
        self.administration().queue(queue).await.expect("the queue").counts
    }

    pub(crate) async fn subscription_counts(&self, name: &str) -> EntityCounts {
        self.administration().subscription(EVENTS, name).await.expect("the subscription").counts
    }
}

pub(crate) async fn start_broker() -> Broker {
    let queues = vec![
        QueueOptions::new(ORDERS),
        QueueOptions { lock_duration: BRIEF_LOCK, max_delivery_count: 1_000, ..QueueOptions::new(BRIEF) },
        QueueOptions { lock_duration: RENEWED_LOCK, max_delivery_count: 1_000, ..QueueOptions::new(RENEWED) },
    ];
    let topics = vec![EVENTS.to_owned()];
    let subscriptions = [AUDIT, BILLING].map(|name| SubscriptionOptions::new(EVENTS, name)).to_vec();
    Broker::start(Options { queues, topics, subscriptions, ..Options::default() }).await.expect("a broker")
}

fn parse(text: &str) -> ConnectionString {
    ConnectionString::parse(text).expect("a connection string")
}

/// A client by this connection string whose deadlines no pause of the machine reaches, where the adapter leaves them to us.
pub(crate) fn patient_client(
    connection: &str,
    entity: impl Into<EntityName>,
    adapter: Adapter,
) -> Arc<dyn QueueClient> {
    let options = ClientOptions { call_timeout: LONG_WAIT, connect_timeout: LONG_WAIT, ..ClientOptions::default() };
    connect_with(&parse(connection), entity, adapter, &options).expect("a client")
}

pub(crate) fn message(id: usize) -> OutgoingMessage {
    OutgoingMessage {
        message_id: format!("m-{id}"),
        content_type: Some("application/json".to_owned()),
        body: Bytes::from(format!("{{\"id\":{id}}}")),
        scheduled_enqueue_time: None,
    }
}

pub(crate) async fn send(client: &dyn QueueClient, ids: std::ops::Range<usize>) {
    let messages: Vec<OutgoingMessage> = ids.map(message).collect();
    client.send(&messages).await.expect("accepted");
}

/// Receives until `count` messages are here, which come with the first deliveries.
pub(crate) async fn receive(client: &dyn QueueClient, count: usize) -> Vec<ReceivedMessage> {
    let mut messages = Vec::new();
    while messages.len() < count {
        let more = client.receive(count - messages.len(), LONG_WAIT).await.expect("received");
        assert!(!more.is_empty(), "{} of {count} messages came", messages.len());
        messages.extend(more);
    }
    messages
}

pub(crate) async fn receive_one(client: &dyn QueueClient) -> ReceivedMessage {
    receive(client, 1).await.pop().expect("one")
}

pub(crate) fn ids(messages: &[ReceivedMessage]) -> BTreeSet<String> {
    messages.iter().map(|message| message.message_id.clone().expect("an id")).collect()
}

pub(crate) fn expected_ids(ids: std::ops::Range<usize>) -> BTreeSet<String> {
    ids.map(|id| format!("m-{id}")).collect()
}

/// Completes, trying again as a worker does while errors are transient.
pub(crate) async fn complete_stubbornly(client: &dyn QueueClient, message: &ReceivedMessage) {
    until_ok(|| complete_once(client, message)).await;
}

/// Completes. A lost lock is the end of it, too: the message was completed by a try whose answer was lost, or comes
/// again. Which of the two, only the queue's counts tell.
pub(crate) async fn complete_once(
    client: &dyn QueueClient,
    message: &ReceivedMessage,
) -> Result<(), servicebus::ClientError> {
    match client.settle(message.lock_token, Settlement::Complete).await {
        Err(error) if error.kind == servicebus::FailureKind::LockLost => Ok(()),
        answered => answered,
    }
}

/// Tries again until a call succeeds; gives how long that took.
pub(crate) async fn until_ok<T, F>(mut call: impl FnMut() -> F) -> (T, Duration)
where
    F: Future<Output = Result<T, servicebus::ClientError>>,
{
    let started = Instant::now();
    loop {
        match call().await {
            Ok(value) => return (value, started.elapsed()),
            Err(error) => assert!(error.is_transient(), "{error:?}"),
        }
    }
}
