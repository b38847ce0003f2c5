//! What the scaler costs beyond gRPC itself: throughput and latency of `GetMetrics` from a warm cache with 1, 100 and 10,000
//! `ScaledObject`s, and memory for each, over real gRPC on loopback. Beside it, in the same run and in turns, so that what
//! else the machine does meets both alike: a bare tonic server that decodes the same request and answers a constant.
//!
//! `cargo bench -p scaler --bench load [-- --help]`. The goals are those of docs/benchmarks.md; the program says whether they
//! are met and ends with 1 if not.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio_util::sync::CancellationToken;

mod measure;
mod memory;
#[path = "../shared/paced.rs"]
mod paced;
mod requests;
mod servers;

use measure::{Latencies, Turns, saturated};
use paced::paced;

/// At least this share of the bare server's throughput.
const THROUGHPUT_GOAL: f64 = 0.7;
/// At the fixed rate, 99 of 100 calls are answered within this.
const LATENCY_GOAL: Duration = Duration::from_millis(5);
/// Memory of one `ScaledObject` with a full history and its metrics, at most.
const MEMORY_GOAL_BYTES: f64 = 16.0 * 1024.0;

#[derive(Parser)]
struct Args {
    /// Numbers of triggers to measure throughput with
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 10_000])]
    objects: Vec<usize>,
    /// How often the two servers take turns
    #[arg(long, default_value_t = 10)]
    turns: usize,
    /// Length of a turn, in milliseconds
    #[arg(long, default_value_t = 500)]
    turn_ms: u64,
    /// Calls in flight at a time, for throughput
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
    /// Calls a second, for latency at a fixed rate with the largest number of triggers
    #[arg(long, default_value_t = 2_000)]
    rate: u32,
    /// How many turns of a second to keep that rate
    #[arg(long, default_value_t = 10)]
    rate_seconds: u64,
    /// Leave out memory, which takes 64 readings of every trigger
    #[arg(long)]
    no_memory: bool,
    /// Passed by `cargo bench`; means nothing here
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let Args { objects, turns, turn_ms, in_flight, rate, rate_seconds, no_memory, bench: _ } = Args::parse();
    let shutdown = CancellationToken::new();
    let _stops_at_the_end = shutdown.clone().drop_guard();
    let largest = objects.iter().copied().max().unwrap_or(1);
    let mut missed = Vec::new();

    // First, while nothing else has grown the process.
    if !no_memory {
        let bytes = memory::of_one(largest).await?;
        println!("memory of a ScaledObject with 64 readings and metrics, {largest} of them: {bytes:.0} bytes");
        if bytes > MEMORY_GOAL_BYTES {
            missed.push(format!("memory: {bytes:.0} bytes > {MEMORY_GOAL_BYTES:.0}"));
        }
        println!();
    }

    let scaler = servers::scaler(shutdown.clone()).await?.client;
    let floor = servers::floor(shutdown.clone()).await?;
    println!("GetMetrics, {in_flight} in flight on one connection, {turns} turns of {turn_ms} ms each");
    println!("{:>12}{:>16}{:>16}{:>10}", "objects", "scaler, calls/s", "bare, calls/s", "share");
    for &count in &objects {
        let requests = requests::get_metrics(count);
        servers::warm(&scaler, &requests).await?;
        servers::warm(&floor, &requests).await?;
        let turn = Duration::from_millis(turn_ms);
        let (mut ours, mut bare) = (Turns::default(), Turns::default());
        for _ in 0..turns {
            ours.add(saturated(&scaler, &requests, in_flight, turn).await?);
            bare.add(saturated(&floor, &requests, in_flight, turn).await?);
        }
        let share = ours.median() / bare.median();
        println!("{count:>12}{:>16.0}{:>16.0}{share:>10.2}", ours.median(), bare.median());
        if share < THROUGHPUT_GOAL {
            missed.push(format!("throughput with {count}: {share:.2} of the bare server's < {THROUGHPUT_GOAL}"));
        }
    }
    println!();

    println!(
        "GetMetrics, {rate} calls a second, {rate_seconds} turns of 1 s each, {largest} objects; from when a call was due"
    );
    println!("{:>12}{:>12}{:>12}{:>12}{:>12}", "server", "p50 ms", "p99 ms", "p99.9 ms", "max ms");
    let requests = requests::get_metrics(largest);
    servers::warm(&scaler, &requests).await?;
    servers::warm(&floor, &requests).await?;
    let (mut ours, mut bare) = (Latencies::default(), Latencies::default());
    for _ in 0..rate_seconds {
        for (client, latencies) in [(&scaler, &mut ours), (&floor, &mut bare)] {
            latencies.add(paced(client, &requests, rate, Duration::from_secs(1)).await?);
        }
    }
    for (name, latencies) in [("scaler", &ours), ("bare", &bare)] {
        let [p50, p99, p999, max] = [0.5, 0.99, 0.999, 1.0].map(|share| latencies.quantile(share));
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        println!("{name:>12}{:>12.2}{:>12.2}{:>12.2}{:>12.2}", ms(p50), ms(p99), ms(p999), ms(max));
    }
    let p99 = ours.quantile(0.99);
    if p99 > LATENCY_GOAL {
        missed.push(format!("p99 at {rate} calls/s: {p99:?} > {LATENCY_GOAL:?}"));
    }
    println!();
    for goal in &missed {
        println!("missed: {goal}");
    }
    Ok(if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
