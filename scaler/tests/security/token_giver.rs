//! Who gives tokens, on this machine: Entra over TLS with an authority of its own, and a metadata service in plain HTTP.
//! Answers by the path, and remembers what it was asked, so that a test can prove that a secret was really used.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use testbench::tls_acceptor;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// Runs until the test ends.
pub(crate) struct TokenGiver {
    pub(crate) entra: SocketAddr,
    pub(crate) metadata_service: SocketAddr,
    /// Whom to trust for `entra`, PEM.
    pub(crate) authority: String,
    asked: Arc<Mutex<String>>,
}

impl TokenGiver {
    /// Gives this token to every tenant but the one named `refusing`.
    pub(crate) async fn start(token: &str) -> Self {
        let (acceptor, authority) = tls_acceptor("127.0.0.1");
        let asked = Arc::new(Mutex::new(String::new()));
        let over_tls = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let plain = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let (entra, metadata_service) = (over_tls.local_addr().expect("bound"), plain.local_addr().expect("bound"));
        let (token, remember) = (Arc::<str>::from(token), Arc::clone(&asked));
        tokio::spawn({
            let (token, remember) = (Arc::clone(&token), Arc::clone(&remember));
            async move {
                while let Ok((stream, _)) = over_tls.accept().await {
                    let (acceptor, token, remember) = (acceptor.clone(), Arc::clone(&token), Arc::clone(&remember));
                    // Each by itself: a connection that says nothing keeps no other waiting.
                    tokio::spawn(async move {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            converse(stream, &token, &remember).await;
                        }
                    });
                }
            }
        });
        tokio::spawn(async move {
            while let Ok((stream, _)) = plain.accept().await {
                let (token, remember) = (Arc::clone(&token), Arc::clone(&remember));
                tokio::spawn(async move { converse(stream, &token, &remember).await });
            }
        });
        Self { entra, metadata_service, authority, asked }
    }

    /// All that it was asked, one request after the other.
    pub(crate) fn asked(&self) -> String {
        self.asked.lock().expect("no panic before").clone()
    }
}

/// One request, one answer.
async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, token: &str, asked: &Mutex<String>) {
    let mut request = Vec::new();
    let text = loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                break text;
            }
        }
        match stream.read_buf(&mut request).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    };
    asked.lock().expect("no panic before").push_str(&text);
    let (status, body) = if text.contains("/refusing/") {
        (
            "401 Unauthorized",
            r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided."}"#
                .to_owned(),
        )
    } else {
        let fields =
            r#""token_type":"Bearer","expires_in":3600,"ext_expires_in":3600,"expires_on":"4102444800","resource":"r""#;
        ("200 OK", format!(r#"{{{fields},"access_token":"{token}"}}"#))
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length:");
    // The scaler may have given up waiting.
    let _ = stream.write_all(format!("{head} {}\r\n\r\n{body}", body.len()).as_bytes()).await;
    let _ = stream.shutdown().await;
}
