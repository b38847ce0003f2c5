//! Accepted connections, their number capped: KEDA needs one or two, and whoever opens hundreds must not use up the
//! process's file descriptors.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::{Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::server::{Connected, TcpConnectInfo, TcpIncoming};

/// An accepted connection with its place among those allowed, given back when it is closed.
pub(crate) struct Placed {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
}

/// Accepts connections, at most `limit` at a time; one too many is closed at once.
pub(crate) fn capped(listener: TcpListener, limit: usize) -> impl Stream<Item = io::Result<Placed>> {
    let free = Arc::new(Semaphore::new(limit));
    TcpIncoming::from(listener).with_nodelay(Some(true)).filter_map(move |accepted| {
        let kept = match (accepted, Arc::clone(&free).try_acquire_owned()) {
            (Ok(stream), Ok(place)) => Some(Ok(Placed { stream, _place: place })),
            (Ok(_), Err(_)) => {
                tracing::warn!(limit, "a connection is closed: all places are taken");
                None
            }
            (Err(error), _) => Some(Err(error)),
        };
        std::future::ready(kept)
    })
}

impl Connected for Placed {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Placed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn one_too_many_is_closed_and_a_place_given_back_is_used_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let mut accepted = Box::pin(capped(listener, 1));
        let within = Duration::from_secs(10);
        let _first = TcpStream::connect(address).await.expect("the listener accepts");
        let place = accepted.next().await.expect("a connection").expect("no error");
        let mut second = TcpStream::connect(address).await.expect("the kernel accepts");
        // The stream has nothing to give for the second one: only its end shows, while the stream is asked.
        let end = tokio::select! {
            end = tokio::time::timeout(within, second.read_u8()) => end.expect("it is closed"),
            _ = accepted.next() => panic!("no place is free"),
        };
        assert!(end.is_err(), "{end:?}");
        drop(place);
        let _third = TcpStream::connect(address).await.expect("the listener accepts");
        let placed = tokio::time::timeout(within, accepted.next()).await.expect("it gets the place");
        assert!(placed.expect("a connection").is_ok());
    }
}
