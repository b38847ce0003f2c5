//! What every trigger was told last, and why, for `/explain`.
//!
//! Owns a bounded memory: so many triggers, each with the decision told last and the refusal told last. Whoever asks gets
//! it as JSON. It holds readings and reasons, no credential; texts are cut, since callers have a part in them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::decisions::Judged;
use crate::metrics::{MAX_TRIGGERS, code_name};
use crate::trigger::Trigger;
use crate::trigger_id::TriggerId;

/// Longest text kept of a refusal, in bytes.
const MAX_TEXT_BYTES: usize = 1_000;

/// The memory. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub(crate) struct Explanations(Arc<RwLock<HashMap<TriggerId, Arc<Mutex<Latest>>>>>);

/// The latest of one trigger.
struct Latest {
    asked_at: Instant,
    told: Option<Told>,
    refused: Option<Refused>,
}

struct Told {
    at: Instant,
    trigger: Arc<Trigger>,
    judged: Judged,
}

struct Refused {
    at: Instant,
    code: Code,
    problem: String,
}

/// What `/explain` says of one trigger.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Explanation {
    /// The short hash that metrics show, too.
    trigger: String,
    asked_seconds_ago: f64,
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

impl Explanations {
    /// A decision was told.
    pub(crate) fn told(&self, id: &TriggerId, trigger: &Arc<Trigger>, judged: Judged) {
        let told = Told { at: Instant::now(), trigger: Arc::clone(trigger), judged };
        self.change(id, |latest| latest.told = Some(told));
    }

    /// A call was refused.
    pub(crate) fn refused(&self, id: &TriggerId, status: &Status) {
        let cut = &status.message()[..status.message().floor_char_boundary(MAX_TEXT_BYTES)];
        let refused = Refused { at: Instant::now(), code: status.code(), problem: cut.to_owned() };
        self.change(id, |latest| latest.refused = Some(refused));
    }

    /// Lets go of triggers that nobody asked about for `idle`.
    pub(crate) fn forget_idle(&self, idle: Duration) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, latest| latest.lock().unwrap_or_else(PoisonError::into_inner).asked_at.elapsed() < idle);
        if known.len() < known.capacity() / 4 {
            known.shrink_to_fit();
        }
    }

    /// All triggers known of a `ScaledObject`, by their hash.
    pub(crate) fn of(&self, namespace: &str, name: &str) -> Vec<Explanation> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let is_asked_for = |id: &TriggerId| id.namespace() == namespace && id.name() == name;
        let mut found: Vec<_> = known
            .iter()
            .filter(|(id, _)| is_asked_for(id))
            .map(|(id, latest)| (id.clone(), Arc::clone(latest)))
            .collect();
        drop(known);
        found.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        found.iter().map(|(id, latest)| latest.lock().unwrap_or_else(PoisonError::into_inner).explain(id)).collect()
    }

    fn change(&self, id: &TriggerId, change: impl FnOnce(&mut Latest)) {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let found = known.get(id).map(Arc::clone);
        drop(known);
        let latest = if let Some(latest) = found {
            latest
        } else {
            let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= MAX_TRIGGERS && !known.contains_key(id) {
                return;
            }
            let new = || Arc::new(Mutex::new(Latest { asked_at: Instant::now(), told: None, refused: None }));
            Arc::clone(known.entry(id.clone()).or_insert_with(new))
        };
        let mut latest = latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.asked_at = Instant::now();
        change(&mut latest);
    }
}

impl Latest {
    fn explain(&self, id: &TriggerId) -> Explanation {
        Explanation {
            trigger: id.hash(),
            asked_seconds_ago: seconds_since(self.asked_at),
            told: self.told.as_ref().map(Told::explain),
            refused: self.refused.as_ref().map(|Refused { at, code, problem }| RefusedText {
                seconds_ago: seconds_since(*at),
                code: code_name(*code),
                problem: problem.clone(),
            }),
        }
    }
}

impl Told {
    fn explain(&self) -> ToldText {
        let Self { at, trigger, judged: Judged { decision, seen } } = self;
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
            readings: readings.collect(),
        }
    }
}

fn seconds_since(moment: Instant) -> f64 {
    moment.elapsed().as_secs_f64()
}
