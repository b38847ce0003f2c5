//! The two push streams of an `external-push` trigger. Both stay open until the client leaves or the scaler stops, and
//! then end with OK: only a clean end resets KEDA's reconnect delay, which otherwise doubles from 2 s to a minute.
//!
//! Activity: the present state at once, then every change, and a `true` repeated now and then for as long as it is true,
//! since KEDA drops an activation that comes before it has written the `ScaledObject`'s status (keda#8168). What cannot be
//! read is not told: the stream stays silent and open, and KEDA keeps what it heard last. What the configuration says of
//! access, policy and freshness counts for open streams, too.

use std::time::Duration;

use externalscaler::{GetMetricSpecResponse, IsActiveResponse};
use futures_util::stream::{self, Stream, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::decisions::{Decisions, Refusal, unreadable};
use crate::readings::Freshness;
use crate::reply;
use crate::source::Query;
use crate::trigger::Trigger;
use crate::watchers::{Latest, Watchers};

/// What an activity stream needs to run.
pub(crate) struct Activity {
    pub(crate) decisions: Decisions,
    pub(crate) watchers: Watchers,
    /// The Kubernetes namespace that the stream was opened for.
    pub(crate) namespace: String,
    pub(crate) trigger: Trigger,
    pub(crate) query: Query,
    pub(crate) freshness: Freshness,
    /// How often `true` is repeated.
    pub(crate) heartbeat: Duration,
    pub(crate) shutdown: CancellationToken,
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
            namespace,
            trigger,
            mut query,
            mut freshness,
            heartbeat,
            shutdown,
            permit: _permit,
        } = self;
        let mut access_changes = decisions.access_changes();
        let mut watch = watchers.subscribe(&query, freshness).await;
        let mut told = None;
        let mut repeat_at = Instant::now() + heartbeat;
        loop {
            let known = match activity(&decisions, &trigger, watch.latest()) {
                None => None,
                Some(Ok(active)) => Some(active),
                // Why is logged once for all that it concerns, where it is read.
                Some(Err(refusal)) => {
                    tracing::debug!(problem = %refusal, "activity is unknown; the push stream keeps what it told last");
                    None
                }
            };
            watch.found(known == Some(true));
            let is_repeat = known == Some(true) && Instant::now() >= repeat_at;
            let to_tell = known.filter(|_| told != known || is_repeat);
            // A repetition that found it unknown comes with the next reading.
            let may_repeat = known == Some(true) && to_tell.is_none();
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sender.closed() => return,
                // While there is no room, what is to be told may change.
                slot = sender.reserve(), if to_tell.is_some() => {
                    let (Ok(slot), Some(active)) = (slot, to_tell) else { return };
                    slot.send(Ok(IsActiveResponse { result: active }));
                    tracing::debug!(active, "told the push stream");
                    told = known;
                    repeat_at = Instant::now() + heartbeat;
                }
                is_there = watch.changed() => if !is_there { return },
                () = tokio::time::sleep_until(repeat_at), if may_repeat => {}
                // The sender lives in `decisions`.
                _ = access_changes.changed() => match reads(&decisions, &namespace, &trigger) {
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
                        tokio::select! {
                            () = shutdown.cancelled() => {}
                            _ = sender.send(Err(reply::status(&refusal))) => {}
                        }
                        return;
                    }
                }
            }
        }
    }
}

/// What an open stream reads and how often, as it would be allowed now.
fn reads(decisions: &Decisions, namespace: &str, trigger: &Trigger) -> Result<(Query, Freshness), Refusal> {
    Ok((decisions.query(namespace, trigger)?, decisions.freshness(trigger)?))
}

fn activity(decisions: &Decisions, trigger: &Trigger, latest: Latest) -> Option<Result<bool, Refusal>> {
    let seen = latest?.map_err(|failure| unreadable(trigger, failure));
    // Built anew each time: the profile may have changed since the stream was opened.
    let judged = seen.and_then(|seen| Ok(decisions.decide(trigger, &*decisions.policy(trigger)?, seen)));
    Some(judged.map(|judged| judged.decision.active))
}

/// The specification once: it depends on metadata alone, and other metadata is another call.
pub(crate) fn constant_specification(
    trigger: &Trigger,
    shutdown: CancellationToken,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<GetMetricSpecResponse, Status>> + use<> {
    stream::iter([Ok(reply::specification(trigger))])
        .chain(stream::pending())
        .take_until(shutdown.cancelled_owned())
        .map(move |message| {
            let _held_for_as_long_as_the_stream = &permit;
            message
        })
}

#[cfg(test)]
mod tests;
