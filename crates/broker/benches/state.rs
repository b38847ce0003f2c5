//! What a message costs the state machine: sent, delivered under a lock and completed, 100 000 of them; beside it, what a
//! bare queue of the same contents costs, so that the numbers of different machines can be compared.

use std::{collections::VecDeque, hint::black_box, time::Duration};

use broker::state::{
    Address, Config, Content, Delivery, Effect, EntityName, Event, NewMessage, Outcome, QueueProperties, ReceiveMode,
    ReceiverId, RequestId, State, Timestamp,
};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const MESSAGES: u64 = 100_000;
const REQUEST: RequestId = RequestId(0);
const RECEIVER: ReceiverId = ReceiverId(0);

#[derive(Debug, Clone)]
struct Number(u64);

impl Content for Number {
    type Properties = ();

    fn size_bytes(&self) -> u64 {
        size_of_val(&self.0) as u64
    }

    fn amend(&mut self, (): &()) {}
}

fn message(number: u64) -> NewMessage<Number> {
    let time_to_live = Some(Duration::from_hours(1));
    NewMessage { content: Number(number), time_to_live, scheduled_for: None }
}

fn queue() -> EntityName {
    EntityName::new("orders").expect("a valid name")
}

fn broker(max_size_bytes: u64) -> State<Number> {
    let mut state = State::new(Config::default(), [1; 32]);
    let properties = QueueProperties { max_size_bytes, ..QueueProperties::default() };
    state.apply(Event::CreateQueue { request: REQUEST, name: queue(), properties }, Timestamp::from_millis(0));
    let mode = ReceiveMode::PeekLock;
    let address = Address::main(queue());
    state.apply(Event::Subscribe { receiver: RECEIVER, address, mode }, Timestamp::from_millis(0));
    state
}

fn complete(state: &mut State<Number>, effects: Vec<Effect<Number>>, now: Timestamp) -> u64 {
    let mut completed = 0;
    for effect in effects {
        if let Effect::Deliver { delivery: Delivery { lock: Some(lock), .. }, .. } = effect {
            let address = Address::main(queue());
            let outcome = Outcome::Complete;
            let settle = Event::Settle { request: REQUEST, address, lock_token: lock.token, outcome };
            completed += u64::from(matches!(state.apply(settle, now)[..], [Effect::Settled { result: Ok(()), .. }]));
        }
    }
    completed
}

/// All messages wait before the first is delivered, and all are locked before the first is completed.
fn backlog(mut state: State<Number>) -> State<Number> {
    for number in 0..MESSAGES {
        let now = Timestamp::from_millis(number as i64 / 10);
        state.apply(Event::Send { request: REQUEST, to: queue(), messages: vec![message(number)] }, now);
    }
    let now = Timestamp::from_millis(MESSAGES as i64 / 10);
    let effects = state.apply(Event::Credit { receiver: RECEIVER, limit: MESSAGES }, now);
    assert_eq!(complete(&mut state, effects, now), MESSAGES);
    state
}

/// Each message is delivered as it comes.
fn stream(mut state: State<Number>) -> State<Number> {
    let mut completed = 0;
    for number in 0..MESSAGES {
        let now = Timestamp::from_millis(number as i64 / 10);
        state.apply(Event::Credit { receiver: RECEIVER, limit: number + 1 }, now);
        let send = Event::Send { request: REQUEST, to: queue(), messages: vec![message(number)] };
        let effects = state.apply(send, now);
        completed += complete(&mut state, effects, now);
    }
    assert_eq!(completed, MESSAGES);
    state
}

fn deque(mut deque: VecDeque<NewMessage<Number>>) -> VecDeque<NewMessage<Number>> {
    (0..MESSAGES).for_each(|number| deque.push_back(black_box(message(number))));
    while let Some(message) = deque.pop_front() {
        black_box(message.content.0);
    }
    deque
}

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("100k messages");
    group.throughput(Throughput::Elements(MESSAGES)).sample_size(10);
    group.bench_function("push and pop of a VecDeque", |bencher| {
        bencher.iter_batched(VecDeque::new, deque, BatchSize::PerIteration);
    });
    group.bench_function("send, deliver, complete one by one", |bencher| {
        bencher.iter_batched(|| broker(1 << 30), stream, BatchSize::PerIteration);
    });
    group.bench_function("send all, deliver all, complete all", |bencher| {
        bencher.iter_batched(|| broker(1 << 30), backlog, BatchSize::PerIteration);
    });
    group.finish();
}

criterion_group!(state, benches);
criterion_main!(state);
