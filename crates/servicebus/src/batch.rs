//! Filling a batch up to the link's limit, with the size counted as our adapter encodes it.
//!
//! A batch is one transfer whose payload is one data section per message, each holding the whole encoded message, so its
//! size is known exactly before it is sent. Nothing is sent here.

use crate::OutgoingMessage;
use crate::ours::encode;

/// Messages that fit into one transfer together.
#[derive(Clone, Debug)]
pub struct Batch {
    max_bytes: usize,
    encoded_bytes: usize,
    messages: Vec<OutgoingMessage>,
}

impl Batch {
    /// An empty batch for a limit such as [`max_batch_bytes`](crate::QueueClient::max_batch_bytes) gives.
    pub fn new(max_bytes: usize) -> Self {
        Self { max_bytes, encoded_bytes: 0, messages: Vec::new() }
    }

    /// Adds a message if the batch stays within its limit; says whether it did. A message refused by an empty batch
    /// cannot be sent at all.
    pub fn try_add(&mut self, message: OutgoingMessage) -> bool {
        let with_it = self.encoded_bytes + encode::batch_item_len(&message);
        if with_it > self.max_bytes {
            return false;
        }
        self.encoded_bytes = with_it;
        self.messages.push(message);
        true
    }

    /// The messages, in the order added; what [`send`](crate::QueueClient::send) takes.
    pub fn messages(&self) -> &[OutgoingMessage] {
        &self.messages
    }

    /// The messages, for sending them later.
    pub fn into_messages(self) -> Vec<OutgoingMessage> {
        self.messages
    }

    /// The number of messages.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The size of the payload, in bytes.
    pub fn encoded_bytes(&self) -> usize {
        self.encoded_bytes
    }

    /// Takes out all messages, to be filled again.
    pub fn take(&mut self) -> Vec<OutgoingMessage> {
        self.encoded_bytes = 0;
        std::mem::take(&mut self.messages)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn message(id: &str, body: usize) -> OutgoingMessage {
        OutgoingMessage {
            message_id: id.to_owned(),
            content_type: Some("application/json".to_owned()),
            body: Bytes::from(vec![7; body]),
            scheduled_enqueue_time: None,
        }
    }

    #[test]
    fn a_batch_takes_what_fits_to_the_byte() {
        let one = encode::batch_item_len(&message("a", 100));
        let mut exact = Batch::new(2 * one);
        assert!(exact.try_add(message("a", 100)) && exact.try_add(message("b", 100)));
        assert!(!exact.try_add(message("c", 0)), "full");
        assert_eq!((exact.len(), exact.encoded_bytes()), (2, 2 * one));
        let mut short = Batch::new(2 * one - 1);
        assert!(short.try_add(message("a", 100)) && !short.try_add(message("b", 100)));
        assert_eq!(short.take().len(), 1);
        assert!(short.is_empty() && short.encoded_bytes() == 0 && short.try_add(message("b", 100)));
        assert!(!Batch::new(10).try_add(message("a", 100)), "cannot be sent at all");
    }

    proptest! {
        /// The size counted is the size sent, for single messages in a batch and around the points where a length
        /// needs more bytes.
        #[test]
        fn the_size_counted_is_the_size_encoded(
            sizes in proptest::collection::vec(prop_oneof![0_usize..600, 60_000_usize..70_000], 2..6),
            id in ".{0,128}", scheduled in any::<bool>(), typed in any::<bool>(),
        ) {
            let mut batch = Batch::new(usize::MAX);
            for size in sizes {
                let mut message = message(&id, size);
                message.scheduled_enqueue_time = scheduled.then(|| SystemTime::UNIX_EPOCH + Duration::from_millis(1));
                if !typed { message.content_type = None; }
                prop_assert!(batch.try_add(message));
            }
            prop_assert_eq!(encode::transfer(batch.messages()).payload.len(), batch.encoded_bytes());
        }
    }
}
