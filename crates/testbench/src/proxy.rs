//! A TCP proxy that fails as a network does: it cuts connections, holds bytes back, and changes where it leads.
//!
//! What is sent after a call of [`Proxy::cut`], [`Proxy::stall`] or [`Proxy::hold_back`] has returned does not pass: each
//! piece is held against the orders after it was read, so it does not matter which task the machine runs first.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Passes bytes on until it is told otherwise. Ends when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    orders: watch::Sender<Orders>,
    /// Connections made so far.
    connections: watch::Receiver<u64>,
    task: tokio::task::JoinHandle<()>,
}

/// What holds for all connections, and how to tell those that were there before.
#[derive(Clone, Copy)]
struct Orders {
    target: SocketAddr,
    /// Counts cuts; connections of an earlier count are closed.
    cuts: u64,
    /// Counts stalls; connections of an earlier count stay open and pass nothing on.
    stalls: u64,
    /// Whether nothing passes at all for now.
    held_back: bool,
    /// Whether new connections are closed at once.
    is_over: bool,
}

impl Orders {
    /// Whether a connection made under `self` passes bytes on under `now`.
    fn pass_under(self, now: &Self) -> bool {
        (self.cuts, self.stalls, false) == (now.cuts, now.stalls, now.held_back)
    }
}

impl Proxy {
    /// A proxy in front of `target`.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let orders = watch::Sender::new(Orders { target, cuts: 0, stalls: 0, held_back: false, is_over: false });
        let (made, connections) = watch::channel(0);
        let given = orders.clone();
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                made.send_modify(|connections| *connections += 1);
                // A connection that fails is the client's to notice.
                tokio::spawn(relay(near, given.subscribe()));
            }
        });
        Self { address, orders, connections, task }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes every connection there is; new ones work.
    pub fn cut(&self) {
        self.orders.send_modify(|orders| orders.cuts += 1);
    }

    /// Closes every connection there is and each new one, for good. Its port stays its own, so that nobody else answers there.
    pub fn cut_for_good(&self) {
        self.orders.send_modify(|orders| {
            orders.cuts += 1;
            orders.is_over = true;
        });
    }

    /// Lets every connection there is fall silent for good, open as it stays; new ones work.
    pub fn stall(&self) {
        self.orders.send_modify(|orders| orders.stalls += 1);
    }

    /// Passes nothing on, of new connections neither, until told otherwise; then what was held back goes its way.
    pub fn hold_back(&self, held_back: bool) {
        self.orders.send_modify(|orders| orders.held_back = held_back);
    }

    /// Leads new connections elsewhere.
    pub fn lead_to(&self, target: SocketAddr) {
        self.orders.send_modify(|orders| orders.target = target);
    }

    /// How many connections were made so far.
    pub fn connections(&self) -> u64 {
        *self.connections.borrow()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

/// Ends when both sides have closed, one has failed, or the connection is cut.
async fn relay(mut near: TcpStream, mut orders: watch::Receiver<Orders>) {
    let made_under = *orders.borrow_and_update();
    if made_under.is_over {
        return;
    }
    let (there, back) = (orders.clone(), orders.clone());
    let passing_on = async {
        let mut far = TcpStream::connect(made_under.target).await?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        let (near, far) = (near.split(), far.split());
        tokio::try_join!(pass(near.0, far.1, made_under, there), pass(far.0, near.1, made_under, back))
    };
    tokio::select! {
        _ = passing_on => {}
        _ = orders.wait_for(|now| now.cuts != made_under.cuts) => {}
    }
}

/// One direction, to its end.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    made_under: Orders,
    mut orders: watch::Receiver<Orders>,
) -> io::Result<()> {
    let mut bytes = vec![0; 64 << 10];
    loop {
        let count = from.read(&mut bytes).await?;
        if orders.wait_for(|now| made_under.pass_under(now)).await.is_err() {
            return Ok(());
        }
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&bytes[..count]).await?;
    }
}
