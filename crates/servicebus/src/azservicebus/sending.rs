//! A sending link: one task that owns the library's sender and does what callers ask, one thing at a time.
//!
//! The library's sends can wait for ever and can panic. Either ends the link, and the caller is told that the messages
//! may or may not have been accepted; the next send makes a new link.

use std::sync::Arc;
use std::time::Duration;

use azservicebus::{ServiceBusMessage, ServiceBusSender};
use tokio::sync::{mpsc, oneshot};

use super::Spawner;
use super::dial::{Client, Target};
use super::fault::{Fault, call, probed_call};
use crate::{ClientError, FailureKind};

/// How long the broker may take to accept a batch.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// How long taking a link down may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// After this a new link is made: the library renews its token in the moment in which the old one (30 minutes) runs out,
/// and does not try again if that fails.
const MAX_AGE: Duration = Duration::from_mins(20);
/// For links whose broker states no limit: the largest batch of the service's premium tier.
const LARGEST_BATCH_BYTES: usize = 1024 * 1024;

/// A handle to the task; cheap to clone.
#[derive(Clone)]
pub(super) struct SendingLink {
    commands: mpsc::Sender<Command>,
    max_batch_bytes: usize,
    renew_at: tokio::time::Instant,
}

enum Command {
    Send { messages: Vec<ServiceBusMessage>, reply: oneshot::Sender<Result<(), Fault>> },
    Close { reply: oneshot::Sender<()> },
}

impl SendingLink {
    pub(super) fn start(spawner: &Spawner, target: Arc<Target>, client: Client, sender: ServiceBusSender) -> Self {
        let (commands, received) = mpsc::channel(16);
        let max_batch_bytes = max_batch_bytes(&sender);
        spawner.spawn(serve(target, client, sender, received));
        Self { commands, max_batch_bytes, renew_at: tokio::time::Instant::now() + MAX_AGE }
    }

    pub(super) fn is_alive(&self) -> bool {
        !self.commands.is_closed() && tokio::time::Instant::now() < self.renew_at
    }

    pub(super) fn max_batch_bytes(&self) -> usize {
        self.max_batch_bytes
    }

    pub(super) async fn send(&self, messages: Vec<ServiceBusMessage>) -> Result<(), ClientError> {
        let (reply, result) = oneshot::channel();
        if self.commands.send(Command::Send { messages, reply }).await.is_err() {
            return Err(ClientError::new(FailureKind::ConnectionLost, "the sending link came to its end"));
        }
        match result.await {
            Ok(result) => result.map_err(Into::into),
            Err(_) => Err(ClientError::new(
                FailureKind::Internal,
                "the library panicked or its link came to its end while sending; the messages may have been accepted",
            )),
        }
    }

    pub(super) async fn close(&self) {
        let (reply, done) = oneshot::channel();
        if self.commands.send(Command::Close { reply }).await.is_ok() {
            let _ = done.await;
        }
    }
}

/// What our own batches may measure so that the library's encoding of them fits too. It repeats the first message's
/// properties on the envelope and writes lists at full width, which costs a few bytes a message.
fn max_batch_bytes(sender: &ServiceBusSender) -> usize {
    const ENVELOPE_BYTES: usize = 1024;
    let limit = sender
        .create_message_batch(azservicebus::CreateMessageBatchOptions::default())
        .map_or(LARGEST_BATCH_BYTES, |batch| usize::try_from(batch.max_size_in_bytes()).unwrap_or(usize::MAX));
    let limit = if limit == 0 { LARGEST_BATCH_BYTES } else { limit.min(LARGEST_BATCH_BYTES) };
    (limit - limit / 16).saturating_sub(ENVELOPE_BYTES)
}

async fn serve(
    target: Arc<Target>,
    mut client: Client,
    mut sender: ServiceBusSender,
    mut commands: mpsc::Receiver<Command>,
) {
    let mut closing = None;
    while let Some(command) = commands.recv().await {
        match command {
            Command::Send { messages, reply } => {
                let sending = Box::pin(sender.send_messages(messages));
                let result = probed_call("send", SEND_TIMEOUT, sending, target.probe_sending(&mut client)).await;
                let ends_link = result.as_ref().is_err_and(|fault| fault.ends_link);
                if ends_link {
                    commands.close(); // before the caller hears of it and comes again
                }
                let _ = reply.send(result); // a caller that is gone does not want it
                if ends_link {
                    break;
                }
            }
            Command::Close { reply } => {
                closing = Some(reply);
                break;
            }
        }
    }
    commands.close();
    while let Ok(command) = commands.try_recv() {
        if let Command::Send { reply, .. } = command {
            let _ = reply.send(Err(Fault::new(FailureKind::ConnectionLost, "the link ended before these were sent")));
        }
    }
    // A sender that is dropped without this leaves its session half alive.
    let _ = call("close a sender", CLOSE_TIMEOUT, Box::pin(sender.dispose())).await;
    let _ = call("close a connection", CLOSE_TIMEOUT, Box::pin(client.dispose())).await;
    drop(closing);
}
