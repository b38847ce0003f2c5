//! One trigger's story: deploy, wait for zero, send, watch 0 → several → 0, and account for every message.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use crate::cluster::{Cluster, object_path};
use crate::ledger::Ledger;
use crate::manifests::{self, NAMESPACE, QUEUE, RECEIVER};
use crate::programs::{Programs, Server};
use crate::timeline::Timeline;
use crate::{Args, Trigger};

/// How long the Deployment's first pod may live before KEDA takes it to zero.
const TO_FIRST_ZERO: Duration = Duration::from_secs(180);
/// How long the whole of up, work, cooldown and down may take.
const TO_LAST_ZERO: Duration = Duration::from_secs(600);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Runs the story; fails where it does not go as it should.
pub async fn run(args: &Args, trigger: Trigger, cluster: &Cluster) -> anyhow::Result<()> {
    println!("\n== {} ==", trigger.file());
    let programs = Programs::new(&args.programs)?;
    let mut broker = programs.broker(args.host_address, QUEUE).await?;
    let mut scaler = programs.scaler(args.host_address, &broker.address).await?;
    let result = story(args, trigger, cluster, &programs, &mut broker, &mut scaler).await;
    if result.is_err() {
        eprintln!("the scaler's last lines:\n{}", programs.log_tail(&scaler));
        eprintln!("the broker's last lines:\n{}", programs.log_tail(&broker));
    }
    result
}

async fn story(
    args: &Args,
    trigger: Trigger,
    cluster: &Cluster,
    programs: &Programs,
    broker: &mut Server,
    scaler: &mut Server,
) -> anyhow::Result<()> {
    let connection_string = broker.connection_string.clone().context("the broker gave no connection string")?;
    for namespace in manifests::read(&args.manifests, "base/namespace.yaml")? {
        cluster.apply(&namespace, false).await?;
    }
    let receiver = manifests::receiver(&args.manifests, args.wait_time)?;
    let scaled_object = manifests::scaled_object(&args.manifests, trigger.file(), &scaler.address)?;
    // In the order of `kubectl apply -k`; what an earlier run left goes first.
    cluster.delete(&object_path(&scaled_object)?).await?;
    cluster.delete(&object_path(&receiver)?).await?;
    let mut ledger = Ledger::new();
    cluster.apply(&manifests::secret(&connection_string), false).await?;
    cluster.apply(&receiver, false).await?;
    cluster.apply(&scaled_object, false).await?;

    let mut setup = Timeline::start();
    setup.say("applied Secret, Deployment and ScaledObject");
    loop {
        ledger.look_for_pods(cluster).await?;
        let replicas = cluster.replicas(NAMESPACE, RECEIVER).await?;
        setup.note(replicas, ledger.len().await);
        if replicas.wanted == 0 && replicas.ready == 0 {
            break;
        }
        ensure!(setup.elapsed() < TO_FIRST_ZERO, "KEDA did not take the idle Deployment to 0");
        broker.check()?;
        scaler.check()?;
        tokio::time::sleep(LOOK_EVERY).await;
    }

    let mut timeline = Timeline::start();
    let sent = programs.send(&connection_string, QUEUE, args.messages).await?;
    timeline.say(&format!("{} messages sent", sent.len()));
    loop {
        ledger.look_for_pods(cluster).await?;
        let replicas = cluster.replicas(NAMESPACE, RECEIVER).await?;
        timeline.note(replicas, ledger.len().await);
        if timeline.back_to_zero.is_some() && replicas.ready == 0 {
            break;
        }
        if timeline.elapsed() > TO_LAST_ZERO {
            bail!("not back at 0 after {TO_LAST_ZERO:?}: {replicas:?}, handled {}", ledger.len().await);
        }
        broker.check()?;
        scaler.check()?;
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let pods = ledger.pods();
    let handled = tokio::time::timeout(Duration::from_secs(60), ledger.finish()).await.context("logs have no end")?;

    let lost: Vec<&u64> = sent.iter().filter(|id| !handled.contains_key(id)).collect();
    let twice = handled.values().filter(|times| **times > 1).count();
    let seconds = |at: Option<Duration>| at.map_or("never".to_owned(), |at| format!("{:.1} s", at.as_secs_f64()));
    println!(
        "sent {}, handled {}, twice {twice}, lost {}; peak {} replicas, {pods} pods; first replica {}, first ready {}, \
         back to zero {}",
        sent.len(),
        handled.len(),
        lost.len(),
        timeline.peak,
        seconds(timeline.first_wanted),
        seconds(timeline.first_ready),
        seconds(timeline.back_to_zero),
    );
    ensure!(lost.is_empty(), "lost: {lost:?}");
    ensure!(timeline.peak > 1, "never more than one replica");
    cluster.delete(&object_path(&scaled_object)?).await?;
    cluster.delete(&object_path(&receiver)?).await
}
