//! What can become of a delivery, and the error that explains it (part 2, section 2.8.14; part 3, section 3.4).

use bytes::BytesMut;

use crate::codec::{DecodeError, Fields, ListWriter, Reader, put_value};
use crate::value::{Map, Symbol, Value};

const ERROR: u8 = 0x1d;
const RECEIVED: u8 = 0x23;
const ACCEPTED: u8 = 0x24;
const REJECTED: u8 = 0x25;
const RELEASED: u8 = 0x26;
const MODIFIED: u8 = 0x27;

/// Why something was refused or ended.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{condition}{}", description.as_ref().map(|text| format!(": {text}")).unwrap_or_default())]
pub struct AmqpError {
    /// For programs, such as `amqp:not-found`.
    pub condition: Symbol,
    /// For people.
    pub description: Option<String>,
    /// Details.
    pub info: Option<Map>,
}

impl AmqpError {
    /// An error without details.
    pub fn new(condition: &str, description: impl Into<String>) -> Self {
        Self { condition: condition.into(), description: Some(description.into()), info: None }
    }

    /// Always three fields: some clients index them without looking.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        ListWriter::new(out, ERROR)
            .symbol(Some(self.condition.as_str()))
            .optional_text(self.description.as_deref())
            .map(self.info.as_ref())
            .finish();
    }

    fn decode_fields(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            condition: fields.text("error.condition")?.ok_or(DecodeError::Missing("error.condition"))?.into(),
            description: fields.text("error.description")?,
            info: fields.map("error.info")?,
        })
    }

    /// Reads an error from a field that holds one or null.
    pub(crate) fn from_value(value: &Value) -> Result<Self, DecodeError> {
        with_described(value, "an error", |code, fields| match code {
            ERROR => Some(Self::decode_fields(fields)),
            _ => None,
        })
    }
}

/// The state of a delivery at one of its ends.
#[derive(Clone, Debug, PartialEq)]
pub enum DeliveryState {
    /// Done.
    Accepted,
    /// Invalid or unprocessable.
    Rejected(Option<AmqpError>),
    /// Not processed, and never will be here.
    Released,
    /// Not processed, with changes to the message.
    Modified {
        /// Count this delivery as a failed one.
        delivery_failed: Option<bool>,
        /// Do not deliver here again.
        undeliverable_here: Option<bool>,
        /// Annotations to merge into the message's.
        message_annotations: Option<Map>,
    },
    /// Received in part; not terminal.
    Received {
        /// The section reached.
        section_number: u32,
        /// How far into it.
        section_offset: u64,
    },
    /// A state of an extension, such as transactions.
    Other(Value),
}

impl DeliveryState {
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Accepted => ListWriter::new(out, ACCEPTED).finish(),
            Self::Rejected(error) => ListWriter::new(out, REJECTED)
                .with(|out| match error {
                    Some(error) => error.encode(out),
                    None => put_value(out, &Value::Null),
                })
                .finish(),
            Self::Released => ListWriter::new(out, RELEASED).finish(),
            Self::Modified { delivery_failed, undeliverable_here, message_annotations } => {
                ListWriter::new(out, MODIFIED)
                    .field(*delivery_failed)
                    .field(*undeliverable_here)
                    .map(message_annotations.as_ref())
                    .finish();
            }
            Self::Received { section_number, section_offset } => {
                ListWriter::new(out, RECEIVED).field(*section_number).field(*section_offset).finish();
            }
            Self::Other(value) => put_value(out, value),
        }
    }

    pub(crate) fn from_value(value: Value) -> Result<Self, DecodeError> {
        let known = with_described(&value, "a delivery state", |code, fields| {
            Some(match code {
                ACCEPTED => Ok(Self::Accepted),
                REJECTED => fields
                    .any()
                    .and_then(|error| error.as_ref().map(AmqpError::from_value).transpose())
                    .map(Self::Rejected),
                RELEASED => Ok(Self::Released),
                MODIFIED => modified(fields),
                RECEIVED => received(fields),
                _ => return None,
            })
        });
        match known {
            Err(DecodeError::Unexpected { .. }) if matches!(value, Value::Described(_)) => Ok(Self::Other(value)),
            known => known,
        }
    }
}

fn modified(fields: &mut Fields<'_>) -> Result<DeliveryState, DecodeError> {
    Ok(DeliveryState::Modified {
        delivery_failed: fields.boolean("modified.delivery-failed")?,
        undeliverable_here: fields.boolean("modified.undeliverable-here")?,
        message_annotations: fields.map("modified.message-annotations")?,
    })
}

fn received(fields: &mut Fields<'_>) -> Result<DeliveryState, DecodeError> {
    Ok(DeliveryState::Received {
        section_number: fields.u32("received.section-number")?.unwrap_or(0),
        section_offset: fields.u64("received.section-offset")?.unwrap_or(0),
    })
}

/// Reads a described list out of a value that has been decoded already. `read` gives `None` for a code it does not know.
fn with_described<T>(
    value: &Value,
    expected: &'static str,
    read: impl FnOnce(u8, &mut Fields<'_>) -> Option<Result<T, DecodeError>>,
) -> Result<T, DecodeError> {
    // States and errors are small and rare beside transfers, so they go through bytes once more rather than having a
    // second way of reading fields.
    let mut bytes = BytesMut::new();
    put_value(&mut bytes, value);
    let bytes = bytes.freeze();
    let mut reader = Reader::shared(&bytes);
    let code = reader.descriptor(expected)?;
    let mut fields = reader.list()?;
    u8::try_from(code)
        .ok()
        .and_then(|code| read(code, &mut fields))
        .unwrap_or_else(|| Err(DecodeError::Unexpected { expected, found: format!("descriptor {code:#x}") }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_survive_the_wire() {
        let error = AmqpError { info: Some(Map::from([("DeadLetterReason", "bad")])), ..AmqpError::new("a:b", "why") };
        for state in [
            DeliveryState::Accepted,
            DeliveryState::Rejected(None),
            DeliveryState::Rejected(Some(error)),
            DeliveryState::Released,
            DeliveryState::Modified {
                delivery_failed: Some(true),
                undeliverable_here: None,
                message_annotations: Some(Map::from([("k", 1i64)])),
            },
            DeliveryState::Received { section_number: 1, section_offset: 2 },
            DeliveryState::Other(Value::described(0x34, Value::List(vec![Value::Null]))),
        ] {
            let mut bytes = BytesMut::new();
            state.encode(&mut bytes);
            let (value, taken) = Value::decode(&bytes).unwrap();
            assert_eq!((DeliveryState::from_value(value), taken), (Ok(state), bytes.len()));
        }
    }

    #[test]
    fn an_error_reads_well() {
        assert_eq!(AmqpError::new("amqp:not-found", "no such queue").to_string(), "amqp:not-found: no such queue");
    }
}
