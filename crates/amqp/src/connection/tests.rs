//! Two connections, client and server, wired to each other without a socket, in made-up time.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use crate::delivery::DeliveryState;
use crate::performative::{Attach, Transfer};
use crate::value::{Map, Value};

/// A client and a server, and the wire between them.
struct Pair {
    client: Connection,
    server: Connection,
    now: Instant,
    /// Cuts the stream into pieces of this size, to try every split of frames.
    chunk: usize,
}

impl Pair {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            client: Connection::new(Config::client("client", "localhost"), now),
            server: Connection::new(Config::server("server"), now),
            now,
            chunk: usize::MAX,
        }
    }

    fn opened() -> Self {
        let mut pair = Self::new();
        let (client, server) = pair.run();
        assert_eq!((client, server), (vec![Event::Opened], vec![Event::Opened]));
        pair
    }

    /// Carries bytes until both are quiet; returns what happened at the client and at the server.
    fn run(&mut self) -> (Vec<Event>, Vec<Event>) {
        loop {
            let (up, down) = (self.client.take_output(), self.server.take_output());
            if up.is_empty() && down.is_empty() {
                break;
            }
            up.chunks(self.chunk.min(up.len().max(1))).for_each(|bytes| self.server.receive(bytes, self.now));
            down.chunks(self.chunk.min(down.len().max(1))).for_each(|bytes| self.client.receive(bytes, self.now));
        }
        (events(&mut self.client), events(&mut self.server))
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        while self.client.next_deadline().is_some_and(|at| at <= self.now) {
            self.client.on_deadline(self.now);
        }
        while self.server.next_deadline().is_some_and(|at| at <= self.now) {
            self.server.on_deadline(self.now);
        }
    }

    /// A link on which the client receives and the server sends. Returns both ends' names for it.
    fn receiver_link(&mut self) -> (LinkId, LinkId) {
        let session = self.client.begin();
        self.link(session, Attach::receiver("in", "queue", "here"))
    }

    fn sender_link(&mut self) -> (LinkId, LinkId) {
        let session = self.client.begin();
        self.link(session, Attach::sender("out", "here", "queue"))
    }

    fn link(&mut self, session: SessionId, attach: Attach) -> (LinkId, LinkId) {
        let ours = self.client.attach(session, attach).unwrap();
        let (_, at_server) = self.run();
        let [Event::Attach { link: theirs, attach, .. }] = &at_server[..] else { panic!("{at_server:?}") };
        self.server.accept(*theirs, attach.reply()).unwrap();
        let (at_client, _) = self.run();
        assert!(matches!(&at_client[..], [Event::Attached { link, .. }] if *link == ours), "{at_client:?}");
        (ours, *theirs)
    }
}

fn events(connection: &mut Connection) -> Vec<Event> {
    std::iter::from_fn(|| connection.next_event()).collect()
}

fn outgoing(tag: u8, payload: impl Into<Bytes>) -> Outgoing {
    Outgoing { tag: Bytes::copy_from_slice(&[tag; 16]), message_format: 0, payload: payload.into(), settled: false }
}

fn deliveries(events: &[Event]) -> Vec<Incoming> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Delivery { delivery, .. } => Some(delivery.clone()),
            _ => None,
        })
        .collect()
}

#[test]
fn opens_whatever_way_the_stream_is_cut() {
    for chunk in [1, 3, 7, usize::MAX] {
        let mut pair = Pair { chunk, ..Pair::new() };
        let (client, server) = pair.run();
        assert_eq!((client, server), (vec![Event::Opened], vec![Event::Opened]), "chunk {chunk}");
        assert_eq!(pair.server.peer().unwrap().hostname.as_deref(), Some("localhost"));
        assert_eq!(pair.client.peer().unwrap().container_id, "server");
    }
}

#[test]
fn what_the_peer_says_of_itself_is_kept_without_its_properties() {
    let mut pair = Pair::new();
    let nulls = Value::List(vec![Value::Null; 10_000]);
    pair.client.config.properties = Map::from([("product", nulls)]);
    pair.run();
    let open = pair.server.peer().unwrap();
    assert_eq!((open.container_id.as_str(), &open.properties), ("client", &Map::default()));
}

#[test]
fn a_server_keeps_its_amqp_header_back_until_the_client_has_sent_its_own() {
    let now = Instant::now();
    let mut server = Connection::new(Config::server("server"), now);
    let mut login = frame::SASL_HEADER.to_vec();
    let mut init = BytesMut::new();
    frame::Sasl::Init { mechanism: "ANONYMOUS".to_owned() }.put(&mut init);
    login.extend_from_slice(&init);
    server.receive(&login, now);
    let answer = server.take_output();
    assert!(!answer[8..].windows(8).any(|bytes| bytes == frame::AMQP_HEADER), "{answer:?}");
    server.receive(&frame::AMQP_HEADER, now);
    assert_eq!(&server.take_output()[..], frame::AMQP_HEADER);
}

#[test]
fn a_delivery_arrives_and_its_outcome_comes_back_and_is_confirmed() {
    let mut pair = Pair::opened();
    let (ours, theirs) = pair.receiver_link();
    assert_eq!(pair.server.send(theirs, outgoing(1, "x")), Err(SendError::NoCredit));
    pair.client.set_credit(ours, 2).unwrap();
    let (_, at_server) = pair.run();
    assert_eq!(at_server, [Event::Credit { link: theirs, drain: false }]);
    assert_eq!(pair.server.sendable(theirs), 2);

    let sent = pair.server.send(theirs, outgoing(1, "hello")).unwrap();
    let (at_client, _) = pair.run();
    let [delivery] = &deliveries(&at_client)[..] else { panic!("{at_client:?}") };
    assert_eq!((&delivery.payload[..], &delivery.tag[..], delivery.settled), (&b"hello"[..], &[1u8; 16][..], false));
    assert_eq!((pair.server.sendable(theirs), pair.client.credit(ours)), (1, 1));

    pair.client.settle(ours, delivery.id, DeliveryState::Accepted, false).unwrap();
    let (_, at_server) = pair.run();
    let state = Some(DeliveryState::Accepted);
    assert_eq!(at_server, [Event::Disposition { link: theirs, id: sent, state: state.clone(), settled: false }]);
    pair.server.settle(theirs, sent, DeliveryState::Accepted, true).unwrap();
    let (at_client, _) = pair.run();
    assert_eq!(at_client, [Event::Disposition { link: ours, id: delivery.id, state, settled: true }]);
    assert_eq!(pair.client.settle(ours, delivery.id, DeliveryState::Accepted, true), Err(Gone));
    assert_eq!(pair.server.settle(theirs, sent, DeliveryState::Accepted, true), Err(Gone));
}

#[test]
fn a_large_delivery_goes_in_many_frames_and_arrives_whole() {
    let mut pair = Pair::opened();
    let (ours, theirs) = pair.sender_link();
    pair.server.set_credit(theirs, 1).unwrap();
    pair.run();
    let payload: Bytes = (0..300_000u32).map(|n| n as u8).collect::<Vec<u8>>().into();
    pair.client.send(ours, outgoing(1, payload.clone())).unwrap();
    let (_, at_server) = pair.run();
    assert_eq!(deliveries(&at_server)[0].payload, payload);
}

#[test]
fn a_delivery_above_the_limit_is_dropped_but_can_be_rejected() {
    let mut pair = Pair::opened();
    pair.server.config.limits.max_message_bytes = 100_000;
    let (ours, theirs) = pair.sender_link();
    pair.server.set_credit(theirs, 2).unwrap();
    pair.run();
    let id = pair.client.send(ours, outgoing(1, vec![0; 100_001])).unwrap();
    pair.client.send(ours, outgoing(2, vec![0; 100_000])).unwrap();
    let (_, at_server) = pair.run();
    let [Event::Oversized { id: dropped, settled: false, .. }, Event::Delivery { .. }] = &at_server[..] else {
        panic!("{at_server:?}")
    };
    let error = AmqpError::new("amqp:link:message-size-exceeded", "too big");
    pair.server.settle(theirs, *dropped, DeliveryState::Rejected(Some(error.clone())), true).unwrap();
    let (at_client, _) = pair.run();
    let state = Some(DeliveryState::Rejected(Some(error)));
    assert_eq!(at_client, [Event::Disposition { link: ours, id, state, settled: true }]);
    assert_eq!(pair.server.partial_bytes, 0);
}

#[test]
fn a_shut_session_window_holds_transfers_back_until_it_opens() {
    let mut pair = Pair::opened();
    let (ours, theirs) = pair.receiver_link();
    pair.client.set_credit(ours, 20_000).unwrap();
    pair.run();
    let mut sent = 0;
    while pair.server.sendable(theirs) > 0 {
        pair.server.send(theirs, outgoing(1, "x")).unwrap();
        sent += 1;
    }
    assert_eq!(sent, 5_000, "the window the client gave");
    let (at_client, at_server) = pair.run();
    assert_eq!(deliveries(&at_client).len(), 5_000);
    assert_eq!(at_server, [Event::Credit { link: theirs, drain: false }]);
    assert_eq!(pair.server.sendable(theirs), 15_000);
}

#[test]
fn draining_uses_up_the_credit_and_is_answered() {
    let mut pair = Pair::opened();
    let (ours, theirs) = pair.receiver_link();
    pair.client.set_credit(ours, 10).unwrap();
    pair.run();
    pair.client.drain(ours).unwrap();
    let (_, at_server) = pair.run();
    assert_eq!(at_server, [Event::Credit { link: theirs, drain: true }]);
    pair.server.send(theirs, outgoing(1, "last")).unwrap();
    pair.server.drained(theirs).unwrap();
    let (at_client, _) = pair.run();
    assert_eq!(deliveries(&at_client).len(), 1);
    assert_eq!(at_client.last(), Some(&Event::Drained { link: ours }));
    assert_eq!((pair.client.credit(ours), pair.server.sendable(theirs)), (0, 0));
    pair.client.set_credit(ours, 1).unwrap();
    pair.run();
    assert_eq!(pair.server.sendable(theirs), 1);
}

#[test]
fn a_restated_flow_neither_adds_nor_takes_credit() {
    let mut pair = Pair::opened();
    let (ours, theirs) = pair.receiver_link();
    pair.client.set_credit(ours, 3).unwrap();
    pair.run();
    pair.server.send(theirs, outgoing(1, "x")).unwrap();
    // Restated before the delivery has arrived: two more may come, not three.
    pair.client.write_link_flow(ours, false);
    pair.run();
    assert_eq!((pair.server.sendable(theirs), pair.client.credit(ours)), (2, 2));
}

#[test]
fn a_refusal_comes_in_one_piece_and_reaches_the_asker_as_a_detach() {
    let mut pair = Pair::opened();
    let session = pair.client.begin();
    let ours = pair.client.attach(session, Attach::receiver("in", "nowhere", "here")).unwrap();
    let (_, at_server) = pair.run();
    let [Event::Attach { link: theirs, .. }] = &at_server[..] else { panic!("{at_server:?}") };
    let error = AmqpError::new("amqp:not-found", "no such queue");
    pair.server.refuse(*theirs, error.clone()).unwrap();
    let (at_client, at_server) = pair.run();
    assert_eq!(at_client, [Event::Detached { link: ours, closed: true, error: Some(error) }]);
    assert_eq!(at_server, [Event::Detached { link: *theirs, closed: true, error: None }]);
    assert_eq!(pair.client.links.len() + pair.server.links.len(), 0);
}

#[test]
fn credit_granted_before_the_answer_counts_after_it() {
    let mut pair = Pair::opened();
    let session = pair.client.begin();
    let ours = pair.client.attach(session, Attach::receiver("in", "queue", "here")).unwrap();
    // As some clients do: attach and flow in one write.
    pair.client.write_on(
        session,
        &Performative::Flow(Flow { handle: Some(0), link_credit: Some(5), ..Flow::default() }),
        &[],
    );
    let (_, at_server) = pair.run();
    let [Event::Attach { link: theirs, attach, .. }] = &at_server[..] else { panic!("{at_server:?}") };
    pair.server.accept(*theirs, attach.reply()).unwrap();
    let (_, at_server) = pair.run();
    assert_eq!(at_server, [Event::Credit { link: *theirs, drain: false }]);
    assert_eq!(pair.server.credit(*theirs), 5);
    assert!(pair.client.links.contains_key(&ours));
}

#[test]
fn a_link_that_ends_takes_its_deliveries_with_it() {
    let mut pair = Pair::opened();
    let (ours, theirs) = pair.receiver_link();
    pair.client.set_credit(ours, 5).unwrap();
    pair.run();
    let sent = pair.server.send(theirs, outgoing(1, "x")).unwrap();
    pair.run();
    pair.client.detach(ours, None).unwrap();
    let (at_client, at_server) = pair.run();
    assert_eq!(at_client, [Event::Detached { link: ours, closed: true, error: None }]);
    assert_eq!(at_server, [Event::Detached { link: theirs, closed: true, error: None }]);
    assert_eq!(pair.server.settle(theirs, sent, DeliveryState::Accepted, true), Err(Gone));
    assert_eq!(pair.server.send(theirs, outgoing(2, "x")), Err(SendError::Gone));
    assert_eq!(pair.client.detach(ours, None), Err(Gone));
}

#[test]
fn the_end_of_a_session_ends_its_links() {
    let mut pair = Pair::opened();
    let session = pair.client.begin();
    let (ours, theirs) = pair.link(session, Attach::receiver("in", "queue", "here"));
    pair.client.end(session, None).unwrap();
    let (at_client, at_server) = pair.run();
    assert!(matches!(at_server[..], [Event::Detached { link, .. }, Event::Ended { .. }] if link == theirs));
    assert!(matches!(at_client[..], [Event::Detached { link, .. }, Event::Ended { .. }] if link == ours));
    assert_eq!(pair.client.attach(session, Attach::receiver("a", "b", "c")), Err(Gone));
    // The channel can be used again.
    let again = pair.client.begin();
    pair.link(again, Attach::receiver("in", "queue", "here"));
}

#[test]
fn more_deliveries_than_credit_cost_the_link() {
    let mut pair = Pair::opened();
    let (ours, theirs) = pair.sender_link();
    pair.server.set_credit(theirs, 1).unwrap();
    pair.run();
    pair.client.links.get_mut(&ours).unwrap().credit = 2;
    pair.client.send(ours, outgoing(1, "x")).unwrap();
    pair.client.send(ours, outgoing(2, "x")).unwrap();
    let (at_client, at_server) = pair.run();
    assert_eq!(deliveries(&at_server).len(), 1);
    let [Event::Detached { error: Some(error), .. }] = &at_client[..] else { panic!("{at_client:?}") };
    assert_eq!(error.condition.as_str(), "amqp:link:transfer-limit-exceeded");
}

#[test]
fn a_disposition_over_the_whole_number_space_touches_only_what_is_known() {
    let mut pair = Pair::opened();
    let (ours, theirs) = pair.receiver_link();
    pair.client.set_credit(ours, 3).unwrap();
    pair.run();
    let sent: Vec<DeliveryId> = (0..3).map(|tag| pair.server.send(theirs, outgoing(tag, "x")).unwrap()).collect();
    pair.run();
    let wide = crate::performative::Disposition {
        role: crate::performative::Role::Receiver,
        first: 0,
        last: Some(u32::MAX),
        settled: true,
        state: Some(DeliveryState::Released),
    };
    let session = pair.client.links[&ours].session;
    pair.client.write_on(session, &Performative::Disposition(wide), &[]);
    let (_, at_server) = pair.run();
    let ids: Vec<DeliveryId> = at_server
        .iter()
        .map(|event| match event {
            Event::Disposition { id, settled: true, state: Some(DeliveryState::Released), .. } => *id,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ids, sent);
}

#[test]
fn silence_is_filled_with_heartbeats_and_a_dead_peer_is_given_up() {
    let mut pair = Pair::opened();
    // The client asks for a frame a minute, the server for one in four minutes.
    for _ in 0..40 {
        pair.pass(Duration::from_secs(15));
        pair.run();
    }
    assert!(!pair.client.is_closed() && !pair.server.is_closed());
    // Nothing is carried any more.
    pair.pass(Duration::from_secs(121));
    assert!(pair.client.is_closed(), "twice the minute it asked for");
    let Some(Event::Closed { error: Some(error) }) = pair.client.next_event() else { panic!() };
    assert_eq!(error.condition.as_str(), "amqp:resource-limit-exceeded");
    assert!(!pair.server.is_closed());
}

#[test]
fn a_handshake_that_stands_still_is_given_up() {
    let now = Instant::now();
    let mut server = Connection::new(Config::server("server"), now);
    server.receive(b"AMQP", now);
    assert_eq!(server.next_deadline(), Some(now + Duration::from_secs(20)));
    server.on_deadline(now + Duration::from_secs(20));
    assert!(server.is_closed());
}

#[test]
fn close_is_answered_and_both_end() {
    let mut pair = Pair::opened();
    pair.receiver_link();
    let error = AmqpError::new("amqp:connection:forced", "shutting down");
    pair.server.close(Some(error.clone()), pair.now);
    let (at_client, at_server) = pair.run();
    assert_eq!(at_client, [Event::Closed { error: Some(error) }]);
    assert_eq!(at_server, [Event::Closed { error: None }]);
    assert!(pair.client.is_closed() && pair.server.is_closed());
    assert_eq!((pair.client.next_deadline(), pair.server.next_deadline()), (None, None));
}

#[test]
fn a_close_that_nobody_answers_ends_after_five_seconds() {
    let mut pair = Pair::opened();
    pair.client.close(None, pair.now);
    assert!(!pair.client.is_closed());
    pair.pass(Duration::from_secs(5));
    assert!(pair.client.is_closed());
}

#[test]
fn the_wrong_protocol_is_answered_with_the_right_header() {
    let now = Instant::now();
    let mut server = Connection::new(Config::server("server"), now);
    server.receive(b"GET / HTTP/1.1\r\n\r\n", now);
    assert!(server.is_closed());
    assert_eq!(&server.take_output()[..], frame::SASL_HEADER);
}

#[test]
fn too_many_links_are_refused_one_by_one() {
    let mut pair = Pair::opened();
    pair.server.config.limits.max_links = 2;
    let session = pair.client.begin();
    pair.link(session, Attach::receiver("a", "queue", "here"));
    pair.link(session, Attach::receiver("b", "queue", "here"));
    let third = pair.client.attach(session, Attach::receiver("c", "queue", "here")).unwrap();
    let (at_client, _) = pair.run();
    let [Event::Detached { link, error: Some(error), .. }] = &at_client[..] else { panic!("{at_client:?}") };
    assert_eq!((*link, error.condition.as_str()), (third, "amqp:resource-limit-exceeded"));
    assert_eq!(pair.server.links.len(), 2);
}

#[test]
fn a_link_to_a_transaction_coordinator_says_so() {
    let mut pair = Pair::opened();
    let session = pair.client.begin();
    let asked = Attach { coordinator: true, target: None, ..Attach::sender("transactions", "here", "") };
    pair.client.attach(session, asked.clone()).unwrap();
    let (_, at_server) = pair.run();
    let [Event::Attach { attach, .. }] = &at_server[..] else { panic!("{at_server:?}") };
    assert_eq!(**attach, asked);
}

#[test]
fn a_peer_that_never_answers_detaches_is_cut_off() {
    let mut pair = Pair::opened();
    pair.server.config.limits.max_links = 10;
    let session = pair.client.begin();
    pair.run();
    for handle in 0..1_000 {
        let attach = Attach::receiver(format!("link-{handle}"), "nowhere", "here");
        pair.client.write_on(session, &Performative::Attach(Box::new((handle, attach))), &[]);
        let up = pair.client.take_output();
        pair.server.receive(&up, pair.now);
        for event in events(&mut pair.server) {
            if let Event::Attach { link, .. } = event {
                pair.server.refuse(link, AmqpError::new("amqp:not-found", "no such queue")).unwrap();
            }
        }
        assert!(pair.server.links.len() <= 20, "{} links are kept", pair.server.links.len());
        if pair.server.is_closed() {
            return;
        }
    }
    panic!("still open");
}

#[test]
fn a_delivery_tag_has_32_bytes_at_most() {
    let mut pair = Pair::opened();
    let (ours, theirs) = pair.sender_link();
    pair.server.set_credit(theirs, 2).unwrap();
    pair.run();
    let tagged = |length: usize| Outgoing { tag: vec![7; length].into(), ..outgoing(1, "x") };
    pair.client.send(ours, tagged(32)).unwrap();
    let (_, at_server) = pair.run();
    assert_eq!(deliveries(&at_server).len(), 1);
    pair.client.send(ours, tagged(33)).unwrap();
    let (at_client, _) = pair.run();
    let Some(Event::Closed { error: Some(error) }) = at_client.last() else { panic!("{at_client:?}") };
    assert_eq!(error.condition.as_str(), "amqp:invalid-field");
}

#[test]
fn a_channel_above_the_highest_we_take_ends_the_connection() {
    for (channel, is_taken) in [(7, true), (8, false)] {
        let mut pair = Pair::opened();
        pair.server.config.channel_max = 7;
        pair.client.next_channel = channel;
        pair.client.begin();
        let (at_client, _) = pair.run();
        assert_eq!(pair.server.is_closed(), !is_taken, "channel {channel}");
        if !is_taken {
            let [Event::Closed { error: Some(error) }] = &at_client[..] else { panic!("{at_client:?}") };
            assert_eq!(error.condition.as_str(), "amqp:connection:framing-error");
        }
    }
}

#[test]
fn an_aborted_delivery_gives_its_credit_back() {
    let mut pair = Pair::opened();
    let (ours, theirs) = pair.sender_link();
    pair.server.set_credit(theirs, 1).unwrap();
    pair.run();
    let session = pair.client.links[&ours].session;
    for id in 0..3 {
        assert_eq!(pair.client.sendable(ours), 1, "before delivery {id}");
        let state = pair.client.links.get_mut(&ours).unwrap();
        (state.credit, state.delivery_count) = (state.credit - 1, state.delivery_count + 1);
        let first = Transfer {
            handle: state.handle,
            delivery_id: Some(id),
            delivery_tag: Some(Bytes::from_static(b"t")),
            message_format: Some(0),
            settled: Some(false),
            more: true,
            aborted: false,
        };
        let abort = Transfer { delivery_id: None, delivery_tag: None, more: false, aborted: true, ..first.clone() };
        pair.client.transfer(session, first, Bytes::from_static(b"half"));
        pair.client.transfer(session, abort, Bytes::new());
        let (_, at_server) = pair.run();
        assert_eq!(at_server, []);
        assert_eq!((pair.server.partial_bytes, pair.server.credit(theirs)), (0, 1));
    }
}

#[test]
fn a_sender_that_counts_less_than_came_loses_no_credit() {
    let mut pair = Pair::opened();
    let (ours, theirs) = pair.sender_link();
    pair.server.set_credit(theirs, 5).unwrap();
    pair.run();
    pair.client.send(ours, outgoing(1, "x")).unwrap();
    pair.client.links.get_mut(&ours).unwrap().delivery_count = 0;
    pair.client.write_link_flow(ours, false);
    pair.run();
    assert_eq!(pair.server.credit(theirs), 4);
}

#[test]
fn what_comes_on_a_session_that_was_ended_for_an_error_is_passed_over() {
    let mut pair = Pair::opened();
    let session = pair.client.begin();
    let (ours, theirs) = pair.link(session, Attach::sender("out", "here", "queue"));
    let other = pair.client.begin();
    let (others, _) = pair.link(other, Attach::receiver("in", "queue", "here"));
    // A transfer on a handle that is not attached, and more on its way behind it.
    let wrong = Transfer {
        handle: 99,
        delivery_id: Some(0),
        delivery_tag: Some(Bytes::from_static(b"t")),
        message_format: Some(0),
        settled: Some(true),
        more: false,
        aborted: false,
    };
    pair.client.write_on(session, &Performative::Transfer(wrong.clone()), b"x");
    pair.client.write_on(session, &Performative::Transfer(wrong), b"x");
    pair.client.attach(session, Attach::receiver("late", "queue", "here")).unwrap();
    let (at_client, at_server) = pair.run();
    let [Event::Detached { link, .. }, Event::Ended { error: Some(error), .. }] = &at_server[..] else {
        panic!("{at_server:?}")
    };
    assert_eq!((*link, error.condition.as_str()), (theirs, "amqp:session:unattached-handle"));
    assert!(at_client.iter().any(|event| matches!(event, Event::Detached { link, .. } if *link == ours)));
    assert!(!pair.server.is_closed() && pair.client.links.contains_key(&others), "the other session lives");
    assert_eq!((pair.server.sessions.len(), pair.server.channels.len()), (1, 1));
    let again = pair.client.begin();
    pair.link(again, Attach::receiver("in", "queue", "here"));
}

#[test]
fn a_second_open_ends_the_connection() {
    let mut pair = Pair::opened();
    pair.client.write_own_open();
    let (at_client, _) = pair.run();
    let [Event::Closed { error: Some(error) }] = &at_client[..] else { panic!("{at_client:?}") };
    assert_eq!(error.condition.as_str(), "amqp:illegal-state");
}

#[test]
fn a_state_for_many_deliveries_is_kept_once() {
    let mut pair = Pair::opened();
    let (ours, theirs) = pair.receiver_link();
    pair.client.set_credit(ours, 1_000).unwrap();
    pair.run();
    for _ in 0..1_000 {
        pair.server.send(theirs, outgoing(1, "x")).unwrap();
    }
    pair.run();
    let annotations = Map::from([("key", Value::from(Bytes::from(vec![1; 1_000])))]);
    let state = DeliveryState::Modified {
        delivery_failed: None,
        undeliverable_here: None,
        message_annotations: Some(annotations),
    };
    let disposition = crate::performative::Disposition {
        role: crate::performative::Role::Receiver,
        first: 0,
        last: Some(999),
        settled: true,
        state: Some(state.clone()),
    };
    let session = pair.client.links[&ours].session;
    pair.client.write_on(session, &Performative::Disposition(disposition), &[]);
    let up = pair.client.take_output();
    pair.server.receive(&up, pair.now);
    assert_eq!(pair.server.events.len(), 1, "the thousand events are made one by one, as they are taken");
    let told = events(&mut pair.server);
    assert_eq!(told.len(), 1_000);
    for (index, event) in told.into_iter().enumerate() {
        let id = DeliveryId(index as u32);
        assert_eq!(event, Event::Disposition { link: theirs, id, state: Some(state.clone()), settled: true });
    }
}
