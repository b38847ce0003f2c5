//! KEDA's five calls: parse, look up, convert, nothing else.
//!
//! Every unary call has a deadline of its own, since KEDA sets none and a call that hangs blocks that `ScaledObject`'s whole
//! loop. `GetMetricSpec` does no I/O: an error there would switch off the user's `fallback` (keda#8056). What each call came
//! to is counted, explained and, if it was refused, logged in [`telemetry`].

use std::sync::Arc;
use std::time::Duration;

use externalscaler::external_scaler_server::ExternalScaler;
use externalscaler::{GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, ScaledObjectRef};
use futures_util::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};
use tracing::Instrument as _;

use crate::decisions::{Decisions, Judged, Refusal};
use crate::incoming::connection::StreamsEnd;
use crate::metrics::StreamKind;
use crate::reply;
use crate::streams::{self, Activity};
use crate::trigger::Trigger;
use crate::trigger_id::TriggerId;
use crate::watchers::Watchers;

pub(crate) mod telemetry;
mod told_stream;

use telemetry::{Call, Telemetry};
pub use told_stream::ToldStream;

/// Most push streams open at a time. One push trigger holds two.
const MAX_STREAMS: usize = 20_000;

/// The gRPC service.
pub struct Service {
    decisions: Decisions,
    watchers: Watchers,
    telemetry: Telemetry,
    call_deadline: Duration,
    heartbeat: Duration,
    shutdown: CancellationToken,
    streams: Arc<Semaphore>,
}

/// A reference whose metadata is sound.
struct Parsed {
    id: TriggerId,
    trigger: Arc<Trigger>,
}

impl Service {
    /// A service that answers unary calls within `call_deadline`, repeats `true` on its streams every `heartbeat`, and ends
    /// its streams when `shutdown` is cancelled.
    pub(crate) fn new(
        decisions: Decisions,
        watchers: Watchers,
        telemetry: Telemetry,
        call_deadline: Duration,
        heartbeat: Duration,
        shutdown: CancellationToken,
    ) -> Self {
        let streams = Arc::new(Semaphore::new(MAX_STREAMS));
        Self { decisions, watchers, telemetry, call_deadline, heartbeat, shutdown, streams }
    }

    async fn parse(&self, scaled_object: &ScaledObjectRef) -> Result<Parsed, Refusal> {
        let trigger = Trigger::parse(&scaled_object.scaler_metadata)?;
        self.decisions.warn_once(scaled_object, &trigger).await;
        Ok(Parsed { id: TriggerId::of(scaled_object), trigger: Arc::new(trigger) })
    }

    async fn within_deadline(&self, answer: impl Future<Output = Result<Judged, Refusal>>) -> Result<Judged, Refusal> {
        tokio::time::timeout(self.call_deadline, answer).await.unwrap_or(Err(Refusal::Deadline(self.call_deadline)))
    }

    fn stream_permit(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.streams).try_acquire_owned().map_err(|_| Refusal::TooManyStreams(MAX_STREAMS))
    }

    /// Awaits the answer to a unary call and accounts for it.
    async fn answer<T>(
        &self,
        method: &'static str,
        scaled_object: &ScaledObjectRef,
        answer: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<Response<T>, Status> {
        let _in_flight = self.telemetry.metrics.call_in_flight();
        let (message, call) = self.settle(method, scaled_object, answer).await?;
        call.end(Code::Ok);
        Ok(Response::new(message))
    }

    /// Awaits a stream's opening and accounts for it until it ends.
    async fn open<Told: 'static, S: Stream<Item = Result<Told, Status>> + Send + 'static>(
        &self,
        method: &'static str,
        kind: StreamKind,
        scaled_object: &ScaledObjectRef,
        end: Option<StreamsEnd>,
        opened: impl Future<Output = Result<S, Refusal>>,
    ) -> Result<Response<ToldStream<Told>>, Status> {
        let (messages, call) = self.settle(method, scaled_object, opened).await?;
        Ok(Response::new(ToldStream::new(messages, call, self.telemetry.metrics.stream_opened(kind), end)))
    }

    /// Awaits an outcome within a span that says who asked what, and turns a refusal into gRPC's terms.
    async fn settle<T>(
        &self,
        method: &'static str,
        scaled_object: &ScaledObjectRef,
        outcome: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<(T, Call), Status> {
        let call = self.telemetry.begin(method);
        let ScaledObjectRef { namespace, name, .. } = scaled_object;
        let span = tracing::info_span!("call", call = method, namespace, name);
        let settled = async {
            match outcome.await {
                Ok(outcome) => Ok((outcome, call)),
                Err(refusal) => {
                    let status = reply::status(&refusal);
                    self.telemetry.refused(&TriggerId::of(scaled_object), &status);
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
        let scaled_object = request.into_inner();
        let answer = async { Ok(reply::specification(&self.parse(&scaled_object).await?.trigger)) };
        self.answer("GetMetricSpec", &scaled_object, answer).await
    }

    async fn get_metrics(&self, request: Request<GetMetricsRequest>) -> Result<Response<GetMetricsResponse>, Status> {
        let GetMetricsRequest { scaled_object_ref, metric_name } = request.into_inner();
        let scaled_object = scaled_object_ref.unwrap_or_default();
        let answer = async {
            let Parsed { id, trigger } = self.parse(&scaled_object).await?;
            let own = trigger.metric_name();
            if metric_name != own {
                return Err(Refusal::OtherMetric { asked: metric_name, own });
            }
            let judged = self.within_deadline(self.decisions.for_metrics(&scaled_object, &trigger)).await?;
            let reply = reply::metrics(&trigger, &judged.decision);
            self.telemetry.told(&id, &trigger, judged);
            Ok(reply)
        };
        self.answer("GetMetrics", &scaled_object, answer).await
    }

    async fn is_active(&self, request: Request<ScaledObjectRef>) -> Result<Response<IsActiveResponse>, Status> {
        let scaled_object = request.into_inner();
        let answer = async {
            let Parsed { id, trigger } = self.parse(&scaled_object).await?;
            let judged = self.within_deadline(self.decisions.for_activity(&scaled_object, &trigger)).await?;
            let reply = reply::activity(&judged.decision);
            self.telemetry.told(&id, &trigger, judged);
            Ok(reply)
        };
        self.answer("IsActive", &scaled_object, answer).await
    }

    async fn stream_is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamIsActiveStream>, Status> {
        let end = request.extensions().get().cloned();
        let scaled_object = request.into_inner();
        let opened = async {
            let Parsed { trigger, .. } = self.parse(&scaled_object).await?;
            let query = self.decisions.query(&scaled_object.namespace, &trigger)?;
            // Refuses now what would stay unknown for as long as the configuration stays as it is.
            self.decisions.policy(&trigger)?;
            let activity = Activity {
                decisions: self.decisions.clone(),
                watchers: self.watchers.clone(),
                freshness: self.decisions.freshness(&trigger)?,
                namespace: scaled_object.namespace.clone(),
                trigger: Trigger::clone(&trigger),
                query,
                heartbeat: self.heartbeat,
                shutdown: self.shutdown.clone(),
                permit: self.stream_permit()?,
            };
            Ok(activity.start())
        };
        self.open("StreamIsActive", StreamKind::Activity, &scaled_object, end, opened).await
    }

    async fn stream_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamMetricSpecStream>, Status> {
        let end = request.extensions().get().cloned();
        let scaled_object = request.into_inner();
        let opened = async {
            let Parsed { trigger, .. } = self.parse(&scaled_object).await?;
            let permit = self.stream_permit()?;
            Ok(streams::constant_specification(&trigger, self.shutdown.clone(), permit))
        };
        self.open("StreamMetricSpec", StreamKind::Specification, &scaled_object, end, opened).await
    }
}
