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
    ClientError, ConnectionString, FailureKind, LockToken, OutgoingMessage, PeekedMessage, QueueClient,
    ReceivedMessage, Settlement,
};

mod convert;
mod dial;
mod engine;
mod fault;
mod inbox;
mod receiving;
mod sending;

use dial::Target;
use engine::Engine;
use fault::Fault;
use inbox::Inbox;
use receiving::ReceivingLink;
use sending::SendingLink;

/// Makes the client of one queue. Nothing is dialled yet.
pub(crate) fn connect(connection: &ConnectionString, queue: &str) -> Result<Arc<dyn QueueClient>, ConnectError> {
    let engine = Engine::start().map_err(|error| ConnectError::Unsupported {
        adapter: Adapter::Azservicebus,
        why: format!("its thread cannot be started: {error}"),
    })?;
    Ok(Arc::new(Azservicebus {
        target: Arc::new(Target::new(connection, queue)),
        engine,
        inbox: Arc::default(),
        receiving: Mutex::default(),
        sending: Mutex::default(),
        dialling_receiver: tokio::sync::Mutex::default(),
        dialling_sender: tokio::sync::Mutex::default(),
        closed: AtomicBool::new(false),
    }))
}

/// The adapter. Links are made when they are needed; messages received wait in the inbox until a caller takes them.
struct Azservicebus {
    target: Arc<Target>,
    engine: Engine,
    inbox: Arc<Inbox>,
    /// Every receiving link that may still hold locks; the last one receives.
    receiving: Mutex<Vec<ReceivingLink>>,
    sending: Mutex<Option<SendingLink>>,
    /// Held while a link is made, so that only one is.
    dialling_receiver: tokio::sync::Mutex<()>,
    dialling_sender: tokio::sync::Mutex<()>,
    closed: AtomicBool,
}

impl Azservicebus {
    fn check_open(&self) -> Result<(), ClientError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(ClientError::new(FailureKind::Refused, "this client is closed"));
        }
        Ok(())
    }

    /// The links that may hold locks, newest first. Ended ones are forgotten.
    fn receiving_links(&self) -> Vec<ReceivingLink> {
        let mut links = self.receiving.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(ReceivingLink::is_alive);
        links.iter().rev().cloned().collect()
    }

    /// The link that receives; made if there is none.
    async fn receiver(&self) -> Result<ReceivingLink, ClientError> {
        let _only_one = self.dialling_receiver.lock().await;
        self.check_open()?;
        if let Some(link) = self.receiving_links().into_iter().find(ReceivingLink::receives) {
            return Ok(link);
        }
        let (client, receiver) =
            self.engine.run("connect a receiver", Box::pin(self.target.clone().receiver())).await?;
        let link = ReceivingLink::start(&self.engine, self.target.clone(), client, receiver, self.inbox.clone());
        self.receiving.lock().unwrap_or_else(PoisonError::into_inner).push(link.clone());
        // A close that came meanwhile either sees the link or is seen here.
        if let Err(closed) = self.check_open() {
            link.close().await;
            return Err(closed);
        }
        Ok(link)
    }

    /// The link that sends; made if there is none.
    async fn sender(&self) -> Result<SendingLink, ClientError> {
        let _only_one = self.dialling_sender.lock().await;
        self.check_open()?;
        let existing = self.sending.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(link) = existing.filter(SendingLink::is_alive) {
            return Ok(link);
        }
        let (client, sender) = self.engine.run("connect a sender", Box::pin(self.target.clone().sender())).await?;
        let link = SendingLink::start(&self.engine, self.target.clone(), client, sender);
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
        Ok(self.sender().await?.max_batch_bytes())
    }

    async fn send(&self, messages: &[OutgoingMessage]) -> Result<(), ClientError> {
        if messages.is_empty() {
            return self.check_open();
        }
        let messages = messages.iter().map(convert::outgoing).collect::<Result<Vec<_>, _>>()?;
        self.sender().await?.send(messages).await
    }

    async fn receive(&self, max_messages: usize, max_wait: Duration) -> Result<Vec<ReceivedMessage>, ClientError> {
        self.check_open()?;
        if max_messages == 0 {
            return Ok(Vec::new());
        }
        // A day is for ever, and does not overflow.
        let deadline = Instant::now() + max_wait.min(Duration::from_hours(24));
        let mut demand = self.inbox.demand(max_messages);
        loop {
            let arrival = self.inbox.arrival();
            tokio::pin!(arrival);
            arrival.as_mut().enable();
            let messages = demand.take();
            if !messages.is_empty() {
                return Ok(messages);
            }
            let mut link = self.receiver().await?;
            tokio::select! {
                () = arrival => {}
                () = tokio::time::sleep_until(deadline) => return Ok(demand.take()),
                ended = link.receives_no_more() => ended?,
            }
        }
    }

    async fn settle(&self, lock_token: LockToken, settlement: Settlement) -> Result<(), ClientError> {
        self.check_open()?;
        for link in self.receiving_links() {
            if let Some(result) = link.settle(lock_token, settlement.clone()).await {
                return result;
            }
        }
        Err(fault::not_held().into())
    }

    async fn renew(&self, lock_token: LockToken) -> Result<SystemTime, ClientError> {
        self.check_open()?;
        for link in self.receiving_links() {
            if let Some(result) = link.renew(lock_token).await {
                return result;
            }
        }
        Err(fault::not_held().into())
    }

    async fn peek(&self, from_sequence_number: i64, max_messages: usize) -> Result<Vec<PeekedMessage>, ClientError> {
        if max_messages == 0 {
            self.check_open()?;
            return Ok(Vec::new());
        }
        self.receiver().await?.peek(from_sequence_number, max_messages).await
    }

    async fn close(&self) -> Result<(), ClientError> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        for link in self.receiving_links() {
            link.close().await;
        }
        let sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(link) = sending {
            link.close().await;
        }
        Ok(())
    }
}
