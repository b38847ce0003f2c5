//! A map of a stored message in its encoded form.
//!
//! Decoded, a map takes up to forty times the bytes it came in (a null has one), and a queue's size is counted in bytes.
//! It is unpacked for as long as a delivery is written or a change is merged in.

use std::collections::HashMap;

use amqp::{Map, Value};
use bytes::{Bytes, BytesMut};

/// See the module's documentation.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Packed(Bytes);

impl Packed {
    /// Packs a map; an empty one takes nothing.
    pub(super) fn new(map: Map) -> Self {
        if map.is_empty() {
            return Self::default();
        }
        let mut out = BytesMut::new();
        Value::Map(map).encode(&mut out);
        // Without the room that was reserved for more.
        Self(Bytes::copy_from_slice(&out))
    }

    /// The map.
    pub(super) fn map(&self) -> Map {
        if self.0.is_empty() {
            return Map::default();
        }
        match Value::decode(&self.0) {
            Ok((Value::Map(map), _)) => map,
            other => unreachable!("a map that was encoded here is no map any more: {:?}", other.err()),
        }
    }

    /// Merges changes in: a text key replaces what is under it, other keys are passed over.
    pub(super) fn merge(&mut self, changes: &Map) {
        let Map(mut entries) = self.map();
        let mut places: HashMap<String, usize> = HashMap::new();
        for (place, (key, _)) in entries.iter().enumerate() {
            if let Some(key) = key.as_str() {
                places.entry(key.to_owned()).or_insert(place);
            }
        }
        for (key, value) in changes.iter() {
            let Some(key) = key.as_str() else { continue };
            if let Some(place) = places.get(key) {
                entries[*place].1 = value.clone();
            } else {
                places.insert(key.to_owned(), entries.len());
                entries.push((Value::from(key), value.clone()));
            }
        }
        *self = Self::new(Map(entries));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_comes_out_again() {
        let nulls = Value::Array(vec![Value::Null; 100_000]);
        let map = Map::from([("a", Value::from("1")), ("b", nulls)]);
        let unpacked = Packed::new(map.clone()).map();
        assert_eq!(unpacked.get("a"), map.get("a"));
        assert_eq!(unpacked.get("b").and_then(Value::as_list), map.get("b").and_then(Value::as_list));
        assert_eq!(Packed::new(Map::default()).map(), Map::default());
    }

    #[test]
    fn changes_replace_and_add() {
        let mut packed = Packed::new(Map::from([(Value::symbol("a"), 1u32), (Value::Ulong(1), 2u32)]));
        packed.merge(&Map::from([(Value::from("a"), 3u32), (Value::Null, 4u32), (Value::symbol("b"), 5u32)]));
        packed.merge(&Map::from([("b", 6u32)]));
        let wanted = [(Value::symbol("a"), 3u32), (Value::Ulong(1), 2u32), (Value::from("b"), 6u32)];
        assert_eq!(packed.map(), Map::from(wanted));
    }
}
