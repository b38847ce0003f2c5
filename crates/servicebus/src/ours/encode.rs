//! Our messages on the wire: one message as it is, several as a batch. Pure.

use std::time::SystemTime;

use amqp::{Body, Message, Properties, Value};
use bytes::{BufMut as _, Bytes, BytesMut};

use crate::OutgoingMessage;

/// Message format of a transfer whose data sections are encoded messages (Service Bus's batch).
const BATCH_FORMAT: u32 = 0x8001_3700;
/// Annotation: deliver from this moment on.
const SCHEDULED_ENQUEUE_TIME: &str = "x-opt-scheduled-enqueue-time";

/// What goes into one transfer.
pub(crate) struct Transfer {
    pub(crate) message_format: u32,
    pub(crate) payload: Bytes,
}

/// Encodes a batch; a single message goes as it is, which is smaller by the section around it.
pub(crate) fn transfer(messages: &[OutgoingMessage]) -> Transfer {
    if let [message] = messages {
        return Transfer { message_format: 0, payload: encode(message) };
    }
    let mut payload = BytesMut::with_capacity(messages.iter().map(|message| message.body.len() + 160).sum());
    for message in messages {
        let item = encode(message);
        // A data section: descriptor 0x75, then binary with a length of one byte or four.
        payload.put_slice(&[0x00, 0x53, 0x75]);
        if let Ok(len) = u8::try_from(item.len()) {
            payload.put_slice(&[0xa0, len]);
        } else {
            payload.put_u8(0xb0);
            payload.put_u32(item.len() as u32);
        }
        payload.put_slice(&item);
    }
    Transfer { message_format: BATCH_FORMAT, payload: payload.freeze() }
}

/// How much a message adds to a batch's payload, in bytes.
pub(crate) fn batch_item_len(message: &OutgoingMessage) -> usize {
    let len = encode(message).len();
    len + if len <= 255 { 5 } else { 8 }
}

fn encode(message: &OutgoingMessage) -> Bytes {
    let mut encoded = Message::with_body(Body::data(message.body.clone()));
    encoded.properties = Some(Properties {
        message_id: Some(Value::String(message.message_id.clone())),
        content_type: message.content_type.clone(),
        ..Properties::default()
    });
    if let Some(time) = message.scheduled_enqueue_time {
        encoded.message_annotations.insert(Value::symbol(SCHEDULED_ENQUEUE_TIME), Value::Timestamp(unix_millis(time)));
    }
    encoded.encode()
}

fn unix_millis(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |millis| -millis),
    }
}
