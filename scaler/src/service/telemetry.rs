//! What becomes of a call beside its answer: counted by method and code, told and refused remembered for `/explain`, a
//! refusal logged if it is worth a line.

use std::sync::Arc;
use std::time::Duration;

use scaling::metric_value;
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::decisions::Judged;
use crate::explanations::Explanations;
use crate::metrics::Metrics;
use crate::refusal_log::RefusalLog;
use crate::trigger::Trigger;
use crate::trigger_id::TriggerId;

/// What nobody asked about for so long is let go of.
const IDLE: Duration = Duration::from_hours(1);

/// Where it goes. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub(crate) struct Telemetry {
    pub(crate) metrics: Metrics,
    pub(crate) explanations: Explanations,
    pub(crate) refusals: Arc<RefusalLog>,
}

/// A call that has not ended. Dropped before its end, it counts as cancelled: the client hung up.
pub(crate) struct Call {
    metrics: Metrics,
    method: &'static str,
    begun: Instant,
    code: Code,
}

impl Telemetry {
    /// A call arrived. `method` is its name in the contract.
    pub(super) fn begin(&self, method: &'static str) -> Call {
        Call { metrics: self.metrics.clone(), method, begun: Instant::now(), code: Code::Cancelled }
    }

    /// A trigger was told this decision.
    pub(super) fn told(&self, id: &TriggerId, trigger: &Arc<Trigger>, judged: Judged) {
        let target = trigger.base.message_count();
        self.metrics.trigger(id, metric_value(judged.decision.replicas, target), target, judged.decision.active);
        self.explanations.told(id, trigger, judged);
    }

    /// A call about a trigger was refused. The one place where a refusal is logged: it leaves the scaler here.
    pub(super) fn refused(&self, id: &TriggerId, status: &Status) {
        self.explanations.refused(id, status);
        if let Some(unlogged) = self.refusals.turn(id, status) {
            let (trigger, problem) = (id.hash(), status.message());
            tracing::warn!(code = ?status.code(), trigger, problem, unlogged, "refused");
        }
    }

    /// Lets go of what is long past. Whoever runs the server calls this once a minute.
    pub(crate) fn tidy(&self) {
        let forgotten = self.metrics.forget_idle(IDLE);
        if forgotten > 0 {
            tracing::debug!(forgotten, "triggers that nobody asks about any more");
        }
        self.explanations.forget_idle(IDLE);
        self.refusals.tidy();
    }
}

impl Call {
    /// The call ended with this code.
    pub(super) fn end(mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.metrics.rpc(self.method, self.code, self.begun.elapsed());
    }
}
