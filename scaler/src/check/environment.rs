//! The container of the scale target where KEDA looks for variables, if the target stands in one of the files: whether it is
//! there, and whether the variable that `connectionFromEnv` names is in it.

use super::Context;
use crate::manifest::Node;
use crate::scaled_object::{Scaled, ScaledKind};

/// Where KEDA looks.
struct Place<'a> {
    /// Whose containers these are, for texts.
    owner: String,
    /// What `envSourceContainerName` is a key of.
    source: &'a Node,
    containers: &'a [Node],
    /// Whether these are all containers there will be; a patch has some of them.
    is_whole: bool,
}

impl<'a> Place<'a> {
    fn of(scaled: &'a Scaled, context: &Context<'a>) -> Option<Self> {
        let (owner, source, pod, is_whole) = match scaled.kind {
            ScaledKind::ScaledJob => {
                let pod = scaled.node.at(&["spec", "jobTargetRef", "template", "spec"])?;
                ("its Job".to_owned(), scaled.node.get("spec")?, pod, true)
            }
            ScaledKind::ScaledObject => {
                let reference = scaled.spec("scaleTargetRef")?;
                let (kind, name) = (reference.text("kind").unwrap_or("Deployment"), reference.text("name")?);
                let is_it = |object: &&Node| {
                    let own = |key: &str| object.at(&["metadata", key]).and_then(Node::as_text);
                    let is_near = own("namespace")
                        .is_none_or(|theirs| scaled.namespace.as_deref().is_none_or(|ours| ours == theirs));
                    object.text("kind") == Some(kind) && own("name") == Some(name) && is_near
                };
                let target = context.objects.iter().find(is_it)?;
                // Kubernetes demands a selector of whatever has a template.
                let is_whole = target.at(&["spec", "selector"]).is_some();
                (format!("{kind} {name}"), reference, target.at(&["spec", "template", "spec"])?, is_whole)
            }
        };
        Some(Self { owner, source, containers: pod.get("containers")?.items(), is_whole })
    }

    fn named(&self) -> Option<&str> {
        self.source.text("envSourceContainerName").filter(|name| !name.is_empty())
    }
}

/// What is wrong, and on which line, if the container that `envSourceContainerName` names is known not to be there.
pub(super) fn no_container(scaled: &Scaled, context: &Context<'_>) -> Option<(usize, String)> {
    let place = Place::of(scaled, context)?;
    let name = place.named()?;
    if !place.is_whole || place.containers.iter().any(|container| container.text("name") == Some(name)) {
        return None;
    }
    let text =
        format!("envSourceContainerName: {} has no container {name:?}, and KEDA asks no trigger then", place.owner);
    Some((place.source.line_of("envSourceContainerName"), text))
}

/// What is wrong, if the container is known and the variable is not in it. What a whole Secret or `ConfigMap` brings in
/// (`envFrom`) is not known.
pub(super) fn missing(scaled: &Scaled, variable: &str, context: &Context<'_>) -> Option<String> {
    let place = Place::of(scaled, context)?;
    let found = match place.named() {
        Some(name) => place.containers.iter().find(|container| container.text("name") == Some(name))?,
        None => place.containers.first()?,
    };
    let has = |part: &Node| part.text("name") == Some(variable);
    // A patch may say nothing of variables and still be put on a container that has them.
    let environment = found.get("env")?.items();
    if found.get("envFrom").is_some() || environment.iter().any(has) {
        return None;
    }
    let (name, owner) = (found.text("name").unwrap_or_default(), place.owner);
    Some(format!(
        "metadata connectionFromEnv: container {name:?} of {owner} has no variable {variable:?}, so KEDA would leave the key \
         out; it looks in the first container, or in the one that envSourceContainerName names"
    ))
}
