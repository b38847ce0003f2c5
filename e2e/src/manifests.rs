//! The manifests of `deploy/`, and the few places in which a run on this host must differ from them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::cluster::{Cluster, describe};

/// The namespace of all manifests.
pub const NAMESPACE: &str = "autoscale-demo";
/// The Deployment that is scaled, and the ScaledObject that scales it.
pub const RECEIVER: &str = "sb-queue-receiver";
/// The label of its pods.
pub const RECEIVER_LABEL: &str = "app.kubernetes.io/name=sb-queue-receiver";
/// The queue of all manifests.
pub const QUEUE: &str = "orders";

/// The documents of one file, all with a namespace where they can have one.
pub fn read(folder: &Path, file: &str) -> anyhow::Result<Vec<Value>> {
    let path = folder.join(file);
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let mut documents: Vec<Value> =
        serde_saphyr::from_multiple(&text).with_context(|| format!("parse {}", path.display()))?;
    for document in &mut documents {
        if document["kind"] != "Namespace" {
            document["metadata"]["namespace"] = json!(NAMESPACE);
        }
    }
    Ok(documents)
}

/// Applies every manifest of the folder as it is, without storing it: the API server must neither refuse nor warn.
pub async fn check_all(folder: &Path, cluster: &Cluster) -> anyhow::Result<()> {
    for namespace in read(folder, "base/namespace.yaml")? {
        cluster.apply(&namespace, false).await?;
    }
    let mut checked = 0;
    for file in files(folder)? {
        for manifest in read(folder, &file)? {
            // Kustomize's own files are no objects; its patches are no whole ones.
            let is_object = manifest["apiVersion"] != "kustomize.config.k8s.io/v1beta1" && !file.contains("allow-");
            if is_object {
                cluster.apply(&manifest, true).await.with_context(|| format!("check {file}"))?;
                checked += 1;
            }
        }
    }
    println!("{checked} manifests of {} apply without a warning (strict, dry run)", folder.display());
    Ok(())
}

/// The receiver with what this run needs: how long it works, and its ledger on standard output, which is the pod's log.
pub fn receiver(folder: &Path, wait_time: f64) -> anyhow::Result<Value> {
    let mut receiver = one(read(folder, "base/receiver.yaml")?, "Deployment")?;
    let container = &mut receiver["spec"]["template"]["spec"]["containers"][0];
    container["args"] = json!(["--ledger", "/dev/stdout"]);
    let environment = container["env"].as_array_mut().context("the receiver has no env")?;
    let variable = environment.iter_mut().find(|variable| variable["name"] == "WAIT_TIME");
    variable.context("the receiver has no WAIT_TIME")?["value"] = json!(wait_time.to_string());
    Ok(receiver)
}

/// The secret that the receiver's environment comes from.
pub fn secret(connection_string: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "sb-connection", "namespace": NAMESPACE},
        "stringData": {"SERVICEBUS_CONNECTION_STR": connection_string},
    })
}

/// A ScaledObject with the address of the scaler on this host.
pub fn scaled_object(folder: &Path, file: &str, scaler: &str) -> anyhow::Result<Value> {
    let mut scaled_object = one(read(folder, &format!("scaled-objects/{file}"))?, "ScaledObject")?;
    scaled_object["spec"]["triggers"][0]["metadata"]["scalerAddress"] = json!(scaler);
    Ok(scaled_object)
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
