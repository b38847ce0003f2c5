//! A program as a real child process, killed when the test ends.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::{DEADLINE, LOOK_AGAIN, within};

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
        let mut child = Command::new(program.as_ref())
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
        let readers = vec![
            collect(child.stdout.take().expect("piped"), Arc::clone(&stdout)),
            collect(child.stderr.take().expect("piped"), Arc::clone(&stderr)),
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

fn collect(mut pipe: impl AsyncRead + Unpin + Send + 'static, output: Arc<Mutex<String>>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut chunk = [0; 4096];
        while let Ok(read @ 1..) = pipe.read(&mut chunk).await {
            output.lock().expect("no panic before").push_str(&String::from_utf8_lossy(&chunk[..read]));
        }
    })
}
