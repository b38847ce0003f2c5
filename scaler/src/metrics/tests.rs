//! The exposition as a whole, and that nobody can make it grow without end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;

use externalscaler::ScaledObjectRef;
use proptest::prelude::*;

use super::*;

fn id(name: &str) -> TriggerId {
    TriggerId::of(&ScaledObjectRef {
        name: name.to_owned(),
        namespace: "demo".to_owned(),
        scaler_metadata: HashMap::from([("queueName".to_owned(), "orders".to_owned())]),
    })
}

fn series<'a>(exposition: &'a str, family: &str) -> Vec<&'a str> {
    exposition.lines().filter(|line| line.starts_with(&format!("{family}{{"))).collect()
}

/// Every metric, each with a value of its own.
fn used() -> Metrics {
    let metrics = Metrics::new();
    metrics.call_ended(Method::GetMetrics, Code::Ok, Duration::from_micros(700));
    metrics.call_ended(Method::StreamIsActive, Code::ResourceExhausted, Duration::from_hours(3));
    metrics.operation(OperationKind::GetQueue, Outcome::Ok);
    metrics.operation(OperationKind::ListSubscriptions, Outcome::Throttled);
    for answer in [CacheAnswer::Hit, CacheAnswer::Hit, CacheAnswer::Miss] {
        metrics.cache(answer);
    }
    metrics.cache_entries(5);
    metrics.reading_age(Duration::from_secs(4));
    metrics.budget_stretch("Orders.servicebus.windows.net", 1.5);
    metrics.throttled("orders.servicebus.windows.net");
    std::mem::forget(metrics.call_in_use(Method::StreamIsActive));
    std::mem::forget(metrics.connection_opened());
    std::mem::forget(metrics.call_in_use(Method::GetMetrics));
    metrics.handshake_failed();
    metrics.certificate_expiry(|| Some(1_900_000_000));
    metrics.trigger_series(&id("receiver")).told(12.5, 5, true);
    metrics
}

#[test]
fn the_exposition_says_all_that_was_counted() {
    let exposition = used().exposition();
    let is_stable = |line: &&str| !line.starts_with("process_start_time_seconds ");
    let mut lines: Vec<_> = exposition.lines().filter(is_stable).collect();
    // The series of a metric come in any order.
    for series in lines.chunk_by_mut(|one, other| !one.starts_with('#') && !other.starts_with('#')) {
        series.sort_unstable();
    }
    let is = lines.join("\n");
    assert!(is == include_str!("exposition.txt").trim_end(), "metrics/exposition.txt must say what it is now:\n{is}");
}

#[test]
fn a_stream_and_a_connection_count_until_they_end() {
    let metrics = Metrics::new();
    let line = |kind: &str| format!("servicebus_scaler_streams_open{{kind=\"{kind}\"}}");
    let count = |kind: &str| {
        let exposition = metrics.exposition();
        let found = exposition.lines().find_map(|text| text.strip_prefix(&line(kind)).map(str::to_owned));
        found.expect("both kinds are always shown").trim().to_owned()
    };
    let open = [metrics.call_in_use(Method::StreamIsActive), metrics.call_in_use(Method::StreamIsActive)];
    let other = metrics.call_in_use(Method::StreamMetricSpec);
    assert_eq!((count("activity"), count("specification")), ("2".to_owned(), "1".to_owned()));
    drop((open, other));
    assert_eq!((count("activity"), count("specification")), ("0".to_owned(), "0".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_trigger_that_nobody_asks_about_gives_its_place_back() {
    let hour = Duration::from_hours(1);
    let metrics = Metrics::capped(1, 1);
    metrics.trigger_series(&id("first")).told(1.0, 5, true);
    metrics.trigger_series(&id("second")).told(2.0, 5, true);
    tokio::time::advance(hour / 2).await;
    metrics.trigger_series(&id("first")).told(3.0, 5, false);
    assert_eq!(metrics.forget_idle(hour), 0);
    tokio::time::advance(hour / 2 + Duration::from_millis(1)).await;
    assert_eq!(metrics.forget_idle(hour), 0, "it was asked about half an hour ago");
    assert_eq!(series(&metrics.exposition(), "servicebus_scaler_trigger_value").len(), 1, "the other is idle");
    tokio::time::advance(hour / 2).await;
    assert_eq!(metrics.forget_idle(hour), 1);
    metrics.trigger_series(&id("second")).told(2.0, 5, true);
    let exposition = metrics.exposition();
    let [line] = series(&exposition, "servicebus_scaler_trigger_value")[..] else { panic!("one series: {exposition}") };
    assert!(line.contains("name=\"second\"") && line.ends_with(" 2.0"), "{line}");
}

#[tokio::test(start_paused = true)]
async fn a_handle_is_told_into_whatever_becomes_of_its_place() {
    let hour = Duration::from_hours(1);
    let metrics = Metrics::capped(1, 1);
    let value = |name: &str| {
        let exposition = metrics.exposition();
        let mut lines = exposition.lines().filter(|line| line.starts_with("servicebus_scaler_trigger_value{"));
        let line = lines.find(|line| line.contains(&format!("name=\"{name}\"")));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
    };
    let (first, same, second) =
        (metrics.trigger_series(&id("a")), metrics.trigger_series(&id("a")), metrics.trigger_series(&id("b")));
    first.told(1.0, 5, true);
    second.told(2.0, 5, true);
    assert_eq!((value("a"), value("b"), value(OTHER)), (Some(1.0), None, Some(2.0)));
    same.told(3.0, 5, true);
    assert_eq!(value("a"), Some(3.0), "two handles of one trigger are one series");
    first.told(4.0, 5, true);
    assert_eq!(value("a"), Some(4.0));
    tokio::time::advance(hour + Duration::from_millis(1)).await;
    assert_eq!(metrics.forget_idle(hour), 1);
    second.told(5.0, 5, true);
    first.told(6.0, 5, true);
    assert_eq!((value("a"), value("b"), value(OTHER)), (None, Some(5.0), Some(6.0)), "the place is the other's now");
}

#[test]
fn a_host_that_is_forgotten_gives_its_place_back_and_counts_anew() {
    let metrics = Metrics::capped(1, 1);
    let told = || {
        let exposition = metrics.exposition();
        let lines = ["throttled_total", "budget_stretch_ratio"].map(|family| {
            let lines = series(&exposition, &format!("servicebus_scaler_{family}"));
            let short =
                lines.iter().filter_map(|line| line.strip_suffix(".0").unwrap_or(line).split_once("namespace="));
            short
                .map(|(_, host)| host.replace('"', ""))
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect::<Vec<_>>()
                .join(" ")
        });
        lines.join(", ")
    };
    metrics.budget_stretch("Made-Up", 2.0);
    metrics.throttled("made-up");
    metrics.budget_stretch("real", 3.0);
    assert_eq!(told(), "made-up} 1, made-up} 2 other} 3");
    metrics.forget_host("real");
    assert_eq!(told(), "made-up} 1, made-up} 2 other} 1", "it had no place");
    metrics.forget_host("MADE-UP");
    metrics.budget_stretch("real", 3.0);
    metrics.throttled("real");
    assert_eq!(told(), "real} 1, other} 1 real} 3");
    metrics.forget_host("real");
    metrics.throttled("real");
    assert_eq!(told(), "real} 1, other} 1", "from 0 again");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever callers name, the series are no more than the caps and one `other`, and counting loses nothing.
    #[test]
    fn no_caller_makes_more_series_than_the_caps(
        names in prop::collection::vec("[a-z\\PC]{0,8}", 1..80),
        hosts in prop::collection::vec("[a-zA-Z.]{0,12}|[\\PC]{250,300}", 1..80),
        (most_triggers, most_hosts) in (0_usize..6, 0_usize..6),
    ) {
        let metrics = Metrics::capped(most_triggers, most_hosts);
        for name in &names {
            metrics.trigger_series(&id(name)).told(1.0, 5, true);
        }
        for host in &hosts {
            metrics.throttled(host);
            metrics.budget_stretch(host, 2.0);
        }
        let exposition = metrics.exposition();
        for (family, most) in [
            ("trigger_value", most_triggers),
            ("trigger_target", most_triggers),
            ("trigger_active", most_triggers),
            ("throttled_total", most_hosts),
            ("budget_stretch_ratio", most_hosts),
        ] {
            let found = series(&exposition, &format!("servicebus_scaler_{family}"));
            prop_assert!(found.len() <= most + 1, "{family}: {found:?}");
        }
        let throttled = series(&exposition, "servicebus_scaler_throttled_total");
        let counts = throttled.iter().map(|line| line.rsplit(' ').next().and_then(|count| count.parse::<usize>().ok()));
        prop_assert_eq!(counts.sum::<Option<usize>>(), Some(hosts.len()), "{:?}", throttled);
    }
}

#[test]
fn the_reference_lists_every_metric() {
    let reference = include_str!("../../../docs/metrics.md");
    let table = reference_table(&used().exposition());
    assert!(reference.contains(&table), "docs/metrics.md must contain this table:\n{table}");
}

/// A Markdown table of all metrics, made of an exposition in which each has a series.
fn reference_table(exposition: &str) -> String {
    let mut labels = BTreeMap::new();
    let mut rows = Vec::new();
    let mut kinds = HashMap::new();
    for line in exposition.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            rows.push((name, help));
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            kinds.insert(name, kind);
        } else if let Some((name, rest)) = line.split_once('{') {
            let names = rest.split("\",").filter_map(|label| label.split_once('=')).map(|(name, _)| name);
            labels.entry(name).or_insert_with(|| names.filter(|name| *name != "le").collect::<Vec<_>>());
        }
    }
    let mut table = String::from("| metric | type | labels | meaning |\n|---|---|---|---|\n");
    for (name, help) in rows {
        let kind = kinds[name];
        let suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let sample = if kind == "histogram" { format!("{name}_bucket") } else { format!("{name}{suffix}") };
        let of_it = labels.get(sample.as_str()).map(|labels| labels.iter().map(|label| format!("`{label}`")));
        let of_it = of_it.map(|labels| labels.collect::<Vec<_>>().join(", ")).filter(|text| !text.is_empty());
        let of_it = of_it.unwrap_or_else(|| "–".to_owned());
        let help = help.trim_end_matches('.');
        writeln!(table, "| `{name}{suffix}` | {kind} | {of_it} | {help} |").expect("a String takes it");
    }
    table
}

/// All names that samples have, such as `…_bucket` and `…_total`, and all labels.
fn samples_and_labels(exposition: &str) -> (BTreeSet<&str>, BTreeSet<&str>) {
    let samples = exposition.lines().filter(|line| !line.starts_with('#'));
    let names = samples.clone().filter_map(|line| line.split(['{', ' ']).next()).collect();
    let sets = samples.filter_map(|line| line.split_once('{'));
    let labels = sets.flat_map(|(_, rest)| rest.split("\",").filter_map(|label| Some(label.split_once('=')?.0)));
    (names, labels.collect())
}

/// That every metric and label in these `PromQL` expressions is one that is exported.
fn assert_exported(expressions: &[String]) {
    let exposition = used().exposition();
    let (names, labels) = samples_and_labels(&exposition);
    let word = regex::Regex::new("[A-Za-z_][A-Za-z0-9_]*").expect("a good pattern");
    let name = regex::Regex::new("(?:servicebus_scaler|process)_[a-z_]+").expect("a good pattern");
    let grouping = regex::Regex::new(r"(?:by|on|without) \(([^)]*)\)").expect("a good pattern");
    let selector = regex::Regex::new(r#"([A-Za-z_]+)(?:=~|!~|!=|=)""#).expect("a good pattern");
    // What Prometheus itself puts on.
    let is_label = |label: &str| labels.contains(label) || matches!(label, "instance" | "job" | "pod");
    let mut found = 0;
    for expression in expressions {
        for name in name.find_iter(expression).map(|name| name.as_str()) {
            assert!(names.contains(name), "{name} is not exported, but asked for in {expression}");
            found += 1;
        }
        let groups = grouping.captures_iter(expression).map(|captures| captures.extract::<1>().1[0]);
        let grouped = groups.flat_map(|labels| word.find_iter(labels).map(|label| label.as_str()));
        let selected = selector.captures_iter(expression).map(|captures| captures.extract::<1>().1[0]);
        for label in grouped.chain(selected) {
            assert!(is_label(label), "{label} is no label, but asked for in {expression}");
        }
    }
    assert!(found >= expressions.len(), "every expression asks for a metric");
}

/// All texts under this key, wherever it stands.
fn texts_under(key: &str, value: &serde_json::Value, texts: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(members) => {
            texts.extend(members.get(key).and_then(serde_json::Value::as_str).map(str::to_owned));
            members.values().for_each(|member| texts_under(key, member, texts));
        }
        serde_json::Value::Array(members) => members.iter().for_each(|member| texts_under(key, member, texts)),
        _ => {}
    }
}

#[test]
fn the_dashboard_asks_for_what_is_exported_and_shows_all_of_it() {
    let text = include_str!("../../../deploy/dashboards/servicebus-scaler.json");
    let dashboard: serde_json::Value = serde_json::from_str(text).expect("JSON");
    let mut expressions = Vec::new();
    texts_under("expr", &dashboard, &mut expressions);
    texts_under("definition", &dashboard, &mut expressions);
    assert_exported(&expressions);
    let all = expressions.join(" ");
    let exposition = used().exposition();
    for family in exposition.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
        assert!(all.contains(family), "no panel shows {family}");
    }
    let panels = dashboard["panels"].as_array().expect("a list");
    let ids: BTreeSet<_> = panels.iter().filter_map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len(), "every panel has a number of its own");
    let place = |panel: &serde_json::Value, side: &str| panel["gridPos"][side].as_u64().expect("a place");
    let are_apart = |one: &serde_json::Value, other: &serde_json::Value| {
        let is_before = |from: &str, length: &str| place(one, from) + place(one, length) <= place(other, from);
        is_before("x", "w") || is_before("y", "h")
    };
    for (index, one) in panels.iter().enumerate() {
        for other in &panels[index + 1..] {
            assert!(are_apart(one, other) || are_apart(other, one), "{} overlaps {}", one["title"], other["title"]);
        }
        let is_explained = one["type"] == "row" || one["description"].as_str().is_some_and(|text| text.ends_with('.'));
        assert!(is_explained, "{} says what it shows", one["title"]);
    }
}

#[test]
fn the_alerts_ask_for_what_is_exported_and_say_what_to_do() {
    let text = include_str!("../../../deploy/alerts/servicebus-scaler.yaml");
    let rule: serde_json::Value = serde_saphyr::from_str(text).expect("YAML");
    let groups = rule["spec"]["groups"].as_array().expect("a list");
    let rules: Vec<_> = groups.iter().flat_map(|group| group["rules"].as_array().expect("a list")).collect();
    let expressions: Vec<_> = rules.iter().map(|rule| rule["expr"].as_str().expect("a text").to_owned()).collect();
    assert_exported(&expressions);
    // A credential for single entities may not list, which is tried again now and then: docs/security.md, no fault.
    let refused = "outcome=\"unauthorized\"";
    let selectors = expressions.iter().flat_map(|expression| expression.split('{').skip(1)).filter_map(|rest| {
        let (selector, _) = rest.split_once('}')?;
        selector.contains(refused).then_some(selector)
    });
    for selector in selectors {
        assert!(selector.contains("kind=~\"get_.*\""), "{selector} counts listings");
    }
    for rule in rules {
        for text in [&rule["for"], &rule["labels"]["severity"], &rule["annotations"]["summary"]] {
            assert!(text.is_string(), "{rule}");
        }
        assert!(rule["annotations"]["description"].as_str().is_some_and(|text| text.len() > 50), "{rule}");
    }
}
