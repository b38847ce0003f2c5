//! Pure scaling policies: what a reading is, and what a policy may say about it.
//!
//! `policy.decide(window, now) -> Decision { replicas, active, why }`. No clock, no I/O, no metric names and no targets:
//! a policy says how many replicas it wants; turning that into a metric value is the scaler's `reply`.

mod reading;

pub use reading::{Counts, EntityStatus, Moment, Reading};
