//! Attacks on memory and time: patterns that explode, a thousand credentials. Others must not notice.

use broker::Options;
use testbench::Nobody;
use tonic::Code;

use crate::support::{Pairs, Scaler, broker};

/// For a thousand calls and more: lines about each byte of them would take longer than all else.
const QUIET: Pairs<'_> = &[("LOG_LEVEL", "info")];
/// What the process may grow by under an attack, in KiB. A debug build's allocator keeps some; a leak of one compiled
/// pattern or one HTTP client for each call would be several times this.
const GROWTH_KIB: u64 = 96 * 1024;

#[tokio::test]
async fn a_giant_pattern_is_refused_before_it_costs_anything() {
    let scaler = Scaler::plain().await;
    let before = scaler.resident_kib();
    let nobody = Nobody::start();
    let address = nobody.address();
    let connection =
        format!("Endpoint=sb://{address};SharedAccessKeyName=n;SharedAccessKey=k;UseDevelopmentEmulator=true");
    for pattern in [
        "a".repeat(257),
        "a".repeat(200_000),
        "(a{1000}){1000}".to_owned(),
        "((a{100}){100}){100}".to_owned(),
        r"(\pL{1000}){1000}".to_owned(),
        r"(?i)\pL{1000}".to_owned(),
        "(".repeat(128) + &")".repeat(128),
        "[".repeat(256),
        "(?:a|".repeat(50) + &")".repeat(50),
        "x*".repeat(128),
    ] {
        let metadata = [("useRegex", "true"), ("queueName", &*pattern), ("connectionFromEnv", &*connection)];
        // Some are sound after all and fail later, where nobody listens; all are answered.
        let status = scaler.ask("shop", &metadata).await.expect_err(&pattern);
        assert!(matches!(status.code(), Code::InvalidArgument | Code::Unavailable), "{pattern:?}: {status}");
        assert!(status.message().len() < 2_000, "an answer is no mirror: {}", status.message().len());
    }
    for pattern in ["a".repeat(257), "(a{1000}){1000}".to_owned(), r"(\pL{1000}){1000}".to_owned()] {
        let metadata = [("useRegex", "true"), ("queueName", &*pattern), ("connectionFromEnv", &*connection)];
        scaler.refuses("shop", &metadata, Code::InvalidArgument, &["queueName"]).await;
    }
    let grown = scaler.resident_kib().saturating_sub(before);
    assert!(grown < GROWTH_KIB, "{grown} KiB more");
}

#[tokio::test]
async fn many_patterns_are_not_kept_for_ever() {
    let broker = broker(Options::default()).await;
    let scaler = Scaler::start("creditsPerSecond: 1000000", QUIET, |_| {}).await;
    let good = ("connectionFromEnv", broker.connection_string());
    let ask = async |namespace: &str, number: usize| {
        let pattern = format!(r"{number}[a-z]{{200}}\pL{{2}}");
        match scaler.ask(namespace, &[("useRegex", "true"), ("queueName", &pattern), good]).await {
            // Let in, whether or not the read was done in time.
            Ok(_) => true,
            Err(status) if status.code() == Code::Unavailable => true,
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
                assert!(status.message().contains("limits.patternsPerNamespace"), "{status}");
                false
            }
        }
    };
    // The caches are warm after some; from then on nothing may grow with their number.
    let mut let_in = 0;
    for number in 0..300 {
        let_in += usize::from(ask("evil", number).await);
    }
    assert_eq!(let_in, 100, "the limit's default is 100");
    let before = scaler.resident_kib();
    for number in 300..1_500 {
        assert!(!ask("evil", number).await, "{number}");
    }
    let grown = scaler.resident_kib().saturating_sub(before);
    assert!(grown < GROWTH_KIB, "{grown} KiB more");
    assert!(ask("evil", 0).await, "what it has stays");
    let orders = [("useRegex", "true"), ("queueName", "^ord"), good];
    testbench::until("another namespace's pattern to be read", async || scaler.ask("shop", &orders).await.is_ok())
        .await;
}

#[tokio::test]
async fn a_thousand_credentials_of_one_namespace_hurt_nobody_else() {
    let broker = broker(Options::default()).await;
    let scaler = Scaler::start("creditsPerSecond: 1000000", QUIET, |_| {}).await;
    let good = ("connectionFromEnv", broker.connection_string());
    scaler.ask("shop", &[good]).await.expect("before the attack");
    let before = scaler.resident_kib();
    let (mut tried, mut refused) = (0, 0);
    for number in 0..1_000 {
        let connection =
            broker.connection_string().replace("SharedAccessKey=", &format!("SharedAccessKey=guess{number}"));
        let status = scaler.ask("evil", &[("connectionFromEnv", &connection)]).await.expect_err("a wrong key");
        match status.code() {
            Code::Unauthenticated | Code::Unavailable => tried += 1,
            Code::ResourceExhausted => {
                refused += 1;
                assert!(status.message().contains("limits.credentialsPerNamespace"), "{status}");
            }
            _ => panic!("{status}"),
        }
    }
    assert_eq!((tried, refused), (50, 950), "the limit's default is 50");
    let grown = scaler.resident_kib().saturating_sub(before);
    assert!(grown < GROWTH_KIB, "{grown} KiB more");
    scaler.ask("shop", &[good]).await.expect("after the attack, from a cache or not");
    scaler.ask("billing", &[good]).await.expect("a newcomer, too");
    scaler.refuses("evil", &[good], Code::ResourceExhausted, &["\"evil\"", "50 distinct credentials"]).await;
}
