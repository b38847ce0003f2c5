//! What faults and the budget make of an operation before it is done, and answers that come late because of it.
//!
//! Refused operations are answered as the service answers when it throttles. Silence is what it sounds like: the
//! operation is not done and the client hears nothing of it.

use std::time::{Duration, Instant, SystemTime};

use amqp::{AmqpError, Body, DeliveryId, DeliveryState, LinkId, Message, Value};
use bytes::Bytes;

use super::requests::{Reply, RequestNode};
use super::{Peer, management, refusals};
use crate::address::{covers, scope_of};
use crate::counters::{Operation, Outcome};
use crate::faults::{Asked, Denial, Detach, Plane};

const UNAUTHORIZED: &str = "amqp:unauthorized-access";

/// What is left of an operation.
pub(super) struct Admission {
    /// How much later its answer goes out.
    pub(super) latency: Duration,
    /// Why it is not done.
    pub(super) refusal: Option<Denied>,
}

/// Why an operation is not done.
pub(super) enum Denied {
    /// `com.microsoft:server-busy`.
    Busy(AmqpError),
    /// The token does not suffice, or is taken for one with a wrong key.
    Unauthorized(AmqpError),
    /// No answer at all.
    Silence,
}

/// An answer that goes out later.
pub(super) struct Late {
    pub(super) due: Instant,
    pub(super) link: LinkId,
    pub(super) answer: LateAnswer,
}

pub(super) enum LateAnswer {
    /// Of what the client sent.
    Outcome(DeliveryId, DeliveryState),
    /// To a request.
    Reply(Bytes),
}

impl Peer {
    /// Asks the faults about an operation on an entity (in any spelling).
    pub(super) fn admit(&self, operation: Option<Operation>, entity: &str, is_token_checked: bool) -> Admission {
        let asked = Asked { plane: Plane::Amqp, operation, entity: Some(entity), is_token_checked };
        let verdict = self.settings.faults.judge(&asked);
        let refusal = verdict.denial.map(|denial| match denial {
            Denial::Throttle { retry_after_seconds } => Denied::Busy(busy(50_009, retry_after_seconds)),
            Denial::Busy { sub_code } => Denied::Busy(busy(sub_code, refusals::BUSY_SECONDS)),
            Denial::WrongKey => {
                let text = refusals::tracked("InvalidSignature: The token has an invalid signature.");
                Denied::Unauthorized(AmqpError::new(UNAUTHORIZED, text))
            }
            Denial::Reset => {
                self.cut.cancel();
                Denied::Silence
            }
            // A status is HTTP's alone and does not come here.
            Denial::Stall(_) | Denial::Status { .. } => Denied::Silence,
        });
        Admission { latency: verdict.latency, refusal }
    }

    /// The same about a request to a node, and takes what it costs at least out of the budget.
    pub(super) fn admit_request(&self, node: &RequestNode, request: &Message) -> Admission {
        let text = |key: &str| request.application_properties.get(key).and_then(Value::as_str).unwrap_or_default();
        let RequestNode::Management(address) = node else { return self.admit(None, text("name"), true) };
        let operation = Operation::of_management(text("operation"));
        let entity = address.to_string();
        let mut admission = self.admit(operation, &entity, false);
        let right = management::right(text("operation"));
        if admission.refusal.is_none() && !self.permits.allow(&scope_of(&entity), Some(right), SystemTime::now()) {
            let error = refusals::right_missing(right, &self.host(), &entity);
            admission.refusal = Some(Denied::Unauthorized(error));
        }
        if admission.refusal.is_none() && operation.is_some() {
            admission.refusal = self.spend(1).err().map(Denied::Busy);
        }
        admission
    }

    /// Counts a request to a node, whatever became of it, and charges what it cost more than was taken before. Those to
    /// `$cbs` cost nothing.
    pub(super) fn settle_account(&self, node: &RequestNode, request: &Message, outcome: Outcome, messages: u64) {
        if matches!(node, RequestNode::Management(_)) {
            self.settings.counters.count_management(request, outcome, messages);
            self.settings.budget.charge(messages.saturating_sub(1), Instant::now());
        }
    }

    /// Takes the credits for so many messages out of the namespace's budget.
    pub(super) fn spend(&self, messages: u64) -> Result<(), AmqpError> {
        let taken = self.settings.budget.take(messages.max(1), Instant::now());
        taken.map_err(|_| busy(50_009, refusals::BUSY_SECONDS))
    }

    /// Sends an answer now or later.
    pub(super) fn answer_after(&mut self, latency: Duration, link: LinkId, answer: LateAnswer) {
        if latency.is_zero() {
            return self.send_answer(link, answer);
        }
        let due = Instant::now() + latency;
        let place = self.late.partition_point(|late| late.due <= due);
        self.late.insert(place, Late { due, link, answer });
    }

    /// Sends the late answers whose time has come.
    pub(super) fn answer_due(&mut self, now: Instant) {
        while let Some(late) = self.late.pop_front_if(|late| late.due <= now) {
            self.send_answer(late.link, late.answer);
        }
    }

    fn send_answer(&mut self, link: LinkId, answer: LateAnswer) {
        match answer {
            LateAnswer::Outcome(delivery, state) => {
                let _ = self.engine.settle(link, delivery, state, true);
            }
            LateAnswer::Reply(reply) => self.queue_reply(link, reply),
        }
    }

    /// A fault detaches the links of an entity, or all.
    pub(super) fn on_detach(&mut self, detach: &Detach) {
        let is_meant = |scope: &str| detach.entity.as_ref().is_none_or(|entity| covers(entity, scope));
        let meant = self.links.iter().filter(|(_, link)| link.scope.as_deref().is_some_and(is_meant));
        let meant: Vec<LinkId> = meant.map(|(id, _)| *id).collect();
        for link in meant {
            let text = refusals::tracked("The link was detached by a fault on demand.");
            self.end_link(link, AmqpError::new(&detach.condition, text));
        }
    }
}

impl Denied {
    /// The reply to a request that is not done; `None` for silence.
    pub(super) fn reply(self) -> Option<Reply> {
        let (status, condition, error) = match self {
            Self::Busy(error) => (503, refusals::SERVER_BUSY, error),
            Self::Unauthorized(error) => (401, UNAUTHORIZED, error),
            Self::Silence => return None,
        };
        Some(Reply {
            status,
            description: error.description.unwrap_or_default(),
            condition: Some(condition),
            body: Body::value(&Value::Null),
            messages: 0,
        })
    }

    /// The outcome of what the client sent; `None` for silence.
    pub(super) fn error(self) -> Option<AmqpError> {
        match self {
            Self::Busy(error) | Self::Unauthorized(error) => Some(error),
            Self::Silence => None,
        }
    }
}

fn busy(sub_code: u32, seconds: u64) -> AmqpError {
    AmqpError::new(refusals::SERVER_BUSY, refusals::tracked(&refusals::busy(sub_code, seconds)))
}
