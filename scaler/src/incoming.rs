//! Accepted connections: their number capped, TLS agreed on within a deadline, and each served in a task of its own.
//!
//! KEDA needs one or two connections; whoever opens hundreds must not use up the process's file descriptors. Handshakes
//! have places of their own, so that nobody without a certificate takes the place of somebody with one, and never run
//! in the accept loop, so that a slow one delays nobody else. What is said on a connection is [`connection`]'s business.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::metrics::{InUse, Metrics};
use crate::tls::Tls;

pub(crate) mod connection;
mod ending;
pub(crate) mod question;
mod refused_log;

use refused_log::Cause;
pub(crate) use refused_log::RefusedLog;

/// Pause after the system refused to accept, mostly for want of file descriptors: asking again at once would not help.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// HTTP/2's first bytes are as many (RFC 9113, section 3.4).
const PREFACE_BYTES: usize = 24;

/// How much the outside world gets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Connections at a time; one too many is closed at once.
    pub(crate) connections: usize,
    /// TLS handshakes at a time; one too many is closed at once.
    pub(crate) handshakes: usize,
    /// A handshake that takes longer is given up.
    pub(crate) handshake_deadline: Duration,
}

/// An accepted connection, TLS agreed on, with its place among those allowed, given back when it is closed.
pub(crate) struct Accepted {
    stream: Box<dyn ByteStream>,
    greeting: Greeting,
    received: usize,
    _place: OwnedSemaphorePermit,
    _counted: InUse,
}

/// Whether the client has sent as much as the first bytes that HTTP/2 begins with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Greeting(Arc<AtomicBool>);

impl Greeting {
    pub(crate) fn is_received(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// What accepting needs to know.
pub(crate) struct Incoming {
    pub(crate) listener: TcpListener,
    /// Without it, connections are plain.
    pub(crate) tls: Option<Tls>,
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
    pub(crate) log: Arc<RefusedLog>,
    /// Everything that runs for a connection.
    pub(crate) tasks: TaskTracker,
    /// Ends everything that runs for a connection, at once.
    pub(crate) cut_off: CancellationToken,
}

impl Incoming {
    /// Accepts until `stop`, then closes the listener; what was accepted goes on. `serve` is run for every connection.
    pub(crate) async fn accept<Served>(
        self,
        stop: CancellationToken,
        serve: impl Fn(Accepted) -> Served + Clone + Send + 'static,
    ) where
        Served: Future<Output = ()> + Send,
    {
        let Self { listener, tls, limits, metrics, log, tasks, cut_off } = self;
        let places = Arc::new(Semaphore::new(limits.connections));
        let handshakes = Arc::new(Semaphore::new(limits.handshakes));
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(problem) => {
                    if let Some(unlogged) = log.turn(Cause::NotAccepted) {
                        tracing::error!(%problem, unlogged, "no connection can be accepted");
                    }
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(ACCEPT_PAUSE) => continue,
                    }
                }
            };
            // Small messages, answered one by one: waiting for more to send would cost 40 ms each.
            if let Err(problem) = stream.set_nodelay(true) {
                tracing::debug!(%peer, %problem, "it is closed already");
                continue;
            }
            let handshake = match tls.as_ref().map(|tls| (tls.current(), Arc::clone(&handshakes).try_acquire_owned())) {
                None => None,
                Some((configuration, Ok(place))) => Some((configuration, place)),
                Some((_, Err(_))) => {
                    if let Some(unlogged) = log.turn(Cause::Handshakes) {
                        let limit = limits.handshakes;
                        tracing::warn!(%peer, limit, unlogged, "a connection is closed: too many TLS handshakes at a time");
                    }
                    continue;
                }
            };
            let (places, metrics, serve, log) = (Arc::clone(&places), metrics.clone(), serve.clone(), Arc::clone(&log));
            let stop = stop.clone();
            let task = async move {
                let stream: Box<dyn ByteStream> = match handshake {
                    None => Box::new(stream),
                    Some((configuration, _place)) => {
                        let agreed = TlsAcceptor::from(configuration).accept(stream);
                        let agreed = tokio::time::timeout(limits.handshake_deadline, agreed);
                        let Some(agreed) = stop.run_until_cancelled(agreed).await else { return };
                        match agreed.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                            Ok(stream) => Box::new(stream),
                            Err(problem) => {
                                metrics.handshake_failed();
                                if let Some(unlogged) = log.turn(Cause::Tls) {
                                    tracing::warn!(%peer, %problem, unlogged, "a connection is closed: no TLS was agreed on");
                                }
                                return;
                            }
                        }
                    }
                };
                let Ok(place) = places.try_acquire_owned() else {
                    if let Some(unlogged) = log.turn(Cause::Places) {
                        let limit = limits.connections;
                        tracing::warn!(%peer, limit, unlogged, "a connection is closed: all places are taken");
                    }
                    return;
                };
                let greeting = Greeting::default();
                let counted = metrics.connection_opened();
                serve(Accepted { stream, greeting, received: 0, _place: place, _counted: counted }).await;
            };
            let cut_off = cut_off.clone();
            tasks.spawn(async move {
                cut_off.run_until_cancelled(task).await;
            });
        }
    }
}

impl Accepted {
    pub(crate) fn greeting(&self) -> Greeting {
        self.greeting.clone()
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        if self.received < PREFACE_BYTES {
            self.received += buffer.filled().len() - before;
            if self.received >= PREFACE_BYTES {
                self.greeting.0.store(true, Ordering::Relaxed);
            }
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Accepted {
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
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpStream;
    use tokio::sync::mpsc;

    use super::*;

    const WITHIN: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn one_too_many_is_closed_and_a_place_given_back_is_used_again() {
        let listener = TcpListener::bind(testbench::own_address()).await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let incoming = Incoming {
            listener,
            tls: None,
            limits: Limits { connections: 1, handshakes: 1, handshake_deadline: WITHIN },
            metrics: Metrics::new(),
            log: Arc::default(),
            tasks: TaskTracker::new(),
            cut_off: CancellationToken::new(),
        };
        let tasks = incoming.tasks.clone();
        let stop = CancellationToken::new();
        let (sender, mut served) = mpsc::unbounded_channel();
        let serve = move |accepted: Accepted| {
            let sender = sender.clone();
            async move { sender.send(accepted).expect("the test listens") }
        };
        let accepting = tokio::spawn(incoming.accept(stop.clone(), serve));

        let _first = TcpStream::connect(address).await.expect("the listener accepts");
        let place = tokio::time::timeout(WITHIN, served.recv()).await.expect("in time").expect("it is served");
        let mut second = TcpStream::connect(address).await.expect("the kernel accepts");
        let end = tokio::time::timeout(WITHIN, second.read_u8()).await.expect("it is closed");
        assert!(end.is_err(), "{end:?}");
        drop(place);
        let _third = TcpStream::connect(address).await.expect("the listener accepts");
        let place = tokio::time::timeout(WITHIN, served.recv()).await.expect("in time").expect("it gets the place");

        stop.cancel();
        tokio::time::timeout(WITHIN, accepting).await.expect("in time").expect("it ends");
        let refused = TcpStream::connect(address).await.expect_err("nobody listens any more");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        drop(place);
        tasks.close();
        tokio::time::timeout(WITHIN, tasks.wait()).await.expect("no task is left");
    }
}
