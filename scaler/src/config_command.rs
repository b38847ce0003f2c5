//! `scaler config`: an example of the config file, and a check of one before the scaler gets it.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{ArgGroup, Args};

use crate::config::{Config, EXAMPLE};

/// The flags of `scaler config`.
#[derive(Args, Clone, Debug)]
#[command(group(ArgGroup::new("what").args(["example", "check"]).required(true)))]
pub struct ConfigArgs {
    /// Print a config file with every key, its default and what it means
    #[arg(long)]
    pub example: bool,
    /// Check a config file as `scaler serve --config` would; secret files that it names are not read
    #[arg(long, value_name = "FILE")]
    pub check: Option<PathBuf>,
}

/// Runs `scaler config`.
pub(crate) fn run(args: ConfigArgs) -> anyhow::Result<ExitCode> {
    let ConfigArgs { example: _, check } = args;
    let text = match check {
        None => EXAMPLE.to_owned(),
        Some(file) => {
            let config = Config::read(&file)?;
            let (connections, profiles) = (config.connections.len(), config.profiles.len());
            format!("{} can be used: connections {connections}, profiles {profiles}\n", file.display())
        }
    };
    std::io::stdout().lock().write_all(text.as_bytes()).context("failed to print")?;
    Ok(ExitCode::SUCCESS)
}
