//! Links: attach and detach, credit, deliveries in and out (part 2, sections 2.6 and 2.7.3–2.7.7).

use bytes::{Bytes, BytesMut};

use super::{Connection, DeliveryId, Event, Gone, Incoming, LinkId, Outgoing, SendError, SessionId, Waiting};
use crate::delivery::{AmqpError, DeliveryState};
use crate::performative::{Attach, Detach, Disposition, Flow, Performative, Role, Transfer};

/// Room in a frame for its header and the transfer performative beside the tag, in bytes: at most 8 + 3 + 9 (headers)
/// + 4 × 5 (integers) + 5 + 7 (tag's length, flags and nulls), rounded up.
const TRANSFER_OVERHEAD: usize = 64;
/// The longest delivery tag (part 2, section 2.8.7), in bytes.
const MAX_TAG_BYTES: usize = 32;

/// How far a link has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkState {
    /// Ours, not answered yet.
    AttachSent,
    /// The peer's, not answered yet.
    Offered,
    Attached,
    /// The peer answered our attach with a null terminus; its detach follows.
    Refused,
    /// Our detach is out, the peer's is not here. Deliveries that still come are dropped.
    DetachSent,
}

/// A delivery whose last frame has not come yet.
pub(super) struct Partial {
    id: DeliveryId,
    tag: Bytes,
    message_format: u32,
    settled: bool,
    payload: BytesMut,
    oversized: bool,
}

pub(super) struct Link {
    pub(super) session: SessionId,
    pub(super) name: String,
    /// Ours.
    pub(super) role: Role,
    /// Our number for it.
    pub(super) handle: u32,
    /// The peer's number for it.
    pub(super) remote_handle: Option<u32>,
    pub(super) state: LinkState,
    /// The sender's count of deliveries, as far as we know it.
    pub(super) delivery_count: u32,
    /// Deliveries that may still be sent.
    pub(super) credit: u32,
    pub(super) draining: bool,
    pub(super) partial: Option<Partial>,
}

impl Link {
    fn is_live(&self) -> bool {
        matches!(self.state, LinkState::Offered | LinkState::Attached)
    }
}

impl Connection {
    /// Asks for a link on a session. [`Event::Attached`] or [`Event::Detached`] answers.
    pub fn attach(&mut self, session: SessionId, attach: Attach) -> Result<LinkId, Gone> {
        let handle = self.live_session(session)?.allocate_handle();
        let link = self.insert_link(session, &attach.name, attach.role, handle, LinkState::AttachSent);
        self.live_session(session)?.asked.push(link);
        self.write_on(session, &Performative::Attach(Box::new((handle, attach))), &[]);
        Ok(link)
    }

    /// Accepts a link that the peer asked for; start from [`Attach::reply`].
    pub fn accept(&mut self, link: LinkId, reply: Attach) -> Result<(), Gone> {
        let state = self.offered(link)?;
        state.state = LinkState::Attached;
        let (session, handle, role) = (state.session, state.handle, state.role);
        let (usable, drain) = (state.credit > 0, state.draining);
        self.write_on(session, &Performative::Attach(Box::new((handle, Attach { role, ..reply }))), &[]);
        if role == Role::Sender && (usable || drain) {
            // The peer granted credit before our answer.
            self.event(Event::Credit { link, drain });
        }
        Ok(())
    }

    /// Refuses a link that the peer asked for: an attach without source and target with the detach right behind it, so
    /// that both reach the peer in one piece (part 2, section 2.6.3; some clients look for the error only then).
    pub fn refuse(&mut self, link: LinkId, error: AmqpError) -> Result<(), Gone> {
        let state = self.offered(link)?;
        let (session, handle, role) = (state.session, state.handle, state.role);
        let reply = Attach {
            role,
            source: None,
            target: None,
            // The name has served: a peer that never answers the detach must not make us keep it.
            ..Attach::sender(std::mem::take(&mut state.name), String::new(), String::new())
        };
        state.state = LinkState::DetachSent;
        self.write_on(session, &Performative::Attach(Box::new((handle, reply))), &[]);
        self.write_on(session, &Performative::Detach(Detach { handle, closed: true, error: Some(error) }), &[]);
        Ok(())
    }

    /// Closes a link. [`Event::Detached`] follows when the peer has answered.
    pub fn detach(&mut self, link: LinkId, error: Option<AmqpError>) -> Result<(), Gone> {
        let state = self.links.get_mut(&link).ok_or(Gone)?;
        match state.state {
            LinkState::Offered => {
                let error = error.unwrap_or_else(|| AmqpError::new("amqp:not-allowed", "the link is not wanted"));
                return self.refuse(link, error);
            }
            LinkState::AttachSent | LinkState::Attached | LinkState::Refused => {}
            LinkState::DetachSent => return Err(Gone),
        }
        state.state = LinkState::DetachSent;
        let (session, handle) = (state.session, state.handle);
        self.forget_deliveries(link);
        self.write_on(session, &Performative::Detach(Detach { handle, closed: true, error }), &[]);
        Ok(())
    }

    /// On a link on which we send: how many deliveries may be sent now. 0 while the session's window is shut.
    pub fn sendable(&self, link: LinkId) -> u32 {
        self.links
            .get(&link)
            .filter(|state| state.state == LinkState::Attached && state.role == Role::Sender)
            .filter(|state| self.sessions.get(&state.session).is_some_and(super::Session::is_open_for_transfers))
            .map_or(0, |state| state.credit)
    }

    /// The link's credit: deliveries that may still be sent by the end that sends.
    pub fn credit(&self, link: LinkId) -> u32 {
        self.links.get(&link).map_or(0, |state| state.credit)
    }

    /// Sends a delivery. Frames that the session's window does not allow yet wait inside.
    pub fn send(&mut self, link: LinkId, outgoing: Outgoing) -> Result<DeliveryId, SendError> {
        let max_frame_size = self.peer.as_ref().map_or(512, |peer| peer.max_frame_size) as usize;
        let state = self
            .links
            .get_mut(&link)
            .filter(|state| state.state == LinkState::Attached && state.role == Role::Sender)
            .ok_or(SendError::Gone)?;
        if state.credit == 0 {
            return Err(SendError::NoCredit);
        }
        state.credit -= 1;
        state.delivery_count = state.delivery_count.wrapping_add(1);
        let (session_id, handle) = (state.session, state.handle);
        let Some(session) = self.sessions.get_mut(&session_id) else { return Err(SendError::Gone) };
        let id = session.next_delivery();
        if !outgoing.settled {
            session.outgoing.insert(id, link);
        }
        let Outgoing { tag, message_format, mut payload, settled } = outgoing;
        let room = max_frame_size.saturating_sub(TRANSFER_OVERHEAD + tag.len()).max(1);
        let mut first = true;
        loop {
            let part = payload.split_to(payload.len().min(room));
            let more = !payload.is_empty();
            let transfer = Transfer {
                handle,
                delivery_id: first.then_some(id.0),
                delivery_tag: first.then(|| tag.clone()),
                message_format: first.then_some(message_format),
                settled: Some(settled),
                more,
                aborted: false,
            };
            self.transfer(session_id, transfer, part);
            first = false;
            if !more {
                return Ok(id);
            }
        }
    }

    /// On a link on which we send: uses up the credit, as the peer asked by draining, and says so.
    pub fn drained(&mut self, link: LinkId) -> Result<(), Gone> {
        let state = self.links.get_mut(&link).filter(|state| state.state == LinkState::Attached).ok_or(Gone)?;
        state.delivery_count = state.delivery_count.wrapping_add(state.credit);
        state.credit = 0;
        state.draining = false;
        self.write_link_flow(link, true);
        Ok(())
    }

    /// On a link on which we receive: lets the peer send `credit` more deliveries from now on, all in all.
    pub fn set_credit(&mut self, link: LinkId, credit: u32) -> Result<(), Gone> {
        let state = self.links.get_mut(&link).filter(|state| state.state == LinkState::Attached).ok_or(Gone)?;
        state.credit = credit;
        state.draining = false;
        self.write_link_flow(link, false);
        Ok(())
    }

    /// On a link on which we receive: asks the peer to send what it has within the credit, and to give up the rest.
    /// [`Event::Drained`] follows.
    pub fn drain(&mut self, link: LinkId) -> Result<(), Gone> {
        let state = self.links.get_mut(&link).filter(|state| state.state == LinkState::Attached).ok_or(Gone)?;
        state.draining = true;
        self.write_link_flow(link, true);
        Ok(())
    }

    /// Tells the peer the state of an unsettled delivery, in either direction; with `settled` both then forget it.
    pub fn settle(&mut self, link: LinkId, id: DeliveryId, state: DeliveryState, settled: bool) -> Result<(), Gone> {
        let (session_id, role) = self.links.get(&link).map(|link| (link.session, link.role)).ok_or(Gone)?;
        let session = self.sessions.get_mut(&session_id).ok_or(Gone)?;
        let unsettled = if role == Role::Sender { &mut session.outgoing } else { &mut session.incoming };
        if unsettled.get(&id) != Some(&link) {
            return Err(Gone);
        }
        if settled {
            unsettled.remove(&id);
        }
        let disposition = Disposition { role, first: id.0, last: Some(id.0), settled, state: Some(state) };
        self.write_on(session_id, &Performative::Disposition(disposition), &[]);
        Ok(())
    }

    pub(super) fn on_attach(
        &mut self,
        session_id: SessionId,
        remote_handle: u32,
        attach: Attach,
    ) -> Result<(), AmqpError> {
        let Some(session) = self.sessions.get_mut(&session_id) else { return Ok(()) };
        if session.handles.contains_key(&remote_handle) {
            let error = AmqpError::new("amqp:session:handle-in-use", format!("handle {remote_handle} is in use"));
            self.end_now(session_id, error);
            return Ok(());
        }
        let answered = session.asked.iter().position(|id| {
            self.links.get(id).is_some_and(|link| link.name == attach.name && link.role == attach.role.opposite())
        });
        if let Some(index) = answered {
            let link = session.asked.swap_remove(index);
            session.handles.insert(remote_handle, link);
            self.on_attach_answer(link, remote_handle, attach);
            return Ok(());
        }
        // As many again may have been refused without the peer's having answered yet. More are a peer that never does.
        if self.links.len() >= self.config.limits.max_links.saturating_mul(2) {
            return Err(AmqpError::new(
                "amqp:resource-limit-exceeded",
                "too many links were refused and are not detached",
            ));
        }
        let Some(session) = self.sessions.get_mut(&session_id) else { return Ok(()) };
        let handle = session.allocate_handle();
        let link = self.insert_link(session_id, &attach.name, attach.role.opposite(), handle, LinkState::Offered);
        if let Some(session) = self.sessions.get_mut(&session_id) {
            session.handles.insert(remote_handle, link);
        }
        if let Some(state) = self.links.get_mut(&link) {
            state.remote_handle = Some(remote_handle);
            if attach.role == Role::Sender {
                state.delivery_count = attach.initial_delivery_count.unwrap_or(0);
            }
        }
        if self.links.len() > self.config.limits.max_links {
            let text = format!("a connection may have {} links", self.config.limits.max_links);
            // The link was offered a moment ago, so it can be refused.
            let _ = self.refuse(link, AmqpError::new("amqp:resource-limit-exceeded", text));
            return Ok(());
        }
        self.event(Event::Attach { link, session: session_id, attach: Box::new(attach) });
        Ok(())
    }

    fn on_attach_answer(&mut self, link: LinkId, remote_handle: u32, attach: Attach) {
        let Some(state) = self.links.get_mut(&link) else { return };
        state.remote_handle = Some(remote_handle);
        if state.state != LinkState::AttachSent {
            // We have detached it meanwhile; the answer to that follows.
            return;
        }
        let refused = match state.role {
            Role::Sender => attach.target.is_none() && !attach.coordinator,
            Role::Receiver => attach.source.is_none(),
        };
        if refused {
            state.state = LinkState::Refused;
            return;
        }
        state.state = LinkState::Attached;
        if state.role == Role::Receiver {
            state.delivery_count = attach.initial_delivery_count.unwrap_or(0);
        }
        self.event(Event::Attached { link, attach: Box::new(attach) });
    }

    pub(super) fn on_link_flow(&mut self, session_id: SessionId, handle: u32, flow: &Flow) {
        let Some(link) = self.sessions.get(&session_id).and_then(|session| session.handles.get(&handle)).copied()
        else {
            return;
        };
        let Some(state) = self.links.get_mut(&link).filter(|state| state.is_live()) else { return };
        let attached = state.state == LinkState::Attached;
        let event = match state.role {
            Role::Sender => {
                if let Some(granted) = flow.link_credit {
                    // Counted from the receiver's view of the delivery count: what is under way is not granted twice
                    // (part 2, section 2.6.7). A receiver that has not seen one yet leaves it null: it started at 0.
                    let ahead = state.delivery_count.wrapping_sub(flow.delivery_count.unwrap_or(0));
                    state.credit = if ahead < 1 << 31 { granted.saturating_sub(ahead) } else { granted };
                }
                state.draining = flow.drain;
                Some(Event::Credit { link, drain: flow.drain })
            }
            Role::Receiver => {
                if let Some(count) = flow.delivery_count {
                    let used_up = count.wrapping_sub(state.delivery_count);
                    // A sender cannot have counted less than has come; some write 0 here all the same.
                    if used_up < 1 << 31 {
                        state.credit = state.credit.saturating_sub(used_up);
                        state.delivery_count = count;
                    }
                }
                (state.draining && state.credit == 0).then(|| {
                    state.draining = false;
                    Event::Drained { link }
                })
            }
        };
        if let Some(event) = event.filter(|_| attached) {
            self.event(event);
        }
        if flow.echo && attached {
            self.write_link_flow(link, false);
        }
    }

    pub(super) fn on_transfer(
        &mut self,
        session_id: SessionId,
        transfer: &Transfer,
        payload: &[u8],
    ) -> Result<(), AmqpError> {
        self.count_incoming_transfer(session_id);
        let Some(session) = self.sessions.get_mut(&session_id) else { return Ok(()) };
        let Some(link) = session.handles.get(&transfer.handle).copied() else {
            let text = format!("transfer on handle {}, which is not attached", transfer.handle);
            self.end_now(session_id, AmqpError::new("amqp:session:unattached-handle", text));
            return Ok(());
        };
        let Some(state) = self.links.get_mut(&link) else { return Ok(()) };
        if state.state != LinkState::Attached || state.role != Role::Receiver {
            // On its way before the peer saw our detach.
            return Ok(());
        }
        if state.partial.is_none() {
            let id = transfer.delivery_id.map(DeliveryId).ok_or_else(|| {
                AmqpError::new("amqp:invalid-field", "a delivery's first transfer has no delivery-id")
            })?;
            let Some(credit) = state.credit.checked_sub(1) else {
                let error = AmqpError::new("amqp:link:transfer-limit-exceeded", "more deliveries than credit");
                // Attached, so it can be detached; the owner hears of it when the peer answers.
                let _ = self.detach(link, Some(error));
                return Ok(());
            };
            let tag = transfer.delivery_tag.clone().unwrap_or_default();
            if tag.len() > MAX_TAG_BYTES {
                let text = format!("a delivery-tag has {} bytes, {MAX_TAG_BYTES} are allowed", tag.len());
                return Err(AmqpError::new("amqp:invalid-field", text));
            }
            state.credit = credit;
            state.delivery_count = state.delivery_count.wrapping_add(1);
            state.partial = Some(Partial {
                id,
                tag,
                message_format: transfer.message_format.unwrap_or(0),
                settled: false,
                payload: BytesMut::new(),
                oversized: false,
            });
        }
        let Some(partial) = &mut state.partial else { return Ok(()) };
        partial.settled |= transfer.settled.unwrap_or(false);
        if transfer.aborted {
            self.partial_bytes -= partial.payload.len();
            state.partial = None;
            // The owner, who hears nothing of it, granted credit for a delivery and gets one.
            if !state.draining {
                state.credit = state.credit.saturating_add(1);
                self.write_link_flow(link, false);
            }
            return Ok(());
        }
        if partial.payload.len() + payload.len() > self.config.limits.max_message_bytes {
            self.partial_bytes -= partial.payload.len();
            partial.payload = BytesMut::new();
            partial.oversized = true;
        }
        if !partial.oversized {
            partial.payload.extend_from_slice(payload);
            self.partial_bytes += payload.len();
        }
        if transfer.more {
            if self.partial_bytes > self.config.limits.max_partial_bytes {
                let text = "too many bytes in deliveries that are not complete";
                return Err(AmqpError::new("amqp:resource-limit-exceeded", text));
            }
            return Ok(());
        }
        if let Some(partial) = state.partial.take() {
            self.partial_bytes -= partial.payload.len();
            self.deliver(link, session_id, partial);
        }
        Ok(())
    }

    fn deliver(&mut self, link: LinkId, session_id: SessionId, partial: Partial) {
        let Partial { id, tag, message_format, settled, payload, oversized } = partial;
        if !settled && let Some(session) = self.sessions.get_mut(&session_id) {
            session.incoming.insert(id, link);
        }
        self.event(if oversized {
            Event::Oversized { link, id, settled }
        } else {
            Event::Delivery { link, delivery: Incoming { id, tag, message_format, settled, payload: payload.freeze() } }
        });
    }

    pub(super) fn on_disposition(&mut self, session_id: SessionId, disposition: Disposition) {
        let Some(session) = self.sessions.get_mut(&session_id) else { return };
        let unsettled = match disposition.role {
            Role::Receiver => &mut session.outgoing,
            Role::Sender => &mut session.incoming,
        };
        let first = disposition.first;
        let span = disposition.last.unwrap_or(first).wrapping_sub(first);
        // A range may be as wide as the peer likes; only deliveries that we know count.
        let mut known: Vec<(DeliveryId, LinkId)> = if (span as usize) < unsettled.len() {
            (0..=span)
                .map(|offset| DeliveryId(first.wrapping_add(offset)))
                .filter_map(|id| unsettled.get(&id).map(|link| (id, *link)))
                .collect()
        } else {
            let in_range = |id: &DeliveryId| id.0.wrapping_sub(first) <= span;
            unsettled.iter().filter(|(id, _)| in_range(id)).map(|(id, link)| (*id, *link)).collect()
        };
        known.sort_by_key(|(id, _)| id.0.wrapping_sub(first));
        if disposition.settled {
            for (id, _) in &known {
                unsettled.remove(id);
            }
        }
        if !known.is_empty() {
            let (deliveries, settled) = (known.into(), disposition.settled);
            self.events.push_back(Waiting::Dispositions { deliveries, state: disposition.state, settled });
        }
    }

    pub(super) fn on_detach(&mut self, session_id: SessionId, detach: Detach) {
        let Some(session) = self.sessions.get_mut(&session_id) else { return };
        let Some(link) = session.handles.get(&detach.handle).copied() else { return };
        let Some(state) = self.links.get(&link) else { return };
        let handle = state.handle;
        match state.state {
            LinkState::DetachSent => {}
            LinkState::Offered => {
                // It gave up before we answered. Answer both: a detach needs an attach before it.
                let _ = self.refuse(link, AmqpError::new("amqp:link:detach-forced", "detached before it was attached"));
            }
            LinkState::AttachSent | LinkState::Attached | LinkState::Refused => {
                let reply = Detach { handle, closed: detach.closed, error: None };
                self.write_on(session_id, &Performative::Detach(reply), &[]);
            }
        }
        self.remove_link(link);
        self.event(Event::Detached { link, closed: detach.closed, error: detach.error });
    }

    pub(super) fn write_link_flow(&mut self, link: LinkId, drain: bool) {
        let Some(state) = self.links.get(&link) else { return };
        let Some(session) = self.sessions.get(&state.session) else { return };
        let flow = Flow {
            handle: Some(state.handle),
            delivery_count: Some(state.delivery_count),
            link_credit: Some(state.credit),
            drain,
            ..session.flow()
        };
        let session_id = state.session;
        self.write_on(session_id, &Performative::Flow(flow), &[]);
    }

    fn offered(&mut self, link: LinkId) -> Result<&mut Link, Gone> {
        self.links.get_mut(&link).filter(|state| state.state == LinkState::Offered).ok_or(Gone)
    }

    fn insert_link(&mut self, session: SessionId, name: &str, role: Role, handle: u32, state: LinkState) -> LinkId {
        let id = LinkId(self.next_link);
        self.next_link += 1;
        let link = Link {
            session,
            name: name.to_owned(),
            role,
            handle,
            remote_handle: None,
            state,
            delivery_count: 0,
            credit: 0,
            draining: false,
            partial: None,
        };
        self.links.insert(id, link);
        id
    }

    /// Forgets a link and all that belongs to it.
    pub(super) fn remove_link(&mut self, link: LinkId) {
        self.forget_deliveries(link);
        let Some(state) = self.links.remove(&link) else { return };
        if let Some(session) = self.sessions.get_mut(&state.session) {
            session.release_handle(state.handle);
            session.asked.retain(|asked| *asked != link);
            if let Some(handle) = state.remote_handle {
                session.handles.remove(&handle);
            }
        }
    }

    fn forget_deliveries(&mut self, link: LinkId) {
        let Some(state) = self.links.get_mut(&link) else { return };
        if let Some(partial) = state.partial.take() {
            self.partial_bytes -= partial.payload.len();
        }
        if let Some(session) = self.sessions.get_mut(&state.session) {
            session.outgoing.retain(|_, owner| *owner != link);
            session.incoming.retain(|_, owner| *owner != link);
            session.drop_backlog(state.handle);
        }
    }
}
