//! Breaking a run off: Ctrl-C and SIGTERM stop every child within five seconds, and even `kill -9` leaves none behind.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::bench::{DEADLINE, Demo, is_alive, wait_for};

/// What somebody who presses Ctrl-C is promised.
const PROMISED: Duration = Duration::from_secs(5);
const ROLES: [&str; 4] = ["broker", "scaler", "sender", "worker"];

/// A demo in the middle of its work, with plenty left, and all its children.
fn in_the_middle() -> (Demo, Vec<u32>) {
    let mut demo = Demo::start(&["--messages=600"]);
    demo.wait_until("two workers are at work", |demo| demo.children("worker").len() >= 2 && demo.handled() >= 5);
    let children: Vec<u32> = ROLES.iter().flat_map(|role| demo.children(role)).collect();
    assert!(children.len() >= 4, "broker, scaler and two workers: {children:?}");
    (demo, children)
}

fn left(children: &[u32]) -> Vec<u32> {
    children.iter().copied().filter(|process| is_alive(*process)).collect()
}

/// Breaks runs off until one has ended within what is promised, three at most, and checks how each of them ended. A machine
/// that stands still for a moment is no fault of the demo.
fn broken_off_in_time(signal: Signal, code: i32, run: impl Fn() -> (Demo, Vec<u32>)) {
    let mut took = Vec::new();
    while took.len() < 3 && took.iter().all(|took| *took >= PROMISED) {
        let (demo, children) = run();
        let began = Instant::now();
        demo.signal(signal);
        let ended = demo.end();
        took.push(began.elapsed());
        assert!(left(&children).is_empty(), "{signal}: {}", ended.stdout);
        assert_eq!(ended.status.code(), Some(code), "{}", ended.stdout);
        assert!(ended.stdout.contains("no process is left"), "{}", ended.stdout);
    }
    assert!(took.iter().any(|took| *took < PROMISED), "{signal}: {took:?}");
}

#[test]
fn a_signal_in_the_middle_stops_every_child_and_is_the_exit_code() {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        broken_off_in_time(signal, code, in_the_middle);
    }
}

#[test]
fn workers_in_the_middle_of_long_work_do_not_hold_it_up() {
    broken_off_in_time(Signal::SIGINT, 130, || {
        let mut demo = Demo::start(&["--wait-time=60"]);
        demo.wait_until("a worker is at work", Demo::has_ready_worker);
        let children = ROLES.iter().flat_map(|role| demo.children(role)).collect();
        (demo, children)
    });
}

#[test]
fn even_a_killed_demo_leaves_no_process_behind() {
    let (demo, children) = in_the_middle();
    demo.signal(Signal::SIGKILL);
    let ended = demo.end();
    assert_eq!(ended.status.code(), None, "killed");
    let is_gone = wait_for(DEADLINE, || left(&children).is_empty().then_some(()));
    assert!(is_gone.is_some(), "still there: {:?}", left(&children));
}
