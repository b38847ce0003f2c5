//! Metadata in, trigger or a helpful error out; and no panic on anything a map of strings can hold.

use proptest::prelude::*;

use super::*;

const CONNECTION_STRING: &str =
    "Endpoint=sb://127.0.0.1:5672;SharedAccessKeyName=Root;SharedAccessKey=s3cr3t/key=;UseDevelopmentEmulator=true";

fn parse(pairs: &[(&str, &str)]) -> Result<Trigger, TriggerError> {
    Trigger::parse(&pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
}

fn with(pairs: &[(&str, &str)]) -> Result<Trigger, TriggerError> {
    let sound = [("queueName", "orders"), ("connectionFromEnv", CONNECTION_STRING)];
    let mut metadata: HashMap<_, _> =
        sound.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    metadata.extend(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    Trigger::parse(&metadata)
}

#[test]
fn the_least_that_works_has_the_built_in_triggers_defaults() {
    let trigger = with(&[("scalerAddress", "scaler:6000")]).expect("sound metadata");
    assert_eq!(
        (trigger.target.clone(), trigger.base),
        (Target::Entity(Entity::Queue("orders".to_owned())), Base::default())
    );
    let default = PolicyChoice::Inline { policy: "messageCount".to_owned(), settings: Settings::new() };
    assert_eq!(trigger.policy, default);
    assert_eq!(trigger.ignored, Vec::new());
    assert_eq!(trigger.connection().expect("a connection string").host(), "127.0.0.1");
}

#[test]
fn every_key_has_its_meaning() {
    let trigger = with(&[
        ("messageCount", "20"),
        ("activationMessageCount", "3"),
        ("policy", "weighted"),
        ("weights", "active=1,scheduled=0.2"),
        ("enableTLS", "true"),
        ("useRegex", "false"),
        ("wieghts", "active=1"),
        ("cloud", "AzurePublicCloud"),
    ])
    .expect("sound metadata");
    assert_eq!(trigger.base, Base::new(20, 3).expect("sound settings"));
    let settings = Settings::from([("weights".to_owned(), "active=1,scheduled=0.2".to_owned())]);
    assert_eq!(trigger.policy, PolicyChoice::Inline { policy: "weighted".to_owned(), settings });
    assert_eq!(trigger.ignored, ["cloud", "wieghts"]);
    let profiled = with(&[("policyProfile", "gold")]).expect("sound metadata");
    assert_eq!(profiled.policy, PolicyChoice::Profile("gold".to_owned()));
}

#[test]
fn a_key_of_another_policy_is_ignored_and_said() {
    assert_eq!(with(&[("weights", "active=1")]).expect("sound metadata").ignored, ["weights"]);
    assert_eq!(
        with(&[("policyProfile", "gold"), ("weights", "active=1")]).expect("sound metadata").ignored,
        ["weights"]
    );
}

#[test]
fn wrong_values_are_refused_with_key_value_and_what_is_allowed() {
    let cases: &[(&str, &str, &str)] = &[
        ("messageCount", "0", "a whole number from 1"),
        ("messageCount", "-1", "a whole number from 1"),
        ("messageCount", "2.5", "a whole number from 1"),
        ("messageCount", "1000001", "to 1000000"),
        ("messageCount", "", "a whole number from 1"),
        ("messageCount", "5 ", "a whole number from 1"),
        ("messageCount", "99999999999999999999", "a whole number from 1"),
        ("activationMessageCount", "-1", "a whole number from 0"),
        ("activationMessageCount", "9223372036854775808", "a whole number from 0"),
        ("activationMessageCount", "many", "a whole number from 0"),
        ("queueName", "a b", "the name of a queue"),
        ("queueName", "/orders", "the name of a queue"),
        ("queueName", "a/../b", "the name of a queue"),
        ("queueName", "a//b", "the name of a queue"),
        ("queueName", "orders?x=1", "the name of a queue"),
    ];
    for (key, value, allowed) in cases {
        let text = with(&[(key, value)]).expect_err(value).to_string();
        assert!(text.contains(key) && text.contains(&format!("{value:?}")) && text.contains(allowed), "{text}");
    }
    let missing = parse(&[("connectionFromEnv", CONNECTION_STRING)]).expect_err("no queue").to_string();
    assert!(missing.contains("queueName is missing"), "{missing}");
    let long = with(&[("messageCount", &"9".repeat(10_000))]).expect_err("too many").to_string();
    assert!(long.len() < 300, "{long}");
}

#[test]
fn wrong_policies_are_refused_with_those_there_are() {
    let text = with(&[("policy", "magic")]).expect_err("no such policy").to_string();
    assert!(text.contains("magic") && text.contains("messageCount") && text.contains("weighted"), "{text}");
    let text = with(&[("policy", "weighted"), ("weights", "active=-1")]).expect_err("a bad weight").to_string();
    assert!(text.contains("weights"), "{text}");
    assert_eq!(
        with(&[("policy", "weighted"), ("policyProfile", "gold")]).expect_err("two policies"),
        TriggerError::PolicyAndProfile
    );
}

#[test]
fn what_is_not_here_yet_is_refused_rather_than_ignored() {
    for key in ["topicName", "subscriptionName", "connectionRef"] {
        assert_eq!(with(&[(key, "x")]).expect_err(key), TriggerError::NotSupported { key });
    }
    assert_eq!(with(&[("useRegex", "true")]).expect_err("regex"), TriggerError::NotSupported { key: "useRegex" });
}

#[test]
fn a_secret_in_metadata_is_refused_and_not_repeated() {
    for key in ["connection", "queueName", "weights", "connectionString"] {
        let text = with(&[(key, CONNECTION_STRING)]).expect_err("a secret").to_string();
        assert!(text.contains(&format!("metadata {key} is refused")), "{text}");
        assert!(text.contains("connectionFromEnv") && !text.contains("s3cr3t"), "{text}");
    }
    assert_eq!(with(&[("otherFromEnv", CONNECTION_STRING)]).expect("KEDA resolved it").ignored, ["otherFromEnv"]);
}

#[test]
fn a_connection_that_is_not_there_fails_reads_but_not_the_specification() {
    for pairs in [&[("queueName", "orders")][..], &[("queueName", "orders"), ("connectionFromEnv", "")]] {
        let trigger = parse(pairs).expect("the metadata itself is sound");
        assert_eq!(trigger.connection().expect_err("no connection"), ConnectionProblem::Unresolved);
    }
    let trigger = with(&[("connectionFromEnv", "s3cr3t")]).expect("the metadata itself is sound");
    let text = trigger.connection().expect_err("no connection string").to_string();
    assert!(text.contains("connectionFromEnv") && !text.contains("s3cr3t"), "{text}");
    let trigger = with(&[]).expect("sound metadata");
    assert!(!format!("{trigger:?}").contains("s3cr3t"), "Debug must not show the key");
}

#[test]
fn documented_defaults_are_the_defaults() {
    let written = with(&[]).expect("sound metadata");
    let defaults: Vec<_> =
        KEYS.iter().filter(|key| !key.default.is_empty()).map(|key| (key.name, key.default)).collect();
    let spelled = with(&defaults).expect("the defaults are allowed");
    assert_eq!((spelled.base, spelled.policy), (written.base, written.policy));
}

#[test]
fn the_reference_names_every_key_and_policy() {
    let reference = include_str!("../../../docs/scaler.md");
    let policies = scaling::POLICIES;
    let keys = KEYS.iter().chain(policies.iter().flat_map(|policy| policy.keys)).map(|key| key.name);
    for name in keys.chain(policies.iter().map(|policy| policy.name)) {
        assert!(reference.contains(&format!("`{name}`")), "docs/scaler.md does not name {name}");
    }
}

#[test]
fn metric_names_are_what_kubernetes_takes() {
    let name = |queue: &str| with(&[("queueName", queue)]).expect("sound metadata").metric_name();
    assert_eq!(name("orders"), "azure-servicebus-orders");
    assert_eq!(name("Team.A/Orders_v2"), "azure-servicebus-team-a-orders_v2");
    assert_eq!(name("ordené"), "azure-servicebus-orden-");
}

proptest! {
    #[test]
    fn no_metadata_panics_and_what_is_accepted_is_in_range(
        metadata in prop::collection::hash_map(
            prop_oneof![
                prop::sample::select(KEYS.map(|key| key.name).to_vec()).prop_map(str::to_owned),
                prop::sample::select(vec!["weights".to_owned(), "useRegex".to_owned()]),
                any::<String>(),
            ],
            prop_oneof![
                any::<String>(),
                any::<i64>().prop_map(|number| number.to_string()),
                prop::sample::select(vec!["orders", "weighted", "messageCount", "active=1", CONNECTION_STRING])
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
                let _: Result<_, ConnectionProblem> = trigger.connection();
            }
            Err(error) => prop_assert!(!error.to_string().contains("s3cr3t")),
        }
    }
}
