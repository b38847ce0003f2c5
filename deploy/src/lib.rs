//! Reads the manifests beside this crate: YAML documents, kustomizations, and KEDA's `ScaledObject` with its types.
//!
//! It exists so that the manifests can be checked by `cargo test` without a cluster and without kustomize; the checks
//! themselves are in `tests/manifests/`. Of kustomize it knows what our kustomizations use and refuses the rest.

mod document;
mod error;
pub mod keda;
mod kustomization;

pub use document::{Document, read_file};
pub use error::ReadError;
pub use kustomization::{GeneratedSecret, Manifests};
