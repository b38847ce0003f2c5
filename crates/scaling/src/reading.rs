//! What is known about one entity at one moment. Data only: who reads it, when and from where is not this crate's business.

use std::time::Duration;

/// A moment, as the time since an origin that the caller chooses once (this crate reads no clock).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(pub Duration);

/// The five message counts of a queue or subscription, as the administration API's `CountDetails` gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counts {
    /// Deliverable messages; on Azure believed to include locked ones.
    pub active: u64,
    /// Messages in the dead-letter sub-queue.
    pub dead_letter: u64,
    /// Messages scheduled for later.
    pub scheduled: u64,
    /// Messages waiting to be forwarded.
    pub transfer: u64,
    /// Messages that could not be forwarded.
    pub transfer_dead_letter: u64,
}

/// Whether an entity gives out messages (`Status` of its description).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum EntityStatus {
    /// Everything works.
    #[default]
    Active,
    /// Neither sends nor receives.
    Disabled,
    /// Receives work, sends do not.
    SendDisabled,
    /// Sends work, receives do not.
    ReceiveDisabled,
    /// Any other status, such as `Creating` or `Restoring`.
    Other,
}

impl EntityStatus {
    /// Whether a worker could receive at all; where not, starting workers is pointless.
    pub fn is_receivable(self) -> bool {
        !matches!(self, Self::Disabled | Self::ReceiveDisabled)
    }
}

/// One observation of one entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// When the counts were true.
    pub at: Moment,
    /// The counts.
    pub counts: Counts,
    /// The entity's status.
    pub status: EntityStatus,
    /// Whether the entity requires sessions.
    pub requires_session: bool,
}

/// The readings that a policy may look at, the oldest first. There is always at least one: what is not known is an error
/// of whoever reads, never a reading of zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window<'a> {
    newest: &'a Reading,
    readings: &'a [Reading],
}

impl<'a> Window<'a> {
    /// A window over readings in time order; `None` if there are none.
    pub fn new(readings: &'a [Reading]) -> Option<Self> {
        readings.last().map(|newest| Self { newest, readings })
    }

    /// The newest reading.
    pub fn newest(&self) -> &'a Reading {
        self.newest
    }

    /// All readings, the oldest first.
    pub fn readings(&self) -> &'a [Reading] {
        self.readings
    }
}
