//! Weighted votes over answers; needs no model, so that it works on recorded samples too.

use elenchus_evaluate::{Groups, group_answers};
use elenchus_trace::Votes;

/// Two sums of weights that differ by less than this share of the larger are a tie: the order of summation must not
/// decide a vote.
const TIE: f64 = 1e-12;

/// How a vote went.
#[derive(Debug, Clone, PartialEq)]
pub struct VoteResult {
    /// Which answers mean the same.
    pub groups: Groups,
    /// Samples per group.
    pub counts: Vec<usize>,
    /// Summed weight per group.
    pub weights: Vec<f64>,
    /// The group with the largest weight, the one seen first on a tie; `None` when no sample has an answer.
    pub winner: Option<usize>,
    /// Weight of all samples, those without an answer included.
    pub total: f64,
}

impl VoteResult {
    /// Index of the first sample that gave the winning answer.
    pub fn sample(&self) -> Option<usize> {
        Some(self.groups.first[self.winner?])
    }

    /// First sample of every answer that weighs as much as the winner, the winner's in front: where a tie is worth a
    /// share of the credit.
    pub fn tied(&self) -> Vec<usize> {
        let Some(winner) = self.winner else { return Vec::new() };
        let most = self.weights[winner];
        let as_heavy = |weight: f64| most - weight <= TIE * most.abs().max(weight.abs());
        let others = (0..self.weights.len()).filter(|&g| g != winner && as_heavy(self.weights[g]));
        std::iter::once(winner).chain(others).map(|group| self.groups.first[group]).collect()
    }

    /// Share of the winner in the whole weight (samples without an answer included), in [0, 1]; `None` without a
    /// winner, or when the weights are not all positive so that a share means nothing.
    pub fn share(&self) -> Option<f64> {
        let share = self.weights[self.winner?] / self.total;
        (self.total > 0.0 && (0.0..=1.0 + TIE).contains(&share)).then(|| share.min(1.0))
    }

    /// The table of votes, heaviest first, first seen first among equals; `answers` are those that were voted on.
    pub fn table(&self, answers: &[Option<impl AsRef<str>>]) -> Vec<Votes> {
        let mut order: Vec<usize> = (0..self.groups.len()).collect();
        order.sort_by(|&a, &b| self.weights[b].total_cmp(&self.weights[a]).then(a.cmp(&b)));
        if let Some(winner) = self.winner {
            order.retain(|&group| group != winner);
            order.insert(0, winner);
        }
        order
            .into_iter()
            .filter_map(|group| {
                let answer = answers.get(self.groups.first[group])?.as_ref()?;
                Some(Votes {
                    answer: answer.as_ref().to_string(),
                    count: self.counts[group],
                    weight: self.weights[group],
                })
            })
            .collect()
    }
}

/// Adds up `weights` per answer. `weights[i]` belongs to `answers[i]`; answers beyond the last weight, and weights
/// that are not finite, weigh nothing. `None` answers have no vote, but their weight counts in the total.
///
/// Answers are grouped in the order given (see [`group_answers`]); the cost is one look-up per sample and at most
/// (distinct strings) × (groups) calls of `equivalent`.
pub fn vote(
    answers: &[Option<impl AsRef<str>>],
    weights: &[f64],
    equivalent: impl FnMut(&str, &str) -> bool,
) -> VoteResult {
    tally(group_answers(answers, equivalent), |sample| weights.get(sample).copied().unwrap_or(0.0))
}

/// Counts answers: every sample weighs 1.
pub fn majority(
    answers: &[Option<impl AsRef<str>>],
    equivalent: impl FnMut(&str, &str) -> bool,
) -> VoteResult {
    tally(group_answers(answers, equivalent), |_| 1.0)
}

/// Adds up weights over groups that are already made.
pub fn tally(groups: Groups, weight: impl Fn(usize) -> f64) -> VoteResult {
    let mut counts = vec![0; groups.len()];
    let mut weights = vec![0.0; groups.len()];
    let mut total = 0.0;
    for (sample, group) in groups.of.iter().enumerate() {
        let weight = weight(sample);
        let weight = if weight.is_finite() { weight } else { 0.0 };
        total += weight;
        if let Some(group) = *group {
            counts[group] += 1;
            weights[group] += weight;
        }
    }
    let winner = heaviest(&weights);
    VoteResult { groups, counts, weights, winner, total }
}

/// Index of the largest weight, the first one on a tie.
pub fn heaviest(weights: &[f64]) -> Option<usize> {
    let mut winner = 0;
    for (index, &weight) in weights.iter().enumerate() {
        let margin = TIE * weight.abs().max(weights[winner].abs());
        if weight > weights[winner] + margin {
            winner = index;
        }
    }
    (!weights.is_empty()).then_some(winner)
}

/// Whether a vote by count is over: no `remaining` further votes can change the winner, given that ties go to the
/// answer seen first and that groups stand in the order in which they were first seen.
pub fn is_decided(counts: &[usize], remaining: usize) -> bool {
    let weights: Vec<f64> = counts.iter().map(|&count| count as f64).collect();
    is_settled(&weights, remaining as f64)
}

/// The same for a vote by weight: `outstanding` is the most that all further samples can weigh together, and no weight
/// is negative. Weights of samples that were already counted must not change.
pub fn is_settled(weights: &[f64], outstanding: f64) -> bool {
    if outstanding <= 0.0 {
        return true;
    }
    let Some(leader) = heaviest(weights) else { return false };
    let most = weights[leader];
    weights
        .iter()
        .enumerate()
        .filter(|&(group, _)| group != leader)
        .all(|(group, &weight)| match weight + outstanding {
            reached if group < leader => most > reached + TIE * most.max(reached),
            reached => most >= reached,
        })
        // An answer that nobody gave yet starts from nothing and is seen later.
        && most >= outstanding
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn same(left: &str, right: &str) -> bool {
        left == right
    }

    #[test]
    fn the_heaviest_answer_wins_and_ties_go_to_the_first_seen() {
        let answers = [Some("B"), Some("A"), None, Some("A"), Some("B")];
        let plain = majority(&answers, same);
        assert_eq!((plain.sample(), plain.share()), (Some(0), Some(0.4)), "2 : 2, B was seen first");
        let weighted = vote(&answers, &[1.0, 1.0, 5.0, 1.5, 1.0], same);
        assert_eq!(weighted.sample(), Some(1));
        assert_eq!(weighted.total, 9.5, "a sample without an answer keeps its weight in the total");
        let table = weighted.table(&answers);
        assert_eq!(table[0], Votes { answer: "A".into(), count: 2, weight: 2.5 });
        assert_eq!(table[1].answer, "B");
    }

    #[test]
    fn nobody_wins_without_answers() {
        let none: [Option<&str>; 3] = [None; 3];
        let result = majority(&none, same);
        assert_eq!((result.winner, result.sample(), result.share()), (None, None, None));
        assert!(result.table(&none).is_empty());
        assert_eq!(majority(&[] as &[Option<&str>], same).winner, None);
    }

    #[test]
    fn rounding_does_not_decide_a_tie() {
        let answers = [Some("A"), Some("B"), Some("A"), Some("B"), Some("A"), Some("B")];
        // 0.1 + 0.2 + 0.3 and 0.3 + 0.2 + 0.1 differ in the last bit.
        let result = vote(&answers, &[0.1, 0.3, 0.2, 0.2, 0.3, 0.1], same);
        assert_eq!(result.sample(), Some(0));
        let swapped = vote(&answers, &[0.3, 0.1, 0.2, 0.2, 0.1, 0.3], same);
        assert_eq!(swapped.sample(), Some(0));
    }

    #[test]
    fn weights_that_are_not_numbers_or_missing_weigh_nothing() {
        let answers = [Some("A"), Some("B"), Some("C")];
        let result = vote(&answers, &[f64::NAN, 0.5], same);
        assert_eq!(result.weights, [0.0, 0.5, 0.0]);
        assert_eq!(result.sample(), Some(1));
        let negative = vote(&answers, &[-3.0, -1.0, -2.0], same);
        assert_eq!(
            (negative.sample(), negative.share()),
            (Some(1), None),
            "a share of negative sums means nothing"
        );
    }

    #[test]
    fn a_lead_that_cannot_be_overtaken() {
        assert!(is_decided(&[4], 4), "a later answer can only tie, and ties go to the first seen");
        assert!(!is_decided(&[4], 5));
        assert!(is_decided(&[1, 3], 1), "3 against at most 2");
        assert!(!is_decided(&[2, 3], 1), "3 : 3 goes to the first");
        assert!(is_decided(&[3, 2], 1));
        assert!(!is_decided(&[], 1));
        assert!(is_decided(&[], 0) && is_decided(&[1, 1], 0));
    }

    #[test]
    fn a_lead_by_weight_that_cannot_be_overtaken() {
        assert!(is_settled(&[1.5, 0.5], 1.0), "a later answer can only tie");
        assert!(!is_settled(&[0.5, 1.5], 1.0), "an earlier one that ties wins");
        assert!(is_settled(&[0.4, 1.5], 1.0) && !is_settled(&[0.9], 1.0));
        let tied = vote(&[Some("B"), Some("A"), Some("B"), Some("C")], &[0.1, 0.3, 0.2, 0.2], same);
        assert_eq!(tied.tied(), [0, 1], "0.1 + 0.2 and 0.3 are equal but for rounding");
    }

    #[test]
    fn a_million_votes_take_seconds_at_most() {
        let names: Vec<String> = (0..500).map(|i| i.to_string()).collect();
        let answers: Vec<Option<&str>> =
            (0..1_000_000usize).map(|i| (i % 11 != 0).then(|| names[i * i % 500].as_str())).collect();
        let weights = vec![1.0; answers.len()];
        let start = std::time::Instant::now();
        let result = vote(&answers, &weights, same);
        assert_eq!(result.counts.iter().sum::<usize>(), answers.iter().flatten().count());
        // A machine that is busy elsewhere may be slow; comparing every pair would take hours.
        assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    }

    fn ballots() -> impl Strategy<Value = Vec<Option<u8>>> {
        prop::collection::vec(prop::option::weighted(0.85, 0u8..5), 0..24)
    }

    fn texts(ballots: &[Option<u8>]) -> Vec<Option<String>> {
        ballots.iter().map(|b| b.map(|b| b.to_string())).collect()
    }

    proptest! {
        #[test]
        fn scaling_the_weights_changes_nothing(ballots in ballots(), scale in 0.001f64..1000.0) {
            let answers = texts(&ballots);
            let weights: Vec<f64> = (0..answers.len()).map(|i| ((i * 7919) % 13) as f64 + 1.0).collect();
            let scaled: Vec<f64> = weights.iter().map(|w| w * scale).collect();
            let (one, other) = (vote(&answers, &weights, same), vote(&answers, &scaled, same));
            prop_assert_eq!(one.winner, other.winner);
            if let (Some(a), Some(b)) = (one.share(), other.share()) {
                prop_assert!((a - b).abs() < 1e-9);
            }
        }

        #[test]
        fn the_order_of_samples_matters_for_ties_only(ballots in ballots(), turn in 0usize..24) {
            let answers = texts(&ballots);
            let mut turned = answers.clone();
            turned.rotate_left(turn % answers.len().max(1));
            turned.reverse();
            let (one, other) = (majority(&answers, same), majority(&turned, same));
            let best = |r: &VoteResult| r.winner.map(|w| r.counts[w]);
            prop_assert_eq!(best(&one), best(&other));
            let ties = one.counts.iter().filter(|&&c| Some(c) == best(&one)).count();
            if ties == 1 {
                let name = |r: &VoteResult, a: &[Option<String>]| r.sample().and_then(|s| a[s].clone());
                prop_assert_eq!(name(&one, &answers), name(&other, &turned));
            }
        }

        #[test]
        fn stopping_early_never_changes_the_winner(ballots in ballots()) {
            let answers = texts(&ballots);
            let full = majority(&answers, same);
            for drawn in 0..=answers.len() {
                let part = majority(&answers[..drawn], same);
                if is_decided(&part.counts, answers.len() - drawn) {
                    prop_assert_eq!(part.sample(), full.sample());
                }
            }
        }

        #[test]
        fn a_decision_is_recognised_as_soon_as_it_stands(ballots in prop::collection::vec(0u8..3, 1..8)) {
            // Against all continuations: decided exactly when every one of them keeps the winner.
            let answers: Vec<Option<u8>> = ballots.iter().map(|&b| Some(b)).collect();
            let seen = majority(&texts(&answers), same);
            for remaining in 1..4usize {
                let mut kept = true;
                for code in 0..4usize.pow(remaining as u32) {
                    let mut rest = answers.clone();
                    let mut code = code;
                    for _ in 0..remaining {
                        rest.push(Some((code % 4) as u8));
                        code /= 4;
                    }
                    kept &= majority(&texts(&rest), same).sample() == seen.sample();
                }
                prop_assert_eq!(is_decided(&seen.counts, remaining), kept);
            }
        }
    }
}
