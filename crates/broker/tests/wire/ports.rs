//! The port itself: several protocols on one, strangers, limits, the end.

use std::time::Duration;

use amqp::Event;
use broker::{Broker, Options, QueueOptions};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::broker_with;
use super::client::{Client, DEADLINE};
use super::http::{get, raw};

/// Writes bytes and reads until the broker closes.
async fn until_closed(broker: &Broker, bytes: &[u8]) -> Vec<u8> {
    let exchange = async {
        let mut stream = TcpStream::connect(broker.addresses()[0]).await.expect("connects");
        stream.write_all(bytes).await.expect("writable");
        let mut answer = Vec::new();
        // A reset is a close too: the broker may drop bytes it did not read.
        let _ = stream.read_to_end(&mut answer).await;
        answer
    };
    tokio::time::timeout(DEADLINE, exchange).await.expect("closed in time")
}

#[tokio::test]
async fn one_port_speaks_amqp_and_http() {
    let broker = broker_with(&["q"]).await;
    let mut client = Client::login(&broker).await;
    let health = raw(broker.addresses()[0], "GET", "/health", "", "").await;
    assert_eq!((health.status, health.body.as_str()), (200, r#"{"status":"healthy","message":"Service is healthy."}"#));
    client.sender("q").await;
}

#[tokio::test]
async fn strangers_are_sent_away() {
    let broker = broker_with(&[]).await;
    assert_eq!(until_closed(&broker, b"\x16\x03\x01\x02\x00\x01\x00").await, b"", "no TLS unless asked for");
    assert_eq!(until_closed(&broker, b"\x00\x01\x02\x03").await, b"");
    assert_eq!(until_closed(&broker, b"AMQP\x00\x09\x00\x00").await, b"AMQP\x03\x01\x00\x00", "the header we speak");
    assert!(until_closed(&broker, b"HELO there\r\n\r\n").await.starts_with(b"HTTP/1.1 400"));
}

#[tokio::test]
async fn no_bytes_make_it_stop_serving() {
    let broker = broker_with(&["q"]).await;
    // The handshake of a good client, after which anything may come.
    let login = b"AMQP\x03\x01\x00\x00\x00\x00\x00\x1d\x02\x01\x00\x00\x00\x53\x41\xc0\x10\x03\xa3\x09ANONYMOUS\x40\x40AMQP\x00\x01\x00\x00";
    let after = [&b""[..], b"AMQP\x03\x01\x00\x00", login, b"GET /", b"PUT /q HTTP/1.1\r\n"];
    let strategy = (prop::sample::select(after.to_vec()), prop::collection::vec(any::<u8>(), 0..300));
    let mut runner = TestRunner::deterministic();
    for _ in 0..150 {
        let (head, tail) = strategy.new_tree(&mut runner).expect("generated").current();
        let mut stream = TcpStream::connect(broker.addresses()[0]).await.expect("connects");
        // The broker may have closed already.
        let _ = stream.write_all(&[head, &tail].concat()).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "still open after {head:02x?} {tail:02x?}");
    }
    assert_eq!(get(broker.addresses()[0], "/q").await.status, 200);
    Client::login(&broker).await.sender("q").await;
}

#[tokio::test]
async fn more_connections_than_allowed_are_closed_at_once() {
    let broker = Broker::start(Options { max_connections: 1, ..Options::default() }).await.expect("starts");
    let client = Client::connect(broker.addresses()[0]).await;
    assert_eq!(until_closed(&broker, b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n").await, b"");
    drop(client);
    // The place is free once the broker has seen the first one leave.
    let served = async {
        while until_closed(&broker, b"GET /health HTTP/1.0\r\n\r\n").await.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, served).await.expect("a place becomes free");
}

#[tokio::test]
async fn several_addresses_share_one_state() {
    let listen = vec!["127.0.0.1:0".parse().expect("valid"), "127.0.0.1:0".parse().expect("valid")];
    let broker = Broker::start(Options { listen, ..Options::default() }).await.expect("starts");
    let [first, second] = broker.addresses() else { panic!("two addresses") };
    let created = super::http::call(*first, "PUT", "/q", "", super::admin::EMPTY_DESCRIPTION).await;
    assert_eq!(created.status, 201, "{created:?}");
    assert_eq!(get(*second, "/q").await.status, 200);
}

#[tokio::test]
async fn shutting_down_closes_connections_with_a_reason_and_frees_the_port() {
    // Where there is one, an address of this test's own: on that of all others, the port may go to another test at once.
    let own = if cfg!(target_os = "linux") { "127.0.0.2:0" } else { "127.0.0.1:0" };
    let (listen, queues) = (vec![own.parse().expect("an address")], vec![QueueOptions::new("q")]);
    let broker = Broker::start(Options { listen, queues, ..Options::default() }).await.expect("starts");
    let address = broker.addresses()[0];
    let mut client = Client::login(&broker).await;
    client.receiver("q", 1).await;
    let ending = tokio::spawn(broker.shutdown());
    let error = client
        .wait("close", |event| match event {
            Event::Closed { error } => Some(error.clone()),
            _ => None,
        })
        .await
        .expect("a reason");
    assert_eq!(error.condition.as_str(), "amqp:connection:forced");
    client.flush().await;
    drop(client);
    tokio::time::timeout(Duration::from_secs(10), ending).await.expect("ends in time").expect("no panic");
    let again = Broker::start(Options { listen: vec![address], ..Options::default() }).await;
    assert!(again.is_ok(), "{again:?}");
}
