//! Flags that cannot work: one clear line on stderr, a failing exit code, and nothing started.

use crate::bench::Demo;

/// The one line that the demo complains with.
fn complaint(flags: &[&str]) -> String {
    let ended = Demo::start(flags).end();
    assert_eq!(ended.status.code(), Some(1), "{flags:?}: {}{}", ended.stdout, ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{flags:?}: {}", ended.stderr);
    ended.stderr
}

#[test]
fn flags_that_cannot_work_are_refused_in_one_line() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let path = file.path().display();
    let unreachable =
        "Endpoint=sb://127.0.0.1:1;SharedAccessKeyName=n;SharedAccessKey=PLANTED;UseDevelopmentEmulator=true";
    std::fs::write(file.path(), unreachable).expect("written");
    for (flags, wanted) in [
        (vec!["--swap-to=messageCount".to_owned()], "--swap-to messageCount"),
        (vec!["--polling-interval=0".to_owned()], "--polling-interval 0: must be at least"),
        (vec![format!("--out={path}")], "--out"),
        (
            vec!["--connection-string-file=/nonexistent/file".to_owned(), "--queue=q".to_owned()],
            "--connection-string-file /nonexistent/file",
        ),
        (vec![format!("--connection-string-file={path}"), "--queue=q".to_owned()], "--queue q"),
    ] {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let line = complaint(&flags);
        assert!(line.starts_with("demo: ") && line.contains(wanted), "{flags:?}: {line}");
        assert!(!line.contains("PLANTED"), "{line}");
    }
}

#[test]
fn a_broken_connection_string_is_explained_and_not_shown() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), "Endpoint=sb://h;SharedAccessKey=PLANTED").expect("written");
    let line = complaint(&[&format!("--connection-string-file={}", file.path().display()), "--queue=q"]);
    assert!(line.contains("SharedAccessKeyName is missing") && !line.contains("PLANTED"), "{line}");
}

#[test]
fn a_flag_that_does_not_exist_is_a_usage_error() {
    let ended = Demo::start(&["--massages=5"]).end();
    assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("--massages"), "{}", ended.stderr);
}

#[cfg(not(feature = "azservicebus"))]
#[test]
fn a_client_that_is_not_built_is_refused() {
    let line = complaint(&["--client=azservicebus"]);
    assert!(line.contains("--client azservicebus: this build has no such client"), "{line}");
}

#[cfg(feature = "azservicebus")]
#[test]
fn the_loop_runs_with_the_other_client() {
    Demo::start(&["--client=azservicebus"]).end().assert_nothing_lost(120);
}

#[test]
fn a_run_that_stands_still_ends_at_its_deadline_and_says_where_it_stood() {
    let ended = Demo::start(&["--wait-time=600", "--deadline=3"]).end();
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stdout);
    // How many were sent by then is the machine's affair.
    let told = ended.stdout.split_once("gave up after 3 s (--deadline): ").map(|(_, told)| told);
    assert!(told.is_some_and(|told| told.contains(" of 120 messages sent, 0 handled")), "{}", ended.stdout);
    assert!(ended.stdout.contains("result     FAILED"), "{}", ended.stdout);
}
