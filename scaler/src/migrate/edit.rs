//! Edits of a YAML text by what stands where, so that comments, order, quoting and indentation of all the rest stay.
//!
//! Collected first and applied together, since each one moves what comes after it.

use std::ops::Range;

use crate::manifest::{Content, Entry, Node};

/// Changes to one text, none applied yet.
pub(super) struct Edits<'a> {
    text: &'a str,
    changes: Vec<(Range<usize>, String)>,
}

impl<'a> Edits<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, changes: Vec::new() }
    }

    /// Writes a text in place of a node.
    pub(super) fn replace(&mut self, node: &Node, text: &str) {
        self.changes.push((node.span.clone(), text.to_owned()));
    }

    /// Writes another part of a mapping in place of one.
    pub(super) fn replace_entry(&mut self, entry: &Entry, key: &str, value: &str) {
        self.changes.push((entry.key_span.start..end(entry), format!("{key}: {value}")));
    }

    /// Writes a part in front of a mapping's others. Of an empty mapping only one in braces can take one.
    pub(super) fn insert_first(&mut self, map: &Node, key: &str, value: &str) -> Result<(), &'static str> {
        let Content::Map { entries, is_flow } = &*map.content else { return Err("it is no mapping") };
        let part = format!("{key}: {value}");
        let (at, part) = match (entries.first(), is_flow) {
            (Some(first), true) => (first.key_span.start, format!("{part}, ")),
            (Some(first), false) => {
                let indentation = self.before_in_line(first.key_span.start);
                if !indentation.trim().is_empty() {
                    return Err("its first key does not begin a line");
                }
                let line = first.key_span.start - indentation.len();
                (line, format!("{indentation}{part}{}", self.line_break()))
            }
            (None, true) => (map.span.start + 1, part),
            (None, false) => return Err("it is empty"),
        };
        self.changes.push((at..at, part));
        Ok(())
    }

    /// Takes parts out of a mapping, with the lines they fill where they fill lines. All that are to go at once: what is cut
    /// beside one depends on which of its neighbours stay.
    pub(super) fn remove(&mut self, map: &Node, keys: &[&str]) {
        let Content::Map { entries, is_flow } = &*map.content else { return };
        let goes = |entry: &Entry| keys.contains(&entry.key.as_str()) && !entry.is_merged;
        for (place, entry) in entries.iter().enumerate().filter(|(_, entry)| goes(entry)) {
            let (before, after) = (&entries[..place], entries.get(place + 1).filter(|after| !after.is_merged));
            let begins_line = self.before_in_line(entry.key_span.start).trim().is_empty();
            let range = match (before.last(), after) {
                _ if !is_flow && begins_line => {
                    let start = self.text[..entry.key_span.start].rfind('\n').map_or(0, |at| at + 1);
                    start..self.after_line(end(entry))
                }
                // Behind a part that stays, the comma before goes too. No range reaches into another.
                (Some(previous), _) if *is_flow && !before.iter().all(goes) => end(previous)..end(entry),
                // The part after it takes its place, behind the dash or the brace.
                (_, Some(after)) => entry.key_span.start..after.key_span.start,
                _ => entry.key_span.start..end(entry),
            };
            self.changes.push((range, String::new()));
        }
    }

    /// The text with all changes.
    pub(super) fn applied(mut self) -> String {
        // What is put in comes before what is changed there; the sort is stable.
        self.changes.sort_by_key(|(range, _)| (range.start, range.end));
        let mut text = String::with_capacity(self.text.len() + 256);
        let mut done = 0;
        for (range, new) in self.changes {
            // A change within what was taken out already is none.
            if range.start < done {
                continue;
            }
            text.push_str(&self.text[done..range.start]);
            text.push_str(&new);
            done = range.end;
        }
        text.push_str(&self.text[done..]);
        text
    }

    fn before_in_line(&self, at: usize) -> &'a str {
        let before = &self.text[..at];
        &before[before.rfind('\n').map_or(0, |at| at + 1)..]
    }

    /// Where the line after the one that holds the last character before `at` begins.
    fn after_line(&self, at: usize) -> usize {
        if self.text[..at].ends_with('\n') {
            return at;
        }
        self.text[at..].find('\n').map_or(self.text.len(), |length| at + length + 1)
    }

    fn line_break(&self) -> &'static str {
        if self.text.contains("\r\n") { "\r\n" } else { "\n" }
    }
}

/// Where a part ends; nothing that stands for a value ends with its key's colon.
fn end(entry: &Entry) -> usize {
    if entry.value.span.is_empty() { entry.key_span.end + 1 } else { entry.value.span.end }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest;

    fn edited(text: &str, edit: impl FnOnce(&mut Edits<'_>, &Node)) -> String {
        let document = manifest::read(text).expect("good YAML").swap_remove(0);
        let mut edits = Edits::new(text);
        edit(&mut edits, document.get("a").expect("a"));
        edits.applied()
    }

    #[test]
    fn parts_are_taken_out_with_the_lines_they_fill() {
        let without = |text: &str, key: &str| edited(text, |edits, node| edits.remove(node, &[key]));
        assert_eq!(without("a:\n  b: 1 # one\n  # two\n  c: 2\nd: 3\n", "b"), "a:\n  # two\n  c: 2\nd: 3\n");
        assert_eq!(without("a:\n  b: 1\n  c:\n    d: 2 # x\n\n# end\n", "c"), "a:\n  b: 1\n\n# end\n");
        assert_eq!(without("a: {b: 1, c: {d: 2}, e: 3}\n", "c"), "a: {b: 1, e: 3}\n");
        assert_eq!(without("a: {b: 1, c: 2}\n", "b"), "a: {c: 2}\n");
        assert_eq!(without("a: {b: 1}\n", "b"), "a: {}\n");
        assert_eq!(without("a:\r\n  b:\r\n  c: 2\r\n", "b"), "a:\r\n  c: 2\r\n");
        assert_eq!(without("a: {b: 1}", "c"), "a: {b: 1}");
        let item = |text: &str| edited(text, |edits, node| edits.remove(&node.items()[0], &["b"]));
        assert_eq!(item("a:\n- b: 1\n  # c\n  c: 2\n"), "a:\n- c: 2\n");
    }

    #[test]
    fn several_parts_of_one_mapping_go_together() {
        let without = |text: &str, keys: &[&str]| edited(text, |edits, node| edits.remove(node, keys));
        for (keys, left) in [
            (&["b", "c"][..], "a: {d: 3, e: 4}"),
            (&["b", "d"], "a: {c: 2, e: 4}"),
            (&["c", "d"], "a: {b: 1, e: 4}"),
            (&["c", "e"], "a: {b: 1, d: 3}"),
            (&["b", "c", "d"], "a: {e: 4}"),
            (&["c", "d", "e"], "a: {b: 1}"),
            (&["b", "c", "d", "e"], "a: {}"),
        ] {
            assert_eq!(without("a: {b: 1, c: 2, d: 3, e: 4}", keys), left);
        }
        assert_eq!(without("a:\n  b: 1\n  # two\n  c: 2\n  d: 3\n", &["b", "c"]), "a:\n  # two\n  d: 3\n");
    }

    #[test]
    fn parts_are_put_in_front_with_the_others_indentation() {
        let with = |text: &str| edited(text, |edits, node| edits.insert_first(node, "k", "v").expect("it takes one"));
        assert_eq!(with("a:\n    # one\n    b: 1\n"), "a:\n    # one\n    k: v\n    b: 1\n");
        assert_eq!(with("a:\r\n  b: 1\r\n"), "a:\r\n  k: v\r\n  b: 1\r\n");
        assert_eq!(with("a: { b: 1 }"), "a: { k: v, b: 1 }");
        assert_eq!(with("a: {}"), "a: {k: v}");
    }

    #[test]
    fn several_changes_do_not_disturb_each_other() {
        let text = "a:\n  b: old # kept\n  c: 1\n  d: 2\n";
        let changed = edited(text, |edits, node| {
            edits.replace(node.get("b").expect("b"), "new");
            edits.insert_first(node, "k", "v").expect("it takes one");
            edits.remove(node, &["d"]);
            edits.replace_entry(node.entry("c").expect("c"), "e", "5");
        });
        assert_eq!(changed, "a:\n  k: v\n  b: new # kept\n  e: 5\n");
    }
}
