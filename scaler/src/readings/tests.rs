//! The cache under a clock that stands still until told otherwise, before a source that does as scripted.

use std::collections::VecDeque;
use std::sync::Mutex;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use scaling::{Counts, EntityStatus};
use servicebus::ConnectionString;

use super::*;
use crate::access::Access;
use crate::entity::{Entity, Listing};
use crate::keyed_hash::KeyedHash;
use crate::source::Page;

thread_local! {
    static KEYS: KeyedHash = KeyedHash::random();
}

const FRESHNESS: Freshness = Freshness { cache_ttl: Duration::from_secs(5), max_staleness: Duration::from_mins(1) };
const READ_TIME: Duration = Duration::from_millis(100);

/// Each read takes [`READ_TIME`] and then gives the next scripted result; it hangs when there is none.
#[derive(Default)]
struct Script {
    results: Mutex<VecDeque<Result<Observed, ReadFailure>>>,
    begun: Mutex<usize>,
}

impl Script {
    fn then(self: &Arc<Self>, result: Result<u64, ReadFailure>) -> &Arc<Self> {
        let observed = result.map(|active| Observed {
            counts: Counts { active, ..Counts::default() },
            status: EntityStatus::Active,
            requires_session: false,
        });
        self.results.lock().expect("no test panicked with it").push_back(observed);
        self
    }

    fn reads(&self) -> usize {
        *self.begun.lock().expect("no test panicked with it")
    }
}

impl Source for Script {
    fn page<'a>(&'a self, _: &'a Access, _: &'a Listing, _: usize) -> BoxFuture<'a, Result<Page, ReadFailure>> {
        unreachable!("no test asks for a page")
    }

    fn read<'a>(&'a self, _: &'a Access, _: &'a Entity) -> BoxFuture<'a, Result<Observed, ReadFailure>> {
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

fn readings(script: &Arc<Script>) -> Readings {
    Readings::new(
        Arc::clone(script) as Arc<dyn Source>,
        ConfigHandle::default(),
        Metrics::new(),
        Duration::from_millis(2_500),
    )
}

fn query(key: &str, queue: &str) -> Query {
    let text = format!("Endpoint=sb://127.0.0.1:5672;SharedAccessKeyName=a;SharedAccessKey={key}");
    let connection = ConnectionString::parse(&text).expect("a valid connection string");
    let digest = KEYS.with(|keys| keys.of_connection(&connection));
    let target = Target::Entity(Entity::Queue(queue.to_owned()));
    Query { access: Access::checked(connection.namespace(), (&connection).into(), digest), target }
}

async fn active(readings: &Readings) -> Result<u64, Arc<ReadFailure>> {
    readings.newest(&query("key", "orders"), FRESHNESS).await.map(|seen| seen.newest().counts.active)
}

fn unreachable() -> ReadFailure {
    ReadFailure::Unreachable("gone".to_owned())
}

#[tokio::test(start_paused = true)]
async fn callers_at_the_same_time_share_one_refresh_and_later_ones_its_result() {
    let script = Arc::new(Script::default());
    let readings = readings(script.then(Ok(1)).then(Ok(2)));
    let together = join_all((0..50).map(|_| active(&readings))).await;
    assert!(together.iter().all(|answer| answer == &Ok(1)), "{together:?}");
    tokio::time::advance(Duration::from_millis(4_900)).await;
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
    let record = readings.cache.get(&readings.key(&query("key", "orders"))).await.expect("it is cached");
    let window: Vec<u64> = record.window.iter().map(|reading| reading.counts.active).collect();
    assert_eq!(window, (3..reads).collect::<Vec<_>>());
}

#[test]
fn only_throttling_is_answered_by_waiting_longer_and_longer() {
    let throttled = |retry_after| ReadFailure::Throttled { what: "slow down".to_owned(), retry_after };
    let seconds = |failure: &ReadFailure, failures| pause_after(failure, failures, 1.0).as_secs();
    assert_eq!([1, 2, 3, 4, 5, 6, 60].map(|failures| seconds(&throttled(None), failures)), [1, 2, 4, 8, 16, 30, 30]);
    assert_eq!(seconds(&throttled(Some(Duration::from_secs(10))), 1), 10);
    assert_eq!(seconds(&throttled(Some(Duration::from_hours(1))), 1), 30);
    assert_eq!([1, 60].map(|failures| seconds(&unreachable(), failures)), [1, 1]);
}
