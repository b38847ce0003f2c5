//! What `/explain` says of one trigger, as JSON: the decision told last and why, the readings it was made of with their
//! ages, and the refusal told last.

use serde::Serialize;
use tokio::time::Instant;

use super::{Known, Refused, Told};
use crate::decisions::Judged;
use crate::metrics::code_name;
use crate::readings::Matched;
use crate::source::LockSettings;
use crate::trigger::Trigger;

/// What `/explain` says of one trigger.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Explanation {
    /// The short hash that metrics show, too.
    trigger: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    told: Option<ToldText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<RefusedText>,
}

/// The same words as `scaler explain --output json` has.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ToldText {
    seconds_ago: f64,
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
struct MatchedText {
    counted: usize,
    disabled: usize,
}

#[derive(Debug, PartialEq, Serialize)]
struct DecisionText {
    replicas: f64,
    active: bool,
    why: String,
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

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct RefusedText {
    seconds_ago: f64,
    code: &'static str,
    problem: String,
}

impl Known {
    /// Nothing, if nothing was told yet.
    pub(super) fn explain(&self) -> Option<Explanation> {
        let latest = self.latest();
        let told = latest.told.iter().chain(&latest.pushed).max_by_key(|told| told.at);
        if told.is_none() && latest.refused.is_none() {
            return None;
        }
        let told = told.zip(self.trigger.as_ref().ok()).map(|(told, trigger)| told.explain(trigger));
        let refused = latest.refused.as_ref().map(|Refused { at, code, problem }| RefusedText {
            seconds_ago: seconds_since(*at),
            code: code_name(*code),
            problem: problem.clone(),
        });
        Some(Explanation { trigger: self.id.hash(), told, refused })
    }
}

impl Told {
    fn explain(&self, trigger: &Trigger) -> ToldText {
        let Self { at, judged: Judged { decision, seen } } = self;
        let newest = seen.newest();
        let ago = |reading: &scaling::Reading| {
            let older_by = newest.at.0.saturating_sub(reading.at.0);
            (at.elapsed() + seen.age + older_by).as_secs_f64()
        };
        let readings = seen.window().readings().iter().rev().map(|reading| ReadingText {
            seconds_ago: ago(reading),
            active: reading.counts.active,
            scheduled: reading.counts.scheduled,
            dead_letter: reading.counts.dead_letter,
            transfer: reading.counts.transfer,
            transfer_dead_letter: reading.counts.transfer_dead_letter,
            status: format!("{:?}", reading.status),
            requires_session: reading.requires_session,
        });
        ToldText {
            seconds_ago: seconds_since(*at),
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

fn seconds_since(moment: Instant) -> f64 {
    moment.elapsed().as_secs_f64()
}
