//! What `scaler check` says to the manifests, with the config file that their own scaler gets: nothing, not even a note. And
//! what a config file needs of the pod that reads it.

use std::path::Path;

use deploy::{Document, Manifests};
use scaler::check::check;
use scaler::config::Config;
use scaler::config::connections::{CredentialSource, Identity};
use scaler::manifest;

use crate::binaries::scaler_config;
use crate::fixture::pod_labels;

pub(crate) fn problems(manifests: &Manifests) -> Vec<String> {
    let Some(scaler) = manifests.find("Deployment", "servicebus-scaler") else {
        return vec!["there is no scaler".to_owned()];
    };
    let config = match scaler_config(manifests, scaler) {
        Ok(config) => config,
        Err(problem) => return vec![problem],
    };
    let mut nodes = Vec::new();
    for document in &manifests.documents {
        match manifest::read(&document.value.to_string()) {
            Ok(read) => nodes.extend(manifest::objects(read)),
            Err(error) => return vec![format!("{document}: line {}: {}", error.line, error.problem)],
        }
    }
    let checked = check(&[(Path::new("manifests"), nodes)], Some(&config), "default");
    let mut problems: Vec<_> = checked.findings.iter().map(ToString::to_string).collect();
    if checked.triggers == 0 {
        problems.push("scaler check finds no trigger of ours".to_owned());
    }
    problems.extend(identity_problem(&config, scaler));
    problems
}

/// A workload identity without a token file of its own needs what Azure's webhook gives to labelled pods.
fn identity_problem(config: &Config, scaler: &Document) -> Option<String> {
    let needs_webhook = config.connections.values().any(|connection| {
        matches!(
            &connection.source,
            CredentialSource::Identity { identity: Identity::Workload { token_file: None, .. }, .. }
        )
    });
    let label = pod_labels(scaler).and_then(|labels| labels.get("azure.workload.identity/use"));
    (needs_webhook && label.and_then(serde_json::Value::as_str) != Some("true"))
        .then(|| format!("{scaler}: a connection is a workload identity, but the pod is not labelled for the webhook"))
}
