//! An estimate with its interval, and the intervals that have a formula.

use crate::MeasureError;
use crate::error::{finite, level_in_range};
use crate::special::{normal_quantile, student_quantile};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Confidence level used wherever none is asked for.
pub const LEVEL: f64 = 0.95;

/// An estimate with the ends of its confidence interval, in the units of the estimate.
///
/// Serialised as `{"value", "low", "high"}`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// The estimate.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// An estimate without spread: both ends are the value.
    pub fn exact(value: f64) -> Self {
        Interval { value, low: value, high: value }
    }

    /// Whether `value` lies in the interval, ends included.
    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }

    /// All three numbers times `factor`; with a negative factor the ends change places.
    pub fn scale(&self, factor: f64) -> Self {
        let (a, b) = (self.low * factor, self.high * factor);
        Interval { value: self.value * factor, low: a.min(b), high: a.max(b) }
    }

    /// The interval of a share, to be shown: what goes below 0 or above 1 is cut off, since Student's interval over few
    /// seeds does not know that a share lies between. As it is where the value itself lies outside.
    pub fn of_share(&self) -> Self {
        match (0.0..=1.0).contains(&self.value) {
            true => Interval { low: self.low.max(0.0), high: self.high.min(1.0), ..*self },
            false => *self,
        }
    }
}

/// Share of `correct` among `total` with the Wilson score interval at 95 %.
///
/// See [`wilson`] for formula and errors.
pub fn accuracy(correct: usize, total: usize) -> Result<Interval, MeasureError> {
    wilson(correct, total, LEVEL)
}

/// Accuracy of a list of outcomes; see [`accuracy`].
pub fn accuracy_of(outcomes: &[bool]) -> Result<Interval, MeasureError> {
    accuracy(outcomes.iter().filter(|&&o| o).count(), outcomes.len())
}

/// Share of `correct` among `total` with the Wilson score interval.
///
/// With p = correct / total, n = total and z the normal quantile of (1 + level) / 2:
/// centre = (p + z²/2n) / (1 + z²/n), half width = z / (1 + z²/n) · √(p(1−p)/n + z²/4n²).
/// The value is p itself; the ends stay inside [0, 1] and are exactly 0 (or 1) when no (or every) outcome is right.
///
/// # Errors
/// `total` is 0, `correct` exceeds `total`, or the level is not between 0 and 1.
///
/// ```
/// let half = elenchus_measure::wilson(50, 100, 0.95)?;
/// assert!((half.low - 0.4038).abs() < 1e-4 && (half.high - 0.5962).abs() < 1e-4);
/// # Ok::<(), elenchus_measure::MeasureError>(())
/// ```
pub fn wilson(correct: usize, total: usize, level: f64) -> Result<Interval, MeasureError> {
    level_in_range(level)?;
    if total == 0 {
        return Err(MeasureError::empty("accuracy", "give at least one outcome"));
    }
    if correct > total {
        return Err(MeasureError::value(
            "accuracy",
            format!("{correct} right of {total}"),
            "the number of right outcomes cannot exceed their total",
        ));
    }
    let n = total as f64;
    let p = correct as f64 / n;
    let z = normal_quantile(0.5 + level / 2.0);
    let denominator = 1.0 + z * z / n;
    let centre = (p + z * z / (2.0 * n)) / denominator;
    let half = z / denominator * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    Ok(Interval {
        value: p,
        low: if correct == 0 { 0.0 } else { (centre - half).clamp(0.0, p) },
        high: if correct == total { 1.0 } else { (centre + half).clamp(p, 1.0) },
    })
}

/// Mean of a few independent numbers, for instance one per model seed, with Student's t interval.
///
/// mean ± t(n−1, (1 + level)/2) · s/√n, s with n−1 in its denominator.
///
/// # Errors
/// Fewer than two values (their spread is unknown then), a value that is not finite, or a level outside (0, 1).
pub fn student_interval(values: &[f64], level: f64) -> Result<Interval, MeasureError> {
    level_in_range(level)?;
    finite("mean", values)?;
    if values.len() < 2 {
        return Err(MeasureError::empty(
            "interval of a mean",
            "one value has no spread: give at least two seeds",
        ));
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let half = student_quantile(0.5 + level / 2.0, n - 1.0) * (variance / n).sqrt();
    Ok(Interval { value: mean, low: mean - half, high: mean + half })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wilson_agrees_with_published_values() {
        // R: prop.test(8, 10, correct = FALSE)$conf.int = 0.4901625 0.9433178
        let i = wilson(8, 10, 0.95).unwrap();
        assert!((i.low - 0.490_162_5).abs() < 1e-6 && (i.high - 0.943_317_8).abs() < 1e-6, "{i:?}");
        let none = accuracy(0, 20).unwrap();
        assert_eq!((none.value, none.low), (0.0, 0.0));
        // z²/(n+z²)
        assert!((none.high - 0.161_125).abs() < 1e-5, "{none:?}");
    }

    #[test]
    fn student_interval_of_three_seeds() {
        // mean 2, s = 1, t(2, .975) = 4.302652730
        let i = student_interval(&[1.0, 2.0, 3.0], 0.95).unwrap();
        assert!((i.high - 2.0 - 4.302_652_730 / 3f64.sqrt()).abs() < 1e-6, "{i:?}");
    }

    #[test]
    fn errors_say_what_to_do() {
        for error in [
            accuracy(0, 0).unwrap_err(),
            accuracy(2, 1).unwrap_err(),
            wilson(1, 2, 1.0).unwrap_err(),
            student_interval(&[1.0], 0.95).unwrap_err(),
            student_interval(&[1.0, f64::NAN], 0.95).unwrap_err(),
        ] {
            assert!(error.to_string().contains("\nhint: "), "{error}");
        }
    }

    #[test]
    fn interval_json_is_the_contract() {
        let json = serde_json::to_string(&Interval { value: 0.5, low: 0.25, high: 0.75 }).unwrap();
        assert_eq!(json, r#"{"value":0.5,"low":0.25,"high":0.75}"#);
    }

    proptest! {
        #[test]
        fn wilson_stays_inside_the_unit_interval(total in 1usize..5000, share in 0.0f64..=1.0, level in 0.5f64..0.999) {
            let correct = ((total as f64) * share).round() as usize;
            let i = wilson(correct, total, level).unwrap();
            prop_assert!(0.0 <= i.low && i.low <= i.value && i.value <= i.high && i.high <= 1.0, "{:?}", i);
        }
    }
}
