//! What a broker is started with; built from the command line or, in tests, by hand.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use crate::access::SharedAccessKey;
use crate::control::ControlKey;
use crate::faults::Fault;
use crate::tls::TlsOptions;

/// What a broker is started with. `Options::default()` listens on a free port of 127.0.0.1 and has no entities.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 picks a free port.
    pub listen: Vec<SocketAddr>,
    /// Queues that exist from the start.
    pub queues: Vec<QueueOptions>,
    /// Names of topics that exist from the start.
    pub topics: Vec<String>,
    /// Subscriptions that exist from the start; their topics must be among `topics`.
    pub subscriptions: Vec<SubscriptionOptions>,
    /// Whether `ActiveMessageCount` includes messages under a lock, as the service is believed to do.
    pub active_count_includes_locked: bool,
    /// Keys that clients may sign with.
    pub keys: Vec<SharedAccessKey>,
    /// Whether JSON web tokens pass unchecked.
    pub accept_any_jwt: bool,
    /// How long to wait before a message sent is acknowledged.
    pub acknowledge_delay: Duration,
    /// Connections served at the same time, at least 1.
    pub max_connections: usize,
    /// TLS on the same addresses; without it, clients that speak TLS are sent away.
    pub tls: Option<TlsOptions>,
    /// Lets callers from other machines use the control endpoint; without it, only those on this machine may.
    pub control_key: Option<ControlKey>,
    /// Whether the control endpoint lets faults be added. [`Broker::faults`](crate::Broker::faults) always does.
    pub allow_faults: bool,
    /// Faults from the start.
    pub faults: Vec<Fault>,
    /// Credits of the whole namespace in each second; without it, nothing is throttled.
    pub credits_per_second: Option<NonZeroU32>,
}

/// A queue that exists from the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueOptions {
    /// 1 to 260 letters, digits, `.`, `-`, `_` and inner `/`.
    pub name: String,
    /// How long a message stays locked.
    pub lock_duration: Duration,
    /// Deliveries after which a message is dead-lettered, at least 1.
    pub max_delivery_count: u32,
}

impl QueueOptions {
    /// A queue with Service Bus's defaults: a lock of one minute, ten deliveries.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), lock_duration: Duration::from_mins(1), max_delivery_count: 10 }
    }
}

/// A subscription that exists from the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionOptions {
    /// The topic's name.
    pub topic: String,
    /// 1 to 50 letters, digits, `.`, `-`, `_`.
    pub name: String,
    /// How long a message stays locked.
    pub lock_duration: Duration,
    /// Deliveries after which a message is dead-lettered, at least 1.
    pub max_delivery_count: u32,
}

impl SubscriptionOptions {
    /// A subscription with Service Bus's defaults: a lock of one minute, ten deliveries.
    pub fn new(topic: impl Into<String>, name: impl Into<String>) -> Self {
        let QueueOptions { name, lock_duration, max_delivery_count } = QueueOptions::new(name);
        Self { topic: topic.into(), name, lock_duration, max_delivery_count }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
            queues: Vec::new(),
            topics: Vec::new(),
            subscriptions: Vec::new(),
            active_count_includes_locked: true,
            keys: vec![SharedAccessKey::emulator()],
            accept_any_jwt: false,
            acknowledge_delay: Duration::ZERO,
            max_connections: 1_000,
            tls: None,
            control_key: None,
            allow_faults: false,
            faults: Vec::new(),
            credits_per_second: None,
        }
    }
}
