//! What the consistency of the answers says about their being right (arXiv 2407.14507): consistency is not correctness,
//! and these numbers say how far apart they are.

use crate::{Binning, Bootstrap, CalibrationErrors, Interval, Judgement, Judgements, MeasureError, auroc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Resamples of statistics that sort all questions anew.
const RESAMPLES: usize = 2_000;

/// Consistency beside correctness, over questions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConsistencyReport {
    /// Questions.
    pub questions: usize,
    /// Mean c.
    pub consistency: Interval,
    /// Share of answers that are right.
    pub right: Interval,
    /// Chance that a right answer is more consistent than a wrong one; `None` when all or none are right.
    pub auroc: Option<Interval>,
    /// Expected calibration error of c, taken for a probability of being right.
    pub ece: CalibrationErrors,
    /// From which c on answers are called consistent.
    pub enough: f64,
    /// Consistent answers that are wrong, as a share of all questions.
    pub consistent_and_wrong: Interval,
}

impl ConsistencyReport {
    /// Of c in [0, 1] and whether the answer is right, one pair per question.
    ///
    /// # Errors
    /// No question, or a c outside [0, 1].
    pub fn of(scored: &[(f64, bool)], enough: f64, bootstrap: &Bootstrap) -> Result<Self, MeasureError> {
        let judgements = scored.iter().map(|&(confidence, correct)| Judgement { confidence, correct });
        let judgements = Judgements::new(judgements)?;
        let mean = |value: &dyn Fn(&(f64, bool)) -> f64| {
            bootstrap.mean(&scored.iter().map(value).collect::<Vec<_>>())
        };
        Ok(ConsistencyReport {
            questions: scored.len(),
            consistency: mean(&|one| one.0)?,
            right: mean(&|one| f64::from(u8::from(one.1)))?,
            auroc: auroc_interval(bootstrap, "AUROC of the consistency", scored)?,
            ece: CalibrationErrors {
                equal_width: judgements.ece(Binning::EqualWidth, crate::BINS)?,
                equal_mass: judgements.ece(Binning::EqualMass, crate::BINS)?,
            },
            enough,
            consistent_and_wrong: mean(&|one| f64::from(u8::from(one.0 >= enough && !one.1)))?,
        })
    }
}

/// AUROC of scores over questions with its interval; `None` when all or none are right.
///
/// # Errors
/// No question, or bad settings of the bootstrap.
pub fn auroc_interval(
    bootstrap: &Bootstrap,
    what: &str,
    scored: &[(f64, bool)],
) -> Result<Option<Interval>, MeasureError> {
    let of = |counts: &[u32]| {
        let repeated =
            scored.iter().zip(counts).flat_map(|(&one, &count)| std::iter::repeat_n(one, count as usize));
        let (scores, right): (Vec<f64>, Vec<bool>) = repeated.unzip();
        auroc(&scores, &right).ok().flatten()
    };
    Bootstrap { resamples: RESAMPLES, ..*bootstrap }.of_counts(what, scored.len(), of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_that_sorts_perfectly_has_an_auroc_of_one() {
        let scored: Vec<(f64, bool)> = (0..40).map(|i| (f64::from(i), i >= 20)).collect();
        let found = auroc_interval(&Bootstrap::default(), "t", &scored).unwrap().unwrap();
        assert_eq!((found.value, found.low), (1.0, 1.0));
        assert!(auroc_interval(&Bootstrap::default(), "t", &[(0.1, true)]).unwrap().is_none());
    }

    #[test]
    fn consistent_and_wrong_is_a_share_of_all_questions() {
        // Right ones at 1 and 0.6, wrong ones at 1 and 0.2; each five times.
        let kinds = [(1.0, true), (0.6, true), (1.0, false), (0.2, false)];
        let scored: Vec<(f64, bool)> = kinds.into_iter().cycle().take(20).collect();
        let found = ConsistencyReport::of(&scored, 0.6, &Bootstrap::default()).unwrap();
        assert_eq!((found.questions, found.right.value), (20, 0.5));
        assert!((found.consistency.value - 0.7).abs() < 1e-12);
        assert_eq!(found.consistent_and_wrong.value, 0.25);
        // (1 against 1: one half; 1 against 0.2: 1; 0.6 against 1: 0; 0.6 against 0.2: 1) / 4.
        assert_eq!(found.auroc.unwrap().value, 0.625);
        // |0.2 - 0| / 4 + |0.6 - 1| / 4 + |1 - 0.5| / 2.
        assert!((found.ece.equal_width - 0.4).abs() < 1e-12, "{:?}", found.ece);
        assert!(ConsistencyReport::of(&[(1.2, true)], 0.6, &Bootstrap::default()).is_err());
        assert!(ConsistencyReport::of(&[], 0.6, &Bootstrap::default()).is_err(), "no question, no number");
    }
}
