//! HTTP/1.1 on one connection: what comes before the administration API.
//!
//! The control endpoint takes what is its own; every other request is counted, whatever becomes of it, and answered by
//! [`Admin`]. A request carries its [`Caller`] on, because what a client is told depends on how it came.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::IF_MATCH;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::admin::Admin;
use crate::control::Control;
use crate::counters::{Counters, Operation, Outcome};

const HEADER_DEADLINE: Duration = Duration::from_secs(30);
const MAX_HEADER_BYTES: usize = 64 * 1024;

/// Who sends a request, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    /// The client's end of the connection.
    pub(crate) address: SocketAddr,
    /// Whether it speaks TLS.
    pub(crate) is_tls: bool,
}

impl Caller {
    /// The scheme of the addresses it is told.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.is_tls { "https" } else { "http" }
    }

    /// Whether it is on this machine.
    pub(crate) fn is_local(&self) -> bool {
        self.address.ip().to_canonical().is_loopback()
    }
}

/// What answers requests.
#[derive(Debug)]
pub(crate) struct Http {
    pub(crate) admin: Admin,
    pub(crate) control: Control,
    pub(crate) counters: Arc<Counters>,
}

impl Http {
    /// Serves requests until the client leaves or `stop`.
    pub(crate) async fn serve<S>(self: Arc<Self>, stream: S, caller: Caller, stop: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let service = service_fn(move |request| {
            let http = Arc::clone(&self);
            async move { Ok::<_, Infallible>(http.answer(request, caller).await) }
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

    async fn answer(&self, request: Request<Incoming>, caller: Caller) -> Response<Full<Bytes>> {
        let mut request = match self.control.answer(request, caller) {
            Ok(response) => return response,
            Err(request) => request,
        };
        request.extensions_mut().insert(caller);
        let path = percent_decode_str(request.uri().path()).decode_utf8_lossy().into_owned();
        let has_if_match = request.headers().contains_key(IF_MATCH);
        let Some((operation, _)) = Operation::of_request(request.method(), &path, has_if_match) else {
            return self.admin.answer(request).await;
        };
        let mut counted = Counted { counters: &self.counters, operation, outcome: Outcome::Error };
        let response = self.admin.answer(request).await;
        counted.outcome = Outcome::of_status(response.status());
        response
    }
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
