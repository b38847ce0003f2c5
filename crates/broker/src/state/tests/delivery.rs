//! Who gets which message, and when.

use super::*;

#[test]
fn messages_are_numbered_from_one_and_delivered_in_order() {
    let mut broker = Broker::new(QueueProperties::default());
    broker.clock = 5;
    assert_eq!(broker.send(&["a", "b"]), Ok(vec![1, 2]));
    assert_eq!(broker.send(&[]), Ok(vec![]));
    assert_eq!(broker.send(&["c"]), Ok(vec![3]));
    broker.subscribe(A, Part::Main, ReceiveMode::PeekLock).unwrap();
    let got = broker.credit(A, 10);
    assert_eq!(texts(&got), ["a", "b", "c"]);
    let first = &got[0];
    assert_eq!((first.message.sequence_number, first.message.delivery_count), (1, 0));
    assert_eq!(first.message.enqueued_at, Timestamp::from_millis(5));
    assert_eq!(first.lock.unwrap().until, Timestamp::from_millis(60_005));
    assert_ne!(token(&got[0]), token(&got[1]));
}

#[test]
fn nothing_is_delivered_beyond_the_credit() {
    let mut broker = Broker::new(QueueProperties::default());
    broker.send(&["a", "b", "c", "d"]).unwrap();
    broker.subscribe(A, Part::Main, ReceiveMode::PeekLock).unwrap();
    assert_eq!(texts(&broker.credit(A, 2)), ["a", "b"]);
    assert_eq!(broker.credit(A, 2), [], "the same limit again is no new credit");
    assert_eq!(broker.describe().counts.locked, 2, "only what is delivered is locked");
    assert_eq!(texts(&broker.credit(A, 3)), ["c"]);
    broker.subscribe(B, Part::Main, ReceiveMode::PeekLock).unwrap();
    assert_eq!(broker.credit(B, 0), []);
}

#[test]
fn receivers_with_credit_take_turns() {
    let mut broker = Broker::new(QueueProperties::default());
    for receiver in [A, B] {
        broker.subscribe(receiver, Part::Main, ReceiveMode::PeekLock).unwrap();
        broker.credit(receiver, 2);
    }
    let messages = ["a", "b", "c", "d", "e"].map(message).into();
    let effects = broker.apply(Event::Send { request: REQUEST, to: queue("orders"), messages });
    assert!(matches!(effects[0], Effect::Sent { .. }), "the answer goes first");
    let turns: Vec<_> = deliveries(effects).iter().map(|(to, one)| (*to, one.message.content.0.clone())).collect();
    let expected = [(A, "a"), (B, "b"), (A, "c"), (B, "d")].map(|(to, text)| (to, text.to_owned()));
    assert_eq!(turns, expected);
}

#[test]
fn receive_and_delete_leaves_nothing() {
    let mut broker = Broker::new(QueueProperties::default());
    broker.send(&["a"]).unwrap();
    broker.subscribe(A, Part::Main, ReceiveMode::ReceiveAndDelete).unwrap();
    let got = broker.credit(A, 1);
    assert_eq!((texts(&got), got[0].lock), (vec!["a"], None));
    assert_eq!((broker.describe().counts.total(), broker.describe().size_bytes), (0, 0));
    assert_eq!(broker.state.next_deadline(), None);
}

#[test]
fn a_drain_voids_the_credit_left() {
    let mut broker = Broker::new(QueueProperties::default());
    broker.send(&["a"]).unwrap();
    broker.subscribe(A, Part::Main, ReceiveMode::PeekLock).unwrap();
    assert_eq!(broker.credit(A, 5).len(), 1);
    assert_eq!(broker.apply(Event::Drain { receiver: A }), [Effect::Drained { receiver: A }]);
    assert_eq!(broker.send(&["b"]), Ok(vec![2]));
    assert_eq!(broker.describe().counts.available, 1);
    assert_eq!(texts(&broker.credit(A, 2)), ["b"]);
    assert_eq!(broker.apply(Event::Drain { receiver: B }), [], "nobody asked");
}

#[test]
fn locks_outlive_their_receiver_and_work_from_anywhere() {
    let mut broker = Broker::new(QueueProperties::default());
    broker.send(&["a"]).unwrap();
    let delivery = broker.lock_one(Part::Main);
    broker.subscribe(A, Part::Main, ReceiveMode::PeekLock).unwrap();
    assert_eq!(broker.credit(A, 1), []);
    assert!(broker.state.holds_lock(&at(Part::Main), &token(&delivery)));
    assert!(!broker.state.holds_lock(&at(Part::DeadLetter), &token(&delivery)));
    assert_eq!(broker.settle(Part::Main, token(&delivery), Outcome::Complete), Ok(()));
    assert!(!broker.state.holds_lock(&at(Part::Main), &token(&delivery)));
}

#[test]
fn who_unsubscribed_gets_nothing_more() {
    let mut broker = Broker::new(QueueProperties::default());
    broker.subscribe(A, Part::Main, ReceiveMode::PeekLock).unwrap();
    broker.credit(A, 5);
    assert_eq!(
        broker.subscribe(A, Part::DeadLetter, ReceiveMode::PeekLock),
        Err(Refusal::ReceiverExists { receiver: A })
    );
    broker.apply(Event::Unsubscribe { receiver: A });
    broker.send(&["a"]).unwrap();
    assert_eq!(broker.describe().counts.available, 1);
    broker.subscribe(A, Part::Main, ReceiveMode::PeekLock).unwrap();
    assert_eq!(broker.describe().counts.available, 1, "a new subscription starts without credit");
}

#[test]
fn a_clock_set_back_stands_still() {
    let mut broker = Broker::new(locks_of(100));
    broker.clock = 1_000;
    broker.send(&["a"]).unwrap();
    broker.clock = 10;
    assert_eq!(broker.lock_one(Part::Main).lock.unwrap().until, Timestamp::from_millis(1_100));
}
