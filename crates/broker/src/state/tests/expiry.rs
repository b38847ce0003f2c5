//! Times to live.

use super::*;

fn with_life(text: &str, life: u64) -> NewMessage<Text> {
    NewMessage { time_to_live: Some(milliseconds(life)), ..message(text) }
}

fn expiring(default: Option<u64>, dead_letter_on_expiration: bool) -> QueueProperties {
    let default_time_to_live = default.map(milliseconds);
    QueueProperties { default_time_to_live, dead_letter_on_expiration, ..locks_of(100) }
}

#[test]
fn the_shorter_of_both_lives_counts() {
    let mut broker = Broker::new(expiring(Some(50), false));
    broker.send_all(vec![with_life("a", 30), with_life("b", 80), message("c")]).unwrap();
    let ends: Vec<_> = broker.peek(Part::Main).iter().map(|view| view.expires_at.unwrap().as_millis()).collect();
    assert_eq!(ends, [30, 50, 50]);
    broker.wait(30);
    assert_eq!(broker.describe().counts.available, 2);
    broker.wait(20);
    assert_eq!((broker.describe().counts.total(), broker.describe().size_bytes), (0, 0));
}

#[test]
fn expired_messages_are_dead_lettered_if_the_queue_says_so() {
    let mut broker = Broker::new(expiring(None, true));
    broker.send_all(vec![with_life("a", 30)]).unwrap();
    broker.wait(30);
    let dead = broker.peek(Part::DeadLetter);
    let why = dead[0].dead_letter.as_deref().unwrap();
    assert_eq!(why.reason.as_deref(), Some("TTLExpiredException"));
    assert_eq!(why.description.as_deref(), Some("The message expired and was dead lettered."));
    broker.wait(1_000_000);
    assert_eq!(broker.peek(Part::DeadLetter).len(), 1, "the dead-letter queue ignores times to live");
    assert_eq!(broker.state.next_deadline(), None);
}

#[test]
fn a_locked_message_expires_only_when_it_returns() {
    let mut broker = Broker::new(expiring(None, false));
    broker.send_all(vec![with_life("a", 30), with_life("b", 30)]).unwrap();
    let (first, _second) = (broker.lock_one(Part::Main), broker.lock_one(Part::Main));
    broker.subscribe(A, Part::Main, ReceiveMode::PeekLock).unwrap();
    broker.credit(A, 5);
    broker.wait(60);
    assert_eq!(broker.describe().counts.locked, 2);
    broker.settle(Part::Main, token(&first), Outcome::Release).unwrap();
    assert_eq!(broker.describe().counts.total(), 1, "released after its end, it goes and is not delivered");
    assert_eq!(broker.wait(40), [], "the same when the lock runs out");
    assert_eq!(broker.describe().counts.total(), 0);
}

#[test]
fn deferred_messages_do_not_expire() {
    let mut broker = Broker::new(expiring(None, true));
    broker.send_all(vec![with_life("a", 30)]).unwrap();
    let lock = token(&broker.lock_one(Part::Main));
    broker.settle(Part::Main, lock, Outcome::Defer { properties: None }).unwrap();
    broker.wait(1_000);
    assert_eq!(broker.describe().counts.deferred, 1);
}

#[test]
fn a_life_of_nothing_ends_before_delivery() {
    let mut broker = Broker::new(expiring(None, false));
    broker.subscribe(A, Part::Main, ReceiveMode::PeekLock).unwrap();
    broker.credit(A, 1);
    assert_eq!(broker.send_all(vec![with_life("a", 0)]), Ok(vec![1]));
    assert_eq!(broker.describe().counts.total(), 0);
}
