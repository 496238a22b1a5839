//! How two measurements go together: Pearson, Spearman, Cohen's kappa; and the histogram of one.

use crate::MeasureError;
use crate::error::finite;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

fn paired(what: &str, left: usize, right: usize) -> Result<(), MeasureError> {
    if left != right {
        return Err(MeasureError::length(what, left, right, "give both values for every item"));
    }
    if left == 0 {
        return Err(MeasureError::empty(what, "give at least one pair"));
    }
    Ok(())
}

/// Pearson's correlation; `None` when one side does not vary.
///
/// # Errors
/// Lengths differ, no pairs, or a value that is not finite.
pub fn pearson(left: &[f64], right: &[f64]) -> Result<Option<f64>, MeasureError> {
    paired("Pearson correlation", left.len(), right.len())?;
    finite("Pearson correlation, left", left)?;
    finite("Pearson correlation, right", right)?;
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let (a, b) = (mean(left), mean(right));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (x, y) in left.iter().zip(right) {
        ab += (x - a) * (y - b);
        aa += (x - a) * (x - a);
        bb += (y - b) * (y - b);
    }
    // A constant column may leave a rounding residue of the size of its mean.
    let varies = |sum: f64, mean: f64| sum > 1e-24 * mean * mean * left.len() as f64;
    Ok((varies(aa, a) && varies(bb, b)).then(|| (ab / (aa.sqrt() * bb.sqrt())).clamp(-1.0, 1.0)))
}

/// Spearman's rank correlation: Pearson's on ranks, ties sharing their mean rank; `None` when one side does not vary.
///
/// # Errors
/// Lengths differ, no pairs, or a value that is not finite.
pub fn spearman(left: &[f64], right: &[f64]) -> Result<Option<f64>, MeasureError> {
    paired("Spearman correlation", left.len(), right.len())?;
    finite("Spearman correlation, left", left)?;
    finite("Spearman correlation, right", right)?;
    pearson(&mean_ranks(left), &mean_ranks(right))
}

/// Ranks from 1, tied values sharing the mean of their ranks.
fn mean_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    for tie in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = start as f64 + (tie.len() as f64 + 1.0) / 2.0;
        for &i in tie {
            ranks[i] = rank;
        }
        start += tie.len();
    }
    ranks
}

/// Cohen's kappa of two raters: (observed − expected agreement) / (1 − expected agreement), expected from each rater's
/// shares; `None` when the expected agreement is 1 (both raters use one and the same label).
///
/// # Errors
/// Lengths differ or no items.
pub fn cohen_kappa<L: Ord>(left: &[L], right: &[L]) -> Result<Option<f64>, MeasureError> {
    paired("Cohen's kappa", left.len(), right.len())?;
    let n = left.len() as f64;
    let mut counts: BTreeMap<&L, (f64, f64)> = BTreeMap::new();
    let mut agreed = 0.0;
    for (a, b) in left.iter().zip(right) {
        counts.entry(a).or_default().0 += 1.0;
        counts.entry(b).or_default().1 += 1.0;
        agreed += f64::from(u8::from(a == b));
    }
    let (observed, expected) = (agreed / n, counts.values().map(|(a, b)| a * b).sum::<f64>() / (n * n));
    Ok((expected < 1.0).then(|| (observed - expected) / (1.0 - expected)))
}

/// Counts of values in bins of equal width.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Histogram {
    /// Lower end of the first bin.
    pub low: f64,
    /// Upper end of the last bin.
    pub high: f64,
    /// Values per bin; a value on an inner edge belongs to the bin above it, `high` to the last bin.
    pub counts: Vec<usize>,
    /// Values below `low`.
    pub below: usize,
    /// Values above `high`.
    pub above: usize,
}

/// Histogram with `bins` bins over `range`, or over the range of the values (widened by one half each way when they
/// are all equal).
///
/// # Errors
/// No values, a value that is not finite, 0 bins, or an empty range.
pub fn histogram(values: &[f64], bins: usize, range: Option<(f64, f64)>) -> Result<Histogram, MeasureError> {
    if values.is_empty() {
        return Err(MeasureError::empty("histogram", "give at least one value"));
    }
    finite("histogram", values)?;
    let (low, high) = range.unwrap_or_else(|| {
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if low < high { (low, high) } else { (low - 0.5, high + 0.5) }
    });
    let width = high - low;
    if bins == 0 || !width.is_finite() || width <= 0.0 {
        return Err(MeasureError::value(
            "histogram",
            format!("{bins} bins from {low} to {high}"),
            "use at least one bin, and a range whose upper end is above its lower end",
        ));
    }
    let mut result = Histogram { low, high, counts: vec![0; bins], below: 0, above: 0 };
    for &value in values {
        if value < low {
            result.below += 1;
        } else if value > high {
            result.above += 1;
        } else {
            result.counts[(((value - low) / width * bins as f64) as usize).min(bins - 1)] += 1;
        }
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(a: Option<f64>, b: f64) {
        assert!((a.unwrap() - b).abs() < 1e-12, "{a:?} is not {b}");
    }

    #[test]
    fn correlations_by_hand() {
        // Deviations (−1.5, −.5, .5, 1.5) and (−1.5, .5, −.5, 1.5): 4 / 5.
        close(pearson(&[1.0, 2.0, 3.0, 4.0], &[1.0, 3.0, 2.0, 4.0]).unwrap(), 0.8);
        close(spearman(&[1.0, 2.0, 3.0, 4.0], &[1.0, 8.0, 9.0, 100.0]).unwrap(), 1.0);
        // Ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4: 4.5 / sqrt(4.5 · 5)
        close(spearman(&[1.0, 2.0, 2.0, 3.0], &[1.0, 2.0, 3.0, 4.0]).unwrap(), 4.5 / 22.5f64.sqrt());
        assert_eq!(pearson(&[0.1, 0.1, 0.1], &[1.0, 2.0, 3.0]).unwrap(), None);
        assert!(pearson(&[1.0], &[]).is_err() && spearman(&[f64::NAN], &[1.0]).is_err());
        assert!(pearson(&[], &[]).is_err());
    }

    #[test]
    fn kappa_by_hand() {
        // Both yes 20, both no 15, 5 and 10 apart: observed .7, expected .5.
        let mut left = vec!["y"; 25];
        left.extend(vec!["n"; 25]);
        let mut right = vec!["y"; 20];
        right.extend(vec!["n"; 5]);
        right.extend(vec!["y"; 10]);
        right.extend(vec!["n"; 15]);
        close(cohen_kappa(&left, &right).unwrap(), 0.4);
        assert_eq!(cohen_kappa(&["y"], &["y"]).unwrap(), None);
        assert!(cohen_kappa::<bool>(&[], &[]).is_err());
    }

    #[test]
    fn histogram_by_hand() {
        let h = histogram(&[0.0, 0.25, 0.5, 0.99, 1.0, 1.5, -1.0], 4, Some((0.0, 1.0))).unwrap();
        assert_eq!((h.counts, h.below, h.above), (vec![1, 1, 1, 2], 1, 1));
        assert_eq!(histogram(&[3.0, 3.0], 2, None).unwrap().counts, [0, 2]);
        assert!(histogram(&[], 2, None).is_err());
        assert!(histogram(&[1.0], 0, None).is_err());
        assert!(histogram(&[1.0], 2, Some((1.0, 1.0))).is_err());
        assert!(histogram(&[f64::NAN], 2, None).is_err());
    }

    proptest! {
        #[test]
        fn correlations_are_bounded(pairs in prop::collection::vec((-1e6f64..1e6, -1e6f64..1e6), 2..40)) {
            let (a, b): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            for value in [pearson(&a, &b).unwrap(), spearman(&a, &b).unwrap()].into_iter().flatten() {
                prop_assert!((-1.0..=1.0).contains(&value));
            }
        }

        #[test]
        fn histograms_lose_nothing(values in prop::collection::vec(-100f64..100.0, 1..60), bins in 1usize..20) {
            let h = histogram(&values, bins, None).unwrap();
            prop_assert_eq!(h.counts.iter().sum::<usize>(), values.len());
        }
    }
}
