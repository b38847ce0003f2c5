//! KEDA's five calls: look up the trigger, decide, convert, nothing else.
//!
//! Every unary call has a deadline of its own, since KEDA sets none and a call that hangs blocks that `ScaledObject`'s whole
//! loop. `GetMetricSpec` does no I/O: an error there would switch off the user's `fallback` (keda#8056). What each call came
//! to is counted, explained and, if it was refused, logged in `telemetry`.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use externalscaler::external_scaler_server::ExternalScaler;
use externalscaler::{GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, ScaledObjectRef};
use futures_util::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Code, Request, Response, Status};
use tracing::Instrument as _;

use crate::decisions::{Decisions, Judged, Refusal};
use crate::incoming::connection::StreamsEnd;
use crate::known_triggers::{Known, KnownTriggers};
use crate::metrics::Method;
use crate::reply;
use crate::streams::{self, Activity};
use crate::trigger::Trigger;
use crate::watchers::Watchers;

pub(crate) mod telemetry;
mod told_stream;

use telemetry::{Call, Telemetry};
pub(crate) use told_stream::ToldStream;

/// The gRPC service.
pub(crate) struct Service {
    triggers: KnownTriggers,
    decisions: Decisions,
    watchers: Watchers,
    telemetry: Telemetry,
    call_deadline: Duration,
    heartbeat: Duration,
    most_streams: usize,
    streams: Arc<Semaphore>,
}

impl Service {
    /// A service for these triggers that answers unary calls within `call_deadline`, repeats `true` on its streams every
    /// `heartbeat`, and has at most `most_streams` of them open.
    pub(crate) fn new(
        triggers: KnownTriggers,
        decisions: Decisions,
        watchers: Watchers,
        telemetry: Telemetry,
        call_deadline: Duration,
        heartbeat: Duration,
        most_streams: usize,
    ) -> Self {
        let streams = Arc::new(Semaphore::new(most_streams));
        Self { triggers, decisions, watchers, telemetry, call_deadline, heartbeat, most_streams, streams }
    }

    /// The decision for a unary call about a trigger in this Kubernetes namespace, within the deadline of calls.
    async fn judged(&self, namespace: &str, known: &Known, trigger: &Trigger) -> Result<Judged, Refusal> {
        // Pinned, here and below, since it is large and would else be copied at every step on its way.
        let judging = pin!(self.decisions.judge_again(namespace, trigger, known.access()));
        let judged = tokio::time::timeout(self.call_deadline, judging)
            .await
            .unwrap_or(Err(Refusal::Deadline(self.call_deadline)))?;
        self.telemetry.told(known, trigger, &judged.decision);
        Ok(judged)
    }

    /// What a push stream is opened for: when its connection ends, and the trigger with its Kubernetes namespace.
    fn opening(&self, request: Request<ScaledObjectRef>) -> (Option<StreamsEnd>, String, Arc<Known>) {
        let end = request.extensions().get().cloned();
        let scaled_object = request.into_inner();
        let known = self.triggers.get(&scaled_object);
        (end, scaled_object.namespace, known)
    }

    fn stream_permit(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.streams).try_acquire_owned().map_err(|_| Refusal::TooManyStreams(self.most_streams))
    }

    /// Awaits the answer to a unary call and accounts for it.
    async fn answer<T>(
        &self,
        method: Method,
        known: &Known,
        answer: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<Response<T>, Status> {
        let (message, call) = self.settle(method, known, answer).await?;
        call.end(Code::Ok);
        Ok(Response::new(message))
    }

    /// Awaits a stream's opening and accounts for it until it ends.
    async fn open<Told: 'static, S: Stream<Item = Result<Told, Status>> + Send + 'static>(
        &self,
        method: Method,
        known: &Known,
        end: Option<StreamsEnd>,
        opened: impl Future<Output = Result<S, Refusal>>,
    ) -> Result<Response<ToldStream<Told>>, Status> {
        let (messages, call) = self.settle(method, known, opened).await?;
        Ok(Response::new(ToldStream::new(messages, call, end)))
    }

    /// Awaits an outcome within a span that says who asked what, and turns a refusal into gRPC's terms.
    async fn settle<T>(
        &self,
        method: Method,
        known: &Known,
        outcome: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<(T, Call), Status> {
        let call = self.telemetry.begin(method);
        let (namespace, name) = (known.id().namespace(), known.id().name());
        let span = tracing::info_span!("call", call = method.name(), namespace, name);
        let settled = async {
            match outcome.await {
                Ok(outcome) => Ok((outcome, call)),
                Err(refusal) => {
                    let status = reply::status(&refusal);
                    self.telemetry.refused(known, &status, !refusal.is_told_for_all());
                    call.end(status.code());
                    Err(status)
                }
            }
        };
        settled.instrument(span).await
    }
}

#[tonic::async_trait]
impl ExternalScaler for Service {
    type StreamIsActiveStream = ToldStream<IsActiveResponse>;
    type StreamMetricSpecStream = ToldStream<GetMetricSpecResponse>;

    async fn get_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<GetMetricSpecResponse>, Status> {
        let known = self.triggers.get(&request.into_inner());
        let answer = pin!(async { Ok(reply::specification(known.trigger()?)) });
        self.answer(Method::GetMetricSpec, &known, answer).await
    }

    async fn get_metrics(&self, request: Request<GetMetricsRequest>) -> Result<Response<GetMetricsResponse>, Status> {
        let GetMetricsRequest { scaled_object_ref, metric_name } = request.into_inner();
        let scaled_object = scaled_object_ref.unwrap_or_default();
        let known = self.triggers.get(&scaled_object);
        let answer = pin!(async {
            let trigger = known.trigger()?;
            let own = trigger.metric_name();
            if metric_name != own {
                return Err(Refusal::OtherMetric { asked: metric_name, own });
            }
            let judged = self.judged(&scaled_object.namespace, &known, trigger).await?;
            let reply = reply::metrics(trigger, &judged.decision);
            known.told_metrics(judged);
            Ok(reply)
        });
        self.answer(Method::GetMetrics, &known, answer).await
    }

    async fn is_active(&self, request: Request<ScaledObjectRef>) -> Result<Response<IsActiveResponse>, Status> {
        let scaled_object = request.into_inner();
        let known = self.triggers.get(&scaled_object);
        let answer = pin!(async {
            let trigger = known.trigger()?;
            if let Some(result) = known.active_as_told() {
                return Ok(IsActiveResponse { result });
            }
            let judged = self.judged(&scaled_object.namespace, &known, trigger).await?;
            let reply = reply::activity(&judged.decision);
            known.told_activity(judged);
            Ok(reply)
        });
        self.answer(Method::IsActive, &known, answer).await
    }

    async fn stream_is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamIsActiveStream>, Status> {
        let (end, namespace, known) = self.opening(request);
        let opened = pin!(async {
            let trigger = known.trigger()?;
            // Before anything is asked that may change, so that no change is missed.
            let access_changes = self.decisions.access_changes();
            let (query, freshness) = streams::reads(&self.decisions, &namespace, trigger)?;
            let activity = Activity {
                decisions: self.decisions.clone(),
                watchers: self.watchers.clone(),
                telemetry: self.telemetry.clone(),
                namespace,
                known: Arc::clone(&known),
                query,
                freshness,
                access_changes,
                heartbeat: self.heartbeat,
                permit: self.stream_permit()?,
            };
            Ok(activity.start())
        });
        self.open(Method::StreamIsActive, &known, end, opened).await
    }

    async fn stream_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamMetricSpecStream>, Status> {
        let (end, _, known) = self.opening(request);
        let opened = pin!(async {
            let trigger = known.trigger()?;
            Ok(streams::constant_specification(trigger, self.stream_permit()?))
        });
        self.open(Method::StreamMetricSpec, &known, end, opened).await
    }
}
