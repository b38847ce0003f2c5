//! Listings that change while they are read, page by page: no gap, nobody forgotten, nothing remembered for ever.

use super::*;

/// A page as a service gives it that holds these.
fn on_page(numbers: impl IntoIterator<Item = u8>) -> Vec<(String, Observed)> {
    numbers.into_iter().map(|number| (name(number).to_string(), Observed::of_test(1))).collect()
}

/// A catalogue that knows these pages of four, read at the beginning, and has much to spend.
fn knowing(pages: u8) -> Catalogue {
    let mut catalogue = Catalogue::default();
    catalogue.account().save(100);
    catalogue.want_all(Asker::Call, TTL, TTL, at(0));
    for page in 0..pages {
        begin_page(&mut catalogue, page.into(), at(0));
        catalogue.page_read(page.into(), on_page(4 * page..4 * page + 4), page + 1 < pages, at(0), at(0));
    }
    assert!(catalogue.is_whole(TTL, at(0)));
    catalogue
}

/// Begins what is proposed, which is to be this page. Says how many entities come before it.
fn begin_page(catalogue: &mut Catalogue, page: usize, now: Moment) -> usize {
    let Next::Start(proposal) = catalogue.propose(Asker::Call, now) else { panic!("page {page} is not proposed") };
    catalogue.begin(&proposal);
    let Operation::Page { index, skip } = proposal.operation else { panic!("{proposal:?} is no page") };
    assert_eq!(index, page);
    skip
}

#[test]
fn a_page_that_is_being_read_is_not_read_again_to_search_though_it_became_unknown() {
    let mut catalogue = knowing(4);
    let now = at(6_000);
    for number in [13, 14] {
        catalogue.call(&name(number), TTL, now);
    }
    begin_page(&mut catalogue, 3, now);
    for number in [9, 10] {
        catalogue.call(&name(number), TTL, now);
    }
    begin_page(&mut catalogue, 2, now);
    // It is shorter than it was, so that nothing is known of what comes after it; and others are looked for.
    catalogue.page_read(2, on_page(8..11), true, now, now);
    for number in 30..36 {
        catalogue.call(&name(number), TTL, now);
    }
    let mut in_flight = vec![Operation::Page { index: 3, skip: 12 }];
    for _ in 0..100 {
        let patient = Moment(now.0 + Duration::from_secs(2));
        while let Next::Start(proposal) = catalogue.propose(Asker::Call, patient) {
            catalogue.begin(&proposal);
            let is_it = |operation: &Operation| matches!(operation, Operation::Page { index: 3, .. });
            assert!(!(is_it(&proposal.operation) && in_flight.iter().any(is_it)), "twice at a time");
            in_flight.push(proposal.operation);
        }
        // Everybody is gone: neither the page nor any entity has them.
        match in_flight.pop() {
            Some(Operation::Page { index, .. }) => {
                drop(catalogue.page_read(index, Vec::new(), false, patient, patient));
            }
            Some(Operation::Get(name)) => catalogue.got(&name, false, patient),
            None => break,
        }
    }
    assert_eq!(catalogue.wants.len(), 0, "somebody waits for ever: {:?}", catalogue.wants);
}

#[test]
fn a_page_that_was_read_at_another_position_than_it_has_now_leaves_no_gap() {
    let mut catalogue = knowing(2);
    let now = at(6_000);
    for number in [5, 6] {
        catalogue.call(&name(number), TTL, now);
    }
    assert_eq!(begin_page(&mut catalogue, 1, now), 4);
    catalogue.want_all(Asker::Call, TTL, TTL, now);
    assert_eq!(begin_page(&mut catalogue, 0, now), 0);
    // A page may be short, and say that there are more.
    catalogue.page_read(0, on_page(0..3), true, now, now);
    let (seen, patterns) = catalogue.page_read(1, on_page(4..8), false, now, now);
    assert_eq!((seen.len(), patterns), (4, Patterns::Unchanged), "the fourth is on neither page");
    assert_eq!(begin_page(&mut catalogue, 1, now), 3);
    assert_eq!(catalogue.page_read(1, on_page(3..8), false, now, now).1, Patterns::Ready);
    assert_eq!(catalogue.names().matching(|_| true).len(), 8);
    assert_eq!(catalogue.wants.len(), 0);
}

#[test]
fn what_left_a_listing_is_forgotten_though_not_all_of_it_is_ever_read() {
    let mut pages = Pages::default();
    // Queues with names of their own come and go, as some frameworks have them for replies.
    for minute in 0..10_000_u64 {
        let replies = (0..4).map(|number| (format!("reply-{minute}-{number}").into(), Observed::of_test(0)));
        let entities = (0..96).map(|number| (name(number), Observed::of_test(1))).chain(replies).collect();
        pages.replace(0, 0, entities, true, (at(minute * 60_000), at(minute * 60_000)));
        if minute == 0 {
            // A page that nobody needs is not read again.
            pages.replace(1, 100, vec![(name(100), Observed::of_test(1))], true, (at(0), at(0)));
        }
    }
    let remembered = pages.names().matching(|_| true).len();
    assert!(remembered <= 101 + 4 * 61, "{remembered} are remembered");
}

#[test]
fn a_name_is_spelled_as_the_service_spells_it_now() {
    let mut catalogue = Catalogue::default();
    let mut spelled = |written: &str| {
        catalogue.want_all(Asker::Call, TTL, TTL, at(0));
        catalogue.page_read(0, vec![(written.to_owned(), Observed::of_test(1))], false, at(0), at(0));
        catalogue.names()
    };
    let first = spelled("Orders");
    assert_eq!(first.matching(|written| written == "Orders").len(), 1);
    // Deleted and made again between two reads.
    let second = spelled("orders");
    assert_eq!(second.matching(|written| written == "orders").len(), 1);
    assert_ne!(first.membership, second.membership, "patterns look again");
}

#[test]
fn what_moves_onto_a_page_that_is_being_read_is_not_taken_for_gone() {
    let mut catalogue = knowing(3);
    // From the last page to the first, while that is being read: it is neither on that nor, later, on its own.
    catalogue.want_all(Asker::Call, TTL, TTL, at(6_000));
    begin_page(&mut catalogue, 0, at(6_000));
    for number in [8, 9] {
        catalogue.call(&name(number), TTL, at(6_000));
    }
    begin_page(&mut catalogue, 2, at(6_000));
    catalogue.page_read(2, on_page([8, 9, 10, 12]), false, at(6_000), at(6_100));
    let is_there = |catalogue: &Catalogue| catalogue.pages().observed(&name(11)).is_some();
    assert!(is_there(&catalogue), "nobody knows where it is");
    catalogue.page_read(0, on_page(0..4), true, at(6_000), at(6_200));
    begin_page(&mut catalogue, 1, at(6_200));
    let (_, patterns) = catalogue.page_read(1, on_page(4..8), true, at(6_200), at(6_300));
    assert_eq!(patterns, Patterns::Ready);
    assert!(is_there(&catalogue), "the first page was asked for before it moved there");
    catalogue.want_all(Asker::Call, TTL, TTL, at(12_000));
    for page in 0..3_u8 {
        begin_page(&mut catalogue, page.into(), at(12_000));
        let numbers = if page == 2 { vec![8, 9, 10, 12] } else { (4 * page..4 * page + 4).collect() };
        catalogue.page_read(page.into(), on_page(numbers), page < 2, at(12_000), at(12_100));
    }
    assert!(!is_there(&catalogue), "every page was read without it");
}
