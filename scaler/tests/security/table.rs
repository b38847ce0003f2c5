//! The table in docs/security.md: every row names a test, and the test exists.

use std::path::Path;

const REFERENCE: &str = include_str!("../../../docs/security.md");

#[test]
fn every_attack_names_a_test_that_exists() {
    let (_, table) = REFERENCE.split_once("\n## Attacks\n").expect("the table has a heading");
    let rows: Vec<_> = table.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() >= 15, "{} rows", rows.len());
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
    for row in rows {
        let [_, attack, answer, test, _] = row.split('|').map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("{row:?} does not have three columns")
        };
        assert!(!attack.is_empty() && !answer.is_empty(), "{row}");
        let Some([file, name]) = test.strip_prefix('`').and_then(|test| test.strip_suffix('`')).map(|test| {
            let (file, name) = test.split_once("`: `").unwrap_or((test, ""));
            [file, name]
        }) else {
            panic!("{test:?} is not `file`: `test`")
        };
        let source = std::fs::read_to_string(workspace.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(!name.is_empty() && source.contains(&format!("fn {name}(")), "there is no test {name} in {file}");
    }
}
