//! How callers reach a receiving link: commands in, answers out, and whether the link still receives.

use std::time::SystemTime;

use tokio::sync::{mpsc, oneshot, watch};

use super::fault::Fault;
use crate::{ClientError, FailureKind, LockToken, PeekedMessage, Settlement};

/// A handle to the task; cheap to clone.
#[derive(Clone)]
pub(super) struct ReceivingLink {
    commands: mpsc::Sender<Command>,
    state: watch::Receiver<State>,
}

#[derive(Clone, Debug)]
pub(super) enum State {
    Receiving,
    /// Only settles what it holds.
    Retired,
    /// With the reason, where it is one that callers should hear of.
    Ended(Option<Fault>),
}

/// An answer, or `None` from a link that does not hold the lock.
pub(super) type Reply<T> = oneshot::Sender<Option<Result<T, Fault>>>;

pub(super) enum Command {
    Settle { lock_token: LockToken, settlement: Settlement, reply: Reply<()> },
    Renew { lock_token: LockToken, reply: Reply<SystemTime> },
    Peek { from: i64, most: u32, reply: Reply<Vec<PeekedMessage>> },
    Close { reply: oneshot::Sender<()> },
}

impl Command {
    /// Answers a command that came when the link was at its end. Without a fault the link held nothing any more.
    pub(super) fn refuse(self, fault: Option<&Fault>) {
        match self {
            Self::Settle { reply, .. } => drop(reply.send(fault.cloned().map(Err))),
            Self::Renew { reply, .. } => drop(reply.send(fault.cloned().map(Err))),
            Self::Peek { reply, .. } => {
                let ended =
                    || Fault::new(FailureKind::ConnectionLost, "the link was replaced; the next call has a new one");
                drop(reply.send(Some(Err(fault.cloned().unwrap_or_else(ended)))));
            }
            Self::Close { reply } => drop(reply),
        }
    }
}

impl ReceivingLink {
    /// A handle, and what the task needs to be reached through it.
    pub(super) fn new() -> (Self, mpsc::Receiver<Command>, watch::Sender<State>) {
        let (commands, orders) = mpsc::channel(64);
        let (state, states) = watch::channel(State::Receiving);
        (Self { commands, state: states }, orders, state)
    }

    /// Whether it may hold locks.
    pub(super) fn is_alive(&self) -> bool {
        !self.commands.is_closed() && !matches!(*self.state.borrow(), State::Ended(_))
    }

    /// Whether it receives.
    pub(super) fn receives(&self) -> bool {
        self.is_alive() && matches!(*self.state.borrow(), State::Receiving)
    }

    /// Waits until it receives no more: `Ok` when it was replaced in good order, else why.
    pub(super) async fn receives_no_more(&mut self) -> Result<(), ClientError> {
        match self.state.wait_for(|state| !matches!(state, State::Receiving)).await.as_deref() {
            Ok(State::Ended(Some(fault))) => Err(fault.clone().into()),
            Ok(_) => Ok(()),
            Err(_) => Err(panicked().into()),
        }
    }

    pub(super) async fn settle(
        &self,
        lock_token: LockToken,
        settlement: Settlement,
    ) -> Option<Result<(), ClientError>> {
        self.ask(|reply| Command::Settle { lock_token, settlement, reply }).await
    }

    pub(super) async fn renew(&self, lock_token: LockToken) -> Option<Result<SystemTime, ClientError>> {
        self.ask(|reply| Command::Renew { lock_token, reply }).await
    }

    pub(super) async fn peek(&self, from: i64, most: usize) -> Result<Vec<PeekedMessage>, ClientError> {
        let most = u32::try_from(most).unwrap_or(u32::MAX).min(i32::MAX as u32);
        self.ask(|reply| Command::Peek { from, most, reply }).await.unwrap_or_else(|| Err(panicked().into()))
    }

    /// Gives back what nobody has taken, and takes the link down.
    pub(super) async fn close(&self) {
        let (reply, done) = oneshot::channel();
        if self.commands.send(Command::Close { reply }).await.is_ok() {
            let _ = done.await;
        }
    }

    /// `None` if the link does not hold the lock, or is gone, so that nobody does.
    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Option<Result<T, ClientError>> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.ok()?;
        match answer.await {
            Ok(answer) => answer.map(|result| result.map_err(Into::into)),
            Err(_) => Some(Err(panicked().into())),
        }
    }
}

fn panicked() -> Fault {
    Fault::new(FailureKind::Internal, "the library panicked, or its link came to its end, before the outcome was known")
}
