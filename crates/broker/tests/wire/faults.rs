//! Faults on demand, each seen by a client: the administration API, connections, messages, and how they are asked for.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use amqp::{DeliveryState, Event, Map, Value};
use broker::{Broker, FaultId, Operation, Options, Outcome, QueueOptions, TlsOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::broker_with;
use super::client::{Client, DEADLINE, Node, message, token};
use super::http::{Answer, get, raw};
use super::tls;

/// Adds a fault in process.
fn inject(broker: &Broker, text: &str) -> FaultId {
    broker.faults().add(text.parse().expect("a fault")).expect("room")
}

/// Waits until the newest fault has happened so many times.
async fn until_hit(broker: &Broker, times: u64) {
    let hit = async {
        while broker.faults().list().last().expect("a fault").hits < times {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, hit).await.expect("the fault happens in time");
}

/// A request on a connection of its own; how the connection ended, and what was answered before.
async fn exchange(address: SocketAddr) -> (Option<ErrorKind>, String) {
    let authorization = token(&format!("http://{address}"));
    let request =
        format!("GET /q HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAuthorization: {authorization}\r\n\r\n");
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.expect("connects");
        stream.write_all(request.as_bytes()).await.expect("writable");
        let mut answer = Vec::new();
        let end = stream.read_to_end(&mut answer).await.err().map(|error| error.kind());
        (end, String::from_utf8_lossy(&answer).into_owned())
    };
    tokio::time::timeout(DEADLINE, exchange).await.expect("an end in time")
}

async fn peek(client: &mut Client, node: Node) -> super::client::Reply {
    let arguments = Map::from([("from-sequence-number", Value::Long(0)), ("message-count", Value::Int(10))]);
    client.manage(node, "peek-message", arguments).await
}

fn condition(state: &DeliveryState) -> &str {
    match state {
        DeliveryState::Rejected(Some(error)) => error.condition.as_str(),
        other => panic!("not rejected: {other:?}"),
    }
}

#[tokio::test]
async fn administration_is_throttled_refused_and_redirected() {
    let broker = broker_with(&["q", "other"]).await;
    let address = broker.addresses()[0];
    for (fault, status, header, text) in [
        ("throttle=30s,next=1", 429, "retry-after: 30", "SubCode=50009. The request was terminated"),
        ("busy=50004,next=1", 503, "content-type", "Error code: 50004"),
        ("status=500,next=1", 500, "content-type", "A fault on demand."),
        ("status=302,next=1,location=https://evil.example/q", 302, "location: https://evil.example/q", ""),
        ("wrong-key,next=1", 401, "www-authenticate", "InvalidSignature"),
    ] {
        inject(&broker, &format!("{fault},entity=q"));
        assert_eq!(get(address, "/other").await.status, 200, "{fault} is for q alone");
        assert_eq!(get(address, "/$Resources/Queues").await.status, 200);
        let answer = get(address, "/Q").await;
        assert_eq!(answer.status, status, "{fault}: {answer:?}");
        assert!(answer.head.to_lowercase().contains(header) && answer.body.contains(text), "{fault}: {answer:?}");
        assert_eq!(get(address, "/q").await.status, 200, "{fault} is used up");
    }
    let counts = broker.counters();
    for (outcome, operations) in
        [(Outcome::Throttled, 2), (Outcome::Error, 1), (Outcome::Refused, 1), (Outcome::Unauthorized, 1)]
    {
        let tally = counts.with_outcome(Operation::GetQueue, outcome);
        assert_eq!((tally.operations, tally.credits), (operations, 10 * operations), "{outcome:?}");
    }
}

#[tokio::test]
async fn answers_come_late_for_as_long_as_it_is_asked_for() {
    let broker = broker_with(&["q"]).await;
    let address = broker.addresses()[0];
    let mut client = Client::login(&broker).await;
    let (sender, node) = (client.sender("q").await, client.node("q/$management").await);
    let fault = inject(&broker, "latency=300ms..400ms");
    let late = Duration::from_millis(300);

    let began = Instant::now();
    assert_eq!(get(address, "/q").await.status, 200);
    assert!(began.elapsed() >= late, "{:?}", began.elapsed());
    let began = Instant::now();
    assert_eq!(client.send(sender, &message("1")).await, DeliveryState::Accepted);
    assert!(began.elapsed() >= late, "{:?}", began.elapsed());
    let began = Instant::now();
    assert_eq!(peek(&mut client, node).await.status(), 200);
    assert!(began.elapsed() >= late, "{:?}", began.elapsed());

    assert!(broker.faults().remove(fault));
    inject(&broker, "latency=1h,operation=list-queues");
    assert_eq!(get(address, "/q").await.status, 200);
    assert_eq!(client.send(sender, &message("2")).await, DeliveryState::Accepted);
}

#[tokio::test]
async fn connections_are_reset() {
    let broker = broker_with(&["q"]).await;
    let address = broker.addresses()[0];
    inject(&broker, "reset");
    assert_eq!(exchange(address).await, (Some(ErrorKind::ConnectionReset), String::new()));
    let mut stream = TcpStream::connect(address).await.expect("the system still accepts");
    stream.write_all(b"AMQP\x03\x01\x00\x00").await.expect("writable");
    let read = tokio::time::timeout(DEADLINE, stream.read(&mut [0; 8])).await.expect("an end in time");
    assert_eq!(read.expect_err("a reset").kind(), ErrorKind::ConnectionReset);
    // The control endpoint answers all the same.
    assert_eq!(raw(address, "GET", "/$counters", "", "").await.status, 200);
    broker.faults().clear();
    assert_eq!(get(address, "/q").await.status, 200);

    inject(&broker, "reset,plane=amqp");
    assert_eq!(get(address, "/q").await.status, 200, "HTTP is not meant");
    broker.faults().clear();
    let mut client = Client::login(&broker).await;
    let sender = client.sender("q").await;
    inject(&broker, "reset,operation=send");
    client.send_only(sender, 0, message("1").encode(), false).await;
    assert_eq!(client.ended().await, Some(ErrorKind::ConnectionReset));
    assert_eq!(get(address, "/q").await.counts(), [0, 0, 0], "the message was not stored");
}

#[tokio::test]
async fn over_tls_connections_are_reset_before_the_handshake() {
    let options =
        Options { queues: vec![QueueOptions::new("q")], tls: Some(TlsOptions::generated()), ..Options::default() };
    let broker = Broker::start(options).await.expect("starts");
    let address = broker.addresses()[0];
    let authority = broker.certificate_authority_pem().expect("generated").to_owned();
    inject(&broker, "reset,next=1");
    let error = tls::connect(address, &authority, "localhost", &[]).await.expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let stream = tls::connect(address, &authority, "localhost", &[]).await.expect("used up");
    inject(&broker, "drop");
    let mut client = Client::over(tls::connect(address, &authority, "localhost", &[]).await.expect("trusted")).await;
    inject(&broker, "drop,plane=amqp");
    assert_eq!(client.ended().await, Some(ErrorKind::ConnectionReset), "without TLS's goodbye");
    drop(stream);
}

#[tokio::test]
async fn requests_stand_still_until_the_fault_is_removed() {
    let broker = broker_with(&["q", "other"]).await;
    let address = broker.addresses()[0];
    inject(&broker, "stall,entity=q");
    let waiting = tokio::spawn(get(address, "/q"));
    until_hit(&broker, 1).await;
    assert_eq!(get(address, "/other").await.status, 200);
    assert!(!waiting.is_finished());
    assert_eq!(broker.counters().of(Operation::GetQueue).operations, 1, "the one without an answer is not done yet");
    broker.faults().clear();
    let answer = tokio::time::timeout(DEADLINE, waiting).await.expect("in time").expect("no panic");
    assert_eq!(answer.status, 200);

    inject(&broker, "stall");
    let gone = tokio::spawn(exchange(address));
    until_hit(&broker, 1).await;
    gone.abort();
    let counted = async {
        while broker.counters().with_outcome(Operation::GetQueue, Outcome::Error).operations < 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, counted).await.expect("a request whose client left is counted");

    let last = tokio::spawn(get(address, "/q"));
    until_hit(&broker, 2).await;
    tokio::time::timeout(DEADLINE, broker.shutdown()).await.expect("what stands still does not hold it up");
    let answer = tokio::time::timeout(DEADLINE, last).await.expect("in time").expect("no panic");
    assert_eq!(answer.status, 503);
}

#[tokio::test]
async fn open_amqp_connections_stand_still_too() {
    let broker = broker_with(&["q"]).await;
    let address = broker.addresses()[0];
    let mut client = Client::login(&broker).await;
    let sender = client.sender("q").await;
    let fault = inject(&broker, "stall,plane=amqp");
    let sent = client.send_only(sender, 0, message("1").encode(), false).await;
    // A new one, too: it is heard of, and not answered.
    let mut newcomer = TcpStream::connect(address).await.expect("connects");
    newcomer.write_all(b"AMQP\x03\x01\x00\x00").await.expect("writable");
    until_hit(&broker, 1).await;
    assert_eq!(get(address, "/q").await.counts(), [0, 0, 0], "nobody took the message");
    broker.faults().remove(fault);
    assert_eq!(client.outcome(sender, sent).await, DeliveryState::Accepted);
    let mut header = [0; 8];
    let read = tokio::time::timeout(DEADLINE, newcomer.read_exact(&mut header)).await.expect("in time");
    assert_eq!((read.expect("answered"), &header), (8, b"AMQP\x03\x01\x00\x00"));

    // The end does not wait for what stands still.
    inject(&broker, "stall");
    tokio::time::timeout(DEADLINE, broker.shutdown()).await.expect("ends in time");
}

#[tokio::test]
async fn a_wrong_key_is_refused_on_both_sides() {
    let broker = broker_with(&["q"]).await;
    let mut before = Client::login(&broker).await;
    let sender = before.sender("q").await;
    inject(&broker, "wrong-key");
    assert_eq!(get(broker.addresses()[0], "/q").await.status, 401);
    let mut client = Client::connect(broker.addresses()[0]).await;
    let reply = client.put_token("sb://h/q", &token("sb://h/q")).await;
    assert_eq!((reply.status(), reply.condition()), (401, Some("amqp:unauthorized-access")));
    assert_eq!(before.send(sender, &message("1")).await, DeliveryState::Accepted, "its token was checked before");
    broker.faults().clear();
    assert_eq!(client.put_token("sb://h/q", &token("sb://h/q")).await.status(), 202);
}

#[tokio::test]
async fn messages_are_throttled() {
    let broker = broker_with(&["q"]).await;
    let mut client = Client::login(&broker).await;
    let (sender, node) = (client.sender("q").await, client.node("q/$management").await);
    inject(&broker, "throttle,plane=amqp,entity=q");
    assert_eq!(condition(&client.send(sender, &message("1")).await), "com.microsoft:server-busy");
    let reply = peek(&mut client, node).await;
    assert_eq!((reply.status(), reply.condition()), (503, Some("com.microsoft:server-busy")));
    let counts = broker.counters();
    for operation in [Operation::Send, Operation::Peek] {
        assert_eq!(counts.with_outcome(operation, Outcome::Throttled), counts.of(operation), "{operation:?}");
        assert_eq!(counts.of(operation).credits, 1);
    }
    assert_eq!(get(broker.addresses()[0], "/q").await.counts(), [0, 0, 0]);
    broker.faults().clear();
    assert_eq!(client.send(sender, &message("1")).await, DeliveryState::Accepted);
}

#[tokio::test]
async fn open_connections_are_dropped_and_new_ones_served() {
    let broker = broker_with(&["q"]).await;
    let mut first = Client::login(&broker).await;
    let mut second = Client::login(&broker).await;
    inject(&broker, "drop,plane=amqp");
    assert_eq!(first.ended().await, Some(ErrorKind::ConnectionReset));
    assert_eq!(second.ended().await, Some(ErrorKind::ConnectionReset));
    let mut third = Client::login(&broker).await;
    let sender = third.sender("q").await;
    assert_eq!(third.send(sender, &message("1")).await, DeliveryState::Accepted);
}

#[tokio::test]
async fn links_are_detached_with_the_given_condition() {
    let broker = broker_with(&["q", "other"]).await;
    let mut client = Client::login(&broker).await;
    let (sender, receiver) = (client.sender("q").await, client.receiver("q/$DeadLetterQueue", 1).await);
    let other = client.sender("other").await;
    inject(&broker, "detach=com.microsoft:operation-cancelled,entity=Q");
    for link in [sender, receiver] {
        let error = client.detached(link).await.expect("a reason");
        assert_eq!(error.condition.as_str(), "com.microsoft:operation-cancelled");
    }
    assert_eq!(client.send(other, &message("1")).await, DeliveryState::Accepted);
    let again = client.sender("q").await;
    assert_eq!(client.send(again, &message("1")).await, DeliveryState::Accepted, "it happened once");
}

#[tokio::test]
async fn settlements_and_their_answers_are_lost() {
    let broker = broker_with(&["q"]).await;
    let address = broker.addresses()[0];
    let mut client = Client::login(&broker).await;
    let (sender, node) = (client.sender("q").await, client.node("q/$management").await);
    for id in ["1", "2", "3"] {
        assert_eq!(client.send(sender, &message(id)).await, DeliveryState::Accepted);
    }
    let receiver = client.receiver("q", 3).await;
    for (fault, left) in [("lose-settlement,next=1", 3), ("lose-answer,entity=q,next=1", 2)] {
        let delivery = client.receive(receiver).await;
        inject(&broker, fault);
        client.engine().settle(receiver, delivery.id, DeliveryState::Accepted, false).expect("unsettled");
        client.flush().await;
        until_hit(&broker, 1).await;
        // Answers come in order: after this one, that of the settlement would have come.
        peek(&mut client, node).await;
        let is_answer = |event: &Event| matches!(event, Event::Disposition { id, .. } if *id == delivery.id);
        assert!(!client.has(is_answer), "{fault}");
        assert_eq!(get(address, "/q").await.counts(), [left, 0, 0], "{fault}");
    }
    let third = client.receive(receiver).await;
    assert_eq!(client.settle(receiver, third.id, DeliveryState::Accepted).await, DeliveryState::Accepted);
    assert_eq!(get(address, "/q").await.counts(), [1, 0, 0]);
}

#[tokio::test]
async fn the_control_endpoint_adds_lists_and_removes_them() {
    let options = Options { allow_faults: true, queues: vec![QueueOptions::new("q")], ..Options::default() };
    let broker = Broker::start(options).await.expect("starts");
    let address = broker.addresses()[0];
    let control = |method, path: &'static str, body: &'static str| raw(address, method, path, "", body);
    let json = |answer: &Answer| serde_json::from_str::<serde_json::Value>(&answer.body).expect("JSON");

    let added = control("POST", "/$faults", "throttle=7s,entity=q\n\nlatency=0ms\n").await;
    assert_eq!(added.status, 201, "{added:?}");
    assert_eq!(
        json(&added),
        serde_json::json!([
            {"id": 1, "fault": "throttle=7s,entity=q", "active": true, "hits": 0},
            {"id": 2, "fault": "latency=0s", "active": true, "hits": 0},
        ])
    );
    assert_eq!(get(address, "/q").await.status, 429);
    assert_eq!(json(&control("GET", "/$faults/1", "").await)["hits"], 1);
    assert_eq!(control("DELETE", "/%24faults/1", "").await.status, 200);
    assert_eq!(control("DELETE", "/$faults/1", "").await.status, 404);
    assert_eq!(json(&control("GET", "/$faults", "").await).as_array().map(Vec::len), Some(1));
    assert_eq!(get(address, "/q").await.status, 200);

    for (body, wanted) in [("", "no fault"), ("throttle\nexplode", "known are latency"), ("reset,next=0", "next=0")] {
        let refused = control("POST", "/$faults", body).await;
        assert_eq!(refused.status, 400);
        assert!(json(&refused)["error"].as_str().is_some_and(|error| error.contains(wanted)), "{refused:?}");
    }
    assert_eq!(json(&control("DELETE", "/$faults", "").await), serde_json::json!({"removed": 1}), "all or none");
    assert_eq!(control("PUT", "/$faults", "").await.status, 405);
}

#[tokio::test]
async fn without_leave_the_control_endpoint_adds_none() {
    let broker = broker_with(&["q"]).await;
    let address = broker.addresses()[0];
    for (method, headers) in [("POST", ""), ("GET", ""), ("DELETE", "")] {
        let answer = raw(address, method, "/$faults", headers, "reset").await;
        assert!(matches!(answer.status, 400..=404), "{method}: {answer:?}");
    }
    assert_eq!(broker.faults().list(), []);

    let allowed = Broker::start(Options { allow_faults: true, ..Options::default() }).await.expect("starts");
    let page = raw(allowed.addresses()[0], "POST", "/$faults", "Origin: http://evil.example\r\n", "reset").await;
    assert!(matches!(page.status, 400..=404), "a page in a browser is refused: {page:?}");
    assert_eq!(allowed.faults().list(), []);
}

#[tokio::test]
async fn a_namespace_has_so_many_credits_each_second() {
    let options = Options {
        queues: vec![QueueOptions::new("q")],
        credits_per_second: std::num::NonZeroU32::new(20),
        ..Options::default()
    };
    let broker = Broker::start(options).await.expect("starts");
    let address = broker.addresses()[0];
    let mut client = Client::login(&broker).await;
    let sender = client.sender("q").await;
    let began = Instant::now();
    let (mut served, mut throttled) = (0, 0);
    for _ in 0..30 {
        let answer = get(address, "/q").await;
        match answer.status {
            200 => served += 1,
            429 => {
                assert!(answer.head.to_lowercase().contains("retry-after: 2"), "{answer:?}");
                throttled += 1;
            }
            other => panic!("{other}"),
        }
    }
    // Two operations at the beginning of each second, however long it took.
    let seconds = began.elapsed().as_secs() + 2;
    assert!(served <= 2 * seconds && served + throttled == 30, "{served} served in {seconds} s");
    let counts = broker.counters();
    assert_eq!(counts.with_outcome(Operation::GetQueue, Outcome::Throttled).credits, 10 * throttled);

    // Messages are paid for out of the same budget.
    let (mut accepted, mut busy) = (0, 0);
    let began = Instant::now();
    while busy == 0 && began.elapsed() < DEADLINE {
        match client.send(sender, &message("1")).await {
            DeliveryState::Accepted => accepted += 1,
            state => {
                assert_eq!(condition(&state), "com.microsoft:server-busy");
                busy += 1;
            }
        }
    }
    assert_eq!(busy, 1, "{accepted} messages were accepted");
    let recovered = async { while get(address, "/q").await.status != 200 {} };
    tokio::time::timeout(DEADLINE, recovered).await.expect("the next second brings new credits");
}
