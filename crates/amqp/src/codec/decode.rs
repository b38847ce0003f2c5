//! Reading values from bytes.

use bytes::Bytes;

use super::{DecodeError, FREE_ELEMENTS, MAX_DEPTH};
use crate::value::{Described, Map, Symbol, Value};

/// About what an element takes in memory. So many bytes that are copied count as another one.
const BYTES_PER_ELEMENT: usize = 32;

/// A cursor over encoded values, with a budget of elements.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    /// Where `bytes` comes from, so that binaries share it instead of being copied.
    owner: Option<&'a Bytes>,
    /// Elements that may still be decoded.
    elements: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, owner: None, elements: bytes.len() + FREE_ELEMENTS }
    }

    /// Binaries in the values read will share `bytes`.
    pub(crate) fn shared(bytes: &'a Bytes) -> Self {
        Self { owner: Some(bytes), ..Self::new(bytes) }
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// What has not been read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    pub(crate) fn value(&mut self) -> Result<Value, DecodeError> {
        self.value_at(0)
    }

    /// Reads the descriptor of a described value and leaves the cursor at the value.
    pub(crate) fn descriptor(&mut self, expected: &'static str) -> Result<u64, DecodeError> {
        let unexpected = |found: String| DecodeError::Unexpected { expected, found };
        match self.u8()? {
            0x00 => {}
            code => return Err(unexpected(format!("constructor {code:#04x}"))),
        }
        match self.value_at(1)? {
            Value::Ulong(code) => Ok(code),
            other => Err(unexpected(format!("a descriptor that is {}", kind(&other)))),
        }
    }

    /// Opens a list; the fields are read one by one through [`Fields`].
    pub(crate) fn list(&mut self) -> Result<Fields<'a>, DecodeError> {
        let (size, count) = match self.u8()? {
            0x45 => (0, 0),
            0xc0 => self.compound_header_8()?,
            0xd0 => self.compound_header_32()?,
            code => {
                return Err(DecodeError::Unexpected { expected: "a list", found: format!("constructor {code:#04x}") });
            }
        };
        let elements = self.elements;
        let bytes = self.take(size)?;
        Ok(Fields { reader: Reader { bytes, owner: self.owner, elements }, count })
    }

    fn value_at(&mut self, depth: u32) -> Result<Value, DecodeError> {
        match self.u8()? {
            0x00 => self.described_at(depth),
            constructor => self.body(constructor, depth),
        }
    }

    fn described_at(&mut self, depth: u32) -> Result<Value, DecodeError> {
        let inner = deeper(depth)?;
        let descriptor = self.value_at(inner)?;
        let value = self.value_at(inner)?;
        Ok(Value::Described(Box::new(Described { descriptor, value })))
    }

    /// The value behind a constructor that has been read already.
    fn body(&mut self, constructor: u8, depth: u32) -> Result<Value, DecodeError> {
        self.elements = self.elements.checked_sub(1).ok_or(DecodeError::TooManyElements)?;
        Ok(match constructor {
            0x40 => Value::Null,
            0x41 => Value::Bool(true),
            0x42 => Value::Bool(false),
            0x56 => match self.u8()? {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                other => return Err(DecodeError::NotABool(other)),
            },
            0x50 => Value::Ubyte(self.u8()?),
            0x60 => Value::Ushort(u16::from_be_bytes(self.array()?)),
            0x70 => Value::Uint(self.u32()?),
            0x52 => Value::Uint(self.u8()?.into()),
            0x43 => Value::Uint(0),
            0x80 => Value::Ulong(u64::from_be_bytes(self.array()?)),
            0x53 => Value::Ulong(self.u8()?.into()),
            0x44 => Value::Ulong(0),
            0x51 => Value::Byte(i8::from_be_bytes(self.array()?)),
            0x61 => Value::Short(i16::from_be_bytes(self.array()?)),
            0x71 => Value::Int(i32::from_be_bytes(self.array()?)),
            0x54 => Value::Int(i8::from_be_bytes(self.array()?).into()),
            0x81 => Value::Long(i64::from_be_bytes(self.array()?)),
            0x55 => Value::Long(i8::from_be_bytes(self.array()?).into()),
            0x72 => Value::Float(f32::from_be_bytes(self.array()?)),
            0x82 => Value::Double(f64::from_be_bytes(self.array()?)),
            0x74 => Value::Decimal32(self.array()?),
            0x84 => Value::Decimal64(self.array()?),
            0x94 => Value::Decimal128(self.array()?),
            0x73 => {
                let code = self.u32()?;
                Value::Char(char::from_u32(code).ok_or(DecodeError::NotAChar(code))?)
            }
            0x83 => Value::Timestamp(i64::from_be_bytes(self.array()?)),
            0x98 => Value::Uuid(self.array()?),
            0xa0 => {
                let size = self.u8()?.into();
                Value::Binary(self.binary(size)?)
            }
            0xb0 => {
                let size = self.u32()? as usize;
                Value::Binary(self.binary(size)?)
            }
            0xa1 => {
                let size = self.u8()?.into();
                Value::String(self.text(size)?.to_owned())
            }
            0xb1 => {
                let size = self.u32()? as usize;
                Value::String(self.text(size)?.to_owned())
            }
            0xa3 => {
                let size = self.u8()?.into();
                Value::Symbol(Symbol::from(self.text(size)?))
            }
            0xb3 => {
                let size = self.u32()? as usize;
                Value::Symbol(Symbol::from(self.text(size)?))
            }
            0x45 => Value::List(Vec::new()),
            0xc0 => {
                let header = self.compound_header_8()?;
                Value::List(self.elements(header, depth)?)
            }
            0xd0 => {
                let header = self.compound_header_32()?;
                Value::List(self.elements(header, depth)?)
            }
            0xc1 => {
                let header = self.compound_header_8()?;
                Value::Map(self.map(header, depth)?)
            }
            0xd1 => {
                let header = self.compound_header_32()?;
                Value::Map(self.map(header, depth)?)
            }
            0xe0 => {
                let header = self.compound_header_8()?;
                Value::Array(self.array_elements(header, depth)?)
            }
            0xf0 => {
                let header = self.compound_header_32()?;
                Value::Array(self.array_elements(header, depth)?)
            }
            other => return Err(DecodeError::UnknownConstructor(other)),
        })
    }

    fn elements(&mut self, (size, count): (usize, usize), depth: u32) -> Result<Vec<Value>, DecodeError> {
        let inner = deeper(depth)?;
        // Every element of a list takes at least a byte.
        if count > size {
            return Err(DecodeError::TooManyElements);
        }
        self.within(size, |reader| (0..count).map(|_| reader.value_at(inner)).collect())
    }

    fn map(&mut self, header: (usize, usize), depth: u32) -> Result<Map, DecodeError> {
        if !header.1.is_multiple_of(2) {
            return Err(DecodeError::OddMap);
        }
        let mut elements = self.elements(header, depth)?.into_iter();
        let mut entries = Vec::with_capacity(elements.len() / 2);
        while let (Some(key), Some(value)) = (elements.next(), elements.next()) {
            entries.push((key, value));
        }
        Ok(Map(entries))
    }

    fn array_elements(&mut self, (size, count): (usize, usize), depth: u32) -> Result<Vec<Value>, DecodeError> {
        let inner = deeper(depth)?;
        if count > self.elements {
            return Err(DecodeError::TooManyElements);
        }
        // The element type is mandatory, but an empty array without one is harmless.
        if size == 0 && count == 0 {
            return Ok(Vec::new());
        }
        self.within(size, |reader| {
            let first = reader.u8()?;
            if first != 0x00 {
                return (0..count).map(|_| reader.body(first, inner)).collect();
            }
            let deepest = deeper(inner)?;
            let before = (reader.elements, reader.remaining());
            let descriptor = reader.value_at(deepest)?;
            // It is copied for each element, and its bytes and elements came but once.
            let (elements, bytes) = (before.0 - reader.elements, before.1 - reader.remaining());
            let copy = elements.saturating_sub(1) + bytes / BYTES_PER_ELEMENT;
            let left = copy.checked_mul(count).and_then(|all| reader.elements.checked_sub(all));
            reader.elements = left.ok_or(DecodeError::TooManyElements)?;
            let constructor = reader.u8()?;
            (0..count)
                .map(|_| {
                    let value = reader.body(constructor, deepest)?;
                    Ok(Value::Described(Box::new(Described { descriptor: descriptor.clone(), value })))
                })
                .collect()
        })
    }

    /// Runs `read` on the next `size` bytes, all of which it must use up.
    fn within<T>(
        &mut self,
        size: usize,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let inside = self.take(size)?;
        let after = std::mem::replace(&mut self.bytes, inside);
        let result = read(self)?;
        if !self.bytes.is_empty() {
            return Err(DecodeError::SizeMismatch);
        }
        self.bytes = after;
        Ok(result)
    }

    fn compound_header_8(&mut self) -> Result<(usize, usize), DecodeError> {
        let (size, count) = (self.u8()?, self.u8()?);
        Ok((size.checked_sub(1).ok_or(DecodeError::SizeMismatch)?.into(), count.into()))
    }

    fn compound_header_32(&mut self) -> Result<(usize, usize), DecodeError> {
        let (size, count) = (self.u32()?, self.u32()?);
        Ok((size.checked_sub(4).ok_or(DecodeError::SizeMismatch)? as usize, count as usize))
    }

    fn binary(&mut self, size: usize) -> Result<Bytes, DecodeError> {
        let bytes = self.take(size)?;
        Ok(self.owner.map_or_else(|| Bytes::copy_from_slice(bytes), |owner| owner.slice_ref(bytes)))
    }

    fn text(&mut self, size: usize) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.take(size)?).map_err(|_| DecodeError::NotUtf8)
    }

    fn take(&mut self, size: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.bytes.split_at_checked(size).ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.bytes.split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array()?))
    }
}

fn deeper(depth: u32) -> Result<u32, DecodeError> {
    if depth >= MAX_DEPTH { Err(DecodeError::TooDeep) } else { Ok(depth + 1) }
}

/// What a described list within a list turned out to be.
pub(crate) enum Composite<T> {
    Null,
    Known(T),
    /// A descriptor that `read` does not know; the whole value.
    Other(Value),
}

impl<T> Composite<T> {
    /// Takes no other type than the one expected.
    pub(crate) fn known(self, expected: &'static str) -> Result<Option<T>, DecodeError> {
        match self {
            Self::Null => Ok(None),
            Self::Known(value) => Ok(Some(value)),
            Self::Other(value) => Err(DecodeError::Unexpected { expected, found: kind(&value).to_owned() }),
        }
    }
}

/// The fields of a performative or another fixed list. Fields that the peer left off at the end read as null, and
/// fields beyond those we know are passed over: both are how AMQP types grow (part 1, section 1.4).
pub(crate) struct Fields<'a> {
    reader: Reader<'a>,
    count: usize,
}

impl<'a> Fields<'a> {
    pub(crate) fn value(&mut self) -> Result<Value, DecodeError> {
        match self.count.checked_sub(1) {
            None => Ok(Value::Null),
            Some(left) => {
                self.count = left;
                self.reader.value_at(1)
            }
        }
    }

    /// Reads one field with `convert`, which gives `None` for a value of the wrong type. Null reads as `None`.
    pub(crate) fn get<T>(
        &mut self,
        name: &'static str,
        convert: impl FnOnce(Value) -> Option<T>,
    ) -> Result<Option<T>, DecodeError> {
        match self.value()? {
            Value::Null => Ok(None),
            value => {
                let found = kind(&value);
                convert(value)
                    .map(Some)
                    .ok_or_else(|| DecodeError::Unexpected { expected: name, found: found.to_owned() })
            }
        }
    }

    pub(crate) fn u32(&mut self, name: &'static str) -> Result<Option<u32>, DecodeError> {
        self.get(name, |value| value.as_u64().and_then(|n| n.try_into().ok()))
    }

    pub(crate) fn u64(&mut self, name: &'static str) -> Result<Option<u64>, DecodeError> {
        self.get(name, |value| value.as_u64())
    }

    pub(crate) fn u16(&mut self, name: &'static str) -> Result<Option<u16>, DecodeError> {
        self.get(name, |value| value.as_u64().and_then(|n| n.try_into().ok()))
    }

    pub(crate) fn u8(&mut self, name: &'static str) -> Result<Option<u8>, DecodeError> {
        self.get(name, |value| value.as_u64().and_then(|n| n.try_into().ok()))
    }

    pub(crate) fn boolean(&mut self, name: &'static str) -> Result<Option<bool>, DecodeError> {
        self.get(name, |value| value.as_bool())
    }

    /// A string or a symbol: peers mix them up.
    pub(crate) fn text(&mut self, name: &'static str) -> Result<Option<String>, DecodeError> {
        self.get(name, |value| match value {
            Value::String(text) => Some(text),
            Value::Symbol(symbol) => Some(symbol.as_str().to_owned()),
            _ => None,
        })
    }

    pub(crate) fn binary(&mut self, name: &'static str) -> Result<Option<Bytes>, DecodeError> {
        self.get(name, |value| match value {
            Value::Binary(bytes) => Some(bytes),
            _ => None,
        })
    }

    pub(crate) fn map(&mut self, name: &'static str) -> Result<Option<Map>, DecodeError> {
        self.get(name, |value| match value {
            Value::Map(map) => Some(map),
            _ => None,
        })
    }

    pub(crate) fn timestamp(&mut self, name: &'static str) -> Result<Option<i64>, DecodeError> {
        self.get(name, |value| value.as_timestamp())
    }

    /// A described list, read field by field. `read` gives `None` for a descriptor that it does not know.
    pub(crate) fn composite<T>(
        &mut self,
        expected: &'static str,
        read: impl FnOnce(u8, &mut Fields<'a>) -> Option<Result<T, DecodeError>>,
    ) -> Result<Composite<T>, DecodeError> {
        let Some(left) = self.count.checked_sub(1) else { return Ok(Composite::Null) };
        let before = self.reader.bytes;
        if before.first() == Some(&0x40) {
            self.value()?;
            return Ok(Composite::Null);
        }
        let code = self.reader.descriptor(expected)?;
        if let Ok(code) = u8::try_from(code)
            && matches!(self.reader.bytes.first(), Some(0x45 | 0xc0 | 0xd0))
            && let Some(known) = read(code, &mut self.reader.list()?)
        {
            self.count = left;
            return known.map(Composite::Known);
        }
        self.reader.bytes = before;
        self.value().map(Composite::Other)
    }

    /// Any value but null.
    pub(crate) fn any(&mut self) -> Result<Option<Value>, DecodeError> {
        self.get("a value", Some)
    }
}

/// What a value is, without what it holds: errors end up in logs.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Ubyte(_) | Value::Ushort(_) | Value::Uint(_) | Value::Ulong(_) => "an unsigned integer",
        Value::Byte(_) | Value::Short(_) | Value::Int(_) | Value::Long(_) => "an integer",
        Value::Float(_) | Value::Double(_) => "a float",
        Value::Decimal32(_) | Value::Decimal64(_) | Value::Decimal128(_) => "a decimal",
        Value::Char(_) => "a char",
        Value::Timestamp(_) => "a timestamp",
        Value::Uuid(_) => "a uuid",
        Value::Binary(_) => "a binary",
        Value::String(_) => "a string",
        Value::Symbol(_) => "a symbol",
        Value::List(_) => "a list",
        Value::Map(_) => "a map",
        Value::Array(_) => "an array",
        Value::Described(_) => "a described value",
    }
}

impl Value {
    /// Decodes one value from the start of `bytes`; also says how many bytes it took.
    pub fn decode(bytes: &[u8]) -> Result<(Self, usize), DecodeError> {
        let mut reader = Reader::new(bytes);
        let value = reader.value()?;
        Ok((value, bytes.len() - reader.remaining()))
    }
}
