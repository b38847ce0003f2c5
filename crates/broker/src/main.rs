//! The broker as a program: reads the command line and runs [`broker::run`].

use std::process::ExitCode;

use clap::Parser;

/// A small local Service Bus: AMQP 1.0 and the HTTP administration API on one port
///
/// Official SDKs reach it with the connection string that it prints, as one line of JSON with its addresses, on stdout
/// once it serves. It keeps everything in memory.
#[derive(Parser)]
#[command(name = "broker", version)]
struct Cli {
    #[command(flatten)]
    args: broker::Args,
}

fn main() -> ExitCode {
    let Cli { args } = Cli::parse();
    let log = args.log.clone();
    runtime::main("broker", &log, |shutdown| broker::run(args, shutdown))
}
