//! `scaler serve`: one port for KEDA's contract, health and reflection, from start to a clean stop.
//!
//! The stop, in order: health says `NOT_SERVING`, push streams end with OK, calls in flight are answered, the process ends.
//! Health never depends on Service Bus: a fault over there must not restart a healthy scaler.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use externalscaler::external_scaler_server::ExternalScalerServer;
use runtime::{Ready, announce};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic_health::ServingStatus;

use crate::administration::AdministrationSource;
use crate::config::{Config, ConfigHandle, reload};
use crate::connections::Connections;
use crate::decisions::Decisions;
use crate::endpoints::{AllowedEndpoints, EndpointSuffix, HostPort};
use crate::incoming;
use crate::metrics::Metrics;
use crate::readings::Readings;
use crate::service::Service;
use crate::source::Source;
use crate::watchers::Watchers;

/// KEDA's metadata is small; a larger message is not KEDA's.
const MAX_MESSAGE_BYTES: usize = 256 * 1024;
/// KEDA shares one connection for everything, two endless streams for every push trigger: a low limit would freeze it.
const MAX_CONCURRENT_HTTP2_STREAMS: u32 = 100_000;
/// Most connections at a time; well below the usual limit of 1024 open files.
const MAX_CONNECTIONS: usize = 500;
/// How often an idle connection is probed, so that streams of a vanished client end.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// The flags of `scaler serve`. Addresses and paths; everything else is in the config file or the trigger's metadata.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// Address to serve gRPC on; port 0 takes a free one
    #[arg(long, env = "SCALER_LISTEN", default_value = "0.0.0.0:6000", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Config file (YAML): cache bounds, budget, limits, connections and policy profiles; followed while running, as are the
    /// secret files that it names
    #[arg(long, env = "SCALER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Endpoint that credentials may be sent to besides Azure (and, if --listen is a loopback address, emulators on
    /// loopback); repeatable, or comma-separated
    #[arg(long, env = "SCALER_ALLOW_ENDPOINTS", value_delimiter = ',', value_name = "HOST:PORT")]
    pub allow_endpoint: Vec<HostPort>,
    /// DNS suffix whose Service Bus namespaces credentials may be sent to besides Azure's, such as a private cloud's;
    /// repeatable, or comma-separated
    #[arg(long, env = "SCALER_ALLOW_ENDPOINT_SUFFIXES", value_delimiter = ',', value_name = "SUFFIX")]
    pub allow_endpoint_suffix: Vec<EndpointSuffix>,
    /// File to write the ready line to, once it serves
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
}

/// The periods and deadlines of a server. The defaults are the product's; tests shorten them.
#[derive(Clone, Copy, Debug)]
pub struct Timings {
    /// A read of Service Bus fails after this.
    pub refresh_deadline: Duration,
    /// A unary call is answered within this, whatever happens.
    pub call_deadline: Duration,
    /// How often a queue is looked at while a push stream watches it.
    pub watch_interval: Duration,
    /// How often `true` is repeated on a push stream.
    pub heartbeat: Duration,
    /// How often the config file is looked at.
    pub config_interval: Duration,
    /// After a stop was asked for, what is still in flight is cut off after this.
    pub drain_deadline: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            refresh_deadline: Duration::from_millis(2_500),
            call_deadline: Duration::from_secs(3),
            watch_interval: Duration::from_secs(1),
            heartbeat: Duration::from_secs(30),
            config_interval: Duration::from_secs(1),
            drain_deadline: Duration::from_secs(4),
        }
    }
}

/// What a server is made of besides its sockets. Built as `Parts { …, ..Parts::new(source) }`, so that a new part does not
/// concern who does not need it.
pub struct Parts {
    /// Where readings come from.
    pub source: Arc<dyn Source>,
    /// Where credentials may go.
    pub allowed: AllowedEndpoints,
    /// The configuration, kept current by its owner.
    pub config: ConfigHandle,
    /// Periods and deadlines.
    pub timings: Timings,
    /// Where everything is counted.
    pub metrics: Metrics,
}

impl Parts {
    /// Readings from this source; nothing allowed but Azure, and everything else as it is by default.
    pub fn new(source: Arc<dyn Source>) -> Self {
        Self {
            source,
            allowed: AllowedEndpoints::default(),
            config: ConfigHandle::new(Config::default()),
            timings: Timings::default(),
            metrics: Metrics::new(),
        }
    }
}

/// Runs `scaler serve`.
pub async fn run(args: ServeArgs, shutdown: CancellationToken) -> anyhow::Result<ExitCode> {
    let ServeArgs { listen, config: config_file, allow_endpoint, allow_endpoint_suffix, ready_file } = args;
    let timings = Timings::default();
    let config = ConfigHandle::new(config_file.as_deref().map(Config::read).transpose()?.unwrap_or_default());
    let parts = Parts {
        // Who listens for other hosts may be called by strangers, who have no business with this host's other ports.
        allowed: AllowedEndpoints::with(allow_endpoint)
            .and_suffixes(allow_endpoint_suffix)
            .and_loopback(listen.ip().is_loopback()),
        config: config.clone(),
        timings,
        ..Parts::new(Arc::new(AdministrationSource::new()))
    };
    let listener = TcpListener::bind(listen).await.with_context(|| format!("failed to listen on --listen {listen}"))?;
    let address = listener.local_addr().context("failed to read the address listened on")?;
    if let Some(file) = config_file {
        let hangup = signal(SignalKind::hangup()).context("failed to listen for SIGHUP")?;
        tokio::spawn(reload::follow(file, config, timings.config_interval, Some(hangup), shutdown.clone()));
    }
    tracing::info!(%address, "serving");
    announce(&Ready { listen: vec![address], ..Ready::default() }, ready_file.as_deref())?;
    serve(listener, parts, shutdown).await?;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Serves on a bound listener until `shutdown`, then drains. Returns once everything has ended or was cut off.
pub async fn serve(listener: TcpListener, parts: Parts, shutdown: CancellationToken) -> anyhow::Result<()> {
    let Parts { source, allowed, config, timings, metrics } = parts;
    let readings = Readings::new(source, config.clone(), metrics, timings.refresh_deadline);
    let connections = Connections::new(allowed, config.clone());
    connections.load().await;
    tokio::spawn(connections.clone().follow(timings.config_interval, shutdown.clone()));
    let decisions = Decisions::new(readings.clone(), config.clone(), connections);
    let watchers = Watchers::new(readings, config, timings.watch_interval, shutdown.clone());
    let service = Service::new(decisions, watchers, timings.call_deadline, timings.heartbeat, shutdown.clone());
    let contract = ExternalScalerServer::new(service).max_decoding_message_size(MAX_MESSAGE_BYTES);

    let (mut health, health_service) = tonic_health::server::health_reporter();
    let name = <ExternalScalerServer<Service> as tonic::server::NamedService>::NAME;
    health.set_service_status(name, ServingStatus::Serving).await;

    let server = Server::builder()
        .max_concurrent_streams(MAX_CONCURRENT_HTTP2_STREAMS)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .add_service(contract)
        .add_service(health_service)
        .add_service(reflection().build_v1().context("failed to describe the services for reflection")?)
        .add_service(reflection().build_v1alpha().context("failed to describe the services for reflection")?)
        .serve_with_incoming_shutdown(incoming::capped(listener, MAX_CONNECTIONS), shutdown.clone().cancelled_owned());
    let drain = async {
        shutdown.cancelled().await;
        for service in ["", name] {
            health.set_service_status(service, ServingStatus::NotServing).await;
            // Whoever watches gets this last word; then the watch ends, which would hold the server open.
            health.clear_service_status(service).await;
        }
        tokio::time::sleep(timings.drain_deadline).await;
    };
    tokio::select! {
        ended = server => ended.context("the gRPC server failed"),
        () = drain => {
            tracing::warn!("cut off what was still in flight after {:?}", timings.drain_deadline);
            Ok(())
        }
    }
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(externalscaler::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}
