//! How a scenario is played: deploy, wait for zero, send, watch 0 → several → 0 with whatever goes wrong meanwhile, and
//! account for every message.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use crate::Args;
use crate::certificates::Certificates;
use crate::cluster::{Cluster, Replicas, object_path};
use crate::ledger::Ledger;
use crate::manifests::{self, Folder, NAMESPACE};
use crate::programs::{Programs, Server};
use crate::scenario::{Disturbance, Scenario, Setting, Target};
use crate::timeline::Timeline;
use crate::verdict::{Look, Poll, Trouble, check_push};

/// How long the Deployment's first pod may live before KEDA takes it to zero.
const TO_FIRST_ZERO: Duration = Duration::from_secs(180);
/// How long the whole of up, work, cooldown and down may take.
const TO_LAST_ZERO: Duration = Duration::from_secs(900);
/// How long KEDA may take to say Ready again after the disturbance: its own back-off is up to a minute (keda-contract).
const TO_RECOVER: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// So many replicas are busy enough to disturb them.
const BUSY: i32 = 5;

/// Plays a scenario; fails where it does not go as it should.
pub async fn play(args: &Args, scenario: Scenario, folder: &Folder, cluster: &Cluster) -> anyhow::Result<()> {
    println!("\n== {scenario:?} ==");
    let programs = Programs::new(&args.programs)?;
    // The scaler's address is not known yet. What the broker holds, and whether the scaler wants certificates, does not depend
    // on it.
    let foreseen = scenario.setting(folder, "unknown:1")?;
    let certificates = Certificates::generate(args.host_address)?;
    let mut broker = programs.broker(args.host_address, &foreseen.entities).await?;
    let tls = if foreseen.mtls { certificates.scaler_flags(programs.work_folder())? } else { Vec::new() };
    let mut scaler = programs.scaler(args.host_address, 0, &broker.address, &tls).await?;
    let setting = scenario.setting(folder, &scaler.address)?;
    let mut stage = Stage { args, cluster, programs: &programs, broker: &mut broker, scaler: &mut scaler, tls };
    let result = stage.story(setting, &certificates).await;
    if result.is_err() {
        eprintln!("the scaler's last lines:\n{}", programs.log_tail(&scaler));
        eprintln!("the broker's last lines:\n{}", programs.log_tail(&broker));
    }
    result
}

/// What a story has to work with.
struct Stage<'a> {
    args: &'a Args,
    cluster: &'a Cluster,
    programs: &'a Programs,
    broker: &'a mut Server,
    scaler: &'a mut Server,
    tls: Vec<String>,
}

impl Stage<'_> {
    async fn story(&mut self, setting: Setting, certificates: &Certificates) -> anyhow::Result<()> {
        let Setting {
            objects,
            target,
            pod_label,
            destinations,
            mtls,
            push_interval,
            disturbance,
            fallback_replicas,
            load,
            entities: _,
        } = setting;
        let connection_string =
            self.broker.connection_string.clone().context("the broker gave no connection string")?;
        // In the order of `kubectl apply -k`; what an earlier run left goes first.
        for object in objects.iter().rev() {
            self.cluster.delete(&object_path(object)?).await?;
        }
        self.until_no_pods(&pod_label).await?;
        if mtls {
            let files = [
                ("ca.crt", certificates.authority.as_str()),
                ("tls.crt", &certificates.keda.certificate),
                ("tls.key", &certificates.keda.key),
            ];
            self.cluster.apply(&manifests::client_secret(&self.args.keda_namespace, &files), false).await?;
        }
        self.cluster.apply(&manifests::secret(&connection_string), false).await?;
        let mut setup = Timeline::start();
        for object in &objects {
            self.cluster.apply(object, false).await?;
        }
        let (kind, name) = manifests::scaled(&objects)?;
        let scaled_path = format!("/apis/keda.sh/v1alpha1/namespaces/{NAMESPACE}/{}s/{name}", kind.to_lowercase());

        let mut ledger = Ledger::new();
        setup.say(&format!("applied {} objects", objects.len()));
        let mut above_zero = Duration::ZERO;
        let mut poll = None;
        loop {
            ledger.look_for_pods(self.cluster, &pod_label).await?;
            let looked = setup.elapsed();
            let replicas = self.replicas(&target).await?;
            setup.note(replicas, ledger.len().await);
            if replicas.wanted > 0 {
                (above_zero, poll) = (looked, None);
            } else {
                poll.get_or_insert(Poll { after: above_zero, before: setup.elapsed() });
            }
            if replicas == Replicas::default() && self.cluster.condition(&scaled_path, "Ready").await? == "True" {
                break;
            }
            ensure!(setup.elapsed() < TO_FIRST_ZERO, "KEDA did not take the idle target to 0 and say Ready");
            self.look_after_servers()?;
            tokio::time::sleep(LOOK_EVERY).await;
        }

        let mut pushed = None;
        if let (Some(interval), Some(poll)) = (push_interval, poll) {
            let (wait, poll) = poll.wait(interval, setup.elapsed());
            if !wait.is_zero() {
                setup.say(&format!("a poll is near: {:.0} s to wait", wait.as_secs_f64()));
                tokio::time::sleep(wait).await;
            }
            pushed = Some((interval, poll, setup.elapsed()));
        }
        let mut timeline = Timeline::start();
        let mut sent = Vec::new();
        let share = self.args.messages * load / destinations.len() as u32;
        for (number, destination) in destinations.iter().enumerate() {
            let first_id = number as u64 * u64::from(share);
            sent.extend(self.programs.send(&connection_string, destination, share, first_id).await?);
        }
        timeline.say(&format!("{} messages sent", sent.len()));
        let mut to_come = disturbance;
        let mut trouble: Option<Trouble> = None;
        let mut recovering_since = None;
        loop {
            ledger.look_for_pods(self.cluster, &pod_label).await?;
            let replicas = self.replicas(&target).await?;
            timeline.note(replicas, ledger.len().await);
            if let Some(planned) = to_come.take_if(|_| replicas.ready >= BUSY) {
                trouble = Some(self.begin(planned, &timeline, replicas, fallback_replicas).await?);
            }
            if let Some(current) = &mut trouble {
                let ready = self.cluster.condition(&scaled_path, "Ready").await?;
                let fallback = self.cluster.condition(&scaled_path, "Fallback").await?;
                for news in current.see(Look { wanted: replicas.wanted, ready: &ready, fallback: &fallback }) {
                    timeline.say(&news);
                }
                if timeline.elapsed() >= current.until {
                    self.end(disturbance.expect("it was begun"), &timeline).await?;
                    recovering_since = Some(timeline.elapsed());
                    current.check()?;
                    trouble = None;
                }
            }
            if let Some(since) = recovering_since {
                if self.cluster.condition(&scaled_path, "Ready").await? == "True"
                    && self.cluster.condition(&scaled_path, "Fallback").await? != "True"
                {
                    let took = timeline.elapsed().saturating_sub(since).as_secs_f64();
                    timeline.say(&format!("recovered: KEDA says Ready, {took:.1} s after the end of the disturbance"));
                    recovering_since = None;
                }
                ensure!(timeline.elapsed() < since + TO_RECOVER, "KEDA does not say Ready again");
            }
            if timeline.back_to_zero.is_some() && replicas.ready == 0 && ledger.len().await >= sent.len() {
                break;
            }
            if timeline.elapsed() > TO_LAST_ZERO {
                bail!("not back at 0 after {TO_LAST_ZERO:?}: {replicas:?}, handled {}", ledger.len().await);
            }
            self.look_after_servers()?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
        ensure!(to_come.is_none() && trouble.is_none(), "it ended before the disturbance did: send more messages");
        self.account(&timeline, ledger, &sent).await?;
        if let Some((interval, poll, begun)) = pushed {
            check_push(poll, interval, begun, timeline.first_wanted)?;
        }
        for object in objects.iter().rev() {
            self.cluster.delete(&object_path(object)?).await?;
        }
        Ok(())
    }

    /// Waits for the pods of an earlier scenario to be gone: their ledgers would be taken for this one's.
    async fn until_no_pods(&self, label: &str) -> anyhow::Result<()> {
        let gone = async {
            while !self.cluster.started_containers(NAMESPACE, label).await?.is_empty() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(TO_FIRST_ZERO, gone).await.context("pods of an earlier scenario do not go away")?
    }

    async fn replicas(&self, target: &Target) -> anyhow::Result<Replicas> {
        match target {
            Target::Deployment(name) => self.cluster.replicas(NAMESPACE, name).await,
            Target::Jobs(scaled_job) => self.cluster.running_jobs(NAMESPACE, scaled_job).await,
        }
    }

    fn look_after_servers(&mut self) -> anyhow::Result<()> {
        self.broker.check()?;
        self.scaler.check()
    }

    async fn begin(
        &mut self,
        planned: Disturbance,
        timeline: &Timeline,
        now: Replicas,
        fallback: Option<i32>,
    ) -> anyhow::Result<Trouble> {
        let seconds = match planned {
            Disturbance::ScalerAway { seconds } => {
                self.scaler.kill().await?;
                timeline.say(&format!("the scaler was killed, for {seconds} s"));
                seconds
            }
            Disturbance::Throttled { seconds } => {
                self.programs.throttle(self.broker).await?;
                timeline.say(&format!("the namespace answers 429 to every administration request, for {seconds} s"));
                seconds
            }
        };
        let until = timeline.elapsed() + Duration::from_secs(seconds);
        Ok(Trouble::begin(until, now.wanted, fallback))
    }

    async fn end(&mut self, disturbance: Disturbance, timeline: &Timeline) -> anyhow::Result<()> {
        match disturbance {
            Disturbance::ScalerAway { .. } => {
                let port = self.scaler.port()?;
                *self.scaler =
                    self.programs.scaler(self.args.host_address, port, &self.broker.address, &self.tls).await?;
                timeline.say("the scaler is back");
            }
            Disturbance::Throttled { .. } => {
                self.programs.end_faults(self.broker).await?;
                timeline.say("the namespace answers again");
            }
        }
        Ok(())
    }

    async fn account(&self, timeline: &Timeline, ledger: Ledger, sent: &[u64]) -> anyhow::Result<()> {
        let workers = ledger.workers();
        let handled =
            tokio::time::timeout(Duration::from_secs(60), ledger.finish()).await.context("logs have no end")?;
        let lost: Vec<&u64> = sent.iter().filter(|id| !handled.contains_key(id)).collect();
        let twice = handled.values().filter(|times| **times > 1).count();
        let seconds = |at: Option<Duration>| at.map_or("never".to_owned(), |at| format!("{:.1} s", at.as_secs_f64()));
        println!(
            "sent {}, handled {}, twice {twice}, lost {}; peak {} replicas, {workers} workers; first replica {}, first \
             ready {}, back to zero {}",
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
        Ok(())
    }
}
