//! Messages that move on by themselves, wait for their target, or end in the transfer dead-letter queue.

use super::{super::Counts, super::EntityStatus, super::MAX_MOVES, super::MESSAGE_OVERHEAD_BYTES, *};

fn to(target: &str) -> QueueProperties {
    QueueProperties { forward_to: Some(queue(target)), ..QueueProperties::default() }
}

fn with_status(status: EntityStatus) -> QueueProperties {
    QueueProperties { status, ..QueueProperties::default() }
}

/// Queues that each forward to the one named before it.
fn chain(names: &[&str]) -> Broker {
    let mut broker = Broker::empty(Config::default());
    for (index, name) in names.iter().enumerate() {
        let properties = if index == 0 { QueueProperties::default() } else { to(names[index - 1]) };
        broker.create(name, properties).unwrap();
    }
    broker
}

fn counts(broker: &Broker, name: &str) -> Counts {
    broker.state.describe(&queue(name)).unwrap().counts
}

/// Why the first message is in the transfer dead-letter queue.
fn given_up(broker: &mut Broker, name: &str) -> String {
    let views = broker.peek_at(Address { queue: queue(name), part: Part::TransferDeadLetter });
    views[0].dead_letter.as_deref().unwrap().reason.clone().unwrap()
}

fn update(broker: &mut Broker, name: &str, properties: QueueProperties) -> Vec<Effect<Text>> {
    broker.apply(Event::UpdateQueue { request: REQUEST, name: queue(name), properties })
}

#[test]
fn a_message_moves_on_at_once_and_keeps_its_first_number_and_its_end() {
    let mut broker = chain(&["last", "first"]);
    broker.send_to("last", vec![message("other")]).unwrap();
    broker.clock = 5;
    let life = NewMessage { time_to_live: Some(milliseconds(50)), ..message("moved") };
    assert_eq!(broker.send_to("first", vec![message("one"), life]), Ok(vec![1, 2]));
    assert_eq!((counts(&broker, "first").total(), counts(&broker, "last").active), (0, 3));
    let views = broker.peek_at(Address::main(queue("last")));
    let moved = &views[2];
    assert_eq!((moved.sequence_number, moved.enqueue_sequence_number, moved.delivery_count), (3, 2, 0));
    assert_eq!(moved.expires_at, Some(Timestamp::from_millis(55)));
    assert_eq!(broker.state.describe(&queue("first")).unwrap().size_bytes, 0);
    broker.wait(50);
    assert_eq!(counts(&broker, "last").active, 2);
}

#[test]
fn whoever_waits_at_the_target_gets_it_in_the_same_step() {
    let mut broker = chain(&["last", "first"]);
    broker.apply(Event::Subscribe { receiver: A, address: Address::main(queue("last")), mode: ReceiveMode::PeekLock });
    broker.credit(A, 1);
    let effects = broker.apply(Event::Send { request: REQUEST, to: queue("first"), messages: vec![message("1")] });
    assert_eq!(deliveries(effects).len(), 1);
}

#[test]
fn scheduled_messages_move_when_they_are_due() {
    let mut broker = chain(&["last", "first"]);
    let later = NewMessage { scheduled_for: Some(Timestamp::from_millis(10)), ..message("later") };
    broker.send_to("first", vec![later]).unwrap();
    assert_eq!((counts(&broker, "first").scheduled, counts(&broker, "last").total()), (1, 0));
    broker.wait(10);
    assert_eq!((counts(&broker, "first").total(), counts(&broker, "last").active), (0, 1));
}

#[test]
fn nobody_receives_from_a_queue_that_forwards_but_from_its_dead_letter_queues() {
    let mut broker = chain(&["last", "first"]);
    let subscribe = |part| Event::Subscribe {
        receiver: A,
        address: Address { queue: queue("first"), part },
        mode: ReceiveMode::PeekLock,
    };
    let refused = broker.apply(subscribe(Part::Main));
    assert!(matches!(refused[..], [Effect::Subscribed { result: Err(Refusal::NotAllowed { .. }), .. }]), "{refused:?}");
    for part in [Part::DeadLetter, Part::TransferDeadLetter] {
        assert_eq!(broker.apply(subscribe(part)), [Effect::Subscribed { receiver: A, result: Ok(()) }]);
        broker.apply(Event::Unsubscribe { receiver: A });
    }
    update(&mut broker, "first", QueueProperties::default());
    broker.apply(subscribe(Part::Main));
    let effects = update(&mut broker, "first", to("last"));
    assert!(matches!(effects[0], Effect::Detach { receiver: A, reason: Refusal::NotAllowed { .. } }), "{effects:?}");
}

#[test]
fn what_was_there_before_moves_when_forwarding_begins_and_what_is_locked_when_it_returns() {
    let mut broker = Broker::new(locks_of(100));
    broker.create("last", QueueProperties::default()).unwrap();
    broker.send(&["locked", "free"]).unwrap();
    broker.lock_one(Part::Main);
    update(&mut broker, "orders", QueueProperties { forward_to: Some(queue("last")), ..locks_of(100) });
    assert_eq!((counts(&broker, "orders").active, counts(&broker, "last").active), (1, 1));
    broker.wait(100);
    assert_eq!((counts(&broker, "orders").total(), counts(&broker, "last").active), (0, 2));
}

#[test]
fn messages_wait_while_the_target_takes_none() {
    let mut broker = chain(&["last", "first"]);
    update(&mut broker, "last", with_status(EntityStatus::SendDisabled));
    broker.send_to("first", vec![message("1"), message("2")]).unwrap();
    let waiting = counts(&broker, "first");
    assert_eq!((waiting.transfer, waiting.active, waiting.available, waiting.total()), (2, 0, 0, 2));
    update(&mut broker, "last", with_status(EntityStatus::ReceiveDisabled));
    assert_eq!((counts(&broker, "first").transfer, counts(&broker, "last").active), (0, 2));
}

#[test]
fn a_deleted_target_sends_them_to_the_transfer_dead_letter_queue() {
    let mut broker = chain(&["last", "first"]);
    update(&mut broker, "last", with_status(EntityStatus::Disabled));
    broker.send_to("first", vec![message("waits")]).unwrap();
    broker.apply(Event::Delete { request: REQUEST, name: queue("last") });
    assert_eq!((counts(&broker, "first").transfer, counts(&broker, "first").transfer_dead_letter), (0, 1));
    broker.send_to("first", vec![message("finds nothing")]).unwrap();
    assert_eq!(counts(&broker, "first").transfer_dead_letter, 2);
    assert_eq!(given_up(&mut broker, "first"), "TransferDestinationNotFound");
    let status = with_status(EntityStatus::Active).status;
    update(&mut broker, "first", QueueProperties { status, max_delivery_count: 3, ..to("last") });
    assert_eq!(
        broker.state.describe(&queue("first")).unwrap().properties.max_delivery_count,
        3,
        "can be changed still"
    );

    let address = Address { queue: queue("first"), part: Part::TransferDeadLetter };
    broker.apply(Event::Subscribe { receiver: A, address: address.clone(), mode: ReceiveMode::PeekLock });
    let lock_token = token(&broker.credit(A, 1)[0]);
    let dead_letter = Outcome::DeadLetter { reason: None, description: None, properties: None };
    for (outcome, result) in [(dead_letter, Err(Refusal::AlreadyDeadLettered)), (Outcome::Complete, Ok(()))] {
        let settle = Event::Settle { request: REQUEST, address: address.clone(), lock_token, outcome };
        assert_eq!(broker.apply(settle), [Effect::Settled { request: REQUEST, result }]);
    }
    assert_eq!(counts(&broker, "first").transfer_dead_letter, 1);
}

#[test]
fn a_full_target_sends_them_to_the_transfer_dead_letter_queue() {
    let mut broker = chain(&["last", "first"]);
    let max_size_bytes = MESSAGE_OVERHEAD_BYTES + 1;
    update(&mut broker, "last", QueueProperties { max_size_bytes, ..QueueProperties::default() });
    broker.send_to("first", vec![message("1"), message("2")]).unwrap();
    assert_eq!((counts(&broker, "last").active, counts(&broker, "first").transfer_dead_letter), (1, 1));
    assert_eq!(given_up(&mut broker, "first"), "TransferDestinationQuotaExceeded");
}

#[test]
fn a_message_moves_four_times_at_most() {
    let mut broker = chain(&["e", "d", "c", "b", "a"]);
    broker.send_to("a", vec![message("four")]).unwrap();
    assert_eq!(counts(&broker, "e").active, 1);
    broker.create("z", to("a")).unwrap();
    broker.send_to("z", vec![message("five")]).unwrap();
    assert_eq!((counts(&broker, "e").active, counts(&broker, "d").transfer_dead_letter), (1, 1));
    assert_eq!(given_up(&mut broker, "d"), "MaxTransferHopCountExceeded");
    // A circle ends by the same rule.
    update(&mut broker, "e", to("a"));
    assert_eq!(counts(&broker, "e").transfer_dead_letter, 1, "it had moved four times");
}

#[test]
fn dead_letters_move_on_with_their_reason_and_where_they_come_from() {
    let mut broker = Broker::empty(Config::default());
    broker.create("bin", QueueProperties::default()).unwrap();
    let forward_dead_letters_to = Some(queue("bin"));
    let expiring = QueueProperties { dead_letter_on_expiration: true, ..QueueProperties::default() };
    broker.create("orders", QueueProperties { forward_dead_letters_to, ..expiring }).unwrap();
    let short = NewMessage { time_to_live: Some(milliseconds(10)), ..message("short") };
    broker.send_all(vec![short, message("bad")]).unwrap();
    broker.wait(10);
    let bad = token(&broker.lock_one(Part::Main));
    let reason = Some("Bad".to_owned());
    broker.settle(Part::Main, bad, Outcome::DeadLetter { reason, description: None, properties: None }).unwrap();
    assert_eq!((broker.describe().counts.total(), counts(&broker, "bin").active), (0, 2));
    let refused = broker.subscribe(A, Part::DeadLetter, ReceiveMode::PeekLock);
    assert!(matches!(refused, Err(Refusal::NotAllowed { .. })), "{refused:?}");
    assert_eq!(broker.subscribe(A, Part::Main, ReceiveMode::PeekLock), Ok(()));
    let views = broker.peek_at(Address::main(queue("bin")));
    let reasons: Vec<_> =
        views.iter().map(|view| view.dead_letter.as_deref().unwrap().reason.clone().unwrap()).collect();
    assert_eq!(reasons, ["TTLExpiredException", "Bad"]);
    assert_eq!((views[0].dead_letter_source.clone(), views[0].expires_at), (Some(queue("orders")), None));
    assert_eq!(views[1].enqueue_sequence_number, 2);
}

#[test]
fn a_subscription_forwards_its_copies_and_a_topic_takes_them() {
    let mut broker = Broker::empty(Config::default());
    for topic in ["first", "second"] {
        broker.create_topic(topic, TopicProperties::default()).unwrap();
    }
    broker.create_subscription("first", "on", to("second")).unwrap();
    broker.create_subscription("first", "keeps", QueueProperties::default()).unwrap();
    for name in ["a", "b"] {
        broker.create_subscription("second", name, QueueProperties::default()).unwrap();
    }
    broker.send_to("second", vec![message("own")]).unwrap();
    broker.send_to("first", vec![message("1")]).unwrap();
    let active = |topic, name| broker.state.describe(&subscription(topic, name)).unwrap().counts.active;
    assert_eq!([active("first", "on"), active("first", "keeps")], [0, 1]);
    assert_eq!([active("second", "a"), active("second", "b")], [2, 2]);
    let views = broker.peek_at(Address::main(subscription("second", "b")));
    assert_eq!((views[1].sequence_number, views[1].enqueue_sequence_number), (2, 1), "the number in the first topic");
}

#[test]
fn a_target_must_be_another_queue_or_topic_that_exists() {
    let mut broker = chain(&["last"]);
    broker.create_topic("t", TopicProperties::default()).unwrap();
    broker.create_subscription("t", "s", QueueProperties::default()).unwrap();
    let refused = |name: EntityName| Err(Refusal::ForwardTarget { target: name });
    for target in [queue("missing"), queue("SELF"), subscription("t", "s")] {
        let forward = QueueProperties { forward_to: Some(target.clone()), ..QueueProperties::default() };
        assert_eq!(broker.create("self", forward.clone()), refused(target.clone()));
        let dead_letters = QueueProperties { forward_to: None, forward_dead_letters_to: forward.forward_to, ..forward };
        assert_eq!(broker.create("self", dead_letters), refused(target));
    }
    assert_eq!(broker.create("self", to("T")), Ok(()));
    assert_eq!(administered(&update(&mut broker, "self", to("self"))), refused(queue("self")));
}

#[test]
fn what_multiplies_is_done_a_step_at_a_time_and_comes_to_an_end() {
    let mut broker = Broker::empty(Config::default());
    broker.create_topic("t", TopicProperties::default()).unwrap();
    let names = ["a", "b", "c", "d", "e"];
    for name in names {
        broker.create_subscription("t", name, to("t")).unwrap();
    }
    broker.send_to("t", vec![message("1")]).unwrap();
    assert_eq!(broker.state.next_deadline(), Some(Timestamp::from_millis(0)), "more is left to do now");
    let held = |broker: &Broker| {
        let subscriptions = broker.state.list_subscriptions(&queue("t")).unwrap();
        subscriptions.map(|one| one.counts.total()).sum::<u64>()
    };
    let mut steps = 1;
    while broker.state.next_deadline().is_some() {
        let before = held(&broker);
        broker.apply(Event::Tick);
        assert!(held(&broker) - before <= 2 * (MAX_MOVES as u64 + 5), "a step does no more");
        steps += 1;
        assert!(steps < 100, "it does not come to an end");
    }
    // Five copies of the one, five of each of those, and so on: four times after the first.
    assert_eq!(held(&broker), 5_u64.pow(5));
    for name in names {
        let counts = broker.state.describe(&subscription("t", name)).unwrap().counts;
        assert_eq!((counts.transfer, counts.transfer_dead_letter), (0, 5_u64.pow(4)));
    }
    assert!(steps >= 3, "in {steps} steps");
}
