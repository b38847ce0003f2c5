//! Frames (part 2, section 2.3) and the protocol headers and SASL frames before them (part 5, section 5.3).

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::codec::{DecodeError, ListWriter, Reader};
use crate::performative::Performative;
use crate::value::{Symbol, Value};

/// Announces a SASL layer.
pub(crate) const SASL_HEADER: [u8; 8] = *b"AMQP\x03\x01\x00\x00";
/// Announces AMQP itself.
pub(crate) const AMQP_HEADER: [u8; 8] = *b"AMQP\x00\x01\x00\x00";
/// The frame header's length, in bytes.
pub(crate) const HEADER_LEN: usize = 8;

const TYPE_AMQP: u8 = 0;
const TYPE_SASL: u8 = 1;
const SASL_MECHANISMS: u8 = 0x40;
const SASL_INIT: u8 = 0x41;
const SASL_OUTCOME: u8 = 0x44;

/// The bytes are not a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("frame of {size} bytes is larger than the {max} that were agreed")]
    TooLarge { size: u32, max: u32 },
    #[error("frame header is malformed")]
    Malformed,
    #[error("frame type {0} is unknown")]
    UnknownType(u8),
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// One frame as it was cut out of the stream.
pub(crate) struct RawFrame {
    pub(crate) is_sasl: bool,
    pub(crate) channel: u16,
    pub(crate) body: Bytes,
}

/// Cuts the next whole frame off `input`, or says that more bytes are needed.
pub(crate) fn next_frame(input: &mut BytesMut, max_frame_size: u32) -> Result<Option<RawFrame>, FrameError> {
    let Some(header) = input.first_chunk::<HEADER_LEN>() else { return Ok(None) };
    let size = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
    let (data_offset, kind) = (usize::from(header[4]) * 4, header[5]);
    let channel = u16::from_be_bytes([header[6], header[7]]);
    if size > max_frame_size {
        return Err(FrameError::TooLarge { size, max: max_frame_size });
    }
    if data_offset < HEADER_LEN || data_offset > size as usize {
        return Err(FrameError::Malformed);
    }
    let is_sasl = match kind {
        TYPE_AMQP => false,
        TYPE_SASL => true,
        other => return Err(FrameError::UnknownType(other)),
    };
    if input.len() < size as usize {
        return Ok(None);
    }
    let body = input.split_to(size as usize).freeze().slice(data_offset..);
    Ok(Some(RawFrame { is_sasl, channel, body }))
}

/// Appends an AMQP frame.
pub(crate) fn put_frame(out: &mut BytesMut, channel: u16, performative: &Performative, payload: &[u8]) {
    let start = open_frame(out, TYPE_AMQP, channel);
    performative.encode(out);
    out.put_slice(payload);
    close_frame(out, start);
}

/// Appends the empty frame that keeps a silent connection alive.
pub(crate) fn put_heartbeat(out: &mut BytesMut) {
    let start = open_frame(out, TYPE_AMQP, 0);
    close_frame(out, start);
}

fn open_frame(out: &mut BytesMut, kind: u8, channel: u16) -> usize {
    let start = out.len();
    out.put_slice(&[0, 0, 0, 0, 2, kind]);
    out.put_u16(channel);
    start
}

fn close_frame(out: &mut BytesMut, start: usize) {
    let size = (out.len() - start) as u32;
    out[start..start + 4].copy_from_slice(&size.to_be_bytes());
}

/// The SASL frames that anonymous and claims-based logins need.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Sasl {
    Mechanisms(Vec<Symbol>),
    Init { mechanism: String },
    Outcome { code: u8 },
}

impl Sasl {
    pub(crate) fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let code = reader.descriptor("a SASL frame")?;
        let mut fields = reader.list()?;
        match u8::try_from(code).unwrap_or(0) {
            SASL_MECHANISMS => {
                let mechanisms = fields.get("sasl-mechanisms", |value| match value {
                    Value::Symbol(one) => Some(vec![one]),
                    Value::Array(many) => Some(
                        many.into_iter()
                            .filter_map(|value| match value {
                                Value::Symbol(symbol) => Some(symbol),
                                _ => None,
                            })
                            .collect(),
                    ),
                    _ => None,
                })?;
                Ok(Self::Mechanisms(mechanisms.unwrap_or_default()))
            }
            SASL_INIT => Ok(Self::Init {
                mechanism: fields.text("sasl-init.mechanism")?.ok_or(DecodeError::Missing("sasl-init.mechanism"))?,
            }),
            SASL_OUTCOME => Ok(Self::Outcome {
                code: fields.u8("sasl-outcome.code")?.ok_or(DecodeError::Missing("sasl-outcome.code"))?,
            }),
            _ => Err(DecodeError::Unexpected { expected: "a SASL frame", found: format!("descriptor {code:#x}") }),
        }
    }

    pub(crate) fn put(&self, out: &mut BytesMut) {
        let start = open_frame(out, TYPE_SASL, 0);
        match self {
            Self::Mechanisms(mechanisms) => ListWriter::new(out, SASL_MECHANISMS)
                .field(Value::Array(mechanisms.iter().cloned().map(Value::Symbol).collect()))
                .finish(),
            Self::Init { mechanism } => {
                ListWriter::new(out, SASL_INIT).symbol(Some(mechanism)).field(Value::Null).field(Value::Null).finish();
            }
            Self::Outcome { code } => {
                ListWriter::new(out, SASL_OUTCOME).field(*code).field(Value::Null).finish();
            }
        }
        close_frame(out, start);
    }
}
