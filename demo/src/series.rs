//! A number over time, in bounded memory: when there are too many points, every second one is dropped.

/// Points kept at most. More than a chart has pixels.
const MOST: usize = 2_000;

/// Values with the seconds at which they were seen, in order of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    points: Vec<(f64, f64)>,
    /// Least time between points, in seconds; doubled whenever points are dropped.
    spacing: f64,
}

impl Series {
    /// Adds a value. One that comes too soon after the last is put in its place.
    pub fn push(&mut self, at: f64, value: f64) {
        match self.points.as_mut_slice() {
            // The first point stays: it says how the run began.
            [_, .., before, last] if at - before.0 < self.spacing => *last = (at, value),
            _ => self.points.push((at, value)),
        }
        if self.points.len() > MOST {
            let span = at - self.points.first().map_or(0.0, |point| point.0);
            self.spacing = 2.0 * span / MOST as f64;
            let mut index = 0;
            self.points.retain(|_| {
                index += 1;
                index % 2 == 1
            });
        }
    }

    /// The points, in order of time.
    pub fn points(&self) -> &[(f64, f64)] {
        &self.points
    }

    /// The newest value; 0 before the first.
    pub fn last(&self) -> f64 {
        self.points.last().map_or(0.0, |point| point.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_keeps_its_shape_in_bounded_memory() {
        let mut series = Series::default();
        for step in 0..100_000_u32 {
            series.push(f64::from(step) * 0.1, f64::from(step));
        }
        let points = series.points();
        assert!((MOST / 4..=MOST).contains(&points.len()), "{}", points.len());
        assert_eq!(points.first(), Some(&(0.0, 0.0)));
        assert!((series.last() - 99_999.0).abs() < f64::EPSILON);
        assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0), "in order of time");
        assert!(points.iter().all(|(at, value)| (at * 10.0 - value).abs() < 1e-6), "no value is invented");
    }

    #[test]
    fn a_short_run_keeps_every_point() {
        let mut series = Series::default();
        for step in 0..100_u32 {
            series.push(f64::from(step), 1.0);
        }
        assert_eq!(series.points().len(), 100);
    }
}
