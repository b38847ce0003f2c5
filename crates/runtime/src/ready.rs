//! The ready line: how a started process tells its parent (a person, a test, the demo) where it listens.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// What a server says once it serves: one line of JSON on stdout and, if asked, the same in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ready {
    /// The addresses it listens on, with the real ports where port 0 was asked for.
    pub listen: Vec<SocketAddr>,
    /// For the broker: a connection string that reaches it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_string: Option<String>,
    /// For the broker with TLS: a connection string that reaches it over TLS, certificate checks included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_connection_string: Option<String>,
    /// For the scaler: where probes and metrics are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<SocketAddr>,
    /// For the scaler: where only this host reaches it, for explanations and the log level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<SocketAddr>,
}

/// Prints the ready line and writes the ready file atomically (a reader sees the whole of it or nothing).
pub fn announce(ready: &Ready, file: Option<&Path>) -> anyhow::Result<()> {
    let line = serde_json::to_string(ready).context("encode the ready line")?;
    if let Some(path) = file {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}.tmp", std::process::id()));
        let temporary = Path::new(&name);
        std::fs::write(temporary, format!("{line}\n"))
            .and_then(|()| std::fs::rename(temporary, path))
            .with_context(|| format!("write --ready-file {}", path.display()))?;
    }
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).context("print the ready line")
}
