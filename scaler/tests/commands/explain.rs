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
    assert_eq!(one["reading"]["matched"], serde_json::json!({ "counted": 2, "disabled": 0 }));

    let forbidden = [&subscription[..], &["--connection-ref", "own", "--namespace", "bank"]].concat();
    let output = explain(&forbidden).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("connectionRef: \"own\" is not a connection that Kubernetes namespace \"bank\" may"),
        "{}",
        stderr(&output)
    );
}
