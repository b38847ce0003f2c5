//! The gRPC port's TLS: certificate, key and, for mTLS, the authority of client certificates, read from PEM files and read
//! again when they change.
//!
//! Owns the configuration in force and swaps it as a whole, so that a new client authority counts from the next connection on; one
//! that is open keeps what it was accepted with until its age ends it. No session is resumed: every connection shows its
//! certificate. A bad new file costs one log line and changes nothing. What the files hold is `contents`' business.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::VerifierBuilderError;
use tokio::signal::unix::Signal;
use tokio_util::sync::CancellationToken;

use crate::looks::{Complaint, Look, Looks, settled};

mod contents;

use contents::{Contents, InForce};

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
pub struct Tls(Arc<ArcSwap<InForce>>);

impl Tls {
    /// Reads the files.
    pub fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let in_force = Contents::read(files)?.usable(files)?;
        warn_of_left_out(&in_force);
        Ok(Self(Arc::new(ArcSwap::from_pointee(in_force))))
    }

    /// What the next connection is accepted with.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.load().configuration)
    }

    /// When the certificate in force ends, in seconds since 1970.
    pub(crate) fn expiry(&self) -> Option<i64> {
        self.0.load().expiry
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
        let mut complaint = Complaint::default();
        let mut looks = Looks::new(interval, hangup, shutdown);
        while let Some(look) = looks.next().await {
            match self.look(&files, interval / 10).await {
                Looked::Changing => {}
                Looked::Same => {
                    if look == Look::Asked {
                        tracing::info!("the TLS files were read again and say the same");
                    }
                    complaint.settle();
                }
                Looked::Taken => {
                    complaint.settle();
                    tracing::info!(certificate = %files.certificate.display(), "the TLS files changed and are in force");
                }
                Looked::Refused(error) => {
                    let problem = format!("{:#}", anyhow::Error::new(error));
                    if complaint.is_worth_a_line(&problem, look) {
                        tracing::error!(problem, "the TLS files are refused; what was in force before them stays");
                    }
                }
            }
        }
    }

    /// Looks once, and takes what is the same after `pause`: somebody may be in the middle of writing one, or between two.
    async fn look(&self, files: &TlsFiles, pause: Duration) -> Looked {
        let usable = match settled(pause, || read_off_the_runtime(files)).await {
            None => return Looked::Changing,
            Some(Ok(contents)) if self.0.load().contents == contents => return Looked::Same,
            Some(read) => read.and_then(|contents| contents.usable(files)),
        };
        match usable {
            Ok(in_force) => {
                warn_of_left_out(&in_force);
                self.0.store(Arc::new(in_force));
                Looked::Taken
            }
            Err(error) => Looked::Refused(error),
        }
    }
}

impl fmt::Debug for Tls {
    /// Without the configuration, which holds the key.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// What came of a look at the files.
#[derive(Debug)]
enum Looked {
    /// They are being written just now; the next look will tell.
    Changing,
    /// They say what is in force.
    Same,
    /// They were another and are in force.
    Taken,
    /// They are no good, and what was in force stays.
    Refused(TlsError),
}

fn warn_of_left_out(in_force: &InForce) {
    if in_force.left_out > 0 {
        tracing::warn!(
            certificates = in_force.left_out,
            "certificates in --tls-client-ca that cannot be used are left out"
        );
    }
}

async fn read_off_the_runtime(files: &TlsFiles) -> Result<Contents, TlsError> {
    let owned = files.clone();
    let unread = |source| TlsError::Read { flag: "--tls-cert", path: files.certificate.clone(), source };
    tokio::task::spawn_blocking(move || Contents::read(&owned)).await.map_err(|error| unread(error.into()))?
}

#[cfg(test)]
mod tests;
