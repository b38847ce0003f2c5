//! A file of ids, one a line, by which a run is audited: the sender's confirmed ids against the workers' handled ones.
//!
//! Lines are appended, each call with one write, so several processes may share a file and a `kill -9` leaves whole lines.
//! Nothing is synced to disk: a ledger outlives its process, not its machine.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// A ledger open for appending.
#[derive(Debug)]
pub struct Ledger {
    file: File,
    path: PathBuf,
}

/// A ledger cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// It cannot be opened for appending.
    #[error("failed to open ledger {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An entry was not written.
    #[error("failed to append to ledger {}", path.display())]
    Append {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be read.
    #[error("failed to read ledger {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is not an id.
    #[error("line {line} of ledger {} is no id; expected a whole number from 0 to 2^64-1", path.display())]
    BadLine {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
}

impl Ledger {
    /// Opens a ledger, making the file if it is not there. What it holds stays.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        match OpenOptions::new().append(true).create(true).open(path) {
            Ok(file) => Ok(Self { file, path: path.to_owned() }),
            Err(source) => Err(LedgerError::Open { path: path.to_owned(), source }),
        }
    }

    /// Appends ids, all with one write. It goes to the page cache and takes microseconds, so async code may call it.
    pub fn append(&self, ids: impl IntoIterator<Item = u64>) -> Result<(), LedgerError> {
        let mut lines = String::new();
        for id in ids {
            let _ = writeln!(lines, "{id}"); // writing to a String cannot fail
        }
        let written = (&self.file)
            .write(lines.as_bytes())
            .and_then(|written| if written == lines.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) });
        written.map_err(|source| LedgerError::Append { path: self.path.clone(), source })
    }

    /// Reads all ids of a ledger, in the order in which they were written. A file that is not there is an error.
    pub fn read(path: &Path) -> Result<Vec<u64>, LedgerError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| LedgerError::Read { path: path.to_owned(), source })?;
        let parse = |(index, line): (usize, &str)| {
            line.parse().map_err(|_| LedgerError::BadLine { path: path.to_owned(), line: index + 1 })
        };
        text.lines().enumerate().map(parse).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_kept_in_order_over_openings() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("ledger");
        Ledger::open(&path).and_then(|ledger| ledger.append([3, 1])).expect("appended");
        Ledger::open(&path).and_then(|ledger| ledger.append([u64::MAX])).expect("appended");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "3\n1\n18446744073709551615\n");
        assert_eq!(Ledger::read(&path).expect("read"), [3, 1, u64::MAX]);
    }

    #[test]
    fn writers_side_by_side_leave_whole_lines() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("ledger");
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let path = &path;
                scope.spawn(move || {
                    let ledger = Ledger::open(path).expect("opened");
                    for entry in 0..200 {
                        ledger.append([writer * 1_000 + entry]).expect("appended");
                    }
                });
            }
        });
        let mut ids = Ledger::read(&path).expect("whole lines");
        ids.sort_unstable();
        let expected: Vec<u64> = (0..4).flat_map(|writer| (0..200).map(move |entry| writer * 1_000 + entry)).collect();
        assert_eq!(ids, expected);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let missing = folder.path().join("no/such/folder");
        let error = Ledger::open(&missing).expect_err("no folder");
        assert_eq!(error.to_string(), format!("failed to open ledger {}", missing.display()));
        let path = folder.path().join("ledger");
        std::fs::write(&path, "1\nx\n").expect("written");
        let error = Ledger::read(&path).expect_err("a bad line");
        assert!(error.to_string().starts_with("line 2 of ledger "), "{error}");
    }
}
