//! Help, examples and completions.

use clap::CommandFactory as _;

use crate::{scaler, stderr, stdout};

#[tokio::test]
async fn help_says_what_there_is() {
    let output = scaler(&["--help"], "").await;
    let text = stdout(&output);
    assert!(
        text.starts_with("KEDA external scaler for Azure Service Bus: a drop-in for the azure-servicebus trigger"),
        "{text}"
    );
    for line in [
        "  serve        Serve KEDA's external scaler contract over gRPC until SIGTERM",
        "  explain      Read once what a trigger counts and say what the scaler would answer for it, and why",
        "  check        Check `ScaledObject` and `ScaledJob` manifests before they are applied, or translate azure-servicebus triggers",
        "  config       Print an example of the config file, or check one",
        "  completions  Print a completion script for a shell",
    ] {
        let words: Vec<_> = line.split_whitespace().collect();
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(&words.join(" ")), "{line:?} is missing in\n{text}");
    }
}

/// Word for word: what people read first must not change by accident.
#[tokio::test]
async fn the_help_of_check_is_complete() {
    let output = scaler(&["check", "-h"], "").await;
    let flat = stdout(&output).split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "Usage: scaler check [OPTIONS] <FILE>...",
        "<FILE>... Manifests (YAML) with `ScaledObject`s or `ScaledJob`s; `-` is standard input",
        "--config <FILE> The scaler's config file: then policyProfile, connectionRef and freshness are checked against it too",
        "-n, --namespace <NAME> Kubernetes namespace of objects that name none [default: default]",
        "--strict Take warnings for errors",
        "--output <FORMAT> How to print it [default: text] [possible values: text, json]",
        "--migrate Print the one FILE with its built-in azure-servicebus triggers translated",
        "With --migrate: --push Translate to type external-push",
        "--scaler-address <HOST:PORT> Address of the scaler for the triggers [default: servicebus-scaler.autoscale-demo.svc.cluster.local:6000]",
        "--authentications <FILE> Further manifests with `TriggerAuthentication`s that the triggers name; repeatable",
    ] {
        assert!(flat.contains(part), "{part:?} is missing in\n{flat}");
    }
    let long = scaler(&["check", "--help"], "").await;
    assert!(stdout(&long).contains("json: One JSON array with an object for each finding"), "{}", stdout(&long));
}

#[test]
fn every_command_and_flag_says_what_it_is_for() {
    for command in scaler::Args::command().get_subcommands() {
        assert!(command.get_about().is_some(), "{}", command.get_name());
        for argument in command.get_arguments() {
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            let place = format!("{} {}", command.get_name(), argument.get_id());
            assert!(help.len() > 10 && !help.ends_with('.'), "{place}: {help:?}");
        }
    }
}

#[tokio::test]
async fn the_example_of_the_config_file_can_be_used() {
    let example = scaler(&["config", "--example"], "").await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("scaler.yaml");
    std::fs::write(&file, &example.stdout).expect("the file can be written");
    let path = file.to_str().expect("a plain path");
    let output = scaler(&["config", "--check", path], "").await;
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout(&output), format!("{path} can be used: connections 5, profiles 1\n"));

    std::fs::write(&file, "cacheTtlSeconds: 5000\n").expect("the file can be written");
    let output = scaler(&["config", "--check", path], "").await;
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cacheTtlSeconds: 5000 is not between 0 and 300"), "{}", stderr(&output));
    assert_eq!(scaler(&["config"], "").await.status.code(), Some(2), "one of the two is required");
}

#[tokio::test]
async fn completions_name_commands_and_flags() {
    for shell in ["bash", "zsh", "fish"] {
        let output = scaler(&["completions", shell], "").await;
        let text = stdout(&output);
        assert!(output.status.success(), "{shell}");
        for word in ["serve", "explain", "migrate", "scaler-address"] {
            assert!(text.contains(word), "{shell}: {word} is missing");
        }
    }
    assert_eq!(scaler(&["completions", "cobol"], "").await.status.code(), Some(2));
}
