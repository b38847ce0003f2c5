//! What the workers handled, read off their pods' logs: each worker's ledger is its standard output. A pod is followed
//! from its start to its end, so that nothing is missed when it is scaled away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::{AsyncBufReadExt as _, StreamExt as _};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::cluster::Cluster;
use crate::manifests::NAMESPACE;

/// Follows the containers of the workers' pods.
pub struct Ledger {
    followed: BTreeSet<String>,
    followers: JoinSet<()>,
    /// How often each id was handled.
    handled: Arc<Mutex<BTreeMap<u64, u32>>>,
}

impl Ledger {
    pub fn new() -> Self {
        Self { followed: BTreeSet::new(), followers: JoinSet::new(), handled: Arc::default() }
    }

    /// Starts to follow pods that were not there before. Call often.
    pub async fn look_for_pods(&mut self, cluster: &Cluster, label: &str) -> anyhow::Result<()> {
        for (pod, container) in cluster.started_containers(NAMESPACE, label).await? {
            let followed = format!("{pod}/{container}");
            if self.followed.contains(&followed) {
                continue;
            }
            // A log that is not there yet is asked for again at the next look.
            let Ok(log) = cluster.follow_log(NAMESPACE, &pod, &container).await else { continue };
            let handled = Arc::clone(&self.handled);
            self.followers.spawn(async move {
                let mut lines = Box::pin(log).lines();
                while let Some(Ok(line)) = lines.next().await {
                    // The worker's own log lines are JSON, never a bare number.
                    if let Ok(id) = line.trim().parse() {
                        *handled.lock().await.entry(id).or_default() += 1;
                    }
                }
            });
            self.followed.insert(followed);
        }
        Ok(())
    }

    /// How many different ids were handled so far.
    pub async fn len(&self) -> usize {
        self.handled.lock().await.len()
    }

    /// Waits for the logs of all pods to end; returns how often each id was handled.
    pub async fn finish(mut self) -> BTreeMap<u64, u32> {
        while self.followers.join_next().await.is_some() {}
        std::mem::take(&mut *self.handled.lock().await)
    }

    pub fn workers(&self) -> usize {
        self.followed.len()
    }
}
