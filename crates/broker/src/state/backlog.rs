//! The messages of one part of a queue, each in exactly one place, with the indexes that find the next one in O(log n).
//!
//! Owns no rules: which message goes where, and when, is decided in `queue.rs` and `topic.rs`. Every change goes through [`Backlog::insert`],
//! [`Backlog::remove`] and [`Backlog::put`], so that no index can disagree with the messages.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use super::{
    effect::{DeadLetter, Lock, MessageState, MessageView},
    event::{LockToken, SequenceNumber},
    name::EntityName,
    timestamp::Timestamp,
};

/// A message at rest.
#[derive(Debug)]
pub(super) struct Stored<C> {
    pub(super) content: Arc<C>,
    /// What it counts against the queue's size, overhead included.
    pub(super) size_bytes: u64,
    pub(super) enqueued_at: Timestamp,
    /// The sender's wish; the queue's default is applied when the message becomes active.
    pub(super) time_to_live: Option<Duration>,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) scheduled_for: Option<Timestamp>,
    pub(super) delivery_count: u32,
    pub(super) dead_letter: Option<Arc<DeadLetter>>,
    pub(super) origin: Origin,
    pub(super) place: Place,
}

/// What a message remembers of the entities it came through.
#[derive(Debug, Clone, Default)]
pub(super) struct Origin {
    /// The number it had where it was first sent; `None` where that is here.
    pub(super) number: Option<SequenceNumber>,
    /// How often it has been forwarded.
    pub(super) hops: u8,
    /// Where it was dead-lettered, if it was forwarded from there.
    pub(super) dead_letter_source: Option<EntityName>,
}

/// Where a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// For the next receiver.
    Available,
    /// Set aside; received by number only.
    Deferred,
    /// Waiting for its time.
    Scheduled { due: Timestamp },
    /// With a receiver. `deferred` says where it came from and returns to.
    Locked { lock: Lock, deferred: bool },
}

impl<C> Stored<C> {
    /// The message as seen from outside.
    pub(super) fn view(&self, sequence_number: SequenceNumber) -> MessageView<C> {
        MessageView {
            sequence_number,
            enqueue_sequence_number: self.origin.number.unwrap_or(sequence_number),
            enqueued_at: self.enqueued_at,
            expires_at: self.expires_at,
            scheduled_for: self.scheduled_for,
            delivery_count: self.delivery_count,
            state: match self.place {
                Place::Available | Place::Locked { deferred: false, .. } => MessageState::Active,
                Place::Deferred | Place::Locked { deferred: true, .. } => MessageState::Deferred,
                Place::Scheduled { .. } => MessageState::Scheduled,
            },
            dead_letter: self.dead_letter.clone(),
            dead_letter_source: self.origin.dead_letter_source.clone(),
            content: Arc::clone(&self.content),
        }
    }
}

/// All messages of one part.
#[derive(Debug)]
pub(super) struct Backlog<C> {
    messages: BTreeMap<SequenceNumber, Stored<C>>,
    available: BTreeSet<SequenceNumber>,
    locked: HashMap<LockToken, SequenceNumber>,
    lock_ends: BTreeSet<(Timestamp, SequenceNumber)>,
    schedule: BTreeSet<(Timestamp, SequenceNumber)>,
    /// Of available messages only: neither a locked nor a deferred message expires.
    expiries: BTreeSet<(Timestamp, SequenceNumber)>,
    /// False in a dead-letter queue.
    messages_expire: bool,
}

impl<C> Backlog<C> {
    pub(super) fn new(messages_expire: bool) -> Self {
        Self {
            messages: BTreeMap::new(),
            available: BTreeSet::new(),
            locked: HashMap::new(),
            lock_ends: BTreeSet::new(),
            schedule: BTreeSet::new(),
            expiries: BTreeSet::new(),
            messages_expire,
        }
    }

    /// Adds a message at the place it says it is in.
    pub(super) fn insert(&mut self, number: SequenceNumber, message: Stored<C>) {
        self.index(number, message.place, message.expires_at);
        let replaced = self.messages.insert(number, message);
        debug_assert!(replaced.is_none(), "sequence number {number} given twice");
    }

    /// Takes a message out.
    pub(super) fn remove(&mut self, number: SequenceNumber) -> Option<Stored<C>> {
        let message = self.messages.remove(&number)?;
        self.unindex(number, message.place, message.expires_at);
        Some(message)
    }

    /// Moves a message to another place and returns it.
    pub(super) fn put(&mut self, number: SequenceNumber, place: Place) -> Option<&Stored<C>> {
        let message = self.messages.get_mut(&number)?;
        let (left, expires_at) = (std::mem::replace(&mut message.place, place), message.expires_at);
        self.unindex(number, left, expires_at);
        self.index(number, place, expires_at);
        self.messages.get(&number)
    }

    /// Moves a locked message back to where it was locked.
    pub(super) fn unlock(&mut self, number: SequenceNumber) {
        if let Some(Place::Locked { deferred, .. }) = self.get(number).map(|message| message.place) {
            self.put(number, if deferred { Place::Deferred } else { Place::Available });
        }
    }

    /// Raises a message's delivery count and returns it.
    pub(super) fn raise_delivery_count(&mut self, number: SequenceNumber) -> u32 {
        self.messages.get_mut(&number).map_or(0, |message| {
            message.delivery_count = message.delivery_count.saturating_add(1);
            message.delivery_count
        })
    }

    /// Replaces what a message holds.
    pub(super) fn rewrite(&mut self, number: SequenceNumber, content: Arc<C>, size_bytes: u64) {
        if let Some(message) = self.messages.get_mut(&number) {
            message.content = content;
            message.size_bytes = size_bytes;
        }
    }

    pub(super) fn get(&self, number: SequenceNumber) -> Option<&Stored<C>> {
        self.messages.get(&number)
    }

    /// Messages in every place, from a number on.
    pub(super) fn from(&self, number: SequenceNumber) -> impl Iterator<Item = (SequenceNumber, &Stored<C>)> {
        self.messages.range(number..).map(|(number, message)| (*number, message))
    }

    /// The message the next receiver gets.
    pub(super) fn first_available(&self) -> Option<SequenceNumber> {
        self.available.first().copied()
    }

    /// The message a token locks.
    pub(super) fn locked_by(&self, token: &LockToken) -> Option<SequenceNumber> {
        self.locked.get(token).copied()
    }

    /// The first message whose lock has run out.
    pub(super) fn overdue_lock(&self, now: Timestamp) -> Option<SequenceNumber> {
        first_due(&self.lock_ends, now)
    }

    /// The first message whose scheduled time has come.
    pub(super) fn due_scheduled(&self, now: Timestamp) -> Option<SequenceNumber> {
        first_due(&self.schedule, now)
    }

    /// The first available message whose time to live has ended.
    pub(super) fn expired(&self, now: Timestamp) -> Option<SequenceNumber> {
        first_due(&self.expiries, now)
    }

    /// When the first of the three is due.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        [&self.lock_ends, &self.schedule, &self.expiries].iter().filter_map(|index| Some(index.first()?.0)).min()
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn available_len(&self) -> usize {
        self.available.len()
    }

    pub(super) fn locked_len(&self) -> usize {
        self.locked.len()
    }

    pub(super) fn scheduled_len(&self) -> usize {
        self.schedule.len()
    }

    pub(super) fn deferred_len(&self) -> usize {
        self.len() - self.available_len() - self.locked_len() - self.scheduled_len()
    }

    fn index(&mut self, number: SequenceNumber, place: Place, expires_at: Option<Timestamp>) {
        match place {
            Place::Available => {
                self.available.insert(number);
                if let Some(end) = expires_at.filter(|_| self.messages_expire) {
                    self.expiries.insert((end, number));
                }
            }
            Place::Deferred => {}
            Place::Scheduled { due } => {
                self.schedule.insert((due, number));
            }
            Place::Locked { lock, .. } => {
                self.locked.insert(lock.token, number);
                self.lock_ends.insert((lock.until, number));
            }
        }
    }

    fn unindex(&mut self, number: SequenceNumber, place: Place, expires_at: Option<Timestamp>) {
        match place {
            Place::Available => {
                self.available.remove(&number);
                if let Some(end) = expires_at.filter(|_| self.messages_expire) {
                    self.expiries.remove(&(end, number));
                }
            }
            Place::Deferred => {}
            Place::Scheduled { due } => {
                self.schedule.remove(&(due, number));
            }
            Place::Locked { lock, .. } => {
                self.locked.remove(&lock.token);
                self.lock_ends.remove(&(lock.until, number));
            }
        }
    }
}

fn first_due(index: &BTreeSet<(Timestamp, SequenceNumber)>, now: Timestamp) -> Option<SequenceNumber> {
    index.first().filter(|(due, _)| *due <= now).map(|(_, number)| *number)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const END: Timestamp = Timestamp::from_millis(100);

    fn message(place: Place) -> Stored<&'static str> {
        Stored {
            content: Arc::new("content"),
            size_bytes: 7,
            enqueued_at: Timestamp::from_millis(1),
            time_to_live: None,
            expires_at: Some(END),
            scheduled_for: None,
            delivery_count: 0,
            dead_letter: None,
            origin: Origin::default(),
            place,
        }
    }

    fn lock(until: i64) -> Lock {
        Lock { token: Uuid::from_u128(7), until: Timestamp::from_millis(until) }
    }

    #[test]
    fn a_message_is_found_only_where_it_is() {
        let mut backlog = Backlog::new(true);
        backlog.insert(1, message(Place::Available));
        assert_eq!((backlog.first_available(), backlog.expired(END)), (Some(1), Some(1)));
        assert_eq!(backlog.next_deadline(), Some(END));

        backlog.put(1, Place::Locked { lock: lock(50), deferred: false });
        assert_eq!((backlog.first_available(), backlog.expired(END)), (None, None));
        assert_eq!((backlog.locked_by(&lock(50).token), backlog.overdue_lock(END)), (Some(1), Some(1)));
        assert_eq!(backlog.next_deadline(), Some(Timestamp::from_millis(50)));

        backlog.put(1, Place::Deferred);
        assert_eq!((backlog.locked_len(), backlog.deferred_len(), backlog.next_deadline()), (0, 1, None));

        assert!(backlog.remove(1).is_some());
        assert_eq!((backlog.len(), backlog.deferred_len()), (0, 0));
        assert!(backlog.remove(1).is_none());
    }

    #[test]
    fn unlocking_returns_to_where_the_lock_began() {
        let mut backlog = Backlog::new(true);
        backlog.insert(1, message(Place::Locked { lock: lock(50), deferred: true }));
        backlog.unlock(1);
        assert_eq!(backlog.get(1).map(|message| message.place), Some(Place::Deferred));
    }

    #[test]
    fn nothing_expires_where_time_to_live_does_not_count() {
        let mut backlog = Backlog::new(false);
        backlog.insert(1, message(Place::Available));
        assert_eq!((backlog.expired(END), backlog.next_deadline()), (None, None));
        assert!(backlog.remove(1).is_some());
    }

    #[test]
    fn due_means_the_moment_itself() {
        let mut backlog = Backlog::new(true);
        backlog.insert(3, message(Place::Scheduled { due: END }));
        assert_eq!(backlog.due_scheduled(Timestamp::from_millis(99)), None);
        assert_eq!(backlog.due_scheduled(END), Some(3));
    }
}
