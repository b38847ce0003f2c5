//! When our adapter dials, and that it rests in between: against a broker behind a network that hangs up or falls silent.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use broker::{Broker, Options, QueueOptions};
use servicebus::{
    Adapter, ClientOptions, ConnectionString, FailureKind, OutgoingMessage, QueueClient, connect, connect_with,
};
use testbench::Proxy;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const ORDERS: &str = "orders";

async fn start_broker() -> Broker {
    let options = Options { queues: vec![QueueOptions::new(ORDERS)], ..Options::default() };
    Broker::start(options).await.expect("a broker")
}

/// The broker's connection string, leading to another address.
fn through(broker: &Broker, address: SocketAddr) -> ConnectionString {
    let text = broker.connection_string().replace(&broker.addresses()[0].to_string(), &address.to_string());
    ConnectionString::parse(&text).expect("the broker's own")
}

/// Service Bus does so when it sheds load.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_lets_us_in_and_hangs_up_at_once_is_dialled_with_pauses() {
    let broker = start_broker().await;
    let target = broker.addresses()[0];
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let connection = through(&broker, listener.local_addr().expect("bound"));
    let dialled = Arc::new(AtomicU32::new(0));
    let counted = dialled.clone();
    let peer = tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(hang_up_once_let_in(near, target));
        }
    });
    let options = ClientOptions { call_timeout: Duration::from_secs(2), ..ClientOptions::default() };
    let client = connect_with(&connection, ORDERS, Adapter::Ours, &options).expect("a client");
    let started = Instant::now();
    // One call is enough, unless the machine stands still meanwhile.
    while dialled.load(Ordering::SeqCst) < 2 {
        let error = client.send(&[message()]).await.expect_err("never sent");
        assert!(matches!(error.kind, FailureKind::Timeout | FailureKind::ConnectionLost), "{error:?}");
        assert!(started.elapsed() < Duration::from_mins(1), "no second connection");
    }
    // Pauses are at least 25, 50, 100, 200, 400 and then 750 ms.
    let most = 7 + started.elapsed().as_millis() / 750;
    let dialled = dialled.load(Ordering::SeqCst);
    assert!(u128::from(dialled) <= most, "{dialled} connections in {:?}", started.elapsed());
    peer.abort();
}

fn message() -> OutgoingMessage {
    OutgoingMessage {
        message_id: "m".to_owned(),
        content_type: None,
        body: bytes::Bytes::from_static(b"{}"),
        scheduled_enqueue_time: None,
    }
}

/// Passes bytes on up to the answer to the token.
async fn hang_up_once_let_in(mut near: TcpStream, target: SocketAddr) -> io::Result<()> {
    let mut far = TcpStream::connect(target).await?;
    let (mut there, mut back, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16], Vec::new());
    loop {
        tokio::select! {
            read = near.read(&mut there) => match read? {
                0 => return Ok(()),
                count => far.write_all(&there[..count]).await?,
            },
            read = far.read(&mut back) => match read? {
                0 => return Ok(()),
                count => {
                    near.write_all(&back[..count]).await?;
                    answered.extend_from_slice(&back[..count]);
                    if answered.windows(11).any(|part| part == b"status-code") {
                        return Ok(());
                    }
                }
            },
        }
    }
}

/// The client has a runtime of its own, which counts the time that it works.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_was_dropped_rests_while_it_waits_for_the_peers_last_word() {
    let broker = start_broker().await;
    let proxy = Arc::new(Proxy::start(broker.addresses()[0]).await);
    let connection = through(&broker, proxy.address());
    let network = proxy.clone();
    let (worked, passed) = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let client: Arc<dyn QueueClient> = connect(&connection, ORDERS, Adapter::Ours).expect("a client");
            client.peek(0, 1).await.expect("connected");
            network.hold_back(true);
            let busy = || tokio::runtime::Handle::current().metrics().worker_total_busy_duration(0);
            let (before, started) = (busy(), Instant::now());
            drop(client);
            // Within the three seconds that it waits.
            tokio::time::sleep(Duration::from_secs(2)).await;
            (busy().saturating_sub(before), started.elapsed())
        })
    })
    .await
    .expect("no panic");
    assert!(worked < passed / 2, "it worked for {worked:?} of {passed:?}");
}
