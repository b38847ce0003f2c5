//! The broker as a program: reads the command line and runs [`broker::run`].

use std::process::ExitCode;

use clap::Parser;

/// The command line.
#[derive(Parser)]
#[command(name = "broker", version, about, long_about)]
struct Cli {
    #[command(flatten)]
    args: broker::Args,
}

fn main() -> ExitCode {
    let Cli { args } = Cli::parse();
    let log = args.log.clone();
    runtime::main("broker", &log, |shutdown| broker::run(args, shutdown))
}
