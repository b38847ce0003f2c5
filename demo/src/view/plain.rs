//! The lines that are printed where stdout is no terminal, and that the timeline file holds.

use std::time::Duration;

use super::Picture;

/// One event: ` 12.3 s  what happened`.
pub(super) fn event(elapsed: Duration, text: &str) -> String {
    format!("{:>6.1} s  {text}", elapsed.as_secs_f64())
}

/// One status line, its columns aligned with those of the line before.
pub(super) fn status(picture: &Picture) -> String {
    let Picture { elapsed, counts, handled, messages, throughput, wanted, ready, phase, .. } = picture;
    let width = messages.to_string().len();
    format!(
        "{:>6.1} s  | queue {:>width$} | handled {handled:>width$} of {messages} at {throughput:>5.1}/s | workers {ready:>2}, \
         wanted {wanted:>2} | {phase}",
        elapsed.as_secs_f64(),
        counts.active,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_begin_with_the_time() {
        let at = Duration::from_millis(12_345);
        assert_eq!(event(at, "worker-1 is ready"), "  12.3 s  worker-1 is ready");
        let picture =
            Picture { elapsed: at, messages: 1_000, handled: 7, phase: "working".to_owned(), ..Picture::default() };
        let line = status(&picture);
        assert!(line.starts_with("  12.3 s  | queue    0 | handled    7 of 1000"), "{line}");
    }
}
