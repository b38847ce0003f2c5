//! What README and docs point at exists: links between files, the headings that they name, and the paths in their commands
//! and sentences.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace's folder").to_owned()
}

/// The READMEs and everything below `docs/`.
fn documents() -> Vec<PathBuf> {
    let mut documents: Vec<_> =
        ["README.md", "e2e/README.md", "interop/keda/README.md"].map(|path| root().join(path)).into();
    for folder in [root().join("docs"), root().join("docs/adr")] {
        let entries = std::fs::read_dir(folder).expect("a readable folder");
        let paths = entries.map(|entry| entry.expect("a readable entry").path());
        documents.extend(paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    documents
}

/// Our folders, as paths in documents begin.
const FOLDERS: [&str; 11] =
    [".ci/", "crates/", "demo/", "deploy/", "docs/", "e2e/", "interop/", "proto/", "scaler/", "sender/", "worker/"];

/// Something that a document says is there.
struct Mention<'a> {
    /// As it stands there.
    text: &'a str,
    path: PathBuf,
    /// The heading in that file, as links write it.
    heading: Option<&'a str>,
}

impl Mention<'_> {
    fn exists(&self) -> bool {
        self.path.exists()
            && self.heading.is_none_or(|heading| {
                let text = std::fs::read_to_string(&self.path).expect("a readable document");
                headings(&text).contains(heading)
            })
    }
}

/// Targets of Markdown links, and words in code that begin like a folder of ours.
fn mentioned<'a>(document: &Path, text: &'a str) -> Vec<Mention<'a>> {
    let folder = document.parent().expect("a file is in a folder");
    // Every other part is code: blocks first, then, between them, spans.
    let blocks: Vec<_> = text.split("```").skip(1).step_by(2).collect();
    let prose = || text.split("```").step_by(2);
    let links = prose().flat_map(|prose| prose.split("](").skip(1)).filter_map(|rest| rest.split_once(')'));
    let links = links.map(|(target, _)| target).filter(|target| !target.contains("://")).map(|target| {
        let (path, heading) = target.split_once('#').map_or((target, None), |(path, heading)| (path, Some(heading)));
        let path = if path.is_empty() { document.to_owned() } else { folder.join(path) };
        Mention { text: target, path, heading }
    });
    let spans = prose().flat_map(|prose| prose.split('`').skip(1).step_by(2));
    let words = blocks
        .into_iter()
        .chain(spans)
        .flat_map(str::split_whitespace)
        .map(|word| word.trim_matches(|end: char| matches!(end, '\'' | '"' | ',' | ';' | ':' | '(' | ')')))
        .filter(|word| FOLDERS.iter().any(|folder| word.starts_with(folder)))
        // Patterns, and the user's own secret, which git ignores.
        .filter(|word| !word.contains(['*', '{', '…']) && !word.ends_with("/sb_connection_string.txt"))
        .map(|word| Mention { text: word, path: root().join(word), heading: None });
    links.chain(words).collect()
}

/// The headings of a document as links name them: lower case, `-` for spaces, punctuation left out.
fn headings(text: &str) -> BTreeSet<String> {
    let prose = text.split("```").step_by(2).flat_map(str::lines);
    let titles = prose.filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let is_kept = |letter: &char| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_');
    titles.map(|title| title.to_lowercase().chars().filter(is_kept).collect::<String>().replace(' ', "-")).collect()
}

#[test]
fn everything_mentioned_exists() {
    let mut missing = Vec::new();
    for document in documents() {
        let text = std::fs::read_to_string(&document).expect("a readable document");
        let lost = mentioned(&document, &text).into_iter().filter(|mention| !mention.exists());
        missing.extend(lost.map(|mention| format!("{}: {}", document.display(), mention.text)));
    }
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn the_readme_mentions_much_and_a_missing_file_is_noticed() {
    let readme = root().join("README.md");
    let text = std::fs::read_to_string(&readme).expect("a readable README");
    assert!(mentioned(&readme, &text).len() > 15);
    let damaged = "[a](docs/none.md#part) [b](docs/architecture.md#entry-points) [c](docs/architecture.md#exit-points) \
                   `crates/none/src/lib.rs` `crates/*/src`\n```\nkubectl apply -k deploy/none\n```\n[d](#two-commands)\n";
    let found = mentioned(&readme, damaged);
    let words: Vec<_> = found.iter().filter(|mention| !mention.exists()).map(|mention| mention.text).collect();
    assert_eq!(
        words,
        ["docs/none.md#part", "docs/architecture.md#exit-points", "deploy/none", "crates/none/src/lib.rs"]
    );
}
