//! What goes in and out of a [`Connection`](super::Connection) beside bytes.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::delivery::{AmqpError, DeliveryState};
use crate::performative::Attach;

/// Names a session of one connection. Never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub(super) u32);

/// Names a link of one connection. Never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub(super) u32);

/// Names a delivery of one link while it is unsettled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryId(pub(super) u32);

/// The session, link or delivery has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session, link or delivery has ended")]
pub struct Gone;

/// A delivery could not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The link has ended or is not attached yet.
    #[error("the link has ended or is not attached yet")]
    Gone,
    /// The receiver has not granted credit for it.
    #[error("the receiver has granted no credit")]
    NoCredit,
}

/// A delivery to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// At most 32 bytes; unique among the link's unsettled deliveries.
    pub tag: Bytes,
    /// 0 for a plain message.
    pub message_format: u32,
    /// The encoded message.
    pub payload: Bytes,
    /// Whether no outcome is wanted.
    pub settled: bool,
}

/// A delivery that came, all its frames joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// For settling it.
    pub id: DeliveryId,
    /// The sender's name for it.
    pub tag: Bytes,
    /// 0 for a plain message.
    pub message_format: u32,
    /// Whether the sender wants no outcome.
    pub settled: bool,
    /// The encoded message.
    pub payload: Bytes,
}

/// What happened on a connection.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The peer's open has come; [`peer`](super::Connection::peer) has it.
    Opened,
    /// The peer wants a link: accept or refuse it, now or later.
    Attach {
        /// The new link.
        link: LinkId,
        /// Its session.
        session: SessionId,
        /// What the peer asked for.
        attach: Box<Attach>,
    },
    /// Our attach was accepted. (A refusal comes as [`Event::Detached`].)
    Attached {
        /// The link.
        link: LinkId,
        /// What the peer agreed to.
        attach: Box<Attach>,
    },
    /// On a link on which we send, more may be sendable now, or the peer asks to use up the credit.
    Credit {
        /// The link.
        link: LinkId,
        /// Send what there is, then call [`drained`](super::Connection::drained).
        drain: bool,
    },
    /// Our drain was answered: no delivery is under way on the link.
    Drained {
        /// The link.
        link: LinkId,
    },
    /// A delivery has come.
    Delivery {
        /// The link.
        link: LinkId,
        /// The delivery.
        delivery: Incoming,
    },
    /// A delivery above the limit has come and was dropped; unless it was sent settled, reject it.
    Oversized {
        /// The link.
        link: LinkId,
        /// For settling it.
        id: DeliveryId,
        /// Whether the sender wants no outcome.
        settled: bool,
    },
    /// The peer told the state of a delivery that we have not settled. Ranges come as one event a delivery.
    Disposition {
        /// The link.
        link: LinkId,
        /// The delivery.
        id: DeliveryId,
        /// Its state at the peer.
        state: Option<DeliveryState>,
        /// Whether the peer has settled, and so forgotten, it; then we have too.
        settled: bool,
    },
    /// A link has ended: by the peer, by us, or with its session.
    Detached {
        /// The link, which is gone.
        link: LinkId,
        /// Whether the peer closed it for good, rather than parting for a while.
        closed: bool,
        /// Why.
        error: Option<AmqpError>,
    },
    /// A session has ended; its links had their [`Event::Detached`] before.
    Ended {
        /// The session, which is gone.
        session: SessionId,
        /// Why.
        error: Option<AmqpError>,
    },
    /// The connection has ended, and with it everything on it. The last event.
    Closed {
        /// Why, if not in peace.
        error: Option<AmqpError>,
    },
}

/// What has happened and has not been taken yet.
pub(super) enum Waiting {
    Event(Event),
    /// Becomes an [`Event::Disposition`] for each delivery as it is taken: one small frame may speak of thousands, and
    /// its state be large.
    Dispositions {
        /// At least one.
        deliveries: VecDeque<(DeliveryId, LinkId)>,
        state: Option<DeliveryState>,
        settled: bool,
    },
}
