//! The demo's process: be one of the children if asked to, else run the whole loop.

use std::process::ExitCode;

use clap::Parser as _;
use demo::args::Hidden;

fn main() -> ExitCode {
    let demo::Args { hidden, run } = demo::Args::parse();
    if let Some(Hidden::Role { role }) = hidden {
        return role.play();
    }
    // The demo's own libraries do not log: the terminal belongs to the view, and what happens is in its events.
    let log = runtime::LogArgs::off();
    runtime::main(demo::NAME, &log, |shutdown| demo::run(run, shutdown))
}
