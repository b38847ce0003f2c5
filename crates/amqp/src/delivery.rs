//! What can become of a delivery, and the error that explains it (part 2, section 2.8.14; part 3, section 3.4).

use bytes::BytesMut;

use crate::codec::{Composite, DecodeError, Fields, ListWriter, put_value};
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

    /// Reads a field that holds an error or null.
    pub(crate) fn from_field(fields: &mut Fields<'_>) -> Result<Option<Self>, DecodeError> {
        let error =
            fields.composite("an error", |code, fields| (code == ERROR).then(|| Self::decode_fields(fields)))?;
        error.known("an error")
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

    /// Reads a field that holds a state or null.
    pub(crate) fn from_field(fields: &mut Fields<'_>) -> Result<Option<Self>, DecodeError> {
        let state = fields.composite("a delivery state", |code, fields| {
            Some(match code {
                ACCEPTED => Ok(Self::Accepted),
                REJECTED => AmqpError::from_field(fields).map(Self::Rejected),
                RELEASED => Ok(Self::Released),
                MODIFIED => modified(fields),
                RECEIVED => received(fields),
                _ => return None,
            })
        })?;
        Ok(match state {
            Composite::Null => None,
            Composite::Known(state) => Some(state),
            Composite::Other(value) => Some(Self::Other(value)),
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Reader;

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
            ListWriter::new(&mut bytes, 0x15).with(|out| state.encode(out)).field(7u32).finish();
            let mut reader = Reader::new(&bytes);
            reader.descriptor("a list").unwrap();
            let mut fields = reader.list().unwrap();
            assert_eq!(DeliveryState::from_field(&mut fields), Ok(Some(state)));
            assert_eq!(fields.u32("behind it"), Ok(Some(7)));
        }
    }

    #[test]
    fn an_error_reads_well() {
        assert_eq!(AmqpError::new("amqp:not-found", "no such queue").to_string(), "amqp:not-found: no such queue");
    }
}
