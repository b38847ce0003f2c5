//! Topics and their subscriptions: copies, scheduled messages, sizes, limits.

use super::{super::EntityStatus, super::MESSAGE_OVERHEAD_BYTES, *};

/// A topic `t` with these subscriptions.
fn broker_with(subscriptions: &[&str]) -> Broker {
    let mut broker = Broker::empty(Config::default());
    broker.create_topic("t", TopicProperties::default()).unwrap();
    for name in subscriptions {
        broker.create_subscription("t", name, QueueProperties::default()).unwrap();
    }
    broker
}

fn seen(broker: &mut Broker, name: &str) -> Vec<(SequenceNumber, SequenceNumber, String)> {
    let views = broker.peek_at(Address::main(subscription("t", name)));
    views.iter().map(|view| (view.sequence_number, view.enqueue_sequence_number, view.content.0.clone())).collect()
}

fn scheduled(broker: &Broker) -> u64 {
    broker.state.describe_topic(&queue("t")).unwrap().counts.scheduled
}

#[test]
fn every_subscription_gets_a_copy_with_a_number_of_its_own() {
    let mut broker = broker_with(&["a"]);
    assert_eq!(broker.send_to("T", vec![message("1"), message("2")]), Ok(vec![1, 2]));
    broker.create_subscription("t", "b", QueueProperties::default()).unwrap();
    assert_eq!(broker.send_to("t", vec![message("3")]), Ok(vec![3]));
    let text = str::to_owned;
    assert_eq!(seen(&mut broker, "A"), [(1, 1, text("1")), (2, 2, text("2")), (3, 3, text("3"))]);
    assert_eq!(seen(&mut broker, "b"), [(1, 3, text("3"))], "what was sent before it came is not in it");
    let topic = broker.state.describe_topic(&queue("t")).unwrap();
    assert_eq!((topic.subscriptions, topic.counts.total()), (2, 0));
    assert_eq!(topic.size_bytes, 4 * (MESSAGE_OVERHEAD_BYTES + 1));
}

#[test]
fn a_topic_without_subscriptions_takes_messages_and_keeps_none() {
    let mut broker = broker_with(&[]);
    assert_eq!(broker.send_to("t", vec![message("1")]), Ok(vec![1]));
    assert_eq!(broker.state.describe_topic(&queue("t")).unwrap().size_bytes, 0);
}

#[test]
fn who_waits_at_a_subscription_gets_the_copy_at_once() {
    let mut broker = broker_with(&["a", "b"]);
    for (receiver, name) in [(A, "a"), (B, "b")] {
        let address = Address::main(subscription("t", name));
        broker.apply(Event::Subscribe { receiver, address, mode: ReceiveMode::PeekLock });
        broker.credit(receiver, 1);
    }
    let effects = broker.apply(Event::Send { request: REQUEST, to: queue("t"), messages: vec![message("1")] });
    let got: Vec<_> = deliveries(effects).into_iter().map(|(receiver, _)| receiver).collect();
    assert_eq!(got, [A, B]);
}

#[test]
fn scheduled_messages_wait_in_the_topic_and_go_to_the_subscriptions_there_are_then() {
    let mut broker = broker_with(&["a"]);
    let due = |text: &str| NewMessage { scheduled_for: Some(Timestamp::from_millis(50)), ..message(text) };
    let life = NewMessage { time_to_live: Some(milliseconds(10)), ..due("later") };
    assert_eq!(broker.send_to("t", vec![life, due("never")]), Ok(vec![1, 2]));
    let cancel = Event::CancelScheduled { request: REQUEST, to: queue("t"), sequence_numbers: vec![2] };
    assert_eq!(broker.apply(cancel.clone()), [Effect::ScheduleCancelled { request: REQUEST, result: Ok(()) }]);
    let missing = Err(Refusal::MessageNotFound { sequence_number: 2 });
    assert_eq!(broker.apply(cancel), [Effect::ScheduleCancelled { request: REQUEST, result: missing }]);
    broker.create_subscription("t", "b", QueueProperties::default()).unwrap();
    assert_eq!((scheduled(&broker), seen(&mut broker, "a")), (1, vec![]));
    assert_eq!(broker.state.next_deadline(), Some(Timestamp::from_millis(50)));
    broker.wait(50);
    assert_eq!(scheduled(&broker), 0);
    for name in ["a", "b"] {
        assert_eq!(seen(&mut broker, name), [(1, 3, "later".to_owned())], "a new number when it comes due");
    }
    broker.wait(10);
    assert_eq!(seen(&mut broker, "a"), [], "its life began when it became active");
}

#[test]
fn the_shortest_of_three_lives_counts() {
    let mut broker = Broker::empty(Config::default());
    let lives = |life| QueueProperties { default_time_to_live: Some(milliseconds(life)), ..QueueProperties::default() };
    let default_time_to_live = Some(milliseconds(40));
    broker.create_topic("t", TopicProperties { default_time_to_live, ..TopicProperties::default() }).unwrap();
    broker.create_subscription("t", "short", lives(30)).unwrap();
    broker.create_subscription("t", "long", lives(90)).unwrap();
    let own = NewMessage { time_to_live: Some(milliseconds(10)), ..message("own") };
    broker.send_to("t", vec![own, message("default")]).unwrap();
    let mut ends = |name| {
        let views = broker.peek_at(Address::main(subscription("t", name)));
        views.iter().map(|view| view.expires_at.unwrap().as_millis()).collect::<Vec<_>>()
    };
    assert_eq!((ends("short"), ends("long")), (vec![10, 30], vec![10, 40]));
}

#[test]
fn a_full_topic_takes_no_copies_and_keeps_what_was_scheduled() {
    let one = MESSAGE_OVERHEAD_BYTES + 1;
    let mut broker = Broker::empty(Config::default());
    broker.create_topic("t", TopicProperties { max_size_bytes: 2 * one, ..TopicProperties::default() }).unwrap();
    for name in ["a", "b"] {
        broker.create_subscription("t", name, QueueProperties::default()).unwrap();
    }
    let later = NewMessage { scheduled_for: Some(Timestamp::from_millis(10)), ..message("1") };
    broker.send_to("t", vec![later]).unwrap();
    let refused = broker.send_to("t", vec![message("2")]).unwrap_err();
    let full = Refusal::QuotaExceeded { name: queue("t"), size_bytes: one, more_bytes: 2 * one, max_bytes: 2 * one };
    assert_eq!(refused, full, "two copies do not fit beside the scheduled one");
    broker.create_subscription("t", "c", QueueProperties::default()).unwrap();
    broker.wait(10);
    assert_eq!((scheduled(&broker), seen(&mut broker, "a")), (1, vec![]), "three copies do not fit at all");
    assert_eq!(broker.state.next_deadline(), Some(Timestamp::from_millis(1_010)), "it is tried again");
    broker.apply(Event::Delete { request: REQUEST, name: subscription("t", "c") });
    broker.wait(1_000);
    assert_eq!((scheduled(&broker), seen(&mut broker, "a").len()), (0, 1));
}

#[test]
fn a_status_of_the_topic_holds_for_receivers_of_its_subscriptions() {
    let mut broker = broker_with(&["s"]);
    let address = Address::dead_letter(subscription("t", "s"));
    let subscribe = || Event::Subscribe { receiver: A, address: address.clone(), mode: ReceiveMode::PeekLock };
    broker.apply(subscribe());
    let status = EntityStatus::ReceiveDisabled;
    let properties = TopicProperties { status, ..TopicProperties::default() };
    let update = |properties| Event::UpdateTopic { request: REQUEST, name: queue("t"), properties };
    let reason = Refusal::EntityDisabled { name: queue("t"), status };
    assert_eq!(
        broker.apply(update(properties)),
        [
            Effect::Detach { receiver: A, reason: reason.clone() },
            Effect::Administered { request: REQUEST, result: Ok(()) }
        ]
    );
    assert_eq!(broker.apply(subscribe()), [Effect::Subscribed { receiver: A, result: Err(reason) }]);
    assert_eq!(broker.send_to("t", vec![message("1")]), Ok(vec![1]), "sending is allowed");
    for (status, sends) in [(EntityStatus::SendDisabled, false), (EntityStatus::Disabled, false)] {
        broker.apply(update(TopicProperties { status, ..TopicProperties::default() }));
        assert_eq!(broker.send_to("t", vec![message("2")]).is_ok(), sends, "{status:?}");
    }
}

#[test]
fn due_messages_and_copies_come_whatever_the_status() {
    let mut broker = broker_with(&["s"]);
    let later = NewMessage { scheduled_for: Some(Timestamp::from_millis(10)), ..message("1") };
    broker.send_to("t", vec![later]).unwrap();
    let disabled = QueueProperties { status: EntityStatus::Disabled, ..QueueProperties::default() };
    broker.apply(Event::UpdateQueue { request: REQUEST, name: subscription("t", "s"), properties: disabled });
    let properties = TopicProperties { status: EntityStatus::Disabled, ..TopicProperties::default() };
    broker.apply(Event::UpdateTopic { request: REQUEST, name: queue("t"), properties });
    broker.wait(10);
    assert_eq!(seen(&mut broker, "s").len(), 1);
}

#[test]
fn names_and_numbers_are_limited() {
    let mut broker = Broker::empty(Config { max_entities: 2, max_subscriptions: 1, ..Config::default() });
    broker.create("q", QueueProperties::default()).unwrap();
    let missing = Refusal::NotFound { name: queue("t") };
    assert_eq!(broker.create_subscription("t", "s", QueueProperties::default()), Err(missing));
    broker.create_topic("t", TopicProperties::default()).unwrap();
    let taken = |name| Err(Refusal::AlreadyExists { name: queue(name) });
    assert_eq!(broker.create("T", QueueProperties::default()), taken("t"));
    assert_eq!(broker.create_topic("Q", TopicProperties::default()), taken("q"));
    assert_eq!(broker.create_topic("more", TopicProperties::default()), Err(Refusal::TooManyEntities { max: 2 }));
    broker.create_subscription("t", "S", QueueProperties::default()).unwrap();
    let full = Refusal::TooManySubscriptions { topic: queue("t"), max: 1 };
    assert_eq!(broker.create_subscription("T", "other", QueueProperties::default()), Err(full));
    let taken = Refusal::AlreadyExists { name: subscription("t", "s") };
    assert_eq!(broker.create_subscription("t", "s", QueueProperties::default()), Err(taken));
    let listed: Vec<_> =
        broker.state.list_subscriptions(&queue("T")).unwrap().map(|one| one.name.to_string()).collect();
    assert_eq!(listed, ["t/Subscriptions/S"], "shown under the topic's first spelling");
}

#[test]
fn what_each_kind_does_not_do_is_refused() {
    let mut broker = broker_with(&["s"]);
    let send = Event::Send { request: REQUEST, to: subscription("t", "s"), messages: vec![message("1")] };
    let Some(Effect::Sent { result: Err(Refusal::NotAllowed { name, .. }), .. }) = broker.apply(send).pop() else {
        panic!("sent to a subscription")
    };
    assert_eq!(name, subscription("t", "s"));
    let mode = ReceiveMode::PeekLock;
    let subscribe = Event::Subscribe { receiver: A, address: Address::main(queue("t")), mode };
    let refused = broker.apply(subscribe);
    assert!(matches!(refused[..], [Effect::Subscribed { result: Err(Refusal::NotAllowed { .. }), .. }]), "{refused:?}");
    let update = Event::UpdateQueue { request: REQUEST, name: queue("t"), properties: QueueProperties::default() };
    assert_eq!(administered(&broker.apply(update)), Err(Refusal::NotFound { name: queue("t") }));
}

#[test]
fn deleting_a_topic_deletes_its_subscriptions_and_detaches_their_receivers() {
    let mut broker = broker_with(&["a", "b"]);
    broker.send_to("t", vec![message("1")]).unwrap();
    let address = Address::main(subscription("t", "b"));
    broker.apply(Event::Subscribe { receiver: A, address, mode: ReceiveMode::PeekLock });
    broker.credit(A, 1);
    let (a, b) = (subscription("t", "a"), subscription("t", "b"));
    assert_eq!(
        broker.apply(Event::Delete { request: REQUEST, name: queue("T") }),
        [
            Effect::Deleted { name: a.clone() },
            Effect::Detach { receiver: A, reason: Refusal::NotFound { name: b.clone() } },
            Effect::Deleted { name: b.clone() },
            Effect::Deleted { name: queue("t") },
            Effect::Administered { request: REQUEST, result: Ok(()) },
        ]
    );
    assert_eq!((broker.state.next_deadline(), broker.state.describe(&a)), (None, None));
    assert!(!broker.state.exists(&b));
}
