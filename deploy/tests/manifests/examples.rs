//! The examples: each is whole in itself beside an overlay, and the scaler takes its triggers.

use deploy::{Document, Manifests};
use scaler::scaled_object::external_triggers;
use scaler::trigger::Trigger;
use serde_json::Value;

use crate::fixture::{environment, example, example_files, text};
use crate::{binaries, checked, image, kubernetes, pods, references};

#[test]
fn every_example_is_sound_beside_the_local_overlay() {
    for file in example_files() {
        let manifests = example(&file);
        let checks = [
            kubernetes::problems,
            references::problems,
            pods::problems,
            binaries::problems,
            image::problems,
            checked::problems,
            problems,
        ];
        let found: Vec<String> = checks.into_iter().flat_map(|check| check(&manifests)).collect();
        assert_eq!(found, Vec::<String>::new(), "{}", file.display());
    }
}

/// What is wrong with what KEDA reads.
fn problems(manifests: &Manifests) -> Vec<String> {
    let scaled: Vec<&Document> =
        ["ScaledObject", "ScaledJob"].into_iter().flat_map(|kind| manifests.of_kind(kind)).collect();
    let [scaled] = scaled[..] else { return vec![format!("one ScaledObject or ScaledJob, found {}", scaled.len())] };
    let workload = match scaled.text("/spec/scaleTargetRef/name") {
        Some(target) => manifests.find("Deployment", target),
        None => Some(scaled),
    };
    let Some(workload) = workload else { return vec![format!("{scaled}: what it scales is not there")] };
    let Some(container) = workload.containers().next() else { return vec![format!("{workload} has no container")] };
    let variables = match environment(manifests, container) {
        Ok(variables) => variables,
        Err(problem) => return vec![problem],
    };
    let triggers = match external_triggers(&scaled.value.to_string(), "default", |name| variables.get(name).cloned()) {
        Ok(triggers) => triggers,
        Err(error) => return vec![format!("{scaled}: {error}")],
    };
    let mut problems = Vec::new();
    for trigger in &triggers {
        match Trigger::parse(&trigger.metadata) {
            Ok(parsed) => problems.extend(parsed.warnings.iter().map(|warning| format!("{scaled}: {warning}"))),
            Err(error) => problems.push(format!("{scaled}: {error}")),
        }
    }
    let written = scaled.value.pointer("/spec/triggers").and_then(Value::as_array).map_or(0, Vec::len);
    if triggers.len() != written {
        problems.push(format!("{scaled}: {written} triggers, of which {} are external", triggers.len()));
    }
    // KEDA's `controllers/keda/scaledjob_controller.go`: "Cannot set metricType in ScaledJob triggers".
    let metric_type = if scaled.kind() == "ScaledJob" { None } else { Some("AverageValue") };
    if scaled.value.pointer("/spec/triggers/0/metricType").and_then(Value::as_str) != metric_type {
        problems.push(format!("{scaled}: metricType must be {metric_type:?}"));
    }
    if workload.kind() == "Deployment" && workload.containers().any(|container| text(container, "name").is_empty()) {
        problems.push(format!("{workload} has a container without a name"));
    }
    problems
}
