//! Messages between wire and state: what is taken from a message sent, and what a message delivered says.
//!
//! The body stays byte for byte what was sent. Annotations that the broker answers for (`x-opt-sequence-number` and the
//! like) are dropped on the way in and written anew on the way out, with the exact types that strict clients want.

mod packed;

use std::time::Duration;

use amqp::{DecodeError, Header, Map, Message, Properties, Value};
use bytes::Bytes;
use uuid::Uuid;

use packed::Packed;

use crate::state::{Content, Delivery, Lock, MessageView, NewMessage, Timestamp};

/// The largest message or batch, in bytes: that of a Service Bus entity of the standard tier.
pub(crate) const MAX_MESSAGE_BYTES: u64 = 262_144;
/// What a message stored may have more than was sent: a header, an id, fields that were left off.
const ADDED_BYTES: u64 = 128;
/// What changes and the reason of a dead-lettering may add to the largest message: as much as all properties of a message
/// may have on the service.
const AMENDED_BYTES: u64 = 65_536;
/// The message format of a batch: a message whose data sections are messages.
pub(crate) const BATCH_FORMAT: u32 = 0x8001_3700;
/// Service Bus's limit for message ids, session ids and partition keys, in characters.
const MAX_KEY_CHARACTERS: usize = 128;
/// Messages in one batch; more do not come from any client, as 256 KiB would not hold them with properties.
const MAX_BATCH_MESSAGES: usize = 10_000;

const SCHEDULED: &str = "x-opt-scheduled-enqueue-time";
const LOCK_TOKEN: &str = "x-opt-lock-token";
const LOCKED_UNTIL: &str = "x-opt-locked-until";
const SEQUENCE_NUMBER: &str = "x-opt-sequence-number";
const ENQUEUE_SEQUENCE_NUMBER: &str = "x-opt-enqueue-sequence-number";
const ENQUEUED_TIME: &str = "x-opt-enqueued-time";
const MESSAGE_STATE: &str = "x-opt-message-state";
const DEAD_LETTER_SOURCE: &str = "x-opt-deadletter-source";
/// Annotations that only the broker sets.
const OURS: [&str; 7] = [
    LOCK_TOKEN,
    LOCKED_UNTIL,
    SEQUENCE_NUMBER,
    ENQUEUE_SEQUENCE_NUMBER,
    ENQUEUED_TIME,
    MESSAGE_STATE,
    DEAD_LETTER_SOURCE,
];

/// A message as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredMessage {
    durable: Option<bool>,
    priority: Option<u8>,
    annotations: Packed,
    properties: Properties,
    application_properties: Packed,
    body: amqp::Body,
    footer: Packed,
    size_bytes: u64,
}

impl Content for StoredMessage {
    type Properties = Map;

    const MAX_BYTES: u64 = MAX_MESSAGE_BYTES + AMENDED_BYTES;

    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn amend(&mut self, properties: &Map) {
        self.application_properties.merge(properties);
        self.size_bytes = self.to_message().encoded_len() as u64;
    }
}

/// Why a message sent cannot be stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ContentError {
    #[error("the message cannot be decoded")]
    Decode(#[from] DecodeError),
    #[error("{field} has more than {MAX_KEY_CHARACTERS} characters")]
    TooLong { field: &'static str },
    #[error("the batch has more than {MAX_BATCH_MESSAGES} messages")]
    TooMany,
    #[error("what was sent has {size_bytes} bytes when it is stored; {MAX_MESSAGE_BYTES} are allowed")]
    TooLarge { size_bytes: u64 },
    #[error("message format {0:#010x} is not known; known are 0 and {BATCH_FORMAT:#010x}")]
    Format(u32),
}

impl ContentError {
    /// The AMQP condition that says this.
    pub(crate) fn condition(&self) -> &'static str {
        match self {
            Self::Decode(_) => "amqp:decode-error",
            Self::TooLong { .. } => "com.microsoft:argument-out-of-range",
            Self::TooMany | Self::TooLarge { .. } => "amqp:link:message-size-exceeded",
            Self::Format(_) => "amqp:not-implemented",
        }
    }
}

/// Decodes one transfer: a message, or a batch of them.
pub(crate) fn decode_transfer(
    message_format: u32,
    payload: &Bytes,
) -> Result<Vec<NewMessage<StoredMessage>>, ContentError> {
    match message_format {
        0 => decode_messages([payload.clone()]),
        BATCH_FORMAT => {
            // The envelope's own sections repeat what the first message says.
            let items = Message::decode(payload)?.body.data_sections();
            if items.len() > MAX_BATCH_MESSAGES {
                return Err(ContentError::TooMany);
            }
            // Each message gets memory of its own: the last one left must not keep the whole batch alive.
            decode_messages(items.iter().map(|item| Bytes::copy_from_slice(item)))
        }
        other => Err(ContentError::Format(other)),
    }
}

/// Decodes messages that came together, as they are sent or scheduled. They have come within the limit, and are held to it
/// again as they are stored: in arrays with elements that take no bytes, they may be many times as large.
pub(crate) fn decode_messages(
    encoded: impl IntoIterator<Item = Bytes>,
) -> Result<Vec<NewMessage<StoredMessage>>, ContentError> {
    let mut messages = Vec::new();
    let (mut size_bytes, mut max_bytes) = (0, MAX_MESSAGE_BYTES);
    for encoded in encoded {
        let message = decode_message(&encoded)?;
        size_bytes += message.content.size_bytes;
        max_bytes += ADDED_BYTES;
        if size_bytes > max_bytes {
            return Err(ContentError::TooLarge { size_bytes });
        }
        messages.push(message);
    }
    Ok(messages)
}

fn decode_message(encoded: &Bytes) -> Result<NewMessage<StoredMessage>, ContentError> {
    let mut message = Message::decode(encoded)?;
    for name in OURS {
        message.message_annotations.remove(name);
    }
    message.delivery_annotations = Map::default();
    let header = message.header.take().unwrap_or_default();
    let properties = message.properties.get_or_insert_default();
    check_keys(properties, &message.message_annotations)?;
    let time_to_live = time_to_live(&header, properties);
    if properties.message_id.is_none() {
        // Some SDKs cannot renew locks of messages without an id.
        properties.message_id = Some(Value::String(Uuid::new_v4().simple().to_string()));
    }
    let Header { durable, priority, .. } = header;
    message.header = Some(Header { durable, priority, ..Header::default() });
    let size_bytes = message.encoded_len();
    if size_bytes < encoded.len() / 2 {
        // The body shares the memory of all that came, most of which is not kept and so not counted.
        message = Message::decode(&message.encode())?;
    }
    let scheduled_for =
        message.message_annotations.get(SCHEDULED).and_then(Value::as_timestamp).map(Timestamp::from_millis);
    let content = StoredMessage {
        durable,
        priority,
        annotations: Packed::new(message.message_annotations),
        properties: message.properties.unwrap_or_default(),
        application_properties: Packed::new(message.application_properties),
        body: message.body,
        footer: Packed::new(message.footer),
        size_bytes: size_bytes as u64,
    };
    Ok(NewMessage { content, time_to_live, scheduled_for })
}

/// The encoded form of a delivery.
pub(crate) fn encode_delivery(delivery: &Delivery<StoredMessage>) -> Bytes {
    encode(&delivery.message, delivery.lock.as_ref(), false)
}

/// The encoded form of a message looked at.
pub(crate) fn encode_peeked(message: &MessageView<StoredMessage>, omit_body: bool) -> Bytes {
    encode(message, None, omit_body)
}

/// The id a message has, as the `message-id` of its properties.
#[cfg(test)]
pub(crate) fn message_id(content: &StoredMessage) -> Option<&str> {
    content.properties.message_id.as_ref().and_then(Value::as_str)
}

/// A lock token as a delivery tag: .NET's `Guid.ToByteArray`, the first three groups little-endian.
pub(crate) fn delivery_tag(token: Uuid) -> Bytes {
    Bytes::copy_from_slice(&token.to_bytes_le())
}

impl StoredMessage {
    fn to_message(&self) -> Message {
        Message {
            header: Some(Header { durable: self.durable, priority: self.priority, ..Header::default() }),
            delivery_annotations: Map::default(),
            message_annotations: self.annotations.map(),
            properties: Some(self.properties.clone()),
            application_properties: self.application_properties.map(),
            body: self.body.clone(),
            footer: self.footer.map(),
        }
    }
}

fn encode(view: &MessageView<StoredMessage>, lock: Option<&Lock>, omit_body: bool) -> Bytes {
    let mut message = view.content.to_message();
    let time_to_live = view.expires_at.map(|at| at.saturating_since(view.enqueued_at));
    message.header = Some(Header {
        durable: Some(view.content.durable.unwrap_or(true)),
        priority: view.content.priority,
        ttl_ms: time_to_live.and_then(|ttl| u32::try_from(ttl.as_millis()).ok()),
        first_acquirer: Some(view.delivery_count == 0),
        delivery_count: Some(view.delivery_count),
    });
    let sequence_number = i64::try_from(view.sequence_number).unwrap_or(i64::MAX);
    let annotations = &mut message.message_annotations;
    let mut annotate = |name: &str, value: Value| annotations.insert(Value::symbol(name), value);
    annotate(SEQUENCE_NUMBER, Value::Long(sequence_number));
    let enqueued_as = i64::try_from(view.enqueue_sequence_number).unwrap_or(i64::MAX);
    annotate(ENQUEUE_SEQUENCE_NUMBER, Value::Long(enqueued_as));
    annotate(ENQUEUED_TIME, Value::Timestamp(view.enqueued_at.as_millis()));
    annotate(MESSAGE_STATE, Value::Int(view.state.code()));
    if let Some(at) = view.scheduled_for {
        annotate(SCHEDULED, Value::Timestamp(at.as_millis()));
    }
    if let Some(source) = &view.dead_letter_source {
        annotate(DEAD_LETTER_SOURCE, Value::from(source.as_str()));
    }
    if let Some(lock) = lock {
        annotate(LOCKED_UNTIL, Value::Timestamp(lock.until.as_millis()));
        message.delivery_annotations.insert(Value::symbol(LOCK_TOKEN), Value::Uuid(lock.token.into_bytes()));
    }
    if let (Some(properties), Some(at)) = (&mut message.properties, view.expires_at) {
        properties.absolute_expiry_time = Some(at.as_millis());
        properties.creation_time = Some(view.enqueued_at.as_millis());
    }
    if let Some(dead_letter) = &view.dead_letter {
        for (name, text) in
            [("DeadLetterReason", &dead_letter.reason), ("DeadLetterErrorDescription", &dead_letter.description)]
        {
            if let Some(text) = text {
                message.application_properties.insert(name, text.as_str());
            }
        }
    }
    if omit_body {
        message.body = amqp::Body::empty();
    }
    message.encode()
}

/// The sender's time to live: the header's, or, as it ends at 49 days, the span between the two time stamps.
fn time_to_live(header: &Header, properties: &Properties) -> Option<Duration> {
    let span = || {
        let milliseconds = properties.absolute_expiry_time?.checked_sub(properties.creation_time?)?;
        u64::try_from(milliseconds).ok().map(Duration::from_millis)
    };
    match header.ttl_ms {
        None => span(),
        Some(u32::MAX) => span().or(Some(Duration::from_millis(u32::MAX.into()))),
        Some(milliseconds) => Some(Duration::from_millis(milliseconds.into())),
    }
}

fn check_keys(properties: &Properties, annotations: &Map) -> Result<(), ContentError> {
    let text = |annotation: &str| annotations.get(annotation).and_then(Value::as_str);
    for (field, text) in [
        ("message-id", properties.message_id.as_ref().and_then(Value::as_str)),
        ("group-id (session id)", properties.group_id.as_deref()),
        ("reply-to-group-id", properties.reply_to_group_id.as_deref()),
        ("x-opt-partition-key", text("x-opt-partition-key")),
        ("x-opt-via-partition-key", text("x-opt-via-partition-key")),
    ] {
        if text.is_some_and(|text| text.chars().count() > MAX_KEY_CHARACTERS) {
            return Err(ContentError::TooLong { field });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use amqp::Body;
    use proptest::prelude::*;

    use super::*;
    use crate::state::{DeadLetter, MessageState};

    fn view(content: StoredMessage) -> MessageView<StoredMessage> {
        MessageView {
            sequence_number: 7,
            enqueue_sequence_number: 5,
            enqueued_at: Timestamp::from_millis(1_000),
            expires_at: Some(Timestamp::from_millis(61_000)),
            scheduled_for: None,
            delivery_count: 2,
            state: MessageState::Active,
            dead_letter: None,
            dead_letter_source: None,
            content: Arc::new(content),
        }
    }

    fn sent(message: &Message) -> NewMessage<StoredMessage> {
        decode_message(&message.encode()).expect("valid")
    }

    #[test]
    fn a_delivery_carries_everything_with_exact_types() {
        let mut message = Message::with_body(Body::data(Bytes::from_static(b"hello")));
        message.message_annotations.insert(Value::symbol("x-opt-sequence-number"), 99i64);
        message.message_annotations.insert(Value::symbol("x-opt-partition-key"), "k");
        message.application_properties.insert("colour", "red");
        let content = sent(&message).content;
        let token = Uuid::from_bytes([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
        let lock = Lock { token, until: Timestamp::from_millis(31_000) };
        let encoded = encode_delivery(&Delivery { lock: Some(lock), message: view(content) });
        let delivered = Message::decode(&encoded).expect("decodes");
        let header = delivered.header.expect("a header");
        assert_eq!((header.delivery_count, header.first_acquirer, header.ttl_ms), (Some(2), Some(false), Some(60_000)));
        let annotation = |name: &str| delivered.message_annotations.get(name).cloned();
        assert_eq!(annotation("x-opt-sequence-number"), Some(Value::Long(7)));
        assert_eq!(annotation("x-opt-enqueue-sequence-number"), Some(Value::Long(5)));
        assert_eq!(annotation("x-opt-enqueued-time"), Some(Value::Timestamp(1_000)));
        assert_eq!(annotation("x-opt-locked-until"), Some(Value::Timestamp(31_000)));
        assert_eq!(annotation("x-opt-message-state"), Some(Value::Int(0)));
        assert_eq!(annotation("x-opt-partition-key"), Some(Value::from("k")));
        assert_eq!(delivered.delivery_annotations.get("x-opt-lock-token"), Some(&Value::Uuid(token.into_bytes())));
        assert_eq!(delivered.body, message.body);
        let properties = delivered.properties.expect("properties");
        assert_eq!(properties.absolute_expiry_time, Some(61_000));
        assert_eq!(properties.message_id.as_ref().and_then(Value::as_str).map(str::len), Some(32));
        assert_eq!(&delivery_tag(token)[..], [4, 3, 2, 1, 6, 5, 8, 7, 9, 10, 11, 12, 13, 14, 15, 16]);
    }

    #[test]
    fn a_peeked_dead_letter_says_why_and_has_no_lock() {
        let message = Message::with_body(Body::data(Bytes::from_static(b"x")));
        let reason = DeadLetter { reason: Some("Bad".to_owned()), description: None };
        let dead_letter_source = crate::state::EntityName::new("Orders").ok();
        let view =
            MessageView { dead_letter: Some(Arc::new(reason)), dead_letter_source, ..view(sent(&message).content) };
        let peeked = Message::decode(&encode_peeked(&view, true)).expect("decodes");
        assert_eq!(peeked.application_properties.get("DeadLetterReason"), Some(&Value::from("Bad")));
        assert_eq!(peeked.application_properties.get("DeadLetterErrorDescription"), None);
        assert_eq!(peeked.message_annotations.get("x-opt-deadletter-source"), Some(&Value::from("Orders")));
        assert_eq!(peeked.body, Body::empty());
        assert_eq!(peeked.message_annotations.get("x-opt-locked-until"), None);
        assert!(peeked.delivery_annotations.is_empty());
    }

    #[test]
    fn a_batch_is_its_messages() {
        let mut first = Message::with_body(Body::data(Bytes::from_static(b"1")));
        first.properties = Some(Properties { message_id: Some(Value::from("one")), ..Properties::default() });
        let second = Message::with_body(Body::value(&Value::Null));
        let envelope = Message::with_body(Body::data_sections_from([first.encode(), second.encode()]));
        let messages = decode_transfer(BATCH_FORMAT, &envelope.encode()).expect("valid");
        assert_eq!(messages.len(), 2);
        assert_eq!(message_id(&messages[0].content), Some("one"));
        assert_eq!(messages[1].content.body, second.body);
        assert_eq!(decode_transfer(3, &envelope.encode()).map(|_| ()), Err(ContentError::Format(3)));
        let broken = Message::with_body(Body::data_sections_from([Bytes::from_static(b"\x00\x53")]));
        assert!(matches!(decode_transfer(BATCH_FORMAT, &broken.encode()), Err(ContentError::Decode(_))));
    }

    #[test]
    fn times_are_read_from_where_clients_put_them() {
        let header = Header { ttl_ms: Some(500), ..Header::default() };
        let mut message = Message { header: Some(header), ..Message::default() };
        message.message_annotations.insert("x-opt-scheduled-enqueue-time", Value::Timestamp(5_000));
        let new = sent(&message);
        assert_eq!(new.time_to_live, Some(Duration::from_millis(500)));
        assert_eq!(new.scheduled_for, Some(Timestamp::from_millis(5_000)));
        message.header = Some(Header { ttl_ms: Some(u32::MAX), ..Header::default() });
        message.properties = Some(Properties {
            creation_time: Some(0),
            absolute_expiry_time: Some(5_000_000_000_000),
            ..Properties::default()
        });
        assert_eq!(sent(&message).time_to_live, Some(Duration::from_secs(5_000_000_000)));
    }

    #[test]
    fn ids_have_128_characters_at_most() {
        let with_id = |length: usize| {
            let properties = Properties { message_id: Some(Value::from("x".repeat(length))), ..Properties::default() };
            decode_message(&Message { properties: Some(properties), ..Message::default() }.encode()).map(|_| ())
        };
        assert_eq!(with_id(128), Ok(()));
        assert_eq!(with_id(129), Err(ContentError::TooLong { field: "message-id" }));
    }

    #[test]
    fn what_is_not_kept_is_not_held_in_memory_by_what_is() {
        let large = Map::from([("x-opt-sequence-number", Value::from("x".repeat(10_000)))]);
        let body = Body::data(Bytes::from_static(b"small"));
        for message in [
            Message { delivery_annotations: large.clone(), ..Message::with_body(body.clone()) },
            Message { message_annotations: large, ..Message::with_body(body) },
        ] {
            let encoded = message.encode();
            let content = decode_message(&encoded).expect("valid").content;
            assert_eq!(content.body, message.body);
            assert!(!encoded.as_ptr_range().contains(&content.body.encoded().as_ptr()), "shares the memory of all");
        }
    }

    #[test]
    fn a_message_id_is_no_list() {
        for id in [Value::List(vec![Value::Null; 3]), Value::described(1, Value::Null)] {
            let properties = Properties { message_id: Some(id), ..Properties::default() };
            let encoded = Message { properties: Some(properties), ..Message::default() }.encode();
            assert!(matches!(decode_message(&encoded), Err(ContentError::Decode(_))));
        }
    }

    /// A message with a property that is an array of so many elements, which take no bytes.
    fn with_array(constructor: &[u8], count: u32, body: usize) -> Bytes {
        let array_size = 4 + constructor.len() as u32;
        let map_size = 4 + 3 + 5 + array_size;
        let mut encoded = vec![0x00, 0x53, 0x74, 0xd1];
        encoded.extend([map_size, 2].map(u32::to_be_bytes).concat());
        encoded.extend(b"\xa1\x01k\xf0");
        encoded.extend([array_size, count].map(u32::to_be_bytes).concat());
        encoded.extend(constructor);
        encoded.extend(&Body::data(vec![0; body]).encoded()[..]);
        encoded.into()
    }

    #[test]
    fn what_is_stored_is_not_larger_than_what_may_be_sent() {
        let largest = Message::with_body(Body::data(vec![0; MAX_MESSAGE_BYTES as usize - 8])).encode();
        assert_eq!(largest.len() as u64, MAX_MESSAGE_BYTES);
        assert!(decode_transfer(0, &largest).is_ok(), "an id is added");
        let batch = |item: Bytes, count| Message::with_body(Body::data_sections_from(vec![item; count])).encode();
        let small = Message::with_body(Body::value(&Value::Null)).encode();
        assert_eq!(decode_transfer(BATCH_FORMAT, &batch(small, 4_000)).map(|messages| messages.len()), Ok(4_000));

        let described = [&[0x00, 0xa3, 29][..], &[b'd'; 29], &[0x40]].concat();
        for (format, transfer) in [
            (0, with_array(&described, 260_000, 262_000)),
            (0, with_array(&[0x44], 260_000, 262_000)),
            (BATCH_FORMAT, batch(with_array(&[0x44], 1_000, 0), 100)),
        ] {
            assert!(transfer.len() as u64 <= MAX_MESSAGE_BYTES);
            let refused = decode_transfer(format, &transfer).map(|messages| messages.len());
            assert!(matches!(refused, Err(ContentError::TooLarge { .. })), "{refused:?}");
        }
    }

    #[test]
    fn amending_merges_and_counts() {
        let mut content = sent(&Message::default()).content;
        let before = content.size_bytes();
        content.amend(&Map::from([(Value::symbol("a"), Value::from("1")), (Value::Null, Value::Null)]));
        assert_eq!(content.application_properties.map(), Map::from([("a", "1")]));
        assert!(content.size_bytes() > before);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let payload = Bytes::from(bytes);
            for format in [0, BATCH_FORMAT] {
                if let Ok(messages) = decode_transfer(format, &payload) {
                    for new in messages {
                        let written = new.content.to_message().encode();
                        prop_assert_eq!(new.content.size_bytes, written.len() as u64);
                        encode_peeked(&view(new.content), false);
                    }
                }
            }
        }
    }
}
