//! Between the wire and the callers: who waits for messages, and which messages wait for a caller.
//!
//! A message is kept here only when it arrived after the caller it was asked for had gone. The next caller gets it; if
//! none comes before half of its lock is over, it is given back. Kept messages outlive the connection they came on.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use super::call::Waiter;
use super::failure::Failure;
use crate::{LockToken, ReceivedMessage};

/// However the clocks differ, a message is kept at least this long …
const SHORTEST_KEEP: Duration = Duration::from_secs(1);
/// … and at most this long.
const LONGEST_KEEP: Duration = Duration::from_secs(30);

struct Kept {
    message: ReceivedMessage,
    until: Instant,
}

#[derive(Default)]
pub(super) struct Inbox {
    waiters: VecDeque<Waiter>,
    kept: VecDeque<Kept>,
}

impl Inbox {
    pub(super) fn add_waiter(&mut self, waiter: Waiter) {
        self.waiters.push_back(waiter);
    }

    pub(super) fn remove_waiter(&mut self, id: u64) {
        self.waiters.retain(|waiter| waiter.id != id);
    }

    pub(super) fn add(&mut self, message: ReceivedMessage, now: Instant, wall: SystemTime) {
        let until = keep_until(&message, now, wall);
        self.kept.push_back(Kept { message, until });
    }

    /// Puts messages back that were handed out to a caller who did not take them.
    pub(super) fn put_back(&mut self, messages: Vec<ReceivedMessage>, now: Instant, wall: SystemTime) {
        for message in messages.into_iter().rev() {
            let until = keep_until(&message, now, wall);
            self.kept.push_front(Kept { message, until });
        }
    }

    /// Gives kept messages to those who wait, first come first served.
    pub(super) fn hand_out(&mut self, now: Instant, wall: SystemTime) {
        while !self.kept.is_empty() {
            let Some(waiter) = self.waiters.pop_front() else { return };
            let count = self.kept.len().min(waiter.max as usize);
            let messages: Vec<ReceivedMessage> = self.kept.drain(..count).map(|kept| kept.message).collect();
            if let Err(Ok(messages)) = waiter.reply.send(Ok(messages)) {
                self.put_back(messages, now, wall);
            }
        }
    }

    /// How many messages those who wait would take, all in all.
    pub(super) fn wanted(&self) -> u32 {
        self.waiters.iter().fold(0, |sum, waiter| sum.saturating_add(waiter.max))
    }

    pub(super) fn has_waiters(&self) -> bool {
        !self.waiters.is_empty()
    }

    /// The peer can be asked now, so waits begin.
    pub(super) fn start_waits(&mut self, now: Instant) {
        for waiter in &mut self.waiters {
            waiter.until.get_or_insert(now + waiter.wait);
        }
    }

    /// Ends the waits that are over: with nothing, or with an error where the peer could not even be asked. Says since
    /// when the oldest of the latter had waited.
    pub(super) fn end_waits(&mut self, now: Instant, not_asked: &Failure) -> Option<Instant> {
        let mut oldest = None;
        for waiter in std::mem::take(&mut self.waiters) {
            match waiter.until {
                Some(until) if until <= now => drop(waiter.reply.send(Ok(Vec::new()))),
                None if waiter.ask_by <= now => {
                    oldest = oldest.into_iter().chain([waiter.started]).min();
                    drop(waiter.reply.send(Err(not_asked.clone().into())));
                }
                _ => self.waiters.push_back(waiter),
            }
        }
        oldest
    }

    /// Fails those whom the peer knows of, or all.
    pub(super) fn fail_waiters(&mut self, failure: &Failure, also_not_asked: bool) {
        for waiter in std::mem::take(&mut self.waiters) {
            if also_not_asked || waiter.until.is_some() {
                drop(waiter.reply.send(Err(failure.clone().into())));
            } else {
                self.waiters.push_back(waiter);
            }
        }
    }

    /// Takes out the messages that have been kept long enough.
    pub(super) fn outdated(&mut self, now: Instant) -> Vec<LockToken> {
        let mut tokens = Vec::new();
        self.kept.retain(|kept| {
            let keep = kept.until > now;
            if !keep {
                tokens.push(kept.message.lock_token);
            }
            keep
        });
        tokens
    }

    /// Takes out all messages.
    pub(super) fn take_all(&mut self) -> Vec<LockToken> {
        self.kept.drain(..).map(|kept| kept.message.lock_token).collect()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let waits = self.waiters.iter().map(|waiter| waiter.until.unwrap_or(waiter.ask_by));
        waits.chain(self.kept.iter().map(|kept| kept.until)).min()
    }
}

/// Half of what is left of the lock, by our clock; within bounds, because the peer's clock may differ.
fn keep_until(message: &ReceivedMessage, now: Instant, wall: SystemTime) -> Instant {
    let left = message.locked_until.duration_since(wall).unwrap_or_default();
    now + (left / 2).clamp(SHORTEST_KEEP, LONGEST_KEEP)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::sync::oneshot;
    use uuid::Uuid;

    use super::*;
    use crate::{ClientError, FailureKind};

    type Answer = oneshot::Receiver<Result<Vec<ReceivedMessage>, ClientError>>;

    fn message(number: u8, locked_until: SystemTime) -> ReceivedMessage {
        ReceivedMessage {
            lock_token: LockToken(Uuid::from_bytes([number; 16])),
            locked_until,
            sequence_number: number.into(),
            delivery_count: 0,
            message_id: None,
            enqueued_time: None,
            body: Bytes::new(),
        }
    }

    fn waiter(id: u64, max: u32, now: Instant) -> (Waiter, Answer) {
        let (reply, answer) = oneshot::channel();
        let wait = Duration::from_secs(10);
        (Waiter { id, max, wait, started: now, ask_by: now + Duration::from_secs(5), until: None, reply }, answer)
    }

    fn numbers(answer: &mut Answer) -> Vec<i64> {
        let messages = answer.try_recv().expect("an answer").expect("messages");
        messages.iter().map(|message| message.sequence_number).collect()
    }

    #[test]
    fn messages_go_to_those_who_wait_in_order_and_never_more_than_asked_for() {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let mut inbox = Inbox::default();
        let (first, mut first_answer) = waiter(1, 2, now);
        let (second, mut second_answer) = waiter(2, 2, now);
        inbox.add_waiter(first);
        inbox.add_waiter(second);
        assert_eq!(inbox.wanted(), 4);
        for number in 1..=5 {
            inbox.add(message(number, wall + Duration::from_mins(1)), now, wall);
        }
        inbox.hand_out(now, wall);
        assert_eq!(numbers(&mut first_answer), [1, 2]);
        assert_eq!(numbers(&mut second_answer), [3, 4]);
        assert_eq!((inbox.kept.len(), inbox.wanted()), (1, 0));
    }

    #[test]
    fn what_a_caller_that_has_gone_did_not_take_goes_to_the_next_in_the_old_order() {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let mut inbox = Inbox::default();
        let (gone, answer) = waiter(1, 2, now);
        drop(answer);
        inbox.add_waiter(gone);
        for number in 1..=3 {
            inbox.add(message(number, wall + Duration::from_mins(1)), now, wall);
        }
        inbox.hand_out(now, wall);
        let (next, mut next_answer) = waiter(2, 9, now);
        inbox.add_waiter(next);
        inbox.hand_out(now, wall);
        assert_eq!(numbers(&mut next_answer), [1, 2, 3]);
    }

    #[test]
    fn a_wait_begins_when_the_peer_can_be_asked_and_ends_empty() {
        let (now, not_asked) = (Instant::now(), Failure::new(FailureKind::Timeout, "not asked"));
        let mut inbox = Inbox::default();
        let (asked, mut asked_answer) = waiter(1, 1, now);
        inbox.add_waiter(asked);
        inbox.start_waits(now);
        let (unasked, mut unasked_answer) = waiter(2, 1, now);
        inbox.add_waiter(unasked);
        assert_eq!(inbox.next_deadline(), Some(now + Duration::from_secs(5)));
        assert_eq!(inbox.end_waits(now + Duration::from_secs(5), &not_asked), Some(now));
        assert!(asked_answer.try_recv().is_err(), "its wait goes on");
        let error = unasked_answer.try_recv().expect("an answer").expect_err("could not be asked");
        assert_eq!(error.kind, FailureKind::Timeout);
        assert_eq!(inbox.end_waits(now + Duration::from_secs(10), &not_asked), None);
        assert!(numbers(&mut asked_answer).is_empty());
    }

    #[test]
    fn a_message_is_kept_for_half_of_its_lock_whatever_the_clocks_say() {
        let (now, wall) = (Instant::now(), SystemTime::now());
        for (left, keep) in [(20, 10), (0, 1), (3_600, 30)] {
            let mut inbox = Inbox::default();
            inbox.add(message(1, wall + Duration::from_secs(left)), now, wall);
            let keep = Duration::from_secs(keep);
            assert_eq!(inbox.next_deadline(), Some(now + keep));
            assert!(inbox.outdated(now + keep.mul_f64(0.999)).is_empty());
            assert_eq!(inbox.outdated(now + keep).len(), 1);
        }
        let mut inbox = Inbox::default();
        inbox.add(message(1, wall - Duration::from_mins(1)), now, wall);
        assert_eq!(inbox.next_deadline(), Some(now + SHORTEST_KEEP), "a lock that seems to be over");
    }
}
