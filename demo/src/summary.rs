//! What a run came to: the figures, the verdict and why. Pure arithmetic over what was recorded, and its two forms: a text
//! for people and JSON for programs.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::chart::scale::grouped;
use crate::ledger::Audit;

/// Lost ids named in the summary; more are counted.
const IDS_NAMED: usize = 10;

/// The number of replicas from a moment on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Step {
    /// Seconds since the run began.
    pub at: f64,
    /// From then on.
    pub replicas: u32,
}

/// What the queue holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// The service's count of active messages; where it counts locked messages as active, they are in here.
    pub active: u64,
    /// Messages that peeking shows beyond those counted as active or scheduled: locked (or deferred) ones.
    pub locked: u64,
    /// Messages scheduled for later.
    pub scheduled: u64,
    /// Messages in the dead-letter sub-queue.
    pub dead_letter: u64,
}

impl Held {
    /// From the service's counts and the number of messages that peeking the queue shows, which are those of every state.
    pub fn new(counts: servicebus::EntityCounts, peeked: u64) -> Self {
        Self {
            active: counts.active,
            locked: peeked.saturating_sub(counts.active.saturating_add(counts.scheduled)),
            scheduled: counts.scheduled,
            dead_letter: counts.dead_letter,
        }
    }
}

/// What the scaler answered around the swap of the policy.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Swap {
    /// The policy that was swapped in.
    pub to: &'static str,
    /// When the profile was rewritten, in seconds since the run began.
    pub at_seconds: f64,
    /// How long until the running scaler answered by it, in seconds.
    pub took_seconds: f64,
    /// The last answer before.
    pub before: Answer,
    /// The first answer after.
    pub after: Answer,
}

/// One answer of the scaler.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Messages in the queue, by the same reading.
    pub messages: f64,
    /// The metric's value.
    pub metric: f64,
    /// The metric's value divided by its target, rounded up: the replicas that the HPA makes of it, before its limits.
    pub replicas: u64,
}

/// What was recorded of a run.
#[derive(Clone, Debug)]
pub struct Record {
    /// Messages that were to be sent.
    pub messages: u64,
    /// Sent and handled ids.
    pub audit: Audit,
    /// What the queue held at the end, or why that could not be read.
    pub held: Result<Held, String>,
    /// Workers that were ready, whenever that changed, in order of time; 0 before the first.
    pub ready: Vec<Step>,
    /// Worker processes alive, stopping ones included, whenever that changed, in order of time; 0 before the first.
    pub processes: Vec<Step>,
    /// When the last message was handled, in seconds since the run began.
    pub empty_at: Option<f64>,
    /// When the replicas wanted last became 0 and no worker process was left.
    pub zero_at: Option<f64>,
    /// When the run ended.
    pub ended_at: f64,
    /// Worker processes started.
    pub workers_started: u32,
    /// Worker processes that ended without having been asked to.
    pub workers_died: u32,
    /// The swap of the policy, if there was one.
    pub swap: Option<Swap>,
    /// What went wrong on the way; each makes the run a failure.
    pub problems: Vec<String>,
    /// The folder with chart, logs and ledgers.
    pub folder: PathBuf,
}

/// The figures of a run and the verdict.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Whether everything is as it must be.
    pub ok: bool,
    /// Why not, one sentence each; empty if `ok`.
    pub problems: Vec<String>,
    /// Ids that the sender's ledger holds: sent, and confirmed by the broker.
    pub sent: u64,
    /// Different ids in the workers' ledgers.
    pub handled: u64,
    /// Times that an id was handled again.
    pub duplicates: u64,
    /// Ids sent and not handled.
    pub lost: u64,
    /// The first of the lost ids.
    pub lost_ids: Vec<u64>,
    /// Ids handled that the sender's ledger does not hold.
    pub unconfirmed: u64,
    /// What the queue held at the end.
    pub held: Option<Held>,
    /// Most workers ready at a time.
    pub peak_replicas: u32,
    /// When the first worker was ready, in seconds since the run began.
    pub first_worker_seconds: Option<f64>,
    /// When the last message was handled.
    pub empty_seconds: Option<f64>,
    /// When no worker was left.
    pub zero_seconds: Option<f64>,
    /// How long the whole run took.
    pub total_seconds: f64,
    /// Worker processes times seconds that they lived.
    pub replica_seconds: f64,
    /// Worker processes started.
    pub workers_started: u32,
    /// Worker processes that ended without having been asked to.
    pub workers_died: u32,
    /// The swap of the policy.
    pub swap: Option<Swap>,
    /// The folder with chart, logs and ledgers.
    pub folder: PathBuf,
}

impl Summary {
    /// Does the arithmetic and passes judgement.
    pub fn of(record: Record) -> Self {
        let Record {
            messages,
            audit,
            held,
            ready,
            processes,
            empty_at,
            zero_at,
            ended_at,
            workers_started,
            workers_died,
            swap,
            mut problems,
            folder,
        } = record;
        let peak_replicas = ready.iter().map(|step| step.replicas).max().unwrap_or(0);
        let lost = audit.missing();
        let lost_ids: Vec<u64> = audit.lost().take(IDS_NAMED).collect();
        if audit.confirmed() < messages {
            problems.push(format!("only {} of {messages} messages were sent and confirmed", audit.confirmed()));
        }
        if lost > 0 {
            let names: Vec<String> = lost_ids.iter().map(u64::to_string).collect();
            let more = if lost > IDS_NAMED as u64 { ", …" } else { "" };
            problems.push(format!("{lost} messages were sent and not handled: ids {}{more}", names.join(", ")));
        }
        match &held {
            Err(problem) => problems.push(format!("what the queue still holds could not be read: {problem}")),
            Ok(Held { active, locked, scheduled: _, dead_letter }) => {
                for (count, kind) in [(active, "active"), (locked, "locked"), (dead_letter, "dead-lettered")] {
                    if *count > 0 {
                        problems.push(format!("the queue still holds {count} {kind} messages"));
                    }
                }
            }
        }
        if ready.first().is_some_and(|step| step.replicas > 1) {
            problems.push("replicas did not begin at 0".to_owned());
        }
        if peak_replicas < 2 {
            problems.push(format!("replicas must go 0 → more than one → 0, but at most {peak_replicas} were ready"));
        }
        if zero_at.is_none() || processes.last().is_some_and(|step| step.replicas > 0) {
            problems.push("replicas did not come back to 0".to_owned());
        }
        Self {
            ok: problems.is_empty(),
            problems,
            sent: audit.confirmed(),
            handled: audit.handled(),
            duplicates: audit.duplicates(),
            lost,
            lost_ids,
            unconfirmed: audit.unconfirmed(),
            held: held.ok(),
            peak_replicas,
            first_worker_seconds: ready.iter().find(|step| step.replicas > 0).map(|step| step.at),
            empty_seconds: empty_at,
            zero_seconds: zero_at,
            total_seconds: ended_at,
            replica_seconds: replica_seconds(&processes, ended_at),
            workers_started,
            workers_died,
            swap,
            folder,
        }
    }
}

/// The area under a staircase, up to `end`.
fn replica_seconds(steps: &[Step], end: f64) -> f64 {
    let ends = steps.iter().skip(1).map(|step| step.at).chain([end]);
    steps.iter().zip(ends).map(|(step, until)| f64::from(step.replicas) * (until.min(end) - step.at).max(0.0)).sum()
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |at: Option<f64>| at.map_or("never".to_owned(), |at| format!("{at:.1} s"));
        let Self { sent, handled, duplicates, lost, .. } = self;
        writeln!(
            formatter,
            "messages   sent {}   handled {}   duplicates {duplicates}   lost {lost}",
            grouped(*sent),
            grouped(*handled)
        )?;
        match self.held {
            Some(Held { active, locked, scheduled, dead_letter }) => writeln!(
                formatter,
                "queue      active {active}   locked {locked}   scheduled {scheduled}   dead-lettered {dead_letter}"
            )?,
            None => writeln!(formatter, "queue      could not be read")?,
        }
        let died = match self.workers_died {
            0 => String::new(),
            died => format!(", {died} of them died"),
        };
        writeln!(
            formatter,
            "replicas   peak {}   replica-seconds {:.0}   ({} worker processes{died})",
            self.peak_replicas, self.replica_seconds, self.workers_started
        )?;
        writeln!(
            formatter,
            "times      first worker {}   last message {}   back to zero {}   end {:.1} s",
            seconds(self.first_worker_seconds),
            seconds(self.empty_seconds),
            seconds(self.zero_seconds),
            self.total_seconds
        )?;
        if let Some(swap) = &self.swap {
            let Swap { to, at_seconds, took_seconds, before, after } = swap;
            writeln!(
                formatter,
                "policy     swapped to {to} at {at_seconds:.1} s, in force after {took_seconds:.1} s without a restart:\n           \
                 {:.0} messages meant metric {} = {} replicas, then {:.0} messages meant metric {} = {} replicas",
                before.messages, before.metric, before.replicas, after.messages, after.metric, after.replicas
            )?;
        }
        if self.unconfirmed > 0 {
            writeln!(
                formatter,
                "note       {} ids were handled that this run's sender did not confirm",
                self.unconfirmed
            )?;
        }
        writeln!(
            formatter,
            "files      {}: chart.svg, summary.json, timeline.log, ledgers, logs",
            self.folder.display()
        )?;
        if self.ok {
            return write!(formatter, "result     ok: every message handled, replicas 0 → {} → 0", self.peak_replicas);
        }
        write!(formatter, "result     FAILED")?;
        for problem in &self.problems {
            // What follows the first line is the end of a log, which was told when it happened.
            write!(formatter, "\n           - {}", problem.lines().next().unwrap_or_default())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(at: f64, replicas: u32) -> Step {
        Step { at, replicas }
    }

    /// A run in which everything went well.
    fn good() -> Record {
        let mut audit = Audit::default();
        audit.confirm(0..10);
        audit.handle((0..10).chain([3]));
        Record {
            messages: 10,
            audit,
            held: Ok(Held::default()),
            ready: vec![step(2.0, 1), step(4.0, 3), step(9.0, 0)],
            processes: vec![step(1.5, 1), step(3.5, 3), step(9.5, 0)],
            empty_at: Some(8.0),
            zero_at: Some(9.5),
            ended_at: 10.0,
            workers_started: 3,
            workers_died: 0,
            swap: None,
            problems: Vec::new(),
            folder: PathBuf::new(),
        }
    }

    fn problems(change: impl FnOnce(&mut Record)) -> String {
        let mut record = good();
        change(&mut record);
        let summary = Summary::of(record);
        assert!(!summary.ok);
        assert!(summary.to_string().contains("FAILED"));
        summary.problems.join("; ")
    }

    #[test]
    fn a_good_run_is_ok_and_its_figures_add_up() {
        let summary = Summary::of(good());
        assert!(summary.ok, "{summary}");
        assert_eq!((summary.sent, summary.handled, summary.duplicates, summary.lost), (10, 10, 1, 0));
        assert_eq!((summary.peak_replicas, summary.first_worker_seconds), (3, Some(2.0)));
        assert!((summary.replica_seconds - (2.0 + 3.0 * 6.0)).abs() < 1e-9, "{}", summary.replica_seconds);
        assert!(summary.to_string().contains("replicas 0 → 3 → 0"), "{summary}");
    }

    #[test]
    fn whatever_is_not_as_it_must_be_fails_the_run_and_is_named() {
        assert_eq!(problems(|run| run.audit.confirm([77])), "1 messages were sent and not handled: ids 77");
        assert_eq!(problems(|run| run.messages = 12), "only 10 of 12 messages were sent and confirmed");
        assert!(problems(|run| run.held = Err("no answer".to_owned())).ends_with("could not be read: no answer"));
        for (held, word) in [
            (Held { active: 1, ..Held::default() }, "1 active"),
            (Held { locked: 2, ..Held::default() }, "2 locked"),
            (Held { dead_letter: 3, ..Held::default() }, "3 dead-lettered"),
        ] {
            assert!(problems(|run| run.held = Ok(held)).contains(word));
        }
        assert!(problems(|run| run.ready = vec![step(1.0, 1), step(2.0, 0)]).contains("more than one"));
        assert!(problems(|run| run.zero_at = None).contains("back to 0"));
        assert!(problems(|run| run.processes = vec![step(1.0, 2)]).contains("back to 0"));
        assert_eq!(problems(|run| run.problems.push("the broker died".to_owned())), "the broker died");
    }

    #[test]
    fn scheduled_messages_alone_do_not_fail_a_run() {
        let mut record = good();
        record.held = Ok(Held { scheduled: 4, ..Held::default() });
        assert!(Summary::of(record).ok);
    }

    #[test]
    fn locked_messages_are_those_that_no_count_names() {
        let counts = servicebus::EntityCounts { active: 2, scheduled: 3, dead_letter: 1, ..Default::default() };
        assert_eq!(Held::new(counts, 9), Held { active: 2, locked: 4, scheduled: 3, dead_letter: 1 });
        assert_eq!(Held::new(counts, 0).locked, 0);
    }

    #[test]
    fn replica_seconds_are_the_area_under_the_staircase() {
        assert!(replica_seconds(&[], 10.0).abs() < 1e-9);
        assert!((replica_seconds(&[step(1.0, 2), step(3.0, 5)], 4.0) - 9.0).abs() < 1e-9);
    }

    #[test]
    fn the_json_names_its_units() {
        let json = serde_json::to_value(Summary::of(good())).expect("encodes");
        assert_eq!(json["ok"], true);
        assert_eq!(json["held"]["deadLetter"], 0);
        assert_eq!(json["firstWorkerSeconds"], 2.0);
    }
}
