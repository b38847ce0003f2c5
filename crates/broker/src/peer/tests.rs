//! A connection over streams that behave as sockets may: they hold bytes back, or bring them at an awkward moment.

use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use tokio::io::ReadBuf;

use super::*;
use crate::state::{Config, State};

const DEADLINE: Duration = Duration::from_secs(20);
/// The protocol header of AMQP over SASL, with which a client begins and a server answers.
const HEADER: [u8; 8] = *b"AMQP\x03\x01\x00\x00";

/// A client whose first bytes are sent after a fault was added, and read at once.
struct SendsAfter {
    fault: Option<&'static str>,
    faults: Faults,
}

impl AsyncRead for SendsAfter {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(fault) = self.fault.take() else { return Poll::Pending };
        self.faults.add(fault.parse().expect("a fault")).expect("room");
        into.put_slice(&HEADER);
        Poll::Ready(Ok(()))
    }
}

fn settings(faults: &Faults) -> Arc<PeerSettings> {
    Arc::new(PeerSettings {
        access: Arc::new(Access::new([], false)),
        acknowledge_delay: Duration::ZERO,
        counters: Arc::default(),
        faults: faults.clone(),
        budget: Arc::new(Budget::new(None, Instant::now())),
    })
}

fn hub() -> Arc<Hub> {
    Arc::new(Hub::new(State::new(Config::default(), [7; 32])))
}

#[tokio::test]
async fn what_is_written_is_flushed_because_a_stream_may_hold_it_back_as_tls_does() {
    let (client, server) = tokio::io::duplex(1024);
    let (read, write) = tokio::io::split(server);
    let write = tokio::io::BufWriter::new(write);
    let (cut, stop) = (CancellationToken::new(), CancellationToken::new());
    let mut serving = pin!(serve(read, write, hub(), settings(&Faults::default()), cut, stop));
    let (mut answers, mut requests) = tokio::io::split(client);
    let mut header = [0; HEADER.len()];
    let exchange = async {
        requests.write_all(&HEADER).await.expect("writable");
        tokio::select! {
            () = &mut serving => panic!("the connection ended"),
            read = answers.read_exact(&mut header) => read.expect("answered"),
        }
    };
    tokio::time::timeout(DEADLINE, exchange).await.expect("answered in time");
    assert_eq!(header, HEADER);
}

#[tokio::test]
async fn bytes_sent_after_a_fault_was_added_stand_still_although_the_connection_ran_already() {
    let faults = Faults::default();
    let (answers, mut answered) = tokio::io::duplex(1024);
    let client = SendsAfter { fault: Some("stall,plane=amqp"), faults: faults.clone() };
    let (cut, stop) = (CancellationToken::new(), CancellationToken::new());
    let mut serving = pin!(serve(client, answers, hub(), settings(&faults), cut, stop));
    let mut header = [0; HEADER.len()];

    let (mut served, mut read) = (false, false);
    std::future::poll_fn(|context| {
        served = serving.as_mut().poll(context).is_ready();
        read = pin!(answered.read_exact(&mut header)).poll(context).is_ready();
        Poll::Ready(())
    })
    .await;
    assert!(!served && !read, "answered although it was to stand still");

    faults.clear();
    let answer = async {
        tokio::select! {
            () = serving => panic!("the connection ended"),
            read = answered.read_exact(&mut header) => read.expect("answered"),
        }
    };
    tokio::time::timeout(DEADLINE, answer).await.expect("goes on in time");
    assert_eq!(header, HEADER);
}
