//! A conversation with a scripted peer in simulated time: renewal of tokens, exact credit, giving back, parting.

use amqp::{Attach, Body, Map, Message, Outgoing, Properties, Role, Value};
use bytes::Bytes;
use tokio::sync::oneshot;

use super::*;
use crate::ConnectionString;
use crate::ours::call::Waiter;
use crate::ours::dial::Dialler;

const LIFETIME: Duration = Duration::from_hours(1);

fn settings() -> Settings {
    let text = "Endpoint=sb://h;SharedAccessKeyName=n;SharedAccessKey=k";
    let connection = ConnectionString::parse(text).expect("a connection string");
    Settings {
        dialler: Dialler::new(&connection, &crate::ExtraRoots::default()),
        peer: Peer::new("orders".into(), "h", 5671),
        connection,
        call_timeout: Duration::from_secs(15),
        connect_timeout: Duration::from_secs(10),
        token_lifetime: LIFETIME,
    }
}

/// What the peer saw of us.
#[derive(Debug, PartialEq)]
enum Seen {
    Token,
    Credit(u32),
    Drain,
    Outcome(DeliveryState),
    Closed,
}

/// Both ends, and the time.
struct Pair {
    settings: Settings,
    work: Work,
    conversation: Conversation,
    peer: Connection,
    /// The peer's link on which it sends messages to us.
    receiver: Option<LinkId>,
    /// The peer's link on which it answers to tokens.
    answers: Option<LinkId>,
    /// What it answers to tokens, if it does.
    token_status: Option<i32>,
    now: Instant,
    seen: Vec<Seen>,
}

impl Pair {
    /// Connected and let in.
    fn new() -> Self {
        let (settings, now) = (settings(), Instant::now());
        let conversation = Conversation::start(&settings, now).expect("started");
        let peer = Connection::new(Config::server("peer"), now);
        let (receiver, answers) = (None, None);
        let work = Work::default();
        let mut pair = Self {
            settings,
            work,
            conversation,
            peer,
            receiver,
            answers,
            token_status: Some(202),
            now,
            seen: Vec::new(),
        };
        pair.run();
        assert!(pair.conversation.is_let_in());
        assert_eq!(pair.take_seen(), [Seen::Token]);
        pair
    }

    /// Lets both talk until neither has anything to say.
    fn run(&mut self) {
        loop {
            let mut lent =
                Lent { work: &mut self.work, settings: &self.settings, now: self.now, wall: SystemTime::UNIX_EPOCH };
            self.conversation.step(&mut lent);
            let there = self.conversation.take_output();
            self.peer.receive(&there, self.now);
            while let Some(event) = self.peer.next_event() {
                self.on_event(event);
            }
            let back = self.peer.take_output();
            if there.is_empty() && back.is_empty() {
                return;
            }
            self.conversation.hear(&back, self.now);
        }
    }

    fn advance(&mut self, by: Duration) {
        self.now += by;
        self.run();
    }

    fn take_seen(&mut self) -> Vec<Seen> {
        std::mem::take(&mut self.seen)
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Attach { link, attach, .. } => {
                let address = |attach: &Attach| attach.source.clone().and_then(|source| source.address);
                match attach.role {
                    Role::Receiver if address(&attach).as_deref() == Some("$cbs") => self.answers = Some(link),
                    Role::Receiver => self.receiver = Some(link),
                    Role::Sender => {}
                }
                self.peer.accept(link, attach.reply()).expect("asked for");
                if attach.role == Role::Sender {
                    self.peer.set_credit(link, 100).expect("attached");
                }
            }
            Event::Delivery { delivery, .. } => {
                let request = Message::decode(&delivery.payload).expect("a message");
                assert_eq!(request.application_properties.get("operation").and_then(Value::as_str), Some("put-token"));
                self.seen.push(Seen::Token);
                let Some(status) = self.token_status else { return };
                let answer = Message {
                    properties: Some(Properties {
                        correlation_id: request.properties.and_then(|properties| properties.message_id),
                        ..Properties::default()
                    }),
                    application_properties: Map::from([("status-code", Value::Int(status))]),
                    ..Message::with_body(Body::empty())
                };
                self.send(self.answers.expect("attached"), &answer, true);
            }
            Event::Credit { link, drain } if Some(link) == self.receiver => {
                if drain {
                    self.seen.push(Seen::Drain);
                    self.peer.drained(link).expect("attached");
                } else {
                    self.seen.push(Seen::Credit(self.peer.credit(link)));
                }
            }
            Event::Disposition { state, .. } => self.seen.push(Seen::Outcome(state.expect("a state"))),
            Event::Closed { .. } => self.seen.push(Seen::Closed),
            _ => {}
        }
    }

    fn send(&mut self, link: LinkId, message: &Message, settled: bool) {
        let tag = Bytes::copy_from_slice(Uuid::new_v4().as_bytes());
        let outgoing = Outgoing { tag, message_format: 0, payload: message.encode(), settled };
        self.peer.send(link, outgoing).expect("credit");
    }

    fn deliver(&mut self) {
        let mut message = Message::with_body(Body::data("body"));
        // Locked for twenty seconds from the beginning of the wall clock that the tests use.
        message.message_annotations.insert(Value::symbol("x-opt-locked-until"), Value::Timestamp(20_000));
        self.send(self.receiver.expect("attached"), &message, false);
    }

    fn wait(
        &mut self,
        id: u64,
        max: u32,
    ) -> oneshot::Receiver<Result<Vec<crate::ReceivedMessage>, crate::ClientError>> {
        let (reply, answer) = oneshot::channel();
        let (started, wait) = (self.now, Duration::from_secs(5));
        let ask_by = started + self.settings.call_timeout;
        self.work.inbox.add_waiter(Waiter { id, max, wait, started, ask_by, until: None, reply });
        self.run();
        answer
    }
}

#[test]
fn a_token_is_put_again_when_a_quarter_of_its_life_is_left() {
    let mut pair = Pair::new();
    for _ in 0..3 {
        let due = pair.conversation.next_deadline(&pair.work, pair.now);
        assert!(due.is_some_and(|due| due <= pair.now + LIFETIME), "something wakes the owner in time");
        // In steps, so that the peer's silence does not end the connection.
        for _ in 0..44 {
            pair.advance(Duration::from_mins(1));
            heartbeat(&mut pair);
        }
        assert_eq!(pair.take_seen(), []);
        pair.advance(Duration::from_mins(1));
        assert_eq!(pair.take_seen(), [Seen::Token]);
    }
}

/// Makes the peer say something.
fn heartbeat(pair: &mut Pair) {
    pair.conversation.hear(&[0, 0, 0, 8, 2, 0, 0, 0], pair.now);
    pair.peer.receive(&[0, 0, 0, 8, 2, 0, 0, 0], pair.now);
}

#[test]
fn a_refused_renewal_is_tried_again_soon_and_calls_go_on() {
    let mut pair = Pair::new();
    for _ in 0..44 {
        pair.advance(Duration::from_mins(1));
        heartbeat(&mut pair);
    }
    pair.token_status = Some(401);
    pair.advance(Duration::from_mins(1));
    assert_eq!(pair.take_seen(), [Seen::Token]);
    assert!(pair.conversation.ended().is_none());
    pair.token_status = Some(202);
    pair.advance(Duration::from_secs(9));
    assert_eq!(pair.take_seen(), []);
    pair.advance(Duration::from_secs(1));
    assert_eq!(pair.take_seen(), [Seen::Token]);
}

#[test]
fn a_renewal_that_gets_no_answer_is_made_again_soon() {
    let mut pair = Pair::new();
    for _ in 0..44 {
        pair.advance(Duration::from_mins(1));
        heartbeat(&mut pair);
    }
    pair.token_status = None;
    pair.advance(Duration::from_mins(1));
    assert_eq!(pair.take_seen(), [Seen::Token]);
    pair.token_status = Some(202);
    let due = pair.conversation.next_deadline(&pair.work, pair.now);
    assert!(due.is_some_and(|due| due <= pair.now + Duration::from_secs(10)), "something wakes the owner in time");
    pair.advance(Duration::from_secs(10));
    assert_eq!(pair.take_seen(), [Seen::Token], "the old one ends in a quarter of an hour");
}

#[test]
fn credit_is_what_is_waited_for_and_is_drained_when_nobody_waits() {
    let mut pair = Pair::new();
    let mut first = pair.wait(1, 10);
    assert_eq!(pair.take_seen(), [Seen::Credit(10)]);
    let mut second = pair.wait(2, 5);
    assert_eq!(pair.take_seen(), [Seen::Credit(15)]);
    pair.deliver();
    pair.run();
    assert_eq!(first.try_recv().expect("answered").expect("messages").len(), 1, "it does not wait for the other nine");
    assert_eq!(pair.take_seen(), [Seen::Drain, Seen::Credit(5)]);
    pair.advance(Duration::from_secs(5));
    assert!(second.try_recv().expect("answered").expect("no error").is_empty());
    assert_eq!(pair.take_seen(), [Seen::Drain]);
}

#[test]
fn a_message_that_nobody_comes_for_is_given_back_before_its_lock_ends() {
    let mut pair = Pair::new();
    drop(pair.wait(1, 1));
    pair.deliver();
    pair.run();
    pair.take_seen();
    pair.advance(Duration::from_secs(9));
    assert_eq!(pair.take_seen(), []);
    pair.advance(Duration::from_secs(1));
    assert_eq!(pair.take_seen(), [Seen::Outcome(DeliveryState::Released)]);
}

#[test]
fn parting_gives_back_before_it_closes() {
    let mut pair = Pair::new();
    drop(pair.wait(1, 1));
    pair.deliver();
    pair.run();
    pair.take_seen();
    pair.conversation.part(pair.now);
    pair.run();
    assert_eq!(pair.take_seen(), [Seen::Outcome(DeliveryState::Released), Seen::Closed]);
    assert!(pair.conversation.ended().is_some() && pair.conversation.gave_all_back());
}

#[test]
fn a_peer_that_lets_nobody_in_ends_the_conversation_with_the_reason() {
    let (settings, now) = (settings(), Instant::now());
    let mut silent = Conversation::start(&settings, now).expect("started");
    let mut work = Work::default();
    let later = now + settings.connect_timeout;
    assert!(silent.next_deadline(&work, now).is_some_and(|at| at <= later));
    silent.step(&mut Lent { work: &mut work, settings: &settings, now: later, wall: SystemTime::UNIX_EPOCH });
    assert_eq!(silent.ended().map(|failure| failure.kind), Some(FailureKind::Timeout));
}

#[test]
fn a_silent_peer_ends_the_conversation_when_a_call_runs_out_of_time() {
    let mut pair = Pair::new();
    let (reply, mut answer) = oneshot::channel();
    pair.now += Duration::from_millis(1);
    let job = Job::Peek { from_sequence_number: 0, max_messages: 1, reply };
    let deadline = pair.now + pair.settings.call_timeout;
    let id = pair.work.calls.open(job, deadline, pair.now);
    let mut lent = Lent { work: &mut pair.work, settings: &pair.settings, now: pair.now, wall: SystemTime::UNIX_EPOCH };
    pair.conversation.route(id, &mut lent);
    pair.conversation.step(&mut lent);
    lent.now = deadline;
    pair.conversation.step(&mut lent);
    let error = answer.try_recv().expect("answered").expect_err("too late");
    assert_eq!(error.kind, FailureKind::Timeout);
    assert_eq!(pair.conversation.ended().map(|failure| failure.kind), Some(FailureKind::ConnectionLost));
}
