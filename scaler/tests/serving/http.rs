//! Probes and metrics for everybody, explanations and the log level for this host alone.

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{MESSAGES, Scaler, active_stream, http, http_to, scaled_object, until, value, within};

#[tokio::test]
async fn probes_and_metrics_answer_and_readiness_ends_with_the_stop() {
    let scaler = Scaler::start().await;
    for (path, said) in [("/livez", "ok\n"), ("/readyz", "ok\n")] {
        let answer = http(scaler.admin, "GET", path, "").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, said), "{path}");
    }
    let client = scaler.client().await;
    value(&client, "receiver").await.expect("an answer");
    let metrics = http(scaler.admin, "GET", "/metrics", "").await;
    assert!(metrics.head.to_lowercase().contains("content-type: application/openmetrics-text"), "{}", metrics.head);
    let trigger = trigger_hash(&scaler).await;
    for line in [
        "servicebus_scaler_grpc_requests_total{method=\"GetMetrics\",code=\"OK\"} 1",
        &format!("servicebus_scaler_trigger_target{{namespace=\"demo\",name=\"receiver\",trigger=\"{trigger}\"}} 5.0"),
        "# EOF",
    ] {
        assert!(metrics.body.lines().any(|text| text == line), "{line} is missing in:\n{}", metrics.body);
    }

    scaler.hold();
    let in_flight = tokio::spawn(async move {
        let mut trigger = scaled_object("receiver");
        trigger.scaler_metadata.insert("queueName".to_owned(), "refunds".to_owned());
        client.clone().is_active(trigger).await
    });
    until("the call to be in flight", async || scaler.count("servicebus_scaler_grpc_requests_in_flight") == 1).await;
    scaler.shutdown.cancel();
    let answer = http(scaler.admin, "GET", "/readyz", "").await;
    assert_eq!((answer.status, answer.body.as_str()), (503, "draining\n"));
    assert_eq!(http(scaler.admin, "GET", "/livez", "").await.status, 200, "it lives until the end");
    scaler.let_go();
    within("the call in flight", in_flight).await.expect("no panic").expect("it is answered");
    scaler.ended().await;
}

async fn trigger_hash(scaler: &Scaler) -> String {
    let answer = http(scaler.local, "GET", "/explain?namespace=demo&name=receiver", "").await;
    let json: Value = serde_json::from_str(&answer.body).expect("JSON");
    json["triggers"][0]["trigger"].as_str().expect("a text").to_owned()
}

#[tokio::test]
async fn explain_says_what_was_told_and_refused_and_no_secret() {
    let scaler = Scaler::start().await;
    let client = scaler.client().await;
    let path = "/explain?namespace=demo&name=receiver";
    assert_eq!(http(scaler.local, "GET", path, "").await.status, 404, "nobody asked yet");
    value(&client, "receiver").await.expect("an answer");
    let mut wrong = scaled_object("receiver");
    wrong.scaler_metadata.insert("messageCount".to_owned(), "many".to_owned());
    client.clone().is_active(wrong).await.expect_err("bad metadata");
    value(&client, "other").await.expect("an answer");

    let answer = http(scaler.local, "GET", path, "").await;
    assert_eq!(answer.status, 200);
    assert!(!answer.body.contains("PLANTED-KEY"), "{}", answer.body);
    let json: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!((&json["namespace"], &json["name"]), (&"demo".into(), &"receiver".into()));
    let [one, other] = &json["triggers"].as_array().expect("a list")[..] else { panic!("two triggers: {json}") };
    let (told, refused) = if one["told"].is_object() { (one, other) } else { (other, one) };
    let told = &told["told"];
    assert_eq!(told["target"], "queue orders");
    assert_eq!(told["metricName"], "azure-servicebus-orders");
    assert_eq!(told["metricValue"], MESSAGES as f64);
    assert_eq!(told["targetSize"], 5);
    assert_eq!(told["decision"]["active"], true);
    assert!(told["decision"]["why"].as_str().is_some_and(|why| !why.is_empty()), "{told}");
    let readings = told["readings"].as_array().expect("a list");
    assert_eq!((readings.len(), &readings[0]["active"]), (1, &MESSAGES.into()));
    assert!(readings[0]["secondsAgo"].as_f64().is_some_and(|age| (0.0..60.0).contains(&age)), "{told}");
    assert_eq!(refused["refused"]["code"], "InvalidArgument");
    assert!(refused["refused"]["problem"].as_str().is_some_and(|text| text.contains("messageCount")), "{refused}");

    let unnamed = http(scaler.local, "GET", "/explain", "").await;
    assert_eq!(unnamed.status, 400);
    assert!(unnamed.body.contains("namespace=NAMESPACE"), "{}", unnamed.body);
}

#[tokio::test]
async fn explain_and_metrics_say_what_a_push_stream_was_told() {
    let scaler = Scaler::start().await;
    let _stream = active_stream(&scaler.client().await, "receiver").await;
    let answer = http(scaler.local, "GET", "/explain?namespace=demo&name=receiver", "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let json: Value = serde_json::from_str(&answer.body).expect("JSON");
    let told = &json["triggers"][0]["told"];
    assert_eq!(told["decision"]["active"], true, "{json}");
    assert_eq!(told["readings"][0]["active"], MESSAGES, "{json}");
    let metrics = scaler.metrics.exposition();
    let is_active = |line: &str| line.starts_with("servicebus_scaler_trigger_active{") && line.ends_with(" 1.0");
    assert!(metrics.lines().any(is_active), "{metrics}");
}

#[tokio::test]
async fn what_is_for_this_host_is_not_at_the_pods_address_nor_for_other_names() {
    let scaler = Scaler::start().await;
    value(&scaler.client().await, "receiver").await.expect("an answer");
    assert!(scaler.local.ip().is_loopback());
    for (method, path) in [
        ("GET", "/explain?namespace=demo&name=receiver"),
        ("GET", "//explain?namespace=demo&name=receiver"),
        ("GET", "/metrics/../explain?namespace=demo&name=receiver"),
        ("GET", "/log-level"),
        ("PUT", "/log-level"),
    ] {
        let answer = http(scaler.admin, method, path, "").await;
        assert_eq!(answer.status, 404, "{method} {path}: {answer:?}");
    }
    for host in ["evil.example", "evil.example:8081", "10.0.0.1", "localhost.evil.example", "", "[fe80::1]:8081"] {
        let answer = http_to(scaler.local, host, "GET", "/explain?namespace=demo&name=receiver", "").await;
        assert_eq!(answer.status, 403, "{host}: {answer:?}");
    }
    for host in ["localhost:8081", "LOCALHOST", "127.0.0.1:9", "[::1]:8081"] {
        let answer = http_to(scaler.local, host, "GET", "/explain?namespace=demo&name=receiver", "").await;
        assert_eq!(answer.status, 200, "{host}: {answer:?}");
    }
}

#[tokio::test]
async fn heads_and_bodies_have_limits() {
    let scaler = Scaler::start().await;
    let large = http(scaler.local, "PUT", "/log-level", &"x".repeat(2_000)).await;
    assert_eq!(large.status, 413);
    let mut stream = TcpStream::connect(scaler.admin).await.expect("somebody listens");
    // The scaler may close before it has read all of it.
    let _refused =
        stream.write_all(format!("GET /livez HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(64_000)).as_bytes()).await;
    let mut said = Vec::new();
    let _closed_or_reset = within("an end", stream.read_to_end(&mut said)).await;
    let said = String::from_utf8_lossy(&said);
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 431"), "{said}");
}
