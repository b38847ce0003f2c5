//! Random commands: small numbers of queues, receivers and messages, short locks and lives, so that they meet often.

use std::time::Duration;

use broker::state::{
    Address, Config, EntityName, EntityStatus, Event, LockToken, NewMessage, Outcome, Part, QueueProperties,
    ReceiveMode, ReceiverId, RequestId, Timestamp,
};
use proptest::{collection::vec, option, prelude::*};
use uuid::Uuid;

use super::Body;

/// Waits `wait` milliseconds (a little back, too, as clocks do), then does `command`.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) wait: i64,
    pub(super) command: Command,
}

/// An event but for what depends on the steps before it. Tokens count back from the youngest.
#[derive(Debug, Clone)]
pub(super) enum Command {
    Tick,
    Create(EntityName, QueueProperties),
    Update(EntityName, QueueProperties),
    Delete(EntityName),
    Send(EntityName, Vec<Letter>),
    Cancel(EntityName, Vec<u64>),
    Subscribe(ReceiverId, Address, ReceiveMode),
    Credit(ReceiverId, u64),
    Drain(ReceiverId),
    Unsubscribe(ReceiverId),
    Settle(Address, usize, Outcome<Vec<u8>>),
    Renew(Address, Vec<usize>),
    ReceiveDeferred(Address, Vec<u64>, ReceiveMode),
    Peek(Address, u64, usize),
}

#[derive(Debug, Clone)]
pub(super) struct Letter {
    bytes: u64,
    time_to_live: Option<Duration>,
    /// Milliseconds after the start of the run.
    scheduled_for: Option<i64>,
}

impl Command {
    /// The event of step `index`, after `tokens` lock tokens have been given out.
    pub(super) fn event(&self, index: usize, tokens: usize) -> Event<Body> {
        let request = RequestId(index as u64);
        // Counting back past the first token gives 0, which no lock has.
        let token = |back: usize| -> LockToken { Uuid::from_u128(tokens.saturating_sub(back) as u128) };
        match self.clone() {
            Self::Tick => Event::Tick,
            Self::Create(name, properties) => Event::CreateQueue { request, name, properties },
            Self::Update(name, properties) => Event::UpdateQueue { request, name, properties },
            Self::Delete(name) => Event::DeleteQueue { request, name },
            Self::Send(queue, letters) => {
                let messages = letters.into_iter().enumerate().map(|(position, letter)| NewMessage {
                    content: Body { id: (index * 100 + position) as u32, bytes: letter.bytes, marks: Vec::new() },
                    time_to_live: letter.time_to_live,
                    scheduled_for: letter.scheduled_for.map(|after| Timestamp::from_millis(1_000_000 + after)),
                });
                Event::Send { request, queue, messages: messages.collect() }
            }
            Self::Cancel(queue, sequence_numbers) => Event::CancelScheduled { request, queue, sequence_numbers },
            Self::Subscribe(receiver, address, mode) => Event::Subscribe { receiver, address, mode },
            Self::Credit(receiver, limit) => Event::Credit { receiver, limit },
            Self::Drain(receiver) => Event::Drain { receiver },
            Self::Unsubscribe(receiver) => Event::Unsubscribe { receiver },
            Self::Settle(address, back, outcome) => {
                Event::Settle { request, address, lock_token: token(back), outcome }
            }
            Self::Renew(address, backs) => {
                Event::RenewLocks { request, address, lock_tokens: backs.into_iter().map(token).collect() }
            }
            Self::ReceiveDeferred(address, sequence_numbers, mode) => {
                Event::ReceiveDeferred { request, address, sequence_numbers, mode }
            }
            Self::Peek(address, from, max) => Event::Peek { request, address, from, max },
        }
    }
}

/// Every place a message can be in.
pub(super) fn addresses() -> impl Iterator<Item = Address> {
    ["alpha", "Beta"].into_iter().flat_map(|text| {
        let name = EntityName::new(text).expect("a fixed, valid name");
        [Address::main(name.clone()), Address::dead_letter(name)]
    })
}

pub(super) fn config() -> impl Strategy<Value = Config> {
    (1..=2_usize, any::<bool>(), any::<bool>()).prop_map(|(max_queues, locked, deferred)| Config {
        max_queues,
        count_locked_as_active: locked,
        count_deferred_as_active: deferred,
    })
}

/// A queue and a receiver to begin with, so that no run is empty; then anything.
pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let start = (properties(), address(), mode()).prop_map(|(properties, address, mode)| {
        [
            Command::Create(address.queue.clone(), properties),
            Command::Subscribe(ReceiverId(0), address, mode),
            Command::Credit(ReceiverId(0), 3),
        ]
        .map(|command| Step { wait: 0, command })
    });
    (start, vec(step(), 1..150)).prop_map(|(start, rest)| start.into_iter().chain(rest).collect())
}

fn step() -> impl Strategy<Value = Step> {
    let wait = prop_oneof![10 => Just(0_i64), 10 => 0..10_i64, 3 => 10..60_i64, 1 => 60..2_000_i64, 1 => -20..0_i64];
    (wait, command()).prop_map(|(wait, command)| Step { wait, command })
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        3 => Just(Command::Tick),
        2 => (name(), properties()).prop_map(|(name, properties)| Command::Create(name, properties)),
        1 => (name(), properties()).prop_map(|(name, properties)| Command::Update(name, properties)),
        1 => name().prop_map(Command::Delete),
        12 => (name(), vec(letter(), 0..4)).prop_map(|(name, letters)| Command::Send(name, letters)),
        1 => (name(), numbers()).prop_map(|(name, numbers)| Command::Cancel(name, numbers)),
        5 => (receiver(), address(), mode()).prop_map(|(id, address, mode)| Command::Subscribe(id, address, mode)),
        8 => (receiver(), 0..40_u64).prop_map(|(receiver, limit)| Command::Credit(receiver, limit)),
        1 => receiver().prop_map(Command::Drain),
        1 => receiver().prop_map(Command::Unsubscribe),
        16 => (address(), 0..6_usize, outcome()).prop_map(|(at, back, outcome)| Command::Settle(at, back, outcome)),
        2 => (address(), vec(0..4_usize, 0..3)).prop_map(|(address, backs)| Command::Renew(address, backs)),
        4 => (address(), numbers(), mode()).prop_map(|(at, numbers, mode)| Command::ReceiveDeferred(at, numbers, mode)),
        1 => (address(), 0..20_u64, 0..5_usize).prop_map(|(address, from, max)| Command::Peek(address, from, max)),
    ]
}

fn name() -> impl Strategy<Value = EntityName> {
    // Mostly one queue; in whatever case.
    prop_oneof![6 => Just("alpha"), 1 => Just("ALPHA"), 2 => Just("Beta"), 1 => Just("beta")]
        .prop_map(|text| EntityName::new(text).expect("a fixed, valid name"))
}

fn address() -> impl Strategy<Value = Address> {
    (name(), prop_oneof![4 => Just(Part::Main), 1 => Just(Part::DeadLetter)])
        .prop_map(|(queue, part)| Address { queue, part })
}

fn receiver() -> impl Strategy<Value = ReceiverId> {
    (0..3_u64).prop_map(ReceiverId)
}

fn mode() -> impl Strategy<Value = ReceiveMode> {
    prop_oneof![4 => Just(ReceiveMode::PeekLock), 1 => Just(ReceiveMode::ReceiveAndDelete)]
}

fn numbers() -> impl Strategy<Value = Vec<u64>> {
    vec(0..25_u64, 0..3)
}

fn letter() -> impl Strategy<Value = Letter> {
    let life = option::weighted(0.3, (1..80_u64).prop_map(Duration::from_millis));
    let scheduled_for = option::weighted(0.2, 0..400_i64);
    (0..100_u64, life, scheduled_for).prop_map(|(bytes, time_to_live, scheduled_for)| Letter {
        bytes,
        time_to_live,
        scheduled_for,
    })
}

fn outcome() -> impl Strategy<Value = Outcome<Vec<u8>>> {
    let marks = || option::weighted(0.3, vec(any::<u8>(), 0..300));
    let text = || option::of("[a-z]{0,9}");
    prop_oneof![
        4 => Just(Outcome::Complete),
        4 => marks().prop_map(|properties| Outcome::Abandon { properties }),
        2 => Just(Outcome::Release),
        3 => marks().prop_map(|properties| Outcome::Defer { properties }),
        2 => (text(), text(), marks()).prop_map(|(reason, description, properties)| Outcome::DeadLetter {
            reason,
            description,
            properties,
        }),
    ]
}

fn properties() -> impl Strategy<Value = QueueProperties> {
    let size = prop_oneof![3 => Just(1_u64 << 30), 2 => 1_000..6_000_u64];
    let status = prop_oneof![
        12 => Just(EntityStatus::Active),
        1 => Just(EntityStatus::Disabled),
        1 => Just(EntityStatus::SendDisabled),
        1 => Just(EntityStatus::ReceiveDisabled),
    ];
    let life = option::weighted(0.3, (1..100_u64).prop_map(Duration::from_millis));
    (0..60_u64, 0..4_u32, life, any::<bool>(), size, status).prop_map(
        |(lock, max_delivery_count, default_time_to_live, dead_letter_on_expiration, max_size_bytes, status)| {
            QueueProperties {
                lock_duration: Duration::from_millis(lock),
                max_delivery_count,
                default_time_to_live,
                dead_letter_on_expiration,
                max_size_bytes,
                status,
                requires_session: false,
                user_metadata: None,
            }
        },
    )
}
