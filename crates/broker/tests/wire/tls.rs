//! TLS on the same port: a client that trusts the authority's file and nothing else.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use amqp::DeliveryState;
use broker::{Broker, CertificateSource, Options, QueueOptions, StartError, TlsOptions};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::client::{Client, DEADLINE, message, token};
use super::http::{get, raw_over};

/// Connects, checks the certificate for `name`, and offers these protocols by ALPN.
pub(crate) async fn connect(
    address: SocketAddr,
    authority: &str,
    name: &str,
    protocols: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).expect("PEM")).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let handshake = async {
        let stream = TcpStream::connect(address).await?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    };
    tokio::time::timeout(DEADLINE, handshake).await.expect("in time")
}

async fn broker_with(tls: TlsOptions) -> Broker {
    let queues = vec![QueueOptions::new("q")];
    Broker::start(Options { queues, tls: Some(tls), ..Options::default() }).await.expect("starts")
}

fn written(file: &Path) -> String {
    std::fs::read_to_string(file).expect("the authority's certificate is written")
}

#[tokio::test]
async fn one_port_speaks_amqps_and_https_and_both_without_tls() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("authority.pem");
    let broker = broker_with(TlsOptions { authority_file: Some(file.clone()), ..TlsOptions::generated() }).await;
    let address = broker.addresses()[0];
    let authority = written(&file);
    assert_eq!(broker.certificate_authority_pem(), Some(authority.as_str()));
    assert_eq!(
        broker.tls_connection_string().expect("TLS is on"),
        format!("Endpoint=sb://{address};SharedAccessKeyName=RootManageSharedAccessKey;SharedAccessKey=SAS_KEY_VALUE;")
    );
    assert!(broker.connection_string().contains("UseDevelopmentEmulator=true"));

    let stream = connect(address, &authority, "127.0.0.1", &[]).await.expect("trusted");
    let mut secure = Client::over(stream).await.with_token().await;
    let sender = secure.sender("q").await;
    // More than one TLS record.
    let mut large = message("1");
    large.body = amqp::Body::data(vec![b'x'; 200_000]);
    assert_eq!(secure.send(sender, &large).await, DeliveryState::Accepted);
    let mut plain = Client::login(&broker).await;
    let receiver = plain.receiver("q", 1).await;
    assert_eq!(plain.receive(receiver).await.message.body, large.body);

    let stream = connect(address, &authority, "localhost", &["h2", "http/1.1"]).await.expect("trusted");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let authorization = format!("Authorization: {}\r\n", token(&format!("https://{address}")));
    let answer = raw_over(stream, address, "GET", "/q?api-version=2021-05", &authorization, "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.element("id"), format!("https://{address}/q?api-version=2021-05"), "the scheme it was asked by");
    assert_eq!(get(address, "/q").await.element("id"), format!("http://{address}/q?api-version=2021-05"));
}

#[tokio::test]
async fn another_name_and_another_authority_are_not_trusted() {
    let names = vec!["broker.example".to_owned()];
    let certificate = CertificateSource::Generated { names };
    let broker = broker_with(TlsOptions { certificate, ..TlsOptions::generated() }).await;
    let other = broker_with(TlsOptions::generated()).await;
    let address = broker.addresses()[0];
    let authority = broker.certificate_authority_pem().expect("generated").to_owned();
    let others = other.certificate_authority_pem().expect("generated").to_owned();
    for (authority, name, trusted) in [
        (&authority, "broker.example", true),
        (&authority, "::1", true),
        (&authority, "other.example", false),
        (&others, "broker.example", false),
    ] {
        let connected = connect(address, authority, name, &[]).await;
        assert_eq!(connected.is_ok(), trusted, "{name}: {connected:?}");
    }
}

#[tokio::test]
async fn with_tls_only_plain_clients_are_sent_away() {
    let broker = broker_with(TlsOptions { only: true, ..TlsOptions::generated() }).await;
    let address = broker.addresses()[0];
    assert_eq!(Some(broker.connection_string()), broker.tls_connection_string(), "only this one works");
    for bytes in [&b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n"[..], b"AMQP\x03\x01\x00\x00"] {
        let mut stream = TcpStream::connect(address).await.expect("connects");
        let exchange = async {
            tokio::io::AsyncWriteExt::write_all(&mut stream, bytes).await.expect("writable");
            let mut answer = Vec::new();
            // A reset is a close too.
            let _ = stream.read_to_end(&mut answer).await;
            answer
        };
        assert_eq!(tokio::time::timeout(DEADLINE, exchange).await.expect("closed in time"), b"");
    }
    let authority = broker.certificate_authority_pem().expect("generated").to_owned();
    let stream = connect(address, &authority, "127.0.0.1", &[]).await.expect("trusted");
    assert_eq!(raw_over(stream, address, "GET", "/health", "", "").await.status, 200);
}

#[tokio::test]
async fn a_silent_handshake_keeps_nobody_else_waiting() {
    let broker = broker_with(TlsOptions::generated()).await;
    let address = broker.addresses()[0];
    let mut silent = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(address).await.expect("connects");
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"\x16\x03\x01\x02\x00").await.expect("writable");
        silent.push(stream);
    }
    let authority = broker.certificate_authority_pem().expect("generated").to_owned();
    let stream = connect(address, &authority, "localhost", &[]).await.expect("served beside them");
    assert_eq!(raw_over(stream, address, "GET", "/health", "", "").await.status, 200);
    // They do not hold the end up either.
    tokio::time::timeout(DEADLINE, broker.shutdown()).await.expect("ends in time");
}

#[tokio::test]
async fn what_cannot_be_served_is_said_at_the_start() {
    let missing = CertificateSource::Files { certificate: "/no/such.pem".into(), key: "/no/such.key".into() };
    let unwritable = TlsOptions { authority_file: Some("/no/such/authority.pem".into()), ..TlsOptions::generated() };
    for (tls, wanted) in [
        (TlsOptions { certificate: missing, ..TlsOptions::generated() }, "/no/such.pem"),
        (unwritable, "/no/such/authority.pem"),
    ] {
        let error = Broker::start(Options { tls: Some(tls), ..Options::default() }).await.expect_err(wanted);
        let StartError::Tls(error) = error else { panic!("{error:?}") };
        assert!(error.to_string().contains(wanted), "{error}");
    }
}
