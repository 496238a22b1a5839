//! Internal consistency of a model's expressions of one query (arXiv 2407.14507, section on formulation).
//!
//! Expressions are labels: answers normalised before, tokens, options. For free texts these numbers mean nothing.

use crate::MeasureError;
use crate::error::finite;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How well n expressions of one query agree. Different n compare by [`Consistency::agreement`] alone: entropy and the
/// unique ratio depend on n, and dividing by log2 n makes up for that only in part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Consistency {
    /// n.
    pub count: usize,
    /// H = −Σ p log2 p over distinct expressions, bits; the survey's estimate of consistency is −H.
    pub entropy_bits: f64,
    /// c = 1 − H / log2 n, in [0, 1]; `None` for one expression.
    pub normalised: Option<f64>,
    /// Distinct expressions / n.
    pub unique_ratio: f64,
    /// Share of the n (n − 1) / 2 pairs that agree, an unbiased estimate of Σ p² at any n; `None` for one expression.
    pub agreement: Option<f64>,
    /// Index of the first expression of the most frequent kind; of equals the one seen first.
    pub majority: usize,
    /// Share of that kind.
    pub majority_share: f64,
}

/// The consistency of labels that are equal exactly when they mean the same.
///
/// # Errors
/// No label.
pub fn consistency<L: Ord>(labels: &[L]) -> Result<Consistency, MeasureError> {
    if labels.is_empty() {
        return Err(MeasureError::empty("consistency", "sample at least one expression"));
    }
    let mut kinds: BTreeMap<&L, (usize, usize)> = BTreeMap::new();
    for (index, label) in labels.iter().enumerate() {
        kinds.entry(label).or_insert((index, 0)).1 += 1;
    }
    let n = labels.len() as f64;
    let shares = || kinds.values().map(|&(_, count)| count as f64 / n);
    // Of one kind only, the sum is -0.
    let entropy_bits = (-shares().map(|p| p * p.log2()).sum::<f64>()).max(0.0);
    let pairs = |count: f64| count * (count - 1.0) / 2.0;
    let agreeing: f64 = kinds.values().map(|&(_, count)| pairs(count as f64)).sum();
    let several = labels.len() > 1;
    let (majority, most) = kinds.values().copied().fold((0, 0), |best, (first, count)| {
        if count > best.1 || (count == best.1 && first < best.0) { (first, count) } else { best }
    });
    Ok(Consistency {
        count: labels.len(),
        entropy_bits,
        normalised: several.then(|| (1.0 - entropy_bits / n.log2()).clamp(0.0, 1.0)),
        unique_ratio: kinds.len() as f64 / n,
        agreement: several.then(|| agreeing / pairs(n)),
        majority,
        majority_share: most as f64 / n,
    })
}

/// D(Y) = E[(Y − E Y)²], the population variance of numeric expressions; the survey's estimate of consistency is −D.
///
/// # Errors
/// No value, or one that is not finite.
pub fn population_variance(values: &[f64]) -> Result<f64, MeasureError> {
    if values.is_empty() {
        return Err(MeasureError::empty("population variance", "sample at least one value"));
    }
    finite("population variance", values)?;
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    Ok(values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / n)
}

/// Eigenvalues of the covariance of n vectors `[n][d]` (divided by n), largest first, min(n, d) of them. For last-token
/// states of several responses: a small spread says that the responses say the same.
///
/// # Errors
/// No vector, vectors of different or no length, a number that is not finite.
pub fn covariance_spectrum(vectors: &[Vec<f32>]) -> Result<Vec<f64>, MeasureError> {
    const WHAT: &str = "covariance spectrum";
    let (n, d) = (vectors.len(), vectors.first().map_or(0, Vec::len));
    if n == 0 || d == 0 {
        return Err(MeasureError::empty(WHAT, "give the states of at least one response"));
    }
    if let Some(other) = vectors.iter().find(|vector| vector.len() != d) {
        return Err(MeasureError::length(
            WHAT,
            d,
            other.len(),
            "take all states from one layer of one model",
        ));
    }
    let wide: Vec<Vec<f64>> =
        vectors.iter().map(|vector| vector.iter().map(|&number| f64::from(number)).collect()).collect();
    for vector in &wide {
        finite(WHAT, vector)?;
    }
    let mean: Vec<f64> = (0..d).map(|i| wide.iter().map(|v| v[i]).sum::<f64>() / n as f64).collect();
    let centred: Vec<Vec<f64>> =
        wide.iter().map(|v| v.iter().zip(&mean).map(|(x, m)| x - m).collect()).collect();
    // X Xᵀ and Xᵀ X have the same eigenvalues but for zeros: take the smaller one.
    let size = n.min(d);
    let entry = |i: usize, j: usize| -> f64 {
        match n <= d {
            true => centred[i].iter().zip(&centred[j]).map(|(a, b)| a * b).sum(),
            false => centred.iter().map(|v| v[i] * v[j]).sum(),
        }
    };
    let matrix = (0..size).map(|i| (0..size).map(|j| entry(i, j) / n as f64).collect()).collect();
    Ok(symmetric_eigenvalues(matrix))
}

/// (1/n) Σ ln(λ + ridge): the logarithm of the volume that the states fill, per response.
///
/// # Errors
/// As [`covariance_spectrum`]; a ridge that is not positive.
pub fn log_spread(vectors: &[Vec<f32>], ridge: f64) -> Result<f64, MeasureError> {
    if !(ridge > 0.0 && ridge.is_finite()) {
        let problem = format!("the ridge is {ridge}");
        return Err(MeasureError::value("log spread", problem, "use a small positive number, such as 0.001"));
    }
    let spectrum = covariance_spectrum(vectors)?;
    let zeros = (vectors.len() - spectrum.len()) as f64 * ridge.ln();
    let sum: f64 = spectrum.iter().map(|eigenvalue| (eigenvalue.max(0.0) + ridge).ln()).sum();
    Ok((sum + zeros) / vectors.len() as f64)
}

/// Eigenvalues of a symmetric matrix by Jacobi rotations, largest first.
fn symmetric_eigenvalues(mut a: Vec<Vec<f64>>) -> Vec<f64> {
    let n = a.len();
    let scale: f64 = a.iter().flatten().map(|x| x * x).sum();
    // Quadratic convergence: a handful of sweeps suffice; the bound only guards against a loop without end.
    for _ in 0..64 {
        let off: f64 = (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| a[i][j] * a[i][j]).sum();
        if off <= 1e-24 * scale {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                if a[p][q] == 0.0 {
                    continue;
                }
                let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let t = if theta == 0.0 { 1.0 } else { t };
                let c = 1.0 / (t * t + 1.0).sqrt();
                let s = t * c;
                for row in &mut a {
                    let (x, y) = (row[p], row[q]);
                    (row[p], row[q]) = (c * x - s * y, s * x + c * y);
                }
                let (upper, lower) = a.split_at_mut(q);
                for (x, y) in upper[p].iter_mut().zip(&mut lower[0]) {
                    (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
                }
            }
        }
    }
    let mut values: Vec<f64> = (0..n).map(|i| a[i][i]).collect();
    values.sort_by(|x, y| y.total_cmp(x));
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The recorded outcomes of the survey: H bits, c, variance, unique ratio, pairwise agreement, majority.
    #[test]
    fn the_table_of_the_sheet() {
        let sets: [(&[i64], [f64; 5], i64); 4] = [
            (&[0, 0, 5, 4, 4, 4], [1.459_148, 0.435_525, 4.138_889, 0.5, 0.266_667], 4),
            (&[4, 4, 3, 4, 4], [0.721_928, 0.689_082, 0.16, 0.4, 0.6], 4),
            (&[5, 3, 3, 3, 3], [0.721_928, 0.689_082, 0.64, 0.4, 0.6], 3),
            (&[4, 3, 3, 4, 3], [0.970_951, 0.581_834, 0.24, 0.4, 0.4], 3),
        ];
        for (labels, wanted, majority) in sets {
            let found = consistency(labels).unwrap();
            let values: Vec<f64> = labels.iter().map(|&label| label as f64).collect();
            let numbers = [
                found.entropy_bits,
                found.normalised.unwrap(),
                population_variance(&values).unwrap(),
                found.unique_ratio,
                found.agreement.unwrap(),
            ];
            for (number, wanted) in numbers.iter().zip(wanted) {
                assert!((number - wanted).abs() < 1e-6, "{labels:?}: {numbers:?} and not {wanted}");
            }
            assert_eq!(labels[found.majority], majority);
        }
    }

    #[test]
    fn the_survey_prints_bits() {
        // "-0.24" and "about -0.971" for GPT-4o; natural logarithms would give 0.673.
        let answers = [4, 3, 3, 4, 3];
        assert_eq!(format!("{:.3}", -consistency(&answers).unwrap().entropy_bits), "-0.971");
        let values = answers.map(f64::from);
        assert_eq!(format!("{:.2}", -population_variance(&values).unwrap()), "-0.24");
    }

    #[test]
    fn one_expression_has_no_pairs() {
        let one = consistency(&["a"]).unwrap();
        assert_eq!((one.normalised, one.agreement, one.entropy_bits), (None, None, 0.0));
        assert!(consistency::<u8>(&[]).is_err() && population_variance(&[]).is_err());
        assert!(population_variance(&[f64::NAN]).is_err());
        let tie = consistency(&["b", "a", "a", "b"]).unwrap();
        assert_eq!(tie.majority, 0, "of equals the one seen first");
    }

    #[test]
    fn the_spectrum_of_known_covariances() {
        // Four corners of a rectangle 4 by 2: variances 4 and 1.
        let corners = vec![vec![2.0, 1.0], vec![2.0, -1.0], vec![-2.0, 1.0], vec![-2.0, -1.0]];
        let spectrum = covariance_spectrum(&corners).unwrap();
        assert!((spectrum[0] - 4.0).abs() < 1e-9 && (spectrum[1] - 1.0).abs() < 1e-9, "{spectrum:?}");
        // The same turned by 30 degrees has the same spectrum, its covariance is not diagonal.
        let (c, s) = (3.0f32.sqrt() / 2.0, 0.5);
        let turned: Vec<Vec<f32>> =
            corners.iter().map(|v| vec![c * v[0] - s * v[1], s * v[0] + c * v[1]]).collect();
        let again = covariance_spectrum(&turned).unwrap();
        assert!(again.iter().zip(&spectrum).all(|(a, b)| (a - b).abs() < 1e-6), "{again:?}");
        // Fewer vectors than dimensions: half the distance along the line.
        let two = covariance_spectrum(&[vec![1.0, 0.0, 2.0], vec![1.0, 4.0, -1.0]]).unwrap();
        assert!((two[0] - 25.0 / 4.0).abs() < 1e-9 && two[1].abs() < 1e-9, "{two:?}");
        let same = vec![vec![1.0, 2.0]; 3];
        assert!(log_spread(&same, 1e-3).unwrap() < log_spread(&corners, 1e-3).unwrap());
        assert!((log_spread(&same, 1e-3).unwrap() - 1e-3f64.ln()).abs() < 1e-9);
        assert!(covariance_spectrum(&[]).is_err() && covariance_spectrum(&[vec![1.0], vec![]]).is_err());
        assert!(log_spread(&same, 0.0).is_err());
    }

    proptest! {
        #[test]
        fn measures_lie_in_their_ranges_and_forget_the_order(labels in prop::collection::vec(0u8..5, 2..20)) {
            let found = consistency(&labels).unwrap();
            prop_assert!((0.0..=1.0).contains(&found.normalised.unwrap()));
            prop_assert!((0.0..=1.0).contains(&found.agreement.unwrap()));
            let mut sorted = labels.clone();
            sorted.sort_unstable();
            let again = consistency(&sorted).unwrap();
            prop_assert!((found.entropy_bits - again.entropy_bits).abs() < 1e-12);
            prop_assert_eq!(found.agreement, again.agreement);
            let unanimous = labels.iter().all(|label| *label == labels[0]);
            prop_assert_eq!(found.agreement == Some(1.0), unanimous);
        }

        #[test]
        fn the_spectrum_adds_up_to_the_variances(
            vectors in prop::collection::vec(prop::collection::vec(-3f32..3.0, 4), 1..7),
        ) {
            let total: f64 = (0..4)
                .map(|i| population_variance(&vectors.iter().map(|v| f64::from(v[i])).collect::<Vec<_>>()).unwrap())
                .sum();
            let spectrum = covariance_spectrum(&vectors).unwrap();
            prop_assert!((spectrum.iter().sum::<f64>() - total).abs() < 1e-6);
            prop_assert!(spectrum.iter().all(|&eigenvalue| eigenvalue > -1e-9));
        }
    }
}
