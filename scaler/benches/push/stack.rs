//! What is measured: the real broker and the real scaler in this process, between them HTTP on loopback, before them one
//! gRPC connection as KEDA's operator holds it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use broker::{Broker, Options, QueueOptions, Tally};
use externalscaler::external_scaler_client::ExternalScalerClient;
use externalscaler::{GetMetricsRequest, ScaledObjectRef};
use scaler::config::{Config, ConfigHandle};
use scaler::endpoints::AllowedEndpoints;
use scaler::serve::{Parts, serve};
use servicebus::{AdministrationClient, ConnectionString};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;

use crate::looks::{Looks, Noted};
use crate::mailbox::Mailbox;
use crate::paced::Client;
use crate::summary::Times;

/// `ScaledObject`s of one Kubernetes namespace.
const PER_NAMESPACE: usize = 100;
/// How often a read is tried to learn how long one takes.
const SAMPLE_READS: usize = 40;

/// A broker with queues, and a scaler that may read it.
pub(crate) struct Stack {
    /// All calls and streams go through its one connection.
    pub(crate) client: Client,
    /// When the scaler looked at what.
    pub(crate) looks: Looks,
    broker: Broker,
    metrics: SocketAddr,
    shutdown: CancellationToken,
    served: JoinHandle<anyhow::Result<()>>,
}

/// The name of a queue.
pub(crate) fn queue(number: usize) -> String {
    format!("orders-{number:04}")
}

impl Stack {
    /// With so many queues, the scaler's config file, and so long for the broker to answer a read, beside what it takes.
    pub(crate) async fn start(queues: usize, config: &str, read_latency: Duration) -> anyhow::Result<Self> {
        let queues = (0..queues).map(|number| QueueOptions::new(queue(number))).collect();
        let latency = format!("latency={}ms,plane=administration", read_latency.as_millis());
        let faults = if read_latency.is_zero() { Vec::new() } else { vec![latency.parse()?] };
        let broker = Broker::start(Options { queues, faults, ..Options::default() }).await?;

        let looks = Looks::default();
        let admin = TcpListener::bind("127.0.0.1:0").await?;
        let metrics = admin.local_addr()?;
        let parts = Parts {
            allowed: AllowedEndpoints::default().and_loopback(true),
            config: ConfigHandle::new(Config::parse(config).map_err(anyhow::Error::msg)?),
            admin: Some(admin),
            ..Parts::new(Arc::new(Noted::new(looks.clone())))
        };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shutdown = CancellationToken::new();
        let served = tokio::spawn(serve(listener, parts, shutdown.clone()));
        let channel =
            Endpoint::from_shared(format!("http://{address}"))?.connect().await.context("reach the scaler")?;
        Ok(Self { client: ExternalScalerClient::new(channel), looks, broker, metrics, shutdown, served })
    }

    /// Ends the scaler, then the broker.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        let Self { broker, shutdown, served, .. } = self;
        shutdown.cancel();
        served.await.context("the scaler's task failed")??;
        broker.shutdown().await;
        Ok(())
    }

    /// The reference of this `ScaledObject`, which counts that queue, as KEDA sends it.
    pub(crate) fn scaled_object(&self, number: usize, queue: &str) -> ScaledObjectRef {
        let metadata = [
            ("scalerAddress", "scaler.autoscale-demo.svc:6000"),
            ("queueName", queue),
            ("connectionFromEnv", self.broker.connection_string()),
        ];
        let scaler_metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned()));
        ScaledObjectRef {
            name: format!("receiver-{number}"),
            namespace: format!("team-{}", number / PER_NAMESPACE),
            scaler_metadata: scaler_metadata.into_iter().collect::<HashMap<_, _>>(),
        }
    }

    /// The messages of a queue.
    pub(crate) fn mailbox(&self, queue: &str) -> anyhow::Result<Mailbox> {
        Mailbox::open(self.broker.connection_string(), queue)
    }

    /// Reads of the administration API since the start or the last [`Self::forget`], and their credits.
    pub(crate) fn spent(&self) -> Tally {
        self.broker.counters().administration
    }

    /// Counts from nothing again.
    pub(crate) fn forget(&self) {
        self.broker.reset_counters();
        self.looks.forget();
    }

    /// How long one read takes: a page with as many queues as there are, at most 100, for a client that is not the scaler.
    pub(crate) async fn read_times(&self) -> anyhow::Result<Times> {
        let connection = ConnectionString::parse(self.broker.connection_string())?;
        let client = AdministrationClient::new(&connection)?;
        let mut times = Vec::new();
        for _ in 0..SAMPLE_READS {
            let begun = Instant::now();
            client.queues().next().await?.context("a page of queues")?;
            times.push(begun.elapsed());
        }
        Ok(times.into_iter().collect())
    }

    /// What `/metrics` says: the value of the only series that begins so.
    pub(crate) async fn metric(&self, series: &str) -> anyhow::Result<f64> {
        let mut socket = TcpStream::connect(self.metrics).await?;
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.metrics);
        socket.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        let lines: Vec<&str> = answer.lines().filter(|line| line.starts_with(series)).collect();
        ensure!(lines.len() == 1, "/metrics has {} series {series}: {lines:?}", lines.len());
        let value = lines[0].rsplit(' ').next().context("a value")?;
        value.parse().with_context(|| format!("the value of {}", lines[0]))
    }
}

/// `GetMetrics` for this reference, for the metric that `GetMetricSpec` names, as KEDA asks.
pub(crate) async fn metrics_request(client: &Client, object: &ScaledObjectRef) -> anyhow::Result<GetMetricsRequest> {
    let specification = client.clone().get_metric_spec(object.clone()).await?.into_inner();
    let metric = specification.metric_specs.into_iter().next().context("one metric")?;
    Ok(GetMetricsRequest { scaled_object_ref: Some(object.clone()), metric_name: metric.metric_name })
}
