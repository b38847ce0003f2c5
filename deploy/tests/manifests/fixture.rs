//! Where the manifests are, and small readers that the checks share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use deploy::{Document, Manifests, read_file};
use serde_json::Value;

/// The overlays that users apply.
pub(crate) const OVERLAYS: [&str; 4] = ["azure", "azure-workload-identity", "local", "local-mtls"];

/// One overlay, the sender beside it, and one `ScaledObject` in force.
pub(crate) struct Scenario {
    pub(crate) manifests: Manifests,
}

impl Scenario {
    pub(crate) fn read(overlay_name: &str, scaled_object: &Path) -> Self {
        let mut manifests = overlay(overlay_name);
        manifests.documents.retain(|document| document.kind() != "ScaledObject");
        manifests.documents.extend(read_file(scaled_object).expect("a readable ScaledObject"));
        Self { manifests }
    }
}

/// The overlay `local` with one example in place of its worker and `ScaledObject`.
pub(crate) fn example(file: &Path) -> Manifests {
    let mut manifests = overlay("local");
    let replaced = |document: &Document| document.kind() == "ScaledObject" || document.name() == "sb-queue-receiver";
    manifests.documents.retain(|document| !replaced(document));
    manifests.documents.extend(read_file(file).expect("a readable example"));
    manifests
}

/// Every example that we offer.
pub(crate) fn example_files() -> Vec<PathBuf> {
    let mut files = files_below(&root().join("examples"));
    files.retain(|file| is_yaml(file));
    assert!(files.len() >= 4, "fallback, scaled-job, subscription and two-triggers at least, found {files:?}");
    files
}

/// One overlay and the sender, as a user applies them.
pub(crate) fn overlay(name: &str) -> Manifests {
    let folders = [root().join("overlays").join(name), root().join("sender")];
    Manifests::read(folders.iter().map(PathBuf::as_path)).expect("readable manifests")
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every `ScaledObject` that we offer.
pub(crate) fn scaled_object_files() -> Vec<PathBuf> {
    let mut files = files_below(&root().join("scaled-objects"));
    files.retain(|file| is_yaml(file) && file.file_name() != Some("kustomization.yaml".as_ref()));
    assert!(files.len() >= 3, "external, external-push and weighted at least, found {files:?}");
    files
}

/// Every YAML file below `deploy/`.
pub(crate) fn yaml_files() -> Vec<PathBuf> {
    let mut files = files_below(root());
    files.retain(|file| is_yaml(file));
    files
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path.canonicalize().expect("it exists"));
        }
    }
    files.sort();
    files
}

/// What a pod's labels are.
pub(crate) fn pod_labels(document: &Document) -> Option<&Value> {
    document.value.pointer("/spec/template/metadata/labels")
}

/// The items of a list field; empty when there is none.
pub(crate) fn items<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

/// A string field; empty when there is none.
pub(crate) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// The variables a container gets, or what is wrong with where they come from.
pub(crate) fn environment(manifests: &Manifests, container: &Value) -> Result<BTreeMap<String, String>, String> {
    let mut variables = BTreeMap::new();
    for source in items(container, "envFrom") {
        let name =
            source.pointer("/configMapRef/name").and_then(Value::as_str).ok_or("envFrom is not a configMapRef")?;
        let map = manifests.find("ConfigMap", name).ok_or_else(|| format!("envFrom: there is no ConfigMap {name}"))?;
        for (key, value) in map.value.get("data").and_then(Value::as_object).into_iter().flatten() {
            variables.insert(key.clone(), value.as_str().unwrap_or_default().to_owned());
        }
    }
    for variable in items(container, "env") {
        let name = text(variable, "name");
        let value = if let Some(reference) = variable.pointer("/valueFrom/secretKeyRef") {
            let (secret, key) = (text(reference, "name"), text(reference, "key"));
            manifests
                .secrets
                .iter()
                .find(|generated| generated.name == secret && generated.has_fixed_name)
                .and_then(|generated| generated.entries.get(key))
                .ok_or_else(|| format!("{name}: no secret {secret} with the key {key} and a fixed name is generated"))?
                .clone()
        } else {
            let value = variable.get("value").and_then(Value::as_str);
            value.ok_or_else(|| format!("{name} has neither a value nor a secretKeyRef"))?.to_owned()
        };
        variables.insert(name.to_owned(), value);
    }
    Ok(variables)
}
