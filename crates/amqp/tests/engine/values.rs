//! Values and messages by properties: they survive the wire, and two codecs that others wrote read and write the same.

use amqp::{Body, DecodeError, Described, Header, MAX_DEPTH, Map, Message, Properties, Symbol, Value};
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

pub(crate) fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::List),
            prop::collection::vec((key(), inner.clone()), 0..5).prop_map(|entries| Value::Map(unique(entries))),
            (descriptor(), inner)
                .prop_map(|(descriptor, value)| Value::Described(Box::new(Described { descriptor, value }))),
            array(),
        ]
    })
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<u8>().prop_map(Value::Ubyte),
        any::<u16>().prop_map(Value::Ushort),
        prop_oneof![Just(0), 0..=256u32, any::<u32>()].prop_map(Value::Uint),
        prop_oneof![Just(0), 0..=256u64, any::<u64>()].prop_map(Value::Ulong),
        any::<i8>().prop_map(Value::Byte),
        any::<i16>().prop_map(Value::Short),
        prop_oneof![-129..=128i32, any::<i32>()].prop_map(Value::Int),
        prop_oneof![-129..=128i64, any::<i64>()].prop_map(Value::Long),
        any::<f32>().prop_map(Value::Float),
        any::<f64>().prop_map(Value::Double),
        any::<[u8; 4]>().prop_map(Value::Decimal32),
        any::<[u8; 8]>().prop_map(Value::Decimal64),
        any::<[u8; 16]>().prop_map(Value::Decimal128),
        any::<char>().prop_map(Value::Char),
        any::<i64>().prop_map(Value::Timestamp),
        any::<[u8; 16]>().prop_map(Value::Uuid),
        binary().prop_map(Value::Binary),
        text().prop_map(Value::String),
        symbol().prop_map(|name| Value::Symbol(Symbol::from(name))),
    ]
}

fn binary() -> impl Strategy<Value = Bytes> {
    prop_oneof![prop::collection::vec(any::<u8>(), 0..40), prop::collection::vec(any::<u8>(), 250..300),]
        .prop_map(Bytes::from)
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), prop::collection::vec(any::<char>(), 250..300).prop_map(String::from_iter)]
}

/// Symbols are ASCII (part 1, section 1.6.21).
fn symbol() -> impl Strategy<Value = String> {
    "[a-z:.-]{0,300}"
}

fn key() -> impl Strategy<Value = Value> {
    prop_oneof![any::<String>().prop_map(Value::String), symbol().prop_map(|name| Value::Symbol(name.into()))]
}

fn descriptor() -> impl Strategy<Value = Value> {
    prop_oneof![any::<u64>().prop_map(Value::Ulong), symbol().prop_map(|name| Value::Symbol(name.into()))]
}

fn array() -> impl Strategy<Value = Value> {
    prop_oneof![
        prop::collection::vec(any::<i64>().prop_map(Value::Long), 1..6),
        prop::collection::vec(any::<[u8; 16]>().prop_map(Value::Uuid), 1..6),
        prop::collection::vec(symbol().prop_map(|name| Value::Symbol(name.into())), 1..6),
        // ASCII, because serde_amqp 0.18 writes the number of characters for the number of bytes in arrays of strings.
        prop::collection::vec("[ -~]{0,300}".prop_map(Value::String), 1..6),
        prop::collection::vec(any::<i64>().prop_map(Value::Timestamp), 1..6),
        prop::collection::vec(any::<bool>().prop_map(Value::Bool), 1..6),
    ]
    .prop_map(Value::Array)
}

/// A map must not hold a key twice (part 1, section 1.6.23); codecs differ in what they make of one that does.
fn unique(entries: Vec<(Value, Value)>) -> Map {
    let mut map = Map::default();
    for (key, value) in entries {
        map.insert(key, value);
    }
    map
}

pub(crate) fn map() -> impl Strategy<Value = Map> {
    prop::collection::vec((key(), value()), 0..4).prop_map(unique)
}

fn message() -> impl Strategy<Value = Message> {
    let header = (any::<Option<bool>>(), any::<Option<u8>>(), any::<Option<u32>>(), any::<Option<u32>>()).prop_map(
        |(durable, priority, ttl_ms, delivery_count)| Header {
            durable,
            priority,
            ttl_ms,
            first_acquirer: None,
            delivery_count,
        },
    );
    let properties = (prop::option::of(text()), any::<Option<i64>>(), prop::option::of(text())).prop_map(
        |(id, absolute_expiry_time, group_id)| Properties {
            message_id: id.map(Value::from),
            absolute_expiry_time,
            group_id,
            content_type: Some("text/plain".to_owned()),
            ..Properties::default()
        },
    );
    let body = prop_oneof![
        Just(Body::empty()),
        binary().prop_map(Body::data),
        prop::collection::vec(binary(), 2..4).prop_map(Body::data_sections_from),
        value().prop_map(|value| Body::value(&value)),
    ];
    (prop::option::of(header), map(), map(), prop::option::of(properties), map(), body, map()).prop_map(
        |(header, delivery_annotations, message_annotations, properties, application_properties, body, footer)| {
            Message {
                header,
                delivery_annotations,
                message_annotations,
                properties,
                application_properties,
                body,
                footer,
            }
        },
    )
}

pub(crate) fn encoded(value: &Value) -> BytesMut {
    let mut out = BytesMut::new();
    value.encode(&mut out);
    out
}

/// Through encoded bytes, so that NaN equals itself.
fn same(a: &Value, b: &Value) -> bool {
    encoded(a) == encoded(b)
}

proptest! {
    #[test]
    fn a_value_survives_the_wire(value in value()) {
        let bytes = encoded(&value);
        let (decoded, taken) = Value::decode(&bytes).unwrap();
        prop_assert_eq!(taken, bytes.len());
        prop_assert!(same(&decoded, &value), "{:?} became {:?}", value, decoded);
    }

    #[test]
    fn a_value_cut_short_is_an_error(value in value(), cut in any::<prop::sample::Index>()) {
        let bytes = encoded(&value);
        prop_assert!(Value::decode(&bytes[..cut.index(bytes.len())]).is_err());
    }

    #[test]
    fn ramqp_core_reads_and_writes_the_same_values(value in value()) {
        let theirs: ramqp_core::codec::Value = ramqp_core::codec::from_slice(&encoded(&value)).unwrap();
        let (back, _) = Value::decode(&ramqp_core::codec::to_vec(&theirs)).unwrap();
        prop_assert!(same(&back, &value), "{:?} became {:?}", value, back);
    }

    #[test]
    fn serde_amqp_reads_and_writes_the_same_values(value in value()) {
        let theirs: serde_amqp::Value = serde_amqp::from_slice(&encoded(&value)).unwrap();
        let (back, _) = Value::decode(&serde_amqp::to_vec(&theirs).unwrap()).unwrap();
        // serde_amqp sorts maps; compare what it makes of both.
        let again: serde_amqp::Value = serde_amqp::from_slice(&encoded(&back)).unwrap();
        prop_assert_eq!(serde_amqp::to_vec(&again).unwrap(), serde_amqp::to_vec(&theirs).unwrap());
    }

    #[test]
    fn a_message_survives_the_wire_and_its_body_byte_for_byte(message in message()) {
        let bytes = message.encode();
        prop_assert_eq!(bytes.len(), message.encoded_len());
        let decoded = Message::decode(&bytes).unwrap();
        prop_assert_eq!(decoded.body.encoded(), message.body.encoded());
        prop_assert_eq!(decoded.encode(), bytes);
    }

    #[test]
    fn random_bytes_are_a_value_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok((value, taken)) = Value::decode(&bytes) {
            prop_assert!(taken <= bytes.len());
            // What can be read can be written and read again.
            prop_assert!(Value::decode(&encoded(&value)).is_ok());
        }
        let _ = Message::decode(&Bytes::from(bytes));
    }
}

#[test]
fn nesting_is_limited_and_the_limit_is_exact() {
    let nested = |depth: u32| (1..depth).fold(Value::List(vec![Value::Null]), |inner, _| Value::List(vec![inner]));
    assert!(Value::decode(&encoded(&nested(MAX_DEPTH))).is_ok());
    assert_eq!(Value::decode(&encoded(&nested(MAX_DEPTH + 1))).unwrap_err(), DecodeError::TooDeep);
    // What overflowed the stack of a codec that recurses without a limit: 60,000 bytes of nothing but descriptors.
    assert_eq!(Value::decode(&vec![0; 60_000]).unwrap_err(), DecodeError::TooDeep);
}

#[test]
fn an_array_of_nothing_cannot_claim_billions_of_elements() {
    // array32, 5 bytes, 0xffff_ffff elements of type null, which take no bytes.
    let bomb = [0xf0, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0x40];
    assert_eq!(Value::decode(&bomb).unwrap_err(), DecodeError::TooManyElements);
    // The same as a list of many such arrays: the budget is for the whole input.
    let one = [0xe0u8, 2, 200, 0x40];
    let mut list = vec![0xd0];
    list.extend_from_slice(&(4 + 1_000 * one.len() as u32).to_be_bytes());
    list.extend_from_slice(&1_000u32.to_be_bytes());
    list.extend(std::iter::repeat_n(one, 1_000).flatten());
    assert_eq!(Value::decode(&list).unwrap_err(), DecodeError::TooManyElements);
}

#[test]
fn sections_may_come_in_any_order() {
    // As one client sends them: delivery annotations behind the body.
    let annotations = Message { delivery_annotations: Map::from([("a", 1u32)]), ..Message::default() };
    let mut bytes = BytesMut::from(&Message::with_body(Body::data("x")).encode()[..]);
    bytes.extend_from_slice(&annotations.encode());
    let message = Message::decode(&bytes.freeze()).unwrap();
    assert_eq!((&message.body.joined_data()[..], message.delivery_annotations.len()), (&b"x"[..], 1));
}

#[test]
fn the_descriptor_of_an_array_counts_for_every_element_that_repeats_it() {
    // An array of `count` nulls that are all described by `descriptor`: the elements take no bytes at all.
    let array = |descriptor: &[u8], count: u32| {
        let mut bytes = vec![0xf0];
        bytes.extend_from_slice(&(4 + 1 + descriptor.len() as u32 + 1).to_be_bytes());
        bytes.extend_from_slice(&count.to_be_bytes());
        bytes.push(0x00);
        bytes.extend_from_slice(descriptor);
        bytes.push(0x40);
        bytes
    };
    let mut long = vec![0xb3];
    long.extend_from_slice(&30_000u32.to_be_bytes());
    long.resize(long.len() + 30_000, b'x');
    let many_nulls = array(&[0x53, 0x07], 900);
    for (descriptor, count) in [(long.as_slice(), 30_000), (many_nulls.as_slice(), 500)] {
        // What it becomes is too large to be shown when it is wrong.
        let refused = Value::decode(&array(descriptor, count)).map(|_| ());
        assert_eq!(refused, Err(DecodeError::TooManyElements));
    }
    for descriptor in [&[0x53, 0x07][..], b"\xa3\x0fexample:of:list"] {
        let (value, _) = Value::decode(&array(descriptor, 1_000)).expect("short descriptors are free");
        assert_eq!(value.as_list().map(<[Value]>::len), Some(1_000));
    }
}
