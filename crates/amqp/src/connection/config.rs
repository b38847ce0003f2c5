//! How one side of a connection presents itself, and what it puts up with.

use std::time::Duration;

use crate::value::Map;

/// Which side opened the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionRole {
    /// Speaks first; logs in by SASL ANONYMOUS.
    Client,
    /// Listens; takes any SASL mechanism it offers, because Service Bus authorizes by tokens afterwards.
    Server,
}

/// What a peer may make us keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions and links, each, on one connection.
    pub max_links: usize,
    /// A delivery above this many bytes becomes [`Event::Oversized`](super::Event::Oversized); its bytes are dropped.
    pub max_message_bytes: usize,
    /// Bytes of unfinished deliveries on the whole connection; more closes it.
    pub max_partial_bytes: usize,
}

/// How a connection presents itself.
#[derive(Clone, Debug)]
pub struct Config {
    /// Client or server.
    pub role: ConnectionRole,
    /// Our name.
    pub container_id: String,
    /// The host that a client wants to reach.
    pub hostname: Option<String>,
    /// The largest frame we take, in bytes; at least 512.
    pub max_frame_size: u32,
    /// The highest channel number we take.
    pub channel_max: u16,
    /// We ask the peer not to be silent for longer than this, and close after twice as long.
    pub idle_timeout: Option<Duration>,
    /// How long the handshake up to the peer's open may take.
    pub handshake_timeout: Duration,
    /// Product, version and the like.
    pub properties: Map,
    /// What the peer may make us keep.
    pub limits: Limits,
}

impl Config {
    /// A client's defaults.
    pub fn client(container_id: impl Into<String>, hostname: impl Into<String>) -> Self {
        Self {
            role: ConnectionRole::Client,
            hostname: Some(hostname.into()),
            idle_timeout: Some(Duration::from_mins(1)),
            ..Self::server(container_id)
        }
    }

    /// A server's defaults. The idle time-out is what Service Bus announces; some clients ping at half of it only
    /// every 30 s, so it must not be much shorter.
    pub fn server(container_id: impl Into<String>) -> Self {
        Self {
            role: ConnectionRole::Server,
            container_id: container_id.into(),
            hostname: None,
            max_frame_size: 65_536,
            channel_max: 4_999,
            idle_timeout: Some(Duration::from_mins(4)),
            handshake_timeout: Duration::from_secs(20),
            properties: Map::default(),
            limits: Limits { max_links: 5_000, max_message_bytes: 1 << 20, max_partial_bytes: 16 << 20 },
        }
    }
}
