//! KEDA's external scaler contract as Rust types: messages, client and server of `externalscaler.ExternalScaler`.
//!
//! Generated from `proto/externalscaler.proto` by `build.rs`. Nothing is written by hand here; what the calls mean
//! and when KEDA makes them is said in `docs/architecture.md`.

#[expect(missing_docs, clippy::pedantic, reason = "generated code")]
mod generated {
    tonic::include_proto!("externalscaler");
}

pub use generated::*;

/// The encoded `FileDescriptorSet` of the contract, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/externalscaler.bin"));
