//! The end of a process: it is not held up by threads that nobody waits for.

use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use runtime::LogArgs;

/// As a look-up of a host's name does where the name server is gone: for half a minute, longer than Kubernetes waits.
#[test]
fn a_thread_that_is_blocked_does_not_hold_up_the_end() {
    let (release, blocked) = mpsc::channel::<()>();
    let (tell, ended) = mpsc::channel();
    std::thread::spawn(move || {
        let code = runtime::main("test", &LogArgs::off(), |_| async move {
            let (tell, begun) = tokio::sync::oneshot::channel();
            tokio::task::spawn_blocking(move || {
                tell.send(()).expect("it is waited for");
                blocked.recv()
            });
            begun.await?;
            Ok(ExitCode::SUCCESS)
        });
        tell.send(code).expect("it is waited for");
    });
    let code = ended.recv_timeout(Duration::from_secs(30)).expect("an end, although the thread is blocked");
    assert_eq!(code, ExitCode::SUCCESS);
    drop(release);
}
