//! The manifests against the Dockerfile: the image has every binary that is started, and runs as the same user.

use deploy::Manifests;
use serde_json::Value;

use crate::fixture::{items, root};

pub(crate) fn problems(manifests: &Manifests) -> Vec<String> {
    let text = std::fs::read_to_string(root().join("Dockerfile")).expect("a readable Dockerfile");
    against(&text, manifests)
}

fn against(dockerfile: &str, manifests: &Manifests) -> Vec<String> {
    let last = dockerfile.rsplit("\nFROM ").next().unwrap_or_default();
    let words = |instruction: &'static str| {
        last.lines().filter_map(move |line| line.strip_prefix(instruction)).flat_map(str::split_whitespace)
    };
    let mut problems = Vec::new();
    for document in manifests.documents.iter().filter(|document| document.pod().is_some()) {
        let user = document.pod().and_then(|pod| pod.get("securityContext")).map(|context| {
            format!(
                "{}:{}",
                context.get("runAsUser").unwrap_or(&Value::Null),
                context.get("runAsGroup").unwrap_or(&Value::Null)
            )
        });
        if user.as_deref() != words("USER ").next() {
            problems.push(format!("{document} runs as {user:?}, the image as {:?}", words("USER ").next()));
        }
        for container in document.containers() {
            for binary in items(container, "command").filter_map(Value::as_str) {
                if !words("COPY ").any(|word| word.strip_prefix("/image") == Some(binary)) {
                    problems.push(format!("{document} starts {binary}, which is not in the image"));
                }
            }
        }
    }
    if !words("COPY ").any(|word| word == "/etc/ssl/certs/ca-certificates.crt") {
        problems.push("the image has no CA certificates".to_owned());
    }
    problems
}

#[test]
fn an_image_without_a_binary_its_user_or_certificates_is_noticed() {
    let manifests = crate::fixture::overlay("local");
    let damaged =
        "FROM rust AS build\nFROM scratch\nCOPY --from=build /image/scaler /image/worker /image/sender /\nUSER 0:0\n";
    let problems = against(damaged, &manifests).join("\n");
    for wanted in ["starts /broker, which is not in the image", "the image as Some(\"0:0\")", "no CA certificates"] {
        assert!(problems.contains(wanted), "{wanted:?} is not in:\n{problems}");
    }
    assert!(!problems.contains("starts /worker"), "{problems}");
}

#[test]
fn the_scaler_in_the_image_takes_every_flag_that_is_documented() {
    let text = std::fs::read_to_string(root().join("Dockerfile")).expect("a readable Dockerfile");
    assert!(text.contains(" --features scaler/otlp "), "without it there is no --otlp-endpoint: docs/scaler.md");
}
