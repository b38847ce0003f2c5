//! Every pod is locked down, bounded, and given the time it needs to stop.

use deploy::{Document, Manifests};
use serde_json::{Value, json};

use crate::fixture::text;

pub(crate) fn problems(manifests: &Manifests) -> Vec<String> {
    manifests
        .documents
        .iter()
        .filter(|document| document.pod().is_some())
        .flat_map(|document| pod_problems(document).into_iter().map(move |problem| format!("{document}: {problem}")))
        .collect()
}

fn pod_problems(document: &Document) -> Vec<String> {
    let mut wanted = vec![
        ("/automountServiceAccountToken".to_owned(), json!(false)),
        ("/securityContext/runAsNonRoot".to_owned(), json!(true)),
        ("/securityContext/seccompProfile/type".to_owned(), json!("RuntimeDefault")),
    ];
    for index in 0..document.containers().count() {
        let container = format!("/containers/{index}");
        wanted.extend([
            (format!("{container}/securityContext/allowPrivilegeEscalation"), json!(false)),
            (format!("{container}/securityContext/readOnlyRootFilesystem"), json!(true)),
            (format!("{container}/securityContext/capabilities/drop"), json!(["ALL"])),
        ]);
    }
    let pod = document.pod().unwrap_or(&Value::Null);
    let mut problems: Vec<String> = wanted
        .into_iter()
        .filter(|(pointer, value)| pod.pointer(pointer) != Some(value))
        .map(|(pointer, value)| format!("{pointer} must be {value}"))
        .collect();
    for container in document.containers() {
        for limit in ["requests/cpu", "requests/memory", "limits/memory"] {
            if container.pointer(&format!("/resources/{limit}")).is_none() {
                problems.push(format!("container {} has no resources/{limit}", text(container, "name")));
            }
        }
        if container.pointer("/securityContext/capabilities/add").is_some() {
            problems.push(format!("container {} adds capabilities", text(container, "name")));
        }
    }
    problems
}
