//! Random commands: small numbers of entities, receivers and messages, short locks and lives, so that they meet often.

use std::time::Duration;

use broker::state::{
    Address, Config, EntityName, EntityStatus, Event, LockToken, MessageState, NewMessage, Outcome, Part,
    QueueProperties, ReceiveMode, ReceiverId, RequestId, Timestamp, TopicProperties,
};
use proptest::{collection::vec, option, prelude::*};
use uuid::Uuid;

use super::{Body, model::Model};

/// What there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum World {
    /// Queues that do not forward.
    Queues,
    /// Topics with subscriptions and forwarding, too.
    Everything,
}

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
    CreateTopic(EntityName, TopicProperties),
    Update(EntityName, QueueProperties),
    UpdateTopic(EntityName, TopicProperties),
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
            Self::CreateTopic(name, properties) => Event::CreateTopic { request, name, properties },
            Self::UpdateTopic(name, properties) => Event::UpdateTopic { request, name, properties },
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
    Address::main(entity("alpha"))
}

fn entity(text: &str) -> EntityName {
    match EntityName::split_subscription(text) {
        Some((topic, name)) => EntityName::subscription(&entity(topic), name).expect("a fixed, valid name"),
        None => EntityName::new(text).expect("a fixed, valid name"),
    }
}

/// Every place a message can be received from.
pub(super) fn addresses(world: World) -> impl Iterator<Item = Address> {
    let names: &[&str] = match world {
        World::Queues => &["alpha", "Beta"],
        World::Everything => &["alpha", "Beta", "g/Subscriptions/One", "g/Subscriptions/two", "D/Subscriptions/one"],
    };
    names.iter().flat_map(|name| Part::ALL.map(|part| Address { queue: entity(name), part }))
}

pub(super) fn config(world: World) -> impl Strategy<Value = Config> {
    let max_entities = if world == World::Queues { 1..=2_usize } else { 2..=4_usize };
    (max_entities, 1..=2_usize, any::<bool>(), any::<bool>()).prop_map(
        |(max_entities, max_subscriptions, locked, deferred)| Config {
            max_entities,
            max_subscriptions,
            count_locked_as_active: locked,
            count_deferred_as_active: deferred,
        },
    )
}

/// Something and a receiver to begin with, so that no run is empty; then anything.
pub(super) fn steps(world: World) -> impl Strategy<Value = Vec<Step>> {
    let several = (properties(World::Queues), properties(world), properties(world));
    let start = (several, topic_properties(), address(world), mode()).prop_map(
        move |((queue, first, second), topic, address, mode)| {
            let mut start = vec![];
            if world == World::Everything {
                start.push(Command::CreateTopic(entity("g"), topic));
                start.push(Command::Create(entity("alpha"), queue));
                start.push(Command::Create(entity("g/Subscriptions/One"), first));
                start.push(Command::Create(entity("g/Subscriptions/two"), second));
            } else {
                start.push(Command::Create(address.queue.clone(), queue));
            }
            start.push(Command::Subscribe(ReceiverId(0), address, mode));
            start.push(Command::Credit(ReceiverId(0), 3));
            start.into_iter().map(|command| Step { wait: 0, command }).collect::<Vec<_>>()
        },
    );
    (start, vec(step(world), 1..150)).prop_map(|(start, rest)| start.into_iter().chain(rest).collect())
}

fn step(world: World) -> impl Strategy<Value = Step> {
    let wait = prop_oneof![10 => Just(0_i64), 10 => 0..10_i64, 3 => 10..60_i64, 1 => 60..2_000_i64, 1 => -20..0_i64];
    (wait, command(world)).prop_map(|(wait, command)| Step { wait, command })
}

fn command(world: World) -> BoxedStrategy<Command> {
    let for_all = prop_oneof![
        3 => Just(Command::Tick),
        2 => (name(world), properties(world)).prop_map(|(name, properties)| Command::Create(name, properties)),
        1 => (name(world), properties(world)).prop_map(|(name, properties)| Command::Update(name, properties)),
        1 => destination(world).prop_map(Command::Delete),
        12 => (destination(world), vec(letter(), 0..4)).prop_map(|(name, letters)| Command::Send(name, letters)),
        2 => (destination(world), vec(pick(), 0..3)).prop_map(|(name, picks)| Command::Cancel(name, picks)),
        5 => (receiver(), address(world), mode())
            .prop_map(|(id, address, mode)| Command::Subscribe(id, address, mode)),
        8 => (receiver(), 0..40_u64).prop_map(|(receiver, limit)| Command::Credit(receiver, limit)),
        1 => receiver().prop_map(Command::Drain),
        1 => receiver().prop_map(Command::Unsubscribe),
        16 => (option::weighted(0.1, address(world)), pick(), outcome())
            .prop_map(|(address, pick, outcome)| Command::Settle(address, pick, outcome)),
        3 => (address(world), vec(pick(), 0..3)).prop_map(|(address, picks)| Command::Renew(address, picks)),
        4 => (address(world), vec(pick(), 0..3), mode())
            .prop_map(|(address, picks, mode)| Command::ReceiveDeferred(address, picks, mode)),
        1 => (address(world), 0..20_u64, 0..5_usize).prop_map(|(address, from, max)| Command::Peek(address, from, max)),
    ];
    if world == World::Queues {
        return for_all.boxed();
    }
    prop_oneof![
        50 => for_all,
        2 => (topic(), topic_properties()).prop_map(|(name, properties)| Command::CreateTopic(name, properties)),
        2 => (topic(), topic_properties()).prop_map(|(name, properties)| Command::UpdateTopic(name, properties)),
        // Targets that take nothing for a while, so that messages wait for them and move on.
        3 => (name(World::Queues), any::<bool>()).prop_map(|(name, takes)| {
            let status = if takes { EntityStatus::Active } else { EntityStatus::SendDisabled };
            Command::Update(name, QueueProperties { status, ..QueueProperties::default() })
        }),
        // What is meant for the other kind.
        1 => (topic(), properties(world)).prop_map(|(name, properties)| Command::Update(name, properties)),
        1 => (topic(), mode())
            .prop_map(|(name, mode)| Command::Subscribe(ReceiverId(7), Address::main(name), mode)),
    ]
    .boxed()
}

/// A queue or subscription; mostly one of them, in whatever case.
fn name(world: World) -> BoxedStrategy<EntityName> {
    let queues = prop_oneof![6 => Just("alpha"), 1 => Just("ALPHA"), 2 => Just("Beta"), 1 => Just("beta")];
    if world == World::Queues {
        return queues.prop_map(entity).boxed();
    }
    let subscriptions = prop_oneof![
        5 => Just("g/Subscriptions/One"),
        1 => Just("G/subscriptions/ONE"),
        3 => Just("g/Subscriptions/two"),
        2 => Just("D/Subscriptions/one"),
    ];
    prop_oneof![queues, subscriptions].prop_map(entity).boxed()
}

fn topic() -> impl Strategy<Value = EntityName> {
    prop_oneof![6 => Just("g"), 1 => Just("G"), 3 => Just("D")].prop_map(entity)
}

/// Where messages are sent to, rightly or wrongly.
fn destination(world: World) -> BoxedStrategy<EntityName> {
    match world {
        World::Queues => name(world),
        World::Everything => prop_oneof![1 => topic(), 1 => name(world)].boxed(),
    }
}

/// Where messages are forwarded to, rightly or wrongly.
fn target(world: World) -> BoxedStrategy<Option<EntityName>> {
    match world {
        World::Queues => Just(None).boxed(),
        World::Everything => option::weighted(0.4, destination(world)).boxed(),
    }
}

fn address(world: World) -> impl Strategy<Value = Address> {
    let part = match world {
        World::Queues => prop_oneof![4 => Just(Part::Main), 1 => Just(Part::DeadLetter)].boxed(),
        World::Everything => {
            prop_oneof![6 => Just(Part::Main), 1 => Just(Part::DeadLetter), 1 => Just(Part::TransferDeadLetter)].boxed()
        }
    };
    (name(world), part).prop_map(|(queue, part)| Address { queue, part })
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

fn properties(world: World) -> impl Strategy<Value = QueueProperties> {
    let life = option::weighted(0.3, (1..100_u64).prop_map(Duration::from_millis));
    (0..60_u64, 0..4_u32, life, any::<bool>(), size(), status(), target(world), target(world)).prop_map(
        |(
            lock,
            max_delivery_count,
            default_time_to_live,
            dead_letter_on_expiration,
            max_size_bytes,
            status,
            to,
            dead,
        )| {
            QueueProperties {
                lock_duration: Duration::from_millis(lock),
                max_delivery_count,
                default_time_to_live,
                dead_letter_on_expiration,
                max_size_bytes,
                status,
                requires_session: false,
                user_metadata: None,
                forward_to: to,
                forward_dead_letters_to: dead,
            }
        },
    )
}

fn topic_properties() -> impl Strategy<Value = TopicProperties> {
    let life = option::weighted(0.3, (1..100_u64).prop_map(Duration::from_millis));
    (life, size(), status()).prop_map(|(default_time_to_live, max_size_bytes, status)| TopicProperties {
        default_time_to_live,
        max_size_bytes,
        status,
        user_metadata: None,
    })
}

fn size() -> impl Strategy<Value = u64> {
    prop_oneof![3 => Just(1_u64 << 30), 2 => 1_000..6_000_u64]
}

fn status() -> impl Strategy<Value = EntityStatus> {
    prop_oneof![
        12 => Just(EntityStatus::Active),
        1 => Just(EntityStatus::Disabled),
        1 => Just(EntityStatus::SendDisabled),
        1 => Just(EntityStatus::ReceiveDisabled),
    ]
}
