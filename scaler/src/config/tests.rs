//! Files as operators write them, right and wrong.

use proptest::prelude::*;

use super::connections::{CredentialSource, Identity, Names};
use super::*;

fn refusal(text: &str) -> String {
    Config::parse(text).expect_err(text)
}

/// One entry of the registry, with these lines in it.
fn entry(lines: &str) -> String {
    format!("connections:\n  orders:\n    {}", lines.replace('\n', "\n    "))
}

const ENTRA: &str = "allowedNamespaces: [shop]\nmanagedIdentity: {}\n";

#[test]
fn the_example_is_a_good_file_with_every_key() {
    let example = Config::parse(EXAMPLE).expect("the example can be used as it is");
    let defaults = Config::default();
    assert_eq!(example.freshness, defaults.freshness);
    assert_eq!(example.cache_ttl_bounds, defaults.cache_ttl_bounds);
    assert_eq!(example.max_staleness_bounds, defaults.max_staleness_bounds);
    assert_eq!(example.limits, defaults.limits);
    let credits = |config: &Config, host| config.credits.per_second(host).to_string();
    assert_eq!(credits(&example, "other.servicebus.windows.net"), credits(&defaults, "any"));
    assert_eq!(credits(&example, "Orders-Prod.servicebus.windows.net"), "200");
    let kinds: Vec<_> = example
        .connections
        .values()
        .map(|connection| match &connection.source {
            CredentialSource::ConnectionString(_) => "connectionString",
            CredentialSource::Identity { identity, .. } => match identity {
                Identity::Workload { .. } => "workloadIdentity",
                Identity::Managed { .. } => "managedIdentity",
                Identity::ClientSecret { .. } => "clientSecret",
                Identity::ClientCertificate { .. } => "clientCertificate",
            },
        })
        .collect();
    let all = ["clientCertificate", "managedIdentity", "connectionString", "clientSecret", "workloadIdentity"];
    assert_eq!(kinds, all);
    // Every key that serde would take stands in the example.
    let unknown = refusal("nothing: 1");
    for key in
        unknown.split(['`', '"', '\'']).filter(|word| word.ends_with(char::is_alphanumeric) && !word.contains(' '))
    {
        assert!(key == "nothing" || EXAMPLE.contains(&format!("\n{key}:")), "{key} is not in the example; {unknown}");
    }
    assert!(unknown.contains("cacheTtlSeconds"), "{unknown}");
}

#[test]
fn the_reference_shows_the_example_as_it_is() {
    let reference = include_str!("../../../docs/scaler.md");
    assert!(reference.contains(&format!("```yaml\n{EXAMPLE}```")), "copy config/example.yaml into docs/scaler.md");
}

#[test]
fn an_empty_file_is_every_default() {
    for text in ["", "# nothing", "---\n"] {
        assert_eq!(Config::parse(text), Ok(Config::default()), "{text:?}");
    }
}

#[test]
fn numbers_out_of_range_are_refused_with_key_value_and_range() {
    for (text, words) in [
        ("cacheTtlSeconds: 301", ["cacheTtlSeconds", "301", "0 and 300"]),
        ("cacheTtlSeconds: .nan", ["cacheTtlSeconds", "NaN", "0 and 300"]),
        ("maxStalenessSeconds: -1", ["maxStalenessSeconds", "-1", "0 and 1200"]),
        ("cacheTtlBoundsSeconds: {min: 0, max: 301}", ["cacheTtlBoundsSeconds.max", "301", "0 and 300"]),
        ("maxStalenessBoundsSeconds: {min: 9, max: 8}", ["maxStalenessBoundsSeconds", "min 9", "max 8"]),
        ("creditsPerSecond: 0", ["creditsPerSecond", "0", "1 and 1000000"]),
        ("creditsPerSecondByHost: {h: 0.5}", ["creditsPerSecondByHost.\"h\"", "0.5", "1 and 1000000"]),
        ("limits: {entitiesPerNamespace: 0}", ["limits.entitiesPerNamespace", "0", "1 and 1000000"]),
        ("limits: {credentialsPerNamespace: 20000}", ["limits.credentialsPerNamespace", "20000", "1 and 10000"]),
    ] {
        let problem = refusal(text);
        for word in words {
            assert!(problem.contains(word), "{word:?} is missing in {problem:?}");
        }
    }
    assert!(refusal("cacheTtlBoundsSeconds: {min: 0}").contains("max"), "both ends must be said");
}

#[test]
fn a_triggers_own_freshness_is_within_the_operators_bounds() {
    let config = Config::parse("cacheTtlBoundsSeconds: {min: 2, max: 30}").expect("a good file");
    let seconds = Duration::from_secs;
    assert_eq!(config.freshness_for(None, None), Ok(config.freshness));
    let own = config.freshness_for(Some(seconds(30)), Some(seconds(0))).expect("within the bounds");
    assert_eq!((own.cache_ttl, own.max_staleness), (seconds(30), seconds(0)));
    let refused = config.freshness_for(Some(seconds(1)), None).expect_err("too fresh").to_string();
    assert!(refused.starts_with("metadata cacheTtl: 1s is not between 2s and 30s"), "{refused}");
    let refused = config.freshness_for(None, Some(seconds(2_000))).expect_err("too stale").to_string();
    assert!(refused.contains("maxStaleness: 2000s is not between 0ns and 1200s"), "{refused}");
}

#[test]
fn a_connection_says_who_may_use_it_and_has_exactly_one_credential() {
    let file = "connectionStringFile: /run/orders";
    for (lines, words) in [
        (file.to_owned(), ["connections.\"orders\"", "allowedNamespaces", "missing"]),
        (format!("allowedNamespaces: []\n{file}"), ["allowedNamespaces", "empty", "exact names"]),
        (format!("allowedNamespaces: [shop, '*']\n{file}"), ["allowedNamespaces", "\"*\"", "alone"]),
        (format!("allowedNamespaces: [team-*]\n{file}"), ["allowedNamespaces", "\"team-*\"", "exact names"]),
        ("allowedNamespaces: [shop]".to_owned(), ["exactly one", "connectionStringFile", "clientCertificate"]),
        (format!("{ENTRA}{file}"), ["exactly one", "connectionStringFile", "managedIdentity"]),
        (
            format!("allowedNamespaces: [shop]\n{file}\ncloud: AzurePublicCloud"),
            ["cloud", "Entra", "connection string"],
        ),
        (ENTRA.to_owned(), ["serviceBusNamespaces", "missing", "without suffix"]),
        (format!("{ENTRA}serviceBusNamespaces: [a.b]"), ["serviceBusNamespaces", "\"a.b\"", "without suffix"]),
        (format!("{ENTRA}serviceBusNamespaces: [a]\ncloud: Moon"), ["cloud", "\"Moon\"", "AzureChinaCloud"]),
        (format!("{ENTRA}serviceBusNamespaces: [a]\ncloud: Private"), ["endpointSuffix", "missing", "Private"]),
        (
            format!(
                "{ENTRA}serviceBusNamespaces: [a]\ncloud: Private\nendpointSuffix: sb.example\nauthority: http://h"
            ),
            ["authority", "https://HOST", "login"],
        ),
        (
            format!("{ENTRA}serviceBusNamespaces: [a]\nendpointSuffix: sb.example"),
            ["endpointSuffix", "Private", "AzurePublicCloud"],
        ),
        (format!("{ENTRA}secret: 1"), ["secret", "unknown", "clientSecret"]),
    ] {
        let problem = refusal(&entry(&lines));
        for word in words {
            assert!(problem.contains(word), "{word:?} is missing in {problem:?}");
        }
    }
    let problem = refusal("connections: {'a b': {allowedNamespaces: [shop], connectionStringFile: /f}}");
    assert!(problem.contains("\"a b\"") && problem.contains("letters"), "{problem}");
}

#[test]
fn an_identity_reaches_the_namespaces_of_its_cloud_that_are_named() {
    let text = entry(&format!("{ENTRA}serviceBusNamespaces: [Orders-Prod]\ncloud: azurechinacloud"));
    let config = Config::parse(&text).expect("a good file");
    let connection = &config.connections["orders"];
    assert_eq!(connection.allowed_namespaces, Names::These(["shop".to_owned()].into()));
    let reach = connection.reach.as_ref().expect("an identity has a reach");
    assert_eq!(reach.endpoint_suffix, "servicebus.chinacloudapi.cn");
    assert_eq!(reach.namespaces.only(), Some("orders-prod"));
    assert!(!reach.namespaces.contains("orders"));
}

/// A secret where a path or a mapping belongs is a mistake that happens; its text must not get into the log.
#[test]
fn a_secret_in_the_file_is_refused_and_not_repeated() {
    const SECRET: &str = "Endpoint=sb://h;SharedAccessKeyName=n;SharedAccessKey=x\\\"PLANTED";
    for lines in [
        format!("\"{SECRET}\""),
        format!("allowedNamespaces: [shop]\nconnectionStringFile: \"{SECRET}\""),
        "allowedNamespaces: [shop]\nclientSecret: PLANTED".to_owned(),
        "allowedNamespaces: [shop]\nclientSecret: {tenantId: t, clientId: c, secretFile: \"a=PLANTED\"}".to_owned(),
        "allowedNamespaces: [shop]\nclientSecret: {tenantId: t, clientId: c, secret: PLANTED}".to_owned(),
        "allowedNamespaces: [shop]\nclientCertificate: \"-----BEGIN KEY-----\\nPLANTED\"".to_owned(),
        "allowedNamespaces: [shop]\nclientCertificate: {tenantId: t, clientId: c, certificateFile: \"-----BEGIN KEY-----PLANTED\"}"
            .to_owned(),
        // An Azure client secret and a JWT have nothing in them that a path could not have.
        "allowedNamespaces: [shop]\nserviceBusNamespaces: [a]\nclientSecret: {tenantId: t, clientId: c, secretFile: abC8Q~PLANTED.x-1_y}"
            .to_owned(),
        "allowedNamespaces: [shop]\nserviceBusNamespaces: [a]\nworkloadIdentity: {tokenFile: eyJhbGciOiJub25lIn0.PLANTED.c2ln}"
            .to_owned(),
        "allowedNamespaces: [shop]\nconnectionStringFile: PLANTED".to_owned(),
        "allowedNamespaces: PLANTED".to_owned(),
        "managedIdentity: [PLANTED]".to_owned(),
    ] {
        let problem = refusal(&entry(&lines));
        assert!(!problem.contains("PLANTED"), "{problem}");
    }
    for text in ["PLANTED", "connections: PLANTED", "cacheTtlSeconds: PLANTED", "limits: {entities: PLANTED}"] {
        assert!(!refusal(text).contains("PLANTED"), "{}", refusal(text));
    }
}

#[test]
fn a_file_without_an_end_is_refused() {
    let error = Config::read(Path::new("/dev/zero")).expect_err("too large");
    assert!(format!("{:#}", anyhow::Error::new(error)).ends_with("it has more than 1048576 bytes"));
}

#[test]
fn replacing_tells_those_who_follow() {
    let handle = ConfigHandle::default();
    let mut looks = handle.looks();
    assert!(!looks.has_changed().expect("the handle lives"));
    handle.replace(Config::default());
    assert!(looks.has_changed().expect("the handle lives"));
    looks.mark_unchanged();
    handle.clone().look_again();
    assert!(looks.has_changed().expect("the handle lives"));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}") {
        let _: Result<Config, String> = Config::parse(&text);
    }

    #[test]
    fn cutting_values_out_never_fails(text in "(string \"|\\\\|\"|x|é){0,12}") {
        let cut = without_values(&text);
        prop_assert!(!cut.contains("string \"") || !text.contains("string \""), "{}", cut);
    }
}
