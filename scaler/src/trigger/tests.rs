//! Metadata in, trigger or a helpful error out; and no panic on anything a map of strings can hold.

use proptest::prelude::*;

use super::*;
use crate::entity::{Entity, Listing, Matching, NamePattern, Operation};

const CONNECTION_STRING: &str =
    "Endpoint=sb://127.0.0.1:5672;SharedAccessKeyName=Root;SharedAccessKey=PLANTED/key=;UseDevelopmentEmulator=true";

fn parse(pairs: &[(&str, &str)]) -> Result<Trigger, TriggerError> {
    Trigger::parse(&pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
}

/// Of a queue, with a connection string.
fn with(pairs: &[(&str, &str)]) -> Result<Trigger, TriggerError> {
    let sound = [("queueName", "orders"), ("connectionFromEnv", CONNECTION_STRING)];
    let kept = sound.into_iter().filter(|(key, _)| !pairs.iter().any(|(other, _)| other == key));
    parse(&kept.chain(pairs.iter().copied()).collect::<Vec<_>>())
}

/// Of a queue, by reference.
fn by_reference(pairs: &[(&str, &str)]) -> Result<Trigger, TriggerError> {
    parse(&[&[("queueName", "orders"), ("connectionRef", "shared")], pairs].concat())
}

fn sound(pairs: &[(&str, &str)]) -> Trigger {
    with(pairs).unwrap_or_else(|error| panic!("{pairs:?}: {error}"))
}

fn warnings(trigger: &Trigger) -> Vec<String> {
    trigger.warnings.iter().map(ToString::to_string).collect()
}

fn connection_string(trigger: &Trigger) -> Result<&servicebus::ConnectionString, ConnectionProblem> {
    match &trigger.connection {
        Connection::FromEnvironment(connection) => connection.as_ref().map_err(Clone::clone),
        Connection::Reference { name, .. } => panic!("a reference to {name}"),
    }
}

#[test]
fn the_least_that_works_has_the_built_in_triggers_defaults() {
    let trigger = sound(&[("scalerAddress", "scaler:6000")]);
    assert_eq!((&trigger.target, trigger.base), (&Target::Entity(Entity::Queue("orders".to_owned())), Base::default()));
    let default = PolicyChoice::Inline { policy: "messageCount".to_owned(), settings: Settings::new() };
    assert_eq!((&trigger.policy, trigger.freshness), (&default, FreshnessWish::default()));
    assert_eq!(trigger.warnings, []);
    assert_eq!(connection_string(&trigger).expect("a connection string").host(), "127.0.0.1");
}

#[test]
fn counts_policy_and_freshness_have_their_meaning() {
    let trigger = sound(&[
        ("messageCount", "20"),
        ("activationMessageCount", "3"),
        ("policy", "weighted"),
        ("weights", "active=1,scheduled=0.2"),
        ("cacheTtl", "500ms"),
        ("maxStaleness", "2m"),
        ("enableTLS", "true"),
    ]);
    assert_eq!(trigger.base, Base::new(20, 3).expect("sound settings"));
    let settings = Settings::from([("weights".to_owned(), "active=1,scheduled=0.2".to_owned())]);
    assert_eq!(trigger.policy, PolicyChoice::Inline { policy: "weighted".to_owned(), settings });
    let freshness =
        FreshnessWish { cache_ttl: Some(Duration::from_millis(500)), max_staleness: Some(Duration::from_mins(2)) };
    assert_eq!((trigger.freshness, trigger.warnings), (freshness, vec![]));
    assert_eq!(sound(&[("policyProfile", "gold")]).policy, PolicyChoice::Profile("gold".to_owned()));
}

#[test]
fn a_queue_or_a_subscription_or_a_pattern_of_either() {
    let target = |pairs: &[(&str, &str)]| {
        let connection = ("connectionFromEnv", CONNECTION_STRING);
        parse(&[pairs, &[connection]].concat()).unwrap_or_else(|error| panic!("{pairs:?}: {error}")).target
    };
    let topic = || "Events".to_owned();
    let pattern = |text: &str| NamePattern::new(text).expect("a sound pattern");
    let subscription = Entity::Subscription { topic: topic(), subscription: "billing".to_owned() };
    assert_eq!(target(&[("topicName", "Events"), ("subscriptionName", " billing ")]), Target::Entity(subscription));
    assert_eq!(
        target(&[("queueName", "orders-.*"), ("useRegex", "1"), ("operation", "max")]),
        Target::Matching(Matching {
            listing: Listing::Queues,
            pattern: pattern("orders-.*"),
            operation: Operation::Max
        })
    );
    for (written, operation) in [("avg", Operation::Average), ("sum", Operation::Sum), ("", Operation::Sum)] {
        let keys = [("topicName", "Events"), ("subscriptionName", "b|c"), ("useRegex", "T"), ("operation", written)];
        let listing = Listing::Subscriptions { topic: topic() };
        assert_eq!(target(&keys), Target::Matching(Matching { listing, pattern: pattern("b|c"), operation }));
    }
}

/// As KEDA's `typed_config.go` treats every key of the built-in trigger.
#[test]
fn blanks_around_values_do_not_count_and_empty_values_are_none() {
    let trigger = parse(&[
        ("queueName", "\torders\u{a0}"),
        ("topicName", ""),
        ("subscriptionName", "  "),
        ("messageCount", " 7 "),
        ("activationMessageCount", ""),
        ("useRegex", " "),
        ("operation", " sum"),
        ("connectionFromEnv", &format!(" {CONNECTION_STRING}\n")),
        ("policy", ""),
        ("policyProfile", " "),
    ]);
    let trigger = trigger.expect("sound metadata");
    assert_eq!(trigger.target, Target::Entity(Entity::Queue("orders".to_owned())));
    assert_eq!(trigger.base, Base::new(7, 0).expect("sound settings"));
    assert!(connection_string(&trigger).is_ok());
}

#[test]
fn keys_that_exclude_each_other_are_named() {
    for (pairs, first, second) in [
        (&[("topicName", "events"), ("subscriptionName", "b")][..], "queueName", "topicName"),
        (&[("subscriptionName", "b")], "queueName", "subscriptionName"),
        (&[("connectionRef", "shared")], "connectionFromEnv", "connectionRef"),
        (&[("policy", "weighted"), ("policyProfile", "gold")], "policy", "policyProfile"),
    ] {
        assert_eq!(with(pairs).expect_err("two ways"), TriggerError::Exclusive { first, second });
    }
}

#[test]
fn what_is_missing_is_named_with_what_was_probably_meant_for_it() {
    for (pairs, key) in [
        (&[][..], "queueName"),
        (&[("topicName", "events")], "subscriptionName"),
        (&[("subscriptionName", "b")], "topicName"),
        (&[("queueName", ""), ("messageCount", "5")], "queueName"),
    ] {
        let text = parse(pairs).expect_err("something is missing").to_string();
        assert!(text.starts_with(&format!("metadata {key} is missing: ")) && !text.contains("looks like"), "{text}");
    }
    let text = parse(&[("queue_name", "orders")]).expect_err("no queue").to_string();
    assert!(text.ends_with(" (queue_name looks like it, but is another key)"), "{text}");
}

#[test]
fn wrong_values_are_refused_with_key_value_and_what_is_allowed() {
    let cases: &[(&str, &str, &str)] = &[
        ("messageCount", "0", "a whole number from 1"),
        ("messageCount", "-1", "a whole number from 1"),
        ("messageCount", "2.5", "a whole number from 1"),
        ("messageCount", "+5", "a whole number from 1"),
        ("messageCount", "1000001", "to 1000000"),
        ("messageCount", "99999999999999999999", "a whole number from 1"),
        ("activationMessageCount", "-1", "a whole number from 0"),
        ("activationMessageCount", "9223372036854775808", "a whole number from 0"),
        ("activationMessageCount", "many", "a whole number from 0"),
        ("queueName", "a b", "the name of a queue"),
        ("queueName", "/orders", "the name of a queue"),
        ("queueName", "a/../b", "the name of a queue"),
        ("queueName", "a//b", "the name of a queue"),
        ("queueName", "orders?x=1", "the name of a queue"),
        ("useRegex", "yes", "true or false"),
        ("operation", "SUM", "sum, max or avg"),
        ("operation", "sum,max", "sum, max or avg"),
        ("cacheTtl", "6m", "a duration from 0s to 5m"),
        ("maxStaleness", "forever", "a duration from 0s to 20m"),
    ];
    for (key, value, allowed) in cases {
        let text = with(&[(key, value)]).expect_err(value).to_string();
        assert!(text.contains(key) && text.contains(&format!("{value:?}")) && text.contains(allowed), "{text}");
    }
    for (key, value) in [("topicName", "a b"), ("subscriptionName", "a/b"), ("subscriptionName", &"s".repeat(51))] {
        let other = if key == "topicName" { ("subscriptionName", "b") } else { ("topicName", "events") };
        let text = parse(&[(key, value), other]).expect_err(value).to_string();
        assert!(text.starts_with(&format!("metadata {key}: {value:?} is not the name of a ")), "{text}");
    }
    let long = with(&[("messageCount", &"9".repeat(10_000))]).expect_err("too many").to_string();
    assert!(long.len() < 300, "{long}");
}

#[test]
fn patterns_that_are_none_or_too_large_are_refused() {
    let pattern = |text: &str| with(&[("queueName", text), ("useRegex", "true")]);
    for (text, problem) in [
        ("(", "missing closing )"),
        ("a)(b", "unexpected )"),
        ("a**", "invalid nested repetition operator"),
        (r"\p{Klingon}", "Unicode property not found"),
        (&"a".repeat(257), "it has 257 bytes, more than 256"),
        ("(((a{1000}){10}){10}){10}", "it takes more than 262144 bytes of memory"),
    ] {
        // Twice: the second comes from memory.
        for _ in 0..2 {
            let said = pattern(text).expect_err(text).to_string();
            assert!(said.starts_with("metadata queueName: ") && said.contains(problem), "{said}");
            assert!(said.contains("Go's regular expression syntax") && said.len() < 400, "{said}");
        }
    }
    assert!(with(&[("queueName", "(")]).is_err(), "without useRegex it is no name");
}

#[test]
fn wrong_policies_are_refused_with_those_there_are() {
    let text = with(&[("policy", "magic")]).expect_err("no such policy").to_string();
    assert!(text.contains("magic") && text.contains("messageCount") && text.contains("weighted"), "{text}");
    let text = with(&[("policy", "weighted"), ("weights", "active=-1")]).expect_err("a bad weight").to_string();
    assert!(text.contains("weights"), "{text}");
}

#[test]
fn what_has_no_effect_is_warned_about() {
    for (pairs, said) in [
        (
            ("wieghts", "active=1"),
            "metadata wieghts is ignored: this scaler knows no such key; weights was probably meant",
        ),
        (
            ("messagecount", "9"),
            "metadata messagecount is ignored: this scaler knows no such key; messageCount was probably meant",
        ),
        (("metricName", "m"), "metadata metricName is ignored: this scaler knows no such key"),
        (("weights", "active=1"), "metadata weights is ignored: it is a key of another policy"),
        (("otherFromEnv", CONNECTION_STRING), "metadata otherFromEnv is ignored: this scaler knows no such key"),
        (("operation", "max"), "metadata operation is ignored: it counts only with useRegex: true"),
        (
            ("cloud", "Nowhere"),
            "metadata cloud is ignored: the connection string says where to read; it counts only with connectionRef",
        ),
    ] {
        assert_eq!(warnings(&sound(&[pairs])), [said]);
    }
    assert_eq!(warnings(&sound(&[("policyProfile", "gold"), ("weights", "active=1")])).len(), 1);
    let suffix = by_reference(&[("endpointSuffix", "?")]).expect("sound metadata");
    assert_eq!(warnings(&suffix), ["metadata endpointSuffix is ignored: it counts only with cloud: Private"]);
}

#[test]
fn a_reference_says_which_namespace_of_which_cloud() {
    let reference = |pairs: &[(&str, &str)]| match by_reference(pairs).expect("sound metadata").connection {
        Connection::Reference { name, namespace, endpoint_suffix } => {
            assert_eq!(name, "shared");
            (namespace, endpoint_suffix)
        }
        Connection::FromEnvironment(problem) => panic!("{problem:?}"),
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(reference(&[]), (None, None));
    assert_eq!(reference(&[("namespace", "Orders-1")]), (some("Orders-1"), None));
    for (cloud, suffix) in [
        ("AzurePublicCloud", "servicebus.windows.net"),
        ("AzureCloud", "servicebus.windows.net"),
        ("AZUREUSGOVERNMENTCLOUD", "servicebus.usgovcloudapi.net"),
        ("AzureUSGovernment", "servicebus.usgovcloudapi.net"),
        ("azurechinacloud", "servicebus.chinacloudapi.cn"),
        ("AzureGermanCloud", "servicebus.cloudapi.de"),
    ] {
        assert_eq!(reference(&[("cloud", cloud)]), (None, some(suffix)));
    }
    let private = [("namespace", "orders"), ("cloud", "private"), ("endpointSuffix", "sb.stack.example")];
    assert_eq!(reference(&private), (some("orders"), some("sb.stack.example")));
    for (pairs, said) in [
        (&[("cloud", "AzureMoonCloud")][..], "metadata cloud: \"AzureMoonCloud\" is not AzurePublicCloud, "),
        (&[("cloud", "Private")], "metadata endpointSuffix is missing: a DNS suffix"),
        (&[("cloud", "Private"), ("endpointSuffix", "net")], "metadata endpointSuffix: \"net\" is not a DNS suffix"),
        (&[("namespace", "orders.evil.example/")], "metadata namespace: \"orders.evil.example/\" is not the name"),
        (&[("connectionRef", "../etc")], "metadata connectionRef: \"../etc\" is not a name"),
    ] {
        let text = by_reference(pairs).expect_err("a wrong value").to_string();
        assert!(text.starts_with(said), "{text}");
    }
}

#[test]
fn a_secret_in_metadata_is_refused_and_not_repeated() {
    for key in ["connection", "queueName", "weights", "connectionString", "connectionRef"] {
        let text = with(&[(key, CONNECTION_STRING)]).expect_err("a secret").to_string();
        assert!(text.contains(&format!("metadata {key} is refused")), "{text}");
        assert!(text.contains("connectionFromEnv") && text.contains("connectionRef"), "{text}");
        assert!(!text.contains("PLANTED"), "{text}");
    }
    let lower = CONNECTION_STRING.to_ascii_lowercase();
    let blank = CONNECTION_STRING.replace("AccessKey=", "AccessKey =");
    for (key, value) in
        [("queueName", lower.as_str()), ("namespace", &blank), ("Connection", "x"), ("connection_", "x")]
    {
        let error = with(&[(key, value)]).expect_err("a secret");
        assert_eq!(error, TriggerError::SecretInMetadata { key: key.to_owned() });
    }
    assert!(with(&[("connectionFromEnv", &lower)]).is_ok(), "KEDA put it in");
}

/// The specification must be answered all the same, or the user's fallback is off.
#[test]
fn a_connection_that_is_not_there_does_not_make_the_metadata_unsound() {
    for pairs in [&[("queueName", "orders")][..], &[("queueName", "orders"), ("connectionFromEnv", " ")]] {
        let trigger = parse(pairs).expect("the metadata itself is sound");
        assert_eq!(connection_string(&trigger).expect_err("no connection"), ConnectionProblem::Unresolved);
    }
    let pod_identity = parse(&[("queueName", "orders"), ("namespace", "orders-prod"), ("cloud", "AzureMoonCloud")]);
    let trigger = pod_identity.expect("the metadata itself is sound");
    let text = connection_string(&trigger).expect_err("no connection").to_string();
    assert!(text.contains("\"orders-prod\"") && text.contains("connectionRef"), "{text}");
    let trigger = sound(&[("connectionFromEnv", "PLANTED")]);
    let text = connection_string(&trigger).expect_err("no connection string").to_string();
    assert!(text.contains("connectionFromEnv") && !text.contains("PLANTED"), "{text}");
    assert!(!format!("{:?}", sound(&[])).contains("PLANTED"), "Debug must not show the key");
}

#[test]
fn documented_defaults_are_the_defaults() {
    let defaults: Vec<_> =
        KEYS.iter().filter(|key| !key.default.is_empty()).map(|key| (key.name, key.default)).collect();
    let (written, spelled) = (sound(&[]), sound(&defaults));
    assert_eq!((spelled.target, spelled.base, spelled.policy), (written.target, written.base, written.policy));
    assert_eq!(spelled.warnings, []);
}

/// The tables between the reference's marks are made of the code. The failure prints what must stand there.
#[test]
fn the_reference_has_every_key_and_policy_as_the_code_has_them() {
    let reference = include_str!("../../../docs/scaler.md");
    let between = |mark: &str| {
        let (begin, end) = (format!("<!-- begin {mark} -->\n"), format!("<!-- end {mark} -->\n"));
        let part = reference.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end));
        part.unwrap_or_else(|| panic!("docs/scaler.md has no marks {begin}{end}")).0
    };
    let row = |key: &Key, note: &str| {
        let default = if key.default.is_empty() { "–".to_owned() } else { format!("`{}`", key.default) };
        format!("| `{}` | {note}{} | {default} | {} |\n", key.name, key.allowed, key.doc)
    };
    let mut keys = String::from("| key | allowed | default | meaning |\n|---|---|---|---|\n");
    keys.extend(KEYS.iter().map(|key| row(key, "")));
    for policy in scaling::POLICIES {
        keys.extend(policy.keys.iter().map(|key| row(key, &format!("with policy `{}`: ", policy.name))));
    }
    assert!(between("keys") == keys, "docs/scaler.md must have between the marks:\n{keys}");
    let mut policies = String::from("| policy | replicas wanted |\n|---|---|\n");
    policies.extend(scaling::POLICIES.iter().map(|policy| format!("| `{}` | {} |\n", policy.name, policy.summary)));
    assert!(between("policies") == policies, "docs/scaler.md must have between the marks:\n{policies}");
}

proptest! {
    #[test]
    fn no_metadata_panics_and_what_is_accepted_is_in_range(
        metadata in prop::collection::hash_map(
            prop_oneof![
                3 => prop::sample::select(KEYS.map(|key| key.name).to_vec()).prop_map(str::to_owned),
                1 => Just("weights".to_owned()),
                1 => any::<String>(),
            ],
            prop_oneof![
                any::<String>(),
                any::<i64>().prop_map(|number| number.to_string()),
                prop::sample::select(vec!["orders", "true", "weighted", "max", "active=1", "Private", CONNECTION_STRING])
                    .prop_map(str::to_owned),
            ],
            0..8,
        )
    ) {
        match Trigger::parse(&metadata) {
            Ok(trigger) => {
                prop_assert!((1..=MAX_MESSAGE_COUNT).contains(&trigger.base.message_count()));
                let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
                prop_assert!(trigger.metric_name().bytes().all(is_plain));
                for text in warnings(&trigger).into_iter().chain([format!("{trigger:?}")]) {
                    prop_assert!(!text.contains("PLANTED"), "{}", text);
                }
            }
            Err(error) => prop_assert!(!error.to_string().contains("PLANTED")),
        }
    }
}
