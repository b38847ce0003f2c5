//! Logs go to stderr, so that stdout carries only what a program promises to print there (the ready line, a report).
//!
//! Owns the process's one log filter, which can be changed while running, but only for our own crates: other people's
//! may write what they were given, secrets included, at their finer levels.

use std::io::IsTerminal as _;
use std::str::FromStr as _;
use std::sync::{Mutex, OnceLock, PoisonError};

use clap::{Args, ValueEnum};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, reload};

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// The flags about logs that every binary has.
#[derive(Args, Clone, Debug)]
pub struct LogArgs {
    /// Log filter, in the syntax of tracing's `EnvFilter` (`info`, `scaler=debug,warn`)
    #[arg(long, env = "LOG_LEVEL", default_value = "info", global = true, value_name = "FILTER")]
    pub log_level: String,
    /// Format of the log lines on stderr
    #[arg(long, env = "LOG_FORMAT", default_value = "text", global = true, value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// OTLP collector (gRPC, http://) that traces are sent to; how many, `OTEL_TRACES_SAMPLER` says
    #[cfg(feature = "otlp")]
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", global = true, value_name = "URL")]
    pub otlp_endpoint: Option<String>,
}

/// What must live for as long as the process logs.
#[derive(Default)]
pub(crate) struct Installed {
    #[cfg(feature = "otlp")]
    _traces: Option<crate::traces::Traces>,
}

impl LogArgs {
    /// No logs at all, for a program whose terminal is for something else.
    pub fn off() -> Self {
        Self {
            log_level: "off".to_owned(),
            log_format: LogFormat::Text,
            #[cfg(feature = "otlp")]
            otlp_endpoint: None,
        }
    }

    /// Installs the process's log subscriber, for the program of this name. A second call in one process keeps the first
    /// subscriber. Needs to be called within a tokio runtime.
    #[cfg_attr(not(feature = "otlp"), expect(unused_variables, reason = "only traces carry the program's name"))]
    pub(crate) fn install(&self, name: &'static str) -> anyhow::Result<Installed> {
        let filter = EnvFilter::try_new(&self.log_level).map_err(|error| {
            anyhow::anyhow!(
                "--log-level {:?} is not a filter such as `info` or `scaler=debug,warn`: {error}",
                self.log_level
            )
        })?;
        let (filter, handle) = reload::Layer::new(filter);
        let colours = std::io::stderr().is_terminal();
        let lines = tracing_subscriber::fmt::layer().with_ansi(colours).with_writer(std::io::stderr);
        let lines = match self.log_format {
            LogFormat::Text => lines.boxed(),
            LogFormat::Json => lines.json().boxed(),
        };
        let subscriber = tracing_subscriber::registry().with(filter).with(lines);
        #[cfg(feature = "otlp")]
        let traces =
            self.otlp_endpoint.as_deref().map(|endpoint| crate::traces::Traces::to(endpoint, name)).transpose()?;
        #[cfg(feature = "otlp")]
        let subscriber = subscriber.with(traces.as_ref().map(crate::traces::Traces::layer));
        if subscriber.try_init().is_err() {
            tracing::debug!("logs were set up before; the first set-up stays");
            return Ok(Installed::default());
        }
        let started_with = self.log_level.clone();
        let in_force = Mutex::new(started_with.clone());
        FILTER.get_or_init(|| Filter { handle, started_with, in_force });
        Ok(Installed {
            #[cfg(feature = "otlp")]
            _traces: traces,
        })
    }
}

static FILTER: OnceLock<Filter> = OnceLock::new();

struct Filter {
    handle: reload::Handle<EnvFilter, Registry>,
    started_with: String,
    in_force: Mutex<String>,
}

/// Why the log filter stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogLevelError {
    /// A part of it is neither a level nor one of our crates with a level.
    #[error(
        "{part:?} is neither a level (off, error, warn, info, debug, trace) nor CRATE=LEVEL or CRATE::MODULE=LEVEL with one \
         of our own crates ({own}); the level of other crates is not changed while running"
    )]
    Part {
        /// The part, as given, cut when long.
        part: String,
        /// The crates that may be named.
        own: String,
    },
    /// The process's logs were not set up by this crate's `main`.
    #[error("this process's logs were set up elsewhere")]
    NotInstalled,
    /// tracing does not take it.
    #[error("{0}")]
    Filter(String),
}

/// The log filter in force, as it was written; nothing if this process's logs were set up elsewhere.
pub fn log_level() -> Option<String> {
    FILTER.get().map(|filter| filter.in_force.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

/// Changes the levels of `own` crates, on top of what the process started with: a level for all of them, or a list such as
/// `info,scaler::readings=debug`. Says what is in force then.
pub fn change_log_level(wanted: &str, own: &[&str]) -> Result<String, LogLevelError> {
    let changes = own_directives(wanted, own)?;
    let filter = FILTER.get().ok_or(LogLevelError::NotInstalled)?;
    filter.apply(format!("{},{changes}", filter.started_with))
}

/// Back to what the process started with. Says what is in force then.
pub fn reset_log_level() -> Result<String, LogLevelError> {
    let filter = FILTER.get().ok_or(LogLevelError::NotInstalled)?;
    filter.apply(filter.started_with.clone())
}

impl Filter {
    fn apply(&self, text: String) -> Result<String, LogLevelError> {
        let filter = EnvFilter::try_new(&text).map_err(|error| LogLevelError::Filter(error.to_string()))?;
        // One after the other, so that what is said to be in force is.
        let mut in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        self.handle.reload(filter).map_err(|error| LogLevelError::Filter(error.to_string()))?;
        in_force.clone_from(&text);
        Ok(text)
    }
}

/// The directives for tracing: a bare level is spelled out for each of our crates.
fn own_directives(wanted: &str, own: &[&str]) -> Result<String, LogLevelError> {
    let mut directives = Vec::new();
    for part in wanted.split(',').map(str::trim) {
        let refused = || LogLevelError::Part { part: part.chars().take(64).collect(), own: own.join(", ") };
        let (target, level) = part.split_once('=').map_or((None, part), |(target, level)| (Some(target), level));
        // A number would be a level, too, for tracing.
        let is_level = !level.is_empty() && level.bytes().all(|byte| byte.is_ascii_alphabetic());
        if !is_level || LevelFilter::from_str(level).is_err() {
            return Err(refused());
        }
        match target {
            None => directives.extend(own.iter().map(|name| format!("{name}={level}"))),
            Some(target) => {
                let is_path = target.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':'));
                let name = target.split("::").next().unwrap_or_default();
                if !is_path || !own.contains(&name) {
                    return Err(refused());
                }
                directives.push(part.to_owned());
            }
        }
    }
    Ok(directives.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: [&str; 2] = ["scaler", "servicebus"];

    #[test]
    fn a_bare_level_is_for_our_crates_and_others_cannot_be_named() {
        assert_eq!(own_directives("debug", &OWN).as_deref(), Ok("scaler=debug,servicebus=debug"));
        let mixed = own_directives("info, scaler::readings=TRACE", &OWN);
        assert_eq!(mixed.as_deref(), Ok("scaler=info,servicebus=info,scaler::readings=TRACE"));
        for refused in [
            "",
            "debug,",
            "loud",
            "5",
            "h2=trace",
            "h2",
            "scaler",
            "scaler=",
            "=debug",
            "scalers=debug",
            "scaler::x,hyper=trace",
            "[call]=trace",
            "scaler[call{name=x}]=trace",
            "hyper::scaler=trace",
            "scaler=debug=trace",
        ] {
            let error = own_directives(refused, &OWN).expect_err(refused).to_string();
            assert!(error.contains("scaler, servicebus"), "{refused}: {error}");
        }
    }
}
