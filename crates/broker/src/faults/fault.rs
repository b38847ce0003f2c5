//! One fault: what goes wrong, for whom, how often. Pure; `text` says how it is written.

use std::time::Duration;

use crate::address::{covers, scope_of};
use crate::counters::Operation;

/// Something that is to go wrong. Build it from its text.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// What goes wrong.
    pub kind: FaultKind,
    /// On this side only.
    pub plane: Option<Plane>,
    /// For this entity and what is below it only, lower-case (`orders`, `topic/subscriptions/all`).
    pub entity: Option<String>,
    /// For this kind of operation only.
    pub operation: Option<Operation>,
    /// How likely it is each time, above 0, at most 1.
    pub probability: f64,
    /// How many times at most; then it is used up.
    pub next: Option<u64>,
    /// How long it lasts from when it was added; then it is over.
    pub lasts: Option<Duration>,
    /// Where its randomness begins: the same seed, the same draws.
    pub seed: u64,
}

/// The side of the broker that a fault concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Plane {
    /// The administration API, over HTTP.
    Administration,
    /// Messages, over AMQP.
    Amqp,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Answers come late by a time between these, both included.
    Latency {
        /// At least.
        from: Duration,
        /// At most.
        to: Duration,
    },
    /// HTTP 429 with Retry-After; over AMQP `com.microsoft:server-busy`.
    Throttle {
        /// Whole seconds.
        retry_after_seconds: u64,
    },
    /// HTTP 503 with this `SubCode`; over AMQP `com.microsoft:server-busy` with it.
    Busy {
        /// 50009 and 50004 are what the service says.
        sub_code: u32,
    },
    /// This HTTP status.
    Status {
        /// 200 to 599.
        status: u16,
        /// The Location header.
        location: Option<String>,
    },
    /// Connections and requests are answered by a TCP reset.
    Reset,
    /// Connections and requests are accepted and not answered.
    Stall,
    /// Every token is refused as one with a wrong key is.
    WrongKey,
    /// Connections that are open now are reset; once.
    Drop,
    /// Links that are open now are detached; once.
    Detach {
        /// The AMQP error's condition.
        condition: String,
    },
    /// Settlements are neither done nor answered.
    LoseSettlement,
    /// Settlements are done and not answered.
    LoseAnswer,
}

impl FaultKind {
    /// The word that begins its text.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Latency { .. } => "latency",
            Self::Throttle { .. } => "throttle",
            Self::Busy { .. } => "busy",
            Self::Status { .. } => "status",
            Self::Reset => "reset",
            Self::Stall => "stall",
            Self::WrongKey => "wrong-key",
            Self::Drop => "drop",
            Self::Detach { .. } => "detach",
            Self::LoseSettlement => "lose-settlement",
            Self::LoseAnswer => "lose-answer",
        }
    }

    /// Whether it happens once, when it is added.
    pub(crate) fn is_instant(&self) -> bool {
        matches!(self, Self::Drop | Self::Detach { .. })
    }

    /// The only side it exists on, if it is only one.
    pub(super) fn plane(&self) -> Option<Plane> {
        match self {
            Self::Status { .. } => Some(Plane::Administration),
            Self::Detach { .. } | Self::LoseSettlement | Self::LoseAnswer => Some(Plane::Amqp),
            _ => None,
        }
    }
}

/// What is about to happen, for a fault to say whether it is meant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) plane: Plane,
    pub(crate) operation: Option<Operation>,
    /// In any letter case.
    pub(crate) entity: Option<&'a str>,
    /// Whether answering begins with checking a token.
    pub(crate) is_token_checked: bool,
}

impl Fault {
    /// A fault for everything, always, until it is removed.
    pub fn new(kind: FaultKind) -> Self {
        Self { kind, plane: None, entity: None, operation: None, probability: 1.0, next: None, lasts: None, seed: 0 }
    }

    /// Whether its filters let this through.
    pub(crate) fn concerns(&self, asked: &Asked<'_>) -> bool {
        self.is_on(asked.plane)
            && self.operation.is_none_or(|operation| asked.operation == Some(operation))
            && self
                .entity
                .as_ref()
                .is_none_or(|entity| asked.entity.is_some_and(|asked| covers(entity, &scope_of(asked))))
    }

    /// Whether it exists on this side at all.
    pub(crate) fn is_on(&self, plane: Plane) -> bool {
        self.plane.or(self.kind.plane()).is_none_or(|only| only == plane)
    }

    /// Whether it concerns whole connections, whatever is asked for on them.
    pub(crate) fn concerns_connections(&self) -> bool {
        self.operation.is_none() && self.entity.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Fault {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn filters_narrow() {
        let asked = |plane, operation, entity| Asked { plane, operation, entity, is_token_checked: false };
        let get = asked(Plane::Administration, Some(Operation::GetQueue), Some("Orders"));
        let list = asked(Plane::Administration, Some(Operation::ListQueues), None);
        let below = asked(Plane::Administration, Some(Operation::GetSubscription), Some("orders/subscriptions/s"));
        let send = asked(Plane::Amqp, Some(Operation::Send), Some("orders"));
        for (text, wanted) in [
            ("reset", [true, true, true, true]),
            ("reset,plane=administration", [true, true, true, false]),
            ("reset,plane=amqp", [false, false, false, true]),
            ("reset,entity=orders", [true, false, true, true]),
            ("reset,entity=order", [false, false, false, false]),
            ("reset,operation=get-queue", [true, false, false, false]),
            ("status=500", [true, true, true, false]),
            ("lose-answer", [false, false, false, true]),
        ] {
            let fault = parsed(text);
            assert_eq!([get, list, below, send].map(|asked| fault.concerns(&asked)), wanted, "{text}");
        }
    }
}
