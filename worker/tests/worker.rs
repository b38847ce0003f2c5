//! The worker as a real process against the real broker: nothing is lost, nothing stays locked, and it says what it does.

use std::time::{Duration, Instant};

use servicebus::Adapter;
use testbench::{Bench, Program, QUEUE, SUBSCRIPTIONS, TOPIC, clients, until, within};

const WORKER: &str = env!("CARGO_BIN_EXE_worker");
const MINUTE: Duration = Duration::from_mins(1);

/// Starts a worker with a ledger of this name.
fn worker(bench: &Bench, client: Adapter, ledger: &str, arguments: &[&str]) -> Program {
    worker_at(bench, bench.connection_string(), client, ledger, arguments)
}

fn worker_at(bench: &Bench, connection: &str, client: Adapter, ledger: &str, arguments: &[&str]) -> Program {
    let ledger = bench.file(ledger);
    let mut all = vec!["--ledger", ledger.to_str().expect("utf-8"), "--client", client.name()];
    all.extend_from_slice(arguments);
    let environment = [
        ("SERVICEBUS_CONNECTION_STR", connection),
        ("SERVICEBUS_QUEUE_NAME", QUEUE),
        ("LOG_LEVEL", "worker=debug,info"),
    ];
    Program::start(WORKER, &all, &environment)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_is_handled_once_and_stands_in_a_ledger() {
    for client in clients() {
        let bench = Bench::start(MINUTE).await;
        bench.fill(0..200).await;
        let arguments = ["--wait-time", "0.01", "--concurrency", "5"];
        let workers: Vec<Program> =
            ["a", "b", "c"].iter().map(|ledger| worker(&bench, client, ledger, &arguments)).collect();
        bench.until_counts(0, 0).await;
        let mut handled = 0;
        for worker in workers {
            worker.terminate();
            let ended = worker.ended().await;
            assert!(ended.status.success(), "{client}: {}", ended.stderr);
            assert!(ended.stderr.contains("abandoned=0 dead_lettered=0 lost_locks=0"), "{client}: {}", ended.stderr);
            handled += figure(&ended.stderr, "handled=");
        }
        assert_eq!(handled, 200, "{client}: what the workers say they handled");
        let mut ids = [bench.ledger("a"), bench.ledger("b"), bench.ledger("c")].concat();
        ids.sort_unstable();
        assert_eq!(ids, (0..200).collect::<Vec<u64>>(), "{client}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_of_a_job_ends_by_itself_when_there_is_nothing_left() {
    for client in clients() {
        let bench = Bench::start(MINUTE).await;
        bench.fill(0..20).await;
        let worker = worker(&bench, client, "ledger", &["--wait-time", "0.01", "--exit-when-idle", "2"]);
        let ended = worker.ended().await;
        assert!(ended.status.success(), "{client}: {}", ended.stderr);
        assert_eq!(bench.ledger("ledger"), (0..20).collect::<Vec<u64>>(), "{client}");
        bench.until_counts(0, 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_is_worked_off_like_a_queue() {
    for client in clients() {
        let bench = Bench::start(MINUTE).await;
        bench.make_topic().await;
        bench.fill_topic(0..20).await;
        let [worked_off, left_alone] = SUBSCRIPTIONS;
        let ledger = bench.file("ledger");
        let arguments = ["--ledger", ledger.to_str().expect("utf-8"), "--client", client.name(), "--wait-time", "0.01"];
        let environment = [
            ("SERVICEBUS_CONNECTION_STR", bench.connection_string()),
            ("SERVICEBUS_QUEUE_NAME", ""),
            ("SERVICEBUS_TOPIC_NAME", TOPIC),
            ("SERVICEBUS_SUBSCRIPTION_NAME", worked_off),
            ("EXIT_WHEN_IDLE", "2"),
        ];
        let ended = Program::start(WORKER, &arguments, &environment).ended().await;
        assert!(ended.status.success(), "{client}: {}", ended.stderr);
        let entity = format!("entity=\"{TOPIC}/Subscriptions/{worked_off}\"");
        assert!(ended.stderr.contains(&entity), "{client}: {}", ended.stderr);
        assert_eq!(bench.ledger("ledger"), (0..20).collect::<Vec<u64>>(), "{client}");
        for (name, left) in [(worked_off, 0), (left_alone, 20)] {
            let counts = bench.subscription_counts(name).await;
            assert_eq!((counts.active, counts.dead_letter), (left, 0), "{client}: {name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sigterm_what_is_in_hand_is_finished_and_nothing_stays_locked() {
    for client in clients() {
        const MESSAGES: usize = 400;
        let bench = Bench::start(MINUTE).await;
        // More than it works off before it is told to stop, on a slow machine too.
        bench.fill(0..MESSAGES as u64).await;
        let worker = worker(&bench, client, "ledger", &["--wait-time", "0.5", "--concurrency", "4"]);
        worker.until_said("received", 4).await;
        worker.terminate();
        let ended = worker.ended().await;
        assert!(ended.status.success(), "{client}: {}", ended.stderr);
        let handled = bench.ledger("ledger").len();
        assert!((4..MESSAGES).contains(&handled), "{client}: {handled} handled");
        assert_eq!(figure(&ended.stderr, "handled="), handled as u64, "{client}");
        // With locks of a minute, what comes now was not locked.
        assert_eq!(receivable_now(&bench, MESSAGES - handled).await.len(), MESSAGES - handled, "{client}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_finished_in_time_is_given_back() {
    for client in clients() {
        let bench = Bench::start(MINUTE).await;
        bench.fill([7]).await;
        let worker = worker(&bench, client, "ledger", &["--wait-time", "600", "--drain-timeout", "0.2"]);
        worker.until_said("received", 1).await;
        worker.terminate();
        let ended = worker.ended().await;
        assert!(ended.status.success(), "{client}: {}", ended.stderr);
        assert!(ended.stderr.contains("handled=0 abandoned=1"), "{client}: {}", ended.stderr);
        assert_eq!(receivable_now(&bench, 1).await, [1], "{client}: delivered again, and the first delivery counts");
        assert!(bench.ledger("ledger").is_empty(), "{client}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_kill_another_worker_gets_the_messages() {
    for client in clients() {
        let bench = Bench::start(Duration::from_secs(2)).await;
        bench.fill(0..6).await;
        let killed = worker(&bench, client, "killed", &["--wait-time", "600", "--concurrency", "3"]);
        killed.until_said("received", 3).await;
        killed.kill();
        assert!(!killed.ended().await.status.success());
        let heir = worker(&bench, client, "heir", &["--wait-time", "0"]);
        bench.until_counts(0, 0).await;
        heir.terminate();
        assert!(heir.ended().await.status.success());
        assert!(bench.ledger("killed").is_empty(), "{client}");
        let mut inherited = bench.ledger("heir");
        // On a machine that stands still for two seconds, a lock of the heir's runs out and its message comes again.
        inherited.dedup();
        assert_eq!(inherited, [0, 1, 2, 3, 4, 5], "{client}");
    }
}

/// A machine that stands still when a lock is to be renewed loses it, which is no fault of the worker: such a turn proves
/// nothing and is made anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_is_renewed_for_as_long_as_its_message_is_handled() {
    const LOCK: Duration = Duration::from_secs(3);
    const TURNS: u32 = 8;
    for client in clients() {
        let mut turns = 0;
        loop {
            turns += 1;
            let (said, stood_still) = standstill_during(handled_longer_than_a_lock(client, LOCK)).await;
            let Err(said) = said else { break };
            // It is renewed when half of it is over.
            assert!(stood_still >= LOCK / 2 && turns < TURNS, "{client}: stood still for {stood_still:?}: {said}");
        }
    }
}

/// One message, a worker that handles it for longer than its lock lasts, and a rival who would get it. What the two said, if
/// the lock was lost.
async fn handled_longer_than_a_lock(client: Adapter, lock: Duration) -> Result<(), String> {
    let bench = Bench::start(lock).await;
    bench.fill([1]).await;
    let work = (lock + Duration::from_secs(1)).as_secs().to_string();
    let slow = worker(&bench, client, "slow", &["--wait-time", &work]);
    slow.until_said("received", 1).await;
    let rival = worker(&bench, client, "rival", &["--wait-time", "0"]);
    bench.until_counts(0, 0).await;
    let mut said = String::new();
    for worker in [slow, rival] {
        worker.terminate();
        said += &worker.ended().await.stderr;
    }
    let renewed = said.matches("lock renewed").count();
    let handlers = (bench.ledger("slow"), bench.ledger("rival"));
    let is_kept = said.matches("lost_locks=0").count() == 2 && handlers == (vec![1], vec![]) && renewed >= 1;
    if is_kept { Ok(()) } else { Err(format!("handled by {handlers:?}: {said}")) }
}

/// How long this process stood still meanwhile, all in all: what passed beyond a sleep of twenty milliseconds.
async fn standstill_during<T>(future: impl Future<Output = T>) -> (T, Duration) {
    const SLEEP: Duration = Duration::from_millis(20);
    let mut future = std::pin::pin!(future);
    let mut stood_still = Duration::ZERO;
    loop {
        let slept_at = Instant::now();
        let done = tokio::time::timeout(SLEEP, &mut future).await;
        stood_still += slept_at.elapsed().saturating_sub(SLEEP * 2);
        if let Ok(value) = done {
            return (value, stood_still);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_without_an_id_go_to_the_dead_letter_queue() {
    for client in clients() {
        let bench = Bench::start(MINUTE).await;
        bench.send(["hello", "{}", r#"{"id":"x"}"#, r#"{"foo":"bar","id":3}"#].map(bytes::Bytes::from)).await;
        let worker = worker(&bench, client, "ledger", &["--wait-time", "0"]);
        bench.until_counts(0, 3).await;
        worker.terminate();
        let ended = worker.ended().await;
        assert!(
            ended.stderr.contains("handled=1 abandoned=0 dead_lettered=3 lost_locks=0"),
            "{client}: {}",
            ended.stderr
        );
        assert!(ended.stderr.contains("is not JSON") && ended.stderr.contains("BadBody"), "{client}: {}", ended.stderr);
        assert_eq!(bench.ledger("ledger"), [3], "{client}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_connection_loses_no_message_and_is_told_once() {
    for client in clients() {
        let bench = Bench::start(Duration::from_secs(2)).await;
        let proxy = bench.proxy().await;
        let connection = bench.connection_string_through(&proxy);
        let worker = worker_at(&bench, &connection, client, "ledger", &["--wait-time", "0.1", "--concurrency", "3"]);
        for round in 0..3 {
            // Twice as many as there are hands, so that the cut comes in the middle.
            let before = bench.ledger("ledger").len();
            bench.fill(round * 6..(round + 1) * 6).await;
            until("another message handled", || async { bench.ledger("ledger").len() > before }).await;
            let connections = proxy.connections();
            proxy.cut();
            until("a new connection", || async { proxy.connections() > connections }).await;
        }
        bench.until_counts(0, 0).await;
        worker.terminate();
        let ended = worker.ended().await;
        assert!(ended.status.success(), "{client}: {}", ended.stderr);
        let mut ids = bench.ledger("ledger");
        ids.dedup();
        assert_eq!(ids, (0..18).collect::<Vec<u64>>(), "{client}: each at least once");
        assert!(ended.stderr.matches("cannot receive").count() <= 3, "{client}: once for each cut: {}", ended.stderr);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_is_announced_once_the_queue_was_reached() {
    for client in clients() {
        let bench = Bench::start(MINUTE).await;
        let ready = bench.file("ready");
        let worker = worker(&bench, client, "ledger", &["--ready-file", ready.to_str().expect("utf-8")]);
        until("the ready file", || async { ready.exists() }).await;
        assert_eq!(std::fs::read_to_string(&ready).expect("read"), "{\"listen\":[]}\n");
        worker.terminate();
        let ended = worker.ended().await;
        assert!(ended.status.success());
        assert_eq!(ended.stdout, "{\"listen\":[]}\n");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_cannot_be_used_ends_it_with_one_line() {
    for client in clients() {
        let bench = Bench::start(MINUTE).await;
        let good = bench.connection_string().to_owned();
        let wrong_key = good.replace("SharedAccessKey=", "SharedAccessKey=no-");
        assert_ne!(good, wrong_key);
        for (connection, queue, wanted) in [
            (&good, "nope", "worker: queue \"nope\" does not exist at 127.0.0.1:"),
            (&wrong_key, QUEUE, "worker: 127.0.0.1:"),
        ] {
            let arguments = ["--client", client.name(), "--queue", queue, "--log-level", "error"];
            let environment = [("SERVICEBUS_CONNECTION_STR", connection.as_str())];
            let ended = Program::start(WORKER, &arguments, &environment).ended().await;
            assert_eq!(ended.status.code(), Some(1), "{client}: {}", ended.stderr);
            let line = ended.stderr.lines().last().unwrap_or_default();
            assert!(line.starts_with(wanted), "{client}: {}", ended.stderr);
            assert!(
                queue == "nope" || line.contains("refuses the credential for queue \"orders\""),
                "{client}: {line}"
            );
            assert!(!ended.stderr.contains("no-"), "{client}: no part of the key: {}", ended.stderr);
            assert_eq!(ended.stdout, "", "{client}: never ready");
        }
    }
}

#[tokio::test]
async fn bad_input_is_one_line() {
    const STRING: &str =
        "Endpoint=sb://127.0.0.1:9;SharedAccessKeyName=n;SharedAccessKey=PLANTED;UseDevelopmentEmulator=true";
    for (arguments, code, wanted) in [
        (
            &[][..],
            1,
            "worker: no connection string: set SERVICEBUS_CONNECTION_STR, or give --connection-string-file FILE (or \
             SERVICEBUS_CONNECTION_STR_FILE)\n",
        ),
        (
            &["--connection-string", "nonsense", "--queue", "q"],
            1,
            "worker: failed to use the connection string: part 1 of the connection string has no `=`; expected KEY=VALUE \
             parts joined by `;`\n",
        ),
        (
            &["--connection-string-file", "/nonexistent/file", "--queue", "q"],
            1,
            "worker: failed to read --connection-string-file /nonexistent/file: No such file or directory (os error 2)\n",
        ),
        (
            &["--connection-string", STRING],
            1,
            "worker: no queue: give --queue NAME or set SERVICEBUS_QUEUE_NAME; for a subscription --topic NAME and \
             --subscription NAME (SERVICEBUS_TOPIC_NAME, SERVICEBUS_SUBSCRIPTION_NAME)\n",
        ),
        (
            &["--connection-string", STRING, "--queue", "q", "--topic", "t", "--subscription", "s"],
            1,
            "worker: both queue \"q\" and topic \"t\" are given (by flags or SERVICEBUS_… variables); give one of them\n",
        ),
        (
            &["--connection-string", STRING, "--topic", "t"],
            1,
            "worker: topic \"t\" needs a subscription to receive from: give --subscription NAME or set \
             SERVICEBUS_SUBSCRIPTION_NAME\n",
        ),
        (
            &["--connection-string", STRING, "--queue", "q", "--ledger", "/nonexistent/ledger"],
            1,
            "worker: prepare --ledger: failed to open ledger /nonexistent/ledger: No such file or directory (os error 2)\n",
        ),
        (
            &["--wait-time", "-1"],
            2,
            "error: invalid value '-1' for '--wait-time <SECONDS>': must be a number of seconds from 0 to 86400, such as 2 \
             or 0.25\n\nFor more information, try '--help'.\n",
        ),
        (
            &["--concurrency", "0"],
            2,
            "error: invalid value '0' for '--concurrency <COUNT>': 0 is not in 1..=1000\n\nFor more information, try \
             '--help'.\n",
        ),
        (
            &["--client", "theirs"],
            2,
            "error: invalid value 'theirs' for '--client <CLIENT>': \"theirs\" is no client; allowed: ours, \
             azservicebus\n\nFor more information, try '--help'.\n",
        ),
    ] {
        let ended = Program::start(WORKER, arguments, &[]).ended().await;
        assert_eq!((ended.status.code(), ended.stderr.as_str()), (Some(code), wanted), "{arguments:?}");
    }
}

/// The number after `name` in the last line that has it.
fn figure(log: &str, name: &str) -> u64 {
    let after = log.rsplit(name).next().unwrap_or_default();
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("no {name} in:\n{log}"))
}

/// Receives up to `most` messages that are not locked; their delivery counts.
async fn receivable_now(bench: &Bench, most: usize) -> Vec<u32> {
    let client = bench.client("");
    let mut counts = Vec::new();
    while counts.len() < most {
        let received = within("receive", client.receive(most - counts.len(), Duration::from_secs(20))).await;
        let received = received.expect("received");
        if received.is_empty() {
            break;
        }
        counts.extend(received.iter().map(|message| message.delivery_count));
    }
    within("close", client.close()).await.expect("closed");
    counts
}
