//! YAML files of Kubernetes objects as trees that know where each node stands: for messages with line numbers, and for edits
//! that leave everything else byte for byte as it is.
//!
//! Reads what `kubectl` reads: several documents, lists of objects, anchors, aliases and merge keys, and YAML 1.1's idea of
//! which plain words are no texts (`yes`, `0o17`, `~`). Bounded in size and depth; nothing here knows KEDA.

use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle, options};

/// The largest file that is read, in bytes; a Kubernetes object may have 1.5 MiB.
pub(crate) const MAX_BYTES: usize = 16 * 1024 * 1024;
/// The deepest nesting, aliases followed. Deep enough for any object, shallow enough for recursion.
const MAX_DEPTH: usize = 64;

/// One node of a document and where it stands. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is; shared with the definition where this is an alias.
    pub content: Rc<Content>,
    /// Where it stands in the text, in bytes; of an alias, where the alias stands. Ends with the last character of its own,
    /// before any comment.
    pub span: Range<usize>,
    /// Its line, from 1.
    pub line: usize,
    /// Whether it is an alias, so that its parts stand elsewhere.
    pub is_alias: bool,
}

/// What a node is.
#[derive(Debug)]
pub enum Content {
    /// A text: quoted, or plain and nothing else.
    Text(String),
    /// A plain word that is a number, a boolean or null, as written.
    Other(String),
    /// A list.
    List {
        /// Its parts.
        items: Vec<Node>,
        /// Whether it is written in brackets.
        is_flow: bool,
    },
    /// A mapping.
    Map {
        /// Its parts, in order; those of a merge key come last.
        entries: Vec<Entry>,
        /// Whether it is written in braces.
        is_flow: bool,
    },
}

/// One part of a mapping.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key's text.
    pub key: String,
    /// Where the key stands, in bytes.
    pub key_span: Range<usize>,
    /// The key's line, from 1.
    pub line: usize,
    /// What stands under it.
    pub value: Node,
    /// Whether it comes from a merge key (`<<`) and stands elsewhere.
    pub is_merged: bool,
}

/// A text that is not YAML, or not YAML of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct SyntaxError {
    /// Where, from 1.
    pub line: usize,
    /// What is wrong, in one line.
    pub problem: String,
}

/// Reads all documents of a text; empty ones are left out.
pub fn read(text: &str) -> Result<Vec<Node>, SyntaxError> {
    if text.len() > MAX_BYTES {
        let problem = format!("{} bytes are more than the {MAX_BYTES} that a file may have", text.len());
        return Err(SyntaxError { line: 1, problem });
    }
    let mut builder = Builder::default();
    for next in Parser::new_from_str_with_options(text, options! { emit_comments: false }) {
        let (event, span) = next.map_err(|error| SyntaxError {
            line: error.marker().line(),
            problem: error.kind().to_string().split_whitespace().collect::<Vec<_>>().join(" "),
        })?;
        builder.take(&event, span)?;
    }
    Ok(builder.documents)
}

/// The Kubernetes objects among these documents, those of lists one by one.
pub fn objects(documents: Vec<Node>) -> Vec<Node> {
    let is_list = |node: &Node| node.text("kind").is_some_and(|kind| kind.ends_with("List"));
    let parts = |node: Node| match node.get("items").map(|items| items.content.clone()).as_deref() {
        Some(Content::List { items, .. }) if is_list(&node) => items.clone(),
        _ => vec![node],
    };
    documents.into_iter().flat_map(parts).collect()
}

/// A text as YAML: plain where that is nothing else, in double quotes where it could be.
pub fn quoted(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:".contains(&byte);
    let begins_well = text.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '/');
    let ends_well = !text.ends_with(':');
    if begins_well && ends_well && text.bytes().all(is_plain) && !is_other(text) {
        return text.to_owned();
    }
    // JSON's strings are YAML's.
    serde_json::Value::from(text).to_string()
}

/// A text with what ends a line or steers a terminal escaped: manifests come from others.
pub(crate) fn in_one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '"' | '\'' | '\\') {
            line.push(character);
        } else {
            line.extend(character.escape_debug());
        }
    }
    line
}

impl Node {
    /// The part of a mapping under a key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The value under a key.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The value at the end of several keys.
    pub fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    /// The text under a key.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_text()
    }

    /// Itself, if it is a text.
    pub fn as_text(&self) -> Option<&str> {
        match &*self.content {
            Content::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What is written, be it a text or not; empty for a list or a mapping.
    pub fn as_word(&self) -> &str {
        match &*self.content {
            Content::Text(word) | Content::Other(word) => word,
            _ => "",
        }
    }

    /// The whole number under a key.
    pub fn whole(&self, key: &str) -> Option<i64> {
        match &*self.get(key)?.content {
            Content::Other(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// Whether `true` stands under a key.
    pub fn is_true(&self, key: &str) -> bool {
        matches!(self.get(key).map(|node| &*node.content), Some(Content::Other(text)) if text.eq_ignore_ascii_case("true"))
    }

    /// The parts of a list; none for anything else.
    pub fn items(&self) -> &[Self] {
        match &*self.content {
            Content::List { items, .. } => items,
            _ => &[],
        }
    }

    /// The parts of a mapping; none for anything else.
    pub fn entries(&self) -> &[Entry] {
        match &*self.content {
            Content::Map { entries, .. } => entries,
            _ => &[],
        }
    }

    /// Whether nothing was written: `key:` alone, `~` or `null`.
    pub fn is_null(&self) -> bool {
        matches!(&*self.content, Content::Other(text) if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The line of the value under a key, or its own.
    pub fn line_of(&self, key: &str) -> usize {
        self.entry(key).map_or(self.line, |entry| entry.line)
    }
}

/// A list or mapping that has begun and not ended.
struct Open {
    start: Span,
    anchor: usize,
    is_flow: bool,
    /// How deep its deepest part is nested in itself.
    depth: usize,
    parts: Parts,
}

enum Parts {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, key: Option<(String, Span)> },
}

#[derive(Default)]
struct Builder {
    documents: Vec<Node>,
    open: Vec<Open>,
    /// What they name, and how deep that is nested in itself.
    anchors: HashMap<usize, (Rc<Content>, usize)>,
}

impl Builder {
    fn take(&mut self, event: &Event<'_>, span: Span) -> Result<(), SyntaxError> {
        match event {
            Event::DocumentStart(..) => {
                self.anchors.clear();
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = *style != ScalarStyle::Plain
                    || tag.as_ref().is_some_and(|tag| tag.is_yaml_core_schema_tag("str"))
                    || !is_other(text);
                let text = text.clone().into_owned();
                let content = Rc::new(if is_text { Content::Text(text) } else { Content::Other(text) });
                self.anchors.insert(*anchor, (content.clone(), 0));
                self.put(Node { content, span: range(span), line: span.start.line(), is_alias: false }, span, 0)
            }
            Event::Alias(anchor) => {
                let named = self.anchors.get(anchor).cloned();
                let (content, depth) = named.ok_or_else(|| wrong(span, "an alias stands inside what it names"))?;
                if self.open.len() + depth > MAX_DEPTH {
                    return Err(too_deep(span));
                }
                self.put(Node { content, span: range(span), line: span.start.line(), is_alias: true }, span, depth)
            }
            Event::SequenceStart(style, anchor, _) => self.begin(span, *style, *anchor, Parts::List(Vec::new())),
            Event::MappingStart(style, anchor, _) => {
                self.begin(span, *style, *anchor, Parts::Map { entries: Vec::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(span),
            _ => Ok(()),
        }
    }

    fn begin(&mut self, start: Span, style: StructureStyle, anchor: usize, parts: Parts) -> Result<(), SyntaxError> {
        if self.open.len() >= MAX_DEPTH {
            return Err(too_deep(start));
        }
        if let Some(Open { parts: Parts::Map { key: None, .. }, .. }) = self.open.last() {
            return Err(wrong(start, "a key must be a text"));
        }
        self.open.push(Open { start, anchor, is_flow: style == StructureStyle::Flow, depth: 0, parts });
        Ok(())
    }

    fn end(&mut self, span: Span) -> Result<(), SyntaxError> {
        let Some(Open { start, anchor, is_flow, depth, parts }) = self.open.pop() else { return Ok(()) };
        let last = match &parts {
            Parts::List(items) => items.last(),
            Parts::Map { entries, .. } => entries.iter().rev().find(|entry| !entry.is_merged).map(|entry| &entry.value),
        };
        let start_byte = range(start).start;
        // A block ends with its last part; the parser says so only after the comments that follow.
        let end_byte = if is_flow { range(span).end } else { last.map_or(start_byte, |last| last.span.end) };
        let content = Rc::new(match parts {
            Parts::List(items) => Content::List { items, is_flow },
            Parts::Map { entries, .. } => Content::Map { entries: merged(entries), is_flow },
        });
        self.anchors.insert(anchor, (content.clone(), depth + 1));
        let line = start.start.line();
        self.put(Node { content, span: start_byte..end_byte, line, is_alias: false }, start, depth + 1)
    }

    /// Puts a node where it belongs; `depth` is how deep it is nested in itself.
    fn put(&mut self, node: Node, span: Span, depth: usize) -> Result<(), SyntaxError> {
        if let Some(open) = self.open.last_mut() {
            open.depth = open.depth.max(depth);
        }
        match self.open.last_mut().map(|open| &mut open.parts) {
            None if node.is_null() => {}
            None => self.documents.push(node),
            Some(Parts::List(items)) => items.push(node),
            Some(Parts::Map { entries, key }) => match key.take() {
                None => {
                    let (Content::Text(text) | Content::Other(text)) = &*node.content else {
                        return Err(wrong(span, "a key must be a text"));
                    };
                    if entries.iter().any(|entry| entry.key == *text) {
                        return Err(wrong(span, &format!("the key {text:?} stands twice")));
                    }
                    *key = Some((text.clone(), span));
                }
                Some((text, at)) => entries.push(Entry {
                    key: text,
                    key_span: range(at),
                    line: at.start.line(),
                    value: node,
                    is_merged: false,
                }),
            },
        }
        Ok(())
    }
}

/// The entries with those of merge keys, which count where a key is not there already.
fn merged(mut entries: Vec<Entry>) -> Vec<Entry> {
    let Some(place) = entries.iter().position(|entry| entry.key == "<<") else { return entries };
    let sources = match &*entries[place].value.content {
        Content::Map { .. } => vec![entries[place].value.clone()],
        Content::List { items, .. } => items.clone(),
        _ => return entries,
    };
    for entry in sources.iter().flat_map(Node::entries) {
        if !entries.iter().any(|own| own.key == entry.key) {
            entries.push(Entry { is_merged: true, ..entry.clone() });
        }
    }
    entries
}

/// Whether a plain word is a number, a boolean or null: to the YAML 1.1 that `kubectl` reads, which has a few more of
/// them than YAML 1.2.
fn is_other(word: &str) -> bool {
    let lower = word.to_ascii_lowercase();
    if matches!(
        lower.as_str(),
        "" | "~"
            | "null"
            | "true"
            | "false"
            | "yes"
            | "no"
            | "on"
            | "off"
            | "y"
            | "n"
            | ".inf"
            | "-.inf"
            | "+.inf"
            | ".nan"
    ) {
        return true;
    }
    let digits = lower.strip_prefix(['-', '+']).unwrap_or(&lower).replace('_', "");
    let in_base = |prefix: &str, base: u32| {
        let rest = digits.strip_prefix(prefix);
        rest.is_some_and(|rest| !rest.is_empty() && rest.chars().all(|digit| digit.is_digit(base)))
    };
    // Rust would take `inf`, `nan` and `infinity` for numbers.
    let is_decimal =
        digits.starts_with(|first: char| first.is_ascii_digit() || first == '.') && digits.parse::<f64>().is_ok();
    is_decimal || in_base("0x", 16) || in_base("0o", 8) || in_base("0b", 2)
}

fn range(span: Span) -> Range<usize> {
    // Of a text, the parser always knows; and a range of nothing can do no harm.
    span.byte_range().unwrap_or_default()
}

fn too_deep(span: Span) -> SyntaxError {
    wrong(span, "it is nested too deeply")
}

fn wrong(span: Span, problem: &str) -> SyntaxError {
    SyntaxError { line: span.start.line(), problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::iter;

    use super::*;

    const TEXT: &str = "# first
kind: ScaledObject # a comment
spec: &spec
  count: 5
  text: \"5\"
  list:
    - a
    - {b: c}   # trailing

---
kind: List
items:
- kind: One
  <<: {extra: 'x', kind: Two}
- kind: Two
...
";

    fn words(text: &str) -> Vec<Node> {
        read(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn nodes_know_what_they_are_and_where_they_stand() {
        let documents = words(TEXT);
        let [first, list] = &documents[..] else { panic!("two documents, got {documents:?}") };
        assert_eq!(first.text("kind"), Some("ScaledObject"));
        let spec = first.get("spec").expect("a spec");
        assert_eq!((spec.whole("count"), spec.text("text"), spec.line_of("text")), (Some(5), Some("5"), 5));
        assert_eq!(&TEXT[spec.get("text").expect("a text").span.clone()], "\"5\"");
        let list_in_it = spec.get("list").expect("a list");
        assert_eq!(&TEXT[list_in_it.span.clone()], "- a\n    - {b: c}");
        assert_eq!(&TEXT[spec.span.clone()], &TEXT[spec.span.start..list_in_it.span.end]);
        let parts = objects(vec![list.clone()]);
        assert_eq!(parts.iter().map(|part| part.text("kind")).collect::<Vec<_>>(), [Some("One"), Some("Two")]);
        assert_eq!(parts[0].text("extra"), Some("x"), "merged");
        assert!(parts[0].entry("extra").is_some_and(|entry| entry.is_merged));
    }

    #[test]
    fn an_alias_is_what_it_names() {
        let [document] = &words("a: &x {b: '1'}\nc: *x\n")[..] else { panic!("one document") };
        let alias = document.get("c").expect("c");
        assert!(alias.is_alias && alias.text("b") == Some("1"));
    }

    /// What is nested without end would end in the stack.
    #[test]
    fn aliases_do_not_nest_deeper_than_what_is_written_out() {
        let nested = |deepest: usize| {
            let lines = (1..=deepest).map(|level| format!("- &a{level} [*a{}]\n", level - 1));
            let text = iter::once("- &a0 [x]\n".to_owned()).chain(lines).collect::<Vec<_>>().concat();
            read(&text)
        };
        // The list around them all is one level, and a0 one.
        assert!(nested(MAX_DEPTH - 2).is_ok());
        for too_deep in [MAX_DEPTH - 1, 200_000] {
            let error = nested(too_deep).expect_err("too deep");
            assert_eq!((error.line, error.problem.as_str()), (MAX_DEPTH, "it is nested too deeply"));
        }
        let merged = format!("a: &a {}1{}\nb: {}", "{x: ".repeat(60), "}".repeat(60), "{y: ".repeat(5));
        let merged = format!("{merged}{{<<: *a}}{}", "}".repeat(5));
        assert!(read(&merged).is_err(), "by a merge key");
    }

    #[test]
    fn plain_words_that_kubernetes_takes_for_something_else_are_no_texts() {
        for word in
            ["5", "-5", "+1", "1.5", ".5", "1e3", "0x1F", "0o7", "0b1", "1_000", "true", "Yes", "off", "n", "~", ".inf"]
        {
            assert!(is_other(word), "{word}");
        }
        for word in ["orders", "5s", "nan", "inf", "e3", "-", "0x", "1.2.3", "yes please", "_", "a5"] {
            assert!(!is_other(word), "{word}");
        }
    }

    #[test]
    fn what_is_no_yaml_of_kubernetes_is_refused_with_its_line() {
        let deep = "[".repeat(10_000);
        for (text, line) in [("a: [", 1), ("a: b\na: c", 2), ("? [a]\n: b", 1), (deep.as_str(), 1), ("a: *b", 1)] {
            let error = read(text).expect_err(text);
            assert_eq!((error.line, error.problem.lines().count()), (line, 1), "{error}");
        }
        assert!(read("a: &x [*x]").is_err(), "inside itself");
        assert!(words("---\n# nothing\n---\n").is_empty());
    }
}
