//! The API server, as far as this program needs it: apply, delete, look, follow logs. Every write is strict, and a
//! warning by the API server is an error here, because it would be one to whoever applies our manifests.

use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::AsyncBufRead;
use http::Request;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, LogParams};
use kube::client::Body;
use kube::{Client, Config};
use serde_json::Value;

use crate::belongings;

/// A connection to the API server.
pub struct Cluster {
    client: Client,
}

/// Replicas as the Deployment has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replicas {
    /// What the Deployment is told to have.
    pub wanted: i32,
    /// Pods that are ready.
    pub ready: i32,
}

impl Cluster {
    /// Connects as `kubectl` would.
    pub async fn connect() -> anyhow::Result<Self> {
        let config = Config::infer().await.context("find a kubeconfig (set KUBECONFIG)")?;
        Ok(Self { client: Client::try_from(config).context("make a client from the kubeconfig")? })
    }

    /// One line about what the cluster runs. KEDA's version is what it was told, or the label that KEDA's chart and manifests put
    /// on their types.
    pub async fn versions(&self, keda: Option<&str>) -> anyhow::Result<String> {
        let version = self.client.apiserver_version().await.context("reach the API server")?;
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/scaledobjects.keda.sh";
        let definition =
            self.find(path).await?.context("KEDA is not in the cluster (no type scaledobjects.keda.sh)")?;
        let label = definition["metadata"]["labels"]["app.kubernetes.io/version"].as_str();
        let keda = keda.or(label).unwrap_or("of an unknown version (say it by --keda-version)");
        Ok(format!("Kubernetes {}, KEDA {keda}", version.git_version))
    }

    /// Applies a manifest strictly; `dry_run` stops before anything is stored. What is stored is labelled as this program's.
    pub async fn apply(&self, manifest: &Value, dry_run: bool) -> anyhow::Result<()> {
        let labelled = belongings::label(manifest);
        let query = if dry_run { "&dryRun=All" } else { "" };
        let path = format!("{}?fieldManager=e2e&force=true&fieldValidation=Strict{query}", object_path(manifest)?);
        let request = Request::patch(path)
            .header("content-type", "application/apply-patch+yaml")
            .body(Body::from(serde_json::to_vec(if dry_run { manifest } else { &labelled })?))?;
        self.send(request).await.with_context(|| format!("apply {}", describe(manifest)))
    }

    /// Reads an object, or fails if it is not there.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let request = Request::get(path).body(Vec::new())?;
        Ok(self.client.request::<Value>(request).await?)
    }

    /// Reads an object, if it is there.
    pub async fn find(&self, path: &str) -> anyhow::Result<Option<Value>> {
        let request = Request::get(path).body(Vec::new())?;
        match self.client.request::<Value>(request).await {
            Ok(object) => Ok(Some(object)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes one object and waits until it is gone.
    pub async fn delete(&self, path: &str) -> anyhow::Result<()> {
        let request = Request::delete(path).body(Vec::new())?;
        match self.client.request_text(request).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let gone = async {
            while self.find(path).await?.is_some() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Ok(())
        };
        tokio::time::timeout(Duration::from_secs(90), gone).await.with_context(|| format!("{path} is still there"))?
    }

    /// The replicas of a Deployment.
    pub async fn replicas(&self, namespace: &str, name: &str) -> anyhow::Result<Replicas> {
        let deployment = Api::<Deployment>::namespaced(self.client.clone(), namespace).get(name).await?;
        let wanted = deployment.spec.replicas.unwrap_or(1);
        let ready = deployment.status.and_then(|status| status.ready_replicas).unwrap_or(0);
        Ok(Replicas { wanted, ready })
    }

    /// The Jobs of a ScaledJob that run (wanted) and those among them whose pod is ready.
    pub async fn running_jobs(&self, namespace: &str, scaled_job: &str) -> anyhow::Result<Replicas> {
        let label = format!("scaledjob.keda.sh/name={scaled_job}");
        let jobs = Api::<Job>::namespaced(self.client.clone(), namespace);
        let jobs = jobs.list(&ListParams::default().labels(&label)).await?.items;
        let status = |read: fn(&JobStatus) -> Option<i32>| -> i32 {
            jobs.iter().filter_map(|job| job.status.as_ref().and_then(read)).sum()
        };
        Ok(Replicas { wanted: status(|status| status.active), ready: status(|status| status.ready) })
    }

    /// Whether KEDA says that a ScaledObject (or ScaledJob) is ready, in its own word: True, False or Unknown.
    pub async fn condition(&self, path: &str, kind: &str) -> anyhow::Result<String> {
        let object = self.get(path).await?;
        let conditions = object.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
        let found = conditions.iter().find(|condition| condition["type"] == kind);
        Ok(found.and_then(|condition| condition["status"].as_str()).unwrap_or("Unknown").to_owned())
    }

    /// The containers that have started, of pods with a label: pod and container.
    pub async fn started_containers(&self, namespace: &str, label: &str) -> anyhow::Result<Vec<(String, String)>> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), namespace);
        let mut started = Vec::new();
        for pod in pods.list(&ListParams::default().labels(label)).await? {
            let statuses = pod.status.and_then(|status| status.container_statuses).unwrap_or_default();
            for status in statuses {
                let has_started =
                    status.state.as_ref().is_some_and(|state| state.running.is_some() || state.terminated.is_some());
                if let (true, Some(pod)) = (has_started, &pod.metadata.name) {
                    started.push((pod.clone(), status.name));
                }
            }
        }
        Ok(started)
    }

    /// What a container writes, from its start to its end.
    pub async fn follow_log(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> anyhow::Result<impl AsyncBufRead + use<>> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), namespace);
        let parameters = LogParams { follow: true, container: Some(container.to_owned()), ..LogParams::default() };
        Ok(pods.log_stream(pod, &parameters).await?)
    }

    async fn send(&self, request: Request<Body>) -> anyhow::Result<()> {
        let response = self.client.send(request).await?;
        let status = response.status();
        let warnings: Vec<String> = response
            .headers()
            .get_all("warning")
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect();
        let body = response.into_body().collect_bytes().await?;
        if !status.is_success() {
            let said: Value = serde_json::from_slice(&body).unwrap_or_default();
            bail!("{status}: {}", said["message"].as_str().unwrap_or("no message"));
        }
        if !warnings.is_empty() {
            bail!("the API server warns: {}", warnings.join("; "));
        }
        Ok(())
    }
}

/// `Kind name`, for texts.
pub fn describe(manifest: &Value) -> String {
    let part = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    format!("{} {}", part(&manifest["kind"]), part(&manifest["metadata"]["name"]))
}

/// Where an object lives in the API.
pub fn object_path(manifest: &Value) -> anyhow::Result<String> {
    let text = |value: &Value, what: &str| value.as_str().map(str::to_owned).with_context(|| format!("no {what}"));
    let (version, kind) = (text(&manifest["apiVersion"], "apiVersion")?, text(&manifest["kind"], "kind")?);
    let name = text(&manifest["metadata"]["name"], "metadata.name")?;
    let root = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
    let kind = kind.to_lowercase();
    let plural = kind.strip_suffix('y').map_or_else(|| format!("{kind}s"), |stem| format!("{stem}ies"));
    Ok(match manifest["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{root}/namespaces/{namespace}/{plural}/{name}"),
        None => format!("{root}/{plural}/{name}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_are_where_the_api_has_them() {
        for (version, kind, namespace, path) in [
            ("v1", "Secret", Some("keda"), "/api/v1/namespaces/keda/secrets/a"),
            ("v1", "Namespace", None, "/api/v1/namespaces/a"),
            (
                "networking.k8s.io/v1",
                "NetworkPolicy",
                Some("b"),
                "/apis/networking.k8s.io/v1/namespaces/b/networkpolicies/a",
            ),
        ] {
            let manifest =
                json!({"apiVersion": version, "kind": kind, "metadata": {"name": "a", "namespace": namespace}});
            assert_eq!(object_path(&manifest).expect("a whole object"), path);
        }
    }
}
