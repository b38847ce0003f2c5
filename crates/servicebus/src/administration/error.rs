//! Why an administration request failed, in the terms a caller can act on.

use std::time::Duration;

/// An administration request failed. No text holds a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdministrationError {
    /// The queue does not exist.
    #[error("queue {entity:?} does not exist on {host}")]
    NotFound {
        /// The queue.
        entity: String,
        /// The namespace's host.
        host: String,
    },
    /// A queue of this name exists already.
    #[error("queue {entity:?} exists already on {host}")]
    AlreadyExists {
        /// The queue.
        entity: String,
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
    /// The service asks to slow down (HTTP 429 or 503).
    #[error("{host} asks to slow down (HTTP {status}){detail}")]
    Throttled {
        /// The namespace's host.
        host: String,
        /// The HTTP status.
        status: u16,
        /// How long to wait, where the service said so.
        retry_after: Option<Duration>,
        /// What the service said, ready to be appended; may be empty.
        detail: String,
    },
    /// No answer: unreachable, cut off, or too late.
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
    /// Refused for a reason that stays (another HTTP status, a redirect among them).
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
    /// The arguments cannot be sent.
    #[error("{argument} {value:?} is not allowed: {allowed}")]
    InvalidArgument {
        /// Which argument.
        argument: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// TLS cannot be set up on this machine, for example for want of root certificates.
    #[error("cannot set up TLS")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl AdministrationError {
    /// Whether the same request may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Throttled { .. } | Self::Unavailable { .. } => true,
            Self::Refused { status, .. } => matches!(status, 408 | 500 | 502 | 504),
            _ => false,
        }
    }
}
