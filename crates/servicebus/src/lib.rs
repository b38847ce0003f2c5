//! Talking to one Service Bus namespace: connection string → credential → administration reads; send, receive, settle.

mod client;

pub use client::{
    ClientError, FailureKind, LockToken, OutgoingMessage, PeekedMessage, QueueClient, ReceivedMessage, Settlement,
};
