//! One HTTP/2 connection from its greeting to its end.
//!
//! The end comes with its age or with the scaler's stop, and is clean in both cases: the client is told that nothing new
//! is taken (GOAWAY), calls in flight are answered, and streams end with OK, since only a clean end resets KEDA's reconnect
//! delay. A connection that outlives its scaler's other replicas would never let KEDA find a new one (`docs/architecture.md`).

use std::convert::Infallible;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::service::Routes;

use super::Accepted;
use super::ending::{AnswerEnding, Counted, QuestionsEnding};
use super::question::{Question, Questions, too_many};

/// KEDA shares one connection for everything, two endless streams for every push trigger: a low limit would freeze it.
const MAX_CONCURRENT_STREAMS: u32 = 100_000;
/// How often an idle connection is probed, so that streams of a vanished client end.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Most bytes of the headers of one call. KEDA's take a few hundred.
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// In front of the names of the contract's two streams.
const PUSH_CALLS: &str = "/externalscaler.ExternalScaler/Stream";
/// A client that has not even begun to speak HTTP/2 within this is closed.
const GREETING_DEADLINE: Duration = Duration::from_secs(10);

/// In the extensions of every request: cancelled when the streams of its connection are to end.
#[derive(Clone, Debug)]
pub(crate) struct StreamsEnd(pub(crate) CancellationToken);

/// Serves a connection until it is `age` old (never, if there is none) or `ending`, then ends it cleanly; what is in flight
/// then gets as long as `last_calls`.
pub(crate) async fn serve(
    accepted: Accepted,
    routes: Routes,
    questions: Questions,
    age: Option<Duration>,
    last_calls: Duration,
    ending: CancellationToken,
) {
    // Its own: its streams end with it, whatever becomes of the others.
    let streams_end = CancellationToken::new();
    let greeting = accepted.greeting();
    let routes = TowerToHyperService::new(routes);
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let routes = routes.clone();
        let streams_end = streams_end.clone();
        let questions = questions.clone();
        async move {
            let path = request.uri().path();
            let refused = |end| too_many().into_http().map(|body: Body| AnswerEnding::new(body, end, Counted::Not));
            let Some(asked) = questions.ask(path, request.headers()) else { return Ok(refused(streams_end)) };
            // Only reflection goes on for as long as its client has questions.
            let asks_on = path.starts_with("/grpc.reflection.");
            let is_push = path.starts_with(PUSH_CALLS);
            let mut request = request.map(|body| {
                if asks_on {
                    Body::new(QuestionsEnding::new(Question::asking_on(body, asked.clone()), streams_end.clone()))
                } else {
                    Body::new(Question::new(body, asked.clone()))
                }
            });
            request.extensions_mut().insert(StreamsEnd(streams_end.clone()));
            let response = routes.call(request).await?;
            let counted = if is_push {
                // Their number is the service's business. What was opened ends when its answer is dropped.
                let Some(opened) = asked.opened() else { return Ok(refused(streams_end)) };
                Counted::Stream(opened)
            } else {
                Counted::Call(asked)
            };
            Ok::<_, Infallible>(response.map(|body| AnswerEnding::new(body, streams_end, counted)))
        }
    });
    let mut connection = pin!(
        http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
            .max_header_list_size(MAX_HEADER_BYTES)
            .keep_alive_interval(KEEPALIVE)
            .serve_connection(TokioIo::new(accepted), service)
    );
    let mut greeted_by = pin!(tokio::time::sleep(GREETING_DEADLINE));
    let mut old = pin!(async {
        match age {
            Some(age) => tokio::time::sleep(age).await,
            None => std::future::pending().await,
        }
    });
    let mut is_greeting_due = true;
    loop {
        tokio::select! {
            ended = connection.as_mut() => return log_end(ended),
            () = greeted_by.as_mut(), if is_greeting_due => {
                if !greeting.is_received() {
                    tracing::debug!("a connection is closed: it did not begin to speak HTTP/2");
                    return;
                }
                is_greeting_due = false;
            }
            () = old.as_mut() => break,
            () = ending.cancelled() => break,
        }
    }
    connection.as_mut().graceful_shutdown();
    // Writes GOAWAY before the streams end, so that a client which opens them again takes another connection for it.
    if let Poll::Ready(ended) = futures_util::poll!(connection.as_mut()) {
        return log_end(ended);
    }
    streams_end.cancel();
    if !greeting.is_received() {
        tracing::debug!("a connection is closed: nothing was said on it");
        return;
    }
    if let Ok(ended) = tokio::time::timeout(last_calls, connection).await {
        log_end(ended);
    } else {
        tracing::debug!("a connection is cut off: its client did not let go of it");
    }
}

fn log_end(ended: hyper::Result<()>) {
    match ended {
        Ok(()) => tracing::debug!("a connection ended"),
        Err(problem) => tracing::debug!(%problem, "a connection ended"),
    }
}
