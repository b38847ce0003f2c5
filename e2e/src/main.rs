//! The product on a real cluster: our worker as a Deployment, scaled 0 → several → 0 by the real KEDA and the real HPA,
//! which ask our scaler; broker and scaler run as processes on this host.
//!
//! Needs a kubeconfig (`KUBECONFIG` or the usual place), KEDA in the cluster, the image of our binaries on its nodes, and
//! an address of this host that pods and KEDA's operator reach. Everything it makes in the cluster is in the manifests'
//! namespace, which it removes again. The story is in [`scenario`]; what is printed is the timeline as it was seen.

mod cluster;
mod ledger;
mod manifests;
mod programs;
mod scenario;
mod timeline;

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};

/// Runs the manifests of `deploy/` on a cluster and watches them scale
#[derive(Parser, Debug)]
struct Args {
    /// ScaledObjects to run, one after the other
    #[arg(long, value_enum, num_args = 1.., default_values_t = [Trigger::External, Trigger::ExternalPush, Trigger::Weighted])]
    trigger: Vec<Trigger>,
    /// Messages to send for each trigger
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
    /// Leave the namespace in place at the end, to look at it
    #[arg(long)]
    keep: bool,
}

/// A ScaledObject of `deploy/scaled-objects`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Trigger {
    /// KEDA polls
    External,
    /// KEDA polls, and the scaler pushes activity
    ExternalPush,
    /// KEDA polls, and the policy is another one
    Weighted,
}

impl Trigger {
    /// The manifest of `deploy/scaled-objects` with this trigger.
    fn file(self) -> &'static str {
        match self {
            Self::External => "external.yaml",
            Self::ExternalPush => "external-push.yaml",
            Self::Weighted => "weighted.yaml",
        }
    }
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
    println!("{}", cluster.versions().await?);
    let result = tokio::select! {
        result = all(args, &cluster) => result,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    if !args.keep {
        cluster.delete_namespace(manifests::NAMESPACE).await.context("remove the namespace")?;
    }
    result
}

async fn all(args: &Args, cluster: &cluster::Cluster) -> anyhow::Result<()> {
    manifests::check_all(&args.manifests, cluster).await?;
    for trigger in &args.trigger {
        scenario::run(args, *trigger, cluster).await.with_context(|| format!("trigger {:?}", trigger.file()))?;
    }
    println!("{} passed, 0 failed", args.trigger.len());
    Ok(())
}
