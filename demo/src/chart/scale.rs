//! Scales and ticks: from numbers to places on a picture. Pure.
//!
//! A scale maps a domain that starts at zero to a range in user units; ticks stand at round numbers. Time has its own
//! round numbers, because minutes are made of 60 seconds.

/// Maps `0..=domain` linearly to `start..=end`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    domain: f64,
    start: f64,
    end: f64,
}

impl Scale {
    /// A domain that is not a positive number is taken as 1, so that an empty run still has axes.
    pub fn new(domain: f64, start: f64, end: f64) -> Self {
        let domain = if domain.is_finite() && domain > 0.0 { domain } else { 1.0 };
        Self { domain, start, end }
    }

    /// The place of `value`; values outside the domain are put on its edge, so that nothing is drawn outside the panel.
    pub fn place(&self, value: f64) -> f64 {
        let share = if value.is_nan() { 0.0 } else { (value / self.domain).clamp(0.0, 1.0) };
        self.start + (self.end - self.start) * share
    }

    /// The largest value.
    pub fn domain(&self) -> f64 {
        self.domain
    }
}

/// A mark on an axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Tick {
    /// Where, in the domain.
    pub value: f64,
    /// What to write there.
    pub label: String,
}

/// Ticks at whole numbers from 0, about `count` of them, the last one at or above `largest`.
pub fn count_ticks(largest: f64, count: usize) -> Vec<Tick> {
    let largest = if largest.is_finite() { largest.max(1.0) } else { 1.0 };
    let step = round_step(largest / count.max(1) as f64).max(1.0);
    let steps = (largest / step).ceil() as u64;
    (0..=steps)
        .map(|index| {
            let value = index as f64 * step;
            Tick { value, label: grouped(value as u64) }
        })
        .collect()
}

/// The smallest of 1, 2, 5 × 10ⁿ that is at least `rough`.
fn round_step(rough: f64) -> f64 {
    let magnitude = 10_f64.powf(rough.max(f64::MIN_POSITIVE).log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * magnitude)
        .find(|step| *step >= rough * (1.0 - 1e-9))
        .unwrap_or(10.0 * magnitude)
}

/// Distances between ticks that people read easily on a time axis, in seconds.
const TIME_STEPS: [u64; 14] = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200];

/// Ticks on a time axis of `seconds`, at most about `count`, none behind its end.
pub fn time_ticks(seconds: f64, count: usize) -> Vec<Tick> {
    let seconds = if seconds.is_finite() { seconds.max(0.0) } else { 0.0 };
    let rough = seconds / count.max(1) as f64;
    let step = TIME_STEPS
        .into_iter()
        .find(|step| *step as f64 >= rough)
        .unwrap_or_else(|| (rough / 3_600.0).ceil() as u64 * 3_600);
    (0..=(seconds / step as f64) as u64)
        .map(|index| Tick { value: (index * step) as f64, label: clock(index * step) })
        .collect()
}

/// `45 s`, `1:30`, `1:00:00`.
fn clock(seconds: u64) -> String {
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes}:{seconds:02}"),
        (hours, minutes, seconds) => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// A whole number with a thin gap between thousands.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_is_monotone_and_stays_inside_its_range() {
        for (start, end) in [(0.0, 100.0), (300.0, 20.0)] {
            let scale = Scale::new(40.0, start, end);
            let places: Vec<f64> = (-10..=60).map(|value| scale.place(f64::from(value))).collect();
            let rising = end > start;
            assert!(places.windows(2).all(|pair| if rising { pair[0] <= pair[1] } else { pair[0] >= pair[1] }));
            assert!(places.iter().all(|place| (start.min(end)..=start.max(end)).contains(place)));
            assert!((scale.place(20.0) - f64::midpoint(start, end)).abs() < 1e-9);
        }
    }

    #[test]
    fn odd_numbers_are_drawn_inside_the_panel_too() {
        for domain in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let scale = Scale::new(domain, 0.0, 10.0);
            for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.5] {
                assert!((0.0..=10.0).contains(&scale.place(value)), "{domain} {value}");
            }
        }
    }

    #[test]
    fn count_ticks_are_round_rising_and_reach_the_largest() {
        for largest in [0.0, 1.0, 3.0, 8.0, 10.0, 17.0, 99.0, 1_000.0, 12_345.0, 9e12, f64::NAN] {
            let ticks = count_ticks(largest, 5);
            assert!((2..=12).contains(&ticks.len()), "{largest}: {ticks:?}");
            assert!(ticks.windows(2).all(|pair| pair[0].value < pair[1].value), "{largest}");
            assert!(ticks.last().is_some_and(|tick| tick.value >= largest || largest.is_nan()), "{largest}");
        }
        let labels: Vec<String> = count_ticks(1_000.0, 5).into_iter().map(|tick| tick.label).collect();
        assert_eq!(labels, ["0", "200", "400", "600", "800", "1,000"]);
    }

    #[test]
    fn time_ticks_fall_on_seconds_people_read() {
        let labels = |seconds| time_ticks(seconds, 8).into_iter().map(|tick| tick.label).collect::<Vec<_>>();
        assert_eq!(labels(58.0), ["0 s", "10 s", "20 s", "30 s", "40 s", "50 s"]);
        assert_eq!(labels(130.0), ["0 s", "30 s", "1:00", "1:30", "2:00"]);
        assert_eq!(labels(0.2), ["0 s"]);
        assert_eq!(labels(f64::NAN), ["0 s"]);
        assert!(time_ticks(1e6, 8).len() <= 9);
    }
}
