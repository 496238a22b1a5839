//! What a second try does to a first one (arXiv 2412.19513): keeping right answers (CL) and repairing wrong ones (CS).

use crate::{Bootstrap, Interval, MeasureError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One dialogue: whether the first and the second answer were right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Dialogue {
    /// First answer right.
    pub first: bool,
    /// Second answer right.
    pub second: bool,
}

/// One question: P(a), P(b|a), P(b|¬a), with a = first answer right and b = second answer right.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CorrectionQuestion {
    /// P(a).
    pub first: f64,
    /// P(b|a): a right answer is kept. Irrelevant (0 by convention) when P(a) = 0.
    pub kept: f64,
    /// P(b|¬a): a wrong answer is repaired. Irrelevant (0 by convention) when P(a) = 1.
    pub repaired: f64,
}

impl CorrectionQuestion {
    /// Checks that all three are probabilities.
    ///
    /// # Errors
    /// One of them is NaN or outside [0, 1].
    pub fn new(first: f64, kept: f64, repaired: f64) -> Result<Self, MeasureError> {
        for (name, p) in [("P(a)", first), ("P(b|a)", kept), ("P(b|not a)", repaired)] {
            if !(0.0..=1.0).contains(&p) {
                return Err(MeasureError::value(
                    format!("self-correction, {name}"),
                    format!("`{p}` is not a probability"),
                    "give shares between 0 and 1",
                ));
            }
        }
        Ok(CorrectionQuestion { first, kept, repaired })
    }

    /// Shares over the S dialogues of one question; a share of nothing is 0.
    ///
    /// # Errors
    /// No dialogues.
    pub fn from_dialogues(dialogues: &[Dialogue]) -> Result<Self, MeasureError> {
        if dialogues.is_empty() {
            return Err(MeasureError::empty("self-correction", "give at least one dialogue per question"));
        }
        let count = |first: bool, second: bool| {
            dialogues.iter().filter(|d| d.first == first && d.second == second).count() as f64
        };
        let share = |part: f64, rest: f64| if part + rest > 0.0 { part / (part + rest) } else { 0.0 };
        let (kept, broken) = (count(true, true), count(true, false));
        let (repaired, missed) = (count(false, true), count(false, false));
        Ok(CorrectionQuestion {
            first: (kept + broken) / dialogues.len() as f64,
            kept: share(kept, broken),
            repaired: share(repaired, missed),
        })
    }

    /// From label probabilities: `first[l]` is the probability that the first answer is label l (renormalised here),
    /// `second_gold[l]` the probability of the gold label when l was the first answer.
    ///
    /// P(a) = p₁(gold), P(b|a) = p₂(gold|gold), P(b|¬a) = Σ_{l≠gold} p₁(l) p₂(gold|l) / (1 − p₁(gold)).
    ///
    /// # Errors
    /// Lengths differ, `gold` is no label, or a value is no probability.
    pub fn from_labels(first: &[f64], second_gold: &[f64], gold: usize) -> Result<Self, MeasureError> {
        if first.len() != second_gold.len() {
            return Err(MeasureError::length(
                "self-correction, label probabilities",
                first.len(),
                second_gold.len(),
                "give both lists for the same labels",
            ));
        }
        let total = first.iter().sum::<f64>();
        let usable = first.iter().all(|p| p.is_finite() && *p >= 0.0) && total > 0.0;
        let (Some(&right), Some(&kept), true) = (first.get(gold), second_gold.get(gold), usable) else {
            return Err(MeasureError::value(
                "self-correction, label probabilities",
                format!("gold label {gold} of {} labels, probabilities {first:?}", first.len()),
                "give a probability per label, not all zero, and the index of the gold label",
            ));
        };
        let right = right / total;
        let mut repaired = 0.0;
        let mut wrong = 0.0;
        for (label, (p, gold_after)) in first.iter().zip(second_gold).enumerate() {
            if label != gold {
                repaired += p / total * gold_after;
                wrong += p / total;
            }
        }
        CorrectionQuestion::new(right.min(1.0), kept, if wrong > 0.0 { repaired / wrong } else { 0.0 })
    }
}

/// The 2×2 table of first and second answers, as shares that add up to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Transitions {
    /// Right, then right.
    pub kept: f64,
    /// Right, then wrong.
    pub broken: f64,
    /// Wrong, then right.
    pub repaired: f64,
    /// Wrong, then wrong.
    pub missed: f64,
}

/// Accuracies and their decomposition. A quantity that is undefined is `None`, never 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SelfCorrection {
    /// Questions.
    pub n: usize,
    /// Acc₁ = mean P(a).
    pub acc1: f64,
    /// Acc₂ = mean [P(a) P(b|a) + (1 − P(a)) P(b|¬a)].
    pub acc2: f64,
    /// Confidence level CL = Σ P(a) P(b|a) / Σ P(a); undefined when Acc₁ = 0.
    pub cl: Option<f64>,
    /// Critique score CS = Σ (1 − P(a)) P(b|¬a) / Σ (1 − P(a)); undefined when Acc₁ = 1.
    pub cs: Option<f64>,
    /// Relative self-correction score (Acc₂ − Acc₁²) / (2 Acc₁ (1 − Acc₁)); above 0.5 correction helps. Undefined when
    /// Acc₁ is 0 or 1, not clipped.
    pub rss: Option<f64>,
    /// Empirical lower bound of Acc₂: Acc₁².
    pub lower_bound: f64,
    /// Empirical upper bound of Acc₂: 2 Acc₁ − Acc₁².
    pub upper_bound: f64,
    /// The 2×2 table.
    pub transitions: Transitions,
}

/// [`SelfCorrection`] with bootstrap intervals over questions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SelfCorrectionIntervals {
    /// Questions.
    pub n: usize,
    /// First accuracy.
    pub acc1: Interval,
    /// Second accuracy.
    pub acc2: Interval,
    /// Acc₂ − Acc₁.
    pub gain: Interval,
    /// Confidence level.
    pub cl: Option<Interval>,
    /// Critique score.
    pub cs: Option<Interval>,
    /// Relative self-correction score.
    pub rss: Option<Interval>,
    /// The 2×2 table.
    pub transitions: Transitions,
}

/// RSS from the two accuracies; `None` when it is undefined.
pub fn relative_self_correction(acc1: f64, acc2: f64) -> Option<f64> {
    let scale = 2.0 * acc1 * (1.0 - acc1);
    (scale > 0.0).then(|| (acc2 - acc1 * acc1) / scale)
}

/// Sums over questions of P(a), P(a)P(b|a), (1−P(a))P(b|¬a), and 1.
fn row(question: &CorrectionQuestion) -> [f64; 4] {
    let wrong = 1.0 - question.first;
    [question.first, question.first * question.kept, wrong * question.repaired, 1.0]
}

fn quotient(part: f64, whole: f64) -> Option<f64> {
    // Sums of shares that should be zero may be off by rounding.
    (whole > 1e-12).then(|| part / whole)
}

/// Decomposes the effect of a second answer.
///
/// Questions weigh equally in the accuracies; within CL and CS each weighs by its P(a) or 1 − P(a). The identity
/// Acc₂ = Acc₁ · CL + (1 − Acc₁) · CS holds whenever both are defined.
///
/// # Errors
/// No questions, or a value that is no probability.
pub fn self_correction(questions: &[CorrectionQuestion]) -> Result<SelfCorrection, MeasureError> {
    let rows = checked_rows(questions)?;
    let mut sums = [0.0; 4];
    for row in &rows {
        for (s, r) in sums.iter_mut().zip(row) {
            *s += r;
        }
    }
    let [right, kept, repaired, n] = sums;
    let (acc1, acc2) = (right / n, (kept + repaired) / n);
    Ok(SelfCorrection {
        n: questions.len(),
        acc1,
        acc2,
        cl: quotient(kept, right),
        cs: quotient(repaired, n - right),
        rss: quotient(kept, right)
            .and(quotient(repaired, n - right))
            .and(relative_self_correction(acc1, acc2)),
        lower_bound: acc1 * acc1,
        upper_bound: 2.0 * acc1 - acc1 * acc1,
        transitions: transitions(&sums),
    })
}

/// As [`self_correction`], with bootstrap intervals over questions.
///
/// # Errors
/// As [`self_correction`], or bad bootstrap settings.
pub fn self_correction_intervals(
    questions: &[CorrectionQuestion],
    bootstrap: &Bootstrap,
) -> Result<SelfCorrectionIntervals, MeasureError> {
    let rows = checked_rows(questions)?;
    let what = "self-correction";
    let always = |statistic: fn([f64; 4]) -> f64| -> Result<Interval, MeasureError> {
        bootstrap
            .of_sums(what, &rows, move |s| Some(statistic(s)))?
            .ok_or_else(|| MeasureError::empty(what, "give at least one question"))
    };
    let plain = self_correction(questions)?;
    let rss =
        |[right, kept, repaired, n]: [f64; 4]| relative_self_correction(right / n, (kept + repaired) / n);
    Ok(SelfCorrectionIntervals {
        n: questions.len(),
        acc1: always(|[right, _, _, n]| right / n)?,
        acc2: always(|[_, kept, repaired, n]| (kept + repaired) / n)?,
        gain: always(|[right, kept, repaired, n]| (kept + repaired - right) / n)?,
        cl: bootstrap.of_sums(what, &rows, |[right, kept, ..]| quotient(kept, right))?,
        cs: bootstrap.of_sums(what, &rows, |[right, _, repaired, n]| quotient(repaired, n - right))?,
        rss: if plain.rss.is_some() { bootstrap.of_sums(what, &rows, rss)? } else { None },
        transitions: plain.transitions,
    })
}

fn checked_rows(questions: &[CorrectionQuestion]) -> Result<Vec<[f64; 4]>, MeasureError> {
    if questions.is_empty() {
        return Err(MeasureError::empty("self-correction", "give at least one question"));
    }
    questions.iter().map(|q| CorrectionQuestion::new(q.first, q.kept, q.repaired).map(|q| row(&q))).collect()
}

fn transitions(&[right, kept, repaired, n]: &[f64; 4]) -> Transitions {
    Transitions {
        kept: kept / n,
        broken: (right - kept) / n,
        repaired: repaired / n,
        missed: (n - right - repaired) / n,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} is not {b}");
    }

    fn dialogues(first: [u8; 4], second: [u8; 4]) -> CorrectionQuestion {
        let list: Vec<Dialogue> =
            first.iter().zip(&second).map(|(&a, &b)| Dialogue { first: a == 1, second: b == 1 }).collect();
        CorrectionQuestion::from_dialogues(&list).unwrap()
    }

    fn sheet() -> Vec<CorrectionQuestion> {
        vec![
            dialogues([1, 1, 1, 0], [1, 1, 0, 1]),
            dialogues([1, 0, 0, 0], [1, 0, 1, 0]),
            dialogues([1, 1, 1, 1], [1, 1, 1, 0]),
        ]
    }

    #[test]
    fn numbers_of_the_sheet() {
        let questions = sheet();
        let expected = [(0.75, 2.0 / 3.0, 1.0), (0.25, 1.0, 1.0 / 3.0), (1.0, 0.75, 0.0)];
        for (q, (first, kept, repaired)) in questions.iter().zip(expected) {
            close(q.first, first);
            close(q.kept, kept);
            close(q.repaired, repaired);
        }
        let s = self_correction(&questions).unwrap();
        close(s.acc1, 2.0 / 3.0);
        close(s.acc2, 2.0 / 3.0);
        close(s.cl.unwrap(), 0.75);
        close(s.cs.unwrap(), 0.5);
        close(s.rss.unwrap(), 0.5);
        let t = s.transitions;
        close(t.kept + t.broken + t.repaired + t.missed, 1.0);
        close(t.kept + t.repaired, s.acc2);
        close(relative_self_correction(0.6, 0.62).unwrap(), 0.541_666_666_666_666_7);
        let bounds = self_correction(&[CorrectionQuestion::new(0.6, 0.5, 0.8).unwrap()]).unwrap();
        close(bounds.lower_bound, 0.36);
        close(bounds.upper_bound, 0.84);
        close(bounds.acc2, 0.62);
    }

    /// Cross-critique of ten solutions, half of them right (arXiv 2501.14492): 4 stay right, 1 breaks, 2 of 5 are
    /// repaired; then self-critique of ten own solutions, seven right; then a parrot.
    #[test]
    fn closed_loop_numbers() {
        let score = |kept: usize, broken: usize, repaired: usize, missed: usize| {
            let one =
                |first, second| CorrectionQuestion::from_dialogues(&[Dialogue { first, second }]).unwrap();
            let mut questions = vec![one(true, true); kept];
            questions.extend(vec![one(true, false); broken]);
            questions.extend(vec![one(false, true); repaired]);
            questions.extend(vec![one(false, false); missed]);
            self_correction(&questions).unwrap()
        };
        let cross = score(4, 1, 2, 3);
        close(cross.acc1, 0.5);
        close(cross.acc2, 0.6);
        close(cross.cl.unwrap(), 0.8);
        close(cross.cs.unwrap(), 0.4);
        let own = score(5, 2, 1, 2);
        close(own.acc2 - own.acc1, -0.1);
        let parrot = score(5, 0, 0, 5);
        assert_eq!((parrot.acc2 - parrot.acc1, parrot.cl, parrot.cs), (0.0, Some(1.0), Some(0.0)));
    }

    #[test]
    fn undefined_is_none() {
        let all = self_correction(&[CorrectionQuestion::new(1.0, 0.9, 0.0).unwrap()]).unwrap();
        assert_eq!((all.cs, all.rss), (None, None));
        close(all.cl.unwrap(), 0.9);
        let none = self_correction(&[CorrectionQuestion::new(0.0, 0.0, 0.3).unwrap()]).unwrap();
        assert_eq!((none.cl, none.rss), (None, None));
        close(none.cs.unwrap(), 0.3);
        let b = Bootstrap { resamples: 200, ..Bootstrap::default() };
        let intervals =
            self_correction_intervals(&[CorrectionQuestion::new(1.0, 0.9, 0.0).unwrap()], &b).unwrap();
        assert_eq!((intervals.cs, intervals.rss), (None, None));
    }

    #[test]
    fn rss_is_not_clipped() {
        let s = self_correction(&[CorrectionQuestion::new(0.2, 1.0, 1.0).unwrap()]).unwrap();
        assert!(s.rss.unwrap() > 2.0, "{s:?}");
    }

    #[test]
    fn labels_and_dialogues_mean_the_same() {
        // p1 = (.5, .3, .2), gold 0: P(b|not a) = (.3·.4 + .2·.1) / .5
        let q = CorrectionQuestion::from_labels(&[0.5, 0.3, 0.2], &[0.9, 0.4, 0.1], 0).unwrap();
        close(q.first, 0.5);
        close(q.kept, 0.9);
        close(q.repaired, 0.28);
        let unnormalised = CorrectionQuestion::from_labels(&[5.0, 3.0, 2.0], &[0.9, 0.4, 0.1], 0).unwrap();
        close(unnormalised.repaired, 0.28);
        assert!(CorrectionQuestion::from_labels(&[0.5, 0.5], &[0.1, 0.1], 2).is_err());
        assert!(CorrectionQuestion::from_labels(&[0.0, 0.0], &[0.1, 0.1], 0).is_err());
        assert!(CorrectionQuestion::from_labels(&[1.0], &[0.1, 0.1], 0).is_err());
    }

    #[test]
    fn intervals_hold_the_estimates() {
        let questions: Vec<_> = sheet().into_iter().cycle().take(60).collect();
        let b = Bootstrap { resamples: 2000, ..Bootstrap::default() };
        let i = self_correction_intervals(&questions, &b).unwrap();
        for interval in [Some(i.acc1), Some(i.acc2), Some(i.gain), i.cl, i.cs, i.rss] {
            let interval = interval.unwrap();
            assert!(interval.low <= interval.value && interval.value <= interval.high, "{interval:?}");
            assert!(interval.low < interval.high, "{interval:?}");
        }
        close(i.cl.unwrap().value, 0.75);
    }

    #[test]
    fn bad_input_is_refused() {
        assert!(self_correction(&[]).is_err());
        assert!(CorrectionQuestion::from_dialogues(&[]).is_err());
        let bad = CorrectionQuestion { first: 1.5, kept: 0.0, repaired: 0.0 };
        assert!(self_correction(&[bad]).unwrap_err().to_string().contains("P(a)"));
    }

    proptest! {
        #[test]
        fn identity(rows in prop::collection::vec((0.0f64..=1.0, 0.0f64..=1.0, 0.0f64..=1.0), 1..50)) {
            let questions: Vec<_> =
                rows.iter().map(|&(a, b, c)| CorrectionQuestion::new(a, b, c).unwrap()).collect();
            let s = self_correction(&questions).unwrap();
            if let (Some(cl), Some(cs)) = (s.cl, s.cs) {
                prop_assert!((s.acc2 - (s.acc1 * cl + (1.0 - s.acc1) * cs)).abs() < 1e-9);
            }
        }

        #[test]
        fn identity_of_logs(log in prop::collection::vec(prop::collection::vec((any::<bool>(), any::<bool>()), 1..8), 1..30)) {
            let questions: Vec<_> = log.iter().map(|d| {
                let d: Vec<_> = d.iter().map(|&(first, second)| Dialogue { first, second }).collect();
                CorrectionQuestion::from_dialogues(&d).unwrap()
            }).collect();
            let s = self_correction(&questions).unwrap();
            let rest = (1.0 - s.acc1) * s.cs.unwrap_or(0.0);
            prop_assert!((s.acc2 - (s.acc1 * s.cl.unwrap_or(0.0) + rest)).abs() < 1e-9);
        }
    }
}
