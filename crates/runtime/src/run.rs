//! From `main` to exit code: build the runtime, run until done or told to stop, report an error as one line.

use std::process::ExitCode;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::LogArgs;

/// How long threads that are blocked may hold up the end: a look-up of a host's name may hang for longer than Kubernetes
/// waits, and what a program has to finish it has waited for itself.
const LAST_THREADS: Duration = Duration::from_secs(1);

/// Runs one program. `program` gets a token that is cancelled on SIGTERM or SIGINT; it then stops cleanly and returns.
/// An error is printed as one line on stderr, its whole chain included, and the exit code is 1.
pub fn main<F, Fut>(name: &'static str, logs: &LogArgs, program: F) -> ExitCode
where
    F: FnOnce(CancellationToken) -> Fut,
    Fut: Future<Output = anyhow::Result<ExitCode>>,
{
    let run = || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let result = {
            let entered = runtime.enter();
            // Dropped before the runtime, which sends the last of it.
            let _installed = logs.install(name)?;
            drop(entered);
            runtime.block_on(async {
                let shutdown = CancellationToken::new();
                watch_signals(&shutdown)?;
                program(shutdown).await
            })
        };
        runtime.shutdown_timeout(LAST_THREADS);
        result
    };
    let result: anyhow::Result<ExitCode> = run();
    result.unwrap_or_else(|error| {
        eprintln!("{name}: {error:#}");
        ExitCode::FAILURE
    })
}

/// Cancels `shutdown` at the first SIGTERM or SIGINT. A second signal ends the process at once, for the impatient.
fn watch_signals(shutdown: &CancellationToken) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        for first in [true, false] {
            let code = tokio::select! { _ = terminate.recv() => 143, _ = interrupt.recv() => 130 };
            if first {
                tracing::info!("stopping; a second signal ends the process at once");
                shutdown.cancel();
            } else {
                std::process::exit(code);
            }
        }
    });
    Ok(())
}
