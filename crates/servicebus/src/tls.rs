//! The TLS client configuration, for AMQP and HTTPS alike: rustls on ring, the system's root certificates.
//!
//! The crypto provider is passed explicitly, so that a library user need not install a process-wide one.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;

/// Trusts what the system trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured). Fails where no root certificate is
/// found, because then no service can be checked.
pub(crate) fn system_roots() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier::new(provider.clone())?;
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

/// Trusts nobody: for HTTP clients that speak plain HTTP only, yet insist on a TLS configuration. Needs no certificate
/// on disk, so it works in an image that has none.
pub(crate) fn no_roots() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth())
}
