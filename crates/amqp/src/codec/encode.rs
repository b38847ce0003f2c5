//! Writing values as bytes.

use bytes::{BufMut as _, BytesMut};

use crate::value::{Map, Value};

impl Value {
    /// Appends the encoded value, in the shortest form of its type.
    pub fn encode(&self, out: &mut BytesMut) {
        put_value(out, self);
    }
}

pub(crate) fn put_value(out: &mut BytesMut, value: &Value) {
    match value {
        Value::Null => out.put_u8(0x40),
        Value::Bool(true) => out.put_u8(0x41),
        Value::Bool(false) => out.put_u8(0x42),
        Value::Uint(0) => out.put_u8(0x43),
        Value::Uint(n @ 1..=255) => out.put_slice(&[0x52, *n as u8]),
        Value::Ulong(0) => out.put_u8(0x44),
        Value::Ulong(n @ 1..=255) => out.put_slice(&[0x53, *n as u8]),
        Value::Int(n @ -128..=127) => out.put_slice(&[0x54, *n as u8]),
        Value::Long(n @ -128..=127) => out.put_slice(&[0x55, *n as u8]),
        Value::List(items) if items.is_empty() => out.put_u8(0x45),
        Value::List(items) => put_list(out, items),
        Value::Map(map) => put_map(out, map),
        Value::Array(items) => put_array(out, items),
        Value::Described(described) => {
            out.put_u8(0x00);
            put_value(out, &described.descriptor);
            put_value(out, &described.value);
        }
        scalar => {
            let constructor = scalar_constructor(scalar, false);
            out.put_u8(constructor);
            put_scalar(out, constructor, scalar);
        }
    }
}

fn put_list(out: &mut BytesMut, items: &[Value]) {
    let start = open_compound(out);
    for item in items {
        put_value(out, item);
    }
    close_compound(out, start, 0xc0, items.len());
}

pub(crate) fn put_map(out: &mut BytesMut, map: &Map) {
    let start = open_compound(out);
    for (key, value) in map.iter() {
        put_value(out, key);
        put_value(out, value);
    }
    close_compound(out, start, 0xc1, map.len() * 2);
}

fn put_array(out: &mut BytesMut, items: &[Value]) {
    // An element type that all share, in the form that fits the largest; zero elements still need a type.
    let Some(first) = items.first() else {
        let start = open_compound(out);
        out.put_u8(0x40);
        return close_compound(out, start, 0xe0, 0);
    };
    // Nulls in an array take no bytes: in a list each takes one, so that whoever allows as many elements as bytes can read
    // it. So what is written may be larger than what was read: elements without bytes (0, true, null) get some, and a
    // descriptor that all shared is repeated. Whoever limits sizes must look at this one.
    let compound =
        matches!(first, Value::Null | Value::List(_) | Value::Map(_) | Value::Array(_) | Value::Described(_));
    let alike = items.iter().all(|item| std::mem::discriminant(item) == std::mem::discriminant(first));
    if compound || !alike {
        return put_list(out, items);
    }
    let long = items.iter().any(|item| variable_len(item) > 255);
    let constructor = scalar_constructor(first, long);
    let start = open_compound(out);
    out.put_u8(constructor);
    for item in items {
        put_scalar(out, constructor, item);
    }
    close_compound(out, start, 0xe0, items.len());
}

fn variable_len(value: &Value) -> usize {
    match value {
        Value::Binary(bytes) => bytes.len(),
        Value::String(text) => text.len(),
        Value::Symbol(symbol) => symbol.as_str().len(),
        _ => 0,
    }
}

/// The full-width constructor of a scalar; `long` asks for the 32-bit length of variable-width types regardless.
fn scalar_constructor(value: &Value, long: bool) -> u8 {
    let long = long || variable_len(value) > 255;
    match value {
        Value::Bool(_) => 0x56,
        Value::Ubyte(_) => 0x50,
        Value::Ushort(_) => 0x60,
        Value::Uint(_) => 0x70,
        Value::Ulong(_) => 0x80,
        Value::Byte(_) => 0x51,
        Value::Short(_) => 0x61,
        Value::Int(_) => 0x71,
        Value::Long(_) => 0x81,
        Value::Float(_) => 0x72,
        Value::Double(_) => 0x82,
        Value::Decimal32(_) => 0x74,
        Value::Decimal64(_) => 0x84,
        Value::Decimal128(_) => 0x94,
        Value::Char(_) => 0x73,
        Value::Timestamp(_) => 0x83,
        Value::Uuid(_) => 0x98,
        Value::Binary(_) => 0xa0 | u8::from(long) << 4,
        Value::String(_) => 0xa1 | u8::from(long) << 4,
        Value::Symbol(_) => 0xa3 | u8::from(long) << 4,
        Value::Null | Value::List(_) | Value::Map(_) | Value::Array(_) | Value::Described(_) => 0x40,
    }
}

fn put_scalar(out: &mut BytesMut, constructor: u8, value: &Value) {
    let long = constructor & 0xf0 == 0xb0;
    match value {
        Value::Bool(value) => out.put_u8((*value).into()),
        Value::Ubyte(n) => out.put_u8(*n),
        Value::Ushort(n) => out.put_u16(*n),
        Value::Uint(n) => out.put_u32(*n),
        Value::Ulong(n) => out.put_u64(*n),
        Value::Byte(n) => out.put_i8(*n),
        Value::Short(n) => out.put_i16(*n),
        Value::Int(n) => out.put_i32(*n),
        Value::Long(n) | Value::Timestamp(n) => out.put_i64(*n),
        Value::Float(n) => out.put_f32(*n),
        Value::Double(n) => out.put_f64(*n),
        Value::Decimal32(bytes) => out.put_slice(bytes),
        Value::Decimal64(bytes) => out.put_slice(bytes),
        Value::Decimal128(bytes) | Value::Uuid(bytes) => out.put_slice(bytes),
        Value::Char(c) => out.put_u32((*c).into()),
        Value::Binary(bytes) => put_variable(out, long, bytes),
        Value::String(text) => put_variable(out, long, text.as_bytes()),
        Value::Symbol(symbol) => put_variable(out, long, symbol.as_str().as_bytes()),
        Value::Null | Value::List(_) | Value::Map(_) | Value::Array(_) | Value::Described(_) => {}
    }
}

fn put_variable(out: &mut BytesMut, long: bool, bytes: &[u8]) {
    if long {
        out.put_u32(bytes.len() as u32);
    } else {
        out.put_u8(bytes.len() as u8);
    }
    out.put_slice(bytes);
}

/// Room for the long header: constructor, size and count.
const COMPOUND_HEADER: usize = 9;

fn open_compound(out: &mut BytesMut) -> usize {
    let start = out.len();
    out.put_bytes(0, COMPOUND_HEADER);
    start
}

/// Writes the header of a list (0xc0), map (0xc1) or array (0xe0) whose elements lie behind `start`, short if possible.
fn close_compound(out: &mut BytesMut, start: usize, short_constructor: u8, count: usize) {
    let body = out.len() - start - COMPOUND_HEADER;
    if body < 255 && count <= 255 {
        out[start] = short_constructor;
        out[start + 1] = body as u8 + 1;
        out[start + 2] = count as u8;
        out.copy_within(start + COMPOUND_HEADER.., start + 3);
        out.truncate(start + 3 + body);
    } else {
        out[start] = short_constructor | 0x10;
        out[start + 1..start + 5].copy_from_slice(&(body as u32 + 4).to_be_bytes());
        out[start + 5..start + 9].copy_from_slice(&(count as u32).to_be_bytes());
    }
}

/// Writes a described list field by field: performatives, sections, delivery states. Every field is written, null or
/// not: some clients index fields without looking at the list's length.
pub(crate) struct ListWriter<'a> {
    out: &'a mut BytesMut,
    start: usize,
    count: usize,
}

impl<'a> ListWriter<'a> {
    /// `code` is below 256 for every standard type, so that the descriptor comes out as `00 53 code`, which is the only
    /// form that some clients read.
    pub(crate) fn new(out: &'a mut BytesMut, code: u8) -> Self {
        out.put_slice(&[0x00, 0x53, code]);
        let start = open_compound(out);
        Self { out, start, count: 0 }
    }

    pub(crate) fn field(mut self, value: impl Into<Value>) -> Self {
        self.value(&value.into());
        self
    }

    pub(crate) fn field_ref(mut self, value: Option<&Value>) -> Self {
        self.value(value.unwrap_or(&Value::Null));
        self
    }

    pub(crate) fn text(mut self, text: &str) -> Self {
        self.count += 1;
        let long = text.len() > 255;
        self.out.put_u8(if long { 0xb1 } else { 0xa1 });
        put_variable(self.out, long, text.as_bytes());
        self
    }

    pub(crate) fn optional_text(self, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.text(text),
            None => self.field(Value::Null),
        }
    }

    pub(crate) fn symbol(self, text: Option<&str>) -> Self {
        self.field(text.map(Value::symbol))
    }

    pub(crate) fn map(mut self, map: Option<&Map>) -> Self {
        self.count += 1;
        match map {
            Some(map) => put_map(self.out, map),
            None => self.out.put_u8(0x40),
        }
        self
    }

    /// Writes a field by `write`, which must append exactly one value.
    pub(crate) fn with(mut self, write: impl FnOnce(&mut BytesMut)) -> Self {
        self.count += 1;
        write(self.out);
        self
    }

    pub(crate) fn finish(self) {
        close_compound(self.out, self.start, 0xc0, self.count);
    }

    fn value(&mut self, value: &Value) {
        self.count += 1;
        put_value(self.out, value);
    }
}
