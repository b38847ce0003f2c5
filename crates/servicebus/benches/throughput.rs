//! Messages a second through each adapter, against the broker in this process, on loopback.
//!
//! `cargo bench -p servicebus --bench throughput [-- MESSAGES [BODY_BYTES]]`; with `--features azservicebus` both adapters
//! run, taking turns, so that a busy machine slows both. Every send and every completion waits for the broker's answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::{Broker, Options, QueueOptions};
use bytes::Bytes;
use servicebus::{
    Adapter, Batch, ConnectionString, OutgoingMessage, QueueClient, ReceivedMessage, Settlement, connect,
};
use tokio::task::JoinSet;

const QUEUE: &str = "bench";
const ROUNDS: usize = 3;
/// Messages asked for in one receive.
const AT_ONCE: usize = 100;
const WAIT: Duration = Duration::from_secs(10);

/// Messages a second.
struct Rates {
    sent: f64,
    handled: f64,
}

fn main() {
    // cargo passes `--bench`; what is left are our two numbers.
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let messages = numbers.first().copied().unwrap_or(20_000).max(1);
    let body_bytes = numbers.get(1).copied().unwrap_or(1_024);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    println!("{messages} messages of {body_bytes} bytes, {ROUNDS} rounds; messages a second");
    println!("{:<14} {:>5} {:>12} {:>20}", "client", "round", "send batches", "receive + complete");
    for round in 1..=ROUNDS {
        for adapter in Adapter::ALL.into_iter().filter(|adapter| adapter.is_built()) {
            let rates = runtime.block_on(measure(adapter, messages, body_bytes));
            println!("{:<14} {round:>5} {:>12.0} {:>20.0}", adapter.name(), rates.sent, rates.handled);
        }
    }
}

async fn measure(adapter: Adapter, messages: usize, body_bytes: usize) -> Rates {
    let queues = vec![QueueOptions::new(QUEUE)];
    let broker = Broker::start(Options { queues, ..Options::default() }).await.expect("a broker");
    let connection = ConnectionString::parse(broker.connection_string()).expect("the broker's own");
    let client = connect(&connection, QUEUE, adapter).expect("a client");

    let limit = client.max_batch_bytes().await.expect("a limit");
    let started = Instant::now();
    let mut batch = Batch::new(limit);
    for number in 0..messages {
        let message = OutgoingMessage {
            message_id: number.to_string(),
            content_type: None,
            body: Bytes::from(vec![b'x'; body_bytes]),
            scheduled_enqueue_time: None,
        };
        if !batch.try_add(message.clone()) {
            client.send(&batch.take()).await.expect("sent");
            assert!(batch.try_add(message), "a message of {body_bytes} bytes is over the limit");
        }
    }
    client.send(batch.messages()).await.expect("sent");
    let sent = messages as f64 / started.elapsed().as_secs_f64();

    let started = Instant::now();
    let mut handled = 0;
    while handled < messages {
        let received = client.receive(AT_ONCE, WAIT).await.expect("received");
        assert!(!received.is_empty(), "{handled} of {messages} came");
        handled += received.len();
        complete(&client, received).await;
    }
    let handled = messages as f64 / started.elapsed().as_secs_f64();

    client.close().await.expect("closed");
    broker.shutdown().await;
    Rates { sent, handled }
}

/// Completes side by side, as a worker does.
async fn complete(client: &Arc<dyn QueueClient>, messages: Vec<ReceivedMessage>) {
    let mut completions = JoinSet::new();
    for message in messages {
        let client = Arc::clone(client);
        completions.spawn(async move { client.settle(message.lock_token, Settlement::Complete).await });
    }
    for result in completions.join_all().await {
        result.expect("completed");
    }
}
