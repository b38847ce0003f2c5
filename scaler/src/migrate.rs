//! `scaler check --migrate`: a file's built-in `azure-servicebus` triggers as triggers of this scaler, everything else byte
//! for byte as it is.
//!
//! The keys mean the same here, so only the type and the scaler's address are new where the connection comes from the scale
//! target's environment. What came from a `TriggerAuthentication` or from pod identity never reaches an external scaler: it
//! becomes a `connectionRef`, and a connection that the operator of the scaler must add. What cannot be translated is said.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use servicebus::Cloud;

use crate::check::{self, BUILT_IN, Finding, Severity};
use crate::config::Config;
use crate::manifest::{Node, quoted};
use crate::scaled_object::{Scaled, ScaledKind, WrittenTrigger, metadata};
use crate::trigger::Trigger;
use crate::trigger_authentication::{Authentication, CONNECTION, Reference, Source};

mod edit;
mod needed;

use edit::Edits;
use needed::Credential;
pub(crate) use needed::Needed;

/// Where the manifests under `deploy/` put the scaler.
const DEFAULT_ADDRESS: &str = "servicebus-scaler.autoscale-demo.svc.cluster.local:6000";
/// Metadata of the built-in trigger that says where pod identity reads, and that a connection string makes it overlook.
const PLACE_KEYS: [&str; 3] = ["namespace", "cloud", "endpointSuffix"];

/// The flags of `scaler check --migrate`.
#[derive(Args, Clone, Debug)]
pub struct MigrateOptions {
    /// Translate to type external-push, which wakes a target without waiting for a poll
    #[arg(long, requires = "migrate")]
    pub push: bool,
    /// Address of the scaler for the triggers
    #[arg(long, requires = "migrate", default_value = DEFAULT_ADDRESS, value_name = "HOST:PORT", value_parser = address)]
    pub scaler_address: String,
    /// Further manifests with `TriggerAuthentication`s that the triggers name; repeatable
    #[arg(long, requires = "migrate", value_name = "FILE")]
    pub authentications: Vec<PathBuf>,
}

/// Runs `scaler check --migrate`. `config` is what the result is checked against; `namespace` is that of objects that name
/// none.
pub(crate) fn run(
    file: &Path,
    config: Option<&Config>,
    namespace: &str,
    strict: bool,
    options: MigrateOptions,
) -> anyhow::Result<ExitCode> {
    let MigrateOptions { push, scaler_address, authentications: files } = options;
    let at = |file: &Path| format!("{}", file.display());
    let text = check::read_text(file).with_context(|| at(file))?;
    let objects = check::objects(&text).with_context(|| at(file))?;
    let mut authentications: Vec<_> = objects.iter().filter_map(Authentication::of).collect();
    for file in &files {
        let objects = check::read_text(file).and_then(|text| check::objects(&text)).with_context(|| at(file))?;
        authentications.extend(objects.iter().filter_map(Authentication::of));
    }
    let target = Target { push, address: &scaler_address, namespace, authentications: &authentications };
    let migrated = migrate(&text, &objects, &target);
    std::io::stdout().lock().write_all(migrated.text.as_bytes()).context("failed to print the file")?;

    // What the translation cannot know is whether the result is sound; the check knows.
    let result = check::objects(&migrated.text).context("the translation is not YAML any more; please report this")?;
    let name = PathBuf::from(format!("{} (translated)", file.display()));
    let config = config.cloned().map(|config| with_needed(config, &migrated.needed));
    let checked = check::check(&[(&name, result)], config.as_ref(), namespace);
    let mut findings: Vec<_> = migrated.notes.into_iter().map(|note| note.of(file)).collect();
    findings.extend(checked.findings.into_iter().filter(|finding| finding.severity > Severity::Note));
    let mut report = String::new();
    for finding in &findings {
        writeln!(report, "{finding}").context("failed to format a finding")?;
    }
    if migrated.triggers == 0 {
        report.push_str("no trigger of type azure-servicebus: nothing to translate\n");
    }
    if !migrated.needed.is_empty() {
        report.push_str("\n# The operator of the scaler adds this to its config file (scaler serve --config):\n");
        report.push_str(&migrated.needed.yaml());
    }
    std::io::stderr().lock().write_all(report.as_bytes()).context("failed to print what is to be done")?;
    Ok(check::exit_code(&findings, strict))
}

/// The config file as it will be: whoever is asked to add connections adds them before the result is applied.
fn with_needed(mut config: Config, needed: &Needed) -> Config {
    let added = Config::parse(&needed.yaml()).map(|added| added.connections).unwrap_or_default();
    for (name, connection) in added {
        config.connections.entry(name).or_insert(connection);
    }
    config
}

/// How to translate.
pub(crate) struct Target<'a> {
    /// To type `external-push`, where KEDA listens to it.
    pub push: bool,
    /// The scaler's address.
    pub address: &'a str,
    /// Kubernetes namespace of objects that name none.
    pub namespace: &'a str,
    /// What the triggers may refer to.
    pub authentications: &'a [Authentication],
}

/// A file, translated.
#[derive(Debug)]
pub(crate) struct Migrated {
    /// The file's new text.
    pub text: String,
    /// How many triggers were translated.
    pub triggers: usize,
    /// What the operator of the scaler must add.
    pub needed: Needed,
    /// What there is to say about single triggers.
    pub notes: Vec<Note>,
}

/// Something to say about a trigger.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    severity: Severity,
    line: usize,
    object: String,
    trigger: usize,
    message: String,
}

impl Note {
    fn of(self, file: &Path) -> Finding {
        let Self { severity, line, object, trigger, message } = self;
        let (line, object, trigger) = (Some(line), Some(object), Some(trigger));
        Finding { severity, file: file.to_owned(), line, object, trigger, message }
    }
}

/// Translates the built-in triggers of a text, whose objects these are.
pub(crate) fn migrate(text: &str, objects: &[Node], target: &Target<'_>) -> Migrated {
    let mut work = Work { target, edits: Edits::new(text), needed: Needed::default(), notes: Vec::new() };
    let mut triggers = 0;
    for scaled in objects.iter().cloned().filter_map(Scaled::of) {
        for trigger in scaled.triggers.iter().filter(|trigger| trigger.kind == BUILT_IN) {
            match work.translate(&scaled, trigger) {
                Ok(()) => triggers += 1,
                Err(problem) => {
                    let text = format!("not translated: {problem}");
                    work.note(Severity::Error, &scaled, trigger, &text);
                }
            }
        }
    }
    let Work { edits, needed, notes, .. } = work;
    Migrated { text: edits.applied(), triggers, needed, notes }
}

struct Work<'a> {
    target: &'a Target<'a>,
    edits: Edits<'a>,
    needed: Needed,
    notes: Vec<Note>,
}

/// How a trigger got its connection until now.
enum Way {
    /// From the scale target's environment, by `connectionFromEnv`.
    Kept,
    /// The same, by a `TriggerAuthentication` that names the variable.
    Variable(String),
    /// Otherwise.
    Reference { name: String, credential: Credential },
}

impl Work<'_> {
    fn translate(&mut self, scaled: &Scaled, trigger: &WrittenTrigger) -> Result<(), String> {
        let node = &trigger.node;
        let by_alias = "it is written through a YAML alias or merge key, and an edit would change other places too";
        let metadata = node.get("metadata").ok_or("it has no metadata")?;
        let kind = node.entry("type").ok_or("it has no type")?;
        let reaches = [
            Some(&scaled.node),
            scaled.node.get("spec"),
            scaled.spec("triggers"),
            Some(node),
            Some(metadata),
            Some(&kind.value),
        ];
        if reaches.into_iter().flatten().any(|part| part.is_alias) || kind.is_merged {
            return Err(by_alias.to_owned());
        }
        let own = |key: &str| metadata.entry(key).filter(|entry| !entry.is_merged);
        if metadata.entries().iter().any(|entry| entry.is_merged) || node.entries().iter().any(|entry| entry.is_merged)
        {
            return Err(by_alias.to_owned());
        }
        let way = self.way(scaled, trigger, metadata)?;
        self.names(scaled, trigger);
        if own("scalerAddress").is_none() {
            self.edits
                .insert_first(metadata, "scalerAddress", &quoted(self.target.address))
                .map_err(|problem| format!("its metadata cannot be edited: {problem}"))?;
        }
        let push = self.target.push && scaled.kind == ScaledKind::ScaledObject;
        if self.target.push && !push {
            let text = "KEDA ignores the push of a trigger in a ScaledJob; translated to type external";
            self.note(Severity::Note, scaled, trigger, text);
        }
        self.edits.replace(&kind.value, if push { "external-push" } else { "external" });
        self.edits.remove(node, &["authenticationRef"]);
        let replaced = match way {
            Way::Kept => None,
            Way::Variable(variable) => Some(("connectionFromEnv", variable)),
            Way::Reference { name, credential } => {
                let place = |key: &str| metadata.text(key).map(str::trim).filter(|text| !text.is_empty());
                if matches!(credential, Credential::ConnectionString { .. }) {
                    let overlooked: Vec<_> = PLACE_KEYS.into_iter().filter(|key| own(key).is_some()).collect();
                    for key in &overlooked {
                        let text = format!(
                            "metadata {key} is left out: a connection string says itself where it leads, and the built-in trigger overlooked it"
                        );
                        self.note(Severity::Note, scaled, trigger, &text);
                    }
                    self.edits.remove(metadata, &overlooked);
                }
                let kubernetes_namespace = scaled.namespace.as_deref().unwrap_or(self.target.namespace);
                let name = self.needed.ask(&name, &credential, kubernetes_namespace, place("namespace"));
                Some(("connectionRef", name))
            }
        };
        if let Some((key, value)) = replaced {
            if let Some(entry) = own("connectionFromEnv") {
                self.edits.replace_entry(entry, key, &quoted(&value));
            } else {
                let done = self.edits.insert_first(metadata, key, &quoted(&value));
                done.map_err(|problem| format!("its metadata cannot be edited: {problem}"))?;
            }
        }
        Ok(())
    }

    /// Says so when the metric gets another name; whoever has it on a dashboard looks for the old one.
    fn names(&mut self, scaled: &Scaled, trigger: &WrittenTrigger) {
        let written = metadata(trigger).filter_map(|(key, text)| Some((key.to_owned(), text.ok()?.to_owned())));
        let no_connection = written.filter(|(key, _)| key != "connectionFromEnv" && key != CONNECTION);
        // What is wrong with it, the check says of the result.
        let Ok(parsed) = Trigger::parse(&no_connection.collect()) else { return };
        let (old, new) = (parsed.built_in_metric_name(), parsed.metric_name());
        if old != new {
            let text = format!("the metric {old} is called {new} from now on");
            self.note(Severity::Note, scaled, trigger, &text);
        }
    }

    /// Finds where the connection came from, as KEDA looks for it: pod identity before a connection string, and one of the
    /// `TriggerAuthentication` before one of the environment.
    fn way(&mut self, scaled: &Scaled, trigger: &WrittenTrigger, metadata: &Node) -> Result<Way, String> {
        let text = |key: &str| metadata.text(key).map(str::trim).filter(|text| !text.is_empty());
        let has_variable = text("connectionFromEnv").is_some();
        let Some(reference) = Reference::of(trigger) else {
            return if has_variable {
                Ok(Way::Kept)
            } else {
                Err("it has neither connectionFromEnv nor authenticationRef, so it has no connection now either"
                    .to_owned())
            };
        };
        let near = scaled.namespace.as_deref().unwrap_or(self.target.namespace);
        // One that is for every namespace is one connection, whoever uses it.
        let near = (!reference.is_cluster_wide).then_some(near);
        let name = near.map_or(reference.name.to_owned(), |near| format!("{near}-{}", reference.name));
        let workload = |client_id, tenant_id, authority| Credential::WorkloadIdentity {
            client_id,
            tenant_id,
            authority,
            // By one of its names; what is wrong with another, the check says.
            cloud: text("cloud")
                .map(|cloud| Cloud::named(cloud).map_or_else(|| cloud.to_owned(), |known| known.name().to_owned())),
            endpoint_suffix: text("endpointSuffix").map(str::to_owned),
        };
        let Some(authentication) = reference.find(self.target.authentications, scaled.namespace.as_deref()) else {
            let kind = if reference.is_cluster_wide { "ClusterTriggerAuthentication" } else { "TriggerAuthentication" };
            let said = format!("{kind} {:?} is not in the files given (--authentications FILE)", reference.name);
            let (way, taken) = if has_variable {
                (Way::Kept, "connectionFromEnv is taken for the connection")
            } else if text("namespace").is_some() {
                let credential = workload(None, None, None);
                (Way::Reference { name, credential }, "metadata namespace is taken to mean pod identity")
            } else {
                let full_name = near.map_or(reference.name.to_owned(), |near| format!("{near}/{}", reference.name));
                let from = format!("The connection string that {kind} {full_name} had.");
                let credential = Credential::ConnectionString { from };
                (Way::Reference { name, credential }, "it is taken to hold a connection string")
            };
            self.note(Severity::Warning, scaled, trigger, &format!("{said}: {taken}"));
            return Ok(way);
        };
        if let Some(identity) = &authentication.pod_identity {
            if identity.provider != "azure-workload" {
                return Err(format!(
                    "pod identity {:?} is none that the built-in trigger takes; give the scaler a connection by hand",
                    identity.provider
                ));
            }
            if text("namespace").is_none() {
                return Err("pod identity needs metadata namespace, which is missing".to_owned());
            }
            let credential =
                workload(identity.identity_id.clone(), identity.tenant_id.clone(), identity.authority_host.clone());
            return Ok(Way::Reference { name, credential });
        }
        Ok(match authentication.source(CONNECTION) {
            None if has_variable => Way::Kept,
            None => return Err(format!("{:?} has neither the parameter connection nor pod identity", reference.name)),
            Some(source) => self::way_of(source, scaled, near, name),
        })
    }

    fn note(&mut self, severity: Severity, scaled: &Scaled, trigger: &WrittenTrigger, message: &str) {
        self.notes.push(Note {
            severity,
            line: trigger.node.line,
            object: scaled.to_string(),
            trigger: trigger.index,
            message: message.to_owned(),
        });
    }
}

/// `near` is the Kubernetes namespace of the `TriggerAuthentication`; a cluster-wide one has none.
fn way_of(source: &Source, scaled: &Scaled, near: Option<&str>, name: String) -> Way {
    // KEDA looks there for what a cluster-wide one names (`pkg/scaling/resolver/scale_resolvers.go`).
    let of_keda = " in KEDA's namespace (KEDA_CLUSTER_OBJECT_NAMESPACE, usually keda)";
    let named =
        |kind: &str, name: &str| near.map_or(format!("{kind} {name}{of_keda}"), |near| format!("{kind} {near}/{name}"));
    let from = match source {
        Source::Environment { name: variable, container } => {
            let looked_in = match scaled.kind {
                ScaledKind::ScaledJob => scaled.spec("envSourceContainerName"),
                ScaledKind::ScaledObject => scaled.node.at(&["spec", "scaleTargetRef", "envSourceContainerName"]),
            };
            // KEDA looks for one in the first container, whichever envSourceContainerName names; `connectionFromEnv` does not.
            if container.as_deref() == looked_in.and_then(Node::as_text).filter(|name| !name.is_empty()) {
                return Way::Variable(variable.clone());
            }
            let container =
                container.as_ref().map_or("the first container".to_owned(), |name| format!("container {name:?}"));
            format!("The connection string that {container} of {scaled} has in variable {variable}.")
        }
        Source::Secret { name, key } => format!("The content of {}, key {key}.", named("Secret", name)),
        Source::ConfigMap { name, key } => {
            let map = named("ConfigMap", name);
            format!("The content of {map}, key {key}; a Secret is the better place for it.")
        }
        Source::Elsewhere(vault) => {
            format!(
                "KEDA had it by {vault}; the scaler reads files: let the Secrets Store CSI driver or its like write one."
            )
        }
    };
    Way::Reference { name, credential: Credential::ConnectionString { from } }
}

fn address(text: &str) -> Result<String, String> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:/[]".contains(&byte);
    let has_port = text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port && text.bytes().all(is_allowed) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not HOST:PORT, such as {DEFAULT_ADDRESS}"))
    }
}

#[cfg(test)]
mod tests;
