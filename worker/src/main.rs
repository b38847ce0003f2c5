//! The worker's process: parse the arguments, run, exit.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let args = worker::Args::parse();
    let log = args.log.clone();
    runtime::main(worker::NAME, &log, |shutdown| worker::run(args, shutdown))
}
