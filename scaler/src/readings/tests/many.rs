//! Many entities: pages of a listing, patterns, budgets, outages, all in simulated time.

use tokio_util::sync::CancellationToken;

use super::*;
use crate::watchers::Watchers;

/// A namespace whose every queue `queue-N` has N active messages.
struct Crowd {
    queues: Mutex<BTreeMap<String, Observed>>,
    gets: AtomicUsize,
    pages: AtomicUsize,
    read_time: Duration,
    failure: Mutex<Option<Failing>>,
}

#[derive(Clone)]
enum Failing {
    Listings(ReadFailure),
    Stall,
}

impl Crowd {
    fn of(count: usize) -> Arc<Self> {
        Self::taking(READ_TIME, count)
    }

    fn taking(read_time: Duration, count: usize) -> Arc<Self> {
        let queues =
            (0..count).map(|number| (format!("Queue-{number:04}"), Observed::of_test(number as u64))).collect();
        let (gets, pages) = (AtomicUsize::default(), AtomicUsize::default());
        Arc::new(Self { queues: Mutex::new(queues), gets, pages, read_time, failure: Mutex::default() })
    }

    fn fails(&self, failure: impl Into<Option<Failing>>) {
        *self.failure.lock().expect("no test panicked with it") = failure.into();
    }

    fn count(&self) -> (usize, usize) {
        (self.gets.load(Ordering::SeqCst), self.pages.load(Ordering::SeqCst))
    }

    fn operations(&self) -> usize {
        self.count().0 + self.count().1
    }

    async fn answer<T>(&self, is_page: bool, result: Result<T, ReadFailure>) -> Result<T, ReadFailure> {
        let failing = self.failure.lock().expect("no test panicked with it").clone();
        tokio::time::sleep(self.read_time).await;
        match failing {
            Some(Failing::Listings(failure)) if is_page => Err(failure),
            Some(Failing::Stall) => std::future::pending().await,
            _ => result,
        }
    }
}

impl Source for Crowd {
    fn read<'a>(&'a self, _: &'a Access, entity: &'a Entity) -> Read<'a, Observed> {
        self.gets.fetch_add(1, Ordering::SeqCst);
        let queues = self.queues.lock().expect("no test panicked with it");
        let found = queues.iter().find(|(name, _)| name.eq_ignore_ascii_case(entity.name()));
        let result = found.map(|(_, observed)| *observed);
        let result = result.ok_or_else(|| ReadFailure::NotFound(format!("no {entity}")));
        self.answer(false, result).boxed()
    }

    fn page<'a>(&'a self, _: &'a Access, _: &'a Listing, skip: usize) -> Read<'a, Page> {
        self.pages.fetch_add(1, Ordering::SeqCst);
        let queues = self.queues.lock().expect("no test panicked with it");
        let entities: Vec<_> = queues.iter().skip(skip).take(100).map(|(name, seen)| (name.clone(), *seen)).collect();
        let has_more = entities.len() == 100;
        self.answer(true, Ok(Page { entities, has_more })).boxed()
    }
}

fn numbered(number: usize) -> Query {
    query("key", &format!("queue-{number:04}"))
}

/// Asks for the first `count` queues at the same time, each answered within the deadline.
async fn ask_all(readings: &Readings, count: usize) -> Vec<Result<Seen, Arc<ReadFailure>>> {
    let asking = (0..count).map(|number| async move {
        let asked = Instant::now();
        let answer = readings.newest(&numbered(number), FRESHNESS).await;
        assert!(asked.elapsed() <= DEADLINE, "{:?}", asked.elapsed());
        answer
    });
    join_all(asking).await
}

/// `count` objects at KEDA's pace for so long: polled every `seconds`, each at its own moment. Gives the ages that they
/// were told and how many calls there were.
async fn poll(readings: &Readings, count: usize, seconds: u64, rounds: u64) -> (Vec<Duration>, usize) {
    let begun = Instant::now();
    let poller = |number: usize| async move {
        let period = Duration::from_secs(seconds);
        let phase = period.mul_f64((number * 7_919 % 10_007) as f64 / 10_007.0);
        let mut ages = Vec::new();
        for round in 0..rounds {
            tokio::time::sleep_until(begun + phase + period * round as u32).await;
            let seen = readings.newest(&numbered(number), FRESHNESS).await.expect("it can be read");
            assert_eq!(seen.newest().counts.active, number as u64);
            ages.push(seen.age);
        }
        ages
    };
    let ages = join_all((0..count).map(poller)).await;
    (ages.iter().flat_map(|ages| ages.iter().skip(1).copied()).collect(), count * rounds as usize)
}

#[tokio::test(start_paused = true)]
async fn five_hundred_busy_queues_cost_a_fortieth_of_single_reads() {
    let crowd = Crowd::of(500);
    let readings = readings(&crowd);
    let _warm = poll(&readings, 500, 10, 6).await;
    let before = crowd.operations();
    let (mut ages, calls) = poll(&readings, 500, 10, 6).await;
    let spent = crowd.operations() - before;
    assert!(spent <= 75 && spent * 40 <= calls, "{spent} operations for {calls} calls in a minute");
    ages.sort_unstable();
    let p99 = ages[ages.len() * 99 / 100];
    assert!(p99 <= FRESHNESS.cache_ttl + Duration::from_secs(1), "{p99:?}");
}

#[tokio::test(start_paused = true)]
async fn idle_queues_are_listed_too_and_a_cold_start_stays_below_one_read_for_each_call() {
    let crowd = Crowd::of(500);
    let readings = readings(&crowd);
    let (_, calls) = poll(&readings, 500, 30, 1).await;
    assert!(crowd.operations() * 5 <= calls, "{:?} for the first {calls} calls", crowd.count());
    let before = crowd.operations();
    let (_, calls) = poll(&readings, 500, 30, 10).await;
    let spent = crowd.operations() - before;
    assert!(spent * 10 <= calls, "{spent} operations for {calls} calls");
}

#[tokio::test(start_paused = true)]
async fn one_queue_of_many_objects_is_read_once_in_each_ttl() {
    let crowd = Crowd::of(500);
    let readings = readings(&crowd);
    for _ in 0..475 {
        let _ = readings.newest(&numbered(3), FRESHNESS).await;
        tokio::time::advance(Duration::from_millis(20)).await;
    }
    assert_eq!(crowd.count(), (2, 0), "less than ten seconds, and nothing is listed for one queue");
}

#[tokio::test(start_paused = true)]
async fn a_pattern_is_a_view_of_the_pages_that_single_entities_share() {
    let crowd = Crowd::of(250);
    let readings = readings(&crowd);
    let read = async |text: &str, operation| {
        let seen = readings.newest(&pattern(text, operation), FRESHNESS).await.expect("it can be read");
        (seen.newest().counts.active, seen.matched.expect("a pattern").counted)
    };
    assert_eq!(read("Queue-000[0-9]", Operation::Sum).await, (45, 10));
    assert_eq!(read("Queue-000[0-9]", Operation::Max).await, (9, 10));
    assert_eq!(read("Queue-000[0-9]", Operation::Average).await, (4, 10));
    assert_eq!(read("queue-.*", Operation::Sum).await, (0, 0), "names are compared as the service writes them");
    assert_eq!(read("Queue-", Operation::Sum).await, (0, 0), "the whole name must match");
    assert_eq!(crowd.count(), (0, 3));
    let seen = readings.newest(&numbered(207), FRESHNESS).await.expect("it is on a page");
    assert_eq!((seen.newest().counts.active, crowd.count()), (207, (0, 3)));
    // Disabled entities are left out, and said.
    let off = Observed { status: EntityStatus::Disabled, ..Observed::of_test(1_000) };
    crowd.queues.lock().expect("no test panicked with it").insert("Queue-0009".to_owned(), off);
    tokio::time::advance(FRESHNESS.cache_ttl).await;
    let seen = readings.newest(&pattern("Queue-000[0-9]", Operation::Sum), FRESHNESS).await.expect("it can be read");
    assert_eq!(seen.newest().counts.active, 36);
    assert_eq!(seen.matched, Some(Matched { counted: 9, disabled: 1 }));
    assert_eq!(seen.window().readings().len(), 2, "it has a history of its own");
}

#[tokio::test(start_paused = true)]
async fn without_the_right_to_list_single_entities_are_read_alone_and_patterns_are_refused() {
    let crowd = Crowd::of(50);
    crowd.fails(Failing::Listings(ReadFailure::Unauthorized("no Manage claim".to_owned())));
    let readings = readings_with(&crowd, "creditsPerSecond: 100000");
    for _ in 0..5 {
        assert!(ask_all(&readings, 50).await.iter().all(Result::is_ok));
        tokio::time::advance(Duration::from_secs(10)).await;
    }
    assert_eq!(crowd.count().1, 1, "a listing is tried once");
    let refused = readings.newest(&pattern(".*", Operation::Sum), FRESHNESS).await.expect_err("it may not list");
    assert!(matches!(*refused, ReadFailure::Unauthorized(_)), "{refused:?}");
    assert_eq!(crowd.count().1, 2, "a pattern cannot do without");
    // As soon as it may, patterns see it; single entities after ten minutes at most.
    crowd.fails(None);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(readings.newest(&pattern(".*", Operation::Sum), FRESHNESS).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_short_budget_stretches_periods_and_lets_nobody_starve() {
    let crowd = Crowd::of(60);
    crowd.fails(Failing::Listings(ReadFailure::Unauthorized("no Manage claim".to_owned())));
    let readings = readings_with(&crowd, "creditsPerSecond: 20");
    let begun = Instant::now();
    let mut oldest = vec![Duration::ZERO; 60];
    // Sixty queues every ten seconds are six operations a second; two may be had.
    for second in 0..120 {
        for (number, oldest) in oldest.iter_mut().enumerate() {
            if number % 10 == second % 10 {
                let asked = Instant::now();
                let answer = readings.newest(&numbered(number), FRESHNESS).await;
                assert!(asked.elapsed() <= DEADLINE, "{:?}", asked.elapsed());
                match answer {
                    Ok(seen) if second >= 40 => *oldest = seen.age.max(*oldest),
                    Ok(_) => {}
                    Err(failure) => {
                        assert!(second < 40, "{failure}");
                        assert!(matches!(*failure, ReadFailure::OverBudget(_)), "{failure:?}");
                    }
                }
            }
        }
        tokio::time::sleep_until(begun + Duration::from_secs(second as u64 + 1)).await;
    }
    let most = 8 + 2 * begun.elapsed().as_secs() as usize + 2;
    assert!(crowd.operations() <= most, "{} operations, {most} are paid for", crowd.operations());
    let worst = oldest.iter().max().expect("sixty");
    assert!(*worst <= Duration::from_secs(50), "{oldest:?}");
    let factor = stretch(&readings);
    assert!(factor > 2.0, "{factor}");
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_five_hundred_entities_is_a_probe_a_second_and_ends_at_once() {
    let crowd = Crowd::of(500);
    let readings = readings(&crowd);
    let _warm = poll(&readings, 500, 10, 2).await;
    crowd.fails(Failing::Stall);
    let all = async || ask_all(&readings, 500).await;
    tokio::time::advance(Duration::from_secs(10)).await;
    let before = crowd.operations();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(40) {
        for (number, answer) in all().await.into_iter().enumerate() {
            let seen = answer.expect("the reading from before stands in");
            assert_eq!(seen.newest().counts.active, number as u64);
            assert!(seen.stale_because.is_some());
        }
        tokio::time::advance(Duration::from_millis(200)).await;
    }
    let probes = crowd.operations() - before;
    assert!(probes <= 32 + 20, "{probes} tries in {:?}", begun.elapsed());
    tokio::time::advance(Duration::from_secs(30)).await;
    assert!(all().await.iter().all(Result::is_err), "nothing may stand in for longer than a minute");
    crowd.fails(None);
    tokio::time::advance(RETRY_PAUSE).await;
    let fresh = all().await;
    assert!(fresh.iter().all(|answer| answer.as_ref().is_ok_and(|seen| seen.age < Duration::from_secs(5))));
}

#[tokio::test(start_paused = true)]
async fn slow_answers_delay_calls_but_not_beyond_the_deadline() {
    let readings = readings(&Crowd::taking(Duration::from_secs(2), 500));
    for _ in 0..5 {
        let answers = ask_all(&readings, 500).await;
        assert!(answers.iter().flatten().all(|seen| seen.age <= FRESHNESS.max_staleness));
        tokio::time::advance(Duration::from_secs(10)).await;
    }
    let answers = ask_all(&readings, 500).await;
    assert!(answers.iter().all(Result::is_ok), "after some rounds all of them were read");
}

/// Push streams of so many queues for so long; gives the age of the oldest reading that any of them had, looking often.
async fn watch(readings: &Readings, count: usize, length: Duration) -> Duration {
    let watchers = Watchers::new(readings.clone(), Duration::from_secs(1), CancellationToken::new());
    let mut streams = Vec::new();
    for number in 0..count {
        streams.push(watchers.subscribe(&numbered(number), FRESHNESS).await);
        // Not all at once, so that they are due at different moments.
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (begun, mut oldest) = (Instant::now(), Duration::ZERO);
    while begun.elapsed() < length {
        // Some are active for a while, now these, now those, which says nothing of their neighbours.
        let turn = begun.elapsed().as_secs() as usize;
        for (number, stream) in streams.iter_mut().enumerate() {
            let seen = stream.latest().expect("it was read").expect("it can be read");
            oldest = oldest.max(seen.age);
            stream.found((number * 7_919 + turn).is_multiple_of(3));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    oldest
}

#[tokio::test(start_paused = true)]
async fn a_watched_queue_is_looked_at_every_interval_even_if_a_read_takes_most_of_it() {
    for read_time in [1, 300, 700].map(Duration::from_millis) {
        let crowd = Crowd::taking(read_time, 100);
        let oldest = watch(&readings(&crowd), 100, Duration::from_secs(20)).await;
        let most = Duration::from_millis(1_050) + read_time;
        assert!(oldest <= most, "{oldest:?} when a read takes {read_time:?}");
        assert!(crowd.count().1 <= 35, "one page a second: {:?}", crowd.count());
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_watched_queues_are_looked_at_in_turn_and_the_metric_says_how_rarely() {
    let crowd = Crowd::of(1_000);
    let readings = readings(&crowd);
    // Ten pages of ten credits, fifty credits a second.
    let oldest = watch(&readings, 1_000, Duration::from_secs(20)).await;
    assert!(oldest <= Duration::from_millis(2_100), "{oldest:?}");
    let factor = stretch(&readings);
    assert!((1.8..=2.2).contains(&factor), "{factor}");
}

/// A pattern that matches a hundred queues.
fn hundreds(number: usize) -> Query {
    pattern(&format!("Queue-{number:02}.."), Operation::Sum)
}

#[tokio::test(start_paused = true)]
async fn patterns_are_answered_though_all_pages_are_never_young_at_a_time() {
    // Forty pages at five a second are eight seconds, and somebody wants none older than five ten times a second.
    let readings = readings(&Crowd::of(4_000));
    let begun = Instant::now();
    let callers = (0..40).map(|number| {
        let readings = readings.clone();
        async move {
            let mut oldest = Duration::ZERO;
            for round in 0..15 {
                let phase = Duration::from_millis(100) * number as u32;
                tokio::time::sleep_until(begun + phase + Duration::from_secs(4) * round).await;
                let answer = readings.newest(&hundreds(number), FRESHNESS).await;
                if round >= 5 {
                    let seen = answer.expect("it was read within twenty seconds");
                    let sum = (0..100).map(|queue| queue + 100 * number as u64).sum::<u64>();
                    assert_eq!(seen.newest().counts.active, sum);
                    oldest = oldest.max(seen.age);
                }
            }
            oldest
        }
    });
    let oldest = join_all(callers).await.into_iter().max().expect("forty");
    assert!(oldest <= Duration::from_secs(20), "{oldest:?}: two rounds of the pages, and the pause between calls");
}

#[tokio::test(start_paused = true)]
async fn a_watched_pattern_is_looked_at_in_turn_though_a_look_takes_longer_than_the_interval() {
    let crowd = Crowd::of(2_000);
    let readings = readings(&crowd);
    let watchers = Watchers::new(readings, Duration::from_secs(1), CancellationToken::new());
    let mut stream = watchers.subscribe(&hundreds(19), FRESHNESS).await;
    // The first look spends what was saved; each after it takes twenty pages at five a second.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (begun, mut oldest) = (Instant::now(), Duration::ZERO);
    while begun.elapsed() < Duration::from_mins(1) {
        oldest = oldest.max(stream.latest().expect("it was read").expect("it can be read").age);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(oldest <= Duration::from_secs(10), "{oldest:?}: two looks, since a page counts from when it was read");
    let most = 20 + 5 * 70 + 1;
    assert!(crowd.operations() <= most, "{} operations, {most} are paid for", crowd.operations());
}
