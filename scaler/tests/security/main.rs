//! The table of attacks in docs/security.md, row by row: the scaler as a real process, called over real gRPC, before a real
//! broker where it may read and before a trap where it must not connect.

mod appetite;
mod destinations;
mod planted;
mod references;
mod support;
mod table;
mod token_giver;
