//! A TCP proxy whose connections can be cut, as a failing network would.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Passes bytes on until it is told otherwise. Ends when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    /// Counts cuts; connections of an earlier count are closed.
    cuts: watch::Sender<u64>,
    /// Counts stalls; connections of an earlier count stay open and pass nothing on.
    stalls: watch::Sender<u64>,
    /// Connections made so far.
    connections: watch::Receiver<u64>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// A proxy in front of `target`.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let cuts = watch::Sender::new(0);
        let (made, connections) = watch::channel(0);
        let stalls = watch::Sender::new(0);
        let (cut, stall) = (cuts.clone(), stalls.clone());
        let task = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (mut cut, mut stall) = (cut.subscribe(), stall.subscribe());
                made.send_modify(|connections| *connections += 1);
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(target).await else { return };
                    let passing_on = async {
                        tokio::select! {
                            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                            _ = stall.changed() => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        () = passing_on => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self { address, cuts, stalls, connections, task }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes every connection there is; new ones work.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Lets every connection there is fall silent, open as it stays; new ones work.
    pub fn stall(&self) {
        self.stalls.send_modify(|stalls| *stalls += 1);
    }

    /// Closes every connection there is and lets no new one in, for good.
    pub fn cut_for_good(&self) {
        self.task.abort();
        self.cut();
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
