//! The sender's process: parse the arguments, run, exit.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let args = sender::Args::parse();
    let log = args.log.clone();
    runtime::main(sender::NAME, &log, |shutdown| sender::run(args, shutdown))
}
