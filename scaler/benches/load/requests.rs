//! What KEDA would ask: `ScaledObject`s of many namespaces, each with a queue of its own.

use std::collections::HashMap;

use externalscaler::{GetMetricsRequest, ScaledObjectRef};

/// `ScaledObject`s of one Kubernetes namespace.
const PER_NAMESPACE: usize = 100;

/// `GetMetrics` for so many `ScaledObject`s.
pub(crate) fn get_metrics(count: usize) -> Vec<GetMetricsRequest> {
    (0..count).map(request).collect()
}

/// The name of a `ScaledObject`'s queue.
pub(crate) fn queue(number: usize) -> String {
    format!("orders-{number}")
}

fn request(number: usize) -> GetMetricsRequest {
    let queue = queue(number);
    let metadata = [
        ("scalerAddress", "scaler.autoscale-demo.svc:6000"),
        ("queueName", queue.as_str()),
        ("messageCount", "5"),
        (
            "connectionFromEnv",
            "Endpoint=sb://127.0.0.1:5672;SharedAccessKeyName=RootManageSharedAccessKey;\
             SharedAccessKey=c2VydmljZWJ1cy1zY2FsZXItYmVuY2htYXJrLWtleQ==;UseDevelopmentEmulator=true",
        ),
    ];
    let scaled_object_ref = ScaledObjectRef {
        name: format!("receiver-{number}"),
        namespace: format!("team-{}", number / PER_NAMESPACE),
        scaler_metadata: metadata
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into_iter()
            .collect::<HashMap<_, _>>(),
    };
    GetMetricsRequest { scaled_object_ref: Some(scaled_object_ref), metric_name: format!("azure-servicebus-{queue}") }
}
