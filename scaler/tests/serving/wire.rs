//! HTTP/2 by hand, for what no gRPC client would do or show: calls that are begun and left, and the order in which an end comes.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Scaler, within};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A connection on which the client speaks frame by frame.
pub(crate) struct Wire(TcpStream);

/// A frame that came.
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
}

impl Wire {
    pub(crate) async fn connect(scaler: &Scaler) -> Self {
        let mut stream = TcpStream::connect(scaler.address).await.expect("the port is open");
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("it is taken");
        let mut wire = Self(stream);
        wire.send(SETTINGS, 0, 0, &[]).await;
        wire
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
        let frame = [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat();
        self.0.write_all(&frame).await.expect("it is taken");
    }

    /// Begins the call of that number, from 0, of a method of KEDA's contract. Its message is still to come.
    pub(crate) async fn begin(&mut self, call: u32, method: &str) {
        self.send(HEADERS, END_HEADERS, 1 + 2 * call, &head(method)).await;
    }

    /// The whole message of that call.
    pub(crate) async fn ask(&mut self, call: u32, message: &[u8]) {
        let length = u32::try_from(message.len()).expect("a short message").to_be_bytes();
        self.send(DATA, END_STREAM, 1 + 2 * call, &[&[0], &length[..], message].concat()).await;
    }

    /// The next frame, which must come.
    pub(crate) async fn next(&mut self) -> Frame {
        let next = async {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.expect("the connection stays");
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.0.read_exact(&mut payload).await.expect("the connection stays");
            Frame { kind: head[3], flags: head[4] }
        };
        within("a frame", next).await
    }
}

impl Frame {
    /// Whether a call ends with it.
    pub(crate) fn is_end(&self) -> bool {
        self.kind == HEADERS && self.flags & END_STREAM != 0
    }
}

/// The head of a call (RFC 7541: two fields of the static table, the others as they are).
fn head(method: &str) -> Vec<u8> {
    let literal = |name: &str, value: &str| {
        let text = |text: &str| [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
        [vec![0], text(name), text(value)].concat()
    };
    [
        vec![0x83, 0x86],
        literal(":path", &format!("/externalscaler.ExternalScaler/{method}")),
        literal(":authority", "scaler"),
        literal("content-type", "application/grpc"),
        literal("te", "trailers"),
    ]
    .concat()
}
