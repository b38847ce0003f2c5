//! An address of this machine that one test has for itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};

/// An address of loopback at which no other test listens, with port 0. For a test that still names a port when it is free
/// again: at the address of all others it may go to another test at once. Loopback is a whole network on Linux; elsewhere it
/// has one address, and this is it.
pub fn own_address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(2);
    if !cfg!(target_os = "linux") {
        return (Ipv4Addr::LOCALHOST, 0).into();
    }
    let [_, _, third, fourth] = std::process::id().to_be_bytes();
    (Ipv4Addr::new(127, third, fourth, NEXT.fetch_add(1, Ordering::Relaxed)), 0).into()
}
