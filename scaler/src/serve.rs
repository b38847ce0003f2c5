//! `scaler serve`: one port for KEDA's contract, health and reflection, one for probes and metrics, one for this host alone,
//! from start to a clean stop.
//!
//! The stop, in order: readiness and health are off, nothing new is accepted, every connection is told so (GOAWAY) and its
//! push streams end with OK, calls in flight are answered, the process ends.
//! Health never depends on Service Bus: a fault over there must not restart a healthy scaler.

use std::net::{Ipv4Addr, SocketAddr};
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
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic_health::ServingStatus;

use crate::admin_http::{self, LoopbackAddress};
use crate::administration::AdministrationSource;
use crate::config::connections::say_what_cannot_be_known;
use crate::config::{Config, ConfigHandle, reload};
use crate::connections::Connections;
use crate::decisions::Decisions;
use crate::endpoints::{AllowedEndpoints, EndpointArgs};
use crate::incoming::question::Questions;
use crate::incoming::{Incoming, Limits, RefusedLog, connection};
use crate::known_triggers::KnownTriggers;
use crate::metrics::Metrics;
use crate::readings::Readings;
use crate::service::Service;
use crate::service::telemetry::Telemetry;
use crate::source::Source;
use crate::tls::{Tls, TlsFiles};
use crate::watchers::Watchers;

/// KEDA's metadata is small; a larger message is not KEDA's.
const MAX_MESSAGE_BYTES: usize = 256 * 1024;
/// The names that health and reflection are asked for are smaller.
const MAX_SMALL_MESSAGE_BYTES: usize = 16 * 1024;
/// Most connections at a time; well below the usual limit of 1024 open files.
const MAX_CONNECTIONS: usize = 500;
/// Most TLS handshakes at a time, beside the connections that are served.
const MAX_HANDSHAKES: usize = 100;
/// Most push streams open at a time. One push trigger holds two.
const MAX_STREAMS: usize = 20_000;
/// How often what is long past is let go of.
const TIDY_INTERVAL: Duration = Duration::from_mins(1);
/// Where probes and metrics are when nothing is said, at the address of `--listen`.
const ADMIN_PORT: u16 = 8080;
/// Where explanations are when nothing is said, at 127.0.0.1.
const LOCAL_PORT: u16 = 8081;

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
    /// Where credentials may go; to emulators on loopback if --listen is a loopback address.
    #[command(flatten)]
    pub endpoints: EndpointArgs,
    /// Address to serve /livez, /readyz and /metrics on [default: port 8080 of --listen's address, or a free port if that
    /// has port 0]
    #[arg(long, env = "SCALER_ADMIN_LISTEN", value_name = "ADDRESS")]
    pub admin_listen: Option<SocketAddr>,
    /// Loopback address to serve /explain and /log-level on, for this host alone [default: 127.0.0.1:8081, or a free port
    /// if --listen has port 0]
    #[arg(long, env = "SCALER_LOCAL_LISTEN", value_name = "ADDRESS")]
    pub local_listen: Option<LoopbackAddress>,
    /// How the gRPC port speaks TLS.
    #[command(flatten)]
    pub tls: TlsArgs,
    /// Seconds after which a connection is ended cleanly, give or take a tenth, so that KEDA finds new replicas and shows
    /// its certificate again; 0 for never
    #[arg(long, env = "SCALER_MAX_CONNECTION_AGE", value_name = "SECONDS", default_value_t = 1800)]
    pub max_connection_age: u32,
    /// File to write the ready line to, once it serves
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
}

/// The flags about TLS. Without them the port is plain.
#[derive(Args, Clone, Debug)]
pub struct TlsArgs {
    /// PEM file with the certificate of the gRPC port and its chain; read again when it changes, as are the other two
    #[arg(long, env = "SCALER_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file with its private key
    #[arg(long, env = "SCALER_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// PEM file with the authorities of client certificates; with it, every client must show one (mTLS)
    #[arg(long, env = "SCALER_TLS_CLIENT_CA", value_name = "FILE", requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,
}

impl TlsArgs {
    fn files(self) -> Option<TlsFiles> {
        let Self { tls_cert, tls_key, tls_client_ca } = self;
        let (certificate, key) = tls_cert.zip(tls_key)?;
        Some(TlsFiles { certificate, key, client_authority: tls_client_ca })
    }
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
    /// How often the config file and the TLS files are looked at.
    pub config_interval: Duration,
    /// A client that takes longer for its TLS handshake is closed.
    pub handshake_deadline: Duration,
    /// A call whose message has not arrived within this is refused.
    pub arrival_deadline: Duration,
    /// A connection is ended cleanly at this age, give or take a tenth.
    pub max_connection_age: Option<Duration>,
    /// A connection that is ended is cut off after this, whatever is in flight. Longer than a call's own deadline.
    pub last_calls: Duration,
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
            handshake_deadline: Duration::from_secs(10),
            arrival_deadline: Duration::from_secs(5),
            max_connection_age: Some(Duration::from_mins(30)),
            last_calls: Duration::from_secs(10),
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
    /// Most push streams open at a time.
    pub most_streams: usize,
    /// Where everything is counted.
    pub metrics: Metrics,
    /// How the gRPC port speaks TLS; plain without.
    pub tls: Option<Tls>,
    /// Where probes and metrics are served, if anywhere.
    pub admin: Option<TcpListener>,
    /// Where explanations are served, for this host alone, if anywhere.
    pub local: Option<TcpListener>,
}

impl Parts {
    /// Readings from this source; nothing allowed but Azure, and everything else as it is by default.
    pub fn new(source: Arc<dyn Source>) -> Self {
        Self {
            source,
            allowed: AllowedEndpoints::default(),
            config: ConfigHandle::new(Config::default()),
            timings: Timings::default(),
            most_streams: MAX_STREAMS,
            metrics: Metrics::new(),
            tls: None,
            admin: None,
            local: None,
        }
    }
}

/// Runs `scaler serve`.
pub async fn run(args: ServeArgs, shutdown: CancellationToken) -> anyhow::Result<ExitCode> {
    let ServeArgs {
        listen,
        config: config_file,
        endpoints,
        admin_listen,
        local_listen,
        tls,
        max_connection_age,
        ready_file,
    } = args;
    let timings = Timings {
        max_connection_age: (max_connection_age > 0).then(|| Duration::from_secs(max_connection_age.into())),
        ..Timings::default()
    };
    let config = ConfigHandle::new(config_file.as_deref().map(Config::read).transpose()?.unwrap_or_default());
    let tls_files = tls.files();
    let tls = tls_files.as_ref().map(Tls::read).transpose()?;
    let (is_tls, is_mutual) = (tls.is_some(), tls_files.as_ref().is_some_and(|files| files.client_authority.is_some()));
    let port = |port| if listen.port() == 0 { 0 } else { port };
    let admin_listen = admin_listen.unwrap_or(SocketAddr::new(listen.ip(), port(ADMIN_PORT)));
    let local_listen =
        local_listen.map_or(SocketAddr::from((Ipv4Addr::LOCALHOST, port(LOCAL_PORT))), LoopbackAddress::address);
    let (listener, address) = bind("--listen", listen).await?;
    let (admin, admin_address) = bind("--admin-listen", admin_listen).await?;
    let (local, local_address) = bind("--local-listen", local_listen).await?;

    let hangup = || signal(SignalKind::hangup()).context("failed to listen for SIGHUP");
    // Once it is listened for it does not end the process any more, also where there is nothing to read again.
    let _heard = hangup()?;
    if let Some((files, tls)) = tls_files.zip(tls.clone()) {
        tokio::spawn(tls.follow(files, timings.config_interval, Some(hangup()?), shutdown.clone()));
    }
    if let Some(file) = config_file {
        let (config, interval) = (config.clone(), timings.config_interval);
        tokio::spawn(reload::follow(file, config, interval, is_mutual, Some(hangup()?), shutdown.clone()));
    }
    if !is_mutual {
        say_what_cannot_be_known(&config.snapshot());
    }
    let parts = Parts {
        // Who listens for other hosts may be called by strangers, who have no business with this host's other ports.
        allowed: endpoints.allowed(listen.ip().is_loopback()),
        config,
        timings,
        tls,
        admin: Some(admin),
        local: Some(local),
        ..Parts::new(Arc::new(AdministrationSource::new()))
    };
    tracing::info!(%address, tls = is_tls, mtls = is_mutual, admin = %admin_address, local = %local_address, "serving");
    let ready =
        Ready { listen: vec![address], admin: Some(admin_address), local: Some(local_address), ..Ready::default() };
    announce(&ready, ready_file.as_deref())?;
    serve(listener, parts, shutdown).await?;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

async fn bind(flag: &str, address: SocketAddr) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("failed to listen on {flag} {address}"))?;
    let address = listener.local_addr().context("failed to read the address listened on")?;
    Ok((listener, address))
}

/// Serves on a bound listener until `shutdown`, then drains. Returns once everything has ended or was cut off.
pub async fn serve(listener: TcpListener, parts: Parts, shutdown: CancellationToken) -> anyhow::Result<()> {
    let Parts { source, allowed, config, timings, most_streams, metrics, tls, admin, local } = parts;
    let (triggers, telemetry) =
        (KnownTriggers::default(), Telemetry { metrics: metrics.clone(), ..Telemetry::default() });
    // The other ports answer until the very end.
    let over = CancellationToken::new();
    let _over = over.clone().drop_guard();
    if let Some(admin) = admin {
        let routes = admin_http::pod_routes(metrics.clone(), shutdown.clone());
        tokio::spawn(admin_http::serve(admin, routes, over.clone()));
    }
    if let Some(local) = local {
        let routes = admin_http::local_routes(triggers.clone());
        tokio::spawn(admin_http::serve(local, routes, over.clone()));
    }
    let log = Arc::<RefusedLog>::default();
    tokio::spawn(over.clone().run_until_cancelled_owned({
        let (triggers, telemetry, log) = (triggers.clone(), telemetry.clone(), Arc::clone(&log));
        async move {
            loop {
                tokio::time::sleep(TIDY_INTERVAL).await;
                triggers.tidy();
                telemetry.tidy();
                log.tidy();
            }
        }
    }));

    if let Some(tls) = tls.clone() {
        metrics.certificate_expiry(move || tls.expiry());
    }
    let readings = Readings::new(source, config.clone(), metrics.clone(), timings.refresh_deadline);
    let connections = Connections::new(allowed, config.clone());
    connections.load().await;
    tokio::spawn(connections.clone().follow(timings.config_interval, shutdown.clone()));
    let decisions = Decisions::new(readings.clone(), config.clone(), connections);
    let watchers = Watchers::new(readings, timings.watch_interval, shutdown.clone());
    let service =
        Service::new(triggers, decisions, watchers, telemetry, timings.call_deadline, timings.heartbeat, most_streams);
    let contract = ExternalScalerServer::new(service).max_decoding_message_size(MAX_MESSAGE_BYTES);

    let (health, health_service) = tonic_health::server::health_reporter();
    let name = <ExternalScalerServer<Service> as tonic::server::NamedService>::NAME;
    health.set_service_status(name, ServingStatus::Serving).await;

    let undescribed = "failed to describe the services for reflection";
    let reflection_alpha = reflection().build_v1alpha().context(undescribed)?;
    let reflection = reflection().build_v1().context(undescribed)?;
    let routes = Routes::new(contract)
        .add_service(health_service.max_decoding_message_size(MAX_SMALL_MESSAGE_BYTES))
        .add_service(reflection.max_decoding_message_size(MAX_SMALL_MESSAGE_BYTES))
        .add_service(reflection_alpha.max_decoding_message_size(MAX_SMALL_MESSAGE_BYTES))
        .prepare();

    let (tasks, ending, cut_off) = (TaskTracker::new(), CancellationToken::new(), CancellationToken::new());
    let incoming = Incoming {
        listener,
        tls,
        limits: Limits {
            connections: MAX_CONNECTIONS,
            handshakes: MAX_HANDSHAKES,
            handshake_deadline: timings.handshake_deadline,
        },
        metrics,
        log,
        tasks: tasks.clone(),
        cut_off: cut_off.clone(),
    };
    let serve_one = {
        let (ending, questions) = (ending.clone(), Questions::new(timings.arrival_deadline));
        move |accepted| {
            // Not all at once, when all came at once.
            let age = timings.max_connection_age.map(|age| age.mul_f64(rand::random_range(0.9..1.1)));
            connection::serve(accepted, routes.clone(), questions.clone(), age, timings.last_calls, ending.clone())
        }
    };
    let accepting = tokio::spawn(incoming.accept(shutdown.clone(), serve_one));

    shutdown.cancelled().await;
    for service in ["", name] {
        health.set_service_status(service, ServingStatus::NotServing).await;
    }
    ending.cancel();
    accepting.await.context("the task that accepts connections failed")?;
    tasks.close();
    if tokio::time::timeout(timings.drain_deadline, tasks.wait()).await.is_err() {
        tracing::warn!("cut off what was still in flight after {:?}", timings.drain_deadline);
        cut_off.cancel();
        tasks.wait().await;
    }
    Ok(())
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(externalscaler::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}
