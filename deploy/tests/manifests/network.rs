//! Who reaches a pod and how: a `NetworkPolicy` admits what its pods serve, the scaler's gRPC port to named callers alone; and a
//! Service does not promise clear text where TLS is spoken.

use std::collections::BTreeSet;

use deploy::{Document, Manifests};
use serde_json::Value;

use crate::binaries::{started, values};
use crate::fixture::{items, text};
use crate::references::picked;

pub(crate) fn problems(manifests: &Manifests) -> Vec<String> {
    let policies = manifests.of_kind("NetworkPolicy").map(|policy| (policy, policy_problems(manifests, policy)));
    let services = manifests.of_kind("Service").map(|service| (service, protocol_problems(manifests, service)));
    policies
        .chain(services)
        .flat_map(|(document, found)| found.into_iter().map(move |problem| format!("{document}: {problem}")))
        .collect()
}

fn policy_problems(manifests: &Manifests, policy: &Document) -> Vec<String> {
    let selector = policy.value.pointer("/spec/podSelector/matchLabels").unwrap_or(&Value::Null);
    let Ok(deployment) = picked(manifests, selector) else {
        return vec![format!("the selector {selector} picks the pods of no Deployment, or of several")];
    };
    let mut problems = Vec::new();
    let rules: Vec<_> = policy.value.get("spec").into_iter().flat_map(|spec| items(spec, "ingress")).collect();
    let ports = |rule: &Value| items(rule, "ports").filter_map(|port| port["port"].as_u64()).collect::<BTreeSet<_>>();
    let admitted: BTreeSet<_> = rules.iter().flat_map(|rule| ports(rule)).collect();
    let open: BTreeSet<_> = deployment
        .containers()
        .flat_map(|container| items(container, "ports"))
        .filter_map(|port| port["containerPort"].as_u64())
        .collect();
    if admitted != open {
        problems.push(format!("it admits to the ports {admitted:?}, but {deployment} opens {open:?}"));
    }
    let served: BTreeSet<_> = flag(manifests, deployment, "listen").filter_map(|address| port(&address)).collect();
    // Each `from` with both selectors: one alone would be every pod of a namespace, or a pod of any.
    let is_named = |rule: &&Value| {
        let mut from = items(rule, "from").peekable();
        from.peek().is_some()
            && from.all(|from| from["namespaceSelector"].is_object() && from["podSelector"].is_object())
    };
    // A rule without ports is for all.
    let admits = |rule: &Value, served| ports(rule).is_empty() || !ports(rule).is_disjoint(served);
    if rules.iter().filter(|rule| !is_named(rule)).any(|rule| admits(rule, &served)) {
        problems.push(format!("the ports {served:?} must be for named callers alone"));
    }
    problems
}

fn protocol_problems(manifests: &Manifests, service: &Document) -> Vec<String> {
    let spec = service.value.get("spec").unwrap_or(&Value::Null);
    let selector = spec.get("selector").unwrap_or(&Value::Null);
    // Who picks nothing is told so by references.rs.
    let Ok(deployment) = picked(manifests, selector) else { return Vec::new() };
    if flag(manifests, deployment, "tls_cert").next().is_none() {
        return Vec::new();
    }
    let clear = items(spec, "ports").filter(|port| text(port, "appProtocol") == "kubernetes.io/h2c");
    clear.map(|port| format!("port {} is said to be clear text, but it speaks TLS", port["port"])).collect()
}

/// The values of a flag of a Deployment's containers; those that do not start are binaries.rs's.
fn flag(manifests: &Manifests, deployment: &Document, flag: &'static str) -> impl Iterator<Item = String> {
    deployment
        .containers()
        .filter_map(|container| started(manifests, container).ok())
        .flat_map(move |matches| values(&matches, flag))
}

fn port(address: &str) -> Option<u64> {
    address.rsplit_once(':')?.1.parse().ok()
}
