//! A broker with queues, a scaler before it, and triggers for the queues.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use externalscaler::external_scaler_client::ExternalScalerClient;
use externalscaler::{GetMetricsRequest, IsActiveResponse, ScaledObjectRef};
use scaler::administration::AdministrationSource;
use scaler::config::{Config, ConfigHandle};
use scaler::endpoints::AllowedEndpoints;
use scaler::metrics::Metrics;
use scaler::serve::{Parts, Timings, serve};
use servicebus::{AdministrationClient, AdministrationOptions};
use testbench::broker::{Options, QueueOptions};
use testbench::{Bench, within};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::log;

/// Longer than any test may take: what is not about a deadline of the scaler's fails if it runs into one.
const PATIENT: Duration = Duration::from_hours(1);

pub(crate) struct Scene {
    pub(crate) bench: Bench,
    pub(crate) metrics: Metrics,
    pub(crate) client: ExternalScalerClient<Channel>,
    _stop: tokio_util::sync::DropGuard,
}

/// The name of the queue of that number, in the service's order.
pub(crate) fn queue(number: usize) -> String {
    format!("queue-{number:04}")
}

/// Deadlines that are out of the way.
pub(crate) fn patient() -> Timings {
    Timings { refresh_deadline: PATIENT, call_deadline: PATIENT, arrival_deadline: PATIENT, ..Timings::default() }
}

/// A read gives up when the product's does. The call that waits for it would wait for longer than a test may take.
pub(crate) fn with_refresh_deadline() -> Timings {
    Timings { refresh_deadline: Timings::default().refresh_deadline, ..patient() }
}

impl Scene {
    /// So many queues, and a scaler with this config file's text that waits for as long as it takes.
    pub(crate) async fn start(queues: usize, config: &str) -> Self {
        Self::start_with(queues, config, patient()).await
    }

    pub(crate) async fn start_with(queues: usize, config: &str, timings: Timings) -> Self {
        log::install();
        let queues = (0..queues).map(|number| QueueOptions::new(queue(number))).collect();
        let bench = Bench::with(Options { queues, ..Options::default() }).await;
        let metrics = Metrics::new();
        let options = AdministrationOptions { timeout: PATIENT, ..AdministrationOptions::default() };
        let parts = Parts {
            allowed: AllowedEndpoints::default().and_loopback(true),
            config: ConfigHandle::new(Config::parse(config).expect("the test's config is good")),
            timings,
            metrics: metrics.clone(),
            ..Parts::new(Arc::new(AdministrationSource::with(options)))
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let shutdown = CancellationToken::new();
        tokio::spawn(serve(listener, parts, shutdown.clone()));
        let client = ExternalScalerClient::connect(format!("http://{address}")).await.expect("the scaler listens");
        Self { bench, metrics, client, _stop: shutdown.drop_guard() }
    }

    /// A trigger for this queue, in a `ScaledObject` of the queue's name.
    pub(crate) fn trigger(&self, queue: &str) -> ScaledObjectRef {
        trigger(self.bench.connection_string(), queue)
    }

    /// The value that KEDA would be told, or the error.
    pub(crate) async fn metric(&self, trigger: &ScaledObjectRef) -> Result<i64, Status> {
        let mut client = self.client.clone();
        let specification = within("a specification", client.get_metric_spec(trigger.clone())).await?.into_inner();
        let metric_name = specification.metric_specs[0].metric_name.clone();
        let request = GetMetricsRequest { scaled_object_ref: Some(trigger.clone()), metric_name };
        let answer = within("an answer", client.get_metrics(request)).await?.into_inner();
        Ok(answer.metric_values[0].metric_value)
    }

    /// Opens a push stream.
    pub(crate) async fn watch(&self, trigger: &ScaledObjectRef) -> Streaming<IsActiveResponse> {
        let mut client = self.client.clone();
        within("the stream to open", client.stream_is_active(trigger.clone())).await.expect("it opens").into_inner()
    }

    /// The broker's own administration.
    pub(crate) fn administration(&self) -> AdministrationClient {
        testbench::administration(self.bench.connection_string())
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
