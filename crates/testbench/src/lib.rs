//! What tests of whole programs stand on: a broker in this process, programs as real child processes, and a proxy whose
//! connections can be cut. Every wait has a deadline, waits for a state, and panics with what it saw instead.
//!
//! For tests alone: no program depends on it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, FaultId, Options, QueueOptions};
use servicebus::{
    Adapter, AdministrationClient, AdministrationOptions, ClientOptions, ConnectionString, EntityCounts, EntityName,
    EntitySettings, OutgoingMessage, QueueClient,
};
use workload::{Ledger, body};

mod address;
mod nobody;
mod program;
mod proxy;
mod tls;

pub use address::own_address;
/// What a bench is started with and shows is the broker's.
pub use broker;
pub use nobody::Nobody;
pub use program::{Ended, Program, keep};
pub use proxy::Proxy;
pub use tls::tls_acceptor;

/// Longer than anything here takes, on a slow machine too.
const DEADLINE: Duration = Duration::from_mins(1);
/// Between two looks at a state.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The name of the queue that tests use.
pub const QUEUE: &str = "orders";
/// The name of the topic that [`Bench::make_topic`] makes.
pub const TOPIC: &str = "events";
/// The names of its subscriptions.
pub const SUBSCRIPTIONS: [&str; 2] = ["audit", "billing"];

/// Fails the test when something takes too long.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let result = tokio::time::timeout(DEADLINE, future).await;
    result.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"))
}

/// Waits until something is so.
pub async fn until<F: Future<Output = bool>>(what: &str, is_so: impl Fn() -> F) {
    within(what, async {
        while !is_so().await {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    })
    .await;
}

/// What the scaler's answer is, in time: asks again while the error in it, `said`, is that a deadline was missed. The scaler's
/// deadlines are some seconds, and a machine that stands still for longer proves nothing about what was asked.
pub async fn in_time<T>(mut ask: impl AsyncFnMut() -> T, said: impl Fn(&T) -> Option<&str>) -> T {
    within("an answer in time", async {
        loop {
            // A call's future is kilobytes large.
            let answer = Box::pin(ask()).await;
            if !said(&answer).is_some_and(is_out_of_time) {
                return answer;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    })
    .await
}

/// Whether an error of the scaler's says that a deadline was missed, its own or that of a read.
pub fn is_out_of_time(error: &str) -> bool {
    error.contains("no answer") && error.contains(" within ")
}

/// Gives a file another text in one step, as volumes and editors do: who reads it meanwhile sees the whole of one or of the
/// other. For files that a running program follows.
pub fn replace(path: &Path, text: impl AsRef<[u8]>) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, path)).expect("the folder is writable");
}

/// The clients that this build has.
pub fn clients() -> impl Iterator<Item = Adapter> {
    Adapter::ALL.into_iter().filter(|adapter| adapter.is_built())
}

/// A client that administers the broker of this connection string and waits for as long as a test may: a machine that
/// stands still for some seconds must not fail a test that is not about deadlines.
pub fn administration(connection_string: &str) -> AdministrationClient {
    let connection = ConnectionString::parse(connection_string).expect("the broker's own");
    let patient = AdministrationOptions { timeout: DEADLINE, ..AdministrationOptions::default() };
    AdministrationClient::with_options(&connection, patient).expect("a client")
}

/// A broker with one queue, [`QUEUE`], and a folder for files.
pub struct Bench {
    broker: Broker,
    administration: AdministrationClient,
    folder: tempfile::TempDir,
}

impl Bench {
    /// A broker whose queue has this lock duration.
    pub async fn start(lock_duration: Duration) -> Self {
        let queue = QueueOptions { lock_duration, ..QueueOptions::new(QUEUE) };
        Self::with(Options { queues: vec![queue], ..Options::default() }).await
    }

    /// A broker with these options (TLS, keys, topics, faults, a budget) and in any case with [`QUEUE`]. Plain connections
    /// must stay allowed and the first key have all rights, because the bench itself looks at the queue that way.
    pub async fn with(mut options: Options) -> Self {
        if !options.queues.iter().any(|queue| queue.name.eq_ignore_ascii_case(QUEUE)) {
            options.queues.push(QueueOptions::new(QUEUE));
        }
        assert!(options.tls.as_ref().is_none_or(|tls| !tls.only), "the bench speaks without TLS");
        let broker = Broker::start(options).await.expect("a free port");
        let administration = administration(broker.connection_string());
        Self { broker, administration, folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// The broker: its counters, its faults, its addresses.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Adds a fault by its text, such as `throttle=30s,entity=orders`.
    pub fn inject(&self, fault: &str) -> FaultId {
        let fault = fault.parse().unwrap_or_else(|error| panic!("{fault}: {error}"));
        self.broker.faults().add(fault).expect("room for a fault")
    }

    /// A file with the certificate that clients of [`Broker::tls_connection_string`] must trust.
    pub fn authority_file(&self) -> PathBuf {
        let file = self.file("authority.pem");
        let pem = self.broker.certificate_authority_pem().expect("options.tls asks for a generated certificate");
        std::fs::write(&file, pem).expect("written");
        file
    }

    /// A way to the broker that can be cut.
    pub async fn proxy(&self) -> Proxy {
        Proxy::start(self.broker.addresses()[0]).await
    }

    /// A connection string that reaches the broker.
    pub fn connection_string(&self) -> &str {
        self.broker.connection_string()
    }

    /// A connection string that reaches the broker through a proxy.
    pub fn connection_string_through(&self, proxy: &Proxy) -> String {
        let direct = format!("sb://{}", self.broker.addresses()[0]);
        let replaced = self.connection_string().replace(&direct, &format!("sb://{}", proxy.address()));
        assert_ne!(replaced, self.connection_string(), "the connection string names the broker's address");
        replaced
    }

    /// A client of the queue, or of `/$DeadLetterQueue` and the like below it.
    pub fn client(&self, below: &str) -> Arc<dyn QueueClient> {
        self.client_of(EntityName::queue(format!("{QUEUE}{below}")))
    }

    fn client_of(&self, entity: EntityName) -> Arc<dyn QueueClient> {
        client(self.connection_string(), entity)
    }

    /// Puts messages with these ids into the queue.
    pub async fn fill(&self, ids: impl IntoIterator<Item = u64>) {
        self.send(ids.into_iter().map(body::encode)).await;
    }

    /// Puts messages with these bodies into the queue.
    pub async fn send(&self, bodies: impl IntoIterator<Item = bytes::Bytes>) {
        send_through(self.client(""), bodies).await;
    }

    /// Makes [`TOPIC`] with its [`SUBSCRIPTIONS`].
    pub async fn make_topic(&self) {
        within("make the topic", self.administration.create_topic(TOPIC)).await.expect("made");
        for name in SUBSCRIPTIONS {
            let settings = EntitySettings::default();
            let making = self.administration.create_subscription(TOPIC, name, &settings);
            within("make a subscription", making).await.expect("made");
        }
    }

    /// Puts messages with these ids into [`TOPIC`].
    pub async fn fill_topic(&self, ids: impl IntoIterator<Item = u64>) {
        send_through(self.client_of(EntityName::topic(TOPIC)), ids.into_iter().map(body::encode)).await;
    }

    /// What one of the [`SUBSCRIPTIONS`] holds.
    pub async fn subscription_counts(&self, name: &str) -> EntityCounts {
        let read = self.administration.subscription(TOPIC, name);
        within("read the counts", read).await.expect("the subscription is there").counts
    }

    /// What the queue holds.
    pub async fn counts(&self) -> EntityCounts {
        within("read the counts", self.administration.queue(QUEUE)).await.expect("the queue is there").counts
    }

    /// Waits until the queue holds this.
    pub async fn until_counts(&self, active: u64, dead_letter: u64) {
        let what = format!("{active} active and {dead_letter} dead-lettered messages");
        until(&what, || async {
            let counts = self.counts().await;
            (counts.active, counts.dead_letter) == (active, dead_letter)
        })
        .await;
    }

    /// A file in the bench's folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The ids in a ledger, sorted; none if it is not there yet.
    pub fn ledger(&self, name: &str) -> Vec<u64> {
        let path = self.file(name);
        if !path.exists() {
            return Vec::new();
        }
        let mut ids = Ledger::read(&path).expect("whole lines");
        ids.sort_unstable();
        ids
    }
}

/// Puts so many messages into a queue or topic of the broker of this connection string.
pub async fn send(connection_string: &str, entity: &str, count: u64) {
    send_through(client(connection_string, entity.into()), (0..count).map(body::encode)).await;
}

fn client(connection_string: &str, entity: EntityName) -> Arc<dyn QueueClient> {
    let connection = ConnectionString::parse(connection_string).expect("the broker's own");
    let patient = ClientOptions { call_timeout: DEADLINE, connect_timeout: DEADLINE, ..ClientOptions::default() };
    servicebus::connect_with(&connection, entity, Adapter::Ours, &patient).expect("a client")
}

async fn send_through(client: Arc<dyn QueueClient>, bodies: impl IntoIterator<Item = bytes::Bytes>) {
    let message = |(index, body)| OutgoingMessage {
        message_id: format!("message-{index}"),
        content_type: Some(body::CONTENT_TYPE.to_owned()),
        body,
        scheduled_enqueue_time: None,
    };
    let messages: Vec<OutgoingMessage> = bodies.into_iter().enumerate().map(message).collect();
    within("send", client.send(&messages)).await.expect("sent");
    within("close", client.close()).await.expect("closed");
}
