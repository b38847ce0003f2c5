//! The catalogue against a namespace that changes under it and a model of the built-in trigger, which spends one
//! operation on every call, and every page of the listing on a call for a pattern.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::choice::loan;
use super::*;

mod changing;

const TTL: Duration = Duration::from_secs(5);

fn at(milliseconds: u64) -> Moment {
    Moment(Duration::from_millis(milliseconds))
}

fn name(number: u8) -> Arc<str> {
    format!("queue-{number:03}").into()
}

/// A catalogue, the namespace it reads, what was last read of each entity, and what the built-in would have spent.
#[derive(Default)]
struct Scene {
    catalogue: Catalogue,
    /// Entities on a page; so few that a test has many pages.
    page: usize,
    now: u64,
    there: BTreeMap<Arc<str>, u64>,
    may_list: bool,
    in_flight: Vec<Operation>,
    read_at: HashMap<Arc<str>, u64>,
    built_in: u64,
    spent: u64,
    gets: u64,
    most_in_demand: u32,
    /// The most that was ever lent.
    lent: u64,
    /// Calls that wait, and the pattern calls that do, with the pages read for them.
    waiting: HashMap<Arc<str>, u64>,
    patterns_waiting: u64,
    pages_for_patterns: u64,
}

impl Scene {
    fn with(page: usize, entities: impl IntoIterator<Item = u8>) -> Self {
        let there = entities.into_iter().map(|number| (name(number), 1)).collect();
        Self { page, may_list: true, there, ..Self::default() }
    }

    fn pages(&self) -> u64 {
        // The built-in's listing goes on until a page is empty.
        (self.there.len() / self.page + 1) as u64
    }

    /// A call for a single entity. Says whether the cache answered it.
    fn call(&mut self, number: u8) -> bool {
        let name = name(number);
        self.built_in += 1;
        let is_young = self.read_at.get(&name).is_some_and(|read_at| at(self.now - read_at).0 < TTL);
        if is_young {
            self.catalogue.answered(&name, TTL, at(self.now));
        } else {
            self.catalogue.call(&name, TTL, at(self.now));
            self.waiting.entry(name).or_insert(self.now);
        }
        self.most_in_demand = self.most_in_demand.max(self.catalogue.account().newcomers(at(self.now)));
        is_young
    }

    fn call_pattern(&mut self) {
        self.built_in += self.pages();
        if self.catalogue.is_whole(TTL, at(self.now)) {
            self.catalogue.pattern_answered();
        } else {
            self.catalogue.want_all(Asker::Call, TTL, TTL, at(self.now));
            self.patterns_waiting += 1;
        }
    }

    /// Begins all that may begin.
    fn begin(&mut self) {
        for asker in [Asker::Call, Asker::Watcher] {
            while let Next::Start(proposal) = self.catalogue.propose(asker, at(self.now)) {
                self.catalogue.begin(&proposal);
                self.spent += u64::from(asker == Asker::Call);
                self.gets += u64::from(matches!(proposal.operation, Operation::Get(_)));
                self.lent = self.lent.max(self.catalogue.account().free().min(0).unsigned_abs());
                let is_for_pattern = proposal.payer == Payer::Pattern;
                self.pages_for_patterns += u64::from(is_for_pattern);
                assert!(!self.in_flight.contains(&proposal.operation), "twice at a time: {proposal:?}");
                self.in_flight.push(proposal.operation);
            }
        }
    }

    /// Ends the operation that began first, as the namespace is now; or fails it.
    fn end(&mut self, fails: bool) {
        if self.in_flight.is_empty() {
            return;
        }
        match self.in_flight.remove(0) {
            Operation::Get(name) if fails => {
                self.catalogue.get_failed(&name);
                self.waiting.remove(&name);
            }
            Operation::Get(name) => {
                self.catalogue.got(&name, self.there.contains_key(&name), at(self.now));
                self.read_at.insert(Arc::clone(&name), self.now);
                self.waiting.remove(&name);
            }
            Operation::Page { index, .. } if fails || !self.may_list => {
                let failure = if fails { PageFailure::Other } else { PageFailure::Refused };
                self.catalogue.page_failed(index, failure, at(self.now));
                self.patterns_failed();
            }
            Operation::Page { index, skip } => {
                let entities: Vec<_> = self.there.iter().skip(skip).take(self.page).collect();
                let entities: Vec<_> =
                    entities.into_iter().map(|(name, active)| (name.to_string(), Observed::of_test(*active))).collect();
                let has_more = entities.len() == self.page;
                let (seen, patterns) = self.catalogue.page_read(index, entities, has_more, at(self.now), at(self.now));
                for (name, _) in &seen {
                    self.read_at.insert(Arc::clone(name), self.now);
                    self.waiting.remove(name);
                }
                if patterns == Patterns::Ready {
                    (self.patterns_waiting, self.pages_for_patterns) = (0, 0);
                }
            }
        }
    }

    /// All who wait for pages are told of a failure, as the built-in's callers would have been: the first of them after
    /// as many pages as were read for it, the others at their first.
    fn patterns_failed(&mut self) {
        if self.patterns_waiting > 0 {
            self.built_in -= self.patterns_waiting * (self.pages() - 1);
            self.built_in += self.pages_for_patterns.max(1) - 1;
        }
        (self.patterns_waiting, self.pages_for_patterns) = (0, 0);
    }

    /// Begins and ends operations until nothing is left to do at this moment.
    fn settle(&mut self) {
        for _ in 0..1_000 {
            self.begin();
            if self.in_flight.is_empty() {
                return;
            }
            self.end(false);
        }
        panic!("it never comes to rest");
    }

    fn check(&self) {
        let account = self.catalogue.account();
        let (paid, spent) = account.totals();
        assert_eq!(spent, self.spent, "the account counts what was done");
        assert!(paid <= self.built_in, "paid {paid} of {}", self.built_in);
        let allowed = self.built_in + self.lent;
        assert!(self.spent <= allowed, "spent {}, the built-in {}", self.spent, self.built_in);
        let most_lent = loan(self.most_in_demand, true).unsigned_abs();
        assert!(self.lent <= most_lent, "lent {} for {}", self.lent, self.most_in_demand);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Call(u8),
    CallPattern,
    Watch(u8),
    Pass(u64),
    Begin,
    End,
    Fail,
    Create(u8),
    Remove(u8),
    ToggleListing,
    GiveUp,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..40_u8).prop_map(Step::Call),
        1 => Just(Step::CallPattern),
        1 => (0..40_u8).prop_map(Step::Watch),
        4 => (0..3_000_u64).prop_map(Step::Pass),
        6 => Just(Step::Begin),
        8 => Just(Step::End),
        1 => Just(Step::Fail),
        1 => (0..40_u8).prop_map(Step::Create),
        1 => (0..40_u8).prop_map(Step::Remove),
        1 => Just(Step::ToggleListing),
        1 => Just(Step::GiveUp),
    ]
}

proptest! {
    /// Whatever is asked, however answers come, and whatever happens to the entities meanwhile.
    #[test]
    fn never_more_operations_than_the_built_in(
        there in proptest::collection::btree_set(0..40_u8, 0..40),
        has_patterns in any::<bool>(),
        is_short in any::<bool>(),
        steps in proptest::collection::vec(step(), 1..400),
    ) {
        let mut scene = Scene::with(4, there);
        scene.catalogue.is_short = is_short;
        for step in steps {
            match step {
                Step::Call(number) => drop(scene.call(number)),
                Step::CallPattern if has_patterns => scene.call_pattern(),
                Step::Watch(number) => scene.catalogue.look(&name(number), TTL, at(scene.now)),
                Step::Pass(milliseconds) => scene.now += milliseconds,
                Step::Begin => scene.begin(),
                Step::End => scene.end(false),
                Step::Fail => scene.end(true),
                // What the built-in spends on a pattern depends on how long the listing is at which moment; so either
                // patterns are asked for, or the listing changes.
                Step::Create(number) if !has_patterns => drop(scene.there.insert(name(number), 1)),
                Step::Remove(number) if !has_patterns => drop(scene.there.remove(&name(number))),
                Step::CallPattern | Step::Create(_) | Step::Remove(_) => {}
                Step::ToggleListing => scene.may_list = !scene.may_list,
                Step::GiveUp => {
                    for name in scene.catalogue.give_up() {
                        scene.waiting.remove(&name);
                    }
                    scene.patterns_failed();
                }
            }
            scene.check();
        }
        // Nobody is forgotten: once the namespace answers, all who wait are served.
        scene.now += 2_000;
        scene.settle();
        prop_assert!(scene.waiting.is_empty(), "still waiting: {:?}", scene.waiting);
        prop_assert_eq!(scene.patterns_waiting, 0);
        scene.check();
        prop_assert_eq!(scene.catalogue.wants.len(), 0, "{:?}", scene.catalogue.wants);
        prop_assert_eq!(scene.catalogue.wants.waiting(), Vec::<Arc<str>>::new());
        let account = scene.catalogue.account();
        let (paid, _) = account.totals();
        prop_assert_eq!(account.free(), paid as i64 - scene.spent as i64, "nothing is set aside any more");
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Calls at KEDA's pace, whatever their phases: at rest, at most a read of each page in each `cacheTtl`.
    #[test]
    fn many_distinct_entities_cost_a_read_of_each_page(phases in proptest::collection::vec(0_u64..10_000, 200)) {
        let mut scene = Scene::with(20, 0..200);
        let mut last = 0;
        // Answers take a tenth of a second: calls within it wait together.
        for tick in 0..1_200_u64 {
            scene.now = tick * 100;
            for (number, phase) in phases.iter().enumerate() {
                if tick % 100 == phase / 100 {
                    scene.call(number as u8);
                    scene.begin();
                }
            }
            scene.settle();
            if tick == 599 {
                last = scene.spent;
            }
        }
        scene.check();
        let (a_minute, built_in) = (scene.spent - last, 200 * 6);
        // Ten pages, twelve times five seconds.
        prop_assert!(a_minute <= 10 * 12 + 10, "{a_minute} operations a minute, the built-in {built_in}");
    }
}

#[test]
fn one_entity_is_read_alone() {
    let mut scene = Scene::with(4, 0..40);
    for second in 0..600 {
        scene.now = second * 1_000;
        if second % 10 == 0 {
            scene.call(7);
            scene.settle();
        }
    }
    assert_eq!((scene.spent, scene.gets), (60, 60));
}

#[test]
fn idle_entities_that_never_hit_the_cache_are_listed_by_the_loan() {
    let mut scene = Scene::with(20, 0..200);
    // Each once in thirty seconds: none is young when it is asked for.
    for tick in 0..2_000_u64 {
        scene.now = tick * 150;
        scene.call((tick * 37 % 200) as u8);
        scene.settle();
        scene.check();
    }
    assert!((1..=loan(40, true).unsigned_abs()).contains(&scene.lent), "{}", scene.lent);
    // Ten pages in each five seconds, of which there are sixty.
    assert!(scene.spent <= 10 * 60 + 50, "{} for 2,000 calls", scene.spent);
}

#[test]
fn paging_stops_when_all_that_are_wanted_were_seen() {
    let mut scene = Scene::with(4, 0..40);
    // Savings first: the same entity again and again.
    for _ in 0..50 {
        scene.call(0);
        scene.settle();
    }
    for number in 0..20 {
        scene.call(number);
    }
    scene.settle();
    assert_eq!(scene.spent, 1 + 5, "one GET, then five of ten pages hold all twenty");
    assert_eq!(scene.gets, 1);
}

#[test]
fn without_the_right_to_list_everything_is_read_alone_and_listing_not_tried_again_soon() {
    let mut scene = Scene::with(4, 0..40);
    scene.may_list = false;
    for round in 0..50_u64 {
        scene.now = round * 10_000;
        for number in 0..40 {
            scene.call(number);
        }
        scene.settle();
    }
    assert_eq!(scene.spent, scene.gets + 1, "one page was tried, within ten minutes");
    assert_eq!(scene.gets, 50 * 40);
}

#[test]
fn a_missing_entity_is_read_alone_though_the_listing_is_complete() {
    let mut scene = Scene::with(4, 0..10);
    scene.call_pattern();
    scene.settle();
    let before = scene.spent;
    scene.call(30);
    scene.settle();
    assert_eq!((scene.spent - before, scene.gets), (1, 1));
}

#[test]
fn a_pattern_reads_each_page_once_and_counts_what_is_on_its_way_between_pages() {
    let mut scene = Scene::with(4, 0..10);
    scene.call_pattern();
    scene.settle();
    assert_eq!(scene.spent, 3);
    scene.call_pattern();
    scene.settle();
    assert_eq!(scene.spent, 3, "the pages are young");
    assert_eq!(scene.catalogue.names().matching(|_| true).len(), 10);
    scene.now += 6_000;
    scene.call_pattern();
    scene.begin();
    scene.end(false);
    scene.now += 100;
    // Between the first page and the second, all that come after it move up: the fifth is on no page.
    scene.there.remove(&name(0));
    scene.settle();
    assert!(scene.catalogue.pages().observed(&name(4)).is_some(), "not on a page, and still there");
    assert_eq!(scene.catalogue.names().matching(|_| true).len(), 10);
    scene.now += 6_000;
    scene.call_pattern();
    scene.settle();
    assert!(scene.catalogue.pages().find(&name(4)).is_some());
    assert!(scene.catalogue.pages().observed(&name(0)).is_none(), "every page was read without it");
    assert_eq!(scene.catalogue.names().matching(|_| true).len(), 9);
}

#[test]
fn a_listing_that_does_not_end_is_given_up() {
    let mut catalogue = Catalogue::default();
    catalogue.want_all(Asker::Call, TTL, TTL, at(0));
    for page in 0..=MAX_PAGES {
        let Next::Start(proposal) = catalogue.propose(Asker::Call, at(0)) else { panic!("it stops without a word") };
        catalogue.begin(&proposal);
        let entities = (0..4).map(|index| (format!("{page}-{index}"), Observed::of_test(1))).collect();
        if catalogue.page_read(page, entities, true, at(0), at(0)).1 == Patterns::Endless {
            assert_eq!(page + 1, MAX_PAGES);
            return;
        }
    }
    panic!("it goes on for ever");
}

#[test]
fn watchers_pay_their_own_way_and_earn_nothing_for_calls() {
    let mut scene = Scene::with(4, 0..40);
    for round in 0..100 {
        scene.now = round * 1_000;
        for number in 0..40 {
            scene.catalogue.look(&name(number), Duration::from_secs(1), at(scene.now));
        }
        scene.settle();
    }
    assert_eq!(scene.spent, 0);
    assert_eq!(scene.catalogue.account().free(), 0);
    // The last round's pages are still young, and a call that they answer is a saving.
    assert!(scene.call(3));
    assert_eq!(scene.catalogue.account().free(), 1);
}
