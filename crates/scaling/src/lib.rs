//! Pure scaling policies: what a reading is, and what a policy may say about it.
//!
//! `policy.decide(window, now) -> Decision { replicas, active, why }`. No clock, no I/O, no metric names and no targets:
//! a policy says how many replicas it wants; [`metric_value`] turns that into the number that makes the HPA agree.

mod metric;
mod policy;
mod reading;

pub use metric::metric_value;
pub use policy::{
    Base, BaseError, DEFAULT_POLICY, Decision, Entry, Key, KeyError, POLICIES, Policy, PolicyError, Settings,
    build_policy, policy_names,
};
pub use reading::{Counts, EntityStatus, Moment, Reading, Window};
