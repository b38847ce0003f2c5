//! Asking the scaler what KEDA asks, over its gRPC port, with the metadata that KEDA would send.
//!
//! Every call has a deadline. KEDA sets none, but a demo that hangs explains nothing.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use externalscaler::external_scaler_client::ExternalScalerClient;
use externalscaler::{GetMetricsRequest, ScaledObjectRef};
use secrecy::ExposeSecret as _;
use tonic::transport::{Channel, Endpoint};

use crate::profile::PROFILE;
use crate::stage::Stage;
use crate::summary::Answer;

/// The scaler answers within 3 s by its own account.
const CALL_DEADLINE: Duration = Duration::from_secs(5);
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// How often two policies are compared before it is given up: each look takes a moment, and a reading is kept for a second.
const LOOKS: u32 = 20;

/// The `ScaledObject` of the demo, in the namespace of the manifests in `deploy/`.
const NAMESPACE: &str = "autoscale-demo";
const NAME: &str = "sb-queue-receiver";
/// A second one, for looking without disturbing what KEDA is told.
const ONLOOKER: &str = "demo-onlooker";

/// A connection to the scaler. Cheap to clone; all clones share one HTTP/2 connection, as KEDA's calls do.
#[derive(Clone)]
pub struct ScalerClient {
    client: ExternalScalerClient<Channel>,
    metadata: HashMap<String, String>,
}

impl ScalerClient {
    /// Connects to the scaler; the trigger is about this queue, one replica for every `message_count` messages, with
    /// whatever policy is in the profile.
    pub async fn connect(address: SocketAddr, stage: &Stage, message_count: u32) -> anyhow::Result<Self> {
        let channel = Endpoint::from_shared(format!("http://{address}"))
            .context("make the scaler's address")?
            .connect_timeout(CONNECT_DEADLINE)
            .timeout(CALL_DEADLINE)
            .connect()
            .await
            .with_context(|| format!("connect to the scaler at {address}"))?;
        let metadata = [
            ("queueName", stage.queue.clone()),
            ("messageCount", message_count.to_string()),
            ("policyProfile", PROFILE.to_owned()),
            // Already resolved, under the key that names the variable: so KEDA forwards it.
            ("connectionFromEnv", stage.connection().expose_secret().to_owned()),
        ];
        let metadata = metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        Ok(Self { client: ExternalScalerClient::new(channel), metadata })
    }

    fn reference(&self, name: &str) -> ScaledObjectRef {
        ScaledObjectRef {
            name: name.to_owned(),
            namespace: NAMESPACE.to_owned(),
            scaler_metadata: self.metadata.clone(),
        }
    }

    /// `GetMetricSpec`: name and target of the trigger's one metric.
    pub async fn metric_spec(&self) -> anyhow::Result<(String, f64)> {
        let answer = self.client.clone().get_metric_spec(self.reference(NAME)).await;
        let mut specs = answer.map_err(|status| refused("GetMetricSpec", &status))?.into_inner().metric_specs;
        match (specs.pop(), specs.pop()) {
            (Some(spec), None) => Ok((spec.metric_name, float_or_integer(spec.target_size_float, spec.target_size))),
            (None, _) => bail!("GetMetricSpec: the scaler names no metric"),
            (Some(_), Some(_)) => bail!("GetMetricSpec: the scaler names several metrics for one trigger"),
        }
    }

    /// `GetMetrics`: the value of the trigger's metric.
    pub async fn metrics(&self, metric_name: &str) -> anyhow::Result<f64> {
        self.metrics_of(self.reference(NAME), metric_name).await
    }

    async fn metrics_of(&self, reference: ScaledObjectRef, metric_name: &str) -> anyhow::Result<f64> {
        let request = GetMetricsRequest { scaled_object_ref: Some(reference), metric_name: metric_name.to_owned() };
        let answer = self.client.clone().get_metrics(request).await;
        let mut values = answer.map_err(|status| refused("GetMetrics", &status))?.into_inner().metric_values;
        match (values.pop(), values.pop()) {
            (Some(value), None) => Ok(float_or_integer(value.metric_value_float, value.metric_value)),
            (None, _) => bail!("GetMetrics: the scaler gives no value"),
            (Some(_), Some(_)) => bail!("GetMetrics: the scaler gives several values for one metric"),
        }
    }

    /// `IsActive`: whether there is anything to do.
    pub async fn is_active(&self) -> anyhow::Result<bool> {
        let answer = self.client.clone().is_active(self.reference(NAME)).await;
        Ok(answer.map_err(|status| refused("IsActive", &status))?.into_inner().result)
    }

    /// What the profile makes of the queue now, beside what `messageCount` would: the messages themselves. Both answers
    /// must come from one reading of the scaler's. Its cache may run out in between, so the messages are asked for before
    /// and after, until they are the same.
    pub async fn compare(&self) -> anyhow::Result<Answer> {
        let (metric_name, target) = self.metric_spec().await?;
        let profile = self.reference(ONLOOKER);
        let mut plain = self.reference(ONLOOKER);
        plain.scaler_metadata.remove("policyProfile");
        plain.scaler_metadata.insert("policy".to_owned(), "messageCount".to_owned());
        let mut before = self.metrics_of(plain.clone(), &metric_name).await?;
        for _ in 0..LOOKS {
            let metric = self.metrics_of(profile.clone(), &metric_name).await?;
            let messages = self.metrics_of(plain.clone(), &metric_name).await?;
            // Both are whole numbers that the scaler took over as they were.
            if (messages - before).abs() < 0.5 {
                let replicas = (metric / target.max(1.0)).ceil() as u64;
                return Ok(Answer { messages, metric, replicas });
            }
            before = messages;
        }
        bail!(
            "the number of messages was another at each of {LOOKS} looks, although the scaler keeps a reading for a second"
        )
    }
}

/// KEDA takes the float where it is above zero, and the integer otherwise (its `pkg/scalers/external_scaler.go`).
fn float_or_integer(float: f64, integer: i64) -> f64 {
    if float > 0.0 { float } else { integer as f64 }
}

fn refused(call: &str, status: &tonic::Status) -> anyhow::Error {
    anyhow::anyhow!("{call}: the scaler answers {:?}: {}", status.code(), status.message())
}
