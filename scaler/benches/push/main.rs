//! The push path: how soon `true` is on the stream after a message came, what watching costs the namespace, what it does to
//! the connection it shares, all with the real broker, the real scaler and a real gRPC client on loopback.
//!
//! `cargo bench -p scaler --bench push [-- --help]`. Goals and figures are in docs/benchmarks.md; `--check` ends with 1 if a
//! goal is missed.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};

mod calls;
mod idle;
mod listening;
mod looks;
mod mailbox;
#[path = "../shared/paced.rs"]
mod paced;
mod reads;
mod stack;
mod summary;
mod wakeups;

use summary::{Goals, Times};
use wakeups::Plan;

/// How often the scaler looks at an inactive queue that a push stream follows.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The scaler's default budget.
const CREDITS_A_SECOND: f64 = 50.0;
const CREDITS_OF_A_READ: f64 = 10.0;
/// Credits that may be saved up while nothing is read, as when the machine is too busy: four seconds' worth.
const SAVED_CREDITS: f64 = 4.0 * CREDITS_A_SECOND;
/// Queues that one read refreshes at most.
const PAGE: f64 = 100.0;
/// How much the observed period and the metric may differ from what the budget says.
const STRETCH_TOLERANCE: f64 = 0.25;
/// Polling intervals over which reads are counted.
const READS_INTERVALS: u32 = 2;
/// `GetMetrics` beside the streams: single-digit milliseconds.
const CALL_GOAL_SECONDS: f64 = 0.010;
/// Where calls alone are slower than that, since the machine is busy, by how much they may be slower beside the streams.
const CALL_TOLERANCE: f64 = 1.5;
/// Polls for the comparison come so much more often than KEDA's, to be done in reasonable time. The cache is as much shorter,
/// and neither reads nor their budget cost them time, which could not be made shorter alike.
const POLLS_FASTER: f64 = 15.0;
const FASTER_CACHE: &str =
    "cacheTtlSeconds: 0.333\ncacheTtlBoundsSeconds: {min: 0, max: 300}\ncreditsPerSecond: 1000000";

/// A part of the measurement.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// From a message's acceptance to `true`, by push and by polls
    Wakeups,
    /// `GetMetrics` on a connection with thousands of streams
    Calls,
    /// A thousand streams with nothing to tell
    Idle,
    /// Reads a minute of push triggers beside poll triggers
    Reads,
}

#[derive(Parser)]
struct Args {
    /// Measure these parts only
    #[arg(long, value_delimiter = ',', default_values_t = Part::value_variants().to_vec(), hide_default_value = true)]
    only: Vec<Part>,
    /// Take less time, for fewer samples; leaves out reads, which need two polling intervals
    #[arg(long)]
    quick: bool,
    /// End with 1 if a goal is missed
    #[arg(long)]
    check: bool,
    /// Queues that are woken for wakeups
    #[arg(long, default_value_t = 100)]
    queues: usize,
    /// Milliseconds that the broker takes for a read, on top of what it takes anyway
    #[arg(long, default_value_t = 50)]
    read_latency_ms: u64,
    /// Where all randomness begins
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Passed by `cargo bench`; means nothing here
    #[arg(long, hide = true)]
    bench: bool,
}

impl std::fmt::Display for Part {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.to_possible_value().expect("none is skipped").get_name())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let Args { only, quick, check, queues, read_latency_ms, seed, bench: _ } = Args::parse();
    let begun = Instant::now();
    let read_latency = Duration::from_millis(read_latency_ms);
    let wants = |part| only.contains(&part);
    let mut goals = Goals::default();
    println!("a read of Service Bus takes {read_latency_ms} ms and what the broker needs; seed {seed}\n");
    if wants(Part::Wakeups) {
        wakeups(queues, quick, seed, read_latency, &mut goals).await?;
    }
    if wants(Part::Calls) {
        calls(quick, read_latency, &mut goals).await?;
    }
    // Both wait most of their time, so they wait together.
    let idle = async { if wants(Part::Idle) { idle(quick, seed, read_latency).await.map(Some) } else { Ok(None) } };
    let reads =
        async { if wants(Part::Reads) && !quick { reads(seed, read_latency).await.map(Some) } else { Ok(None) } };
    let (idle, reads) = tokio::try_join!(idle, reads)?;
    if let Some(idle) = idle {
        print_idle(&idle, &mut goals);
    }
    if let Some(reads) = reads {
        print_reads(&reads, &mut goals);
    }
    let all_met = goals.print();
    println!("\ntook {:.0} s", begun.elapsed().as_secs_f64());
    Ok(if check && !all_met { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn wakeups(
    queues: usize,
    quick: bool,
    seed: u64,
    read_latency: Duration,
    goals: &mut Goals,
) -> anyhow::Result<()> {
    let (push_rounds, poll_rounds) = if quick { (2, 1) } else { (6, 4) };
    let push = Plan { queues, rounds: push_rounds, within: LOOK_INTERVAL, seed };
    let push = wakeups::by_push(push, read_latency).await?;
    let interval = reads::POLLING_INTERVAL.div_f64(POLLS_FASTER);
    let polls = Plan { queues, rounds: poll_rounds, within: interval, seed };
    let polls = wakeups::by_polls(polls, FASTER_CACHE, interval).await?;

    println!("from a message's acceptance by the broker to true, seconds; {queues} queues in one namespace");
    println!("{:<44}{:>10}{:>8}{:>8}{:>8}{:>8}", "", "wake-ups", "mean", "p50", "p99", "max");
    let row = |name: &str, times: &Times, factor: f64| {
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| times.quantile(share) * factor);
        let (count, mean) = (times.count(), times.mean() * factor);
        println!("{name:<44}{count:>10}{mean:>8.3}{p50:>8.3}{p99:>8.3}{max:>8.3}");
    };
    row("push", &push.times, 1.0);
    row(&format!("polls every {:.0} s, cacheTtl 0.33 s, free reads", interval.as_secs_f64()), &polls, 1.0);
    row("  the same × 15: KEDA's 30 s, cacheTtl 5 s", &polls, POLLS_FASTER);
    row("one read, alone", &push.read, 1.0);
    println!();
    let limit = LOOK_INTERVAL.as_secs_f64() + push.read.quantile(0.99);
    goals.at_most("wake-up p99, s: at most 1 s and one read (p99)", push.times.quantile(0.99), limit);
    Ok(())
}

async fn calls(quick: bool, read_latency: Duration, goals: &mut Goals) -> anyhow::Result<()> {
    let (turns, length) = if quick { (1, 2) } else { (4, 3) };
    let load = calls::Load { streams: 2_000, rate: 500, turns, length: Duration::from_secs(length) };
    let calls::Measured { without, beside } = calls::measure(load, read_latency).await?;
    println!("GetMetrics, {} calls a second on one connection, milliseconds from when a call was due", load.rate);
    println!("{:<44}{:>10}{:>8}{:>8}{:>8}", "push streams on that connection", "calls", "p50", "p99", "max");
    for (streams, times) in [(0, &without), (load.streams, &beside)] {
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| times.quantile(share) * 1e3);
        println!("{streams:<44}{:>10}{p50:>8.2}{p99:>8.2}{max:>8.2}", times.count());
    }
    println!();
    // How late the machine is with everything shows without streams, too.
    let limit = CALL_GOAL_SECONDS.max(without.quantile(0.99) * CALL_TOLERANCE);
    goals.at_most(format!("GetMetrics beside {} streams, p99, s", load.streams), beside.quantile(0.99), limit);
    Ok(())
}

type Idle = Vec<(idle::Quiet, idle::Measured)>;

async fn idle(quick: bool, seed: u64, read_latency: Duration) -> anyhow::Result<Idle> {
    let (settle, window) = if quick { (3, 5) } else { (10, 60) };
    let quiet = idle::Quiet {
        streams: 1_000,
        queues: 1_000,
        settle: Duration::from_secs(settle),
        window: Duration::from_secs(window),
        woken: 100,
        rounds: if quick { 1 } else { 3 },
        seed,
    };
    let shared = idle::Quiet { queues: 1, woken: 1, ..quiet };
    let (distinct, of_one) = tokio::try_join!(idle::measure(quiet, read_latency), idle::measure(shared, read_latency))?;
    Ok(vec![(quiet, distinct), (shared, of_one)])
}

/// The period in seconds that the budget leaves for looking at so many queues.
fn period_of(queues: usize) -> f64 {
    let reads = (queues as f64 / PAGE).ceil();
    (reads * CREDITS_OF_A_READ / CREDITS_A_SECOND).max(LOOK_INTERVAL.as_secs_f64())
}

fn print_idle(idle: &Idle, goals: &mut Goals) {
    println!("idle push streams, {} s; budget {CREDITS_A_SECOND} credits a second", idle[0].0.window.as_secs());
    let header = ["streams", "queues", "ops/min", "credits/min", "period p50", "p99", "by budget", "stretch"];
    let [streams, queues, operations, credits, period, p99, by_budget, stretch] = header;
    print!("{streams:>8}{queues:>8}{operations:>9}{credits:>13}{period:>12}{p99:>8}{by_budget:>11}{stretch:>9}");
    println!("{:>10}{:>8}{:>8}{:>8}", "wake-ups", "p50", "p99", "max");
    for (quiet, measured) in idle {
        let idle::Measured { operations_a_minute, credits_a_minute, between, stretch, woken, read } = measured;
        let (idle::Quiet { streams, queues, window, .. }, by_budget) = (quiet, period_of(quiet.queues));
        let [p50, p99] = [0.5, 0.99].map(|share| between.quantile(share));
        let [true_p50, true_p99, true_max] = [0.5, 0.99, 1.0].map(|share| woken.quantile(share));
        print!("{streams:>8}{queues:>8}{operations_a_minute:>9.0}{credits_a_minute:>13.0}{p50:>12.3}{p99:>8.3}");
        print!("{by_budget:>11.3}{stretch:>9.2}{:>10}", woken.count());
        println!("{true_p50:>8.3}{true_p99:>8.3}{true_max:>8.3}");

        let name = |what: &str| format!("{streams} idle streams of {queues} queues: {what}");
        let most = CREDITS_A_SECOND + SAVED_CREDITS / window.as_secs_f64();
        goals.at_most(name("credits a second"), credits_a_minute / 60.0, most);
        goals.at_most(name("period p50, s"), p50, by_budget * (1.0 + STRETCH_TOLERANCE));
        let off = (stretch - p50 / LOOK_INTERVAL.as_secs_f64()).abs() / stretch;
        goals.at_most(name("share by which the metric is off"), off, STRETCH_TOLERANCE);
        let limit = by_budget * (1.0 + STRETCH_TOLERANCE) + read.quantile(0.99);
        goals.at_most(name("wake-up p99, s"), true_p99, limit);
    }
    println!();
}

type Reads = Vec<(reads::Cell, reads::Minute)>;

async fn reads(seed: u64, read_latency: Duration) -> anyhow::Result<Reads> {
    let mut cells = Vec::new();
    for is_busy in [false, true] {
        for objects in [1, 10, 100, 500] {
            for is_push in [false, true] {
                cells.push(reads::Cell { objects, is_busy, is_push, seed });
            }
        }
    }
    let minutes = reads::measure(&cells, READS_INTERVALS, read_latency).await?;
    Ok(cells.into_iter().zip(minutes).collect())
}

fn print_reads(reads: &Reads, goals: &mut Goals) {
    println!("management operations and credits a minute, a queue for each ScaledObject, under KEDA's call pattern");
    println!("{:>44}{:>20}{:>22}", "", "poll triggers", "push triggers");
    let [operations, credits] = ["ops/min", "credits/min"];
    println!(
        "{:>8}{:>8}{:>28}{operations:>8}{credits:>12}{operations:>10}{credits:>12}",
        "objects", "state", "polls and syncs/min"
    );
    let most = CREDITS_A_SECOND + SAVED_CREDITS / (reads::POLLING_INTERVAL * READS_INTERVALS).as_secs_f64();
    for pair in reads.chunks_exact(2) {
        let [(cell, poll), (_, push)] = pair else { continue };
        let state = if cell.is_busy { "busy" } else { "idle" };
        print!("{:>8}{state:>8}{:>28.0}{:>8.0}{:>12.0}", cell.objects, poll.asked, poll.operations, poll.credits);
        println!("{:>10.0}{:>12.0}", push.operations, push.credits);
        let name = |what: &str| format!("{} {state} ScaledObjects: {what}", cell.objects);
        goals.at_most(name("errors"), (poll.errors + push.errors) as f64, 0.0);
        goals.at_most(name("poll, credits a minute"), poll.credits, poll.asked * CREDITS_OF_A_READ);
        goals.at_most(name("push, credits a second"), push.credits / 60.0, most);
    }
    println!();
}
