//! Examples for every key, and the two promises that hold for any text: no panic, no secret in what can be printed.

use proptest::prelude::*;
use secrecy::ExposeSecret as _;

use super::*;

const KEYED: &str = "SharedAccessKeyName=Root;SharedAccessKey=a2V5PT0=";

fn parse(text: &str) -> ConnectionString {
    ConnectionString::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn error(text: &str) -> String {
    ConnectionString::parse(text).err().unwrap_or_else(|| panic!("{text} was accepted")).to_string()
}

#[test]
fn the_service_is_reached_by_tls_on_its_own_ports() {
    let parsed = parse(&format!("Endpoint=sb://Name.ServiceBus.windows.net/;{KEYED}"));
    assert_eq!(parsed.host(), "name.servicebus.windows.net");
    assert!(!parsed.is_development_emulator());
    assert_eq!((parsed.amqp_port(), parsed.administration_port()), (5671, 443));
    assert_eq!(parsed.administration_url(), "https://name.servicebus.windows.net:443");
    assert_eq!(parsed.key_name(), Some("Root"));
    assert_eq!(parsed.key().map(|key| key.expose_secret().to_owned()).as_deref(), Some("a2V5PT0="));
    assert_eq!(parsed.entity_path(), None);
}

#[test]
fn the_emulator_is_reached_in_plain_on_the_port_given_or_its_own() {
    let parsed = parse(&format!("Endpoint=sb://127.0.0.1:40123;{KEYED};UseDevelopmentEmulator=true;"));
    assert_eq!((parsed.amqp_port(), parsed.administration_port()), (40123, 40123));
    assert_eq!(parsed.administration_url(), "http://127.0.0.1:40123");
    for value in ["True", "TRUE", " true "] {
        let parsed = parse(&format!("Endpoint=sb://localhost;{KEYED};UseDevelopmentEmulator={value}"));
        assert_eq!((parsed.amqp_port(), parsed.administration_port()), (5672, 5300), "{value}");
    }
    let parsed = parse(&format!("Endpoint=sb://localhost:1;{KEYED};UseDevelopmentEmulator=False"));
    assert_eq!(parsed.administration_url(), "https://localhost:1");
}

#[test]
fn keys_are_found_in_any_case_and_split_at_the_first_equals_sign() {
    let parsed = parse("ENDPOINT=sb://h:7;sharedaccesskeyname=n;SHAREDACCESSKEY=a=b==;entitypath=/orders/eu/;Other=x");
    assert_eq!(parsed.key().map(|key| key.expose_secret().to_owned()).as_deref(), Some("a=b=="));
    assert_eq!(parsed.entity_path(), Some("orders/eu"));
    assert_eq!(parsed.audience("orders"), "sb://h/orders");
}

#[test]
fn a_ready_token_is_kept_whole() {
    let token = "SharedAccessSignature sr=sb%3a%2f%2fh%2f&sig=x%3d&se=1&skn=n";
    let parsed = parse(&format!("Endpoint=sb://h;SharedAccessSignature={token}"));
    assert_eq!(parsed.signature().map(|token| token.expose_secret().to_owned()).as_deref(), Some(token));
    assert!(parsed.key().is_none() && parsed.key_name().is_none());
}

#[test]
fn an_ipv6_endpoint_keeps_its_brackets_in_urls() {
    let parsed = parse(&format!("Endpoint=sb://[::1]:99/;{KEYED};UseDevelopmentEmulator=true"));
    assert_eq!(parsed.host(), "::1");
    assert_eq!(parsed.administration_url(), "http://[::1]:99");
}

#[test]
fn errors_name_the_key_and_what_is_allowed() {
    for (text, expected) in [
        ("", "is empty"),
        ("  ", "is empty"),
        ("Endpoint=sb://h;nonsense", "part 2 of the connection string has no `=`"),
        ("SharedAccessKeyName=n;SharedAccessKey=k", "Endpoint is missing"),
        ("Endpoint=sb://h", "SharedAccessKey is missing"),
        ("Endpoint=sb://h;SharedAccessKeyName=n", "SharedAccessKey is missing"),
        ("Endpoint=sb://h;SharedAccessKey=k", "SharedAccessKeyName is missing"),
        ("Endpoint=sb://h;SharedAccessKeyName=;SharedAccessKey=k", "SharedAccessKeyName has no value"),
        ("Endpoint=sb://h;endpoint=sb://i", "Endpoint stands twice"),
        ("Endpoint=h;SharedAccessKeyName=n;SharedAccessKey=k", "scheme is not `sb`"),
        ("Endpoint=https://h;SharedAccessKeyName=n;SharedAccessKey=k", "scheme is not `sb`"),
        ("Endpoint=sb://;SharedAccessKeyName=n;SharedAccessKey=k", "its host is neither"),
        ("Endpoint=sb://a b;SharedAccessKeyName=n;SharedAccessKey=k", "its host is neither"),
        ("Endpoint=sb://u:p@h;SharedAccessKeyName=n;SharedAccessKey=k", "its port is not a number from 1 to 65535"),
        ("Endpoint=sb://h:0;SharedAccessKeyName=n;SharedAccessKey=k", "its port is not a number from 1 to 65535"),
        ("Endpoint=sb://h:65536;SharedAccessKeyName=n;SharedAccessKey=k", "its port is not a number from 1 to 65535"),
        ("Endpoint=sb://h/queue;SharedAccessKeyName=n;SharedAccessKey=k", "an entity goes into EntityPath"),
        ("Endpoint=sb://h;SharedAccessSignature=sr=x", "must be a whole token"),
        ("Endpoint=sb://h;SharedAccessSignature=SharedAccessSignature s;SharedAccessKey=k", "excludes"),
        ("Endpoint=sb://h;SharedAccessKeyName=n;SharedAccessKey=k;EntityPath=a b", "EntityPath"),
        ("Endpoint=sb://h;SharedAccessKeyName=n;SharedAccessKey=k;UseDevelopmentEmulator=yes", "true or false"),
    ] {
        let message = error(text);
        assert!(message.contains(expected), "{text:?} gave {message:?}");
        assert!(!message.contains('\n'));
    }
}

/// A text that no key name, host or message of ours contains.
const SECRET: &str = "xQz7SECRETxQz7";

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>()) {
        let _ = ConnectionString::parse(&text);
    }

    #[test]
    fn no_arrangement_of_known_parts_makes_the_parser_panic(
        parts in proptest::collection::vec((proptest::sample::select(&KEYS[..]), ".{0,30}"), 0..8)
    ) {
        let text: Vec<String> = parts.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let _ = ConnectionString::parse(&text.join(";"));
    }

    /// Wherever the secret stands (also in the wrong place, or behind a wrong separator), nothing printable shows it.
    #[test]
    fn no_secret_is_ever_printed(
        key in proptest::sample::select(vec![KEY, SIGNATURE, ENDPOINT, EMULATOR, "Unknown", "SharedAccesKey"]),
        prefix in proptest::sample::select(vec!["", "sb://h,SharedAccessKey=", "sb://", "sb://h:", "SharedAccessSignature ", "="]),
        separator in proptest::sample::select(vec![";", ",", " ", "", ";;"]),
        endpoint in proptest::sample::select(vec!["Endpoint=sb://host", "Endpoint=host", "", "endpoint=sb://host:1"]),
        name in proptest::sample::select(vec!["SharedAccessKeyName=n", "", "SharedAccessKeyName="]),
    ) {
        let text = [endpoint, name, &format!("{key}={prefix}{SECRET}")].join(separator);
        match ConnectionString::parse(&text) {
            // A secret given as the host is a host; nothing tells them apart.
            Ok(parsed) => if !parsed.host().contains(&SECRET.to_ascii_lowercase()) {
                prop_assert!(!format!("{parsed:?}").contains(SECRET), "{:?}", parsed);
            },
            Err(error) => {
                prop_assert!(!error.to_string().contains(SECRET), "{}", error);
                prop_assert!(!format!("{error:?}").contains(SECRET), "{:?}", error);
            }
        }
    }

    #[test]
    fn a_wellformed_string_gives_back_its_parts(
        host in "([a-z0-9][a-z0-9-]{0,9}\\.){0,3}[a-z][a-z0-9-]{0,9}", port in proptest::option::of(1..=u16::MAX),
        name in "[A-Za-z]{1,20}", key in "[A-Za-z0-9+/=]{1,60}", emulator in any::<bool>(),
    ) {
        let authority = port.map_or(host.clone(), |port| format!("{host}:{port}"));
        let text = format!("Endpoint=sb://{authority}/;SharedAccessKeyName={name};SharedAccessKey={key};UseDevelopmentEmulator={emulator}");
        let parsed = ConnectionString::parse(&text).expect("well formed");
        prop_assert_eq!(parsed.host(), host);
        prop_assert_eq!(parsed.key_name(), Some(name.as_str()));
        prop_assert_eq!(parsed.key().map(|key| key.expose_secret().to_owned()), Some(key));
        prop_assert_eq!(parsed.is_development_emulator(), emulator);
        prop_assert_eq!(parsed.amqp_port(), port.unwrap_or(if emulator { 5672 } else { 5671 }));
    }
}
