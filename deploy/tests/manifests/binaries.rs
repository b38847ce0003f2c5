//! The manifests against the binaries' own command lines: what a container is started with must parse, every variable
//! must be one that the binary reads, and ports and config files must be the ones it uses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use clap::builder::Resettable;
use clap::{ArgMatches, Args as _, Command, CommandFactory as _};
use deploy::{Document, Manifests};
use scaler::config::Config;
use serde_json::Value;

use crate::fixture::{environment, items, text};

pub(crate) fn problems(manifests: &Manifests) -> Vec<String> {
    let mut problems = Vec::new();
    for document in &manifests.documents {
        for container in document.containers() {
            let found = match started(manifests, container) {
                Ok(matches) => container_problems(manifests, document, container, &matches),
                Err(problem) => vec![problem],
            };
            let name = text(container, "name");
            problems.extend(found.into_iter().map(|problem| format!("{document}, container {name}: {problem}")));
        }
    }
    problems
}

/// The binary's command line, as its own crate defines it.
fn command(binary: &str) -> Option<Command> {
    match binary {
        "/scaler" => Some(scaler::Args::command()),
        "/worker" => Some(worker::Args::command()),
        "/sender" => Some(sender::Args::command()),
        "/broker" => Some(broker::Args::augment_args(Command::new("broker"))),
        _ => None,
    }
}

/// Parses what a container is started with: its arguments, and its variables through the flags that stand for them (the
/// variables of the test's own process are kept out).
pub(crate) fn started(manifests: &Manifests, container: &Value) -> Result<ArgMatches, String> {
    let words: Vec<_> = items(container, "command").filter_map(Value::as_str).collect();
    let [binary] = words.as_slice() else { return Err(format!("its command {words:?} is not one binary")) };
    let mut root = command(binary).ok_or_else(|| format!("there is no binary {binary}"))?;
    root.build();
    let mut line: Vec<String> = vec![(*binary).to_owned()];
    line.extend(items(container, "args").filter_map(Value::as_str).map(str::to_owned));
    let leaf = if root.has_subcommands() {
        let name = line.get(1).map(String::as_str).unwrap_or_default();
        root.find_subcommand(name).ok_or_else(|| format!("{binary} has no subcommand {name:?}"))?
    } else {
        &root
    };
    let flags: BTreeMap<_, _> = leaf
        .get_arguments()
        .filter_map(|arg| Some((arg.get_env()?.to_str()?.to_owned(), arg.get_long()?.to_owned())))
        .collect();
    for (variable, value) in environment(manifests, container)? {
        let flag = flags.get(&variable).ok_or_else(|| {
            let known: Vec<_> = flags.keys().map(String::as_str).collect();
            format!("{binary} reads no variable {variable}; it reads {}", known.join(", "))
        })?;
        line.push(format!("--{flag}={value}"));
    }
    let matches = without_environment(command(binary).ok_or("no such binary")?)
        .try_get_matches_from(line)
        .map_err(|error| error.to_string())?;
    Ok(match matches.subcommand() {
        Some((_, leaf)) => leaf.clone(),
        None => matches,
    })
}

fn without_environment(command: Command) -> Command {
    let reset = |arg: clap::Arg| arg.env(Resettable::<clap::builder::OsStr>::Reset);
    command.mut_args(reset).mut_subcommands(without_environment)
}

/// The values of a flag, its default included; none when the binary has no such flag.
pub(crate) fn values(matches: &ArgMatches, flag: &str) -> Vec<String> {
    let raw = matches.try_get_raw(flag).ok().flatten();
    raw.into_iter().flatten().map(|value| value.to_string_lossy().into_owned()).collect()
}

fn container_problems(
    manifests: &Manifests,
    document: &Document,
    container: &Value,
    matches: &ArgMatches,
) -> Vec<String> {
    let mut problems = port_problems(container, matches);
    for file in values(matches, "config") {
        problems.extend(config_problem(manifests, document, container, &file));
    }
    for seconds in values(matches, "drain_timeout") {
        let drain = Duration::try_from_secs_f64(seconds.parse().unwrap_or(f64::NAN)).unwrap_or(Duration::MAX);
        let pod = document.pod().unwrap_or(&Value::Null);
        let grace = pod.get("terminationGracePeriodSeconds").and_then(Value::as_u64).unwrap_or(30);
        if drain >= Duration::from_secs(grace) {
            problems.push(format!("it drains for up to {drain:?}, but is killed after {grace} s"));
        }
    }
    problems
}

fn port_problems(container: &Value, matches: &ArgMatches) -> Vec<String> {
    let mut problems = Vec::new();
    let mut listened = BTreeSet::new();
    for address in [values(matches, "listen"), values(matches, "admin_listen")].concat() {
        match address.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_unspecified() => {
                listened.insert(u64::from(address.port()));
            }
            _ => problems.push(format!("it listens on {address}, which nothing outside its pod reaches")),
        }
    }
    let open: BTreeSet<_> =
        items(container, "ports").filter_map(|port| port.get("containerPort").and_then(Value::as_u64)).collect();
    if open != listened {
        problems.push(format!("it listens on the ports {listened:?}, but the manifest opens {open:?}"));
    }
    // The scaler answers probes on its administration port, which is never behind TLS.
    let asked: BTreeSet<_> = match values(matches, "admin_listen").last().and_then(|address| address.parse().ok()) {
        Some(SocketAddr::V4(admin)) => BTreeSet::from([u64::from(admin.port())]),
        _ => listened.clone(),
    };
    for name in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let Some(probe) = container.get(name) else { continue };
        let port = probe.pointer("/httpGet/port").and_then(Value::as_u64);
        if port.is_none_or(|port| !asked.contains(&port)) {
            problems.push(format!("the {name} does not ask where and how it serves: {probe}"));
        }
    }
    if !listened.is_empty() && (container.get("readinessProbe").is_none() || container.get("livenessProbe").is_none()) {
        problems.push("it serves, but has not both a readinessProbe and a livenessProbe".to_owned());
    }
    problems
}

/// The config file must come from a mounted `ConfigMap`, as a whole folder, and be one the scaler takes.
fn config_problem(manifests: &Manifests, document: &Document, container: &Value, file: &str) -> Option<String> {
    match mounted_config(manifests, document, container, file) {
        Ok(content) => Config::parse(content).err().map(|problem| format!("--config {file}: {problem}")),
        Err(problem) => Some(format!("--config {file}: {problem}")),
    }
}

fn mounted_config<'a>(
    manifests: &'a Manifests,
    document: &Document,
    container: &Value,
    file: &str,
) -> Result<&'a str, String> {
    let (folder, key) = file.rsplit_once('/').ok_or("it is not an absolute path")?;
    let mount = items(container, "volumeMounts")
        .find(|mount| text(mount, "mountPath") == folder)
        .ok_or_else(|| format!("nothing is mounted at {folder}"))?;
    if mount.get("subPath").is_some() {
        return Err("a subPath mount never sees a change of its ConfigMap".to_owned());
    }
    let volume = document
        .pod()
        .into_iter()
        .flat_map(|pod| items(pod, "volumes"))
        .find(|volume| text(volume, "name") == text(mount, "name"))
        .ok_or("its volume does not exist")?;
    let map = volume.pointer("/configMap/name").and_then(Value::as_str).unwrap_or_default();
    manifests
        .find("ConfigMap", map)
        .and_then(|map| map.value.get("data")?.get(key)?.as_str())
        .ok_or_else(|| format!("the ConfigMap {map:?} has no key {key}"))
}

/// The scaler's config, as its pod gets it.
pub(crate) fn scaler_config(manifests: &Manifests, scaler: &Document) -> Result<Config, String> {
    let container = scaler.containers().next().ok_or("the scaler has no container")?;
    let matches = started(manifests, container)?;
    let file = values(&matches, "config").pop().ok_or("the scaler has no --config")?;
    Config::parse(mounted_config(manifests, scaler, container, &file)?)
}
