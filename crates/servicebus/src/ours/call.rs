//! Calls that have not been answered: what was asked, by when, and whom to tell.
//!
//! The table outlives connections. A call that has not been put on the wire when a connection breaks is simply asked
//! again on the next one; a call that has been is failed, because nobody knows whether the peer acted on it.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;

use super::encode::Transfer;
use super::failure::Failure;
use crate::{ClientError, LockToken, PeekedMessage, ReceivedMessage, Settlement};

/// Where the answer goes. Nobody may be there any more.
pub(super) type Reply<T> = oneshot::Sender<Result<T, ClientError>>;

/// What a handle tells the owner of the connection.
pub(super) enum Command {
    /// Something with one answer.
    Call { job: Job, deadline: Instant },
    /// A caller waits for messages.
    Receive(Waiter),
    /// That caller has gone; these messages were on the way to it.
    ReceiveOver { id: u64, unread: Vec<ReceivedMessage> },
    /// Give back, close, say how it went.
    Close(Reply<()>),
}

/// A caller that waits for messages.
pub(super) struct Waiter {
    pub(super) id: u64,
    pub(super) max: u32,
    /// How long it waits from the moment that the peer knows of it.
    pub(super) wait: Duration,
    /// When it began to wait for the peer to be asked …
    pub(super) started: Instant,
    /// … and when it gives up if the peer cannot be.
    pub(super) ask_by: Instant,
    /// When its wait ends; `None` until the peer could be asked.
    pub(super) until: Option<Instant>,
    pub(super) reply: Reply<Vec<ReceivedMessage>>,
}

/// Something with one answer.
pub(super) enum Job {
    Limit(Reply<usize>),
    Send { transfer: Transfer, reply: Reply<()> },
    Settle { lock_token: LockToken, settlement: Settlement, reply: Reply<()> },
    Renew { lock_token: LockToken, reply: Reply<SystemTime> },
    Peek { from_sequence_number: i64, max_messages: i32, reply: Reply<Vec<PeekedMessage>> },
}

impl Job {
    pub(super) fn fail(self, failure: Failure) {
        let error = failure.into();
        // Whoever asked may have gone; then nobody needs the answer.
        let _ = match self {
            Self::Limit(reply) => reply.send(Err(error)).is_ok(),
            Self::Send { reply, .. } | Self::Settle { reply, .. } => reply.send(Err(error)).is_ok(),
            Self::Renew { reply, .. } => reply.send(Err(error)).is_ok(),
            Self::Peek { reply, .. } => reply.send(Err(error)).is_ok(),
        };
    }

    /// Whether whoever asked has gone.
    pub(super) fn is_abandoned(&self) -> bool {
        match self {
            Self::Limit(reply) => reply.is_closed(),
            Self::Send { reply, .. } | Self::Settle { reply, .. } => reply.is_closed(),
            Self::Renew { reply, .. } => reply.is_closed(),
            Self::Peek { reply, .. } => reply.is_closed(),
        }
    }

    /// Completes "while …".
    pub(super) fn doing(&self) -> &'static str {
        match self {
            Self::Limit(_) => "asking for the batch limit",
            Self::Send { .. } => "sending",
            Self::Settle { .. } => "settling a message",
            Self::Renew { .. } => "renewing a lock",
            Self::Peek { .. } => "peeking",
        }
    }
}

/// Names a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct CallId(pub(super) u64);

pub(super) struct Call {
    pub(super) job: Job,
    pub(super) started: Instant,
    deadline: Instant,
    /// Whether the peer may have seen it.
    pub(super) sent: bool,
}

/// The table.
#[derive(Default)]
pub(super) struct Calls {
    next: u64,
    open: HashMap<CallId, Call>,
    by_deadline: BTreeSet<(Instant, CallId)>,
}

impl Calls {
    pub(super) fn open(&mut self, job: Job, deadline: Instant, now: Instant) -> CallId {
        let id = CallId(self.next);
        self.next += 1;
        self.open.insert(id, Call { job, started: now, deadline, sent: false });
        self.by_deadline.insert((deadline, id));
        id
    }

    /// The call, unless it was answered or its time ran out.
    pub(super) fn get_mut(&mut self, id: CallId) -> Option<&mut Call> {
        self.open.get_mut(&id)
    }

    /// Takes the call out, to be answered.
    pub(super) fn finish(&mut self, id: CallId) -> Option<Call> {
        let call = self.open.remove(&id)?;
        self.by_deadline.remove(&(call.deadline, id));
        Some(call)
    }

    pub(super) fn fail(&mut self, id: CallId, failure: Failure) {
        if let Some(call) = self.finish(id) {
            call.job.fail(failure);
        }
    }

    /// Takes out one call whose time has run out.
    pub(super) fn expired(&mut self, now: Instant) -> Option<Call> {
        let (_, id) = *self.by_deadline.first().filter(|(deadline, _)| *deadline <= now)?;
        self.finish(id)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.by_deadline.first().map(|(deadline, _)| *deadline)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// All of them, oldest first.
    pub(super) fn ids(&self) -> Vec<CallId> {
        let mut ids: Vec<CallId> = self.open.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Fails the calls that the peer may have seen, or all.
    pub(super) fn fail_all(&mut self, failure: &Failure, also_unsent: bool) {
        for id in self.ids() {
            if also_unsent || self.open.get(&id).is_some_and(|call| call.sent) {
                self.fail(id, failure.clone());
            }
        }
    }
}
