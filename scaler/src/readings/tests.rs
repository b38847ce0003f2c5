//! The cache under a clock that stands still until told otherwise, before a source that does as scripted, and before a
//! namespace with many entities.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use scaling::EntityStatus;
use servicebus::ConnectionString;
use tokio::time::Instant;

use super::backoff::RETRY_PAUSE;
use super::record::WINDOW_LENGTH;
use super::*;
use crate::access::Access;
use crate::config::Config;
use crate::entity::{Entity, Listing, Matching, NamePattern, Operation};
use crate::keyed_hash::KeyedHash;
use crate::source::{Observed, Page, Read};

mod limits;
mod many;
mod neighbours;
mod topics;

thread_local! {
    static KEYS: KeyedHash = KeyedHash::random();
}

const FRESHNESS: Freshness = Freshness { cache_ttl: Duration::from_secs(5), max_staleness: Duration::from_mins(1) };
const READ_TIME: Duration = Duration::from_millis(100);
const DEADLINE: Duration = Duration::from_millis(2_500);

/// Each read takes [`READ_TIME`] and then gives the next scripted result; it hangs when there is none. Lists nothing.
#[derive(Default)]
struct Script {
    results: Mutex<VecDeque<Result<Observed, ReadFailure>>>,
    begun: Mutex<usize>,
}

impl Script {
    fn then(self: &Arc<Self>, result: Result<u64, ReadFailure>) -> &Arc<Self> {
        self.results.lock().expect("no test panicked with it").push_back(result.map(Observed::of_test));
        self
    }

    fn reads(&self) -> usize {
        *self.begun.lock().expect("no test panicked with it")
    }
}

impl Source for Script {
    fn page<'a>(&'a self, _: &'a Access, _: &'a Listing, _: usize) -> Read<'a, Page> {
        std::future::ready(Err(ReadFailure::Unauthorized("no Manage claim".to_owned()))).boxed()
    }

    fn read<'a>(&'a self, _: &'a Access, _: &'a Entity) -> Read<'a, Observed> {
        *self.begun.lock().expect("no test panicked with it") += 1;
        let next = self.results.lock().expect("no test panicked with it").pop_front();
        async move {
            tokio::time::sleep(READ_TIME).await;
            match next {
                Some(result) => result,
                None => std::future::pending().await,
            }
        }
        .boxed()
    }
}

fn readings(source: &Arc<impl Source>) -> Readings {
    readings_with(source, "")
}

fn readings_with(source: &Arc<impl Source>, config: &str) -> Readings {
    let config = ConfigHandle::new(Config::parse(config).expect("the test's config is good"));
    Readings::new(Arc::clone(source) as Arc<dyn Source>, config, Metrics::new(), DEADLINE)
}

fn access(key: &str) -> Access {
    let text = format!("Endpoint=sb://127.0.0.1:5672;SharedAccessKeyName=a;SharedAccessKey={key}");
    let connection = ConnectionString::parse(&text).expect("a valid connection string");
    let digest = KEYS.with(|keys| keys.of([key.as_bytes()]));
    Access::checked(connection.namespace(), (&connection).into(), digest)
}

fn query(key: &str, queue: &str) -> Query {
    Query { access: access(key), target: Target::Entity(Entity::Queue(queue.to_owned())) }
}

fn pattern(text: &str, operation: Operation) -> Query {
    let pattern = NamePattern::new(text).expect("a valid pattern");
    Query { access: access("key"), target: Target::Matching(Matching { listing: Listing::Queues, pattern, operation }) }
}

async fn active(readings: &Readings) -> Result<u64, Arc<ReadFailure>> {
    readings.newest(&query("key", "orders"), FRESHNESS).await.map(|seen| seen.newest().counts.active)
}

/// By how much the budget stretches periods, as the metric says.
fn stretch(readings: &Readings) -> f64 {
    let exposition = readings.0.metrics.exposition();
    let line = exposition.lines().find(|line| line.contains("budget_stretch_ratio{")).expect("it is exported");
    line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number")
}

fn unreachable() -> ReadFailure {
    ReadFailure::Unreachable("gone".to_owned())
}

fn throttled(seconds: u64) -> ReadFailure {
    ReadFailure::Throttled { what: "slow down".to_owned(), retry_after: Some(Duration::from_secs(seconds)) }
}

#[tokio::test(start_paused = true)]
async fn callers_at_the_same_time_share_one_refresh_and_later_ones_its_result() {
    let script = Arc::new(Script::default());
    let readings = readings(script.then(Ok(1)).then(Ok(2)));
    let together = join_all((0..50).map(|_| active(&readings))).await;
    assert!(together.iter().all(|answer| answer == &Ok(1)), "{together:?}");
    // A reading is as old as the moment at which its read began.
    tokio::time::advance(Duration::from_millis(4_800)).await;
    assert_eq!(active(&readings).await, Ok(1));
    assert_eq!(script.reads(), 1);
    tokio::time::advance(Duration::from_millis(100)).await;
    assert_eq!(join_all((0..50).map(|_| active(&readings))).await, vec![Ok(2); 50]);
    assert_eq!(script.reads(), 2);
}

#[tokio::test(start_paused = true)]
async fn another_credential_or_queue_is_another_entry_but_another_case_is_not() {
    let script = Arc::new(Script::default());
    let readings = readings(script.then(Ok(1)).then(Ok(2)).then(Ok(3)));
    let mut seen = Vec::new();
    for query in [query("a", "orders"), query("b", "orders"), query("a", "refunds"), query("a", "ORDERS")] {
        seen.push(readings.newest(&query, FRESHNESS).await.expect("a reading").newest().counts.active);
    }
    assert_eq!(seen, [1, 2, 3, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_shorter_ttl_of_one_trigger_serves_the_others_as_well() {
    let script = Arc::new(Script::default());
    let readings = readings(script.then(Ok(1)).then(Ok(2)));
    assert_eq!(active(&readings).await, Ok(1));
    tokio::time::advance(Duration::from_secs(2)).await;
    let hasty = Freshness { cache_ttl: Duration::from_secs(1), ..FRESHNESS };
    let seen = readings.newest(&query("key", "orders"), hasty).await.expect("a reading");
    assert_eq!(seen.newest().counts.active, 2);
    assert_eq!(active(&readings).await, Ok(2));
    assert_eq!(script.reads(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_last_reading_stands_in_for_a_failed_refresh_until_it_is_too_old() {
    let script = Arc::new(Script::default());
    let readings = readings(script.then(Ok(7)).then(Err(unreachable())).then(Err(unreachable())).then(Ok(8)));
    assert_eq!(active(&readings).await, Ok(7));
    tokio::time::advance(Duration::from_secs(30)).await;
    let stale = readings.newest(&query("key", "orders"), FRESHNESS).await.expect("still good");
    assert_eq!(stale.newest().counts.active, 7);
    assert_eq!(stale.stale_because.as_deref(), Some(&unreachable()));
    assert!(stale.age >= Duration::from_secs(30), "{:?}", stale.age);
    tokio::time::advance(Duration::from_secs(31)).await;
    assert_eq!(active(&readings).await, Err(Arc::new(unreachable())));
    tokio::time::advance(RETRY_PAUSE).await;
    assert_eq!(active(&readings).await, Ok(8));
}

#[tokio::test(start_paused = true)]
async fn a_queue_never_read_is_a_failure_and_not_asked_for_again_at_once() {
    let script = Arc::new(Script::default());
    let readings = readings(script.then(Err(unreachable())).then(Ok(1)));
    assert_eq!(active(&readings).await, Err(Arc::new(unreachable())));
    assert_eq!(active(&readings).await, Err(Arc::new(unreachable())));
    assert_eq!(script.reads(), 1, "the second caller got the first one's failure");
    tokio::time::advance(RETRY_PAUSE).await;
    assert_eq!(active(&readings).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn nothing_stands_in_for_a_queue_that_is_gone() {
    let script = Arc::new(Script::default());
    let gone = ReadFailure::NotFound("no such queue".to_owned());
    let readings = readings(script.then(Ok(7)).then(Err(gone.clone())).then(Err(unreachable())));
    assert_eq!(active(&readings).await, Ok(7));
    tokio::time::advance(Duration::from_secs(6)).await;
    assert_eq!(active(&readings).await, Err(Arc::new(gone)));
    tokio::time::advance(RETRY_PAUSE).await;
    assert_eq!(active(&readings).await, Err(Arc::new(unreachable())));
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_does_not_answer_fails_at_the_deadline() {
    let readings = readings(&Arc::new(Script::default()));
    let begun = Instant::now();
    let failure = active(&readings).await.expect_err("nothing was read");
    assert!(failure.to_string().contains("2.5 s"), "{failure}");
    assert!(begun.elapsed() < Duration::from_millis(2_600), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_hangs_up_does_not_waste_the_refresh() {
    let script = Arc::new(Script::default());
    let readings = readings(script.then(Ok(1)));
    let hung_up = tokio::time::timeout(READ_TIME / 2, active(&readings)).await;
    assert!(hung_up.is_err(), "it did not wait for the answer");
    assert_eq!(active(&readings).await, Ok(1));
    assert_eq!(script.reads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_panics_is_a_failure_like_any_other() {
    struct Panics;
    impl Source for Panics {
        fn read<'a>(&'a self, _: &'a Access, _: &'a Entity) -> Read<'a, Observed> {
            async { panic!("a read that panics, as the test wants") }.boxed()
        }
        fn page<'a>(&'a self, _: &'a Access, _: &'a Listing, _: usize) -> Read<'a, Page> {
            unreachable!("one entity is never listed")
        }
    }
    let failure = active(&readings(&Arc::new(Panics))).await.expect_err("nothing was read");
    assert!(failure.to_string().contains("cut short"), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn the_window_grows_to_its_limit_and_then_slides() {
    let script = Arc::new(Script::default());
    let reads = WINDOW_LENGTH as u64 + 3;
    for active in 0..reads {
        script.then(Ok(active));
    }
    let readings = readings(&script);
    for expected in 0..reads {
        assert_eq!(active(&readings).await, Ok(expected));
        tokio::time::advance(FRESHNESS.cache_ttl).await;
    }
    let record = readings.entry(&query("key", "orders")).await.record();
    let window: Vec<u64> = record.window.iter().map(|reading| reading.counts.active).collect();
    assert_eq!(window, (3..reads).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn throttling_is_waited_out_and_older_readings_stand_in_meanwhile() {
    let script = Arc::new(Script::default());
    let readings = readings(script.then(Ok(7)).then(Err(throttled(10))).then(Ok(8)));
    assert_eq!(active(&readings).await, Ok(7));
    tokio::time::advance(Duration::from_secs(6)).await;
    assert_eq!(active(&readings).await, Ok(7));
    // Neither this entity nor another asks while the namespace wants to be left alone; and nobody waits.
    let begun = Instant::now();
    for _ in 0..9 {
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(active(&readings).await, Ok(7));
        let other = readings.newest(&query("key", "refunds"), FRESHNESS).await.expect_err("never read");
        assert_eq!(*other, throttled(10));
    }
    assert_eq!((script.reads(), begun.elapsed()), (2, Duration::from_secs(9)));
    // At most a fifth more than asked for, so that scalers do not all come back at once.
    tokio::time::advance(Duration::from_secs(3)).await;
    assert_eq!(active(&readings).await, Ok(8), "the first call after the pause");
}

#[tokio::test(start_paused = true)]
async fn a_reading_that_is_young_enough_is_the_answer_though_a_later_try_failed() {
    let script = Arc::new(Script::default());
    let readings = readings(script.then(Ok(7)).then(Err(unreachable())));
    assert_eq!(active(&readings).await, Ok(7));
    let hasty = Freshness { cache_ttl: Duration::from_secs(1), ..FRESHNESS };
    tokio::time::advance(Duration::from_secs(2)).await;
    readings.newest(&query("key", "orders"), hasty).await.expect("the older one stands in");
    tokio::time::advance(Duration::from_secs(2)).await;
    let asked = Instant::now();
    assert_eq!(active(&readings).await, Ok(7));
    assert_eq!((asked.elapsed(), script.reads()), (Duration::ZERO, 2));
}
