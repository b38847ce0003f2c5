//! Broker, scaler and sender on this host: real processes, ended with the run.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// A server of ours and where it listens.
pub struct Server {
    child: Child,
    name: &'static str,
    is_killed: bool,
    /// `address:port`.
    pub address: String,
    /// The other addresses it listens on.
    more: Vec<String>,
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

    /// Where this run's files are; removed with it.
    pub fn work_folder(&self) -> &Path {
        self.work.path()
    }

    /// Starts the broker with these entities. Faults may be asked of it.
    pub async fn broker(&self, host: IpAddr, entities: &[String]) -> anyhow::Result<Server> {
        let listen = std::net::SocketAddr::new(host, 0).to_string();
        // Faults are asked for on loopback only, so it listens there too.
        let mut flags = ["--listen", &listen, "--listen", "127.0.0.1:0", "--allow-faults"].map(str::to_owned).to_vec();
        flags.extend_from_slice(entities);
        self.serve("broker", &flags).await
    }

    /// Starts the scaler on this port (0 takes a free one); it may send credentials to that broker.
    pub async fn scaler(&self, host: IpAddr, port: u16, broker: &str, more: &[String]) -> anyhow::Result<Server> {
        let listen = std::net::SocketAddr::new(host, port).to_string();
        let free = std::net::SocketAddr::new(host, 0).to_string();
        let flags = ["serve", "--listen", &listen, "--admin-listen", &free, "--local-listen", "127.0.0.1:0"];
        let mut flags: Vec<String> = flags.into_iter().chain(["--allow-endpoint", broker]).map(str::to_owned).collect();
        flags.extend_from_slice(more);
        self.serve("scaler", &flags).await
    }

    /// Has the broker answer every administration request with 429 until [`Self::end_faults`].
    pub async fn throttle(&self, broker: &Server) -> anyhow::Result<()> {
        control(broker, "POST", "throttle=5s,plane=administration").await
    }

    /// Ends all faults.
    pub async fn end_faults(&self, broker: &Server) -> anyhow::Result<()> {
        control(broker, "DELETE", "").await
    }

    /// Sends messages and waits until all are confirmed; returns the ids.
    pub async fn send(
        &self,
        connection_string: &str,
        destination: &[&str; 2],
        messages: u32,
        first_id: u64,
    ) -> anyhow::Result<Vec<u64>> {
        let ledger = self.work.path().join("sent");
        let output = Command::new(self.folder.join("sender"))
            .args(destination)
            .args(["--messages", &messages.to_string(), "--first-id", &first_id.to_string(), "--ledger"])
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

    async fn serve(&self, name: &'static str, arguments: &[String]) -> anyhow::Result<Server> {
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
        let mut server =
            Server { child, name, is_killed: false, address: String::new(), more: Vec::new(), connection_string: None };
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
        let mut listen = ready.listen.into_iter();
        server.address = listen.next().context("it listens nowhere")?;
        server.more = listen.collect();
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

/// One request to the broker's control endpoint.
async fn control(broker: &Server, method: &str, body: &str) -> anyhow::Result<()> {
    let address = broker.more.first().context("the broker does not listen on loopback")?;
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!(
            "{method} /$faults HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::time::timeout(Duration::from_secs(10), exchange).await.context("no answer in 10 s")?;
    let answer = answer.with_context(|| format!("ask the broker at {address} for a fault"))?;
    if !answer.starts_with("HTTP/1.1 2") {
        bail!("the broker refused {method} /$faults {body}: {}", answer.trim());
    }
    Ok(())
}

impl Server {
    /// Ends the process as a crash would.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().await.with_context(|| format!("kill the {}", self.name))?;
        self.is_killed = true;
        Ok(())
    }

    /// The port it listens on.
    pub fn port(&self) -> anyhow::Result<u16> {
        let port = self.address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        port.with_context(|| format!("{} has no port", self.address))
    }

    /// Fails if the process has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(_) if self.is_killed => Ok(()),
            Some(status) => bail!("the {} has ended: {status}", self.name),
            None => Ok(()),
        }
    }
}
