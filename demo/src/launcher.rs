//! How the demo starts its children: the demo's own program in a role, with a log, a clean environment and a ready file.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Command, Subcommand as _};
use runtime::Ready;

use crate::child::{Child, Recipe};
use crate::folder::Folder;
use crate::role::Role;

/// How long a server may take until it serves. They take well under a second; a loaded machine may need more.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// How often a ready file is looked for.
const LOOK: Duration = Duration::from_millis(10);
/// Lines of a log that an error message repeats.
pub const TAIL_LINES: usize = 12;

/// Starts children. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Launcher {
    program: PathBuf,
    folder: Arc<Folder>,
    log_level: String,
    /// What children do not inherit.
    configuration_variables: Vec<OsString>,
}

impl Launcher {
    /// Children write to this folder and log at this level.
    pub fn new(folder: Arc<Folder>, log_level: &str) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("find the demo's own program")?;
        let configuration_variables = configuration_variables();
        Ok(Self { program, folder, log_level: log_level.to_owned(), configuration_variables })
    }

    /// The folder of the run.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Starts a child. Must be called from the main task; see [`Child::start`].
    pub fn start(
        &self,
        name: &str,
        role: &str,
        arguments: impl IntoIterator<Item = OsString>,
        variables: impl IntoIterator<Item = (&'static str, OsString)>,
    ) -> anyhow::Result<Child> {
        Child::start(self.recipe(name, role, arguments, variables))
    }

    fn recipe(
        &self,
        name: &str,
        role: &str,
        arguments: impl IntoIterator<Item = OsString>,
        variables: impl IntoIterator<Item = (&'static str, OsString)>,
    ) -> Recipe {
        let log_level = ("LOG_LEVEL", OsString::from(&self.log_level));
        Recipe {
            name: name.to_owned(),
            program: self.program(),
            arguments: ["role", role].into_iter().map(OsString::from).chain(arguments).collect(),
            without_variables: self.configuration_variables.clone(),
            variables: variables.into_iter().chain([log_level]).collect(),
            log: self.folder.log(name),
            logs_stdout: true,
        }
    }

    /// Starts a child that says when it serves, and waits until it does.
    pub async fn start_server(
        &self,
        name: &str,
        arguments: impl IntoIterator<Item = OsString>,
    ) -> anyhow::Result<(Child, Ready)> {
        let file = self.folder.ready_file(name);
        let ready = [OsString::from("--ready-file"), file.clone().into()];
        let recipe = self.recipe(name, name, arguments.into_iter().chain(ready), []);
        let child = Child::start(Recipe { logs_stdout: false, ..recipe })?;
        let appears = async {
            loop {
                match std::fs::read_to_string(&file) {
                    Ok(text) => return serde_json::from_str(&text).with_context(|| format!("read {}", file.display())),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => tokio::time::sleep(LOOK).await,
                    Err(error) => return Err(error).with_context(|| format!("read {}", file.display())),
                }
            }
        };
        let deadline = tokio::time::sleep(START_DEADLINE);
        tokio::select! {
            ready = appears => {
                // It may hold a connection string, and has served its purpose.
                std::fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))?;
                Ok((child, ready?))
            }
            exit = child.ended() => bail!(
                "{name} ended before it served ({exit}); the end of its log, {}:\n{}",
                child.log().display(),
                child.log_tail(TAIL_LINES)
            ),
            () = deadline => bail!(
                "{name} did not serve within {} s; the end of its log, {}:\n{}",
                START_DEADLINE.as_secs(),
                child.log().display(),
                child.log_tail(TAIL_LINES)
            ),
        }
    }

    /// The demo's program. Where its file was replaced meanwhile (by a build, say), Linux still has the one that runs.
    fn program(&self) -> PathBuf {
        if cfg!(target_os = "linux") && !self.program.exists() {
            PathBuf::from("/proc/self/exe")
        } else {
            self.program.clone()
        }
    }
}

/// The variables that stand for flags of the programs. People configure the programs by them when they run them themselves; a
/// run must not depend on what happens to be set in the shell it is started from.
fn configuration_variables() -> Vec<OsString> {
    fn collect(command: &Command, variables: &mut Vec<OsString>) {
        variables.extend(command.get_arguments().filter_map(|flag| flag.get_env()).map(OsString::from));
        for inner in command.get_subcommands() {
            collect(inner, variables);
        }
    }
    let mut variables = Vec::new();
    collect(&Role::augment_subcommands(Command::new("role")), &mut variables);
    variables.sort_unstable();
    variables.dedup();
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_inherit_no_variable_that_a_program_of_theirs_reads() {
        let found = configuration_variables();
        for of_each_role in [
            "BROKER_SHARED_ACCESS_KEY",
            "SCALER_TLS_CERT",
            "NR_MESSAGES",
            "SERVICEBUS_TOPIC_NAME",
            "EXIT_WHEN_IDLE",
            "LOG_FORMAT",
        ] {
            assert!(found.iter().any(|name| name == of_each_role), "{of_each_role} is not in {found:?}");
        }
    }
}
