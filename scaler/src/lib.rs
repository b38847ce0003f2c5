//! The gRPC external scaler: KEDA asks, Service Bus knows, a pure policy decides.
//!
//! One request, one way: `ScaledObjectRef` → [`trigger`] (raw metadata to a typed trigger; pure) → `readings` (the newest
//! shared reading, young enough, or an error; the only I/O) → `scaling` (pure policies) → `reply` (total functions).
//! `GetMetrics`, `IsActive`, `StreamIsActive` and `explain` are views of one `decisions::Judged`.
//!
//! State has three owners: `readings` the cache, `watchers` the pollers of open push streams, [`config`] the current
//! configuration. Policy arithmetic is in `crates/scaling`, Service Bus in `crates/servicebus`; neither is here.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
use tokio_util::sync::CancellationToken;

pub mod access;
mod admin_http;
pub mod administration;
mod bounded_file;
pub mod check;
pub mod config;
mod config_command;
mod connections;
mod credentials;
mod decisions;
pub mod endpoints;
pub mod entity;
mod explain;
mod explanation;
mod incoming;
mod keyed_hash;
mod known_triggers;
mod log_rate;
mod looks;
pub mod manifest;
pub mod metrics;
mod migrate;
mod readings;
mod refusal_log;
mod reply;
pub mod scaled_object;
mod secret_file;
pub mod serve;
mod service;
pub mod source;
mod streams;
mod tenants;
pub mod tls;
pub mod trigger;
mod trigger_authentication;
mod trigger_id;
mod watchers;

/// The program's name, as it stands in front of its error lines.
pub const NAME: &str = "scaler";

/// KEDA external scaler for Azure Service Bus: a drop-in for the azure-servicebus trigger that shares its reads
#[derive(Parser, Clone, Debug)]
#[command(name = NAME, version)]
pub struct Args {
    /// How it logs.
    #[command(flatten)]
    pub log: runtime::LogArgs,
    /// What it does.
    #[command(subcommand)]
    pub command: Command,
}

/// What the scaler can be asked to do.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Serve KEDA's external scaler contract over gRPC until SIGTERM
    Serve(serve::ServeArgs),
    /// Read once what a trigger counts and say what the scaler would answer for it, and why
    Explain(explain::ExplainArgs),
    /// Check `ScaledObject` and `ScaledJob` manifests before they are applied, or translate azure-servicebus triggers
    Check(check::CheckArgs),
    /// Print an example of the config file, or check one
    Config(config_command::ConfigArgs),
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// Runs one command. `serve` ends with success once `shutdown` is cancelled and what was in flight is answered.
pub async fn run(args: Args, shutdown: CancellationToken) -> anyhow::Result<ExitCode> {
    let Args { log: _, command } = args;
    match command {
        Command::Serve(args) => serve::run(args, shutdown).await,
        Command::Explain(args) => explain::run(args, shutdown).await,
        Command::Check(args) => check::run(args),
        Command::Config(args) => config_command::run(args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), NAME, &mut script);
            std::io::stdout().lock().write_all(&script).context("failed to print the script")?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
