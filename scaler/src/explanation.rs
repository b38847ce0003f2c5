//! What explains a decision, for machines: what is counted, what was decided and why, and the readings it was made of with
//! their ages. One set of words for `/explain`, which has it of the answer told last, and `scaler explain --output json`.

use std::time::Duration;

use serde::Serialize;

use crate::decisions::Judged;
use crate::readings::Matched;
use crate::source::LockSettings;
use crate::trigger::Trigger;

/// One decision, explained.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct View {
    target: String,
    decision: DecisionText,
    metric_name: String,
    metric_value: f64,
    target_size: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    /// Why an older reading stood in, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    stale_because: Option<String>,
    /// Of a pattern: how many entities were taken together, and how many left out because they give out no messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    matched: Option<MatchedText>,
    /// Of one entity: how it locks messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    locks: Option<LocksText>,
    /// Newest first.
    readings: Vec<ReadingText>,
}

#[derive(Debug, PartialEq, Serialize)]
struct DecisionText {
    replicas: f64,
    active: bool,
    why: String,
}

#[derive(Debug, PartialEq, Serialize)]
struct MatchedText {
    counted: usize,
    disabled: usize,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct LocksText {
    duration_seconds: f64,
    max_delivery_count: u32,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ReadingText {
    seconds_ago: f64,
    active: u64,
    scheduled: u64,
    dead_letter: u64,
    transfer: u64,
    transfer_dead_letter: u64,
    status: String,
    requires_session: bool,
}

impl View {
    /// Of what was decided so long ago.
    pub(crate) fn of(trigger: &Trigger, judged: &Judged, ago: Duration) -> Self {
        let Judged { decision, seen } = judged;
        let newest = seen.newest();
        let readings = seen.window().readings().iter().rev().map(|reading| ReadingText {
            seconds_ago: (ago + seen.age + newest.at.0.saturating_sub(reading.at.0)).as_secs_f64(),
            active: reading.counts.active,
            scheduled: reading.counts.scheduled,
            dead_letter: reading.counts.dead_letter,
            transfer: reading.counts.transfer,
            transfer_dead_letter: reading.counts.transfer_dead_letter,
            status: format!("{:?}", reading.status),
            requires_session: reading.requires_session,
        });
        Self {
            target: trigger.target.to_string(),
            decision: DecisionText { replicas: decision.replicas, active: decision.active, why: decision.why.clone() },
            metric_name: trigger.metric_name(),
            metric_value: scaling::metric_value(decision.replicas, trigger.base.message_count()),
            target_size: trigger.base.message_count(),
            warnings: trigger.warnings.iter().map(ToString::to_string).collect(),
            stale_because: seen.stale_because.as_ref().map(ToString::to_string),
            matched: seen.matched.map(|Matched { counted, disabled }| MatchedText { counted, disabled }),
            locks: seen.locks.map(|LockSettings { duration, max_delivery_count }| LocksText {
                duration_seconds: duration.as_secs_f64(),
                max_delivery_count,
            }),
            readings: readings.collect(),
        }
    }
}
