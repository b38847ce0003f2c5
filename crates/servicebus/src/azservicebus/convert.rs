//! Messages from our shape to the library's and back.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, SystemTime};

use azservicebus::{ServiceBusMessage, ServiceBusPeekedMessage, ServiceBusReceivedMessage};
use bytes::{Bytes, BytesMut};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Fault;
use crate::{ClientError, FailureKind, LockToken, OutgoingMessage, PeekedMessage, ReceivedMessage};

pub(super) fn outgoing(message: &OutgoingMessage) -> Result<ServiceBusMessage, ClientError> {
    let OutgoingMessage { message_id, content_type, body, scheduled_enqueue_time } = message;
    let refused = |what: String| ClientError::new(FailureKind::Refused, what);
    let mut converted = ServiceBusMessage::new(body.to_vec());
    converted
        .set_message_id(message_id.as_str())
        .map_err(|error| refused(format!("message id {message_id:?} cannot be used: {error}")))?;
    converted.set_content_type(content_type.clone());
    if let Some(at) = scheduled_enqueue_time {
        let nanos = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let at = i128::try_from(nanos).ok().and_then(|nanos| OffsetDateTime::from_unix_timestamp_nanos(nanos).ok());
        converted
            .set_scheduled_enqueue_time(at.ok_or_else(|| refused("a scheduled time is beyond year 9999".to_owned()))?);
    }
    Ok(converted)
}

/// What the library received, in our shape. Its accessors panic on annotations of an unexpected type, which come from the
/// network: such a message is an error, and comes again when its lock has run out.
pub(super) fn received(message: &ServiceBusReceivedMessage) -> Result<ReceivedMessage, Fault> {
    let convert = || ReceivedMessage {
        // The library takes the delivery tag where the broker sends no token; either way it names this delivery here.
        lock_token: LockToken(Uuid::from_bytes(*message.lock_token().as_ref())),
        locked_until: message.locked_until().map_or(SystemTime::UNIX_EPOCH, system_time),
        sequence_number: message.sequence_number(),
        // The library counts from 1.
        delivery_count: message.delivery_count().unwrap_or(1).saturating_sub(1),
        message_id: message.message_id().map(std::borrow::Cow::into_owned),
        enqueued_time: Some(system_time(message.enqueued_time())),
        body: message.raw_amqp_message().body.try_as_data().map_or_else(|_| Bytes::new(), join),
    };
    guarded(convert)
}

/// What the library peeked at, in our shape; see [`received`].
pub(super) fn peeked(message: &ServiceBusPeekedMessage) -> Result<PeekedMessage, Fault> {
    guarded(|| PeekedMessage {
        sequence_number: message.sequence_number(),
        message_id: message.message_id().map(std::borrow::Cow::into_owned),
        body: message.raw_amqp_message().body.try_as_data().map_or_else(|_| Bytes::new(), join),
    })
}

/// When a lock runs out, or `None` if the message does not say it in a way that the library can read.
pub(super) fn locked_until(message: &ServiceBusReceivedMessage) -> Option<SystemTime> {
    guarded(|| message.locked_until()).ok().flatten().map(system_time)
}

fn guarded<T>(convert: impl FnOnce() -> T) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(convert))
        .map_err(|_| Fault::answer(FailureKind::Internal, "the library cannot read an annotation of a message"))
}

fn join<'a, B: AsRef<[u8]> + 'a>(sections: impl Iterator<Item = &'a B>) -> Bytes {
    let mut body = BytesMut::new();
    for section in sections {
        body.extend_from_slice(section.as_ref());
    }
    body.freeze()
}

fn system_time(time: OffsetDateTime) -> SystemTime {
    let nanos = time.unix_timestamp_nanos();
    let distance = Duration::from_nanos_u128(nanos.unsigned_abs());
    let time = if nanos < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str) -> OutgoingMessage {
        OutgoingMessage {
            message_id: id.to_owned(),
            content_type: Some("application/json".to_owned()),
            body: Bytes::from_static(b"{}"),
            scheduled_enqueue_time: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000)),
        }
    }

    #[test]
    fn what_is_set_arrives_in_the_librarys_message() {
        let converted = outgoing(&message("id-1")).expect("convertible");
        assert_eq!(converted.message_id().as_deref(), Some("id-1"));
        assert_eq!(converted.content_type(), Some("application/json"));
        assert_eq!(converted.body(), b"{}");
        assert_eq!(converted.scheduled_enqueue_time().unix_timestamp(), 1_900_000_000);
    }

    #[test]
    fn a_message_id_beyond_the_limit_is_refused() {
        let error = outgoing(&message(&"x".repeat(129))).expect_err("129 characters");
        assert_eq!(error.kind, FailureKind::Refused);
    }

    #[test]
    fn times_before_1970_do_not_panic() {
        let at = OffsetDateTime::from_unix_timestamp(-1).expect("in range");
        assert_eq!(system_time(at), SystemTime::UNIX_EPOCH - Duration::from_secs(1));
    }
}
