//! What the holder of a lock can do with it, and what happens when it does nothing.

use super::{super::DeadLetter, *};

fn dead_letter(broker: &mut Broker) -> Option<DeadLetter> {
    broker.peek(Part::DeadLetter).first()?.dead_letter.as_deref().cloned()
}

fn because(reason: &str, description: &str) -> DeadLetter {
    DeadLetter { reason: Some(reason.to_owned()), description: Some(description.to_owned()) }
}

#[test]
fn a_completed_message_is_gone_and_its_lock_too() {
    let mut broker = Broker::new(QueueProperties::default());
    broker.send(&["a"]).unwrap();
    let lock = token(&broker.lock_one(Part::Main));
    assert_eq!(broker.settle(Part::DeadLetter, lock, Outcome::Complete), Err(Refusal::LockLost), "not locked there");
    assert_eq!(broker.settle(Part::Main, lock, Outcome::Complete), Ok(()));
    assert_eq!(broker.settle(Part::Main, lock, Outcome::Complete), Err(Refusal::LockLost));
    assert_eq!((broker.describe().counts.total(), broker.describe().size_bytes), (0, 0));
}

#[test]
fn an_abandoned_message_returns_to_its_place_with_its_count_raised() {
    let mut broker = Broker::new(QueueProperties::default());
    broker.send(&["a", "b"]).unwrap();
    let first = broker.lock_one(Part::Main);
    let outcome = Outcome::Abandon { properties: Some("!".to_owned()) };
    broker.settle(Part::Main, token(&first), outcome).unwrap();
    let again = broker.lock_one(Part::Main);
    assert_eq!((again.message.sequence_number, again.message.delivery_count), (1, 1));
    assert_eq!(again.message.content.0, "a!");
    assert_eq!(first.message.content.0, "a", "what was delivered before does not change");
    assert_ne!(token(&first), token(&again));
}

#[test]
fn a_released_message_returns_with_its_count_as_it_was() {
    let mut broker = Broker::new(QueueProperties { max_delivery_count: 1, ..QueueProperties::default() });
    broker.send(&["a"]).unwrap();
    for _ in 0..3 {
        let delivery = broker.lock_one(Part::Main);
        assert_eq!(delivery.message.delivery_count, 0);
        broker.settle(Part::Main, token(&delivery), Outcome::Release).unwrap();
    }
}

#[test]
fn too_many_failures_end_in_the_dead_letter_queue() {
    let mut broker = Broker::new(QueueProperties { max_delivery_count: 2, ..locks_of(100) });
    broker.send(&["a"]).unwrap();
    let first = token(&broker.lock_one(Part::Main));
    broker.settle(Part::Main, first, Outcome::Abandon { properties: None }).unwrap();
    broker.lock_one(Part::Main);
    broker.wait(100);
    assert_eq!(broker.peek(Part::Main), []);
    let text = "Message could not be consumed after 2 delivery attempts.";
    assert_eq!(dead_letter(&mut broker), Some(because("MaxDeliveryCountExceeded", text)));
    let dead = broker.lock_one(Part::DeadLetter);
    assert_eq!((dead.message.sequence_number, dead.message.delivery_count), (1, 2));
}

#[test]
fn the_dead_letter_queue_has_no_maximum_and_no_dead_letter_queue() {
    let mut broker = Broker::new(QueueProperties { max_delivery_count: 1, ..QueueProperties::default() });
    broker.send(&["a"]).unwrap();
    let lock = token(&broker.lock_one(Part::Main));
    broker.settle(Part::Main, lock, Outcome::Abandon { properties: None }).unwrap();
    for count in 1..4 {
        let dead = broker.lock_one(Part::DeadLetter);
        assert_eq!(dead.message.delivery_count, count);
        let again = Outcome::DeadLetter { reason: None, description: None, properties: None };
        assert_eq!(broker.settle(Part::DeadLetter, token(&dead), again), Err(Refusal::AlreadyDeadLettered));
        broker.settle(Part::DeadLetter, token(&dead), Outcome::Abandon { properties: None }).unwrap();
    }
}

#[test]
fn a_receiver_can_dead_letter_with_its_reason() {
    let mut broker = Broker::new(QueueProperties::default());
    broker.send(&["a"]).unwrap();
    let lock = token(&broker.lock_one(Part::Main));
    let outcome = Outcome::DeadLetter {
        reason: Some("Poison".to_owned()),
        description: Some("no such customer".to_owned()),
        properties: Some("+".to_owned()),
    };
    broker.settle(Part::Main, lock, outcome).unwrap();
    assert_eq!(dead_letter(&mut broker), Some(because("Poison", "no such customer")));
    assert_eq!(broker.peek(Part::DeadLetter)[0].content.0, "a+");
    assert_eq!(broker.describe().counts.dead_letter, 1);
}

#[test]
fn a_lock_that_runs_out_counts_as_a_failure() {
    let mut broker = Broker::new(locks_of(100));
    broker.send(&["a"]).unwrap();
    let lock = token(&broker.lock_one(Part::Main));
    assert_eq!(broker.state.next_deadline(), Some(Timestamp::from_millis(100)));
    broker.wait(99);
    assert_eq!(broker.describe().counts.locked, 1);
    // Time passes before the event of the same moment: the lock is over at its end, not after.
    broker.clock += 1;
    assert_eq!(broker.settle(Part::Main, lock, Outcome::Complete), Err(Refusal::LockLost));
    assert_eq!(broker.lock_one(Part::Main).message.delivery_count, 1);
}

#[test]
fn a_returned_message_goes_to_whoever_waits() {
    let mut broker = Broker::new(locks_of(100));
    broker.send(&["a"]).unwrap();
    broker.lock_one(Part::Main);
    broker.subscribe(A, Part::Main, ReceiveMode::PeekLock).unwrap();
    broker.credit(A, 1);
    let got = deliveries(broker.wait(100));
    assert_eq!((got[0].0, got[0].1.message.delivery_count), (A, 1));
    assert_eq!(got[0].1.lock.unwrap().until, Timestamp::from_millis(200));
}

#[test]
fn renewing_extends_all_locks_or_none() {
    let mut broker = Broker::new(locks_of(100));
    broker.send(&["a", "b"]).unwrap();
    let locks = [token(&broker.lock_one(Part::Main)), token(&broker.lock_one(Part::Main))];
    broker.wait(60);
    let renew = |broker: &mut Broker, lock_tokens: &[LockToken]| {
        let lock_tokens = lock_tokens.to_vec();
        match broker.apply(Event::RenewLocks { request: REQUEST, address: at(Part::Main), lock_tokens }).pop() {
            Some(Effect::LocksRenewed { request: REQUEST, result }) => result,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(renew(&mut broker, &[locks[0], LockToken::nil()]), Err(Refusal::LockLost));
    assert_eq!(broker.state.next_deadline(), Some(Timestamp::from_millis(100)), "nothing was extended");
    assert_eq!(renew(&mut broker, &locks), Ok(vec![Timestamp::from_millis(160); 2]));
    broker.wait(99);
    assert_eq!(broker.settle(Part::Main, locks[0], Outcome::Complete), Ok(()));
    broker.wait(1);
    assert_eq!(renew(&mut broker, &locks[1..]), Err(Refusal::LockLost));
}

#[test]
fn a_deferred_message_is_received_by_its_number_only() {
    let mut broker = Broker::new(locks_of(100));
    broker.send(&["a", "b"]).unwrap();
    let lock = token(&broker.lock_one(Part::Main));
    broker.settle(Part::Main, lock, Outcome::Defer { properties: None }).unwrap();
    assert_eq!(texts(&[broker.lock_one(Part::Main)]), ["b"]);

    let receive = |broker: &mut Broker, numbers: &[SequenceNumber], mode| {
        let sequence_numbers = numbers.to_vec();
        let event = Event::ReceiveDeferred { request: REQUEST, address: at(Part::Main), sequence_numbers, mode };
        match broker.apply(event).pop() {
            Some(Effect::DeferredReceived { request: REQUEST, result }) => result,
            other => panic!("{other:?}"),
        }
    };
    let missing = |sequence_number| Err(Refusal::MessageNotFound { sequence_number });
    assert_eq!(receive(&mut broker, &[1, 2], ReceiveMode::PeekLock), missing(2), "2 is locked, not deferred");
    assert_eq!(receive(&mut broker, &[1, 1], ReceiveMode::PeekLock), missing(1));
    let got = receive(&mut broker, &[1], ReceiveMode::PeekLock).unwrap();
    assert_eq!(texts(&got), ["a"]);
    assert_eq!(receive(&mut broker, &[1], ReceiveMode::PeekLock), missing(1), "it is locked now");
    broker.settle(Part::Main, token(&got[0]), Outcome::Abandon { properties: None }).unwrap();
    assert_eq!(broker.describe().counts.deferred, 1, "it returns to the deferred ones");
    let got = receive(&mut broker, &[1], ReceiveMode::ReceiveAndDelete).unwrap();
    assert_eq!((got[0].lock, got[0].message.delivery_count), (None, 1));
    assert_eq!(broker.describe().counts.deferred, 0);
}

#[test]
fn changes_that_make_a_message_too_big_are_refused_and_it_stays_locked() {
    let mut broker = Broker::new(QueueProperties { max_size_bytes: 800, ..QueueProperties::default() });
    broker.send(&["a"]).unwrap();
    let lock = token(&broker.lock_one(Part::Main));
    let with = |length: usize| Outcome::Abandon { properties: Some("x".repeat(length)) };
    // 512 + 1 are there; 900 = 800 and an eighth may be.
    let refused = Refusal::QuotaExceeded { name: queue("orders"), size_bytes: 513, more_bytes: 388, max_bytes: 900 };
    assert_eq!(broker.settle(Part::Main, lock, with(388)), Err(refused));
    assert_eq!(broker.settle(Part::Main, lock, with(387)), Ok(()));
    assert_eq!(broker.describe().size_bytes, 900);
}

#[test]
fn changes_and_reasons_are_bounded_in_an_empty_queue_too() {
    let mut broker = Broker::new(QueueProperties::default());
    broker.send(&["a"]).unwrap();
    let lock = token(&broker.lock_one(Part::Main));
    let text = |length: usize| "x".repeat(length);
    let too_large = Err(Refusal::MessageTooLarge { size_bytes: 1_001, max_bytes: 1_000 });
    assert_eq!(broker.settle(Part::Main, lock, Outcome::Defer { properties: Some(text(1_000)) }), too_large);
    let dead_letter = |properties, reason| Outcome::DeadLetter {
        reason: Some(text(reason)),
        description: Some(text(99)),
        properties: Some(text(properties)),
    };
    assert_eq!(broker.settle(Part::Main, lock, dead_letter(500, 401)), too_large);
    assert_eq!(broker.settle(Part::Main, lock, dead_letter(500, 400)), Ok(()));
    assert_eq!(broker.describe().size_bytes, 512 + 1_000);
}
