//! What a queue gives to forwarding: its next message, taken out whole, or put into the transfer dead-letter queue.
//!
//! Whether a message can move, and when, is decided in `rest.rs`.

use std::sync::Arc;

use super::super::{
    arrival::Arrival,
    backlog::{Origin, Place, Stored},
    event::{Content, SequenceNumber},
    name::{EntityName, Part},
};
use super::{Queue, dead_letter};

impl<C: Content> Queue<C> {
    /// Where the messages of a part move on to.
    pub(in crate::state) fn target(&self, part: Part) -> Option<&EntityName> {
        match part {
            Part::Main => self.properties.forward_to.as_ref(),
            Part::DeadLetter => self.properties.forward_dead_letters_to.as_ref(),
            Part::TransferDeadLetter => None,
        }
    }

    /// The first message of a part that can move on, whether or not there is a target.
    pub(in crate::state) fn first_to_forward(&self, part: Part) -> Option<(SequenceNumber, &Stored<C>)> {
        let backlog = &self.part(part).backlog;
        let number = backlog.first_available()?;
        Some((number, backlog.get(number)?))
    }

    /// Takes a message out, to be stored by the entity it is forwarded to.
    pub(in crate::state) fn take_for_forwarding(&mut self, part: Part, number: SequenceNumber) -> Option<Arrival<C>> {
        let message = self.part_mut(part).backlog.remove(number)?;
        self.size_bytes -= message.size_bytes;
        let origin = Origin {
            number: message.origin.number.or(Some(number)),
            hops: message.origin.hops.saturating_add(1),
            dead_letter_source: if part == Part::Main {
                message.origin.dead_letter_source
            } else {
                Some(self.name.clone())
            },
        };
        // A dead-lettered message no longer expires, so its old end must not follow it.
        let (time_to_live, expires_by) =
            if part == Part::Main { (message.time_to_live, message.expires_at) } else { (None, None) };
        Some(Arrival {
            content: message.content,
            size_bytes: message.size_bytes,
            time_to_live,
            expires_by,
            scheduled_for: message.scheduled_for,
            dead_letter: message.dead_letter,
            origin,
        })
    }

    /// Gives up forwarding a message: it goes to the transfer dead-letter queue.
    pub(in crate::state) fn give_up_forwarding(
        &mut self,
        part: Part,
        number: SequenceNumber,
        reason: &str,
        description: String,
    ) {
        let Some(mut message) = self.part_mut(part).backlog.remove(number) else { return };
        message.place = Place::Available;
        message.dead_letter = Some(Arc::new(dead_letter(reason, description)));
        self.transfer_dead_letter.backlog.insert(number, message);
    }
}
