//! Peers that mean harm or are broken: whatever comes, the engine neither panics nor keeps more than its limits allow.

use std::time::Instant;

use amqp::{Config, Connection, Event};
use proptest::prelude::*;

use crate::conversation;

/// Everything that both sides say in the conversation.
fn recorded() -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    conversation::hold(&mut |piece| {
        pieces.push(piece.to_vec());
        piece.to_vec()
    });
    pieces
}

/// Feeds a connection and acts like an owner who agrees to everything.
fn feed(connection: &mut Connection, bytes: &[u8], now: Instant) {
    connection.receive(bytes, now);
    while let Some(event) = connection.next_event() {
        match event {
            Event::Attach { link, attach, .. } => {
                let _ = connection.accept(link, attach.reply());
                let _ = connection.set_credit(link, 10);
            }
            Event::Delivery { link, delivery } => {
                let _ = connection.settle(link, delivery.id, amqp::DeliveryState::Accepted, true);
            }
            Event::Credit { link, drain: true } => {
                let _ = connection.drained(link);
            }
            Event::Credit { link, .. } => {
                let payload = vec![1; 100_000].into();
                let outgoing = amqp::Outgoing { tag: vec![1; 16].into(), message_format: 0, payload, settled: false };
                let _ = connection.send(link, outgoing);
            }
            Event::Disposition { link, id, state: Some(state), settled: false } => {
                let _ = connection.settle(link, id, state, true);
            }
            _ => {}
        }
    }
    assert!(connection.output_len() < 64 << 20);
    connection.take_output();
}

#[derive(Clone, Debug)]
enum Damage {
    Flip(prop::sample::Index, u8),
    Insert(prop::sample::Index, Vec<u8>),
    Cut(prop::sample::Index, usize),
    Repeat(prop::sample::Index, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Flip(at, byte)),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..20)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        1 => (at(), 1..50usize).prop_map(|(at, len)| Damage::Cut(at, len)),
        1 => (at(), 1..400usize).prop_map(|(at, len)| Damage::Repeat(at, len)),
    ]
}

fn apply(damage: &[Damage], bytes: &mut Vec<u8>) {
    for one in damage {
        if bytes.is_empty() {
            return;
        }
        match one {
            Damage::Flip(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Damage::Insert(at, more) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, more.iter().copied());
            }
            Damage::Cut(at, len) => {
                let at = at.index(bytes.len());
                bytes.drain(at..(at + len).min(bytes.len()));
            }
            Damage::Repeat(at, len) => {
                let at = at.index(bytes.len());
                let again = bytes[at..(at + len).min(bytes.len())].to_vec();
                bytes.splice(at..at, again);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// What either side says, damaged, to either side, in pieces of any size.
    #[test]
    fn a_damaged_conversation_never_panics(
        damage in prop::collection::vec(damage(), 1..6),
        is_server in any::<bool>(),
        chunk in 1..5_000usize,
    ) {
        let mut bytes: Vec<u8> = recorded().into_iter().flatten().collect();
        // Mostly the frames matter, not the large payloads.
        bytes.truncate(20_000);
        apply(&damage, &mut bytes);
        let now = Instant::now();
        let config = if is_server { Config::server("s") } else { Config::client("c", "h") };
        let mut connection = Connection::new(config, now);
        for piece in bytes.chunks(chunk) {
            feed(&mut connection, piece, now);
        }
    }

    #[test]
    fn random_bytes_after_a_login_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let now = Instant::now();
        let mut connection = Connection::new(Config::server("s"), now);
        let login: Vec<Vec<u8>> = recorded().into_iter().take(8).collect();
        for piece in login {
            feed(&mut connection, &piece, now);
        }
        feed(&mut connection, &bytes, now);
    }
}

#[test]
fn a_frame_above_the_agreed_size_ends_the_connection_before_it_is_kept() {
    let now = Instant::now();
    let mut server = Connection::new(Config::server("s"), now);
    server.receive(b"AMQP\x03\x01\x00\x00", now);
    server.receive(&[0x7f, 0xff, 0xff, 0xff, 2, 1, 0, 0], now);
    let Some(Event::Closed { error: Some(error) }) = server.next_event() else { panic!() };
    assert_eq!(error.condition.as_str(), "amqp:connection:framing-error");
}

#[test]
fn unfinished_deliveries_are_limited_over_the_whole_connection() {
    let now = Instant::now();
    let mut config = Config::server("s");
    config.limits.max_partial_bytes = 200_000;
    let mut server = Connection::new(config, now);
    let mut client = Connection::new(Config::client("c", "h"), now);
    let mut links = Vec::new();
    let mut carry = |client: &mut Connection, server: &mut Connection, cut_last_frame: bool| {
        for _ in 0..10 {
            let up = client.take_output();
            let up = if cut_last_frame { without_last_frame(&up) } else { up.to_vec() };
            server.receive(&up, now);
            while let Some(event) = server.next_event() {
                match event {
                    Event::Attach { link, attach, .. } => {
                        server.accept(link, attach.reply()).unwrap();
                        server.set_credit(link, 10).unwrap();
                        links.push(link);
                    }
                    Event::Closed { error } => return error,
                    _ => {}
                }
            }
            let down = server.take_output();
            client.receive(&down, now);
            while client.next_event().is_some() {}
        }
        None
    };
    carry(&mut client, &mut server, false);
    let session = client.begin();
    let outbound: Vec<_> = (0..10)
        .map(|n| client.attach(session, amqp::Attach::sender(format!("l{n}"), "here", "queue")).unwrap())
        .collect();
    carry(&mut client, &mut server, false);
    let error = outbound.into_iter().find_map(|link| {
        let payload = vec![0; 150_000].into();
        let outgoing = amqp::Outgoing { tag: vec![1].into(), message_format: 0, payload, settled: false };
        client.send(link, outgoing).unwrap();
        carry(&mut client, &mut server, true)
    });
    assert_eq!(error.unwrap().condition.as_str(), "amqp:resource-limit-exceeded");
}

fn without_last_frame(bytes: &[u8]) -> Vec<u8> {
    let (mut at, mut last) = (0, 0);
    while at < bytes.len() {
        last = at;
        at += u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    }
    bytes[..last].to_vec()
}
