//! What Prometheus' operator is told, against the scaler that it is to find.

use std::collections::BTreeMap;
use std::path::PathBuf;

use deploy::{Document, Manifests, read_file};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::fixture::{items, overlay, pod_labels, root};
use crate::references::selects;

/// Beside them the alerts, which the scaler's own tests hold against the metrics that there are.
pub(crate) fn files() -> [PathBuf; 2] {
    ["alerts/servicebus-scaler.yaml", "alerts/pod-monitor.yaml"].map(|file| root().join(file))
}

/// A `PodMonitor`, as far as ours goes, from `monitoring.coreos.com_podmonitors.yaml`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PodMonitor {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    name: String,
    /// Where it looks for pods, too.
    namespace: String,
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    selector: Selector,
    pod_metrics_endpoints: Vec<Endpoint>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Selector {
    match_labels: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Endpoint {
    port: String,
    path: String,
    honor_labels: bool,
}

fn problems(manifests: &Manifests, monitor: &Value) -> Vec<String> {
    let PodMonitor { api_version, kind, metadata, spec } = match PodMonitor::deserialize(monitor) {
        Ok(monitor) => monitor,
        Err(error) => return vec![error.to_string()],
    };
    let Some(scaler) = manifests.find("Deployment", "servicebus-scaler") else {
        return vec!["there is no scaler".to_owned()];
    };
    let is_port = |name: &str| {
        scaler.containers().flat_map(|container| items(container, "ports")).any(|port| port["name"] == name)
    };
    let annotation = |key: &str| scaler.text(&format!("/spec/template/metadata/annotations/prometheus.io~1{key}"));
    let labels = pod_labels(scaler).unwrap_or(&Value::Null);
    let rules = [
        ("it must be a PodMonitor of monitoring.coreos.com/v1", {
            (api_version.as_str(), kind.as_str()) == ("monitoring.coreos.com/v1", "PodMonitor")
        }),
        ("it must be named and labelled as the scaler is", {
            Some(metadata.name.as_str()) == metadata.labels.get("app.kubernetes.io/name").map(String::as_str)
                && metadata.name == scaler.name()
        }),
        ("it must be in the scaler's namespace", Some(metadata.namespace.as_str()) == scaler.namespace()),
        ("it must pick the scaler's pods", selects(&spec.selector.match_labels, labels)),
        ("it must scrape the scaler once", spec.pod_metrics_endpoints.len() == 1),
        ("it must scrape a port that the scaler opens", {
            spec.pod_metrics_endpoints.iter().all(|endpoint| is_port(&endpoint.port))
        }),
        ("it must ask for what the annotations ask for", {
            spec.pod_metrics_endpoints.iter().all(|endpoint| Some(endpoint.path.as_str()) == annotation("path"))
        }),
        ("it must honour the labels: namespace is the ScaledObject's", {
            spec.pod_metrics_endpoints.iter().all(|endpoint| endpoint.honor_labels)
        }),
    ];
    rules.into_iter().filter(|(_, holds)| !holds).map(|(rule, _)| rule.to_owned()).collect()
}

fn monitor() -> Value {
    let documents = read_file(&root().join("alerts/pod-monitor.yaml")).expect("readable");
    let [Document { value, .. }] = documents.as_slice() else { panic!("one document, found {}", documents.len()) };
    value.clone()
}

#[test]
fn the_pod_monitor_finds_the_scaler() {
    assert_eq!(problems(&overlay("azure"), &monitor()), Vec::<String>::new());
}

#[test]
fn every_damage_to_the_pod_monitor_is_noticed() {
    for (pointer, value, wanted) in [
        ("/metadata/namespace", json!("default"), "in the scaler's namespace"),
        ("/spec/selector/matchLabels", json!({"app": "scaler"}), "pick the scaler's pods"),
        ("/spec/podMetricsEndpoints/0/port", json!("metrics"), "a port that the scaler opens"),
        ("/spec/podMetricsEndpoints/0/path", json!("/"), "what the annotations ask for"),
        ("/spec/podMetricsEndpoints/0/honorLabels", json!(false), "honour the labels"),
        ("/spec/podMetricsEndpoints", json!([]), "once"),
        ("/spec", json!({"endpoints": []}), "endpoints"),
    ] {
        let mut damaged = monitor();
        *damaged.pointer_mut(pointer).expect("it is there") = value;
        let found = problems(&overlay("azure"), &damaged).join("\n");
        assert!(found.contains(wanted), "{pointer}: {wanted:?} is not in:\n{found}");
    }
}
