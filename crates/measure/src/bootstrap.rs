//! Resampling of questions, fast enough to be used everywhere: ten thousand resamples of a thousand questions take
//! some ten milliseconds on one core.

use crate::error::{finite, level_in_range};
use crate::special::{normal_cdf, normal_quantile};
use crate::{Interval, LEVEL, MeasureError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How an interval is read off the resampled values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BootstrapMethod {
    /// Quantiles of the resampled values.
    #[default]
    Percentile,
    /// Bias-corrected and accelerated quantiles (Efron 1987); the acceleration comes from leaving out one question at
    /// a time. Better for skewed statistics.
    Bca,
}

/// Settings of a bootstrap over questions. The same settings and data give the same interval on every machine.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Bootstrap {
    /// Resamples, at least 100.
    pub resamples: usize,
    /// Seed of the draws.
    pub seed: u64,
    /// Confidence level, 0.95 by default.
    pub level: f64,
    /// How the interval is made.
    pub method: BootstrapMethod,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Bootstrap { resamples: 10_000, seed: 0, level: LEVEL, method: BootstrapMethod::Percentile }
    }
}

/// SplitMix64: two indices per step; the statistical needs of resampling are modest and this is the hot loop.
pub(crate) struct Draws(u64);

impl Draws {
    pub(crate) fn new(seed: u64) -> Self {
        Draws(seed ^ 0x5851_f42d_4c95_7f2d)
    }

    /// 64 random bits.
    #[inline]
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Calls `take` with `n` indices below `n`. Multiply-shift of 32 bits: the bias is below n / 2³².
    #[inline]
    pub(crate) fn indices(&mut self, n: usize, mut take: impl FnMut(usize)) {
        let bound = n as u64;
        for _ in 0..n / 2 {
            let bits = self.bits();
            take((((bits & 0xffff_ffff) * bound) >> 32) as usize);
            take((((bits >> 32) * bound) >> 32) as usize);
        }
        if n % 2 == 1 {
            take((((self.bits() >> 32) * bound) >> 32) as usize);
        }
    }
}

impl Bootstrap {
    /// The same settings with another seed.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    pub(crate) fn check(&self, what: &str, questions: usize) -> Result<(), MeasureError> {
        level_in_range(self.level)?;
        if self.resamples < 100 {
            return Err(MeasureError::value(
                "bootstrap",
                format!("{} resamples", self.resamples),
                "use at least 100; 10,000 give a steady second decimal",
            ));
        }
        if questions == 0 {
            return Err(MeasureError::empty(what, "give at least one question"));
        }
        if questions > u32::MAX as usize {
            return Err(MeasureError::value(
                what,
                format!("{questions} questions"),
                "at most 2³² are resampled",
            ));
        }
        Ok(())
    }

    /// Mean over questions with its interval.
    ///
    /// When every value is the same the interval has no width: resampling cannot see what was never observed. For
    /// plain accuracies [`crate::wilson`] does not have this weakness.
    ///
    /// # Errors
    /// No values, a value that is not finite, fewer than 100 resamples, a level outside (0, 1).
    pub fn mean(&self, values: &[f64]) -> Result<Interval, MeasureError> {
        self.check("mean over questions", values.len())?;
        finite("mean over questions", values)?;
        let n = values.len() as f64;
        let total = values.iter().sum::<f64>();
        let mut draws = Draws::new(self.seed);
        let resampled: Vec<f64> = (0..self.resamples)
            .map(|_| {
                // Two sums break the chain of additions that would otherwise bound the loop.
                let (mut even, mut odd, mut turn) = (0.0, 0.0, false);
                draws.indices(values.len(), |i| {
                    if turn {
                        odd += values[i];
                    } else {
                        even += values[i];
                    }
                    turn = !turn;
                });
                (even + odd) / n
            })
            .collect();
        let left_out = || values.iter().map(|v| (total - v) / (n - 1.0)).collect();
        Ok(self.interval(total / n, resampled, left_out))
    }

    /// Ratio of sums over questions, Σ numerator / Σ denominator, with its interval; `None` when the denominators add
    /// up to zero. Resamples in which they do are left out.
    ///
    /// # Errors
    /// Lengths differ, no values, a value that is not finite, or bad settings.
    pub fn ratio(&self, numerators: &[f64], denominators: &[f64]) -> Result<Option<Interval>, MeasureError> {
        if numerators.len() != denominators.len() {
            return Err(MeasureError::length(
                "ratio over questions",
                numerators.len(),
                denominators.len(),
                "give one numerator and one denominator per question",
            ));
        }
        finite("ratio over questions, numerators", numerators)?;
        finite("ratio over questions, denominators", denominators)?;
        let columns: Vec<[f64; 2]> = numerators.iter().zip(denominators).map(|(&a, &b)| [a, b]).collect();
        self.of_sums("ratio over questions", &columns, |[a, b]| (b != 0.0).then(|| a / b))
    }

    /// Any statistic of sums over questions: `rows` has the summands of each question, `statistic` gets their sums,
    /// of the data and of each resample. `None` means undefined: for the data the result is `None`, for a resample it
    /// is left out (and when half of them are undefined the interval is, too).
    ///
    /// # Errors
    /// No rows or bad settings.
    pub fn of_sums<const N: usize>(
        &self,
        what: &str,
        rows: &[[f64; N]],
        statistic: impl Fn([f64; N]) -> Option<f64>,
    ) -> Result<Option<Interval>, MeasureError> {
        self.check(what, rows.len())?;
        let add = |mut sums: [f64; N], row: &[f64; N]| {
            for (s, r) in sums.iter_mut().zip(row) {
                *s += r;
            }
            sums
        };
        let totals = rows.iter().fold([0.0; N], add);
        let Some(value) = statistic(totals) else { return Ok(None) };
        let mut draws = Draws::new(self.seed);
        let resampled: Vec<f64> = (0..self.resamples)
            .filter_map(|_| {
                let mut sums = [0.0; N];
                draws.indices(rows.len(), |i| {
                    for (s, r) in sums.iter_mut().zip(&rows[i]) {
                        *s += r;
                    }
                });
                statistic(sums)
            })
            .collect();
        if resampled.len() * 2 < self.resamples {
            return Ok(None);
        }
        let left_out = || {
            rows.iter()
                .filter_map(|row| {
                    let mut sums = totals;
                    for (s, r) in sums.iter_mut().zip(row) {
                        *s -= r;
                    }
                    statistic(sums)
                })
                .collect()
        };
        Ok(Some(self.interval(value, resampled, left_out)))
    }

    /// Any statistic of a resample, given as how often each question occurs in it (the data: once each). Slower than
    /// the others; for medians, AUROC and the like. `None` as in [`Bootstrap::of_sums`]. Percentile only: `method` is
    /// not used, since leaving out every question in turn would cost another pass per question.
    ///
    /// # Errors
    /// No questions or bad settings.
    pub fn of_counts(
        &self,
        what: &str,
        questions: usize,
        statistic: impl Fn(&[u32]) -> Option<f64>,
    ) -> Result<Option<Interval>, MeasureError> {
        self.check(what, questions)?;
        let mut counts = vec![1u32; questions];
        let Some(value) = statistic(&counts) else { return Ok(None) };
        let mut draws = Draws::new(self.seed);
        let mut resampled = Vec::with_capacity(self.resamples);
        for _ in 0..self.resamples {
            counts.fill(0);
            draws.indices(questions, |i| counts[i] += 1);
            resampled.extend(statistic(&counts));
        }
        if resampled.len() * 2 < self.resamples {
            return Ok(None);
        }
        let percentile = Bootstrap { method: BootstrapMethod::Percentile, ..*self };
        Ok(Some(percentile.interval(value, resampled, Vec::new)))
    }

    /// Reads the interval off the resampled values (at least one).
    pub(crate) fn interval(
        &self,
        value: f64,
        mut resampled: Vec<f64>,
        left_out: impl FnOnce() -> Vec<f64>,
    ) -> Interval {
        resampled.sort_unstable_by(f64::total_cmp);
        let tail = (1.0 - self.level) / 2.0;
        let (low, high) = match self.method {
            BootstrapMethod::Percentile => (tail, 1.0 - tail),
            BootstrapMethod::Bca => bca_tails(value, &resampled, &left_out(), tail),
        };
        Interval { value, low: quantile(&resampled, low), high: quantile(&resampled, high) }
    }
}

/// Corrected tail probabilities: Φ(z₀ + (z₀ + z) / (1 − a (z₀ + z))), z₀ from the share of resampled values below the
/// estimate (ties half), a from the skewness of the leave-one-out values.
fn bca_tails(value: f64, sorted: &[f64], left_out: &[f64], tail: f64) -> (f64, f64) {
    let below = sorted.partition_point(|v| *v < value) as f64;
    let tied = sorted.partition_point(|v| *v <= value) as f64 - below;
    let share = (below + 0.5 * tied) / sorted.len() as f64;
    let bias = normal_quantile(share.clamp(1e-6, 1.0 - 1e-6));
    let mean = left_out.iter().sum::<f64>() / left_out.len().max(1) as f64;
    let (mut square, mut cube) = (0.0, 0.0);
    for v in left_out {
        let d = mean - v;
        square += d * d;
        cube += d * d * d;
    }
    let acceleration = if square > 0.0 { cube / (6.0 * square.powf(1.5)) } else { 0.0 };
    let corrected = |p: f64| {
        let z = bias + normal_quantile(p);
        normal_cdf(bias + z / (1.0 - acceleration * z))
    };
    (corrected(tail), corrected(1.0 - tail))
}

/// Quantile of sorted values with linear interpolation between neighbours (the list is not empty).
pub(crate) fn quantile(sorted: &[f64], probability: f64) -> f64 {
    let place = probability.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let (below, share) = (place.floor() as usize, place.fract());
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + share * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(n: usize, right: usize) -> Vec<f64> {
        (0..n).map(|i| f64::from(u8::from(i < right))).collect()
    }

    #[test]
    fn mean_of_outcomes_has_the_binomial_width() {
        let values = outcomes(1000, 300);
        for method in [BootstrapMethod::Percentile, BootstrapMethod::Bca] {
            let i = Bootstrap { method, ..Bootstrap::default() }.mean(&values).unwrap();
            let half = 1.96 * (0.3f64 * 0.7 / 1000.0).sqrt();
            assert!(
                (i.high - 0.3 - half).abs() < 0.002 && (0.3 - i.low - half).abs() < 0.002,
                "{method:?} {i:?}"
            );
        }
    }

    #[test]
    fn the_seed_decides() {
        let values: Vec<f64> = (0..101).map(|i| f64::from(i * i % 17)).collect();
        let b = Bootstrap::default();
        assert_eq!(b.mean(&values).unwrap(), b.mean(&values).unwrap());
        assert_ne!(b.mean(&values).unwrap(), b.seed(1).mean(&values).unwrap());
    }

    #[test]
    fn the_three_ways_agree() {
        let values = outcomes(200, 60);
        let b = Bootstrap { resamples: 2000, ..Bootstrap::default() };
        let mean = b.mean(&values).unwrap();
        let ratio = b.ratio(&values, &vec![1.0; 200]).unwrap().unwrap();
        let counts = b
            .of_counts("test", 200, |c| {
                Some(c.iter().zip(&values).map(|(&c, v)| f64::from(c) * v).sum::<f64>() / 200.0)
            })
            .unwrap()
            .unwrap();
        for other in [ratio, counts] {
            assert!(
                (mean.low - other.low).abs() < 1e-9 && (mean.high - other.high).abs() < 1e-9,
                "{mean:?} {other:?}"
            );
        }
        assert_eq!(b.ratio(&[0.0, 1.0], &[0.0, 0.0]).unwrap(), None);
    }

    #[test]
    fn bca_follows_the_skew() {
        // A long right tail: the corrected interval lies further to the right.
        let values: Vec<f64> = (0..60).map(|i| (f64::from(i) / 10.0).exp()).collect();
        let percentile = Bootstrap::default().mean(&values).unwrap();
        let bca = Bootstrap { method: BootstrapMethod::Bca, ..Bootstrap::default() }.mean(&values).unwrap();
        assert!(bca.low > percentile.low && bca.high > percentile.high, "{percentile:?} {bca:?}");
    }

    #[test]
    fn bca_survives_one_question_and_no_spread() {
        let b = Bootstrap { method: BootstrapMethod::Bca, ..Bootstrap::default() };
        for values in [vec![0.5], vec![1.0; 20]] {
            let i = b.mean(&values).unwrap();
            assert_eq!((i.low, i.high), (i.value, i.value));
        }
    }

    #[test]
    fn coverage_is_about_what_it_says() {
        // 400 samples of 80 questions from a known share: the interval must hold the truth in about 95 % of them.
        let mut held = 0;
        let mut draws = Draws::new(11);
        for trial in 0..400 {
            let mut values = Vec::new();
            draws.indices(80, |i| values.push(f64::from(u8::from(i < 32))));
            let b = Bootstrap { resamples: 500, seed: trial, ..Bootstrap::default() };
            held += usize::from(b.mean(&values).unwrap().contains(0.4));
        }
        assert!((365..=398).contains(&held), "{held} of 400");
    }

    #[test]
    fn bad_settings_are_refused() {
        assert!(Bootstrap { resamples: 10, ..Bootstrap::default() }.mean(&[1.0]).is_err());
        assert!(Bootstrap { level: 1.0, ..Bootstrap::default() }.mean(&[1.0]).is_err());
        assert!(Bootstrap::default().mean(&[]).is_err());
        assert!(Bootstrap::default().mean(&[1.0, f64::NAN]).is_err());
        assert!(Bootstrap::default().ratio(&[1.0], &[]).is_err());
    }
}
