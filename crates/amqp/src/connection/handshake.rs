//! From the first byte to the peer's open: protocol headers, SASL, open (part 2, section 2.4; part 5, section 5.3).

use std::time::Instant;

use bytes::Buf as _;

use super::{Connection, ConnectionRole, Event};
use crate::delivery::AmqpError;
use crate::frame::{AMQP_HEADER, SASL_HEADER, Sasl, put_frame};
use crate::performative::{Open, Performative};
use crate::value::{Map, Symbol};

/// What a server offers, in this order: some clients take the first that they know, one insists on the first.
const MECHANISMS: [&str; 4] = ["MSSBCBS", "PLAIN", "ANONYMOUS", "EXTERNAL"];

/// The smallest limit on frame size that the standard allows a peer to have.
const MIN_MAX_FRAME_SIZE: u32 = 512;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    AwaitSaslHeader,
    /// Client only.
    AwaitMechanisms,
    /// Server only.
    AwaitInit,
    /// Client only.
    AwaitOutcome,
    AwaitAmqpHeader,
    AwaitOpen,
    Running,
    /// Our close is out, the peer's is not here.
    Closing,
    Closed,
}

impl Phase {
    pub(super) fn awaits_header(self) -> bool {
        matches!(self, Self::AwaitSaslHeader | Self::AwaitAmqpHeader)
    }

    pub(super) fn is_sasl(self) -> bool {
        matches!(self, Self::AwaitMechanisms | Self::AwaitInit | Self::AwaitOutcome)
    }

    /// A client sends its open with its AMQP header, a server answers the client's open: in both cases what is written
    /// from `Running` on follows our open.
    pub(super) fn has_sent_open(self) -> bool {
        matches!(self, Self::Running | Self::Closing | Self::Closed)
    }
}

impl Connection {
    /// Handles a protocol header; `false` while it is not whole.
    pub(super) fn step_header(&mut self) -> Result<bool, AmqpError> {
        let Some(header) = self.input.first_chunk::<8>().copied() else { return Ok(false) };
        let is_client = self.config.role == ConnectionRole::Client;
        let (expected, next) = match self.phase {
            Phase::AwaitSaslHeader if is_client => (SASL_HEADER, Phase::AwaitMechanisms),
            Phase::AwaitSaslHeader => (SASL_HEADER, Phase::AwaitInit),
            _ => (AMQP_HEADER, Phase::AwaitOpen),
        };
        if header != expected {
            if !is_client {
                // A server answers a header that it does not support with one that it does (part 2, section 2.2).
                self.output.extend_from_slice(&expected);
            }
            let text = format!("expected protocol header {expected:02x?}, got {header:02x?}");
            return Err(AmqpError::new("amqp:connection:framing-error", text));
        }
        self.input.advance(header.len());
        if !is_client {
            self.output.extend_from_slice(&expected);
            if next == Phase::AwaitInit {
                Sasl::Mechanisms(MECHANISMS.into_iter().map(Symbol::from).collect()).put(&mut self.output);
            }
        }
        self.phase = next;
        Ok(true)
    }

    pub(super) fn on_sasl(&mut self, body: &[u8]) -> Result<(), AmqpError> {
        let sasl = Sasl::decode(body).map_err(|error| super::decode_error(&error))?;
        match (self.phase, sasl) {
            (Phase::AwaitMechanisms, Sasl::Mechanisms(offered)) => {
                if !offered.iter().any(|mechanism| mechanism.as_str() == "ANONYMOUS") {
                    let text = format!("the server offers no SASL ANONYMOUS, only {offered:?}");
                    return Err(AmqpError::new("amqp:unauthorized-access", text));
                }
                Sasl::Init { mechanism: "ANONYMOUS".to_owned() }.put(&mut self.output);
                self.phase = Phase::AwaitOutcome;
            }
            (Phase::AwaitInit, Sasl::Init { mechanism }) => {
                let known = MECHANISMS.contains(&mechanism.as_str());
                Sasl::Outcome { code: u8::from(!known) }.put(&mut self.output);
                if !known {
                    let text = format!("SASL mechanism {mechanism:?} is not among {MECHANISMS:?}");
                    return Err(AmqpError::new("amqp:unauthorized-access", text));
                }
                // The AMQP header must wait for the client's: one client stops reading at the outcome until then.
                self.phase = Phase::AwaitAmqpHeader;
            }
            (Phase::AwaitOutcome, Sasl::Outcome { code: 0 }) => {
                self.output.extend_from_slice(&AMQP_HEADER);
                self.write_own_open();
                self.phase = Phase::AwaitAmqpHeader;
            }
            (Phase::AwaitOutcome, Sasl::Outcome { code }) => {
                return Err(AmqpError::new("amqp:unauthorized-access", format!("SASL failed with code {code}")));
            }
            _ => return Err(AmqpError::new("amqp:illegal-state", "a SASL frame out of order")),
        }
        Ok(())
    }

    pub(super) fn on_open(&mut self, mut open: Open, now: Instant) {
        open.max_frame_size = open.max_frame_size.max(MIN_MAX_FRAME_SIZE);
        // They come before any login, take forty times their bytes when decoded, and nobody asks for them.
        open.properties = Map::default();
        if self.config.role == ConnectionRole::Server {
            self.write_own_open();
        }
        self.phase = Phase::Running;
        self.phase_deadline = None;
        self.peer = Some(open);
        let held = std::mem::take(&mut self.held);
        self.output.extend_from_slice(&held);
        self.schedule_heartbeat(now);
        self.event(Event::Opened);
    }

    pub(super) fn write_own_open(&mut self) {
        let open = Open {
            container_id: self.config.container_id.clone(),
            hostname: self.config.hostname.clone(),
            max_frame_size: self.config.max_frame_size.max(MIN_MAX_FRAME_SIZE),
            channel_max: self.config.channel_max,
            idle_timeout_ms: self.config.idle_timeout.map(|t| u32::try_from(t.as_millis()).unwrap_or(u32::MAX)),
            properties: self.config.properties.clone(),
        };
        put_frame(&mut self.output, 0, &Performative::Open(open), &[]);
    }
}
