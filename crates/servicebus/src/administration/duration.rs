//! ISO 8601 durations as Service Bus writes them: days to seconds with up to seven decimals.
//!
//! `P10675199DT2H48M5.4775807S`, the longest .NET time span, means "never". General date crates refuse either `P14D` or that.

use std::time::Duration;

/// Reads `P[nD][T[nH][nM][n[.fffffff]S]]`. Years and months have no fixed length and are refused.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let rest = text.trim().strip_prefix('P')?;
    let (date, time) = match rest.split_once('T') {
        Some((date, time)) if !time.is_empty() => (date, time),
        Some(_) => return None,
        None => (rest, ""),
    };
    if date.is_empty() && time.is_empty() {
        return None;
    }
    let mut total = Duration::ZERO;
    total = total.checked_add(fields(date, &[('D', 86_400)])?)?;
    total = total.checked_add(fields(time, &[('H', 3_600), ('M', 60), ('S', 1)])?)?;
    Some(total)
}

/// Reads numbers followed by units, each unit at most once and in the order given; only seconds may have decimals.
fn fields(mut text: &str, units: &[(char, u64)]) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut units = units.iter();
    while !text.is_empty() {
        let end = text.find(|c: char| c.is_ascii_alphabetic())?;
        let (number, letter) = (&text[..end], text[end..].chars().next()?);
        text = &text[end + 1..];
        let (_, seconds) = units.find(|(unit, _)| *unit == letter)?;
        let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
        let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !is_number(whole) || !is_number(decimals) || decimals.len() > 9 {
            return None;
        }
        if number.contains('.') && (letter != 'S' || decimals.is_empty()) {
            return None;
        }
        let nanos: u32 = format!("{decimals:0<9}").parse().ok()?;
        total = total.checked_add(Duration::new(whole.parse::<u64>().ok()?.checked_mul(*seconds)?, nanos))?;
    }
    Some(total)
}

/// Writes a duration in the same form, to the 100 ns that the service keeps.
pub(super) fn format(duration: Duration) -> String {
    let (seconds, ticks) = (duration.as_secs(), duration.subsec_nanos() / 100);
    let (days, hours, minutes, seconds) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    let part = |value: u64, unit: char| if value > 0 { format!("{value}{unit}") } else { String::new() };
    let second = match ticks {
        0 => part(seconds, 'S'),
        _ => format!("{}S", format!("{seconds}.{ticks:07}").trim_end_matches('0')),
    };
    let time = [part(hours, 'H'), part(minutes, 'M'), second].concat();
    match (days, time.as_str()) {
        (0, "") => "PT0S".to_owned(),
        (_, "") => format!("P{days}D"),
        _ => format!("P{}T{time}", part(days, 'D')),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_forms_of_the_service_are_read() {
        for (text, seconds, nanos) in [
            ("PT1M", 60, 0),
            ("PT30S", 30, 0),
            ("P14D", 1_209_600, 0),
            ("PT1H0.5S", 3_600, 500_000_000),
            ("P1DT2H3M4S", 93_784, 0),
            ("P10675199DT2H48M5.4775807S", 922_337_203_685, 477_580_700),
        ] {
            assert_eq!(parse(text), Some(Duration::new(seconds, nanos)), "{text}");
        }
        for text in
            ["", "P", "PT", "1M", "P1Y", "P1M", "PT1", "PTS", "PT1.5M", "PT1.S", "PT1S1M", "PT-1S", "P1DT", "PT１S"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse("P999999999999999999D"), None, "too long for a duration");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(seconds in 0_u64..1_000_000_000_000, ticks in 0_u32..10_000_000) {
            let duration = Duration::new(seconds, ticks * 100);
            prop_assert_eq!(parse(&format(duration)), Some(duration), "{}", format(duration));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "P?[0-9DTHMS.é]{0,20}") {
            let _ = parse(&text);
        }
    }
}
