//! A giver of tokens on this machine: HTTPS (or plain HTTP, as metadata services are), with an authority of its own, which
//! answers as it is told and remembers what it was asked.

use std::sync::Arc;
use std::time::Duration;

use servicebus::ExtraRoots;
use testbench::tls_acceptor;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// What it was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// The line and the headers, lower-case but for the line.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Asked {
    /// A field of the form, decoded.
    pub(crate) fn field(&self, name: &str) -> String {
        let start = format!("{name}=");
        let field = self.body.split('&').find_map(|field| field.strip_prefix(&start));
        decoded(field.unwrap_or_else(|| panic!("no {name} in {}", self.body)))
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = text.replace('+', " ").into_bytes();
    while let Some(at) = bytes.iter().position(|byte| *byte == b'%') {
        let code = std::str::from_utf8(&bytes[at + 1..at + 3]).expect("two digits");
        let byte = u8::from_str_radix(code, 16).expect("two digits");
        // What a code stands for is never a `%` here, so none is decoded twice.
        assert_ne!(byte, b'%');
        bytes.splice(at..at + 3, [byte]);
    }
    String::from_utf8(bytes).expect("UTF-8")
}

/// What it answers to the request of a number, counted from 1; `None` leaves it without an answer.
pub(crate) type Answers = Arc<dyn Fn(usize) -> Option<String> + Send + Sync>;

/// Runs until the test ends.
pub(crate) struct Giver {
    pub(crate) port: u16,
    authority: Option<String>,
    asked: mpsc::UnboundedReceiver<Asked>,
}

impl Giver {
    /// Over TLS, as Entra.
    pub(crate) async fn start(answers: impl Fn(usize) -> Option<String> + Send + Sync + 'static) -> Self {
        Self::serve(true, Arc::new(answers)).await
    }

    /// Over plain HTTP, as a metadata service.
    pub(crate) async fn start_plain(answers: impl Fn(usize) -> Option<String> + Send + Sync + 'static) -> Self {
        Self::serve(false, Arc::new(answers)).await
    }

    async fn serve(tls: bool, answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let (acceptor, authority) = if tls { Some(tls_acceptor("localhost")).unzip() } else { (None, None) };
        let (tell, asked) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut number = 0;
            while let Ok((stream, _)) = listener.accept().await {
                number += 1;
                let (answer, tell, acceptor) = (answers(number), tell.clone(), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                converse(stream, answer, &tell).await;
                            }
                        }
                        None => converse(stream, answer, &tell).await,
                    }
                });
            }
        });
        Self { port, authority, asked }
    }

    /// Its address, as an authority.
    pub(crate) fn address(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// Trust in its certificate.
    pub(crate) fn roots(&self) -> ExtraRoots {
        ExtraRoots::from_pem(self.authority.as_ref().expect("TLS").as_bytes()).expect("a certificate")
    }

    /// The next request that was not looked at yet; waits for it.
    pub(crate) async fn asked(&mut self) -> Asked {
        tokio::time::timeout(Duration::from_mins(1), self.asked.recv()).await.expect("in time").expect("it runs")
    }

    /// Whether there is no further request.
    pub(crate) fn was_left_alone(&mut self) -> bool {
        self.asked.try_recv().is_err()
    }
}

/// One request, one answer.
async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: Option<String>,
    tell: &mpsc::UnboundedSender<Asked>,
) {
    let mut request = Vec::new();
    let (head, body) = loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let (line, headers) = head.split_once("\r\n").unwrap_or((head, ""));
            let headers = headers.to_lowercase();
            let length = headers.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().expect("a number")) {
                break (format!("{line}\n{headers}"), body.to_owned());
            }
        }
        let mut more = vec![0; 16 << 10];
        match stream.read(&mut more).await {
            Ok(0) | Err(_) => return,
            Ok(count) => request.extend_from_slice(&more[..count]),
        }
    };
    // The test may have ended.
    let _ = tell.send(Asked { head, body });
    match answer {
        Some(answer) => {
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
        // Holds the connection until the client leaves.
        None => drop(stream.read(&mut [0]).await),
    }
}

pub(crate) fn http(head: &str, body: &str) -> String {
    format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

/// A token as Entra gives it.
pub(crate) fn token(text: &str, lifetime_seconds: u32) -> String {
    let body = format!(
        r#"{{"token_type":"Bearer","expires_in":{lifetime_seconds},"ext_expires_in":{lifetime_seconds},"access_token":"{text}"}}"#
    );
    http("200 OK\r\nContent-Type: application/json", &body)
}
