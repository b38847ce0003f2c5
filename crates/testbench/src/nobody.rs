//! An address at which nobody listens.

use std::net::SocketAddr;

use tokio::net::TcpSocket;

/// Holds a port without listening there: connections are refused, and no other test gets the port meanwhile.
pub struct Nobody {
    _socket: TcpSocket,
    address: SocketAddr,
}

impl Nobody {
    /// Takes a free port of this machine.
    pub fn start() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let address = socket.local_addr().expect("bound");
        Self { _socket: socket, address }
    }

    /// Where nobody listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
