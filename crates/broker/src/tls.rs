//! TLS on the broker's port: where its certificate comes from, and the handshake.
//!
//! A certificate is read from files, or generated together with an authority of its own whose certificate is written to
//! a file for clients to trust; the authority's key is thrown away at once, so that nothing else can be signed with it.
//! HTTP/1.1 is offered by ALPN; AMQP clients ask for nothing. Client certificates are not asked for.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long a client may take for its handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// Names that every generated certificate is valid for.
const OWN_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// Generated certificates hold from yesterday, for clocks that differ, for so many days. Some clients refuse more.
const VALID_DAYS: i64 = 397;

/// How the broker speaks TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsOptions {
    /// Whose certificate it shows.
    pub certificate: CertificateSource,
    /// Where the generated authority's certificate is written, as PEM, before the broker serves. Not for certificates
    /// from files.
    pub authority_file: Option<PathBuf>,
    /// Whether clients that do not speak TLS are sent away.
    pub only: bool,
}

impl TlsOptions {
    /// A generated certificate for localhost, beside plain connections on the same port.
    pub fn generated() -> Self {
        Self { certificate: CertificateSource::Generated { names: Vec::new() }, authority_file: None, only: false }
    }
}

/// Where a certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateSource {
    /// PEM files: the certificate with its chain, leaf first, and its private key.
    Files {
        /// The certificate and its chain.
        certificate: PathBuf,
        /// The key, as PKCS#8, PKCS#1 or SEC1.
        key: PathBuf,
    },
    /// Made at the start by an authority of its own, valid for localhost, 127.0.0.1, `::1`, the addresses listened on, and
    /// these host names and IP addresses.
    Generated {
        /// Further names.
        names: Vec<String>,
    },
}

/// Why TLS cannot be served. No text holds anything of a key.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read the {what} {}", path.display())]
    Read {
        /// Certificate or key.
        what: &'static str,
        /// As given.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} holds no {what} in PEM form", path.display())]
    Pem {
        /// Certificate or key.
        what: &'static str,
        /// As given.
        path: PathBuf,
    },
    /// A name is neither a host name nor an IP address.
    #[error("{0:?} is neither a host name nor an IP address")]
    Name(String),
    /// The certificate cannot be made.
    #[error("cannot generate a certificate")]
    Generate(#[from] rcgen::Error),
    /// Certificate and key cannot be used, or do not belong together.
    #[error("cannot use the certificate with its key")]
    Unusable(#[from] rustls::Error),
    /// The authority's certificate cannot be written.
    #[error("cannot write the authority's certificate to {}", path.display())]
    Write {
        /// As given.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// What the listeners need to serve TLS.
pub(crate) struct Tls {
    acceptor: TlsAcceptor,
    leaf: CertificateDer<'static>,
    authority_pem: Option<String>,
    pub(crate) only: bool,
}

impl Tls {
    /// Reads or makes the certificate, and writes the authority's where it is asked for.
    pub(crate) fn new(options: &TlsOptions, listen: &[SocketAddr]) -> Result<Self, TlsError> {
        let (chain, key, authority_pem) = match &options.certificate {
            CertificateSource::Files { certificate, key } => {
                let (chain, key) = read_files(certificate, key)?;
                (chain, key, None)
            }
            CertificateSource::Generated { names } => {
                let (leaf, key, authority_pem) = generate(names, listen)?;
                (vec![leaf], key, Some(authority_pem))
            }
        };
        let leaf = chain.first().cloned().unwrap_or_else(|| CertificateDer::from(Vec::new()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        if let (Some(path), Some(pem)) = (&options.authority_file, &authority_pem) {
            write_atomically(path, pem).map_err(|source| TlsError::Write { path: path.clone(), source })?;
        }
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), leaf, authority_pem, only: options.only })
    }

    /// The generated authority's certificate, as PEM.
    pub(crate) fn authority_pem(&self) -> Option<&str> {
        self.authority_pem.as_deref()
    }

    /// The host and port by which a client that checks the certificate reaches `address`: the address itself where the
    /// certificate covers it, else `localhost` where that is covered, else still the address.
    pub(crate) fn endpoint(&self, address: SocketAddr) -> String {
        let covers = |name: &ServerName<'_>| {
            ParsedCertificate::try_from(&self.leaf)
                .and_then(|leaf| rustls::client::verify_server_name(&leaf, name))
                .is_ok()
        };
        let localhost = ServerName::try_from("localhost").ok();
        if covers(&ServerName::from(address.ip())) {
            return address.to_string();
        }
        if address.ip().is_loopback() && localhost.as_ref().is_some_and(covers) {
            return format!("localhost:{}", address.port());
        }
        tracing::warn!(%address, "the TLS certificate is not valid for the address; clients must use a name it is valid for");
        address.to_string()
    }

    /// The handshake. `TimedOut` when the client is too slow.
    pub(crate) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<TlsStream<S>> {
        let handshake = tokio::time::timeout(HANDSHAKE_DEADLINE, self.acceptor.accept(stream));
        handshake.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}

impl fmt::Debug for Tls {
    /// Without the acceptor, which holds the key.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tls").field("only", &self.only).finish_non_exhaustive()
    }
}

type Chain = Vec<CertificateDer<'static>>;

fn read_files(certificate: &Path, key: &Path) -> Result<(Chain, PrivateKeyDer<'static>), TlsError> {
    let read = |what, path: &Path| {
        std::fs::read(path).map_err(|source| TlsError::Read { what, path: path.to_owned(), source })
    };
    let text = read("certificate", certificate)?;
    let pem = |what, path: &Path| TlsError::Pem { what, path: path.to_owned() };
    let chain: Result<Chain, _> = CertificateDer::pem_slice_iter(&text).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(|| pem("certificate", certificate))?;
    let key_der = PrivateKeyDer::from_pem_slice(&read("key", key)?).map_err(|_| pem("private key", key))?;
    Ok((chain, key_der))
}

/// A leaf, its key, and the certificate of the authority that signed it.
fn generate(
    names: &[String],
    listen: &[SocketAddr],
) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>, String), TlsError> {
    let mut all: Vec<String> = OWN_NAMES.map(str::to_owned).to_vec();
    all.extend(listen.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string()));
    for name in names {
        ServerName::try_from(name.as_str()).map_err(|_| TlsError::Name(name.clone()))?;
        all.push(name.clone());
    }
    all.sort_unstable();
    all.dedup();

    let mut authority = valid(CertificateParams::new(Vec::new())?, "servicebus-scaler broker authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

    let mut leaf = valid(CertificateParams::new(all)?, "servicebus-scaler broker");
    leaf.use_authority_key_identifier_extension = true;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let leaf = leaf.signed_by(&key, &authority)?;
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    Ok((leaf.der().clone(), key, authority.pem()))
}

fn valid(mut certificate: CertificateParams, name: &str) -> CertificateParams {
    let now = OffsetDateTime::now_utc();
    certificate.not_before = now - time::Duration::DAY;
    certificate.not_after = now + time::Duration::days(VALID_DAYS);
    certificate.distinguished_name = DistinguishedName::new();
    certificate.distinguished_name.push(DnType::CommonName, name);
    certificate
}

/// A reader sees the whole of it or nothing.
fn write_atomically(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = PathBuf::from(name);
    std::fs::write(&temporary, text)?;
    std::fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(tls: &Tls, address: &str) -> String {
        tls.endpoint(address.parse().expect("an address"))
    }

    #[test]
    fn a_generated_certificate_covers_this_machine_what_is_listened_on_and_what_is_named() {
        let options = TlsOptions {
            certificate: CertificateSource::Generated { names: vec!["broker.example".to_owned()] },
            ..TlsOptions::generated()
        };
        let listen = ["10.1.2.3:5671".parse().expect("valid"), "0.0.0.0:1".parse().expect("valid")];
        let tls = Tls::new(&options, &listen).expect("generated");
        assert!(tls.authority_pem().is_some_and(|pem| pem.starts_with("-----BEGIN CERTIFICATE-----")));
        assert_eq!(endpoint(&tls, "127.0.0.1:7"), "127.0.0.1:7");
        assert_eq!(endpoint(&tls, "[::1]:7"), "[::1]:7");
        assert_eq!(endpoint(&tls, "10.1.2.3:7"), "10.1.2.3:7");
        assert_eq!(endpoint(&tls, "127.0.0.9:7"), "localhost:7");
        let leaf = ParsedCertificate::try_from(&tls.leaf).expect("a certificate");
        for (name, covered) in [("broker.example", true), ("other.example", false)] {
            let name = ServerName::try_from(name).expect("a name");
            assert_eq!(rustls::client::verify_server_name(&leaf, &name).is_ok(), covered, "{name:?}");
        }
    }

    #[test]
    fn certificates_come_from_files_and_their_errors_name_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        let files = TlsOptions {
            certificate: CertificateSource::Files { certificate: certificate.clone(), key: key.clone() },
            ..TlsOptions::generated()
        };
        let error = Tls::new(&files, &[]).expect_err("not there").to_string();
        assert!(error.contains("cert.pem"), "{error}");

        let own_key = KeyPair::generate().expect("a key");
        let own = CertificateParams::new(vec!["localhost".to_owned()]).expect("valid");
        let own = own.self_signed(&own_key).expect("signed");
        std::fs::write(&certificate, own.pem()).expect("written");
        std::fs::write(&key, own.pem()).expect("written");
        let error = Tls::new(&files, &[]).expect_err("no key").to_string();
        assert!(error.contains("key.pem") && error.contains("private key"), "{error}");
        std::fs::write(&key, KeyPair::generate().expect("a key").serialize_pem()).expect("written");
        assert!(matches!(Tls::new(&files, &[]), Err(TlsError::Unusable(_))), "another's key");
        std::fs::write(&key, own_key.serialize_pem()).expect("written");
        let tls = Tls::new(&files, &[]).expect("valid");
        assert_eq!((tls.authority_pem(), endpoint(&tls, "127.0.0.1:7")), (None, "localhost:7".to_owned()));
    }

    #[test]
    fn names_are_checked() {
        for name in ["", "a b", "http://x", "x:1"] {
            let certificate = CertificateSource::Generated { names: vec![name.to_owned()] };
            let error = Tls::new(&TlsOptions { certificate, ..TlsOptions::generated() }, &[]).expect_err(name);
            assert!(matches!(error, TlsError::Name(_)), "{name}: {error:?}");
        }
    }
}
