//! HTTP/1.1 for probes, Prometheus and people: few connections, small heads, and a deadline on everything.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Probes, a Prometheus or two, and a person need a handful.
const MAX_CONNECTIONS: usize = 64;
/// The head of a request must come within this.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);
/// A request is answered within this.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// A connection is closed after this, whatever happens on it.
const LIFETIME: Duration = Duration::from_mins(2);
/// At its end, a connection that is still answering gets so long.
const LAST_ANSWER: Duration = Duration::from_secs(1);
const MAX_HEADERS: usize = 64;
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Pause after the system refused to accept: asking again at once would not help.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop`. One connection too many is closed at once.
pub(crate) async fn serve(listener: TcpListener, routes: Router, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
                    let connection = connection(stream, routes.clone(), stop.clone());
                    tokio::spawn(async move {
                        connection.await;
                        drop(place);
                    });
                }
            }
            Err(problem) => {
                tracing::debug!(%problem, "no HTTP connection can be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, routes: Router, stop: CancellationToken) {
    let routes = TowerToHyperService::new(routes);
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let answer = routes.call(request);
        async move {
            let answer: Result<Response, Infallible> = match tokio::time::timeout(REQUEST_DEADLINE, answer).await {
                Ok(answer) => answer,
                Err(_) => Ok(StatusCode::SERVICE_UNAVAILABLE.into_response()),
            };
            answer
        }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_DEADLINE)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = async { tokio::select! { () = stop.cancelled() => {}, () = tokio::time::sleep(LIFETIME) => {} } } => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(LAST_ANSWER, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(problem) = ended {
        tracing::debug!(%problem, "an HTTP connection ended");
    }
}
