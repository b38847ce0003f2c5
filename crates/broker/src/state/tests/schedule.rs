//! Messages sent for later, and looking at messages of every state.

use super::{super::MessageState, *};

fn due(text: &str, at: i64) -> NewMessage<Text> {
    NewMessage { scheduled_for: Some(Timestamp::from_millis(at)), ..message(text) }
}

fn cancel(broker: &mut Broker, numbers: &[SequenceNumber]) -> Result<(), Refusal> {
    let sequence_numbers = numbers.to_vec();
    match broker.apply(Event::CancelScheduled { request: REQUEST, to: queue("orders"), sequence_numbers }).pop() {
        Some(Effect::ScheduleCancelled { request: REQUEST, result }) => result,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_scheduled_message_becomes_active_under_a_new_number() {
    let mut broker = Broker::new(QueueProperties::default());
    let life = NewMessage { time_to_live: Some(milliseconds(10)), ..due("later", 100) };
    assert_eq!(broker.send_all(vec![life, message("now")]), Ok(vec![1, 2]));
    broker.subscribe(A, Part::Main, ReceiveMode::PeekLock).unwrap();
    assert_eq!(texts(&broker.credit(A, 5)), ["now"]);
    assert_eq!((broker.describe().counts.scheduled, broker.describe().counts.active), (1, 1));
    assert_eq!(broker.peek(Part::Main)[0].expires_at, None);
    assert_eq!(broker.wait(99), []);
    let got = deliveries(broker.wait(1));
    let view = &got[0].1.message;
    assert_eq!((view.sequence_number, view.content.0.as_str()), (3, "later"));
    assert_eq!((view.enqueued_at.as_millis(), view.scheduled_for), (100, Some(Timestamp::from_millis(100))));
    assert_eq!(view.expires_at, Some(Timestamp::from_millis(110)), "its life begins when it becomes active");
}

#[test]
fn messages_due_together_keep_their_order() {
    let mut broker = Broker::new(QueueProperties::default());
    broker.send_all(vec![due("second", 20), due("first", 10), due("third", 20)]).unwrap();
    broker.wait(50);
    let order: Vec<_> = broker.peek(Part::Main).iter().map(|view| view.content.0.clone()).collect();
    assert_eq!(order, ["first", "second", "third"]);
}

#[test]
fn a_time_that_has_come_means_now() {
    let mut broker = Broker::new(QueueProperties::default());
    broker.clock = 100;
    broker.send_all(vec![due("past", 50), due("present", 100)]).unwrap();
    assert_eq!((broker.describe().counts.available, broker.describe().counts.scheduled), (2, 0));
    let numbers: Vec<_> = broker.peek(Part::Main).iter().map(|view| view.sequence_number).collect();
    assert_eq!(numbers, [1, 2]);
}

#[test]
fn cancelling_takes_back_all_or_none() {
    let mut broker = Broker::new(QueueProperties::default());
    broker.send_all(vec![due("a", 100), due("b", 100), message("active")]).unwrap();
    assert_eq!(cancel(&mut broker, &[1, 3]), Err(Refusal::MessageNotFound { sequence_number: 3 }));
    assert_eq!(broker.describe().counts.scheduled, 2);
    assert_eq!(cancel(&mut broker, &[2, 1, 2]), Ok(()));
    assert_eq!(broker.describe().counts.scheduled, 0);
    assert_eq!(cancel(&mut broker, &[1]), Err(Refusal::MessageNotFound { sequence_number: 1 }));
    assert_eq!(broker.wait(100), []);
    assert_eq!(broker.describe().counts.total(), 1);
}

#[test]
fn a_peek_shows_every_state_and_changes_none() {
    let mut broker = Broker::new(QueueProperties::default());
    broker.send_all(vec![message("deferred"), message("locked"), message("free"), due("later", 100)]).unwrap();
    let lock = token(&broker.lock_one(Part::Main));
    broker.settle(Part::Main, lock, Outcome::Defer { properties: None }).unwrap();
    broker.lock_one(Part::Main);
    let before = broker.describe();
    let states: Vec<_> = broker.peek(Part::Main).iter().map(|view| (view.sequence_number, view.state)).collect();
    let active = MessageState::Active;
    assert_eq!(states, [(1, MessageState::Deferred), (2, active), (3, active), (4, MessageState::Scheduled)]);
    assert_eq!(states.iter().map(|(_, state)| state.code()).collect::<Vec<_>>(), [1, 0, 0, 2]);
    assert_eq!(broker.describe(), before);

    let peek = Event::Peek { request: REQUEST, address: at(Part::Main), from: 2, max: 2 };
    let Some(Effect::Peeked { result: Ok(views), .. }) = broker.apply(peek).pop() else { panic!("no answer") };
    assert_eq!(views.iter().map(|view| view.sequence_number).collect::<Vec<_>>(), [2, 3]);
}
