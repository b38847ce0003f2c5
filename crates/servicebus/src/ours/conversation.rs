//! One connection's life in protocol terms: let in, links as calls need them, parting in peace.
//!
//! Pure: the owner feeds bytes and time and takes bytes; the engine underneath keeps the protocol state. What outlives a
//! connection (calls not answered, messages not handed out) belongs to the owner and is lent for each step.

use std::time::{Duration, Instant, SystemTime};

use amqp::{AmqpError, Config, Connection, DeliveryId, DeliveryState, Event, Limits, LinkId, SessionId};
use bytes::BytesMut;
use uuid::Uuid;

use super::Settings;
use super::call::{CallId, Calls, Job};
use super::claims::Claims;
use super::failure::{Failure, Peer};
use super::inbox::Inbox;
use super::managing::Managing;
use super::receiving::Receiving;
use super::sending::Sending;
use crate::FailureKind;

/// The largest message taken: the premium tier's limit.
const MAX_MESSAGE_BYTES: usize = 100 << 20;
/// How long parting may take.
const PARTING_PATIENCE: Duration = Duration::from_secs(3);

/// What outlives a connection.
#[derive(Default)]
pub(super) struct Work {
    pub(super) calls: Calls,
    pub(super) inbox: Inbox,
}

/// What the parts of a conversation act on.
pub(super) struct Context<'a> {
    pub(super) engine: &'a mut Connection,
    pub(super) session: SessionId,
    pub(super) calls: &'a mut Calls,
    pub(super) inbox: &'a mut Inbox,
    pub(super) settings: &'a Settings,
    pub(super) now: Instant,
    pub(super) wall: SystemTime,
}

impl<'a> Context<'a> {
    pub(super) fn peer(&self) -> &'a Peer {
        &self.settings.peer
    }

    /// The outcome that a disposition tells, if it is a final one. Where the peer has not settled, we do, so that both
    /// forget the delivery.
    #[expect(clippy::option_option, reason = "no final outcome, or a final one that may be left unsaid")]
    pub(super) fn outcome(
        &mut self,
        link: LinkId,
        id: DeliveryId,
        state: Option<DeliveryState>,
        settled: bool,
    ) -> Option<Option<DeliveryState>> {
        if !settled {
            match &state {
                None | Some(DeliveryState::Received { .. }) => return None,
                // The delivery is known: the event has just said so.
                Some(state) => drop(self.engine.settle(link, id, state.clone(), true)),
            }
        }
        Some(state)
    }
}

pub(super) struct Conversation {
    engine: Connection,
    session: SessionId,
    claims: Claims,
    sending: Sending,
    receiving: Receiving,
    managing: Managing,
    last_heard: Instant,
    /// When the peer must have let us in.
    let_in_by: Instant,
    /// Since when, and whether the close is out.
    parting: Option<(Instant, bool)>,
    ended: Option<Failure>,
    /// Whether messages are to be given back whose return only a close in peace confirms.
    owes: bool,
    parted_in_peace: bool,
    has_served: bool,
}

impl Conversation {
    /// The first bytes to write are ready.
    pub(super) fn start(settings: &Settings, now: Instant) -> Result<Self, amqp::Gone> {
        let mut config = Config::client(format!("servicebus-scaler-{}", Uuid::new_v4()), settings.peer.host.clone());
        config.limits = Limits {
            max_message_bytes: MAX_MESSAGE_BYTES,
            max_partial_bytes: MAX_MESSAGE_BYTES + (1 << 20),
            ..config.limits
        };
        let mut engine = Connection::new(config, now);
        let session = engine.begin();
        let claims = Claims::attach(&mut engine, session, now)?;
        Ok(Self {
            engine,
            session,
            claims,
            sending: Sending::default(),
            receiving: Receiving::default(),
            managing: Managing::new(),
            last_heard: now,
            let_in_by: now + settings.connect_timeout,
            parting: None,
            ended: None,
            owes: false,
            parted_in_peace: false,
            has_served: false,
        })
    }

    /// Takes in what the socket gave.
    pub(super) fn hear(&mut self, bytes: &[u8], now: Instant) {
        self.last_heard = now;
        self.engine.receive(bytes, now);
    }

    /// Everything to be written to the socket now.
    pub(super) fn take_output(&mut self) -> BytesMut {
        self.engine.take_output()
    }

    /// Whether the peer has let us in on this connection.
    pub(super) fn is_let_in(&self) -> bool {
        self.claims.let_in()
    }

    /// Whether a call was answered or a message came: whether it was of any use.
    pub(super) fn has_served(&self) -> bool {
        self.has_served
    }

    /// Why the conversation is over, once it is and its last bytes have been taken.
    pub(super) fn ended(&self) -> Option<&Failure> {
        self.ended.as_ref()
    }

    /// Whether everything that was not handed out was given back.
    pub(super) fn gave_all_back(&self) -> bool {
        self.parted_in_peace || !self.owes
    }

    /// Finds the link that a call goes over.
    pub(super) fn route(&mut self, id: CallId, lent: &mut Lent<'_>) {
        let mut context = lent.context(&mut self.engine, self.session);
        match context.calls.get_mut(id).map(|call| &call.job) {
            None => {}
            Some(Job::Limit(_)) => self.sending.ask_limit(id),
            Some(Job::Send { .. }) => self.sending.send(id),
            Some(Job::Renew { .. } | Job::Peek { .. }) => self.managing.ask(id),
            // Over the link that the message came on, or by its lock token alone.
            Some(Job::Settle { .. }) => {
                let settled = self.receiving.settle(&mut context, id);
                if !settled {
                    self.managing.ask(id);
                }
            }
        }
    }

    /// Starts to part: gives back, waits for what is in flight, closes.
    pub(super) fn part(&mut self, now: Instant) {
        self.parting.get_or_insert((now, false));
    }

    /// Does everything that can be done now.
    pub(super) fn step(&mut self, lent: &mut Lent<'_>) {
        self.on_time(lent);
        loop {
            while let Some(event) = self.engine.next_event() {
                self.on_event(event, lent);
            }
            if self.ended.is_some() {
                return;
            }
            lent.work.inbox.hand_out(lent.now, lent.wall);
            for token in lent.work.inbox.outdated(lent.now) {
                self.receiving.release(&mut self.engine, token);
            }
            let mut context = lent.context(&mut self.engine, self.session);
            self.claims.pump(&mut context);
            if self.claims.let_in() {
                self.sending.pump(&mut context);
                self.managing.pump(&mut context);
                if self.parting.is_none() {
                    self.receiving.pump(&mut context);
                }
            }
            self.pump_parting(lent);
            // A command may have ended a link at once.
            match self.engine.next_event() {
                Some(event) => self.on_event(event, lent),
                None => return,
            }
        }
    }

    /// When [`step`](Self::step) has something to do even if nothing happens.
    pub(super) fn next_deadline(&self, work: &Work, now: Instant) -> Option<Instant> {
        let let_in_by = (!self.claims.let_in()).then_some(self.let_in_by);
        let parting = self.parting.map(|(since, _)| since + PARTING_PATIENCE);
        let own = [let_in_by, parting, self.claims.next_deadline(now), self.receiving.next_deadline()];
        let lent = [self.engine.next_deadline(), work.calls.next_deadline(), work.inbox.next_deadline()];
        own.into_iter().chain(lent).flatten().min()
    }

    fn on_time(&mut self, lent: &mut Lent<'_>) {
        let (now, peer) = (lent.now, &lent.settings.peer);
        if self.engine.next_deadline().is_some_and(|at| at <= now) {
            self.engine.on_deadline(now);
        }
        if !self.claims.let_in() && now >= self.let_in_by {
            self.ended = Some(Failure::of_kind(FailureKind::Timeout, peer, "connecting"));
            return;
        }
        let mut oldest_expired = None;
        while let Some(call) = lent.work.calls.expired(now) {
            oldest_expired = oldest_expired.into_iter().chain([call.started]).min();
            let doing = call.job.doing();
            call.job.fail(Failure::of_kind(FailureKind::Timeout, peer, doing));
        }
        let not_asked = Failure::of_kind(FailureKind::Timeout, peer, "receiving");
        oldest_expired = oldest_expired.into_iter().chain(lent.work.inbox.end_waits(now, &not_asked)).min();
        let Some(since) = oldest_expired else { return };
        if self.last_heard < since {
            // A whole call's time without a byte: the network stalls. The next call gets a new connection.
            self.ended = Some(Failure::of_kind(FailureKind::ConnectionLost, peer, "waiting for an answer"));
            return;
        }
        self.managing.forget_ended(&mut lent.work.calls);
        self.sending.slot().drop_unanswered(&mut self.engine, since);
        self.receiving.slot().drop_unanswered(&mut self.engine, since);
        for slot in self.managing.slots() {
            slot.drop_unanswered(&mut self.engine, since);
        }
    }

    fn on_event(&mut self, event: Event, lent: &mut Lent<'_>) {
        let peer = &lent.settings.peer;
        let link = match &event {
            Event::Closed { error } | Event::Ended { error, .. } => {
                self.parted_in_peace = error.is_none() && self.parting.is_some_and(|(_, said)| said);
                let failure = Failure::ended(error.clone(), peer, "in use");
                self.ended.get_or_insert(failure);
                return;
            }
            Event::Attach { link, .. } => {
                let _ = self.engine.refuse(*link, AmqpError::new("amqp:not-allowed", "no link was asked for"));
                return;
            }
            Event::Opened => return,
            Event::Attached { link, .. }
            | Event::Credit { link, .. }
            | Event::Drained { link }
            | Event::Delivery { link, .. }
            | Event::Oversized { link, .. }
            | Event::Disposition { link, .. }
            | Event::Detached { link, .. } => *link,
        };
        self.has_served |=
            matches!(event, Event::Delivery { .. } | Event::Disposition { .. }) && !self.claims.owns(link);
        let mut context = lent.context(&mut self.engine, self.session);
        if self.claims.owns(link) {
            if let Err(failure) = self.claims.on_event(&mut context, event) {
                self.ended = Some(failure);
            }
        } else if self.sending.owns(link) {
            self.sending.on_event(&mut context, event);
        } else if self.receiving.owns(link) {
            self.receiving.on_event(&mut context, event);
        } else if self.managing.owns(link)
            && let Some(renewed) = self.managing.on_event(&mut context, event)
        {
            self.receiving.renewed(renewed, lent.now);
        }
    }

    fn pump_parting(&mut self, lent: &mut Lent<'_>) {
        let Some((since, said)) = self.parting else { return };
        let late = lent.now >= since + PARTING_PATIENCE;
        if said {
            if late {
                self.ended = Some(Failure::of_kind(FailureKind::Timeout, &lent.settings.peer, "closing"));
            }
            return;
        }
        lent.work.inbox.fail_waiters(&Failure::closed(), true);
        for token in lent.work.inbox.take_all() {
            self.receiving.release(&mut self.engine, token);
            self.owes = true;
        }
        let quiet = self.receiving.quiesce(&mut self.engine, lent.now);
        self.owes |= !quiet;
        if late || (quiet && lent.work.calls.is_empty()) {
            lent.work.calls.fail_all(&Failure::closed(), true);
            self.engine.close(None, lent.now);
            self.parting = Some((since, true));
        }
    }
}

/// What the owner lends for one step.
pub(super) struct Lent<'a> {
    pub(super) work: &'a mut Work,
    pub(super) settings: &'a Settings,
    pub(super) now: Instant,
    pub(super) wall: SystemTime,
}

impl Lent<'_> {
    fn context<'b>(&'b mut self, engine: &'b mut Connection, session: SessionId) -> Context<'b> {
        Context {
            engine,
            session,
            calls: &mut self.work.calls,
            inbox: &mut self.work.inbox,
            settings: self.settings,
            now: self.now,
            wall: self.wall,
        }
    }
}

#[cfg(test)]
mod tests;
