//! HTTP/1.1 on one connection: what comes before the administration API.
//!
//! A request carries its [`Caller`] on, because what a client is told depends on how it came.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::admin::Admin;

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
}

/// Serves requests until the client leaves or `stop`.
pub(crate) async fn serve<S>(stream: S, caller: Caller, admin: Arc<Admin>, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let service = service_fn(move |mut request| {
        let admin = Arc::clone(&admin);
        request.extensions_mut().insert(caller);
        async move { Ok::<_, Infallible>(admin.answer(request).await) }
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
