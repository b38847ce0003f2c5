//! Without `UseDevelopmentEmulator` everything goes over TLS, AMQP and administration alike, and certificates are checked.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, Options, QueueOptions};
use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use servicebus::{
    Adapter, AdministrationClient, AdministrationError, AdministrationOptions, ConnectionString, FailureKind,
    OutgoingMessage, Settlement, connect,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

const QUEUE: &str = "orders";
/// Set in the process that trusts the test's certificate authority: where the two sides of a TLS port are.
const TRUSTED: &str = "SERVICEBUS_TEST_TLS";
const DEADLINE: Duration = Duration::from_mins(1);

/// A port that speaks TLS before a broker; gives a connection string to it and the certificate to be trusted.
async fn tls_before_a_broker() -> (Broker, String, String) {
    let queues = vec![QueueOptions::new(QUEUE)];
    let broker = Broker::start(Options { queues, ..Options::default() }).await.expect("a broker");
    let mut authority = CertificateParams::new(Vec::new()).expect("parameters");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key")).expect("signed");
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
    let leaf = leaf.signed_by(&key, &authority).expect("signed");
    let certificate = CertificateDer::from(leaf.der().to_vec());
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a configuration");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let upstream = broker.addresses()[0];
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let (Ok(mut client), Ok(mut broker)) =
                    (acceptor.accept(stream).await, TcpStream::connect(upstream).await)
                else {
                    return;
                };
                // Either side may end it.
                let _ = tokio::io::copy_bidirectional(&mut client, &mut broker).await;
            });
        }
    });
    let connection = format!(
        "Endpoint=sb://localhost:{port};SharedAccessKeyName={};SharedAccessKey={}",
        broker::EMULATOR_KEY_NAME,
        broker::EMULATOR_KEY
    );
    (broker, connection, authority.pem())
}

fn options() -> AdministrationOptions {
    AdministrationOptions { timeout: DEADLINE, ..AdministrationOptions::default() }
}

/// The certificates that a process trusts are named by its environment, so this test runs itself once more, as a process
/// whose `SSL_CERT_FILE` is the test's authority.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trusted_certificate_lets_everything_through() {
    if let Ok(connection) = std::env::var(TRUSTED) {
        return send_receive_and_count(&connection).await;
    }
    let (_broker, connection, authority) = tls_before_a_broker().await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("authority.pem");
    std::fs::write(&file, authority).expect("written");
    let child = tokio::process::Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "a_trusted_certificate_lets_everything_through"])
        .env(TRUSTED, connection)
        .env("SSL_CERT_FILE", &file)
        .env_remove("SSL_CERT_DIR")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(DEADLINE, child).await.expect("in time").expect("ran");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

async fn send_receive_and_count(connection: &str) {
    let connection = ConnectionString::parse(connection).expect("a connection string");
    let client = connect(&connection, QUEUE, Adapter::Ours).expect("a client");
    // More than one TLS record and more than one frame.
    let message = OutgoingMessage {
        message_id: "m-1".to_owned(),
        content_type: None,
        body: Bytes::from(vec![b'x'; 200_000]),
        scheduled_enqueue_time: None,
    };
    client.send(std::slice::from_ref(&message)).await.expect("sent");
    let administration = AdministrationClient::with_options(&connection, options()).expect("a client");
    assert_eq!(administration.queue(QUEUE).await.expect("described").counts.active, 1);
    let received = client.receive(1, DEADLINE).await.expect("received");
    assert_eq!(received[0].body, message.body);
    client.settle(received[0].lock_token, Settlement::Complete).await.expect("completed");
    assert_eq!(administration.queue(QUEUE).await.expect("described").counts.active, 0);
    client.close().await.expect("closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_an_unknown_authority_is_refused() {
    let (_broker, connection, _) = tls_before_a_broker().await;
    let connection = ConnectionString::parse(&connection).expect("a connection string");
    let client = connect(&connection, QUEUE, Adapter::Ours).expect("a client");
    let error =
        tokio::time::timeout(DEADLINE, client.max_batch_bytes()).await.expect("in time").expect_err("not trusted");
    assert_eq!(error.kind, FailureKind::Refused, "{error:?}");
    // A machine without any root certificate cannot even make the client.
    match AdministrationClient::with_options(&connection, options()) {
        Err(error) => assert!(matches!(error, AdministrationError::Tls(_)), "{error:?}"),
        Ok(client) => {
            let error = client.queue(QUEUE).await.expect_err("not trusted");
            assert!(matches!(error, AdministrationError::Untrusted { .. }), "{error:?}");
        }
    }
}
