//! After the play: stop the programs in order, look once more at queue and ledgers, judge, write the files.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::cast;
use crate::chart::scale::grouped;
use crate::child::Child;
use crate::director::Director;
use crate::interrupt::Interrupt;
use crate::summary::{Record, Summary};
use crate::view::print_line;

/// The time axis goes a little further than the run, so that its end can be seen.
const MARGIN: f64 = 1.03;

/// Winds a run up that ended by itself or, with a `problem`, did not.
pub async fn conclude(mut director: Director, problem: Option<String>) -> anyhow::Result<ExitCode> {
    let mut problems: Vec<String> = problem.into_iter().collect();
    let ended_at = director.seconds();
    let (started, died) = (director.deployment.started(), director.deployment.died());
    match problems.first() {
        Some(problem) => director.tell(&format!("FAILED: {problem}")),
        None => director.tell("everything is at rest; looking at what is left"),
    }
    let Director { mut view, launcher, stage, broker, scaler, sender, deployment, recorder, .. } = director;
    let Director { mut audit, mut sent_ledger, swap, args, .. } = director;
    // After a good run all of them have ended long ago; after a broken one, what they still write counts too.
    let (workers, ledgers) = deployment.dissolve();
    let clients: Vec<&Child> = workers.iter().chain([&sender]).collect();
    cast::break_off(&clients, &[]).await;
    for mut ledger in ledgers {
        match ledger.read_new() {
            Ok(ids) => audit.handle(ids),
            Err(error) => problems.push(format!("{error:#}")),
        }
    }
    match sent_ledger.read_new() {
        Ok(ids) => audit.confirm(ids),
        Err(error) => problems.push(format!("{error:#}")),
    }

    let held = stage.held().await.map_err(|error| format!("{error:#}"));
    for server in [Some(scaler), broker].into_iter().flatten() {
        if server.exit().is_none()
            && let Err(problem) = cast::dismiss(&server).await
        {
            problems.push(problem);
        }
    }

    let folder = launcher.folder();
    let summary = Summary::of(Record {
        messages: args.messages,
        audit,
        held,
        ready: recorder.ready.clone(),
        processes: recorder.processes.clone(),
        empty_at: recorder.last_handled_at(),
        zero_at: recorder.zero_at(),
        ended_at,
        workers_started: started,
        workers_died: died,
        swap,
        problems,
        folder: folder.path().to_owned(),
    });
    let title = format!("{} messages, replicas 0 → {} → 0", grouped(args.messages), summary.peak_replicas);
    let policies = match args.swap_to {
        Some(to) => format!("policy {}, then {to}", args.policy),
        None => format!("policy {}", args.policy),
    };
    let subtitle = format!(
        "{policies}; one replica for {} messages, {} s of work each; handled {}, lost {}",
        args.message_count,
        args.wait_time,
        grouped(summary.handled),
        summary.lost
    );
    write(&folder.chart(), &recorder.chart(title, subtitle, ended_at * MARGIN).to_svg())?;
    let json = serde_json::to_string_pretty(&summary).context("encode the summary")?;
    write(&folder.summary(), &format!("{json}\n"))?;
    view.leave();
    print_line(&format!("\n{summary}"));
    Ok(if summary.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Breaks a run off: within five seconds nothing of it is left.
pub async fn break_off(mut director: Director, interrupt: Interrupt) -> ExitCode {
    director.view.leave();
    director.tell(&format!("{}: stopping every process", interrupt.name()));
    let (sent, handled) = (director.audit.confirmed(), director.audit.handled());
    let Director { began, mut view, broker, scaler, sender, deployment, .. } = director;
    let (workers, _) = deployment.dissolve();
    let clients: Vec<&Child> = workers.iter().chain([&sender]).collect();
    let servers: Vec<&Child> = broker.iter().chain([&scaler]).collect();
    cast::break_off(&clients, &servers).await;
    view.event(began.elapsed(), &format!("broken off: {sent} messages sent, {handled} handled; no process is left"));
    interrupt.exit_code()
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
