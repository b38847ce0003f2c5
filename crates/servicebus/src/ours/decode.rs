//! The peer's messages in the client port's terms: lock tokens, annotations, times. Pure; nothing here panics on any input.

use std::time::{Duration, SystemTime};

use amqp::{DecodeError, Message, Value};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use uuid::Uuid;

use crate::{LockToken, PeekedMessage, ReceivedMessage};

const LOCK_TOKEN: &str = "x-opt-lock-token";
const LOCKED_UNTIL: &str = "x-opt-locked-until";
const SEQUENCE_NUMBER: &str = "x-opt-sequence-number";
const ENQUEUED_TIME: &str = "x-opt-enqueued-time";

/// What a message that does not say until when it is locked counts as: locked for the service's default.
const DEFAULT_LOCK: Duration = Duration::from_mins(1);

/// A delivery that is no Service Bus message.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadDelivery {
    /// Not a message at all.
    #[error("it is no AMQP message")]
    Message(#[from] DecodeError),
    /// Nothing to settle it by.
    #[error("it has no lock token: its tag has {0} bytes, not 16")]
    NoLockToken(usize),
}

/// Reads a delivery that came under a lock.
pub(super) fn received(tag: &[u8], payload: &Bytes, wall: SystemTime) -> Result<ReceivedMessage, BadDelivery> {
    let message = Message::decode(payload)?;
    let annotations = &message.message_annotations;
    let lock_token = match message.delivery_annotations.get(LOCK_TOKEN).and_then(Value::as_uuid) {
        Some(token) => Uuid::from_bytes(token),
        // The tag is the token in .NET's byte order: the first three groups little-endian.
        None => Uuid::from_bytes_le(tag.try_into().map_err(|_| BadDelivery::NoLockToken(tag.len()))?),
    };
    Ok(ReceivedMessage {
        lock_token: LockToken(lock_token),
        locked_until: time(annotations.get(LOCKED_UNTIL)).unwrap_or(wall + DEFAULT_LOCK),
        sequence_number: annotations.get(SEQUENCE_NUMBER).and_then(Value::as_i64).unwrap_or_default(),
        delivery_count: message.header.as_ref().and_then(|header| header.delivery_count).unwrap_or_default(),
        message_id: message_id(&message),
        enqueued_time: time(annotations.get(ENQUEUED_TIME)),
        body: message.body.joined_data(),
    })
}

/// Reads a message that was only looked at.
pub(super) fn peeked(payload: &Bytes) -> Result<PeekedMessage, DecodeError> {
    let message = Message::decode(payload)?;
    Ok(PeekedMessage {
        sequence_number: message.message_annotations.get(SEQUENCE_NUMBER).and_then(Value::as_i64).unwrap_or_default(),
        message_id: message_id(&message),
        body: message.body.joined_data(),
    })
}

/// A timestamp, if it is one and a moment that the system can express.
pub(super) fn time(value: Option<&Value>) -> Option<SystemTime> {
    let millis = value?.as_timestamp()?;
    let distance = Duration::from_millis(millis.unsigned_abs());
    if millis >= 0 {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    }
}

/// The message id as text: senders may use a string, a uuid, a number or bytes (part 3, section 3.2.4); bytes as base64.
fn message_id(message: &Message) -> Option<String> {
    match message.properties.as_ref()?.message_id.as_ref()? {
        Value::String(text) => Some(text.clone()),
        Value::Uuid(bytes) => Some(Uuid::from_bytes(*bytes).to_string()),
        Value::Ulong(number) => Some(number.to_string()),
        Value::Binary(bytes) => Some(STANDARD.encode(bytes)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use amqp::{Body, Header, Map, Properties};
    use proptest::prelude::*;

    use super::*;

    const TOKEN: Uuid = Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
    /// [`TOKEN`] as .NET's `Guid.ToByteArray` writes it.
    const TAG: [u8; 16] =
        [0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];

    fn message() -> Message {
        let mut message = Message::with_body(Body::data_sections_from([Bytes::from("ab"), Bytes::from("c")]));
        message.header = Some(Header { delivery_count: Some(2), ..Header::default() });
        message.properties = Some(Properties { message_id: Some(Value::from("m-1")), ..Properties::default() });
        message.message_annotations = Map(vec![
            (Value::symbol(SEQUENCE_NUMBER), Value::Long(7)),
            (Value::symbol(LOCKED_UNTIL), Value::Timestamp(90_000)),
            (Value::symbol(ENQUEUED_TIME), Value::Timestamp(-1)),
        ]);
        message
    }

    #[test]
    fn a_delivery_gives_all_that_the_port_knows() {
        let received = received(&TAG, &message().encode(), SystemTime::now()).expect("a message");
        assert_eq!(received.lock_token, LockToken(TOKEN));
        assert_eq!(received.locked_until, SystemTime::UNIX_EPOCH + Duration::from_secs(90));
        assert_eq!(received.enqueued_time, Some(SystemTime::UNIX_EPOCH - Duration::from_millis(1)));
        assert_eq!((received.sequence_number, received.delivery_count), (7, 2));
        assert_eq!((received.message_id.as_deref(), &received.body[..]), (Some("m-1"), &b"abc"[..]));
    }

    #[test]
    fn the_annotation_is_the_lock_token_before_the_tag_is() {
        let mut message = message();
        message.delivery_annotations.insert(Value::symbol(LOCK_TOKEN), Value::Uuid(*TOKEN.as_bytes()));
        let received = received(b"short", &message.encode(), SystemTime::now()).expect("a message");
        assert_eq!(received.lock_token, LockToken(TOKEN));
    }

    #[test]
    fn what_cannot_be_settled_or_read_is_an_error() {
        let wall = SystemTime::now();
        assert!(matches!(received(b"short", &message().encode(), wall), Err(BadDelivery::NoLockToken(5))));
        assert!(matches!(received(&TAG, &Bytes::from_static(b"\x00\x53"), wall), Err(BadDelivery::Message(_))));
        let bare = received(&TAG, &Bytes::new(), wall).expect("an empty message is one");
        assert_eq!(bare.locked_until, wall + DEFAULT_LOCK);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(tag in any::<Vec<u8>>(), payload in any::<Vec<u8>>(), millis in any::<i64>()) {
            let payload = Bytes::from(payload);
            let _ = received(&tag, &payload, SystemTime::UNIX_EPOCH);
            let _ = peeked(&payload);
            let _ = time(Some(&Value::Timestamp(millis)));
        }
    }
}
