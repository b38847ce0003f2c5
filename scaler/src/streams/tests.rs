//! Activity streams in simulated time, before a queue whose count a test sets.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use externalscaler::ScaledObjectRef;
use futures_util::FutureExt as _;
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Code;

use super::*;
use crate::access::Access;
use crate::config::{Config, ConfigHandle};
use crate::connections::Connections;
use crate::endpoints::AllowedEndpoints;
use crate::entity::{Entity, Listing};
use crate::known_triggers::KnownTriggers;
use crate::metrics::Metrics;
use crate::readings::Readings;
use crate::source::{Observed, Page, Read, ReadFailure, Source};

const SECOND: Duration = Duration::from_secs(1);
const CONNECTION: &str = "Endpoint=sb://orders.servicebus.windows.net/;SharedAccessKeyName=n;SharedAccessKey=k";

/// Every queue has the same count, and none can be listed.
#[derive(Default)]
struct Queue {
    active: AtomicU64,
    reads: AtomicUsize,
}

impl Source for Queue {
    fn read<'a>(&'a self, _: &'a Access, _: &'a Entity) -> Read<'a, Observed> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let active = self.active.load(Ordering::SeqCst);
        tokio::time::sleep(SECOND / 10).map(move |()| Ok(Observed::of_test(active))).boxed()
    }

    fn page<'a>(&'a self, _: &'a Access, _: &'a Listing, _: usize) -> Read<'a, Page> {
        std::future::ready(Err(ReadFailure::Unauthorized("no Manage claim".to_owned()))).boxed()
    }
}

struct Bench {
    queue: Arc<Queue>,
    config: ConfigHandle,
    decisions: Decisions,
    watchers: Watchers,
    _over: DropGuard,
}

impl Bench {
    fn new(active: u64, config: &str) -> Self {
        let queue = Arc::new(Queue { active: active.into(), ..Queue::default() });
        let (config, shutdown) = (ConfigHandle::new(parsed(config)), CancellationToken::new());
        let source = Arc::clone(&queue) as Arc<dyn Source>;
        let readings = Readings::new(source, config.clone(), Metrics::new(), Duration::from_millis(2_500));
        let connections = Connections::new(AllowedEndpoints::default(), config.clone());
        tokio::spawn(connections.clone().follow(SECOND, shutdown.clone()));
        let decisions = Decisions::new(readings.clone(), config.clone(), connections);
        let watchers = Watchers::new(readings, SECOND, shutdown.clone());
        Self { queue, config, decisions, watchers, _over: shutdown.drop_guard() }
    }

    fn open(&self, metadata: &[(&str, &str)]) -> ReceiverStream<Result<IsActiveResponse, Status>> {
        self.activity(metadata).start()
    }

    fn activity(&self, metadata: &[(&str, &str)]) -> Activity {
        let own = [("queueName", "orders"), ("connectionFromEnv", CONNECTION)];
        let metadata = own.iter().chain(metadata).map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let scaled_object = ScaledObjectRef {
            name: "receiver".to_owned(),
            namespace: "demo".to_owned(),
            scaler_metadata: metadata.collect::<HashMap<_, _>>(),
        };
        let known = KnownTriggers::default().get(&scaled_object);
        let access_changes = self.decisions.access_changes();
        let trigger = known.trigger().expect("sound metadata");
        let (query, freshness) = reads(&self.decisions, "demo", trigger).expect("it may");
        Activity {
            decisions: self.decisions.clone(),
            watchers: self.watchers.clone(),
            telemetry: Telemetry::default(),
            namespace: "demo".to_owned(),
            known,
            query,
            freshness,
            access_changes,
            heartbeat: 30 * SECOND,
            permit: Arc::new(Semaphore::new(1)).try_acquire_owned().expect("it is new"),
        }
    }

    /// What a poll is told.
    async fn polled(&self) -> Result<bool, String> {
        let known = self.activity(&[]).known;
        let judged = self.decisions.judge("demo", known.trigger().expect("sound metadata")).await;
        judged.map(|judged| judged.decision.active).map_err(|refusal| refusal.to_string())
    }

    fn has(&self, active: u64) {
        self.queue.active.store(active, Ordering::SeqCst);
    }

    /// How often the queue is read during this time.
    async fn reads(&self, time: Duration) -> usize {
        let before = self.queue.reads.load(Ordering::SeqCst);
        tokio::time::sleep(time).await;
        self.queue.reads.load(Ordering::SeqCst) - before
    }
}

fn parsed(config: &str) -> Config {
    Config::parse(config).expect("a good config")
}

/// The next message, which must come.
async fn next(stream: &mut ReceiverStream<Result<IsActiveResponse, Status>>) -> Result<bool, Code> {
    let message = tokio::time::timeout(60 * SECOND, stream.next()).await.expect("a message in time");
    message.expect("the stream is open").map(|told| told.result).map_err(|status| status.code())
}

#[tokio::test(start_paused = true)]
async fn a_client_that_did_not_read_is_told_nothing_that_is_over() {
    let bench = Bench::new(0, "");
    let mut stream = bench.open(&[]);
    tokio::time::sleep(2 * SECOND).await;
    bench.has(5);
    tokio::time::sleep(10 * SECOND).await;
    bench.has(0);
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(next(&mut stream).await, Ok(false), "what was told before anything changed");
    let more = tokio::time::timeout(10 * SECOND, stream.next()).await;
    assert!(more.is_err(), "it is as it was, and a true between would start workers for nothing: {more:?}");
    bench.has(5);
    assert_eq!(next(&mut stream).await, Ok(true));
}

#[tokio::test(start_paused = true)]
async fn an_open_stream_keeps_to_the_configuration_of_each_moment() {
    let bench = Bench::new(5, "cacheTtlSeconds: 300");
    let mut stream = bench.open(&[]);
    let mut choosy = bench.open(&[("cacheTtl", "200s")]);
    assert_eq!((next(&mut stream).await, next(&mut choosy).await), (Ok(true), Ok(true)));
    assert_eq!(bench.reads(60 * SECOND).await, 0, "what is active is looked at as often as cacheTtl says");
    bench.config.replace(parsed("{cacheTtlSeconds: 5, cacheTtlBoundsSeconds: {min: 1, max: 10}}"));
    let reads = bench.reads(60 * SECOND).await;
    assert!((9..=13).contains(&reads), "{reads} reads in a minute");
    // What would be refused now has no reason to go on.
    while let Ok(active) = next(&mut choosy).await {
        assert!(active, "repeated");
    }
    assert!(choosy.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_takes_its_wish_with_it() {
    let bench = Bench::new(5, "");
    let (mut hasty, mut calm) = (bench.open(&[("cacheTtl", "1s")]), bench.open(&[("cacheTtl", "60s")]));
    assert_eq!((next(&mut hasty).await, next(&mut calm).await), (Ok(true), Ok(true)));
    let reads = bench.reads(60 * SECOND).await;
    assert!(reads >= 50, "{reads} reads in a minute while somebody wants none older than a second");
    drop(hasty);
    tokio::time::sleep(2 * SECOND).await;
    let reads = bench.reads(120 * SECOND).await;
    assert!((1..=3).contains(&reads), "{reads} reads in two minutes for who is content with one in one");
}

#[tokio::test(start_paused = true)]
async fn the_first_message_is_no_reading_that_nobody_tried_to_refresh() {
    let bench = Bench::new(5, "{cacheTtlSeconds: 5, maxStalenessSeconds: 60}");
    assert_eq!(bench.polled().await, Ok(true));
    bench.has(0);
    tokio::time::sleep(50 * SECOND).await;
    let mut stream = bench.open(&[]);
    assert_eq!(next(&mut stream).await, Ok(false), "the queue was drained since the last poll");
}

#[tokio::test(start_paused = true)]
async fn the_first_message_is_told_at_once_of_a_reading_that_is_young_enough() {
    let bench = Bench::new(5, "cacheTtlSeconds: 300");
    assert_eq!(bench.polled().await, Ok(true));
    tokio::time::sleep(200 * SECOND).await;
    let mut stream = bench.open(&[]);
    let told = tokio::time::timeout(SECOND / 100, next(&mut stream)).await;
    assert_eq!(told, Ok(Ok(true)), "it is not waited for a read");
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_profile_is_removed_ends() {
    let bench = Bench::new(5, "profiles: {gold: {policy: messageCount}}");
    let mut stream = bench.open(&[("policyProfile", "gold")]);
    assert_eq!(next(&mut stream).await, Ok(true));
    bench.config.replace(parsed(""));
    assert_eq!(next(&mut stream).await, Err(Code::FailedPrecondition));
    assert!(stream.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_change_between_the_opening_of_a_stream_and_its_start_is_heard() {
    let bench = Bench::new(5, "cacheTtlBoundsSeconds: {min: 1, max: 300}");
    // What follows the configuration has seen it as it is now.
    tokio::time::sleep(SECOND / 2).await;
    let opened = bench.activity(&[("cacheTtl", "200s")]);
    bench.config.replace(parsed("cacheTtlBoundsSeconds: {min: 1, max: 10}"));
    let mut stream = opened.start();
    let ended = async { while next(&mut stream).await.is_ok() {} };
    tokio::time::timeout(120 * SECOND, ended).await.expect("its cacheTtl is out of bounds now, which it heard of");
}
