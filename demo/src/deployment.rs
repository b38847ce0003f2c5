//! The Deployment's part: as many worker processes as are wanted, replaced when they die, stopped as Kubernetes would.
//!
//! Owns the worker processes and their ledgers. It takes a number and makes it so; who wants that number, and why, is the
//! autoscaler's business.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::bail;
use nix::sys::signal::Signal;

use crate::child::{Child, Exit};
use crate::launcher::{Launcher, TAIL_LINES};
use crate::ledger::{Audit, LedgerReader};

/// After so many workers in a row that gave up by themselves, with nothing handled meanwhile, starting more is pointless.
const HOPELESS: u32 = 4;
/// The pause before a replacement of a worker that gave up, doubled with each further one in a row (the kubelet: 10 s).
const BACK_OFF: Duration = Duration::from_millis(500);

/// How every worker is started.
#[derive(Clone, Debug)]
pub struct Template {
    /// Starts it.
    pub launcher: Launcher,
    /// Its flags, but for those that name its own files.
    pub arguments: Vec<OsString>,
    /// Its environment, with the connection string.
    pub variables: Vec<(&'static str, OsString)>,
    /// How long it may take to stop after SIGTERM before it is killed.
    pub grace: Duration,
}

/// What a worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Started, not yet at the queue.
    Starting,
    /// At the queue.
    Ready,
    /// Asked to stop; killed at that moment if it has not.
    Stopping {
        /// When the grace period is over.
        kill_at: Instant,
    },
}

/// One worker process.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    ready_file: PathBuf,
    ledger: LedgerReader,
    state: State,
}

/// Something that happened to a worker, for the timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Started.
    Started {
        /// Its name.
        name: String,
        /// Its process.
        process_id: u32,
    },
    /// Reached the queue.
    Ready {
        /// Its name.
        name: String,
    },
    /// Was asked to stop.
    Stopping {
        /// Its name.
        name: String,
    },
    /// Ended after it was asked to.
    Stopped {
        /// Its name.
        name: String,
        /// How.
        exit: Exit,
    },
    /// Ended without having been asked to; another takes its place.
    Died {
        /// Its name.
        name: String,
        /// How.
        exit: Exit,
    },
}

impl Worker {
    /// Its name.
    pub fn name(&self) -> &str {
        self.child.name()
    }

    /// What it is doing.
    pub fn state(&self) -> State {
        self.state
    }
}

/// The workers.
#[derive(Debug)]
pub struct Deployment {
    template: Template,
    wanted: u32,
    workers: Vec<Worker>,
    started: u32,
    died: u32,
    /// Workers in a row that gave up by themselves, with nothing handled meanwhile. Those that a signal killed do not
    /// count: that says nothing about the next one.
    given_up: u32,
    start_after: Option<Instant>,
}

impl Deployment {
    /// No worker yet.
    pub fn new(template: Template) -> Self {
        Self { template, wanted: 0, workers: Vec::new(), started: 0, died: 0, given_up: 0, start_after: None }
    }

    /// Changes how many workers there should be; [`Deployment::tick`] makes it so.
    pub fn scale(&mut self, wanted: u32) {
        self.wanted = wanted;
    }

    /// Looks after the workers; to be called often. Adds to `audit` what they handled since the last call. Must be called
    /// from the main task, because it starts processes. Fails if one worker after the other gives up by itself.
    pub fn tick(&mut self, now: Instant, audit: &mut Audit) -> anyhow::Result<Vec<Event>> {
        let mut events = Vec::new();
        self.reap(now, audit, &mut events)?;
        for worker in &mut self.workers {
            let ids = worker.ledger.read_new()?;
            if !ids.is_empty() {
                self.given_up = 0;
            }
            audit.handle(ids);
            match worker.state {
                State::Starting if worker.ready_file.exists() => {
                    worker.state = State::Ready;
                    events.push(Event::Ready { name: worker.name().to_owned() });
                }
                State::Stopping { kill_at } if now >= kill_at => worker.child.signal(Signal::SIGKILL),
                State::Starting | State::Ready | State::Stopping { .. } => {}
            }
        }
        while self.replicas() > self.wanted {
            self.stop_one(now, &mut events);
        }
        if self.start_after.is_none_or(|moment| now >= moment) {
            while self.replicas() < self.wanted {
                events.push(self.start_one()?);
            }
        }
        Ok(events)
    }

    /// Takes away the workers that have ended.
    fn reap(&mut self, now: Instant, audit: &mut Audit, events: &mut Vec<Event>) -> anyhow::Result<()> {
        let (ended, running): (Vec<Worker>, Vec<Worker>) =
            std::mem::take(&mut self.workers).into_iter().partition(|worker| worker.child.exit().is_some());
        self.workers = running;
        for mut worker in ended {
            audit.handle(worker.ledger.read_new()?);
            let Some(exit) = worker.child.exit() else { continue };
            let name = worker.name().to_owned();
            if matches!(worker.state, State::Stopping { .. }) {
                events.push(Event::Stopped { name, exit });
                continue;
            }
            self.died += 1;
            if exit.0.code().is_some() {
                self.given_up += 1;
                self.start_after = Some(now + BACK_OFF * 2_u32.saturating_pow(self.given_up - 1));
                if self.given_up >= HOPELESS {
                    bail!(
                        "{name} gave up ({exit}), the last of {HOPELESS} in a row; see the end of its log, {}\n{}",
                        worker.child.log().display(),
                        worker.child.log_tail(TAIL_LINES)
                    );
                }
            }
            events.push(Event::Died { name, exit });
        }
        Ok(())
    }

    fn start_one(&mut self) -> anyhow::Result<Event> {
        self.started += 1;
        let name = format!("worker-{}", self.started);
        let folder = self.template.launcher.folder();
        let (ready_file, ledger) = (folder.ready_file(&name), folder.ledger(&name));
        let own: [OsString; 4] =
            ["--ready-file".into(), ready_file.clone().into(), "--ledger".into(), ledger.clone().into()];
        let arguments = self.template.arguments.iter().cloned().chain(own);
        let child = self.template.launcher.start(&name, "worker", arguments, self.template.variables.clone())?;
        let process_id = child.process_id();
        self.workers.push(Worker { child, ready_file, ledger: LedgerReader::new(ledger), state: State::Starting });
        Ok(Event::Started { name, process_id })
    }

    /// Stops the worker that a `ReplicaSet` would choose: one that is not ready before one that is, the newest among equals
    /// (Kubernetes documentation, "`ReplicaSet`", scaling down).
    fn stop_one(&mut self, now: Instant, events: &mut Vec<Event>) {
        let kill_at = now + self.template.grace;
        let chosen = self
            .workers
            .iter_mut()
            .enumerate()
            .filter(|(_, worker)| !matches!(worker.state, State::Stopping { .. }))
            .max_by_key(|(age, worker)| (worker.state == State::Starting, *age));
        if let Some((_, worker)) = chosen {
            worker.child.signal(Signal::SIGTERM);
            worker.state = State::Stopping { kill_at };
            events.push(Event::Stopping { name: worker.name().to_owned() });
        }
    }

    /// Workers that were not asked to stop: what Kubernetes calls the Deployment's replicas.
    pub fn replicas(&self) -> u32 {
        self.count(|state| !matches!(state, State::Stopping { .. }))
    }

    /// Workers at the queue.
    pub fn ready(&self) -> u32 {
        self.count(|state| state == State::Ready)
    }

    /// Processes alive, those that are stopping included.
    pub fn processes(&self) -> u32 {
        self.workers.len() as u32
    }

    /// How many there should be.
    pub fn wanted(&self) -> u32 {
        self.wanted
    }

    /// Processes started so far.
    pub fn started(&self) -> u32 {
        self.started
    }

    /// Processes that ended without having been asked to.
    pub fn died(&self) -> u32 {
        self.died
    }

    /// The workers, oldest first.
    pub fn workers(&self) -> &[Worker] {
        &self.workers
    }

    /// Gives away what is left at the end of a run: the processes, to be stopped, and their ledgers, to be read after that.
    pub fn dissolve(self) -> (Vec<Child>, Vec<LedgerReader>) {
        self.workers.into_iter().map(|worker| (worker.child, worker.ledger)).unzip()
    }

    fn count(&self, is_counted: impl Fn(State) -> bool) -> u32 {
        self.workers.iter().filter(|worker| is_counted(worker.state)).count() as u32
    }
}
