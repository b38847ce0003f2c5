//! Swapping the policy in the middle: the running scaler's answer changes, and nothing restarts.

use crate::bench::Demo;

#[test]
fn a_rewritten_profile_changes_the_decision_and_restarts_nothing() {
    // Half of the messages keep two workers busy for four seconds: time enough for the swap, on a slow machine too.
    let mut demo = Demo::start(&["--messages=160", "--max-replicas=2", "--swap-to=weighted"]);
    demo.wait_until("it is at work", |demo| demo.handled() >= 5);
    let [scaler] = demo.children("scaler")[..] else { panic!("one scaler") };
    demo.wait_until("the policy is swapped", |demo| demo.stdout().contains("policy weighted is in force"));
    assert_eq!(demo.children("scaler"), [scaler], "the same process");
    let ended = demo.end();
    let summary = ended.assert_nothing_lost(160);
    let swap = &summary["swap"];
    assert_eq!(swap["to"], "weighted");
    let share = |answer: &str| {
        let number = |key: &str| swap[answer][key].as_f64().expect("a number");
        number("metric") / number("messages")
    };
    assert!((share("before") - 1.0).abs() < 1e-9, "messageCount counts every message: {swap}");
    assert!((share("after") - 0.5).abs() < 1e-9, "weighted counts half of them: {swap}");
    assert_eq!(ended.file("logs/scaler.log").matches("serving").count(), 1, "{}", ended.file("logs/scaler.log"));
    assert!(ended.file("scaler.yaml").contains("policy: weighted"));
    assert!(ended.stdout.contains("swapped to weighted"), "{}", ended.stdout);
}
