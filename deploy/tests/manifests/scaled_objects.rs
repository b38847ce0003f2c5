//! `ScaledObject`s against KEDA's types, its rules, the scaler's own reading of the metadata, and what they point at.

use std::collections::BTreeMap;

use deploy::keda::{Behavior, ScaledObject, ScalingRules};
use deploy::{Document, Manifests};
use scaler::endpoints::{AllowedEndpoints, Destination, HostPort};
use scaler::entity::{Entity, Target};
use scaler::scaled_object::external_triggers;
use scaler::trigger::{Connection, PolicyChoice, Trigger};
use serde_json::Value;

use crate::binaries::{scaler_config, started, values};
use crate::fixture::{environment, items, pod_labels, text};
use crate::references::selects;

pub(crate) fn problems(manifests: &Manifests) -> Vec<String> {
    let mut problems = Vec::new();
    if manifests.of_kind("ScaledObject").count() != 1 {
        problems.push("there must be one ScaledObject: KEDA takes one per target".to_owned());
    }
    for document in manifests.of_kind("ScaledObject") {
        let found = match ScaledObject::from_value(&document.value) {
            Ok(scaled) => [rule_problems(&scaled), target_problems(manifests, document, &scaled)].concat(),
            Err(error) => vec![error.to_string()],
        };
        problems.extend(found.into_iter().map(|problem| format!("{document}: {problem}")));
    }
    problems
}

/// What KEDA and Kubernetes refuse, and what we promise about every example.
fn rule_problems(scaled: &ScaledObject) -> Vec<String> {
    let spec = &scaled.spec;
    let behavior = spec
        .advanced
        .as_ref()
        .and_then(|advanced| advanced.horizontal_pod_autoscaler_config.as_ref())
        .and_then(|config| config.behavior.as_ref());
    let rules: [(&str, bool); 8] = [
        ("it must be a ScaledObject of keda.sh/v1alpha1", {
            (scaled.api_version.as_str(), scaled.kind.as_str()) == ("keda.sh/v1alpha1", "ScaledObject")
        }),
        ("minReplicaCount must be 0", spec.min_replica_count == Some(0)),
        ("maxReplicaCount must be more than 1", spec.max_replica_count.is_some_and(|most| most > 1)),
        ("idleReplicaCount must be less than minReplicaCount, so absent", spec.idle_replica_count.is_none()),
        ("behavior must be written out for both directions, within Kubernetes' bounds", {
            behavior.is_some_and(|Behavior { scale_up, scale_down }| {
                is_written_out(scale_up.as_ref()) && is_written_out(scale_down.as_ref())
            })
        }),
        ("there must be one trigger", spec.triggers.len() == 1),
        ("each trigger must be external or external-push", {
            spec.triggers.iter().all(|trigger| matches!(trigger.kind.as_str(), "external" | "external-push"))
        }),
        ("metricType must be AverageValue: the scaler's value is replicas times the target", {
            spec.triggers.iter().all(|trigger| trigger.metric_type.as_deref() == Some("AverageValue"))
        }),
    ];
    rules.into_iter().filter(|(_, holds)| !holds).map(|(rule, _)| rule.to_owned()).collect()
}

/// Bounds from Kubernetes' `autoscaling/v2` (`HPAScalingRules`, `HPAScalingPolicy`).
fn is_written_out(rules: Option<&ScalingRules>) -> bool {
    rules.is_some_and(|rules| {
        rules.stabilization_window_seconds.is_some_and(|seconds| seconds <= 3600)
            && rules.select_policy.is_some()
            && !rules.policies.is_empty()
            && rules.policies.iter().all(|policy| policy.value > 0 && (1..=1800).contains(&policy.period_seconds))
    })
}

fn target_problems(manifests: &Manifests, document: &Document, scaled: &ScaledObject) -> Vec<String> {
    let target = &scaled.spec.scale_target_ref;
    let kind = target.kind.as_deref().unwrap_or("Deployment");
    let Some(workload) = manifests.find(kind, &target.name) else {
        return vec![format!("there is no {kind} {} to scale", target.name)];
    };
    let mut problems = Vec::new();
    if workload.value.pointer("/spec/replicas").is_some() {
        problems.push(format!("{workload} has spec.replicas, which is KEDA's to decide"));
    }
    let container = match &target.env_source_container_name {
        Some(name) => workload.containers().find(|container| text(container, "name") == name),
        None => workload.containers().next(),
    };
    let variables = match container.map(|container| environment(manifests, container)) {
        Some(Ok(variables)) => variables,
        Some(Err(problem)) => return vec![problem],
        None => return vec![format!("{workload} has no container to take variables from")],
    };
    // KEDA resolves and forwards; this is the scaler's own copy of that step.
    let text = document.value.to_string();
    match external_triggers(&text, "default", |name| variables.get(name).cloned()) {
        Ok(triggers) => {
            for trigger in triggers {
                problems.extend(trigger_problems(manifests, &trigger.metadata.into_iter().collect(), &variables));
            }
        }
        Err(error) => problems.push(error.to_string()),
    }
    problems
}

fn trigger_problems(
    manifests: &Manifests,
    metadata: &BTreeMap<String, String>,
    variables: &BTreeMap<String, String>,
) -> Vec<String> {
    let mut problems = Vec::new();
    let scaler = match scaler_behind(manifests, metadata.get("scalerAddress").map_or("", String::as_str)) {
        Ok(scaler) => scaler,
        Err(problem) => return vec![format!("scalerAddress: {problem}")],
    };
    let trigger = match Trigger::parse(&metadata.clone().into_iter().collect()) {
        Ok(trigger) => trigger,
        Err(error) => return vec![error.to_string()],
    };
    problems.extend(trigger.warnings.iter().map(ToString::to_string));
    if metadata.get("activationMessageCount").map(String::as_str) != Some("0") {
        problems.push("activationMessageCount must be 0: more lets the last messages lie".to_owned());
    }
    match &trigger.target {
        Target::Entity(Entity::Queue(queue)) => {
            if variables.get("SERVICEBUS_QUEUE_NAME") != Some(queue) {
                problems.push(format!("it counts the queue {queue:?}, which its target does not receive from"));
            }
            problems.extend(queue_problems(manifests, queue));
        }
        other => problems.push(format!("it counts the {other}, not the queue that its target receives from")),
    }
    match scaler_config(manifests, scaler) {
        Ok(config) => {
            if let PolicyChoice::Profile(profile) = &trigger.policy
                && !config.profiles.contains_key(profile)
            {
                problems.push(format!("the scaler's config has no profile {profile:?}"));
            }
        }
        Err(problem) => problems.push(problem),
    }
    match &trigger.connection {
        Connection::FromEnvironment(Ok(connection)) => {
            let destination = Destination {
                host: connection.host(),
                port: connection.administration_port(),
                plain: connection.is_development_emulator(),
            };
            match allowed_endpoints(manifests, scaler) {
                Ok(allowed) => problems.extend(allowed.check(destination).err().map(|refused| refused.to_string())),
                Err(problem) => problems.push(problem),
            }
        }
        Connection::FromEnvironment(Err(problem)) => problems.push(problem.to_string()),
        // The config file says where it leads, and for whom it is: checked.rs.
        Connection::Reference { .. } => {}
    }
    problems
}

/// The sender must feed the same queue, and a broker among the manifests must have it.
fn queue_problems(manifests: &Manifests, queue: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for job in manifests.of_kind("Job") {
        for container in job.containers() {
            let variables = environment(manifests, container).unwrap_or_default();
            if variables.get("SERVICEBUS_QUEUE_NAME").map(String::as_str) != Some(queue) {
                problems.push(format!("{job} does not send to the queue {queue:?}"));
            }
        }
    }
    for broker in manifests.of_kind("Deployment").filter(|deployment| deployment.name() == "broker") {
        let queues = broker.containers().filter_map(|container| started(manifests, container).ok());
        let queues: Vec<_> = queues.flat_map(|matches| values(&matches, "queue")).collect();
        if !queues.iter().any(|name| name == queue) {
            problems.push(format!("{broker} has the queues {queues:?}, not {queue:?}"));
        }
    }
    problems
}

fn allowed_endpoints(manifests: &Manifests, scaler: &Document) -> Result<AllowedEndpoints, String> {
    let container = scaler.containers().next().ok_or("the scaler has no container")?;
    let listed = values(&started(manifests, container)?, "allow_endpoint");
    let listed: Result<Vec<HostPort>, String> = listed.iter().map(|endpoint| endpoint.parse()).collect();
    Ok(AllowedEndpoints::with(listed?))
}

/// The Deployment that serves at `NAME.NAMESPACE.svc.cluster.local:PORT`, by way of a headless Service.
fn scaler_behind<'a>(manifests: &'a Manifests, address: &str) -> Result<&'a Document, String> {
    let (host, port) = address.split_once(':').ok_or_else(|| format!("{address:?} has no port"))?;
    let port: u64 = port.parse().map_err(|_| format!("{port:?} is not a port"))?;
    let service = manifests
        .of_kind("Service")
        .find(|service| {
            host == format!("{}.{}.svc.cluster.local", service.name(), service.namespace().unwrap_or_default())
        })
        .ok_or_else(|| format!("there is no Service for {host}"))?;
    if service.text("/spec/clusterIP") != Some("None") {
        return Err(format!("{service} is not headless: KEDA's client would see one address for all pods"));
    }
    let spec = service.value.get("spec").unwrap_or(&Value::Null);
    if !items(spec, "ports").any(|open| open.get("port").and_then(Value::as_u64) == Some(port)) {
        return Err(format!("{service} has no port {port}"));
    }
    let target_ports: Vec<_> = items(spec, "ports").filter_map(|open| open.get("targetPort")).collect();
    let selector = spec.get("selector").unwrap_or(&Value::Null);
    let deployment = manifests
        .of_kind("Deployment")
        .find(|deployment| pod_labels(deployment).is_some_and(|labels| selects(selector, labels)))
        .ok_or_else(|| format!("{service} picks no pods"))?;
    // A headless Service has no proxy that could translate ports: the name resolves to the pod itself.
    let listens = deployment.containers().flat_map(|container| items(container, "ports")).any(|open| {
        open.get("containerPort").and_then(Value::as_u64) == Some(port)
            && target_ports
                .iter()
                .any(|target| open.get("name") == Some(target) || open.get("containerPort") == Some(target))
    });
    if listens {
        Ok(deployment)
    } else {
        Err(format!("{deployment} does not listen on {port}, and {service} is headless"))
    }
}
