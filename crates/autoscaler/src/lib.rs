//! KEDA's loop and the HPA's arithmetic for one `ScaledObject` with one external trigger, in simulated time.
//!
//! A sans-I/O machine: [`Autoscaler::due`] says which step is due, the caller makes the calls and hands in the answers,
//! [`Autoscaler::answer`] says what the replicas become and why. Processes, sockets and clocks are the caller's; time
//! is an argument, a duration since an origin that the caller chooses. [`keda`] and [`hpa`] name the sources that each
//! rule was read from. What is left out: pods that are not ready yet, other metrics, `idleReplicaCount`, `fallback`.

mod autoscaler;
pub mod hpa;
pub mod keda;
mod spec;

pub use autoscaler::{Actor, Answers, Autoscaler, CALLS, Call, Change, Step};
pub use spec::{Behavior, Rules, ScalingPolicy, Select, Spec, SpecError};
