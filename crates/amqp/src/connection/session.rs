//! Sessions: channel and handle numbers, transfer windows, unsettled deliveries (part 2, section 2.5).

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;

use super::{Connection, DeliveryId, Event, Flow, Gone, LinkId, SessionId};
use crate::delivery::AmqpError;
use crate::performative::{Begin, Performative, Transfer};

/// Transfers that we let the peer send ahead. What really bounds the peer is link credit.
const INCOMING_WINDOW: u32 = 5_000;

pub(super) struct Session {
    /// Our channel number.
    pub(super) channel: u16,
    /// The peer's channel number, once its begin is here.
    pub(super) remote_channel: Option<u16>,
    /// Our end is out, the peer's is not here.
    ending: bool,
    /// Ended for an error: gone for the owner, and the peer's frames are passed over until its end comes.
    is_discarding: bool,
    next_incoming_id: u32,
    /// Transfers since we last told our window.
    received_since_flow: u32,
    next_outgoing_id: u32,
    /// Transfers that the peer lets us send.
    remote_window: u32,
    next_delivery: u32,
    /// Unsettled deliveries that we sent.
    pub(super) outgoing: BTreeMap<DeliveryId, LinkId>,
    /// Unsettled deliveries that we got.
    pub(super) incoming: BTreeMap<DeliveryId, LinkId>,
    /// The peer's handle numbers.
    pub(super) handles: HashMap<u32, LinkId>,
    /// Links that we asked for and the peer has not answered.
    pub(super) asked: Vec<LinkId>,
    free_handles: Vec<u32>,
    next_handle: u32,
    /// Transfers that the peer's window did not allow yet.
    backlog: VecDeque<(Transfer, Bytes)>,
}

impl Session {
    fn new(channel: u16) -> Self {
        Self {
            channel,
            remote_channel: None,
            ending: false,
            is_discarding: false,
            next_incoming_id: 0,
            received_since_flow: 0,
            next_outgoing_id: 0,
            remote_window: 0,
            next_delivery: 0,
            outgoing: BTreeMap::new(),
            incoming: BTreeMap::new(),
            handles: HashMap::new(),
            asked: Vec::new(),
            free_handles: Vec::new(),
            next_handle: 0,
            backlog: VecDeque::new(),
        }
    }

    pub(super) fn is_open_for_transfers(&self) -> bool {
        self.remote_window > 0 && self.backlog.is_empty()
    }

    pub(super) fn allocate_handle(&mut self) -> u32 {
        self.free_handles.pop().unwrap_or_else(|| {
            self.next_handle += 1;
            self.next_handle - 1
        })
    }

    pub(super) fn release_handle(&mut self, handle: u32) {
        self.free_handles.push(handle);
    }

    pub(super) fn next_delivery(&mut self) -> DeliveryId {
        let id = DeliveryId(self.next_delivery);
        self.next_delivery = self.next_delivery.wrapping_add(1);
        id
    }

    /// Drops waiting transfers of a link that has ended.
    pub(super) fn drop_backlog(&mut self, handle: u32) {
        self.backlog.retain(|(transfer, _)| transfer.handle != handle);
    }

    /// The session's part of a flow frame.
    pub(super) fn flow(&self) -> Flow {
        Flow {
            next_incoming_id: self.remote_channel.map(|_| self.next_incoming_id),
            incoming_window: INCOMING_WINDOW,
            next_outgoing_id: self.next_outgoing_id,
            outgoing_window: INCOMING_WINDOW,
            ..Flow::default()
        }
    }

    fn begin(&self) -> Begin {
        Begin {
            remote_channel: self.remote_channel,
            next_outgoing_id: self.next_outgoing_id,
            incoming_window: INCOMING_WINDOW,
            outgoing_window: INCOMING_WINDOW,
            handle_max: u32::MAX,
        }
    }

    fn take_sendable(&mut self) -> Option<(Transfer, Bytes)> {
        if self.remote_window == 0 {
            return None;
        }
        let front = self.backlog.pop_front()?;
        self.remote_window -= 1;
        self.next_outgoing_id = self.next_outgoing_id.wrapping_add(1);
        Some(front)
    }
}

impl Connection {
    /// Starts a session. Links can be asked for at once.
    pub fn begin(&mut self) -> SessionId {
        let session = Session::new(self.free_channel());
        let begin = Performative::Begin(session.begin());
        let channel = session.channel;
        let id = self.insert_session(session);
        self.write(channel, &begin, &[]);
        id
    }

    /// Ends a session and all its links. [`Event::Ended`] follows when the peer has answered.
    pub fn end(&mut self, session: SessionId, error: Option<AmqpError>) -> Result<(), Gone> {
        self.live_session(session)?;
        self.write_end(session, error);
        Ok(())
    }

    pub(super) fn live_session(&mut self, session: SessionId) -> Result<&mut Session, Gone> {
        self.sessions.get_mut(&session).filter(|session| !session.ending).ok_or(Gone)
    }

    /// Writes a frame on a session, unless our end is out: nothing may follow that.
    pub(super) fn write_on(&mut self, session: SessionId, performative: &Performative, payload: &[u8]) {
        if let Some(channel) = self.sessions.get(&session).filter(|session| !session.ending).map(|it| it.channel) {
            self.write(channel, performative, payload);
        }
    }

    fn write_end(&mut self, session: SessionId, error: Option<AmqpError>) {
        self.write_on(session, &Performative::End(error), &[]);
        if let Some(session) = self.sessions.get_mut(&session) {
            session.ending = true;
        }
    }

    pub(super) fn is_discarding(&self, session: SessionId) -> bool {
        self.sessions.get(&session).is_some_and(|session| session.is_discarding)
    }

    /// Sends a transfer, or keeps it until the peer's window opens.
    pub(super) fn transfer(&mut self, session_id: SessionId, transfer: Transfer, payload: Bytes) {
        if let Some(session) = self.sessions.get_mut(&session_id) {
            session.backlog.push_back((transfer, payload));
        }
        self.flush_backlog(session_id);
    }

    pub(super) fn on_begin(&mut self, remote_channel: u16, begin: &Begin) -> Result<(), AmqpError> {
        if self.channels.contains_key(&remote_channel) {
            let text = format!("channel {remote_channel} has a session already");
            return Err(AmqpError::new("amqp:illegal-state", text));
        }
        let answered = begin.remote_channel.and_then(|channel| {
            let ours =
                |(_, session): &(&SessionId, &Session)| session.channel == channel && session.remote_channel.is_none();
            self.sessions.iter().find(ours).map(|(id, _)| *id)
        });
        let id = match (answered, begin.remote_channel) {
            (Some(id), _) => id,
            (None, Some(channel)) => {
                let text = format!("begin answers channel {channel}, which asked for none");
                return Err(AmqpError::new("amqp:illegal-state", text));
            }
            (None, None) => {
                if self.sessions.len() >= self.config.limits.max_links.min(usize::from(self.config.channel_max) + 1) {
                    return Err(AmqpError::new("amqp:resource-limit-exceeded", "too many sessions"));
                }
                let channel = self.free_channel();
                self.insert_session(Session::new(channel))
            }
        };
        self.channels.insert(remote_channel, id);
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        session.remote_channel = Some(remote_channel);
        session.next_incoming_id = begin.next_outgoing_id;
        session.remote_window = begin.incoming_window;
        if answered.is_none() {
            let reply = Performative::Begin(session.begin());
            self.write_on(id, &reply, &[]);
        }
        Ok(())
    }

    pub(super) fn on_flow(&mut self, session_id: SessionId, flow: &Flow) {
        let Some(session) = self.sessions.get_mut(&session_id) else { return };
        let was_open = session.is_open_for_transfers();
        // Part 2, section 2.5.6: before its begin was answered the peer counts from our initial id, which is 0.
        let window = flow
            .next_incoming_id
            .unwrap_or(0)
            .wrapping_add(flow.incoming_window)
            .wrapping_sub(session.next_outgoing_id);
        session.remote_window = if window < 1 << 31 { window } else { 0 };
        self.flush_backlog(session_id);
        match flow.handle {
            Some(handle) => self.on_link_flow(session_id, handle, flow),
            None if flow.echo => self.write_session_flow(session_id),
            None => {}
        }
        let is_open = self.sessions.get(&session_id).is_some_and(Session::is_open_for_transfers);
        if is_open && !was_open {
            self.announce_credit(session_id);
        }
    }

    /// Counts a transfer that came, and tells our window anew when half of it is used.
    pub(super) fn count_incoming_transfer(&mut self, session_id: SessionId) {
        let Some(session) = self.sessions.get_mut(&session_id) else { return };
        session.next_incoming_id = session.next_incoming_id.wrapping_add(1);
        session.received_since_flow += 1;
        if session.received_since_flow >= INCOMING_WINDOW / 2 {
            self.write_session_flow(session_id);
        }
    }

    pub(super) fn on_end(&mut self, session_id: SessionId, error: Option<AmqpError>) {
        let is_known = self.is_discarding(session_id);
        self.write_end(session_id, None);
        if !is_known {
            self.announce_end(session_id, error);
        }
        if let Some(session) = self.sessions.remove(&session_id) {
            self.free_channels.push(session.channel);
            if let Some(channel) = session.remote_channel {
                self.channels.remove(&channel);
            }
        }
    }

    /// Ends a session because the peer broke its rules. Its channels stay taken until the peer has answered.
    pub(super) fn end_now(&mut self, session_id: SessionId, error: AmqpError) {
        self.write_end(session_id, Some(error.clone()));
        if let Some(session) = self.sessions.get_mut(&session_id) {
            session.is_discarding = true;
        }
        self.announce_end(session_id, Some(error));
    }

    /// Forgets the links of a session and tells the owner that it has ended.
    fn announce_end(&mut self, session_id: SessionId, error: Option<AmqpError>) {
        let mut links: Vec<LinkId> =
            self.links.iter().filter(|(_, link)| link.session == session_id).map(|(id, _)| *id).collect();
        links.sort_unstable();
        for link in links {
            self.remove_link(link);
            self.event(Event::Detached { link, closed: false, error: error.clone() });
        }
        self.event(Event::Ended { session: session_id, error });
    }

    fn flush_backlog(&mut self, session_id: SessionId) {
        while let Some((transfer, payload)) = self.sessions.get_mut(&session_id).and_then(Session::take_sendable) {
            self.write_on(session_id, &Performative::Transfer(transfer), &payload);
        }
    }

    fn write_session_flow(&mut self, session_id: SessionId) {
        let Some(session) = self.sessions.get_mut(&session_id) else { return };
        session.received_since_flow = 0;
        let flow = session.flow();
        self.write_on(session_id, &Performative::Flow(flow), &[]);
    }

    /// Says of every link of a session that was shut and has credit that it can send again.
    fn announce_credit(&mut self, session_id: SessionId) {
        let mut links: Vec<LinkId> =
            self.links.iter().filter(|(_, link)| link.session == session_id).map(|(id, _)| *id).collect();
        links.sort_unstable();
        for link in links {
            if self.sendable(link) > 0 {
                let drain = self.links.get(&link).is_some_and(|state| state.draining);
                self.event(Event::Credit { link, drain });
            }
        }
    }

    fn insert_session(&mut self, session: Session) -> SessionId {
        let id = SessionId(self.next_session);
        self.next_session += 1;
        self.sessions.insert(id, session);
        id
    }

    /// A channel number that no session uses. There are fewer sessions than numbers.
    fn free_channel(&mut self) -> u16 {
        self.free_channels.pop().unwrap_or_else(|| {
            self.next_channel = self.next_channel.wrapping_add(1);
            self.next_channel.wrapping_sub(1)
        })
    }
}
