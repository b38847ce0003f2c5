//! The scaler's process: parse the arguments, run, exit.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let args = scaler::Args::parse();
    let log = args.log.clone();
    runtime::main(scaler::NAME, &log, |shutdown| scaler::run(args, shutdown))
}
