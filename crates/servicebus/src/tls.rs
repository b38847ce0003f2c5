//! The TLS client configuration, for AMQP and HTTPS alike: rustls on ring, the system's root certificates and those given.
//!
//! The crypto provider is passed explicitly, so that a library user need not install a process-wide one.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;

/// Certificate authorities trusted beside the system's: a private endpoint's, or a local broker's. Cheap to clone.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ExtraRoots(Arc<[CertificateDer<'static>]>);

/// Not certificates.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("certificate authorities must be PEM with at least one certificate, but {why}")]
pub struct ExtraRootsError {
    why: String,
}

impl ExtraRoots {
    /// The certificates in a PEM text; whatever else is in it is passed over.
    pub fn from_pem(pem: &[u8]) -> Result<Self, ExtraRootsError> {
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|error| ExtraRootsError { why: error.to_string() })?;
        if certificates.is_empty() {
            return Err(ExtraRootsError { why: "it has none".to_owned() });
        }
        let mut store = RootCertStore::empty();
        for certificate in &certificates {
            store.add(certificate.clone()).map_err(|error| ExtraRootsError { why: error.to_string() })?;
        }
        Ok(Self(certificates.into()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for ExtraRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExtraRoots({})", self.0.len())
    }
}

/// Trusts what the system trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured) and the extra roots. Fails where there is
/// no root certificate at all, because then no service can be checked.
pub(crate) fn trusting(extra: &ExtraRoots) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier::new_with_extra_roots(extra.0.iter().cloned(), provider.clone())?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_roots_are_certificates_in_pem() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let parameters = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
        let pem = parameters.self_signed(&key).expect("signed").pem();
        let two = ExtraRoots::from_pem(format!("{pem}\n{}\n{pem}", key.serialize_pem()).as_bytes()).expect("two");
        assert_eq!(format!("{two:?}"), "ExtraRoots(2)");
        assert!(trusting(&two).is_ok(), "whatever the system has");
        for text in ["", "certificate", &key.serialize_pem()] {
            let error = ExtraRoots::from_pem(text.as_bytes()).expect_err("no certificate");
            assert_eq!(
                error.to_string(),
                "certificate authorities must be PEM with at least one certificate, but it has none"
            );
        }
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(ExtraRoots::from_pem(broken.as_bytes()).is_err());
    }
}
