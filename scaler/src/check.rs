//! `scaler check`: what the scaler, KEDA and Kubernetes would say to the `ScaledObject`s and `ScaledJob`s of some files,
//! said before they are applied.
//!
//! Asks nobody: the metadata goes through the server's own parser, profiles and connections through its own config file.
//! `--migrate` is `migrate`'s.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::bounded_file;
use crate::config::Config;
use crate::manifest::{self, Node};
use crate::migrate::{self, MigrateOptions};
use crate::scaled_object::{DEFAULT_NAMESPACE, Scaled};
use crate::trigger_authentication::Authentication;

mod environment;
mod finding;
mod object;
mod trigger;

pub use finding::{Finding, Severity};

/// KEDA's type of the trigger that this scaler replaces.
pub(crate) const BUILT_IN: &str = "azure-servicebus";
/// Stands for standard input among the files.
const STANDARD_INPUT: &str = "-";

/// The flags of `scaler check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// Manifests (YAML) with `ScaledObject`s or `ScaledJob`s; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The scaler's config file: then policyProfile, connectionRef and freshness are checked against it too
    #[arg(long, env = "SCALER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Kubernetes namespace of objects that name none
    #[arg(short, long, default_value = DEFAULT_NAMESPACE, value_name = "NAME")]
    pub namespace: String,
    /// Take warnings for errors
    #[arg(long)]
    pub strict: bool,
    /// How to print it
    #[arg(long, default_value = "text", value_name = "FORMAT")]
    pub output: CheckOutput,
    /// Print the one FILE with its built-in azure-servicebus triggers translated, everything else as it is; what the
    /// operator of the scaler must add to its config file goes to standard error
    #[arg(long, conflicts_with = "output")]
    pub migrate: bool,
    /// What else --migrate is told.
    #[command(flatten, next_help_heading = "With --migrate")]
    pub migration: MigrateOptions,
}

/// How findings are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CheckOutput {
    /// For people.
    Text,
    /// One JSON array with an object for each finding.
    Json,
}

/// Runs `scaler check`.
pub fn run(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let CheckArgs { files, config, namespace, strict, output, migrate, migration } = args;
    let config = config.as_deref().map(Config::read).transpose()?;
    if migrate {
        let [file] = &files[..] else { bail!("--migrate takes one FILE, and there are {}", files.len()) };
        return migrate::run(file, config.as_ref(), &namespace, strict, migration);
    }
    let mut findings = Vec::new();
    let mut read = Vec::new();
    for file in &files {
        match read_text(file).and_then(|text| objects(&text)) {
            Ok(objects) => read.push((file.as_path(), objects)),
            Err(error) => findings.push(unreadable(file, &error)),
        }
    }
    let checked = check(&read, config.as_ref(), &namespace);
    findings.extend(checked.findings);
    let mut text = match output {
        CheckOutput::Text => String::new(),
        CheckOutput::Json => {
            let all = Value::Array(findings.iter().map(Finding::json).collect());
            serde_json::to_string_pretty(&all).context("failed to encode the findings")? + "\n"
        }
    };
    if output == CheckOutput::Text {
        for finding in &findings {
            writeln!(text, "{finding}").context("failed to format a finding")?;
        }
        writeln!(text, "{}", summary(checked.triggers, &findings)).context("failed to format the summary")?;
    }
    std::io::stdout().lock().write_all(text.as_bytes()).context("failed to print the findings")?;
    Ok(exit_code(&findings, strict))
}

/// What came out of a check.
#[derive(Debug, Default)]
pub struct Checked {
    /// What there is to say, in the order of the files.
    pub findings: Vec<Finding>,
    /// How many triggers of ours there are.
    pub triggers: usize,
}

/// What the rules know beside the object at hand.
struct Context<'a> {
    config: Option<&'a Config>,
    /// Of objects that name none.
    namespace: &'a str,
    authentications: &'a [Authentication],
    objects: &'a [Node],
}

/// What the rules about a whole object need of its triggers.
struct Seen {
    index: usize,
    line: usize,
    name: Option<String>,
    is_push: bool,
    /// What it counts, in words that are equal when that is; none when it cannot be told.
    counts: Option<String>,
    activation: u64,
    cache_ttl_seconds: Option<i64>,
}

/// Collects what is said about one object.
struct Reporter<'a> {
    file: &'a Path,
    object: String,
    trigger: Option<usize>,
    findings: &'a mut Vec<Finding>,
}

impl Reporter<'_> {
    fn say(&mut self, severity: Severity, line: Option<usize>, message: &str) {
        self.findings.push(Finding {
            severity,
            file: self.file.to_owned(),
            line,
            object: Some(self.object.clone()),
            trigger: self.trigger,
            message: message.to_owned(),
        });
    }

    /// The same, about one of the triggers.
    fn about(&mut self, trigger: usize) -> Reporter<'_> {
        Reporter { file: self.file, object: self.object.clone(), trigger: Some(trigger), findings: self.findings }
    }
}

/// Checks the objects of some files, which may refer to each other. `namespace` is that of objects that name none.
pub fn check(files: &[(&Path, Vec<Node>)], config: Option<&Config>, namespace: &str) -> Checked {
    let objects: Vec<Node> = files.iter().flat_map(|(_, objects)| objects.iter().cloned()).collect();
    let authentications: Vec<_> = objects.iter().filter_map(Authentication::of).collect();
    let context = Context { config, namespace, authentications: &authentications, objects: &objects };
    let mut checked = Checked::default();
    for (file, objects) in files {
        for scaled in objects.iter().cloned().filter_map(Scaled::of) {
            check_object(file, &scaled, &context, &mut checked);
        }
    }
    checked
}

fn check_object(file: &Path, scaled: &Scaled, context: &Context<'_>, checked: &mut Checked) {
    let mut report = Reporter { file, object: scaled.to_string(), trigger: None, findings: &mut checked.findings };
    let mut ours = Vec::new();
    if scaled.triggers.is_empty() {
        let line = scaled.spec("triggers").map_or(scaled.node.line, |triggers| triggers.line);
        report.say(Severity::Error, Some(line), "spec.triggers must be a list of at least one trigger");
    }
    for written in &scaled.triggers {
        let mut report = report.about(written.index);
        match written.kind.as_str() {
            _ if written.is_ours() => ours.push(trigger::check(scaled, written, context, &mut report)),
            _ if written.is_external() => trigger::not_ours(&mut report, written),
            BUILT_IN => trigger::built_in(&mut report, written),
            "" => report.say(Severity::Error, Some(written.node.line), "the trigger has no type"),
            _ => {}
        }
    }
    if !ours.is_empty() {
        object::check(scaled, &ours, context, &mut report);
    }
    checked.triggers += ours.len();
}

/// The text of a file, or of standard input.
pub(crate) fn read_text(file: &Path) -> anyhow::Result<String> {
    if file == Path::new(STANDARD_INPUT) {
        // One byte more than can be read, so that what is too large is refused rather than cut.
        let most = manifest::MAX_BYTES as u64 + 1;
        std::io::read_to_string(std::io::stdin().lock().take(most)).context("failed to read standard input")
    } else {
        let bytes = bounded_file::read(file, manifest::MAX_BYTES).context("failed to read it")?;
        String::from_utf8(bytes).context("it is not UTF-8")
    }
}

/// The Kubernetes objects of a text.
pub(crate) fn objects(text: &str) -> anyhow::Result<Vec<Node>> {
    Ok(manifest::objects(manifest::read(text)?))
}

fn unreadable(file: &Path, error: &anyhow::Error) -> Finding {
    let line = error.downcast_ref::<manifest::SyntaxError>().map(|error| error.line);
    let message = match error.downcast_ref::<manifest::SyntaxError>() {
        Some(error) => format!("it is not YAML of Kubernetes: {}", error.problem),
        None => format!("{error:#}"),
    };
    Finding { severity: Severity::Error, file: file.to_owned(), line, object: None, trigger: None, message }
}

/// The last line for people: how much there was, and how it is.
fn summary(triggers: usize, findings: &[Finding]) -> String {
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let several = |count: usize, what: &str| match count {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    };
    format!(
        "{} of this scaler's: {}, {}",
        several(triggers, "trigger"),
        several(count(Severity::Error), "error"),
        several(count(Severity::Warning), "warning")
    )
}

/// Success, unless there are errors; with `strict`, unless there are warnings.
pub(crate) fn exit_code(findings: &[Finding], strict: bool) -> ExitCode {
    let worst = if strict { Severity::Warning } else { Severity::Error };
    if findings.iter().any(|finding| finding.severity >= worst) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

#[cfg(test)]
mod tests;
