//! Traces reach a collector: a gRPC server that keeps what it is sent.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use broker::{Broker, Options, QueueOptions};
use bytes::Bytes;
use externalscaler::external_scaler_client::ExternalScalerClient;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use testbench::Nobody;
use tokio::net::TcpListener;
use tonic::transport::Channel;

use crate::process::{is_active, of_broker, started};
use crate::support::until;

/// OTLP's one method for traces (opentelemetry-proto, `collector/trace/v1/trace_service.proto`).
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// A gRPC message of no bytes, which is an `ExportTraceServiceResponse` that complains of nothing.
const ACCEPTED: &[u8] = &[0; 5];

#[tokio::test]
async fn calls_are_spans_at_the_collector_and_carry_no_secret() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("a bound address"));
    let received = Arc::new(Mutex::new(Vec::new()));
    let collector = tokio::spawn(collect(listener, Arc::clone(&received)));

    let queues = vec![QueueOptions::new("orders")];
    let broker = Broker::start(Options { queues, ..Options::default() }).await.expect("a broker starts");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (program, ready) = started(&["--otlp-endpoint", &endpoint], folder.path()).await;
    let channel = Channel::from_shared(format!("http://{}", ready.listen[0])).expect("a valid address");
    let client = ExternalScalerClient::new(channel.connect().await.expect("the scaler accepts connections"));
    is_active(&client, of_broker(&broker, "orders", "traced-receiver")).await;

    // What is left at the end is sent then; nobody waits for a batch to fill.
    program.terminate();
    let ended = program.ended().await;
    assert!(ended.status.success(), "{ended:?}");
    let holds = |text: &str| {
        let received = received.lock().expect("no panic before");
        received.windows(text.len()).any(|window| window == text.as_bytes())
    };
    until("the span to arrive", async || holds("traced-receiver")).await;
    for text in ["IsActive", "service.name", "scaler"] {
        assert!(holds(text), "{text} is missing");
    }
    assert!(!holds("SharedAccessKey="), "no secret in traces");
    collector.abort();
}

async fn collect(listener: TcpListener, received: Arc<Mutex<Vec<u8>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let received = Arc::clone(&received);
        let service = service_fn(move |request: Request<Incoming>| {
            let received = Arc::clone(&received);
            async move {
                assert_eq!(request.uri().path(), EXPORT);
                let body = request.into_body().collect().await.expect("the whole of it").to_bytes();
                received.lock().expect("no panic before").extend_from_slice(&body);
                let trailers = hyper::HeaderMap::from_iter([(
                    hyper::header::HeaderName::from_static("grpc-status"),
                    hyper::header::HeaderValue::from_static("0"),
                )]);
                let body = Full::new(Bytes::from_static(ACCEPTED));
                let body = body.with_trailers(std::future::ready(Some(Ok::<_, Infallible>(trailers))));
                Ok::<_, Infallible>(
                    Response::builder().header("content-type", "application/grpc").body(body).expect("a good answer"),
                )
            }
        });
        tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service));
    }
}

#[tokio::test]
async fn a_collector_that_is_away_costs_nothing_but_its_spans() {
    let queues = vec![QueueOptions::new("orders")];
    let broker = Broker::start(Options { queues, ..Options::default() }).await.expect("a broker starts");
    let nobody = Nobody::start();
    let endpoint = format!("http://{}", nobody.address());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (program, ready) = started(&["--otlp-endpoint", &endpoint], folder.path()).await;
    let channel = Channel::from_shared(format!("http://{}", ready.listen[0])).expect("a valid address");
    let client = ExternalScalerClient::new(channel.connect().await.expect("the scaler accepts connections"));
    is_active(&client, of_broker(&broker, "orders", "receiver")).await;
    program.terminate();
    let ended = program.ended().await;
    assert!(ended.status.success(), "{ended:?}");
}
