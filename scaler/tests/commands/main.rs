//! The commands that need no server, as a person at a terminal meets them: what they print, where, and how they end.

use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

mod check;
mod explain;
mod help;
mod migrate;

/// Long enough for a loaded machine; a command that hangs fails its test.
const DEADLINE: Duration = Duration::from_mins(1);

/// Runs the scaler's binary on these arguments, with this standard input.
async fn scaler(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_scaler"))
        .args(arguments)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the binary can be run");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let ended = async {
        // A command that does not read its input closes it, which is no failure.
        let _: std::io::Result<()> = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        child.wait_with_output().await
    };
    let ended = tokio::time::timeout(DEADLINE, ended).await;
    let output = ended.expect("the command ends in time").expect("its output can be read");
    testbench::keep(env!("CARGO_BIN_EXE_scaler"), &output);
    output
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("UTF-8")
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("UTF-8")
}
