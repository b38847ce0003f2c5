//! The five calls, health and reflection, when all is well.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use externalscaler::{GetMetricSpecResponse, GetMetricsRequest, MetricSpec};
use futures_util::future::{join_all, try_join_all};
use futures_util::{StreamExt as _, stream};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1alpha;

use crate::support::{Scaler, assert_refused, broker_with, next, send, trigger, within};

#[tokio::test]
async fn all_five_calls_answer_as_the_built_in_trigger_would() {
    let broker = broker_with(&["Team/Orders"]).await;
    send(broker.connection_string(), "Team/Orders", 7).await;
    let scaler = Scaler::start("cacheTtlSeconds: 300").await;
    let trigger = trigger(broker.connection_string(), &[("queueName", "Team/Orders"), ("messageCount", "3")]);

    let specification =
        scaler.client.clone().get_metric_spec(trigger.clone()).await.expect("sound metadata").into_inner();
    let metric_name = "azure-servicebus-team-orders-bca49687".to_owned();
    let expected = MetricSpec { metric_name: metric_name.clone(), target_size: 3, target_size_float: 3.0 };
    assert_eq!(specification, GetMetricSpecResponse { metric_specs: vec![expected] });
    assert_eq!(scaler.reads(), 0, "GetMetricSpec is local");

    let value = scaler.metric(&trigger).await.expect("the queue can be read");
    assert_eq!((value.metric_name, value.metric_value, value.metric_value_float), (metric_name, 7, 7.0));
    assert!(scaler.is_active(&trigger).await.expect("the queue can be read"));
    assert_eq!(scaler.reads(), 1, "GetMetrics and IsActive are views of one reading");

    let mut activity = scaler.watch(&trigger).await.expect("the stream opens");
    assert!(next(&mut activity).await);
    let mut specifications =
        scaler.client.clone().stream_metric_spec(trigger).await.expect("the stream opens").into_inner();
    let first = within("the specification", specifications.message()).await.expect("no error");
    assert_eq!(first, Some(specification));
    drop((activity, specifications));
    scaler.stop().await;
}

#[tokio::test]
async fn an_empty_queue_is_zero_and_inactive() {
    let broker = broker_with(&["orders"]).await;
    let scaler = Scaler::start("").await;
    let trigger = trigger(broker.connection_string(), &[("queueName", "orders")]);
    let value = scaler.metric(&trigger).await.expect("the queue can be read");
    assert_eq!((value.metric_value, value.metric_value_float), (0, 0.0));
    assert!(!scaler.is_active(&trigger).await.expect("the queue can be read"));
}

#[tokio::test]
async fn active_means_strictly_more_than_the_activation_count() {
    let broker = broker_with(&["orders"]).await;
    send(broker.connection_string(), "orders", 4).await;
    let scaler = Scaler::start("").await;
    for (activation, active) in [("3", true), ("4", false)] {
        let metadata = [("queueName", "orders"), ("activationMessageCount", activation)];
        let trigger = trigger(broker.connection_string(), &metadata);
        assert_eq!(scaler.is_active(&trigger).await.expect("the queue can be read"), active, "more than {activation}");
        assert_eq!(scaler.metric(&trigger).await.expect("the queue can be read").metric_value, 4);
    }
}

#[tokio::test]
async fn scaled_objects_that_ask_together_cost_one_read() {
    let broker = broker_with(&["orders"]).await;
    send(broker.connection_string(), "orders", 4).await;
    let scaler = Scaler::start("cacheTtlSeconds: 300").await;
    let triggers: Vec<_> = (1..=40)
        .map(|count: usize| {
            let count = count.to_string();
            trigger(broker.connection_string(), &[("queueName", "orders"), ("messageCount", &count)])
        })
        .collect();
    let values = try_join_all(triggers.iter().map(|trigger| scaler.metric(trigger))).await.expect("all are answered");
    assert!(values.iter().all(|value| value.metric_value == 4), "{values:?}");
    assert_eq!(scaler.reads(), 1);
}

#[tokio::test]
async fn is_active_shares_the_view_of_the_get_metrics_before_it_even_without_a_cache() {
    // A pair is one that comes within a second. The first that did shows it; if the machine stood still between its two
    // calls, it shows nothing, and the next queue's turn comes.
    const A_PAIR: Duration = Duration::from_secs(1);
    let queues: Vec<String> = (0..20).map(|turn| format!("orders-{turn}")).collect();
    let broker = broker_with(&queues.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let scaler = Scaler::start("cacheTtlSeconds: 0").await;
    for queue in &queues {
        let trigger = trigger(broker.connection_string(), &[("queueName", queue)]);
        let (begun, before) = (Instant::now(), scaler.reads());
        assert_eq!(scaler.metric(&trigger).await.expect("the queue can be read").metric_value, 0);
        send(broker.connection_string(), queue, 1).await;
        let second = scaler.is_active(&trigger).await.expect("the queue can be read");
        if begun.elapsed() < A_PAIR {
            assert!(!second, "the pair is one view");
            assert!(
                scaler.is_active(&trigger).await.expect("the queue can be read"),
                "the next call is one of its own"
            );
            assert_eq!(scaler.reads() - before, 2);
            return;
        }
    }
    panic!("no two calls within {A_PAIR:?}");
}

#[tokio::test]
async fn a_metric_of_another_name_is_refused() {
    let broker = broker_with(&["orders"]).await;
    let scaler = Scaler::start("").await;
    for asked in ["", "s0-azure-servicebus-orders", "azure-servicebus-refunds"] {
        let request = GetMetricsRequest {
            scaled_object_ref: Some(trigger(broker.connection_string(), &[("queueName", "orders")])),
            metric_name: asked.to_owned(),
        };
        let answer = scaler.client.clone().get_metrics(request).await;
        assert_refused(answer, Code::InvalidArgument, &["metricName", asked, "azure-servicebus-orders"]);
    }
}

#[tokio::test]
async fn health_is_serving_without_any_queue_and_ends_with_the_server() {
    let scaler = Scaler::start("").await;
    let mut health = HealthClient::new(scaler.channel.clone());
    for service in ["", "externalscaler.ExternalScaler"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let status = health.check(request).await.expect("health answers").into_inner().status;
        assert_eq!(status, i32::from(ServingStatus::Serving), "{service:?}");
    }
    let request = HealthCheckRequest { service: "externalscaler.ExternalScaler".to_owned() };
    let mut watch = health.watch(request).await.expect("health can be watched").into_inner();
    let mut statuses = Vec::new();
    statuses.push(within("the first status", watch.next()).await.expect("a status").expect("no error").status);
    scaler.shutdown.cancel();
    while let Some(status) = within("the end of the watch", watch.next()).await {
        statuses.push(status.expect("the watch ends with OK").status);
    }
    assert_eq!(statuses, [ServingStatus::Serving, ServingStatus::NotServing].map(i32::from));
    scaler.stop().await;
}

#[tokio::test]
async fn reflection_lists_and_describes_the_service_in_both_versions() {
    let scaler = Scaler::start("").await;
    let ours = "externalscaler.ExternalScaler";
    let requests = [MessageRequest::ListServices(String::new()), MessageRequest::FileContainingSymbol(ours.to_owned())]
        .map(|request| ServerReflectionRequest { host: String::new(), message_request: Some(request) });
    let mut answers = ServerReflectionClient::new(scaler.channel.clone())
        .server_reflection_info(stream::iter(requests))
        .await
        .expect("reflection answers")
        .into_inner();
    let mut next = async || within("an answer", answers.message()).await.expect("no error").expect("an answer");
    let Some(MessageResponse::ListServicesResponse(list)) = next().await.message_response else { panic!("no list") };
    let names: BTreeSet<_> = list.service.into_iter().map(|service| service.name).collect();
    assert!(names.contains(ours) && names.contains("grpc.health.v1.Health"), "{names:?}");
    let Some(MessageResponse::FileDescriptorResponse(files)) = next().await.message_response else { panic!("no file") };
    assert!(!files.file_descriptor_proto.is_empty());

    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut old = v1alpha::server_reflection_client::ServerReflectionClient::new(scaler.channel.clone())
        .server_reflection_info(stream::iter([request]))
        .await
        .expect("reflection answers")
        .into_inner();
    assert!(within("an answer", old.message()).await.expect("no error").is_some());
}

#[tokio::test]
async fn hundreds_of_open_streams_do_not_keep_calls_waiting_on_the_same_connection() {
    let broker = broker_with(&["orders"]).await;
    let scaler = Scaler::start("").await;
    let trigger = trigger(broker.connection_string(), &[("queueName", "orders")]);
    let open = join_all((0..300).map(|_| scaler.watch(&trigger))).await;
    assert!(open.iter().all(Result::is_ok), "every stream opens");
    within("a call beside 300 streams", scaler.metric(&trigger)).await.expect("the queue can be read");
}
