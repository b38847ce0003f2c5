//! A sans-I/O AMQP 1.0 engine: bytes in → events out; commands → bytes out.
//!
//! It owns one connection's protocol state (frames, SASL, sessions, links, credit, unsettled deliveries) and nothing
//! else: no sockets, no clock (time is an argument), no Service Bus words. The broker runs it as the server, our client
//! as the client; `docs/adr/0001-own-amqp-engine.md` says why it is our own. Section numbers in comments are those of
//! the OASIS standard "AMQP Version 1.0" (2012).

mod codec;
mod connection;
mod delivery;
mod frame;
mod message;
mod performative;
mod terminus;
mod value;

pub use codec::{DecodeError, MAX_DEPTH};
pub use connection::{
    Config, Connection, ConnectionRole, DeliveryId, Event, Gone, Incoming, Limits, LinkId, Outgoing, SendError,
    SessionId,
};
pub use delivery::{AmqpError, DeliveryState};
pub use message::{Body, Header, Message, Properties};
pub use performative::{Attach, Open, Role};
pub use terminus::{Source, Target};
pub use value::{Described, Map, Symbol, Value};
