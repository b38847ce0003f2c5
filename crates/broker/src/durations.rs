//! Durations as people and Service Bus write them: `30s` on the command line, `PT30S` in the administration API.
//!
//! Pure text conversion. ISO 8601 is used as .NET's `TimeSpan` uses it: days, hours, minutes and seconds with up to seven
//! decimals; years and months are refused, because they have no fixed length.

use std::cmp::Ordering;
use std::time::Duration;

/// Service Bus's "never": the largest .NET `TimeSpan`, `P10675199DT2H48M5.4775807S`.
pub(crate) const NEVER: Duration = Duration::new(922_337_203_685, 477_580_700);

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DurationError {
    /// Neither `30s` nor `PT30S`.
    #[error("not a duration: write it as 500ms, 30s, 5m, 1h or in ISO 8601 (PT30S)")]
    Flag,
    /// Not ISO 8601.
    #[error("not a duration in ISO 8601 with days, hours, minutes and seconds, such as PT1M or P14D")]
    Iso,
    /// More than [`NEVER`].
    #[error("longer than the longest duration Service Bus knows (P10675199DT2H48M5.4775807S)")]
    TooLong,
}

/// Reads a duration from the command line: a whole number with `ms`, `s`, `m` or `h`, or ISO 8601.
pub(crate) fn parse_flag(text: &str) -> Result<Duration, DurationError> {
    if text.starts_with('P') {
        return parse_iso(text);
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| DurationError::Flag)?;
    let milliseconds = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => return Err(DurationError::Flag),
    };
    let duration = Duration::from_millis(milliseconds.ok_or(DurationError::TooLong)?);
    if duration > NEVER { Err(DurationError::TooLong) } else { Ok(duration) }
}

/// Reads `P[nD][T[nH][nM][n[.fffffff]S]]`.
pub(crate) fn parse_iso(text: &str) -> Result<Duration, DurationError> {
    let rest = text.strip_prefix('P').ok_or(DurationError::Iso)?;
    let (date, time) = match rest.split_once('T') {
        Some((_, "")) => return Err(DurationError::Iso),
        Some((date, time)) => (date, time),
        None if rest.is_empty() => return Err(DurationError::Iso),
        None => (rest, ""),
    };
    let mut seconds: u64 = 0;
    let mut nanoseconds: u32 = 0;
    if !date.is_empty() {
        let days = date.strip_suffix('D').ok_or(DurationError::Iso)?;
        add(&mut seconds, days, 86_400)?;
    }
    let mut time = time;
    for (unit, length) in [('H', 3_600), ('M', 60)] {
        if let Some((number, after)) = time.split_once(unit) {
            add(&mut seconds, number, length)?;
            time = after;
        }
    }
    if !time.is_empty() {
        let number = time.strip_suffix('S').ok_or(DurationError::Iso)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        add(&mut seconds, whole, 1)?;
        nanoseconds = fraction_nanoseconds(fraction)?;
    }
    // Clients with coarser clocks round the last digits of "never" (Python: to microseconds); it stays "never".
    match seconds.cmp(&NEVER.as_secs()) {
        Ordering::Less => Ok(Duration::new(seconds, nanoseconds)),
        Ordering::Equal => Ok(NEVER),
        Ordering::Greater => Err(DurationError::TooLong),
    }
}

/// Writes the shape that the service writes and the SDKs parse.
pub(crate) fn write_iso(duration: Duration) -> String {
    let duration = duration.min(NEVER);
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    let part = |number: u64, unit: char| if number > 0 { format!("{number}{unit}") } else { String::new() };
    let seconds = match (seconds % 60, duration.subsec_nanos() / 100) {
        (0, 0) => String::new(),
        (seconds, 0) => format!("{seconds}S"),
        (seconds, ticks) => format!("{seconds}.{}S", format!("{ticks:07}").trim_end_matches('0')),
    };
    let date = part(days, 'D');
    let time = part(hours, 'H') + &part(minutes, 'M') + &seconds;
    match (date.is_empty(), time.is_empty()) {
        (true, true) => "PT0S".to_owned(),
        (false, true) => format!("P{date}"),
        _ => format!("P{date}T{time}"),
    }
}

fn add(total: &mut u64, number: &str, length: u64) -> Result<(), DurationError> {
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(DurationError::Iso);
    }
    let number: u64 = number.parse().map_err(|_| DurationError::TooLong)?;
    *total = number.checked_mul(length).and_then(|part| total.checked_add(part)).ok_or(DurationError::TooLong)?;
    Ok(())
}

/// Decimals of a second; more than nine are cut, as they are below what any clock here knows.
fn fraction_nanoseconds(fraction: &str) -> Result<u32, DurationError> {
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(DurationError::Iso);
    }
    let padded = format!("{fraction:0<9}");
    padded.get(..9).and_then(|digits| digits.parse().ok()).ok_or(DurationError::Iso)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_and_writes_what_the_service_writes() {
        for (text, duration) in [
            ("PT1M", Duration::from_mins(1)),
            ("P14D", Duration::from_hours(14 * 24)),
            ("PT0S", Duration::ZERO),
            ("P1DT2H3M4.5S", Duration::from_millis((86_400 + 7_200 + 180 + 4) * 1_000 + 500)),
            ("PT0.0000001S", Duration::from_nanos(100)),
            ("P10675199DT2H48M5.4775807S", NEVER),
        ] {
            assert_eq!(parse_iso(text), Ok(duration), "{text}");
            assert_eq!(write_iso(duration), text);
        }
    }

    #[test]
    fn refuses_what_is_not_a_duration() {
        for text in
            ["", "P", "PT", "1M", "PT1", "P1Y", "P1M", "PT-1S", "PT1.S", "PT1.5.5S", "PT1S2M", "P1H", "PT1D", "PTS"]
        {
            assert_eq!(parse_iso(text), Err(DurationError::Iso), "{text:?}");
        }
        assert_eq!(parse_iso("P10675199DT2H48M5.47758S"), Ok(NEVER));
        assert_eq!(parse_iso("P10675200D"), Err(DurationError::TooLong));
        assert_eq!(parse_iso("PT99999999999999999999S"), Err(DurationError::TooLong));
        for text in ["", "5", "s", "5 s", "-5s", "5d", "1.5s"] {
            assert_eq!(parse_flag(text), Err(DurationError::Flag), "{text:?}");
        }
    }

    #[test]
    fn reads_flags() {
        assert_eq!(parse_flag("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_flag("5m"), Ok(Duration::from_mins(5)));
        assert_eq!(parse_flag("PT30S"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_flag("18446744073709551615h"), Err(DurationError::TooLong));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(ticks in 0..=i64::MAX - 10_000_000) {
            let ticks = ticks as u64;
            let duration = Duration::new(ticks / 10_000_000, (ticks % 10_000_000) as u32 * 100);
            prop_assert_eq!(parse_iso(&write_iso(duration)), Ok(duration));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}") {
            let _ = (parse_iso(&text), parse_flag(&text));
        }
    }
}
