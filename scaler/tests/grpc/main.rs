//! The scaler over real gRPC, before the real broker, both in this process; and the binary as a process of its own.

mod calls;
mod failures;
mod process;
mod profiles;
mod streams;
mod support;
