//! What people see while it runs: a live picture on a terminal, plain lines elsewhere, the same lines in a file.
//!
//! A view draws a [`Picture`]; it knows nothing of processes or protocols. It owns the terminal: whatever happens, the
//! terminal is left as it was found.

use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

mod plain;
mod terminal;

use terminal::Terminal;

/// How often the status line is printed where stdout is no terminal.
const STATUS_LINE_EVERY: Duration = Duration::from_secs(2);
/// Events that the live picture can show.
const EVENTS_KEPT: usize = 64;

/// Everything a view shows, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    /// Since the run began.
    pub elapsed: Duration,
    /// What is going on, in a few words.
    pub phase: String,
    /// Which queue, and where.
    pub queue: String,
    /// The policy in the profile.
    pub policy: String,
    /// Messages that are to be sent.
    pub messages: u64,
    /// Messages confirmed by the broker.
    pub sent: u64,
    /// Different messages handled.
    pub handled: u64,
    /// The queue's counts, as last read.
    pub counts: servicebus::EntityCounts,
    /// Messages handled per second, lately.
    pub throughput: f64,
    /// Replicas that the autoscaler wants.
    pub wanted: u32,
    /// Workers at the queue.
    pub ready: u32,
    /// Processes alive.
    pub processes: u32,
    /// Most replicas there may be.
    pub max_replicas: u32,
    /// One mark for each worker process, oldest first.
    pub workers: Vec<WorkerMark>,
    /// What KEDA or the HPA last decided.
    pub decision: String,
    /// Why.
    pub why: String,
    /// The scaler's last answer.
    pub answer: String,
    /// Messages in the queue over time, from the beginning (seconds, count).
    pub depth: Vec<(f64, f64)>,
    /// Workers ready over time, from the beginning (seconds, count).
    pub replicas: Vec<(f64, f64)>,
}

/// How one worker process is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerMark {
    /// Not at the queue yet.
    Starting,
    /// Working.
    Ready,
    /// Finishing what it has in hand.
    Stopping,
}

/// Draws pictures and tells events.
#[derive(Debug)]
pub struct View {
    terminal: Option<Terminal>,
    timeline: File,
    events: Vec<String>,
    last_status: Option<Duration>,
}

impl View {
    /// The live picture if stdout is a terminal and `plain` does not forbid it, else plain lines. Every event goes to the
    /// file `timeline` too.
    pub fn open(plain: bool, timeline: &Path) -> anyhow::Result<Self> {
        let timeline = File::create(timeline).with_context(|| format!("write {}", timeline.display()))?;
        let is_live = !plain && std::io::stdout().is_terminal();
        let terminal = if is_live { Some(Terminal::enter().context("draw on the terminal")?) } else { None };
        Ok(Self { terminal, timeline, events: Vec::new(), last_status: None })
    }

    /// Tells one event.
    pub fn event(&mut self, elapsed: Duration, text: &str) {
        let line = plain::event(elapsed, text);
        self.record(&line);
        if self.terminal.is_none() {
            print_line(&line);
        }
        self.events.push(line);
        if self.events.len() > EVENTS_KEPT {
            self.events.remove(0);
        }
    }

    /// Draws the picture; where stdout is no terminal, prints a status line now and then.
    pub fn draw(&mut self, picture: &Picture) {
        let is_due = self.last_status.is_none_or(|last| picture.elapsed >= last + STATUS_LINE_EVERY);
        if is_due {
            self.last_status = Some(picture.elapsed);
            let line = plain::status(picture);
            self.record(&line);
            if self.terminal.is_none() {
                print_line(&line);
            }
        }
        if let Some(terminal) = &mut self.terminal
            && let Err(error) = terminal.draw(picture, &self.events)
        {
            // The terminal went away (its window was closed, say): the run goes on, in plain lines.
            tracing::debug!(%error, "drawing failed");
            self.leave();
        }
    }

    /// Gives the terminal back; from here on lines are printed. Shows the events that the picture showed, since the
    /// picture vanishes with the alternate screen.
    pub fn leave(&mut self) {
        if let Some(terminal) = self.terminal.take() {
            drop(terminal);
            for line in &self.events {
                print_line(line);
            }
        }
    }

    fn record(&mut self, line: &str) {
        if let Err(error) = writeln!(self.timeline, "{line}") {
            tracing::debug!(%error, "the timeline was not written");
        }
    }
}

/// Prints a line on stdout; a reader that went away (`demo | head`) is no reason to stop.
pub fn print_line(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
