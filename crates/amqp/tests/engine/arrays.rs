//! Arrays as others write them: with elements that take no bytes, with a descriptor that all share, with short and long
//! compounds. We never write them so, and whoever stores what we wrote must be able to read it again.

use amqp::{MAX_DEPTH, Value};

use super::values::encoded;

/// A kind of element.
struct Element {
    /// As it stands once at the head of the array.
    constructor: Vec<u8>,
    /// What is repeated.
    bytes: &'static [u8],
    /// Levels of nesting that the array and the element take together.
    levels: u32,
}

fn elements() -> Vec<Element> {
    let plain = |constructor, bytes, levels| Element { constructor: vec![constructor], bytes, levels };
    let described = |descriptor: &[u8], constructor, bytes, levels| Element {
        constructor: [&[0x00], descriptor, &[constructor]].concat(),
        bytes,
        levels,
    };
    let short = [0x53, 0x07];
    let long = [&[0xa3, 29][..], &[b'd'; 29]].concat();
    let longest = [&[0xa3, 255][..], &[b'd'; 255]].concat();
    (0x40..=0x45)
        .map(|constructor| plain(constructor, &[], 1))
        .chain([
            plain(0xc0, &[1, 0], 2),
            plain(0xc0, &[3, 2, 0x40, 0x41], 2),
            plain(0xe0, &[2, 0, 0x40], 2),
            plain(0xe0, &[2, 3, 0x44], 2),
            described(&short, 0x40, &[], 2),
            described(&long, 0x40, &[], 2),
            described(&longest, 0x44, &[], 2),
            described(&long, 0xc0, &[2, 1, 0x40], 3),
            described(&long, 0xe0, &[2, 2, 0x40], 3),
        ])
        .collect()
}

/// A compound in its long form.
fn compound(constructor: u8, count: u32, content: &[u8]) -> Vec<u8> {
    let size = 4 + u32::try_from(content.len()).expect("short");
    [&[constructor], &size.to_be_bytes()[..], &count.to_be_bytes(), content].concat()
}

/// An array in so many lists, and behind it bytes that justify its elements.
fn array(element: &Element, count: u32, lists: u32) -> Vec<u8> {
    let content = [&element.constructor[..], &element.bytes.repeat(count as usize)].concat();
    let array = compound(0xf0, count, &content);
    let mut bytes = (0..lists).fold(array, |inner, _| compound(0xd0, 1, &inner));
    bytes.resize(bytes.len() + count as usize * 16, 0);
    bytes
}

#[test]
fn what_was_read_and_written_can_be_read_again() {
    for (index, element) in elements().iter().enumerate() {
        for (lists, counts) in [
            (0, &[0, 1, 2, 254, 255, 256, 100_000][..]),
            (MAX_DEPTH - 3, &[1, 1_000]),
            (MAX_DEPTH - 2, &[1, 1_000]),
            (MAX_DEPTH - 1, &[1, 1_000]),
            (MAX_DEPTH, &[1, 1_000]),
        ] {
            for count in counts {
                let context = format!("element {index}, {count} of them in {lists} lists");
                let read = Value::decode(&array(element, *count, lists));
                assert_eq!(read.is_ok(), lists + element.levels <= MAX_DEPTH, "{context}: {:?}", read.err());
                let Ok((value, _)) = read else { continue };
                let written = encoded(&value);
                let again = Value::decode(&written).map(|(value, taken)| (encoded(&value), taken));
                // What they hold is too large to be shown.
                assert!(again == Ok((written.clone(), written.len())), "{context}: {:?}", again.err());
            }
        }
    }
}
