//! Intervals over questions and seeds together. All seeds answer the same questions, so what they make of one question is
//! no independent evidence: a question is drawn with all of it, and where the seeds differ more than that they decide.

use crate::RecipeError;
use elenchus_measure::{Bootstrap, Interval, MeasureError, over_seeds, student_interval};

/// Seeds from which Student's interval over them is looked at: two have one, a wide one.
const LEAST_SEEDS: usize = 2;

/// How intervals are made of values that lie seed behind seed, the same questions in each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resampling {
    /// Of questions.
    pub bootstrap: Bootstrap,
    /// Models, or trainings of one, that the values are of.
    pub seeds: usize,
}

impl Resampling {
    /// `seeds` of 0 counts as 1.
    pub fn new(bootstrap: Bootstrap, seeds: usize) -> Self {
        Resampling { bootstrap, seeds: seeds.max(1) }
    }

    /// The values of each seed.
    fn rows<'v, T>(&self, values: &'v [T]) -> Result<std::slice::Chunks<'v, T>, MeasureError> {
        if !values.len().is_multiple_of(self.seeds) {
            return Err(MeasureError::Length {
                what: format!("values of {} seeds", self.seeds),
                left: values.len() / self.seeds,
                right: values.len().div_ceil(self.seeds),
                hint: "every seed answers the same questions in the same order".into(),
            });
        }
        Ok(values.chunks((values.len() / self.seeds).max(1)))
    }

    /// The mean, with the wider of the intervals over seeds (Student) and over seeds and questions (bootstrap).
    pub fn mean(&self, values: &[f64]) -> Result<Interval, RecipeError> {
        if self.seeds == 1 {
            return Ok(self.bootstrap.mean(values)?);
        }
        let rows: Vec<Vec<f64>> = self.rows(values)?.map(<[f64]>::to_vec).collect();
        Ok(super::wider(&over_seeds(&rows, &self.bootstrap)?))
    }

    /// The mean difference of two arms on the same seeds and questions.
    pub fn paired(&self, left: &[f64], right: &[f64]) -> Result<Interval, RecipeError> {
        let difference: Vec<f64> = left.iter().zip(right).map(|(l, r)| l - r).collect();
        self.mean(&difference)
    }

    /// The mean over the values for which `keep` says yes; `None` when there is none.
    pub fn mean_where(
        &self,
        values: &[f64],
        keep: impl Fn(usize) -> bool,
    ) -> Result<Option<Interval>, RecipeError> {
        let row = |(place, &value): (usize, &f64)| if keep(place) { [value, 1.0] } else { [0.0; 2] };
        let rows: Vec<[f64; 2]> = values.iter().enumerate().map(row).collect();
        self.sums("mean of some questions", &rows, |[sum, count]| (count > 0.0).then(|| sum / count))
    }

    /// A statistic of sums, as [`Bootstrap::of_sums`], of rows that lie seed behind seed.
    pub fn sums<const N: usize>(
        &self,
        what: &str,
        rows: &[[f64; N]],
        statistic: impl Fn([f64; N]) -> Option<f64>,
    ) -> Result<Option<Interval>, RecipeError> {
        if rows.is_empty() {
            return Ok(None);
        }
        let rows: Vec<&[[f64; N]]> = self.rows(rows)?.collect();
        of_sums(&self.bootstrap, what, &rows, LEAST_SEEDS, statistic)
    }

    /// Any statistic: `of` is given how often each question occurs, and which seeds count.
    pub fn counts(
        &self,
        what: &str,
        questions: usize,
        of: impl Fn(&[u32], std::ops::Range<usize>) -> Option<f64>,
    ) -> Result<Option<Interval>, RecipeError> {
        let pooled = self.bootstrap.of_counts(what, questions, |counts| of(counts, 0..self.seeds))?;
        let once = vec![1; questions];
        let each: Vec<f64> = (0..self.seeds).filter_map(|seed| of(&once, seed..seed + 1)).collect();
        pooled.map(|pooled| widened(&self.bootstrap, pooled, &each, LEAST_SEEDS)).transpose()
    }
}

/// A statistic of sums over `rows[seed][question]`: a bootstrap over questions, all seeds of a drawn question together, and
/// from `least_seeds` on the wider of it and Student's interval over seeds. `None` where the statistic is undefined.
pub(super) fn of_sums<const N: usize>(
    bootstrap: &Bootstrap,
    what: &str,
    rows: &[&[[f64; N]]],
    least_seeds: usize,
    statistic: impl Fn([f64; N]) -> Option<f64>,
) -> Result<Option<Interval>, RecipeError> {
    let add = |x: [f64; N], y: &[f64; N]| std::array::from_fn(|i| x[i] + y[i]);
    let questions = rows.iter().map(|row| row.len()).max().unwrap_or(0);
    let together: Vec<[f64; N]> = (0..questions)
        .map(|question| rows.iter().filter_map(|row| row.get(question)).fold([0.0; N], add))
        .collect();
    let Some(pooled) = bootstrap.of_sums(what, &together, &statistic)? else { return Ok(None) };
    let each: Vec<f64> = rows.iter().filter_map(|row| statistic(row.iter().fold([0.0; N], add))).collect();
    widened(bootstrap, pooled, &each, least_seeds).map(Some)
}

/// The interval over questions, or as wide as Student's over the values of the seeds to both sides of the pooled value
/// where that is wider: the mean over seeds is another estimate where the statistic is none of means.
fn widened(
    bootstrap: &Bootstrap,
    pooled: Interval,
    each: &[f64],
    least_seeds: usize,
) -> Result<Interval, RecipeError> {
    if each.len() < least_seeds.max(2) {
        return Ok(pooled);
    }
    let over_seeds = student_interval(each, bootstrap.level)?;
    let wider = over_seeds.high - over_seeds.low > pooled.high - pooled.low;
    let half = (over_seeds.high - over_seeds.low) / 2.0;
    let around = Interval { low: pooled.value - half, high: pooled.value + half, ..pooled };
    Ok(if wider { around } else { pooled })
}

/// The smallest of some estimates: what is claimed of all is claimed of this one. Its interval is that of one estimate and
/// does not know that it was picked.
pub(super) fn smallest(intervals: impl IntoIterator<Item = Interval>) -> Option<Interval> {
    intervals.into_iter().min_by(|a, b| a.value.total_cmp(&b.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resampling(seeds: usize) -> Resampling {
        Resampling::new(Bootstrap::default(), seeds)
    }

    fn width(interval: Interval) -> f64 {
        interval.high - interval.low
    }

    /// 100 questions of which a third is solved.
    fn question(q: usize) -> f64 {
        f64::from(u8::from(q.is_multiple_of(3)))
    }

    #[test]
    fn the_same_answers_of_three_seeds_are_not_three_times_the_questions() {
        let one: Vec<f64> = (0..100).map(question).collect();
        let three: Vec<f64> = (0..300).map(|place| question(place % 100)).collect();
        let alone = resampling(1).mean(&one).unwrap();
        let same = resampling(3).mean(&three).unwrap();
        assert!((width(same) - width(alone)).abs() < 0.02, "{same:?} {alone:?}");
        let pooled = Bootstrap::default().mean(&three).unwrap();
        assert!(width(same) > 1.5 * width(pooled), "as independent it would be too narrow: {pooled:?}");
        // The same of a ratio, and of a statistic of counts.
        let kept = resampling(3).mean_where(&three, |place| place % 2 == 0).unwrap().unwrap();
        let kept_alone = resampling(1).mean_where(&one, |place| place % 2 == 0).unwrap().unwrap();
        assert!((width(kept) - width(kept_alone)).abs() < 0.02, "{kept:?} {kept_alone:?}");
        let share = |counts: &[u32], seeds: std::ops::Range<usize>| {
            let sum: f64 = counts.iter().enumerate().map(|(q, &n)| f64::from(n) * question(q)).sum();
            Some(sum * seeds.len() as f64 / (100 * seeds.len()) as f64)
        };
        let counted = resampling(3).counts("share", 100, share).unwrap().unwrap();
        assert!((width(counted) - width(alone)).abs() < 0.02, "{counted:?} {alone:?}");
    }

    #[test]
    fn seeds_that_differ_widen_every_interval() {
        // 2, 20 and 38 of 40.
        let values: Vec<f64> = [2, 20, 38]
            .iter()
            .flat_map(|&right| (0..40).map(move |q| f64::from(u8::from(q < right))))
            .collect();
        let found = resampling(3).mean(&values).unwrap();
        assert!((found.value - 0.5).abs() < 1e-12 && width(found) > 0.9, "{found:?}");
        let kept = resampling(3).mean_where(&values, |_| true).unwrap().unwrap();
        assert!((kept.value - 0.5).abs() < 1e-12 && width(kept) > 0.9, "{kept:?}");
        assert_eq!(resampling(1).mean_where(&values, |_| false).unwrap(), None, "a mean of nothing is none");
        let paired = resampling(3).paired(&values, &values).unwrap();
        assert_eq!((paired.value, paired.low, paired.high), (0.0, 0.0, 0.0));
    }

    #[test]
    fn seeds_of_different_length_are_refused() {
        let error = resampling(3).mean(&[1.0, 0.0, 1.0, 1.0]).unwrap_err().to_string();
        assert!(error.contains("values of 3 seeds: 1 and 2 values") && error.contains("hint:"), "{error}");
        assert!(resampling(2).mean_where(&[1.0, 0.0, 1.0], |_| true).is_err());
        assert_eq!(smallest([Interval::exact(0.2), Interval::exact(-0.1)]), Some(Interval::exact(-0.1)));
    }
}
