//! What the sample sender and worker have in common, so that neither depends on the other.
//!
//! [`body`] is the message they exchange, [`Ledger`] the record by which nothing lost is proved, [`QueueFlags`] the flags
//! that name a queue and how to reach it, [`Seconds`] the form of times in flags.
//! No loop and no policy is here: those are the worker's and the sender's own.

pub mod body;
mod ledger;
mod queue;
mod seconds;

pub use ledger::{Ledger, LedgerError};
pub use queue::{Queue, QueueError, QueueFlags};
pub use seconds::{BadSeconds, Seconds};
