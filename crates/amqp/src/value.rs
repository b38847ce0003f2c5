//! AMQP's types as one Rust enum, with the lookups that protocol code needs.
//!
//! A value keeps what was on the wire exactly (an `Int` stays an `Int`): peers insist on types, for example that a
//! correlation id has the type of the message id it answers.

use std::fmt;

use bytes::Bytes;

/// Any AMQP value (part 1, section 1.6).
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Absence of a value.
    Null,
    /// `boolean`.
    Bool(bool),
    /// `ubyte`.
    Ubyte(u8),
    /// `ushort`.
    Ushort(u16),
    /// `uint`.
    Uint(u32),
    /// `ulong`.
    Ulong(u64),
    /// `byte`.
    Byte(i8),
    /// `short`.
    Short(i16),
    /// `int`.
    Int(i32),
    /// `long`.
    Long(i64),
    /// `float`.
    Float(f32),
    /// `double`.
    Double(f64),
    /// `decimal32`, undecoded.
    Decimal32([u8; 4]),
    /// `decimal64`, undecoded.
    Decimal64([u8; 8]),
    /// `decimal128`, undecoded.
    Decimal128([u8; 16]),
    /// `char`.
    Char(char),
    /// `timestamp`: milliseconds since the Unix epoch.
    Timestamp(i64),
    /// `uuid`, in RFC 4122 byte order.
    Uuid([u8; 16]),
    /// `binary`.
    Binary(Bytes),
    /// `string`.
    String(String),
    /// `symbol`.
    Symbol(Symbol),
    /// `list`.
    List(Vec<Value>),
    /// `map`.
    Map(Map),
    /// `array`: all elements of one type. If they are not, it is written as a list.
    Array(Vec<Value>),
    /// A value with a descriptor that gives it a meaning.
    Described(Box<Described>),
}

/// A descriptor and the value that it describes.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    /// Usually an `Ulong` code or a `Symbol`.
    pub descriptor: Value,
    /// The value described.
    pub value: Value,
}

/// A name from a restricted character set, such as `amqp:not-found`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Symbol(String);

impl Symbol {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Symbol {
    fn from(name: &str) -> Self {
        Self(name.to_owned())
    }
}

impl From<String> for Symbol {
    fn from(name: String) -> Self {
        Self(name)
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ":{}", self.0)
    }
}

/// A `map`, its entries in wire order. Small in practice, so looked up by a scan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map(pub Vec<(Value, Value)>);

impl Map {
    /// The value under a string or symbol key: clients use either for the same thing.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(k, _)| k.as_str() == Some(key)).map(|(_, value)| value)
    }

    /// Sets `key`, replacing the value under an equal string or symbol key.
    pub fn insert(&mut self, key: impl Into<Value>, value: impl Into<Value>) {
        let (key, value) = (key.into(), value.into());
        let same = |k: &Value| *k == key || (key.as_str().is_some() && k.as_str() == key.as_str());
        match self.0.iter_mut().find(|(k, _)| same(k)) {
            Some((_, old)) => *old = value,
            None => self.0.push((key, value)),
        }
    }

    /// Removes and returns the value under a string or symbol key.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let index = self.0.iter().position(|(k, _)| k.as_str() == Some(key))?;
        Some(self.0.remove(index).1)
    }

    /// The entries in wire order.
    pub fn iter(&self) -> impl Iterator<Item = &(Value, Value)> {
        self.0.iter()
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K: Into<Value>, V: Into<Value>, const N: usize> From<[(K, V); N]> for Map {
    fn from(entries: [(K, V); N]) -> Self {
        Self(entries.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

impl FromIterator<(Value, Value)> for Map {
    fn from_iter<I: IntoIterator<Item = (Value, Value)>>(entries: I) -> Self {
        Self(entries.into_iter().collect())
    }
}

impl Value {
    /// A symbol.
    pub fn symbol(name: &str) -> Self {
        Self::Symbol(Symbol::from(name))
    }

    /// A described value with a numeric descriptor.
    pub fn described(code: u64, value: Value) -> Self {
        Self::Described(Box::new(Described { descriptor: Self::Ulong(code), value }))
    }

    /// Whether this is `Null`.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The text of a string or symbol.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            Self::Symbol(symbol) => Some(symbol.as_str()),
            _ => None,
        }
    }

    /// The value of an integer of any width, if it fits.
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Self::Ubyte(n) => Some(n.into()),
            Self::Ushort(n) => Some(n.into()),
            Self::Uint(n) => Some(n.into()),
            Self::Ulong(n) => n.try_into().ok(),
            Self::Byte(n) => Some(n.into()),
            Self::Short(n) => Some(n.into()),
            Self::Int(n) => Some(n.into()),
            Self::Long(n) => Some(n),
            _ => None,
        }
    }

    /// The value of a non-negative integer of any width.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::Ulong(n) => Some(n),
            _ => self.as_i64().and_then(|n| n.try_into().ok()),
        }
    }

    /// The value of a boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Self::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// The bytes of a uuid, in RFC 4122 order.
    pub fn as_uuid(&self) -> Option<[u8; 16]> {
        match *self {
            Self::Uuid(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The milliseconds of a timestamp.
    pub fn as_timestamp(&self) -> Option<i64> {
        match *self {
            Self::Timestamp(ms) => Some(ms),
            _ => None,
        }
    }

    /// The bytes of a binary.
    pub fn as_binary(&self) -> Option<&Bytes> {
        match self {
            Self::Binary(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The entries of a map.
    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Self::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The elements of a list or array.
    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Self::List(items) | Self::Array(items) => Some(items),
            _ => None,
        }
    }
}

macro_rules! value_from {
    ($($from:ty => $to:ident),* $(,)?) => {
        $(impl From<$from> for Value {
            fn from(value: $from) -> Self {
                Self::$to(value.into())
            }
        })*
    };
}

value_from! {
    bool => Bool, u8 => Ubyte, u16 => Ushort, u32 => Uint, u64 => Ulong, i8 => Byte, i16 => Short, i32 => Int,
    i64 => Long, f32 => Float, f64 => Double, char => Char, Bytes => Binary, String => String, &str => String,
    Symbol => Symbol, Vec<Value> => List, Map => Map,
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_finds_string_and_symbol_keys_alike() {
        let mut map = Map::from([(Value::symbol("a"), 1u32)]);
        map.insert("b", 2u32);
        map.insert("a", 3u32);
        assert_eq!((map.get("a"), map.get("b"), map.get("c")), (Some(&Value::Uint(3)), Some(&Value::Uint(2)), None));
        assert_eq!(map.remove("a"), Some(Value::Uint(3)));
        assert_eq!(map.len(), 1);
    }

    #[test]
    fn integers_convert_only_when_they_fit() {
        assert_eq!(Value::Ulong(u64::MAX).as_i64(), None);
        assert_eq!(Value::Ulong(u64::MAX).as_u64(), Some(u64::MAX));
        assert_eq!(Value::Int(-1).as_u64(), None);
        assert_eq!(Value::Byte(-1).as_i64(), Some(-1));
        assert_eq!(Value::Double(1.0).as_i64(), None);
    }
}
