//! Talking to one Service Bus namespace: connection string → credential → administration reads; send, receive, settle.
//!
//! [`ConnectionString`] says where and as whom; so do [`Namespace`] and [`Credential`], for administration alone.
//! [`AdministrationClient`] reads what queues and subscriptions hold. [`connect`] gives the [`QueueClient`] of one entity,
//! by our own AMQP adapter or by the crate `azservicebus`. Nothing here knows gRPC, Kubernetes or scaling.

mod adapter;
mod administration;
#[cfg(feature = "azservicebus")]
mod azservicebus;
mod backoff;
mod batch;
mod client;
mod connection_string;
mod credential;
mod endpoint;
mod entity;
mod entra;
mod namespace;
mod ours;
mod said;
mod sas;
mod tls;

pub use adapter::{Adapter, ClientOptions, ConnectError, UnknownAdapter, connect, connect_with};
pub use administration::{
    AdministrationClient, AdministrationClients, AdministrationError, AdministrationOptions, EntityCounts,
    EntityDescription, EntityPages, EntitySettings, EntityStatus,
};
pub use backoff::Backoff;
pub use batch::Batch;
pub use client::{
    ClientError, FailureKind, LockToken, OutgoingMessage, PeekedMessage, QueueClient, ReceivedMessage, Settlement,
};
pub use connection_string::{ConnectionString, ConnectionStringError};
pub use credential::{Credential, SharedAccess, SharedAccessError};
pub use endpoint::EndpointError;
pub use entity::{BadEntityName, EntityName};
pub use entra::{Authority, AuthorityError, Cloud, Entra, EntraError, EntraIdentity, EntraOptions};
pub use namespace::{Namespace, NamespaceError};
pub use tls::{ExtraRoots, ExtraRootsError};
