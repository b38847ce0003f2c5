//! One queue's messages: put one in, take it out again. Over AMQP, as senders and workers do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use servicebus::{Adapter, ConnectionString, OutgoingMessage, QueueClient, Settlement};

/// How long a message that is there may take to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// A queue's messages.
pub(crate) struct Mailbox(Arc<dyn QueueClient>);

impl Mailbox {
    /// Connects with the first message.
    pub(crate) fn open(connection: &str, queue: &str) -> anyhow::Result<Self> {
        let connection = ConnectionString::parse(connection)?;
        Ok(Self(servicebus::connect(&connection, queue, Adapter::Ours)?))
    }

    /// Puts one message in. Says when its sender knew that the broker has accepted it.
    pub(crate) async fn put(&self) -> anyhow::Result<Instant> {
        let message = OutgoingMessage {
            message_id: "wake-up".to_owned(),
            content_type: None,
            body: bytes::Bytes::from_static(b"{}"),
            scheduled_enqueue_time: None,
        };
        self.0.send(&[message]).await?;
        Ok(Instant::now())
    }

    /// Takes the one message out.
    pub(crate) async fn take(&self) -> anyhow::Result<()> {
        let messages = self.0.receive(1, PATIENCE).await?;
        ensure!(messages.len() == 1, "the message did not come within {PATIENCE:?}");
        Ok(self.0.settle(messages[0].lock_token, Settlement::Complete).await?)
    }

    /// Ends its connection.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        Ok(self.0.close().await?)
    }
}
