//! Push streams: edges in time, thousands at once, and a short budget.

use std::time::{Duration, Instant};

use externalscaler::{IsActiveResponse, ScaledObjectRef};
use futures_util::future::join_all;
use scaler::serve::Timings;
use testbench::{send, within};
use tonic::Streaming;

use crate::scene::{Scene, patient, queue};

/// More often than the product's, so that what takes a while is soon seen.
fn frequent() -> Timings {
    Timings { watch_interval: Duration::from_millis(200), ..patient() }
}

async fn told(stream: &mut Streaming<IsActiveResponse>) -> bool {
    within("a message", stream.message()).await.expect("no error").expect("it is open").result
}

/// That one of these empty queues' edges comes within `limit`, sending the message included. The best of several, as a machine
/// that stands still now and then delays some of them; a scaler that is too slow delays all.
async fn assert_edge_within(
    scene: &Scene,
    streams: &mut [Streaming<IsActiveResponse>],
    numbers: impl IntoIterator<Item = usize>,
    limit: Duration,
) {
    let mut took = Vec::new();
    for number in numbers {
        let begun = Instant::now();
        send(scene.bench.connection_string(), &queue(number), 1).await;
        assert!(told(&mut streams[number]).await, "the next message is the edge");
        took.push(begun.elapsed());
        if took.last().is_some_and(|took| *took < limit) {
            return;
        }
    }
    panic!("none within {limit:?}: {took:?}");
}

#[tokio::test]
async fn an_edge_comes_within_one_interval_and_one_read_among_a_hundred_idle_queues() {
    let interval = Duration::from_millis(500);
    let timings = Timings { watch_interval: interval, ..patient() };
    let scene = Scene::start_with(100, "cacheTtlSeconds: 300", timings).await;
    let mut streams = Vec::new();
    for number in 0..100 {
        let mut stream = scene.watch(&scene.trigger(&queue(number))).await;
        assert!(!told(&mut stream).await, "the present state");
        streams.push(stream);
    }
    for from in [0, 45, 90] {
        assert_edge_within(&scene, &mut streams, from..from + 10, interval + Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn what_is_active_is_looked_at_no_more_often_than_its_cache_ttl() {
    let scene = Scene::start_with(1, "{cacheTtlSeconds: 300, creditsPerSecond: 100000}", frequent()).await;
    let trigger = scene.trigger(testbench::QUEUE);
    scene.bench.fill(0..1).await;
    let mut stream = scene.watch(&trigger).await;
    assert!(told(&mut stream).await);
    let mut idle = scene.watch(&scene.trigger(&queue(0))).await;
    assert!(!told(&mut idle).await);
    // The idle queue is alone in being read, so it is read alone. A fault that changes nothing counts how often the other is.
    scene.bench.broker().reset_counters();
    let looked_at = scene.bench.inject(&format!("latency=0ms,entity={}", testbench::QUEUE));
    testbench::until("five more reads", || async { scene.operations() >= 5 }).await;
    let counts = scene.bench.broker().counters();
    assert_eq!(counts.of(testbench::broker::Operation::ListQueues).operations, 0, "{counts:?}");
    let fault = scene.bench.broker().faults().get(looked_at).expect("it was not removed");
    assert_eq!(fault.hits, 0, "{fault:?}");
}

#[tokio::test]
async fn a_thousand_idle_streams_stretch_the_interval_as_the_budget_says() {
    // Ten pages five times a second would be fifty operations a second; five may be had.
    let scene = Scene::start_with(1_000, "{cacheTtlSeconds: 5, creditsPerSecond: 50}", frequent()).await;
    let begun = Instant::now();
    let mut streams = join_all((0..1_000).map(|number| {
        let scene = &scene;
        async move { scene.watch(&scene.trigger(&queue(number))).await }
    }))
    .await;
    for stream in &mut streams {
        assert!(!told(stream).await, "the present state");
    }
    testbench::until("the stretched interval to show", || async { scene.stretch() > 3.0 }).await;
    let most = 20.0 + begun.elapsed().as_secs_f64() * 5.0 + 1.0;
    assert!((scene.operations() as f64) <= most, "{} operations, {most} are paid for", scene.operations());
    // Ten pages at five a second are two seconds, and more where a page is waited for.
    assert_edge_within(&scene, &mut streams, 777..787, Duration::from_secs(10)).await;
}

/// The median of a hundred calls that are answered from the cache: some may be slow for reasons of the machine's.
async fn usual_time(scene: &Scene, trigger: &ScaledObjectRef) -> Duration {
    let mut took = Vec::new();
    for _ in 0..100 {
        let asked = Instant::now();
        scene.metric(trigger).await.expect("it can be read");
        took.push(asked.elapsed());
    }
    took.sort_unstable();
    took[50]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_streams_on_one_connection_do_not_hold_up_calls() {
    let scene = Scene::start(20, "cacheTtlSeconds: 300").await;
    let trigger = scene.trigger(&queue(3));
    let alone = usual_time(&scene, &trigger).await;
    let mut streams = join_all((0..2_000).map(|number| {
        let scene = &scene;
        async move { scene.watch(&scene.trigger(&queue(number % 20))).await }
    }))
    .await;
    for stream in &mut streams {
        assert!(!told(stream).await, "the present state");
    }
    let beside_streams = usual_time(&scene, &trigger).await;
    // A shared queue of two thousand would show as a thousand times as long.
    assert!(beside_streams < alone * 50, "{beside_streams:?} beside the streams, {alone:?} without");
}
