//! The handler of the sample worker: it takes as long as work would, and keeps a ledger of what it did.

use std::time::Duration;

use async_trait::async_trait;
use servicebus::ReceivedMessage;
use workload::{Ledger, body};

use crate::{Handler, Outcome};

/// The dead-letter reason of a message without an id in its body.
const BAD_BODY: &str = "BadBody";

/// Waits, then writes the message's id to the ledger. The ledger comes before the completion, so that a crash between the
/// two shows as a duplicate, never as a loss.
#[derive(Debug)]
pub struct Simulated {
    work: Duration,
    ledger: Option<Ledger>,
}

impl Simulated {
    /// A handler that takes `work` for each message.
    pub fn new(work: Duration, ledger: Option<Ledger>) -> Self {
        Self { work, ledger }
    }
}

#[async_trait]
impl Handler for Simulated {
    async fn handle(&self, message: &ReceivedMessage) -> Outcome {
        let id = match body::parse(&message.body) {
            Ok(id) => id,
            Err(error) => {
                return Outcome::DeadLetter { reason: BAD_BODY.to_owned(), description: error.to_string() };
            }
        };
        tokio::time::sleep(self.work).await;
        if let Some(ledger) = &self.ledger
            && let Err(error) = ledger.append([id])
        {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            return Outcome::Abandon { why: format!("{error}{cause}") };
        }
        tracing::debug!(id, sequence_number = message.sequence_number, "handled");
        Outcome::Complete
    }
}
