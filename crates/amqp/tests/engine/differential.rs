//! The whole conversation once more, with an interpreter between the two sides that reads every frame with a codec that
//! others wrote and passes on what that codec writes. What we misread or miswrite as others do not, breaks it.

use amqp::Value;
use bytes::Bytes;

use crate::conversation;

/// Passes every AMQP frame in `piece` through `translate`, which gets the performative without the payload. The engine
/// always hands out whole frames.
fn through(piece: &[u8], translate: &dyn Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let (mut rest, mut out) = (piece, Vec::new());
    while !rest.is_empty() {
        if rest.starts_with(b"AMQP") {
            out.extend_from_slice(&rest[..8]);
            rest = &rest[8..];
            continue;
        }
        let size = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        let (frame, after) = rest.split_at(size);
        rest = after;
        let (header, body) = frame.split_at(8);
        let is_amqp = header[5] == 0;
        if !is_amqp || body.is_empty() {
            out.extend_from_slice(frame);
            continue;
        }
        let (_, performative) = Value::decode(body).unwrap();
        let translated = translate(&body[..performative]);
        let payload = &body[performative..];
        out.extend_from_slice(&((8 + translated.len() + payload.len()) as u32).to_be_bytes());
        out.extend_from_slice(&header[4..]);
        out.extend_from_slice(&translated);
        out.extend_from_slice(payload);
    }
    out
}

#[test]
fn fe2o3_amqp_types_understands_every_frame() {
    use fe2o3_amqp_types::performatives::Performative;
    conversation::hold(&mut |piece| {
        through(piece, &|performative| {
            let read: Performative = serde_amqp::from_slice(performative).unwrap();
            serde_amqp::to_vec(&read).unwrap()
        })
    });
}

#[test]
fn ramqp_core_understands_every_frame() {
    use ramqp_core::codec::{Decode as _, to_vec};
    use ramqp_core::types::performatives::Performative;
    conversation::hold(&mut |piece| {
        through(piece, &|performative| {
            let mut bytes = Bytes::copy_from_slice(performative);
            let read = Performative::decode(&mut bytes).unwrap();
            assert!(bytes.is_empty());
            to_vec(&read)
        })
    });
}
