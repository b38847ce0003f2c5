//! How much is kept: as many entries as the configuration says now, and of those that nobody keeps nothing.

use super::*;

/// Every queue that it is asked for has as many messages as were read before.
#[derive(Default)]
struct Endless(AtomicUsize);

impl Source for Endless {
    fn read<'a>(&'a self, _: &'a Access, _: &'a Entity) -> Read<'a, Observed> {
        let before = self.0.fetch_add(1, Ordering::SeqCst) as u64;
        std::future::ready(Ok(Observed::of_test(before))).boxed()
    }

    fn page<'a>(&'a self, _: &'a Access, _: &'a Listing, _: usize) -> Read<'a, Page> {
        std::future::ready(Err(ReadFailure::Unauthorized("no Manage claim".to_owned()))).boxed()
    }
}

fn limited(entities: usize) -> String {
    format!("{{creditsPerSecond: 1000000, limits: {{entities: {entities}}}}}")
}

fn numbered(number: usize) -> Query {
    query("key", &format!("queue-{number}"))
}

async fn read_all(readings: &Readings, numbers: impl IntoIterator<Item = usize>) {
    for number in numbers {
        readings.newest(&numbered(number), FRESHNESS).await.expect("it can be read");
    }
}

/// How many entries there are, once what moka leaves for later is done.
async fn kept(readings: &Readings) -> u64 {
    readings.0.entries.tidy().await;
    readings.0.entries.count()
}

#[tokio::test(start_paused = true)]
async fn another_limit_in_the_config_file_counts_from_the_next_newcomer_on() {
    let readings = readings_with(&Arc::new(Endless::default()), &limited(10));
    let change = |entities| readings.0.config.replace(Config::parse(&limited(entities)).expect("a good config"));
    read_all(&readings, 0..100).await;
    assert_eq!(kept(&readings).await, 10);
    change(50);
    read_all(&readings, 90..130).await;
    assert_eq!(kept(&readings).await, 40);
    let window = async |number| readings.entry(&numbered(number)).await.record().window.clone();
    let before = window(95).await;
    assert_eq!(before.len(), 1, "young enough, it was not read again");
    change(1_000);
    read_all(&readings, 130..131).await;
    tokio::time::advance(FRESHNESS.cache_ttl).await;
    assert_eq!(kept(&readings).await, 41, "what was kept moves to where there is more room");
    read_all(&readings, 95..96).await;
    assert_eq!(window(95).await[..1], before[..], "with its history");
    change(5);
    read_all(&readings, 200..201).await;
    // The move goes on beside.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(kept(&readings).await, 5);
}

#[tokio::test(start_paused = true)]
async fn the_metric_says_how_many_entries_there_are_though_none_is_new() {
    let readings = readings_with(&Arc::new(Endless::default()), &limited(10));
    read_all(&readings, 0..3).await;
    // moka counts when it has time to.
    assert_eq!(kept(&readings).await, 3);
    read_all(&readings, 0..1).await;
    let exposition = readings.0.metrics.exposition();
    let line = exposition.lines().find(|line| line.starts_with("servicebus_scaler_cache_entries "));
    assert_eq!(line, Some("servicebus_scaler_cache_entries 3"));
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_nobody_needs_any_more_stretches_nothing() {
    let readings = readings(&Arc::new(Endless::default()));
    let namespace = readings.namespace(access("key").namespace());
    readings.0.metrics.budget_stretch(&namespace.host, 3.0);
    assert!((stretch(&readings) - 3.0).abs() < f64::EPSILON);
    drop(namespace);
    let exposition = readings.0.metrics.exposition();
    assert!(!exposition.contains("budget_stretch_ratio{"), "an alert would go on for ever: {exposition}");
}

#[tokio::test(start_paused = true)]
async fn who_is_forgotten_waits_for_nothing() {
    let config = "{creditsPerSecond: 1, limits: {entities: 10}}";
    let readings = readings_with(&Arc::new(Endless::default()), config);
    for number in 0..20_000 {
        // It hangs up at once. One in ten seconds may be read, of thousands a second.
        let _ = readings.newest(&numbered(number), FRESHNESS).now_or_never();
        if number % 100 == 0 {
            readings.0.entries.tidy().await;
        }
    }
    let entry = readings.entry(&numbered(0)).await;
    let wanted = entry.rack.state().catalogue.wanted();
    assert!(wanted <= 2_000, "{wanted} of 20,000 are to be read for nobody");
}
