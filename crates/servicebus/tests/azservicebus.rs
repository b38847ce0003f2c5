//! The defects of the crate `azservicebus` that the adapter contains, one test for each, named after the number it has in
//! `docs/adr/0003-azservicebus-adapter.md`. What both adapters must do alike is tested in `adapter.rs`.
#![cfg(feature = "azservicebus")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::{Broker, Options, QueueOptions, TlsOptions};
use bytes::Bytes;
use servicebus::{
    Adapter, ClientOptions, ConnectError, ConnectionString, EntitySettings, ExtraRoots, FailureKind, OutgoingMessage,
    QueueClient, ReceivedMessage, Settlement, connect, connect_with,
};

const QUEUE: &str = "orders";
const DEADLINE: Duration = Duration::from_mins(1);
const LONG: Duration = Duration::from_mins(1);
const SHORT: Duration = Duration::from_secs(2);

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let result = tokio::time::timeout(DEADLINE, future).await;
    result.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"))
}

/// A broker with one queue, and a client of it. The broker ends when it is dropped.
async fn start(lock_duration: Duration) -> (Broker, Arc<dyn QueueClient>) {
    let queue = QueueOptions { lock_duration, ..QueueOptions::new(QUEUE) };
    let broker = Broker::start(Options { queues: vec![queue], ..Options::default() }).await.expect("a free port");
    let client = connect(&connection(&broker), QUEUE, Adapter::Azservicebus).expect("a client");
    (broker, client)
}

fn connection(broker: &Broker) -> ConnectionString {
    ConnectionString::parse(broker.connection_string()).expect("the broker's own")
}

fn message(number: u32) -> OutgoingMessage {
    OutgoingMessage {
        message_id: format!("message-{number}"),
        content_type: None,
        body: Bytes::from(number.to_string()),
        scheduled_enqueue_time: None,
    }
}

async fn send(client: &dyn QueueClient, numbers: std::ops::Range<u32>) {
    let messages: Vec<OutgoingMessage> = numbers.map(message).collect();
    within("send", client.send(&messages)).await.expect("sent");
}

async fn receive_one(client: &dyn QueueClient) -> ReceivedMessage {
    let mut received = within("receive", client.receive(1, DEADLINE)).await.expect("received");
    received.pop().expect("one message")
}

/// Waits until a message's lock has run out by every clock: until the message is delivered again.
async fn until_redelivered(client: &dyn QueueClient, sequence_number: i64) -> ReceivedMessage {
    let again = receive_one(client).await;
    assert_eq!(again.sequence_number, sequence_number);
    again
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d1_acknowledgements_that_come_at_once_are_not_lost() {
    let (_broker, client) = start(LONG).await;
    for number in 0..500 {
        let message = [message(number)];
        within("send", client.send(&message)).await.expect("acknowledged, and the acknowledgement seen");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d4_a_link_that_the_broker_closed_is_replaced() {
    let (broker, client) = start(LONG).await;
    let administration = testbench::administration(broker.connection_string());
    send(client.as_ref(), 0..1).await;
    let first = receive_one(client.as_ref()).await;
    within("complete", client.settle(first.lock_token, Settlement::Complete)).await.expect("completed");
    within("delete the queue", administration.delete_queue(QUEUE)).await.expect("deleted");
    within("make it again", administration.create_queue(QUEUE, &EntitySettings::default())).await.expect("made");
    within("send again", async {
        while let Err(error) = client.send(&[message(1)]).await {
            assert!(error.is_transient() || error.kind == FailureKind::NotFound, "{error:?}");
        }
    })
    .await;
    let received = within("receive again", async {
        loop {
            match client.receive(1, Duration::from_secs(5)).await {
                Ok(received) if received.is_empty() => {}
                Ok(received) => break received,
                Err(error) => assert!(error.is_transient() || error.kind == FailureKind::NotFound, "{error:?}"),
            }
        }
    })
    .await;
    assert_eq!(received[0].body, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d6_a_completion_that_the_broker_did_not_accept_is_an_error() {
    let (_broker, client) = start(SHORT).await;
    send(client.as_ref(), 0..1).await;
    let first = receive_one(client.as_ref()).await;
    let second = until_redelivered(client.as_ref(), first.sequence_number).await;
    let error = within("complete", client.settle(first.lock_token, Settlement::Complete)).await.expect_err("lock lost");
    assert_eq!(error.kind, FailureKind::LockLost, "{error:?}");
    within("complete", client.settle(second.lock_token, Settlement::Complete)).await.expect("this lock holds");
    let error = within("complete", client.settle(second.lock_token, Settlement::Complete)).await.expect_err("twice");
    assert_eq!(error.kind, FailureKind::LockLost, "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d8_a_receive_for_many_returns_with_the_first() {
    let (_broker, client) = start(LONG).await;
    send(client.as_ref(), 0..1).await;
    let started = Instant::now();
    let received = within("receive", client.receive(100, DEADLINE)).await.expect("received");
    assert_eq!(received.len(), 1);
    assert!(started.elapsed() < DEADLINE / 4, "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d10_a_receive_that_is_given_up_loses_nothing() {
    let (_broker, client) = start(LONG).await;
    let mut seen = BTreeSet::new();
    for number in 0..40_u32 {
        // Given up about when the message comes: sometimes before, sometimes after.
        let giving_up =
            tokio::time::timeout(Duration::from_micros(u64::from(number) * 200), client.receive(1, DEADLINE));
        let (given_up, ()) = tokio::join!(giving_up, send(client.as_ref(), number..number + 1));
        if let Ok(received) = given_up {
            seen.extend(received.expect("received").into_iter().map(|message| message.sequence_number));
        }
    }
    // With locks of a minute, a message that was lost would not come again in time.
    while seen.len() < 40 {
        let received = within("receive the rest", client.receive(10, DEADLINE)).await.expect("received");
        assert!(!received.is_empty(), "{} of 40 received", seen.len());
        seen.extend(received.into_iter().map(|message| message.sequence_number));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d11_messages_that_nobody_settles_do_not_starve_the_link() {
    let (_broker, client) = start(SHORT).await;
    send(client.as_ref(), 0..5).await;
    let mut deliveries = 0;
    within("fifteen deliveries of five messages", async {
        while deliveries < 15 {
            deliveries += client.receive(5, DEADLINE).await.expect("received").len();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d12_renewing_a_lost_lock_fails_at_once() {
    let (_broker, client) = start(SHORT).await;
    send(client.as_ref(), 0..1).await;
    let first = receive_one(client.as_ref()).await;
    until_redelivered(client.as_ref(), first.sequence_number).await;
    let started = Instant::now();
    let error = within("renew", client.renew(first.lock_token)).await.expect_err("lost");
    assert_eq!(error.kind, FailureKind::LockLost, "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(10), "the library alone takes 11 s: {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_does_not_speak_tls_is_an_error() {
    let (broker, _) = start(LONG).await;
    let tls = broker.connection_string().replace("UseDevelopmentEmulator=true", "UseDevelopmentEmulator=false");
    let tls = ConnectionString::parse(&tls).expect("well formed");
    assert!(!tls.is_development_emulator());
    let client = connect(&tls, QUEUE, Adapter::Azservicebus).expect("a client");
    let error = within("send", client.send(&[message(0)])).await.expect_err("no TLS there");
    assert!(error.is_transient(), "{error:?}");
    assert!(error.what.starts_with("failed to connect"), "{error:?}");
}

/// The library has no way to be told of an authority, so this says so instead of failing later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_authority_is_not_trusted_and_cannot_be_given() {
    let options = Options { tls: Some(TlsOptions::generated()), ..Options::default() };
    let broker = Broker::start(options).await.expect("a free port");
    let tls = ConnectionString::parse(broker.tls_connection_string().expect("it speaks TLS")).expect("its own");
    let authority = broker.certificate_authority_pem().expect("it made one");
    let extra_roots = ExtraRoots::from_pem(authority.as_bytes()).expect("a certificate");
    let options = ClientOptions { extra_roots, ..ClientOptions::default() };
    let error = connect_with(&tls, QUEUE, Adapter::Azservicebus, &options).err().expect("not possible");
    assert!(matches!(error, ConnectError::Unsupported { .. }), "{error}");
    let client = connect(&tls, QUEUE, Adapter::Azservicebus).expect("a client");
    let error = within("send", client.send(&[message(0)])).await.expect_err("not trusted");
    assert!(error.what.contains("UnknownIssuer"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_client_refuses_further_calls() {
    let (_broker, client) = start(LONG).await;
    send(client.as_ref(), 0..1).await;
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.receive(5, DEADLINE).await.and(client.receive(5, DEADLINE).await) }
    });
    within("close", client.close()).await.expect("closed");
    let error = within("the receive that waited", waiting).await.expect("no panic").expect_err("closed");
    assert_eq!(error.kind, FailureKind::Refused, "{error:?}");
    let error = within("peek", client.peek(0, 1)).await.expect_err("closed");
    assert_eq!(error.kind, FailureKind::Refused, "{error:?}");
}

/// Makes the client hold three messages that no caller has: asks for five, so that it goes on taking, and lets a bystander
/// hand back whatever it gets until it gets nothing any more.
async fn hold_three(broker: &Broker, client: &Arc<dyn QueueClient>) -> Arc<dyn QueueClient> {
    let bystander = connect(&connection(broker), QUEUE, Adapter::Ours).expect("a client");
    let mut waiting = client.receive(5, DEADLINE);
    assert!(tokio::time::timeout(Duration::ZERO, &mut waiting).await.is_err(), "the queue is empty");
    send(bystander.as_ref(), 0..3).await;
    within("the client takes them all", async {
        loop {
            let taken = bystander.receive(3, Duration::from_millis(500)).await.expect("received");
            if taken.is_empty() {
                return;
            }
            for message in taken {
                bystander.settle(message.lock_token, Settlement::Release).await.expect("released");
            }
        }
    })
    .await;
    bystander
}

/// With locks of five minutes, three messages within the deadline were given back.
async fn receive_three(bystander: &dyn QueueClient) {
    within("receive what was given back", async {
        let mut messages = 0;
        while messages < 3 {
            messages += bystander.receive(3, DEADLINE).await.expect("received").len();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d10_closing_gives_back_what_nobody_took() {
    let (broker, client) = start(Duration::from_mins(5)).await;
    let bystander = hold_three(&broker, &client).await;
    within("close", client.close()).await.expect("closed");
    receive_three(bystander.as_ref()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d10_dropping_the_client_gives_back_what_nobody_took() {
    let (broker, client) = start(Duration::from_mins(5)).await;
    let bystander = hold_three(&broker, &client).await;
    drop(client);
    receive_three(bystander.as_ref()).await;
}
