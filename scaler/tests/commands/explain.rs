//! `scaler explain` of subscriptions, patterns and connections of the config file, against a real broker.

use broker::{Broker, Options, QueueOptions, SubscriptionOptions};
use serde_json::Value;
use testbench::{in_time, send};

use crate::{scaler, stderr, stdout};

#[tokio::test]
async fn subscriptions_patterns_and_references_are_explained() {
    let broker = Broker::start(Options {
        queues: ["orders-a", "orders-b", "refunds"].into_iter().map(QueueOptions::new).collect(),
        topics: vec!["events".to_owned()],
        subscriptions: vec![SubscriptionOptions::new("events", "billing")],
        ..Options::default()
    });
    let broker = broker.await.expect("a broker on a free port starts");
    for (entity, count) in [("orders-a", 3), ("orders-b", 8), ("refunds", 1), ("events", 2)] {
        send(broker.connection_string(), entity, count).await;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("a plain path").to_owned();
    let (secret, config) = (path("secret"), path("scaler.yaml"));
    std::fs::write(&secret, broker.connection_string()).expect("the file can be written");
    let connections = format!("connections: {{own: {{allowedNamespaces: [shop], connectionStringFile: {secret}}}}}\n");
    std::fs::write(&config, connections).expect("the file can be written");
    let explain = |arguments: &[&str]| {
        let all =
            [&["explain", "--config", &config], arguments].concat().iter().map(|word| (*word).to_owned()).collect();
        async move {
            let all: Vec<String> = all;
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            in_time(async || scaler(&all, "").await, |output| Some(stderr(output))).await
        }
    };

    let reference = ["--connection-ref", "own", "--namespace", "shop"];
    let subscription = ["--topic", "events", "--subscription", "billing"];
    let output = explain(&[&reference[..], &subscription[..]].concat()).await;
    assert!(output.status.success(), "{}", stderr(&output));
    for words in
        ["subscription events/billing on 127.0.0.1", "active 2,", "azure-servicebus-events-billing-4f862251 = 2"]
    {
        assert!(stdout(&output).contains(words), "{words:?} is missing in {}", stdout(&output));
    }

    let pattern = ["--queue", "orders-.*", "--metadata", "useRegex=true", "--metadata", "operation=avg"];
    let output = explain(&[&pattern[..], &["--connection-string-file", &secret, "--output", "json"]].concat()).await;
    assert!(output.status.success(), "{}", stderr(&output));
    let explanations: Value = serde_json::from_str(stdout(&output)).expect("JSON");
    let one = &explanations[0];
    assert_eq!((&one["metricValue"], &one["metricName"]), (&5.0.into(), &"azure-servicebus-queue-regex".into()));
    assert_eq!(one["matched"], serde_json::json!({ "counted": 2, "disabled": 0 }));

    let forbidden = [&subscription[..], &["--connection-ref", "own", "--namespace", "bank"]].concat();
    let output = explain(&forbidden).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("connectionRef: \"own\" is not a connection that Kubernetes namespace \"bank\" may"),
        "{}",
        stderr(&output)
    );
}

/// Each trigger is answered for itself: others' are none of ours, and one that cannot be read takes nothing from the rest.
#[tokio::test]
async fn what_can_be_explained_of_a_file_is() {
    let broker = Broker::start(Options { queues: vec![QueueOptions::new("orders")], ..Options::default() });
    let broker = broker.await.expect("a broker on a free port starts");
    send(broker.connection_string(), "orders", 3).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("secret");
    std::fs::write(&path, broker.connection_string()).expect("the file can be written");
    let secret = path.to_str().expect("a plain path");
    let explain = ["explain", "--scaled-object", "-", "--connection-string-file", secret];
    let file = |triggers: &[&str]| {
        let lines: Vec<_> =
            triggers.iter().map(|metadata| format!("  - {{type: external, metadata: {metadata}}}\n")).collect();
        let triggers = lines.concat();
        format!("kind: ScaledObject\nmetadata: {{name: a}}\nspec:\n  triggers:\n{triggers}")
    };
    let (ours, others) = ("{queueName: orders}", "{connectionFromEnv: COSMOS, databaseId: d}");

    let output = scaler(&explain, &file(&[others, ours])).await;
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).starts_with("trigger    default/a, trigger 1\n"), "{}", stdout(&output));

    let output = scaler(&explain, &file(&["{queueName: gone}", ours, "{queueName: a b}"])).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).starts_with("trigger    default/a, trigger 1\n"), "{}", stdout(&output));
    let lines: Vec<_> = stderr(&output).lines().collect();
    let [gone, wrong] = &lines[..] else { panic!("a line for each failure, got {lines:?}") };
    assert!(gone.starts_with("scaler: default/a, trigger 0: ") && gone.contains("does not exist"), "{gone}");
    assert!(wrong.starts_with("scaler: default/a, trigger 2: metadata queueName: \"a b\""), "{wrong}");

    let output = scaler(&explain, &file(&[others])).await;
    assert_eq!((output.status.code(), stdout(&output)), (Some(1), ""));
    assert!(stderr(&output).contains("a key of this scaler's"), "{}", stderr(&output));
}

/// Files are others' choice, and a pipe is as good as a file.
#[tokio::test]
async fn files_are_read_up_to_a_limit() {
    let endless = ["explain", "--scaled-object", "/dev/zero"];
    let output = scaler(&endless, "").await;
    assert!(stderr(&output).contains("it has more than 16777216 bytes"), "{}", stderr(&output));
    let endless = ["explain", "--queue", "orders", "--connection-string-file", "/dev/zero"];
    let output = scaler(&endless, "").await;
    assert!(stderr(&output).contains("it has more than 65536 bytes"), "{}", stderr(&output));
    let piped = ["explain", "--queue", "orders", "--connection-string-file", "/dev/stdin"];
    let output = scaler(&piped, "Endpoint=sb://elsewhere.example;SharedAccessKeyName=a;SharedAccessKey=b\n").await;
    assert!(stderr(&output).contains("endpoint elsewhere.example:443 is not allowed"), "{}", stderr(&output));
}
