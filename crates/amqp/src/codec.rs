//! AMQP's type encoding (part 1, section 1.6), both ways.
//!
//! Input comes from strangers, before any authentication: nesting is limited to [`MAX_DEPTH`], and the number of
//! decoded elements by the number of bytes they came in, so that no input overflows the stack or the memory. Output
//! takes the short form of every type.

mod decode;
mod encode;

pub(crate) use decode::{Composite, Fields, Reader, kind};
pub(crate) use encode::{ListWriter, put_map, put_value};

/// How deep values may be nested.
pub const MAX_DEPTH: u32 = 32;

/// Elements that an input may hold beyond one for each of its bytes (arrays of null or true take no bytes per element).
const FREE_ELEMENTS: usize = 1_024;

/// The bytes are not what the standard says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The input ends within a value.
    #[error("input ends within a value")]
    Truncated,
    /// No type has this constructor.
    #[error("unknown type constructor {0:#04x}")]
    UnknownConstructor(u8),
    /// A string or symbol is not UTF-8.
    #[error("text is not UTF-8")]
    NotUtf8,
    /// A `char` is not a Unicode scalar value.
    #[error("char {0:#x} is not a Unicode scalar value")]
    NotAChar(u32),
    /// A boolean's byte is neither 0 nor 1.
    #[error("boolean byte {0:#04x} is neither 0 nor 1")]
    NotABool(u8),
    /// A map has a key without a value.
    #[error("map has an odd number of elements")]
    OddMap,
    /// Values are nested deeper than [`MAX_DEPTH`].
    #[error("values are nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// There are more elements than the input's size can justify.
    #[error("more elements than the input can hold")]
    TooManyElements,
    /// A compound's elements do not fill its size.
    #[error("size of a list, map or array does not match its elements")]
    SizeMismatch,
    /// A described type was expected and something else was found, or its descriptor is unknown.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// What the protocol wants here.
        expected: &'static str,
        /// What came.
        found: String,
    },
    /// A field that must not be null is.
    #[error("mandatory field {0} is missing")]
    Missing(&'static str),
}
