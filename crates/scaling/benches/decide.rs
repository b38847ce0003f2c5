//! `decide` of every policy beside the division that the simplest of them is, in the same run.
//!
//! `cargo bench -p scaling`. What a policy adds over the division is mostly the sentence that says why.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use scaling::{Base, Counts, EntityStatus, Moment, POLICIES, Reading, Settings, Window, build_policy};

fn decide(c: &mut Criterion) {
    let counts = Counts { active: 12_345, dead_letter: 6, scheduled: 789, transfer: 0, transfer_dead_letter: 0 };
    let at = Moment(Duration::from_secs(1));
    let readings = [Reading { at, counts, status: EntityStatus::Active, requires_session: false }; 60];
    let window = Window::new(&readings).expect("there are readings");
    let mut group = c.benchmark_group("decide");
    group.bench_function("division (baseline)", |b| {
        b.iter(|| black_box(window.newest().counts.active) as f64 / f64::from(black_box(5u32)));
    });
    for entry in POLICIES {
        let settings: Settings = entry.keys.iter().map(|key| (key.name.to_owned(), key.default.to_owned())).collect();
        let policy = build_policy(entry.name, Base::default(), &settings).expect("defaults are allowed");
        group.bench_function(entry.name, |b| b.iter(|| policy.decide(black_box(&window), at)));
    }
    group.finish();
}

criterion_group!(benches, decide);
criterion_main!(benches);
