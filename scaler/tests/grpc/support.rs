//! What the tests share: a broker with queues, a scaler before it, messages, and waiting for a state with a deadline.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use broker::{Broker, Options, QueueOptions};
use externalscaler::external_scaler_client::ExternalScalerClient;
use externalscaler::{GetMetricsRequest, IsActiveResponse, MetricValue, ScaledObjectRef};
use scaler::access::Access;
use scaler::administration::AdministrationSource;
use scaler::config::{Config, ConfigHandle};
use scaler::endpoints::AllowedEndpoints;
use scaler::entity::{Entity, Listing};
use scaler::serve::{Parts, Timings, serve};
use scaler::source::{Observed, Page, Read, Source};
use servicebus::AdministrationOptions;
pub(crate) use testbench::{send, within};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

/// Longer than any test may take: a test that runs into a deadline of the scaler's fails, but for one that shortens it.
const PATIENT: Duration = Duration::from_hours(1);

/// A broker on a free port with these queues.
pub(crate) async fn broker_with(queues: &[&str]) -> Broker {
    let queues = queues.iter().map(|name| QueueOptions::new(*name)).collect();
    Broker::start(Options { queues, ..Options::default() }).await.expect("a broker on a free port starts")
}

/// A trigger's reference as KEDA sends it: this connection, and this metadata on top.
pub(crate) fn trigger(connection: &str, metadata: &[(&str, &str)]) -> ScaledObjectRef {
    let always = [("scalerAddress", "scaler:6000"), ("connectionFromEnv", connection)];
    let all = always.iter().chain(metadata).map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    ScaledObjectRef {
        name: "receiver".to_owned(),
        namespace: "demo".to_owned(),
        scaler_metadata: all.collect::<HashMap<_, _>>(),
    }
}

/// A scaler that serves in this process.
pub(crate) struct Scaler {
    pub(crate) client: ExternalScalerClient<Channel>,
    pub(crate) channel: Channel,
    pub(crate) config: ConfigHandle,
    /// How often Service Bus was read.
    pub(crate) reads: Arc<AtomicUsize>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<anyhow::Result<()>>,
}

/// The real source, counted.
struct Counted {
    source: AdministrationSource,
    reads: Arc<AtomicUsize>,
}

impl Source for Counted {
    fn read<'a>(&'a self, access: &'a Access, entity: &'a Entity) -> Read<'a, Observed> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.source.read(access, entity)
    }

    fn page<'a>(&'a self, access: &'a Access, listing: &'a Listing, skip: usize) -> Read<'a, Page> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.source.page(access, listing, skip)
    }
}

/// The product's periods, shortened where a test would have to wait for them, and deadlines that are out of the way.
pub(crate) fn quick() -> Timings {
    Timings {
        refresh_deadline: PATIENT,
        call_deadline: PATIENT,
        arrival_deadline: PATIENT,
        last_calls: PATIENT,
        drain_deadline: PATIENT,
        watch_interval: Duration::from_millis(40),
        heartbeat: Duration::from_millis(200),
        config_interval: Duration::from_millis(40),
        ..Timings::default()
    }
}

impl Scaler {
    /// Starts with this config file's text.
    pub(crate) async fn start(config: &str) -> Self {
        Self::start_with(config, quick()).await
    }

    pub(crate) async fn start_with(config: &str, timings: Timings) -> Self {
        let config = ConfigHandle::new(Config::parse(config).expect("the test's config is good"));
        let reads = Arc::new(AtomicUsize::new(0));
        let options = AdministrationOptions { timeout: PATIENT, ..AdministrationOptions::default() };
        let source = AdministrationSource::with(options);
        let parts = Parts {
            allowed: AllowedEndpoints::default().and_loopback(true),
            config: config.clone(),
            timings,
            ..Parts::new(Arc::new(Counted { source, reads: Arc::clone(&reads) }))
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(serve(listener, parts, shutdown.clone()));
        let channel = connect(address).await;
        Self { client: ExternalScalerClient::new(channel.clone()), channel, config, reads, shutdown, task }
    }

    pub(crate) fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    /// `GetMetrics` as KEDA asks it: for the metric that `GetMetricSpec` names.
    pub(crate) async fn metric(&self, trigger: &ScaledObjectRef) -> Result<MetricValue, Status> {
        let mut client = self.client.clone();
        let specification = within("a specification", client.get_metric_spec(trigger.clone())).await?.into_inner();
        let [specification] = &specification.metric_specs[..] else { panic!("one spec, got {specification:?}") };
        let metric_name = specification.metric_name.clone();
        let request = GetMetricsRequest { scaled_object_ref: Some(trigger.clone()), metric_name };
        let mut values = within("a value", client.get_metrics(request)).await?.into_inner().metric_values;
        assert_eq!(values.len(), 1, "one metric, one value: {values:?}");
        Ok(values.remove(0))
    }

    pub(crate) async fn is_active(&self, trigger: &ScaledObjectRef) -> Result<bool, Status> {
        let mut client = self.client.clone();
        Ok(within("an answer", client.is_active(trigger.clone())).await?.into_inner().result)
    }

    pub(crate) async fn watch(&self, trigger: &ScaledObjectRef) -> Result<Streaming<IsActiveResponse>, Status> {
        let mut client = self.client.clone();
        Ok(within("the stream to open", client.stream_is_active(trigger.clone())).await?.into_inner())
    }

    /// Stops the scaler and says how it ended.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        within("the scaler to stop", self.task).await.expect("its task is whole").expect("it ends without error");
    }
}

pub(crate) async fn connect(address: SocketAddr) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{address}")).expect("a valid address");
    endpoint.connect().await.expect("the scaler accepts connections")
}

/// Asks again and again until `state` gives something.
pub(crate) async fn eventually<T>(what: &str, mut state: impl AsyncFnMut() -> Option<T>) -> T {
    within(what, async {
        loop {
            if let Some(reached) = state().await {
                return reached;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

/// The next message of a stream, which must come.
pub(crate) async fn next(stream: &mut Streaming<IsActiveResponse>) -> bool {
    let message = within("a message on the stream", stream.message()).await.expect("no error on the stream");
    message.expect("the stream is open").result
}

/// That a call failed, with this code and these words.
pub(crate) fn assert_refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, words: &[&str]) {
    let status = answer.expect_err("the call must fail");
    assert_eq!(status.code(), code, "{status}");
    for word in words {
        assert!(status.message().contains(word), "{word:?} is missing in {:?}", status.message());
    }
}
