//! Who gets in: with a certificate of the authority that the operator names, and nobody else; and that certificates and
//! authorities change while it runs.

use std::time::Duration;

use futures_util::future::try_join_all;
use rustls::ClientConfig;
use scaler::tls::Tls;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::certificates::{Authority, Files};
use crate::support::{MESSAGES, Scaler, active_stream, assert_ends_with_ok, until, value, within};

async fn serving(files: &Files) -> Scaler {
    let paths = files.paths();
    let tls = Tls::read(&paths).expect("good files");
    let mut interval = Duration::ZERO;
    let scaler = Scaler::start_with(|parts| {
        parts.tls = Some(tls.clone());
        interval = parts.timings.config_interval;
    })
    .await;
    tokio::spawn(tls.follow(paths, interval, None, scaler.shutdown.clone()));
    scaler
}

/// Whether a client that connects now gets an answer.
async fn gets_in(scaler: &Scaler, tls: ClientConfig) -> bool {
    // With TLS 1.3 a client may believe to be in before it hears of its certificate's refusal.
    match scaler.client_with(tls).await {
        Ok(client) => value(&client, "receiver").await.is_ok(),
        Err(_) => false,
    }
}

#[tokio::test]
async fn only_a_certificate_of_the_named_authority_gets_in() {
    let (server, keda, stranger) = (Authority::new("server"), Authority::new("keda"), Authority::new("stranger"));
    let scaler = serving(&Files::new(&server.server(), &keda.pem())).await;

    let client = scaler.client_with(server.trusted_by(Some(&keda.client()))).await.expect("it gets in");
    assert_eq!(value(&client, "receiver").await.expect("an answer"), MESSAGES as i64);
    let stream = active_stream(&client, "receiver").await;
    let refused = || scaler.count("servicebus_scaler_tls_handshakes_failed_total");

    for (who, identity) in [
        ("without a certificate", None),
        ("with a stranger's certificate", Some(stranger.client())),
        ("with an expired certificate", Some(keda.expired_client())),
        ("with a server's certificate", Some(keda.server())),
    ] {
        let before = refused();
        assert!(!gets_in(&scaler, server.trusted_by(identity.as_ref())).await, "{who}");
        // More than one, if the client tries again by itself.
        until("it to be counted", async || refused() > before).await;
    }
    let before = refused();
    let mut plain = TcpStream::connect(scaler.address).await.expect("the port is open");
    tokio::io::AsyncWriteExt::write_all(&mut plain, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("it is taken");
    let mut said = Vec::new();
    // It may be reset or closed, after an alert; what must not come is an HTTP/2 frame.
    let _closed_or_reset = within("the end", plain.read_to_end(&mut said)).await;
    assert!(said.is_empty() || said[0] == 0x15, "a TLS alert at most: {said:?}");
    until("it to be counted", async || refused() > before).await;

    assert!(gets_in(&scaler, server.trusted_by(Some(&keda.client()))).await, "the others did no harm");
    scaler.shutdown.cancel();
    assert_ends_with_ok(stream).await;
    scaler.ended().await;
}

#[tokio::test]
async fn a_certificate_and_an_authority_change_for_the_next_connection() {
    let (server, keda) = (Authority::new("server"), Authority::new("keda"));
    let files = Files::new(&server.server(), &keda.pem());
    let scaler = serving(&files).await;
    let before = scaler.client_with(server.trusted_by(Some(&keda.client()))).await.expect("it gets in");
    value(&before, "receiver").await.expect("an answer");

    let (new_server, new_keda) = (Authority::new("new server"), Authority::new("new keda"));
    files.write(&new_server.server(), &new_keda.pem());
    until("the new certificates to be in force", async || {
        gets_in(&scaler, new_server.trusted_by(Some(&new_keda.client()))).await
    })
    .await;
    assert!(!gets_in(&scaler, new_server.trusted_by(Some(&keda.client()))).await, "the old authority is gone");
    value(&before, "receiver").await.expect("a connection from before stays");

    // A bad file changes nothing, and good ones after it are taken again.
    testbench::replace(&files.paths().key, "not a key");
    for _ in 0..5 {
        assert!(gets_in(&scaler, new_server.trusted_by(Some(&new_keda.client()))).await);
    }
    files.write(&server.server(), &keda.pem());
    until("the certificates to be back", async || gets_in(&scaler, server.trusted_by(Some(&keda.client()))).await)
        .await;
}

/// A scaler that waits so long for a handshake, and fewer connections than may shake hands at a time, and many more than
/// one, that do not.
async fn beside_silent_ones(files: &Files, handshake_deadline: Option<Duration>) -> (Scaler, Vec<TcpStream>) {
    let tls = Tls::read(&files.paths()).expect("good files");
    let scaler = Scaler::start_with(|parts| {
        parts.tls = Some(tls);
        parts.timings.handshake_deadline = handshake_deadline.unwrap_or(parts.timings.handshake_deadline);
    })
    .await;
    let connect = (0..50).map(|_| TcpStream::connect(scaler.address));
    let silent = within("connect", try_join_all(connect)).await.expect("the port is open");
    (scaler, silent)
}

#[tokio::test]
async fn who_does_not_shake_hands_keeps_nobody_waiting_and_is_closed() {
    let (server, keda) = (Authority::new("server"), Authority::new("keda"));
    let files = Files::new(&server.server(), &keda.pem());
    let (scaler, _silent) = beside_silent_ones(&files, None).await;
    assert!(gets_in(&scaler, server.trusted_by(Some(&keda.client()))).await, "it waits for none of them");

    let (scaler, silent) = beside_silent_ones(&files, Some(Duration::from_millis(200))).await;
    for mut stream in silent {
        // A reset is an end as well as any.
        let _closed_or_reset = within("the end of a silent one", stream.read_u8()).await;
    }
    until("all to be counted", async || scaler.count("servicebus_scaler_tls_handshakes_failed_total") == 50).await;
}
