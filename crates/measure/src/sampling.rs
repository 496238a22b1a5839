//! Metrics over several samples of one question: pass@k, maj@k, pass@K-S, best-of-K, Reward@K-S, balance score.
//!
//! All "at k" metrics are expectations over the draw of k of the n recorded samples without replacement, so a question
//! sampled more often than k gives a less noisy estimate of the same number.

use crate::MeasureError;
use crate::special::ln_choose;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Work (inner-loop steps) up to which [`Ballot::majority_at`] is computed exactly.
const EXACT_WORK: usize = 20_000_000;
/// Subsets drawn where the exact sum would be too long: standard error at most 0.5 / √20,000 = 0.0035.
const SUBSET_DRAWS: usize = 20_000;

fn k_in_range(what: &str, k: usize, samples: usize) -> Result<(), MeasureError> {
    if k == 0 || k > samples {
        return Err(MeasureError::value(
            what,
            format!("k = {k} of {samples} samples"),
            "k is at least 1 and at most the number of samples per question: draw more samples or lower k",
        ));
    }
    Ok(())
}

/// C(total − excluded, k) / C(total, k): the probability that k draws avoid `excluded` of `total` samples.
///
/// A product of at most min(k, excluded) factors in [0, 1], so nothing overflows however large the numbers are.
fn avoid(total: usize, excluded: usize, k: usize) -> f64 {
    if excluded + k > total {
        return 0.0;
    }
    let (short, long) = if k < excluded { (k, excluded) } else { (excluded, k) };
    (0..short).map(|i| 1.0 - long as f64 / (total - i) as f64).product()
}

/// Unbiased pass@k of one question: 1 − C(n−c, k) / C(n, k), the chance that k of its n samples hold a right one.
///
/// # Errors
/// `k` is 0 or above `samples`, or `correct` exceeds `samples`.
///
/// ```
/// assert!((elenchus_measure::pass_at_k(4, 1, 2)? - 0.5).abs() < 1e-15);
/// # Ok::<(), elenchus_measure::MeasureError>(())
/// ```
pub fn pass_at_k(samples: usize, correct: usize, k: usize) -> Result<f64, MeasureError> {
    k_in_range("pass@k", k, samples)?;
    if correct > samples {
        return Err(MeasureError::value(
            "pass@k",
            format!("{correct} right of {samples} samples"),
            "the number of right samples cannot exceed their total",
        ));
    }
    Ok(1.0 - avoid(samples, correct, k))
}

/// [`pass_at_k`] of each question, given as (samples, right samples); feed it to a bootstrap or take its mean.
pub fn pass_at_k_each(questions: &[(usize, usize)], k: usize) -> Result<Vec<f64>, MeasureError> {
    if questions.is_empty() {
        return Err(MeasureError::empty("pass@k", "give at least one question"));
    }
    questions.iter().map(|&(samples, correct)| pass_at_k(samples, correct, k)).collect()
}

/// The samples of one question that gave the same answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AnswerClass {
    /// Samples that gave it, at least 1.
    pub count: usize,
    /// Whether it is right.
    pub correct: bool,
}

/// How the samples of one question fell on answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ballot {
    /// One entry per distinct answer.
    pub classes: Vec<AnswerClass>,
    /// Samples without an answer: drawn like the others, but they do not vote.
    pub unanswered: usize,
}

impl Ballot {
    /// Groups answers by their text; bring them into the task's normal form before. A `None` is a sample without answer.
    ///
    /// # Errors
    /// One answer is marked right in one sample and wrong in another.
    pub fn from_answers<'a>(
        answers: impl IntoIterator<Item = (Option<&'a str>, bool)>,
    ) -> Result<Ballot, MeasureError> {
        let mut ballot = Ballot::default();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for (answer, correct) in answers {
            let Some(answer) = answer else {
                ballot.unanswered += 1;
                continue;
            };
            let place = *places.entry(answer).or_insert(ballot.classes.len());
            match ballot.classes.get_mut(place) {
                None => ballot.classes.push(AnswerClass { count: 1, correct }),
                Some(class) if class.correct == correct => class.count += 1,
                Some(_) => {
                    return Err(MeasureError::value(
                        "majority vote",
                        format!("answer `{answer}` is marked both right and wrong"),
                        "mark equal answers alike; group answers by the task's equivalence first",
                    ));
                }
            }
        }
        Ok(ballot)
    }

    /// All samples, answered or not.
    pub fn samples(&self) -> usize {
        self.unanswered + self.classes.iter().map(|c| c.count).sum::<usize>()
    }

    /// maj@k: the chance that the most frequent answer among k of the samples is right.
    ///
    /// Ties are shared evenly (in a random order of the draws the first of the tied answers is each of them equally
    /// often, so "first to appear wins" has the same expectation). When none of the k samples has an answer the vote
    /// is wrong. Exact: the draws are counted, class by class, with hypergeometric probabilities; only where that sum
    /// is very long (some hundred distinct answers and k in the hundreds) 20,000 subsets are drawn from `seed`
    /// instead.
    ///
    /// # Errors
    /// `k` is 0 or exceeds the number of samples.
    pub fn majority_at(&self, k: usize, seed: u64) -> Result<f64, MeasureError> {
        let samples = self.samples();
        k_in_range("maj@k", k, samples)?;
        if self.classes.iter().all(|c| !c.correct) {
            return Ok(0.0);
        }
        if self.classes.iter().all(|c| c.correct) {
            return Ok(1.0 - avoid(samples, samples - self.unanswered, k));
        }
        if k == samples {
            return Ok(self.plurality(&self.classes.iter().map(|c| c.count).collect::<Vec<_>>()));
        }
        let largest = self.classes.iter().map(|c| c.count).max().unwrap_or(0).min(k);
        let right_classes = self.classes.iter().filter(|c| c.correct).count();
        let work = (1..=largest)
            .map(|m| self.classes.len() * k * (k / m + 1) * (right_classes.min(k / m) + 1) * (m + 1))
            .sum::<usize>();
        if work <= EXACT_WORK { Ok(self.majority_exactly(k)) } else { Ok(self.majority_by_draws(k, seed)) }
    }

    /// Value of a vote with these counts per class: the share of the tied leaders that is right.
    fn plurality(&self, counts: &[usize]) -> f64 {
        let top = counts.iter().copied().max().unwrap_or(0);
        if top == 0 {
            return 0.0;
        }
        let leaders = counts.iter().zip(&self.classes).filter(|(c, _)| **c == top);
        let (tied, right) =
            leaders.fold((0usize, 0usize), |(t, r), (_, class)| (t + 1, r + usize::from(class.correct)));
        right as f64 / tied as f64
    }

    /// Sums over the leading count m and the numbers of right and wrong leaders.
    ///
    /// For a fixed m the state after some classes is (draws left, right leaders, wrong leaders); leaders are the
    /// classes drawn exactly m times, every other class is drawn fewer than m times. The value of a final state is
    /// right / (right + wrong).
    fn majority_exactly(&self, k: usize) -> f64 {
        let samples = self.samples();
        let mut ordered = self.classes.clone();
        // Right classes first, so that the number of right leaders is settled early and the state stays small.
        ordered.sort_by_key(|c| !c.correct);
        let largest = ordered.iter().map(|c| c.count).max().unwrap_or(0).min(k);
        let logs = LogFactorials::new(samples);
        let mut total = 0.0;
        let right_classes = ordered.iter().filter(|c| c.correct).count();
        for m in 1..=largest {
            // No more than k / m classes can be drawn m times.
            let rights = right_classes.min(k / m) + 1;
            let wrongs = (ordered.len() - right_classes).min(k / m) + 1;
            let at = |left: usize, right: usize, wrong: usize| (left * rights + right) * wrongs + wrong;
            let mut states = vec![0.0; (k + 1) * rights * wrongs];
            states[at(k, 0, 0)] = 1.0;
            let mut population = samples;
            for class in &ordered {
                let rest = population - class.count;
                let mut next = vec![0.0; states.len()];
                for left in 0..=k {
                    // Draws that the later classes and the unanswered samples cannot take fall on this class.
                    let (least, most) = (left.saturating_sub(rest), class.count.min(m).min(left));
                    for drawn in least..=most {
                        let chance = logs.hypergeometric(class.count, rest, drawn, left);
                        let leads = usize::from(drawn == m);
                        let (to_right, to_wrong) = if class.correct { (leads, 0) } else { (0, leads) };
                        for right in 0..rights - to_right {
                            for wrong in 0..wrongs - to_wrong {
                                let weight = states[at(left, right, wrong)];
                                if weight > 0.0 {
                                    next[at(left - drawn, right + to_right, wrong + to_wrong)] +=
                                        weight * chance;
                                }
                            }
                        }
                    }
                }
                states = next;
                population = rest;
            }
            for left in 0..=k {
                for right in 1..rights {
                    for wrong in 0..wrongs {
                        total += states[at(left, right, wrong)] * right as f64 / (right + wrong) as f64;
                    }
                }
            }
        }
        total.clamp(0.0, 1.0)
    }

    fn majority_by_draws(&self, k: usize, seed: u64) -> f64 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut samples: Vec<Option<usize>> = vec![None; self.unanswered];
        for (class, entry) in self.classes.iter().enumerate() {
            samples.extend(std::iter::repeat_n(Some(class), entry.count));
        }
        let mut counts = vec![0usize; self.classes.len()];
        let mut total = 0.0;
        for _ in 0..SUBSET_DRAWS {
            counts.fill(0);
            let (drawn, _) = samples.partial_shuffle(&mut random, k);
            for class in drawn.iter().flatten() {
                counts[*class] += 1;
            }
            total += self.plurality(&counts);
        }
        total / SUBSET_DRAWS as f64
    }
}

/// ln n! for n up to a bound, once, because the inner loops need nine of them per term.
struct LogFactorials(Vec<f64>);

impl LogFactorials {
    fn new(up_to: usize) -> Self {
        let mut table = Vec::with_capacity(up_to + 1);
        let mut sum = 0.0;
        table.push(0.0);
        for n in 1..=up_to {
            sum += (n as f64).ln();
            table.push(sum);
        }
        LogFactorials(table)
    }

    fn choose(&self, n: usize, k: usize) -> f64 {
        self.0[n] - self.0[k] - self.0[n - k]
    }

    /// P(`drawn` of `count` marked) in `draws` draws from `count + rest`; the caller has checked the ranges.
    fn hypergeometric(&self, count: usize, rest: usize, drawn: usize, draws: usize) -> f64 {
        (self.choose(count, drawn) + self.choose(rest, draws - drawn) - self.choose(count + rest, draws))
            .exp()
    }
}

/// pass@K-S of one question: the chance that k of its samples hold at least `distinct` different right solutions.
///
/// `counts` has, for every different right solution, how many samples gave it; `samples` is the number of all samples.
/// With k = samples it is 0 or 1. Exact, by counting draws class by class.
///
/// # Errors
/// `k` is 0 or exceeds `samples`, `distinct` is 0, or the counts add up to more than `samples`.
pub fn pass_at_k_distinct(
    counts: &[usize],
    samples: usize,
    k: usize,
    distinct: usize,
) -> Result<f64, MeasureError> {
    k_in_range("pass@K-S", k, samples)?;
    let right = counts.iter().sum::<usize>();
    if distinct == 0 || right > samples {
        return Err(MeasureError::value(
            "pass@K-S",
            format!("S = {distinct}, {right} right of {samples} samples"),
            "S is at least 1 and right samples cannot exceed all samples",
        ));
    }
    let found = counts.iter().filter(|&&c| c > 0).count();
    if found < distinct {
        return Ok(0.0);
    }
    if k == samples {
        return Ok(1.0);
    }
    let logs = LogFactorials::new(samples);
    // states[left][classes seen], the number of seen classes capped at `distinct`.
    let width = distinct + 1;
    let mut states = vec![0.0; (k + 1) * width];
    states[k * width] = 1.0;
    let mut population = samples;
    for &count in counts {
        let rest = population - count;
        let mut next = vec![0.0; states.len()];
        for left in 0..=k {
            for seen in 0..width {
                let weight = states[left * width + seen];
                if weight == 0.0 {
                    continue;
                }
                for drawn in 0..=count.min(left) {
                    if left - drawn > rest {
                        continue;
                    }
                    let after = (seen + usize::from(drawn > 0)).min(distinct);
                    next[(left - drawn) * width + after] +=
                        weight * logs.hypergeometric(count, rest, drawn, left);
                }
            }
        }
        states = next;
        population = rest;
    }
    Ok((0..=k).map(|left| states[left * width + distinct]).sum::<f64>().clamp(0.0, 1.0))
}

/// How often each different right solution occurs, for [`pass_at_k_distinct`]; solutions are compared by
/// [`normalised_text`].
pub fn distinct_correct<'a>(samples: impl IntoIterator<Item = (&'a str, bool)>) -> Vec<usize> {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut counts = Vec::new();
    for (text, correct) in samples {
        if correct {
            let place = *places.entry(normalised_text(text)).or_insert(counts.len());
            if place == counts.len() {
                counts.push(0);
            }
            counts[place] += 1;
        }
    }
    counts
}

/// A text in the form in which duplicates are found: trimmed, and every run of white space one space.
pub fn normalised_text(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// One scored sample.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Scored {
    /// Higher is better.
    pub score: f64,
    /// Whether the sample is right.
    pub correct: bool,
}

fn ranked(what: &str, samples: &[Scored]) -> Result<Vec<Scored>, MeasureError> {
    if let Some(at) = samples.iter().position(|s| s.score.is_nan()) {
        return Err(MeasureError::value(
            format!("{what}, sample {at}"),
            "the score is NaN",
            "a sample without a score has to be left out or given the lowest score by the caller",
        ));
    }
    let mut ranked = samples.to_vec();
    ranked.sort_by(|a, b| b.score.total_cmp(&a.score));
    Ok(ranked)
}

/// Best-of-K of one question: the chance that the best-scored of k of its samples is right; ties are shared evenly.
///
/// The best of k random samples falls into the tied group at ranks a..b (0-based, b excluded) with probability
/// \[C(n−a, k) − C(n−b, k)\] / C(n, k).
///
/// # Errors
/// `k` is 0 or exceeds the number of samples, or a score is NaN. Infinite scores are allowed (a mask).
pub fn best_of_k(samples: &[Scored], k: usize) -> Result<f64, MeasureError> {
    k_in_range("best-of-k", k, samples.len())?;
    let ranked = ranked("best-of-k", samples)?;
    let n = ranked.len();
    let mut value = 0.0;
    let mut start = 0;
    while start < n {
        let end = start + ranked[start..].iter().take_while(|s| s.score == ranked[start].score).count();
        let right = ranked[start..end].iter().filter(|s| s.correct).count();
        let chance = avoid(n, start, k) - avoid(n, end, k);
        value += chance * right as f64 / (end - start) as f64;
        start = end;
    }
    Ok(value.clamp(0.0, 1.0))
}

/// Which of K samples a reward selects.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// The given number of best-scored samples; of equal scores the earlier sample.
    Top(usize),
    /// Every sample with a score above the threshold.
    Above(f64),
}

/// Reward@K-S of one question: whether the samples that the reward selects hold at least `wanted` right ones.
///
/// `Selection::Top(S)` with `wanted` = S asks that all of the S best-scored samples are right. K is the number of
/// samples given.
///
/// # Errors
/// No samples, `wanted` is 0, a `Top` of 0 or of more than there are, or a NaN.
pub fn reward_at_k(samples: &[Scored], selection: Selection, wanted: usize) -> Result<bool, MeasureError> {
    if samples.is_empty() {
        return Err(MeasureError::empty("Reward@K-S", "give the K samples of the question"));
    }
    if wanted == 0 {
        return Err(MeasureError::value("Reward@K-S", "S = 0", "S is at least 1"));
    }
    let ranked = ranked("Reward@K-S", samples)?;
    let right = match selection {
        Selection::Top(count) => {
            k_in_range("Reward@K-S", count, ranked.len())?;
            ranked[..count].iter().filter(|s| s.correct).count()
        }
        Selection::Above(threshold) if threshold.is_nan() => {
            return Err(MeasureError::value("Reward@K-S", "the threshold is NaN", "give a number"));
        }
        Selection::Above(threshold) => ranked.iter().filter(|s| s.score > threshold && s.correct).count(),
    };
    Ok(right >= wanted)
}

/// Balance score of one query (arXiv 2412.17256): min(n′/n*, 1) · (n′/n), 0 when nothing was kept.
///
/// n = `kept` rows after selection, n′ = `unique_correct` of them, n* = `wanted` unique right rows per query.
///
/// # Errors
/// `wanted` is 0 or `unique_correct` exceeds `kept`.
pub fn balance_score(unique_correct: usize, kept: usize, wanted: usize) -> Result<f64, MeasureError> {
    if wanted == 0 || unique_correct > kept {
        return Err(MeasureError::value(
            "balance score",
            format!("n' = {unique_correct}, n = {kept}, n* = {wanted}"),
            "n* is at least 1 and the unique right rows are a part of the kept rows",
        ));
    }
    if kept == 0 {
        return Ok(0.0);
    }
    let right = unique_correct as f64;
    Ok((right / wanted as f64).min(1.0) * right / kept as f64)
}

/// Mean [`balance_score`] over queries given as (n′, n). A query from which nothing was kept counts 0; leaving it out
/// would hide that it yields nothing.
pub fn mean_balance_score(queries: &[(usize, usize)], wanted: usize) -> Result<f64, MeasureError> {
    if queries.is_empty() {
        return Err(MeasureError::empty(
            "balance score",
            "give every probed query, also those that kept nothing",
        ));
    }
    let mut sum = 0.0;
    for &(unique_correct, kept) in queries {
        sum += balance_score(unique_correct, kept, wanted)?;
    }
    Ok(sum / queries.len() as f64)
}

/// Probability of at least as extreme a split of `left` + `right` fair coin flips, two-sided and exact.
pub(crate) fn sign_test(left: usize, right: usize) -> f64 {
    let (n, few) = (left + right, left.min(right));
    if n == 0 || left == right {
        return 1.0;
    }
    let half = (0..=few).map(|i| (ln_choose(n, i) - n as f64 * std::f64::consts::LN_2).exp()).sum::<f64>();
    (2.0 * half).min(1.0)
}

/// Entropy of the answers of a question over clusters of equivalent answers, −Σ p_k ln p_k in nats (semantic entropy,
/// discrete form): 0 when all samples agree, ln k when k answers are equally frequent. `None` without samples.
///
/// `counts` has the samples of each cluster; empty clusters do not count.
pub fn semantic_entropy(counts: &[usize]) -> Option<f64> {
    let total: usize = counts.iter().sum();
    (total > 0).then(|| {
        let shares = counts.iter().filter(|&&count| count > 0).map(|&count| count as f64 / total as f64);
        // Never −0.0.
        shares.map(|p| -p * p.ln()).sum::<f64>().max(0.0)
    })
}

/// Certainty of a vote, ln(f₁ / f₂) with f₁ ≥ f₂ the samples of the most and the second most frequent answer (arXiv
/// 2310.04815): 0 for a tie, infinite when all samples agree. `None` without samples.
pub fn vote_certainty(counts: &[usize]) -> Option<f64> {
    let (mut first, mut second) = (0, 0);
    for &count in counts {
        if count > first {
            (first, second) = (count, first);
        } else {
            second = second.max(count);
        }
    }
    (first > 0).then(|| if second == 0 { f64::INFINITY } else { (first as f64 / second as f64).ln() })
}

/// Share of an error that a method takes away, (before − after) / before; `None` when there was no error.
pub fn error_reduction(before: f64, after: f64) -> Option<f64> {
    (before > 0.0).then(|| (before - after) / before)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} is not {b}");
    }

    #[test]
    fn entropy_and_certainty_of_votes() {
        // 12, 12, 15, 12, 9 (arXiv 2506.11930).
        assert!((semantic_entropy(&[3, 1, 1]).unwrap() - 0.950_271).abs() < 1e-6);
        assert_eq!(semantic_entropy(&[5, 0]), Some(0.0));
        assert_eq!(semantic_entropy(&[]), None);
        // Numbers of arXiv 2310.04815: 4 of 18, 3 of 20, 3 of 16; 12 against 2; 6 against 3.
        for (counts, wanted) in [
            (&[4usize, 3, 3][..], 0.287_682),
            (&[2, 12], 1.791_759),
            (&[6, 3], std::f64::consts::LN_2),
            (&[4, 4], 0.0),
        ] {
            assert!((vote_certainty(counts).unwrap() - wanted).abs() < 1e-6, "{counts:?}");
        }
        assert_eq!(vote_certainty(&[7, 0]), Some(f64::INFINITY));
        assert_eq!(vote_certainty(&[0]), None);
        assert!((error_reduction(0.20, 0.17).unwrap() - 0.15).abs() < 1e-12);
        assert_eq!(error_reduction(0.0, 0.1), None);
    }

    #[test]
    fn pass_at_k_by_hand() {
        close(pass_at_k(4, 1, 2).unwrap(), 0.5);
        close(pass_at_k(5, 2, 3).unwrap(), 1.0 - 1.0 / 10.0);
        close(pass_at_k(10, 0, 10).unwrap(), 0.0);
        close(pass_at_k(10, 1, 10).unwrap(), 1.0);
        // Large numbers neither overflow nor take long.
        let large = pass_at_k(1_000_000, 10, 100_000).unwrap();
        assert!((large - (1.0 - 0.9f64.powi(10))).abs() < 1e-4, "{large}");
        assert!(pass_at_k(4, 5, 1).is_err() && pass_at_k(4, 1, 5).is_err() && pass_at_k(4, 1, 0).is_err());
        assert_eq!(pass_at_k_each(&[(2, 1), (2, 2)], 1).unwrap(), [0.5, 1.0]);
    }

    /// All subsets of size k, each with its vote: the definition itself.
    fn majority_by_definition(ballot: &Ballot, k: usize) -> f64 {
        let mut samples: Vec<Option<usize>> = vec![None; ballot.unanswered];
        for (class, entry) in ballot.classes.iter().enumerate() {
            samples.extend(std::iter::repeat_n(Some(class), entry.count));
        }
        let (mut sum, mut subsets) = (0.0, 0);
        for mask in 0u32..1 << samples.len() {
            if mask.count_ones() as usize != k {
                continue;
            }
            let mut counts = vec![0; ballot.classes.len()];
            for (i, class) in samples.iter().enumerate() {
                if let (true, Some(class)) = (mask >> i & 1 == 1, class) {
                    counts[*class] += 1;
                }
            }
            sum += ballot.plurality(&counts);
            subsets += 1;
        }
        sum / f64::from(subsets)
    }

    #[test]
    fn majority_at_k_by_hand() {
        // Answers 7, 7, 8: of the three pairs one is (7, 7), two are ties.
        let ballot =
            Ballot::from_answers([(Some("7"), true), (Some("7"), true), (Some("8"), false)]).unwrap();
        close(ballot.majority_at(2, 0).unwrap(), (1.0 + 0.5 + 0.5) / 3.0);
        close(ballot.majority_at(1, 0).unwrap(), 2.0 / 3.0);
        close(ballot.majority_at(3, 0).unwrap(), 1.0);
        let mixed = Ballot::from_answers([(Some("7"), true), (Some("7"), false)]).unwrap_err();
        assert!(mixed.to_string().contains("`7`"), "{mixed}");
        let silent = Ballot::from_answers([(None, false), (None, false)]).unwrap();
        close(silent.majority_at(2, 0).unwrap(), 0.0);
    }

    #[test]
    fn drawn_majority_agrees_with_the_exact_one() {
        let ballot = Ballot {
            classes: [(20, true), (14, false), (9, false), (3, false)]
                .map(|(count, correct)| AnswerClass { count, correct })
                .to_vec(),
            unanswered: 5,
        };
        let exact = ballot.majority_exactly(16);
        let drawn = ballot.majority_by_draws(16, 3);
        assert!((exact - drawn).abs() < 0.015, "{exact} {drawn}");
        assert_eq!(drawn, ballot.majority_by_draws(16, 3), "the same seed gives the same draws");
    }

    #[test]
    fn majority_of_64_with_many_answers() {
        let mut classes: Vec<AnswerClass> =
            (0..30).map(|_| AnswerClass { count: 1, correct: false }).collect();
        classes.push(AnswerClass { count: 20, correct: true });
        classes.push(AnswerClass { count: 14, correct: false });
        let ballot = Ballot { classes, unanswered: 0 };
        let values: Vec<f64> = [1, 8, 32, 63].iter().map(|&k| ballot.majority_at(k, 0).unwrap()).collect();
        close(values[0], 20.0 / 64.0);
        assert!(values[3] > 0.999, "{values:?}");
    }

    #[test]
    fn pass_at_k_distinct_by_hand() {
        // Two solutions once each among four samples: a pair holds both in 1 of 6 draws, any of them in 5 of 6.
        close(pass_at_k_distinct(&[1, 1], 4, 2, 2).unwrap(), 1.0 / 6.0);
        close(pass_at_k_distinct(&[1, 1], 4, 2, 1).unwrap(), 5.0 / 6.0);
        close(pass_at_k_distinct(&[3], 4, 4, 2).unwrap(), 0.0);
        close(pass_at_k_distinct(&[2, 1], 4, 4, 2).unwrap(), 1.0);
        assert_eq!(distinct_correct([("a  b", true), ("a b ", true), ("c", true), ("d", false)]), [2, 1]);
        assert!(pass_at_k_distinct(&[5], 4, 2, 1).is_err() && pass_at_k_distinct(&[1], 4, 2, 0).is_err());
    }

    #[test]
    fn best_of_k_by_hand() {
        let s = |score, correct| Scored { score, correct };
        let samples = [s(3.0, false), s(2.0, true), s(1.0, true)];
        close(best_of_k(&samples, 1).unwrap(), 2.0 / 3.0);
        close(best_of_k(&samples, 2).unwrap(), 1.0 / 3.0);
        close(best_of_k(&samples, 3).unwrap(), 0.0);
        let tied = [s(1.0, true), s(1.0, false), s(0.0, false)];
        close(best_of_k(&tied, 3).unwrap(), 0.5);
        assert!(best_of_k(&[s(f64::NAN, true)], 1).is_err());
        assert!(best_of_k(&[s(f64::NEG_INFINITY, true)], 1).is_ok());
        assert!(reward_at_k(&samples, Selection::Top(2), 1).unwrap());
        assert!(!reward_at_k(&samples, Selection::Top(2), 2).unwrap());
        assert!(reward_at_k(&samples, Selection::Above(0.5), 2).unwrap());
        assert!(!reward_at_k(&samples, Selection::Above(1.0), 2).unwrap());
    }

    #[test]
    fn balance_score_of_the_sheet() {
        let queries = [(6, 8), (10, 16), (2, 2), (0, 3)];
        let scores: Vec<f64> = queries.iter().map(|&(a, b)| balance_score(a, b, 8).unwrap()).collect();
        assert_eq!(scores, [0.5625, 0.625, 0.25, 0.0]);
        close(mean_balance_score(&queries, 8).unwrap(), 0.359_375);
        close(mean_balance_score(&[(4, 4), (1, 1)], 8).unwrap(), 0.3125);
        close(mean_balance_score(&[(8, 10), (3, 6)], 8).unwrap(), 0.493_75);
        assert_eq!(balance_score(0, 0, 8).unwrap(), 0.0);
        assert!(balance_score(3, 2, 8).is_err() && balance_score(1, 2, 0).is_err());
    }

    #[test]
    fn sign_test_by_hand() {
        // 1 of 6 against: 2 · (1 + 6) / 64
        close(sign_test(1, 5), 14.0 / 64.0);
        close(sign_test(0, 0), 1.0);
        close(sign_test(3, 3), 1.0);
    }

    proptest! {
        #[test]
        fn pass_at_k_rises_with_k(n in 1usize..200, share in 0.0f64..=1.0) {
            let c = (n as f64 * share) as usize;
            let mut last = 0.0;
            for k in 1..=n {
                let value = pass_at_k(n, c, k).unwrap();
                prop_assert!((0.0..=1.0).contains(&value) && value >= last - 1e-12);
                last = value;
            }
            prop_assert!((pass_at_k(n, c, 1).unwrap() - c as f64 / n as f64).abs() < 1e-12);
        }

        #[test]
        fn exact_majority_is_the_definition(
            counts in prop::collection::vec((1usize..4, any::<bool>()), 1..5), unanswered in 0usize..3, at in 0.0f64..1.0,
        ) {
            let classes = counts.into_iter().map(|(count, correct)| AnswerClass { count, correct }).collect();
            let ballot = Ballot { classes, unanswered };
            let k = 1 + (at * ballot.samples() as f64) as usize;
            let expected = majority_by_definition(&ballot, k);
            prop_assert!((ballot.majority_at(k, 0).unwrap() - expected).abs() < 1e-9);
        }

        #[test]
        fn distinct_with_one_wanted_is_pass_at_k(counts in prop::collection::vec(0usize..4, 0..5), wrong in 1usize..6, at in 0.0f64..1.0) {
            let right = counts.iter().sum::<usize>();
            let samples = right + wrong;
            let k = 1 + (at * samples as f64) as usize;
            let a = pass_at_k_distinct(&counts, samples, k, 1).unwrap();
            prop_assert!((a - pass_at_k(samples, right, k).unwrap()).abs() < 1e-9);
        }

        #[test]
        fn constant_scores_make_best_of_k_the_mean(outcomes in prop::collection::vec(any::<bool>(), 1..20), at in 0.0f64..1.0) {
            let samples: Vec<_> = outcomes.iter().map(|&correct| Scored { score: 1.0, correct }).collect();
            let k = 1 + (at * samples.len() as f64) as usize;
            let mean = outcomes.iter().filter(|&&o| o).count() as f64 / outcomes.len() as f64;
            prop_assert!((best_of_k(&samples, k).unwrap() - mean).abs() < 1e-12);
        }
    }
}
