//! Replies: total functions from a trigger and a decision to KEDA's messages, and from a refusal to a gRPC status.
//!
//! One trigger is one metric. Both number fields are always filled with the same value: KEDA takes the float when it is
//! above zero and the integer otherwise, so one of them left behind would leak (KEDA's `pkg/scalers/external_scaler.go`).

use externalscaler::{
    GetMetricSpecResponse, GetMetricsResponse, IsActiveResponse, MetricSpec, MetricValue as MetricValueMessage,
};
use scaling::Decision;
use tonic::{Code, Status};

use crate::connections::AccessRefused;
use crate::decisions::Refusal;
use crate::source::ReadFailure;
use crate::trigger::Trigger;

/// Longest text of a status, in bytes: it may repeat what its caller wrote, and goes into a header, the log and a memory.
const MAX_TEXT_BYTES: usize = 1_000;

/// The metric's name and target. Depends on metadata alone, so that a changed policy never changes the HPA's target.
pub(crate) fn specification(trigger: &Trigger) -> GetMetricSpecResponse {
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
pub(crate) fn metrics(trigger: &Trigger, decision: &Decision) -> GetMetricsResponse {
    let value = scaling::metric_value(decision.replicas, trigger.base.message_count());
    let value = MetricValueMessage {
        metric_name: trigger.metric_name(),
        metric_value: value.round() as i64,
        metric_value_float: value,
    };
    GetMetricsResponse { metric_values: vec![value] }
}

/// Whether the scale target should run at all.
pub(crate) fn activity(decision: &Decision) -> IsActiveResponse {
    IsActiveResponse { result: decision.active }
}

/// The gRPC status for a refusal. KEDA holds the replicas for each of them alike; the code is for people and for other
/// clients: `INVALID_ARGUMENT` change the trigger, `FAILED_PRECONDITION` change the scaler's configuration, `NOT_FOUND`
/// make the queue, `PERMISSION_DENIED` ask the scaler's operator, `UNAUTHENTICATED` change the credential,
/// `RESOURCE_EXHAUSTED` use less, `UNAVAILABLE` wait.
pub(crate) fn status(refusal: &Refusal) -> Status {
    let code = match refusal {
        Refusal::Trigger(_) | Refusal::OtherMetric { .. } | Refusal::Freshness(_) => Code::InvalidArgument,
        Refusal::Profile(_) => Code::FailedPrecondition,
        Refusal::Access(refused) => match refused {
            AccessRefused::Connection(_)
            | AccessRefused::KubernetesNamespace(_)
            | AccessRefused::NamespaceMissing { .. } => Code::InvalidArgument,
            AccessRefused::NotAllowed { .. } | AccessRefused::OtherNamespace { .. } => Code::PermissionDenied,
            AccessRefused::Endpoint(_) | AccessRefused::NoCredential { .. } => Code::FailedPrecondition,
            AccessRefused::Limit(_) => Code::ResourceExhausted,
        },
        Refusal::Read { failure, .. } => match **failure {
            ReadFailure::NotFound(_) => Code::NotFound,
            ReadFailure::Unauthorized(_) => Code::Unauthenticated,
            ReadFailure::Throttled { .. }
            | ReadFailure::OverBudget(_)
            | ReadFailure::NoToken(_)
            | ReadFailure::Unexpected(_)
            | ReadFailure::Unreachable(_) => Code::Unavailable,
        },
        Refusal::TooManyStreams(_) => Code::ResourceExhausted,
        Refusal::Deadline(_) => Code::Unavailable,
    };
    Status::new(code, cut(refusal.to_string()))
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_TEXT_BYTES {
        text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES - '…'.len_utf8()));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::config::UnknownProfile;
    use crate::endpoints::EndpointRefused;
    use crate::tenants::LimitReached;
    use crate::trigger::{ConnectionProblem, TriggerError};

    fn trigger(message_count: u32) -> Trigger {
        let metadata = [("queueName", "orders".to_owned()), ("messageCount", message_count.to_string())];
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value));
        Trigger::parse(&HashMap::from(metadata)).expect("sound metadata")
    }

    proptest! {
        #[test]
        fn both_number_fields_say_the_same_and_neither_is_negative(
            replicas in any::<f64>(),
            message_count in 1..=1_000_000u32,
        ) {
            let decision = Decision { replicas, active: true, why: String::new() };
            let value = metrics(&trigger(message_count), &decision).metric_values.remove(0);
            prop_assert!(value.metric_value >= 0 && value.metric_value_float >= 0.0, "{value:?}");
            prop_assert!((value.metric_value as f64 - value.metric_value_float).abs() <= 0.5, "{value:?}");
            let target = specification(&trigger(message_count)).metric_specs.remove(0);
            prop_assert_eq!((target.target_size, target.target_size_float), (message_count.into(), message_count.into()));
        }
    }

    #[test]
    fn what_a_caller_wrote_is_repeated_up_to_a_bound() {
        let refusal = Refusal::OtherMetric { asked: "ä".repeat(100_000), own: "azure-servicebus-orders".to_owned() };
        let status = status(&refusal);
        let text = status.message();
        assert!(text.len() <= MAX_TEXT_BYTES && text.len() > MAX_TEXT_BYTES - 4, "{} bytes", text.len());
        assert!(text.starts_with("metricName: \"ää") && text.ends_with("ä…"), "{text}");
    }

    #[test]
    fn every_refusal_has_the_code_that_the_reference_gives_it() {
        let target = trigger(5).target;
        let read = |failure| Refusal::Read { target: target.clone(), failure: Arc::new(failure) };
        let throttled = ReadFailure::Throttled { what: "slow down".to_owned(), retry_after: None };
        let access = Refusal::Access;
        let not_allowed =
            AccessRefused::NotAllowed { connection: "a".to_owned(), kubernetes_namespace: "b".to_owned() };
        let other_namespace = AccessRefused::OtherNamespace { connection: "a".to_owned(), host: "h".to_owned() };
        let limit = LimitReached::OfAll { what: "entities", key: "limits.entities", limit: 1 };
        let cases = [
            (Refusal::Trigger(TriggerError::Exclusive { first: "a", second: "b" }), Code::InvalidArgument),
            (Refusal::Access(ConnectionProblem::Unresolved.into()), Code::InvalidArgument),
            (Refusal::OtherMetric { asked: "a".to_owned(), own: "b".to_owned() }, Code::InvalidArgument),
            (Refusal::Access(EndpointRefused { endpoint: "h:1".to_owned() }.into()), Code::FailedPrecondition),
            (access(AccessRefused::KubernetesNamespace("A".to_owned())), Code::InvalidArgument),
            (access(AccessRefused::NamespaceMissing { connection: "a".to_owned() }), Code::InvalidArgument),
            (access(not_allowed), Code::PermissionDenied),
            (access(other_namespace), Code::PermissionDenied),
            (access(AccessRefused::NoCredential { connection: "a".to_owned() }), Code::FailedPrecondition),
            (access(limit.into()), Code::ResourceExhausted),
            (UnknownProfile { profile: "a".to_owned(), known: "b".to_owned() }.into(), Code::FailedPrecondition),
            (read(ReadFailure::NotFound("gone".to_owned())), Code::NotFound),
            (read(ReadFailure::Unauthorized("no".to_owned())), Code::Unauthenticated),
            (read(throttled), Code::Unavailable),
            (read(ReadFailure::Unreachable("away".to_owned())), Code::Unavailable),
            (read(ReadFailure::NoToken("later".to_owned())), Code::Unavailable),
            (read(ReadFailure::Unexpected("a topic".to_owned())), Code::Unavailable),
            (Refusal::TooManyStreams(1), Code::ResourceExhausted),
            (Refusal::Deadline(Duration::from_secs(3)), Code::Unavailable),
        ];
        for (refusal, code) in cases {
            let status = status(&refusal);
            assert_eq!(status.code(), code, "{refusal:?}");
            assert_eq!(status.message(), refusal.to_string());
        }
    }
}
