//! The manifests among themselves: namespaces, labels and selectors, what is named must exist.

use std::collections::BTreeSet;

use deploy::{Document, Manifests};
use serde_json::Value;

use crate::fixture::{items, pod_labels, text};

const NAMESPACE: &str = "autoscale-demo";
/// Kinds that have no namespace.
const CLUSTER_WIDE: [&str; 2] = ["Namespace", "ClusterTriggerAuthentication"];
/// Secrets that whoever applies the manifests brings, because no example of a private key would be one.
const BROUGHT: [&str; 1] = ["servicebus-scaler-tls"];

pub(crate) fn problems(manifests: &Manifests) -> Vec<String> {
    let mut problems = Vec::new();
    if manifests.find("Namespace", NAMESPACE).is_none() {
        problems.push(format!("there is no Namespace {NAMESPACE}"));
    }
    let mut seen = BTreeSet::new();
    for document in &manifests.documents {
        let wanted = if CLUSTER_WIDE.contains(&document.kind()) { None } else { Some(NAMESPACE) };
        if document.namespace() != wanted {
            problems.push(format!("{document} is in namespace {:?}, not in {wanted:?}", document.namespace()));
        }
        if !seen.insert((document.kind(), document.name())) {
            problems.push(format!("{document} is there twice"));
        }
        problems.extend(selector_problem(document).map(|problem| format!("{document}: {problem}")));
        problems.extend(account_problem(manifests, document).map(|problem| format!("{document}: {problem}")));
        problems
            .extend(volume_problems(manifests, document).into_iter().map(|problem| format!("{document}: {problem}")));
    }
    for service in manifests.of_kind("Service") {
        problems
            .extend(service_problems(manifests, service).into_iter().map(|problem| format!("{service}: {problem}")));
    }
    problems
}

/// Whether an object with this selector picks pods with these labels.
pub(crate) fn selects(selector: &Value, labels: &Value) -> bool {
    selector
        .as_object()
        .is_some_and(|wanted| !wanted.is_empty() && wanted.iter().all(|(key, value)| labels.get(key) == Some(value)))
}

/// The Deployment whose pods a selector picks; how many there are, if not one.
pub(crate) fn picked<'a>(manifests: &'a Manifests, selector: &Value) -> Result<&'a Document, usize> {
    let picked: Vec<_> = manifests
        .of_kind("Deployment")
        .filter(|deployment| pod_labels(deployment).is_some_and(|labels| selects(selector, labels)))
        .collect();
    if let [deployment] = picked[..] { Ok(deployment) } else { Err(picked.len()) }
}

fn selector_problem(document: &Document) -> Option<String> {
    if document.kind() != "Deployment" {
        return None;
    }
    let selector = document.value.pointer("/spec/selector/matchLabels").unwrap_or(&Value::Null);
    let labels = pod_labels(document).unwrap_or(&Value::Null);
    (!selects(selector, labels)).then(|| format!("the selector {selector} does not pick its own pods {labels}"))
}

/// The service account must be there, and where Azure's webhook is to give the pod an identity, say which.
fn account_problem(manifests: &Manifests, document: &Document) -> Option<String> {
    let pod = document.pod()?;
    let wants_identity = pod_labels(document)
        .and_then(|labels| labels.get("azure.workload.identity/use"))
        .is_some_and(|value| value.as_str() == Some("true"));
    let name = text(pod, "serviceAccountName");
    let Some(account) = manifests.find("ServiceAccount", name) else {
        return match name {
            "" => wants_identity.then(|| "it is to get an identity, but has no serviceAccountName".to_owned()),
            name => Some(format!("there is no ServiceAccount {name}")),
        };
    };
    let annotation = account.value.pointer("/metadata/annotations/azure.workload.identity~1client-id");
    (wants_identity && annotation.is_none()).then(|| format!("{account} has no azure.workload.identity/client-id"))
}

fn volume_problems(manifests: &Manifests, document: &Document) -> Vec<String> {
    let Some(pod) = document.pod() else { return Vec::new() };
    let mut problems = Vec::new();
    let mut volumes = BTreeSet::new();
    for volume in items(pod, "volumes") {
        volumes.insert(text(volume, "name"));
        let name = |pointer: &str| volume.pointer(pointer).and_then(Value::as_str);
        match (name("/configMap/name"), name("/secret/secretName")) {
            (Some(name), None) if manifests.find("ConfigMap", name).is_some() => {}
            (Some(name), None) => problems.push(format!("there is no ConfigMap {name} to mount")),
            (None, Some(name)) if BROUGHT.contains(&name) => {}
            (None, Some(name)) => problems.push(format!("there is no Secret {name} to mount")),
            _ => problems.push(format!("the volume {:?} is not a ConfigMap and not a Secret", text(volume, "name"))),
        }
    }
    let mounted: BTreeSet<_> = document
        .containers()
        .flat_map(|container| items(container, "volumeMounts"))
        .map(|mount| text(mount, "name"))
        .collect();
    if mounted != volumes {
        problems.push(format!("the volumes are {volumes:?}, mounted are {mounted:?}"));
    }
    problems
}

fn service_problems(manifests: &Manifests, service: &Document) -> Vec<String> {
    let selector = service.value.pointer("/spec/selector").unwrap_or(&Value::Null);
    let deployment = match picked(manifests, selector) {
        Ok(deployment) => deployment,
        Err(count) => {
            return vec![format!("the selector {selector} picks the pods of {count} Deployments, not of one")];
        }
    };
    let mut problems = Vec::new();
    for port in service.value.pointer("/spec/ports").and_then(Value::as_array).into_iter().flatten() {
        let target = port.get("targetPort").or_else(|| port.get("port")).unwrap_or(&Value::Null);
        let is_there = deployment
            .containers()
            .flat_map(|container| items(container, "ports"))
            .any(|open| open.get("name") == Some(target) || open.get("containerPort") == Some(target));
        if !is_there {
            problems.push(format!("{deployment} has no port {target}"));
        }
    }
    problems
}
