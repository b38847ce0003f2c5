//! Logs go to stderr, so that stdout carries only what a program promises to print there (the ready line, a report).

use std::io::IsTerminal as _;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

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
}

impl LogArgs {
    /// Installs the process's log subscriber. A second call in one process keeps the first subscriber.
    pub fn install(&self) -> anyhow::Result<()> {
        let filter = EnvFilter::try_new(&self.log_level).map_err(|error| {
            anyhow::anyhow!(
                "--log-level {:?} is not a filter such as `info` or `scaler=debug,warn`: {error}",
                self.log_level
            )
        })?;
        let colours = std::io::stderr().is_terminal();
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
        let installed = match self.log_format {
            LogFormat::Text => builder.try_init(),
            LogFormat::Json => builder.json().try_init(),
        };
        if installed.is_err() {
            tracing::debug!("logs were set up before; the first set-up stays");
        }
        Ok(())
    }
}
