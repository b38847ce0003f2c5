//! The manifests of `deploy/`, and the few places in which a run on this host must differ from them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::cluster::{Cluster, describe};

/// The namespace of all manifests.
pub const NAMESPACE: &str = "autoscale-demo";
/// The Deployment that most scenarios scale, and the ScaledObject that scales it.
pub const RECEIVER: &str = "sb-queue-receiver";
/// What KEDA shows the scaler in `mtls`; for every namespace.
pub const AUTHENTICATION: &str = "components/mtls/cluster-trigger-authentication.yaml";
/// The queue of all manifests.
pub const QUEUE: &str = "orders";

/// The folder with the manifests, and what this run changes in them.
pub struct Folder {
    path: PathBuf,
    /// Seconds of simulated work per message.
    wait_time: f64,
}

impl Folder {
    pub fn new(path: &Path, wait_time: f64) -> Self {
        Self { path: path.to_owned(), wait_time }
    }

    /// The documents of one file, all with a namespace where they can have one.
    pub fn read(&self, file: &str) -> anyhow::Result<Vec<Value>> {
        let path = self.path.join(file);
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let mut documents: Vec<Value> =
            serde_saphyr::from_multiple(&text).with_context(|| format!("parse {}", path.display()))?;
        for document in &mut documents {
            let is_cluster_wide =
                matches!(document["kind"].as_str(), Some("Namespace" | "ClusterTriggerAuthentication"));
            if document.is_object() && !is_cluster_wide {
                document["metadata"]["namespace"] = json!(NAMESPACE);
            }
        }
        Ok(documents)
    }

    /// Applies every manifest as it is, without storing it: the API server must neither refuse nor warn.
    pub async fn check_all(&self, cluster: &Cluster) -> anyhow::Result<()> {
        for namespace in self.read("base/namespace.yaml")? {
            cluster.apply(&namespace, false).await?;
        }
        let mut checked = 0;
        for file in files(&self.path)? {
            for manifest in self.read(&file)? {
                if is_whole_object(&manifest) {
                    cluster.apply(&manifest, true).await.with_context(|| format!("check {file}"))?;
                    checked += 1;
                }
            }
        }
        println!("{checked} manifests of {} apply without a warning (strict, dry run)", self.path.display());
        Ok(())
    }
}

/// Kustomize's own files are no objects, its patches no whole ones; the rules for Prometheus are for another program, and
/// their operator's types are not in every cluster.
fn is_whole_object(manifest: &Value) -> bool {
    let version = manifest["apiVersion"].as_str().unwrap_or_default();
    let is_patch = match manifest["kind"].as_str() {
        Some("Deployment") => manifest.pointer("/spec/selector").is_none(),
        Some("ScaledObject") => manifest.pointer("/spec/scaleTargetRef").is_none(),
        Some("Service") => manifest.pointer("/spec/selector").is_none(),
        _ => false,
    };
    !version.is_empty()
        && !version.starts_with("kustomize.config.k8s.io/")
        && version != "monitoring.coreos.com/v1"
        && !is_patch
}

/// The receiver with what this run needs.
pub fn receiver(folder: &Folder) -> anyhow::Result<Value> {
    let mut receiver = one(folder.read("base/receiver.yaml")?, "Deployment")?;
    prepare_workers(&mut receiver, folder.wait_time)?;
    Ok(receiver)
}

/// How long workers work, and their ledger on standard output, which is the pod's log.
fn prepare_workers(object: &mut Value, wait_time: f64) -> anyhow::Result<()> {
    let template = if object["kind"] == "ScaledJob" { "/spec/jobTargetRef/template" } else { "/spec/template" };
    let containers = object.pointer_mut(&format!("{template}/spec/containers")).and_then(Value::as_array_mut);
    for container in containers.context("no containers")? {
        container["args"] = json!(["--ledger", "/dev/stdout"]);
        let environment = container["env"].as_array_mut().context("the worker has no env")?;
        let variable = environment.iter_mut().find(|variable| variable["name"] == "WAIT_TIME");
        variable.context("the worker has no WAIT_TIME")?["value"] = json!(wait_time.to_string());
    }
    Ok(())
}

/// The secret that the workers' environment comes from.
pub fn secret(connection_string: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "sb-connection", "namespace": NAMESPACE},
        "stringData": {"SERVICEBUS_CONNECTION_STR": connection_string},
    })
}

/// What KEDA needs to speak to the scaler, in the namespace where it looks for what a ClusterTriggerAuthentication names.
pub fn client_secret(namespace: &str, files: &[(&str, &str)]) -> Value {
    let data: serde_json::Map<String, Value> =
        files.iter().map(|(name, text)| ((*name).to_owned(), json!(text))).collect();
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "servicebus-scaler-client", "namespace": namespace},
        "stringData": data,
    })
}

/// A ScaledObject with the address of the scaler on this host.
pub fn scaled_object(folder: &Folder, file: &str, scaler: &str) -> anyhow::Result<Value> {
    let mut scaled_object = one(folder.read(file)?, "ScaledObject")?;
    set_scaler(&mut scaled_object, scaler)?;
    Ok(scaled_object)
}

/// An example: its workload, prepared, and its ScaledObject or ScaledJob with the address of the scaler on this host.
pub fn example(folder: &Folder, file: &str, scaler: &str) -> anyhow::Result<Vec<Value>> {
    let mut objects = folder.read(&format!("examples/{file}"))?;
    for object in &mut objects {
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        if matches!(kind.as_str(), "Deployment" | "ScaledJob") {
            prepare_workers(object, folder.wait_time).with_context(|| format!("prepare {}", describe(object)))?;
        }
        if matches!(kind.as_str(), "ScaledObject" | "ScaledJob") {
            set_scaler(object, scaler)?;
        }
    }
    Ok(objects)
}

/// Kind and name of the one ScaledObject or ScaledJob among objects.
pub fn scaled(objects: &[Value]) -> anyhow::Result<(&'static str, String)> {
    let found = objects.iter().find_map(|object| {
        let kind = ["ScaledObject", "ScaledJob"].into_iter().find(|kind| object["kind"] == *kind)?;
        Some((kind, object["metadata"]["name"].as_str()?.to_owned()))
    });
    found.context("no ScaledObject and no ScaledJob")
}

fn set_scaler(scaled: &mut Value, scaler: &str) -> anyhow::Result<()> {
    let triggers = scaled.pointer_mut("/spec/triggers").and_then(Value::as_array_mut).context("no triggers")?;
    for trigger in triggers {
        trigger["metadata"]["scalerAddress"] = json!(scaler);
    }
    Ok(())
}

/// Has KEDA poll every so often.
pub fn poll_every(objects: &mut [Value], interval: Duration) -> anyhow::Result<()> {
    let scaled = objects.iter_mut().find(|object| object["kind"] == "ScaledObject").context("no ScaledObject")?;
    scaled["spec"]["pollingInterval"] = json!(interval.as_secs());
    Ok(())
}

/// Does to the ScaledObject what a component's patch (RFC 6902, additions alone) would.
pub fn patch_scaled_object(objects: &mut [Value], patch: &[Value]) -> anyhow::Result<()> {
    let operations = patch.first().and_then(Value::as_array).context("the patch is no list of operations")?;
    let scaled = objects.iter_mut().find(|object| object["kind"] == "ScaledObject").context("no ScaledObject")?;
    for operation in operations {
        let path = operation["path"].as_str().filter(|_| operation["op"] == "add").context("no addition")?;
        let place = path.rsplit_once('/').and_then(|(parent, key)| Some((scaled.pointer_mut(parent)?, key)));
        let (parent, key) = place.with_context(|| format!("there is nothing to add {path} to"))?;
        parent[key] = operation["value"].clone();
    }
    Ok(())
}

fn one(documents: Vec<Value>, kind: &str) -> anyhow::Result<Value> {
    let mut of_kind = documents.into_iter().filter(|document| document["kind"] == kind);
    match (of_kind.next(), of_kind.next()) {
        (Some(document), None) => Ok(document),
        (Some(document), Some(_)) => bail!("more than one {}", describe(&document)),
        (None, _) => bail!("no {kind}"),
    }
}

/// All YAML files below the folder, by their path in it.
fn files(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).with_context(|| format!("read {}", next.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "yaml") {
                found.push(path.strip_prefix(folder)?.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
pub mod tests {
    use clap::ValueEnum as _;

    use super::*;
    use crate::cluster::object_path;
    use crate::scenario::Scenario;

    pub const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");

    #[test]
    fn every_manifest_is_a_patch_or_has_a_place_in_the_cluster() {
        let folder = Folder::new(DEPLOY.as_ref(), 1.0);
        let mut whole = 0;
        for file in files(DEPLOY.as_ref()).expect("a readable folder") {
            for manifest in folder.read(&file).unwrap_or_else(|error| panic!("{error:#}")) {
                if is_whole_object(&manifest) {
                    object_path(&manifest).unwrap_or_else(|error| panic!("{file}: {error:#}"));
                    whole += 1;
                }
            }
        }
        assert!(whole > 20, "{whole}");
    }

    #[test]
    fn every_scenario_finds_what_it_is_made_of() {
        let folder = Folder::new(DEPLOY.as_ref(), 1.0);
        for scenario in Scenario::value_variants() {
            let setting =
                scenario.setting(&folder, "10.0.0.1:6000").unwrap_or_else(|error| panic!("{scenario:?}: {error:#}"));
            let (kind, _) = scaled(&setting.objects).expect("something to scale");
            let scaled = setting.objects.iter().find(|object| object["kind"] == kind).expect("it was found");
            assert_eq!(scaled["spec"]["triggers"][0]["metadata"]["scalerAddress"], "10.0.0.1:6000", "{scenario:?}");
            let interval = setting.push_interval.map(|interval| json!(interval.as_secs()));
            assert!(interval.is_none_or(|interval| scaled["spec"]["pollingInterval"] == interval), "{scenario:?}");
            let trigger = &scaled["spec"]["triggers"][0];
            assert_eq!(trigger["metadata"]["enableTLS"] == "true", setting.mtls, "{scenario:?}");
            assert_eq!(trigger["authenticationRef"]["name"] == "servicebus-scaler", setting.mtls, "{scenario:?}");
        }
    }
}
