//! What the tests share: a demo under test, its family of processes as `/proc` shows it, and waiting for a state.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// Longer than any of these runs takes, on a machine that is busy with other tests.
pub(crate) const DEADLINE: Duration = Duration::from_secs(150);
const LOOK: Duration = Duration::from_millis(20);

/// Everything short: a run takes a few seconds, of which one worker alone would need more than ten.
const SHORT: [&str; 11] = [
    "--messages=120",
    "--send-rate=0",
    "--wait-time=0.1",
    "--message-count=10",
    "--max-replicas=4",
    "--polling-interval=0.3",
    "--hpa-sync-period=0.3",
    "--cooldown-period=0.6",
    "--stabilization-window=0.3",
    "--lock-duration=2",
    "--deadline=120",
];

/// A running demo. Dropping it kills it, and its children die with it.
pub(crate) struct Demo {
    process: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    out: PathBuf,
    /// Handed on when it has ended, so that its files can be read for as long as somebody may.
    folder: Option<TempDir>,
}

/// A demo that has ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    out: PathBuf,
    _folder: Option<TempDir>,
}

impl Demo {
    /// Starts a short run; a flag given here goes before the same flag of [`SHORT`].
    pub(crate) fn start(flags: &[&str]) -> Self {
        let name = |flag: &str| flag.split('=').next().unwrap_or_default().to_owned();
        let is_given = |default: &&str| flags.iter().any(|flag| name(flag) == name(default));
        let defaults = SHORT.into_iter().filter(|default| !is_given(default));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let out = folder.path().join("out");
        let (stdout, stderr) = (folder.path().join("stdout"), folder.path().join("stderr"));
        let process = Command::new(env!("CARGO_BIN_EXE_demo"))
            .args(defaults)
            .args(flags)
            .args((!flags.iter().any(|flag| name(flag) == "--out")).then(|| format!("--out={}", out.display())))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(fs::File::create(&stdout).expect("a file"))
            .stderr(fs::File::create(&stderr).expect("a file"))
            .spawn()
            .expect("the demo starts");
        Self { process, stdout, stderr, out, folder: Some(folder) }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send(self.process.id(), signal);
    }

    /// What it has printed so far.
    pub(crate) fn stdout(&self) -> String {
        fs::read_to_string(&self.stdout).expect("its stdout")
    }

    /// Whether a worker has reached the queue.
    pub(crate) fn has_ready_worker(&self) -> bool {
        self.out.join("ready/worker-1.json").exists()
    }

    /// Ids in the workers' ledgers so far, repeated ones counted again.
    pub(crate) fn handled(&self) -> usize {
        let Ok(files) = fs::read_dir(self.out.join("ledgers")) else { return 0 };
        let is_worker = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().contains("worker"));
        files
            .filter_map(|file| Some(file.ok()?.path()))
            .filter(is_worker)
            .map(|path| fs::read_to_string(path).unwrap_or_default().lines().count())
            .sum()
    }

    /// Its children in this role: process ids.
    pub(crate) fn children(&self, role: &str) -> Vec<u32> {
        let family = family_of(self.process.id());
        family.into_iter().filter(|member| member.role == role).map(|member| member.process_id).collect()
    }

    /// Waits until something is true of it; fails with its output if it ends before that, or after the deadline.
    pub(crate) fn wait_until(&mut self, what: &str, is_true: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !is_true(self) {
            let ended = self.process.try_wait().expect("its state");
            assert!(ended.is_none(), "it ended ({ended:?}) before {what}:\n{}", self.stdout());
            assert!(began.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}:\n{}", self.stdout());
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until it has ended.
    pub(crate) fn end(mut self) -> Ended {
        let process = &mut self.process;
        let status = wait_for(DEADLINE, || process.try_wait().expect("its state"));
        let Some(status) = status else { panic!("it has not ended within {DEADLINE:?}:\n{}", self.stdout()) };
        let read = |path: &Path| fs::read_to_string(path).expect("its output");
        let (stdout, stderr) = (read(&self.stdout), read(&self.stderr));
        Ended { status, stdout, stderr, out: self.out.clone(), _folder: self.folder.take() }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Already ended in the good case; then there is nothing to kill.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Ended {
    /// A file of its `--out` folder.
    pub(crate) fn file(&self, name: &str) -> String {
        let path = self.out.join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// All files below its `--out` folder that hold this text.
    pub(crate) fn files_with(&self, text: &str) -> Vec<PathBuf> {
        let (mut found, mut folders) = (Vec::new(), vec![self.out.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else if String::from_utf8_lossy(&fs::read(&path).expect("a file")).contains(text) {
                    found.push(path);
                }
            }
        }
        found
    }

    /// Its summary, as a program reads it.
    pub(crate) fn summary(&self) -> Value {
        serde_json::from_str(&self.file("summary.json")).expect("JSON")
    }

    /// Fails, with all it printed, unless it ended with exit code 0 and every one of `messages` was handled.
    pub(crate) fn assert_nothing_lost(&self, messages: u64) -> Value {
        assert!(self.status.success(), "{}\n{}\n{}", self.status, self.stdout, self.stderr);
        let summary = self.summary();
        for (key, wanted) in [("sent", messages), ("handled", messages), ("lost", 0)] {
            assert_eq!(summary[key], wanted, "{key} in {summary}");
        }
        for kind in ["active", "locked", "deadLetter"] {
            assert_eq!(summary["held"][kind], 0, "{kind} in {summary}");
        }
        assert_eq!(summary["ok"], true, "{summary}");
        summary
    }
}

/// A process that was started by another.
#[derive(Debug)]
struct Member {
    process_id: u32,
    role: String,
}

/// The living children of a process that play a role, zombies left out.
fn family_of(parent: u32) -> Vec<Member> {
    let processes = fs::read_dir("/proc").expect("/proc");
    let ids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    ids.filter_map(|process_id| {
        // A process may end between the listing and the reading.
        let (state, its_parent) = state_and_parent(process_id)?;
        let role = role(process_id)?;
        (its_parent == parent && state != "Z").then_some(Member { process_id, role })
    })
    .collect()
}

/// Fields 3 and 4 of `/proc/PID/stat`; the name before them stands in parentheses and may hold anything.
fn state_and_parent(process_id: u32) -> Option<(String, u32)> {
    let stat = fs::read_to_string(format!("/proc/{process_id}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

/// What stands behind `role` on the command line of a demo's child.
fn role(process_id: u32) -> Option<String> {
    let line = fs::read(format!("/proc/{process_id}/cmdline")).ok()?;
    let words: Vec<String> =
        line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let at = words.iter().position(|word| word == "role")?;
    words.get(at + 1).cloned()
}

/// Whether this process still runs as a child in some role.
pub(crate) fn is_alive(process_id: u32) -> bool {
    role(process_id).is_some() && state_and_parent(process_id).is_some_and(|(state, _)| state != "Z")
}

pub(crate) fn send(process_id: u32, signal: Signal) {
    kill(Pid::from_raw(process_id.try_into().expect("a process id")), signal).expect("it is there to be signalled");
}

/// Looks again and again until there is something, at most for so long.
pub(crate) fn wait_for<T>(at_most: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if began.elapsed() > at_most {
            return None;
        }
        std::thread::sleep(LOOK);
    }
}
