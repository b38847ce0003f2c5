//! The hub: owns the broker's state and hands its effects to whom they concern.
//!
//! The [`State`] sits behind one mutex that is held for one `apply` and never over an await. Answers go back to the
//! caller of [`Hub::apply`]; deliveries and detaches go to the connection of the receiver over its channel, put there
//! under the lock, so that every connection sees them in the order in which they happened. The channels need no bound
//! of their own: a connection grants the state only as much credit as it is about to write.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::content::StoredMessage;
use crate::state::{
    Address, Delivery, Effect, EntityName, Event, Outcome, QueueSnapshot, ReceiveMode, ReceiverId, Refusal, RequestId,
    State, Timestamp,
};

/// What the hub tells a connection.
#[derive(Debug)]
pub(crate) enum Push {
    /// A message for one of its receivers.
    Deliver { receiver: ReceiverId, delivery: Delivery<StoredMessage> },
    /// A receiver's drain is done.
    Drained { receiver: ReceiverId },
    /// A receiver is no longer subscribed.
    Detach { receiver: ReceiverId, reason: Refusal },
    /// An entity is gone: its other links must end.
    Deleted { name: EntityName },
}

/// Names a connection for as long as the broker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PeerId(u64);

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Hub {
    inner: Mutex<Inner>,
    /// Rings when the next deadline has moved.
    deadline_moved: Notify,
    /// Source of receiver and connection ids.
    next_id: AtomicU64,
}

#[derive(Debug)]
struct Inner {
    state: State<StoredMessage>,
    receivers: HashMap<ReceiverId, mpsc::UnboundedSender<Push>>,
    peers: HashMap<PeerId, mpsc::UnboundedSender<Push>>,
    /// The deadline the ticker sleeps towards.
    deadline: Option<Timestamp>,
}

impl Hub {
    pub(crate) fn new(state: State<StoredMessage>) -> Self {
        Self {
            inner: Mutex::new(Inner { state, receivers: HashMap::new(), peers: HashMap::new(), deadline: None }),
            deadline_moved: Notify::new(),
            next_id: AtomicU64::new(1),
        }
    }

    /// Applies an event that asks for an answer, and returns the answer. `make` gets the request's id; `pick` takes
    /// the answer out of its effect.
    pub(crate) fn request<T>(
        &self,
        make: impl FnOnce(RequestId) -> Event<StoredMessage>,
        pick: impl Fn(Effect<StoredMessage>) -> Option<T>,
    ) -> T {
        let request = RequestId(self.next_id.fetch_add(1, Ordering::Relaxed));
        self.apply(make(request), pick).expect("the state answers every request in the same step")
    }

    /// Applies an event without an answer.
    pub(crate) fn tell(&self, event: Event<StoredMessage>) {
        self.apply(event, |_| None::<()>);
    }

    /// Subscribes a receiver whose deliveries go to `pushes`.
    pub(crate) fn subscribe(
        &self,
        address: Address,
        mode: ReceiveMode,
        pushes: &mpsc::UnboundedSender<Push>,
    ) -> Result<ReceiverId, Refusal> {
        let receiver = ReceiverId(self.next_id.fetch_add(1, Ordering::Relaxed));
        self.lock().receivers.insert(receiver, pushes.clone());
        let result = self
            .apply(Event::Subscribe { receiver, address, mode }, |effect| match effect {
                Effect::Subscribed { result, .. } => Some(result),
                _ => None,
            })
            .expect("the state answers every subscription in the same step");
        if result.is_err() {
            self.lock().receivers.remove(&receiver);
        }
        result.map(|()| receiver)
    }

    /// Ends a subscription. Deliveries that are under way to the connection still arrive there.
    pub(crate) fn unsubscribe(&self, receiver: ReceiverId) {
        self.tell(Event::Unsubscribe { receiver });
        self.lock().receivers.remove(&receiver);
    }

    /// Gives a delivery back that could not be handed over, as if it had not been tried. A message received for good
    /// (without a lock) cannot be given back.
    pub(crate) fn release(&self, address: &Address, delivery: &Delivery<StoredMessage>) {
        let Some(lock) = delivery.lock else {
            tracing::info!(queue = %address, "a message received and deleted was lost with its link");
            return;
        };
        let result = self.settle(address, lock.token, Outcome::Release);
        if let Err(refusal) = result {
            // Its lock has run out or its queue is gone: there is nothing left to give back.
            tracing::debug!(queue = %address, %refusal, "a delivery could not be given back");
        }
    }

    /// Settles one lock.
    pub(crate) fn settle(
        &self,
        address: &Address,
        lock_token: crate::state::LockToken,
        outcome: Outcome<amqp::Map>,
    ) -> Result<(), Refusal> {
        self.request(
            |request| Event::Settle { request, address: address.clone(), lock_token, outcome },
            |effect| match effect {
                Effect::Settled { result, .. } => Some(result),
                _ => None,
            },
        )
    }

    /// Registers a connection, to be told of deleted entities.
    pub(crate) fn join(&self, pushes: mpsc::UnboundedSender<Push>) -> PeerId {
        let peer = PeerId(self.next_id.fetch_add(1, Ordering::Relaxed));
        self.lock().peers.insert(peer, pushes);
        peer
    }

    /// Forgets a connection.
    pub(crate) fn leave(&self, peer: PeerId) {
        self.lock().peers.remove(&peer);
    }

    /// Looks at the state as it is now, expired locks and the like taken into account.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&State<StoredMessage>) -> T) -> T {
        self.tell(Event::Tick);
        look(&self.lock().state)
    }

    /// One queue or subscription.
    pub(crate) fn describe(&self, name: &EntityName) -> Option<QueueSnapshot> {
        self.read(|state| state.describe(name))
    }

    /// Lets time pass for the state until `stop`: sleeps until its next deadline, applies a tick, and so on.
    pub(crate) async fn run_ticker(&self, stop: CancellationToken) {
        loop {
            let deadline = self.lock().deadline;
            let moved = self.deadline_moved.notified();
            tokio::select! {
                () = stop.cancelled() => return,
                () = moved => continue,
                () = sleep_until(deadline) => {}
            }
            self.tell(Event::Tick);
        }
    }

    fn apply<T>(&self, event: Event<StoredMessage>, pick: impl Fn(Effect<StoredMessage>) -> Option<T>) -> Option<T> {
        let mut inner = self.lock();
        let effects = inner.state.apply(event, now());
        let mut answer = None;
        for effect in effects {
            if let Some(effect) = inner.route(effect) {
                answer = answer.or_else(|| pick(effect));
            }
        }
        let deadline = inner.state.next_deadline();
        if deadline != inner.deadline {
            inner.deadline = deadline;
            self.deadline_moved.notify_one();
        }
        answer
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing leaves the maps half-changed; a panic inside the state is a bug that was reported where it happened.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Sends an effect to the connection it is for; gives it back if it answers the caller. A connection that is gone
    /// gives back what was under way to it (see `Peer`'s `Drop`), so a failed send loses nothing here.
    fn route(&mut self, effect: Effect<StoredMessage>) -> Option<Effect<StoredMessage>> {
        let (receiver, push) = match effect {
            Effect::Deliver { receiver, delivery } => (receiver, Push::Deliver { receiver, delivery }),
            Effect::Drained { receiver } => (receiver, Push::Drained { receiver }),
            Effect::Detach { receiver, reason } => (receiver, Push::Detach { receiver, reason }),
            Effect::Deleted { name } => {
                for pushes in self.peers.values() {
                    let _ = pushes.send(Push::Deleted { name: name.clone() });
                }
                return None;
            }
            answer => return Some(answer),
        };
        let is_last = matches!(push, Push::Detach { .. });
        if let Some(pushes) = self.receivers.get(&receiver) {
            let _ = pushes.send(push);
        }
        if is_last {
            self.receivers.remove(&receiver);
        }
        None
    }
}

/// The wall clock, as the state and the wire count it.
pub(crate) fn now() -> Timestamp {
    let milliseconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    Timestamp::from_millis(i64::try_from(milliseconds).unwrap_or(i64::MAX))
}

/// A state's time as a system time, for the administration API.
pub(crate) fn system_time(at: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(at.as_millis()).unwrap_or(0))
}

async fn sleep_until(deadline: Option<Timestamp>) {
    match deadline {
        // A millisecond more, as the clock's fraction was cut off.
        Some(at) => tokio::time::sleep(at.saturating_since(now()).saturating_add(Duration::from_millis(1))).await,
        None => std::future::pending().await,
    }
}
