//! What `scaler check` has to say, and about what.

use std::fmt;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::manifest::in_one_line;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// It will be taken, but hardly does what was meant.
    Warning,
    /// Kubernetes, KEDA or the scaler would refuse it.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// One thing to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The file it is about; `-` for standard input.
    pub file: PathBuf,
    /// The line, from 1, where there is one.
    pub line: Option<usize>,
    /// The object, such as `ScaledObject shop/receiver`.
    pub object: Option<String>,
    /// Which of its triggers, from 0.
    pub trigger: Option<usize>,
    /// What to say.
    pub message: String,
}

impl Finding {
    /// For machines.
    pub fn json(&self) -> Value {
        let Self { severity, file, line, object, trigger, message } = self;
        json!({
            "severity": severity.to_string(),
            "file": file.display().to_string(),
            "line": line,
            "object": object,
            "trigger": trigger,
            "message": message,
        })
    }
}

impl fmt::Display for Finding {
    /// As compilers write, in one line: `FILE:LINE: error: ScaledObject shop/receiver, trigger 0: …`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { severity, file, line, object, trigger, message } = self;
        write!(formatter, "{}", file.display())?;
        if let Some(line) = line {
            write!(formatter, ":{line}")?;
        }
        write!(formatter, ": {severity}: ")?;
        if let Some(object) = object {
            formatter.write_str(&in_one_line(object))?;
            if let Some(trigger) = trigger {
                write!(formatter, ", trigger {trigger}")?;
            }
            formatter.write_str(": ")?;
        }
        formatter.write_str(&in_one_line(message))
    }
}
