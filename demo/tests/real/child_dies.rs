//! Children that die in the middle: a worker is replaced and nothing is lost; without broker or scaler the run fails and
//! says who it was.

use nix::sys::signal::Signal;

use crate::bench::{DEADLINE, Demo, is_alive, send, wait_for};

#[test]
fn a_worker_killed_in_the_middle_loses_nothing() {
    // A lock that outlasts a pause of the machine: nothing but the kill is to make a message come again.
    let mut demo = Demo::start(&["--messages=160", "--lock-duration=20"]);
    demo.wait_until("two workers are at work", |demo| demo.children("worker").len() >= 2 && demo.handled() >= 10);
    let victim = demo.children("worker")[0];
    send(victim, Signal::SIGKILL);
    demo.wait_until("its death is noticed", |demo| demo.stdout().contains("died (signal SIGKILL)"));
    let ended = demo.end();
    let summary = ended.assert_nothing_lost(160);
    assert_eq!(summary["workersDied"], 1, "{summary}");
    // The message it had in hand may have been handled already, but not one more.
    assert!(summary["duplicates"].as_u64().is_some_and(|duplicates| duplicates <= 1), "{summary}");
}

#[test]
fn a_server_that_dies_ends_the_run_and_is_named() {
    for server in ["broker", "scaler"] {
        let mut demo = Demo::start(&["--messages=600"]);
        demo.wait_until("a worker is at work", |demo| demo.handled() >= 1);
        let [victim] = demo.children(server)[..] else { panic!("one {server}") };
        let others: Vec<u32> =
            ["broker", "scaler", "worker", "sender"].iter().flat_map(|role| demo.children(role)).collect();
        send(victim, Signal::SIGKILL);
        let ended = demo.end();
        assert_eq!(ended.status.code(), Some(1), "{}", ended.stdout);
        let told = format!("{server} died (signal SIGKILL)");
        assert!(ended.stdout.contains(&told), "{}", ended.stdout);
        assert!(ended.stdout.contains(&format!("logs/{server}.log")), "{}", ended.stdout);
        assert_eq!(ended.summary()["ok"], false);
        let is_gone = || others.iter().all(|process| !is_alive(*process)).then_some(());
        assert!(wait_for(DEADLINE, is_gone).is_some(), "nothing is left running");
    }
}
