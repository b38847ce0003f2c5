//! The rules of the broker, one test each. `crates/broker/tests/oracle.rs` then checks them in all combinations.

mod administration;
mod delivery;
mod expiry;
mod forwarding;
mod schedule;
mod settlement;
mod topics;

use std::time::Duration;

use super::{
    Address, Config, Content, Delivery, Effect, EntityName, Event, LockToken, MessageView, NewMessage, Outcome, Part,
    QueueProperties, QueueSnapshot, ReceiveMode, ReceiverId, Refusal, RequestId, SequenceNumber, State, Timestamp,
    TopicProperties,
};

const REQUEST: RequestId = RequestId(7);
const A: ReceiverId = ReceiverId(1);
const B: ReceiverId = ReceiverId(2);

/// A message's content: its text, to which changes are appended.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Text(String);

impl Content for Text {
    type Properties = String;

    const MAX_BYTES: u64 = 1_000;

    fn size_bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn amend(&mut self, properties: &String) {
        self.0.push_str(properties);
    }
}

/// A broker with the queue `orders`, and a clock in milliseconds that starts at 0.
struct Broker {
    state: State<Text>,
    clock: i64,
}

impl Broker {
    fn new(properties: QueueProperties) -> Self {
        let mut broker = Self::empty(Config::default());
        broker.create("orders", properties).unwrap();
        broker
    }

    fn empty(config: Config) -> Self {
        Self { state: State::new(config, [3; 32]), clock: 0 }
    }

    fn apply(&mut self, event: Event<Text>) -> Vec<Effect<Text>> {
        self.state.apply(event, Timestamp::from_millis(self.clock))
    }

    /// Lets time pass and returns what that brought.
    fn wait(&mut self, milliseconds: i64) -> Vec<Effect<Text>> {
        self.clock += milliseconds;
        self.apply(Event::Tick)
    }

    fn create(&mut self, name: &str, properties: QueueProperties) -> Result<(), Refusal> {
        administered(&self.apply(Event::CreateQueue { request: REQUEST, name: queue(name), properties }))
    }

    fn create_topic(&mut self, name: &str, properties: TopicProperties) -> Result<(), Refusal> {
        administered(&self.apply(Event::CreateTopic { request: REQUEST, name: queue(name), properties }))
    }

    fn create_subscription(&mut self, topic: &str, name: &str, properties: QueueProperties) -> Result<(), Refusal> {
        let name = subscription(topic, name);
        administered(&self.apply(Event::CreateQueue { request: REQUEST, name, properties }))
    }

    fn send(&mut self, texts: &[&str]) -> Result<Vec<SequenceNumber>, Refusal> {
        self.send_all(texts.iter().map(|text| message(text)).collect())
    }

    fn send_all(&mut self, messages: Vec<NewMessage<Text>>) -> Result<Vec<SequenceNumber>, Refusal> {
        self.send_to("orders", messages)
    }

    fn send_to(&mut self, name: &str, messages: Vec<NewMessage<Text>>) -> Result<Vec<SequenceNumber>, Refusal> {
        let effects = self.apply(Event::Send { request: REQUEST, to: queue(name), messages });
        let answer = effects.into_iter().find_map(|effect| match effect {
            Effect::Sent { request: REQUEST, result } => Some(result),
            _ => None,
        });
        answer.expect("an answer")
    }

    fn subscribe(&mut self, receiver: ReceiverId, part: Part, mode: ReceiveMode) -> Result<(), Refusal> {
        match &self.apply(Event::Subscribe { receiver, address: at(part), mode })[..] {
            [Effect::Subscribed { receiver: answered, result }] if *answered == receiver => result.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// Raises what a receiver may get in all to `limit` and returns what it got.
    fn credit(&mut self, receiver: ReceiverId, limit: u64) -> Vec<Delivery<Text>> {
        deliveries(self.apply(Event::Credit { receiver, limit })).into_iter().map(|(_, delivery)| delivery).collect()
    }

    /// A locked message of a receiver made for it, which then leaves.
    fn lock_one(&mut self, part: Part) -> Delivery<Text> {
        let receiver = ReceiverId(99);
        self.subscribe(receiver, part, ReceiveMode::PeekLock).unwrap();
        let delivery = self.credit(receiver, 1).remove(0);
        self.apply(Event::Unsubscribe { receiver });
        delivery
    }

    fn settle(&mut self, part: Part, lock_token: LockToken, outcome: Outcome<String>) -> Result<(), Refusal> {
        let effects = self.apply(Event::Settle { request: REQUEST, address: at(part), lock_token, outcome });
        let answer = effects.into_iter().find_map(|effect| match effect {
            Effect::Settled { request: REQUEST, result } => Some(result),
            _ => None,
        });
        answer.expect("an answer")
    }

    fn peek(&mut self, part: Part) -> Vec<MessageView<Text>> {
        self.peek_at(at(part))
    }

    fn peek_at(&mut self, address: Address) -> Vec<MessageView<Text>> {
        let peek = Event::Peek { request: REQUEST, address, from: 0, max: 100 };
        match self.apply(peek).pop() {
            Some(Effect::Peeked { request: REQUEST, result }) => result.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn describe(&self) -> QueueSnapshot {
        self.state.describe(&queue("orders")).unwrap()
    }
}

fn queue(name: &str) -> EntityName {
    EntityName::new(name).unwrap()
}

fn subscription(topic: &str, name: &str) -> EntityName {
    EntityName::subscription(&queue(topic), name).unwrap()
}

fn at(part: Part) -> Address {
    Address { queue: queue("orders"), part }
}

fn message(text: &str) -> NewMessage<Text> {
    NewMessage { content: Text(text.to_owned()), time_to_live: None, scheduled_for: None }
}

fn milliseconds(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn locks_of(millis: u64) -> QueueProperties {
    QueueProperties { lock_duration: milliseconds(millis), ..QueueProperties::default() }
}

fn administered(effects: &[Effect<Text>]) -> Result<(), Refusal> {
    match effects.last() {
        Some(Effect::Administered { request: REQUEST, result }) => result.clone(),
        other => panic!("{other:?}"),
    }
}

fn deliveries(effects: Vec<Effect<Text>>) -> Vec<(ReceiverId, Delivery<Text>)> {
    let delivered = effects.into_iter().filter_map(|effect| match effect {
        Effect::Deliver { receiver, delivery } => Some((receiver, delivery)),
        _ => None,
    });
    delivered.collect()
}

fn token(delivery: &Delivery<Text>) -> LockToken {
    delivery.lock.expect("a lock").token
}

fn texts(deliveries: &[Delivery<Text>]) -> Vec<&str> {
    deliveries.iter().map(|delivery| delivery.message.content.0.as_str()).collect()
}
