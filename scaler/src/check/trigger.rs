//! The rules about one trigger: what the server would answer, by the server's own parser and configuration, and what KEDA
//! makes of the keys beside the metadata.

use std::collections::HashMap;

use scaling::DEFAULT_POLICY;

use super::finding::Severity;
use super::{Context, Reporter, Seen};
use crate::config::Config;
use crate::entity::Target;
use crate::manifest::Node;
use crate::scaled_object::{Scaled, ScaledKind, WrittenTrigger, metadata, not_a_text};
use crate::trigger::{Connection, ConnectionProblem, PolicyChoice, Trigger, go_boolean, no_written_secret};
use crate::trigger_authentication::{Reference, TLS_PARAMETERS};

const SCALER_ADDRESS: &str = "scalerAddress";
const ENABLE_TLS: &str = "enableTLS";
const CONNECTION_FROM_ENV: &str = "connectionFromEnv";
/// Stands for the connection string that only KEDA can look up.
const SOME_CONNECTION_STRING: &str =
    "Endpoint=sb://checked.servicebus.windows.net/;SharedAccessKeyName=checked;SharedAccessKey=checked";

/// Checks one trigger that is ours.
pub(super) fn check(
    scaled: &Scaled,
    trigger: &WrittenTrigger,
    context: &Context<'_>,
    report: &mut Reporter<'_>,
) -> Seen {
    let node = &trigger.node;
    let written = node.get("metadata");
    let line_of = |key: &str| written.map_or(node.line, |written| written.line_of(key));
    let mut texts = HashMap::new();
    for (key, value) in metadata(trigger) {
        if let Err(value) = value {
            report.say(Severity::Error, Some(line_of(key)), &not_a_text(key, value));
        }
        let text = match value {
            Ok(text) => text.to_owned(),
            Err(nothing) if nothing.is_null() => continue,
            Err(other) => other.as_word().to_owned(),
        };
        texts.insert(key.to_owned(), text);
    }
    let mut seen = Seen {
        index: trigger.index,
        line: node.line,
        name: node.text("name").map(str::to_owned),
        is_push: trigger.kind == "external-push",
        counts: None,
        activation: 0,
        cache_ttl_seconds: None,
    };
    let variable = texts.get(CONNECTION_FROM_ENV).map(|variable| variable.trim().to_owned());
    // While there is a secret, nothing else is said of the metadata: texts repeat values.
    let parsed = no_written_secret(&texts).and_then(|()| {
        address(&texts, node, &line_of, report);
        if let Some(variable) = variable.as_deref().filter(|variable| !variable.is_empty()) {
            texts.insert(CONNECTION_FROM_ENV.to_owned(), SOME_CONNECTION_STRING.to_owned());
            if let Some(problem) = super::environment::missing(scaled, variable, context) {
                report.say(Severity::Error, Some(line_of(CONNECTION_FROM_ENV)), &problem);
            }
        }
        Trigger::parse(&texts)
    });
    let parsed = match parsed {
        Ok(parsed) => Some(parsed),
        Err(error) => {
            report.say(Severity::Error, Some(error.key().map_or(node.line, line_of)), &error.to_string());
            None
        }
    };
    if let Some(parsed) = &parsed {
        for warning in &parsed.warnings {
            report.say(Severity::Warning, Some(line_of(warning.key())), &warning.to_string());
        }
        if let Connection::FromEnvironment(Err(problem)) = &parsed.connection {
            let line = match problem {
                ConnectionProblem::NamespaceAlone(_) => line_of("namespace"),
                _ => node.line_of("metadata"),
            };
            report.say(Severity::Error, Some(line), &problem.to_string());
        }
        if parsed.base.activation_message_count() == 1 {
            let text = "metadata activationMessageCount: active means strictly more, so with 1 a last single message never \
                        wakes the target; 0 lets the first message do it";
            report.say(Severity::Warning, Some(line_of("activationMessageCount")), text);
        }
        if let Some(config) = context.config {
            configured(scaled, parsed, config, context, &line_of, report);
        }
        seen.activation = parsed.base.activation_message_count();
        seen.cache_ttl_seconds = parsed.freshness.cache_ttl.and_then(|ttl| ttl.as_secs().try_into().ok());
        seen.counts = Some(counts(parsed, variable.as_deref()));
    }
    metric_type(scaled, trigger, parsed.as_ref(), context, report);
    authentication(scaled, trigger, &texts, context, report);
    if node.is_true("useCachedMetrics") {
        let text = "useCachedMetrics: the HPA sees the value of the last poll, up to pollingInterval old; it saves no read of \
                    Service Bus, since this scaler answers from its own cache";
        report.say(Severity::Note, Some(node.line_of("useCachedMetrics")), text);
    }
    seen
}

fn address(texts: &HashMap<String, String>, node: &Node, line_of: &impl Fn(&str) -> usize, report: &mut Reporter<'_>) {
    let text = |key: &str| texts.get(key).map(|text| text.trim()).filter(|text| !text.is_empty());
    match text(SCALER_ADDRESS) {
        None => {
            let text = "metadata scalerAddress is missing: write HOST:PORT of the scaler's Service, such as \
                        servicebus-scaler.autoscale-demo.svc.cluster.local:6000";
            report.say(Severity::Error, Some(node.line), text);
        }
        Some(address) if !address.contains(':') => {
            let text =
                format!("metadata scalerAddress: {address:?} names no port, and KEDA takes 443; the scaler's is 6000");
            report.say(Severity::Warning, Some(line_of(SCALER_ADDRESS)), &text);
        }
        Some(_) => {}
    }
    for key in [ENABLE_TLS, "unsafeSsl"] {
        if let Some(value) = text(key).filter(|value| go_boolean(value).is_none()) {
            report.say(Severity::Error, Some(line_of(key)), &format!("metadata {key}: {value:?} is not true or false"));
        }
    }
}

/// What only the scaler's config file can answer.
fn configured(
    scaled: &Scaled,
    trigger: &Trigger,
    config: &Config,
    context: &Context<'_>,
    line_of: &impl Fn(&str) -> usize,
    report: &mut Reporter<'_>,
) {
    let mut error = |key: &str, text: &str| report.say(Severity::Error, Some(line_of(key)), text);
    if let PolicyChoice::Profile(profile) = &trigger.policy
        && let Err(unknown) = config.profile(profile)
    {
        error("policyProfile", &unknown.to_string());
    }
    let wish = trigger.freshness;
    if let Err(out_of_bounds) = config.freshness_for(wish.cache_ttl, wish.max_staleness) {
        error(out_of_bounds.key, &out_of_bounds.to_string());
    }
    let Connection::Reference { name, namespace, endpoint_suffix } = &trigger.connection else { return };
    let own = scaled.namespace.as_deref().unwrap_or(context.namespace);
    let Some(connection) = config.connections.get(name) else {
        let known = config.connections.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let known = if known.is_empty() { "none" } else { &known };
        error(
            "connectionRef",
            &format!("metadata connectionRef: {name:?} is not in the config file; known there: {known}"),
        );
        return;
    };
    if !connection.allowed_namespaces.contains(own) {
        let text = format!(
            "metadata connectionRef: connection {name:?} does not list Kubernetes namespace {own:?} in its allowedNamespaces"
        );
        error("connectionRef", &text);
    }
    // A connection string says where it leads itself, in its file.
    let Some(reach) = &connection.reach else { return };
    match namespace {
        None if reach.namespaces.only().is_none() => {
            let text = format!(
                "metadata namespace is missing: connection {name:?} is for more than one Service Bus namespace"
            );
            error("connectionRef", &text);
        }
        Some(namespace) if !reach.namespaces.contains(&namespace.to_ascii_lowercase()) => {
            let text = format!(
                "metadata namespace: connection {name:?} does not list {namespace:?} in its serviceBusNamespaces"
            );
            error("namespace", &text);
        }
        _ => {}
    }
    if endpoint_suffix.as_deref().is_some_and(|suffix| !suffix.eq_ignore_ascii_case(&reach.endpoint_suffix)) {
        error("cloud", &format!("metadata cloud: connection {name:?} is for namespaces of {}", reach.endpoint_suffix));
    }
}

fn metric_type(
    scaled: &Scaled,
    trigger: &WrittenTrigger,
    parsed: Option<&Trigger>,
    context: &Context<'_>,
    report: &mut Reporter<'_>,
) {
    let Some(entry) = trigger.node.entry("metricType") else { return };
    let line = Some(entry.line);
    let kind = entry.value.as_word();
    if scaled.kind == ScaledKind::ScaledJob {
        report.say(Severity::Error, line, "metricType: KEDA refuses one in a ScaledJob; leave it out");
        return;
    }
    match kind {
        "AverageValue" | "" => {}
        "Value" => {
            let profile = |name: &String| context.config.and_then(|config| config.profiles.get(name));
            let policy = match parsed.map(|parsed| &parsed.policy) {
                None => Some(DEFAULT_POLICY),
                Some(PolicyChoice::Inline { policy, .. }) => Some(policy.as_str()),
                Some(PolicyChoice::Profile(name)) => profile(name).map(|profile| profile.policy.as_str()),
            };
            let why = "the HPA multiplies a Value by the replicas that are ready, so a policy's replicas multiply at every \
                       sync; use AverageValue";
            match policy {
                Some(policy) if policy == DEFAULT_POLICY => {}
                Some(policy) => {
                    let text =
                        format!("metricType: Value works with policy {DEFAULT_POLICY} alone, not with {policy}: {why}");
                    report.say(Severity::Error, line, &text);
                }
                None => {
                    let text = format!(
                        "metricType: Value works with policy {DEFAULT_POLICY} alone, which the profile may not be: {why}"
                    );
                    report.say(Severity::Warning, line, &text);
                }
            }
        }
        "Utilization" => {
            report.say(
                Severity::Error,
                line,
                "metricType: KEDA refuses Utilization for an external scaler; use AverageValue",
            );
        }
        other => {
            report.say(Severity::Error, line, &format!("metricType: {other:?} is not AverageValue or Value"));
        }
    }
}

/// Of a `TriggerAuthentication`, only what KEDA's connection to the scaler needs has any effect.
fn authentication(
    scaled: &Scaled,
    trigger: &WrittenTrigger,
    texts: &HashMap<String, String>,
    context: &Context<'_>,
    report: &mut Reporter<'_>,
) {
    let Some(reference) = Reference::of(trigger) else { return };
    let line = Some(trigger.node.line_of("authenticationRef"));
    let Some(found) = reference.find(context.authentications, scaled.namespace.as_deref()) else {
        let has_tls = texts.get(ENABLE_TLS).and_then(|text| go_boolean(text.trim())) == Some(true);
        if !has_tls {
            let text = format!(
                "authenticationRef {:?}: KEDA forwards nothing of it to an external scaler; only caCert, tlsClientCert and \
                 tlsClientKey count, for the connection to the scaler. A credential for Service Bus goes by connectionRef",
                reference.name
            );
            report.say(Severity::Warning, line, &text);
        }
        return;
    };
    let mut without_effect: Vec<_> =
        found.parameters.iter().map(|own| own.name.as_str()).filter(|name| !TLS_PARAMETERS.contains(name)).collect();
    if found.pod_identity.is_some() {
        without_effect.push("podIdentity");
    }
    if !without_effect.is_empty() {
        let text = format!(
            "authenticationRef {:?}: its {} has no effect, because KEDA forwards nothing of it to an external scaler; use \
             connectionRef",
            reference.name,
            without_effect.join(", ")
        );
        report.say(Severity::Warning, line, &text);
    }
}

/// What it counts and where, the same for two triggers that count the same.
fn counts(trigger: &Trigger, variable: Option<&str>) -> String {
    let target = match &trigger.target {
        Target::Entity(entity) => entity.folded().to_string(),
        Target::Matching(matching) => {
            format!("{:?} of {} that match {}", matching.operation, matching.listing, matching.pattern.text())
        }
    };
    match &trigger.connection {
        Connection::FromEnvironment(_) => format!("{target} by {}", variable.unwrap_or_default()),
        Connection::Reference { name, namespace, endpoint_suffix } => {
            format!("{target} by reference {name} {namespace:?} {endpoint_suffix:?}")
        }
    }
}

/// What a built-in trigger is told.
pub(super) fn built_in(report: &mut Reporter<'_>, trigger: &WrittenTrigger) {
    let text = "KEDA's built-in azure-servicebus trigger, which this scaler replaces; `scaler check --migrate FILE` prints \
                the file translated";
    report.say(Severity::Note, Some(trigger.node.line), text);
}

/// What an external trigger of somebody else's is told.
pub(super) fn not_ours(report: &mut Reporter<'_>, trigger: &WrittenTrigger) {
    let text =
        "it has no metadata that is this scaler's alone, such as queueName, and is passed over as another scaler's";
    report.say(Severity::Note, Some(trigger.node.line), text);
}
