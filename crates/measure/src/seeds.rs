//! Results over several seeds: of a model, of its training, of its sampling.

use crate::bootstrap::Draws;
use crate::error::finite;
use crate::{Bootstrap, Interval, MeasureError, Preference, student_interval, verdict_sentence};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A mean over seeds with two intervals, which answer two questions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SeedSummary {
    /// Mean of each seed, in the order given.
    pub seeds: Vec<f64>,
    /// Student's t interval over the means of the seeds: how it would be with other seeds on these questions.
    /// `None` with one seed.
    pub over_seeds: Option<Interval>,
    /// Bootstrap over seeds and questions together: how it would be with other seeds and other questions. With few
    /// seeds it is too narrow (three seeds can only be redrawn in ten ways), so both are given.
    pub over_both: Interval,
}

fn checked_rows<'a>(what: &str, rows: &'a [Vec<f64>]) -> Result<&'a [f64], MeasureError> {
    let Some(first) = rows.first().filter(|r| !r.is_empty()) else {
        return Err(MeasureError::empty(what, "give at least one seed with at least one question"));
    };
    for (seed, row) in rows.iter().enumerate() {
        if row.len() != first.len() {
            return Err(MeasureError::length(
                &format!("{what}, seed {seed}"),
                first.len(),
                row.len(),
                "every seed answers the same questions in the same order",
            ));
        }
        finite(&format!("{what}, seed {seed}"), row)?;
    }
    Ok(first)
}

/// Mean over seeds and questions: `rows[seed][question]`.
///
/// The bootstrap draws seeds and questions independently, each with replacement, since every seed answers the same
/// questions.
///
/// # Errors
/// No seeds, no questions, rows of different length, a value that is not finite, bad settings.
pub fn over_seeds(rows: &[Vec<f64>], bootstrap: &Bootstrap) -> Result<SeedSummary, MeasureError> {
    let questions = checked_rows("mean over seeds", rows)?.len();
    bootstrap.check("mean over seeds", questions)?;
    let seeds: Vec<f64> = rows.iter().map(|r| r.iter().sum::<f64>() / questions as f64).collect();
    let mean = seeds.iter().sum::<f64>() / seeds.len() as f64;
    // One question's values side by side, so that a drawn question is one stretch of memory.
    let mut columns = vec![0.0; questions * rows.len()];
    for (s, row) in rows.iter().enumerate() {
        for (q, value) in row.iter().enumerate() {
            columns[q * rows.len() + s] = *value;
        }
    }
    let mut draws = Draws::new(bootstrap.seed);
    let mut sums = vec![0.0; rows.len()];
    let resampled: Vec<f64> = (0..bootstrap.resamples)
        .map(|_| {
            sums.fill(0.0);
            draws.indices(questions, |q| {
                for (sum, value) in sums.iter_mut().zip(&columns[q * rows.len()..]) {
                    *sum += value;
                }
            });
            let mut total = 0.0;
            draws.indices(rows.len(), |s| total += sums[s]);
            total / (rows.len() * questions) as f64
        })
        .collect();
    let percentile = Bootstrap { method: crate::BootstrapMethod::Percentile, ..*bootstrap };
    Ok(SeedSummary {
        over_seeds: if seeds.len() > 1 { Some(student_interval(&seeds, bootstrap.level)?) } else { None },
        over_both: percentile.interval(mean, resampled, Vec::new),
        seeds,
    })
}

/// A − B over several seeds of each, paired by seed and by question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SeedComparison {
    /// Name of A.
    pub first: String,
    /// Name of B.
    pub second: String,
    /// A − B.
    pub difference: SeedSummary,
    /// What follows from the wider of the two intervals.
    pub preference: Preference,
    /// The verdict in words, with the wider of the two intervals.
    pub sentence: String,
}

/// Compares A and B over seeds: `first[seed][question]` and `second[seed][question]`, the same questions everywhere.
///
/// The verdict is read off the wider of the two intervals (over seeds by Student's t, over seeds and questions by
/// bootstrap), so it stands only when both agree.
///
/// # Errors
/// Different numbers of seeds or questions, a value that is not finite, bad settings.
pub fn compare_over_seeds(
    first_name: &str,
    first: &[Vec<f64>],
    second_name: &str,
    second: &[Vec<f64>],
    bootstrap: &Bootstrap,
) -> Result<SeedComparison, MeasureError> {
    let what = format!("comparison of `{first_name}` with `{second_name}`");
    if first.len() != second.len() {
        return Err(MeasureError::length(
            &what,
            first.len(),
            second.len(),
            "give as many seeds of A as of B",
        ));
    }
    let questions = checked_rows(&what, first)?.len();
    if checked_rows(&what, second)?.len() != questions {
        return Err(MeasureError::length(
            &what,
            questions,
            second.first().map_or(0, Vec::len),
            "A and B answer the same questions",
        ));
    }
    let rows: Vec<Vec<f64>> =
        first.iter().zip(second).map(|(a, b)| a.iter().zip(b).map(|(x, y)| x - y).collect()).collect();
    let difference = over_seeds(&rows, bootstrap)?;
    let wider = match difference.over_seeds {
        Some(t) if t.high - t.low > difference.over_both.high - difference.over_both.low => t,
        _ => difference.over_both,
    };
    Ok(SeedComparison {
        first: first_name.to_string(),
        second: second_name.to_string(),
        preference: Preference::of(&wider),
        sentence: verdict_sentence(first_name, second_name, &wider, bootstrap.level, Preference::of(&wider)),
        difference,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(n: usize, right: usize) -> Vec<f64> {
        (0..n).map(|i| f64::from(u8::from(i * 7 % n < right))).collect()
    }

    #[test]
    fn mean_over_seeds() {
        let s = over_seeds(&[row(500, 200), row(500, 250), row(500, 300)], &Bootstrap::default()).unwrap();
        let t = s.over_seeds.unwrap();
        assert!((t.value - 0.5).abs() < 1e-12 && (s.over_both.value - 0.5).abs() < 1e-12);
        // s = 0.1, t(2) = 4.3027
        assert!((t.high - 0.5 - 4.302_652_73 * 0.1 / 3f64.sqrt()).abs() < 1e-6);
        assert!(s.over_both.low > 0.38 && s.over_both.low < 0.45, "{s:?}");
    }

    #[test]
    fn one_seed_has_only_questions() {
        let values = row(400, 100);
        let s = over_seeds(std::slice::from_ref(&values), &Bootstrap::default()).unwrap();
        assert_eq!(s.over_seeds, None);
        let plain = Bootstrap::default().mean(&values).unwrap();
        assert!((s.over_both.low - plain.low).abs() < 0.01 && (s.over_both.high - plain.high).abs() < 0.01);
    }

    #[test]
    fn the_wider_interval_decides() {
        // Two of three seeds gain, one loses: questions alone would call it better, seeds cannot.
        let base = row(1000, 300);
        let (up, down) = (row(1000, 450), row(1000, 280));
        let c = compare_over_seeds(
            "A",
            &[up.clone(), up.clone(), down],
            "B",
            &[base.clone(), base.clone(), base.clone()],
            &Bootstrap::default(),
        )
        .unwrap();
        assert_eq!(c.preference, Preference::Undecided, "{c:?}");
        let steady = compare_over_seeds(
            "A",
            &[up.clone(), row(1000, 440), row(1000, 460)],
            "B",
            &[base.clone(), base.clone(), base],
            &Bootstrap::default(),
        )
        .unwrap();
        assert_eq!(steady.preference, Preference::First, "{steady:?}");
        assert!(steady.sentence.contains("A is better than B by 15.0 points"), "{}", steady.sentence);
    }

    #[test]
    fn uneven_rows_are_refused() {
        let b = Bootstrap::default();
        assert!(over_seeds(&[], &b).is_err());
        assert!(over_seeds(&[vec![]], &b).is_err());
        assert!(over_seeds(&[vec![1.0], vec![1.0, 0.0]], &b).unwrap_err().to_string().contains("seed 1"));
        assert!(compare_over_seeds("A", &[vec![1.0]], "B", &[vec![1.0, 1.0]], &b).is_err());
        assert!(compare_over_seeds("A", &[vec![1.0]], "B", &[], &b).is_err());
    }
}
