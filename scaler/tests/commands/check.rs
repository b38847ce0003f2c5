//! `scaler check`: exit codes, formats, files and standard input.

use serde_json::Value;

use crate::{scaler, stderr, stdout};

const GOOD: &str = "kind: ScaledObject
metadata: {name: receiver, namespace: shop}
spec:
  advanced: {horizontalPodAutoscalerConfig: {behavior: {scaleDown: {stabilizationWindowSeconds: 60}}}}
  triggers:
  - type: external
    metadata: {scalerAddress: 'scaler:6000', queueName: orders, connectionFromEnv: CONNECTION}
";

#[tokio::test]
async fn nothing_to_say_is_success() {
    let output = scaler(&["check", "-"], GOOD).await;
    assert_eq!(
        (output.status.code(), stdout(&output)),
        (Some(0), "1 trigger of this scaler's: no errors, no warnings\n")
    );
    assert_eq!(stderr(&output), "");
}

#[tokio::test]
async fn an_error_fails_and_a_warning_fails_only_with_strict() {
    let wrong = GOOD.replace("queueName: orders", "queueName: a b");
    let output = scaler(&["check", "-"], &wrong).await;
    assert_eq!(output.status.code(), Some(1));
    let expected =
        "-:7: error: ScaledObject shop/receiver, trigger 0: metadata queueName: \"a b\" is not the name of a queue";
    assert!(stdout(&output).starts_with(expected), "{}", stdout(&output));
    assert!(stdout(&output).ends_with("1 trigger of this scaler's: 1 error, no warnings\n"), "{}", stdout(&output));

    let odd = GOOD.replace("queueName: orders", "queueName: orders, metricname: x");
    assert_eq!(scaler(&["check", "-"], &odd).await.status.code(), Some(0));
    assert_eq!(scaler(&["check", "--strict", "-"], &odd).await.status.code(), Some(1));
}

#[tokio::test]
async fn machines_get_json() {
    let wrong = GOOD.replace("queueName: orders", "queueName: a b");
    let output = scaler(&["check", "--output", "json", "-"], &wrong).await;
    assert_eq!(output.status.code(), Some(1));
    let findings: Value = serde_json::from_str(stdout(&output)).expect("JSON and nothing else");
    let [finding] = &findings.as_array().expect("an array")[..] else { panic!("one finding, got {findings}") };
    assert_eq!(finding["severity"], "error");
    assert_eq!((&finding["file"], &finding["line"], &finding["trigger"]), (&"-".into(), &7.into(), &0.into()));
    assert_eq!(finding["object"], "ScaledObject shop/receiver");
    assert_eq!(scaler(&["check", "--output", "json", "-"], GOOD).await.stdout, b"[]\n");
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_an_error_and_the_others_are_checked() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let missing = folder.path().join("missing.yaml");
    let broken = folder.path().join("broken.yaml");
    std::fs::write(&broken, "a: b\na: c\n").expect("the file can be written");
    let paths = [&missing, &broken].map(|path| path.to_str().expect("a plain path"));
    let output = scaler(&["check", paths[0], paths[1], "-"], GOOD).await;
    assert_eq!(output.status.code(), Some(1));
    let lines: Vec<_> = stdout(&output).lines().collect();
    assert!(lines[0].starts_with(&format!("{}: error: failed to read it", paths[0])), "{lines:?}");
    assert_eq!(lines[1], format!("{}:2: error: it is not YAML of Kubernetes: the key \"a\" stands twice", paths[1]));
    assert_eq!(lines[2], "1 trigger of this scaler's: 2 errors, no warnings");
}

#[tokio::test]
async fn the_config_file_knows_profiles_and_connections() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("scaler.yaml");
    std::fs::write(&config, "connections: {own: {allowedNamespaces: [bank], connectionStringFile: /x}}\n")
        .expect("the file can be written");
    let config = config.to_str().expect("a plain path");
    let by = GOOD.replace("connectionFromEnv: CONNECTION", "connectionRef: own");
    assert_eq!(scaler(&["check", "-"], &by).await.status.code(), Some(0), "without the file nobody can know");
    let output = scaler(&["check", "--config", config, "-"], &by).await;
    assert!(stdout(&output).contains("does not list Kubernetes namespace \"shop\""), "{}", stdout(&output));
    let unnamed = by.replace(", namespace: shop", "");
    let output = scaler(&["check", "--config", config, "--namespace", "bank", "-"], &unnamed).await;
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
}

/// The manifests that this repository offers must pass what it tells others to pass.
#[tokio::test]
async fn our_own_manifests_pass_strictly() {
    let deploy = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");
    let mut files = Vec::new();
    for folder in ["examples", "scaled-objects"] {
        let folder = std::path::Path::new(deploy).join(folder);
        for entry in std::fs::read_dir(&folder).expect("the folder can be read") {
            files.push(entry.expect("an entry").path().to_str().expect("a plain path").to_owned());
        }
    }
    assert!(files.len() >= 5, "{files:?}");
    let arguments: Vec<_> = ["check", "--strict"].into_iter().chain(files.iter().map(String::as_str)).collect();
    let output = scaler(&arguments, "").await;
    assert!(output.status.success(), "{}", stdout(&output));
}
