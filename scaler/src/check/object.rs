//! The rules about a `ScaledObject` or `ScaledJob` as a whole: what KEDA refuses, and what goes wrong without a word.
//!
//! KEDA's side is from its `apis/keda/v1alpha1/scaledobject_types.go` (`CheckReplicaCountBoundsAreValid`,
//! `CheckFallbackValid`), `scaledjob_types.go`, `scaletriggers_types.go` and `pkg/scaling` (2.20 and 2.21).

use std::collections::HashSet;

use super::finding::Severity;
use super::{Context, Reporter, Seen, environment};
use crate::manifest::Node;
use crate::scaled_object::{Scaled, ScaledKind};

/// KEDA's default of `pollingInterval`, in seconds.
const DEFAULT_POLLING_INTERVAL: i64 = 30;
/// KEDA's default of `cooldownPeriod`, in seconds.
const DEFAULT_COOLDOWN_PERIOD: i64 = 300;
/// KEDA's default of `maxReplicaCount`.
const DEFAULT_MAX_REPLICAS: i64 = 100;
/// Longer waits from the first message to the first replica are hardly meant.
const LONG_POLLING_INTERVAL: i64 = 60;

/// Checks an object some of whose triggers are ours.
pub(super) fn check(scaled: &Scaled, ours: &[Seen], context: &Context<'_>, report: &mut Reporter<'_>) {
    let line = scaled.node.line;
    if scaled.name.is_empty() {
        report.say(Severity::Error, Some(line), "metadata.name is missing");
    }
    names(scaled, report);
    if let Some((line, problem)) = environment::no_container(scaled, context) {
        report.say(Severity::Error, Some(line), &problem);
    }
    replicas(scaled, report);
    intervals(scaled, ours, report);
    fallback(scaled, report);
    match scaled.kind {
        ScaledKind::ScaledObject => {
            let path = ["spec", "advanced", "horizontalPodAutoscalerConfig", "behavior"];
            if scaled.node.at(&path).is_none_or(Node::is_null) {
                report.say(
                    Severity::Warning,
                    scaled.node.entry("spec").map(|spec| spec.line),
                    "spec.advanced.horizontalPodAutoscalerConfig.behavior is missing: damping is the HPA's job, and its \
                     defaults double the replicas every 15 s and keep the most of the last 5 minutes; write out what is meant",
                );
            }
            modifiers(scaled, ours, report);
        }
        ScaledKind::ScaledJob => {
            if let Some(trigger) = ours.iter().find(|trigger| trigger.is_push) {
                report.about(trigger.index).say(
                    Severity::Warning,
                    Some(trigger.line),
                    "KEDA ignores the push of type external-push in a ScaledJob: it polls alone; use type external",
                );
            }
        }
    }
    for (place, later) in ours.iter().enumerate() {
        if let Some(earlier) =
            ours[..place].iter().find(|earlier| earlier.counts == later.counts && later.counts.is_some())
        {
            report.about(later.index).say(
                Severity::Warning,
                Some(later.line),
                &format!(
                    "it counts the same as trigger {}; the HPA takes the larger of two metrics, so one of them is enough",
                    earlier.index
                ),
            );
        }
    }
}

/// KEDA refuses two triggers of one name (`ValidateTriggers`), whosever they are.
fn names(scaled: &Scaled, report: &mut Reporter<'_>) {
    let mut taken = HashSet::new();
    for trigger in &scaled.triggers {
        let Some(name) = trigger.node.text("name").filter(|name| !name.is_empty()) else { continue };
        if !taken.insert(name) {
            let text = format!("name: {name:?} is another trigger's already, and KEDA refuses two of one name");
            report.about(trigger.index).say(Severity::Error, Some(trigger.node.line_of("name")), &text);
        }
    }
}

fn replicas(scaled: &Scaled, report: &mut Reporter<'_>) {
    let Some(spec) = scaled.node.get("spec") else { return };
    let written = spec.whole("minReplicaCount");
    let least = written.unwrap_or(0);
    let most = spec.whole("maxReplicaCount");
    let line = Some(spec.line_of("minReplicaCount"));
    if scaled.kind == ScaledKind::ScaledJob {
        if let Some(most) = most.filter(|most| least > *most) {
            let text =
                format!("minReplicaCount {least} is more than maxReplicaCount {most}: KEDA takes {most} for both");
            report.say(Severity::Warning, line, &text);
        }
        return;
    }
    let most = most.unwrap_or(DEFAULT_MAX_REPLICAS);
    if least > most {
        let text = format!("minReplicaCount {least} is more than maxReplicaCount {most}: KEDA refuses it");
        report.say(Severity::Error, line, &text);
    }
    let Some(idle) = spec.whole("idleReplicaCount") else { return };
    let line = Some(spec.line_of("idleReplicaCount"));
    // KEDA compares with the HPA's minimum, to which it makes a 0 that is written; without one it compares with 0.
    if idle >= written.map_or(0, |written| written.max(1)) {
        let text = format!(
            "idleReplicaCount {idle} is not less than minReplicaCount {least}: KEDA refuses it; with a minimum of 0 leave \
             it out"
        );
        report.say(Severity::Error, line, &text);
    } else if least == 0 {
        let text = "idleReplicaCount 0 has no effect with minReplicaCount 0; leave it out";
        report.say(Severity::Warning, line, text);
    } else if idle != 0 {
        report.say(
            Severity::Warning,
            line,
            &format!("idleReplicaCount {idle}: KEDA supports 0 alone, else the HPA fights it"),
        );
    }
}

fn intervals(scaled: &Scaled, ours: &[Seen], report: &mut Reporter<'_>) {
    let Some(spec) = scaled.node.get("spec") else { return };
    let polling = spec.whole("pollingInterval").unwrap_or(DEFAULT_POLLING_INTERVAL);
    let line = Some(spec.line_of("pollingInterval"));
    if polling < 1 {
        report.say(Severity::Error, line, &format!("pollingInterval {polling} is not a number of seconds from 1"));
        return;
    }
    if let Some(trigger) = ours.iter().find(|trigger| trigger.cache_ttl_seconds.is_some_and(|ttl| ttl > polling)) {
        let ttl = trigger.cache_ttl_seconds.unwrap_or_default();
        let text = format!(
            "metadata cacheTtl: {ttl} s is longer than pollingInterval, {polling} s: polls see the same reading again"
        );
        report.about(trigger.index).say(Severity::Warning, Some(trigger.line), &text);
    }
    if scaled.kind == ScaledKind::ScaledJob {
        return;
    }
    let cooldown = spec.whole("cooldownPeriod").unwrap_or(DEFAULT_COOLDOWN_PERIOD);
    let scales_to_zero = scales_to_zero(scaled);
    if scales_to_zero && (0..polling).contains(&cooldown) {
        let text = format!(
            "cooldownPeriod {cooldown} is shorter than pollingInterval {polling}: KEDA scales to zero at polls alone, so the \
             first poll that finds nothing does it"
        );
        report.say(Severity::Warning, Some(spec.line_of("cooldownPeriod")), &text);
    }
    if scales_to_zero && polling > LONG_POLLING_INTERVAL && !ours.iter().any(|trigger| trigger.is_push) {
        let text = format!(
            "pollingInterval {polling}: the first message waits up to {polling} s for a replica; type external-push wakes \
             the target within about a second"
        );
        report.say(Severity::Warning, line, &text);
    }
}

fn fallback(scaled: &Scaled, report: &mut Reporter<'_>) {
    let Some(fallback) = scaled.spec("fallback") else { return };
    let line = Some(fallback.line);
    if scaled.kind == ScaledKind::ScaledJob {
        report.say(Severity::Warning, line, "a ScaledJob has no fallback: KEDA ignores it");
        return;
    }
    for key in ["failureThreshold", "replicas"] {
        match fallback.whole(key) {
            Some(number) if number >= 0 => {}
            _ => report.say(
                Severity::Error,
                line,
                &format!("fallback.{key} must be a whole number from 0: KEDA refuses it"),
            ),
        }
    }
    // KEDA's executor holds the replicas through an error only if there is no fallback, or one of replicas
    // (`pkg/scaling/executor/scale_scaledobjects.go`).
    let falls_to = match scaled.spec("idleReplicaCount").filter(|idle| !idle.is_null()) {
        Some(idle) => Some(format!("idleReplicaCount {}", idle.as_word())),
        None if scales_to_zero(scaled) => Some("minReplicaCount 0".to_owned()),
        None => None,
    };
    if let Some(falls_to) = falls_to.filter(|_| fallback.whole("replicas") == Some(0)) {
        let text = format!(
            "fallback.replicas 0 with {falls_to}: while the triggers fail, KEDA scales down as if there were no activity, and the \
             messages wait; write 1 or more, or leave fallback out, so that the replicas are held"
        );
        report.say(Severity::Warning, Some(fallback.line_of("replicas")), &text);
    }
}

/// Whether no activity means no replicas.
fn scales_to_zero(scaled: &Scaled) -> bool {
    scaled.node.get("spec").and_then(|spec| spec.whole("minReplicaCount")).unwrap_or(0) == 0
}

/// With a formula, KEDA decides by it what is active, and asks `IsActive` in vain.
fn modifiers(scaled: &Scaled, ours: &[Seen], report: &mut Reporter<'_>) {
    let formula = scaled.node.at(&["spec", "advanced", "scalingModifiers", "formula"]);
    let Some(formula) = formula.filter(|formula| formula.as_text().is_some_and(|text| !text.is_empty())) else {
        return;
    };
    for trigger in ours {
        if trigger.name.is_none() {
            let text = "scalingModifiers.formula knows triggers by name, and this one has none";
            report.about(trigger.index).say(Severity::Warning, Some(trigger.line), text);
        }
        if trigger.activation > 0 {
            let text = "metadata activationMessageCount has no effect at polls: with scalingModifiers.formula KEDA compares \
                        the formula with scalingModifiers.activationTarget";
            report.about(trigger.index).say(Severity::Warning, Some(formula.line), text);
        }
    }
}
