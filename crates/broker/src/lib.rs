//! A small local Service Bus: AMQP 1.0 and the HTTP administration API on one port, everything in memory.
//!
//! The story: `server` accepts sockets, tells protocols apart (`sniff`) and takes TLS off (`tls`); a `peer` speaks AMQP,
//! `http` and `admin` speak HTTP; both turn what clients want into events of the pure [`state`], which the `hub` owns. What is not supported is
//! refused in Service Bus's words; nothing is pretended.

mod access;
mod address;
mod admin;
mod args;
mod budget;
mod caller;
mod content;
mod control;
mod counters;
mod durations;
mod faults;
mod http;
mod hub;
mod initial;
mod options;
mod peer;
mod server;
mod sniff;
mod socket;
pub mod state;
mod tls;

pub use access::{EMULATOR_KEY, EMULATOR_KEY_NAME, KeyError, Rights, RightsError, SharedAccessKey};
pub use args::{Args, Secret};
pub use control::ControlKey;
pub use counters::{ConnectionCounts, Counts, Operation, Outcome, Tally};
pub use faults::{Fault, FaultError, FaultId, FaultKind, FaultReport, Faults, Plane, TooManyFaults};
pub use options::{Options, QueueOptions, SubscriptionOptions};
pub use server::{Broker, StartError};
pub use tls::{CertificateSource, TlsError, TlsOptions};

use std::process::ExitCode;

use tokio_util::sync::CancellationToken;

/// Runs the broker until `shutdown`: prints the ready line once it serves, closes its connections at the end.
pub async fn run(args: Args, shutdown: CancellationToken) -> anyhow::Result<ExitCode> {
    let (options, ready_file) = args.into_options()?;
    let broker = Broker::start(options).await?;
    let ready = runtime::Ready {
        listen: broker.addresses().to_vec(),
        connection_string: Some(broker.connection_string().to_owned()),
        tls_connection_string: broker.tls_connection_string().map(str::to_owned),
        ..runtime::Ready::default()
    };
    runtime::announce(&ready, ready_file.as_deref())?;
    shutdown.cancelled().await;
    broker.shutdown().await;
    Ok(ExitCode::SUCCESS)
}
