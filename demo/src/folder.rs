//! The folder a run writes to: which files are where, claimed by one run at a time, cleared of an earlier run's files.
//!
//! Only names that this file lists are ever removed, and only in a folder that carries our mark: `--out` may name any
//! folder by mistake. The mark is also the lock that keeps two runs out of one folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// Says that a folder belongs to the demo; its lock says that a demo is running there.
const MARK: &str = ".servicebus-scaler-demo";

/// A claimed folder. Dropping it lets the next run in; the files stay.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the folder if there is none, claims it and removes what an earlier run left.
    pub fn claim(path: &Path) -> anyhow::Result<Self> {
        let wrong = || format!("use --out {}", path.display());
        if path.exists() && !path.join(MARK).exists() && !is_empty(path).with_context(wrong)? {
            bail!(
                "--out {}: the folder holds files that no demo wrote; name an empty folder or one that does not exist",
                path.display()
            );
        }
        std::fs::create_dir_all(path).with_context(wrong)?;
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).open(path.join(MARK)).with_context(wrong)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("--out {}: another demo is writing to this folder; name another one", path.display())
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(wrong),
        }
        // Absolute, because children and the summary name the files too.
        let path = path.canonicalize().with_context(wrong)?;
        let folder = Self { path, _lock: lock };
        folder.clear().with_context(wrong)?;
        Ok(folder)
    }

    fn clear(&self) -> std::io::Result<()> {
        for folder in [self.logs(), self.ledgers(), self.ready_files()] {
            if folder.exists() {
                std::fs::remove_dir_all(&folder)?;
            }
            std::fs::create_dir(&folder)?;
        }
        for file in [self.chart(), self.summary(), self.timeline(), self.scaler_config()] {
            if file.exists() {
                std::fs::remove_file(&file)?;
            }
        }
        Ok(())
    }

    /// The folder itself, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Holds one log file for each child process.
    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// What this child writes on stdout and stderr.
    pub fn log(&self, child: &str) -> PathBuf {
        self.logs().join(format!("{child}.log"))
    }

    /// Holds the ledgers.
    pub fn ledgers(&self) -> PathBuf {
        self.path.join("ledgers")
    }

    /// The ids that this child answers for.
    pub fn ledger(&self, child: &str) -> PathBuf {
        self.ledgers().join(child)
    }

    fn ready_files(&self) -> PathBuf {
        self.path.join("ready")
    }

    /// Where this child says that it serves, and on which port.
    pub fn ready_file(&self, child: &str) -> PathBuf {
        self.ready_files().join(format!("{child}.json"))
    }

    /// The scaler's config file, with the policy profiles.
    pub fn scaler_config(&self) -> PathBuf {
        self.path.join("scaler.yaml")
    }

    /// The chart.
    pub fn chart(&self) -> PathBuf {
        self.path.join("chart.svg")
    }

    /// The summary, for programs.
    pub fn summary(&self) -> PathBuf {
        self.path.join("summary.json")
    }

    /// What happened when, one line an event: the lines that are printed where stdout is no terminal.
    pub fn timeline(&self) -> PathBuf {
        self.path.join("timeline.log")
    }
}

fn is_empty(path: &Path) -> std::io::Result<bool> {
    Ok(std::fs::read_dir(path)?.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_claimed_by_one_run_at_a_time_and_cleared_for_the_next() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let path = parent.path().join("new/out");
        let first = Folder::claim(&path).expect("claimed");
        std::fs::write(first.log("worker-1"), "old").expect("written");
        std::fs::write(first.chart(), "old").expect("written");
        std::fs::write(first.path().join("notes.txt"), "mine").expect("written");
        let error = Folder::claim(&path).expect_err("taken").to_string();
        assert!(error.contains("another demo"), "{error}");
        drop(first);
        let second = Folder::claim(&path).expect("free again");
        assert!(!second.log("worker-1").exists() && !second.chart().exists() && second.logs().is_dir());
        assert!(second.path().join("notes.txt").exists(), "only the demo's own files are removed");
    }

    #[test]
    fn a_folder_with_other_peoples_files_is_left_alone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("logs")).expect("made");
        let error = Folder::claim(folder.path()).expect_err("not ours").to_string();
        assert!(error.contains("no demo wrote") && error.contains("--out"), "{error}");
        assert!(folder.path().join("logs").exists());
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let error = format!("{:#}", Folder::claim(file.path()).expect_err("a file"));
        assert!(error.contains("--out") && error.contains(&file.path().display().to_string()), "{error}");
    }
}
