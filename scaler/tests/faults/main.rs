//! What goes wrong over there, injected into the real broker, seen over real gRPC: no call hangs beyond its deadline, what is
//! unknown is never a zero, recovery comes with the next refresh, the code is right, the log has one line, and reads stay
//! within the budget. Periods are shortened; the code is the product's.

mod crowd;
mod entity;
mod log;
mod namespace;
mod push;
mod scene;
