//! From a trigger to the one decision that every view shares: check the endpoint, get the newest reading, ask the policy.
//!
//! Owns nothing: what was told is remembered in `known_triggers`.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use scaling::{Decision, Policy};
use tokio::sync::watch;

use crate::access::Access;
use crate::config::{ConfigHandle, Freshness, OutOfBounds, UnknownProfile};
use crate::connections::{AccessRefused, Connections};
use crate::entity::Target;
use crate::readings::{Readings, Seen};
use crate::source::{Query, ReadFailure};
use crate::trigger::{PolicyChoice, Trigger, TriggerError};

/// A decision and what it was made from.
#[derive(Clone, Debug)]
pub(crate) struct Judged {
    /// What the policy said.
    pub decision: Decision,
    /// The readings it said it of.
    pub seen: Seen,
}

/// Why there is no decision.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// The metadata cannot be right.
    #[error(transparent)]
    Trigger(#[from] TriggerError),
    /// There is no credential that may be used there.
    #[error(transparent)]
    Access(#[from] AccessRefused),
    /// It asks for fresher or staler readings than the operator allows.
    #[error(transparent)]
    Freshness(#[from] OutOfBounds),
    /// The profile is not in the config file.
    #[error(transparent)]
    Profile(#[from] UnknownProfile),
    /// `GetMetrics` was asked for a metric that is not this trigger's.
    #[error("metricName: {asked:?} is not this trigger's metric, which is {own:?}")]
    OtherMetric {
        /// The metric asked for.
        asked: String,
        /// The trigger's metric.
        own: String,
    },
    /// Service Bus could not be read, and no reading young enough is left.
    #[error("failed to read the {target}: {failure}")]
    Read {
        /// What was to be read.
        target: Target,
        /// Why it was not.
        failure: Arc<ReadFailure>,
    },
    /// The cap on push streams is reached.
    #[error("all {0} push streams of this scaler are taken")]
    TooManyStreams(usize),
    /// The call took too long.
    #[error("no answer within {0:?}")]
    Deadline(Duration),
}

impl Refusal {
    /// Whether the log has it already, in one line for all triggers that it concerns (see `readings`).
    pub(crate) fn is_told_for_all(&self) -> bool {
        let Self::Read { failure, .. } = self else { return false };
        match **failure {
            ReadFailure::Throttled { .. }
            | ReadFailure::Unreachable(_)
            | ReadFailure::Unauthorized(_)
            | ReadFailure::NoToken(_) => true,
            ReadFailure::NotFound(_) | ReadFailure::Unexpected(_) | ReadFailure::OverBudget(_) => false,
        }
    }
}

/// The refusal that a failed read becomes.
pub(crate) fn unreadable(trigger: &Trigger, failure: Arc<ReadFailure>) -> Refusal {
    Refusal::Read { target: trigger.target.clone(), failure }
}

/// Decides. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct Decisions {
    readings: Readings,
    config: ConfigHandle,
    connections: Connections,
}

impl Decisions {
    /// Decides on these readings, with the profiles of this configuration, by these connections.
    pub(crate) fn new(readings: Readings, config: ConfigHandle, connections: Connections) -> Self {
        Self { readings, config, connections }
    }

    /// Reads and decides, for a trigger in this Kubernetes namespace.
    pub(crate) async fn judge(&self, namespace: &str, trigger: &Trigger) -> Result<Judged, Refusal> {
        self.judge_again(namespace, trigger, &OnceLock::new()).await
    }

    /// As [`Self::judge`], for a trigger that is asked about often; `own` remembers the access that its own connection
    /// string leads to.
    pub(crate) async fn judge_again(
        &self,
        namespace: &str,
        trigger: &Trigger,
        own: &OnceLock<Access>,
    ) -> Result<Judged, Refusal> {
        let access = self.connections.resolve_again(namespace, trigger, own)?;
        let query = Query { access, target: trigger.target.clone() };
        // Before the read: a profile that is not there needs no reading, and must not cost one.
        let policy = self.policy(trigger)?;
        let freshness = self.freshness(trigger)?;
        let seen = self.readings.newest(&query, freshness).await.map_err(|failure| unreadable(trigger, failure))?;
        Ok(self.decide(trigger, &*policy, seen))
    }

    /// Decides on these readings by this policy, which [`Self::policy`] gives.
    pub(crate) fn decide(&self, trigger: &Trigger, policy: &dyn Policy, seen: Seen) -> Judged {
        let decision = policy.decide(&seen.window(), self.readings.now());
        tracing::debug!(
            target = %trigger.target,
            replicas = decision.replicas,
            active = decision.active,
            why = decision.why,
            age_seconds = seen.age.as_secs_f64(),
            "decided"
        );
        Judged { decision, seen }
    }

    /// The policy that this trigger's metadata or profile names, as the configuration is now.
    pub(crate) fn policy(&self, trigger: &Trigger) -> Result<Box<dyn Policy>, Refusal> {
        let config = self.config.snapshot();
        let (policy, settings) = match &trigger.policy {
            PolicyChoice::Inline { policy, settings } => (policy, settings),
            PolicyChoice::Profile(name) => {
                let profile = config.profile(name)?;
                (&profile.policy, &profile.settings)
            }
        };
        // Both kinds were built once before, when they were parsed; a failure here is still an answer, not a panic.
        scaling::build_policy(policy, trigger.base, settings)
            .map_err(|error| Refusal::Trigger(TriggerError::Policy(error)))
    }

    /// How old readings may be for this trigger, as the configuration is now.
    pub(crate) fn freshness(&self, trigger: &Trigger) -> Result<Freshness, Refusal> {
        let wish = &trigger.freshness;
        Ok(self.config.snapshot().freshness_for(wish.cache_ttl, wish.max_staleness)?)
    }

    /// Rings when [`Self::query`] or [`Self::freshness`] may say something else for the same trigger: who holds what they
    /// said asks again then.
    pub(crate) fn access_changes(&self) -> watch::Receiver<()> {
        self.connections.changes()
    }

    /// What to read for this trigger of a `ScaledObject` in this Kubernetes namespace, its access checked.
    pub(crate) fn query(&self, namespace: &str, trigger: &Trigger) -> Result<Query, Refusal> {
        let access = self.connections.resolve(namespace, trigger)?;
        Ok(Query { access, target: trigger.target.clone() })
    }
}
