//! What the TLS files hold, and what it is served with.
//!
//! Pure but for the reading. The key's bytes that are here are overwritten when they are dropped; what ring and rustls make of
//! them is theirs. Error texts hold nothing of them.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{InconsistentKeys, RootCertStore, ServerConfig};
use secrecy::zeroize::Zeroizing;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use super::{TlsError, TlsFiles};
use crate::bounded_file;

/// A chain or a bundle of authorities is smaller; a larger file is another one by mistake.
const MAX_FILE_BYTES: usize = 1024 * 1024;

const CERTIFICATE: &str = "--tls-cert";
const KEY: &str = "--tls-key";
const CLIENT_AUTHORITY: &str = "--tls-client-ca";

/// The files' bytes, to tell whether they changed.
#[derive(PartialEq, Eq)]
pub(super) struct Contents {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    client_authority: Option<Vec<u8>>,
}

/// What connections are accepted with, and what it was made of.
pub(super) struct InForce {
    pub(super) contents: Contents,
    pub(super) configuration: Arc<ServerConfig>,
    /// When the server's certificate ends, in seconds since 1970.
    pub(super) expiry: Option<i64>,
    /// Certificates among the client authorities that cannot be used.
    pub(super) left_out: usize,
}

impl Contents {
    pub(super) fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let TlsFiles { certificate, key: key_file, client_authority } = files;
        let certificate = read(CERTIFICATE, certificate)?;
        let mut key = Zeroizing::default();
        read_into(KEY, key_file, &mut key)?;
        let client_authority = client_authority.as_deref().map(|path| read(CLIENT_AUTHORITY, path)).transpose()?;
        Ok(Self { certificate, key, client_authority })
    }

    /// What to serve with, if it can be.
    pub(super) fn usable(self, files: &TlsFiles) -> Result<InForce, TlsError> {
        let TlsFiles { certificate, key, client_authority } = files;
        let pem = |flag, path: &Path, what| TlsError::Pem { flag, path: path.to_owned(), what };
        let unusable = |source| TlsError::Unusable { certificate: certificate.clone(), key: key.clone(), source };
        let chain = certificates(&self.certificate).ok_or_else(|| pem(CERTIFICATE, certificate, "certificate"))?;
        let key_der =
            PrivateKeyDer::from_pem_slice(&self.key).map(Zeroizing::new).map_err(|_| pem(KEY, key, "private key"))?;

        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?;
        let mut left_out = 0;
        let builder = match (client_authority, &self.client_authority) {
            (Some(path), Some(text)) => {
                let authorities =
                    certificates(text).ok_or_else(|| pem(CLIENT_AUTHORITY, path, "certificate of an authority"))?;
                let verifier;
                (verifier, left_out) = client_verifier(authorities, provider)
                    .map_err(|source| TlsError::Authority { path: path.clone(), source })?;
                builder.with_client_cert_verifier(verifier)
            }
            _ => builder.with_no_client_auth(),
        };
        let expiry = chain.first().and_then(expiry);
        let certified = certified(chain, &key_der).map_err(unusable)?;
        let mut configuration = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        configuration.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would let a client in on what it showed earlier, to an authority that may be gone.
        configuration.session_storage = Arc::new(NoServerSessionStorage {});
        configuration.send_tls13_tickets = 0;
        Ok(InForce { contents: self, configuration: Arc::new(configuration), expiry, left_out })
    }
}

/// A chain with the key that belongs to it, as `with_single_cert` would make it; but that takes the key's bytes and drops them as
/// they are.
fn certified(chain: Vec<CertificateDer<'static>>, key: &PrivateKeyDer<'_>) -> Result<CertifiedKey, rustls::Error> {
    let certified = CertifiedKey::new(chain, any_supported_type(key)?);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(error) => Err(error),
    }
}

/// The verifier, and how many certificates are not among its authorities because they cannot be used.
fn client_verifier(
    authorities: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
) -> Result<(Arc<dyn ClientCertVerifier>, usize), VerifierBuilderError> {
    let mut roots = RootCertStore::empty();
    // If nothing is left, building refuses.
    let (_, left_out) = roots.add_parsable_certificates(authorities);
    Ok((WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?, left_out))
}

fn certificates(text: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    certificates.ok().filter(|certificates| !certificates.is_empty())
}

/// When a certificate ends. What rustls serves but this parser does not take has no time, and is served all the same.
fn expiry(certificate: &CertificateDer<'_>) -> Option<i64> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let not_after = parsed.tbs_certificate().validity().not_after;
    i64::try_from(not_after.to_unix_duration().as_secs()).ok()
}

fn read(flag: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut content = Vec::new();
    read_into(flag, path, &mut content)?;
    Ok(content)
}

fn read_into(flag: &'static str, path: &Path, content: &mut Vec<u8>) -> Result<(), TlsError> {
    bounded_file::read_into(path, MAX_FILE_BYTES, content).map_err(|source| TlsError::Read {
        flag,
        path: path.to_owned(),
        source,
    })
}
