//! Calibration of confidences: from what a method says to how often it is right, fitted on answers with a known verdict.

use crate::{BINS, CalibrationSummary, Judgement, Judgements, MeasureError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Fewest judgements that a calibration is fitted on.
pub const LEAST_JUDGEMENTS: usize = 30;
/// Fewest right and fewest wrong ones among them.
pub const LEAST_OF_EACH: usize = 5;
/// Parts that the judgements are divided into to see how a calibration does on those that it was not fitted on.
const FOLDS: usize = 5;
/// How much the mean squared error of unseen judgements may rise before a calibration does harm; smaller differences
/// are what noise makes of a confidence that is right already.
const BRIER_TOLERANCE: f64 = 0.005;
/// Steps of Newton's method at most; a few are enough for two numbers.
const NEWTON_STEPS: usize = 100;

/// How a calibration is fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CalibrationMethod {
    /// Two numbers: p = σ(a c + b) with a ≥ 0 (Platt 1999). Does with few judgements.
    Platt,
    /// The nearest rising curve (pool adjacent violators). Needs some hundred judgements, and fits any shape.
    Isotonic,
}

/// A rising map from confidences to probabilities of being right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "method", rename_all = "snake_case")]
pub enum Calibrator {
    /// p = σ(slope · c + intercept).
    Platt {
        /// a ≥ 0.
        slope: f64,
        /// b.
        intercept: f64,
    },
    /// Straight lines between knots (c, p), flat outside of them.
    Isotonic {
        /// By rising c; p never falls.
        knots: Vec<[f64; 2]>,
    },
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

impl Calibrator {
    /// Fits one; equal judgements give equal calibrations.
    ///
    /// Both draw the probabilities towards one half as if two more judgements, one right and one wrong, were there, so that
    /// no confidence becomes a certainty: Platt's targets are (n₊ + 1)/(n₊ + 2) and 1/(n₋ + 2), and a block of the isotonic
    /// curve with r right ones of n has the value (r + 1)/(n + 2).
    ///
    /// # Errors
    /// Fewer than [`LEAST_JUDGEMENTS`], or fewer than [`LEAST_OF_EACH`] right or wrong ones: a curve through so few says
    /// nothing. A confidence that is no probability.
    pub fn fit(method: CalibrationMethod, judgements: &[Judgement]) -> Result<Self, MeasureError> {
        let right = judgements.iter().filter(|judgement| judgement.correct).count();
        let least = right.min(judgements.len() - right);
        if judgements.len() < LEAST_JUDGEMENTS || least < LEAST_OF_EACH {
            return Err(MeasureError::value(
                "calibration",
                format!("{} judgements, {right} of them right, are too few", judgements.len()),
                &format!(
                    "give at least {LEAST_JUDGEMENTS}, with {LEAST_OF_EACH} right and {LEAST_OF_EACH} wrong ones"
                ),
            ));
        }
        // Checks that every confidence is a probability.
        Judgements::new(judgements.iter().copied())?;
        Ok(match method {
            CalibrationMethod::Platt => platt(judgements, right),
            CalibrationMethod::Isotonic => isotonic(judgements),
        })
    }

    /// The probability of being right at a confidence.
    pub fn apply(&self, confidence: f64) -> f64 {
        match self {
            Calibrator::Platt { slope, intercept } => sigmoid(slope * confidence + intercept),
            Calibrator::Isotonic { knots } => {
                let behind = knots.partition_point(|[at, _]| *at < confidence);
                match (behind.checked_sub(1).and_then(|before| knots.get(before)), knots.get(behind)) {
                    (Some([low, from]), Some([high, to])) => {
                        from + (to - from) * (confidence - low) / (high - low)
                    }
                    (Some([_, value]), None) | (None, Some([_, value])) => *value,
                    (None, None) => confidence,
                }
            }
        }
    }

    /// How it was fitted.
    pub fn method(&self) -> CalibrationMethod {
        match self {
            Calibrator::Platt { .. } => CalibrationMethod::Platt,
            Calibrator::Isotonic { .. } => CalibrationMethod::Isotonic,
        }
    }

    /// Whether it is one: finite, rising, with values in [0, 1]. For calibrations that come from a file.
    pub fn is_valid(&self) -> bool {
        match self {
            Calibrator::Platt { slope, intercept } => {
                *slope >= 0.0 && slope.is_finite() && intercept.is_finite()
            }
            Calibrator::Isotonic { knots } => {
                let rises = knots.windows(2).all(|pair| pair[0][0] < pair[1][0] && pair[0][1] <= pair[1][1]);
                !knots.is_empty() && rises && knots.iter().flatten().all(|value| (0.0..=1.0).contains(value))
            }
        }
    }
}

/// Newton's method on the log-likelihood, which is concave; a slope below 0 would turn the order round and becomes 0.
fn platt(judgements: &[Judgement], right: usize) -> Calibrator {
    let (positive, negative) = (right as f64, (judgements.len() - right) as f64);
    let (high, low) = ((positive + 1.0) / (positive + 2.0), 1.0 / (negative + 2.0));
    let prior = ((positive + 1.0) / (negative + 1.0)).ln();
    let target = |judgement: &Judgement| if judgement.correct { high } else { low };
    let loss = |slope: f64, intercept: f64| -> f64 {
        judgements
            .iter()
            .map(|judgement| {
                let x = slope * judgement.confidence + intercept;
                // −t log σ(x) − (1 − t) log(1 − σ(x)), without overflow.
                x.max(0.0) + (-x.abs()).exp().ln_1p() - target(judgement) * x
            })
            .sum()
    };
    let (mut slope, mut intercept) = (0.0, prior);
    let mut least = loss(slope, intercept);
    for _ in 0..NEWTON_STEPS {
        // The ridge keeps the Hessian regular where all confidences are equal.
        let (mut haa, mut hab, mut hbb, mut ga, mut gb) = (1e-9, 0.0, 1e-9, 0.0, 0.0);
        for judgement in judgements {
            let (c, p) = (judgement.confidence, sigmoid(slope * judgement.confidence + intercept));
            let (error, weight) = (p - target(judgement), p * (1.0 - p));
            ga += error * c;
            gb += error;
            haa += weight * c * c;
            hab += weight * c;
            hbb += weight;
        }
        let determinant = haa * hbb - hab * hab;
        let (da, db) = ((ga * hbb - gb * hab) / determinant, (gb * haa - ga * hab) / determinant);
        let mut step = 1.0;
        let next = loop {
            let made = (slope - step * da, intercept - step * db);
            let found = loss(made.0, made.1);
            if found <= least || step < 1e-8 {
                break (made, found);
            }
            step /= 2.0;
        };
        let gained = least - next.1;
        if gained.is_nan() || gained <= 0.0 {
            break;
        }
        ((slope, intercept), least) = next;
        if gained < 1e-12 {
            break;
        }
    }
    if slope < 0.0 {
        // The best flat line is the share of the right ones.
        return Calibrator::Platt { slope: 0.0, intercept: prior };
    }
    Calibrator::Platt { slope, intercept }
}

/// A run of confidences that share one value.
#[derive(Clone, Copy)]
struct Block {
    /// Σ of the confidences.
    sum: f64,
    count: f64,
    right: f64,
}

impl Block {
    fn with(self, other: Block) -> Block {
        Block { sum: self.sum + other.sum, count: self.count + other.count, right: self.right + other.right }
    }

    fn value(self) -> f64 {
        (self.right + 1.0) / (self.count + 2.0)
    }

    fn share(self) -> f64 {
        self.right / self.count
    }
}

/// Pools neighbours as long as `value` falls from one to the next.
fn pooled(blocks: impl IntoIterator<Item = Block>, value: fn(Block) -> f64) -> Vec<Block> {
    let mut pool: Vec<Block> = Vec::new();
    for mut block in blocks {
        while let Some(last) = pool.last().copied().filter(|last| value(*last) >= value(block)) {
            pool.pop();
            block = last.with(block);
        }
        pool.push(block);
    }
    pool
}

fn isotonic(judgements: &[Judgement]) -> Calibrator {
    let mut sorted = judgements.to_vec();
    sorted.sort_by(|left, right| left.confidence.total_cmp(&right.confidence));
    let mut ties: Vec<(f64, Block)> = Vec::new();
    for judgement in sorted {
        let one =
            Block { sum: judgement.confidence, count: 1.0, right: f64::from(u8::from(judgement.correct)) };
        match ties.last_mut().filter(|(confidence, _)| *confidence == judgement.confidence) {
            Some((_, block)) => *block = block.with(one),
            None => ties.push((judgement.confidence, one)),
        }
    }
    let shares = pooled(ties.into_iter().map(|(_, block)| block), Block::share);
    // What draws small blocks to one half can turn the order of neighbours round.
    let blocks = pooled(shares, Block::value);
    Calibrator::Isotonic {
        knots: blocks.into_iter().map(|block| [block.sum / block.count, block.value()]).collect(),
    }
}

/// A calibration with what it does to judgements that it was not fitted on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CalibrationFit {
    /// Fitted on all judgements.
    pub calibrator: Calibrator,
    /// The confidences as they were.
    pub raw: CalibrationSummary,
    /// The same judgements with calibrated confidences, each fifth by a calibration fitted on the other four.
    pub held_out: CalibrationSummary,
}

impl CalibrationFit {
    /// Whether unseen judgements are not worse off with it.
    pub fn helps(&self) -> bool {
        self.held_out.brier <= self.raw.brier + BRIER_TOLERANCE
    }
}

/// Fits a calibration and measures it by cross-validation: fold i holds every fifth judgement from the i-th on, so give them
/// in an order that means nothing. Without a method, the one with the lesser mean squared error on unseen judgements.
///
/// # Errors
/// Those of [`Calibrator::fit`], for all judgements or for four fifths of them.
pub fn fit_calibration(
    judgements: &[Judgement],
    method: Option<CalibrationMethod>,
) -> Result<CalibrationFit, MeasureError> {
    let methods = match method {
        Some(method) => vec![method],
        None => vec![CalibrationMethod::Platt, CalibrationMethod::Isotonic],
    };
    let raw = Judgements::new(judgements.iter().copied())?.summary(BINS)?;
    let mut best: Option<CalibrationFit> = None;
    for method in methods {
        let calibrator = Calibrator::fit(method, judgements)?;
        let mut unseen = Vec::with_capacity(judgements.len());
        for fold in 0..FOLDS {
            let part = |inside: bool| {
                let rows =
                    judgements.iter().enumerate().filter(move |(at, _)| (at % FOLDS == fold) == inside);
                rows.map(|(_, judgement)| *judgement).collect::<Vec<_>>()
            };
            // Four fifths of few judgements may hold too few of one kind; the whole was enough.
            let fitted = Calibrator::fit(method, &part(false)).unwrap_or_else(|_| calibrator.clone());
            unseen.extend(
                part(true).into_iter().map(|judgement| Judgement {
                    confidence: fitted.apply(judgement.confidence),
                    ..judgement
                }),
            );
        }
        let held_out = Judgements::new(unseen)?.summary(BINS)?;
        if best.as_ref().is_none_or(|best| held_out.brier < best.held_out.brier) {
            best = Some(CalibrationFit { calibrator, raw: raw.clone(), held_out });
        }
    }
    best.ok_or_else(|| MeasureError::empty("calibration", "name a method"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Binning;
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Judgements whose chance of being right is `truth` of their confidence.
    fn drawn(count: usize, seed: u64, truth: impl Fn(f64) -> f64) -> Vec<Judgement> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut one = || {
            let confidence: f64 = random.random();
            Judgement { confidence, correct: random.random::<f64>() < truth(confidence) }
        };
        (0..count).map(|_| one()).collect()
    }

    fn error_of(judgements: &[Judgement], calibrator: Option<&Calibrator>) -> f64 {
        let told = judgements.iter().map(|judgement| Judgement {
            confidence: calibrator.map_or(judgement.confidence, |made| made.apply(judgement.confidence)),
            ..*judgement
        });
        Judgements::new(told).unwrap().ece(Binning::EqualMass, 10).unwrap()
    }

    #[test]
    fn an_overconfident_method_is_mended_on_answers_that_were_not_seen() {
        // Says 0.9 and is right in half of the cases; no straight line through it.
        let truth = |c: f64| 0.2 + 0.5 * c * c;
        let (seen, unseen) = (drawn(2000, 1, truth), drawn(4000, 2, truth));
        let raw = error_of(&unseen, None);
        for method in [CalibrationMethod::Platt, CalibrationMethod::Isotonic] {
            let made = Calibrator::fit(method, &seen).unwrap();
            let error = error_of(&unseen, Some(&made));
            assert!(error < 0.04 && raw > 0.12, "{method:?}: {raw} to {error}");
        }
        let fit = fit_calibration(&seen, None).unwrap();
        assert!(fit.helps() && fit.held_out.ece.equal_mass < fit.raw.ece.equal_mass);
    }

    #[test]
    fn a_confidence_that_is_right_already_stays() {
        let (seen, unseen) = (drawn(2000, 3, |c| c), drawn(4000, 4, |c| c));
        for method in [CalibrationMethod::Platt, CalibrationMethod::Isotonic] {
            let made = Calibrator::fit(method, &seen).unwrap();
            let (before, after) = (error_of(&unseen, None), error_of(&unseen, Some(&made)));
            // Platt's curve is not the diagonal: its error is the price of two numbers.
            assert!(after < before + 0.05, "{method:?}: {before} to {after}");
        }
        assert!(fit_calibration(&seen, Some(CalibrationMethod::Isotonic)).unwrap().helps());
    }

    #[test]
    fn values_by_hand() {
        // Three blocks: 1 of 10 right at 0.2, 5 of 10 at 0.5, 9 of 10 at 0.8.
        let mut judgements = Vec::new();
        for (confidence, right) in [(0.2, 1), (0.5, 5), (0.8, 9)] {
            judgements.extend((0..10).map(|at| Judgement { confidence, correct: at < right }));
        }
        let made = Calibrator::fit(CalibrationMethod::Isotonic, &judgements).unwrap();
        for (confidence, wanted) in [(0.2, 2.0 / 12.0), (0.5, 0.5), (0.8, 10.0 / 12.0), (0.35, 4.0 / 12.0)] {
            assert!((made.apply(confidence) - wanted).abs() < 1e-12, "{confidence}");
        }
        for (outside, end) in [(0.0, 0.2), (1.0, 0.8)] {
            assert!((made.apply(outside) - made.apply(end)).abs() < 1e-12, "flat outside: {outside}");
        }
        // The optimum of Platt's likelihood: the gradient is zero.
        let Calibrator::Platt { slope, intercept } =
            Calibrator::fit(CalibrationMethod::Platt, &judgements).unwrap()
        else {
            panic!()
        };
        let (high, low) = (16.0 / 17.0, 1.0 / 17.0);
        let gradient = judgements.iter().fold([0.0, 0.0], |[a, b], judgement| {
            let error = sigmoid(slope * judgement.confidence + intercept)
                - if judgement.correct { high } else { low };
            [a + error * judgement.confidence, b + error]
        });
        assert!(gradient.iter().all(|part: &f64| part.abs() < 1e-5), "{gradient:?}");
        assert!(slope > 0.0);
    }

    #[test]
    fn a_confidence_that_points_the_wrong_way_becomes_the_share_of_right_answers() {
        let judgements = drawn(1000, 5, |c| 0.8 - 0.6 * c);
        for method in [CalibrationMethod::Platt, CalibrationMethod::Isotonic] {
            let made = Calibrator::fit(method, &judgements).unwrap();
            assert!(made.apply(1.0) - made.apply(0.0) < 0.1, "{made:?}");
            assert!((made.apply(0.5) - 0.5).abs() < 0.06, "{made:?}");
        }
    }

    #[test]
    fn too_few_are_refused_with_how_many_are_needed() {
        let few = drawn(29, 6, |c| c);
        let one_sided = vec![Judgement { confidence: 0.5, correct: true }; 100];
        for judgements in [few, one_sided] {
            let error = Calibrator::fit(CalibrationMethod::Platt, &judgements).unwrap_err().to_string();
            assert!(error.contains("30") && error.contains("hint"), "{error}");
        }
        let wrong = vec![Judgement { confidence: 1.5, correct: true }; 20];
        let wrong: Vec<_> = wrong.into_iter().chain(drawn(40, 7, |c| c)).collect();
        assert!(Calibrator::fit(CalibrationMethod::Platt, &wrong).is_err());
    }

    proptest! {
        #[test]
        fn calibrations_rise_and_stay_within_zero_and_one(
            rows in prop::collection::vec((0u32..=20, any::<bool>()), 40..120),
        ) {
            let judgements: Vec<Judgement> = rows
                .iter()
                .map(|&(level, correct)| Judgement { confidence: f64::from(level) / 20.0, correct })
                .collect();
            for method in [CalibrationMethod::Platt, CalibrationMethod::Isotonic] {
                let Ok(made) = Calibrator::fit(method, &judgements) else { continue };
                prop_assert!(made.is_valid(), "{made:?}");
                let values: Vec<f64> = (0..=100).map(|at| made.apply(f64::from(at) / 100.0)).collect();
                prop_assert!(values.windows(2).all(|pair| pair[0] <= pair[1] + 1e-12), "{made:?}");
                prop_assert!(values.iter().all(|value| (0.0..=1.0).contains(value)), "{made:?}");
                let written = serde_json::to_string(&made).unwrap();
                prop_assert_eq!(serde_json::from_str::<Calibrator>(&written).unwrap(), made);
            }
        }
    }
}
