//! The broker as a process: ready line, ready file, signals, errors on the command line.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use amqp::{DeliveryState, Map, Message, Value};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::client::Client;
use super::http::raw;

/// A child that does not outlive its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn start(arguments: &[&str]) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_broker"))
            .args(arguments)
            .env_clear()
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        Self(child)
    }

    /// The first line on stdout.
    fn ready_line(&mut self) -> String {
        let stdout = self.0.stdout.take().expect("piped");
        let (sender, line) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = BufReader::new(stdout).read_line(&mut line);
            // The test may have given up.
            let _ = sender.send(read.map(|_| line));
        });
        line.recv_timeout(Duration::from_secs(20)).expect("a line in time").expect("readable")
    }

    /// What its memory takes now, in KiB: `VmRSS` of proc(5).
    fn memory_kib(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("proc(5)");
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("proc(5)");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Waits for the end; with it comes everything it wrote on stderr.
    fn end(&mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if let Some(status) = self.0.try_wait().expect("a child") {
                let mut text = String::new();
                self.0.stderr.as_mut().expect("piped").read_to_string(&mut text).expect("text");
                return (status, text);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the broker did not end in time");
    }
}

#[test]
fn it_says_where_it_listens_and_ends_on_a_signal() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ready.json");
    let path = file.to_str().expect("utf-8");
    let mut broker = Process::start(&["--listen", "127.0.0.1:0", "--queue", "q", "--ready-file", path]);
    let line = broker.ready_line();
    assert_eq!(std::fs::read_to_string(&file).expect("written"), line);
    assert!(
        line.starts_with("{\"listen\":[\"127.0.0.1:")
            && line.contains("\"connectionString\":\"Endpoint=sb://127.0.0.1:"),
        "{line}"
    );
    assert!(line.trim_end().ends_with(
        ";SharedAccessKeyName=RootManageSharedAccessKey;SharedAccessKey=SAS_KEY_VALUE;UseDevelopmentEmulator=true;\"}"
    ));
    let process = Pid::from_raw(broker.0.id().try_into().expect("a process id"));
    kill(process, Signal::SIGTERM).expect("it runs");
    let (status, _) = broker.end();
    assert!(status.success(), "{status}");
}

#[test]
fn tls_and_faults_are_asked_for_by_flags() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("authority.pem");
    let mut broker = Process::start(&[
        "--listen",
        "127.0.0.1:0",
        "--tls-generate",
        "broker.example,10.0.0.1",
        "--tls-ca-file",
        file.to_str().expect("utf-8"),
        "--fault",
        "throttle=30s,next=3",
        "--allow-faults",
        "--credits-per-second",
        "1000",
    ]);
    let ready: serde_json::Value = serde_json::from_str(&broker.ready_line()).expect("JSON");
    assert!(std::fs::read_to_string(&file).is_ok_and(|pem| pem.starts_with("-----BEGIN CERTIFICATE-----")));
    let secure = ready["tlsConnectionString"].as_str().expect("a second connection string");
    assert!(secure.starts_with("Endpoint=sb://127.0.0.1:") && !secure.contains("UseDevelopmentEmulator"), "{secure}");
    let address = ready["listen"][0].as_str().expect("an address").to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let listed = runtime.block_on(raw(address.parse().expect("an address"), "GET", "/$faults", "", ""));
    assert!(listed.body.contains("\"fault\":\"throttle=30s,next=3\""), "{listed:?}");
}

#[test]
fn bad_arguments_are_one_clear_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    for (arguments, code, wanted) in [
        (vec!["--listen", &address], 1, format!("cannot listen on {address}: ")),
        (vec!["--listen", "127.0.0.1:0", "--queue", "a b"], 1, "cannot create queue \"a b\"".to_owned()),
        (vec!["--listen", "127.0.0.1:0", "--topic", "Q", "--queue", "q"], 1, "cannot create topic Q: ".to_owned()),
        (
            vec!["--listen", "127.0.0.1:0", "--topic", "t", "--subscription", "t/a b"],
            1,
            "cannot create subscription \"a b\"".to_owned(),
        ),
        (vec!["--listen", "127.0.0.1:0", "--shared-access-key-file", "/no/such"], 1, "/no/such".to_owned()),
        (vec!["--listen", "localhost"], 2, "--listen <ADDRESS>".to_owned()),
        (vec!["--lock-duration", "1d"], 2, "PT30S".to_owned()),
        (vec!["--fault", "explode"], 2, "known are latency".to_owned()),
        (vec!["--tls-only"], 1, "--tls-only needs --tls-generate".to_owned()),
        (vec!["--tls-certificate", "/no/such"], 2, "--tls-key <FILE>".to_owned()),
        (vec!["--tls-ca-file", "/no/such"], 2, "--tls-generate".to_owned()),
        (vec!["--listen", "127.0.0.1:0", "--tls-certificate", "/no/a", "--tls-key", "/no/b"], 1, "/no/a".to_owned()),
        (vec!["--listen", "127.0.0.1:0", "--tls-generate", "a b"], 1, "\"a b\" is neither".to_owned()),
        (vec!["--control-key-file", "/no/such"], 1, "--control-key-file /no/such".to_owned()),
        (vec!["--shared-access-key", "n=k,rights=read"], 1, "listen, send and manage".to_owned()),
        (
            vec!["--listen", "127.0.0.1:0", "--shared-access-key", "n=k", "--shared-access-key", "n=another"],
            1,
            "two shared access keys are named \"n\"".to_owned(),
        ),
        (vec!["--credits-per-second", "0"], 2, "--credits-per-second".to_owned()),
    ] {
        let (status, text) = Process::start(&arguments).end();
        assert_eq!(status.code(), Some(code), "{arguments:?}: {text}");
        let error = text.lines().find(|line| line.contains(&wanted));
        assert!(error.is_some(), "{arguments:?}: {text}");
        assert!(!text.contains("panicked"), "{text}");
    }
}

/// A null takes one byte on the wire and forty in memory when it is decoded.
#[tokio::test]
async fn messages_take_about_the_memory_that_they_count() {
    let mut broker = Process::start(&["--listen", "127.0.0.1:0", "--queue", "q"]);
    let line = broker.ready_line();
    let address = line.split('"').nth(3).expect("an address").parse().expect("an address");
    let mut client = Client::connect(address).await.with_token().await;
    let sender = client.sender("q").await;
    let nulls = |name: &str| Map::from([(name, Value::List(vec![Value::Null; 80_000]))]);
    let message = Message {
        message_annotations: nulls("x-opt-mine"),
        application_properties: nulls("mine"),
        footer: nulls("mine"),
        ..Message::default()
    };
    assert_eq!(client.send(sender, &message).await, DeliveryState::Accepted, "what decoding takes is there now");
    let before = broker.memory_kib();
    for _ in 0..20 {
        assert_eq!(client.send(sender, &message).await, DeliveryState::Accepted);
    }
    let counted = 20 * message.encoded_len() as u64 / 1024;
    let taken = broker.memory_kib().saturating_sub(before);
    assert!(taken < 4 * counted, "{taken} KiB for messages of {counted} KiB");
}
