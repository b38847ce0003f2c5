//! The administration client: what queues there are, what they hold, and making and removing them.
//!
//! Atom over HTTPS (plain HTTP for an emulator), every request signed for itself, with a deadline and a limit on the
//! answer. It keeps no state but the HTTP connections, follows no redirect and uses no proxy, so the credential goes to
//! the connection string's host and nowhere else. It does not retry: a caller that shares readings knows better when.

use std::time::Duration;

mod atom;
mod description;
mod duration;
mod error;
mod http;

pub use description::{NewQueue, QueueCounts, QueueDescription, QueueStatus};
pub use error::AdministrationError;
pub use http::{AdministrationClient, QueuePages};

/// How the administration client behaves.
#[derive(Clone, Debug)]
pub struct AdministrationOptions {
    /// How long one request may take, from dialling to the last byte of the answer.
    pub timeout: Duration,
    /// The longest answer that is read, in bytes. A page of 100 queues takes about 300 KB.
    pub max_response_bytes: usize,
    /// Entities asked for in one page of a listing, 1–100 (the service gives at most 100).
    pub page_size: u32,
}

impl Default for AdministrationOptions {
    fn default() -> Self {
        Self { timeout: Duration::from_millis(2500), max_response_bytes: 4 << 20, page_size: 100 }
    }
}
