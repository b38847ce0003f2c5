//! The `ScaledObject`s and `ScaledJob`s of a file, and their external triggers as KEDA would hand them to the scaler.
//!
//! Pure: the file's text and the environment come in as arguments. Only what KEDA itself does to metadata is done here
//! (`…FromEnv` keys get the variable's value under the same key, and are left out when it is not set: KEDA's
//! `pkg/scalers/external_scaler.go`); what the metadata means is the trigger's business.

use std::collections::HashMap;
use std::fmt;

use crate::manifest::{self, Content, Node, SyntaxError};
use crate::trigger::are_ours;

/// What stands for the namespace of an object that names none, as for `kubectl` without `--namespace`.
pub const DEFAULT_NAMESPACE: &str = "default";

/// An object with triggers.
#[derive(Clone, Debug)]
pub struct Scaled {
    /// Which of the two.
    pub kind: ScaledKind,
    /// Its name; empty when the file names none.
    pub name: String,
    /// Its namespace, when the file names one.
    pub namespace: Option<String>,
    /// All of it.
    pub node: Node,
    /// Its triggers, in order.
    pub triggers: Vec<WrittenTrigger>,
}

/// The two kinds of object that have triggers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScaledKind {
    /// Scales a Deployment or its like.
    ScaledObject,
    /// Starts Jobs.
    ScaledJob,
}

impl fmt::Display for ScaledKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::ScaledObject => "ScaledObject",
            Self::ScaledJob => "ScaledJob",
        })
    }
}

/// A trigger as written.
#[derive(Clone, Debug)]
pub struct WrittenTrigger {
    /// Its place among the triggers, from 0; KEDA puts `s{index}-` before the metric's name.
    pub index: usize,
    /// Its type; empty when there is none.
    pub kind: String,
    /// All of it.
    pub node: Node,
}

impl WrittenTrigger {
    /// Whether KEDA asks an external scaler for it.
    pub fn is_external(&self) -> bool {
        matches!(self.kind.as_str(), "external" | "external-push")
    }

    /// Whether that is this one.
    pub fn is_ours(&self) -> bool {
        self.is_external() && are_ours(metadata(self).map(|(key, _)| key))
    }
}

impl Scaled {
    /// Reads one, unless the object is of another kind.
    pub fn of(node: Node) -> Option<Self> {
        let kind = match node.text("kind")? {
            "ScaledObject" => ScaledKind::ScaledObject,
            "ScaledJob" => ScaledKind::ScaledJob,
            _ => return None,
        };
        let metadata = |key: &str| node.at(&["metadata", key]).and_then(Node::as_text).map(str::to_owned);
        let written = node.at(&["spec", "triggers"]).map(Node::items).unwrap_or_default();
        let triggers = written.iter().enumerate().map(|(index, trigger)| WrittenTrigger {
            index,
            kind: trigger.text("type").unwrap_or_default().to_owned(),
            node: trigger.clone(),
        });
        Some(Self {
            kind,
            name: metadata("name").unwrap_or_default(),
            namespace: metadata("namespace"),
            triggers: triggers.collect(),
            node,
        })
    }

    /// A part of its specification.
    pub fn spec(&self, key: &str) -> Option<&Node> {
        self.node.at(&["spec", key])
    }
}

impl fmt::Display for Scaled {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, name, namespace, .. } = self;
        match namespace {
            Some(namespace) => write!(formatter, "{kind} {namespace}/{name}"),
            None => write!(formatter, "{kind} {name}"),
        }
    }
}

/// One trigger of type `external` or `external-push`, its metadata resolved.
#[derive(Clone, PartialEq, Eq)]
pub struct ExternalTrigger {
    /// Name of the `ScaledObject`.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its place among the triggers, from 0.
    pub index: usize,
    /// The metadata as the scaler would get it.
    pub metadata: HashMap<String, String>,
}

impl fmt::Debug for ExternalTrigger {
    /// Of the metadata its keys alone: what a variable held is a secret.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, namespace, index, metadata } = self;
        let mut keys: Vec<_> = metadata.keys().collect();
        keys.sort_unstable();
        let mut shown = formatter.debug_struct("ExternalTrigger");
        shown.field("name", name).field("namespace", namespace).field("index", index).field("keys", &keys).finish()
    }
}

/// A file that KEDA would not take, or with nothing in it for an external scaler.
#[derive(Debug, thiserror::Error)]
pub enum ScaledObjectError {
    /// Not YAML.
    #[error("it is not YAML of Kubernetes: {0}")]
    Syntax(SyntaxError),
    /// No `ScaledObject` and no `ScaledJob` among its documents.
    #[error("it holds no ScaledObject and no ScaledJob")]
    NoScaledObject,
    /// No external trigger in any of them, or others' alone.
    #[error("no trigger in it has the type external or external-push and a key of this scaler's, such as queueName")]
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

/// Finds the external triggers for this scaler in a file of one or more YAML documents. `namespace` is that of objects that name none;
/// `environment` looks up a variable of the scale target.
pub fn external_triggers(
    text: &str,
    namespace: &str,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Vec<ExternalTrigger>, ScaledObjectError> {
    let objects = manifest::objects(manifest::read(text).map_err(ScaledObjectError::Syntax)?);
    let scaled: Vec<_> = objects.into_iter().filter_map(Scaled::of).collect();
    if scaled.is_empty() {
        return Err(ScaledObjectError::NoScaledObject);
    }
    let mut found = Vec::new();
    for object in scaled {
        let form = |place: String, problem: &str| ScaledObjectError::Form { place, problem: problem.to_owned() };
        if object.name.is_empty() {
            return Err(form(object.kind.to_string(), "metadata.name is missing"));
        }
        if !object.spec("triggers").is_some_and(|triggers| matches!(&*triggers.content, Content::List { .. })) {
            return Err(form(format!("{} {}", object.kind, object.name), "spec.triggers must be a list"));
        }
        for trigger in object.triggers.iter().filter(|trigger| trigger.is_ours()) {
            let texts = metadata(trigger).map(|(key, value)| match value {
                Ok(text) => Ok((key.to_owned(), text.to_owned())),
                Err(other) => Err(ScaledObjectError::Form {
                    place: format!("{} {}, trigger {}", object.kind, object.name, trigger.index),
                    problem: not_a_text(key, other),
                }),
            });
            let metadata = resolve_environment(texts.collect::<Result<Vec<_>, _>>()?, &environment);
            let namespace = object.namespace.clone().unwrap_or_else(|| namespace.to_owned());
            found.push(ExternalTrigger { name: object.name.clone(), namespace, index: trigger.index, metadata });
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

/// The trigger's metadata: each key with its text, or with what stands there instead of one.
pub(crate) fn metadata(trigger: &WrittenTrigger) -> impl Iterator<Item = (&str, Result<&str, &Node>)> {
    let entries = trigger.node.get("metadata").map(Node::entries).unwrap_or_default();
    entries.iter().filter(|entry| entry.key != "<<").map(|entry| {
        let text = entry.value.as_text().ok_or(&entry.value);
        (entry.key.as_str(), text)
    })
}

/// What Kubernetes says of a value that is not a text: metadata is a map of texts.
pub(crate) fn not_a_text(key: &str, value: &Node) -> String {
    match &*value.content {
        Content::Other(_) if value.is_null() => {
            format!("metadata {key} has no value; write it in quotes, or leave the key out")
        }
        Content::Other(word) => format!("metadata {key} must be a string in Kubernetes; put {word} in quotes"),
        _ => format!("metadata {key} must be a string in Kubernetes"),
    }
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
    metadata: {scalerAddress: 'cosmos:4050', connectionFromEnv: CONNECTION, databaseId: 5}
  - type: external
    metadata: {scalerAddress: 'scaler:6000', queueName: orders, connectionFromEnv: CONNECTION, otherFromEnv: UNSET}
";

    fn environment(name: &str) -> Option<String> {
        (name == "CONNECTION").then(|| "Endpoint=sb://here".to_owned())
    }

    #[test]
    fn external_triggers_are_found_and_resolved_as_keda_does() {
        let triggers = external_triggers(FILE, DEFAULT_NAMESPACE, environment).expect("a good file");
        let [trigger] = &triggers[..] else { panic!("one external trigger, got {triggers:?}") };
        assert_eq!((trigger.name.as_str(), trigger.namespace.as_str(), trigger.index), ("receiver", "demo", 2));
        assert_eq!(trigger.metadata["connectionFromEnv"], "Endpoint=sb://here");
        assert_eq!(trigger.metadata["queueName"], "orders");
        assert!(!trigger.metadata.contains_key("otherFromEnv"), "an unset variable is left out");
        let shown = format!("{trigger:?}");
        assert!(shown.contains("connectionFromEnv") && !shown.contains("Endpoint="), "{shown}");
    }

    #[test]
    fn what_keda_would_not_take_is_refused_with_the_place() {
        let says =
            |text: &str| external_triggers(text, DEFAULT_NAMESPACE, environment).expect_err("a bad file").to_string();
        assert!(says("kind: [").contains("not YAML of Kubernetes"));
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
