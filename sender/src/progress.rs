//! What a person sees while it sends: on a terminal one line that is rewritten, elsewhere plain lines; once a second at most.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Not more often than this.
const EVERY: Duration = Duration::from_secs(1);
/// To the line's beginning, and clear it.
const REWRITE: &str = "\r\x1b[K";

/// Progress on stderr. Failures to write it are ignored: it is for people, and nobody may be looking.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
    total: u64,
    started: Instant,
    last: Instant,
    line_open: bool,
}

impl Progress {
    /// Progress towards `total` messages, from now on.
    pub fn on_stderr(total: u64) -> Self {
        let now = Instant::now();
        Self { terminal: std::io::stderr().is_terminal(), total, started: now, last: now, line_open: false }
    }

    /// Says how many messages are confirmed, if the last time is long enough ago.
    pub(crate) fn report(&mut self, confirmed: u64, now: Instant) {
        if now.duration_since(self.last) < EVERY {
            return;
        }
        self.last = now;
        let line = line(confirmed, self.total, now.duration_since(self.started));
        let mut stderr = std::io::stderr().lock();
        let _ = if self.terminal { write!(stderr, "{REWRITE}{line}") } else { writeln!(stderr, "{line}") };
        let _ = stderr.flush();
        self.line_open = self.terminal;
    }

    /// Takes the line off the terminal, so that something else can be written.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.line_open) {
            let mut stderr = std::io::stderr().lock();
            let _ = write!(stderr, "{REWRITE}");
            let _ = stderr.flush();
        }
    }
}

fn line(confirmed: u64, total: u64, elapsed: Duration) -> String {
    let percent = if total == 0 { 100.0 } else { confirmed as f64 * 100.0 / total as f64 };
    let seconds = elapsed.as_secs_f64();
    let rate = if seconds > 0.0 { confirmed as f64 / seconds } else { 0.0 };
    format!("{confirmed} of {total} messages confirmed ({percent:.0} %), {rate:.0} messages/s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_and_how_fast() {
        assert_eq!(line(250, 1000, Duration::from_secs(2)), "250 of 1000 messages confirmed (25 %), 125 messages/s");
        assert_eq!(line(0, 0, Duration::ZERO), "0 of 0 messages confirmed (100 %), 0 messages/s");
    }
}
