//! The external triggers of a `ScaledObject` or `ScaledJob` file, as KEDA would hand them to the scaler.
//!
//! Pure: the file's text and the environment come in as arguments. Only what KEDA itself does to metadata is done here
//! (`…FromEnv` keys get the variable's value under the same key, and are left out when it is not set: KEDA's
//! `pkg/scalers/external_scaler.go`); what the metadata means is the trigger's business.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::config::in_one_line;

/// One trigger of type `external` or `external-push`, its metadata resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalTrigger {
    /// Name of the `ScaledObject`.
    pub name: String,
    /// Its namespace, `default` when the file names none.
    pub namespace: String,
    /// Its place among the triggers, from 0; KEDA puts `s{index}-` before the metric's name.
    pub index: usize,
    /// The metadata as the scaler would get it.
    pub metadata: HashMap<String, String>,
}

/// A file that KEDA would not take, or with nothing in it for an external scaler.
#[derive(Debug, thiserror::Error)]
pub enum ScaledObjectError {
    /// Not YAML.
    #[error("it is not YAML: {0}")]
    Syntax(String),
    /// No `ScaledObject` and no `ScaledJob` among its documents.
    #[error("it holds no ScaledObject and no ScaledJob")]
    NoScaledObject,
    /// No external trigger in any of them.
    #[error("no trigger in it has the type external or external-push")]
    NoExternalTrigger,
    /// A part has the wrong form.
    #[error("{place}: {problem}")]
    Form {
        /// Which `ScaledObject`, which trigger.
        place: String,
        /// What is wrong and what is allowed.
        problem: String,
    },
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: ObjectMetadata,
    #[serde(default)]
    spec: Value,
}

#[derive(Deserialize, Default)]
struct ObjectMetadata {
    #[serde(default)]
    name: String,
    namespace: Option<String>,
}

/// Finds the external triggers in a file of one or more YAML documents. `environment` looks up a variable of the scale
/// target.
pub fn external_triggers(
    text: &str,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Vec<ExternalTrigger>, ScaledObjectError> {
    let mut scaled: Vec<Document> =
        serde_saphyr::from_multiple(text).map_err(|error| ScaledObjectError::Syntax(in_one_line(&error)))?;
    scaled.retain(|document| matches!(document.kind.as_str(), "ScaledObject" | "ScaledJob"));
    if scaled.is_empty() {
        return Err(ScaledObjectError::NoScaledObject);
    }
    let mut found = Vec::new();
    for Document { kind, metadata: ObjectMetadata { name, namespace }, spec } in scaled {
        if name.is_empty() {
            return Err(ScaledObjectError::Form { place: kind, problem: "metadata.name is missing".to_owned() });
        }
        let place = format!("{kind} {name}");
        let triggers = spec.get("triggers").and_then(Value::as_array).ok_or_else(|| ScaledObjectError::Form {
            place: place.clone(),
            problem: "spec.triggers must be a list".to_owned(),
        })?;
        for (index, trigger) in triggers.iter().enumerate() {
            if !matches!(trigger.get("type").and_then(Value::as_str), Some("external" | "external-push")) {
                continue;
            }
            let written = trigger.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
            let metadata = resolved(&format!("{place}, trigger {index}"), &written, &environment)?;
            let namespace = namespace.clone().unwrap_or_else(|| "default".to_owned());
            found.push(ExternalTrigger { name: name.clone(), namespace, index, metadata });
        }
    }
    if found.is_empty() { Err(ScaledObjectError::NoExternalTrigger) } else { Ok(found) }
}

/// What KEDA does to `…FromEnv` keys: the value of the variable they name, under the same key; nothing if it is not set.
pub fn resolve_environment(
    metadata: impl IntoIterator<Item = (String, String)>,
    environment: impl Fn(&str) -> Option<String>,
) -> HashMap<String, String> {
    let resolve = |(key, value): (String, String)| {
        if key.ends_with("FromEnv") { environment(&value).map(|resolved| (key, resolved)) } else { Some((key, value)) }
    };
    metadata.into_iter().filter_map(resolve).collect()
}

fn resolved(
    place: &str,
    written: &Map<String, Value>,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<HashMap<String, String>, ScaledObjectError> {
    let texts = written.iter().map(|(key, value)| match value {
        Value::String(text) => Ok((key.clone(), text.clone())),
        other => Err(ScaledObjectError::Form {
            place: place.to_owned(),
            problem: format!("metadata {key} must be a string in Kubernetes; put {other} in quotes"),
        }),
    });
    Ok(resolve_environment(texts.collect::<Result<Vec<_>, _>>()?, environment))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
apiVersion: v1
kind: ConfigMap
data: {a: b}
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: receiver, namespace: demo}
spec:
  triggers:
  - type: cron
    metadata: {start: '0 8 * * *'}
  - type: external
    metadata: {scalerAddress: 'scaler:6000', queueName: orders, connectionFromEnv: CONNECTION, otherFromEnv: UNSET}
";

    fn environment(name: &str) -> Option<String> {
        (name == "CONNECTION").then(|| "Endpoint=sb://here".to_owned())
    }

    #[test]
    fn external_triggers_are_found_and_resolved_as_keda_does() {
        let triggers = external_triggers(FILE, environment).expect("a good file");
        let [trigger] = &triggers[..] else { panic!("one external trigger, got {triggers:?}") };
        assert_eq!((trigger.name.as_str(), trigger.namespace.as_str(), trigger.index), ("receiver", "demo", 1));
        assert_eq!(trigger.metadata["connectionFromEnv"], "Endpoint=sb://here");
        assert_eq!(trigger.metadata["queueName"], "orders");
        assert!(!trigger.metadata.contains_key("otherFromEnv"), "an unset variable is left out");
    }

    #[test]
    fn what_keda_would_not_take_is_refused_with_the_place() {
        let says = |text: &str| external_triggers(text, environment).expect_err("a bad file").to_string();
        assert!(says("kind: [").contains("not YAML"));
        assert!(says("kind: Deployment").contains("no ScaledObject"));
        assert!(says("kind: ScaledObject\nmetadata: {name: a}\nspec: {triggers: [{type: cron}]}").contains("external"));
        assert!(says("kind: ScaledJob\nspec: {triggers: []}").contains("metadata.name is missing"));
        assert!(says("kind: ScaledObject\nmetadata: {name: a}").contains("spec.triggers must be a list"));
        let unquoted = "kind: ScaledObject\nmetadata: {name: a}\nspec: {triggers: [{type: external, metadata: {messageCount: 5}}]}";
        let text = says(unquoted);
        assert!(
            text.contains("ScaledObject a, trigger 0") && text.contains("messageCount") && text.contains("quotes"),
            "{text}"
        );
    }
}
