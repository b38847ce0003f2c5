//! The same loop against a namespace that the demo did not start, which is how it runs against Azure: by a connection string
//! in a file and the name of a queue. A broker started by the test stands in for it.

use std::process::{Child, Command, Stdio};

use servicebus::{AdministrationClient, AdministrationOptions};

use crate::bench::{DEADLINE, Demo, wait_for};

/// A broker of its own, outside the demo. Dropping it kills it.
struct Namespace {
    broker: Child,
    folder: tempfile::TempDir,
}

impl Namespace {
    fn start(queue: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ready = folder.path().join("ready.json");
        let broker = Command::new(env!("CARGO_BIN_EXE_demo"))
            .args(["role", "broker", "--listen", "127.0.0.1:0", "--lock-duration", "2s", "--queue", queue])
            .arg("--ready-file")
            .arg(&ready)
            .env_clear()
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the broker starts");
        let namespace = Self { broker, folder };
        let ready = wait_for(DEADLINE, || std::fs::read_to_string(&ready).ok()).expect("it serves");
        let ready: runtime::Ready = serde_json::from_str(&ready).expect("a ready line");
        let connection = ready.connection_string.expect("a connection string");
        std::fs::write(namespace.folder.path().join("connection"), connection).expect("written");
        namespace
    }

    fn delete(&self, queue: &str) {
        let text = std::fs::read_to_string(self.folder.path().join("connection")).expect("read");
        let connection = servicebus::ConnectionString::parse(&text).expect("a connection string");
        let patient = AdministrationOptions { timeout: DEADLINE, ..AdministrationOptions::default() };
        let client = AdministrationClient::with_options(&connection, patient).expect("a client");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(client.delete_queue(queue)).expect("deleted");
    }

    fn flag(&self) -> String {
        format!("--connection-string-file={}", self.folder.path().join("connection").display())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.broker.kill();
        let _ = self.broker.wait();
    }
}

#[test]
fn the_loop_runs_against_a_namespace_given_by_its_connection_string() {
    let namespace = Namespace::start("orders");
    let ended = Demo::start(&[&namespace.flag(), "--queue=orders"]).end();
    let summary = ended.assert_nothing_lost(120);
    assert!(summary["peakReplicas"].as_u64() > Some(1), "{summary}");
    assert!(!ended.stdout.contains("local broker"), "{}", ended.stdout);

    // Ids are new in every run, so a queue that lives on does not mix them up.
    let again = Demo::start(&[&namespace.flag(), "--queue=orders", "--messages=40", "--message-count=5"]);
    again.end().assert_nothing_lost(40);
}

#[test]
fn a_queue_that_is_not_there_is_named() {
    let namespace = Namespace::start("orders");
    let ended = Demo::start(&[&namespace.flag(), "--queue=other"]).end();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stdout);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("--queue other"), "{}", ended.stderr);
}

#[test]
fn workers_that_give_up_one_after_the_other_end_the_run() {
    let namespace = Namespace::start("orders");
    let mut demo = Demo::start(&[&namespace.flag(), "--queue=orders", "--messages=600"]);
    demo.wait_until("it is at work", |demo| demo.handled() >= 5);
    namespace.delete("orders");
    let ended = demo.end();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stdout);
    assert!(ended.stdout.contains("gave up (exit code 1), the last of 4 in a row"), "{}", ended.stdout);
    assert_eq!(ended.summary()["ok"], false);
}
