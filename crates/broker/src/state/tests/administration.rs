//! Queues come, change and go; their counts and times.

use super::{super::EntityStatus, *};

fn with_status(status: EntityStatus) -> QueueProperties {
    QueueProperties { status, ..QueueProperties::default() }
}

fn update(broker: &mut Broker, properties: QueueProperties) -> Vec<Effect<Text>> {
    broker.apply(Event::UpdateQueue { request: REQUEST, name: queue("ORDERS"), properties })
}

#[test]
fn names_are_one_whatever_their_case_and_listed_in_order() {
    let mut broker = Broker::new(QueueProperties::default());
    assert_eq!(
        broker.create("ORDERS", QueueProperties::default()),
        Err(Refusal::AlreadyExists { name: queue("orders") })
    );
    for name in ["Zebra", "apple", "Queue/7"] {
        broker.create(name, QueueProperties::default()).unwrap();
    }
    let listed: Vec<_> = broker.state.list().map(|queue| queue.name.to_string()).collect();
    assert_eq!(listed, ["apple", "orders", "Queue/7", "Zebra"]);
    assert_eq!(broker.state.describe(&queue("ZEBRA")).unwrap().name.as_str(), "Zebra");
}

#[test]
fn queues_are_limited_in_number() {
    let mut broker = Broker::empty(Config { max_entities: 1, ..Config::default() });
    broker.create("one", QueueProperties::default()).unwrap();
    assert_eq!(broker.create("two", QueueProperties::default()), Err(Refusal::TooManyEntities { max: 1 }));
    broker.apply(Event::Delete { request: REQUEST, name: queue("one") });
    assert_eq!(broker.create("two", QueueProperties::default()), Ok(()));
}

#[test]
fn what_is_not_there_is_not_found() {
    let mut broker = Broker::empty(Config::default());
    let not_found = || Refusal::NotFound { name: queue("orders") };
    assert_eq!(broker.send(&["a"]), Err(not_found()));
    assert_eq!(broker.subscribe(A, Part::DeadLetter, ReceiveMode::PeekLock), Err(not_found()));
    assert_eq!(broker.settle(Part::Main, LockToken::nil(), Outcome::Complete), Err(not_found()));
    assert_eq!(administered(&update(&mut broker, QueueProperties::default())), Err(not_found()));
    let deleted = broker.apply(Event::Delete { request: REQUEST, name: queue("orders") });
    assert_eq!(deleted, [Effect::Administered { request: REQUEST, result: Err(not_found()) }]);
    assert_eq!(broker.state.describe(&queue("orders")), None);
}

#[test]
fn deleting_detaches_receivers_and_forgets_messages_locks_and_numbers() {
    let mut broker = Broker::new(QueueProperties::default());
    broker.send(&["a", "b"]).unwrap();
    let locked = broker.lock_one(Part::Main);
    broker.subscribe(B, Part::DeadLetter, ReceiveMode::PeekLock).unwrap();
    broker.subscribe(A, Part::Main, ReceiveMode::PeekLock).unwrap();

    let reason = Refusal::NotFound { name: queue("orders") };
    assert_eq!(
        broker.apply(Event::Delete { request: REQUEST, name: queue("Orders") }),
        [
            Effect::Detach { receiver: A, reason: reason.clone() },
            Effect::Detach { receiver: B, reason },
            Effect::Deleted { name: queue("orders") },
            Effect::Administered { request: REQUEST, result: Ok(()) },
        ]
    );
    assert_eq!(broker.state.next_deadline(), None);
    broker.create("orders", QueueProperties::default()).unwrap();
    assert_eq!(broker.settle(Part::Main, token(&locked), Outcome::Complete), Err(Refusal::LockLost));
    assert_eq!(broker.credit(A, 1), [], "the receiver is no longer subscribed");
    assert_eq!(broker.send(&["c"]), Ok(vec![1]));
}

#[test]
fn a_status_stops_what_it_names() {
    let refused = |status| Refusal::EntityDisabled { name: queue("orders"), status };
    for (status, sends, receives) in [
        (EntityStatus::Active, true, true),
        (EntityStatus::Disabled, false, false),
        (EntityStatus::SendDisabled, false, true),
        (EntityStatus::ReceiveDisabled, true, false),
    ] {
        let mut broker = Broker::new(with_status(status));
        assert_eq!(broker.send(&["a"]).is_ok(), sends, "{status:?}");
        assert_eq!(
            broker.subscribe(A, Part::Main, ReceiveMode::PeekLock),
            if receives { Ok(()) } else { Err(refused(status)) }
        );
    }
}

#[test]
fn disabling_detaches_receivers_but_their_locks_can_be_settled() {
    let mut broker = Broker::new(QueueProperties::default());
    broker.send(&["a"]).unwrap();
    broker.subscribe(A, Part::Main, ReceiveMode::PeekLock).unwrap();
    let delivery = broker.credit(A, 5).remove(0);
    broker.clock = 10;
    let status = EntityStatus::ReceiveDisabled;
    let reason = Refusal::EntityDisabled { name: queue("orders"), status };
    assert_eq!(
        update(&mut broker, with_status(status)),
        [Effect::Detach { receiver: A, reason }, Effect::Administered { request: REQUEST, result: Ok(()) }]
    );
    assert_eq!(broker.settle(Part::Main, token(&delivery), Outcome::Complete), Ok(()));
    assert_eq!(broker.describe().updated_at, Timestamp::from_millis(10));
    assert!(broker.subscribe(A, Part::Main, ReceiveMode::PeekLock).is_err());
}

#[test]
fn counts_tell_the_kinds_apart() {
    let mut broker = Broker::new(QueueProperties::default());
    let later = NewMessage { scheduled_for: Some(Timestamp::from_millis(1_000)), ..message("later") };
    broker.send_all(vec![message("dead"), message("deferred"), message("locked"), message("here"), later]).unwrap();
    let dead = broker.lock_one(Part::Main);
    let outcome = Outcome::DeadLetter { reason: None, description: None, properties: None };
    broker.settle(Part::Main, token(&dead), outcome).unwrap();
    let deferred = broker.lock_one(Part::Main);
    broker.settle(Part::Main, token(&deferred), Outcome::Defer { properties: None }).unwrap();
    broker.lock_one(Part::Main);

    let counts = broker.describe().counts;
    assert_eq!((counts.available, counts.locked, counts.deferred), (1, 1, 1));
    assert_eq!((counts.active, counts.scheduled, counts.dead_letter, counts.total()), (3, 1, 1, 5));

    let counted = |count_locked_as_active, count_deferred_as_active| {
        let config = Config { count_locked_as_active, count_deferred_as_active, ..Config::default() };
        let mut broker = Broker::empty(config);
        broker.create("orders", QueueProperties::default()).unwrap();
        broker.send(&["deferred", "locked", "locked"]).unwrap();
        let deferred = broker.lock_one(Part::Main);
        broker.settle(Part::Main, token(&deferred), Outcome::Defer { properties: None }).unwrap();
        broker.lock_one(Part::Main);
        broker.lock_one(Part::Main);
        broker.describe().counts.active
    };
    assert_eq!([counted(true, true), counted(true, false), counted(false, true), counted(false, false)], [3, 2, 1, 0]);
}

#[test]
fn times_say_when_it_was_made_and_used() {
    let mut broker = Broker::empty(Config::default());
    broker.clock = 5;
    broker.create("orders", QueueProperties::default()).unwrap();
    assert_eq!((broker.describe().created_at, broker.describe().accessed_at), (Timestamp::from_millis(5), None));
    broker.clock = 9;
    broker.send(&["a"]).unwrap();
    assert_eq!(broker.describe().accessed_at, Some(Timestamp::from_millis(9)));
    broker.clock = 12;
    broker.lock_one(Part::Main);
    assert_eq!(broker.describe().accessed_at, Some(Timestamp::from_millis(12)));
}

#[test]
fn a_full_queue_takes_no_more_and_none_of_a_batch() {
    let two = 2 * (super::super::MESSAGE_OVERHEAD_BYTES + 10);
    let mut broker = Broker::new(QueueProperties { max_size_bytes: two, ..QueueProperties::default() });
    let ten = "0123456789";
    assert_eq!(broker.send(&[ten]), Ok(vec![1]));
    let full = Refusal::QuotaExceeded { name: queue("orders"), size_bytes: two / 2, more_bytes: two, max_bytes: two };
    assert_eq!(broker.send(&[ten, ten]), Err(full));
    assert_eq!(broker.send(&[ten]), Ok(vec![2]), "a refused batch uses no numbers");
    assert_eq!(broker.describe().size_bytes, two);

    let dead = broker.lock_one(Part::Main);
    let outcome = Outcome::DeadLetter { reason: Some("bad".to_owned()), description: None, properties: None };
    broker.settle(Part::Main, token(&dead), outcome).unwrap();
    assert_eq!(broker.describe().size_bytes, two + 3);
    assert!(broker.send(&[ten]).is_err(), "the dead-letter queue counts too");
    let dead = broker.lock_one(Part::DeadLetter);
    broker.settle(Part::DeadLetter, token(&dead), Outcome::Complete).unwrap();
    assert_eq!(broker.send(&[ten]), Ok(vec![3]));
}
