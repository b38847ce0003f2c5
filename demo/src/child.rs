//! One child process: started in a process group of its own, its output in a log file, watched until it has ended.
//!
//! A task owns the process. It alone waits and signals, so a signal can never reach another process that got the number
//! of one already reaped. What a child is for, and what its end means, others know.

use std::ffi::OsString;
use std::fmt;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::Signal;
use process_wrap::tokio::{ChildWrapper, CommandWrap, KillOnDrop, ProcessGroup};
use tokio::sync::{mpsc, watch};

/// The variable that tells a child whose child it is; see [`crate::role`].
pub const PARENT_VARIABLE: &str = "SERVICEBUS_SCALER_DEMO_PARENT";

/// What to start.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Its name for people, its log and its ledger: `broker`, `worker-3`.
    pub name: String,
    /// The program; the demo's own.
    pub program: PathBuf,
    /// The arguments. Everybody on the machine can read them: no secrets.
    pub arguments: Vec<OsString>,
    /// Variables of the demo's own environment that it does not inherit.
    pub without_variables: Vec<OsString>,
    /// Variables added to the environment; secrets go here.
    pub variables: Vec<(&'static str, OsString)>,
    /// The file that gets its stderr, appended.
    pub log: PathBuf,
    /// Whether its stdout goes there too. A server's does not: its ready line may hold a connection string.
    pub logs_stdout: bool,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(pub ExitStatus);

impl fmt::Display for Exit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.code(), self.0.signal()) {
            (Some(code), _) => write!(formatter, "exit code {code}"),
            (None, Some(number)) => match Signal::try_from(number) {
                Ok(signal) => write!(formatter, "signal {signal}"),
                Err(_) => write!(formatter, "signal {number}"),
            },
            (None, None) => write!(formatter, "{}", self.0),
        }
    }
}

/// A started process. Dropping it kills the process; [`Child::signal`] and [`Child::ended`] are the polite way.
#[derive(Debug)]
pub struct Child {
    name: String,
    process_id: u32,
    log: PathBuf,
    signals: mpsc::UnboundedSender<Signal>,
    exit: watch::Receiver<Option<Exit>>,
}

impl Child {
    /// Starts a process. Must be called on a thread that outlives the child (the main task's does): the kernel ties the
    /// child's life to the thread that started it.
    pub fn start(recipe: Recipe) -> anyhow::Result<Self> {
        let Recipe { name, program, arguments, without_variables, variables, log, logs_stdout } = recipe;
        let output = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("open the log of {name}, {}", log.display()))?;
        let errors = output.try_clone().with_context(|| format!("open the log of {name}, {}", log.display()))?;
        let mut command = CommandWrap::with_new(&program, |command| {
            for variable in without_variables {
                command.env_remove(variable);
            }
            command
                .args(arguments)
                .env(PARENT_VARIABLE, std::process::id().to_string())
                .envs(variables)
                .stdin(Stdio::null())
                .stdout(if logs_stdout { Stdio::from(output) } else { Stdio::null() })
                .stderr(errors);
        });
        // A group of its own: Ctrl-C on the terminal reaches the demo alone, which then stops its children in order.
        command.wrap(ProcessGroup::leader()).wrap(KillOnDrop);
        let process = command.spawn().with_context(|| format!("start {name} from {}", program.display()))?;
        let process_id = process.id().with_context(|| format!("start {name}: it has no process id"))?;
        let (signals, received) = mpsc::unbounded_channel();
        let (sender, exit) = watch::channel(None);
        tokio::spawn(own(process, received, sender));
        Ok(Self { name, process_id, log, signals, exit })
    }

    /// Its name for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number; also the number of its process group.
    pub fn process_id(&self) -> u32 {
        self.process_id
    }

    /// Sends a signal to its process group. Nothing happens if it has ended.
    pub fn signal(&self, signal: Signal) {
        // The owner is gone only when the process is.
        let _ = self.signals.send(signal);
    }

    /// How it ended, if it has.
    pub fn exit(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// Waits until it has ended.
    pub async fn ended(&self) -> Exit {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.unwrap_or(Exit(ExitStatus::from_raw(0))),
            // The owner vanished without a word, which happens only when the runtime is being torn down.
            Err(_) => std::future::pending().await,
        }
    }

    /// Asks it to stop, gives it `grace`, then kills it; returns how it ended.
    pub async fn stop(&self, grace: Duration) -> Exit {
        self.signal(Signal::SIGTERM);
        if let Ok(exit) = tokio::time::timeout(grace, self.ended()).await {
            return exit;
        }
        self.signal(Signal::SIGKILL);
        self.ended().await
    }

    /// The end of its log, for an error message: at most `lines` lines, indented, empty if it said nothing.
    pub fn log_tail(&self, lines: usize) -> String {
        tail(&self.log, lines).unwrap_or_else(|error| format!("  (its log cannot be read: {error})"))
    }

    /// Its log file.
    pub fn log(&self) -> &Path {
        &self.log
    }
}

async fn own(
    mut process: Box<dyn ChildWrapper>,
    mut signals: mpsc::UnboundedReceiver<Signal>,
    exit: watch::Sender<Option<Exit>>,
) {
    loop {
        tokio::select! {
            waited = process.wait() => {
                match waited {
                    Ok(status) => _ = exit.send_replace(Some(Exit(status))),
                    Err(error) => tracing::error!(%error, "waiting for a child failed"),
                }
                return;
            }
            signal = signals.recv() => match signal {
                Some(signal) => {
                    if let Err(error) = process.signal(signal as i32) {
                        tracing::debug!(%error, "the child was not there to be signalled");
                    }
                }
                // Nobody holds the child any more: dropping `process` kills it.
                None => return,
            }
        }
    }
}

/// Bytes at the end of a log that are looked at for its last lines.
const TAIL_BYTES: u64 = 16 * 1024;

fn tail(path: &Path, lines: usize) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    let last: Vec<String> = all[all.len().saturating_sub(lines)..].iter().map(|line| format!("  {line}")).collect();
    Ok(last.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_a_log_is_its_last_lines() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), "one\ntwo\nthree\n").expect("written");
        assert_eq!(tail(file.path(), 2).expect("read"), "  two\n  three");
        assert_eq!(tail(file.path(), 9).expect("read"), "  one\n  two\n  three");
        std::fs::write(file.path(), vec![b'x'; 100_000]).expect("written");
        assert_eq!(tail(file.path(), 2).expect("read").len(), TAIL_BYTES as usize + 2, "a long line is cut");
    }

    #[test]
    fn exits_are_said_in_words() {
        assert_eq!(Exit(ExitStatus::from_raw(256)).to_string(), "exit code 1");
        assert_eq!(Exit(ExitStatus::from_raw(9)).to_string(), "signal SIGKILL");
    }
}
