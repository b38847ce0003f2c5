//! The nine performatives (part 2, section 2.7): reading each from a frame, writing each with every field.

use bytes::{Bytes, BytesMut};

use crate::codec::{DecodeError, Fields, ListWriter, Reader, put_value};
use crate::delivery::{AmqpError, DeliveryState};
use crate::terminus::{Source, Target, decode_source, decode_target, encode_coordinator};
use crate::value::{Map, Value};

const OPEN: u8 = 0x10;
const BEGIN: u8 = 0x11;
const ATTACH: u8 = 0x12;
const FLOW: u8 = 0x13;
const TRANSFER: u8 = 0x14;
const DISPOSITION: u8 = 0x15;
const DETACH: u8 = 0x16;
const END: u8 = 0x17;
const CLOSE: u8 = 0x18;

/// Which end of a link somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Sends deliveries.
    Sender,
    /// Receives deliveries.
    Receiver,
}

impl Role {
    /// The role at the other end.
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Self::Sender => Self::Receiver,
            Self::Receiver => Self::Sender,
        }
    }

    /// On the wire `true` means receiver.
    fn is_receiver(self) -> bool {
        self == Self::Receiver
    }

    fn from_wire(is_receiver: bool) -> Self {
        if is_receiver { Self::Receiver } else { Self::Sender }
    }
}

/// A connection's first performative: who the peer is and what it can take.
#[derive(Clone, Debug, PartialEq)]
pub struct Open {
    /// The peer's name for itself.
    pub container_id: String,
    /// The host that the peer wants to reach.
    pub hostname: Option<String>,
    /// The largest frame it takes, in bytes.
    pub max_frame_size: u32,
    /// The highest channel number it takes.
    pub channel_max: u16,
    /// It closes the connection after this long a silence, in milliseconds.
    pub idle_timeout_ms: Option<u32>,
    /// Product, version and the like.
    pub properties: Map,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Begin {
    pub(crate) remote_channel: Option<u16>,
    pub(crate) next_outgoing_id: u32,
    pub(crate) incoming_window: u32,
    pub(crate) outgoing_window: u32,
    pub(crate) handle_max: u32,
}

/// Attaches a link to a session.
#[derive(Clone, Debug, PartialEq)]
pub struct Attach {
    /// Names the link within the connection, together with the role.
    pub name: String,
    /// The end that the writer of this frame is.
    pub role: Role,
    /// 0 unsettled, 1 settled, 2 mixed (what null means).
    pub snd_settle_mode: Option<u8>,
    /// 0 first (what null means), 1 second.
    pub rcv_settle_mode: Option<u8>,
    /// Null in a reply that refuses.
    pub source: Option<Source>,
    /// Null in a reply that refuses.
    pub target: Option<Target>,
    /// Whether the target is a transaction coordinator instead of a node (then `target` is `None`).
    pub coordinator: bool,
    /// Mandatory for a sender.
    pub initial_delivery_count: Option<u32>,
    /// The largest message the writer takes, in bytes.
    pub max_message_size: Option<u64>,
    /// Extensions.
    pub properties: Option<Map>,
}

impl Attach {
    /// A link on which the writer sends.
    pub fn sender(name: impl Into<String>, source: impl Into<String>, target: impl Into<String>) -> Self {
        Self { initial_delivery_count: Some(0), ..Self::new(name.into(), Role::Sender, source.into(), target.into()) }
    }

    /// A link on which the writer receives.
    pub fn receiver(name: impl Into<String>, source: impl Into<String>, target: impl Into<String>) -> Self {
        Self::new(name.into(), Role::Receiver, source.into(), target.into())
    }

    fn new(name: String, role: Role, source: String, target: String) -> Self {
        Self {
            name,
            role,
            snd_settle_mode: None,
            rcv_settle_mode: None,
            source: Some(Source { address: Some(source), ..Source::default() }),
            target: Some(Target { address: Some(target), ..Target::default() }),
            coordinator: false,
            initial_delivery_count: None,
            max_message_size: None,
            properties: None,
        }
    }

    /// The frame that accepts this one as asked: source, target and settle modes echoed, the role turned round.
    #[must_use]
    pub fn reply(&self) -> Self {
        let role = self.role.opposite();
        Self {
            name: self.name.clone(),
            role,
            snd_settle_mode: self.snd_settle_mode,
            rcv_settle_mode: self.rcv_settle_mode,
            source: self.source.clone(),
            target: self.target.clone(),
            coordinator: false,
            initial_delivery_count: (role == Role::Sender).then_some(0),
            max_message_size: None,
            properties: Some(Map::default()),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Flow {
    pub(crate) next_incoming_id: Option<u32>,
    pub(crate) incoming_window: u32,
    pub(crate) next_outgoing_id: u32,
    pub(crate) outgoing_window: u32,
    pub(crate) handle: Option<u32>,
    pub(crate) delivery_count: Option<u32>,
    pub(crate) link_credit: Option<u32>,
    pub(crate) available: Option<u32>,
    pub(crate) drain: bool,
    pub(crate) echo: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Transfer {
    pub(crate) handle: u32,
    pub(crate) delivery_id: Option<u32>,
    pub(crate) delivery_tag: Option<Bytes>,
    pub(crate) message_format: Option<u32>,
    pub(crate) settled: Option<bool>,
    pub(crate) more: bool,
    pub(crate) aborted: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Disposition {
    /// The end that the writer of this frame is: a receiver speaks of deliveries it got.
    pub(crate) role: Role,
    pub(crate) first: u32,
    pub(crate) last: Option<u32>,
    pub(crate) settled: bool,
    pub(crate) state: Option<DeliveryState>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Detach {
    pub(crate) handle: u32,
    pub(crate) closed: bool,
    pub(crate) error: Option<AmqpError>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Performative {
    Open(Open),
    Begin(Begin),
    Attach(Box<(u32, Attach)>),
    Flow(Flow),
    Transfer(Transfer),
    Disposition(Disposition),
    Detach(Detach),
    End(Option<AmqpError>),
    Close(Option<AmqpError>),
}

impl Performative {
    /// Reads a performative from the start of a frame's body; also returns what follows it, a transfer's payload.
    pub(crate) fn decode(body: &[u8]) -> Result<(Self, &[u8]), DecodeError> {
        let mut reader = Reader::new(body);
        let code = reader.descriptor("a performative")?;
        let fields = &mut reader.list()?;
        let performative = match u8::try_from(code).unwrap_or(0) {
            OPEN => Self::Open(decode_open(fields)?),
            BEGIN => Self::Begin(Begin {
                remote_channel: fields.u16("begin.remote-channel")?,
                next_outgoing_id: mandatory(fields.u32("begin.next-outgoing-id")?, "begin.next-outgoing-id")?,
                incoming_window: mandatory(fields.u32("begin.incoming-window")?, "begin.incoming-window")?,
                outgoing_window: mandatory(fields.u32("begin.outgoing-window")?, "begin.outgoing-window")?,
                handle_max: fields.u32("begin.handle-max")?.unwrap_or(u32::MAX),
            }),
            ATTACH => Self::Attach(Box::new(decode_attach(fields)?)),
            FLOW => Self::Flow(Flow {
                next_incoming_id: fields.u32("flow.next-incoming-id")?,
                incoming_window: mandatory(fields.u32("flow.incoming-window")?, "flow.incoming-window")?,
                next_outgoing_id: mandatory(fields.u32("flow.next-outgoing-id")?, "flow.next-outgoing-id")?,
                outgoing_window: mandatory(fields.u32("flow.outgoing-window")?, "flow.outgoing-window")?,
                handle: fields.u32("flow.handle")?,
                delivery_count: fields.u32("flow.delivery-count")?,
                link_credit: fields.u32("flow.link-credit")?,
                available: fields.u32("flow.available")?,
                drain: fields.boolean("flow.drain")?.unwrap_or(false),
                echo: fields.boolean("flow.echo")?.unwrap_or(false),
            }),
            TRANSFER => Self::Transfer(decode_transfer(fields)?),
            DISPOSITION => Self::Disposition(Disposition {
                role: mandatory(fields.boolean("disposition.role")?, "disposition.role").map(Role::from_wire)?,
                first: mandatory(fields.u32("disposition.first")?, "disposition.first")?,
                last: fields.u32("disposition.last")?,
                settled: fields.boolean("disposition.settled")?.unwrap_or(false),
                state: DeliveryState::from_field(fields)?,
            }),
            DETACH => Self::Detach(Detach {
                handle: mandatory(fields.u32("detach.handle")?, "detach.handle")?,
                closed: fields.boolean("detach.closed")?.unwrap_or(false),
                error: AmqpError::from_field(fields)?,
            }),
            END => Self::End(AmqpError::from_field(fields)?),
            CLOSE => Self::Close(AmqpError::from_field(fields)?),
            _ => {
                return Err(DecodeError::Unexpected {
                    expected: "a performative",
                    found: format!("descriptor {code:#x}"),
                });
            }
        };
        Ok((performative, reader.rest()))
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Open(open) => encode_open(open, out),
            Self::Begin(begin) => ListWriter::new(out, BEGIN)
                .field(begin.remote_channel)
                .field(begin.next_outgoing_id)
                .field(begin.incoming_window)
                .field(begin.outgoing_window)
                .field(begin.handle_max)
                .field(Value::Null)
                .field(Value::Null)
                .field(Value::Null)
                .finish(),
            Self::Attach(attach) => encode_attach(attach.0, &attach.1, out),
            Self::Flow(flow) => ListWriter::new(out, FLOW)
                .field(flow.next_incoming_id)
                .field(flow.incoming_window)
                .field(flow.next_outgoing_id)
                .field(flow.outgoing_window)
                .field(flow.handle)
                .field(flow.delivery_count)
                .field(flow.link_credit)
                .field(flow.available)
                .field(flow.drain)
                .field(flow.echo)
                .field(Value::Null)
                .finish(),
            Self::Transfer(transfer) => ListWriter::new(out, TRANSFER)
                .field(transfer.handle)
                .field(transfer.delivery_id)
                .field(transfer.delivery_tag.clone())
                .field(transfer.message_format)
                .field(transfer.settled)
                .field(transfer.more)
                .field(Value::Null)
                .field(Value::Null)
                .field(false)
                .field(transfer.aborted)
                .field(false)
                .finish(),
            Self::Disposition(disposition) => ListWriter::new(out, DISPOSITION)
                .field(disposition.role.is_receiver())
                .field(disposition.first)
                .field(disposition.last)
                .field(disposition.settled)
                .with(|out| match &disposition.state {
                    Some(state) => state.encode(out),
                    None => put_value(out, &Value::Null),
                })
                .field(false)
                .finish(),
            Self::Detach(detach) => ListWriter::new(out, DETACH)
                .field(detach.handle)
                .field(detach.closed)
                .with(|out| encode_error(detach.error.as_ref(), out))
                .finish(),
            Self::End(error) => ListWriter::new(out, END).with(|out| encode_error(error.as_ref(), out)).finish(),
            Self::Close(error) => ListWriter::new(out, CLOSE).with(|out| encode_error(error.as_ref(), out)).finish(),
        }
    }
}

fn mandatory<T>(field: Option<T>, name: &'static str) -> Result<T, DecodeError> {
    field.ok_or(DecodeError::Missing(name))
}

fn encode_error(error: Option<&AmqpError>, out: &mut BytesMut) {
    match error {
        Some(error) => error.encode(out),
        None => put_value(out, &Value::Null),
    }
}

fn decode_open(fields: &mut Fields<'_>) -> Result<Open, DecodeError> {
    let container_id = mandatory(fields.text("open.container-id")?, "open.container-id")?;
    let hostname = fields.text("open.hostname")?;
    let max_frame_size = fields.u32("open.max-frame-size")?.unwrap_or(u32::MAX);
    let channel_max = fields.u16("open.channel-max")?.unwrap_or(u16::MAX);
    let idle_timeout_ms = fields.u32("open.idle-time-out")?;
    for _ in ["outgoing-locales", "incoming-locales", "offered-capabilities", "desired-capabilities"] {
        fields.any()?;
    }
    let properties = fields.map("open.properties")?.unwrap_or_default();
    Ok(Open { container_id, hostname, max_frame_size, channel_max, idle_timeout_ms, properties })
}

fn encode_open(open: &Open, out: &mut BytesMut) {
    ListWriter::new(out, OPEN)
        .text(&open.container_id)
        .optional_text(open.hostname.as_deref())
        .field(open.max_frame_size)
        .field(open.channel_max)
        .field(open.idle_timeout_ms)
        .field(Value::Null)
        .field(Value::Null)
        .field(Value::Null)
        .field(Value::Null)
        .map(Some(&open.properties))
        .finish();
}

fn decode_attach(fields: &mut Fields<'_>) -> Result<(u32, Attach), DecodeError> {
    let name = mandatory(fields.text("attach.name")?, "attach.name")?;
    let handle = mandatory(fields.u32("attach.handle")?, "attach.handle")?;
    let role = mandatory(fields.boolean("attach.role")?, "attach.role").map(Role::from_wire)?;
    let snd_settle_mode = fields.u8("attach.snd-settle-mode")?;
    let rcv_settle_mode = fields.u8("attach.rcv-settle-mode")?;
    let source = decode_source(fields)?;
    let (target, coordinator) = decode_target(fields)?;
    for _ in ["unsettled", "incomplete-unsettled"] {
        fields.any()?;
    }
    let initial_delivery_count = fields.u32("attach.initial-delivery-count")?;
    let max_message_size = fields.u64("attach.max-message-size")?;
    for _ in ["offered-capabilities", "desired-capabilities"] {
        fields.any()?;
    }
    let properties = fields.map("attach.properties")?;
    let attach = Attach {
        name,
        role,
        snd_settle_mode,
        rcv_settle_mode,
        source,
        target,
        coordinator,
        initial_delivery_count,
        max_message_size,
        properties,
    };
    Ok((handle, attach))
}

fn encode_attach(handle: u32, attach: &Attach, out: &mut BytesMut) {
    ListWriter::new(out, ATTACH)
        .text(&attach.name)
        .field(handle)
        .field(attach.role.is_receiver())
        .field(attach.snd_settle_mode)
        .field(attach.rcv_settle_mode)
        .with(|out| match &attach.source {
            Some(source) => source.encode(out),
            None => put_value(out, &Value::Null),
        })
        .with(|out| match &attach.target {
            _ if attach.coordinator => encode_coordinator(out),
            Some(target) => target.encode(out),
            None => put_value(out, &Value::Null),
        })
        .field(Value::Null)
        .field(Value::Null)
        .field(attach.initial_delivery_count)
        .field(attach.max_message_size)
        .field(Value::Null)
        .field(Value::Null)
        .map(attach.properties.as_ref())
        .finish();
}

fn decode_transfer(fields: &mut Fields<'_>) -> Result<Transfer, DecodeError> {
    let handle = mandatory(fields.u32("transfer.handle")?, "transfer.handle")?;
    let delivery_id = fields.u32("transfer.delivery-id")?;
    let delivery_tag = fields.binary("transfer.delivery-tag")?;
    let message_format = fields.u32("transfer.message-format")?;
    let settled = fields.boolean("transfer.settled")?;
    let more = fields.boolean("transfer.more")?.unwrap_or(false);
    for _ in ["rcv-settle-mode", "state", "resume"] {
        fields.any()?;
    }
    let aborted = fields.boolean("transfer.aborted")?.unwrap_or(false);
    Ok(Transfer { handle, delivery_id, delivery_tag, message_format, settled, more, aborted })
}
