//! Opening a byte stream to the broker: TCP, and TLS on it unless the connection string asks for an emulator.

use std::io;
use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::failure::Failure;
use crate::{ConnectionString, ExtraRoots, FailureKind, tls};

/// What AMQP is spoken over.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Where to dial, and what has been read from disk for it.
pub(super) struct Dialler {
    host: String,
    port: u16,
    use_tls: bool,
    extra_roots: ExtraRoots,
    tls: OnceLock<Arc<ClientConfig>>,
}

impl Dialler {
    pub(super) fn new(connection: &ConnectionString, extra_roots: &ExtraRoots) -> Self {
        Self {
            host: connection.host().to_owned(),
            port: connection.amqp_port(),
            use_tls: !connection.is_development_emulator(),
            extra_roots: extra_roots.clone(),
            tls: OnceLock::new(),
        }
    }

    /// Dials. The caller sets the deadline.
    pub(super) async fn dial(&self) -> Result<Box<dyn Stream>, Failure> {
        let (host, port) = (self.host.as_str(), self.port);
        let failed = |what: String, error: io::Error| Failure::new(FailureKind::ConnectionLost, what).because(error);
        let stream = TcpStream::connect((host, port))
            .await
            .map_err(|error| failed(format!("cannot connect to {host}:{port}"), error))?;
        stream
            .set_nodelay(true)
            .map_err(|error| failed(format!("cannot set up the socket to {host}:{port}"), error))?;
        if !self.use_tls {
            return Ok(Box::new(stream));
        }
        let name = ServerName::try_from(self.host.clone()).map_err(|error| {
            Failure::new(FailureKind::Refused, format!("{host:?} is no name that a certificate can have"))
                .because(error)
        })?;
        let stream = TlsConnector::from(self.tls_config()?).connect(name, stream).await.map_err(|error| {
            // What rustls refuses (a certificate, say) stays refused; anything else is the network's.
            let kind = match error.kind() {
                io::ErrorKind::InvalidData => FailureKind::Refused,
                _ => FailureKind::ConnectionLost,
            };
            Failure::new(kind, format!("no TLS with {host}:{port}")).because(error)
        })?;
        Ok(Box::new(stream))
    }

    fn tls_config(&self) -> Result<Arc<ClientConfig>, Failure> {
        if let Some(config) = self.tls.get() {
            return Ok(config.clone());
        }
        let config = tls::trusting(&self.extra_roots)
            .map_err(|error| Failure::new(FailureKind::Refused, "cannot set up TLS on this machine").because(error))?;
        Ok(self.tls.get_or_init(|| Arc::new(config)).clone())
    }
}
