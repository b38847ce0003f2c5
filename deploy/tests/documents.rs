//! What README and docs point at exists: links between files, and the paths in their commands.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace's folder").to_owned()
}

/// The README and everything below `docs/`.
fn documents() -> Vec<PathBuf> {
    let mut documents = vec![root().join("README.md")];
    for folder in [root().join("docs"), root().join("docs/adr")] {
        let entries = std::fs::read_dir(folder).expect("a readable folder");
        let paths = entries.map(|entry| entry.expect("a readable entry").path());
        documents.extend(paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    documents
}

/// Targets of Markdown links, and words in code blocks that begin like a folder of ours; without anchors.
fn mentioned<'a>(document: &Path, text: &'a str) -> Vec<(&'a str, PathBuf)> {
    let folder = document.parent().expect("a file is in a folder");
    let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    let links = links
        .map(|target| target.split_once('#').map_or(target, |(path, _)| path))
        .filter(|target| !target.is_empty() && !target.contains("://"))
        .map(|target| (target, folder.join(target)));
    let blocks = text.split("```").skip(1).step_by(2);
    let words = blocks
        .flat_map(str::split_whitespace)
        .filter(|word| {
            ["deploy/", "crates/", "interop/", "docs/", ".ci/"].iter().any(|folder| word.starts_with(folder))
        })
        // The user's own secret, which git ignores.
        .filter(|word| !word.ends_with("/sb_connection_string.txt"))
        .map(|word| (word, root().join(word)));
    links.chain(words).collect()
}

#[test]
fn everything_mentioned_exists() {
    let mut missing = Vec::new();
    for document in documents() {
        let text = std::fs::read_to_string(&document).expect("a readable document");
        for (word, path) in mentioned(&document, &text) {
            if !path.exists() {
                missing.push(format!("{}: {word}", document.display()));
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn the_readme_mentions_much_and_a_missing_file_is_noticed() {
    let readme = root().join("README.md");
    let text = std::fs::read_to_string(&readme).expect("a readable README");
    assert!(mentioned(&readme, &text).len() > 15);
    let found = mentioned(&readme, "[a](docs/none.md#part)\n```\nkubectl apply -k deploy/none\n```\n");
    let words: Vec<_> = found.iter().filter(|(_, path)| !path.exists()).map(|(word, _)| *word).collect();
    assert_eq!(words, ["docs/none.md", "deploy/none"]);
}
