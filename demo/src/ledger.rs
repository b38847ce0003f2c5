//! Reading ledgers while they grow: the ids that the sender confirmed, and those that workers handled.
//!
//! A worker may be killed in the middle of a line; what stands behind the last line break is kept for the next look and
//! never counted. Each file is read once, from where the last look ended.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// A ledger without a line break in this many bytes is none.
const MAX_LINE_BYTES: usize = 1024;

/// One ledger file, followed while it grows.
#[derive(Debug)]
pub struct LedgerReader {
    path: PathBuf,
    offset: u64,
    /// The beginning of a line whose end is not there yet.
    unfinished: Vec<u8>,
}

impl LedgerReader {
    /// Follows this file from its beginning. It need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), offset: 0, unfinished: Vec::new() }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The ids that were added since the last look.
    pub fn read_new(&mut self) -> anyhow::Result<Vec<u64>> {
        let wrong = || format!("read ledger {}", self.path.display());
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(wrong),
        };
        file.seek(SeekFrom::Start(self.offset)).with_context(wrong)?;
        let mut bytes = std::mem::take(&mut self.unfinished);
        self.offset += file.read_to_end(&mut bytes).with_context(wrong)? as u64;
        let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |index| index + 1);
        self.unfinished = bytes.split_off(end);
        if self.unfinished.len() > MAX_LINE_BYTES {
            bail!(
                "ledger {} holds a line of more than {MAX_LINE_BYTES} bytes; expected one id a line",
                self.path.display()
            );
        }
        let text = std::str::from_utf8(&bytes).with_context(wrong)?;
        text.lines()
            .map(|line| {
                line.parse()
                    .with_context(|| format!("ledger {} holds {line:?}; expected one id a line", self.path.display()))
            })
            .collect()
    }
}

/// What the ledgers say so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    confirmed: BTreeSet<u64>,
    /// How often each id was handled.
    handled: BTreeMap<u64, u64>,
    /// How many ids are confirmed and not handled; kept, because it is asked for ten times a second.
    missing: u64,
}

impl Audit {
    /// The sender's ledger names these.
    pub fn confirm(&mut self, ids: impl IntoIterator<Item = u64>) {
        for id in ids {
            if self.confirmed.insert(id) && !self.handled.contains_key(&id) {
                self.missing += 1;
            }
        }
    }

    /// A worker's ledger names these.
    pub fn handle(&mut self, ids: impl IntoIterator<Item = u64>) {
        for id in ids {
            let times = self.handled.entry(id).or_default();
            *times += 1;
            if *times == 1 && self.confirmed.contains(&id) {
                self.missing -= 1;
            }
        }
    }

    /// Ids whose sending the broker confirmed.
    pub fn confirmed(&self) -> u64 {
        self.confirmed.len() as u64
    }

    /// Different ids that were handled.
    pub fn handled(&self) -> u64 {
        self.handled.len() as u64
    }

    /// Times that an id was handled again: at-least-once allows it, and kills of workers cause it.
    pub fn duplicates(&self) -> u64 {
        self.handled.values().map(|times| times - 1).sum()
    }

    /// How many ids were confirmed and not handled (yet).
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// The ids that were confirmed and not handled.
    pub fn lost(&self) -> impl Iterator<Item = u64> {
        self.confirmed.iter().filter(|id| !self.handled.contains_key(id)).copied()
    }

    /// Ids that were handled and never confirmed: another sender's, or a confirmation that did not arrive.
    pub fn unconfirmed(&self) -> u64 {
        self.handled.keys().filter(|id| !self.confirmed.contains(id)).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn append(path: &Path, text: &str) {
        let mut file = File::options().append(true).create(true).open(path).expect("opened");
        file.write_all(text.as_bytes()).expect("written");
    }

    #[test]
    fn a_growing_ledger_is_read_once_and_a_torn_line_is_not_counted() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("worker-1");
        let mut reader = LedgerReader::new(&path);
        assert!(reader.read_new().expect("no file yet").is_empty());
        append(&path, "1\n22\n33");
        assert_eq!(reader.read_new().expect("read"), [1, 22]);
        assert!(reader.read_new().expect("read").is_empty(), "33 may be the beginning of a longer id");
        append(&path, "4\n5\n6");
        assert_eq!(reader.read_new().expect("read"), [334, 5]);
        assert!(reader.read_new().expect("read").is_empty(), "a torn last line stays uncounted");
    }

    #[test]
    fn a_file_that_is_no_ledger_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("worker-1");
        append(&path, "1\nhello\n");
        let error = LedgerReader::new(&path).read_new().expect_err("not an id").to_string();
        assert!(error.contains("worker-1") && error.contains("\"hello\""), "{error}");
        let path = folder.path().join("worker-2");
        append(&path, &"1".repeat(MAX_LINE_BYTES + 1));
        let error = LedgerReader::new(&path).read_new().expect_err("endless line").to_string();
        assert!(error.contains("worker-2"), "{error}");
    }

    #[test]
    fn the_audit_compares_confirmed_with_handled() {
        let mut audit = Audit::default();
        audit.confirm([1, 2, 3, 4]);
        audit.handle([1, 2]);
        audit.handle([2, 2, 9]);
        assert_eq!((audit.confirmed(), audit.handled(), audit.duplicates(), audit.unconfirmed()), (4, 3, 2, 1));
        assert_eq!((audit.lost().collect::<Vec<_>>(), audit.missing()), (vec![3, 4], 2));
        audit.handle([3, 4, 10]);
        audit.confirm([9, 10, 10, 3]);
        assert_eq!((audit.lost().count(), audit.missing()), (0, 0), "in whatever order the ledgers are read");
    }
}
