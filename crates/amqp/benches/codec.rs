//! The codec's hot paths beside the two codec crates that could have done the work, in the same run.
//!
//! `cargo bench -p amqp`. A frame with a transfer, as the broker reads and writes one for each message.

use std::hint::black_box;
use std::time::Instant;

use amqp::{Body, Config, Connection, Event, Map, Message, Outgoing, Properties, Value};
use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ramqp_core::codec::{from_slice, to_vec};

/// A transfer as a performative value: handle, delivery-id, tag, format, settled, more and five nulls or flags.
fn transfer() -> Value {
    let tag = Value::Binary(Bytes::from_static(&[7; 16]));
    let fields = vec![
        Value::Uint(3),
        Value::Uint(70_000),
        tag,
        Value::Uint(0),
        Value::Bool(false),
        Value::Bool(false),
        Value::Null,
        Value::Null,
        Value::Bool(false),
        Value::Bool(false),
        Value::Bool(false),
    ];
    Value::described(0x14, Value::List(fields))
}

fn values(c: &mut Criterion) {
    let ours = transfer();
    let mut encoded = BytesMut::new();
    ours.encode(&mut encoded);
    let theirs: ramqp_core::codec::Value = from_slice(&encoded).expect("ramqp-core reads our encoding");
    let serde: serde_amqp::Value = serde_amqp::from_slice(&encoded).expect("serde_amqp reads our encoding");

    let mut group = c.benchmark_group("transfer as a value");
    group.bench_function("decode/ours", |b| b.iter(|| Value::decode(black_box(&encoded))));
    group.bench_function("decode/ramqp-core", |b| {
        b.iter(|| from_slice::<ramqp_core::codec::Value>(black_box(&encoded)));
    });
    group.bench_function("decode/serde_amqp", |b| {
        b.iter(|| serde_amqp::from_slice::<serde_amqp::Value>(black_box(&encoded)));
    });
    group.bench_function("encode/ours", |b| {
        b.iter(|| {
            let mut out = BytesMut::with_capacity(128);
            black_box(&ours).encode(&mut out);
            out
        });
    });
    group.bench_function("encode/ramqp-core", |b| b.iter(|| to_vec(black_box(&theirs))));
    group.bench_function("encode/serde_amqp", |b| b.iter(|| serde_amqp::to_vec(black_box(&serde))));
    group.finish();
}

fn messages(c: &mut Criterion) {
    let message = Message {
        properties: Some(Properties {
            message_id: Some(Value::from("0123456789abcdef0123456789abcdef")),
            content_type: Some("application/json".to_owned()),
            ..Properties::default()
        }),
        application_properties: Map::from([("kind", "order"), ("region", "north")]),
        ..Message::with_body(Body::data(vec![b'x'; 1_024]))
    };
    let encoded = message.encode();
    let mut group = c.benchmark_group("message of 1 KiB");
    group.throughput(Throughput::Bytes(encoded.len() as u64));
    group.bench_function("decode", |b| b.iter(|| Message::decode(black_box(&encoded))));
    group.bench_function("encode", |b| b.iter(|| black_box(&message).encode()));
    group.bench_function("copy (baseline)", |b| b.iter(|| black_box(&encoded).to_vec()));
    group.finish();
}

/// One delivery of 1 KiB from one engine to the other, with its settlement and the confirmation.
fn deliveries(c: &mut Criterion) {
    let now = Instant::now();
    let mut client = Connection::new(Config::client("client", "localhost"), now);
    let mut server = Connection::new(Config::server("server"), now);
    let session = client.begin();
    let ours = client.attach(session, amqp::Attach::receiver("in", "queue", "here")).expect("the session is live");
    let mut theirs = None;
    for _ in 0..10 {
        carry(&mut client, &mut server, now);
        while let Some(event) = server.next_event() {
            if let Event::Attach { link, attach, .. } = event {
                server.accept(link, attach.reply()).expect("the link was just offered");
                theirs = Some(link);
            }
        }
        while client.next_event().is_some() {}
    }
    let theirs = theirs.expect("the client asked for a link");
    let payload = Bytes::from(vec![b'x'; 1_024]);
    let mut group = c.benchmark_group("engine");
    group.throughput(Throughput::Elements(1));
    group.bench_function("deliver, settle, confirm", |b| {
        b.iter(|| {
            client.set_credit(ours, 1).expect("the link is attached");
            carry(&mut client, &mut server, now);
            let tag = Bytes::from_static(&[7; 16]);
            let outgoing = Outgoing { tag, message_format: 0, payload: payload.clone(), settled: false };
            server.send(theirs, outgoing).expect("there is credit");
            carry(&mut client, &mut server, now);
            while let Some(event) = client.next_event() {
                if let Event::Delivery { delivery, .. } = event {
                    client.settle(ours, delivery.id, amqp::DeliveryState::Accepted, false).expect("unsettled");
                }
            }
            carry(&mut client, &mut server, now);
            while let Some(event) = server.next_event() {
                if let Event::Disposition { link, id, state: Some(state), .. } = event {
                    server.settle(link, id, state, true).expect("unsettled");
                }
            }
            carry(&mut client, &mut server, now);
            while client.next_event().is_some() {}
        });
    });
    group.finish();
}

fn carry(client: &mut Connection, server: &mut Connection, now: Instant) {
    let up = client.take_output();
    server.receive(&up, now);
    let down = server.take_output();
    client.receive(&down, now);
}

criterion_group!(benches, values, messages, deliveries);
criterion_main!(benches);
