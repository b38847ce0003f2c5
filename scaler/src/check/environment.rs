//! Whether the variable that `connectionFromEnv` names is in the scale target's container, where KEDA looks for it, if the
//! target stands in one of the files.

use super::Context;
use crate::manifest::Node;
use crate::scaled_object::{Scaled, ScaledKind};

/// What is wrong, if the container is known and the variable is not in it. What a whole Secret or `ConfigMap` brings in
/// (`envFrom`) is not known.
pub(super) fn missing(scaled: &Scaled, variable: &str, context: &Context<'_>) -> Option<String> {
    let (owner, pod, container) = match scaled.kind {
        ScaledKind::ScaledJob => {
            let pod = scaled.node.at(&["spec", "jobTargetRef", "template", "spec"])?;
            (String::from("its Job"), pod.clone(), scaled.spec("envSourceContainerName").and_then(Node::as_text))
        }
        ScaledKind::ScaledObject => {
            let reference = scaled.spec("scaleTargetRef")?;
            let (kind, name) = (reference.text("kind").unwrap_or("Deployment"), reference.text("name")?);
            let is_it = |object: &&Node| {
                let own = |key: &str| object.at(&["metadata", key]).and_then(Node::as_text);
                let is_near =
                    own("namespace").is_none_or(|theirs| scaled.namespace.as_deref().is_none_or(|ours| ours == theirs));
                object.text("kind") == Some(kind) && own("name") == Some(name) && is_near
            };
            let pod = context.objects.iter().find(is_it)?.at(&["spec", "template", "spec"])?;
            (format!("{kind} {name}"), pod.clone(), reference.text("envSourceContainerName"))
        }
    };
    let containers = pod.get("containers")?.items();
    let found = match container {
        Some(name) => containers.iter().find(|container| container.text("name") == Some(name))?,
        None => containers.first()?,
    };
    let has = |part: &Node| part.text("name") == Some(variable);
    // A patch may say nothing of variables and still be put on a container that has them.
    let environment = found.get("env")?.items();
    if found.get("envFrom").is_some() || environment.iter().any(has) {
        return None;
    }
    let name = found.text("name").unwrap_or_default();
    Some(format!(
        "metadata connectionFromEnv: container {name:?} of {owner} has no variable {variable:?}, so KEDA would leave the key \
         out; it looks in the first container, or in the one that envSourceContainerName names"
    ))
}
