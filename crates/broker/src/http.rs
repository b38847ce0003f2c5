//! HTTP/1.1 on one connection: what comes before the administration API.
//!
//! The control endpoint takes what is its own; every other request is counted, whatever becomes of it, and answered by
//! a fault, by the budget, or by [`Admin`]. A request carries its [`Caller`] on, because what a client is told depends on how it came.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{HeaderValue, IF_MATCH, LOCATION, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::admin::{Admin, Failure};
use crate::budget::Budget;
use crate::caller::Caller;
use crate::control::Control;
use crate::counters::{Counters, Operation, Outcome};
use crate::faults::{Asked, Denial, Faults, Plane, Stall};
use crate::peer::refusals::{BUSY_SECONDS, busy};

const HEADER_DEADLINE: Duration = Duration::from_secs(30);
const MAX_HEADER_BYTES: usize = 64 * 1024;

/// What answers requests.
#[derive(Debug)]
pub(crate) struct Http {
    pub(crate) admin: Admin,
    pub(crate) control: Control,
    pub(crate) counters: Arc<Counters>,
    pub(crate) faults: Faults,
    pub(crate) budget: Arc<Budget>,
}

impl Http {
    /// Serves requests until the client leaves or `stop`.
    pub(crate) async fn serve<S>(self: Arc<Self>, stream: S, caller: Caller, stop: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let stopping = stop.clone();
        let service = service_fn(move |request| {
            let (http, caller, stop) = (Arc::clone(&self), caller.clone(), stopping.clone());
            async move { Ok::<_, Infallible>(http.answer(request, caller, stop).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_DEADLINE)
            .max_buf_size(MAX_HEADER_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let served = tokio::select! {
            served = connection.as_mut() => served,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = served {
            tracing::debug!(%error, "an HTTP connection ended with an error");
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        caller: Caller,
        stop: CancellationToken,
    ) -> Response<Full<Bytes>> {
        let mut request = match self.control.answer(request, &caller).await {
            Ok(response) => return response,
            Err(request) => request,
        };
        let path = percent_decode_str(request.uri().path()).decode_utf8_lossy().into_owned();
        let has_if_match = request.headers().contains_key(IF_MATCH);
        let kind = Operation::of_request(request.method(), &path, has_if_match);
        let Some((mut operation, entity)) = kind else {
            request.extensions_mut().insert(caller);
            return self.admin.answer(request).await;
        };
        if operation == Operation::GetQueue && entity.as_deref().is_some_and(|name| self.admin.is_topic(name)) {
            operation = Operation::GetTopic;
        }
        let mut counted = Counted { counters: &self.counters, operation, outcome: Outcome::Error };
        let admitted = tokio::select! {
            admitted = self.admit(operation, entity.as_deref(), &caller) => admitted,
            // What a fault holds up does not hold up the end.
            () = stop.cancelled() => {
                Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "The broker is shutting down.").into_response())
            }
        };
        let response = match admitted {
            Ok(()) => {
                request.extensions_mut().insert(caller);
                self.admin.answer(request).await
            }
            Err(response) => response,
        };
        counted.outcome = Outcome::of_status(response.status());
        response
    }

    /// What faults and the budget say to a request: nothing, or what it is answered instead.
    async fn admit(
        &self,
        operation: Operation,
        entity: Option<&str>,
        caller: &Caller,
    ) -> Result<(), Response<Full<Bytes>>> {
        let asked = Asked { plane: Plane::Administration, operation: Some(operation), entity, is_token_checked: true };
        let verdict = self.faults.judge(&asked);
        if !verdict.latency.is_zero() {
            tokio::time::sleep(verdict.latency).await;
        }
        match verdict.denial {
            None => {}
            Some(Denial::Throttle { retry_after_seconds }) => {
                return Err(throttled(StatusCode::TOO_MANY_REQUESTS, 50_009, retry_after_seconds));
            }
            Some(Denial::Busy { sub_code }) => {
                return Err(throttled(StatusCode::SERVICE_UNAVAILABLE, sub_code, BUSY_SECONDS));
            }
            Some(Denial::Status { status, location }) => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                let mut response = Failure::new(status, "A fault on demand.").into_response();
                if let Some(location) = location.and_then(|location| HeaderValue::try_from(location).ok()) {
                    response.headers_mut().insert(LOCATION, location);
                }
                return Err(response);
            }
            Some(Denial::WrongKey) => {
                return Err(
                    Failure::unauthorized("InvalidSignature: The token has an invalid signature.").into_response()
                );
            }
            Some(Denial::Reset) => {
                caller.cut.cancel();
                std::future::pending::<()>().await;
            }
            Some(Denial::Stall(stall)) => Stall::lifted(Some(&stall)).await,
        }
        let taken = self.budget.take(operation.credits(0), Instant::now());
        taken.map_err(|_| throttled(StatusCode::TOO_MANY_REQUESTS, 50_009, BUSY_SECONDS))
    }
}

fn throttled(status: StatusCode, sub_code: u32, seconds: u64) -> Response<Full<Bytes>> {
    let text = busy(sub_code, seconds);
    let mut response = Failure::new(status, &format!("SubCode={sub_code}. {text}")).into_response();
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Counts a request when it ends, also when its client left before it was answered.
struct Counted<'a> {
    counters: &'a Counters,
    operation: Operation,
    outcome: Outcome,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.counters.count(self.operation, self.outcome, 0);
    }
}
