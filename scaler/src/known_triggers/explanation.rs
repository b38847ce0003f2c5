//! What `/explain` says of one trigger, as JSON: what was told last, when and why, and the refusal told last.

use serde::Serialize;
use tokio::time::Instant;

use super::{Known, Refused, Told};
use crate::explanation::View;
use crate::metrics::code_name;
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

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ToldText {
    seconds_ago: f64,
    #[serde(flatten)]
    view: View,
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
        let ago = self.at.elapsed();
        ToldText { seconds_ago: ago.as_secs_f64(), view: View::of(trigger, &self.judged, ago) }
    }
}

fn seconds_since(moment: Instant) -> f64 {
    moment.elapsed().as_secs_f64()
}
