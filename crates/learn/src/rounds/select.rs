//! Selecting training rows from scored samples: threshold, cap per query, de-duplication, target size.

use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// One sample with its reward.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoredSample {
    /// The response.
    pub text: String,
    /// Reward, higher is better.
    pub reward: f64,
    /// Whether the verifier accepts the answer.
    pub correct: bool,
}

/// What is kept: indices `(query, sample)` in order of query, then of falling reward.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// The kept samples.
    pub kept: Vec<(usize, usize)>,
    /// Cap per query at which the target was reached (or the last one tried).
    pub cap: usize,
}

/// The samples of one query that can be kept at all: first of each distinct text, by falling reward (ties: first drawn).
fn candidates(samples: &[ScoredSample]) -> Vec<usize> {
    let mut seen = HashSet::new();
    let mut order: Vec<usize> =
        (0..samples.len()).filter(|&i| seen.insert(samples[i].text.as_str())).collect();
    order.sort_by(|&a, &b| samples[b].reward.total_cmp(&samples[a].reward));
    order
}

/// Pools ready for many thresholds: sorting and de-duplication are done once.
#[derive(Debug)]
pub struct Pools<'a> {
    queries: &'a [Vec<ScoredSample>],
    order: Vec<Vec<usize>>,
}

impl<'a> Pools<'a> {
    /// Prepares the samples of all queries.
    pub fn new(queries: &'a [Vec<ScoredSample>]) -> Self {
        Pools { queries, order: queries.iter().map(|q| candidates(q)).collect() }
    }

    /// How many samples of a query lie above the threshold.
    fn above(&self, query: usize, threshold: f64) -> usize {
        self.order[query].partition_point(|&i| self.queries[query][i].reward > threshold)
    }

    /// Keeps samples with reward above `threshold`, at most k per query, best first; k starts at 1 and rises by 1
    /// until the total reaches `target` or `most_per_query` (arXiv 2412.17256, section 3, step 3).
    pub fn select(&self, threshold: f64, target: usize, most_per_query: usize) -> Selection {
        let above: Vec<usize> = (0..self.queries.len()).map(|q| self.above(q, threshold)).collect();
        let total = |cap: usize| above.iter().map(|&n| n.min(cap)).sum::<usize>();
        let cap =
            (1..=most_per_query.max(1)).find(|&cap| total(cap) >= target).unwrap_or(most_per_query.max(1));
        let kept = above
            .iter()
            .enumerate()
            .flat_map(|(query, &n)| {
                self.order[query][..n.min(cap)].iter().map(move |&sample| (query, sample))
            })
            .collect();
        Selection { kept, cap }
    }

    /// `(unique and correct, kept)` per query: what the balance score is made of.
    pub fn yields(&self, selection: &Selection) -> Vec<(usize, usize)> {
        let mut counts = vec![(0, 0); self.queries.len()];
        for &(query, sample) in &selection.kept {
            counts[query].1 += 1;
            counts[query].0 += usize::from(self.queries[query][sample].correct);
        }
        counts
    }

    /// Mean balance score over ALL queries (those that yield nothing count 0):
    /// `bs_i = min(n'_i / n*, 1) · n'_i / n_i` with n'_i unique correct rows and n_i kept rows.
    pub fn balance(&self, selection: &Selection, wanted: f64) -> f64 {
        let yields = self.yields(selection);
        let sum: f64 =
            yields
                .iter()
                .map(|&(good, kept)| {
                    if kept == 0 { 0.0 } else { (good as f64 / wanted).min(1.0) * good as f64 / kept as f64 }
                })
                .sum();
        sum / yields.len().max(1) as f64
    }

    /// The threshold of the grid with the highest mean balance score (ties: the lowest threshold), with that score.
    pub fn best_threshold(
        &self,
        grid: &[f64],
        target: usize,
        most_per_query: usize,
        wanted: f64,
    ) -> (f64, f64) {
        let mut best = (grid.first().copied().unwrap_or(0.0), f64::NEG_INFINITY);
        for &threshold in grid {
            let score = self.balance(&self.select(threshold, target, most_per_query), wanted);
            if score > best.1 + 1e-12 {
                best = (threshold, score);
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(text: &str, reward: f64, correct: bool) -> ScoredSample {
        ScoredSample { text: text.into(), reward, correct }
    }

    /// A query that keeps `kept` rows of which `good` are correct.
    fn query(good: usize, kept: usize) -> Vec<ScoredSample> {
        (0..kept).map(|i| sample(&format!("s{i}"), 1.0, i < good)).collect()
    }

    fn mean_balance(counts: &[(usize, usize)]) -> f64 {
        let queries: Vec<_> = counts.iter().map(|&(good, kept)| query(good, kept)).collect();
        let pools = Pools::new(&queries);
        pools.balance(&pools.select(0.0, usize::MAX, 64), 8.0)
    }

    #[test]
    fn numeric_examples_of_the_sheet() {
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} is not {b}");
        close(mean_balance(&[(6, 8)]), 0.5625);
        close(mean_balance(&[(10, 16)]), 0.625);
        close(mean_balance(&[(2, 2)]), 0.25);
        close(mean_balance(&[(0, 3)]), 0.0);
        close(mean_balance(&[(6, 8), (10, 16), (2, 2), (0, 3)]), 0.359375);
        close(mean_balance(&[(4, 4), (1, 1)]), 0.3125);
        close(mean_balance(&[(8, 10), (3, 6)]), 0.49375);
    }

    #[test]
    fn the_threshold_is_exclusive_and_duplicates_count_once() {
        // Rewards of the sheet: right with min step 0.6, wrong with −0.4, wrong with −0.6.
        let queries = vec![vec![
            sample("a", 1.12, true),
            sample("b", -0.08, false),
            sample("c", -0.12, false),
            sample("a", 1.12, true),
        ]];
        let pools = Pools::new(&queries);
        assert_eq!(
            pools.select(-0.1, 9, 64).kept,
            [(0, 0), (0, 1)],
            "−0.08 stays, −0.12 goes, the second `a` is the first"
        );
        assert_eq!(pools.select(1.12, 9, 64).kept, [], "r > τ, not ≥");
    }

    #[test]
    fn the_cap_rises_until_the_target_is_met() {
        let queries = vec![query(5, 5), query(1, 1)];
        let pools = Pools::new(&queries);
        assert_eq!(pools.select(0.0, 2, 64), Selection { kept: vec![(0, 0), (1, 0)], cap: 1 });
        assert_eq!(pools.select(0.0, 4, 64).cap, 3, "3 of the first and 1 of the second");
        assert_eq!(pools.select(0.0, 100, 2).kept.len(), 3, "the cap per query holds");
    }

    #[test]
    fn a_query_without_yield_counts_zero_not_nothing() {
        let queries = vec![query(2, 2), Vec::new()];
        let pools = Pools::new(&queries);
        assert_eq!(pools.balance(&pools.select(0.0, 9, 9), 2.0), 0.5);
    }

    proptest! {
        #[test]
        fn a_higher_threshold_never_keeps_more(rewards in prop::collection::vec(prop::collection::vec(-1.0f64..1.5, 0..6), 1..6), low in -1.0f64..1.0, gap in 0.0f64..1.0) {
            let queries: Vec<Vec<ScoredSample>> = rewards.iter().map(|q| q.iter().enumerate().map(|(i, &r)| sample(&i.to_string(), r, r > 0.5)).collect()).collect();
            let pools = Pools::new(&queries);
            let many = pools.select(low, usize::MAX, 64).kept.len();
            let few = pools.select(low + gap, usize::MAX, 64).kept.len();
            prop_assert!(few <= many, "{few} > {many}");
        }
    }
}
