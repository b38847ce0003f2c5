//! The state machine against a slow, obvious model of it, and against invariants that neither of the two knows.
//!
//! Random commands with random waits are applied to both. After each, every effect, the next deadline and the description
//! of every entity must be equal. Where there are only queues and nothing is copied or forwarded, the ledger then follows
//! each message by its id and each receiver by its credit.

#[path = "oracle/commands.rs"]
mod commands;
#[path = "oracle/entities.rs"]
mod entities;
#[path = "oracle/flow.rs"]
mod flow;
#[path = "oracle/ledger.rs"]
mod ledger;
#[path = "oracle/model.rs"]
mod model;
#[path = "oracle/record.rs"]
mod record;

use std::collections::HashMap;

use broker::state::{Config, Content, Effect, Event, Lock, LockToken, State, Timestamp};
use commands::{Step, World};
use ledger::Ledger;
use model::Model;
use proptest::{
    prelude::*,
    test_runner::{FileFailurePersistence, TestCaseError},
};
use uuid::Uuid;

/// A message of these tests: told apart by its id, grown by the marks of those who settle it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Body {
    id: u32,
    bytes: u64,
    marks: Vec<u8>,
}

impl Content for Body {
    type Properties = Vec<u8>;

    fn size_bytes(&self) -> u64 {
        self.bytes + self.marks.len() as u64
    }

    fn amend(&mut self, marks: &Vec<u8>) {
        self.marks.extend(marks);
    }
}

/// Replaces the random lock tokens by 1, 2, 3 … in the order in which they are given out, which is how the model names
/// its own.
#[derive(Default)]
struct TokenNames {
    serials: HashMap<LockToken, Uuid>,
    tokens: Vec<LockToken>,
}

impl TokenNames {
    fn rename(&mut self, effects: &mut [Effect<Body>]) {
        for effect in effects {
            match effect {
                Effect::Deliver { delivery, .. } => self.rename_lock(delivery.lock.as_mut()),
                Effect::DeferredReceived { result: Ok(deliveries), .. } => {
                    for delivery in deliveries {
                        self.rename_lock(delivery.lock.as_mut());
                    }
                }
                _ => {}
            }
        }
    }

    fn rename_lock(&mut self, lock: Option<&mut Lock>) {
        let Some(lock) = lock else { return };
        self.tokens.push(lock.token);
        let serial = Uuid::from_u128(self.tokens.len() as u128);
        assert!(self.serials.insert(lock.token, serial).is_none(), "a lock token was given out twice");
        lock.token = serial;
    }

    /// The event as the state machine knows the tokens.
    fn with_real_tokens(&self, event: &Event<Body>) -> Event<Body> {
        let real = |serial: &Uuid| {
            let index = usize::try_from(serial.as_u128()).ok().and_then(|serial| serial.checked_sub(1));
            index.and_then(|index| self.tokens.get(index)).copied().unwrap_or(*serial)
        };
        let mut event = event.clone();
        match &mut event {
            Event::Settle { lock_token, .. } => *lock_token = real(lock_token),
            Event::RenewLocks { lock_tokens, .. } => lock_tokens.iter_mut().for_each(|token| *token = real(token)),
            _ => {}
        }
        event
    }
}

fn run(world: World, config: &Config, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut state: State<Body> = State::new(config.clone(), [7; 32]);
    let mut model = Model::new(config.clone());
    let mut names = TokenNames::default();
    let mut ledger = Ledger::default();
    let mut clock = 1_000_000;
    for (index, Step { wait, command }) in steps.iter().enumerate() {
        clock += wait;
        let now = Timestamp::from_millis(clock);
        let event = command.event(index, &model);

        let mut effects = state.apply(names.with_real_tokens(&event), now);
        names.rename(&mut effects);
        let expected = model.apply(event.clone(), now);

        prop_assert_eq!(&effects, &expected, "effects of step {} {:?} at {:?}", index, &event, now);
        prop_assert_eq!(state.next_deadline(), model.next_deadline(), "deadline after step {} {:?}", index, &event);
        let topics: Vec<_> = state.list_topics().collect();
        let subscriptions = topics.iter().filter_map(|topic| state.list_subscriptions(&topic.name)).flatten().collect();
        let descriptions = (state.list().collect(), topics.clone(), subscriptions);
        prop_assert_eq!(&descriptions, &model.list(), "descriptions after step {} {:?}", index, &event);
        for (serial, token) in names.tokens.iter().enumerate().rev().take(8) {
            let serial = Uuid::from_u128(serial as u128 + 1);
            for address in commands::addresses(world) {
                prop_assert_eq!(state.holds_lock(&address, token), model.holds_lock(&address, serial));
            }
        }
        match world {
            World::Queues => ledger.check(&mut state, &event, &effects, now)?,
            World::Everything => ledger::check_answers(&event, &effects)?,
        }
    }
    ledger.check_numbers_are_gap_free()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("proptest-regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_state_machine_does_what_the_model_says(
        config in commands::config(World::Queues),
        steps in commands::steps(World::Queues),
    ) {
        run(World::Queues, &config, &steps)?;
    }

    #[test]
    fn topics_and_forwarding_do_what_the_model_says(
        config in commands::config(World::Everything),
        steps in commands::steps(World::Everything),
    ) {
        run(World::Everything, &config, &steps)?;
    }
}
