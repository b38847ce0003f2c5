//! The binary as KEDA's cluster and a person at a terminal meet it: ready line, signals, exit codes, one clear line.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Output, Stdio};

use clap::CommandFactory as _;
use externalscaler::external_scaler_client::ExternalScalerClient;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runtime::Ready;
use serde_json::Value;
use testbench::{Program, in_time, replace, until};
use tokio::process::Command;

use crate::support::{broker_with, connect, next, send, trigger, within};

fn binary<Argument: AsRef<OsStr>>(arguments: impl IntoIterator<Item = Argument>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scaler"));
    command.args(arguments).env_clear().stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn run(command: &mut Command) -> Output {
    let output = within("the process to end", command.output()).await.expect("the binary can be run");
    testbench::keep(env!("CARGO_BIN_EXE_scaler"), &output);
    output
}

/// Runs `explain`, or whatever else reads.
async fn explained(command: &mut Command) -> Output {
    in_time(async || run(command).await, |output| std::str::from_utf8(&output.stderr).ok()).await
}

/// That a process failed with one line which has all these words.
fn assert_one_line(output: &Output, words: &[&str]) {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("scaler: ")).collect();
    let [line] = lines[..] else { panic!("one error line expected in {text:?}") };
    assert_eq!(text.lines().last(), Some(line), "nothing follows it: {text:?}");
    for word in words {
        assert!(line.contains(word), "{word:?} is missing in {line:?}");
    }
}

async fn started(arguments: &[&str], folder: &Path) -> (Program, Ready) {
    let ready = folder.join("ready.json");
    let always = ["serve", "--listen", "127.0.0.1:0", "--ready-file", ready.to_str().expect("UTF-8")];
    let program = Program::start(env!("CARGO_BIN_EXE_scaler"), &[&always, arguments].concat(), &[]);
    until("the ready file", async || ready.exists()).await;
    let ready = std::fs::read_to_string(ready).expect("it was written");
    (program, serde_json::from_str(&ready).expect("JSON"))
}

#[tokio::test]
async fn it_serves_until_sigterm_and_ends_with_success() {
    let broker = broker_with(&["orders"]).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (program, ready) = started(&[], folder.path()).await;
    let mut client = ExternalScalerClient::new(connect(ready.listen[0]).await);
    let trigger = trigger(broker.connection_string(), &[("queueName", "orders")]);
    let mut stream = client.stream_is_active(trigger).await.expect("the stream opens").into_inner();
    assert!(!next(&mut stream).await);

    program.terminate();
    let end = within("the end of the stream", stream.message()).await.expect("the stream ends with OK");
    assert_eq!(end, None);
    let ended = program.ended().await;
    assert!(ended.status.success(), "{ended:?}");
    assert!(!ended.stderr.contains("cut off"), "{}", ended.stderr);
    let line: Ready = serde_json::from_str(&ended.stdout).expect("the ready line is JSON, and all that is said");
    assert_eq!(line, ready);
}

#[tokio::test]
async fn sighup_and_a_changed_file_bring_a_profile_into_force() {
    let broker = broker_with(&["orders"]).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("scaler.yaml");
    replace(&config, "profiles: {gold: {policy: messageCount}}");
    let (program, ready) = started(&["--config", config.to_str().expect("UTF-8")], folder.path()).await;
    let client = ExternalScalerClient::new(connect(ready.listen[0]).await);
    let trigger = trigger(broker.connection_string(), &[("queueName", "orders"), ("policyProfile", "silver")]);
    client.clone().is_active(trigger.clone()).await.expect_err("there is no such profile yet");
    replace(&config, "profiles: {silver: {policy: messageCount}}");
    let id = program.id().try_into().expect("a process id");
    kill(Pid::from_raw(id), Signal::SIGHUP).expect("our own child can be signalled");
    until("the new profile", async || client.clone().is_active(trigger.clone()).await.is_ok()).await;
    program.terminate();
    let ended = program.ended().await;
    assert!(ended.status.success(), "{ended:?}");
}

#[tokio::test]
async fn sighup_without_anything_to_read_again_changes_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (program, _) = started(&[], folder.path()).await;
    kill(Pid::from_raw(program.id().try_into().expect("a process id")), Signal::SIGHUP).expect("our own child");
    program.terminate();
    let ended = program.ended().await;
    assert!(ended.status.success(), "{ended:?}");
}

#[tokio::test]
async fn what_it_cannot_start_with_is_one_clear_line() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = taken.local_addr().expect("a bound address").to_string();
    let output = run(&mut binary(["serve", "--listen", &address])).await;
    assert_one_line(&output, &["--listen", &address, "in use"]);

    let output = run(&mut binary(["serve", "--listen", "127.0.0.1:0", "--config", "/does/not/exist.yaml"])).await;
    assert_one_line(&output, &["/does/not/exist.yaml", "No such file"]);

    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("scaler.yaml");
    let config = config.to_str().expect("UTF-8");
    for (text, words) in [
        ("profiles: {gold: {policy: magic}}", &["gold", "magic", "weighted"][..]),
        ("profiles: {gold: {weights: 'active=1'}}", &["gold", "policy"]),
        ("cacheTtlSecond: 1", &["cacheTtlSecond", "cacheTtlSeconds"]),
        ("cacheTtlSeconds: -1", &["cacheTtlSeconds", "-1", "between 0 and 300"]),
        ("profiles: [", &[config]),
    ] {
        std::fs::write(config, text).expect("the folder is writable");
        let output = run(&mut binary(["serve", "--listen", "127.0.0.1:0", "--config", config])).await;
        assert_one_line(&output, &[words, &[config]].concat());
    }
    let output = run(&mut binary(["serve", "--listen", "6000"])).await;
    assert_eq!(output.status.code(), Some(2), "a usage error: {output:?}");
}

#[test]
fn the_reference_names_every_flag_and_variable() {
    let reference = include_str!("../../../docs/scaler.md");
    let command = scaler::Args::command();
    let serve = command.find_subcommand("serve").expect("there is a serve");
    for argument in serve.get_arguments().chain(command.get_arguments()) {
        let flag = argument.get_long().map(|long| format!("`--{long}"));
        let variable = argument.get_env().and_then(OsStr::to_str).map(|name| format!("`{name}`"));
        for name in flag.into_iter().chain(variable) {
            assert!(reference.contains(&name), "docs/scaler.md does not name {name}");
        }
    }
}

#[tokio::test]
async fn explain_says_what_keda_would_get_and_why() {
    let broker = broker_with(&["orders"]).await;
    send(broker.connection_string(), "orders", 12).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("the folder is writable");
        path.to_str().expect("UTF-8").to_owned()
    };
    let connection = write("connection.txt", &format!("{}\n", broker.connection_string()));
    let mut command = binary(["explain", "--queue", "orders", "--connection-string-file", &connection]);
    let output = explained(&mut command).await;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    for word in ["orders on 127.0.0.1", "active 12", "messageCount", "azure-servicebus-orders = 12, target 5"] {
        assert!(text.contains(word), "{word:?} is missing in {text}");
    }

    let config = write("scaler.yaml", "profiles: {gold: {policy: weighted, weights: 'active=2'}}");
    let object = write(
        "scaled-object.yaml",
        "kind: ScaledObject\nmetadata: {name: receiver, namespace: demo}\nspec:\n  triggers:\n  - type: external\n    \
         metadata: {queueName: orders, messageCount: '4', policyProfile: gold, connectionFromEnv: MY_CONNECTION}\n",
    );
    let mut command = binary(["explain", "--scaled-object", &object, "--config", &config, "--output", "json"]);
    let output = explained(command.env("MY_CONNECTION", broker.connection_string())).await;
    assert!(output.status.success(), "{output:?}");
    let all: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let one = &all[0];
    assert_eq!(
        (&one["namespace"], &one["name"], &one["target"]),
        (&"demo".into(), &"receiver".into(), &"queue orders".into())
    );
    assert_eq!((&one["readings"][0]["active"], &one["targetSize"]), (&12.into(), &4.into()));
    assert_eq!(one["locks"], serde_json::json!({ "durationSeconds": 60.0, "maxDeliveryCount": 10 }));
    assert_eq!((&one["metricValue"], &one["decision"]["active"]), (&24.0.into(), &true.into()));
    assert_eq!(one["decision"]["replicas"], 6.0);
    assert!(one["decision"]["why"].as_str().is_some_and(|why| !why.is_empty()), "{one}");
}

#[tokio::test]
async fn explain_fails_with_one_clear_line() {
    let broker = broker_with(&["orders"]).await;
    let explain = |arguments: &[&str]| {
        let mut command = binary(["explain"]);
        command.args(arguments).env("SERVICEBUS_CONNECTION_STR", broker.connection_string());
        command
    };
    let output = explained(&mut explain(&["--queue", "refunds"])).await;
    assert_one_line(&output, &["refunds", "does not exist"]);
    let output = run(&mut explain(&["--queue", "orders", "--metadata", "messageCount=0"])).await;
    assert_one_line(&output, &["messageCount", "\"0\"", "from 1"]);
    let output = run(&mut explain(&["--scaled-object", "/does/not/exist.yaml"])).await;
    assert_one_line(&output, &["--scaled-object", "/does/not/exist.yaml"]);
    let output = run(explain(&["--queue", "orders"]).env_remove("SERVICEBUS_CONNECTION_STR")).await;
    assert_one_line(&output, &["SERVICEBUS_CONNECTION_STR", "--connection-string-file"]);
    let output = run(&mut explain(&["--queue", "orders", "--queue", "orders"])).await;
    assert_eq!(output.status.code(), Some(2), "a usage error: {output:?}");
}
