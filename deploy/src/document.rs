//! One Kubernetes object as it stands in a file, untyped: types are a question for the checks.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::ReadError;

/// One document of a YAML file.
#[derive(Clone, Debug)]
pub struct Document {
    /// Where it stands.
    pub file: PathBuf,
    /// What it says.
    pub value: Value,
    /// The namespace that its own file gives it: kustomize still knows it by that one when a kustomization has changed it.
    pub(crate) written_namespace: Option<String>,
}

impl Document {
    pub(crate) fn written(file: &Path, value: Value) -> Self {
        let written_namespace = value.pointer("/metadata/namespace").and_then(Value::as_str).map(str::to_owned);
        Self { file: file.to_owned(), value, written_namespace }
    }

    /// Whether kustomize takes a patch for it: of the same kind and name, and in a namespace that it has or had.
    pub(crate) fn is_patched_by(&self, patch: &Self) -> bool {
        let own = [self.namespace(), self.written_namespace.as_deref()];
        self.kind() == patch.kind() && self.name() == patch.name() && own.contains(&patch.namespace())
    }

    /// Its `kind`, empty when it has none.
    pub fn kind(&self) -> &str {
        self.text("/kind").unwrap_or_default()
    }

    /// Its `metadata.name`, empty when it has none.
    pub fn name(&self) -> &str {
        self.text("/metadata/name").unwrap_or_default()
    }

    /// Its `metadata.namespace`.
    pub fn namespace(&self) -> Option<&str> {
        self.text("/metadata/namespace")
    }

    /// The string at a JSON pointer.
    pub fn text(&self, pointer: &str) -> Option<&str> {
        self.value.pointer(pointer).and_then(Value::as_str)
    }

    /// The pod that a Deployment, a Job or a `ScaledJob` makes.
    pub fn pod(&self) -> Option<&Value> {
        self.value.pointer("/spec/template/spec").or_else(|| self.value.pointer("/spec/jobTargetRef/template/spec"))
    }

    /// The containers of that pod; none for other kinds.
    pub fn containers(&self) -> impl Iterator<Item = &Value> {
        self.pod().and_then(|pod| pod.get("containers")).and_then(Value::as_array).into_iter().flatten()
    }
}

impl fmt::Display for Document {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.kind(), self.name())
    }
}

/// Reads every document of a YAML file.
pub fn read_file(path: &Path) -> Result<Vec<Document>, ReadError> {
    let values: Vec<Value> =
        serde_saphyr::from_multiple(&read_text(path)?).map_err(|error| ReadError::yaml(path, &error))?;
    Ok(values.into_iter().map(|value| Document::written(path, value)).collect())
}

pub(crate) fn read_text(path: &Path) -> Result<String, ReadError> {
    std::fs::read_to_string(path).map_err(|source| ReadError::Unreadable { path: path.to_owned(), source })
}
