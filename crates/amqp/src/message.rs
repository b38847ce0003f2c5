//! Messages (part 3, section 3.2): sections decoded for use, the body kept byte for byte.

use bytes::{Bytes, BytesMut};

use crate::codec::{DecodeError, Fields, ListWriter, Reader, kind, put_map, put_value};
use crate::value::{Map, Value};

const HEADER: u64 = 0x70;
const DELIVERY_ANNOTATIONS: u64 = 0x71;
const MESSAGE_ANNOTATIONS: u64 = 0x72;
const PROPERTIES: u64 = 0x73;
const APPLICATION_PROPERTIES: u64 = 0x74;
const DATA: u64 = 0x75;
const SEQUENCE: u64 = 0x76;
const VALUE: u64 = 0x77;
const FOOTER: u64 = 0x78;

/// A message. Empty maps are left out when it is encoded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// Delivery details.
    pub header: Option<Header>,
    /// For the next hop only.
    pub delivery_annotations: Map,
    /// For all hops.
    pub message_annotations: Map,
    /// The sender's standard properties.
    pub properties: Option<Properties>,
    /// The sender's own properties.
    pub application_properties: Map,
    /// The content.
    pub body: Body,
    /// Checksums and the like.
    pub footer: Map,
}

/// Delivery details of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Must survive a restart.
    pub durable: Option<bool>,
    /// 0 to 9; 4 is normal.
    pub priority: Option<u8>,
    /// How long it is of use, in milliseconds.
    pub ttl_ms: Option<u32>,
    /// Never delivered to anybody else before.
    pub first_acquirer: Option<bool>,
    /// Earlier deliveries that failed.
    pub delivery_count: Option<u32>,
}

/// The sender's standard properties.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Properties {
    /// Any of ulong, uuid, binary, string.
    pub message_id: Option<Value>,
    /// The authenticated sender.
    pub user_id: Option<Bytes>,
    /// The node it is meant for.
    pub to: Option<String>,
    /// What it is about.
    pub subject: Option<String>,
    /// Where an answer goes.
    pub reply_to: Option<String>,
    /// The message that this answers.
    pub correlation_id: Option<Value>,
    /// A MIME type.
    pub content_type: Option<String>,
    /// A MIME encoding.
    pub content_encoding: Option<String>,
    /// When it expires, in milliseconds since the Unix epoch.
    pub absolute_expiry_time: Option<i64>,
    /// When it was made, in milliseconds since the Unix epoch.
    pub creation_time: Option<i64>,
    /// The group (Service Bus: session) it belongs to.
    pub group_id: Option<String>,
    /// Its place in the group.
    pub group_sequence: Option<u32>,
    /// The group that an answer belongs to.
    pub reply_to_group_id: Option<String>,
}

/// A message's body as it was on the wire: data, sequence or value sections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body(Bytes);

impl Body {
    /// No body section at all.
    pub fn empty() -> Self {
        Self::default()
    }

    /// One data section.
    pub fn data(data: impl Into<Bytes>) -> Self {
        Self::section(DATA, &Value::Binary(data.into()))
    }

    /// Several data sections.
    pub fn data_sections_from(sections: impl IntoIterator<Item = Bytes>) -> Self {
        let mut out = BytesMut::new();
        for section in sections {
            put_section(&mut out, DATA, &Value::Binary(section));
        }
        Self(out.freeze())
    }

    /// One value section.
    pub fn value(value: &Value) -> Self {
        Self::section(VALUE, value)
    }

    /// The encoded sections.
    pub fn encoded(&self) -> &Bytes {
        &self.0
    }

    /// The contents of the data sections, in order; nothing for other kinds of body.
    pub fn data_sections(&self) -> Vec<Bytes> {
        self.sections(DATA)
            .filter_map(|value| match value {
                Value::Binary(bytes) => Some(bytes),
                _ => None,
            })
            .collect()
    }

    /// The contents of the data sections, joined; without a copy where there is only one.
    pub fn joined_data(&self) -> Bytes {
        let mut sections = self.data_sections();
        match sections.len() {
            0 => Bytes::new(),
            1 => sections.swap_remove(0),
            _ => sections.concat().into(),
        }
    }

    /// The content of the value section, if the body is one.
    pub fn as_value(&self) -> Option<Value> {
        self.sections(VALUE).next()
    }

    fn section(code: u64, value: &Value) -> Self {
        let mut out = BytesMut::new();
        put_section(&mut out, code, value);
        Self(out.freeze())
    }

    /// The values of the sections of one kind. The bytes were checked when the message was decoded.
    fn sections(&self, wanted: u64) -> impl Iterator<Item = Value> {
        let mut reader = Reader::shared(&self.0);
        std::iter::from_fn(move || {
            while reader.remaining() > 0 {
                let code = reader.descriptor("a body section").ok()?;
                let value = reader.value().ok()?;
                if code == wanted {
                    return Some(value);
                }
            }
            None
        })
    }
}

impl Message {
    /// A message with nothing but a body.
    pub fn with_body(body: Body) -> Self {
        Self { body, ..Self::default() }
    }

    /// Decodes a message. Sections may come in any order: some clients do not keep to the standard's. Of a section
    /// that may occur once the last one counts.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut message = Self::default();
        let mut reader = Reader::shared(bytes);
        // The body is kept as one range of the input where its sections lie together, which is always in practice.
        let mut body: Vec<Bytes> = Vec::new();
        let mut body_range: Option<(usize, usize)> = None;
        while reader.remaining() > 0 {
            let start = bytes.len() - reader.remaining();
            let code = reader.descriptor("a message section")?;
            match code {
                HEADER => message.header = Some(decode_header(&mut reader.list()?)?),
                PROPERTIES => message.properties = Some(decode_properties(&mut reader.list()?)?),
                DELIVERY_ANNOTATIONS => message.delivery_annotations = decode_map(&mut reader)?,
                MESSAGE_ANNOTATIONS => message.message_annotations = decode_map(&mut reader)?,
                APPLICATION_PROPERTIES => message.application_properties = decode_map(&mut reader)?,
                FOOTER => message.footer = decode_map(&mut reader)?,
                DATA | SEQUENCE | VALUE => {
                    reader.value()?;
                    let end = bytes.len() - reader.remaining();
                    match &mut body_range {
                        Some(range) if range.1 == start => range.1 = end,
                        Some(range) => {
                            body.push(bytes.slice(range.0..range.1));
                            *range = (start, end);
                        }
                        None => body_range = Some((start, end)),
                    }
                }
                other => {
                    return Err(DecodeError::Unexpected {
                        expected: "a message section",
                        found: format!("descriptor {other:#x}"),
                    });
                }
            }
        }
        if let Some((start, end)) = body_range {
            body.push(bytes.slice(start..end));
        }
        message.body = Body(if body.len() == 1 { body.swap_remove(0) } else { body.concat().into() });
        Ok(message)
    }

    /// The encoded message, sections in the standard's order.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.body.0.len() + 256);
        self.encode_into(&mut out);
        out.freeze()
    }

    /// Appends the encoded message.
    pub fn encode_into(&self, out: &mut BytesMut) {
        self.encode_sections(&self.body.0, out);
    }

    /// The length of the encoded message, in bytes.
    pub fn encoded_len(&self) -> usize {
        let mut out = BytesMut::new();
        self.encode_sections(&[], &mut out);
        out.len() + self.body.0.len()
    }

    /// Appends all sections, with these for the body's.
    fn encode_sections(&self, body: &[u8], out: &mut BytesMut) {
        if let Some(header) = &self.header {
            encode_header(header, out);
        }
        put_map_section(out, DELIVERY_ANNOTATIONS, &self.delivery_annotations);
        put_map_section(out, MESSAGE_ANNOTATIONS, &self.message_annotations);
        if let Some(properties) = &self.properties {
            encode_properties(properties, out);
        }
        put_map_section(out, APPLICATION_PROPERTIES, &self.application_properties);
        out.extend_from_slice(body);
        put_map_section(out, FOOTER, &self.footer);
    }
}

fn put_section(out: &mut BytesMut, code: u64, value: &Value) {
    out.extend_from_slice(&[0x00, 0x53, code as u8]);
    put_value(out, value);
}

fn put_map_section(out: &mut BytesMut, code: u64, map: &Map) {
    if !map.is_empty() {
        out.extend_from_slice(&[0x00, 0x53, code as u8]);
        put_map(out, map);
    }
}

fn decode_map(reader: &mut Reader<'_>) -> Result<Map, DecodeError> {
    match reader.value()? {
        Value::Map(map) => Ok(map),
        Value::Null => Ok(Map::default()),
        other => Err(DecodeError::Unexpected { expected: "a map section", found: kind(&other).to_owned() }),
    }
}

fn decode_header(fields: &mut Fields<'_>) -> Result<Header, DecodeError> {
    Ok(Header {
        durable: fields.boolean("header.durable")?,
        priority: fields.u8("header.priority")?,
        ttl_ms: fields.u32("header.ttl")?,
        first_acquirer: fields.boolean("header.first-acquirer")?,
        delivery_count: fields.u32("header.delivery-count")?,
    })
}

fn encode_header(header: &Header, out: &mut BytesMut) {
    ListWriter::new(out, HEADER as u8)
        .field(header.durable)
        .field(header.priority)
        .field(header.ttl_ms)
        .field(header.first_acquirer)
        .field(header.delivery_count)
        .finish();
}

/// Some clients take other scalars for an id than the standard's four types; nobody takes a compound.
fn id(fields: &mut Fields<'_>, name: &'static str) -> Result<Option<Value>, DecodeError> {
    fields.get(name, |value| {
        let compound = matches!(value, Value::List(_) | Value::Map(_) | Value::Array(_) | Value::Described(_));
        (!compound).then_some(value)
    })
}

fn decode_properties(fields: &mut Fields<'_>) -> Result<Properties, DecodeError> {
    Ok(Properties {
        message_id: id(fields, "properties.message-id")?,
        user_id: fields.binary("properties.user-id")?,
        to: fields.text("properties.to")?,
        subject: fields.text("properties.subject")?,
        reply_to: fields.text("properties.reply-to")?,
        correlation_id: id(fields, "properties.correlation-id")?,
        content_type: fields.text("properties.content-type")?,
        content_encoding: fields.text("properties.content-encoding")?,
        absolute_expiry_time: fields.timestamp("properties.absolute-expiry-time")?,
        creation_time: fields.timestamp("properties.creation-time")?,
        group_id: fields.text("properties.group-id")?,
        group_sequence: fields.u32("properties.group-sequence")?,
        reply_to_group_id: fields.text("properties.reply-to-group-id")?,
    })
}

fn encode_properties(properties: &Properties, out: &mut BytesMut) {
    ListWriter::new(out, PROPERTIES as u8)
        .field_ref(properties.message_id.as_ref())
        .field(properties.user_id.clone())
        .optional_text(properties.to.as_deref())
        .optional_text(properties.subject.as_deref())
        .optional_text(properties.reply_to.as_deref())
        .field_ref(properties.correlation_id.as_ref())
        .symbol(properties.content_type.as_deref())
        .symbol(properties.content_encoding.as_deref())
        .field(properties.absolute_expiry_time.map(Value::Timestamp))
        .field(properties.creation_time.map(Value::Timestamp))
        .optional_text(properties.group_id.as_deref())
        .field(properties.group_sequence)
        .optional_text(properties.reply_to_group_id.as_deref())
        .finish();
}
