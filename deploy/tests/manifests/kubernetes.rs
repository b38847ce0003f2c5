//! Kubernetes' own types: a field that does not survive the way through them is unknown, misplaced or misspelt.

use deploy::Manifests;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(crate) fn problems(manifests: &Manifests) -> Vec<String> {
    let mut problems = Vec::new();
    for document in &manifests.documents {
        let found = match document.kind() {
            "Namespace" => through::<Namespace>(&document.value),
            "ConfigMap" => through::<ConfigMap>(&document.value),
            "Service" => through::<Service>(&document.value),
            "ServiceAccount" => through::<ServiceAccount>(&document.value),
            "NetworkPolicy" => through::<NetworkPolicy>(&document.value),
            "Deployment" => through::<Deployment>(&document.value),
            "Job" => through::<Job>(&document.value),
            "ScaledJob" => through::<JobSpec>(document.value.pointer("/spec/jobTargetRef").unwrap_or(&Value::Null)),
            // KEDA's: scaled_objects.rs and examples.rs look at them here, interop/keda_crds.py against KEDA's schemas.
            "ScaledObject" | "ClusterTriggerAuthentication" => Vec::new(),
            other => vec![format!("no schema here for kind {other:?}")],
        };
        problems.extend(found.into_iter().map(|problem| format!("{document}: {problem}")));
    }
    problems
}

fn through<T: Serialize + DeserializeOwned>(value: &Value) -> Vec<String> {
    let typed: T = match serde_json::from_value(value.clone()) {
        Ok(typed) => typed,
        Err(error) => return vec![error.to_string()],
    };
    let back = serde_json::to_value(&typed).expect("Kubernetes' types are JSON");
    let mut lost = Vec::new();
    compare("", value, &back, &mut lost);
    lost
}

/// Everything in `written` must be in `back`; what the types add is no problem.
fn compare(place: &str, written: &Value, back: &Value, lost: &mut Vec<String>) {
    match (written, back) {
        (Value::Object(written), Value::Object(back)) => {
            for (key, value) in written {
                let place = format!("{place}/{key}");
                match back.get(key) {
                    Some(back) => compare(&place, value, back, lost),
                    None => lost.push(format!("{place} is no field of Kubernetes")),
                }
            }
        }
        (Value::Array(written), Value::Array(back)) if written.len() == back.len() => {
            for (index, (written, back)) in written.iter().zip(back).enumerate() {
                compare(&format!("{place}/{index}"), written, back, lost);
            }
        }
        (written, back) if written == back => {}
        (written, back) => lost.push(format!("{place}: {written} became {back}")),
    }
}
