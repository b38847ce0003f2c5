//! The loop: fill a batch, send it until it is confirmed, enter its ids into the ledger, go on.
//!
//! One batch is in flight at a time, so what is confirmed is always a prefix of the ids. Rates are in `pace`, the encoding
//! and the link's limit behind the client port.

use std::fmt;
use std::time::{Duration, Instant};

use servicebus::{Backoff, Batch, ClientError, OutgoingMessage, QueueClient};
use tokio_util::sync::CancellationToken;
use workload::{Ledger, LedgerError, body};

use crate::{Progress, pace};

/// How long a batch in flight may still be confirmed once it was told to stop.
const LAST_CONFIRMATION: Duration = Duration::from_secs(3);

/// What to send.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many messages.
    pub messages: u64,
    /// Id of the first; `first_id + messages` is at most 2^64-1.
    pub first_id: u64,
    /// Messages per batch at most, at least 1.
    pub batch_size: usize,
    /// Messages per second on average; 0 is no limit.
    pub rate: f64,
    /// How long a batch that is not confirmed is tried again.
    pub retry_for: Duration,
}

/// What was sent and confirmed. Its `Display` is the summary line.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sent {
    /// Confirmed messages: the first so many of the plan.
    pub messages: u64,
    /// Confirmed batches.
    pub batches: u64,
    /// Tries that were not confirmed and made again; each may have left a batch twice in the queue.
    pub retries: u64,
    /// Messages of the last batch, where it is not known whether the broker has them.
    pub in_doubt: u64,
    /// From the first try to the last confirmation.
    pub elapsed: Duration,
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { messages, batches, retries, elapsed, in_doubt: _ } = *self;
        let seconds = elapsed.as_secs_f64();
        let rate = if seconds > 0.0 { messages as f64 / seconds } else { 0.0 };
        write!(f, "sent {messages} messages in {batches} batches in {seconds:.2} s ({rate:.0} messages/s)")?;
        if retries > 0 {
            write!(f, "; {retries} tries were not confirmed and made again, so messages may be there twice")?;
        }
        Ok(())
    }
}

/// Not everything was confirmed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// It was told to stop.
    #[error("stopped by a signal")]
    ToldToStop,
    /// An error that trying again does not mend.
    #[error("failed to send a batch")]
    Refused(#[source] ClientError),
    /// Too long without a confirmation.
    #[error("gave up after {} tries in {:.0} s", tries, after.as_secs_f64())]
    GaveUp {
        /// How often it was tried.
        tries: u64,
        /// For how long.
        after: Duration,
        /// What the last try met.
        source: ClientError,
    },
    /// One message alone is above the link's limit.
    #[error("one message does not fit into a batch of {limit} bytes, the link's limit")]
    MessageTooLarge {
        /// In bytes.
        limit: usize,
    },
    /// The messages were confirmed, but not entered into the ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl SendError {
    /// What the client said, where it was the client.
    pub fn client_error(&self) -> Option<&ClientError> {
        match self {
            Self::Refused(error) | Self::GaveUp { source: error, .. } => Some(error),
            Self::ToldToStop | Self::MessageTooLarge { .. } | Self::Ledger(_) => None,
        }
    }
}

/// Sends all of the plan. Says what was confirmed, whether or not that is all.
pub async fn send_all(
    client: &dyn QueueClient,
    plan: Plan,
    ledger: Option<&Ledger>,
    progress: &mut Progress,
    shutdown: &CancellationToken,
) -> (Sent, Result<(), SendError>) {
    let mut sending = Sending { client, plan, run: rand::random(), sent: Sent::default(), progress, shutdown };
    let result = sending.run(ledger).await;
    (sending.sent, result)
}

struct Sending<'a> {
    client: &'a dyn QueueClient,
    plan: Plan,
    /// Tells this run's message ids from those of others, so that duplicate detection drops retries and nothing else.
    run: u64,
    sent: Sent,
    progress: &'a mut Progress,
    shutdown: &'a CancellationToken,
}

impl Sending<'_> {
    async fn run(&mut self, ledger: Option<&Ledger>) -> Result<(), SendError> {
        if self.plan.messages == 0 {
            return Ok(());
        }
        let client = self.client;
        let limit = self.until_confirmed(|| client.max_batch_bytes()).await?;
        self.sent.retries = 0; // nothing was sent yet
        let started = Instant::now();
        while self.sent.messages < self.plan.messages {
            let due = pace::due(self.plan.rate, started.elapsed(), self.sent.messages);
            if due == 0 {
                let at = started.checked_add(pace::next(self.plan.rate, self.sent.messages));
                self.wait_until(at).await?;
                continue;
            }
            if self.shutdown.is_cancelled() {
                return Err(SendError::ToldToStop);
            }
            let messages = self.next_batch(due, limit)?;
            let count = messages.len() as u64;
            let retries = self.sent.retries;
            self.until_confirmed(|| client.send(&messages)).await.inspect_err(|error| {
                // A refusal at the first try says that nothing was taken; whatever else ended it says nothing.
                let is_refused = matches!(error, SendError::Refused(_)) && self.sent.retries == retries;
                self.sent.in_doubt = if is_refused { 0 } else { count };
            })?;
            let first = self.plan.first_id + self.sent.messages;
            self.sent.messages += count;
            self.sent.batches += 1;
            self.sent.elapsed = started.elapsed();
            if let Some(ledger) = ledger {
                ledger.append(first..first + count)?;
            }
            self.progress.report(self.sent.messages, Instant::now());
        }
        Ok(())
    }

    /// The next messages, at most `due` of them, as many as fit.
    fn next_batch(&self, due: u64, limit: usize) -> Result<Vec<OutgoingMessage>, SendError> {
        let most = due.min(self.plan.messages - self.sent.messages).min(self.plan.batch_size.max(1) as u64);
        let mut batch = Batch::new(limit);
        for offset in 0..most {
            if !batch.try_add(self.message(self.plan.first_id + self.sent.messages + offset)) {
                break;
            }
        }
        if batch.is_empty() { Err(SendError::MessageTooLarge { limit }) } else { Ok(batch.into_messages()) }
    }

    fn message(&self, id: u64) -> OutgoingMessage {
        OutgoingMessage {
            message_id: format!("{:016x}-{id}", self.run),
            content_type: Some(body::CONTENT_TYPE.to_owned()),
            body: body::encode(id),
            scheduled_enqueue_time: None,
        }
    }

    /// Makes a call again until it succeeds, an error says that this is in vain, or the time for it is over.
    async fn until_confirmed<T, F>(&mut self, call: impl Fn() -> F) -> Result<T, SendError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let started = Instant::now();
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let mut tries = 0;
        loop {
            tries += 1;
            let result = tokio::select! {
                result = call() => result,
                () = self.told_to_stop() => return Err(SendError::ToldToStop),
            };
            let error = match result {
                Ok(value) => {
                    if tries > 1 {
                        tracing::info!(tries, "confirmed");
                    }
                    return Ok(value);
                }
                Err(error) if error.is_transient() => error,
                Err(error) => return Err(SendError::Refused(error)),
            };
            if started.elapsed() >= self.plan.retry_for {
                return Err(SendError::GaveUp { tries, after: started.elapsed(), source: error });
            }
            self.sent.retries += 1;
            if tries == 1 {
                self.progress.clear();
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, cause, "not confirmed; trying again");
            }
            self.wait_until(Some(Instant::now() + backoff.after_failure(rand::random()))).await?;
        }
    }

    /// Comes some time after the signal, so that a batch in flight can still be confirmed.
    async fn told_to_stop(&self) {
        self.shutdown.cancelled().await;
        tokio::time::sleep(LAST_CONFIRMATION).await;
    }

    /// Waits, or ends early when told to stop. `None` is for ever.
    async fn wait_until(&self, at: Option<Instant>) -> Result<(), SendError> {
        let waiting = async {
            match at {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => Err(SendError::ToldToStop),
            () = waiting => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_says_what_was_sent_and_what_may_be_there_twice() {
        let sent = Sent { messages: 1000, batches: 2, retries: 0, in_doubt: 0, elapsed: Duration::from_millis(500) };
        assert_eq!(sent.to_string(), "sent 1000 messages in 2 batches in 0.50 s (2000 messages/s)");
        let sent = Sent { retries: 3, ..sent };
        assert_eq!(
            sent.to_string(),
            "sent 1000 messages in 2 batches in 0.50 s (2000 messages/s); 3 tries were not confirmed and made again, so \
             messages may be there twice"
        );
    }
}
