//! Where a link starts and ends (part 3, section 3.5). All fields are kept, so that a reply can echo what was asked.

use bytes::BytesMut;

use crate::codec::{DecodeError, Fields, ListWriter};
use crate::value::{Map, Value};

const SOURCE: u8 = 0x28;
const TARGET: u8 = 0x29;
const COORDINATOR: u8 = 0x30;

/// Where messages of a link come from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Source {
    /// The node.
    pub address: Option<String>,
    /// Which state survives (0 none, 1 configuration, 2 unsettled deliveries too).
    pub durable: Option<u32>,
    /// When expiry starts to count.
    pub expiry_policy: Option<String>,
    /// Seconds until it expires.
    pub timeout_seconds: Option<u32>,
    /// Ask for a node to be made.
    pub dynamic: Option<bool>,
    /// Properties of that node.
    pub dynamic_node_properties: Option<Map>,
    /// `move` or `copy`.
    pub distribution_mode: Option<String>,
    /// Named filters.
    pub filter: Option<Map>,
    /// What becomes of deliveries not settled.
    pub default_outcome: Option<Value>,
    /// Outcomes that are supported.
    pub outcomes: Option<Value>,
    /// Extensions.
    pub capabilities: Option<Value>,
}

impl Source {
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        ListWriter::new(out, SOURCE)
            .optional_text(self.address.as_deref())
            .field(self.durable)
            .symbol(self.expiry_policy.as_deref())
            .field(self.timeout_seconds)
            .field(self.dynamic)
            .map(self.dynamic_node_properties.as_ref())
            .symbol(self.distribution_mode.as_deref())
            .map(self.filter.as_ref())
            .field_ref(self.default_outcome.as_ref())
            .field_ref(self.outcomes.as_ref())
            .field_ref(self.capabilities.as_ref())
            .finish();
    }

    fn decode(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            address: fields.text("source.address")?,
            durable: fields.u32("source.durable")?,
            expiry_policy: fields.text("source.expiry-policy")?,
            timeout_seconds: fields.u32("source.timeout")?,
            dynamic: fields.boolean("source.dynamic")?,
            dynamic_node_properties: fields.map("source.dynamic-node-properties")?,
            distribution_mode: fields.text("source.distribution-mode")?,
            filter: fields.map("source.filter")?,
            default_outcome: fields.any()?,
            outcomes: fields.any()?,
            capabilities: fields.any()?,
        })
    }
}

/// Where messages of a link go.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target {
    /// The node.
    pub address: Option<String>,
    /// Which state survives (0 none, 1 configuration, 2 unsettled deliveries too).
    pub durable: Option<u32>,
    /// When expiry starts to count.
    pub expiry_policy: Option<String>,
    /// Seconds until it expires.
    pub timeout_seconds: Option<u32>,
    /// Ask for a node to be made.
    pub dynamic: Option<bool>,
    /// Properties of that node.
    pub dynamic_node_properties: Option<Map>,
    /// Extensions.
    pub capabilities: Option<Value>,
}

impl Target {
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        ListWriter::new(out, TARGET)
            .optional_text(self.address.as_deref())
            .field(self.durable)
            .symbol(self.expiry_policy.as_deref())
            .field(self.timeout_seconds)
            .field(self.dynamic)
            .map(self.dynamic_node_properties.as_ref())
            .field_ref(self.capabilities.as_ref())
            .finish();
    }

    fn decode(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            address: fields.text("target.address")?,
            durable: fields.u32("target.durable")?,
            expiry_policy: fields.text("target.expiry-policy")?,
            timeout_seconds: fields.u32("target.timeout")?,
            dynamic: fields.boolean("target.dynamic")?,
            dynamic_node_properties: fields.map("target.dynamic-node-properties")?,
            capabilities: fields.any()?,
        })
    }
}

/// Writes a transaction coordinator without capabilities (part 4, section 4.5.1).
pub(crate) fn encode_coordinator(out: &mut BytesMut) {
    ListWriter::new(out, COORDINATOR).field(Value::Null).finish();
}

/// Reads the source field of an attach.
pub(crate) fn decode_source(fields: &mut Fields<'_>) -> Result<Option<Source>, DecodeError> {
    let source = fields.composite("a source", |code, fields| (code == SOURCE).then(|| Source::decode(fields)))?;
    source.known("a source")
}

/// Reads the target field of an attach: a node, or a transaction coordinator (`true`).
pub(crate) fn decode_target(fields: &mut Fields<'_>) -> Result<(Option<Target>, bool), DecodeError> {
    let target = fields.composite("a target", |code, fields| match code {
        TARGET => Some(Target::decode(fields).map(Some)),
        COORDINATOR => Some(Ok(None)),
        _ => None,
    })?;
    Ok(match target.known("a target")? {
        None => (None, false),
        Some(Some(target)) => (Some(target), false),
        Some(None) => (None, true),
    })
}
