//! How far feedback is followed (arXiv 2506.11930): the accuracy that following it would reach, and what is missing.

use crate::{Bootstrap, Interval, MeasureError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The share that would be solved if feedback were followed: acc(0) + (1 − acc(0)) · q, with q the share of the wrong
/// first answers whose feedback is right and sufficient (reconstructed from the paper's section 4.1).
pub fn target_accuracy(at_once: f64, q: f64) -> f64 {
    at_once + (1.0 - at_once) * q
}

/// One question of a loop with feedback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrictionQuestion {
    /// The first answer is right.
    pub at_once: bool,
    /// It is solved at the end.
    pub solved: bool,
    /// Whether the feedback was right and sufficient; `None` where nobody can tell. Irrelevant when solved at once.
    pub sufficient: Option<bool>,
}

/// Target and gap.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Friction {
    /// Questions.
    pub n: usize,
    /// Questions with a wrong first answer of whose feedback nobody can tell; q is that of the others.
    pub untold: usize,
    /// q: share of the wrong first answers whose feedback is right and sufficient.
    pub q: Interval,
    /// [`target_accuracy`].
    pub target: Interval,
    /// Target less what is solved at the end.
    pub gap: Interval,
}

/// Target and gap with bootstrap intervals over questions; `None` where of no wrong first answer it is known whether its
/// feedback was sufficient.
///
/// # Errors
/// Bad bootstrap settings.
pub fn friction(
    questions: &[FrictionQuestion],
    bootstrap: &Bootstrap,
) -> Result<Option<Friction>, MeasureError> {
    let what = "feedback friction";
    if questions.is_empty() {
        return Ok(None);
    }
    let unit = |yes: bool| f64::from(u8::from(yes));
    let told = |question: &FrictionQuestion| question.sufficient.filter(|_| !question.at_once);
    let rows: Vec<[f64; 5]> = questions
        .iter()
        .map(|question| {
            let told = told(question);
            [
                unit(question.at_once),
                unit(question.solved),
                unit(told == Some(true)),
                unit(told.is_some()),
                1.0,
            ]
        })
        .collect();
    let share = |sufficient: f64, told: f64| (told > 0.0).then(|| sufficient / told);
    let target = |[at_once, _, sufficient, told, n]: [f64; 5]| {
        share(sufficient, told).map(|q| target_accuracy(at_once / n, q))
    };
    let q = bootstrap.of_sums(what, &rows, |[_, _, sufficient, told, _]| share(sufficient, told))?;
    let whole = bootstrap.of_sums(what, &rows, target)?;
    let gap = bootstrap.of_sums(what, &rows, |sums| target(sums).map(|target| target - sums[1] / sums[4]))?;
    let (Some(q), Some(target), Some(gap)) = (q, whole, gap) else { return Ok(None) };
    let untold = questions.iter().filter(|q| !q.at_once && q.sufficient.is_none()).count();
    Ok(Some(Friction { n: questions.len(), untold, q, target, gap }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quick() -> Bootstrap {
        Bootstrap { resamples: 500, ..Bootstrap::default() }
    }

    /// 8 of 20 at once, then 4, 2, 1 and none; feedback to 11 of the 12 wrong first answers is sufficient.
    fn sheet() -> Vec<FrictionQuestion> {
        (0..20)
            .map(|i| FrictionQuestion { at_once: i < 8, solved: i < 15, sufficient: Some(i != 19) })
            .collect()
    }

    #[test]
    fn numbers_of_the_sheet() {
        let found = friction(&sheet(), &quick()).unwrap().unwrap();
        for (found, expected) in
            [(found.q.value, 11.0 / 12.0), (found.target.value, 0.95), (found.gap.value, 0.2)]
        {
            assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
        }
        assert!(found.gap.low < 0.2 && 0.2 < found.gap.high, "{:?}", found.gap);
        assert_eq!(target_accuracy(0.25, 1.0), 1.0);
    }

    #[test]
    fn feedback_that_nobody_judged_does_not_count_as_sufficient() {
        let mut questions = sheet();
        questions[18].sufficient = None;
        let found = friction(&questions, &quick()).unwrap().unwrap();
        assert_eq!(found.untold, 1);
        assert!((found.q.value - 10.0 / 11.0).abs() < 1e-12);
        questions.iter_mut().for_each(|question| question.sufficient = None);
        assert_eq!(friction(&questions, &quick()).unwrap(), None);
        assert_eq!(friction(&[], &quick()).unwrap(), None);
    }
}
