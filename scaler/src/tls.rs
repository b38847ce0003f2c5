//! The gRPC port's TLS: certificate, key and, for mTLS, the authority of client certificates, read from PEM files and read
//! again when they change.
//!
//! Owns the configuration in force and swaps it as a whole, so that a new client authority counts from the next connection on; one
//! that is open keeps what it was accepted with until its age ends it. No session is resumed: every connection shows its
//! certificate. A bad new file costs one log line and changes nothing. Error texts hold nothing of a key.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::signal::unix::Signal;
use tokio_util::sync::CancellationToken;

use crate::looks::{Look, Looks};

/// A chain or a bundle of authorities is smaller; a larger file is another one by mistake.
const MAX_FILE_BYTES: usize = 1024 * 1024;

/// Where the PEM files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate with its chain, leaf first.
    pub certificate: PathBuf,
    /// Its private key: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
    /// The authorities whose client certificates are accepted. With it every client must show one.
    pub client_authority: Option<PathBuf>,
}

/// TLS cannot be served with these files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {flag} {}", path.display())]
    Read {
        /// The flag that names it.
        flag: &'static str,
        /// As given.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{flag} {} holds no {what} in PEM form", path.display())]
    Pem {
        /// The flag that names it.
        flag: &'static str,
        /// As given.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// Certificate and key cannot be used, or do not belong together.
    #[error("cannot use --tls-cert {} with --tls-key {}", certificate.display(), key.display())]
    Unusable {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        #[source]
        source: rustls::Error,
    },
    /// The authorities cannot be used.
    #[error("cannot use --tls-client-ca {}", path.display())]
    Authority {
        /// As given.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: VerifierBuilderError,
    },
}

/// The configuration in force. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Tls(Arc<ArcSwap<ServerConfig>>);

impl Tls {
    /// Reads the files.
    pub fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(Contents::read(files)?.configuration(files)?))))
    }

    /// What the next connection is accepted with.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        self.0.load_full()
    }

    /// Keeps the configuration in step with its files until `shutdown`: looked at every `interval`, and at SIGHUP where
    /// the caller gives it.
    pub async fn follow(
        self,
        files: TlsFiles,
        interval: Duration,
        hangup: Option<Signal>,
        shutdown: CancellationToken,
    ) {
        let mut in_force = read_off_the_runtime(&files).await.ok();
        let mut complaint = None;
        let mut looks = Looks::new(interval, hangup, shutdown);
        while let Some(look) = looks.next().await {
            let asked = look == Look::Asked;
            // Read twice, a little apart: somebody may be in the middle of writing one file, or between two of them.
            let first = read_off_the_runtime(&files).await;
            tokio::time::sleep(interval / 10).await;
            let second = read_off_the_runtime(&files).await;
            let contents = match (first, second) {
                (Ok(first), Ok(second)) if first != second => continue,
                (_, Ok(second)) if in_force.as_ref() == Some(&second) => {
                    if asked {
                        tracing::info!("the TLS files were read again and say the same");
                    }
                    complaint = None;
                    continue;
                }
                (_, second) => second,
            };
            let applied = contents.and_then(|contents| Ok((contents.configuration(&files)?, contents)));
            match applied {
                Ok((configuration, contents)) => {
                    self.0.store(Arc::new(configuration));
                    in_force = Some(contents);
                    complaint = None;
                    tracing::info!(certificate = %files.certificate.display(), "the TLS files changed and are in force");
                }
                Err(error) => {
                    let problem = format!("{:#}", anyhow::Error::new(error));
                    // Once per distinct problem, not at every look.
                    if asked || complaint.as_ref() != Some(&problem) {
                        tracing::error!(problem, "the TLS files are refused; what was in force before them stays");
                    }
                    complaint = Some(problem);
                }
            }
        }
    }
}

impl fmt::Debug for Tls {
    /// Without the configuration, which holds the key.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// The files' bytes, to tell whether they changed.
#[derive(PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_authority: Option<Vec<u8>>,
}

const CERTIFICATE: &str = "--tls-cert";
const KEY: &str = "--tls-key";
const CLIENT_AUTHORITY: &str = "--tls-client-ca";

impl Contents {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Self {
            certificate: read(CERTIFICATE, &files.certificate)?,
            key: read(KEY, &files.key)?,
            client_authority: files.client_authority.as_deref().map(|path| read(CLIENT_AUTHORITY, path)).transpose()?,
        })
    }

    fn configuration(&self, files: &TlsFiles) -> Result<ServerConfig, TlsError> {
        let TlsFiles { certificate, key, client_authority } = files;
        let pem = |flag, path: &Path, what| TlsError::Pem { flag, path: path.to_owned(), what };
        let unusable = |source| TlsError::Unusable { certificate: certificate.clone(), key: key.clone(), source };
        let chain = certificates(&self.certificate).ok_or_else(|| pem(CERTIFICATE, certificate, "certificate"))?;
        let key_der = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| pem(KEY, key, "private key"))?;

        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?;
        let builder = match (client_authority, &self.client_authority) {
            (Some(path), Some(text)) => {
                let authorities =
                    certificates(text).ok_or_else(|| pem(CLIENT_AUTHORITY, path, "certificate of an authority"))?;
                let verifier = client_verifier(authorities, provider)
                    .map_err(|source| TlsError::Authority { path: path.clone(), source })?;
                builder.with_client_cert_verifier(verifier)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut configuration = builder.with_single_cert(chain, key_der).map_err(unusable)?;
        configuration.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would let a client in on what it showed earlier, to an authority that may be gone.
        configuration.session_storage = Arc::new(NoServerSessionStorage {});
        configuration.send_tls13_tickets = 0;
        Ok(configuration)
    }
}

fn client_verifier(
    authorities: Vec<CertificateDer<'static>>,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, VerifierBuilderError> {
    let mut roots = RootCertStore::empty();
    // What is no authority is left out, and if nothing is left, building refuses.
    let (_, unusable) = roots.add_parsable_certificates(authorities);
    if unusable > 0 {
        tracing::warn!(unusable, "certificates in --tls-client-ca that cannot be used are left out");
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()
}

fn certificates(text: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    certificates.ok().filter(|certificates| !certificates.is_empty())
}

fn read(flag: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read { flag, path: path.to_owned(), source };
    let too_large = || io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {MAX_FILE_BYTES} bytes"));
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    let read = io::Read::take(file, MAX_FILE_BYTES as u64 + 1);
    io::Read::read_to_end(&mut { read }, &mut bytes).map_err(failed)?;
    if bytes.len() > MAX_FILE_BYTES { Err(failed(too_large())) } else { Ok(bytes) }
}

async fn read_off_the_runtime(files: &TlsFiles) -> Result<Contents, TlsError> {
    let owned = files.clone();
    let unread = |source| TlsError::Read { flag: CERTIFICATE, path: files.certificate.clone(), source };
    tokio::task::spawn_blocking(move || Contents::read(&owned)).await.map_err(|error| unread(error.into()))?
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use rcgen::{CertificateParams, KeyPair};
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    /// What was logged.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Log {
        fn lines_with(&self, words: &str) -> usize {
            let text = String::from_utf8(self.0.lock().expect("no panic before").clone()).expect("UTF-8");
            text.lines().filter(|line| line.contains(words)).count()
        }
    }

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic before").extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Log {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    fn write_identity(files: &TlsFiles) {
        let key = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new(vec!["localhost".to_owned()]).expect("a valid name");
        let certificate = certificate.self_signed(&key).expect("it signs itself");
        std::fs::write(&files.certificate, certificate.pem()).expect("the folder is writable");
        std::fs::write(&files.key, key.serialize_pem()).expect("the folder is writable");
    }

    #[tokio::test(start_paused = true)]
    async fn a_bad_file_is_one_line_however_often_it_is_looked_at_and_changes_nothing() {
        let log = Log::default();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(log.clone()).finish();
        let _here = tracing::subscriber::set_default(subscriber);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name);
        let files = TlsFiles { certificate: path("tls.crt"), key: path("tls.key"), client_authority: None };
        write_identity(&files);
        let tls = Tls::read(&files).expect("good files");
        let at_first = tls.current();
        let (interval, minute) = (Duration::from_secs(1), Duration::from_mins(1));
        let shutdown = CancellationToken::new();
        let following = tokio::spawn(tls.clone().follow(files.clone(), interval, None, shutdown.clone()));
        // Time moves on by itself whenever there is nothing left to do, so a minute is sixty looks.
        tokio::time::sleep(minute).await;
        assert!(Arc::ptr_eq(&tls.current(), &at_first), "the same files are the same configuration");
        for bad in ["not a key", ""] {
            std::fs::write(&files.key, bad).expect("the folder is writable");
            tokio::time::sleep(minute).await;
            assert!(Arc::ptr_eq(&tls.current(), &at_first), "{bad:?}");
        }
        assert_eq!(log.lines_with("what was in force before them stays"), 1, "both are the same problem");
        std::fs::remove_file(&files.key).expect("it is there");
        tokio::time::sleep(minute).await;
        assert_eq!(log.lines_with("what was in force before them stays"), 2, "a missing file is another");
        write_identity(&files);
        tokio::time::sleep(minute).await;
        assert!(!Arc::ptr_eq(&tls.current(), &at_first), "good files are taken");
        assert_eq!(log.lines_with("the TLS files changed and are in force"), 1);
        assert_eq!(log.lines_with("PRIVATE KEY"), 0);
        shutdown.cancel();
        following.await.expect("it ends");
    }
}
