//! What can be wrong with a manifest before anybody asks what it means.

use std::path::PathBuf;

/// A manifest or kustomization cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file is not there, or not readable.
    #[error("failed to read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Not YAML, or not the fields that are allowed.
    #[error("{}: {problem}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong and where, in one line.
        problem: String,
    },
}

impl ReadError {
    pub(crate) fn form(path: impl Into<PathBuf>, problem: impl Into<String>) -> Self {
        Self::Form { path: path.into(), problem: problem.into() }
    }

    pub(crate) fn yaml(path: impl Into<PathBuf>, error: &serde_saphyr::Error) -> Self {
        let text = error.without_snippet().to_string();
        Self::form(path, text.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}
