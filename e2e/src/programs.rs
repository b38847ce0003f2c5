//! Broker, scaler and sender on this host: real processes, ended with the run.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use tokio::process::{Child, Command};

/// A server of ours and where it listens.
pub struct Server {
    child: Child,
    name: &'static str,
    /// `address:port`.
    pub address: String,
    /// Of the broker only.
    pub connection_string: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ready {
    listen: Vec<String>,
    connection_string: Option<String>,
}

/// Where the binaries are and where the logs go.
pub struct Programs {
    folder: PathBuf,
    work: tempfile::TempDir,
}

impl Programs {
    /// Checks that the binaries are there.
    pub fn new(folder: &Path) -> anyhow::Result<Self> {
        for name in ["broker", "scaler", "sender"] {
            let path = folder.join(name);
            if !path.is_file() {
                bail!(
                    "{} is not there; build it with `cargo build --release`, or name the folder by --programs",
                    path.display()
                );
            }
        }
        Ok(Self { folder: folder.canonicalize()?, work: tempfile::tempdir()? })
    }

    /// Starts the broker with one queue.
    pub async fn broker(&self, host: IpAddr, queue: &str) -> anyhow::Result<Server> {
        let listen = std::net::SocketAddr::new(host, 0).to_string();
        self.serve("broker", &["--listen", &listen, "--queue", queue]).await
    }

    /// Starts the scaler, which may send credentials to that broker.
    pub async fn scaler(&self, host: IpAddr, broker: &str) -> anyhow::Result<Server> {
        let listen = std::net::SocketAddr::new(host, 0).to_string();
        self.serve("scaler", &["serve", "--listen", &listen, "--allow-endpoint", broker]).await
    }

    /// Sends messages and waits until all are confirmed; returns the ids.
    pub async fn send(&self, connection_string: &str, queue: &str, messages: u32) -> anyhow::Result<Vec<u64>> {
        let ledger = self.work.path().join("sent");
        let output = Command::new(self.folder.join("sender"))
            .args(["--queue", queue, "--messages", &messages.to_string(), "--ledger"])
            .arg(&ledger)
            .env("SERVICEBUS_CONNECTION_STR", connection_string)
            .kill_on_drop(true)
            .output()
            .await
            .context("run the sender")?;
        if !output.status.success() {
            bail!("the sender failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let text = tokio::fs::read_to_string(&ledger).await.context("read the sender's ledger")?;
        tokio::fs::remove_file(&ledger).await?;
        text.lines().map(|line| line.parse().with_context(|| format!("{line:?} in the sender's ledger"))).collect()
    }

    async fn serve(&self, name: &'static str, arguments: &[&str]) -> anyhow::Result<Server> {
        let ready_file = self.work.path().join(format!("{name}.ready"));
        let log = std::fs::File::create(self.work.path().join(format!("{name}.log")))?;
        let child = Command::new(self.folder.join(name))
            .args(arguments)
            .arg("--ready-file")
            .arg(&ready_file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start the {name}"))?;
        let mut server = Server { child, name, address: String::new(), connection_string: None };
        let ready = tokio::time::timeout(Duration::from_secs(10), async {
            loop {
                if let Ok(text) = tokio::fs::read_to_string(&ready_file).await {
                    return serde_json::from_str::<Ready>(&text).context("read the ready file");
                }
                server.check()?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let ready = ready.await.with_context(|| format!("the {name} is not ready after 10 s"))??;
        tokio::fs::remove_file(&ready_file).await?;
        server.address = ready.listen.into_iter().next().context("it listens nowhere")?;
        server.connection_string = ready.connection_string;
        Ok(server)
    }

    /// The end of a server's log.
    pub fn log_tail(&self, server: &Server) -> String {
        let text = std::fs::read_to_string(self.work.path().join(format!("{}.log", server.name))).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Server {
    /// Fails if the process has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("the {} has ended: {status}", self.name),
            None => Ok(()),
        }
    }
}
