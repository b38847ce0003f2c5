//! From replicas to a metric value: the one place that knows what KEDA and the HPA make of a number.

/// KEDA rounds an external metric's value to three decimals and hands it to the HPA in thousandths
/// (`pkg/scalers/external_scaler.go`, `k8s.io/apimachinery` `resource.Quantity`).
const STEPS_PER_UNIT: f64 = 1_000.0;

/// The highest value: above it thousandths are no longer exact in a double. KEDA's own limit, 2⁶³ thousandths, is higher.
const MAX_VALUE: f64 = 9e12;

/// The value to serve beside a target of `target` so that an HPA with `AverageValue`, which wants
/// `ceil(value / target)` replicas, comes to `replicas` rounded up: `replicas × target`, rounded to thousandths.
///
/// The rounding also takes away what floating point adds: 3.0000000000000004 replicas are 3. Anything that is not a
/// positive, finite number is 0, because KEDA would make an error or a leak of it; the highest value is 9 × 10¹².
pub fn metric_value(replicas: f64, target: u32) -> f64 {
    let value = replicas * f64::from(target);
    if !replicas.is_finite() || value <= 0.0 {
        return 0.0;
    }
    (value.min(MAX_VALUE) * STEPS_PER_UNIT).round() / STEPS_PER_UNIT
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What KEDA (rounding to thousandths) and the HPA (`ceil` of the quotient of two whole numbers of thousandths,
    /// `pkg/controller/podautoscaler/replica_calculator.go`, `GetExternalPerPodMetricReplicas`) make of a value.
    fn hpa_replicas(value: f64, target: u32) -> i64 {
        let thousandths = (value * 1_000.0).round() as i64;
        let target_thousandths = i64::from(target) * 1_000;
        (thousandths as f64 / target_thousandths as f64).ceil() as i64
    }

    #[test]
    fn every_number_of_replicas_comes_out_for_every_small_target() {
        for target in 1..=1_000 {
            for replicas in 1..=1_000 {
                let value = metric_value(f64::from(replicas), target);
                assert_eq!(hpa_replicas(value, target), i64::from(replicas), "target {target}");
            }
        }
    }

    proptest! {
        #[test]
        fn every_number_of_replicas_comes_out_for_any_target(replicas in 1..=1_000u32, target in 1..=1_000_000u32) {
            prop_assert_eq!(hpa_replicas(metric_value(replicas.into(), target), target), i64::from(replicas));
        }

        /// A policy that divides and multiplies does not end exactly on a whole number.
        #[test]
        fn floating_point_noise_adds_no_replica(replicas in 1..=1_000u32, target in 1..=1_000u32, noise in -1e-12..1e-12) {
            let wanted = f64::from(replicas) * (1.0 + noise);
            prop_assert_eq!(hpa_replicas(metric_value(wanted, target), target), i64::from(replicas));
        }

        /// With messageCount, value is the count itself.
        #[test]
        fn dividing_by_the_target_first_changes_nothing(count in 0..=1_000_000_000u64, target in 1..=1_000_000u32) {
            let replicas = count as f64 / f64::from(target);
            prop_assert_eq!(metric_value(replicas, target).to_bits(), (count as f64).to_bits());
        }

        #[test]
        fn never_negative_nor_infinite(replicas in any::<f64>(), target in any::<u32>()) {
            let value = metric_value(replicas, target);
            prop_assert!((0.0..=MAX_VALUE).contains(&value), "{value}");
        }
    }

    #[test]
    fn what_is_not_a_positive_number_is_zero() {
        for replicas in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0, -0.0] {
            assert_eq!(metric_value(replicas, 5).to_bits(), 0.0f64.to_bits(), "{replicas}");
        }
    }
}
