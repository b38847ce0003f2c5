//! The broker over real sockets: a raw AMQP client on the protocol engine in its client role, and plain HTTP.
//!
//! Each test starts a broker of its own on a free port. Every wait has a deadline and waits for a state, never for a
//! time to pass (where a lock or token must run out, the test waits for what follows from it).

#![expect(clippy::similar_names, reason = "a receiver and what it received, a broker and a broken message read well")]

mod access;
mod admin;
mod client;
mod counters;
mod faults;
mod forwarding;
mod http;
mod management;
mod ports;
mod process;
mod receiving;
mod sending;
mod tls;
mod topics;

use broker::{Broker, Options, QueueOptions};

/// A broker with the given queues, default options otherwise.
async fn broker_with(queues: &[&str]) -> Broker {
    let queues = queues.iter().map(|name| QueueOptions::new(*name)).collect();
    Broker::start(Options { queues, ..Options::default() }).await.expect("the broker starts")
}
