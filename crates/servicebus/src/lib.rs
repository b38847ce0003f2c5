//! Talking to one Service Bus namespace: connection string → credential → administration reads; send, receive, settle.
//!
//! [`ConnectionString`] says where and as whom. [`AdministrationClient`] reads what queues hold. [`connect`] gives the
//! [`QueueClient`] of one queue, by our own AMQP adapter or by the crate `azservicebus`. Nothing here knows gRPC,
//! Kubernetes or scaling.

mod adapter;
mod administration;
#[cfg(feature = "azservicebus")]
mod azservicebus;
mod backoff;
mod batch;
mod client;
mod connection_string;
mod ours;
mod sas;
mod tls;

pub use adapter::{Adapter, ClientOptions, ConnectError, UnknownAdapter, connect, connect_with};
pub use administration::{
    AdministrationClient, AdministrationError, AdministrationOptions, NewQueue, QueueCounts, QueueDescription,
    QueuePages, QueueStatus,
};
pub use backoff::Backoff;
pub use batch::Batch;
pub use client::{
    ClientError, FailureKind, LockToken, OutgoingMessage, PeekedMessage, QueueClient, ReceivedMessage, Settlement,
};
pub use connection_string::{ConnectionString, ConnectionStringError, EndpointError};
