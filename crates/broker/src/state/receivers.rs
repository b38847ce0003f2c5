//! Who receives from one part of a queue, with how much credit, and whose turn it is.
//!
//! Turns go round: a receiver that got a message and has credit left lines up again at the end, so nobody with credit
//! starves. Knows nothing of messages.

use std::collections::BTreeMap;

use super::event::{ReceiveMode, ReceiverId};

/// The subscribed receivers of one part.
#[derive(Debug, Default)]
pub(super) struct Receivers {
    subscribed: BTreeMap<ReceiverId, Receiver>,
    /// Those with credit, by the order in which they lined up.
    line: BTreeMap<u64, ReceiverId>,
    next_ticket: u64,
}

#[derive(Debug)]
struct Receiver {
    mode: ReceiveMode,
    /// Deliveries since it subscribed.
    delivered: u64,
    /// Up to how many it may get; above `delivered` exactly while it stands in line.
    limit: u64,
    ticket: Option<u64>,
}

impl Receivers {
    pub(super) fn subscribe(&mut self, id: ReceiverId, mode: ReceiveMode) {
        self.subscribed.insert(id, Receiver { mode, delivered: 0, limit: 0, ticket: None });
    }

    pub(super) fn unsubscribe(&mut self, id: ReceiverId) {
        if let Some(ticket) = self.subscribed.remove(&id).and_then(|receiver| receiver.ticket) {
            self.line.remove(&ticket);
        }
    }

    /// Sets how many deliveries a receiver may get in all; it keeps its place in line if it stands there.
    pub(super) fn allow(&mut self, id: ReceiverId, limit: u64) {
        let Some(receiver) = self.subscribed.get_mut(&id) else { return };
        receiver.limit = limit;
        match (receiver.ticket, limit > receiver.delivered) {
            (None, true) => {
                receiver.ticket = Some(self.next_ticket);
                self.line.insert(self.next_ticket, id);
                self.next_ticket += 1;
            }
            (Some(ticket), false) => {
                receiver.ticket = None;
                self.line.remove(&ticket);
            }
            _ => {}
        }
    }

    /// Takes back the credit a receiver has left.
    pub(super) fn void_credit(&mut self, id: ReceiverId) {
        if let Some(delivered) = self.subscribed.get(&id).map(|receiver| receiver.delivered) {
            self.allow(id, delivered);
        }
    }

    /// The receiver whose turn it is; one of its credit counts as used.
    pub(super) fn take_turn(&mut self) -> Option<(ReceiverId, ReceiveMode)> {
        let (_, id) = self.line.pop_first()?;
        let receiver = self.subscribed.get_mut(&id)?;
        receiver.delivered += 1;
        receiver.ticket = None;
        let (mode, limit) = (receiver.mode, receiver.limit);
        self.allow(id, limit);
        Some((id, mode))
    }

    pub(super) fn anyone_in_line(&self) -> bool {
        !self.line.is_empty()
    }

    /// Forgets all receivers, and names them.
    pub(super) fn clear(&mut self) -> impl Iterator<Item = ReceiverId> + use<> {
        self.line.clear();
        std::mem::take(&mut self.subscribed).into_keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ReceiverId = ReceiverId(1);
    const B: ReceiverId = ReceiverId(2);

    fn two(limit_a: u64, limit_b: u64) -> Receivers {
        let mut receivers = Receivers::default();
        receivers.subscribe(A, ReceiveMode::PeekLock);
        receivers.subscribe(B, ReceiveMode::ReceiveAndDelete);
        receivers.allow(A, limit_a);
        receivers.allow(B, limit_b);
        receivers
    }

    fn turns(receivers: &mut Receivers) -> Vec<ReceiverId> {
        std::iter::from_fn(|| receivers.take_turn()).map(|(id, _)| id).collect()
    }

    #[test]
    fn turns_go_round_and_stop_with_the_credit() {
        let mut receivers = two(3, 1);
        assert_eq!(turns(&mut receivers), [A, B, A, A]);
        assert!(!receivers.anyone_in_line());
        receivers.allow(B, 1);
        assert!(!receivers.anyone_in_line(), "the limit is a total, and B has had its one");
        receivers.allow(B, 2);
        assert_eq!(turns(&mut receivers), [B]);
    }

    #[test]
    fn a_changed_limit_keeps_the_place_in_line() {
        let mut receivers = two(1, 1);
        receivers.allow(A, 2);
        assert_eq!(turns(&mut receivers), [A, B, A]);
    }

    #[test]
    fn credit_taken_back_is_no_turn() {
        let mut receivers = two(1, 1);
        receivers.allow(A, 0);
        assert_eq!(turns(&mut receivers), [B]);
        receivers.allow(A, 5);
        receivers.void_credit(A);
        assert!(!receivers.anyone_in_line());
    }

    #[test]
    fn who_left_gets_no_turn() {
        let mut receivers = two(1, 1);
        receivers.unsubscribe(A);
        receivers.allow(A, 9);
        assert_eq!(turns(&mut receivers), [B]);
        assert_eq!(receivers.clear().collect::<Vec<_>>(), [B]);
    }
}
