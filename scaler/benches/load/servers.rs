//! The two servers: the product's own, with only Service Bus behind it replaced, and one that answers a constant.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use externalscaler::external_scaler_client::ExternalScalerClient;
use externalscaler::external_scaler_server::{ExternalScaler, ExternalScalerServer};
use externalscaler::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricValue, ScaledObjectRef,
};
use futures_util::stream::{BoxStream, Empty};
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use scaler::access::Access;
use scaler::config::{Config, ConfigHandle};
use scaler::endpoints::AllowedEndpoints;
use scaler::entity::{Entity, Listing};
use scaler::serve::{Parts, serve};
use scaler::source::{Observed, Page, Read, Source};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::paced::Client;
use crate::requests::queue;

/// Entities on one page of a listing.
const PAGE: usize = 100;
/// Queues that the namespace has.
const QUEUES: usize = 10_000;

/// The scaler, with its configuration at hand.
pub(crate) struct Scaler {
    pub(crate) client: Client,
    pub(crate) config: ConfigHandle,
}

/// Every queue is full, and says so at once.
struct Full;

const OBSERVED: Observed = Observed {
    counts: scaling::Counts { active: 1_000, dead_letter: 0, scheduled: 0, transfer: 0, transfer_dead_letter: 0 },
    status: scaling::EntityStatus::Active,
    requires_session: false,
    locks: None,
};

impl Source for Full {
    fn read<'a>(&'a self, _: &'a Access, _: &'a Entity) -> Read<'a, Observed> {
        std::future::ready(Ok(OBSERVED)).boxed()
    }

    fn page<'a>(&'a self, _: &'a Access, _: &'a Listing, skip: usize) -> Read<'a, Page> {
        let numbers = skip..(skip + PAGE).min(QUEUES);
        let page = Page {
            has_more: numbers.end < QUEUES,
            entities: numbers.map(|number| (queue(number), OBSERVED)).collect(),
        };
        std::future::ready(Ok(page)).boxed()
    }
}

/// The configuration in which everything stays in the cache.
pub(crate) fn warm_config() -> anyhow::Result<Config> {
    config("cacheTtlSeconds: 300")
}

/// The configuration in which every call reads.
pub(crate) fn cold_config() -> anyhow::Result<Config> {
    config("cacheTtlSeconds: 0")
}

/// What reading may cost is not what is measured here.
fn config(cache: &str) -> anyhow::Result<Config> {
    let text = format!("{cache}\ncacheTtlBoundsSeconds: {{min: 0, max: 300}}\ncreditsPerSecond: 1000000\n");
    Config::parse(&text).map_err(anyhow::Error::msg)
}

/// Starts the scaler.
pub(crate) async fn scaler(shutdown: CancellationToken) -> anyhow::Result<Scaler> {
    let config = ConfigHandle::new(warm_config()?);
    let parts = Parts {
        allowed: AllowedEndpoints::default().and_loopback(true),
        config: config.clone(),
        ..Parts::new(Arc::new(Full))
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(serve(listener, parts, shutdown));
    Ok(Scaler { client: connect(address).await?, config })
}

/// Starts the server that answers a constant.
pub(crate) async fn floor(shutdown: CancellationToken) -> anyhow::Result<Client> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = Server::builder().add_service(ExternalScalerServer::new(Constant));
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    tokio::spawn(server.serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned()));
    connect(address).await
}

async fn connect(address: SocketAddr) -> anyhow::Result<Client> {
    ExternalScalerClient::connect(format!("http://{address}")).await.context("connect to the server just started")
}

/// Asks everything once.
pub(crate) async fn warm(client: &Client, requests: &[GetMetricsRequest]) -> anyhow::Result<()> {
    let calls = requests.iter().map(|request| {
        let (mut client, request) = (client.clone(), request.clone());
        async move { client.get_metrics(request).await.map(drop) }
    });
    stream::iter(calls).buffer_unordered(64).try_collect::<()>().await.context("warm up")
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
