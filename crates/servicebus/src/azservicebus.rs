//! The second adapter: the crate `azservicebus` behind the client port, its known defects contained as far as they can be.
//!
//! The library's objects want `&mut`, hang, panic and do not report what the broker said. So each link lives in a task of
//! its own on a thread of its own ([`engine`]); callers talk to it by commands and never wait for the library itself. Every
//! call has a deadline; a link that fails, panics, falls silent or grows old is replaced ([`receiving`], [`sending`]). The
//! library's own retries are off: they ignore the kind of error. What cannot be contained is listed, by test name, in
//! `docs/adr/0003-azservicebus-adapter.md`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::time::Instant;

use crate::adapter::{Adapter, ConnectError};
use crate::{
    Batch, ClientError, ConnectionString, FailureKind, LockToken, OutgoingMessage, PeekedMessage, QueueClient,
    ReceivedMessage, Settlement,
};

mod convert;
mod dial;
mod engine;
mod fault;
mod handle;
mod inbox;
mod receiving;
mod sending;

use dial::Target;
use engine::{Engine, Spawner};
use fault::Fault;
use handle::ReceivingLink;
use inbox::Inbox;
use receiving::Link;
use sending::SendingLink;

/// Makes the client of the entity at a path. Nothing is dialled yet.
pub(crate) fn connect(connection: &ConnectionString, path: &str) -> Result<Arc<dyn QueueClient>, ConnectError> {
    let engine = Engine::start().map_err(|error| ConnectError::Unsupported {
        adapter: Adapter::Azservicebus,
        why: format!("its thread cannot be started: {error}"),
    })?;
    let links = Links {
        target: Arc::new(Target::new(connection, path)),
        spawner: engine.spawner().clone(),
        inbox: Arc::default(),
        receiving: Mutex::default(),
        sending: Mutex::default(),
        dialling_receiver: tokio::sync::Mutex::default(),
        dialling_sender: tokio::sync::Mutex::default(),
        closed: AtomicBool::new(false),
    };
    Ok(Arc::new(Azservicebus { links: Arc::new(links), _engine: engine }))
}

/// The adapter. When it is dropped its links notice, give back what nobody has taken, and end; then the thread ends.
struct Azservicebus {
    links: Arc<Links>,
    _engine: Engine,
}

/// The links, made when they are needed. Messages received wait in the inbox until a caller takes them.
struct Links {
    target: Arc<Target>,
    spawner: Spawner,
    inbox: Arc<Inbox>,
    /// Every receiving link that may still hold locks; the last one receives.
    receiving: Mutex<Vec<ReceivingLink>>,
    sending: Mutex<Option<SendingLink>>,
    /// Held while a link is made, so that only one is.
    dialling_receiver: tokio::sync::Mutex<()>,
    dialling_sender: tokio::sync::Mutex<()>,
    closed: AtomicBool,
}

impl Links {
    fn check_open(&self) -> Result<(), Fault> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Fault::answer(FailureKind::Refused, "this client is closed"));
        }
        Ok(())
    }

    /// The links that may hold locks, newest first. Ended ones are forgotten.
    fn holders(&self) -> Vec<ReceivingLink> {
        let mut links = self.receiving.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(ReceivingLink::is_alive);
        links.iter().rev().cloned().collect()
    }

    /// The link that receives; made if there is none. It is made in the background, so that a receive is under way from
    /// the moment in which it was asked for.
    async fn receiver(self: &Arc<Self>) -> Result<ReceivingLink, ClientError> {
        self.check_open()?;
        match self.holders().into_iter().find(ReceivingLink::receives) {
            Some(link) => Ok(link),
            None => self.spawner.run("connect a receiver", Box::pin(self.clone().new_receiver())).await,
        }
    }

    async fn new_receiver(self: Arc<Self>) -> Result<ReceivingLink, Fault> {
        let _only_one = self.dialling_receiver.lock().await;
        if let Some(link) = self.holders().into_iter().find(ReceivingLink::receives) {
            return Ok(link);
        }
        let (client, receiver) = self.target.clone().receiver().await?;
        let link = Link::start(&self.spawner, self.target.clone(), client, receiver, self.inbox.clone());
        self.receiving.lock().unwrap_or_else(PoisonError::into_inner).push(link.clone());
        // A close that came meanwhile either sees the link or is seen here.
        if let Err(closed) = self.check_open() {
            link.close().await;
            return Err(closed);
        }
        Ok(link)
    }

    /// The link that sends; made if there is none.
    async fn sender(self: &Arc<Self>) -> Result<SendingLink, ClientError> {
        self.check_open()?;
        match self.living_sender() {
            Some(link) => Ok(link),
            None => self.spawner.run("connect a sender", Box::pin(self.clone().new_sender())).await,
        }
    }

    fn living_sender(&self) -> Option<SendingLink> {
        let link = self.sending.lock().unwrap_or_else(PoisonError::into_inner).clone();
        link.filter(SendingLink::is_alive)
    }

    async fn new_sender(self: Arc<Self>) -> Result<SendingLink, Fault> {
        let _only_one = self.dialling_sender.lock().await;
        if let Some(link) = self.living_sender() {
            return Ok(link);
        }
        let (client, sender) = self.target.clone().sender().await?;
        let link = SendingLink::start(&self.spawner, self.target.clone(), client, sender);
        *self.sending.lock().unwrap_or_else(PoisonError::into_inner) = Some(link.clone());
        if let Err(closed) = self.check_open() {
            link.close().await;
            return Err(closed);
        }
        Ok(link)
    }
}

#[async_trait]
impl QueueClient for Azservicebus {
    async fn max_batch_bytes(&self) -> Result<usize, ClientError> {
        Ok(self.links.sender().await?.max_batch_bytes())
    }

    async fn send(&self, messages: &[OutgoingMessage]) -> Result<(), ClientError> {
        if messages.is_empty() {
            return Ok(self.links.check_open()?);
        }
        let converted = messages.iter().map(convert::outgoing).collect::<Result<Vec<_>, _>>()?;
        let link = self.links.sender().await?;
        let mut batch = Batch::new(link.max_batch_bytes());
        if !messages.iter().all(|message| batch.try_add(message.clone())) {
            let what = format!("the messages are larger than {} bytes, the limit of a batch", link.max_batch_bytes());
            return Err(ClientError::new(FailureKind::TooLarge, what));
        }
        link.send(converted).await
    }

    async fn receive(&self, max_messages: usize, max_wait: Duration) -> Result<Vec<ReceivedMessage>, ClientError> {
        self.links.check_open()?;
        if max_messages == 0 {
            return Ok(Vec::new());
        }
        // A day is for ever, and does not overflow.
        let deadline = Instant::now() + max_wait.min(Duration::from_hours(24));
        let mut demand = self.links.inbox.demand(max_messages);
        loop {
            let arrival = self.links.inbox.arrival();
            tokio::pin!(arrival);
            arrival.as_mut().enable();
            let messages = demand.take();
            if !messages.is_empty() {
                return Ok(messages);
            }
            let mut link = self.links.receiver().await?;
            tokio::select! {
                () = arrival => {}
                () = tokio::time::sleep_until(deadline) => return Ok(demand.take()),
                ended = link.receives_no_more() => ended?,
            }
        }
    }

    async fn settle(&self, lock_token: LockToken, settlement: Settlement) -> Result<(), ClientError> {
        self.links.check_open()?;
        for link in self.links.holders() {
            if let Some(result) = link.settle(lock_token, settlement.clone()).await {
                return result;
            }
        }
        Err(fault::not_held().into())
    }

    async fn renew(&self, lock_token: LockToken) -> Result<SystemTime, ClientError> {
        self.links.check_open()?;
        for link in self.links.holders() {
            if let Some(result) = link.renew(lock_token).await {
                return result;
            }
        }
        Err(fault::not_held().into())
    }

    async fn peek(&self, from_sequence_number: i64, max_messages: usize) -> Result<Vec<PeekedMessage>, ClientError> {
        if max_messages == 0 {
            self.links.check_open()?;
            return Ok(Vec::new());
        }
        self.links.receiver().await?.peek(from_sequence_number, max_messages).await
    }

    async fn close(&self) -> Result<(), ClientError> {
        if self.links.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        for link in self.links.holders() {
            link.close().await;
        }
        let sending = self.links.sending.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(link) = sending {
            link.close().await;
        }
        Ok(())
    }
}
