//! Our adapter behind the client port, on the workspace's own AMQP engine.
//!
//! A client is a handle; one task ([`owner`]) owns the connection and all state. Calls go to it as commands and come back
//! as answers, so any number may run side by side and none can hang: each has its deadline in the owner's table. The task
//! starts with the first call and ends when the client is closed or its last handle is dropped.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};
use tracing::Instrument as _;

use crate::{
    ClientError, ClientOptions, ConnectionString, EntityName, LockToken, OutgoingMessage, PeekedMessage, QueueClient,
    ReceivedMessage, Settlement, sas,
};

mod call;
mod claims;
mod conversation;
mod decode;
mod dial;
pub(crate) mod encode;
mod failure;
mod inbox;
mod managing;
mod owner;
mod receiving;
mod sending;
mod slot;

use call::{Command, Job, Reply, Waiter};
use dial::Dialler;
use failure::{Failure, Peer};
use owner::Owner;

/// What does not change in the life of a client.
struct Settings {
    connection: ConnectionString,
    dialler: Dialler,
    peer: Peer,
    call_timeout: Duration,
    connect_timeout: Duration,
    token_lifetime: Duration,
}

/// Makes the client of one entity. Nothing is dialled yet.
pub(crate) fn connect(
    connection: &ConnectionString,
    entity: EntityName,
    options: &ClientOptions,
) -> Arc<dyn QueueClient> {
    let settings = Arc::new(Settings {
        connection: connection.clone(),
        dialler: Dialler::new(connection, &options.extra_roots),
        peer: Peer::new(entity, connection.host(), connection.amqp_port()),
        call_timeout: options.call_timeout,
        connect_timeout: options.connect_timeout,
        token_lifetime: sas::TOKEN_LIFETIME,
    });
    let (commands, taken) = mpsc::unbounded_channel();
    let owner = Mutex::new(Some(Owner::new(settings.clone(), taken)));
    Arc::new(OurClient { commands, owner, settings, next_waiter: AtomicU64::new(0) })
}

struct OurClient {
    commands: mpsc::UnboundedSender<Command>,
    /// The owner until the first call starts it.
    owner: Mutex<Option<Owner>>,
    settings: Arc<Settings>,
    next_waiter: AtomicU64,
}

impl OurClient {
    /// Hands a command to the owner, which has ended if it was closed.
    fn tell(&self, command: Command) {
        let owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(owner) = owner {
            let span = tracing::info_span!("servicebus", entity = self.settings.peer.path);
            tokio::spawn(owner.run().instrument(span));
        }
        // A command that nobody takes drops its reply, which its caller reads as "closed".
        let _ = self.commands.send(command);
    }

    async fn call<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T, ClientError> {
        let (reply, answer) = oneshot::channel();
        self.tell(Command::Call { job: job(reply), deadline: Instant::now() + self.settings.call_timeout });
        answer.await.unwrap_or_else(|_| Err(Failure::closed().into()))
    }
}

#[async_trait]
impl QueueClient for OurClient {
    async fn max_batch_bytes(&self) -> Result<usize, ClientError> {
        self.call(Job::Limit).await
    }

    async fn send(&self, messages: &[OutgoingMessage]) -> Result<(), ClientError> {
        if messages.is_empty() {
            return Ok(());
        }
        let transfer = encode::transfer(messages);
        self.call(|reply| Job::Send { transfer, reply }).await
    }

    async fn receive(&self, max_messages: usize, max_wait: Duration) -> Result<Vec<ReceivedMessage>, ClientError> {
        if max_messages == 0 {
            return Ok(Vec::new());
        }
        let id = self.next_waiter.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        // From here on the guard gives back what this future does not take.
        let mut awaited = Awaited { id, answer, commands: self.commands.clone(), taken: false };
        let started = Instant::now();
        self.tell(Command::Receive(Waiter {
            id,
            max: u32::try_from(max_messages).unwrap_or(u32::MAX),
            wait: max_wait,
            started,
            ask_by: started + self.settings.call_timeout,
            until: None,
            reply,
        }));
        let answer = (&mut awaited.answer).await;
        awaited.taken = true;
        answer.unwrap_or_else(|_| Err(Failure::closed().into()))
    }

    async fn settle(&self, lock_token: LockToken, settlement: Settlement) -> Result<(), ClientError> {
        self.call(|reply| Job::Settle { lock_token, settlement, reply }).await
    }

    async fn renew(&self, lock_token: LockToken) -> Result<SystemTime, ClientError> {
        self.call(|reply| Job::Renew { lock_token, reply }).await
    }

    async fn peek(&self, from_sequence_number: i64, max_messages: usize) -> Result<Vec<PeekedMessage>, ClientError> {
        if max_messages == 0 {
            return Ok(Vec::new());
        }
        let max_messages = i32::try_from(max_messages).unwrap_or(i32::MAX);
        self.call(|reply| Job::Peek { from_sequence_number, max_messages, reply }).await
    }

    async fn close(&self) -> Result<(), ClientError> {
        let (reply, answer) = oneshot::channel();
        self.tell(Command::Close(reply));
        // Closed already is closed.
        answer.await.unwrap_or(Ok(()))
    }
}

/// A wait for messages. Dropped before the answer was taken, it sends the messages back to the owner.
struct Awaited {
    id: u64,
    answer: oneshot::Receiver<Result<Vec<ReceivedMessage>, ClientError>>,
    commands: mpsc::UnboundedSender<Command>,
    taken: bool,
}

impl Drop for Awaited {
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        self.answer.close();
        let unread = match self.answer.try_recv() {
            Ok(Ok(messages)) => messages,
            _ => Vec::new(),
        };
        let _ = self.commands.send(Command::ReceiveOver { id: self.id, unread });
    }
}
