//! Replies: total functions from a trigger and a decision to KEDA's messages, and from a refusal to a gRPC status.
//!
//! One trigger is one metric. Both number fields are always filled with the same value: KEDA takes the float when it is
//! above zero and the integer otherwise, so one of them left behind would leak (KEDA's `pkg/scalers/external_scaler.go`).

use externalscaler::{
    GetMetricSpecResponse, GetMetricsResponse, IsActiveResponse, MetricSpec, MetricValue as MetricValueMessage,
};
use scaling::Decision;
use tonic::{Code, Status};

use crate::decisions::Refusal;
use crate::source::ReadFailure;
use crate::trigger::Trigger;

/// The metric's name and target. Depends on metadata alone, so that a changed policy never changes the HPA's target.
pub fn specification(trigger: &Trigger) -> GetMetricSpecResponse {
    let target = trigger.base.message_count();
    let specification = MetricSpec {
        metric_name: trigger.metric_name(),
        target_size: i64::from(target),
        target_size_float: f64::from(target),
    };
    GetMetricSpecResponse { metric_specs: vec![specification] }
}

/// The metric's value: as many targets as replicas are wanted, so that under `AverageValue` the HPA comes to just that
/// number of replicas.
pub fn metrics(trigger: &Trigger, decision: &Decision) -> GetMetricsResponse {
    let value = scaling::metric_value(decision.replicas, trigger.base.message_count());
    let value = MetricValueMessage {
        metric_name: trigger.metric_name(),
        metric_value: value.round() as i64,
        metric_value_float: value,
    };
    GetMetricsResponse { metric_values: vec![value] }
}

/// Whether the scale target should run at all.
pub fn activity(decision: &Decision) -> IsActiveResponse {
    IsActiveResponse { result: decision.active }
}

/// The gRPC status for a refusal. KEDA holds the replicas for each of them alike; the code is for people and for other
/// clients: `INVALID_ARGUMENT` change the trigger, `FAILED_PRECONDITION` change the scaler's configuration, `NOT_FOUND`
/// make the queue, `UNAUTHENTICATED` change the connection string, `UNAVAILABLE` wait.
pub fn status(refusal: &Refusal) -> Status {
    let code = match refusal {
        Refusal::Trigger(_) | Refusal::Connection(_) | Refusal::OtherMetric { .. } => Code::InvalidArgument,
        Refusal::UnknownProfile { .. } | Refusal::Endpoint(_) => Code::FailedPrecondition,
        Refusal::Read(failure) => match **failure {
            ReadFailure::NotFound(_) => Code::NotFound,
            ReadFailure::Unauthorized(_) => Code::Unauthenticated,
            ReadFailure::Throttled { .. } | ReadFailure::Unreachable(_) => Code::Unavailable,
        },
        Refusal::TooManyStreams(_) => Code::ResourceExhausted,
        Refusal::Deadline(_) => Code::Unavailable,
    };
    Status::new(code, refusal.to_string())
}
