//! What the attacks share: a scaler process, calls as any Kubernetes namespace, traps that must stay untouched, a broker.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Mutex;

use broker::{Broker, Options, QueueOptions};
use externalscaler::external_scaler_client::ExternalScalerClient;
use externalscaler::{GetMetricsRequest, IsActiveResponse, ScaledObjectRef};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runtime::Ready;
use testbench::{Program, in_time, until, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

/// Metadata, or claims: keys and values.
pub(crate) type Pairs<'a> = &'a [(&'a str, &'a str)];

/// A broker on a free port of loopback with a queue named orders.
pub(crate) async fn broker(options: Options) -> Broker {
    let queues = vec![QueueOptions::new("orders")];
    Broker::start(Options { queues, ..options }).await.expect("a broker on a free port starts")
}

/// A running scaler, with its config file in a folder of its own.
pub(crate) struct Scaler {
    pub(crate) program: Program,
    pub(crate) ready: Ready,
    client: ExternalScalerClient<Channel>,
    folder: tempfile::TempDir,
    /// All that calls were answered, errors above all.
    heard: Mutex<Vec<String>>,
}

impl Scaler {
    /// Starts one with this config file, `{folder}` in it being the folder that [`Self::file`] is about; `prepare` may put
    /// files there first. It logs all it can, unless the environment says otherwise.
    pub(crate) async fn start(config: &str, environment: Pairs<'_>, prepare: impl FnOnce(PathBuf)) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        prepare(folder.path().to_owned());
        let file = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
        let config = config.replace("{folder}", folder.path().to_str().expect("UTF-8"));
        std::fs::write(file("scaler.yaml"), config).expect("the folder is writable");
        let (config, ready) = (file("scaler.yaml"), file("ready.json"));
        let arguments = ["serve", "--listen", "127.0.0.1:0", "--config", &config, "--ready-file", &ready];
        let environment = [&[("LOG_LEVEL", "trace")], environment].concat();
        let program = Program::start(env!("CARGO_BIN_EXE_scaler"), &arguments, &environment);
        until("the scaler to be ready", async || std::path::Path::new(&ready).exists()).await;
        let ready: Ready =
            serde_json::from_str(&std::fs::read_to_string(&ready).expect("it was written")).expect("JSON");
        let endpoint = Channel::from_shared(format!("http://{}", ready.listen[0])).expect("a valid address");
        let channel = within("connect", endpoint.connect()).await.expect("the scaler accepts connections");
        Self { program, ready, client: ExternalScalerClient::new(channel), folder, heard: Mutex::default() }
    }

    /// Without a registry and with nothing in its environment.
    pub(crate) async fn plain() -> Self {
        Self::start("", &[], |_| {}).await
    }

    /// A path in its folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Gives a file in its folder another text.
    pub(crate) fn replace(&self, name: &str, text: &str) {
        testbench::replace(&self.file(name), text);
    }

    /// The value of the trigger's metric, asked for as KEDA does it, by whoever claims this Kubernetes namespace.
    pub(crate) async fn ask(&self, namespace: &str, metadata: Pairs<'_>) -> Result<f64, Status> {
        let ask = async || self.ask_once(namespace, metadata).await;
        in_time(ask, |answer| answer.as_ref().err().map(Status::message)).await
    }

    /// As [`Self::ask`], but whatever the answer is. For what cannot be read, however often it is asked for.
    pub(crate) async fn ask_once(&self, namespace: &str, metadata: Pairs<'_>) -> Result<f64, Status> {
        let answer = within("an answer", self.value(namespace, metadata)).await;
        if let Err(status) = &answer {
            self.heard.lock().expect("no panic before").push(format!("{status:?} {status}"));
        }
        answer
    }

    async fn value(&self, namespace: &str, metadata: Pairs<'_>) -> Result<f64, Status> {
        let trigger = reference(namespace, metadata);
        let mut client = self.client.clone();
        let specification = client.get_metric_spec(trigger.clone()).await?.into_inner();
        let metric_name = specification.metric_specs[0].metric_name.clone();
        let request = GetMetricsRequest { scaled_object_ref: Some(trigger), metric_name };
        Ok(client.get_metrics(request).await?.into_inner().metric_values[0].metric_value_float)
    }

    /// Opens a push stream of the trigger's activity.
    pub(crate) async fn watch(&self, namespace: &str, metadata: Pairs<'_>) -> Streaming<IsActiveResponse> {
        let opened = self.client.clone().stream_is_active(reference(namespace, metadata)).await;
        opened.expect("the stream opens").into_inner()
    }

    /// That a call is refused with this code and these words.
    pub(crate) async fn refuses(&self, namespace: &str, metadata: Pairs<'_>, code: Code, words: &[&str]) -> Status {
        let status = self.ask(namespace, metadata).await.expect_err("the call must fail");
        assert_eq!(status.code(), code, "{metadata:?}: {status}");
        for word in words {
            assert!(status.message().contains(word), "{word:?} is missing in {:?}", status.message());
        }
        status
    }

    /// Asks it to look at its files now.
    pub(crate) fn look_again(&self) {
        let id = self.program.id().try_into().expect("a process id");
        kill(Pid::from_raw(id), Signal::SIGHUP).expect("our own child can be signalled");
    }

    /// All that calls were answered so far.
    pub(crate) fn heard(&self) -> String {
        self.heard.lock().expect("no panic before").join("\n")
    }

    /// What its memory takes now, in KiB: `VmRSS` of proc(5).
    pub(crate) fn resident_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.program.id());
        let text = std::fs::read_to_string(path).expect("it runs, on Linux");
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("proc(5)");
        line.trim().trim_end_matches(" kB").parse().expect("a number of kB")
    }
}

pub(crate) fn reference(namespace: &str, metadata: Pairs<'_>) -> ScaledObjectRef {
    let all = [("scalerAddress", "scaler:6000")].into_iter().chain(metadata.iter().copied());
    let mut scaler_metadata: HashMap<_, _> = all.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    if !scaler_metadata.keys().any(|key| key.starts_with("queueName") || key.starts_with("topicName")) {
        scaler_metadata.insert("queueName".to_owned(), "orders".to_owned());
    }
    ScaledObjectRef { name: "receiver".to_owned(), namespace: namespace.to_owned(), scaler_metadata }
}

/// A GET by hand: the whole answer, headers included.
pub(crate) async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = within("connect", TcpStream::connect(address)).await.expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    within("send", stream.write_all(request.as_bytes())).await.expect("it reads");
    let mut answer = Vec::new();
    within("the answer", stream.read_to_end(&mut answer)).await.expect("it answers");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Something that listens and must never be connected to.
pub(crate) struct Trap(std::net::TcpListener);

impl Trap {
    pub(crate) fn new() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        Self(listener)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("bound")
    }

    /// A connection waits in the listener's queue as soon as it was opened, so nothing needs to be waited for.
    pub(crate) fn is_untouched(&self) -> bool {
        self.0.accept().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }
}
