//! A program as a real child process, killed when the test ends.
//!
//! All that it says is collected for the test, and kept in a folder where `.ci/run` names one: a secret must not be in it, of a
//! test that passes either.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::{DEADLINE, LOOK_AGAIN, within};

/// Names the folder in which what programs say is kept.
const KEPT_IN: &str = "TESTBENCH_OUTPUT";

/// A running program, with what it has written so far.
pub struct Program {
    child: Child,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

/// A program that has come to its end.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// All that it wrote to stdout.
    pub stdout: String,
    /// All that it wrote to stderr.
    pub stderr: String,
}

impl Program {
    /// Starts a program. Of this process's environment it gets nothing, so that a developer's settings do no harm.
    pub fn start(program: impl AsRef<Path>, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_kept(program.as_ref(), arguments, environment, folder().as_deref())
    }

    fn start_kept(program: &Path, arguments: &[&str], environment: &[(&str, &str)], folder: Option<&Path>) -> Self {
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let (stdout, stderr) = (Arc::default(), Arc::default());
        let id = child.id().expect("it was not waited for");
        let file = |stream| folder.map(|folder| kept(folder, program, id, stream));
        let readers = vec![
            collect(child.stdout.take().expect("piped"), Arc::clone(&stdout), file("stdout")),
            collect(child.stderr.take().expect("piped"), Arc::clone(&stderr), file("stderr")),
        ];
        Self { child, stdout, stderr, readers }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id().expect("it was not waited for")
    }

    /// What it has written to stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().expect("no panic before").clone()
    }

    /// Waits until stderr holds a text so many times.
    pub async fn until_said(&self, text: &str, times: usize) {
        let said = async {
            while self.stderr().matches(text).count() < times {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        let in_time = tokio::time::timeout(DEADLINE, said).await.is_ok();
        assert!(in_time, "{text:?} was not said {times} times, but:\n{}", self.stderr());
    }

    /// Asks it to stop.
    pub fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// Stops it as a crash would.
    pub fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.id().expect("it still runs");
        kill(Pid::from_raw(i32::try_from(pid).expect("a process id")), signal).expect("it is ours");
    }

    /// Waits until it has ended.
    pub async fn ended(mut self) -> Ended {
        let waited = tokio::time::timeout(DEADLINE, self.child.wait()).await;
        let waited =
            waited.unwrap_or_else(|_| panic!("it did not end within {DEADLINE:?}, but said:\n{}", self.stderr()));
        let status = waited.expect("it can be waited for");
        for reader in self.readers {
            within("read the rest of the output", reader).await.expect("no panic");
        }
        let text = |output: &Mutex<String>| output.lock().expect("no panic before").clone();
        Ended { status, stdout: text(&self.stdout), stderr: text(&self.stderr) }
    }
}

/// Keeps what a program said that a test has run by itself, as a [`Program`]'s is kept.
pub fn keep(program: impl AsRef<Path>, output: &Output) {
    let Some(folder) = folder() else { return };
    for (stream, text) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
        kept(&folder, program.as_ref(), std::process::id(), stream).write_all(text).expect("the folder is writable");
    }
}

fn folder() -> Option<PathBuf> {
    std::env::var_os(KEPT_IN).map(PathBuf::from)
}

/// A file for one stream of one process. Process ids come again, so it may have been another's before.
fn kept(folder: &Path, program: &Path, id: u32, stream: &str) -> File {
    let name = program.file_name().expect("a program").to_string_lossy();
    let path = folder.join(format!("{name}-{id}.{stream}"));
    File::options().create(true).append(true).open(path).expect("the folder is there, and writable")
}

fn collect(
    mut pipe: impl AsyncRead + Unpin + Send + 'static,
    output: Arc<Mutex<String>>,
    mut file: Option<File>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut chunk = [0; 4096];
        while let Ok(read @ 1..) = pipe.read(&mut chunk).await {
            if let Some(file) = &mut file {
                file.write_all(&chunk[..read]).expect("the folder is writable");
            }
            output.lock().expect("no panic before").push_str(&String::from_utf8_lossy(&chunk[..read]));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `.ci/run` searches for secrets. This one is planted, where nobody else looks.
    #[tokio::test]
    async fn what_a_program_says_is_kept() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let say = "echo PLANTED-$0; echo PLANTED-error >&2";
        let program = Program::start_kept(Path::new("/bin/sh"), &["-c", say, "output"], &[], Some(folder.path()));
        let id = program.id();
        let ended = program.ended().await;
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("PLANTED-output\n", "PLANTED-error\n"));
        let kept = |stream: &str| std::fs::read_to_string(folder.path().join(format!("sh-{id}.{stream}")));
        assert_eq!(kept("stdout").expect("kept"), ended.stdout);
        assert_eq!(kept("stderr").expect("kept"), ended.stderr);
    }
}
