//! A run from beginning to end: everything sent is handled, replicas go 0 → several → 0, and a second run in the same folder
//! does it again.

use std::path::PathBuf;

use crate::bench::{DEADLINE, Demo, wait_for};

/// A lock that outlasts a pause of the machine: nothing is to come again.
const LASTING_LOCK: &str = "--lock-duration=60";

#[test]
fn every_message_is_handled_and_replicas_come_back_to_zero() {
    let ended = Demo::start(&[LASTING_LOCK]).end();
    let summary = ended.assert_nothing_lost(120);
    let peak = summary["peakReplicas"].as_u64().expect("a number");
    assert!((2..=4).contains(&peak), "{summary}");
    assert_eq!(summary["workersDied"], 0);
    assert_eq!(summary["duplicates"], 0, "{summary}");
    for moment in ["firstWorkerSeconds", "emptySeconds", "zeroSeconds", "replicaSeconds"] {
        assert!(summary[moment].as_f64().is_some_and(|seconds| seconds > 0.0), "{moment} in {summary}");
    }
    assert!(summary["firstWorkerSeconds"].as_f64() < summary["emptySeconds"].as_f64(), "{summary}");
    assert!(summary["emptySeconds"].as_f64() < summary["zeroSeconds"].as_f64(), "{summary}");

    assert!(ended.stdout.contains("KEDA: 0 → 1 replicas"), "{}", ended.stdout);
    assert!(ended.stdout.contains(" → 0 replicas: inactive"), "{}", ended.stdout);
    assert!(ended.stdout.contains("result     ok"), "{}", ended.stdout);
    assert!(!ended.stdout.contains('\u{1b}'), "plain lines where stdout is no terminal");
    assert_eq!(ended.stderr, "");
    let chart = ended.file("chart.svg");
    assert!(chart.starts_with("<svg") && chart.trim_end().ends_with("</svg>"));
    assert!(ended.file("timeline.log").contains("starts: worker-1 (process "));
    assert!(ended.file("logs/worker-1.log").contains("stopped"), "the worker drained and said so");
    assert!(ended.file("logs/broker.log").contains("listening"), "the logs are there to be searched");
    assert_eq!(ended.files_with("SAS_KEY_VALUE"), Vec::<PathBuf>::new(), "no file holds the key");
}

#[test]
fn a_second_run_in_the_same_folder_replaces_the_first() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = format!("--out={}", folder.path().join("demo").display());
    let few = ["--messages=40", "--message-count=5", LASTING_LOCK, &out];
    for run in ["first", "second"] {
        let ended = Demo::start(&few).end();
        assert!(ended.status.success(), "{run}: {}", ended.stdout);
        let ledgers = std::fs::read_dir(folder.path().join("demo/ledgers")).expect("ledgers");
        let ids: usize = ledgers
            .map(|file| file.expect("a file").path())
            .filter(|path| !path.ends_with("sender"))
            .map(|path| std::fs::read_to_string(path).expect("read").lines().count())
            .sum();
        assert_eq!(ids, 40, "{run}");
    }
}

#[test]
fn a_folder_in_use_is_not_shared() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = format!("--out={}", folder.path().join("demo").display());
    let mut first = Demo::start(&["--wait-time=60", &out]);
    first.wait_until("it has a folder", |_| folder.path().join("demo/timeline.log").exists());
    let second = Demo::start(&[&out]).end();
    assert_eq!(second.status.code(), Some(1), "{}", second.stdout);
    assert!(second.stderr.contains("another demo is writing to this folder"), "{}", second.stderr);
    assert!(wait_for(DEADLINE, || (!first.children("broker").is_empty()).then_some(())).is_some(), "the first goes on");
}
