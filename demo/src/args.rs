//! The command line. What clap cannot check is checked here, before anything is started.
//!
//! Defaults are chosen so that a run takes about a minute; where Kubernetes or KEDA have a default of their own, the help
//! names it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use clap::{Args as ClapArgs, Parser, Subcommand};
use servicebus::Adapter;
use workload::Seconds;

use crate::profile::Policy;
use crate::role::Role;

/// The demo's name, as it stands in front of its error lines.
pub const NAME: &str = "demo";

/// The whole loop in one command: messages pile up, the scaler is asked, workers go 0 → N → 0, every message is handled
///
/// Starts a local Service Bus (the broker), the scaler, a sender and workers as processes of their own on free ports, and
/// plays KEDA and the Horizontal Pod Autoscaler against the scaler's gRPC port. Ends by itself with a summary and a chart.
/// Exit code 0 means: every message handled, nothing left in the queue, replicas went 0 → more than one → 0.
#[derive(Parser, Clone, Debug)]
#[command(name = NAME, version, args_conflicts_with_subcommands = true)]
pub struct Args {
    /// Be one of the children.
    #[command(subcommand)]
    pub hidden: Option<Hidden>,
    /// The run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// What people do not call.
#[derive(Subcommand, Clone, Debug)]
pub enum Hidden {
    /// Run one of the deployed programs, as the demo's children do
    #[command(hide = true)]
    Role {
        /// Which.
        #[command(subcommand)]
        role: Role,
    },
}

/// The flags of a run.
#[derive(ClapArgs, Clone, Debug)]
#[command(next_help_heading = "Load")]
pub struct RunArgs {
    /// Messages to send
    #[arg(long, value_name = "COUNT", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub messages: u64,
    /// Messages sent per second; 0 sends as fast as possible
    #[arg(long, value_name = "RATE", default_value = "150")]
    pub send_rate: sender::Rate,
    /// Simulated work per message, in seconds; a worker handles one message at a time
    #[arg(long, value_name = "SECONDS", default_value = "0.2")]
    pub wait_time: Seconds,
    /// How long a received message stays locked, in seconds, 1 to 300 (Service Bus: 60); a killed worker's messages come
    /// back after this. Not used with --connection-string-file
    #[arg(long, value_name = "SECONDS", default_value = "5")]
    pub lock_duration: Seconds,

    /// Policy to begin with
    #[arg(long, value_name = "POLICY", default_value = "messageCount", ignore_case = true, help_heading = "Scaling")]
    pub policy: Policy,
    /// Policy to swap to when half of the messages are handled: the profile in the scaler's config file is rewritten,
    /// nothing restarts
    #[arg(long, value_name = "PROFILE", ignore_case = true, help_heading = "Scaling")]
    pub swap_to: Option<Policy>,
    /// Messages per replica, the trigger's `messageCount` (the trigger's own default: 5)
    #[arg(long, value_name = "COUNT", default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = "Scaling")]
    pub message_count: u32,
    /// Most workers at a time, KEDA's `maxReplicaCount` (default there: 100)
    #[arg(long, value_name = "COUNT", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=200), help_heading = "Scaling")]
    pub max_replicas: u32,
    /// How often KEDA asks the scaler, in seconds, its `pollingInterval` (default there: 30)
    #[arg(long, value_name = "SECONDS", default_value = "2", help_heading = "Scaling")]
    pub polling_interval: Seconds,
    /// How long after the last activity KEDA scales to zero, in seconds, its `cooldownPeriod` (default there: 300)
    #[arg(long, value_name = "SECONDS", default_value = "6", help_heading = "Scaling")]
    pub cooldown_period: Seconds,
    /// How often the HPA works, in seconds, and the period of its scaling policies (Kubernetes: 15 for both)
    #[arg(long, value_name = "SECONDS", default_value = "2", help_heading = "Scaling")]
    pub hpa_sync_period: Seconds,
    /// How long the HPA waits before it scales down, in seconds, `stabilizationWindowSeconds` (Kubernetes: 300)
    #[arg(long, value_name = "SECONDS", default_value = "4", help_heading = "Scaling")]
    pub stabilization_window: Seconds,
    /// How long a worker may take to stop before it is killed, in seconds (Kubernetes: 30)
    #[arg(long, value_name = "SECONDS", default_value = "10", help_heading = "Scaling")]
    pub termination_grace_period: Seconds,

    /// Client that sender and workers use: `ours`, or `azservicebus` where it is built in
    #[arg(long, value_name = "CLIENT", default_value_t, help_heading = "Where")]
    pub client: Adapter,
    /// File with the connection string of a real namespace to use instead of the broker; needs --queue
    #[arg(long, value_name = "FILE", requires = "queue", help_heading = "Where")]
    pub connection_string_file: Option<PathBuf>,
    /// Queue in that namespace; it must exist and be empty
    #[arg(long, value_name = "NAME", requires = "connection_string_file", help_heading = "Where")]
    pub queue: Option<String>,
    /// Folder for chart, summary, timeline, ledgers and the children's logs
    #[arg(long, value_name = "FOLDER", default_value = "out/demo", help_heading = "Where")]
    pub out: PathBuf,

    /// Print plain lines even where stdout is a terminal
    #[arg(long, help_heading = "Output")]
    pub plain: bool,
    /// Log filter of the children, whose logs are in the --out folder
    #[arg(long, value_name = "FILTER", env = "LOG_LEVEL", default_value = "info", help_heading = "Output")]
    pub log_level: String,
    /// Give up after this many seconds [default: two minutes and four times what the work should take]
    #[arg(long, value_name = "SECONDS", help_heading = "Output")]
    pub deadline: Option<Seconds>,
}

impl RunArgs {
    /// Checks what depends on more than one flag, or on the build.
    pub fn check(&self) -> anyhow::Result<()> {
        let at_least = |flag: &str, value: Seconds, least: Duration| {
            if value.0 < least {
                bail!("{flag} {value}: must be at least {} seconds", least.as_secs_f64());
            }
            Ok(())
        };
        at_least("--polling-interval", self.polling_interval, Duration::from_millis(100))?;
        at_least("--hpa-sync-period", self.hpa_sync_period, Duration::from_millis(100))?;
        at_least("--lock-duration", self.lock_duration, Duration::from_secs(1))?;
        if self.lock_duration.0 > Duration::from_mins(5) {
            bail!("--lock-duration {}: must be at most 300 seconds", self.lock_duration);
        }
        if !self.client.is_built() {
            bail!(
                "--client {client}: this build has no such client; run it with `cargo run --release --bin demo --features \
                 {client} -- --client {client}`",
                client = self.client
            );
        }
        if self.swap_to == Some(self.policy) {
            bail!("--swap-to {}: this is the policy to begin with; name another, or another --policy", self.policy);
        }
        if self.deadline.is_some_and(|deadline| deadline.0.is_zero()) {
            bail!("--deadline 0: must be more than 0 seconds");
        }
        Ok(())
    }

    /// When a run that has not ended is stuck. Generous: a slow machine must not fail, only a run that stands still.
    pub fn overall_deadline(&self) -> Duration {
        if let Some(Seconds(deadline)) = self.deadline {
            return deadline;
        }
        let one = self.wait_time.0.as_secs_f64();
        let most = f64::from(self.max_replicas);
        // With every worker busy; then, as the queue gets shorter, with fewer and fewer of them: each replica's share
        // of `message_count` takes one replica's time, and the count falls exponentially from `most` replicas to one.
        // `weighted` halves the replicas, hence the factor in front.
        let busy = self.messages as f64 * one / most;
        let ebb = f64::from(self.message_count) * one * (most.ln() + 1.0);
        let sending = if self.send_rate.0 > 0.0 { self.messages as f64 / self.send_rate.0 } else { 0.0 };
        let pauses = self.polling_interval.0
            + self.hpa_sync_period.0
            + self.cooldown_period.0
            + self.stabilization_window.0
            + self.lock_duration.0;
        let seconds = 4.0 * (2.0 * (busy + ebb) + sending + pauses.as_secs_f64());
        Duration::from_mins(2) + Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_hours(24))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn parse(flags: &[&str]) -> anyhow::Result<RunArgs> {
        let args = Args::try_parse_from(std::iter::once(&NAME).chain(flags))?;
        args.run.check()?;
        Ok(args.run)
    }

    fn refusal(flags: &[&str]) -> String {
        format!("{:#}", parse(flags).expect_err("must be refused"))
    }

    #[test]
    fn the_command_line_is_well_formed_and_its_defaults_pass() {
        Args::command().debug_assert();
        let args = parse(&[]).expect("defaults");
        assert!(args.overall_deadline() > Duration::from_mins(2));
        assert!(args.overall_deadline() < Duration::from_mins(15), "{:?}", args.overall_deadline());
    }

    #[test]
    fn help_shows_no_roles() {
        let help = Args::command().render_long_help().to_string();
        assert!(!help.to_lowercase().contains("role "), "{help}");
        assert!(help.contains("--swap-to") && help.contains("Kubernetes: 300"));
    }

    #[test]
    fn wrong_flags_are_named_with_their_value_and_what_is_allowed() {
        for (flags, wanted) in [
            (&["--messages", "0"][..], "--messages"),
            (&["--policy", "gold"], "messageCount"),
            (&["--polling-interval", "0"], "--polling-interval 0: must be at least 0.1 seconds"),
            (&["--lock-duration", "301"], "--lock-duration 301: must be at most 300 seconds"),
            (&["--swap-to", "messageCount"], "--swap-to messageCount: this is the policy to begin with"),
            (&["--wait-time", "soon"], "--wait-time"),
            (&["--client", "other"], "allowed: ours, azservicebus"),
            (&["--queue", "orders"], "--connection-string-file"),
            (&["--connection-string-file", "x"], "--queue"),
        ] {
            let error = refusal(flags);
            assert!(error.contains(wanted), "{flags:?}: {error}");
        }
    }

    #[cfg(not(feature = "azservicebus"))]
    #[test]
    fn a_client_that_is_not_built_says_how_to_build_it() {
        let error = refusal(&["--client", "azservicebus"]);
        assert!(error.contains("--client azservicebus") && error.contains("--features azservicebus"), "{error}");
    }
}
