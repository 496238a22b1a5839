//! How far stated confidences can be trusted: ECE, Brier, NLL, AUROC, AUPRC, reliability, risk against coverage.

use crate::{Interval, MeasureError, accuracy};
use elenchus_trace::JudgementRow;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Bins of an expected calibration error where no number is asked for.
pub const BINS: usize = 10;

/// Probabilities are moved into [`NLL_CLAMP`, 1 − `NLL_CLAMP`] before their logarithm is taken: one judgement that is
/// certain and wrong costs 27.6 nats and not infinity.
pub const NLL_CLAMP: f64 = 1e-12;

/// A stated probability of being right, and whether it was.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Judgement {
    /// In [0, 1].
    pub confidence: f64,
    /// The outcome.
    pub correct: bool,
}

impl From<&JudgementRow> for Judgement {
    fn from(row: &JudgementRow) -> Self {
        Judgement { confidence: row.confidence, correct: row.correct }
    }
}

/// How the interval [0, 1] is divided into bins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Binning {
    /// Bins of equal width, closed on the right: ((m−1)/M, m/M], the first one also holds 0.
    EqualWidth,
    /// Bins of (nearly) equal numbers of judgements; equal confidences are never divided between two bins, so with
    /// few different confidences there are fewer bins than asked for.
    EqualMass,
}

/// One bin of a reliability curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReliabilityBin {
    /// Lower end: of the bin (equal width), or the smallest confidence in it (equal mass).
    pub low: f64,
    /// Upper end: of the bin (equal width), or the largest confidence in it (equal mass).
    pub high: f64,
    /// Judgements in it, at least 1.
    pub count: usize,
    /// Their mean confidence.
    pub confidence: f64,
    /// Their accuracy with its 95 % Wilson interval.
    pub accuracy: Interval,
}

/// One point of a risk-coverage curve: answer only what is at least this sure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CoveragePoint {
    /// Smallest confidence that is answered.
    pub threshold: f64,
    /// Share of questions answered.
    pub coverage: f64,
    /// Share of wrong answers among the answered.
    pub risk: f64,
}

/// Both expected calibration errors.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CalibrationErrors {
    /// With bins of equal width.
    pub equal_width: f64,
    /// With bins of equal numbers.
    pub equal_mass: f64,
}

/// All calibration metrics of a list of judgements.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CalibrationSummary {
    /// Judgements.
    pub n: usize,
    /// Share of right ones.
    pub accuracy: f64,
    /// Mean squared distance of confidence and outcome.
    pub brier: f64,
    /// Mean negative log-likelihood, nats, see [`NLL_CLAMP`].
    pub nll: f64,
    /// Chance that a right one has more confidence than a wrong one; `None` when only one outcome occurs.
    pub auroc: Option<f64>,
    /// Expected calibration errors.
    pub ece: CalibrationErrors,
    /// Bins of the expected calibration errors.
    pub bins: usize,
    /// Average precision for finding the right ones; `None` when there is none.
    pub auprc: Option<f64>,
    /// Area under the risk-coverage curve: mean risk over all coverages.
    pub aurc: f64,
    /// Mean confidence.
    pub confidence: f64,
    /// 95 % Wilson interval of the accuracy.
    pub accuracy_interval: Interval,
}

/// Checked judgements, by rising confidence.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgements {
    sorted: Vec<Judgement>,
    correct: usize,
}

impl Judgements {
    /// Checks and sorts.
    ///
    /// # Errors
    /// No judgements, or a confidence that is NaN or outside [0, 1] (named by its position, 0-based).
    pub fn new(judgements: impl IntoIterator<Item = Judgement>) -> Result<Self, MeasureError> {
        let mut sorted: Vec<Judgement> = judgements.into_iter().collect();
        if sorted.is_empty() {
            return Err(MeasureError::empty("calibration", "give at least one judgement"));
        }
        for (at, judgement) in sorted.iter_mut().enumerate() {
            if !(0.0..=1.0).contains(&judgement.confidence) {
                return Err(MeasureError::value(
                    format!("calibration, judgement {at}"),
                    format!("confidence `{}` is not a probability", judgement.confidence),
                    "confidences are between 0 and 1; divide percentages by 100, turn scores or log-probabilities \
                     into probabilities first",
                ));
            }
            // −0.0 would sort before 0.0 and divide a tie.
            judgement.confidence += 0.0;
        }
        // Non-negative floats order like their bits.
        sorted.sort_unstable_by_key(|j| (j.confidence.to_bits() << 1) | u64::from(j.correct));
        let correct = sorted.iter().filter(|j| j.correct).count();
        Ok(Judgements { sorted, correct })
    }

    /// Number of judgements, at least 1.
    pub fn count(&self) -> usize {
        self.sorted.len()
    }

    /// The judgements by rising confidence.
    pub fn sorted(&self) -> &[Judgement] {
        &self.sorted
    }

    /// Share of right ones with its Wilson interval.
    pub fn accuracy(&self) -> Interval {
        wilson_of(self.correct, self.sorted.len())
    }

    /// Mean confidence.
    pub fn mean_confidence(&self) -> f64 {
        self.mean(|j| j.confidence)
    }

    /// Brier score: mean of (confidence − outcome)², outcome 1 for right and 0 for wrong.
    pub fn brier(&self) -> f64 {
        self.mean(|j| (j.confidence - f64::from(u8::from(j.correct))).powi(2))
    }

    /// Negative log-likelihood in nats: mean of −ln p for right and −ln(1 − p) for wrong, p clamped by [`NLL_CLAMP`].
    pub fn nll(&self) -> f64 {
        self.mean(|j| {
            let p = j.confidence.clamp(NLL_CLAMP, 1.0 - NLL_CLAMP);
            if j.correct { -p.ln() } else { -(1.0 - p).ln() }
        })
    }

    fn mean(&self, value: impl Fn(&Judgement) -> f64) -> f64 {
        self.sorted.iter().map(value).sum::<f64>() / self.sorted.len() as f64
    }

    /// AUROC: the chance that a right judgement has more confidence than a wrong one, ties counted one half; by ranks.
    /// `None` when all are right or all are wrong.
    pub fn auroc(&self) -> Option<f64> {
        let (right, wrong) = (self.correct, self.sorted.len() - self.correct);
        if right == 0 || wrong == 0 {
            return None;
        }
        let (mut wins, mut wrong_below) = (0.0, 0usize);
        for (tied_right, tied_wrong) in self.ties() {
            wins += tied_right as f64 * (wrong_below as f64 + 0.5 * tied_wrong as f64);
            wrong_below += tied_wrong;
        }
        Some(wins / (right as f64 * wrong as f64))
    }

    /// AUPRC as average precision: Σ (recall step) · precision over falling thresholds, tied confidences in one step.
    /// `None` when none is right.
    pub fn auprc(&self) -> Option<f64> {
        if self.correct == 0 {
            return None;
        }
        let groups: Vec<_> = self.ties().collect();
        let (mut found, mut taken, mut area) = (0usize, 0usize, 0.0);
        for &(right, wrong) in groups.iter().rev() {
            found += right;
            taken += right + wrong;
            area += right as f64 * found as f64 / taken as f64;
        }
        Some(area / self.correct as f64)
    }

    /// (right, wrong) of every distinct confidence, rising.
    fn ties(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.sorted.chunk_by(|a, b| a.confidence == b.confidence).map(|tie| {
            let right = tie.iter().filter(|j| j.correct).count();
            (right, tie.len() - right)
        })
    }

    /// Expected calibration error: Σ over bins of (share of judgements) · |accuracy − mean confidence|.
    ///
    /// # Errors
    /// `bins` is 0.
    pub fn ece(&self, binning: Binning, bins: usize) -> Result<f64, MeasureError> {
        Ok(self.bin_sums(binning, bins)?.iter().map(|b| (b.right as f64 - b.confidence).abs()).sum::<f64>()
            / self.sorted.len() as f64)
    }

    /// Root mean square calibration error: √ Σ (share) · (accuracy − mean confidence)².
    ///
    /// # Errors
    /// `bins` is 0.
    pub fn rms_calibration_error(&self, binning: Binning, bins: usize) -> Result<f64, MeasureError> {
        let sum = self
            .bin_sums(binning, bins)?
            .iter()
            .map(|b| (b.right as f64 - b.confidence).powi(2) / b.count as f64)
            .sum::<f64>();
        Ok((sum / self.sorted.len() as f64).sqrt())
    }

    /// Reliability curve: accuracy with interval and mean confidence per bin, empty bins left out.
    ///
    /// # Errors
    /// `bins` is 0.
    pub fn reliability(&self, binning: Binning, bins: usize) -> Result<Vec<ReliabilityBin>, MeasureError> {
        Ok(self
            .bin_sums(binning, bins)?
            .into_iter()
            .map(|b| ReliabilityBin {
                low: b.low,
                high: b.high,
                count: b.count,
                confidence: b.confidence / b.count as f64,
                accuracy: wilson_of(b.right, b.count),
            })
            .collect())
    }

    fn bin_sums(&self, binning: Binning, bins: usize) -> Result<Vec<BinSum>, MeasureError> {
        if bins == 0 {
            return Err(MeasureError::value("calibration", "0 bins", "use 10 bins"));
        }
        let mut sums = Vec::with_capacity(bins.min(self.sorted.len()));
        let n = self.sorted.len();
        let mut start = 0;
        for bin in 0..bins {
            let (mut end, ends) = match binning {
                Binning::EqualWidth => {
                    let (low, high) = (bin as f64 / bins as f64, (bin + 1) as f64 / bins as f64);
                    (
                        start + self.sorted[start..].partition_point(|j| j.confidence <= high),
                        Some((low, high)),
                    )
                }
                Binning::EqualMass => {
                    // The first n mod bins bins get one judgement more.
                    let end = (bin + 1) * (n / bins) + (bin + 1).min(n % bins);
                    (end.max(start), None)
                }
            };
            if end > start && binning == Binning::EqualMass {
                let last = self.sorted[end - 1].confidence;
                end += self.sorted[end..].partition_point(|j| j.confidence == last);
            }
            let part = &self.sorted[start..end];
            start = end;
            if let (Some(first), Some(last)) = (part.first(), part.last()) {
                let (low, high) = ends.unwrap_or((first.confidence, last.confidence));
                sums.push(BinSum {
                    low,
                    high,
                    count: part.len(),
                    right: part.iter().filter(|j| j.correct).count(),
                    confidence: part.iter().map(|j| j.confidence).sum(),
                });
            }
        }
        Ok(sums)
    }

    /// Risk-coverage curve, one point per distinct confidence, by rising coverage.
    pub fn risk_coverage(&self) -> Vec<CoveragePoint> {
        let mut points = Vec::new();
        let (mut taken, mut wrong) = (0usize, 0usize);
        for tie in self.sorted.chunk_by(|a, b| a.confidence == b.confidence).rev() {
            taken += tie.len();
            wrong += tie.iter().filter(|j| !j.correct).count();
            points.push(CoveragePoint {
                threshold: tie[0].confidence,
                coverage: taken as f64 / self.sorted.len() as f64,
                risk: wrong as f64 / taken as f64,
            });
        }
        points
    }

    /// Area under the risk-coverage curve: the mean over k = 1..n of the risk among the k surest; within a tie the
    /// expected risk of a random order. Lower is better.
    pub fn aurc(&self) -> f64 {
        let (mut taken, mut wrong, mut area) = (0usize, 0.0, 0.0);
        for tie in self.sorted.chunk_by(|a, b| a.confidence == b.confidence).rev() {
            let share = tie.iter().filter(|j| !j.correct).count() as f64 / tie.len() as f64;
            for _ in tie {
                taken += 1;
                wrong += share;
                area += wrong / taken as f64;
            }
        }
        area / self.sorted.len() as f64
    }

    /// Accuracy among the surest `coverage` of the questions (rounded up to whole questions); where the limit falls
    /// within a tie, the expectation over a random order of the tied.
    ///
    /// # Errors
    /// `coverage` is not in (0, 1].
    pub fn selective_accuracy(&self, coverage: f64) -> Result<f64, MeasureError> {
        if !(coverage > 0.0 && coverage <= 1.0) {
            return Err(MeasureError::value(
                "selective accuracy",
                format!("coverage `{coverage}`"),
                "the coverage is above 0 and at most 1",
            ));
        }
        // The small subtraction keeps 0.3 · 10 = 3.0000000000000004 from being four questions.
        let wanted =
            ((coverage * self.sorted.len() as f64 - 1e-9).ceil() as usize).clamp(1, self.sorted.len());
        let (mut taken, mut right) = (0usize, 0.0);
        for tie in self.sorted.chunk_by(|a, b| a.confidence == b.confidence).rev() {
            let take = tie.len().min(wanted - taken);
            right += take as f64 * tie.iter().filter(|j| j.correct).count() as f64 / tie.len() as f64;
            taken += take;
            if taken == wanted {
                break;
            }
        }
        Ok(right / wanted as f64)
    }

    /// Every metric at once.
    ///
    /// # Errors
    /// `bins` is 0.
    pub fn summary(&self, bins: usize) -> Result<CalibrationSummary, MeasureError> {
        let accuracy = self.accuracy();
        Ok(CalibrationSummary {
            n: self.count(),
            accuracy: accuracy.value,
            brier: self.brier(),
            nll: self.nll(),
            auroc: self.auroc(),
            ece: CalibrationErrors {
                equal_width: self.ece(Binning::EqualWidth, bins)?,
                equal_mass: self.ece(Binning::EqualMass, bins)?,
            },
            bins,
            auprc: self.auprc(),
            aurc: self.aurc(),
            confidence: self.mean_confidence(),
            accuracy_interval: accuracy,
        })
    }
}

struct BinSum {
    low: f64,
    high: f64,
    count: usize,
    right: usize,
    confidence: f64,
}

fn wilson_of(correct: usize, total: usize) -> Interval {
    // Bins and lists are never empty here, so the fallback is never taken.
    accuracy(correct, total).unwrap_or(Interval { value: 0.0, low: 0.0, high: 1.0 })
}

/// AUROC of any scores (higher is surer), ties one half; `None` when only one outcome occurs.
///
/// # Errors
/// Lengths differ, no scores, or a NaN.
pub fn auroc(scores: &[f64], correct: &[bool]) -> Result<Option<f64>, MeasureError> {
    ranks_as_judgements("AUROC", scores, correct).map(|j| j.auroc())
}

/// Average precision of any scores (higher is surer); `None` when none is right.
///
/// # Errors
/// Lengths differ, no scores, or a NaN.
pub fn auprc(scores: &[f64], correct: &[bool]) -> Result<Option<f64>, MeasureError> {
    ranks_as_judgements("AUPRC", scores, correct).map(|j| j.auprc())
}

/// Scores replaced by their dense rank divided by the number of ranks: same order, same ties, inside [0, 1].
fn ranks_as_judgements(what: &str, scores: &[f64], correct: &[bool]) -> Result<Judgements, MeasureError> {
    if scores.len() != correct.len() {
        return Err(MeasureError::length(what, scores.len(), correct.len(), "give one outcome per score"));
    }
    if let Some(at) = scores.iter().position(|s| s.is_nan()) {
        return Err(MeasureError::value(
            format!("{what}, score {at}"),
            "the score is NaN",
            "leave out what could not be scored; an abstention is not a low score",
        ));
    }
    let mut pairs: Vec<(f64, bool)> = scores.iter().map(|s| s + 0.0).zip(correct.iter().copied()).collect();
    pairs.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let total = pairs.len() as f64;
    let mut rank = 0usize;
    let ranked = pairs.chunk_by(|a, b| a.0 == b.0).flat_map(|tie| {
        rank += 1;
        let confidence = rank as f64 / total;
        tie.iter().map(move |&(_, correct)| Judgement { confidence, correct })
    });
    Judgements::new(ranked.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn judgements(pairs: &[(f64, u8)]) -> Judgements {
        Judgements::new(pairs.iter().map(|&(confidence, y)| Judgement { confidence, correct: y == 1 }))
            .unwrap()
    }

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} is not {b}");
    }

    /// The numbers of sheet 06.
    fn sheet() -> Judgements {
        judgements(&[(0.9, 1), (0.8, 1), (0.7, 0), (0.6, 1), (0.4, 1), (0.3, 0), (0.2, 0), (0.1, 0)])
    }

    #[test]
    fn numbers_of_the_sheet() {
        let j = sheet();
        close(j.brier(), 0.15);
        close(j.auroc().unwrap(), 0.875);
        close(j.ece(Binning::EqualMass, 4).unwrap(), 0.15);
        close(j.rms_calibration_error(Binning::EqualMass, 4).unwrap(), 0.15);
        // Precision at the right ones: 1, 1, 3/4, 4/5.
        close(j.auprc().unwrap(), (1.0 + 1.0 + 0.75 + 0.8) / 4.0);
        close(j.accuracy().value, 0.5);
    }

    #[test]
    fn equal_width_bins_are_closed_on_the_right() {
        // All edges of ten bins fall into the bin below; 0 falls into the first.
        let j = judgements(&[(0.0, 0), (0.1, 0), (0.3, 1), (0.6, 1), (0.7, 0), (1.0, 1)]);
        let bins = j.reliability(Binning::EqualWidth, 10).unwrap();
        let edges: Vec<(f64, usize)> = bins.iter().map(|b| (b.high, b.count)).collect();
        assert_eq!(edges, [(0.1, 2), (0.3, 1), (0.6, 1), (0.7, 1), (1.0, 1)]);
        close(j.ece(Binning::EqualWidth, 10).unwrap(), (0.1 + 0.7 + 0.4 + 0.7 + 0.0) / 6.0);
    }

    #[test]
    fn ties_stay_in_one_equal_mass_bin() {
        let j = judgements(&[(0.2, 0), (0.5, 1), (0.5, 0), (0.5, 1), (0.5, 0), (0.9, 1)]);
        let counts: Vec<usize> =
            j.reliability(Binning::EqualMass, 3).unwrap().iter().map(|b| b.count).collect();
        assert_eq!(counts, [5, 1]);
        // Whatever the order of the input.
        let shuffled = judgements(&[(0.5, 0), (0.9, 1), (0.5, 0), (0.2, 0), (0.5, 1), (0.5, 1)]);
        assert_eq!(j, shuffled);
    }

    #[test]
    fn nll_of_certain_mistakes_is_finite() {
        close(judgements(&[(0.25, 1), (0.5, 0)]).nll(), (4f64.ln() + 2f64.ln()) / 2.0);
        let certain = judgements(&[(1.0, 0)]).nll();
        assert!((certain - 12.0 * 10f64.ln()).abs() < 1e-3, "{certain}");
        close(judgements(&[(0.0, 1)]).nll(), 12.0 * 10f64.ln());
    }

    #[test]
    fn one_outcome_has_no_ranking() {
        assert_eq!(judgements(&[(0.4, 1), (0.6, 1)]).auroc(), None);
        assert_eq!(judgements(&[(0.4, 0)]).auprc(), None);
        close(judgements(&[(0.5, 1), (0.5, 0)]).auroc().unwrap(), 0.5);
    }

    #[test]
    fn selective_accuracy_by_hand() {
        let j = sheet();
        close(j.selective_accuracy(0.25).unwrap(), 1.0);
        close(j.selective_accuracy(0.5).unwrap(), 0.75);
        close(j.selective_accuracy(1.0).unwrap(), 0.5);
        let tied = judgements(&[(0.5, 1), (0.5, 0), (0.5, 0), (0.5, 0)]);
        close(tied.selective_accuracy(0.5).unwrap(), 0.25);
        close(tied.aurc(), 0.75);
        // Risks 0, 0, 1/3, 1/4, 1/5, 2/6, 3/7, 4/8 of the k surest.
        close(j.aurc(), (1.0 / 3.0 + 0.25 + 0.2 + 2.0 / 6.0 + 3.0 / 7.0 + 0.5) / 8.0);
        let curve = j.risk_coverage();
        assert_eq!(curve.len(), 8);
        close(curve[2].risk, 1.0 / 3.0);
        close(curve[2].coverage, 3.0 / 8.0);
        assert!(j.selective_accuracy(0.0).is_err() && j.selective_accuracy(1.1).is_err());
    }

    #[test]
    fn bad_input_is_named() {
        let judge = |c: f64| Judgements::new([Judgement { confidence: c, correct: true }]);
        for bad in [1.2, -0.1, f64::NAN, f64::INFINITY] {
            let message = judge(bad).unwrap_err().to_string();
            assert!(message.contains("judgement 0") && message.contains("hint: "), "{message}");
        }
        assert!(judge(-0.0).is_ok());
        assert!(Judgements::new([]).unwrap_err().to_string().contains("no data"));
        assert!(sheet().ece(Binning::EqualWidth, 0).is_err());
        assert!(auroc(&[1.0], &[true, false]).is_err());
        assert!(auroc(&[f64::NAN], &[true]).is_err());
    }

    #[test]
    fn json_has_the_names_of_the_contract() {
        let json = serde_json::to_value(sheet().summary(BINS).unwrap()).unwrap();
        for field in ["n", "accuracy", "brier", "nll", "auroc", "ece"] {
            assert!(json.get(field).is_some(), "{field}");
        }
        assert!(json["ece"]["equal_width"].is_f64() && json["ece"]["equal_mass"].is_f64());
    }

    #[test]
    fn a_million_calibrated_judgements() {
        let mut draws = crate::bootstrap::Draws::new(3);
        let list: Vec<Judgement> = (0..1_000_000)
            .map(|_| {
                let bits = draws.bits();
                let confidence = (bits >> 40) as f64 / (1u64 << 24) as f64;
                Judgement { confidence, correct: ((bits & 0xffff) as f64 / 65536.0) < confidence }
            })
            .collect();
        let summary = Judgements::new(list).unwrap().summary(BINS).unwrap();
        // Perfectly calibrated by construction; AUROC of a uniform confidence is 5/6.
        assert!(
            summary.ece.equal_mass < 0.005 && (summary.auroc.unwrap() - 5.0 / 6.0).abs() < 0.002,
            "{summary:?}"
        );
    }

    proptest! {
        #[test]
        fn auroc_sees_only_the_order(rows in prop::collection::vec((-20i32..20, any::<bool>()), 2..60)) {
            let scores: Vec<f64> = rows.iter().map(|r| f64::from(r.0)).collect();
            let correct: Vec<bool> = rows.iter().map(|r| r.1).collect();
            let moved: Vec<f64> = scores.iter().map(|s| (s / 7.0).exp() * 3.0 - 100.0).collect();
            prop_assert_eq!(auroc(&scores, &correct).unwrap(), auroc(&moved, &correct).unwrap());
            let turned: Vec<f64> = scores.iter().map(|s| -s).collect();
            if let (Some(a), Some(b)) = (auroc(&scores, &correct).unwrap(), auroc(&turned, &correct).unwrap()) {
                prop_assert!((a + b - 1.0).abs() < 1e-12);
                let mut wins = 0.0;
                let mut pairs = 0.0;
                for (x, &right) in scores.iter().zip(&correct) {
                    for (y, &other) in scores.iter().zip(&correct) {
                        if right && !other {
                            pairs += 1.0;
                            wins += if x > y { 1.0 } else if x == y { 0.5 } else { 0.0 };
                        }
                    }
                }
                prop_assert!((a - wins / pairs).abs() < 1e-12);
            }
        }

        #[test]
        fn bins_hold_every_judgement(
            rows in prop::collection::vec((0u32..=100, any::<bool>()), 1..80), bins in 1usize..30,
        ) {
            let j = Judgements::new(rows.iter().map(|&(c, correct)| Judgement {
                confidence: f64::from(c) / 100.0, correct,
            })).unwrap();
            for binning in [Binning::EqualWidth, Binning::EqualMass] {
                let curve = j.reliability(binning, bins).unwrap();
                prop_assert_eq!(curve.iter().map(|b| b.count).sum::<usize>(), rows.len());
                prop_assert!(curve.len() <= bins);
                let from_curve: f64 = curve.iter()
                    .map(|b| b.count as f64 * (b.accuracy.value - b.confidence).abs()).sum::<f64>() / rows.len() as f64;
                prop_assert!((from_curve - j.ece(binning, bins).unwrap()).abs() < 1e-9);
            }
        }
    }
}
