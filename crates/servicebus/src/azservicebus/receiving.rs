//! A receiving link: one task that owns the library's receiver and the messages it has received.
//!
//! The library receives, settles, renews and peeks through one `&mut`, so the task does one of these at a time: it
//! receives in short slices and lets commands go first. It settles without hearing the broker's answer; [`Link::settle`]
//! makes up for that by looking whether the message is really gone.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use azservicebus::receiver::DeadLetterOptions;
use azservicebus::{ServiceBusReceivedMessage, ServiceBusReceiver};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::dial::{Client, Target};
use super::fault::{Fault, call, probed_call};
use super::handle::{Command, ReceivingLink, Reply, State};
use super::{Inbox, Spawner, convert};
use crate::{FailureKind, LockToken, PeekedMessage, Settlement};

/// How long one call of the library may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one receive waits: it holds up nobody, and ends well before the library's own deadline.
const SLICE: Duration = Duration::from_millis(250);
/// After waiting in vain for so long a new link is made: one that the broker has closed looks like an empty queue for ever.
const MAX_IDLE: Duration = Duration::from_secs(30);
/// After this a new link is made, for its token's sake; see `sending`.
const MAX_AGE: Duration = Duration::from_mins(20);
/// How long a link that receives no more is kept for the locks it may still hold, beyond their end by our clock.
const LOCK_TOLERANCE: Duration = Duration::from_secs(30);
/// How long taking a link down may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// With less than this left of a lock by our clock, the broker is asked whether it still holds.
const LOCK_MARGIN: Duration = Duration::from_secs(1);
/// When to look whether a settled message is gone. The answer can lag behind on a service of many nodes.
const LOOKS: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(20),
    Duration::from_millis(80),
    Duration::from_millis(200),
    Duration::from_millis(500),
];

/// Numbers links, so that each finds its own messages in the inbox.
static NEXT_LINK: AtomicU64 = AtomicU64::new(0);

/// A link's part of the inbox; when the link is gone, by a panic too, what it received is worth nothing.
struct Post {
    number: u64,
    inbox: Arc<Inbox>,
}

impl Drop for Post {
    fn drop(&mut self) {
        self.inbox.forget(self.number);
    }
}

struct Held {
    message: ServiceBusReceivedMessage,
    locked_until: SystemTime,
}

/// A link: what its task owns.
pub(super) struct Link {
    target: Arc<Target>,
    client: Client,
    receiver: ServiceBusReceiver,
    held: HashMap<LockToken, Held>,
    post: Post,
    state: watch::Sender<State>,
    started: Instant,
    /// Since when callers have been waiting in vain.
    idle_since: Option<Instant>,
    /// The last receive was given up or came to its end while its message may have been on the way.
    one_may_come: bool,
}

impl Link {
    /// Starts a link on the thread.
    pub(super) fn start(
        spawner: &Spawner,
        target: Arc<Target>,
        client: Client,
        receiver: ServiceBusReceiver,
        inbox: Arc<Inbox>,
    ) -> ReceivingLink {
        let (handle, orders, state) = ReceivingLink::new();
        let number = NEXT_LINK.fetch_add(1, Ordering::Relaxed);
        let link = Link {
            target,
            client,
            receiver,
            held: HashMap::new(),
            post: Post { number, inbox },
            state,
            started: Instant::now(),
            idle_since: None,
            one_may_come: false,
        };
        spawner.spawn(link.live(orders));
        handle
    }

    async fn live(mut self, mut commands: mpsc::Receiver<Command>) {
        let (end, closing) = match self.serve(&mut commands).await {
            Ok(closing) => (None, closing),
            Err(fault) => (Some(fault), None),
        };
        commands.close();
        // Callers hear of it before the link is taken down, which may take long on a dead connection.
        self.state.send_replace(State::Ended(end.clone()));
        while let Ok(command) = commands.try_recv() {
            command.refuse(end.as_ref());
        }
        let Self { client, receiver, post, .. } = self;
        drop(post);
        let _ = call("close a receiver", CLOSE_TIMEOUT, Box::pin(receiver.dispose())).await;
        let _ = call("close a connection", CLOSE_TIMEOUT, Box::pin(client.dispose())).await;
        drop(closing);
    }

    /// Works until told to close, until all handles are gone, or until it is of no use any more.
    async fn serve(&mut self, commands: &mut mpsc::Receiver<Command>) -> Result<Option<oneshot::Sender<()>>, Fault> {
        loop {
            self.retire_in_time();
            let retired = !matches!(*self.state.borrow(), State::Receiving);
            if retired && self.held.is_empty() {
                self.give_back().await;
                return Ok(None);
            }
            let wanted = if retired { 0 } else { self.post.inbox.wanted() };
            if wanted == 0 {
                self.idle_since = None;
            }
            let inbox = self.post.inbox.clone();
            let command = tokio::select! {
                biased;
                command = commands.recv() => Some(command),
                () = inbox.demanded(), if !retired && wanted == 0 => None,
                () = tokio::time::sleep(SLICE), if retired => None,
                // Always one message: asked for more the library waits for all of them, and loses those it has when
                // it is given up. Asked for one it can be given up at any point.
                received = Box::pin(self.receiver.receive_messages_with_max_wait_time(1, SLICE)), if wanted > 0 => {
                    let received = received.map_err(|error| Fault::of("receive", &error))?;
                    self.one_may_come = received.is_empty();
                    if received.is_empty() {
                        self.idle_since.get_or_insert_with(Instant::now);
                    } else {
                        self.idle_since = None;
                        self.keep(received);
                    }
                    continue;
                }
            };
            self.one_may_come |= wanted > 0;
            match command {
                None => {}
                // The client was dropped.
                Some(None) => {
                    self.give_back().await;
                    return Ok(None);
                }
                Some(Some(Command::Close { reply })) => {
                    self.give_back().await;
                    return Ok(Some(reply));
                }
                Some(Some(command)) => self.obey(command).await?,
            }
        }
    }

    fn retire_in_time(&mut self) {
        let now = Instant::now();
        let idle = self.idle_since.is_some_and(|since| now.duration_since(since) > MAX_IDLE);
        if idle || now.duration_since(self.started) > MAX_AGE {
            self.state.send_if_modified(|state| {
                let receiving = matches!(state, State::Receiving);
                if receiving {
                    *state = State::Retired;
                }
                receiving
            });
        }
        let wall = SystemTime::now();
        self.held.retain(|_, held| held.locked_until + LOCK_TOLERANCE > wall);
    }

    /// Puts what came into the inbox.
    fn keep(&mut self, received: Vec<ServiceBusReceivedMessage>) {
        for message in received {
            match convert::received(&message) {
                Ok(converted) => {
                    let held = Held { message, locked_until: converted.locked_until };
                    self.held.insert(converted.lock_token, held);
                    self.post.inbox.put(self.post.number, converted);
                }
                Err(fault) => tracing::warn!(what = fault.what, "dropped a message; it comes again"),
            }
        }
    }

    /// Does what a caller asks. An error here ends the link.
    async fn obey(&mut self, command: Command) -> Result<(), Fault> {
        match command {
            Command::Settle { lock_token, settlement, reply } => {
                let result = self.settle(lock_token, settlement).await;
                self.answer(reply, result)
            }
            Command::Renew { lock_token, reply } => {
                let result = self.renew(lock_token).await;
                self.answer(reply, result)
            }
            Command::Peek { from, most, reply } => {
                let result = self.peek(from, most).await;
                self.answer(reply, Some(result))
            }
            Command::Close { reply } => {
                drop(reply);
                Ok(())
            }
        }
    }

    /// Hands an answer to its caller. A fault that ends the link is also the result, so that it does; it is marked as
    /// ended before the caller hears of it and comes again.
    fn answer<T>(&self, reply: Reply<T>, result: Option<Result<T, Fault>>) -> Result<(), Fault> {
        let end = match &result {
            Some(Err(fault)) if fault.ends_link => Err(fault.clone()),
            _ => Ok(()),
        };
        if let Err(fault) = &end {
            self.state.send_replace(State::Ended(Some(fault.clone())));
        }
        let _ = reply.send(result); // a caller that is gone does not want it
        end
    }

    /// Settles, and finds out whether the broker did so too. `None`: not held here.
    async fn settle(&mut self, lock_token: LockToken, settlement: Settlement) -> Option<Result<(), Fault>> {
        let locked_until = self.held.get(&lock_token)?.locked_until;
        if SystemTime::now() + LOCK_MARGIN > locked_until
            && let Err(fault) = self.renew(lock_token).await?
        {
            return Some(Err(fault));
        }
        let Held { message, .. } = self.held.remove(&lock_token)?;
        let must_be_gone = matches!(settlement, Settlement::Complete | Settlement::DeadLetter { .. });
        let receiver = &mut self.receiver;
        // These write and do not wait for an answer, so a deadline is all they need.
        let settled = match settlement {
            Settlement::Complete => call("complete", CALL_TIMEOUT, Box::pin(receiver.complete_message(&message))).await,
            // The library cannot release.
            Settlement::Abandon | Settlement::Release => {
                call("abandon", CALL_TIMEOUT, Box::pin(receiver.abandon_message(&message, None))).await
            }
            Settlement::DeadLetter { reason, description } => {
                let options = DeadLetterOptions {
                    dead_letter_reason: Some(reason),
                    dead_letter_error_description: Some(description),
                    properties_to_modify: None,
                };
                call("dead-letter", CALL_TIMEOUT, Box::pin(receiver.dead_letter_message(&message, options))).await
            }
        };
        if let Err(fault) = settled {
            return Some(Err(fault));
        }
        let sequence_number = message.sequence_number();
        for pause in LOOKS {
            tokio::time::sleep(pause).await;
            // The answer comes over the same connection and after the settlement, so it also proves that this arrived.
            match self.peek(sequence_number, 1).await {
                Ok(seen) if must_be_gone && seen.iter().any(|seen| seen.sequence_number == sequence_number) => {}
                Ok(_) => return Some(Ok(())),
                Err(fault) => return Some(Err(fault)),
            }
        }
        Some(Err(Fault::answer(FailureKind::LockLost, "the message is still in the queue after it was settled")))
    }

    async fn renew(&mut self, lock_token: LockToken) -> Option<Result<SystemTime, Fault>> {
        let held = self.held.get_mut(&lock_token)?;
        let renewing = Box::pin(self.receiver.renew_message_lock(&mut held.message));
        let probe = self.target.probe_receiving(&mut self.client);
        let renewed = probed_call("renew a lock", CALL_TIMEOUT, renewing, probe).await;
        match renewed {
            Ok(()) => {
                held.locked_until = convert::locked_until(&held.message).unwrap_or(held.locked_until);
                Some(Ok(held.locked_until))
            }
            Err(fault) => {
                if fault.kind == FailureKind::LockLost {
                    self.held.remove(&lock_token);
                }
                Some(Err(fault))
            }
        }
    }

    async fn peek(&mut self, from: i64, most: u32) -> Result<Vec<PeekedMessage>, Fault> {
        let peeking = Box::pin(self.receiver.peek_messages(most, Some(from)));
        let probe = self.target.probe_receiving(&mut self.client);
        let peeked = probed_call("peek", CALL_TIMEOUT, peeking, probe).await?;
        peeked.iter().map(convert::peeked).collect()
    }

    /// Abandons what nobody has taken, and what came after nobody waited any more.
    async fn give_back(&mut self) {
        let mut back: Vec<LockToken> = self.post.inbox.forget(self.post.number);
        if self.one_may_come
            && let Ok(late) = Box::pin(self.receiver.receive_messages_with_max_wait_time(1, SLICE)).await
        {
            let before: Vec<LockToken> = self.held.keys().copied().collect();
            self.keep(late);
            self.post.inbox.forget(self.post.number);
            back.extend(self.held.keys().filter(|token| !before.contains(token)));
        }
        for lock_token in back {
            if let Some(Err(fault)) = self.settle(lock_token, Settlement::Release).await {
                tracing::debug!(
                    what = fault.what,
                    "a message was not given back; it comes again when its lock has run out"
                );
                if fault.ends_link {
                    return;
                }
            }
        }
    }
}
