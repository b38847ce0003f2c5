//! A process's life, shared by every binary: logs, the ready line, signals, exit codes.
//!
//! It knows nothing of the product. Each binary's `main` is `runtime::main(NAME, args.log, |shutdown| run(args, shutdown))`.

mod logs;
mod ready;
mod run;
#[cfg(feature = "otlp")]
mod traces;

pub use logs::{LogArgs, LogFormat, LogLevelError, change_log_level, log_level, reset_log_level};
pub use ready::{Ready, announce};
pub use run::main;
