//! The sender as a real process against the real broker: what it reports as confirmed is in the queue, whatever happens.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use servicebus::Adapter;
use testbench::{Bench, Program, QUEUE, SUBSCRIPTIONS, TOPIC, clients, until, within};
use workload::body;

const SENDER: &str = env!("CARGO_BIN_EXE_sender");
const MINUTE: Duration = Duration::from_mins(1);

/// Starts a sender with a ledger named `ledger`.
fn sender(bench: &Bench, client: Adapter, arguments: &[&str]) -> Program {
    sender_at(bench, bench.connection_string(), client, arguments)
}

fn sender_at(bench: &Bench, connection: &str, client: Adapter, arguments: &[&str]) -> Program {
    let ledger = bench.file("ledger");
    let mut all = vec!["--ledger", ledger.to_str().expect("utf-8"), "--client", client.name()];
    all.extend_from_slice(arguments);
    let environment = [("SERVICEBUS_CONNECTION_STR", connection), ("SERVICEBUS_QUEUE_NAME", QUEUE)];
    Program::start(SENDER, &all, &environment)
}

/// The bodies in the queue, in order.
async fn bodies(bench: &Bench) -> Vec<bytes::Bytes> {
    let client = bench.client("");
    let mut bodies = Vec::new();
    let mut from = 0;
    loop {
        let messages = within("peek", client.peek(from, 250)).await.expect("peeked");
        let Some(last) = messages.last() else { break };
        from = last.sequence_number + 1;
        bodies.extend(messages.into_iter().map(|message| message.body));
    }
    within("close", client.close()).await.expect("closed");
    bodies
}

/// The ids in the queue, in order.
async fn ids(bench: &Bench) -> Vec<u64> {
    bodies(bench).await.iter().map(|body| body::parse(body).expect("an id")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_arrives_once_with_the_articles_body() {
    for client in clients() {
        let bench = Bench::start(MINUTE).await;
        let ended = sender(&bench, client, &["--messages", "250", "--first-id", "40"]).ended().await;
        assert!(ended.status.success(), "{client}: {}", ended.stderr);
        assert!(ended.stdout.starts_with("sent 250 messages in 1 batches in "), "{client}: {}", ended.stdout);
        let expected: Vec<String> = (40..290).map(|id| format!(r#"{{"foo":"bar","id":{id}}}"#)).collect();
        assert_eq!(bodies(&bench).await, expected, "{client}");
        assert_eq!(bench.ledger("ledger"), (40..290).collect::<Vec<u64>>(), "{client}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_to_a_topic_is_in_each_of_its_subscriptions() {
    for client in clients() {
        let bench = Bench::start(MINUTE).await;
        bench.make_topic().await;
        let arguments = ["--topic", TOPIC, "--messages", "30", "--client", client.name()];
        let environment = [("SERVICEBUS_CONNECTION_STR", bench.connection_string())];
        let ended = Program::start(SENDER, &arguments, &environment).ended().await;
        assert!(ended.status.success(), "{client}: {}", ended.stderr);
        assert!(ended.stdout.starts_with("sent 30 messages"), "{client}: {}", ended.stdout);
        for name in SUBSCRIPTIONS {
            assert_eq!(bench.subscription_counts(name).await.active, 30, "{client}: {name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_environment_alone_is_enough() {
    let bench = Bench::start(MINUTE).await;
    let secret = bench.file("secret");
    std::fs::write(&secret, format!("{}\n", bench.connection_string())).expect("written");
    let environment = [
        ("SERVICEBUS_CONNECTION_STR_FILE", secret.to_str().expect("utf-8")),
        ("SERVICEBUS_QUEUE_NAME", QUEUE),
        ("NR_MESSAGES", "3"),
    ];
    let ended = Program::start(SENDER, &[], &environment).ended().await;
    assert!(ended.status.success(), "{}", ended.stderr);
    assert_eq!(ids(&bench).await, [0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_are_filled_up_to_the_links_limit() {
    for client in clients() {
        let bench = Bench::start(MINUTE).await;
        let ended = sender(&bench, client, &["--messages", "10000"]).ended().await;
        assert!(ended.status.success(), "{client}: {}", ended.stderr);
        let batches: u64 =
            ended.stdout.split(' ').nth(4).and_then(|word| word.parse().ok()).expect("a number of batches");
        // About 90 bytes a message and 256 KiB or 1 MiB a batch.
        assert!((2..=10).contains(&batches), "{client}: {}", ended.stdout);
        bench.until_counts(10_000, 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_connection_loses_no_message() {
    for client in clients() {
        let bench = Bench::start(MINUTE).await;
        let proxy = bench.proxy().await;
        let connection = bench.connection_string_through(&proxy);
        // More than it sends before it is told to stop, so that each cut comes in the middle, on a slow machine too.
        let arguments = ["--messages", "100000", "--batch-size", "5", "--rate", "300"];
        let sender = sender_at(&bench, &connection, client, &arguments);
        let more_confirmed = async || {
            let before = bench.ledger("ledger").len();
            until("more messages confirmed", || async { bench.ledger("ledger").len() > before }).await;
        };
        for _ in 0..3 {
            more_confirmed().await;
            proxy.cut();
        }
        more_confirmed().await;
        sender.terminate();
        let ended = sender.ended().await;
        let confirmed = bench.ledger("ledger");
        let wanted = format!("sender: {} of 100000 messages confirmed: stopped by a signal\n", confirmed.len());
        assert!(ended.stderr.ends_with(&wanted), "{client}: {}", ended.stderr);
        assert_eq!(confirmed, (0..confirmed.len() as u64).collect::<Vec<_>>(), "{client}: confirmed once each");
        let there = BTreeSet::from_iter(ids(&bench).await);
        let lost: Vec<&u64> = confirmed.iter().filter(|id| !there.contains(id)).collect();
        assert_eq!(lost, Vec::<&u64>::new(), "{client}: each at least once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_falls_silent_is_given_up() {
    for client in clients() {
        let bench = Bench::start(MINUTE).await;
        let proxy = bench.proxy().await;
        let connection = bench.connection_string_through(&proxy);
        // Ten seconds of sending, so that the connection is in use when it falls silent; what is late then is sent at once.
        let arguments = ["--messages", "500", "--batch-size", "5", "--rate", "50"];
        let sender = sender_at(&bench, &connection, client, &arguments);
        until("messages confirmed", || async { !bench.ledger("ledger").is_empty() }).await;
        proxy.stall();
        let ended = sender.ended().await;
        assert!(ended.status.success(), "{client}: {}", ended.stderr);
        assert!(ended.stderr.contains("not confirmed; trying again"), "{client}: {}", ended.stderr);
        assert_eq!(BTreeSet::from_iter(ids(&bench).await), (0..500).collect::<BTreeSet<u64>>(), "{client}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_trying_long_enough_it_says_what_was_confirmed() {
    for client in clients() {
        let bench = Bench::start(MINUTE).await;
        let proxy = bench.proxy().await;
        let connection = bench.connection_string_through(&proxy);
        let arguments = ["--messages", "1000", "--rate", "50", "--retry-for", "1"];
        let sender = sender_at(&bench, &connection, client, &arguments);
        until("messages confirmed", || async { !bench.ledger("ledger").is_empty() }).await;
        proxy.cut_for_good();
        let ended = sender.ended().await;
        assert_eq!(ended.status.code(), Some(1), "{client}");
        let confirmed = bench.ledger("ledger").len();
        let last = ended.stderr.lines().last().unwrap_or_default();
        let wanted = format!("sender: {confirmed} of 1000 messages confirmed: gave up after ");
        assert!(last.starts_with(&wanted), "{client}: {last:?}, not {wanted:?}");
        let doubt = "ended without knowing of the last batch: its messages may be there without being confirmed";
        assert!(ended.stderr.contains(doubt), "{client}: {}", ended.stderr);
        assert!(bodies(&bench).await.len() >= confirmed, "{client}: what is confirmed is there");
        assert_eq!(ended.stdout, "", "{client}: no summary");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_stops_it_and_it_says_how_far_it_came() {
    for client in clients() {
        let bench = Bench::start(MINUTE).await;
        let sender = sender(&bench, client, &["--messages", "100000", "--rate", "100"]);
        until("messages confirmed", || async { !bench.ledger("ledger").is_empty() }).await;
        sender.terminate();
        let ended = sender.ended().await;
        assert_eq!(ended.status.code(), Some(1), "{client}: {}", ended.stderr);
        let confirmed = bench.ledger("ledger");
        let wanted = format!("sender: {} of 100000 messages confirmed: stopped by a signal\n", confirmed.len());
        assert!(ended.stderr.ends_with(&wanted), "{client}: {}", ended.stderr);
        // A machine that stands still leaves the last batch in doubt, and it may be there.
        let there = ids(&bench).await;
        let (known, more) = there.split_at_checked(confirmed.len()).expect("what is confirmed is there");
        assert_eq!(known, confirmed, "{client}");
        assert!(more.len() as u64 <= in_doubt(&ended.stderr), "{client}: {more:?} and {}", ended.stderr);
    }
}

/// How many messages the sender says it does not know of.
fn in_doubt(log: &str) -> u64 {
    let line = log.lines().find(|line| line.contains("ended without knowing of the last batch"));
    let number = line.and_then(|line| line.split("messages=").nth(1)?.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_is_kept() {
    let bench = Bench::start(MINUTE).await;
    let started = Instant::now();
    let ended = sender(&bench, Adapter::Ours, &["--messages", "60", "--rate", "50"]).ended().await;
    assert!(ended.status.success(), "{}", ended.stderr);
    // The first five leave at once, the last at 55/50 s.
    assert!(started.elapsed() >= Duration::from_millis(1_100), "{:?}", started.elapsed());
    assert!(ended.stderr.contains(" of 60 messages confirmed ("), "progress, once a second: {}", ended.stderr);
    assert_eq!(ids(&bench).await, (0..60).collect::<Vec<u64>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_cannot_be_used_ends_it_at_once() {
    for client in clients() {
        let bench = Bench::start(MINUTE).await;
        let good = bench.connection_string().to_owned();
        let wrong_key = good.replace("SharedAccessKey=", "SharedAccessKey=no-");
        for (connection, queue, wanted) in [
            (&good, "nope", "sender: 0 of 1000 messages confirmed: queue \"nope\" does not exist at 127.0.0.1:"),
            (&wrong_key, QUEUE, "sender: 0 of 1000 messages confirmed: 127.0.0.1:"),
        ] {
            let arguments = ["--client", client.name(), "--queue", queue, "--log-level", "error"];
            let environment = [("SERVICEBUS_CONNECTION_STR", connection.as_str())];
            let ended = Program::start(SENDER, &arguments, &environment).ended().await;
            assert_eq!(ended.status.code(), Some(1), "{client}: {}", ended.stderr);
            let line = ended.stderr.lines().last().unwrap_or_default();
            assert!(line.starts_with(wanted), "{client}: {}", ended.stderr);
            assert!(
                queue == "nope" || line.contains("refuses the credential for queue \"orders\""),
                "{client}: {line}"
            );
            assert!(!ended.stderr.contains("no-"), "{client}: no part of the key: {}", ended.stderr);
        }
    }
}

#[tokio::test]
async fn bad_input_is_one_line() {
    const STRING: &str =
        "Endpoint=sb://127.0.0.1:9;SharedAccessKeyName=n;SharedAccessKey=PLANTED;UseDevelopmentEmulator=true";
    for (arguments, code, wanted) in [
        (
            &["--connection-string", STRING][..],
            1,
            "sender: no queue: give --queue NAME or set SERVICEBUS_QUEUE_NAME; for a topic --topic NAME \
             (SERVICEBUS_TOPIC_NAME)\n",
        ),
        (
            &["--connection-string", STRING, "--queue", "q", "--topic", "t"],
            1,
            "sender: both queue \"q\" and topic \"t\" are given (by flags or SERVICEBUS_… variables); give one of them\n",
        ),
        (
            &["--connection-string", "Endpoint=sb://h;SharedAccessKeyName=n;SharedAccessKey=PLANTED", "--queue", "/"],
            1,
            "sender: queue name \"/\" is not allowed: 1 to 260 characters, no control characters, no `/` at its ends\n",
        ),
        (
            &["--connection-string", STRING, "--queue", "q", "--first-id", "18446744073709551615"],
            1,
            "sender: --first-id 18446744073709551615 with --messages 1000 counts beyond 2^64-1, the largest id\n",
        ),
        (
            &["--messages", "many"],
            2,
            "error: invalid value 'many' for '--messages <COUNT>': invalid digit found in string\n\nFor more information, \
             try '--help'.\n",
        ),
        (
            &["--rate", "-5"],
            2,
            "error: invalid value '-5' for '--rate <RATE>': must be a number of messages per second from 0 (no limit) to \
             1000000\n\nFor more information, try '--help'.\n",
        ),
    ] {
        let ended = Program::start(SENDER, arguments, &[]).ended().await;
        assert_eq!((ended.status.code(), ended.stderr.as_str()), (Some(code), wanted), "{arguments:?}");
    }
}
