//! A scaler in this process before a source that the test can hold back, clients with and without TLS, and plain HTTP.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use externalscaler::external_scaler_client::ExternalScalerClient;
use externalscaler::{GetMetricsRequest, IsActiveResponse, ScaledObjectRef};
use futures_util::FutureExt as _;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use scaler::access::Access;
use scaler::endpoints::AllowedEndpoints;
use scaler::entity::{Entity, Listing};
use scaler::metrics::Metrics;
use scaler::serve::{Parts, Timings, serve};
use scaler::source::{Observed, Page, Read, Source};
pub(crate) use testbench::{until, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Status, Streaming};

/// Longer than any test may take: a test that runs into a deadline of the scaler's fails, but for one that shortens it.
const PATIENT: Duration = Duration::from_hours(1);

/// What the source says of every queue.
pub(crate) const MESSAGES: u64 = 7;

/// A source that answers at once, or waits for as long as the test holds it.
struct Held(watch::Receiver<bool>);

impl Source for Held {
    fn read<'a>(&'a self, _: &'a Access, _: &'a Entity) -> Read<'a, Observed> {
        let mut held = self.0.clone();
        async move {
            held.wait_for(|held| !held).await.expect("the test holds the other end");
            let counts = scaling::Counts { active: MESSAGES, ..scaling::Counts::default() };
            Ok(Observed { counts, status: scaling::EntityStatus::Active, requires_session: false, locks: None })
        }
        .boxed()
    }

    fn page<'a>(&'a self, _: &'a Access, _: &'a Listing, _: usize) -> Read<'a, Page> {
        std::future::ready(Ok(Page { entities: Vec::new(), has_more: false })).boxed()
    }
}

/// A scaler that serves in this process, its HTTP included.
pub(crate) struct Scaler {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) metrics: Metrics,
    pub(crate) shutdown: CancellationToken,
    held: watch::Sender<bool>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Scaler {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// With parts changed by `change`.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Parts)) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), change).await
    }

    /// With its gRPC at this address of loopback.
    pub(crate) async fn start_at(address: SocketAddr, change: impl FnOnce(&mut Parts)) -> Self {
        let (held, receiver) = watch::channel(false);
        let mut parts = Parts::new(Arc::new(Held(receiver)));
        let bind = async |address: SocketAddr| TcpListener::bind(address).await.expect("a free port");
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        let (listener, admin, local) = (bind(address).await, bind(any).await, bind(any).await);
        let address = |listener: &TcpListener| listener.local_addr().expect("a bound address");
        let (address, admin_address, local_address) = (address(&listener), address(&admin), address(&local));
        parts.allowed = AllowedEndpoints::default().and_loopback(true);
        parts.admin = Some(admin);
        parts.local = Some(local);
        parts.timings = timings();
        change(&mut parts);
        let (shutdown, metrics) = (CancellationToken::new(), parts.metrics.clone());
        let task = tokio::spawn(serve(listener, parts, shutdown.clone()));
        Self { address, admin: admin_address, local: local_address, metrics, shutdown, held, task }
    }

    /// From now on reads wait, until they are let go.
    pub(crate) fn hold(&self) {
        self.held.send_replace(true);
    }

    pub(crate) fn let_go(&self) {
        self.held.send_replace(false);
    }

    pub(crate) async fn client(&self) -> ExternalScalerClient<Channel> {
        let endpoint = Channel::from_shared(format!("http://{}", self.address)).expect("a valid address");
        let channel = within("connect", endpoint.connect()).await.expect("the scaler accepts connections");
        ExternalScalerClient::new(channel)
    }

    /// A client that speaks TLS, as far as it gets.
    pub(crate) async fn client_with(
        &self,
        tls: ClientConfig,
    ) -> Result<ExternalScalerClient<Channel>, tonic::transport::Error> {
        let (address, tls) = (self.address, TlsConnector::from(Arc::new(tls)));
        let connector = tower::service_fn(move |_: Uri| {
            let tls = tls.clone();
            async move {
                let stream = TcpStream::connect(address).await?;
                tls.connect(ServerName::from(address.ip()), stream).await.map(TokioIo::new)
            }
        });
        let endpoint = Endpoint::from_static("https://scaler");
        within("connect", endpoint.connect_with_connector(connector)).await.map(ExternalScalerClient::new)
    }

    /// The value of a metric's line, which is to be there.
    pub(crate) fn count(&self, line: &str) -> u64 {
        let exposition = self.metrics.exposition();
        let value = exposition.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(' '));
        value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {line:?} in:\n{exposition}"))
    }

    /// Waits for the end, which is to be one without error.
    pub(crate) async fn ended(self) {
        within("the scaler to stop", self.task).await.expect("its task is whole").expect("it ends without error");
    }
}

/// The product's periods, shortened where a test would have to wait for them, and deadlines that are out of the way.
fn timings() -> Timings {
    Timings {
        config_interval: Duration::from_millis(20),
        refresh_deadline: PATIENT,
        call_deadline: PATIENT,
        handshake_deadline: PATIENT,
        arrival_deadline: PATIENT,
        last_calls: PATIENT,
        drain_deadline: PATIENT,
        ..Timings::default()
    }
}

/// A trigger of a `ScaledObject`, as KEDA sends it.
pub(crate) fn scaled_object(name: &str) -> ScaledObjectRef {
    let connection =
        "Endpoint=sb://127.0.0.1:1;SharedAccessKeyName=a;SharedAccessKey=PLANTED-KEY;UseDevelopmentEmulator=true";
    let metadata = [("queueName", "orders"), ("connectionFromEnv", connection)];
    ScaledObjectRef {
        name: name.to_owned(),
        namespace: "demo".to_owned(),
        scaler_metadata: metadata
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into_iter()
            .collect::<HashMap<_, _>>(),
    }
}

/// `GetMetrics` of [`scaled_object`].
pub(crate) async fn value(client: &ExternalScalerClient<Channel>, name: &str) -> Result<i64, Status> {
    let request = GetMetricsRequest {
        scaled_object_ref: Some(scaled_object(name)),
        metric_name: "azure-servicebus-orders".to_owned(),
    };
    let mut client = client.clone();
    let mut values = within("an answer or a refusal", client.get_metrics(request)).await?.into_inner().metric_values;
    assert_eq!(values.len(), 1, "{values:?}");
    Ok(values.remove(0).metric_value)
}

/// `StreamIsActive` of [`scaled_object`], with its first message, which is `true`.
pub(crate) async fn active_stream(client: &ExternalScalerClient<Channel>, name: &str) -> Streaming<IsActiveResponse> {
    let mut client = client.clone();
    let opened = client.stream_is_active(scaled_object(name));
    let mut stream = within("the stream to open", opened).await.expect("it opens").into_inner();
    let first = within("the first message", stream.message()).await.expect("no error").expect("a message");
    assert!(first.result);
    stream
}

/// That a stream ends with OK, whatever it says before.
pub(crate) async fn assert_ends_with_ok(mut stream: Streaming<IsActiveResponse>) {
    let end = async { while stream.message().await.expect("the stream ends with OK").is_some() {} };
    within("the end of the stream", end).await;
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// One HTTP request, addressed to `localhost`.
pub(crate) async fn http(address: SocketAddr, method: &str, path: &str, body: &str) -> Answer {
    http_to(address, "localhost", method, path, body).await
}

/// One HTTP request, addressed to `host`.
pub(crate) async fn http_to(address: SocketAddr, host: &str, method: &str, path: &str, body: &str) -> Answer {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.expect("somebody listens");
        stream.write_all(request.as_bytes()).await.expect("it takes the request");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("it answers in UTF-8");
        text
    };
    let text = within("an HTTP answer", exchange).await;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP answer: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Answer {
        status: status.unwrap_or_else(|| panic!("no status: {head}")),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}
