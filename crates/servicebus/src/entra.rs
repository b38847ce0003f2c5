//! Tokens from Entra ID: who we are there, and the token that says so, kept until shortly before its end.
//!
//! `azure_identity` knows the protocols. What it sends goes through a transport of ours (one host, no redirect, no proxy, a limit
//! on the answer), and a client of its is made for each request, so that it keeps neither secret nor token in between. The token
//! in hand is ours ([`tokens`]). Secrets in a request under way are in buffers of the libraries, which are not overwritten.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use azure_core::cloud::{CloudConfiguration, CustomConfiguration};
use azure_core::credentials::{Secret, TokenCredential};
use azure_core::error::{Error, ErrorKind};
use azure_core::http::{ClientMethodOptions, ClientOptions, RetryOptions, Transport as AzureTransport};
use azure_identity::{
    ClientAssertion, ClientAssertionCredential, ClientAssertionCredentialOptions, ClientSecretCredential,
    ClientSecretCredentialOptions, ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId,
};
use reqwest::Url;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};
use time::OffsetDateTime;

use crate::ExtraRoots;

mod certificate;
mod cloud;
mod error;
mod identity;
mod tokens;
mod transport;

use certificate::Certificate;
pub use cloud::{Authority, AuthorityError, Cloud};
pub use error::EntraError;
pub use identity::EntraIdentity;
use tokens::{Issued, Issuer, Tokens};
use transport::Transport;

/// What the token is for; the same in every cloud.
const SCOPE: &str = "https://servicebus.azure.net/.default";
/// A service account's token takes about one kilobyte.
const MAX_TOKEN_FILE_BYTES: usize = 64 * 1024;

/// How tokens are got.
#[derive(Clone, Debug)]
pub struct EntraOptions {
    /// Who gives them. Managed identities ask this machine's metadata service instead.
    pub authority: Authority,
    /// How long one request may take. Callers wait no longer than their own deadline; the request goes on without them.
    pub timeout: Duration,
    /// Certificate authorities trusted beside the system's.
    pub extra_roots: ExtraRoots,
}

impl Default for EntraOptions {
    fn default() -> Self {
        Self { authority: Authority::default(), timeout: Duration::from_secs(10), extra_roots: ExtraRoots::default() }
    }
}

/// An identity in Entra, with its token in hand. Cheap to clone; clones share the token.
#[derive(Clone)]
pub struct Entra {
    name: &'static str,
    host: Arc<str>,
    tokens: Tokens,
}

impl Entra {
    /// Checks the identity; asks for no token yet.
    pub fn new(identity: EntraIdentity, options: EntraOptions) -> Result<Self, EntraError> {
        let issuer = AzureIssuer::new(identity, options)?;
        issuer.credential()?;
        let (name, host) = (issuer.name, issuer.transport.host().into());
        Ok(Self { name, host, tokens: Tokens::new(Arc::new(issuer)) })
    }

    /// A token for Service Bus. Asks for one only where there is none in hand.
    pub(crate) async fn token(&self) -> Result<SecretString, EntraError> {
        self.tokens.token().await
    }

    /// Service Bus refused the token in hand: it may have been revoked, or this machine slept past its end.
    pub(crate) fn refused(&self) {
        self.tokens.refused();
    }

    /// What to say when a caller does not wait any longer.
    pub(crate) fn timeout(&self, after: Duration) -> EntraError {
        EntraError::Timeout { identity: self.name, host: self.host.to_string(), after }
    }
}

impl fmt::Debug for Entra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entra").field("identity", &self.name).field("host", &self.host).finish_non_exhaustive()
    }
}

/// Asks by way of `azure_identity`.
struct AzureIssuer {
    identity: EntraIdentity,
    name: &'static str,
    authority: Authority,
    certificate: Option<Arc<Certificate>>,
    transport: Transport,
    timeout: Duration,
}

impl AzureIssuer {
    fn new(identity: EntraIdentity, options: EntraOptions) -> Result<Self, EntraError> {
        identity.check()?;
        let EntraOptions { authority, timeout, extra_roots } = options;
        let name = identity.name();
        let certificate = match &identity {
            EntraIdentity::ClientCertificate { certificate, .. } => {
                let invalid = |allowed| EntraError::Invalid { identity: name, what: "certificate", allowed };
                Some(Arc::new(Certificate::from_pem(certificate).map_err(invalid)?))
            }
            _ => None,
        };
        let origin = match &identity {
            EntraIdentity::ManagedIdentity { .. } => identity::metadata_service()?,
            _ => Url::parse(authority.as_str()).map_err(|_| EntraError::Invalid {
                identity: name,
                what: "authority",
                allowed: "https://HOST or https://HOST:PORT",
            })?,
        };
        let transport = Transport::new(origin, name, &extra_roots)?;
        Ok(Self { identity, name, authority, certificate, transport, timeout })
    }

    /// A client of the library, for one request.
    fn credential(&self) -> Result<Arc<dyn TokenCredential>, EntraError> {
        self.library_credential()
            .map_err(|error| EntraError::Unsupported { identity: self.name, why: error.to_string() })
    }

    fn library_credential(&self) -> azure_core::Result<Arc<dyn TokenCredential>> {
        let mut custom = CustomConfiguration::default();
        self.authority.as_str().clone_into(&mut custom.authority_host);
        let client_options = ClientOptions {
            retry: RetryOptions::none(),
            transport: Some(AzureTransport::new(Arc::new(self.transport.clone()))),
            cloud: Some(Arc::new(CloudConfiguration::Custom(custom))),
            ..ClientOptions::default()
        };
        Ok(match &self.identity {
            EntraIdentity::ManagedIdentity { client_id } => {
                let user_assigned_id = client_id.clone().map(UserAssignedId::ClientId);
                let options = ManagedIdentityCredentialOptions { user_assigned_id, client_options };
                ManagedIdentityCredential::new(Some(options))?
            }
            EntraIdentity::ClientSecret { tenant_id, client_id, secret } => {
                let secret = Secret::new(secret.expose_secret().to_owned());
                let options = ClientSecretCredentialOptions { client_options };
                ClientSecretCredential::new(tenant_id, client_id.clone(), secret, Some(options))?
            }
            EntraIdentity::WorkloadIdentity { tenant_id, client_id, token_file } => {
                let proof = Proof::File(token_file.clone());
                self.by_assertion(tenant_id, client_id, proof, client_options)?
            }
            EntraIdentity::ClientCertificate { tenant_id, client_id, .. } => {
                let Some(certificate) = self.certificate.clone() else {
                    return Err(Error::with_message(ErrorKind::Credential, "no certificate"));
                };
                let endpoint = format!("{}/{tenant_id}/oauth2/v2.0/token", self.authority);
                let proof = Proof::Certificate { certificate, endpoint, client_id: client_id.clone() };
                self.by_assertion(tenant_id, client_id, proof, client_options)?
            }
        })
    }

    fn by_assertion(
        &self,
        tenant_id: &str,
        client_id: &str,
        proof: Proof,
        client_options: ClientOptions,
    ) -> azure_core::Result<Arc<dyn TokenCredential>> {
        let assertion = Assertion { identity: self.name, proof };
        let options = ClientAssertionCredentialOptions { client_options };
        Ok(ClientAssertionCredential::new(tenant_id.to_owned(), client_id.to_owned(), assertion, Some(options))?)
    }

    /// The error of ours inside the library's, or else that its answer made no sense.
    fn failure(&self, error: &Error) -> EntraError {
        let first = error as &(dyn std::error::Error + 'static);
        std::iter::successors(Some(first), |error| error.source())
            .find_map(|error| error.downcast_ref::<EntraError>().cloned())
            // The library's own words could repeat the answer, and so a token.
            .unwrap_or_else(|| self.malformed("it lacks access_token, or when it ends"))
    }

    fn malformed(&self, why: &str) -> EntraError {
        EntraError::Malformed { identity: self.name, host: self.transport.host(), why: why.to_owned() }
    }
}

#[async_trait]
impl Issuer for AzureIssuer {
    async fn issue(&self) -> Result<Issued, EntraError> {
        let credential = self.credential()?;
        let token = tokio::time::timeout(self.timeout, credential.get_token(&[SCOPE], None))
            .await
            .map_err(|_| EntraError::Timeout { identity: self.name, host: self.transport.host(), after: self.timeout })?
            .map_err(|error| self.failure(&error))?;
        let text = token.token.secret();
        // It becomes a header.
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(self.malformed("its access_token is empty or has characters that no token has"));
        }
        let lifetime = Duration::try_from(token.expires_on - OffsetDateTime::now_utc()).unwrap_or_default();
        if lifetime.is_zero() {
            return Err(self.malformed("its token has ended already"));
        }
        Ok(Issued { text: text.to_owned().into(), lifetime })
    }

    fn lost(&self) -> EntraError {
        let why = "the request was given up".to_owned();
        EntraError::Unavailable { identity: self.name, host: self.transport.host(), why }
    }
}

/// What an application shows in place of a secret.
struct Assertion {
    identity: &'static str,
    proof: Proof,
}

enum Proof {
    /// A service account's token, which Kubernetes replaces from time to time: read anew for every request.
    File(PathBuf),
    Certificate {
        certificate: Arc<Certificate>,
        endpoint: String,
        client_id: String,
    },
}

impl fmt::Debug for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Assertion").field("identity", &self.identity).finish_non_exhaustive()
    }
}

#[async_trait]
impl ClientAssertion for Assertion {
    async fn secret(&self, _: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        let identity = self.identity;
        let result = match &self.proof {
            Proof::File(path) => read(path.clone()).await.map_err(|why| {
                tracing::warn!(file = %path.display(), why, "the token file of a workload identity cannot be used");
                EntraError::File { identity, why }
            }),
            Proof::Certificate { certificate, endpoint, client_id } => certificate
                .assertion(endpoint, client_id, SystemTime::now())
                .map_err(|allowed| EntraError::Invalid { identity, what: "certificate", allowed }),
        };
        result.map_err(|error| Error::new(ErrorKind::Credential, error))
    }
}

/// The token in a file. Read into one piece of memory that is overwritten when it is dropped; the copy that this gives is the
/// library's.
async fn read(path: PathBuf) -> Result<String, String> {
    let reading = tokio::task::spawn_blocking(move || {
        let file = File::open(path)?;
        // Room for all of it at once: what grows leaves copies behind.
        let mut content = Zeroizing::new(Vec::with_capacity(MAX_TOKEN_FILE_BYTES + 1));
        file.take(MAX_TOKEN_FILE_BYTES as u64 + 1).read_to_end(&mut content)?;
        Ok(content)
    });
    let content = reading.await.map_err(io::Error::other).and_then(|read| read).map_err(|error| error.to_string())?;
    if content.len() > MAX_TOKEN_FILE_BYTES {
        return Err("it is larger than 64 KiB, so no token".to_owned());
    }
    match std::str::from_utf8(&content).map(str::trim) {
        Err(_) => Err("it is not UTF-8".to_owned()),
        Ok("") => Err("it is empty".to_owned()),
        Ok(token) => Ok(token.to_owned()),
    }
}
