//! Random commands: small numbers of queues, receivers and messages, short locks and lives, so that they meet often.

use std::time::Duration;

use broker::state::{
    Address, Config, EntityName, EntityStatus, Event, LockToken, MessageState, NewMessage, Outcome, Part,
    QueueProperties, ReceiveMode, ReceiverId, RequestId, Timestamp,
};
use proptest::{collection::vec, option, prelude::*};
use uuid::Uuid;

use super::{Body, model::Model};

/// Waits `wait` milliseconds (a little back, too, as clocks do), then does `command`.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) wait: i64,
    pub(super) command: Command,
}

/// An event but for what depends on the steps before it: a [`Pick`] chooses among what there is.
#[derive(Debug, Clone)]
pub(super) enum Command {
    Tick,
    Create(EntityName, QueueProperties),
    Update(EntityName, QueueProperties),
    Delete(EntityName),
    Send(EntityName, Vec<Letter>),
    Cancel(EntityName, Vec<Pick>),
    Subscribe(ReceiverId, Address, ReceiveMode),
    Credit(ReceiverId, u64),
    Drain(ReceiverId),
    Unsubscribe(ReceiverId),
    Settle(Option<Address>, Pick, Outcome<Vec<u8>>),
    Renew(Address, Vec<Pick>),
    ReceiveDeferred(Address, Vec<Pick>, ReceiveMode),
    Peek(Address, u64, usize),
}

/// The nth of those there are, or, one past the last of them, one that is not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pick(usize);

#[derive(Debug, Clone)]
pub(super) struct Letter {
    bytes: u64,
    time_to_live: Option<Duration>,
    /// Milliseconds after the start of the run.
    scheduled_for: Option<i64>,
}

impl Command {
    /// The event of step `index`, in the state the model is in.
    pub(super) fn event(&self, index: usize, model: &Model) -> Event<Body> {
        let request = RequestId(index as u64);
        let numbers = |picks: Vec<Pick>, address: &Address, state| {
            let present = model.numbers(address, state);
            picks.into_iter().map(|pick| pick.of(&present).unwrap_or(pick.0 as u64)).collect()
        };
        // A token that was given out early and is probably settled or run out by now; or 0, which never was.
        let used_up = |pick: Pick| -> LockToken { Uuid::from_u128(pick.0 as u128 % (model.tokens + 1)) };
        match self.clone() {
            Self::Tick => Event::Tick,
            Self::Create(name, properties) => Event::CreateQueue { request, name, properties },
            Self::Update(name, properties) => Event::UpdateQueue { request, name, properties },
            Self::Delete(name) => Event::Delete { request, name },
            Self::Send(queue, letters) => {
                let messages = letters.into_iter().enumerate().map(|(position, letter)| NewMessage {
                    content: Body { id: (index * 100 + position) as u32, bytes: letter.bytes, marks: Vec::new() },
                    time_to_live: letter.time_to_live,
                    scheduled_for: letter.scheduled_for.map(|after| Timestamp::from_millis(1_000_000 + after)),
                });
                Event::Send { request, to: queue, messages: messages.collect() }
            }
            Self::Cancel(queue, picks) => {
                let sequence_numbers = numbers(picks, &Address::main(queue.clone()), MessageState::Scheduled);
                Event::CancelScheduled { request, to: queue, sequence_numbers }
            }
            Self::Subscribe(receiver, address, mode) => Event::Subscribe { receiver, address, mode },
            Self::Credit(receiver, limit) => Event::Credit { receiver, limit },
            Self::Drain(receiver) => Event::Drain { receiver },
            Self::Unsubscribe(receiver) => Event::Unsubscribe { receiver },
            Self::Settle(address, pick, outcome) => {
                let (holding, lock_token) = pick.of(&model.locks()).unwrap_or_else(|| (alpha(), used_up(pick)));
                Event::Settle { request, address: address.unwrap_or(holding), lock_token, outcome }
            }
            Self::Renew(address, picks) => {
                let locks: Vec<_> = model.locks().into_iter().filter(|(holding, _)| *holding == address).collect();
                let lock_tokens =
                    picks.into_iter().map(|pick| pick.of(&locks).map_or(used_up(pick), |(_, token)| token));
                Event::RenewLocks { request, lock_tokens: lock_tokens.collect(), address }
            }
            Self::ReceiveDeferred(address, picks, mode) => {
                let sequence_numbers = numbers(picks, &address, MessageState::Deferred);
                Event::ReceiveDeferred { request, address, sequence_numbers, mode }
            }
            Self::Peek(address, from, max) => Event::Peek { request, address, from, max },
        }
    }
}

impl Pick {
    fn of<T: Clone>(self, present: &[T]) -> Option<T> {
        present.get(self.0 % (present.len() + 1)).cloned()
    }
}

fn alpha() -> Address {
    Address::main(EntityName::new("alpha").expect("a fixed, valid name"))
}

/// Every place a message can be in.
pub(super) fn addresses() -> impl Iterator<Item = Address> {
    ["alpha", "Beta"].into_iter().flat_map(|text| {
        let name = EntityName::new(text).expect("a fixed, valid name");
        [Address::main(name.clone()), Address::dead_letter(name)]
    })
}

pub(super) fn config() -> impl Strategy<Value = Config> {
    (1..=2_usize, any::<bool>(), any::<bool>()).prop_map(|(max_entities, locked, deferred)| Config {
        max_entities,
        max_subscriptions: 2,
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
        2 => (name(), vec(pick(), 0..3)).prop_map(|(name, picks)| Command::Cancel(name, picks)),
        5 => (receiver(), address(), mode()).prop_map(|(id, address, mode)| Command::Subscribe(id, address, mode)),
        8 => (receiver(), 0..40_u64).prop_map(|(receiver, limit)| Command::Credit(receiver, limit)),
        1 => receiver().prop_map(Command::Drain),
        1 => receiver().prop_map(Command::Unsubscribe),
        16 => (option::weighted(0.1, address()), pick(), outcome())
            .prop_map(|(address, pick, outcome)| Command::Settle(address, pick, outcome)),
        3 => (address(), vec(pick(), 0..3)).prop_map(|(address, picks)| Command::Renew(address, picks)),
        4 => (address(), vec(pick(), 0..3), mode())
            .prop_map(|(address, picks, mode)| Command::ReceiveDeferred(address, picks, mode)),
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

fn pick() -> impl Strategy<Value = Pick> {
    (0..12_usize).prop_map(Pick)
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
                forward_to: None,
                forward_dead_letters_to: None,
            }
        },
    )
}
