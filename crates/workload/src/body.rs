//! The message that sender and worker exchange: `{"foo":"bar","id":N}`, as in the article that the product follows.

use bytes::Bytes;
use serde::Deserialize;

/// The content type of a body.
pub const CONTENT_TYPE: &str = "application/json";

/// What of a body a reader needs; everything else in it is left alone.
#[derive(Deserialize)]
struct Identified {
    id: u64,
}

/// A body that names no id. Says where, but repeats nothing of the body: it may be large, or not meant for logs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBody {
    /// Not JSON at all.
    #[error("the body ({length} bytes) is not JSON: it breaks off or goes wrong at line {line}, column {column}")]
    NotJson {
        /// Bytes in the body.
        length: usize,
        /// From 1.
        line: usize,
        /// From 1; 0 before the first character of a line.
        column: usize,
    },
    /// JSON of another shape.
    #[error("the body ({length} bytes) is JSON, but no object with a whole number `id` from 0 to 2^64-1")]
    NoId {
        /// Bytes in the body.
        length: usize,
    },
}

/// The body with this id, byte for byte `{"foo":"bar","id":N}`.
pub fn encode(id: u64) -> Bytes {
    Bytes::from(format!(r#"{{"foo":"bar","id":{id}}}"#))
}

/// The id in a body.
pub fn parse(body: &[u8]) -> Result<u64, BadBody> {
    serde_json::from_slice::<Identified>(body).map(|body| body.id).map_err(|error| {
        let length = body.len();
        if error.is_data() {
            BadBody::NoId { length }
        } else {
            BadBody::NotJson { length, line: error.line(), column: error.column() }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_body_is_the_articles() {
        assert_eq!(&encode(0)[..], br#"{"foo":"bar","id":0}"#);
        assert_eq!(&encode(999)[..], br#"{"foo":"bar","id":999}"#);
    }

    #[test]
    fn bodies_of_other_senders_need_only_an_id() {
        assert_eq!(parse(br#" {"id" : 7, "more": [{"x": null}], "foo": 3} "#), Ok(7));
    }

    #[test]
    fn a_bad_body_says_what_is_wrong_and_repeats_nothing_of_it() {
        for (body, wanted) in [
            (&b""[..], "the body (0 bytes) is not JSON: it breaks off or goes wrong at line 1, column 0"),
            (b"hello", "the body (5 bytes) is not JSON: it breaks off or goes wrong at line 1, column 1"),
            (br#"{"id":1"#, "the body (7 bytes) is not JSON: it breaks off or goes wrong at line 1, column 7"),
            (
                br#"{"id":"PLANTED"}"#,
                "the body (16 bytes) is JSON, but no object with a whole number `id` from 0 to 2^64-1",
            ),
            (br#"{"id":-1}"#, "the body (9 bytes) is JSON, but no object with a whole number `id` from 0 to 2^64-1"),
            (br#"{"id":1.5}"#, "the body (10 bytes) is JSON, but no object with a whole number `id` from 0 to 2^64-1"),
            (b"[]", "the body (2 bytes) is JSON, but no object with a whole number `id` from 0 to 2^64-1"),
            (b"{}", "the body (2 bytes) is JSON, but no object with a whole number `id` from 0 to 2^64-1"),
        ] {
            assert_eq!(parse(body).expect_err("no id").to_string(), wanted, "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn every_id_survives(id in any::<u64>()) {
            prop_assert_eq!(parse(&encode(id)), Ok(id));
        }

        #[test]
        fn no_input_makes_it_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&body);
        }
    }
}
