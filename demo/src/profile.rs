//! The scaler's config file as the demo writes it: one profile that the `ScaledObject` names, and what may stand in it.
//!
//! Swapping a policy is rewriting this file, whole and in one step; the scaler notices, and nothing restarts.

use std::path::Path;

use anyhow::Context as _;
use clap::ValueEnum;
use serde::Serialize;

/// The profile that the `ScaledObject`'s metadata names; its content is what is swapped.
pub const PROFILE: &str = "demo";

/// What the profile may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum Policy {
    /// One replica for every --message-count messages in the queue
    #[value(name = "messageCount")]
    MessageCount,
    /// Active messages count half, scheduled ones a fifth: about half as many replicas
    #[value(name = "weighted")]
    Weighted,
}

impl Policy {
    /// Its name in the registry of policies.
    pub fn name(self) -> &'static str {
        match self {
            Self::MessageCount => "messageCount",
            Self::Weighted => "weighted",
        }
    }

    /// The lines of the profile.
    fn settings(self) -> &'static str {
        match self {
            Self::MessageCount => "    policy: messageCount\n",
            // Half, so that the change is plain to see. Not a recommendation: with `active` below 1 a queue is worked off
            // by fewer replicas than messageCount promises.
            Self::Weighted => {
                "    policy: weighted\n    weights: \"active=0.5,scheduled=0.2,deadLetter=0,transfer=0\"\n"
            }
        }
    }

    /// The whole config file. Readings are kept for one second instead of five: the demo polls that much faster.
    fn config(self) -> String {
        format!(
            "# Written by the demo; the scaler rereads it when it changes.\n\
             cacheTtlSeconds: 1\n\
             profiles:\n  {PROFILE}:\n{}",
            self.settings()
        )
    }

    /// Puts this policy into the profile: a reader sees the file before or the file after, never half of it.
    pub fn write(self, config: &Path) -> anyhow::Result<()> {
        let wrong = || format!("write the scaler's config file {}", config.display());
        let temporary = config.with_extension("yaml.new");
        std::fs::write(&temporary, self.config()).with_context(wrong)?;
        std::fs::rename(&temporary, config).with_context(wrong)
    }
}

impl std::fmt::Display for Policy {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scaler_accepts_every_profile_that_the_demo_writes() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("scaler.yaml");
        for policy in Policy::value_variants() {
            policy.write(&path).expect("written");
            let config = scaler::config::Config::read(&path).expect("the scaler's own reader accepts it");
            assert_eq!(config.profiles[PROFILE].policy, policy.name());
            assert_eq!(policy.to_possible_value().expect("has a name").get_name(), policy.name());
        }
    }
}
