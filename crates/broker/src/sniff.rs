//! One port, several protocols: tells them apart by the first bytes a client sends.
//!
//! At most four bytes are taken from the socket and handed on with the answer. A client that says nothing in time is
//! dropped. Inside TLS it is asked once more.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// How long a client may take to send its first bytes.
pub(crate) const FIRST_BYTES_DEADLINE: Duration = Duration::from_secs(10);

/// What the client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// An AMQP protocol header.
    Amqp,
    /// A TLS handshake record.
    Tls,
    /// The method of an HTTP/1 request.
    Http,
    /// Nothing we know.
    Unknown,
}

/// The answer, and the bytes taken from the socket to find it.
#[derive(Debug)]
pub(crate) struct Sniffed {
    pub(crate) protocol: Protocol,
    pub(crate) taken: Vec<u8>,
}

/// Reads until the protocol is clear. `UnexpectedEof` when the client left first, `TimedOut` when it was silent.
pub(crate) async fn sniff(stream: &mut (impl AsyncRead + Unpin), deadline: Duration) -> io::Result<Sniffed> {
    let reading = async {
        let mut taken = Vec::with_capacity(4);
        loop {
            if let Some(protocol) = judge(&taken) {
                return Ok(Sniffed { protocol, taken });
            }
            let mut rest = [0; 4];
            let room = 4 - taken.len();
            let count = stream.read(&mut rest[..room]).await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            taken.extend_from_slice(&rest[..count]);
        }
    };
    tokio::time::timeout(deadline, reading).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// `None` while more bytes are needed; never `None` from four bytes on.
fn judge(bytes: &[u8]) -> Option<Protocol> {
    let first = *bytes.first()?;
    if first == 0x16 {
        return Some(Protocol::Tls);
    }
    let seen = &bytes[..bytes.len().min(4)];
    if b"AMQP".starts_with(seen) {
        return (seen.len() == 4).then_some(Protocol::Amqp);
    }
    // Methods are words of at least three capital letters; after three a space may follow ("GET ").
    let is_method = seen.iter().enumerate().all(|(i, byte)| byte.is_ascii_uppercase() || (i == 3 && *byte == b' '));
    if is_method {
        return (seen.len() == 4).then_some(Protocol::Http);
    }
    Some(Protocol::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn knows_each_protocol() {
        for (bytes, protocol) in [
            (&b"AMQP\x03\x01\x00\x00"[..], Protocol::Amqp),
            (b"\x16\x03\x01", Protocol::Tls),
            (b"GET / HTTP/1.1", Protocol::Http),
            (b"PUT /q HTTP/1.1", Protocol::Http),
            (b"DELETE /q", Protocol::Http),
            (b"\x00\x00", Protocol::Unknown),
            (b"AMQX", Protocol::Http),
            (b"ge", Protocol::Unknown),
            (b"GE ", Protocol::Unknown),
        ] {
            assert_eq!(judge(bytes), Some(protocol), "{bytes:?}");
        }
        for bytes in [&b""[..], b"A", b"AMQ", b"GET", b"P"] {
            assert_eq!(judge(bytes), None, "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn bytes_may_come_one_by_one_and_are_handed_on() {
        let mut stream = tokio_test_stream(&[b"A", b"M", b"QP", b"\x03"]);
        let sniffed = sniff(&mut stream, Duration::from_secs(5)).await.expect("clear");
        assert_eq!((sniffed.protocol, sniffed.taken.as_slice()), (Protocol::Amqp, &b"AMQP"[..]));
    }

    #[tokio::test]
    async fn silence_and_leaving_end_it() {
        let (_client, mut server) = tokio::io::duplex(8);
        let error = sniff(&mut server, Duration::from_millis(1)).await.expect_err("silent");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let mut stream = tokio_test_stream(&[b"GE"]);
        let error = sniff(&mut stream, Duration::from_secs(5)).await.expect_err("left");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    /// A stream that yields the parts in as many reads and then ends.
    fn tokio_test_stream(parts: &[&'static [u8]]) -> impl AsyncRead + Unpin + use<> {
        parts.iter().fold(Box::new(tokio::io::empty()) as Box<dyn AsyncRead + Unpin>, |before, part| {
            Box::new(before.chain(*part))
        })
    }

    proptest! {
        #[test]
        fn four_bytes_always_decide(bytes in proptest::array::uniform4(any::<u8>())) {
            prop_assert!(judge(&bytes).is_some());
        }
    }
}
