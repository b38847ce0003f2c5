//! The binary under load at its end, and its log level while it runs.

use std::path::Path;
use std::time::{Duration, Instant};

use broker::{Broker, Fault, Options, QueueOptions};
use externalscaler::external_scaler_client::ExternalScalerClient;
use externalscaler::{GetMetricsRequest, GetMetricsResponse, ScaledObjectRef};
use futures_util::future::join_all;
use runtime::Ready;
use scaler::serve::Timings;
use testbench::{Program, in_time, is_out_of_time, own_address};
use tokio::net::TcpStream;
use tonic::Status;
use tonic::transport::Channel;

use crate::certificates::{Authority, Files};
use crate::support::{http, scaled_object, until, within};

/// How long Kubernetes waits after SIGTERM before it kills the scaler, by our manifest.
fn grace_period() -> Duration {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/base/scaler.yaml");
    let documents = deploy::read_file(&file).expect("YAML");
    let deployment = documents.iter().find(|document| document.kind() == "Deployment").expect("the scaler's");
    let seconds = deployment.value.pointer("/spec/template/spec/terminationGracePeriodSeconds");
    Duration::from_secs(seconds.and_then(serde_json::Value::as_u64).expect("a number"))
}

pub(crate) async fn started(arguments: &[&str], folder: &Path) -> (Program, Ready) {
    let ready = folder.join("ready.json");
    let listen = own_address().to_string();
    let always = ["serve", "--listen", &listen, "--ready-file", ready.to_str().expect("UTF-8")];
    let program = Program::start(env!("CARGO_BIN_EXE_scaler"), &[&always, arguments].concat(), &[]);
    until("the ready file", async || ready.exists()).await;
    let ready = std::fs::read_to_string(ready).expect("it was written");
    (program, serde_json::from_str(&ready).expect("JSON"))
}

pub(crate) fn of_broker(broker: &Broker, queue: &str, name: &str) -> ScaledObjectRef {
    let mut trigger = scaled_object(name);
    trigger.scaler_metadata.insert("queueName".to_owned(), queue.to_owned());
    trigger.scaler_metadata.insert("connectionFromEnv".to_owned(), broker.connection_string().to_owned());
    trigger
}

/// Whether this trigger is active.
pub(crate) async fn is_active(client: &ExternalScalerClient<Channel>, trigger: ScaledObjectRef) -> bool {
    let ask = async || client.clone().is_active(trigger.clone()).await;
    let answer = in_time(ask, |answer| answer.as_ref().err().map(Status::message)).await;
    answer.expect("an answer").into_inner().result
}

/// A call under load, with what became of it.
struct Call {
    answer: Result<GetMetricsResponse, Status>,
    begun: Instant,
    ended: Instant,
}

/// A machine that stands still for as long as the scaler waits, for an answer or for the end, proves nothing about the call or
/// the stop: the scaler may then say so, and only then.
#[tokio::test]
async fn sigterm_under_load_ends_streams_with_ok_answers_calls_and_exits_with_success() {
    const CALLS: usize = 300;
    const STREAMS: usize = 300;
    const LATENCY: Duration = Duration::from_millis(1_500);
    let queues = ["orders", "refunds"].map(QueueOptions::new).to_vec();
    let broker = Broker::start(Options { queues, ..Options::default() }).await.expect("a broker starts");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("scaler.yaml");
    std::fs::write(&config, "cacheTtlSeconds: 0").expect("the folder is writable");
    let (program, ready) = started(&["--config", config.to_str().expect("UTF-8")], folder.path()).await;
    let (address, admin) = (ready.listen[0], ready.admin.expect("it says where"));
    let endpoint = Channel::from_shared(format!("http://{address}")).expect("a valid address");
    let client = ExternalScalerClient::new(endpoint.connect().await.expect("the scaler accepts connections"));

    let open = (0..STREAMS).map(|number| {
        let (mut client, trigger) = (client.clone(), of_broker(&broker, "orders", &format!("receiver-{number}")));
        async move {
            let mut stream = client.stream_is_active(trigger).await.expect("the stream opens").into_inner();
            let first = stream.message().await.expect("no error").expect("a message");
            assert!(!first.result, "the queue is empty");
            stream
        }
    });
    let streams = within("all streams to open", join_all(open)).await;

    let ask = |number: usize| {
        let (mut client, trigger) = (client.clone(), of_broker(&broker, "refunds", &format!("receiver-{number}")));
        let metric_name = "azure-servicebus-refunds".to_owned();
        let request = GetMetricsRequest { scaled_object_ref: Some(trigger), metric_name };
        async move {
            let begun = Instant::now();
            let answer = client.get_metrics(request).await.map(tonic::Response::into_inner);
            Call { answer, begun, ended: Instant::now() }
        }
    };
    // A reading that stands in, should the machine stand still for longer than a read may take.
    until("the first reading", async || ask(0).await.answer.is_ok()).await;
    // Long enough for all calls to be in flight when the signal comes, and less than a read may take.
    let slow = "latency=1500ms,plane=administration,entity=refunds".parse::<Fault>().expect("a fault");
    broker.faults().add(slow).expect("there is room");
    let begun = Instant::now();
    let calls: Vec<_> = (0..CALLS).map(|number| tokio::spawn(ask(number))).collect();
    let in_flight = async || {
        let metrics = http(admin, "GET", "/metrics", "").await.body;
        let count = |line: &str| line.strip_prefix("servicebus_scaler_grpc_requests_in_flight ")?.parse::<usize>().ok();
        metrics.lines().find_map(count).expect("it is always there")
    };
    // On a machine so slow that they are over before they are seen together, the calls in flight show nothing.
    let are_over = || calls.iter().all(tokio::task::JoinHandle::is_finished);
    until("all calls to be in flight", async || are_over() || in_flight().await == CALLS).await;

    program.terminate();
    let signalled = Instant::now();
    let ends = streams.into_iter().map(async |mut stream| {
        while stream.message().await?.is_some() {}
        Ok::<_, Status>(())
    });
    let ends = within("the ends of all streams", join_all(ends)).await;
    until("new connections to be refused", async || TcpStream::connect(address).await.is_err()).await;
    let calls = within("the calls in flight", join_all(calls)).await;
    let ended = program.ended().await;
    assert!(ended.status.success(), "{ended:?}");
    let took = signalled.elapsed();
    assert!(took < grace_period(), "{took:?}");
    let deadlines = Timings::default();
    if ended.stderr.contains("cut off") {
        assert!(took >= deadlines.drain_deadline, "after {took:?}: {}", ended.stderr);
        return;
    }
    assert!(ends.iter().all(Result::is_ok), "streams end with OK: {ends:?}");
    let mut ended_after = 0;
    for call in calls {
        let Call { answer, begun, ended } = call.expect("no panic");
        let took = ended.duration_since(begun);
        match answer {
            Ok(answer) => assert_eq!(answer.metric_values.len(), 1),
            Err(refusal) => {
                let is_late = is_out_of_time(refusal.message()) && took >= deadlines.call_deadline;
                assert!(is_late, "after {took:?}: {refusal}");
            }
        }
        ended_after += usize::from(ended > signalled);
    }
    let was_in_time = signalled.duration_since(begun) < LATENCY;
    assert!(!was_in_time || ended_after == CALLS, "{ended_after} of {CALLS} ended after the signal");
}

#[tokio::test]
async fn the_log_level_changes_while_it_runs_for_our_crates_alone() {
    let broker = Broker::start(Options { queues: vec![QueueOptions::new("orders")], ..Options::default() });
    let broker = broker.await.expect("a broker starts");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (program, ready) = started(&["--log-format", "json"], folder.path()).await;
    let local = ready.local.expect("it says where");
    let endpoint = Channel::from_shared(format!("http://{}", ready.listen[0])).expect("a valid address");
    let client = ExternalScalerClient::new(endpoint.connect().await.expect("the scaler accepts connections"));

    assert_eq!(http(local, "GET", "/log-level", "").await.body, "info\n");
    let refused = http(local, "PUT", "/log-level", "h2=trace").await;
    assert_eq!(refused.status, 400);
    assert!(refused.body.contains("h2=trace") && refused.body.contains("scaler"), "{}", refused.body);
    is_active(&client, of_broker(&broker, "orders", "quiet")).await;
    let changed = http(local, "PUT", "/log-level", "debug").await;
    assert!(changed.status == 200 && changed.body.contains("scaler=debug"), "{changed:?}");
    is_active(&client, of_broker(&broker, "orders", "loud")).await;
    let is_debug = |line: &str| line.contains("\"level\":\"DEBUG\"");
    until("a line about it", async || program.stderr().lines().any(|line| is_debug(line) && line.contains("\"loud\"")))
        .await;
    let reset = http(local, "DELETE", "/log-level", "").await;
    assert_eq!((reset.status, reset.body.as_str()), (200, "info\n"));

    program.terminate();
    let ended = program.ended().await;
    assert!(ended.status.success(), "{ended:?}");
    let debug: Vec<_> = ended.stderr.lines().filter(|line| is_debug(line)).collect();
    assert!(debug.iter().all(|line| line.contains("\"target\":\"scaler") && !line.contains("\"quiet\"")), "{debug:?}");
    assert!(!ended.stderr.contains("SharedAccessKey="), "no secret at any level");
}

#[tokio::test]
async fn what_it_cannot_serve_with_is_one_clear_line() {
    let authority = Authority::new("server");
    let files = Files::new(&authority.server(), &authority.pem());
    let paths = files.paths();
    let path = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let (certificate, key) = (path(&paths.certificate), path(&paths.key));
    let other = path(&paths.client_authority.clone().expect("it is always given"));
    let run = async |arguments: &[&str]| {
        let always = ["serve", "--listen", "127.0.0.1:0"];
        Program::start(env!("CARGO_BIN_EXE_scaler"), &[&always, arguments].concat(), &[]).ended().await
    };
    for (arguments, code, words) in [
        (
            &["--tls-cert", "/no/such.crt", "--tls-key", &key][..],
            1,
            &["--tls-cert", "/no/such.crt", "No such file"][..],
        ),
        (&["--tls-cert", &certificate, "--tls-key", &certificate], 1, &["--tls-key", &certificate, "private key"]),
        (&["--tls-cert", &other, "--tls-key", &key], 1, &["--tls-cert", &other, &key]),
        (
            &["--tls-cert", &certificate, "--tls-key", &key, "--tls-client-ca", &key],
            1,
            &["--tls-client-ca", &key, "certificate"],
        ),
        (&["--tls-cert", &certificate], 2, &["--tls-key"]),
        (&["--tls-client-ca", &other], 2, &["--tls-cert"]),
        (&["--local-listen", "0.0.0.0:0"], 2, &["--local-listen", "0.0.0.0:0", "loopback"]),
    ] {
        let ended = run(arguments).await;
        assert_eq!(ended.status.code(), Some(code), "{arguments:?}: {ended:?}");
        let line = ended.stderr.lines().find(|line| line.starts_with("scaler: ") || line.starts_with("error: "));
        let rest = ended.stderr.as_str();
        let said = if code == 1 { line.unwrap_or_default() } else { rest };
        assert!(words.iter().all(|word| said.contains(word)), "{arguments:?}: {words:?} expected in {rest:?}");
        assert!(!rest.contains("PRIVATE KEY"), "{rest}");
    }
}
