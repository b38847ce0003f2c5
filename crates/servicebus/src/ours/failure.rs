//! What went wrong, in the client port's terms: AMQP conditions, management statuses and broken sockets to kinds.
//!
//! One failure often ends many calls, so it is cloned for each; the layer below stays attached as the source.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use amqp::AmqpError;

use crate::said::said;
use crate::{ClientError, EntityName, FailureKind};

/// A [`ClientError`] that can be given to several calls.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) kind: FailureKind,
    what: String,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// What names the peer in texts.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    entity: EntityName,
    /// The entity's address in the namespace.
    pub(super) path: String,
    pub(super) host: String,
    port: u16,
}

impl Peer {
    pub(super) fn new(entity: EntityName, host: &str, port: u16) -> Self {
        Self { path: entity.path(), entity, host: host.to_owned(), port }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}:{}", self.entity, self.host, self.port)
    }
}

impl Failure {
    pub(super) fn new(kind: FailureKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), source: None }
    }

    pub(super) fn because(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// The peer said why, in AMQP's words. `doing` completes "while …".
    pub(super) fn from_amqp(error: AmqpError, peer: &Peer, doing: &str) -> Self {
        let AmqpError { condition, description, info: _ } = error;
        let kind = kind_of(condition.as_str());
        let condition = said(condition.as_str()).as_str().into();
        let error = AmqpError { condition, description: description.map(|text| said(&text)), info: None };
        Self::of_kind(kind, peer, doing).because(error)
    }

    /// The link, session or connection ended; with an error of the peer's or without.
    pub(super) fn ended(error: Option<AmqpError>, peer: &Peer, doing: &str) -> Self {
        match error {
            Some(error) => Self::from_amqp(error, peer, doing),
            None => Self::of_kind(FailureKind::ConnectionLost, peer, doing),
        }
    }

    pub(super) fn of_kind(kind: FailureKind, peer: &Peer, doing: &str) -> Self {
        let what = match kind {
            FailureKind::NotFound => format!("{peer} does not exist"),
            FailureKind::Unauthorized => format!("the credential for {peer} was refused"),
            FailureKind::LockLost => "the lock is lost: it ran out, or the message was settled before".to_owned(),
            FailureKind::Throttled => format!("{peer} asks to slow down while {doing}"),
            FailureKind::Timeout => format!("{peer} gave no answer in time while {doing}"),
            FailureKind::ConnectionLost => format!("the connection to {peer} broke while {doing}"),
            FailureKind::TooLarge => format!("{peer} takes no message or batch of this size"),
            FailureKind::Refused => format!("{peer} refused {doing}"),
            FailureKind::Internal => format!("{peer} failed while {doing}"),
        };
        Self::new(kind, what)
    }

    pub(super) fn closed() -> Self {
        Self::new(FailureKind::Refused, "the client was closed")
    }
}

impl From<Failure> for ClientError {
    fn from(failure: Failure) -> Self {
        let source = failure.source.map(|source| Box::new(Shared(source)) as Box<dyn Error + Send + Sync>);
        Self { kind: failure.kind, what: failure.what, source }
    }
}

/// A source that several errors have.
#[derive(Debug)]
struct Shared(Arc<dyn Error + Send + Sync>);

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Shared {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// What a caller can do about an AMQP error condition. The conditions are those that the official SDKs tell apart.
fn kind_of(condition: &str) -> FailureKind {
    match condition.strip_prefix("com.microsoft:").unwrap_or(condition) {
        "amqp:not-found" | "message-not-found" | "entity-not-found" => FailureKind::NotFound,
        "amqp:unauthorized-access" | "auth-failed" => FailureKind::Unauthorized,
        "message-lock-lost" | "session-lock-lost" => FailureKind::LockLost,
        "server-busy" => FailureKind::Throttled,
        "timeout" => FailureKind::Timeout,
        "amqp:connection:forced"
        | "amqp:connection:framing-error"
        | "amqp:link:detach-forced"
        | "amqp:link:stolen"
        | "operation-cancelled" => FailureKind::ConnectionLost,
        "amqp:link:message-size-exceeded" => FailureKind::TooLarge,
        "amqp:resource-limit-exceeded"
        | "amqp:not-allowed"
        | "amqp:not-implemented"
        | "amqp:invalid-field"
        | "amqp:precondition-failed"
        | "entity-disabled"
        | "argument-error"
        | "argument-out-of-range"
        | "session-cannot-be-locked" => FailureKind::Refused,
        _ => FailureKind::Internal,
    }
}

/// What a status of `$cbs` or `$management` means where no condition comes with it.
pub(super) fn kind_of_status(status: i64) -> FailureKind {
    match status {
        401 | 403 => FailureKind::Unauthorized,
        404 => FailureKind::NotFound,
        408 => FailureKind::Timeout,
        410 => FailureKind::LockLost,
        413 => FailureKind::TooLarge,
        429 | 503 => FailureKind::Throttled,
        400..=499 | 501 => FailureKind::Refused,
        _ => FailureKind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_serves_many_calls_and_keeps_its_source() {
        let peer = Peer::new("orders".into(), "h", 5671);
        let failure = Failure::from_amqp(AmqpError::new("amqp:not-found", "no such entity"), &peer, "attaching");
        for error in [ClientError::from(failure.clone()), ClientError::from(failure)] {
            assert_eq!(error.kind, FailureKind::NotFound);
            assert_eq!(error.to_string(), "queue \"orders\" on h:5671 does not exist");
            assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("amqp:not-found: no such entity"));
        }
    }

    #[test]
    fn what_the_peer_said_is_one_line_of_bounded_length() {
        let peer = Peer::new("orders".into(), "h", 5671);
        for said in
            [AmqpError::new("amqp:not-found", "no\r\nqueue".repeat(9_999)), AmqpError::new(&"c".repeat(9_999), "")]
        {
            let error = ClientError::from(Failure::from_amqp(said, &peer, "attaching"));
            let source = error.source().expect("what the peer said").to_string();
            assert!(!source.contains(char::is_control) && source.len() < 1_100, "{} bytes", source.len());
        }
    }

    #[test]
    fn conditions_and_statuses_have_the_kind_a_caller_acts_on() {
        for (condition, kind) in [
            ("com.microsoft:message-lock-lost", FailureKind::LockLost),
            ("com.microsoft:server-busy", FailureKind::Throttled),
            ("amqp:link:detach-forced", FailureKind::ConnectionLost),
            ("com.microsoft:entity-disabled", FailureKind::Refused),
            ("amqp:internal-error", FailureKind::Internal),
            ("something:new", FailureKind::Internal),
        ] {
            assert_eq!(kind_of(condition), kind, "{condition}");
        }
        assert_eq!(kind_of_status(410), FailureKind::LockLost);
        assert_eq!(kind_of_status(500), FailureKind::Internal);
    }
}
