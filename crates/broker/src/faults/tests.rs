//! What faults make of requests, connections and time, without a broker.

use super::*;

fn faults(texts: &[&str]) -> Faults {
    let faults = Faults::default();
    for text in texts {
        faults.add(text.parse().expect("a fault")).expect("room");
    }
    faults
}

fn get(entity: &str) -> Asked<'_> {
    Asked { plane: Plane::Administration, operation: None, entity: Some(entity), is_token_checked: true }
}

fn hits(faults: &Faults) -> Vec<(bool, u64)> {
    faults.list().into_iter().map(|report| (report.active, report.hits)).collect()
}

#[test]
fn latencies_add_up_and_the_first_denial_decides() {
    for texts in [["latency=3s", "throttle"], ["throttle", "latency=3s"]] {
        let verdict = faults(&texts).judge(&get("q"));
        assert_eq!((verdict.latency, verdict.denial.is_some()), (Duration::from_secs(3), true), "{texts:?}");
    }

    let faults = faults(&["latency=1s", "latency=2s,entity=q", "busy", "throttle"]);
    let verdict = faults.judge(&get("q"));
    assert_eq!(verdict.latency, Duration::from_secs(3));
    assert!(matches!(verdict.denial, Some(Denial::Busy { sub_code: 50_009 })), "{verdict:?}");
    assert_eq!(hits(&faults), [(true, 1), (true, 1), (true, 1), (true, 0)]);
    assert!(faults.remove(3) && !faults.remove(3));
    let verdict = faults.judge(&get("other"));
    assert_eq!(verdict.latency, Duration::from_secs(1));
    assert!(matches!(verdict.denial, Some(Denial::Throttle { retry_after_seconds: 2 })), "{verdict:?}");
    assert_eq!(faults.clear(), 3);
    assert!(faults.judge(&get("q")).denial.is_none());
}

#[test]
fn a_fault_is_used_up_and_stays_listed() {
    let faults = faults(&["status=500,next=2"]);
    let denied = |_| faults.judge(&get("q")).denial.is_some();
    assert_eq!([0, 1, 2, 3].map(denied), [true, true, false, false]);
    assert_eq!(hits(&faults), [(false, 2)]);
}

#[test]
fn the_same_seed_draws_the_same() {
    let drawn = |seed: u64| {
        let faults = faults(&[&format!("busy,probability=0.3,seed={seed}"), &format!("latency=1ms..9s,seed={seed}")]);
        let draw = |_| {
            let Verdict { latency, denial } = faults.judge(&get("q"));
            (latency, denial.is_some())
        };
        (0..1_000).map(draw).collect::<Vec<_>>()
    };
    assert_eq!(drawn(1), drawn(1));
    assert_ne!(drawn(1), drawn(2));
    let denied = drawn(1).iter().filter(|(_, denied)| *denied).count();
    assert!((250..350).contains(&denied), "{denied} of 1000 at 0.3");
    let allowed = Duration::from_millis(1)..=Duration::from_secs(9);
    assert!(drawn(1).iter().all(|(latency, denied)| *denied || allowed.contains(latency)));
}

#[test]
fn values_that_no_text_can_have_do_no_harm() {
    let faults = Faults::default();
    for probability in [f64::NAN, -1.0, 0.0] {
        let fault = Fault { probability, ..Fault::new(FaultKind::Reset) };
        faults.add(fault).expect("room");
    }
    let (from, to) = (Duration::from_secs(2), Duration::from_secs(1));
    faults.add(Fault::new(FaultKind::Latency { from, to })).expect("room");
    let verdict = faults.judge(&get("q"));
    assert!(verdict.denial.is_none() && verdict.latency == from, "{verdict:?}");
}

#[test]
fn a_wrong_key_shows_only_where_a_token_is_checked() {
    let faults = faults(&["wrong-key"]);
    assert!(faults.judge(&Asked { is_token_checked: false, ..get("q") }).denial.is_none());
    assert!(matches!(faults.judge(&get("q")).denial, Some(Denial::WrongKey)));
    assert_eq!(hits(&faults), [(true, 1)]);
}

#[test]
fn whole_connections_are_concerned_by_faults_that_name_nothing_else() {
    let faults = faults(&["reset,entity=q", "stall,operation=send", "busy", "reset,plane=amqp,next=1"]);
    assert!(faults.judge_connection(None).is_none());
    assert!(faults.judge_connection(Some(Plane::Administration)).is_none());
    assert!(matches!(faults.judge_connection(Some(Plane::Amqp)), Some(Denial::Reset)));
    assert!(faults.judge_connection(Some(Plane::Amqp)).is_none(), "used up");
}

#[test]
fn all_connections_stand_still_only_by_a_fault_for_all() {
    for (text, wanted) in [
        ("stall", true),
        ("stall,plane=amqp", true),
        ("stall,plane=administration", false),
        ("stall,entity=q", false),
        ("stall,next=1", false),
        ("stall,probability=0.5", false),
        ("reset", false),
    ] {
        assert_eq!(faults(&[text]).standstill(Plane::Amqp).is_some(), wanted, "{text}");
    }
}

#[test]
fn their_number_is_bounded() {
    let faults = faults(&[]);
    for _ in 0..MAX_FAULTS {
        faults.add(Fault::new(FaultKind::Reset)).expect("room");
    }
    assert_eq!(faults.add(Fault::new(FaultKind::Reset)), Err(TooManyFaults));
    faults.remove(1);
    let two = vec![Fault::new(FaultKind::Reset); 2];
    assert_eq!(faults.add_all(two), Err(TooManyFaults), "there is room for one");
    assert_eq!(faults.list().len(), MAX_FAULTS - 1, "all or none");
}

#[tokio::test]
async fn what_stands_still_goes_on_when_the_fault_is_over_or_removed() {
    let deadline = Duration::from_secs(20);
    let faults = faults(&["stall"]);
    let stall = faults.standstill(Plane::Amqp).expect("stands still");
    let lifted = tokio::spawn(async move { Stall::lifted(Some(&stall)).await });
    faults.clear();
    tokio::time::timeout(deadline, lifted).await.expect("in time").expect("goes on");

    let began = Instant::now();
    faults.add("stall,for=50ms".parse().expect("a fault")).expect("room");
    if let Some(stall) = faults.standstill(Plane::Amqp) {
        tokio::time::timeout(deadline, Stall::lifted(Some(&stall))).await.expect("in time");
    }
    assert!(began.elapsed() >= Duration::from_millis(50), "{:?}", began.elapsed());
    assert!(faults.standstill(Plane::Amqp).is_none());
}
