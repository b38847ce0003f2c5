//! What Go 1.26's `regexp` made of the same patterns and names, asked as the built-in trigger asks: `Compile`, `Longest`,
//! `FindString(name) == name`.

use crate::entity::NamePattern;

const NAMES: [&str; 25] = [
    "orders", "orders-1", "Orders-1", "orders.1", "orders_1", "ordersX1", "é", "a&b", "[", "a{2}", "aa", "a{,3}",
    "a.b", "a+b", "aE", "k", "\u{212A}", "1", "\u{663}", "a b", "a\tb", "-", "]", "a", "µ",
];

const ACCEPTED: &[(&str, &[&str])] = &[
    ("orders", &["orders"]),
    ("orders-.*", &["orders-1"]),
    ("orders.1", &["orders-1", "orders.1", "orders_1", "ordersX1"]),
    (r"orders\.1", &["orders.1"]),
    ("(?i)ORDERS-1", &["orders-1", "Orders-1"]),
    ("orders|aa", &["orders", "aa"]),
    ("^orders$", &["orders"]),
    ("^orders-", &[]),
    ("o*", &[]),
    (r"\w+", &["orders", "orders_1", "ordersX1", "aa", "aE", "k", "1", "a"]),
    (r"\W", &["é", "[", "\u{212A}", "\u{663}", "-", "]", "µ"]),
    (r"[\w]", &["k", "1", "a"]),
    (r"[\W]", &["é", "[", "\u{212A}", "\u{663}", "-", "]", "µ"]),
    (r"\d", &["1"]),
    (r"\D", &["é", "[", "k", "\u{212A}", "\u{663}", "-", "]", "a", "µ"]),
    (r"\s", &[]),
    (r"a\sb", &["a b", "a\tb"]),
    (r"\bé\b", &[]),
    (
        r".\B.*",
        &[
            "orders", "orders-1", "Orders-1", "orders.1", "orders_1", "ordersX1", "é", "[", "aa", "aE", "\u{212A}",
            "\u{663}", "-", "]", "µ",
        ],
    ),
    ("[a&&b]", &["a"]),
    ("a[&]b", &["a&b"]),
    ("[[a]", &["[", "a"]),
    ("[]a]", &["]", "a"]),
    ("[^]a]", &["é", "[", "k", "\u{212A}", "1", "\u{663}", "-", "µ"]),
    ("[a-]", &["-", "a"]),
    ("[[:alpha:]]+", &["orders", "aa", "aE", "k", "a"]),
    ("[[:^alpha:]]", &["é", "[", "\u{212A}", "1", "\u{663}", "-", "]", "µ"]),
    ("a{2}", &["aa"]),
    ("a{,3}", &["a{,3}"]),
    ("a{,3", &[]),
    ("a{2}?", &["aa"]),
    ("a{0,2}", &["aa", "a"]),
    (r"\Qa.b\E", &["a.b"]),
    (r"\Qa.b", &["a.b"]),
    (r"\Qa+b\E", &["a+b"]),
    (r"a\x2Eb", &["a.b"]),
    (r"a\x{2E}b", &["a.b"]),
    (r"a\056b", &["a.b"]),
    (r"orders\_1", &["orders_1"]),
    (r"\<", &[]),
    (r"\p{L}", &["é", "k", "\u{212A}", "a", "µ"]),
    (r"\pL", &["é", "k", "\u{212A}", "a", "µ"]),
    (r"\p{^L}", &["[", "1", "\u{663}", "-", "]"]),
    (r"\P{L}", &["[", "1", "\u{663}", "-", "]"]),
    (r"\p{Greek}", &[]),
    ("(?i)k", &["k", "\u{212A}"]),
    (r"(?i)\w", &["k", "\u{212A}", "1", "a"]),
    ("(?P<n>a)(?<m>a)", &["aa"]),
    ("(?U)a+", &["aa", "a"]),
    ("(?i-i)ORDERS", &[]),
    ("(?:a)(?s:.)b", &["a&b", "a.b", "a+b", "a b", "a\tb"]),
    ("(?m)^a$", &["a"]),
    ("(?<1>a)", &["a"]),
    ("(?<n>a)(?<n>a)", &["aa"]),
    (r"\b{start}", &[]),
    ("(?)a", &["a"]),
];

const REFUSED: &[&str] = &[
    "a**",
    "a{2}{2}",
    "a*+",
    "*a",
    "(",
    "a)(b",
    "(?x)a",
    "(?u)a",
    "(?=a)",
    r"\1",
    r"\Z",
    r"\G",
    r"\u0061",
    "a{1001}",
    "a{2,1}",
    "[b-a]",
    "[[:foo:]]",
    r"\p{Foo}",
    r"\x",
    r"\",
    "[a",
    r"[a-\d]",
    "(?i",
    "(?-)a",
];

#[test]
fn the_same_names_match_as_in_go() {
    for (text, matching) in ACCEPTED {
        let pattern = NamePattern::new(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let matches = pattern.matcher();
        let ours: Vec<_> = NAMES.into_iter().filter(|name| matches(name)).collect();
        assert_eq!(ours, *matching, "{text}");
    }
}

#[test]
fn what_go_refuses_is_refused() {
    for text in REFUSED {
        assert!(NamePattern::new(text).is_err(), "{text}");
    }
}

/// Go repeats what stands before the flags. Nobody writes it, and nothing is matched wrongly.
#[test]
fn the_one_pattern_known_to_be_refused_here_alone() {
    assert!(NamePattern::new("a(?i)*").is_err());
}

#[test]
fn errors_have_gos_words() {
    for (text, problem) in [
        ("a**", "invalid nested repetition operator: *"),
        ("a{1001}", "invalid repeat count: {1001}"),
        ("[b-a]", "invalid character class range: b-a"),
        (r"\K", r"invalid escape sequence: \K"),
        ("(?=a)", "invalid or unsupported Perl syntax: (?=a)"),
        ("(", "missing closing )"),
        ("[a", "missing closing ]: [a"),
    ] {
        assert_eq!(NamePattern::new(text).err().as_deref(), Some(problem), "{text}");
    }
}
