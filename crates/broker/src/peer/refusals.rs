//! What a refusal of the state is called on the wire: AMQP condition, management status, and a text like the service's.

use amqp::AmqpError;
use uuid::Uuid;

use crate::access::Right;
use crate::content::ContentError;
use crate::hub::now;
use crate::state::Refusal;

/// The condition by which clients know that they are throttled.
pub(super) const SERVER_BUSY: &str = "com.microsoft:server-busy";
/// How long the service asks a client to wait.
pub(crate) const BUSY_SECONDS: u64 = 2;

/// The service's words for throttling (Microsoft's article "Throttling operations on Azure Service Bus").
pub(crate) fn busy(sub_code: u32, seconds: u64) -> String {
    format!(
        "The request was terminated because the entity is being throttled. Error code: {sub_code}. Please wait {seconds} \
         seconds and try again."
    )
}

/// The AMQP error for a refusal. `host` is the name the client knows us by.
pub(super) fn error(refusal: &Refusal, host: &str) -> AmqpError {
    match refusal {
        Refusal::NotFound { name } => not_found(host, name.as_str()),
        other => AmqpError::new(condition(other), tracked(&text(other))),
    }
}

/// The entity that a link or request names does not exist. JavaScript looks for these words.
pub(super) fn not_found(host: &str, entity: &str) -> AmqpError {
    let entity: String = entity.chars().take(300).collect();
    let text = format!("The messaging entity 'sb://{host}/{entity}' could not be found.");
    AmqpError::new("amqp:not-found", tracked(&text))
}

/// A token is there, but not with this right.
pub(super) fn right_missing(right: Right, host: &str, scope: &str) -> AmqpError {
    let text = format!(
        "Unauthorized access. '{right:?}' claim(s) are required to perform this operation. Resource:'sb://{host}/{scope}'"
    );
    AmqpError::new("amqp:unauthorized-access", tracked(&text))
}

/// The condition for a refusal.
pub(super) fn condition(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::NotFound { .. } => "amqp:not-found",
        Refusal::EntityDisabled { .. } => "com.microsoft:entity-disabled",
        Refusal::QuotaExceeded { .. } | Refusal::TooManyEntities { .. } | Refusal::TooManySubscriptions { .. } => {
            "amqp:resource-limit-exceeded"
        }
        Refusal::MessageTooLarge { .. } => "amqp:link:message-size-exceeded",
        Refusal::LockLost => "com.microsoft:message-lock-lost",
        Refusal::AlreadyDeadLettered | Refusal::NotAllowed { .. } | Refusal::ForwardTarget { .. } => "amqp:not-allowed",
        Refusal::MessageNotFound { .. } => "com.microsoft:message-not-found",
        Refusal::AlreadyExists { .. } => "com.microsoft:entity-already-exists",
        Refusal::ReceiverExists { .. } => "amqp:internal-error",
    }
}

/// The status of a management reply for a refusal.
pub(super) fn status(refusal: &Refusal) -> i32 {
    match refusal {
        Refusal::NotFound { .. } | Refusal::MessageNotFound { .. } => 404,
        Refusal::EntityDisabled { .. }
        | Refusal::QuotaExceeded { .. }
        | Refusal::TooManyEntities { .. }
        | Refusal::TooManySubscriptions { .. } => 403,
        Refusal::MessageTooLarge { .. } => 413,
        Refusal::LockLost => 410,
        Refusal::AlreadyDeadLettered | Refusal::NotAllowed { .. } | Refusal::ForwardTarget { .. } => 400,
        Refusal::AlreadyExists { .. } => 409,
        Refusal::ReceiverExists { .. } => 500,
    }
}

/// A sentence for people.
pub(super) fn text(refusal: &Refusal) -> String {
    match refusal {
        Refusal::LockLost => "The lock supplied is invalid. Either the lock expired, or the message has already been \
                              removed from the queue."
            .to_owned(),
        other => {
            let text = other.to_string();
            let mut characters = text.chars();
            let first = characters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
            format!("{first}{}.", characters.as_str())
        }
    }
}

/// The error with its cause, for the client.
pub(super) fn sentence(error: &ContentError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}."),
        None => format!("{error}."),
    }
}

/// A text with the service's trailer, by which people find a request in logs.
pub(super) fn tracked(text: &str) -> String {
    let (tracking, at) = (Uuid::new_v4(), now().as_millis());
    tracing::debug!(%tracking, text, "refusal");
    format!("{text} TrackingId:{tracking}, SystemTracker:broker, Timestamp:{at}")
}
