//! Counters of what clients ask for: operations and their credits, by kind and outcome, and connections.
//!
//! Credits are Service Bus's measure for throttling: 10 for an operation of the administration API, 1 for a message sent,
//! received or peeked (Microsoft's article "Throttling operations on Azure Service Bus"). A request counts whatever
//! becomes of it, one that is refused or throttled under its own outcome. The counters are atomics beside each other: a
//! snapshot taken while requests are answered may hold one and not yet another.

mod operation;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use amqp::{AmqpError, Message, Value};
use hyper::StatusCode;
use serde::Serialize;

pub use operation::Operation;

/// What became of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was done.
    Ok,
    /// There is no such entity.
    NotFound,
    /// The token is missing, wrong, or does not suffice.
    Unauthorized,
    /// Too much was asked for: HTTP 429 and 503, AMQP `com.microsoft:server-busy`.
    Throttled,
    /// Anything else that the client did wrong.
    Refused,
    /// The broker failed, or gave no answer at all.
    Error,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Ok, Self::NotFound, Self::Unauthorized, Self::Throttled, Self::Refused, Self::Error];

    /// The outcome that an HTTP status stands for.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::UNAUTHORIZED => Self::Unauthorized,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Self::Throttled,
            status if status.is_success() => Self::Ok,
            // Not supported is a refusal, not a failure.
            StatusCode::NOT_IMPLEMENTED => Self::Refused,
            status if status.is_server_error() => Self::Error,
            _ => Self::Refused,
        }
    }

    /// The outcome that the status of a `$management` reply stands for.
    pub(crate) fn of_reply(status: i32) -> Self {
        let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
        status.map_or(Self::Error, Self::of_status)
    }

    /// The outcome that an AMQP error stands for.
    pub(crate) fn of_condition(condition: &str) -> Self {
        match condition {
            "amqp:not-found" => Self::NotFound,
            "amqp:unauthorized-access" => Self::Unauthorized,
            "com.microsoft:server-busy" => Self::Throttled,
            "amqp:internal-error" => Self::Error,
            _ => Self::Refused,
        }
    }
}

/// How many, and what they cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Requests; for receiving, deliveries.
    pub operations: u64,
    /// What Service Bus would charge against the namespace's budget.
    pub credits: u64,
}

impl Tally {
    fn plus(self, other: Self) -> Self {
        Self { operations: self.operations + other.operations, credits: self.credits + other.credits }
    }
}

impl std::iter::Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), Self::plus)
    }
}

/// Connections, of all protocols.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionCounts {
    /// Open now; a reset leaves it as it is.
    pub open: u64,
    /// TCP connections accepted.
    pub accepted: u64,
    /// TLS handshakes completed.
    pub accepted_tls: u64,
    /// Of those open, how many speak AMQP.
    pub open_amqp: u64,
}

/// A snapshot of the counters since the start or the last reset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Everything together.
    pub total: Tally,
    /// The administration API.
    pub administration: Tally,
    /// Messages sent, received and peeked.
    pub data: Tally,
    /// By kind and outcome; what did not happen is not listed.
    pub operations: BTreeMap<Operation, BTreeMap<Outcome, Tally>>,
    /// Connections.
    pub connections: ConnectionCounts,
}

impl Counts {
    /// One kind, whatever became of it.
    pub fn of(&self, operation: Operation) -> Tally {
        self.operations.get(&operation).into_iter().flat_map(BTreeMap::values).copied().sum()
    }

    /// One kind with one outcome.
    pub fn with_outcome(&self, operation: Operation, outcome: Outcome) -> Tally {
        let outcomes = self.operations.get(&operation);
        outcomes.and_then(|outcomes| outcomes.get(&outcome)).copied().unwrap_or_default()
    }

    /// One outcome, whatever was asked for.
    pub fn outcome(&self, outcome: Outcome) -> Tally {
        self.operations.values().filter_map(|outcomes| outcomes.get(&outcome)).copied().sum()
    }
}

/// The counters themselves, shared by all connections.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    cells: [[Cell; Outcome::ALL.len()]; Operation::ALL.len()],
    accepted: AtomicU64,
    accepted_tls: AtomicU64,
    open: AtomicI64,
    open_amqp: AtomicI64,
}

#[derive(Debug, Default)]
struct Cell {
    operations: AtomicU64,
    credits: AtomicU64,
}

impl Counters {
    /// Counts one operation on so many messages; an administration request has none.
    pub(crate) fn count(&self, operation: Operation, outcome: Outcome, messages: u64) {
        let cell = &self.cells[operation as usize][outcome as usize];
        cell.operations.fetch_add(1, Ordering::Relaxed);
        cell.credits.fetch_add(operation.credits(messages), Ordering::Relaxed);
    }

    /// Counts messages sent over AMQP: how many were stored, or why none was.
    pub(crate) fn count_send(&self, stored: &Result<u64, AmqpError>) {
        match stored {
            Ok(messages) => self.count(Operation::Send, Outcome::Ok, *messages),
            Err(error) => self.count(Operation::Send, Outcome::of_condition(error.condition.as_str()), 1),
        }
    }

    /// Counts a request to a `$management` node, if it is of a kind that costs credits.
    pub(crate) fn count_management(&self, request: &Message, outcome: Outcome, messages: u64) {
        let operation = request.application_properties.get("operation").and_then(Value::as_str);
        let Some(operation) = operation.and_then(Operation::of_management) else { return };
        self.count(operation, outcome, messages);
    }

    /// Counts an accepted connection for as long as the guard lives.
    pub(crate) fn connected(&self) -> Open<'_> {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        Open::on(&self.open)
    }

    /// Counts a connection that speaks AMQP for as long as the guard lives.
    pub(crate) fn speaks_amqp(&self) -> Open<'_> {
        Open::on(&self.open_amqp)
    }

    /// Counts a TLS handshake.
    pub(crate) fn secured(&self) {
        self.accepted_tls.fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted since the start or the last reset.
    pub(crate) fn snapshot(&self) -> Counts {
        self.read(|counter| counter.load(Ordering::Relaxed))
    }

    /// The same, and begins anew; nothing is lost in between.
    pub(crate) fn reset(&self) -> Counts {
        self.read(|counter| counter.swap(0, Ordering::Relaxed))
    }

    fn read(&self, read: impl Fn(&AtomicU64) -> u64) -> Counts {
        let mut counts = Counts::default();
        for operation in Operation::ALL {
            let mut outcomes = BTreeMap::new();
            for outcome in Outcome::ALL {
                let cell = &self.cells[operation as usize][outcome as usize];
                let tally = Tally { operations: read(&cell.operations), credits: read(&cell.credits) };
                if tally != Tally::default() {
                    outcomes.insert(outcome, tally);
                }
            }
            let sum = outcomes.values().copied().sum();
            counts.total = counts.total.plus(sum);
            let plane = if operation.is_administration() { &mut counts.administration } else { &mut counts.data };
            *plane = plane.plus(sum);
            if !outcomes.is_empty() {
                counts.operations.insert(operation, outcomes);
            }
        }
        let open = |counter: &AtomicI64| u64::try_from(counter.load(Ordering::Relaxed)).unwrap_or(0);
        counts.connections = ConnectionCounts {
            open: open(&self.open),
            accepted: read(&self.accepted),
            accepted_tls: read(&self.accepted_tls),
            open_amqp: open(&self.open_amqp),
        };
        counts
    }
}

/// Something open, counted until this is dropped.
#[derive(Debug)]
pub(crate) struct Open<'a>(&'a AtomicI64);

impl<'a> Open<'a> {
    fn on(counter: &'a AtomicI64) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(counter)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_and_outcome_has_its_own_cell() {
        let counters = Counters::default();
        for operation in Operation::ALL {
            for outcome in Outcome::ALL {
                counters.count(operation, outcome, 3);
            }
        }
        let counts = counters.snapshot();
        for operation in Operation::ALL {
            for outcome in Outcome::ALL {
                let credits = if operation.is_administration() { 10 } else { 3 };
                assert_eq!(counts.with_outcome(operation, outcome), Tally { operations: 1, credits }, "{operation:?}");
            }
        }
        assert_eq!(counts.total.operations, (Operation::ALL.len() * Outcome::ALL.len()) as u64);
        assert_eq!(counts.administration.plus(counts.data), counts.total);
        assert_eq!(counters.reset(), counts);
        assert_eq!(counters.snapshot(), Counts::default());
    }

    #[test]
    fn an_operation_without_a_message_costs_one_credit() {
        let counters = Counters::default();
        counters.count(Operation::Peek, Outcome::Ok, 0);
        counters.count(Operation::Send, Outcome::Ok, 7);
        let counts = counters.snapshot();
        assert_eq!((counts.of(Operation::Peek).credits, counts.of(Operation::Send).credits), (1, 7));
    }

    #[test]
    fn open_connections_survive_a_reset() {
        let counters = Counters::default();
        let open = counters.connected();
        counters.reset();
        assert_eq!(counters.snapshot().connections, ConnectionCounts { open: 1, ..ConnectionCounts::default() });
        drop(open);
        assert_eq!(counters.snapshot().connections, ConnectionCounts::default());
    }

    #[test]
    fn statuses_and_conditions_have_outcomes() {
        for (status, outcome) in [
            (200, Outcome::Ok),
            (201, Outcome::Ok),
            (302, Outcome::Refused),
            (400, Outcome::Refused),
            (401, Outcome::Unauthorized),
            (404, Outcome::NotFound),
            (409, Outcome::Refused),
            (429, Outcome::Throttled),
            (500, Outcome::Error),
            (501, Outcome::Refused),
            (503, Outcome::Throttled),
        ] {
            assert_eq!(Outcome::of_status(StatusCode::from_u16(status).expect("valid")), outcome, "{status}");
        }
        assert_eq!(Outcome::of_condition("com.microsoft:server-busy"), Outcome::Throttled);
        assert_eq!(Outcome::of_condition("amqp:link:message-size-exceeded"), Outcome::Refused);
    }
}
