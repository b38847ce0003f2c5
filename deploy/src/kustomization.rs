//! What `kubectl kustomize` would make of a folder, for the few features that our kustomizations use.
//!
//! Unknown fields are refused, so a kustomization that begins to use another feature fails here instead of being read
//! wrongly. Image names are left as they are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::document::{Document, read_file, read_text};
use crate::error::ReadError;

/// Everything that one or more kustomizations put into a cluster.
#[derive(Clone, Debug, Default)]
pub struct Manifests {
    /// The objects, patched and in their namespace.
    pub documents: Vec<Document>,
    /// The secrets that are generated.
    pub secrets: Vec<GeneratedSecret>,
    /// Every YAML file that was read for it.
    pub files: Vec<PathBuf>,
}

/// A Secret made by `secretGenerator`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratedSecret {
    /// Its name, as written.
    pub name: String,
    /// Key to value. The value of a file that is not in the repository is that of its `.example`.
    pub entries: BTreeMap<String, String>,
    /// Whether the name stays as written; otherwise kustomize appends a hash of the content.
    pub has_fixed_name: bool,
}

impl Manifests {
    /// Reads these folders, each with a `kustomization.yaml`, as if they were applied one after the other.
    pub fn read<'a>(folders: impl IntoIterator<Item = &'a Path>) -> Result<Self, ReadError> {
        let mut all = Self::default();
        for folder in folders {
            all.extend(read_folder(folder)?);
        }
        Ok(all)
    }

    fn extend(&mut self, more: Self) {
        let Self { documents, secrets, files } = more;
        self.documents.extend(documents);
        self.secrets.extend(secrets);
        self.files.extend(files);
    }

    /// The object of this kind and name.
    pub fn find(&self, kind: &str, name: &str) -> Option<&Document> {
        self.documents.iter().find(|document| document.kind() == kind && document.name() == name)
    }

    /// All objects of this kind.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Document> {
        self.documents.iter().filter(move |document| document.kind() == kind)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kustomization {
    api_version: String,
    kind: String,
    namespace: Option<String>,
    #[serde(default)]
    resources: Vec<PathBuf>,
    #[serde(default)]
    components: Vec<PathBuf>,
    #[serde(default)]
    patches: Vec<Patch>,
    #[serde(default)]
    images: Vec<Image>,
    #[serde(default)]
    generator_options: GeneratorOptions,
    #[serde(default)]
    secret_generator: Vec<SecretGenerator>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    path: PathBuf,
    target: Option<Target>,
}

/// What a patch that does not say it itself is for: a list of operations (RFC 6902).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    kind: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Operation {
    op: String,
    path: String,
    value: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Image {
    name: String,
    #[serde(rename = "newName")]
    _new_name: Option<String>,
    #[serde(rename = "newTag")]
    _new_tag: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GeneratorOptions {
    #[serde(default)]
    disable_name_suffix_hash: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretGenerator {
    name: String,
    #[serde(default)]
    files: Vec<String>,
    #[serde(default)]
    literals: Vec<String>,
}

/// What begins from nothing.
const KUSTOMIZATION: (&str, &str) = ("kustomize.config.k8s.io/v1beta1", "Kustomization");
/// What begins from the resources of the one that names it.
const COMPONENT: (&str, &str) = ("kustomize.config.k8s.io/v1alpha1", "Component");

fn read_folder(folder: &Path) -> Result<Manifests, ReadError> {
    let mut manifests = Manifests::default();
    build(folder, KUSTOMIZATION, &mut manifests)?;
    Ok(manifests)
}

/// Does what a folder's kustomization, which must be of this form, says to these manifests.
fn build(folder: &Path, form: (&str, &str), manifests: &mut Manifests) -> Result<(), ReadError> {
    let path = folder.join("kustomization.yaml");
    let Kustomization {
        api_version,
        kind,
        namespace,
        resources,
        components,
        patches,
        images,
        generator_options,
        secret_generator,
    } = serde_saphyr::from_str(&read_text(&path)?).map_err(|error| ReadError::yaml(&path, &error))?;
    if (api_version.as_str(), kind.as_str()) != form {
        return Err(ReadError::form(&path, format!("{api_version} {kind} is not {} {}", form.0, form.1)));
    }
    manifests.files.push(path.clone());
    for resource in resources {
        let resource = folder.join(resource);
        if resource.is_dir() {
            manifests.extend(read_folder(&resource)?);
        } else {
            manifests.documents.extend(read_file(&resource)?);
            manifests.files.push(resource);
        }
    }
    for component in components {
        build(&folder.join(component), COMPONENT, manifests)?;
    }
    for Patch { path: file, target } in patches {
        let file = folder.join(file);
        match target {
            None => merge_file(&file, manifests)?,
            Some(Target { kind }) => operate(&file, &kind, manifests)?,
        }
        manifests.files.push(file);
    }
    for Image { name, .. } in images {
        if !manifests.documents.iter().flat_map(Document::containers).any(|container| is_image(container, &name)) {
            return Err(ReadError::form(&path, format!("images: no container has the image {name}")));
        }
    }
    for SecretGenerator { name, files, literals } in secret_generator {
        let mut entries = BTreeMap::new();
        for literal in literals {
            let (key, value) = key_and_value(&path, &literal)?;
            entries.insert(key, value);
        }
        for file in files {
            let (key, file) = key_and_value(&path, &file)?;
            entries.insert(key, read_text(&folder.join(format!("{file}.example")))?);
        }
        let has_fixed_name = generator_options.disable_name_suffix_hash;
        manifests.secrets.push(GeneratedSecret { name, entries, has_fixed_name });
    }
    if let Some(namespace) = namespace {
        for document in manifests.documents.iter_mut().filter(|document| document.kind() != "Namespace") {
            if let Some(metadata) = document.value.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.insert("namespace".to_owned(), Value::String(namespace.clone()));
            }
        }
    }
    Ok(())
}

/// A strategic merge patch: each of its documents says itself what it is for.
fn merge_file(file: &Path, manifests: &mut Manifests) -> Result<(), ReadError> {
    for patch in read_file(file)? {
        let target =
            manifests.documents.iter_mut().find(|document| document.is_patched_by(&patch)).ok_or_else(|| {
                let place = patch.namespace().map_or("without a namespace".to_owned(), |name| format!("in {name}"));
                ReadError::form(file, format!("there is no {patch} {place} to patch"))
            })?;
        merge(&mut target.value, patch.value);
    }
    Ok(())
}

/// A list of operations, for every object of a kind.
fn operate(file: &Path, kind: &str, manifests: &mut Manifests) -> Result<(), ReadError> {
    let operations: Vec<Operation> =
        serde_saphyr::from_str(&read_text(file)?).map_err(|error| ReadError::yaml(file, &error))?;
    let mut found = false;
    for document in manifests.documents.iter_mut().filter(|document| document.kind() == kind) {
        found = true;
        for operation in &operations {
            add(&mut document.value, operation).map_err(|problem| ReadError::form(file, problem))?;
        }
    }
    if found { Ok(()) } else { Err(ReadError::form(file, format!("there is no {kind} to patch"))) }
}

/// RFC 6902's `add` to an object, the one operation that our patches use.
fn add(target: &mut Value, Operation { op, path, value }: &Operation) -> Result<(), String> {
    if op != "add" {
        return Err(format!("the operation {op:?} is not known here"));
    }
    let place =
        path.rsplit_once('/').and_then(|(parent, key)| Some((target.pointer_mut(parent)?.as_object_mut()?, key)));
    let (parent, key) = place.ok_or_else(|| format!("there is no object for {path}"))?;
    parent.insert(key.replace("~1", "/").replace("~0", "~"), value.clone());
    Ok(())
}

fn is_image(container: &Value, name: &str) -> bool {
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
    image.split_once(':').map_or(image, |(bare, _)| bare) == name
}

fn key_and_value(path: &Path, text: &str) -> Result<(String, String), ReadError> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| ReadError::form(path, format!("secretGenerator: {text} is not KEY=VALUE")))?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Kubernetes' strategic merge, as far as lists go by `name`: containers, variables, volumes.
fn merge(target: &mut Value, patch: Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                match target.get_mut(&key) {
                    Some(present) => merge(present, value),
                    None => {
                        target.insert(key, value);
                    }
                }
            }
        }
        (Value::Array(target), Value::Array(patch)) if patch.iter().all(|item| item.get("name").is_some()) => {
            for item in patch {
                match target.iter_mut().find(|present| present.get("name") == item.get("name")) {
                    Some(present) => merge(present, item),
                    None => target.push(item),
                }
            }
        }
        (target, patch) => *target = patch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_patch_changes_what_it_names_and_nothing_else() {
        let mut target = json!({"containers": [{"name": "a", "env": [{"name": "X", "value": "1"}]}, {"name": "b"}]});
        let patch =
            json!({"containers": [{"name": "a", "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "3"}]}]});
        merge(&mut target, patch);
        let wanted = json!({"containers": [
            {"name": "a", "env": [{"name": "X", "value": "3"}, {"name": "Y", "value": "2"}]}, {"name": "b"}]});
        assert_eq!(target, wanted);
    }

    #[test]
    fn an_operation_adds_to_an_object_that_is_there() {
        let mut target = json!({"triggers": [{"metadata": {"queueName": "orders"}}]});
        let mut add = |op: &str, path: &str| {
            add(&mut target, &Operation { op: op.to_owned(), path: path.to_owned(), value: json!("true") })
        };
        assert_eq!(add("add", "/triggers/0/metadata/enableTLS"), Ok(()));
        assert!(add("add", "/triggers/1/metadata/enableTLS").is_err());
        assert!(add("remove", "/triggers/0/metadata/queueName").is_err());
        assert_eq!(target, json!({"triggers": [{"metadata": {"queueName": "orders", "enableTLS": "true"}}]}));
    }

    #[test]
    fn a_patch_is_for_what_has_or_had_its_namespace() {
        let document = |namespace: Option<&str>| {
            let metadata = json!({"name": "a", "namespace": namespace});
            Document::written(Path::new("a.yaml"), json!({"kind": "ScaledObject", "metadata": metadata}))
        };
        let mut target = document(None);
        target.value["metadata"]["namespace"] = json!("given");
        assert!(target.is_patched_by(&document(None)), "by the name that its file gives");
        assert!(target.is_patched_by(&document(Some("given"))), "by the name that the kustomization gave");
        assert!(!target.is_patched_by(&document(Some("other"))));
        assert!(!document(Some("given")).is_patched_by(&document(None)), "its own file gives it one");
    }

    #[test]
    fn a_component_is_no_resource_and_a_kustomization_no_component() {
        let folder = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let mut manifests = Manifests::default();
        let error = build(&folder("sender"), COMPONENT, &mut manifests).expect_err("a Kustomization");
        assert!(error.to_string().contains("is not kustomize.config.k8s.io/v1alpha1 Component"), "{error}");
        let error = read_folder(&folder("components/network-policy")).expect_err("a Component");
        assert!(error.to_string().contains("v1alpha1 Component is not"), "{error}");
    }

    #[test]
    fn a_feature_of_kustomize_that_is_not_read_here_is_refused() {
        let text = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamePrefix: x-\n";
        let error = serde_saphyr::from_str::<Kustomization>(text).err().expect("must be refused");
        assert!(error.to_string().contains("namePrefix"), "{error}");
    }
}
