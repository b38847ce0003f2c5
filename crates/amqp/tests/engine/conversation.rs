//! One conversation that uses every performative, between a client and a server engine, with anything on the wire
//! between them that the caller likes.

use std::time::Instant;

use amqp::{AmqpError, Attach, Config, Connection, DeliveryId, DeliveryState, Event, LinkId, Map, Outgoing, Value};
use bytes::Bytes;

/// What the server and the client are to say of the deliveries, in order.
const STATES: usize = 5;

fn states() -> [DeliveryState; STATES] {
    [
        DeliveryState::Accepted,
        DeliveryState::Released,
        DeliveryState::Rejected(Some(AmqpError {
            info: Some(Map::from([(Value::symbol("DeadLetterReason"), "bad")])),
            ..AmqpError::new("com.microsoft:dead-letter", "why")
        })),
        DeliveryState::Modified {
            delivery_failed: Some(true),
            undeliverable_here: Some(false),
            message_annotations: Some(Map::from([(Value::symbol("k"), 7i64)])),
        },
        DeliveryState::Rejected(None),
    ]
}

struct Talk<'a> {
    client: Connection,
    server: Connection,
    now: Instant,
    /// Gets every piece that is written, and returns what arrives.
    wire: &'a mut dyn FnMut(&[u8]) -> Vec<u8>,
}

impl Talk<'_> {
    fn run(&mut self) -> (Vec<Event>, Vec<Event>) {
        loop {
            let (up, down) = (self.client.take_output(), self.server.take_output());
            if up.is_empty() && down.is_empty() {
                break;
            }
            let (up, down) = ((self.wire)(&up), (self.wire)(&down));
            self.server.receive(&up, self.now);
            self.client.receive(&down, self.now);
        }
        let client = std::iter::from_fn(|| self.client.next_event()).collect();
        let server = std::iter::from_fn(|| self.server.next_event()).collect();
        (client, server)
    }

    /// A link that the client asks for and the server accepts.
    fn link(&mut self, session: amqp::SessionId, attach: Attach) -> (LinkId, LinkId, Attach, Attach) {
        let ours = self.client.attach(session, attach).unwrap();
        let (_, at_server) = self.run();
        let [Event::Attach { link: theirs, attach: asked, .. }] = &at_server[..] else { panic!("{at_server:?}") };
        let reply = Attach { max_message_size: Some(262_144), ..asked.reply() };
        self.server.accept(*theirs, reply).unwrap();
        let (at_client, _) = self.run();
        let [Event::Attached { attach: answer, .. }] = &at_client[..] else { panic!("{at_client:?}") };
        (ours, *theirs, (**asked).clone(), (**answer).clone())
    }
}

/// Holds the conversation; panics where it does not go as it should.
pub(crate) fn hold(wire: &mut dyn FnMut(&[u8]) -> Vec<u8>) {
    let now = Instant::now();
    let mut talk = Talk {
        client: Connection::new(Config::client("client", "localhost"), now),
        server: Connection::new(Config::server("server"), now),
        now,
        wire,
    };
    assert_eq!(talk.run(), (vec![Event::Opened], vec![Event::Opened]));

    // Attach in both directions, with what Service Bus clients put in.
    let session = talk.client.begin();
    let filter = Map::from([(Value::symbol("com.microsoft:session-filter"), "s1")]);
    let mut asked = Attach::receiver("in", "queue", "here");
    if let Some(source) = &mut asked.source {
        source.filter = Some(filter.clone());
    }
    asked.snd_settle_mode = Some(0);
    asked.rcv_settle_mode = Some(1);
    asked.properties = Some(Map::from([(Value::symbol("com.microsoft:timeout"), 60_000u32)]));
    let (inbound, outbound, seen, answer) = talk.link(session, asked.clone());
    assert_eq!(seen.properties, asked.properties);
    assert_eq!(seen.source.as_ref().and_then(|source| source.filter.clone()), Some(filter));
    assert_eq!((seen.snd_settle_mode, seen.rcv_settle_mode), (Some(0), Some(1)));
    assert_eq!(answer.max_message_size, Some(262_144));
    assert_eq!(answer.source.and_then(|source| source.address).as_deref(), Some("queue"));
    let (sender, receiver, ..) = talk.link(session, Attach::sender("out", "here", "queue"));

    // Deliveries to the client, one with each state.
    talk.client.set_credit(inbound, STATES as u32 + 3).unwrap();
    talk.run();
    for index in 0..STATES {
        let payload: Bytes = vec![index as u8; 1 + index * 40_000].into();
        let tag = Bytes::copy_from_slice(&[index as u8; 16]);
        talk.server.send(outbound, Outgoing { tag, message_format: 0, payload, settled: false }).unwrap();
    }
    let (at_client, _) = talk.run();
    let got: Vec<DeliveryId> = at_client
        .iter()
        .enumerate()
        .map(|(index, event)| match event {
            Event::Delivery { delivery, .. } => {
                assert_eq!(delivery.payload, vec![index as u8; 1 + index * 40_000]);
                assert_eq!(delivery.tag, [index as u8; 16][..]);
                delivery.id
            }
            other => panic!("{other:?}"),
        })
        .collect();
    for (id, state) in got.into_iter().zip(states()) {
        talk.client.settle(inbound, id, state, false).unwrap();
    }
    let (_, at_server) = talk.run();
    let told: Vec<DeliveryState> = at_server
        .into_iter()
        .map(|event| match event {
            Event::Disposition { link, id, state: Some(state), settled: false } => {
                talk.server.settle(link, id, state.clone(), true).unwrap();
                state
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, states());
    let (at_client, _) = talk.run();
    assert_eq!(at_client.len(), STATES);
    assert!(at_client.iter().all(|event| matches!(event, Event::Disposition { settled: true, .. })));

    // Draining what is left of the credit.
    talk.client.drain(inbound).unwrap();
    talk.run();
    talk.server.drained(outbound).unwrap();
    let (at_client, _) = talk.run();
    assert_eq!(at_client, [Event::Drained { link: inbound }]);

    // A delivery to the server.
    talk.server.set_credit(receiver, 1).unwrap();
    talk.run();
    let outgoing = Outgoing {
        tag: Bytes::from_static(b"t"),
        message_format: 0x8001_3700,
        payload: Bytes::from_static(b"batch"),
        settled: false,
    };
    talk.client.send(sender, outgoing).unwrap();
    let (_, at_server) = talk.run();
    let [Event::Delivery { delivery, .. }] = &at_server[..] else { panic!("{at_server:?}") };
    assert_eq!((delivery.message_format, &delivery.payload[..]), (0x8001_3700, &b"batch"[..]));
    talk.server.settle(receiver, delivery.id, DeliveryState::Accepted, true).unwrap();
    let (at_client, _) = talk.run();
    assert!(matches!(&at_client[..], [Event::Disposition { settled: true, .. }]), "{at_client:?}");

    // A refusal, a detach with an error, the end of the session, the close.
    let refused = talk.client.attach(session, Attach::receiver("no", "nowhere", "here")).unwrap();
    let (_, at_server) = talk.run();
    let [Event::Attach { link, .. }] = &at_server[..] else { panic!("{at_server:?}") };
    let error = AmqpError::new("amqp:not-found", "no such queue");
    talk.server.refuse(*link, error.clone()).unwrap();
    let (at_client, _) = talk.run();
    assert_eq!(at_client, [Event::Detached { link: refused, closed: true, error: Some(error) }]);
    let error = AmqpError::new("amqp:link:detach-forced", "idle");
    talk.server.detach(outbound, Some(error.clone())).unwrap();
    let (at_client, _) = talk.run();
    assert_eq!(at_client, [Event::Detached { link: inbound, closed: true, error: Some(error) }]);
    talk.client.end(session, None).unwrap();
    let (at_client, at_server) = talk.run();
    assert!(matches!(at_client.last(), Some(Event::Ended { error: None, .. })), "{at_client:?}");
    assert!(matches!(at_server.last(), Some(Event::Ended { error: None, .. })), "{at_server:?}");
    talk.client.close(None, now);
    let (at_client, at_server) = talk.run();
    assert_eq!((at_client, at_server), (vec![Event::Closed { error: None }], vec![Event::Closed { error: None }]));
}

#[test]
fn goes_as_it_should() {
    hold(&mut <[u8]>::to_vec);
}
