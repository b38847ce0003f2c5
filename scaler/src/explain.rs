//! `scaler explain`: reads what a trigger counts, once, and says what the scaler would answer KEDA, and why.
//!
//! The same trigger, readings, decision and replies as `serve`, so that what it says is what KEDA would get. The
//! connection string comes from a file or the environment, never from the command line, where other users could see it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::{ArgGroup, Args, ValueEnum};
use secrecy::zeroize::Zeroizing;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::administration::AdministrationSource;
use crate::bounded_file;
use crate::check;
use crate::config::{Config, ConfigHandle};
use crate::connections::Connections;
use crate::decisions::{Decisions, Judged};
use crate::endpoints::EndpointArgs;
use crate::entity::{Operation, Target};
use crate::explanation::View;
use crate::metrics::Metrics;
use crate::readings::{Matched, Readings};
use crate::reply;
use crate::scaled_object::{DEFAULT_NAMESPACE, ExternalTrigger, external_triggers, resolve_environment};
use crate::serve::Timings;
use crate::source::LockSettings;
use crate::trigger::{Connection, ConnectionProblem, PolicyChoice, Trigger};

const QUEUE_NAME: &str = "queueName";
const TOPIC_NAME: &str = "topicName";
const SUBSCRIPTION_NAME: &str = "subscriptionName";
const CONNECTION_REF: &str = "connectionRef";
const CONNECTION_FROM_ENV: &str = "connectionFromEnv";
/// Where the connection string is looked for when nothing says otherwise; the worker's and sender's name for it.
const DEFAULT_VARIABLE: &str = "SERVICEBUS_CONNECTION_STR";
/// The largest file with a connection string that is read, in bytes.
const MAX_SECRET_BYTES: usize = 64 * 1024;

/// The flags of `scaler explain`.
#[derive(Args, Clone, Debug)]
#[command(group(ArgGroup::new("trigger").args(["scaled_object", "queue", "topic", "metadata"]).required(true).multiple(true)))]
pub struct ExplainArgs {
    /// Manifest (YAML) of a `ScaledObject` or `ScaledJob` whose triggers for this scaler to explain; `-` is standard input;
    /// its `…FromEnv` keys name variables of this process
    #[arg(long, value_name = "FILE", conflicts_with_all = ["queue", "topic", "metadata"])]
    pub scaled_object: Option<PathBuf>,
    /// Queue to explain; short for --metadata queueName=NAME
    #[arg(long, value_name = "NAME")]
    pub queue: Option<String>,
    /// Topic of the subscription to explain; short for --metadata topicName=NAME
    #[arg(long, value_name = "NAME", requires = "subscription", conflicts_with = "queue")]
    pub topic: Option<String>,
    /// Subscription to explain; short for --metadata subscriptionName=NAME
    #[arg(long, value_name = "NAME", requires = "topic")]
    pub subscription: Option<String>,
    /// Connection of the config file to read by; short for --metadata connectionRef=NAME
    #[arg(long, value_name = "NAME", requires = "config", conflicts_with_all = ["scaled_object", "connection_string_file"])]
    pub connection_ref: Option<String>,
    /// Kubernetes namespace of the trigger, which a connection of the config file must allow; a manifest that names one
    /// keeps its own
    #[arg(short, long, default_value = DEFAULT_NAMESPACE, value_name = "NAME")]
    pub namespace: String,
    /// Trigger metadata; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub metadata: Vec<(String, String)>,
    /// File with the connection string; else it is taken from the variable that metadata connectionFromEnv names, else
    /// from `SERVICEBUS_CONNECTION_STR`
    #[arg(long, value_name = "FILE")]
    pub connection_string_file: Option<PathBuf>,
    /// The scaler's config file, for metadata connectionRef and policyProfile
    #[arg(long, env = "SCALER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where credentials may go.
    #[command(flatten)]
    pub endpoints: EndpointArgs,
    /// How to print it
    #[arg(long, default_value = "text", value_name = "FORMAT")]
    pub output: Output,
}

/// How an explanation is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// One JSON array with an object for each trigger.
    Json,
}

/// Runs `scaler explain`.
pub(crate) async fn run(args: ExplainArgs, shutdown: CancellationToken) -> anyhow::Result<ExitCode> {
    let ExplainArgs {
        scaled_object,
        queue,
        topic,
        subscription,
        connection_ref,
        namespace,
        metadata,
        connection_string_file,
        config,
        endpoints,
        output,
    } = args;
    let connection = connection_string_file.as_deref().map(secret_from).transpose()?;
    let triggers = if let Some(path) = scaled_object {
        let triggers = check::read_text(&path).and_then(|text| Ok(external_triggers(&text, &namespace, variable)?));
        triggers.with_context(|| format!("--scaled-object {}", path.display()))?
    } else {
        let short = [
            (QUEUE_NAME, queue),
            (TOPIC_NAME, topic),
            (SUBSCRIPTION_NAME, subscription),
            (CONNECTION_REF, connection_ref),
        ];
        let short = short.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        vec![from_flags(metadata.into_iter().chain(short), namespace)?]
    };
    let config = ConfigHandle::new(config.as_deref().map(Config::read).transpose()?.unwrap_or_default());
    let source = Arc::new(AdministrationSource::new());
    let readings = Readings::new(source, config.clone(), Metrics::new(), Timings::default().refresh_deadline);
    // Whoever runs this is on this host.
    let connections = Connections::new(endpoints.allowed(true), config.clone());
    connections.load().await;
    let decisions = Decisions::new(readings, config, connections);
    let (mut explanations, mut failures) = (Vec::new(), Vec::new());
    for external in triggers {
        let place = place(&external);
        let connection = connection.as_deref().map(String::as_str);
        tokio::select! {
            explained = explanation(external, connection, &decisions) => match explained.context(place) {
                Ok(explanation) => explanations.push(explanation),
                Err(failure) => failures.push(failure),
            },
            () = shutdown.cancelled() => {
                failures.push(anyhow!("stopped before there was an answer"));
                break;
            }
        }
    }
    // What is known is said, whatever the other triggers lack.
    if !explanations.is_empty() {
        let text = match output {
            Output::Text => explanations.iter().map(Explanation::text).collect::<Vec<_>>().join("\n"),
            Output::Json => {
                let all: Vec<_> = explanations.iter().map(Explanation::json).collect();
                serde_json::to_string_pretty(&all).context("failed to encode the explanation")? + "\n"
            }
        };
        std::io::stdout().lock().write_all(text.as_bytes()).context("failed to print the explanation")?;
    }
    let last = failures.pop();
    for failure in failures {
        writeln!(std::io::stderr().lock(), "{}: {failure:#}", crate::NAME).context("failed to print a failure")?;
    }
    last.map_or(Ok(ExitCode::SUCCESS), Err)
}

/// Reads and decides for one trigger; `connection` is the connection string to read by, if one was given.
async fn explanation(
    mut external: ExternalTrigger,
    connection: Option<&str>,
    decisions: &Decisions,
) -> anyhow::Result<Explanation> {
    if let Some(text) = connection {
        if external.metadata.contains_key(CONNECTION_REF) {
            bail!("it reads by connectionRef, for which --connection-string-file is no answer; leave it out");
        }
        external.metadata.insert(CONNECTION_FROM_ENV.to_owned(), text.to_owned());
    }
    let trigger = Trigger::parse(&external.metadata)?;
    if matches!(trigger.connection, Connection::FromEnvironment(Err(ConnectionProblem::Unresolved))) {
        bail!(
            "no connection string: set the environment variable that connectionFromEnv names (without that key, \
             {DEFAULT_VARIABLE}), or give --connection-string-file"
        );
    }
    let host = decisions.query(&external.namespace, &trigger)?.access.host().to_owned();
    let judged = decisions.judge(&external.namespace, &trigger).await?;
    Ok(Explanation { external, trigger, host, judged })
}

/// Which trigger it is about, for texts.
fn place(external: &ExternalTrigger) -> String {
    let ExternalTrigger { name, namespace, index, metadata: _ } = external;
    if name.is_empty() { "trigger by flags".to_owned() } else { format!("{namespace}/{name}, trigger {index}") }
}

fn from_flags(metadata: impl Iterator<Item = (String, String)>, namespace: String) -> anyhow::Result<ExternalTrigger> {
    let mut all = HashMap::new();
    for (key, value) in metadata {
        if all.insert(key.clone(), value).is_some() {
            bail!("metadata {key} is given twice");
        }
    }
    if !all.contains_key(CONNECTION_REF) {
        all.entry(CONNECTION_FROM_ENV.to_owned()).or_insert_with(|| DEFAULT_VARIABLE.to_owned());
    }
    let metadata = resolve_environment(all, variable);
    Ok(ExternalTrigger { name: String::new(), namespace, index: 0, metadata })
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE, such as messageCount=5".to_owned()),
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Not by [`crate::secret_file`]: whoever calls this may give a pipe.
fn secret_from(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let place = || format!("failed to read --connection-string-file {}", path.display());
    // Room for all of it at once: a pipe does not say how much there is.
    let mut content = Zeroizing::new(Vec::with_capacity(MAX_SECRET_BYTES + 1));
    bounded_file::read_into(path, MAX_SECRET_BYTES, &mut content).with_context(place)?;
    let text = std::str::from_utf8(&content).with_context(place)?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

/// One trigger, what is known of what it counts, and what the scaler makes of it.
struct Explanation {
    external: ExternalTrigger,
    trigger: Trigger,
    /// The namespace's host.
    host: String,
    judged: Judged,
}

/// For machines.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExplanationText<'a> {
    namespace: &'a str,
    name: &'a str,
    trigger_index: usize,
    host: &'a str,
    policy: String,
    #[serde(flatten)]
    view: View,
}

impl Explanation {
    fn policy(&self) -> String {
        match &self.trigger.policy {
            PolicyChoice::Profile(profile) => format!("profile {profile}"),
            PolicyChoice::Inline { policy, settings } => {
                let settings = settings.iter().map(|(key, value)| format!(", {key}: {value}"));
                format!("{policy}{}", settings.collect::<String>())
            }
        }
    }

    fn json(&self) -> impl Serialize {
        let Self { external, trigger, host, judged } = self;
        ExplanationText {
            namespace: &external.namespace,
            name: &external.name,
            trigger_index: external.index,
            host,
            policy: self.policy(),
            view: View::of(trigger, judged, Duration::ZERO),
        }
    }

    fn text(&self) -> String {
        let Self { external, trigger, host, judged } = self;
        let reading = judged.seen.newest();
        let counts = &reading.counts;
        let decision = &judged.decision;
        let value = reply::metrics(trigger, decision).metric_values[0].metric_value_float;
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            writeln!(text, "{name:<10} {value}").expect("writing to a String does not fail");
        };
        line("trigger", place(external));
        line("target", format!("{} on {host}", trigger.target));
        if let (Some(matched), Target::Matching(matching)) = (judged.seen.matched, &trigger.target) {
            let how = match matching.operation {
                Operation::Sum => "summed",
                Operation::Max => "the largest taken",
                Operation::Average => "averaged",
            };
            let Matched { counted, disabled } = matched;
            line("matched", format!("{counted}, {how}; {disabled} more are disabled and left out"));
        }
        line(
            "reading",
            format!(
                "active {}, scheduled {}, dead-letter {}, transfer {}, transfer dead-letter {}; status {:?}{}; {:.1} s old",
                counts.active,
                counts.scheduled,
                counts.dead_letter,
                counts.transfer,
                counts.transfer_dead_letter,
                reading.status,
                if reading.requires_session { ", sessions" } else { "" },
                judged.seen.age.as_secs_f64(),
            ),
        );
        if let Some(LockSettings { duration, max_delivery_count }) = judged.seen.locks {
            let seconds = duration.as_secs_f64();
            line("locks", format!("{seconds} s, dead-lettered after {max_delivery_count} deliveries"));
        }
        line("policy", self.policy());
        line("why", decision.why.clone());
        line("replicas", format!("{} wanted, before the HPA's rounding, limits and behaviour", decision.replicas));
        line(
            "metric",
            format!("{} = {value}, target {} per replica", trigger.metric_name(), trigger.base.message_count()),
        );
        line("active", decision.active.to_string());
        for warning in &trigger.warnings {
            line("warning", warning.to_string());
        }
        text
    }
}
