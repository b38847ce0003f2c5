//! What a page of 100 queues, and a single queue, cost the one who reads: request, answer over loopback, parsing.
//!
//! The answers are the real broker's, fetched once; then a bare server repeats them, so that the broker's own work is not
//! measured. Run: `cargo bench -p servicebus --bench listing`.

use std::time::{Duration, Instant};

use broker::{Broker, Options, QueueOptions};
use servicebus::{AdministrationClient, ConnectionString};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

const QUEUES: usize = 100;
const ROUNDS: usize = 5;
const READS: u32 = 400;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(measure());
}

async fn measure() {
    let queues = (0..QUEUES).map(|number| QueueOptions::new(format!("queue-{number:03}"))).collect();
    let broker = Broker::start(Options { queues, ..Options::default() }).await.expect("a broker");
    let listing = repeat(recorded(&broker, Asked::Listing).await).await;
    let queue = repeat(recorded(&broker, Asked::Queue).await).await;
    for round in 1..=ROUNDS {
        let page =
            time(|| async { listing.queues().next().await.expect("a page").map_or(0, |page| page.len()) }, QUEUES);
        let page = page.await;
        let single = time(|| async { usize::from(queue.queue("queue-000").await.is_ok()) }, 1).await;
        println!("round {round}: page of {QUEUES} {page:?}, that is {:?} a queue; one queue {single:?}", page / 100);
    }
}

/// The mean time of a read, and that it gave what it should.
async fn time<F: Future<Output = usize>>(read: impl Fn() -> F, expected: usize) -> Duration {
    let started = Instant::now();
    for _ in 0..READS {
        assert_eq!(read().await, expected);
    }
    started.elapsed() / READS
}

enum Asked {
    Listing,
    Queue,
}

/// One answer of the broker's, whole, as it came over the wire.
async fn recorded(broker: &Broker, asked: Asked) -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let client = client_of(listener.local_addr().expect("bound").port());
    let upstream = broker.addresses()[0];
    let between = tokio::spawn(async move {
        let (client, _) = listener.accept().await.expect("a connection");
        let broker = TcpStream::connect(upstream).await.expect("the broker");
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_broker, mut to_broker) = broker.into_split();
        tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_broker).await });
        let mut seen = Vec::new();
        let mut chunk = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from_broker.read(&mut chunk).await {
            seen.extend_from_slice(&chunk[..count]);
            to_client.write_all(&chunk[..count]).await.expect("the client reads");
        }
        seen
    });
    match asked {
        Asked::Listing => drop(client.queues().next().await.expect("a page")),
        Asked::Queue => drop(client.queue("queue-000").await.expect("described")),
    }
    // Closes its connections.
    drop(client);
    between.await.expect("recorded")
}

/// A client of a server that gives this answer to every request.
async fn repeat(answer: Vec<u8>) -> AdministrationClient {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let client = client_of(listener.local_addr().expect("bound").port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let (read, mut write) = stream.into_split();
                let mut lines = BufReader::new(read).lines();
                // A GET ends with an empty line.
                while let Ok(Some(line)) = lines.next_line().await {
                    if line.is_empty() && write.write_all(&answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    client
}

fn client_of(port: u16) -> AdministrationClient {
    let text = format!(
        "Endpoint=sb://127.0.0.1:{port};SharedAccessKeyName={};SharedAccessKey={};UseDevelopmentEmulator=true",
        broker::EMULATOR_KEY_NAME,
        broker::EMULATOR_KEY
    );
    let connection = ConnectionString::parse(&text).expect("well formed");
    AdministrationClient::new(&connection).expect("a client")
}
