//! Weights from the probabilities of whole responses (arXiv 2502.00511): Perplexity Consistency and Reasoning Pruning.
//!
//! With pᵢ the probability of path i, R the set of distinct sampled paths and g(t) the answer of a path:
//!
//! - Perplexity Consistency: p̂(a) = Σ over t in R with g(t) = a of p(t);
//! - Reasoning Pruning, before it: a [`WeibullMixture`] is fitted to {pᵢ}; path i is dropped when it belongs to the
//!   component with the larger mean with a probability below ½ *and* pᵢ < mean(p).

use crate::weibull::WeibullMixture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// Below this largest log-probability the exponentials would vanish; weights are then taken relative to the largest.
const VANISHING: f64 = -600.0;

/// What a path that was kept weighs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PathWeight {
    /// Its probability.
    #[default]
    Probability,
    /// 1: self-consistency over what pruning left (an ablation of the paper).
    One,
}

/// How probabilities of paths become weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PathRule {
    /// Whether improbable paths are dropped first.
    pub prune: bool,
    /// What a kept path weighs.
    pub weight: PathWeight,
    /// Whether a path counts each time it was sampled (an ablation); the method counts it once.
    pub duplicates: bool,
}

impl Default for PathRule {
    fn default() -> Self {
        PathRule { prune: true, weight: PathWeight::Probability, duplicates: false }
    }
}

/// What became of the paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PathCount {
    /// Paths with a probability.
    pub known: usize,
    /// Distinct ones among them.
    pub distinct: usize,
    /// Samples dropped as improbable.
    pub pruned: usize,
    /// Whether a mixture could be fitted; without one nothing is dropped.
    pub fitted: bool,
}

/// Weights in sample order, with what became of the paths.
#[derive(Debug, Clone, PartialEq)]
pub struct PathWeights {
    /// 0 for a path that was dropped, counted before, or has no probability.
    pub weights: Vec<f64>,
    /// The numbers.
    pub count: PathCount,
}

/// Which paths are dropped: true for P_high < ½ and p below the mean. `None` where no mixture can be fitted.
///
/// The guard of the mean keeps at least the likeliest path, always.
pub fn pruned(probabilities: &[f64]) -> Option<Vec<bool>> {
    WeibullMixture::fit(probabilities).map(|mixture| dropped(&mixture, probabilities))
}

fn dropped(mixture: &WeibullMixture, probabilities: &[f64]) -> Vec<bool> {
    let mean = probabilities.iter().sum::<f64>() / probabilities.len() as f64;
    // A probability that is not a number compares as false: such a path stays.
    probabilities.iter().map(|&p| p < mean && mixture.probability_high(p) < 0.5).collect()
}

/// The weights of samples by log-probability (mean per token in the method; the sum breaks on uneven lengths).
///
/// `paths[i]` is the text of sample i; an empty or missing one is taken as different from all others. Samples without a
/// log-probability weigh 0 and take no part in the fit. All others do, also repeated ones and those without an answer.
pub fn path_weights(logprobs: &[Option<f64>], paths: &[&str], rule: PathRule) -> PathWeights {
    let known: Vec<usize> = (0..logprobs.len()).filter(|&i| logprobs[i].is_some()).collect();
    let logs: Vec<f64> = known.iter().filter_map(|&i| logprobs[i]).map(|l| l.min(0.0)).collect();
    let probabilities: Vec<f64> = logs.iter().map(|l| l.exp()).collect();
    let drop = if rule.prune { pruned(&probabilities) } else { None };
    let largest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let shift = if largest < VANISHING { largest } else { 0.0 };
    let mut seen: HashSet<&str> = HashSet::with_capacity(known.len());
    let mut found = PathWeights {
        weights: vec![0.0; logprobs.len()],
        count: PathCount { known: known.len(), distinct: 0, pruned: 0, fitted: drop.is_some() },
    };
    for (position, &sample) in known.iter().enumerate() {
        let text = paths.get(sample).copied().unwrap_or_default();
        let fresh = text.is_empty() || seen.insert(text);
        found.count.distinct += usize::from(fresh);
        if drop.as_ref().is_some_and(|drop| drop[position]) {
            found.count.pruned += 1;
        } else if fresh || rule.duplicates {
            found.weights[sample] = match rule.weight {
                PathWeight::Probability => (logs[position] - shift).exp(),
                PathWeight::One => 1.0,
            };
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weibull::Weibull;
    use crate::{Ballot, Rule};
    use proptest::prelude::*;

    const ANSWERS: [Option<&str>; 6] = [Some("A"), Some("A"), Some("B"), Some("B"), Some("B"), Some("C")];
    const PATHS: [f64; 6] = [0.85, 0.80, 0.62, 0.55, 0.50, 0.30];
    const PC: PathRule = PathRule { prune: false, weight: PathWeight::Probability, duplicates: false };

    fn ballot(rule: Rule, scores: &[Option<f64>], paths: &[&str]) -> crate::Choice {
        Ballot { answers: &ANSWERS, scores, paths }.choose(rule, |left, right| left == right).unwrap()
    }

    #[test]
    fn the_numbers_of_the_sheet() {
        let mean = [-0.1f64, -0.3, -0.2].iter().sum::<f64>() / 3.0;
        assert!((mean.exp() - 0.8187307531).abs() < 1e-10);
        let scores = PATHS.map(|p| Some(p.ln()));
        assert_eq!(ballot(Rule::Majority, &scores, &[]).votes[0].answer, "B");
        let pc = ballot(Rule::Path(PC), &scores, &[]);
        let total: f64 = pc.votes.iter().map(|v| v.weight).sum();
        for (vote, (answer, share)) in
            pc.votes.iter().zip([("B", 0.461326), ("A", 0.455801), ("C", 0.082873)])
        {
            assert!(vote.answer == answer && (vote.weight / total - share).abs() < 1e-6, "{vote:?}");
        }
        assert!((pc.share.unwrap() - 0.461326).abs() < 1e-6);
        let mixture = WeibullMixture {
            weight: 0.5,
            high: Weibull { shape: 8.0, scale: 0.9 },
            low: Weibull { shape: 2.0, scale: 0.4 },
        };
        let drop = dropped(&mixture, &PATHS);
        assert_eq!(drop, [false, false, false, true, true, true], "0.62 stays by the guard of the mean");
        let kept: Vec<Option<f64>> = scores.iter().zip(drop).map(|(s, drop)| s.filter(|_| !drop)).collect();
        let rpc = ballot(Rule::Path(PC), &kept, &[]);
        assert_eq!(rpc.votes[0].answer, "A");
        assert!((rpc.share.unwrap() - 0.726872).abs() < 1e-6, "{rpc:?}");
        let variance = 0.3 * (1.0 - 0.3) / 16.0;
        assert!((variance - 0.013125f64).abs() < 1e-12);
    }

    #[test]
    fn a_path_counts_once_unless_asked_otherwise() {
        let scores = [Some(-0.1), Some(-0.1), Some(-0.5), None];
        let paths = ["same", "same", "", ""];
        let once = path_weights(&scores, &paths, PC);
        assert_eq!((once.weights[1], once.count.known, once.count.distinct), (0.0, 3, 2));
        let each = path_weights(&scores, &paths, PathRule { duplicates: true, ..PC });
        assert_eq!(each.weights[0], each.weights[1]);
        let one = path_weights(&scores, &paths, PathRule { weight: PathWeight::One, duplicates: true, ..PC });
        assert_eq!(one.weights, [1.0, 1.0, 1.0, 0.0], "without a probability nothing is weighed");
    }

    #[test]
    fn near_equal_or_few_paths_are_not_pruned() {
        let scores = [Some(-0.3), Some(-0.2), Some(-0.1)];
        let found = path_weights(&scores, &[], PathRule::default());
        assert_eq!((found.count.pruned, found.count.fitted), (0, false));
    }

    #[test]
    fn summed_log_probabilities_of_long_responses_do_not_vanish() {
        let found = path_weights(&[Some(-2000.0), Some(-2001.0)], &[], PC);
        assert!((found.weights[1] / found.weights[0] - (-1f64).exp()).abs() < 1e-12);
    }

    #[test]
    fn two_clear_clusters_are_told_apart() {
        let high = (0..12).map(|i| 0.85 + 0.008 * f64::from(i));
        let low = (0..20).map(|i| 0.2 + 0.012 * f64::from(i));
        let p: Vec<f64> = high.chain(low).collect();
        let drop = pruned(&p).unwrap();
        assert!(drop[..12].iter().all(|d| !d), "no probable path is dropped");
        assert!(drop[12..].iter().filter(|d| **d).count() >= 18, "{drop:?}");
    }

    /// The theory of the paper, on a known distribution over paths: the variance of self-consistency is p(1 − p)/n, and
    /// the error of Perplexity Consistency falls like α^n.
    #[test]
    fn estimation_errors_follow_the_theory() {
        use rand::{RngExt, SeedableRng};
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(5);
        // Answer A has k = 4 paths of 0.1; the rest is one path of B.
        let (trials, p) = (20_000, 0.4);
        let mut errors = Vec::new();
        for n in [8usize, 16, 32] {
            let (mut vote, mut path) = (0.0, 0.0);
            for _ in 0..trials {
                let mut seen = [false; 4];
                let mut hits = 0;
                for _ in 0..n {
                    let draw: f64 = random.random();
                    if draw < p {
                        seen[(draw / 0.1) as usize % 4] = true;
                        hits += 1;
                    }
                }
                let found = seen.iter().filter(|s| **s).count() as f64 * 0.1;
                vote += (hits as f64 / n as f64 - p).powi(2);
                path += (found - p).powi(2);
            }
            let (vote, path) = (vote / f64::from(trials), path / f64::from(trials));
            let theory = p * (1.0 - p) / n as f64;
            assert!((vote / theory - 1.0).abs() < 0.1, "n = {n}: {vote} against {theory}");
            errors.push((path, vote));
        }
        // Doubling n squares an exponential and halves 1/n.
        assert!(errors[2].0 / errors[1].0 < 0.3 && errors[2].1 / errors[1].1 > 0.4, "{errors:?}");
    }

    proptest! {
        #[test]
        fn the_likeliest_path_is_never_dropped(logs in prop::collection::vec(-4.0f64..0.0, 1..40)) {
            let scores: Vec<Option<f64>> = logs.iter().copied().map(Some).collect();
            let found = path_weights(&scores, &[], PathRule::default());
            let best = (0..logs.len()).max_by(|&a, &b| logs[a].total_cmp(&logs[b])).unwrap();
            prop_assert!(found.weights[best] > 0.0);
            prop_assert_eq!(found.weights.iter().filter(|w| **w == 0.0).count(), found.count.pruned);
        }
    }
}
