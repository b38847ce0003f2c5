//! What becomes of a call beside its answer: counted by method and code, the numbers of triggers kept current, a
//! refusal remembered for `/explain` and logged if it is worth a line.

use std::sync::Arc;
use std::time::Duration;

use scaling::{Decision, metric_value};
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::known_triggers::Known;
use crate::metrics::{InUse, Method, Metrics};
use crate::refusal_log::RefusalLog;
use crate::trigger::Trigger;

/// What nobody asked about for so long is let go of.
const IDLE: Duration = Duration::from_hours(1);

/// Where it goes. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub(crate) struct Telemetry {
    pub(crate) metrics: Metrics,
    pub(crate) refusals: Arc<RefusalLog>,
}

/// A call that has not ended. Dropped before its end, it counts as cancelled: the client hung up.
pub(crate) struct Call {
    metrics: Metrics,
    method: Method,
    begun: Instant,
    code: Code,
    _counted: InUse,
}

impl Telemetry {
    /// A call arrived.
    pub(super) fn begin(&self, method: Method) -> Call {
        let (metrics, counted) = (self.metrics.clone(), self.metrics.call_in_use(method));
        Call { metrics, method, begun: Instant::now(), code: Code::Cancelled, _counted: counted }
    }

    /// A trigger was told this decision.
    pub(crate) fn told(&self, known: &Known, trigger: &Trigger, decision: &Decision) {
        let target = trigger.base.message_count();
        known.series(&self.metrics).told(metric_value(decision.replicas, target), target, decision.active);
    }

    /// A call about a trigger was refused. The one place where a refusal is logged, since it leaves the scaler here; but
    /// for one that was told once for all triggers that it concerns.
    pub(super) fn refused(&self, known: &Known, status: &Status, is_news: bool) {
        known.refused(status);
        if !is_news {
            return;
        }
        if let Some(unlogged) = self.refusals.turn(known.id(), status) {
            let (trigger, problem) = (known.id().hash(), status.message());
            tracing::warn!(code = ?status.code(), trigger, problem, unlogged, "refused");
        }
    }

    /// Lets go of what is long past. Whoever runs the server calls this once a minute.
    pub(crate) fn tidy(&self) {
        let forgotten = self.metrics.forget_idle(IDLE);
        if forgotten > 0 {
            tracing::debug!(forgotten, "triggers that nobody asks about any more");
        }
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
        self.metrics.call_ended(self.method, self.code, self.begun.elapsed());
    }
}
