//! Whose request it is, for whatever answers over HTTP: what a client is told depends on how it came.

use std::net::SocketAddr;

use tokio_util::sync::CancellationToken;

/// Who sends a request, and how.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The client's end of the connection.
    pub(crate) address: SocketAddr,
    /// Whether it speaks TLS.
    pub(crate) is_tls: bool,
    /// Cancelled to reset its connection.
    pub(crate) cut: CancellationToken,
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
