//! The README's command is the product's front door: this runs the very line that stands there.
//!
//! With an empty target folder the line builds the whole workspace in release mode first, which takes minutes.
#![cfg(unix)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Parser as _;

const COMMAND: &str = "cargo run --release --bin demo";
/// A build from nothing on a small, busy machine, and a run.
const DEADLINE: Duration = Duration::from_mins(30);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace's folder")
}

/// The lines of the README's code blocks that run the demo, without their comments.
fn commands() -> Vec<String> {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("README.md");
    let without_comment = |line: &str| line.split(" #").next().unwrap_or_default().trim().to_owned();
    readme.lines().filter(|line| line.starts_with("cargo run") && line.contains("demo")).map(without_comment).collect()
}

#[test]
fn the_readmes_command_ends_with_success_and_a_chart() {
    let command = commands().into_iter().find(|command| command == COMMAND).expect("README.md names the command");
    let output = tempfile::NamedTempFile::new().expect("a temporary file");
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec {command}")]).current_dir(root()).stdin(Stdio::null());
    // What cargo tells a test about its package would only make the nested cargo build things again.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") || text.starts_with("CARGO_BIN_") {
            shell.env_remove(&name);
        }
    }
    let file = output.reopen().expect("opened");
    shell.stderr(file.try_clone().expect("a second handle")).stdout(file);
    let mut run = shell.spawn().expect("sh starts");
    let began = Instant::now();
    let status = loop {
        if let Some(status) = run.try_wait().expect("its state") {
            break status;
        }
        if began.elapsed() > DEADLINE {
            let _ = run.kill();
            let _ = run.wait();
            panic!("not within {DEADLINE:?}: {}", std::fs::read_to_string(output.path()).unwrap_or_default());
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let said = std::fs::read_to_string(output.path()).expect("what it said");
    assert!(status.success(), "{status}: {said}");
    assert!(said.contains("lost 0") && said.contains("result     ok"), "{said}");
    assert!(root().join("out/demo/chart.svg").is_file(), "the chart is where the README says");
}

#[test]
fn every_demo_command_in_the_readme_is_one_that_the_demo_understands() {
    let commands = commands();
    assert!(commands.len() >= 2, "{commands:?}");
    for command in commands {
        let flags = command.split_once(" -- ").map_or("", |(_, flags)| flags);
        let words = std::iter::once(demo::NAME).chain(flags.split_whitespace());
        demo::Args::try_parse_from(words).unwrap_or_else(|error| panic!("{command}: {error}"));
    }
}
