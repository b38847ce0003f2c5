//! Messages received and not yet taken, between the link that receives and the callers that wait.
//!
//! A caller takes a message and returns it in the same breath, so a receive that is given up loses nothing: what comes too
//! late for it stays here for the next one. Links only ask for as many messages as callers wait for.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::{LockToken, ReceivedMessage};

/// Shared by the adapter and its receiving links.
#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    arrived: Notify,
    demanded: Notify,
}

#[derive(Default)]
struct State {
    /// With the number of the link that holds the lock.
    messages: VecDeque<(u64, ReceivedMessage)>,
    demand: usize,
}

/// A caller waits for so many messages, until this is dropped.
pub(super) struct Demand<'a> {
    inbox: &'a Inbox,
    messages: usize,
}

impl Inbox {
    /// Announces a caller that waits.
    pub(super) fn demand(&self, messages: usize) -> Demand<'_> {
        let mut state = self.state();
        state.demand = state.demand.saturating_add(messages);
        drop(state);
        self.demanded.notify_one();
        Demand { inbox: self, messages }
    }

    /// How many messages callers wait for that are not here yet.
    pub(super) fn wanted(&self) -> usize {
        let state = self.state();
        state.demand.saturating_sub(state.messages.len())
    }

    /// Comes when a caller begins to wait.
    pub(super) fn demanded(&self) -> Notified<'_> {
        self.demanded.notified()
    }

    /// Comes when messages arrive.
    pub(super) fn arrival(&self) -> Notified<'_> {
        self.arrived.notified()
    }

    /// Puts a message in that link `link` has received.
    pub(super) fn put(&self, link: u64, message: ReceivedMessage) {
        self.state().messages.push_back((link, message));
        self.arrived.notify_waiters();
    }

    /// Takes out everything of a link that has come to its end; returns what it was.
    pub(super) fn forget(&self, link: u64) -> Vec<LockToken> {
        let mut state = self.state();
        let (gone, kept) = state.messages.drain(..).partition(|(owner, _)| *owner == link);
        state.messages = kept;
        let gone: VecDeque<_> = gone;
        gone.into_iter().map(|(_, message)| message.lock_token).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Demand<'_> {
    /// Takes out as many messages as are wanted and here; if there are any, nothing is wanted any more. Messages whose
    /// locks have run out meanwhile are dropped: they come again.
    pub(super) fn take(&mut self) -> Vec<ReceivedMessage> {
        let now = SystemTime::now();
        let mut state = self.inbox.state();
        let mut taken = Vec::new();
        while taken.len() < self.messages
            && let Some((_, message)) = state.messages.pop_front()
        {
            if message.locked_until > now {
                taken.push(message);
            }
        }
        if !taken.is_empty() {
            state.demand = state.demand.saturating_sub(std::mem::take(&mut self.messages));
        }
        taken
    }
}

impl Drop for Demand<'_> {
    fn drop(&mut self) {
        let mut state = self.inbox.state();
        state.demand = state.demand.saturating_sub(self.messages);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;

    fn message(number: i64, lock_seconds: u64) -> ReceivedMessage {
        ReceivedMessage {
            lock_token: LockToken(Uuid::from_u128(number.unsigned_abs().into())),
            locked_until: SystemTime::now() + Duration::from_secs(lock_seconds),
            sequence_number: number,
            delivery_count: 0,
            message_id: None,
            enqueued_time: None,
            body: bytes::Bytes::new(),
        }
    }

    fn numbers(messages: &[ReceivedMessage]) -> Vec<i64> {
        messages.iter().map(|message| message.sequence_number).collect()
    }

    #[test]
    fn what_comes_too_late_for_one_caller_is_there_for_the_next() {
        let inbox = Inbox::default();
        let given_up = inbox.demand(1);
        drop(given_up);
        inbox.put(1, message(7, 60));
        assert_eq!(numbers(&inbox.demand(1).take()), [7]);
    }

    #[test]
    fn only_what_callers_wait_for_is_wanted() {
        let inbox = Inbox::default();
        assert_eq!(inbox.wanted(), 0);
        let mut first = inbox.demand(2);
        let second = inbox.demand(3);
        assert_eq!(inbox.wanted(), 5);
        inbox.put(1, message(1, 60));
        assert_eq!(inbox.wanted(), 4);
        assert_eq!(numbers(&first.take()), [1]);
        assert_eq!(inbox.wanted(), 3, "the first caller has its answer and wants no more");
        drop((first, second));
        assert_eq!(inbox.wanted(), 0);
    }

    #[test]
    fn a_message_whose_lock_has_run_out_is_not_handed_out() {
        let inbox = Inbox::default();
        inbox.put(1, message(1, 0));
        inbox.put(1, message(2, 60));
        assert_eq!(numbers(&inbox.demand(5).take()), [2]);
    }

    #[test]
    fn what_a_lost_link_received_is_forgotten() {
        let inbox = Inbox::default();
        inbox.put(1, message(1, 60));
        inbox.put(2, message(2, 60));
        assert_eq!(inbox.forget(1), [LockToken(Uuid::from_u128(1))]);
        assert_eq!(numbers(&inbox.demand(5).take()), [2]);
    }
}
