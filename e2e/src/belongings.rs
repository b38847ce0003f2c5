//! What a run makes in the cluster: the manifests' namespace with all that is in it, and for `mtls` two objects outside. All of it is
//! labelled, taken away at the end, and never put in place of somebody's own.

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::cluster::{Cluster, describe, object_path};
use crate::manifests::{self, Folder};

const LABEL: &str = "servicebus-scaler/e2e";
const OURS: &str = "true";

/// Marks an object as this program's.
pub fn label(manifest: &Value) -> Value {
    let mut labelled = manifest.clone();
    labelled["metadata"]["labels"][LABEL] = json!(OURS);
    labelled
}

fn is_ours(object: &Value) -> bool {
    object["metadata"]["labels"][LABEL] == OURS
}

/// Where they are in the cluster: the namespace, and what is not in it.
pub struct Belongings {
    paths: Vec<String>,
}

impl Belongings {
    pub fn new(folder: &Folder, keda_namespace: &str) -> anyhow::Result<Self> {
        let mut objects = folder.read("base/namespace.yaml")?;
        objects.extend(folder.read(manifests::AUTHENTICATION)?);
        objects.push(manifests::client_secret(keda_namespace, &[]));
        Ok(Self { paths: objects.iter().map(object_path).collect::<Result<_, _>>()? })
    }

    /// Fails if one of them is there and somebody else's: a run would overwrite and remove it.
    pub async fn refuse_others(&self, cluster: &Cluster) -> anyhow::Result<()> {
        for path in &self.paths {
            if let Some(found) = cluster.find(path).await.with_context(|| format!("look for {path}"))?
                && !is_ours(&found)
            {
                bail!(
                    "{} is there ({path}) and is not labelled {LABEL}={OURS}: this run would overwrite and remove it. Use \
                     another cluster, or delete it yourself",
                    describe(&found)
                );
            }
        }
        Ok(())
    }

    /// Removes all of them, also if one cannot be.
    pub async fn remove(&self, cluster: &Cluster) -> anyhow::Result<()> {
        let mut result = Ok(());
        for path in &self.paths {
            let removed = cluster.delete(path).await.with_context(|| format!("remove {path}"));
            result = result.and(removed);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_labelled_is_ours() {
        let strange = json!({"kind": "Secret", "metadata": {"name": "a", "labels": {"app.kubernetes.io/name": "a"}}});
        for object in [&strange, &json!({"kind": "Secret", "metadata": {"name": "a"}})] {
            assert!(!is_ours(object));
            assert!(is_ours(&label(object)));
        }
        assert_eq!(label(&strange)["metadata"]["labels"]["app.kubernetes.io/name"], "a");
    }

    #[test]
    fn they_are_the_namespace_and_what_is_outside() {
        let folder = Folder::new(manifests::tests::DEPLOY.as_ref(), 1.0);
        let belongings = Belongings::new(&folder, "keda").expect("readable manifests");
        assert_eq!(
            belongings.paths,
            [
                "/api/v1/namespaces/autoscale-demo",
                "/apis/keda.sh/v1alpha1/clustertriggerauthentications/servicebus-scaler",
                "/api/v1/namespaces/keda/secrets/servicebus-scaler-client",
            ]
        );
    }
}
