//! Temperature scaling of stated probabilities: one number, fitted on judgements that are not the measured ones.

use crate::{Judgement, Judgements, MeasureError};

/// Probabilities are moved this far from 0 and 1 before their log-odds are taken.
const CLAMP: f64 = 1e-9;
/// The temperatures that are looked at, as powers of e: 1/20 to 20.
const LOG_RANGE: f64 = 3.0;
/// Steps of the golden section: the range shrinks by 0.618 in each, to below 1e-8.
const STEPS: usize = 44;

/// A probability at another temperature: p' = σ(log(p / (1 − p)) / T). T = 1 changes nothing, above 1 moves towards one
/// half; the order never changes.
pub fn at_temperature(probability: f64, temperature: f64) -> f64 {
    let p = probability.clamp(CLAMP, 1.0 - CLAMP);
    1.0 / (1.0 + (-(p / (1.0 - p)).ln() / temperature).exp())
}

/// The temperature with the least negative log-likelihood on these judgements (Guo et al. 2017, arXiv 1706.04599; one
/// temperature mends most of what preference training breaks: arXiv 2207.05221, section 3.4). The loss is convex in 1/T,
/// so a golden section over 1/20 ≤ T ≤ 20 finds it; an end of this range means that there is no best one within.
///
/// # Errors
/// No judgements, or a confidence that is no probability.
pub fn fit_temperature(judgements: &[Judgement]) -> Result<f64, MeasureError> {
    Judgements::new(judgements.iter().copied())?;
    let loss = |log_temperature: f64| -> f64 {
        let temperature = log_temperature.exp();
        judgements
            .iter()
            .map(|j| {
                let p = at_temperature(j.confidence, temperature);
                -(if j.correct { p } else { 1.0 - p }).max(f64::MIN_POSITIVE).ln()
            })
            .sum()
    };
    let section = (5.0f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = (-LOG_RANGE, LOG_RANGE);
    let (mut left, mut right) = (high - section * (high - low), low + section * (high - low));
    let (mut at_left, mut at_right) = (loss(left), loss(right));
    for _ in 0..STEPS {
        if at_left <= at_right {
            (high, right, at_right) = (right, left, at_left);
            left = high - section * (high - low);
            at_left = loss(left);
        } else {
            (low, left, at_left) = (left, right, at_right);
            right = low + section * (high - low);
            at_right = loss(right);
        }
    }
    Ok(((low + high) / 2.0).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(confidence: f64, correct: bool) -> Judgement {
        Judgement { confidence, correct }
    }

    #[test]
    fn a_temperature_moves_log_odds_and_keeps_the_order() {
        assert!((at_temperature(0.8, 1.0) - 0.8).abs() < 1e-12);
        // log-odds ln 9 halved: odds of 3.
        assert!((at_temperature(0.9, 2.0) - 0.75).abs() < 1e-12);
        assert!((at_temperature(0.5, 7.0) - 0.5).abs() < 1e-12);
        assert!(at_temperature(1.0, 2.0) < 1.0 && at_temperature(0.0, 2.0) > 0.0, "ends stay finite");
    }

    #[test]
    fn the_temperature_that_was_put_in_is_found() {
        // Right with the stated frequency, then sharpened by T = 1/2.5: fitting undoes it.
        let mut judgements = Vec::new();
        for (p, n) in [(0.6, 100), (0.7, 100), (0.9, 100), (0.2, 100)] {
            let stated = at_temperature(p, 1.0 / 2.5);
            let right = (p * f64::from(n)).round() as usize;
            judgements.extend((0..n as usize).map(|i| told(stated, i < right)));
        }
        let fitted = fit_temperature(&judgements).unwrap();
        assert!((fitted - 2.5).abs() < 1e-3, "{fitted}");
    }

    #[test]
    fn judgements_that_are_always_right_ask_for_the_sharpest_and_nothing_is_an_error() {
        let sharpest = fit_temperature(&[told(0.7, true), told(0.2, false)]).unwrap();
        assert!(sharpest < 0.06, "{sharpest}");
        assert!(fit_temperature(&[]).is_err());
        assert!(fit_temperature(&[told(1.5, true)]).is_err());
    }
}
