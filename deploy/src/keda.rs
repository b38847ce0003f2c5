//! KEDA's `ScaledObject`, field for field as far as an external scaler is concerned; anything else is refused.
//!
//! From KEDA's `apis/keda/v1alpha1/scaledobject_types.go` (2.21.0) and, for `behavior`, Kubernetes' `autoscaling/v2`. The
//! whole CRD is checked by `interop/keda-crds`; these types need no download and give the rest of the checks names.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// A `ScaledObject`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScaledObject {
    /// Must be `keda.sh/v1alpha1`.
    pub api_version: String,
    /// Must be `ScaledObject`.
    pub kind: String,
    /// Name, namespace, labels.
    pub metadata: ObjectMetadata,
    /// What it asks for.
    pub spec: ScaledObjectSpec,
}

/// The part of an object's metadata that people write.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectMetadata {
    /// Unique in its namespace.
    pub name: String,
    /// Where it lives.
    pub namespace: Option<String>,
    /// For selecting it.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// For tools; KEDA reads those that begin with `autoscaling.keda.sh/`.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// What a `ScaledObject` asks for.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScaledObjectSpec {
    /// What is scaled.
    pub scale_target_ref: ScaleTargetRef,
    /// Seconds between polls while there are no replicas; KEDA's default is 30.
    pub polling_interval: Option<u32>,
    /// Seconds from the last active poll to zero; KEDA's default is 300.
    pub cooldown_period: Option<u32>,
    /// Seconds after creation before the cooldown may begin.
    pub initial_cooldown_period: Option<u32>,
    /// Replicas while nothing is active; only allowed below `minReplicaCount`.
    pub idle_replica_count: Option<u32>,
    /// KEDA's default is 0.
    pub min_replica_count: Option<u32>,
    /// KEDA's default is 100.
    pub max_replica_count: Option<u32>,
    /// The HPA's settings.
    pub advanced: Option<Advanced>,
    /// What to do while the scaler fails.
    pub fallback: Option<Fallback>,
    /// What to ask.
    pub triggers: Vec<Trigger>,
}

/// The workload that is scaled.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScaleTargetRef {
    /// `apps/v1` when absent.
    pub api_version: Option<String>,
    /// `Deployment` when absent.
    pub kind: Option<String>,
    /// Its name, in the same namespace.
    pub name: String,
    /// The container whose variables `…FromEnv` keys name; the first when absent.
    pub env_source_container_name: Option<String>,
}

/// The HPA's settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Advanced {
    /// Whether to go back to the number of replicas from before the `ScaledObject`.
    pub restore_to_original_replica_count: Option<bool>,
    /// How the HPA is written.
    pub horizontal_pod_autoscaler_config: Option<HorizontalPodAutoscalerConfig>,
}

/// How KEDA writes the HPA.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HorizontalPodAutoscalerConfig {
    /// `keda-hpa-NAME` when absent.
    pub name: Option<String>,
    /// How fast it may scale.
    pub behavior: Option<Behavior>,
}

/// `HorizontalPodAutoscalerBehavior` of `autoscaling/v2`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Behavior {
    /// Upwards.
    pub scale_up: Option<ScalingRules>,
    /// Downwards, but not to 0: that is KEDA's.
    pub scale_down: Option<ScalingRules>,
}

/// `HPAScalingRules` of `autoscaling/v2`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScalingRules {
    /// Seconds whose most cautious recommendation counts, 0 to 3600.
    pub stabilization_window_seconds: Option<u32>,
    /// Which of several policies counts.
    pub select_policy: Option<SelectPolicy>,
    /// How many pods may come or go in a period.
    #[serde(default)]
    pub policies: Vec<ScalingPolicy>,
}

/// Which of several policies counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum SelectPolicy {
    /// The one that allows the largest change.
    Max,
    /// The one that allows the smallest change.
    Min,
    /// No scaling in this direction.
    Disabled,
}

/// `HPAScalingPolicy` of `autoscaling/v2`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScalingPolicy {
    /// What `value` counts.
    #[serde(rename = "type")]
    pub kind: ScalingPolicyKind,
    /// More than 0.
    pub value: u32,
    /// 1 to 1800.
    pub period_seconds: u32,
}

/// What a scaling policy counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum ScalingPolicyKind {
    /// Pods.
    Pods,
    /// Percent of the present replicas.
    Percent,
}

/// What KEDA does while a trigger fails.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fallback {
    /// Failures in a row before it counts.
    pub failure_threshold: u32,
    /// The replicas then.
    pub replicas: u32,
    /// How `replicas` is meant.
    pub behavior: Option<String>,
}

/// One trigger.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Trigger {
    /// `external` or `external-push` for us.
    #[serde(rename = "type")]
    pub kind: String,
    /// Needed only by scaling modifiers.
    pub name: Option<String>,
    /// `AverageValue` when absent.
    pub metric_type: Option<String>,
    /// Whether the HPA reads the last poll's value instead of asking again.
    pub use_cached_metrics: Option<bool>,
    /// The scaler's keys. Kubernetes takes strings alone: a bare number is refused.
    pub metadata: BTreeMap<String, String>,
    /// Credentials for KEDA's connection to the scaler (TLS).
    pub authentication_ref: Option<AuthenticationRef>,
}

/// Names a `TriggerAuthentication`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthenticationRef {
    /// Its name.
    pub name: String,
    /// `TriggerAuthentication` when absent.
    pub kind: Option<String>,
}

impl ScaledObject {
    /// Reads one; the error names the unknown or wrong field.
    pub fn from_value(value: &Value) -> Result<Self, serde_json::Error> {
        Self::deserialize(value)
    }
}
