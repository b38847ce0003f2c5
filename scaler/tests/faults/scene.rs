//! A broker with queues, a scaler before it, and triggers for the queues.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use externalscaler::external_scaler_client::ExternalScalerClient;
use externalscaler::{GetMetricsRequest, IsActiveResponse, ScaledObjectRef};
use scaler::administration::AdministrationSource;
use scaler::config::{Config, ConfigHandle};
use scaler::endpoints::AllowedEndpoints;
use scaler::metrics::Metrics;
use scaler::serve::{Parts, Timings, serve};
use servicebus::{AdministrationClient, ConnectionString};
use testbench::Bench;
use testbench::broker::{Options, QueueOptions};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

/// A read fails after this.
pub(crate) const REFRESH_DEADLINE: Duration = Duration::from_millis(600);
/// What a call may take beyond that on a machine that does other things as well; what hangs takes longer.
pub(crate) const SLACK: Duration = Duration::from_secs(3);

pub(crate) struct Scene {
    pub(crate) bench: Bench,
    pub(crate) metrics: Metrics,
    pub(crate) client: ExternalScalerClient<Channel>,
    refresh_deadline: Duration,
    _stop: tokio_util::sync::DropGuard,
}

/// The name of the queue of that number, in the service's order.
pub(crate) fn queue(number: usize) -> String {
    format!("queue-{number:04}")
}

impl Scene {
    /// So many queues, and a scaler with this config file's text.
    pub(crate) async fn start(queues: usize, config: &str) -> Self {
        let timings = Timings {
            refresh_deadline: REFRESH_DEADLINE,
            watch_interval: Duration::from_millis(200),
            heartbeat: Duration::from_secs(30),
            ..Timings::default()
        };
        Self::start_with(queues, config, timings).await
    }

    pub(crate) async fn start_with(queues: usize, config: &str, timings: Timings) -> Self {
        let queues = (0..queues).map(|number| QueueOptions::new(queue(number))).collect();
        let bench = Bench::with(Options { queues, ..Options::default() }).await;
        let metrics = Metrics::new();
        let parts = Parts {
            allowed: AllowedEndpoints::default().and_loopback(true),
            config: ConfigHandle::new(Config::parse(config).expect("the test's config is good")),
            timings,
            metrics: metrics.clone(),
            ..Parts::new(std::sync::Arc::new(AdministrationSource::new()))
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let shutdown = CancellationToken::new();
        tokio::spawn(serve(listener, parts, shutdown.clone()));
        let client = ExternalScalerClient::connect(format!("http://{address}")).await.expect("the scaler listens");
        let refresh_deadline = timings.refresh_deadline;
        Self { bench, metrics, client, refresh_deadline, _stop: shutdown.drop_guard() }
    }

    /// A trigger for this queue, in a `ScaledObject` of the queue's name.
    pub(crate) fn trigger(&self, queue: &str) -> ScaledObjectRef {
        trigger(self.bench.connection_string(), queue)
    }

    /// The value that KEDA would be told, or the error; and that it did not take longer than a call may.
    pub(crate) async fn metric(&self, trigger: &ScaledObjectRef) -> Result<i64, Status> {
        let mut client = self.client.clone();
        let specification = client.get_metric_spec(trigger.clone()).await?.into_inner();
        let metric_name = specification.metric_specs[0].metric_name.clone();
        let asked = Instant::now();
        let request = GetMetricsRequest { scaled_object_ref: Some(trigger.clone()), metric_name };
        let answer = client.get_metrics(request).await;
        assert!(asked.elapsed() <= self.refresh_deadline + SLACK, "it took {:?}", asked.elapsed());
        Ok(answer?.into_inner().metric_values[0].metric_value)
    }

    /// Opens a push stream.
    pub(crate) async fn watch(&self, trigger: &ScaledObjectRef) -> Streaming<IsActiveResponse> {
        self.client.clone().stream_is_active(trigger.clone()).await.expect("the stream opens").into_inner()
    }

    /// The broker's own administration.
    pub(crate) fn administration(&self) -> AdministrationClient {
        let connection = ConnectionString::parse(self.bench.connection_string()).expect("the broker's own");
        AdministrationClient::new(&connection).expect("a client")
    }

    /// Management operations that the broker counted so far, whatever became of them.
    pub(crate) fn operations(&self) -> u64 {
        self.bench.broker().counters().administration.operations
    }

    /// By how much the budget stretches periods, as exported; 1 if nothing was exported.
    pub(crate) fn stretch(&self) -> f64 {
        let exposition = self.metrics.exposition();
        let line = exposition.lines().find(|line| line.contains("budget_stretch_ratio{"));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(1.0)
    }
}

/// A trigger's reference as KEDA sends it.
pub(crate) fn trigger(connection: &str, queue: &str) -> ScaledObjectRef {
    let metadata = [("queueName", queue), ("connectionFromEnv", connection)];
    ScaledObjectRef {
        name: queue.to_owned(),
        namespace: "demo".to_owned(),
        scaler_metadata: metadata
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into_iter()
            .collect::<HashMap<_, _>>(),
    }
}
