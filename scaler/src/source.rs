//! The boundary to Service Bus: read one entity, or one page of a listing, once. The trait is what `readings` needs;
//! `administration` implements it. Each call is one management operation and costs ten credits.
//!
//! Failures are sorted here by what a scaler can do about them. Their texts name no secret.

use std::time::Duration;

use futures_util::future::BoxFuture;
use scaling::{Counts, EntityStatus};

use crate::access::Access;
use crate::entity::{Entity, Listing, Target};

/// What to read, and with which credential.
#[derive(Clone, Debug)]
pub struct Query {
    /// The namespace and the credential for it.
    pub access: Access,
    /// What to read there.
    pub target: Target,
}

/// What one read says of an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The message counts.
    pub counts: Counts,
    /// Whether it gives out messages.
    pub status: EntityStatus,
    /// Whether it requires sessions.
    pub requires_session: bool,
    /// How its messages are locked; `None` for several entities taken together, which may differ.
    pub locks: Option<LockSettings>,
}

#[cfg(test)]
impl Observed {
    /// An entity with so many active messages and nothing else, for tests of what is done with it.
    pub(crate) fn of_test(active: u64) -> Self {
        let counts = Counts { active, ..Counts::default() };
        Self { counts, status: EntityStatus::Active, requires_session: false, locks: None }
    }
}

/// How an entity locks the messages that it hands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockSettings {
    /// How long a lock lives without being renewed; [`Duration::MAX`] where the service says "never".
    pub duration: Duration,
    /// After how many failed deliveries a message is dead-lettered, ≥ 1.
    pub max_delivery_count: u32,
}

/// A read failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadFailure {
    /// The namespace answered that there is no such entity. Final: no older reading may stand in for it.
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
    /// Reading it now would cost more credits than the budget of its namespace has.
    #[error("{0}")]
    OverBudget(String),
    /// No token could be had for now, whatever the namespace does: it was not asked.
    #[error("{0}")]
    NoToken(String),
    /// The namespace answered, and not with counts: what it says of one entity is no trouble of the others'.
    #[error("{0}")]
    Unexpected(String),
    /// No connection, or no answer in time.
    #[error("{0}")]
    Unreachable(String),
}

/// One page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The entities on it, by the names the service writes, in the service's order.
    pub entities: Vec<(String, Observed)>,
    /// Whether there may be more after it.
    pub has_more: bool,
}

/// What a source gives once it has read.
pub type Read<'a, T> = BoxFuture<'a, Result<T, ReadFailure>>;

/// Reads entities. Calls may run side by side; the caller sets the deadline.
pub trait Source: Send + Sync + 'static {
    /// Reads one entity, now.
    fn read<'a>(&'a self, access: &'a Access, entity: &'a Entity) -> Read<'a, Observed>;

    /// Reads one page of a listing, now: at most 100 entities after the first `skip`.
    fn page<'a>(&'a self, access: &'a Access, listing: &'a Listing, skip: usize) -> Read<'a, Page>;
}
