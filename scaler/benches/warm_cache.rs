//! How long `GetMetrics` takes from a warm cache, over real gRPC on loopback, beside the floor: a bare tonic server that
//! decodes the same request and answers a constant. Both run in this process and take turns, so that what else the
//! machine does meets both alike.
//!
//! `cargo bench -p scaler --bench warm_cache [-- --rounds N]`

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use externalscaler::external_scaler_client::ExternalScalerClient;
use externalscaler::external_scaler_server::{ExternalScaler, ExternalScalerServer};
use externalscaler::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricValue, ScaledObjectRef,
};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, try_join_all};
use futures_util::stream::{BoxStream, Empty};
use scaler::access::Access;
use scaler::config::{Config, ConfigHandle};
use scaler::endpoints::AllowedEndpoints;
use scaler::entity::{Entity, Listing};
use scaler::serve::{Parts, serve};
use scaler::source::{Observed, Page, ReadFailure, Source};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};

#[derive(Parser)]
struct Args {
    /// How often the two servers take turns
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Calls one after the other in each turn, for latency
    #[arg(long, default_value_t = 1_000)]
    calls: usize,
    /// Calls in flight at a time, for throughput
    #[arg(long, default_value_t = 32)]
    in_flight: usize,
    /// Passed by `cargo bench`; means nothing here
    #[arg(long, hide = true)]
    bench: bool,
}

/// What one server showed.
#[derive(Default)]
struct Seen {
    latencies: Vec<Duration>,
    calls: usize,
    busy: Duration,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Args { rounds, calls, in_flight, bench: _ } = Args::parse();
    let shutdown = CancellationToken::new();
    let scaler = connect(start_scaler(shutdown.clone()).await?).await?;
    let floor = connect(start_floor(shutdown.clone()).await?).await?;
    let request = request();
    // Warm: the cache, the connections, the branch predictors.
    for client in [&scaler, &floor] {
        turn(client, &request, calls, in_flight, &mut Seen::default()).await?;
    }
    let (mut of_scaler, mut of_floor) = (Seen::default(), Seen::default());
    for _ in 0..rounds {
        turn(&scaler, &request, calls, in_flight, &mut of_scaler).await?;
        turn(&floor, &request, calls, in_flight, &mut of_floor).await?;
    }
    println!(
        "GetMetrics over loopback gRPC, {rounds} turns of {calls} calls one by one and as many {in_flight} at a time"
    );
    println!("{:<34}{:>12}{:>12}{:>14}", "server", "median µs", "p99 µs", "calls/s");
    report("scaler, warm cache", of_scaler);
    report("bare tonic server, constant answer", of_floor);
    shutdown.cancel();
    Ok(())
}

async fn turn(
    client: &ExternalScalerClient<Channel>,
    request: &GetMetricsRequest,
    calls: usize,
    in_flight: usize,
    seen: &mut Seen,
) -> anyhow::Result<()> {
    let mut one_by_one = client.clone();
    for _ in 0..calls {
        let request = request.clone();
        let begun = Instant::now();
        let answer = one_by_one.get_metrics(request).await?.into_inner();
        seen.latencies.push(begun.elapsed());
        anyhow::ensure!(answer.metric_values.len() == 1, "one value expected, got {answer:?}");
    }
    let begun = Instant::now();
    let lanes = (0..in_flight).map(|_| {
        let (mut client, request) = (client.clone(), request.clone());
        async move {
            for _ in 0..calls / in_flight {
                client.get_metrics(request.clone()).await?;
            }
            Ok::<_, Status>(())
        }
    });
    try_join_all(lanes).await?;
    seen.busy += begun.elapsed();
    seen.calls += calls / in_flight * in_flight;
    Ok(())
}

fn report(name: &str, mut seen: Seen) {
    seen.latencies.sort_unstable();
    let quantile = |share: f64| {
        let index = ((seen.latencies.len() as f64 * share) as usize).min(seen.latencies.len() - 1);
        seen.latencies[index].as_secs_f64() * 1e6
    };
    let throughput = seen.calls as f64 / seen.busy.as_secs_f64();
    println!("{name:<34}{:>12.1}{:>12.1}{throughput:>14.0}", quantile(0.5), quantile(0.99));
}

fn request() -> GetMetricsRequest {
    let metadata = [
        ("scalerAddress", "scaler.autoscale-demo.svc:6000"),
        ("queueName", "orders"),
        ("messageCount", "5"),
        (
            "connectionFromEnv",
            "Endpoint=sb://127.0.0.1:5672;SharedAccessKeyName=RootManageSharedAccessKey;SharedAccessKey=SAS_KEY_VALUE;\
             UseDevelopmentEmulator=true",
        ),
    ];
    let scaled_object_ref = ScaledObjectRef {
        name: "receiver".to_owned(),
        namespace: "autoscale-demo".to_owned(),
        scaler_metadata: metadata
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into_iter()
            .collect::<HashMap<_, _>>(),
    };
    GetMetricsRequest { scaled_object_ref: Some(scaled_object_ref), metric_name: "azure-servicebus-orders".to_owned() }
}

async fn connect(address: SocketAddr) -> anyhow::Result<ExternalScalerClient<Channel>> {
    ExternalScalerClient::connect(format!("http://{address}")).await.context("connect to the server just started")
}

/// The product's own server; only Service Bus behind it is replaced, which a warm cache does not ask anyway.
async fn start_scaler(shutdown: CancellationToken) -> anyhow::Result<SocketAddr> {
    struct Full;
    impl Source for Full {
        fn page<'a>(&'a self, _: &'a Access, _: &'a Listing, _: usize) -> BoxFuture<'a, Result<Page, ReadFailure>> {
            std::future::ready(Ok(Page { entities: Vec::new(), has_more: false })).boxed()
        }

        fn read<'a>(&'a self, _: &'a Access, _: &'a Entity) -> BoxFuture<'a, Result<Observed, ReadFailure>> {
            let counts = scaling::Counts { active: 1_000, ..scaling::Counts::default() };
            let observed = Observed { counts, status: scaling::EntityStatus::Active, requires_session: false };
            std::future::ready(Ok(observed)).boxed()
        }
    }
    let config = Config::parse("cacheTtlSeconds: 300").map_err(anyhow::Error::msg)?;
    let parts = Parts {
        allowed: AllowedEndpoints::default().and_loopback(true),
        config: ConfigHandle::new(config),
        ..Parts::new(Arc::new(Full))
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(serve(listener, parts, shutdown));
    Ok(address)
}

async fn start_floor(shutdown: CancellationToken) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = Server::builder().add_service(ExternalScalerServer::new(Constant));
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    tokio::spawn(server.serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned()));
    Ok(address)
}

/// Answers `GetMetrics` with a constant and nothing else.
struct Constant;

#[tonic::async_trait]
impl ExternalScaler for Constant {
    type StreamIsActiveStream = Empty<Result<IsActiveResponse, Status>>;
    type StreamMetricSpecStream = BoxStream<'static, Result<GetMetricSpecResponse, Status>>;

    async fn get_metrics(&self, request: Request<GetMetricsRequest>) -> Result<Response<GetMetricsResponse>, Status> {
        let metric_name = request.into_inner().metric_name;
        let value = MetricValue { metric_name, metric_value: 1_000, metric_value_float: 1_000.0 };
        Ok(Response::new(GetMetricsResponse { metric_values: vec![value] }))
    }

    async fn is_active(&self, _: Request<ScaledObjectRef>) -> Result<Response<IsActiveResponse>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    async fn stream_is_active(
        &self,
        _: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamIsActiveStream>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    async fn get_metric_spec(&self, _: Request<ScaledObjectRef>) -> Result<Response<GetMetricSpecResponse>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    async fn stream_metric_spec(
        &self,
        _: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamMetricSpecStream>, Status> {
        Err(Status::unimplemented("not measured"))
    }
}
