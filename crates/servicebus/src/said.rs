//! What a peer said, as our errors and log lines repeat it: one line, and not too long.

/// The longest of Service Bus's own descriptions, with all its tracking ids, is shorter.
const MOST_CHARACTERS: usize = 500;

/// A peer's words on one line, cut when long. They may be empty.
pub(crate) fn said(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MOST_CHARACTERS).collect();
    line.trim().to_owned()
}
