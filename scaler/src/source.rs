//! The boundary to Service Bus: read one queue once. The trait is what `readings` needs; `administration` implements it.
//!
//! Failures are sorted here by what a scaler can do about them. Their texts name no secret.

use std::time::Duration;

use futures_util::future::BoxFuture;
use scaling::{Counts, EntityStatus};
use servicebus::ConnectionString;

/// What to read, and with which credential.
#[derive(Clone)]
pub struct Query {
    /// The namespace and the credential for it.
    pub connection: ConnectionString,
    /// The queue's name.
    pub queue: String,
}

/// What one read of a queue says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The message counts.
    pub counts: Counts,
    /// Whether it gives out messages.
    pub status: EntityStatus,
    /// Whether it requires sessions.
    pub requires_session: bool,
}

/// A read failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadFailure {
    /// The namespace answered that there is no such queue. Final: no older reading may stand in for it.
    #[error("{0}")]
    NotFound(String),
    /// The namespace refused the credential.
    #[error("{0}")]
    Unauthorized(String),
    /// The namespace asks to slow down.
    #[error("{what}")]
    Throttled {
        /// What it said.
        what: String,
        /// How long it asks to wait, when it says so.
        retry_after: Option<Duration>,
    },
    /// No connection, no answer in time, or an answer that is none.
    #[error("{0}")]
    Unreachable(String),
}

/// Reads queues. Calls may run side by side; the caller sets the deadline.
pub trait Source: Send + Sync + 'static {
    /// Reads one queue, now.
    fn read<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Observed, ReadFailure>>;
}
