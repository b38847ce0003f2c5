//! One connection's protocol state, for either side.
//!
//! The owner feeds it bytes and time, takes out bytes and [`Event`]s, and calls commands. It never waits and never
//! fails: what a peer does wrong ends the connection with a close frame and [`Event::Closed`]; what a caller does with
//! a link that is gone gives [`Gone`]. Everything it keeps is bounded by [`Limits`] or by credit that the owner granted.

mod config;
mod event;
mod handshake;
mod link;
mod session;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::delivery::AmqpError;
use crate::frame::{self, FrameError, RawFrame};
use crate::performative::{Flow, Open, Performative};

pub use config::{Config, ConnectionRole, Limits};
use event::Waiting;
pub use event::{DeliveryId, Event, Gone, Incoming, LinkId, Outgoing, SendError, SessionId};
use handshake::Phase;
use link::Link;
use session::Session;

/// How long a close may take before the connection counts as closed without the peer's answer.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// One AMQP connection without its socket. See the module's documentation.
pub struct Connection {
    config: Config,
    phase: Phase,
    input: BytesMut,
    output: BytesMut,
    /// Frames of commands that were called before our open went out.
    held: BytesMut,
    events: VecDeque<Waiting>,
    peer: Option<Open>,
    sessions: HashMap<SessionId, Session>,
    /// The peer's channel numbers.
    channels: HashMap<u16, SessionId>,
    links: HashMap<LinkId, Link>,
    next_session: u32,
    free_channels: Vec<u16>,
    next_channel: u16,
    next_link: u32,
    /// Bytes held of deliveries whose last frame has not come yet.
    partial_bytes: usize,
    last_received: Instant,
    /// When to send the next heartbeat, unless something else has been sent by then.
    heartbeat_at: Option<Instant>,
    sent_since_heartbeat: bool,
    /// When the present phase has taken too long.
    phase_deadline: Option<Instant>,
}

impl Connection {
    /// A connection at its start. A client has its first bytes to send at once.
    pub fn new(config: Config, now: Instant) -> Self {
        let mut connection = Self {
            phase: Phase::AwaitSaslHeader,
            input: BytesMut::new(),
            output: BytesMut::new(),
            held: BytesMut::new(),
            events: VecDeque::new(),
            peer: None,
            sessions: HashMap::new(),
            channels: HashMap::new(),
            links: HashMap::new(),
            next_session: 0,
            free_channels: Vec::new(),
            next_channel: 0,
            next_link: 0,
            partial_bytes: 0,
            last_received: now,
            heartbeat_at: None,
            sent_since_heartbeat: false,
            phase_deadline: Some(now + config.handshake_timeout),
            config,
        };
        if connection.config.role == ConnectionRole::Client {
            connection.output.extend_from_slice(&frame::SASL_HEADER);
        }
        connection
    }

    /// Takes in what the socket gave.
    pub fn receive(&mut self, bytes: &[u8], now: Instant) {
        if self.phase == Phase::Closed {
            return;
        }
        self.last_received = now;
        self.input.extend_from_slice(bytes);
        while self.phase != Phase::Closed {
            match self.step(now) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => self.fail(error),
            }
        }
    }

    /// The next thing that happened.
    pub fn next_event(&mut self) -> Option<Event> {
        match self.events.pop_front()? {
            Waiting::Event(event) => Some(event),
            Waiting::Dispositions { mut deliveries, state, settled } => {
                let (id, link) = deliveries.pop_front()?;
                if deliveries.is_empty() {
                    return Some(Event::Disposition { link, id, state, settled });
                }
                let told = state.clone();
                self.events.push_front(Waiting::Dispositions { deliveries, state, settled });
                Some(Event::Disposition { link, id, state: told, settled })
            }
        }
    }

    /// Everything to be written to the socket now.
    pub fn take_output(&mut self) -> BytesMut {
        self.sent_since_heartbeat |= !self.output.is_empty();
        std::mem::take(&mut self.output)
    }

    /// How many bytes wait to be written.
    pub fn output_len(&self) -> usize {
        self.output.len()
    }

    /// When [`on_deadline`](Self::on_deadline) wants to be called next.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.phase == Phase::Closed {
            return None;
        }
        [self.heartbeat_at, self.phase_deadline, self.silence_ends()].into_iter().flatten().min()
    }

    /// Sends a heartbeat, or gives a silent peer up, if it is time to.
    pub fn on_deadline(&mut self, now: Instant) {
        if self.phase == Phase::Closed {
            return;
        }
        if self.phase_deadline.is_some_and(|at| now >= at) {
            if self.phase == Phase::Closing {
                return self.closed(None);
            }
            return self.fail(AmqpError::new("amqp:connection:forced", "the handshake took too long"));
        }
        if self.silence_ends().is_some_and(|at| now >= at) {
            let error = AmqpError::new("amqp:resource-limit-exceeded", "the peer was silent for too long");
            return self.fail(error);
        }
        if self.heartbeat_at.is_some_and(|at| now >= at) {
            if !self.sent_since_heartbeat {
                frame::put_heartbeat(&mut self.output);
            }
            self.schedule_heartbeat(now);
        }
    }

    /// Whether nothing more will come: write what is left, then close the socket.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// What the peer said of itself, once it has; but for its properties, which are not kept.
    pub fn peer(&self) -> Option<&Open> {
        self.peer.as_ref()
    }

    /// Starts to close. [`Event::Closed`] follows when the peer has answered, or has not within five seconds.
    pub fn close(&mut self, error: Option<AmqpError>, now: Instant) {
        match self.phase {
            Phase::Running => {
                self.write(0, &Performative::Close(error), &[]);
                self.phase = Phase::Closing;
                self.phase_deadline = Some(now + CLOSE_PATIENCE);
            }
            Phase::Closing | Phase::Closed => {}
            _ => self.closed(error),
        }
    }

    /// Handles one header or frame of the input; `false` when there is no whole one.
    fn step(&mut self, now: Instant) -> Result<bool, AmqpError> {
        if self.phase.awaits_header() {
            return self.step_header();
        }
        // Before its open a peer is a stranger: its SASL frames are small (part 5, section 5.3.1 says 512 bytes; some
        // host names make them longer).
        let limit = if self.phase.is_sasl() { 4_096 } else { self.config.max_frame_size };
        let Some(raw) = frame::next_frame(&mut self.input, limit).map_err(framing_error)? else { return Ok(false) };
        if raw.is_sasl != self.phase.is_sasl() {
            return Err(AmqpError::new("amqp:connection:framing-error", "a frame of the wrong layer"));
        }
        if raw.is_sasl {
            self.on_sasl(&raw.body)?;
        } else if !raw.body.is_empty() {
            self.on_frame(&raw, now)?;
        }
        Ok(true)
    }

    fn on_frame(&mut self, raw: &RawFrame, now: Instant) -> Result<(), AmqpError> {
        if raw.channel > self.config.channel_max {
            let text = format!("channel {} is above {}, the highest", raw.channel, self.config.channel_max);
            return Err(AmqpError::new("amqp:connection:framing-error", text));
        }
        let (performative, payload) = Performative::decode(&raw.body).map_err(|error| decode_error(&error))?;
        match (performative, &self.phase) {
            (Performative::Open(open), Phase::AwaitOpen) => self.on_open(open, now),
            (Performative::Close(error), Phase::Running | Phase::Closing) => {
                if self.phase == Phase::Running {
                    self.write(0, &Performative::Close(None), &[]);
                }
                self.closed(error);
            }
            // What the peer sent before it saw our close does not matter any more.
            (_, Phase::Closing) => {}
            (Performative::Begin(begin), Phase::Running) => self.on_begin(raw.channel, &begin)?,
            (performative, Phase::Running) => match self.channels.get(&raw.channel).copied() {
                Some(session) => self.on_session_frame(session, performative, payload)?,
                // Some clients send a detach on a session that they have just ended.
                None => tolerate_late(&performative)?,
            },
            (performative, _) => {
                return Err(AmqpError::new("amqp:illegal-state", format!("{} before open", name(&performative))));
            }
        }
        Ok(())
    }

    fn on_session_frame(
        &mut self,
        session: SessionId,
        performative: Performative,
        payload: &[u8],
    ) -> Result<(), AmqpError> {
        match performative {
            Performative::End(error) => self.on_end(session, error),
            // On its way before the peer saw why we ended the session (part 2, section 2.5.5, "discarding").
            _ if self.is_discarding(session) => {}
            Performative::Attach(attach) => self.on_attach(session, attach.0, attach.1)?,
            Performative::Flow(flow) => self.on_flow(session, &flow),
            Performative::Transfer(transfer) => self.on_transfer(session, &transfer, payload)?,
            Performative::Disposition(disposition) => self.on_disposition(session, disposition),
            Performative::Detach(detach) => self.on_detach(session, detach),
            Performative::Open(_) | Performative::Begin(_) | Performative::Close(_) => {
                return Err(AmqpError::new("amqp:illegal-state", format!("unexpected {}", name(&performative))));
            }
        }
        Ok(())
    }

    /// Appends a frame to what is to be written, or holds it back until our open has gone out.
    fn write(&mut self, channel: u16, performative: &Performative, payload: &[u8]) {
        let out = if self.phase.has_sent_open() { &mut self.output } else { &mut self.held };
        frame::put_frame(out, channel, performative, payload);
    }

    fn event(&mut self, event: Event) {
        self.events.push_back(Waiting::Event(event));
    }

    /// Ends the connection because of what the peer did: says so if the peer can understand it, and closes.
    fn fail(&mut self, error: AmqpError) {
        if self.phase == Phase::AwaitOpen && self.config.role == ConnectionRole::Server {
            // A close needs an open before it.
            self.write_own_open();
            frame::put_frame(&mut self.output, 0, &Performative::Close(Some(error.clone())), &[]);
        } else if self.phase.has_sent_open() && self.phase != Phase::Closing {
            self.write(0, &Performative::Close(Some(error.clone())), &[]);
        }
        self.closed(Some(error));
    }

    fn closed(&mut self, error: Option<AmqpError>) {
        self.phase = Phase::Closed;
        self.input = BytesMut::new();
        self.held = BytesMut::new();
        self.sessions.clear();
        self.channels.clear();
        self.links.clear();
        self.event(Event::Closed { error });
    }

    /// When the peer's silence has lasted too long. Twice what we advertise, as the standard recommends
    /// (part 2, section 2.4.5).
    fn silence_ends(&self) -> Option<Instant> {
        self.config.idle_timeout.map(|timeout| self.last_received + timeout * 2)
    }

    /// A third of the peer's limit: a frame sent right after one heartbeat was due delays the next one by a third more.
    fn schedule_heartbeat(&mut self, now: Instant) {
        self.sent_since_heartbeat = false;
        self.heartbeat_at = self
            .peer
            .as_ref()
            .and_then(|peer| peer.idle_timeout_ms)
            .filter(|ms| *ms > 0)
            .map(|ms| now + (Duration::from_millis(ms.into()) / 3).max(Duration::from_millis(1)));
    }
}

fn framing_error(error: FrameError) -> AmqpError {
    match error {
        FrameError::Decode(error) => decode_error(&error),
        other => AmqpError::new("amqp:connection:framing-error", other.to_string()),
    }
}

fn decode_error(error: &crate::DecodeError) -> AmqpError {
    AmqpError::new("amqp:decode-error", error.to_string())
}

fn tolerate_late(performative: &Performative) -> Result<(), AmqpError> {
    match performative {
        Performative::Attach(_) | Performative::Transfer(_) | Performative::Open(_) => {
            Err(AmqpError::new("amqp:illegal-state", format!("unexpected {} outside a session", name(performative))))
        }
        _ => Ok(()),
    }
}

fn name(performative: &Performative) -> &'static str {
    match performative {
        Performative::Open(_) => "open",
        Performative::Begin(_) => "begin",
        Performative::Attach(_) => "attach",
        Performative::Flow(_) => "flow",
        Performative::Transfer(_) => "transfer",
        Performative::Disposition(_) => "disposition",
        Performative::Detach(_) => "detach",
        Performative::End(_) => "end",
        Performative::Close(_) => "close",
    }
}
