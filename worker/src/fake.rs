//! A client for tests of the loop's own logic: it answers as it was told and writes down what it was asked. What a queue
//! really does is tested against the broker, in `tests/`.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use servicebus::{
    ClientError, FailureKind, LockToken, OutgoingMessage, PeekedMessage, QueueClient, ReceivedMessage, Settlement,
};
use uuid::Uuid;

use crate::{Handler, Outcome};

/// What the client was asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Settle(Settlement),
    Renew,
    Close,
}

/// Failures of `settle`, `renew`, `receive` and `peek` to give before they succeed.
#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) settle_failures: Mutex<VecDeque<FailureKind>>,
    pub(crate) renew_failures: Mutex<VecDeque<FailureKind>>,
    pub(crate) receive_failures: Mutex<VecDeque<FailureKind>>,
    pub(crate) peek_failures: Mutex<VecDeque<FailureKind>>,
    /// How long the first `receive` takes to connect; no part of its wait.
    pub(crate) connecting: Mutex<Duration>,
    pub(crate) messages: Mutex<VecDeque<ReceivedMessage>>,
    pub(crate) asked: Mutex<Vec<Asked>>,
}

impl Fake {
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, asked: Asked) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
    }
}

fn next_failure(failures: &Mutex<VecDeque<FailureKind>>) -> Result<(), ClientError> {
    match failures.lock().unwrap_or_else(PoisonError::into_inner).pop_front() {
        Some(kind) => Err(ClientError::new(kind, "as told by the test")),
        None => Ok(()),
    }
}

#[async_trait]
impl QueueClient for Fake {
    async fn max_batch_bytes(&self) -> Result<usize, ClientError> {
        Err(ClientError::new(FailureKind::Refused, "a worker sends nothing"))
    }

    async fn send(&self, _: &[OutgoingMessage]) -> Result<(), ClientError> {
        Err(ClientError::new(FailureKind::Refused, "a worker sends nothing"))
    }

    async fn receive(&self, most: usize, wait: Duration) -> Result<Vec<ReceivedMessage>, ClientError> {
        next_failure(&self.receive_failures)?;
        let connecting = std::mem::take(&mut *self.connecting.lock().unwrap_or_else(PoisonError::into_inner));
        tokio::time::sleep(connecting).await;
        let messages: Vec<_> = {
            let mut waiting = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
            let most = most.min(waiting.len());
            waiting.drain(..most).collect()
        };
        if messages.is_empty() {
            tokio::time::sleep(wait).await;
        }
        Ok(messages)
    }

    async fn settle(&self, _: LockToken, settlement: Settlement) -> Result<(), ClientError> {
        self.note(Asked::Settle(settlement));
        next_failure(&self.settle_failures)
    }

    async fn renew(&self, _: LockToken) -> Result<SystemTime, ClientError> {
        self.note(Asked::Renew);
        next_failure(&self.renew_failures)?;
        Ok(SystemTime::now() + Duration::from_mins(1))
    }

    async fn peek(&self, _: i64, _: usize) -> Result<Vec<PeekedMessage>, ClientError> {
        next_failure(&self.peek_failures)?;
        Ok(Vec::new())
    }

    async fn close(&self) -> Result<(), ClientError> {
        self.note(Asked::Close);
        Ok(())
    }
}

/// A message with this body, locked for this long.
pub(crate) fn message(body: &'static str, lock: Duration) -> ReceivedMessage {
    ReceivedMessage {
        lock_token: LockToken(Uuid::from_u128(1)),
        locked_until: SystemTime::now() + lock,
        sequence_number: 1,
        delivery_count: 0,
        message_id: None,
        enqueued_time: None,
        body: Bytes::from_static(body.as_bytes()),
    }
}

/// A handler that says what the test wants, after the time that the test wants.
pub(crate) struct Says(pub(crate) Outcome, pub(crate) Duration);

#[async_trait]
impl Handler for Says {
    async fn handle(&self, _: &ReceivedMessage) -> Outcome {
        tokio::time::sleep(self.1).await;
        self.0.clone()
    }
}

/// A handler with a defect.
pub(crate) struct Panics;

#[async_trait]
impl Handler for Panics {
    async fn handle(&self, _: &ReceivedMessage) -> Outcome {
        panic!("a defect in a handler, on purpose");
    }
}
