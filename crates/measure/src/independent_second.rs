//! What a second answer is worth that knows nothing of the first: the baseline of self-correction (arXiv 2412.19513).

use crate::{Bootstrap, CorrectionQuestion, Dialogue, Interval, MeasureError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

impl CorrectionQuestion {
    /// What the S dialogues of one question would be if every second answer were an independent sample of the first ones:
    /// the first answer of another dialogue stands in its place, over all ordered pairs of two different dialogues. With k of
    /// S first answers right, P(a) = k/S, P(b|a) = (k − 1)/(S − 1), P(b|¬a) = k/(S − 1); so P(b) = P(a), without bias. A
    /// share of nothing is 0. `None` with fewer than two dialogues.
    pub fn independent(dialogues: &[Dialogue]) -> Option<Self> {
        let (right, all) = (dialogues.iter().filter(|d| d.first).count(), dialogues.len());
        let others = all.checked_sub(1).filter(|others| *others > 0)? as f64;
        Some(CorrectionQuestion {
            first: right as f64 / all as f64,
            kept: right.saturating_sub(1) as f64 / others,
            repaired: if right < all { right as f64 / others } else { 0.0 },
        })
    }
}

/// CL and CS of independent second answers, and how far those of the dialogues lie above. A quantity that is undefined is
/// `None`, never 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct IndependentSecond {
    /// Questions with two dialogues or more; the others tell nothing of it.
    pub n: usize,
    /// Accuracy of a second answer, which is that of the first.
    pub acc: Interval,
    /// CL of an independent second answer; undefined when no first answer is right.
    pub cl: Option<Interval>,
    /// CS of an independent second answer: about the first accuracy on the questions not yet solved.
    pub cs: Option<Interval>,
    /// CL of the dialogues less that, on the same questions.
    pub cl_above: Option<Interval>,
    /// CS of the dialogues less that, on the same questions.
    pub cs_above: Option<Interval>,
}

/// [`IndependentSecond`] of the dialogues of each question, with bootstrap intervals over questions, the differences
/// paired; `None` when no question has two dialogues: then nothing tells correction from sampling noise.
///
/// # Errors
/// Bad bootstrap settings.
pub fn independent_second(
    questions: &[Vec<Dialogue>],
    bootstrap: &Bootstrap,
) -> Result<Option<IndependentSecond>, MeasureError> {
    let what = "independent second answers";
    let mut rows: Vec<[f64; 6]> = Vec::with_capacity(questions.len());
    for dialogues in questions {
        let Some(alone) = CorrectionQuestion::independent(dialogues) else { continue };
        let held = CorrectionQuestion::from_dialogues(dialogues)?;
        let (right, wrong) = (held.first, 1.0 - held.first);
        rows.push([
            right,
            wrong,
            right * alone.kept,
            wrong * alone.repaired,
            right * held.kept,
            wrong * held.repaired,
        ]);
    }
    if rows.is_empty() {
        return Ok(None);
    }
    // Sums of shares that should be zero may be off by rounding.
    let share = |part: f64, whole: f64| (whole > 1e-12).then(|| part / whole);
    let acc = bootstrap.of_sums(what, &rows, |[right, wrong, ..]| share(right, right + wrong))?;
    let Some(acc) = acc else { return Ok(None) };
    Ok(Some(IndependentSecond {
        n: rows.len(),
        acc,
        cl: bootstrap.of_sums(what, &rows, |[right, _, kept, ..]| share(kept, right))?,
        cs: bootstrap.of_sums(what, &rows, |[_, wrong, _, repaired, ..]| share(repaired, wrong))?,
        cl_above: bootstrap
            .of_sums(what, &rows, |[right, _, alone, _, kept, _]| share(kept - alone, right))?,
        cs_above: bootstrap
            .of_sums(what, &rows, |[_, wrong, _, alone, _, repaired]| share(repaired - alone, wrong))?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn dialogues(first: &[u8], second: &[u8]) -> Vec<Dialogue> {
        first.iter().zip(second).map(|(&a, &b)| Dialogue { first: a == 1, second: b == 1 }).collect()
    }

    fn quick() -> Bootstrap {
        Bootstrap { resamples: 200, ..Bootstrap::default() }
    }

    #[test]
    fn the_dialogues_of_the_sheet_are_no_more_than_resampling() {
        let sheet = [
            dialogues(&[1, 1, 1, 0], &[1, 1, 0, 1]),
            dialogues(&[1, 0, 0, 0], &[1, 0, 1, 0]),
            dialogues(&[1, 1, 1, 1], &[1, 1, 1, 0]),
        ];
        let alone: Vec<_> = sheet.iter().filter_map(|d| CorrectionQuestion::independent(d)).collect();
        let shares: Vec<_> = alone.iter().map(|q| (q.first, q.kept, q.repaired)).collect();
        assert_eq!(shares, [(0.75, 2.0 / 3.0, 1.0), (0.25, 0.0, 1.0 / 3.0), (1.0, 1.0, 0.0)]);
        let found = independent_second(&sheet, &quick()).unwrap().unwrap();
        let value = |interval: Option<Interval>| interval.unwrap().value;
        for (found, expected) in [
            (found.acc.value, 2.0 / 3.0),
            (value(found.cl), 0.75),
            (value(found.cs), 0.5),
            (value(found.cl_above), 0.0),
            (value(found.cs_above), 0.0),
        ] {
            assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
        }
    }

    #[test]
    fn what_critique_adds_stands_above_it() {
        let questions = vec![dialogues(&[1, 1, 0, 0], &[1, 1, 1, 1]); 30];
        let found = independent_second(&questions, &quick()).unwrap().unwrap();
        // CL = 1 and CS = 1, where another sample has 1/3 and 2/3.
        assert!((found.cl_above.unwrap().value - 2.0 / 3.0).abs() < 1e-12, "{found:?}");
        assert!((found.cs_above.unwrap().value - 1.0 / 3.0).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn one_dialogue_tells_nothing_and_undefined_is_none() {
        let one = vec![dialogues(&[1], &[0]); 5];
        assert_eq!(independent_second(&one, &quick()).unwrap(), None);
        assert_eq!(independent_second(&[], &quick()).unwrap(), None);
        let mixed = [dialogues(&[0], &[1]), dialogues(&[1, 1], &[1, 1])];
        let found = independent_second(&mixed, &quick()).unwrap().unwrap();
        assert_eq!((found.n, found.cs, found.cs_above), (1, None, None), "no first answer is wrong");
    }

    proptest! {
        #[test]
        fn a_second_sample_is_as_good_as_the_first(firsts in prop::collection::vec(any::<bool>(), 2..12)) {
            let list: Vec<_> = firsts.iter().map(|&first| Dialogue { first, second: false }).collect();
            let q = CorrectionQuestion::independent(&list).unwrap();
            let second = q.first * q.kept + (1.0 - q.first) * q.repaired;
            prop_assert!((second - q.first).abs() < 1e-12);
            // Against the definition: pairs of different dialogues.
            let (mut kept, mut pairs) = (0, 0);
            for (i, first) in firsts.iter().enumerate() {
                for (j, second) in firsts.iter().enumerate() {
                    if i != j && *first {
                        pairs += 1;
                        kept += usize::from(*second);
                    }
                }
            }
            if pairs > 0 {
                prop_assert!((q.kept - kept as f64 / pairs as f64).abs() < 1e-12);
            }
        }
    }
}
