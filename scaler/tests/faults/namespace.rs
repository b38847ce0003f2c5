//! The namespace throttles, stalls, refuses, is slow: all entities of it together.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use testbench::broker::FaultId;
use testbench::within;
use tonic::{Code, Status};

use crate::log::Log;
use crate::scene::{Scene, queue, with_refresh_deadline};

const QUEUES: usize = 30;
/// Readings are good for a moment and stand in for two seconds; credits are no question here.
const QUICK: &str = "{cacheTtlSeconds: 0.1, maxStalenessSeconds: 2, creditsPerSecond: 100000}";
const MAX_STALENESS: Duration = Duration::from_secs(2);
/// Most operations that the scaler has under way with a namespace.
const UNDER_WAY: u64 = 32;

/// After this long, a scene with a refresh deadline may miss it with the machine alone to blame.
fn refresh_deadline() -> Duration {
    with_refresh_deadline().refresh_deadline
}

/// Asks for every queue, all at once.
async fn all(scene: &Scene) -> Vec<Result<i64, Status>> {
    join_all((0..QUEUES).map(|number| async move { scene.metric(&scene.trigger(&queue(number))).await })).await
}

/// Holds the fault until readings are too old to stand in and then some; then removes it. Says how many operations the
/// broker saw meanwhile, and how many seconds it took.
async fn outlast(scene: &Scene, fault: &str, code: Code, words: &[&str]) -> (u64, u64) {
    // The readings are younger than this.
    let before_the_readings = Instant::now();
    testbench::until("all to be read", || async {
        all(scene).await.iter().all(|answer| answer.as_ref().is_ok_and(|value| *value == 0))
    })
    .await;
    scene.bench.broker().reset_counters();
    let id: FaultId = scene.bench.inject(fault);
    let begun = Instant::now();
    let mut were_refused = 0;
    within("the readings to grow too old", async {
        while were_refused < 3 {
            let answers = all(scene).await;
            let refusals: Vec<&Status> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
            for refusal in &refusals {
                assert_eq!(refusal.code(), code, "{refusal}");
                for word in words {
                    assert!(refusal.message().contains(word), "{word:?} is missing in {refusal}");
                }
            }
            // Until then the older reading stands in, and nothing else does.
            assert!(refusals.is_empty() || before_the_readings.elapsed() >= MAX_STALENESS, "{refusals:?}");
            were_refused += usize::from(refusals.len() == QUEUES);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    let seen = scene.operations();
    assert!(scene.bench.broker().faults().remove(id));
    (seen, begun.elapsed().as_secs())
}

/// Waits until the namespace is tried again, and asserts that from then on every entity is fresh at its next call.
async fn recover(scene: &Scene) {
    testbench::until("the namespace to be tried again", async || scene.metric(&scene.trigger(&queue(0))).await.is_ok())
        .await;
    let asked = Instant::now();
    let answers = all(scene).await;
    assert!(answers.iter().all(Result::is_ok) || asked.elapsed() >= refresh_deadline(), "{answers:?}");
}

#[tokio::test]
async fn a_namespace_that_throttles_is_left_alone_for_as_long_as_it_asks() {
    let log = Log::collect();
    let scene = Scene::start(QUEUES, QUICK).await;
    let (seen, seconds) = outlast(&scene, "throttle=1s,plane=administration", Code::Unavailable, &["throttle"]).await;
    // Those under way when it began, then one at a time, a second and more apart.
    assert!(seen <= UNDER_WAY + seconds + 1, "{seen} operations in {seconds} s");
    log.assert_one_warning(&["reads fail", "host="]);
    recover(&scene).await;
    log.assert_one_warning(&[]);
    log.assert_one_end(&[&format!("entities={QUEUES}")]);
}

#[tokio::test]
async fn a_busy_namespace_is_one_that_throttles() {
    let log = Log::collect();
    let scene = Scene::start(QUEUES, QUICK).await;
    outlast(&scene, "busy,plane=administration", Code::Unavailable, &["50009"]).await;
    recover(&scene).await;
    log.assert_one_warning(&[]);
    log.assert_one_end(&[]);
}

#[tokio::test]
async fn a_namespace_that_stalls_is_probed_once_a_second_and_back_at_once() {
    let log = Log::collect();
    let scene = Scene::start_with(QUEUES, QUICK, with_refresh_deadline()).await;
    let (seen, seconds) = outlast(&scene, "stall,plane=administration", Code::Unavailable, &["no answer"]).await;
    assert!(seen <= UNDER_WAY + seconds + 1, "{seen} operations in {seconds} s");
    recover(&scene).await;
    log.assert_one_warning(&["no answer"]);
    log.assert_one_end(&[]);
}

#[tokio::test]
async fn a_namespace_that_refuses_connections_is_probed_once_a_second_and_back_at_once() {
    let log = Log::collect();
    let scene = Scene::start(QUEUES, QUICK).await;
    outlast(&scene, "reset", Code::Unavailable, &["failed to read the queue"]).await;
    recover(&scene).await;
    log.assert_one_warning(&[]);
    log.assert_one_end(&[]);
}

#[tokio::test]
async fn a_wrong_key_is_unauthenticated_for_all_and_told_once() {
    let log = Log::collect();
    let scene = Scene::start(QUEUES, QUICK).await;
    outlast(&scene, "wrong-key,plane=administration", Code::Unauthenticated, &["refused the credential"]).await;
    // A credential may do for one entity and not for another, so each is tried by its own calls, a second apart.
    testbench::until("every queue to be read again", || async { all(&scene).await.iter().all(Result::is_ok) }).await;
    log.assert_one_warning(&["reads fail", "refused the credential"]);
    log.assert_one_end(&[]);
}

#[tokio::test]
async fn slow_answers_are_waited_for_within_the_deadline_and_never_a_zero() {
    let config = "{cacheTtlSeconds: 0.1, maxStalenessSeconds: 60, creditsPerSecond: 100000}";
    let scene = Scene::start_with(QUEUES, config, with_refresh_deadline()).await;
    let orders = scene.trigger(testbench::QUEUE);
    scene.bench.fill(0..7).await;
    testbench::until("the first reading", || async { scene.metric(&orders).await.is_ok() }).await;
    for (latency, rounds) in [("50ms", 5), ("300ms", 5), ("50ms..1s", 3), ("5s", 2)] {
        let id = scene.bench.inject(&format!("latency={latency},plane=administration"));
        // A read that a pause of the machine has failed is not tried again at once, so later rounds may meet it, too.
        let mut may_fail = latency != "50ms";
        for _ in 0..rounds {
            let asked = Instant::now();
            assert_eq!(scene.metric(&orders).await.expect("the reading from before stands in"), 7, "{latency}");
            let answers = all(&scene).await;
            may_fail |= asked.elapsed() >= refresh_deadline();
            for answer in answers {
                // Never read before, it may be unknown; and then says so.
                assert!(answer.as_ref().is_ok_and(|value| *value == 0) || may_fail, "{latency}: {answer:?}");
                assert!(answer.as_ref().err().is_none_or(|refusal| refusal.code() == Code::Unavailable), "{answer:?}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(scene.bench.broker().faults().remove(id));
    }
    scene.bench.fill(7..9).await;
    within("the newest count", async {
        while scene.metric(&orders).await.expect("a reading") != 9 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_credential_that_may_not_list_reads_one_by_one_and_is_told_once() {
    let log = Log::collect();
    let scene = Scene::start(QUEUES, QUICK).await;
    scene.bench.inject("status=401,operation=list-queues");
    for _ in 0..10 {
        assert!(all(&scene).await.iter().all(|answer| answer.as_ref().is_ok_and(|value| *value == 0)));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let counts = scene.bench.broker().counters();
    assert_eq!(counts.of(testbench::broker::Operation::ListQueues).operations, 1, "{counts:?}");
    log.assert_one_warning(&["may not list", "HTTP 401"]);
}
