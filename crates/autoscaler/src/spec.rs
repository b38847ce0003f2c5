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
    ///
    /// It does so where a `behavior` is given. An HPA without any goes by an older rule that is not played here: at each
    /// sync up to twice the replicas or 4, whichever is more (`calculateScaleUpLimit`, `horizontal.go`), so 1, 4, 8, 16
    /// and not 1, 5, 10, 20.
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

/// The longest that KEDA's fields can say: seconds as a 32-bit number.
const MAX_INTERVAL: Duration = Duration::from_secs(i32::MAX as u64);

/// Kubernetes' `MaxPeriodSeconds` (`pkg/apis/autoscaling/validation/validation.go`).
const MAX_PERIOD: Duration = Duration::from_mins(30);

/// Kubernetes' `MaxStabilizationWindowSeconds` (same file).
const MAX_STABILIZATION_WINDOW: Duration = Duration::from_hours(1);

/// The spec is one that KEDA or Kubernetes would refuse.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
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
    Zero(&'static str),
    /// A duration is longer than its field can be.
    #[error("{field}: {value:?} is not allowed; allowed is at most {most:?}")]
    TooLong {
        /// The field.
        field: &'static str,
        /// What it was to be.
        value: Duration,
        /// The longest that is allowed.
        most: Duration,
    },
    /// Not a tolerance.
    #[error("tolerance: {0} is not allowed; allowed is a number from 0")]
    Tolerance(f64),
    /// Kubernetes wants at least one policy.
    #[error("{0}.policies: empty is not allowed; allowed is at least one policy")]
    NoPolicies(&'static str),
    /// A policy that allows no change; that is what `selectPolicy: Disabled` is for.
    #[error("{0}.policies.value: 0 is not allowed; allowed is a number from 1")]
    NoChange(&'static str),
}

impl Spec {
    /// Checks what KEDA's webhook and the API server check of these fields, so that no later step can fail. Unlike
    /// theirs, durations need not be whole seconds, so that a demo can be faster than a cluster.
    pub fn validate(&self) -> Result<(), SpecError> {
        if self.max_replicas == 0 || self.max_replicas < self.min_replicas {
            return Err(SpecError::MaxReplicas { min: self.min_replicas, max: self.max_replicas });
        }
        above_zero("pollingInterval", self.polling_interval, MAX_INTERVAL)?;
        above_zero("syncPeriod", self.sync_interval, MAX_INTERVAL)?;
        at_most("cooldownPeriod", self.cooldown_period, MAX_INTERVAL)?;
        if !self.tolerance.is_finite() || self.tolerance < 0.0 {
            return Err(SpecError::Tolerance(self.tolerance));
        }
        self.behavior.scale_up.validate(&UP)?;
        self.behavior.scale_down.validate(&DOWN)
    }
}

/// What the fields of one direction are called in errors.
struct Names {
    rules: &'static str,
    window: &'static str,
    period: &'static str,
}

const UP: Names =
    Names { rules: "scaleUp", window: "scaleUp.stabilizationWindowSeconds", period: "scaleUp.policies.periodSeconds" };

const DOWN: Names = Names {
    rules: "scaleDown",
    window: "scaleDown.stabilizationWindowSeconds",
    period: "scaleDown.policies.periodSeconds",
};

impl Rules {
    fn validate(&self, names: &Names) -> Result<(), SpecError> {
        at_most(names.window, self.stabilization_window, MAX_STABILIZATION_WINDOW)?;
        if self.policies.is_empty() && self.select != Select::Disabled {
            return Err(SpecError::NoPolicies(names.rules));
        }
        for policy in &self.policies {
            let (ScalingPolicy::Pods { pods: value, .. } | ScalingPolicy::Percent { percent: value, .. }) = *policy;
            if value == 0 {
                return Err(SpecError::NoChange(names.rules));
            }
            above_zero(names.period, policy.period(), MAX_PERIOD)?;
        }
        Ok(())
    }
}

fn above_zero(field: &'static str, value: Duration, most: Duration) -> Result<(), SpecError> {
    if value.is_zero() { Err(SpecError::Zero(field)) } else { at_most(field, value, most) }
}

fn at_most(field: &'static str, value: Duration, most: Duration) -> Result<(), SpecError> {
    if value > most { Err(SpecError::TooLong { field, value, most }) } else { Ok(()) }
}
