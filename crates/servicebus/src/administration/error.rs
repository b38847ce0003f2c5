//! Why an administration request failed, in the terms a caller can act on.

use std::time::Duration;

use crate::{BadEntityName, EntityName, EntraError};

/// An administration request failed. No text holds a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdministrationError {
    /// The entity does not exist.
    #[error("{entity} does not exist on {host}")]
    NotFound {
        /// The entity; of a listing of subscriptions, the topic.
        entity: EntityName,
        /// The namespace's host.
        host: String,
    },
    /// An entity of this name exists already.
    #[error("{entity} exists already on {host}")]
    AlreadyExists {
        /// The entity.
        entity: EntityName,
        /// The namespace's host.
        host: String,
    },
    /// The credential was refused (HTTP 401 or 403).
    #[error("{host} refused the credential (HTTP {status}){detail}")]
    Unauthorized {
        /// The namespace's host.
        host: String,
        /// The HTTP status.
        status: u16,
        /// What the service said, ready to be appended; may be empty.
        detail: String,
    },
    /// Entra gave no token, so the namespace was not even asked.
    #[error("no token for {host}")]
    NoToken {
        /// The namespace's host.
        host: String,
        /// Why not.
        source: EntraError,
    },
    /// The service asks to slow down (HTTP 429 or 503).
    #[error("{host} asks to slow down (HTTP {status}){detail}")]
    Throttled {
        /// The namespace's host.
        host: String,
        /// The HTTP status.
        status: u16,
        /// How long to wait, where the service said so; at most 5 minutes.
        retry_after: Option<Duration>,
        /// What the service said, ready to be appended; may be empty.
        detail: String,
    },
    /// The service answered with a redirect, which is never followed: the credential is for this host alone.
    #[error("{host} redirects to {target} (HTTP {status}); the credential is not sent there")]
    Redirected {
        /// The namespace's host.
        host: String,
        /// The HTTP status.
        status: u16,
        /// The host that it points to, in words where there is none.
        target: String,
    },
    /// No answer in time.
    #[error("{host} gives no answer within {after:?}")]
    Timeout {
        /// The namespace's host.
        host: String,
        /// How long was waited.
        after: Duration,
    },
    /// No answer: unreachable or cut off.
    #[error("{host} gives no answer: {why}")]
    Unavailable {
        /// The namespace's host.
        host: String,
        /// What happened, in words.
        why: String,
        /// The layer below.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// No TLS with this host: its certificate is not trusted, or it speaks no TLS that we do.
    #[error("no TLS connection to {host}")]
    Untrusted {
        /// The namespace's host.
        host: String,
        /// What was wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Refused for a reason that stays (another HTTP status).
    #[error("{host} refused the request (HTTP {status}){detail}")]
    Refused {
        /// The namespace's host.
        host: String,
        /// The HTTP status.
        status: u16,
        /// What the service said, ready to be appended; may be empty.
        detail: String,
    },
    /// The answer is not what the administration API sends.
    #[error("{host} sent an answer that is not understood: {why}")]
    Malformed {
        /// The namespace's host.
        host: String,
        /// What is wrong with it.
        why: String,
    },
    /// An entity cannot have this name.
    #[error(transparent)]
    InvalidName(#[from] BadEntityName),
    /// The client cannot be set up on this machine, for example for want of root certificates.
    #[error("cannot set up TLS")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl AdministrationError {
    /// Whether the same request may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Throttled { .. } | Self::Timeout { .. } | Self::Unavailable { .. } => true,
            Self::NoToken { source, .. } => source.is_transient(),
            Self::Refused { status, .. } => matches!(status, 408 | 500 | 502 | 504),
            _ => false,
        }
    }
}
