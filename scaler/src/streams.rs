//! The two push streams of an `external-push` trigger. Both go on until they are dropped: when the client leaves, or when
//! their connection ends, which ends them with OK (`told_stream`).
//!
//! Activity: the present state at once, then every change, and a `true` repeated now and then for as long as it is true,
//! since KEDA drops an activation that comes before it has written the `ScaledObject`'s status (keda#8168). What cannot be
//! read is not told: the stream stays silent and open, and KEDA keeps what it heard last. What the configuration says of
//! access, policy and freshness counts for open streams, too.

use std::sync::Arc;
use std::time::Duration;

use externalscaler::{GetMetricSpecResponse, IsActiveResponse};
use futures_util::stream::{self, Stream, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::config::Freshness;
use crate::decisions::{Decisions, Judged, Refusal, unreadable};
use crate::known_triggers::Known;
use crate::reply;
use crate::service::telemetry::Telemetry;
use crate::source::Query;
use crate::trigger::Trigger;
use crate::watchers::{Latest, Watchers};

/// What an activity stream needs to run.
pub(crate) struct Activity {
    pub(crate) decisions: Decisions,
    pub(crate) watchers: Watchers,
    pub(crate) telemetry: Telemetry,
    /// The Kubernetes namespace that the stream was opened for.
    pub(crate) namespace: String,
    /// What the stream is about; its trigger is sound.
    pub(crate) known: Arc<Known>,
    pub(crate) query: Query,
    pub(crate) freshness: Freshness,
    /// Rings when `query` or `freshness` may have changed since they were made.
    pub(crate) access_changes: watch::Receiver<()>,
    /// How often `true` is repeated.
    pub(crate) heartbeat: Duration,
    /// This stream's share of the cap on streams, given back when it ends.
    pub(crate) permit: OwnedSemaphorePermit,
}

impl Activity {
    /// Starts the stream.
    pub(crate) fn start(self) -> ReceiverStream<Result<IsActiveResponse, Status>> {
        // One slot: a client that does not read gets what was told last and then the newest state, not a backlog.
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(tracing::Instrument::in_current_span(self.run(sender)));
        ReceiverStream::new(receiver)
    }

    async fn run(self, sender: mpsc::Sender<Result<IsActiveResponse, Status>>) {
        let Self {
            decisions,
            watchers,
            telemetry,
            namespace,
            known,
            mut query,
            mut freshness,
            mut access_changes,
            heartbeat,
            permit: _permit,
        } = self;
        // Who opens a stream has looked at it.
        let Ok(trigger) = known.trigger() else { return };
        let mut watch = watchers.subscribe(&query, freshness).await;
        let mut told = None;
        let mut repeat_at = Instant::now() + heartbeat;
        loop {
            let judged = match judged(&decisions, trigger, watch.latest()) {
                None => None,
                Some(Ok(judged)) => Some(judged),
                // Why is logged once for all that it concerns, where it is read.
                Some(Err(refusal)) => {
                    tracing::debug!(problem = %refusal, "activity is unknown; the push stream keeps what it told last");
                    None
                }
            };
            let active = judged.as_ref().map(|judged| judged.decision.active);
            watch.found(active == Some(true));
            let is_repeat = active == Some(true) && Instant::now() >= repeat_at;
            let to_tell = judged.filter(|_| told != active || is_repeat);
            // A repetition that found it unknown comes with the next reading.
            let may_repeat = active == Some(true) && to_tell.is_none();
            tokio::select! {
                () = sender.closed() => return,
                // While there is no room, what is to be told may change.
                slot = sender.reserve(), if to_tell.is_some() => {
                    let (Ok(slot), Some(judged)) = (slot, to_tell) else { return };
                    let message = reply::activity(&judged.decision);
                    telemetry.told(&known, trigger, &judged.decision);
                    known.told_stream(judged);
                    tracing::debug!(active = message.result, "told the push stream");
                    slot.send(Ok(message));
                    told = active;
                    repeat_at = Instant::now() + heartbeat;
                }
                is_there = watch.changed() => if !is_there { return },
                () = tokio::time::sleep_until(repeat_at), if may_repeat => {}
                // The sender lives in `decisions`.
                _ = access_changes.changed() => match reads(&decisions, &namespace, trigger) {
                    Ok((query_now, freshness_now)) => {
                        let is_other = query_now.access.digest() != query.access.digest();
                        if is_other || freshness_now != freshness {
                            (query, freshness) = (query_now, freshness_now);
                            watch = watchers.subscribe(&query, freshness).await;
                        }
                    }
                    // As it would be refused now; it is logged when the client opens it again.
                    Err(refusal) => {
                        tracing::debug!(problem = %refusal, "a push stream lost what it was allowed and ends");
                        // Nothing is read for it while its client takes its time.
                        drop(watch);
                        let _told_or_gone = sender.send(Err(reply::status(&refusal))).await;
                        return;
                    }
                }
            }
        }
    }
}

/// What a stream reads and how often, as it is allowed now, its policy included: without one it would stay unknown.
pub(crate) fn reads(decisions: &Decisions, namespace: &str, trigger: &Trigger) -> Result<(Query, Freshness), Refusal> {
    let query = decisions.query(namespace, trigger)?;
    decisions.policy(trigger)?;
    Ok((query, decisions.freshness(trigger)?))
}

fn judged(decisions: &Decisions, trigger: &Trigger, latest: Latest) -> Option<Result<Judged, Refusal>> {
    let seen = latest?.map_err(|failure| unreadable(trigger, failure));
    // Built anew each time: the profile may have changed since the stream was opened.
    Some(seen.and_then(|seen| Ok(decisions.decide(trigger, &*decisions.policy(trigger)?, seen))))
}

/// The specification once: it depends on metadata alone, and other metadata is another call.
pub(crate) fn constant_specification(
    trigger: &Trigger,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<GetMetricSpecResponse, Status>> + use<> {
    stream::iter([Ok(reply::specification(trigger))]).chain(stream::pending()).map(move |message| {
        let _held_for_as_long_as_the_stream = &permit;
        message
    })
}

#[cfg(test)]
mod tests;
