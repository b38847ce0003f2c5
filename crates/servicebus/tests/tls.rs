//! Without `UseDevelopmentEmulator` everything goes over TLS, AMQP and administration alike, and certificates are checked: by
//! what the system trusts, and by the authorities given. The other adapter trusts neither; `azservicebus.rs` has that.

use std::process::Stdio;
use std::time::Duration;

use broker::{Broker, Options, QueueOptions, SubscriptionOptions, TlsOptions};
use bytes::Bytes;
use servicebus::{
    Adapter, AdministrationClient, AdministrationError, AdministrationOptions, ClientOptions, ConnectionString,
    EntityName, ExtraRoots, FailureKind, OutgoingMessage, Settlement, connect, connect_with,
};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

const QUEUE: &str = "orders";
const DEADLINE: Duration = Duration::from_mins(1);
/// Set in a process of a test's own: the connection string to be tried there.
const CONNECTION: &str = "SERVICEBUS_TEST_TLS";
/// The same for the way without TLS, and the authority, as PEM.
const PLAIN: &str = "SERVICEBUS_TEST_PLAIN";
const AUTHORITY: &str = "SERVICEBUS_TEST_AUTHORITY";

/// A broker that speaks TLS beside plain AMQP and HTTP, with a queue and a subscription.
async fn broker() -> Broker {
    let options = Options {
        queues: vec![QueueOptions::new(QUEUE)],
        topics: vec!["events".to_owned()],
        subscriptions: vec![SubscriptionOptions::new("events", "audit")],
        tls: Some(TlsOptions::generated()),
        ..Options::default()
    };
    Broker::start(options).await.expect("a broker")
}

fn over_tls(broker: &Broker) -> ConnectionString {
    ConnectionString::parse(broker.tls_connection_string().expect("it speaks TLS")).expect("the broker's own")
}

fn authority(broker: &Broker) -> &str {
    broker.certificate_authority_pem().expect("it made one")
}

fn options(extra_roots: ExtraRoots) -> AdministrationOptions {
    AdministrationOptions { timeout: DEADLINE, extra_roots, ..AdministrationOptions::default() }
}

/// What a process trusts is named by its environment, so a test that is about that runs itself once more, as a process with
/// another one. Gives what it printed if it failed.
async fn once_more(test: &str, environment: &[(&str, &str)]) -> Result<(), String> {
    let child = tokio::process::Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", test])
        .env_remove("SSL_CERT_FILE")
        .env_remove("SSL_CERT_DIR")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(DEADLINE, child).await.expect("in time").expect("ran");
    testbench::keep("tls", &output);
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() && said.contains("1 passed") { Ok(()) } else { Err(said) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_the_system_trusts_lets_everything_through() {
    if let Ok(connection) = std::env::var(CONNECTION) {
        let connection = ConnectionString::parse(&connection).expect("a connection string");
        return exchange(&connection, ExtraRoots::default()).await;
    }
    let broker = broker().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("authority.pem");
    std::fs::write(&file, authority(&broker)).expect("written");
    let connection = broker.tls_connection_string().expect("it speaks TLS");
    let environment = [(CONNECTION, connection), ("SSL_CERT_FILE", file.to_str().expect("UTF-8"))];
    let test = "a_certificate_that_the_system_trusts_lets_everything_through";
    once_more(test, &environment).await.unwrap_or_else(|text| panic!("{text}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_given_beside_the_system_s_lets_everything_through() {
    let broker = broker().await;
    let roots = ExtraRoots::from_pem(authority(&broker).as_bytes()).expect("a certificate");
    exchange(&over_tls(&broker), roots).await;
    assert!(broker.counters().connections.accepted_tls >= 5, "all of it over TLS");
}

/// Sends to queue and topic, receives from queue and subscription, reads the counts of both.
async fn exchange(connection: &ConnectionString, roots: ExtraRoots) {
    let client_options = ClientOptions { extra_roots: roots.clone(), ..ClientOptions::default() };
    let client =
        |entity: EntityName| connect_with(connection, entity, Adapter::Ours, &client_options).expect("a client");
    let administration = AdministrationClient::with_options(connection, options(roots)).expect("a client");
    // More than one TLS record and more than one frame.
    let message = OutgoingMessage {
        message_id: "m-1".to_owned(),
        content_type: None,
        body: Bytes::from(vec![b'x'; 200_000]),
        scheduled_enqueue_time: None,
    };
    let subscription = EntityName::subscription("events", "audit");
    for (to, from) in
        [(EntityName::queue(QUEUE), EntityName::queue(QUEUE)), (EntityName::topic("events"), subscription)]
    {
        let (sender, receiver) = (client(to), client(from.clone()));
        sender.send(std::slice::from_ref(&message)).await.expect("sent");
        let counts = || async {
            let description = match &from {
                EntityName::Subscription { topic, name } => administration.subscription(topic, name).await,
                _ => administration.queue(QUEUE).await,
            };
            description.expect("described").counts
        };
        assert_eq!(counts().await.active, 1, "{from}");
        let messages = receiver.receive(1, DEADLINE).await.expect("received");
        assert_eq!(messages[0].body, message.body);
        receiver.settle(messages[0].lock_token, Settlement::Complete).await.expect("completed");
        assert_eq!(counts().await.active, 0, "{from}");
        sender.close().await.expect("closed");
        receiver.close().await.expect("closed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_an_unknown_authority_is_refused() {
    let (broker, stranger) = (broker().await, broker().await);
    // On a machine without any root certificates too, there is somebody to trust.
    let roots = ExtraRoots::from_pem(authority(&stranger).as_bytes()).expect("a certificate");
    let client_options = ClientOptions { extra_roots: roots.clone(), ..ClientOptions::default() };
    let client = connect_with(&over_tls(&broker), QUEUE, Adapter::Ours, &client_options).expect("a client");
    let error =
        tokio::time::timeout(DEADLINE, client.max_batch_bytes()).await.expect("in time").expect_err("not trusted");
    assert_eq!(error.kind, FailureKind::Refused, "{error:?}");
    let client = AdministrationClient::with_options(&over_tls(&broker), options(roots)).expect("a client");
    let error = client.queue(QUEUE).await.expect_err("not trusted");
    let AdministrationError::Untrusted { source, .. } = &error else { panic!("{error:?}") };
    assert!(source.to_string().starts_with("invalid peer certificate"), "{source}");
    assert!(!error.is_transient());
    assert_eq!(broker.counters().total.operations, 0, "no credential was sent");
}

#[tokio::test]
async fn a_port_that_answers_in_the_clear_gets_no_credential() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // The client may leave before it has read everything.
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let text = format!("Endpoint=sb://{address};SharedAccessKeyName=n;SharedAccessKey=k");
    let (connection, other) = (ConnectionString::parse(&text).expect("well formed"), broker().await);
    let roots = ExtraRoots::from_pem(authority(&other).as_bytes()).expect("a certificate");
    let client = AdministrationClient::with_options(&connection, options(roots)).expect("a client");
    let error = client.queue(QUEUE).await.expect_err("no TLS there");
    assert!(matches!(error, AdministrationError::Untrusted { .. }), "{error:?}");
    assert_eq!(error.to_string(), "no TLS connection to 127.0.0.1");
}

/// As in an image without a bundle of certificates.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_system_s_certificates_plain_http_and_the_authority_given_still_work() {
    if let (Ok(connection), Ok(plain), Ok(authority)) =
        (std::env::var(CONNECTION), std::env::var(PLAIN), std::env::var(AUTHORITY))
    {
        let connection = ConnectionString::parse(&connection).expect("a connection string");
        let error = AdministrationClient::with_options(&connection, options(ExtraRoots::default()));
        let error = error.expect_err("nobody to trust");
        assert!(matches!(error, AdministrationError::Tls(_)), "{error:?}");
        let client = connect(&connection, QUEUE, Adapter::Ours).expect("a client");
        let error = client.max_batch_bytes().await.expect_err("nobody to trust");
        assert_eq!(error.kind, FailureKind::Refused, "{error:?}");
        exchange(&connection, ExtraRoots::from_pem(authority.as_bytes()).expect("PEM")).await;
        let plain = ConnectionString::parse(&plain).expect("a connection string");
        return exchange(&plain, ExtraRoots::default()).await;
    }
    let broker = broker().await;
    let environment = [
        (CONNECTION, broker.tls_connection_string().expect("it speaks TLS")),
        (PLAIN, broker.connection_string()),
        (AUTHORITY, authority(&broker)),
        ("SSL_CERT_FILE", "/nonexistent/certificates"),
    ];
    let test = "without_the_system_s_certificates_plain_http_and_the_authority_given_still_work";
    once_more(test, &environment).await.unwrap_or_else(|text| panic!("{text}"));
}
