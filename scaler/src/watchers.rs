//! Pollers of the queues that push streams watch: one for each queue, however many streams look at it, and none when
//! nobody does. Owns the table of running pollers; reads through the shared cache like everybody else.
//!
//! A poller publishes readings, not decisions: each stream has its own policy and its own activation.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::config::ConfigHandle;
use crate::readings::{Freshness, Key, Readings, Seen};
use crate::source::{Query, ReadFailure};

/// The newest outcome of a poller; `None` until its first read has ended.
pub type Latest = Option<Result<Seen, Arc<ReadFailure>>>;

/// All running pollers. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Watchers(Arc<Inner>);

struct Inner {
    readings: Readings,
    config: ConfigHandle,
    interval: Duration,
    shutdown: CancellationToken,
    pollers: Mutex<HashMap<Key, watch::Sender<Latest>>>,
}

impl Watchers {
    /// No poller yet. Each will look every `interval` until `shutdown`.
    pub fn new(readings: Readings, config: ConfigHandle, interval: Duration, shutdown: CancellationToken) -> Self {
        Self(Arc::new(Inner { readings, config, interval, shutdown, pollers: Mutex::default() }))
    }

    /// Follows a queue. Starts its poller if there is none; it ends by itself when the last receiver is dropped.
    pub fn subscribe(&self, query: Query) -> watch::Receiver<Latest> {
        let key = self.0.readings.key(&query);
        let mut pollers = self.0.pollers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(poller) = pollers.get(&key) {
            return poller.subscribe();
        }
        let (sender, receiver) = watch::channel(None);
        pollers.insert(key.clone(), sender.clone());
        let span = tracing::info_span!("watcher", target = %query.target, host = query.access.host());
        tokio::spawn(poll(Arc::clone(&self.0), key, query, sender).instrument(span));
        receiver
    }

    /// How many pollers are running.
    pub fn running(&self) -> usize {
        self.0.pollers.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

async fn poll(watchers: Arc<Inner>, key: Key, query: Query, sender: watch::Sender<Latest>) {
    tracing::debug!("the first push stream opened; looking every {:?}", watchers.interval);
    loop {
        let freshness = Freshness {
            // Somebody else's read just before counts as ours.
            cache_ttl: watchers.interval.mul_f64(0.75),
            max_staleness: watchers.config.snapshot().freshness.max_staleness,
        };
        sender.send_replace(Some(watchers.readings.newest(&query, freshness).await));
        tokio::select! {
            () = watchers.shutdown.cancelled() => {}
            () = sender.closed() => {}
            () = tokio::time::sleep(watchers.interval) => continue,
        }
        // Under the lock, so that a stream that subscribes now either finds this poller alive or starts another.
        let mut pollers = watchers.pollers.lock().unwrap_or_else(PoisonError::into_inner);
        if watchers.shutdown.is_cancelled() || sender.receiver_count() == 0 {
            pollers.remove(&key);
            tracing::debug!("no push stream is left");
            return;
        }
    }
}
