//! A plain HTTP/1.1 client for tests: one request a connection, the answer as text.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::client::{DEADLINE, Stream, token};

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The text of the first element of this name.
    pub(crate) fn element(&self, name: &str) -> &str {
        let (_, after) = self.body.split_once(&format!("<{name}>")).unwrap_or_else(|| panic!("no {name}: {self:?}"));
        after.split_once("</").expect("closed").0
    }

    /// Fails unless the body has all of these, one after the other.
    pub(crate) fn assert_in_order<'a>(&self, elements: impl IntoIterator<Item = &'a str>) {
        let mut rest = self.body.as_str();
        for element in elements {
            let (_, after) =
                rest.split_once(element).unwrap_or_else(|| panic!("{element} is missing or out of order: {self:?}"));
            rest = after;
        }
    }

    /// Active, dead-letter and scheduled messages.
    pub(crate) fn counts(&self) -> [u64; 3] {
        ["Active", "DeadLetter", "Scheduled"].map(|kind| self.count(kind))
    }

    /// Messages that wait to be forwarded, and such that could not be.
    pub(crate) fn transfer_counts(&self) -> [u64; 2] {
        ["Transfer", "TransferDeadLetter"].map(|kind| self.count(kind))
    }

    fn count(&self, kind: &str) -> u64 {
        self.element(&format!("d2p1:{kind}MessageCount")).parse().expect("a number")
    }
}

/// A request with a valid token.
pub(crate) async fn call(address: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let authorization = format!("Authorization: {}\r\n{headers}", token(&format!("http://{address}")));
    raw(address, method, path, &authorization, body).await
}

/// A GET with a valid token.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    call(address, "GET", path, "", "").await
}

/// A request with the given headers (each ends in CR LF) and nothing added but host and length.
pub(crate) async fn raw(address: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let stream = TcpStream::connect(address).await.expect("connects");
    raw_over(stream, address, method, path, headers, body).await
}

/// The same over a connection that is there.
pub(crate) async fn raw_over(
    mut stream: impl Stream,
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> Answer {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    );
    let exchange = async {
        stream.write_all(request.as_bytes()).await.expect("writable");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("text");
        answer
    };
    let answer = tokio::time::timeout(DEADLINE, exchange).await.expect("an answer in time");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}
