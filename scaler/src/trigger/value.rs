//! Values as KEDA reads them: blanks around a value do not count and an empty value is none, a whole number is what JSON
//! calls one, a boolean what Go's `strconv.ParseBool` takes (KEDA's `pkg/scalers/scalersconfig/typed_config.go`).
//!
//! So a value that the built-in trigger refuses is refused here, and none that it takes, save where a key says otherwise.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use scaling::Key;

use super::TriggerError;

/// Values longer than this are cut in error texts.
const MAX_SHOWN: usize = 64;

/// The key's value without the blanks around it, unless there is none.
pub(super) fn text<'a>(metadata: &'a HashMap<String, String>, key: &Key) -> Option<&'a str> {
    metadata.get(key.name).map(|value| value.trim()).filter(|value| !value.is_empty())
}

/// A whole number within a range.
pub(super) fn whole(
    metadata: &HashMap<String, String>,
    key: &Key,
    range: RangeInclusive<i64>,
) -> Result<Option<i64>, TriggerError> {
    let Some(text) = text(metadata, key) else { return Ok(None) };
    let digits = text.strip_prefix('-').unwrap_or(text);
    // JSON has neither a plus sign nor leading zeros, both of which Rust takes.
    let is_json = digits == "0" || !digits.starts_with(['0', '+', '-']);
    let number = if is_json { text.parse().ok() } else { None };
    number.filter(|number| range.contains(number)).map(Some).ok_or_else(|| wrong(key, text))
}

/// A boolean; `false` when there is none.
pub(super) fn boolean(metadata: &HashMap<String, String>, key: &Key) -> Result<bool, TriggerError> {
    text(metadata, key).map_or(Ok(false), |text| go_boolean(text).ok_or_else(|| wrong(key, text)))
}

/// What Go's `strconv.ParseBool` makes of a text.
pub fn go_boolean(text: &str) -> Option<bool> {
    match text {
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        _ => None,
    }
}

/// A duration: a number with `ms`, `s` or `m`, or of seconds.
pub(super) fn duration(
    metadata: &HashMap<String, String>,
    key: &Key,
    longest: Duration,
) -> Result<Option<Duration>, TriggerError> {
    let Some(text) = text(metadata, key) else { return Ok(None) };
    let (number, milliseconds) = match text.strip_suffix("ms") {
        Some(number) => (number, 1),
        None => match text.strip_suffix('m') {
            Some(number) => (number, 60_000),
            None => (text.strip_suffix('s').unwrap_or(text), 1_000),
        },
    };
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number = if is_number { number.parse::<u64>().ok() } else { None };
    let duration = number.and_then(|number| number.checked_mul(milliseconds)).map(Duration::from_millis);
    duration.filter(|duration| *duration <= longest).map(Some).ok_or_else(|| wrong(key, text))
}

/// A value that is not allowed.
pub(super) fn wrong(key: &Key, value: &str) -> TriggerError {
    TriggerError::Invalid { key: key.name, value: shown(value), allowed: key.allowed }
}

/// A caller's text, cut when long.
pub(crate) fn shown(value: &str) -> String {
    match value.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key { name: "key", doc: "", allowed: "what is allowed", default: "" };

    fn with(value: &str) -> HashMap<String, String> {
        HashMap::from([("key".to_owned(), value.to_owned())])
    }

    #[test]
    fn whole_numbers_are_those_of_json() {
        let parse = |value: &str| whole(&with(value), &KEY, i64::MIN..=i64::MAX).ok().flatten();
        for (value, number) in [("0", 0), ("-0", 0), ("7", 7), ("-7", -7), (" 7\t", 7), ("10", 10)] {
            assert_eq!(parse(value), Some(number), "{value:?}");
        }
        assert_eq!(parse("9223372036854775807"), Some(i64::MAX));
        for value in [
            "+7",
            "07",
            "-07",
            "00",
            "7.0",
            "1e3",
            "0x7",
            "--7",
            "-",
            "-+7",
            "7 7",
            "٧",
            "null",
            "\"7\"",
            "9223372036854775808",
        ] {
            assert!(whole(&with(value), &KEY, i64::MIN..=i64::MAX).is_err(), "{value:?}");
        }
        for value in ["", " ", "\u{a0}\n"] {
            assert_eq!(whole(&with(value), &KEY, 1..=2), Ok(None), "{value:?} is none");
        }
        assert!(whole(&with("3"), &KEY, 1..=2).is_err());
    }

    #[test]
    fn booleans_are_those_of_go() {
        for value in ["1", "t", "T", "true", "TRUE", "True", " true "] {
            assert_eq!(boolean(&with(value), &KEY), Ok(true), "{value:?}");
        }
        for value in ["0", "f", "F", "false", "FALSE", "False", "", " "] {
            assert_eq!(boolean(&with(value), &KEY), Ok(false), "{value:?}");
        }
        for value in ["tRUE", "yes", "no", "on", "2", "\"true\""] {
            assert!(boolean(&with(value), &KEY).is_err(), "{value:?}");
        }
    }

    #[test]
    fn durations_have_a_unit_or_are_seconds() {
        let parse = |value: &str| duration(&with(value), &KEY, Duration::from_mins(5));
        for (value, milliseconds) in
            [("0", 0), ("5", 5_000), ("5s", 5_000), ("500ms", 500), ("1m", 60_000), ("300s", 300_000), (" 2s ", 2_000)]
        {
            assert_eq!(parse(value), Ok(Some(Duration::from_millis(milliseconds))), "{value:?}");
        }
        for value in
            ["-1s", "+1s", "1.5s", "1h", "1 s", "s", "ms", "m", "1m30s", "301", "6m", "18446744073709551615m", "∞"]
        {
            assert!(parse(value).is_err(), "{value:?}");
        }
        assert_eq!(parse(""), Ok(None));
    }
}
