//! Many triggers: what reading them costs, by the broker's counters, beside what the built-in trigger would spend; and what a
//! short budget makes of it. A tenth of KEDA's periods, so that a minute takes six seconds.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::scene::{Scene, queue, with_refresh_deadline};

/// A tenth of the defaults, ten times the credits.
const TENTH: &str = "{cacheTtlSeconds: 0.5, maxStalenessSeconds: 6, creditsPerSecond: 500}";
/// A busy trigger is asked for six times a minute: here once a second.
const PERIOD: Duration = Duration::from_secs(1);

/// `count` triggers, each at its own moment of every period, for so many periods. Says what the built-in trigger would have
/// spent in this time: an operation for each call. A machine that is too slow for so many calls makes fewer than KEDA would.
async fn poll(scene: &Scene, count: usize, queue_of: impl Fn(usize) -> String, rounds: u32) -> u64 {
    let begun = Instant::now();
    let pollers = (0..count).map(|number| {
        let trigger = scene.trigger(&queue_of(number));
        async move {
            let phase = PERIOD.mul_f64((number * 7_919 % 10_007) as f64 / 10_007.0);
            for round in 0..rounds {
                tokio::time::sleep_until((begun + phase + PERIOD * round).into()).await;
                assert_eq!(scene.metric(&trigger).await.expect("it can be read"), 0);
            }
        }
    });
    join_all(pollers).await;
    let periods = begun.elapsed().as_secs_f64() / PERIOD.as_secs_f64();
    (count as f64 * f64::from(rounds).max(periods)) as u64
}

/// Asks for each of `count` queues once. Says how many calls these are.
async fn warm_up(scene: &Scene, count: usize) -> u64 {
    let calls = (0..count).map(|number| async move { scene.metric(&scene.trigger(&queue(number))).await });
    let answers = join_all(calls).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    count as u64
}

#[tokio::test]
async fn five_hundred_distinct_queues_cost_a_fortieth_of_the_built_in() {
    let scene = Scene::start(500, TENTH).await;
    let built_in = warm_up(&scene, 500).await + poll(&scene, 500, queue, 2).await;
    let spent = scene.operations();
    assert!(spent <= built_in, "{spent} of {built_in} from the very beginning");
    scene.bench.broker().reset_counters();
    let built_in = poll(&scene, 500, queue, 6).await;
    let spent = scene.operations();
    assert!(spent * 40 <= built_in, "{spent} operations, the built-in {built_in}");
}

#[tokio::test]
async fn five_hundred_triggers_of_one_queue_cost_a_two_hundredth_of_the_built_in() {
    let scene = Scene::start(1, TENTH).await;
    let built_in = poll(&scene, 500, |_| queue(0), 6).await;
    let spent = scene.operations();
    assert!(spent * 200 <= built_in, "{spent} operations, the built-in {built_in}");
}

#[tokio::test]
async fn few_triggers_never_cost_more_than_the_built_in() {
    let scenes = [1, 2, 3, 5, 10].map(|count| async move {
        let scene = Scene::start(150, TENTH).await;
        let built_in = poll(&scene, count, |number| queue(number * 13), 4).await;
        let spent = scene.operations();
        assert!(spent <= built_in, "{count} triggers: {spent} operations, the built-in {built_in}");
    });
    join_all(scenes).await;
}

#[tokio::test]
async fn a_short_budget_is_kept_and_shows_in_the_metric() {
    // Without listings, fifty busy queues want fifty operations a second; ten may be had.
    let config = "{cacheTtlSeconds: 0.5, maxStalenessSeconds: 60, creditsPerSecond: 100}";
    let scene = Scene::start_with(50, config, with_refresh_deadline()).await;
    scene.bench.inject("status=401,operation=list-queues");
    let begun = Instant::now();
    // First reads may be refused while they wait for their turn, or when the time is up while they are read; each is read
    // in the end.
    testbench::until("every queue to be read once", || async {
        let answers = join_all((0..50).map(|number| {
            let scene = &scene;
            async move { scene.metric(&scene.trigger(&queue(number))).await }
        }));
        answers.await.iter().all(|answer| match answer {
            Ok(value) => *value == 0,
            Err(refusal) => {
                let said = refusal.message();
                assert!(said.contains("creditsPerSecond") || said.contains("no answer"), "{refusal}");
                assert_eq!(refusal.code(), tonic::Code::Unavailable, "{refusal}");
                false
            }
        })
    })
    .await;
    poll(&scene, 50, queue, 4).await;
    let most = 4.0 * 10.0 + begun.elapsed().as_secs_f64() * 10.0 + 2.0;
    let spent = scene.operations();
    assert!(spent as f64 <= most, "{spent} operations, {most} are paid for");
    assert!(scene.stretch() > 2.0, "{}", scene.stretch());
}
