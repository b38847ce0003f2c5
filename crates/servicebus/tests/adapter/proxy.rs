//! A TCP proxy between client and broker that can cut every connection, hold all bytes back, and change where it leads.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A running proxy; it ends when dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    control: watch::Sender<Control>,
    _stop: DropGuard,
}

#[derive(Clone, Copy)]
struct Control {
    upstream: SocketAddr,
    /// Connections made before the last change of this are cut.
    cuts: u64,
    stalled: bool,
}

impl Proxy {
    pub(crate) async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (control, watched) = watch::channel(Control { upstream, cuts: 0, stalled: false });
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = stopped.cancelled() => return,
                };
                let Ok((client, _)) = accepted else { return };
                let (watched, stopped) = (watched.clone(), stopped.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = relay(client, watched) => {}
                        () = stopped.cancelled() => {}
                    }
                });
            }
        });
        Self { address, control, _stop: stop.drop_guard() }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts all connections; new ones work.
    pub(crate) fn cut(&self) {
        self.control.send_modify(|control| control.cuts += 1);
    }

    /// Holds all bytes back, in both directions, until told otherwise.
    pub(crate) fn stall(&self, stalled: bool) {
        self.control.send_modify(|control| control.stalled = stalled);
    }

    /// Leads new connections elsewhere.
    pub(crate) fn lead_to(&self, upstream: SocketAddr) {
        self.control.send_modify(|control| control.upstream = upstream);
    }
}

async fn relay(mut client: TcpStream, mut watched: watch::Receiver<Control>) {
    let start = *watched.borrow_and_update();
    let Ok(mut upstream) = TcpStream::connect(start.upstream).await else { return };
    let _ = (client.set_nodelay(true), upstream.set_nodelay(true));
    let (mut there, mut back) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut stalled = start.stalled;
    loop {
        tokio::select! {
            changed = watched.changed() => {
                let now = *watched.borrow_and_update();
                if changed.is_err() || now.cuts != start.cuts {
                    return;
                }
                stalled = now.stalled;
            }
            read = client.read(&mut there), if !stalled => match read {
                Ok(0) | Err(_) => return,
                Ok(count) => if upstream.write_all(&there[..count]).await.is_err() { return },
            },
            read = upstream.read(&mut back), if !stalled => match read {
                Ok(0) | Err(_) => return,
                Ok(count) => if client.write_all(&back[..count]).await.is_err() { return },
            },
        }
    }
}
