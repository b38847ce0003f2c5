//! The product on a real cluster: our worker as a Deployment, scaled 0 → several → 0 by the real KEDA and the real HPA,
//! which ask our scaler; broker and scaler run as processes on this host.
//!
//! Needs a kubeconfig (`KUBECONFIG` or the usual place), KEDA in the cluster, the image of our binaries on its nodes, and
//! an address of this host that pods and KEDA's operator reach. What it makes in the cluster it removes again, and is in
//! [`belongings`]. What is run is in [`scenario`], how in [`story`], what it must have shown in [`verdict`]; what is printed is the
//! timeline as it was seen.

mod belongings;
mod certificates;
mod cluster;
mod ledger;
mod manifests;
mod programs;
mod scenario;
mod story;
mod timeline;
mod verdict;

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, ValueEnum as _};
use tokio::signal::unix::{SignalKind, signal};

use belongings::Belongings;
use manifests::Folder;
use scenario::Scenario;

/// Runs the manifests of `deploy/` on a cluster and watches them scale
#[derive(Parser, Debug)]
struct Args {
    /// Scenarios to run, one after the other [default: all]
    #[arg(long, value_enum, num_args = 1..)]
    scenario: Vec<Scenario>,
    /// Messages to send in each scenario; those with a disturbance send several times as many
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    messages: u32,
    /// Seconds of simulated work per message
    #[arg(long, default_value_t = 1.0)]
    wait_time: f64,
    /// Address of this host that pods and KEDA's operator reach; broker and scaler listen there
    #[arg(long, value_name = "IP")]
    host_address: IpAddr,
    /// Folder with the built binaries `broker`, `scaler` and `sender`
    #[arg(long, value_name = "DIR", default_value = "../target/release")]
    programs: PathBuf,
    /// Folder with the manifests
    #[arg(long, value_name = "DIR", default_value = "../deploy")]
    manifests: PathBuf,
    /// Namespace in which KEDA looks for the Secrets of ClusterTriggerAuthentications
    #[arg(long, value_name = "NAME", default_value = "keda")]
    keda_namespace: String,
    /// Version of KEDA to print, where its types in the cluster do not say it
    #[arg(long, value_name = "VERSION")]
    keda_version: Option<String>,
    /// Leave what was made in the cluster in place at the end, to look at it
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("e2e: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(args: &Args) -> anyhow::Result<()> {
    // Its own choice of cryptography, as the product: nothing else sets a process-wide one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cluster = cluster::Cluster::connect().await?;
    println!("{}", cluster.versions(args.keda_version.as_deref()).await?);
    let folder = Folder::new(&args.manifests, args.wait_time);
    let belongings = Belongings::new(&folder, &args.keda_namespace)?;
    belongings.refuse_others(&cluster).await?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let result = tokio::select! {
        result = all(args, &folder, &cluster) => result,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow::anyhow!("terminated")),
    };
    if args.keep {
        return result;
    }
    let removed = belongings.remove(&cluster).await;
    if let (Err(_), Err(error)) = (&result, &removed) {
        eprintln!("e2e: {error:#}");
    }
    // Why a scenario failed matters more.
    result.and(removed)
}

async fn all(args: &Args, folder: &Folder, cluster: &cluster::Cluster) -> anyhow::Result<()> {
    folder.check_all(cluster).await?;
    let scenarios = if args.scenario.is_empty() { Scenario::value_variants() } else { &args.scenario };
    for scenario in scenarios {
        story::play(args, *scenario, folder, cluster).await.with_context(|| format!("scenario {scenario:?}"))?;
    }
    println!("{} passed, 0 failed", scenarios.len());
    Ok(())
}
