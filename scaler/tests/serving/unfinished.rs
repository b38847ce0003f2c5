//! A client that begins calls and does not go on with them: HTTP/2 by hand, since no gRPC client would do so.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{MESSAGES, Scaler, value, within};

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const CALLS: u32 = 50;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The head of a call of `GetMetrics` (RFC 7541: two fields of the static table, the others as they are).
fn head() -> Vec<u8> {
    let literal = |name: &str, value: &str| {
        let text = |text: &str| [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
        [vec![0], text(name), text(value)].concat()
    };
    [
        vec![0x83, 0x86],
        literal(":path", "/externalscaler.ExternalScaler/GetMetrics"),
        literal(":authority", "scaler"),
        literal("content-type", "application/grpc"),
        literal("te", "trailers"),
    ]
    .concat()
}

/// A connection on which calls were begun.
async fn with_begun_calls(scaler: &Scaler) -> TcpStream {
    let mut stream = TcpStream::connect(scaler.address).await.expect("the port is open");
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("it is taken");
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.expect("it is taken");
    for call in 0..CALLS {
        stream.write_all(&frame(HEADERS, END_HEADERS, 1 + 2 * call, &head())).await.expect("it is taken");
    }
    stream
}

#[tokio::test]
async fn calls_whose_messages_never_come_are_answered_and_forgotten() {
    let scaler = Scaler::start().await;
    let _stream = with_begun_calls(&scaler).await;
    assert_eq!(value(&scaler.client().await, "receiver").await.expect("others are served"), MESSAGES as i64);

    let scaler = Scaler::start_with(|parts| parts.timings.arrival_deadline = Duration::from_millis(200)).await;
    let mut stream = with_begun_calls(&scaler).await;
    let answers = async {
        let mut answered = 0;
        while answered < CALLS {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.expect("the connection stays");
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            stream.read_exact(&mut payload).await.expect("the connection stays");
            // An answer of trailers alone: refused.
            answered += u32::from(head[3] == HEADERS && head[4] & END_STREAM != 0);
        }
    };
    within("an answer to each", answers).await;
}
