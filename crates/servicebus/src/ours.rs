//! Our adapter behind the client port, on the workspace's own AMQP engine.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use crate::{
    ClientError, ConnectionString, FailureKind, LockToken, OutgoingMessage, PeekedMessage, QueueClient,
    ReceivedMessage, Settlement,
};

pub(crate) mod encode;

pub(crate) fn connect(connection: &ConnectionString, queue: &str) -> Arc<dyn QueueClient> {
    Arc::new(OurClient { what: format!("{}/{queue}", connection.host()) })
}

struct OurClient {
    what: String,
}

impl OurClient {
    fn pending(&self) -> ClientError {
        ClientError::new(FailureKind::Internal, format!("{}: the adapter is not finished", self.what))
    }
}

#[async_trait]
impl QueueClient for OurClient {
    async fn max_batch_bytes(&self) -> Result<usize, ClientError> {
        Err(self.pending())
    }
    async fn send(&self, _: &[OutgoingMessage]) -> Result<(), ClientError> {
        Err(self.pending())
    }
    async fn receive(&self, _: usize, _: Duration) -> Result<Vec<ReceivedMessage>, ClientError> {
        Err(self.pending())
    }
    async fn settle(&self, _: LockToken, _: Settlement) -> Result<(), ClientError> {
        Err(self.pending())
    }
    async fn renew(&self, _: LockToken) -> Result<SystemTime, ClientError> {
        Err(self.pending())
    }
    async fn peek(&self, _: i64, _: usize) -> Result<Vec<PeekedMessage>, ClientError> {
        Err(self.pending())
    }
    async fn close(&self) -> Result<(), ClientError> {
        Ok(())
    }
}
