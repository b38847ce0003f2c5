//! The whole loop in one command: broker, scaler, sender and workers as real processes under a local autoscaler.
//!
//! [`run`] tells the story: claim a folder, start the programs, then let KEDA and the HPA (`crates/autoscaler`) ask the
//! scaler and scale the workers until every message is handled and nothing runs any more; then judge. Each program is the
//! deployed one in a [`role`]; the decisions are the scaler's and the autoscaler's. What is owned here is processes
//! ([`child`], [`launcher`], [`deployment`]), what was recorded ([`ledger`], [`recorder`], [`summary`], [`chart`]) and the
//! [`view`].

use std::process::ExitCode;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

pub mod args;
pub mod cast;
pub mod chart;
pub mod child;
pub mod deployment;
pub mod director;
pub mod finale;
pub mod folder;
pub mod interrupt;
pub mod kubernetes;
pub mod launcher;
pub mod ledger;
pub mod parts;
pub mod profile;
pub mod recorder;
pub mod role;
pub mod scaler_client;
pub mod series;
pub mod stage;
pub mod summary;
pub mod swap;
pub mod view;

pub use args::{Args, NAME};

use args::RunArgs;
use director::{Director, Ending};
use folder::Folder;
use interrupt::Interrupts;
use launcher::Launcher;
use view::View;

/// Plays one run to its end. Exit code 0 if everything is as it must be, 1 if not, 130 or 143 if a signal broke it off.
///
/// Must be polled by the main task (`Runtime::block_on`), because children are tied to the thread that starts them.
pub async fn run(args: RunArgs, shutdown: CancellationToken) -> anyhow::Result<ExitCode> {
    args.check()?;
    let mut interrupts = Interrupts::listen(shutdown)?;
    let folder = Arc::new(Folder::claim(&args.out)?);
    let view = View::open(args.plain, &folder.timeline())?;
    let launcher = Launcher::new(folder, &args.log_level)?;
    // An interrupt drops what was started so far, and dropping a child kills it.
    let mut director = tokio::select! {
        interrupt = interrupts.next() => return Ok(interrupt.exit_code()),
        director = Director::start(args, launcher, view) => director?,
    };
    let problem = match director.play(&mut interrupts).await {
        Ending::Complete => None,
        Ending::Failed(problem) => Some(problem),
        Ending::Interrupted(interrupt) => return Ok(finale::break_off(director, interrupt).await),
    };
    tokio::select! {
        interrupt = interrupts.next() => Ok(interrupt.exit_code()),
        code = finale::conclude(director, problem) => code,
    }
}
