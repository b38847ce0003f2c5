//! The play itself: one loop that owns every process and every note, hears what KEDA, the HPA and the signals say, looks
//! after the children ten times a second, and knows when it is over.
//!
//! It decides nothing about scaling. How a run is judged is in `summary`, how it is wound up in `finale`.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::args::RunArgs;
use crate::chart::{self, scale::grouped};
use crate::child::Child;
use crate::deployment::{Deployment, Event, State, Template};
use crate::interrupt::{Interrupt, Interrupts};
use crate::kubernetes::{self, Outcome};
use crate::launcher::{Launcher, TAIL_LINES};
use crate::ledger::{Audit, LedgerReader};
use crate::parts;
use crate::recorder::{self, Recorder, Workforce};
use crate::scaler_client::ScalerClient;
use crate::stage::{Counted, Stage};
use crate::summary::Swap;
use crate::swap;
use crate::view::{Picture, View, WorkerMark};

/// How often the director looks after everything.
const LOOK: Duration = Duration::from_millis(100);
/// How often the counts are read for view and chart: from the broker, and from a real namespace, which has a price.
const READ_BROKER: Duration = Duration::from_millis(250);
const READ_NAMESPACE: Duration = Duration::from_secs(2);
/// How the play ended.
#[derive(Debug)]
pub enum Ending {
    /// By itself.
    Complete,
    /// Something broke: what, in words.
    Failed(String),
    /// Somebody asked for it.
    Interrupted(Interrupt),
}

/// Everything of a run.
pub struct Director {
    pub(crate) args: RunArgs,
    pub(crate) began: Instant,
    pub(crate) view: View,
    pub(crate) launcher: Launcher,
    pub(crate) stage: Stage,
    pub(crate) broker: Option<Child>,
    pub(crate) scaler: Child,
    pub(crate) sender: Child,
    pub(crate) deployment: Deployment,
    pub(crate) recorder: Recorder,
    pub(crate) audit: Audit,
    pub(crate) swap: Option<Swap>,
    pub(crate) sent_ledger: LedgerReader,
    is_sent: bool,
    client: ScalerClient,
    counts: watch::Receiver<Counted>,
    outcomes: mpsc::Receiver<Outcome>,
    last_outcome: Option<Outcome>,
    last_problem: Option<String>,
    swapping: Option<JoinHandle<anyhow::Result<Swap>>>,
    phase: &'static str,
}

impl Director {
    /// Starts broker and scaler, then KEDA and the HPA, then the sender. No worker: those are KEDA's to wake.
    pub async fn start(args: RunArgs, launcher: Launcher, mut view: View) -> anyhow::Result<Self> {
        let began = Instant::now();
        view.event(
            began.elapsed(),
            &format!(
                "{} messages, {} s of work each; one worker for {} messages, at most {}; files in {}",
                grouped(args.messages),
                args.wait_time,
                args.message_count,
                args.max_replicas,
                args.out.display()
            ),
        );
        let (stage, broker) = Stage::set(&args, &launcher).await?;
        let Stage { queue, place, .. } = &stage;
        let process = broker.as_ref().map(|broker| format!(", process {}", broker.process_id())).unwrap_or_default();
        view.event(began.elapsed(), &format!("queue {queue} on {place}{process}"));

        let config = launcher.folder().scaler_config();
        args.policy.write(&config)?;
        let (scaler, ready) = launcher.start_server("scaler", parts::scaler(&stage, &config)).await?;
        let address = *ready.listen.first().context("the scaler's ready line names no address")?;
        let client = ScalerClient::connect(address, &stage, args.message_count).await?;
        view.event(
            began.elapsed(),
            &format!("scaler on {address}, process {}, policy {}", scaler.process_id(), args.policy),
        );
        let outcomes = kubernetes::start(client.clone(), kubernetes::spec(&args))?;

        let sent_ledger = launcher.folder().ledger("sender");
        let arguments = parts::sender(&args, &stage, &sent_ledger)?;
        let sender = launcher.start("sender", "sender", arguments, stage.variables())?;
        view.event(began.elapsed(), &format!("sender starts, process {}", sender.process_id()));
        let deployment = Deployment::new(Template {
            launcher: launcher.clone(),
            arguments: parts::worker(&args, &stage),
            variables: stage.variables(),
            grace: args.termination_grace_period.0,
        });
        let every = if broker.is_some() { READ_BROKER } else { READ_NAMESPACE };
        Ok(Self {
            counts: stage.follow(every),
            args,
            began,
            view,
            launcher,
            stage,
            broker,
            scaler,
            sender,
            deployment,
            recorder: Recorder::default(),
            audit: Audit::default(),
            swap: None,
            sent_ledger: LedgerReader::new(sent_ledger),
            is_sent: false,
            client,
            outcomes,
            last_outcome: None,
            last_problem: None,
            swapping: None,
            phase: "starting",
        })
    }

    /// Plays until it is over. Must run in the main task, because it starts processes.
    pub async fn play(&mut self, interrupts: &mut Interrupts) -> Ending {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                interrupt = interrupts.next() => return Ending::Interrupted(interrupt),
                outcome = self.outcomes.recv() => match outcome {
                    Some(outcome) => self.hear(outcome),
                    None => return Ending::Failed("KEDA and the HPA ended before the run did".to_owned()),
                },
                _ = ticks.tick() => match self.look().await {
                    Ok(false) => {}
                    Ok(true) => return Ending::Complete,
                    Err(problem) => return Ending::Failed(format!("{problem:#}")),
                },
            }
        }
    }

    /// Seconds since the run began.
    pub(crate) fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Tells an event.
    pub(crate) fn tell(&mut self, text: &str) {
        self.view.event(self.began.elapsed(), text);
    }

    /// Takes in what KEDA or the HPA decided.
    fn hear(&mut self, outcome: Outcome) {
        if outcome.change.is_some() {
            self.tell(&format!("{}: {}", outcome.decision(), outcome.why()));
        }
        // A scaler that cannot answer is told once, not at every poll.
        if let Err(problem) = &outcome.answers
            && self.last_problem.as_ref() != Some(problem)
        {
            self.tell(&format!("the scaler gives no answer, replicas are held: {problem}"));
        }
        self.last_problem = outcome.answers.as_ref().err().cloned();
        self.deployment.scale(outcome.replicas);
        self.last_outcome = Some(outcome);
    }

    /// Looks after everything once; whether the run is over.
    async fn look(&mut self) -> anyhow::Result<bool> {
        for server in self.broker.iter().chain([&self.scaler]) {
            if let Some(exit) = server.exit() {
                bail!("{} died ({exit}); {}", server.name(), end_of_log(server));
            }
        }
        self.look_after_sender()?;
        let events = self.deployment.tick(Instant::now(), &mut self.audit)?;
        self.report(&events);
        self.look_after_swap().await?;
        if self.counts.has_changed().context("reading the queue's counts broke off")? {
            let Counted { at, counts } = *self.counts.borrow_and_update();
            self.recorder.note_depth((at - self.began).as_secs_f64(), counts.active);
        }
        let counts = self.counts.borrow().counts;
        let workforce = Workforce {
            wanted: self.deployment.wanted(),
            ready: self.deployment.ready(),
            processes: self.deployment.processes(),
        };
        self.recorder.note(self.seconds(), &self.audit, workforce);
        self.phase = self.current_phase();
        let picture = self.picture(counts);
        self.view.draw(&picture);
        self.is_over()
    }

    fn look_after_sender(&mut self) -> anyhow::Result<()> {
        self.audit.confirm(self.sent_ledger.read_new()?);
        if self.is_sent {
            return Ok(());
        }
        match self.sender.exit() {
            None => {}
            Some(exit) if exit.0.success() => {
                // Once more: it may have written between the look at its ledger and the look at its exit.
                self.audit.confirm(self.sent_ledger.read_new()?);
                self.is_sent = true;
                let sent = self.audit.confirmed();
                self.tell(&format!("sender is done: {sent} messages sent and confirmed"));
                self.recorder.mark(self.began.elapsed().as_secs_f64(), "all sent");
            }
            Some(exit) => bail!(
                "the sender failed ({exit}) with {} of {} messages confirmed; {}",
                self.audit.confirmed(),
                self.args.messages,
                end_of_log(&self.sender)
            ),
        }
        Ok(())
    }

    /// Starts the swap of the policy when half is done, and takes in how it went.
    async fn look_after_swap(&mut self) -> anyhow::Result<()> {
        let Some(to) = self.args.swap_to else { return Ok(()) };
        if self.swap.is_some() {
            return Ok(());
        }
        match self.swapping.take_if(|swapping| swapping.is_finished()) {
            Some(swapping) => {
                let swap = swapping.await.context("the swap of the policy broke off")??;
                self.tell(&format!(
                    "policy {to} is in force {:.1} s later, nothing restarted: metric {} before, {} now",
                    swap.took_seconds, swap.before.metric, swap.after.metric
                ));
                self.swap = Some(swap);
            }
            None if self.swapping.is_none() && self.audit.handled() * 2 >= self.args.messages => {
                self.tell(&format!("half is done: the profile in scaler.yaml is rewritten to policy {to}"));
                self.recorder.mark(self.seconds(), format!("policy {to}"));
                let (client, config, began) = (self.client.clone(), self.launcher.folder().scaler_config(), self.began);
                self.swapping = Some(tokio::spawn(async move { swap::perform(&client, &config, to, began).await }));
            }
            None => {}
        }
        Ok(())
    }

    /// Tells what happened to workers; those that start or stop at the same time share a line.
    fn report(&mut self, events: &[Event]) {
        let (mut starting, mut stopping) = (Vec::new(), Vec::new());
        for event in events {
            match event {
                Event::Started { name, process_id } => starting.push(format!("{name} (process {process_id})")),
                Event::Stopping { name } => stopping.push(name.as_str()),
                Event::Ready { .. } => {}
                Event::Stopped { exit, .. } if exit.0.success() => {}
                Event::Stopped { name, exit } => self.tell(&format!("{name} stopped with {exit}")),
                Event::Died { name, exit } => {
                    self.tell(&format!("{name} died ({exit}); another takes its place"));
                    self.recorder.mark(self.seconds(), format!("{name} died"));
                }
            }
        }
        if !starting.is_empty() {
            self.tell(&format!("starts: {}", starting.join(", ")));
        }
        if !stopping.is_empty() {
            self.tell(&format!("asked to stop: {}", stopping.join(", ")));
        }
    }

    fn current_phase(&self) -> &'static str {
        let is_all_handled = self.is_sent && self.audit.missing() == 0;
        match (self.is_sent, is_all_handled, self.deployment.processes()) {
            (false, ..) => "sending",
            (true, false, _) => "working",
            (true, true, 0) => "back to zero",
            (true, true, _) => "all handled, cooling down",
        }
    }

    /// The run is over when all was sent and no worker runs any more, wanted or not, after there were some. Where messages
    /// are missing then, time is given for locks to run out and for KEDA to look again.
    fn is_over(&self) -> anyhow::Result<bool> {
        let deadline = self.args.overall_deadline();
        if self.began.elapsed() > deadline {
            bail!(
                "gave up after {:.0} s (--deadline): {} of {} messages sent, {} handled, {} active in the queue, {} replicas \
                 wanted, {} workers ready; the logs are in {}",
                deadline.as_secs_f64(),
                self.audit.confirmed(),
                self.args.messages,
                self.audit.handled(),
                self.counts.borrow().counts.active,
                self.deployment.wanted(),
                self.deployment.ready(),
                self.launcher.folder().logs().display()
            );
        }
        let Some(zero_at) = self.recorder.zero_at() else { return Ok(false) };
        if !self.is_sent || self.deployment.wanted() > 0 || self.swapping.is_some() {
            return Ok(false);
        }
        let is_all_handled = self.audit.missing() == 0;
        let pause = self.stage.lock_duration + self.args.polling_interval.0 * 2;
        Ok(is_all_handled || self.seconds() > zero_at + pause.as_secs_f64())
    }

    fn picture(&self, counts: servicebus::EntityCounts) -> Picture {
        let Self { args, recorder, deployment, audit, last_outcome, .. } = self;
        let text = |of: fn(&Outcome) -> String| last_outcome.as_ref().map(of).unwrap_or_default();
        let policy = match (&self.swap, args.swap_to) {
            (Some(_), Some(to)) => to,
            _ => args.policy,
        };
        let mark = |state: State| match state {
            State::Starting => WorkerMark::Starting,
            State::Ready => WorkerMark::Ready,
            State::Stopping { .. } => WorkerMark::Stopping,
        };
        Picture {
            elapsed: self.began.elapsed(),
            phase: self.phase.to_owned(),
            queue: format!("queue {} on {}", self.stage.queue, self.stage.place),
            policy: policy.to_string(),
            messages: args.messages,
            sent: audit.confirmed(),
            handled: audit.handled(),
            counts,
            throughput: recorder.throughput(),
            wanted: deployment.wanted(),
            ready: deployment.ready(),
            processes: deployment.processes(),
            max_replicas: args.max_replicas,
            workers: deployment.workers().iter().map(|worker| mark(worker.state())).collect(),
            decision: text(Outcome::decision),
            why: text(Outcome::why),
            answer: text(Outcome::answer),
            depth: recorder.depth.points().to_vec(),
            replicas: chart::steps(&recorder::points(&recorder.ready), self.seconds()),
        }
    }
}

/// Where a child's log is, and its end.
fn end_of_log(child: &Child) -> String {
    format!("see the end of its log, {}\n{}", child.log().display(), child.log_tail(TAIL_LINES))
}
