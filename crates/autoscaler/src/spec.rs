//! What a `ScaledObject` and its HPA are told: KEDA's and Kubernetes' own fields with their own defaults.

use std::time::Duration;

/// A `ScaledObject` with one external trigger of type `AverageValue`.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// How often KEDA asks (`pollingInterval`, 30 s).
    pub polling_interval: Duration,
    /// How long after the last activity KEDA scales to zero (`cooldownPeriod`, 300 s).
    pub cooldown_period: Duration,
    /// The fewest replicas (`minReplicaCount`, 0).
    pub min_replicas: u32,
    /// The most replicas (`maxReplicaCount`, 100).
    pub max_replicas: u32,
    /// How often the HPA looks (`--horizontal-pod-autoscaler-sync-period`, 15 s).
    pub sync_interval: Duration,
    /// How far from its target the metric may be without anything happening (`--horizontal-pod-autoscaler-tolerance`,
    /// 0.1).
    pub tolerance: f64,
    /// How fast the HPA may act (`advanced.horizontalPodAutoscalerConfig.behavior`).
    pub behavior: Behavior,
}

impl Default for Spec {
    /// KEDA's and Kubernetes' defaults.
    fn default() -> Self {
        Self {
            polling_interval: Duration::from_secs(30),
            cooldown_period: Duration::from_mins(5),
            min_replicas: 0,
            max_replicas: 100,
            sync_interval: Duration::from_secs(15),
            tolerance: 0.1,
            behavior: Behavior::default(),
        }
    }
}

/// How fast the HPA may act in each direction.
#[derive(Clone, Debug, PartialEq)]
pub struct Behavior {
    /// Towards more replicas.
    pub scale_up: Rules,
    /// Towards fewer replicas.
    pub scale_down: Rules,
}

impl Default for Behavior {
    /// What Kubernetes fills in (`pkg/apis/autoscaling/v2/defaults.go`): up by 4 pods or 100 % every 15 s, whichever is
    /// more, at once; down by 100 % every 15 s, to the highest that was recommended in the last 300 s.
    fn default() -> Self {
        let period = Duration::from_secs(15);
        Self {
            scale_up: Rules {
                stabilization_window: Duration::ZERO,
                policies: vec![
                    ScalingPolicy::Pods { pods: 4, period },
                    ScalingPolicy::Percent { percent: 100, period },
                ],
                select: Select::Max,
            },
            scale_down: Rules {
                stabilization_window: Duration::from_mins(5),
                policies: vec![ScalingPolicy::Percent { percent: 100, period }],
                select: Select::Max,
            },
        }
    }
}

/// How fast the HPA may act in one direction.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// Act on the mildest recommendation of this long (`stabilizationWindowSeconds`, at most an hour).
    pub stabilization_window: Duration,
    /// Limits on the change within a period; at least one, unless `select` is `Disabled`.
    pub policies: Vec<ScalingPolicy>,
    /// Which of the limits counts (`selectPolicy`).
    pub select: Select,
}

/// A limit on the change within a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScalingPolicy {
    /// By so many pods.
    Pods {
        /// At least 1.
        pods: u32,
        /// At most half an hour.
        period: Duration,
    },
    /// By so many hundredths of the pods at the period's start.
    Percent {
        /// At least 1.
        percent: u32,
        /// At most half an hour.
        period: Duration,
    },
}

impl ScalingPolicy {
    /// The period that the limit is for.
    pub fn period(&self) -> Duration {
        match *self {
            Self::Pods { period, .. } | Self::Percent { period, .. } => period,
        }
    }
}

/// Which of several limits counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Select {
    /// The one that allows the largest change.
    Max,
    /// The one that allows the smallest change.
    Min,
    /// No change in this direction at all.
    Disabled,
}

/// The spec is one that KEDA or Kubernetes would refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// There could be no replica, or fewer at most than at least.
    #[error("maxReplicaCount: {max} is not allowed; allowed is a number from 1 and not below minReplicaCount ({min})")]
    MaxReplicas {
        /// `minReplicaCount`.
        min: u32,
        /// `maxReplicaCount`.
        max: u32,
    },
    /// Something would have to be done without a pause.
    #[error("{0}: 0 is not allowed; allowed is a duration above 0")]
    ZeroInterval(&'static str),
    /// Not a tolerance.
    #[error("tolerance: allowed is a number from 0")]
    Tolerance,
    /// Kubernetes wants at least one policy.
    #[error("{0}.policies: empty is not allowed; allowed is at least one policy")]
    NoPolicies(&'static str),
}

impl Spec {
    /// Checks what KEDA's webhook and the API server check.
    pub fn validate(&self) -> Result<(), SpecError> {
        if self.max_replicas == 0 || self.max_replicas < self.min_replicas {
            return Err(SpecError::MaxReplicas { min: self.min_replicas, max: self.max_replicas });
        }
        for (name, interval) in [("pollingInterval", self.polling_interval), ("syncPeriod", self.sync_interval)] {
            if interval.is_zero() {
                return Err(SpecError::ZeroInterval(name));
            }
        }
        if !self.tolerance.is_finite() || self.tolerance < 0.0 {
            return Err(SpecError::Tolerance);
        }
        for (name, rules) in [("scaleUp", &self.behavior.scale_up), ("scaleDown", &self.behavior.scale_down)] {
            if rules.policies.is_empty() && rules.select != Select::Disabled {
                return Err(SpecError::NoPolicies(name));
            }
        }
        Ok(())
    }
}
