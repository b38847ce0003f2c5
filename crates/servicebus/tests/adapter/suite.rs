//! The promises of the client port, one test each, by subject.

#[path = "suite/closing.rs"]
pub(crate) mod closing;
#[path = "suite/failing.rs"]
pub(crate) mod failing;
#[path = "suite/receiving.rs"]
pub(crate) mod receiving;
#[path = "suite/sending.rs"]
pub(crate) mod sending;
#[path = "suite/settling.rs"]
pub(crate) mod settling;
#[path = "suite/topics.rs"]
pub(crate) mod topics;
