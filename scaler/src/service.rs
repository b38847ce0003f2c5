//! KEDA's five calls: parse, look up, convert, nothing else.
//!
//! Every unary call has a deadline of its own, since KEDA sets none and a call that hangs blocks that `ScaledObject`'s whole
//! loop. `GetMetricSpec` does no I/O: an error there would switch off the user's `fallback` (keda#8056).

use std::sync::Arc;
use std::time::Duration;

use externalscaler::external_scaler_server::ExternalScaler;
use externalscaler::{GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, ScaledObjectRef};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

use crate::decisions::{Decisions, Judged, Refusal};
use crate::reply;
use crate::streams::{self, Activity};
use crate::trigger::Trigger;
use crate::watchers::Watchers;

/// Most push streams open at a time. One push trigger holds two.
const MAX_STREAMS: usize = 20_000;

/// The gRPC service.
pub struct Service {
    decisions: Decisions,
    watchers: Watchers,
    call_deadline: Duration,
    heartbeat: Duration,
    shutdown: CancellationToken,
    streams: Arc<Semaphore>,
}

impl Service {
    /// A service that answers unary calls within `call_deadline`, repeats `true` on its streams every `heartbeat`, and ends
    /// its streams when `shutdown` is cancelled.
    pub fn new(
        decisions: Decisions,
        watchers: Watchers,
        call_deadline: Duration,
        heartbeat: Duration,
        shutdown: CancellationToken,
    ) -> Self {
        let streams = Arc::new(Semaphore::new(MAX_STREAMS));
        Self { decisions, watchers, call_deadline, heartbeat, shutdown, streams }
    }

    async fn parse(&self, scaled_object: &ScaledObjectRef) -> Result<Trigger, Refusal> {
        let trigger = Trigger::parse(&scaled_object.scaler_metadata)?;
        self.decisions.warn_once(scaled_object, &trigger).await;
        Ok(trigger)
    }

    async fn within_deadline(&self, answer: impl Future<Output = Result<Judged, Refusal>>) -> Result<Judged, Refusal> {
        tokio::time::timeout(self.call_deadline, answer).await.unwrap_or(Err(Refusal::Deadline(self.call_deadline)))
    }

    fn stream_permit(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.streams).try_acquire_owned().map_err(|_| Refusal::TooManyStreams(MAX_STREAMS))
    }
}

#[tonic::async_trait]
impl ExternalScaler for Service {
    type StreamIsActiveStream = ReceiverStream<Result<IsActiveResponse, Status>>;
    type StreamMetricSpecStream = BoxStream<'static, Result<GetMetricSpecResponse, Status>>;

    async fn get_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<GetMetricSpecResponse>, Status> {
        let scaled_object = request.into_inner();
        let answer = async { Ok(reply::specification(&self.parse(&scaled_object).await?)) };
        in_span("GetMetricSpec", &scaled_object, answer).await
    }

    async fn get_metrics(&self, request: Request<GetMetricsRequest>) -> Result<Response<GetMetricsResponse>, Status> {
        let GetMetricsRequest { scaled_object_ref, metric_name } = request.into_inner();
        let scaled_object = scaled_object_ref.unwrap_or_default();
        let answer = async {
            let trigger = self.parse(&scaled_object).await?;
            let own = trigger.metric_name();
            if metric_name != own {
                return Err(Refusal::OtherMetric { asked: metric_name, own });
            }
            let judged = self.within_deadline(self.decisions.for_metrics(&scaled_object, &trigger)).await?;
            Ok(reply::metrics(&trigger, &judged.decision))
        };
        in_span("GetMetrics", &scaled_object, answer).await
    }

    async fn is_active(&self, request: Request<ScaledObjectRef>) -> Result<Response<IsActiveResponse>, Status> {
        let scaled_object = request.into_inner();
        let answer = async {
            let trigger = self.parse(&scaled_object).await?;
            let judged = self.within_deadline(self.decisions.for_activity(&scaled_object, &trigger)).await?;
            Ok(reply::activity(&judged.decision))
        };
        in_span("IsActive", &scaled_object, answer).await
    }

    async fn stream_is_active(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamIsActiveStream>, Status> {
        let scaled_object = request.into_inner();
        let opened = async {
            let trigger = self.parse(&scaled_object).await?;
            let query = self.decisions.query(&scaled_object.namespace, &trigger)?;
            // Refuses now what would stay unknown for as long as the configuration stays as it is.
            self.decisions.policy(&trigger)?;
            let activity = Activity {
                decisions: self.decisions.clone(),
                watchers: self.watchers.clone(),
                trigger,
                query,
                heartbeat: self.heartbeat,
                shutdown: self.shutdown.clone(),
                permit: self.stream_permit()?,
            };
            Ok(activity.start())
        };
        in_span("StreamIsActive", &scaled_object, opened).await
    }

    async fn stream_metric_spec(
        &self,
        request: Request<ScaledObjectRef>,
    ) -> Result<Response<Self::StreamMetricSpecStream>, Status> {
        let scaled_object = request.into_inner();
        let opened = async {
            let trigger = self.parse(&scaled_object).await?;
            let permit = self.stream_permit()?;
            Ok(streams::constant_specification(&trigger, self.shutdown.clone(), permit).boxed())
        };
        in_span("StreamMetricSpec", &scaled_object, opened).await
    }
}

/// Awaits an answer within a span that says who asked what, and turns it into gRPC's terms. The one place where a refusal
/// is logged: it leaves the scaler here.
async fn in_span<T>(
    call: &'static str,
    scaled_object: &ScaledObjectRef,
    answer: impl Future<Output = Result<T, Refusal>>,
) -> Result<Response<T>, Status> {
    let span = tracing::info_span!("call", call, namespace = scaled_object.namespace, name = scaled_object.name);
    let answered = async {
        match answer.await {
            Ok(message) => Ok(Response::new(message)),
            Err(refusal) => {
                let status = reply::status(&refusal);
                tracing::warn!(code = ?status.code(), problem = status.message(), "refused");
                Err(status)
            }
        }
    };
    answered.instrument(span).await
}
