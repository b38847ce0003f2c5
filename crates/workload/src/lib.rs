//! What the sample sender and worker have in common, so that neither depends on the other.
//!
//! [`body`] is the message they exchange, [`Ledger`] the record by which nothing lost is proved, [`SourceFlags`] and
//! [`DestinationFlags`] the flags that name an entity and how to reach it, [`Seconds`] the form of times in flags.
//! No loop and no policy is here: those are the worker's and the sender's own.

pub mod body;
mod flags;
mod ledger;

mod seconds;

pub use flags::{DestinationFlags, Entity, FlagsError, NamespaceFlags, SourceFlags, read_connection_string};
pub use ledger::{Ledger, LedgerError};
pub use seconds::{BadSeconds, Seconds};
