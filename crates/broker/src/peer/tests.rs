//! A connection over streams that behave as sockets may: they hold bytes back, or bring them at an awkward moment. And
//! a peer without a socket, so that what is read comes exactly between two things the state does.

use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use amqp::{Attach, Body, Map, Message, Outgoing, Value};
use bytes::Bytes;
use tokio::io::ReadBuf;

use super::*;
use crate::access::{Permit, Rights};
use crate::content::decode_transfer;
use crate::counters::{Operation, Outcome};
use crate::state::{self, Config, QueueProperties, State};

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

/// A client's engine and a peer, wired to each other. There is the queue `q`, and the client has a token.
struct Wired {
    client: Connection,
    session: SessionId,
    peer: Peer,
}

impl Wired {
    fn new(faults: &Faults) -> Self {
        let hub = hub();
        let name = queue();
        let create = |request| state::Event::CreateQueue { request, name, properties: QueueProperties::default() };
        hub.request(create, Some);
        let mut peer = Peer::new(hub, settings(faults), CancellationToken::new());
        peer.permits.add(Permit { scope: String::new(), rights: Rights::ALL, expires: None }).expect("room");
        let mut client = Connection::new(amqp::Config::client("client", "localhost"), Instant::now());
        Self { session: client.begin(), client, peer }
    }

    fn attach(&mut self, attach: Attach) -> LinkId {
        let link = self.client.attach(self.session, attach).expect("open");
        assert_eq!(self.deliveries(), 0);
        link
    }

    /// Stores messages in the queue.
    fn store(&self, count: u64, body: &Body) {
        for _ in 0..count {
            let messages = decode_transfer(0, &Message::with_body(body.clone()).encode()).expect("a message");
            let sent = self.peer.hub.request(
                |request| state::Event::Send { request, to: queue(), messages },
                |effect| match effect {
                    state::Effect::Sent { result, .. } => Some(result),
                    _ => None,
                },
            );
            sent.expect("stored");
        }
    }

    /// Asks to look at a message, over a link to `q/$management`.
    fn peek(&mut self, link: LinkId) {
        let arguments = Map::from([("from-sequence-number", Value::Long(0)), ("message-count", Value::Int(1))]);
        let request = Message {
            application_properties: Map::from([("operation", "com.microsoft:peek-message")]),
            ..Message::with_body(Body::value(&Value::Map(arguments)))
        };
        let tag = Bytes::from_static(b"tag");
        let request = Outgoing { tag, message_format: 0, payload: request.encode(), settled: true };
        self.client.send(link, request).expect("credit");
        assert_eq!(self.deliveries(), 0);
    }

    fn peeks(&self) -> Vec<(Outcome, u64)> {
        let counts = self.peer.settings.counters.snapshot();
        let peeks = counts.operations.get(&Operation::Peek).into_iter().flatten();
        peeks.map(|(outcome, tally)| (*outcome, tally.operations)).collect()
    }

    /// Carries bytes until both are quiet; how many deliveries came to the client.
    fn deliveries(&mut self) -> usize {
        let mut deliveries = 0;
        loop {
            let up = self.client.take_output();
            self.peer.engine.receive(&up, Instant::now());
            self.peer.work();
            let down = std::mem::take(&mut self.peer.output);
            self.client.receive(&down, Instant::now());
            if up.is_empty() && down.is_empty() {
                return deliveries;
            }
            while let Some(event) = self.client.next_event() {
                deliveries += usize::from(matches!(event, Event::Delivery { .. }));
            }
        }
    }
}

fn queue() -> EntityName {
    EntityName::new("q").expect("a name")
}

#[test]
fn credit_counts_in_full_after_deliveries_were_given_back() {
    let mut wired = Wired::new(&Faults::default());
    let link = wired.attach(Attach::receiver("in", "q", "here"));
    wired.client.set_credit(link, 10).expect("attached");
    assert_eq!(wired.deliveries(), 0);
    // Ten are under way to the connection when it reads that the client takes its credit back.
    wired.store(10, &Body::empty());
    wired.client.set_credit(link, 0).expect("attached");
    assert_eq!(wired.deliveries(), 0);
    for (credit, wanted) in [(5, 5), (1, 1), (12, 4)] {
        wired.client.set_credit(link, credit).expect("attached");
        assert_eq!(wired.deliveries(), wanted, "of credit {credit}");
    }
    wired.store(20, &Body::empty());
    assert_eq!(wired.deliveries(), 8, "what was left of the last credit");
}

#[test]
fn requests_count_that_are_not_answered_and_that_are_rejected() {
    let faults = Faults::default();
    let mut wired = Wired::new(&faults);
    let requests = wired.attach(Attach::sender("requests", "here", "q/$management"));
    wired.peek(requests);
    assert_eq!(wired.peeks(), [(Outcome::Refused, 1)], "there is no link for the reply");

    wired.attach(Attach::receiver("replies", "q/$management", "here"));
    faults.add("stall,operation=peek".parse().expect("a fault")).expect("room");
    wired.peek(requests);
    assert_eq!(wired.peeks(), [(Outcome::Refused, 1), (Outcome::Error, 1)]);
    faults.clear();

    // Replies wait on the connection, as their link has no credit, until they are too many.
    wired.store(1, &Body::data(vec![b'x'; 250_000]));
    for _ in 0..6 {
        wired.peek(requests);
    }
    assert_eq!(wired.peeks(), [(Outcome::Ok, 5), (Outcome::Refused, 2), (Outcome::Error, 1)]);
}
