//! One AMQP connection: its socket, its protocol engine, its links.
//!
//! A peer is one task. It owns the [`amqp::Connection`] and turns the engine's events into events of the state, the
//! hub's pushes into deliveries. Back-pressure: while much is waiting to be written it neither reads, nor handles
//! events, nor takes deliveries, and it grants the state only the credit that it is about to use, so that messages are
//! locked when they can be delivered and not before. Locks outlive the connection; only what was never written to it is
//! given back when it ends.

mod admission;
mod attaching;
mod management;
mod permits;
mod receiving;
pub(crate) mod refusals;
mod requests;
mod sending;

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use amqp::{AmqpError, Connection, DeliveryId, DeliveryState, Event, Limits, LinkId, SessionId};
use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use crate::access::{Access, Right};
use crate::budget::Budget;
use crate::content::MAX_MESSAGE_BYTES;
use crate::counters::Counters;
use crate::faults::{self, Detach, Faults, Plane};
use crate::hub::{Hub, PeerId, Push};
use crate::state::{EntityName, ReceiverId};
use admission::{Late, LateAnswer};
use permits::Permits;
use receiving::Receiving;
use requests::{Replies, RequestNode};

/// The longest link name and address, in bytes. Azure's SDKs stay below 1,000.
const MAX_NAME_BYTES: usize = 2_048;
/// With this many bytes waiting to be written, nothing more is read or produced.
const HIGH_WATER: usize = 512 * 1024;
const READ_BYTES: usize = 16 * 1024;
/// How long the last bytes may take to leave when the connection has ended, and how long a client may take to answer
/// when the broker shuts down.
const LINGER: Duration = Duration::from_secs(1);
/// Links on one connection, as on the service.
const MAX_LINKS: usize = 2_500;
/// Bytes of unfinished deliveries on one connection: sixteen of the largest at the same time.
const MAX_PARTIAL_BYTES: usize = 16 * MAX_MESSAGE_BYTES as usize;
/// Deliveries a client may send on a link before it gets new credit; renewed when half is used.
const SENDER_CREDIT: u32 = 500;

/// What all connections share.
#[derive(Debug)]
pub(crate) struct PeerSettings {
    pub(crate) access: Arc<Access>,
    /// How long to wait before a message sent is acknowledged.
    pub(crate) acknowledge_delay: Duration,
    pub(crate) counters: Arc<Counters>,
    pub(crate) faults: Faults,
    pub(crate) budget: Arc<Budget>,
}

/// Speaks AMQP over one socket until either side ends it. `cut` is cancelled when the connection is to be reset.
pub(crate) async fn serve(
    mut read: impl AsyncRead + Unpin,
    mut write: impl AsyncWrite + Unpin,
    hub: Arc<Hub>,
    settings: Arc<PeerSettings>,
    cut: CancellationToken,
    stop: CancellationToken,
) {
    let mut peer = Peer::new(hub, settings, cut);
    let mut input = BytesMut::new();
    let mut is_stopping = false;
    // TLS takes bytes that the socket has no room for yet; they leave when it is flushed, and not before.
    let mut is_flushed = true;
    let mut linger: Option<Instant> = None;
    loop {
        peer.work();
        let is_closed = peer.engine.is_closed();
        if is_closed {
            linger.get_or_insert_with(|| Instant::now() + LINGER);
        }
        let is_written = peer.output.is_empty();
        if (is_closed && is_written && is_flushed) || linger.is_some_and(|until| Instant::now() >= until) {
            break;
        }
        input.reserve(READ_BYTES);
        let may_work = peer.backlog() < HIGH_WATER;
        let wake = [linger, peer.next_wake()].into_iter().flatten().min();
        tokio::select! {
            result = read.read_buf(&mut input), if may_work && !is_closed => match result {
                Ok(0) => break,
                Ok(_) => {
                    faults::let_pass(Plane::Amqp, &peer.settings.faults, &stop).await;
                    peer.engine.receive(&input, Instant::now());
                    input.clear();
                }
                Err(error) => {
                    log_broken(&error);
                    break;
                }
            },
            result = write_or_flush(&mut write, &mut peer.output), if !(is_written && is_flushed) => match result {
                Ok(()) => is_flushed = is_written,
                Err(error) => {
                    log_broken(&error);
                    break;
                }
            },
            Some(push) = peer.pushes.recv(), if may_work => peer.inbox.push_back(push),
            Ok(detach) = peer.detaches.recv() => peer.on_detach(&detach),
            () = sleep_until(wake) => {}
            () = stop.cancelled(), if !is_stopping => {
                is_stopping = true;
                linger = Some(Instant::now() + LINGER);
                let error = AmqpError::new("amqp:connection:forced", "the broker is shutting down");
                peer.engine.close(Some(error), Instant::now());
            }
        }
    }
    // A peer that does not read its last bytes does not matter any more.
    let _ = tokio::time::timeout(LINGER, write.shutdown()).await;
}

/// Writes some of what there is to write; flushes when that is nothing.
async fn write_or_flush(write: &mut (impl AsyncWrite + Unpin), output: &mut BytesMut) -> io::Result<()> {
    if output.is_empty() { write.flush().await } else { write.write_buf(output).await.map(|_| ()) }
}

fn log_broken(error: &io::Error) {
    tracing::debug!(%error, "the connection broke");
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// A connection and everything on it.
struct Peer {
    engine: Connection,
    hub: Arc<Hub>,
    settings: Arc<PeerSettings>,
    id: PeerId,
    links: HashMap<LinkId, Link>,
    receivers: HashMap<ReceiverId, LinkId>,
    permits: Permits,
    /// Answers that wait for their time, earliest first.
    late: VecDeque<Late>,
    detaches: broadcast::Receiver<Detach>,
    /// Cancelled to reset the connection.
    cut: CancellationToken,
    /// Links whose credit may have to be told to the state anew.
    stale_credit: HashSet<LinkId>,
    /// For the hub, to send to `pushes`.
    push_sender: mpsc::UnboundedSender<Push>,
    pushes: mpsc::UnboundedReceiver<Push>,
    /// Pushes taken out of the channel and not handled yet; older than those in it.
    inbox: VecDeque<Push>,
    /// What the engine wrote and the socket has not taken yet.
    output: BytesMut,
    /// Makes delivery tags of replies unique.
    next_tag: u64,
}

struct Link {
    session: SessionId,
    name: String,
    /// What a token must cover for this link to live; `None` for the token node itself.
    scope: Option<String>,
    kind: LinkKind,
}

enum LinkKind {
    /// The client sends messages.
    Sending(EntityName),
    /// The client receives messages.
    Receiving(Receiving),
    /// The client sends requests to a node.
    Requests(RequestNode),
    /// The client receives a node's replies.
    Replies(Replies),
}

impl LinkKind {
    /// The right that the link needs; `None` where any will do, because requests need different ones.
    fn right(&self) -> Option<Right> {
        match self {
            Self::Sending(_) => Some(Right::Send),
            Self::Receiving(_) => Some(Right::Listen),
            Self::Requests(_) | Self::Replies(_) => None,
        }
    }
}

impl Peer {
    fn new(hub: Arc<Hub>, settings: Arc<PeerSettings>, cut: CancellationToken) -> Self {
        let mut config = amqp::Config::server("broker");
        config.limits = Limits {
            max_links: MAX_LINKS,
            max_message_bytes: MAX_MESSAGE_BYTES as usize,
            max_partial_bytes: MAX_PARTIAL_BYTES,
        };
        let (push_sender, pushes) = mpsc::unbounded_channel();
        let id = hub.join(push_sender.clone());
        let detaches = settings.faults.detaches();
        Self {
            engine: Connection::new(config, Instant::now()),
            hub,
            settings,
            id,
            links: HashMap::new(),
            receivers: HashMap::new(),
            permits: Permits::default(),
            late: VecDeque::new(),
            detaches,
            cut,
            stale_credit: HashSet::new(),
            push_sender,
            pushes,
            inbox: VecDeque::new(),
            output: BytesMut::new(),
            next_tag: 0,
        }
    }

    /// Bytes waiting to be written.
    fn backlog(&self) -> usize {
        self.output.len() + self.engine.output_len()
    }

    /// Does everything that can be done now. Returns with all bytes to write in `output`.
    fn work(&mut self) {
        let now = Instant::now();
        if self.engine.next_deadline().is_some_and(|at| at <= now) {
            self.engine.on_deadline(now);
        }
        self.answer_due(now);
        self.end_links_without_permit();
        while self.backlog() < HIGH_WATER {
            if let Some(event) = self.engine.next_event() {
                self.on_event(event);
            } else if let Some(push) = self.next_push() {
                self.on_push(push);
            } else {
                break;
            }
        }
        if self.backlog() < HIGH_WATER {
            for link in std::mem::take(&mut self.stale_credit) {
                self.grant(link);
            }
        }
        let fresh = self.engine.take_output();
        if self.output.is_empty() {
            self.output = fresh;
        } else {
            self.output.extend_from_slice(&fresh);
        }
    }

    /// When there is something to do even if nothing comes.
    fn next_wake(&self) -> Option<Instant> {
        let answer = self.late.front().map(|next| next.due);
        // Token expiry is wall-clock time; a millisecond more, so that it has passed when we wake.
        let expiry = self.permits.next_expiry().map(|at| {
            let left = at.duration_since(SystemTime::now()).unwrap_or_default();
            Instant::now() + left.min(Duration::from_hours(1)) + Duration::from_millis(1)
        });
        [self.engine.next_deadline(), answer, expiry].into_iter().flatten().min()
    }

    fn next_push(&mut self) -> Option<Push> {
        self.inbox.pop_front().or_else(|| self.pushes.try_recv().ok())
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Opened => {
                let container = self.engine.peer().map(|open| open.container_id.clone()).unwrap_or_default();
                tracing::debug!(container, "AMQP connection opened");
            }
            Event::Attach { link, session, attach } => self.on_attach(link, session, &attach),
            Event::Credit { link, drain } => self.on_credit(link, drain),
            Event::Delivery { link, delivery } => match self.links.get(&link).map(|link| &link.kind) {
                Some(LinkKind::Sending(_)) => self.on_message(link, delivery),
                Some(LinkKind::Requests(_)) => self.on_request(link, &delivery),
                _ => {}
            },
            Event::Oversized { link, id, settled } => self.on_oversized(link, id, settled),
            Event::Disposition { link, id, state, settled } => self.on_disposition(link, id, state, settled),
            Event::Detached { link, .. } => self.forget_link(link),
            // Sessions need nothing of their own here; we ask for no links and drain none.
            Event::Ended { .. } | Event::Attached { .. } | Event::Drained { .. } => {}
            Event::Closed { error: Some(error) } => tracing::debug!(%error, "AMQP connection closed"),
            Event::Closed { error: None } => tracing::debug!("AMQP connection closed"),
        }
    }

    fn on_push(&mut self, push: Push) {
        match push {
            Push::Deliver { receiver, delivery } => self.on_delivery(receiver, delivery),
            Push::Drained { receiver } => self.on_drained(receiver),
            Push::Detach { receiver, reason } => {
                if let Some(link) = self.receivers.get(&receiver).copied() {
                    self.end_link(link, refusals::error(&reason, &self.host()));
                }
            }
            Push::Deleted { name } => {
                let belongs = |link: &Link| match &link.kind {
                    LinkKind::Sending(queue) => *queue == name,
                    LinkKind::Requests(RequestNode::Management(address)) => address.queue == name,
                    LinkKind::Replies(replies) => replies.node.queue() == Some(&name),
                    _ => false,
                };
                let links: Vec<LinkId> =
                    self.links.iter().filter(|(_, link)| belongs(link)).map(|(id, _)| *id).collect();
                for link in links {
                    self.end_link(link, refusals::not_found(&self.host(), name.as_str()));
                }
            }
        }
    }

    /// Detaches the links whose token has run out.
    fn end_links_without_permit(&mut self) {
        let now = SystemTime::now();
        if !self.permits.expire(now) {
            return;
        }
        let uncovered =
            |link: &Link| link.scope.as_ref().is_some_and(|scope| !self.permits.allow(scope, link.kind.right(), now));
        let links: Vec<LinkId> = self.links.iter().filter(|(_, link)| uncovered(link)).map(|(id, _)| *id).collect();
        for link in links {
            let text = refusals::tracked("ExpiredToken: the token of this link has expired.");
            self.end_link(link, AmqpError::new("amqp:unauthorized-access", text));
        }
    }

    /// Closes a link from our side.
    fn end_link(&mut self, link: LinkId, error: AmqpError) {
        tracing::debug!(%error, "link closed by the broker");
        self.forget_link(link);
        let _ = self.engine.detach(link, Some(error));
    }

    /// Drops what is kept for a link that is gone; harmless for one that is not known.
    fn forget_link(&mut self, link: LinkId) {
        self.stale_credit.remove(&link);
        self.late.retain(|late| late.link != link);
        let Some(Link { kind: LinkKind::Receiving(receiving), .. }) = self.links.remove(&link) else { return };
        self.receivers.remove(&receiving.id);
        self.hub.unsubscribe(receiving.id);
        // From here on the hub sends nothing more for this receiver; what it has sent is in the channel.
        while let Ok(push) = self.pushes.try_recv() {
            self.inbox.push_back(push);
        }
        let mut undelivered: Vec<_> = receiving.pending.into();
        for push in std::mem::take(&mut self.inbox) {
            match push {
                Push::Deliver { receiver, delivery } if receiver == receiving.id => undelivered.push(delivery),
                Push::Drained { receiver } | Push::Detach { receiver, .. } if receiver == receiving.id => {}
                other => self.inbox.push_back(other),
            }
        }
        for delivery in &undelivered {
            self.hub.release(&receiving.address, delivery);
        }
    }

    /// Tells the client the outcome of what it sent, after this latency or the configured delay.
    fn acknowledge(&mut self, link: LinkId, delivery: DeliveryId, state: DeliveryState, latency: Duration) {
        let latency = latency.max(self.settings.acknowledge_delay);
        self.answer_after(latency, link, LateAnswer::Outcome(delivery, state));
    }

    /// Grants new credit on a link on which the client sends, once half of it is used.
    fn replenish(&mut self, link: LinkId) {
        if self.engine.credit(link) <= SENDER_CREDIT / 2 {
            let _ = self.engine.set_credit(link, SENDER_CREDIT);
        }
    }

    /// The host name the client asked for, for texts that name an entity.
    fn host(&self) -> String {
        self.engine.peer().and_then(|open| open.hostname.clone()).unwrap_or_else(|| "localhost".to_owned())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.hub.leave(self.id);
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for link in links {
            self.forget_link(link);
        }
    }
}

#[cfg(test)]
mod tests;
