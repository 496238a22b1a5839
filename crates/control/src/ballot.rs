//! Rules that choose one sample out of N by answers and scores (arXiv 2502.18581, section on voting).
//!
//! With sᵢ the score of sample i and rᵢ its rank among all N by falling score (1 is best):
//!
//! | rule | weight of an answer a |
//! |---|---|
//! | majority | Σ over samples with answer a of 1 |
//! | Borda(p) | Σ (N − rᵢ + 1)^p; p = 0 is majority, p → ∞ is argmax |
//! | sum | Σ sᵢ |
//! | mean | mean of sᵢ |
//! | argmax | max sᵢ |
//! | path | Σ over the distinct kept paths with answer a of exp(sᵢ), sᵢ a log-probability (arXiv 2502.00511) |
//!
//! Every strategy that votes on samples, and the selection among recorded ones, goes through [`Ballot`].

use crate::ControlError;
use crate::path::{PathCount, PathRule, path_weights};
use crate::vote::{VoteResult, heaviest, tally};
use elenchus_evaluate::{Groups, group_answers};
use elenchus_trace::Votes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The exponent p of Borda weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Power {
    /// A given p ≥ 0; tune it on validation questions.
    Given(f64),
    /// [`rule_of_thumb`] by the number of samples.
    #[default]
    #[serde(with = "by_count")]
    #[schemars(with = "AutoWord")]
    ByCount,
}

/// The word in the schema.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is used")]
enum AutoWord {
    /// By the number of samples.
    Auto,
}

/// Writes and reads [`Power::ByCount`] as the word `auto`.
mod by_count {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("auto")
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
        let word = String::deserialize(deserializer)?;
        if word == "auto" { Ok(()) } else { Err(serde::de::Error::custom("expected a number or `auto`")) }
    }
}

impl Power {
    /// Errors: [`ControlError::Setting`] for an exponent out of range.
    pub fn check(self, strategy: &str) -> Result<(), ControlError> {
        match self {
            Power::Given(power) if !(0.0..=64.0).contains(&power) => {
                let hint = "0 is the majority vote, about 1 a balance; 64 is already the highest score alone";
                Err(ControlError::setting(strategy, "power", format!("{power} is out of range"), hint))
            }
            _ => Ok(()),
        }
    }

    /// The exponent for n samples.
    pub fn of(self, samples: usize) -> f64 {
        match self {
            Power::Given(power) => power,
            Power::ByCount => rule_of_thumb(samples),
        }
    }
}

/// The paper's rule: p = 0.3 up to 16 samples and 1.2 from 32 on; between them it is silent, and we go straight in
/// log₂ N.
pub fn rule_of_thumb(samples: usize) -> f64 {
    0.3 + 0.9 * ((samples.max(1) as f64).log2() - 4.0).clamp(0.0, 1.0)
}

/// How a sample is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// Count answers.
    Majority,
    /// Weigh answers by rank.
    Borda {
        /// The exponent p.
        power: Power,
        /// Drop samples without an answer before ranking. Off, they take up a rank and their weight is thrown away,
        /// as in the code released with the paper.
        drop_unanswered: bool,
    },
    /// Sum of scores per answer.
    Sum,
    /// Mean score per answer.
    Mean,
    /// The sample with the highest score.
    Argmax {
        /// Whether samples without an answer can win (open-ended tasks).
        allow_unanswered: bool,
    },
    /// Weigh answers by the probability of their distinct paths; scores are log-probabilities.
    Path(PathRule),
    /// The first sample with an answer.
    First,
}

impl Rule {
    /// The most that one sample can add to its answer without changing what others weigh; `None` where a further
    /// sample changes the weights of those before it, so that a vote cannot be over early.
    pub fn most_per_sample(self) -> Option<f64> {
        match self {
            Rule::Majority => Some(1.0),
            Rule::Path(rule) if !rule.prune => Some(1.0),
            _ => None,
        }
    }
}

/// What a rule chose.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The chosen sample: the first with the winning answer, or the best one.
    pub sample: usize,
    /// Share of the winning answer in the weight of all samples, where the rule votes with positive weights.
    pub share: Option<f64>,
    /// The vote table, for rules that vote.
    pub votes: Vec<Votes>,
    /// First sample of each answer that weighs as much as the winner, the winner's in front; for rules that vote.
    pub tied: Vec<usize>,
    /// What became of the paths, for [`Rule::Path`].
    pub paths: Option<PathCount>,
}

impl Choice {
    fn single(sample: usize) -> Self {
        Choice { sample, share: None, votes: Vec::new(), tied: Vec::new(), paths: None }
    }
}

/// Samples that are chosen among.
#[derive(Debug)]
pub struct Ballot<'a, A> {
    /// Their answers.
    pub answers: &'a [Option<A>],
    /// `scores[i]` belongs to sample i; a missing or non-finite score is an evaluator's abstention: such a sample ranks
    /// behind all scored ones and adds nothing to sums and means.
    pub scores: &'a [Option<f64>],
    /// The whole responses; needed by [`Rule::Path`], which counts each once. An empty or missing one is taken as
    /// different from all others.
    pub paths: &'a [&'a str],
}

impl<A: AsRef<str>> Ballot<'_, A> {
    fn score(&self, sample: usize) -> Option<f64> {
        self.scores.get(sample).copied().flatten().filter(|score| score.is_finite())
    }

    /// The vote by a rule that votes; `None` for those that do not.
    pub fn count(
        &self,
        rule: Rule,
        equivalent: impl FnMut(&str, &str) -> bool,
    ) -> Option<(VoteResult, Option<PathCount>)> {
        let groups = || group_answers(self.answers, equivalent);
        let count = self.answers.len();
        let score = |sample: usize| self.score(sample);
        let result = match rule {
            Rule::First | Rule::Argmax { .. } => return None,
            Rule::Majority => tally(groups(), |_| 1.0),
            Rule::Borda { power, drop_unanswered } => {
                let ranked: Vec<Option<Option<f64>>> = (0..count)
                    .map(|s| (self.answers[s].is_some() || !drop_unanswered).then(|| score(s)))
                    .collect();
                let weights = borda_weights(&ranked, power);
                tally(groups(), |sample| weights[sample])
            }
            Rule::Sum => without_unscored(groups(), &score, false),
            Rule::Mean => without_unscored(groups(), &score, true),
            Rule::Path(rule) => {
                let scores: Vec<Option<f64>> = (0..count).map(score).collect();
                let found = path_weights(&scores, self.paths, rule);
                let mut result = tally(groups(), |sample| found.weights[sample]);
                // The confidences of the answers are divided by their sum.
                result.total = result.weights.iter().sum();
                return Some((result, Some(found.count)));
            }
        };
        Some((result, None))
    }

    /// Applies a rule. `Err` says in words why there is no choice.
    pub fn choose(&self, rule: Rule, equivalent: impl FnMut(&str, &str) -> bool) -> Result<Choice, String> {
        let answered = |sample: usize| self.answers[sample].is_some();
        let count = self.answers.len();
        if count == 0 {
            return Err("there is no sample".into());
        }
        let any_allowed = matches!(rule, Rule::Argmax { allow_unanswered: true });
        if !any_allowed && !(0..count).any(answered) {
            return Err(format!("none of the {count} samples has an answer"));
        }
        let scored = |sample: usize| self.score(sample).is_some() && (any_allowed || answered(sample));
        if !matches!(rule, Rule::Majority | Rule::First) && !(0..count).any(scored) {
            return Err(format!("none of the {count} samples has both an answer and a score"));
        }
        let Some((result, paths)) = self.count(rule, equivalent) else {
            if rule == Rule::First {
                return Ok(Choice::single((0..count).find(|&s| answered(s)).unwrap_or(0)));
            }
            let masked: Vec<f64> = (0..count)
                .map(|s| self.score(s).filter(|_| scored(s)).unwrap_or(f64::NEG_INFINITY))
                .collect();
            let best = masked.iter().enumerate().fold(0, |b, (s, &m)| if m > masked[b] { s } else { b });
            return Ok(Choice::single(best));
        };
        let sample = result.sample().ok_or_else(|| "no answer has a weight".to_string())?;
        if paths.is_some() && result.total <= 0.0 {
            return Err("every path that has an answer was dropped as improbable".into());
        }
        Ok(Choice {
            sample,
            share: result.share(),
            votes: result.table(self.answers),
            tied: result.tied(),
            paths,
        })
    }
}

/// [`Ballot::choose`] for rules that do not look at whole responses.
pub fn choose(
    rule: Rule,
    answers: &[Option<impl AsRef<str>>],
    scores: &[Option<f64>],
    equivalent: impl FnMut(&str, &str) -> bool,
) -> Result<Choice, String> {
    Ballot { answers, scores, paths: &[] }.choose(rule, equivalent)
}

/// Borda weights (M − r + 1)^p in sample order, with M the number of ranked samples. The outer `None` leaves a sample
/// out of the ranking (weight 0); the inner one is a sample without a score, which ranks last. Equal scores rank in
/// sample order.
pub fn borda_weights(scores: &[Option<Option<f64>>], power: Power) -> Vec<f64> {
    let mut order: Vec<usize> = (0..scores.len()).filter(|&s| scores[s].is_some()).collect();
    let key = |sample: usize| scores[sample].flatten().unwrap_or(f64::NEG_INFINITY);
    order.sort_by(|&a, &b| key(b).total_cmp(&key(a)));
    let power = power.of(order.len());
    let mut weights = vec![0.0; scores.len()];
    for (rank, &sample) in order.iter().enumerate() {
        weights[sample] = ((order.len() - rank) as f64).powf(power);
    }
    weights
}

/// Sums (or means) of scores per group; a group without any score cannot win, also where sums are negative.
fn without_unscored(groups: Groups, score: &impl Fn(usize) -> Option<f64>, mean: bool) -> VoteResult {
    let mut scored = vec![0usize; groups.len()];
    for (sample, group) in groups.of.iter().enumerate() {
        if let (Some(group), Some(_)) = (*group, score(sample)) {
            scored[group] += 1;
        }
    }
    let mut result = tally(groups, |sample| score(sample).unwrap_or(0.0));
    if mean {
        for (weight, &count) in result.weights.iter_mut().zip(&scored) {
            *weight /= count.max(1) as f64;
        }
        result.total = result.weights.iter().sum();
    }
    let eligible: Vec<f64> = result
        .weights
        .iter()
        .zip(&scored)
        .map(|(&w, &n)| if n == 0 { f64::NEG_INFINITY } else { w })
        .collect();
    result.winner = best_eligible(&eligible);
    result
}

fn best_eligible(weights: &[f64]) -> Option<usize> {
    let groups: Vec<usize> = (0..weights.len()).filter(|&g| weights[g].is_finite()).collect();
    let kept: Vec<f64> = groups.iter().map(|&g| weights[g]).collect();
    Some(groups[heaviest(&kept)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn same(left: &str, right: &str) -> bool {
        left == right
    }

    fn borda(power: f64) -> Rule {
        Rule::Borda { power: Power::Given(power), drop_unanswered: false }
    }

    const ANSWERS: [Option<&str>; 5] = [Some("A"), Some("A"), Some("B"), Some("B"), Some("B")];
    const SCORES: [Option<f64>; 5] = [Some(9.0), Some(8.0), Some(3.0), Some(2.0), Some(1.0)];

    #[test]
    fn the_numbers_of_the_sheet() {
        for (power, winner, heavy, light) in [
            (0.0, "B", 3.0, 2.0),
            (0.5, "A", 4.2360679775, 4.1462643699),
            (1.0, "A", 9.0, 6.0),
            (2.0, "A", 41.0, 14.0),
        ] {
            let choice = choose(borda(power), &ANSWERS, &SCORES, same).unwrap();
            assert_eq!(choice.votes[0].answer, winner, "p = {power}");
            assert!((choice.votes[0].weight - heavy).abs() < 1e-9, "p = {power}: {:?}", choice.votes);
            assert!((choice.votes[1].weight - light).abs() < 1e-9, "p = {power}: {:?}", choice.votes);
        }
    }

    #[test]
    fn sum_mean_and_argmax_on_the_same_ballots() {
        let sum = choose(Rule::Sum, &ANSWERS, &SCORES, same).unwrap();
        assert_eq!((sum.votes[0].answer.as_str(), sum.votes[0].weight), ("A", 17.0));
        let mean = choose(Rule::Mean, &ANSWERS, &SCORES, same).unwrap();
        assert_eq!((mean.votes[0].weight, mean.votes[1].weight), (8.5, 2.0));
        let best = choose(Rule::Argmax { allow_unanswered: false }, &ANSWERS, &SCORES, same).unwrap();
        assert_eq!((best.sample, best.share), (0, None));
    }

    #[test]
    fn samples_without_answer_take_up_a_rank_unless_dropped() {
        let answers = [None, Some("A"), Some("B")];
        let scores = [Some(9.0), Some(5.0), Some(1.0)];
        let kept = choose(borda(1.0), &answers, &scores, same).unwrap();
        assert_eq!((kept.votes[0].weight, kept.votes[1].weight), (2.0, 1.0));
        assert_eq!(kept.share, Some(2.0 / 6.0), "the weight of the unanswered sample is thrown away");
        let rule = Rule::Borda { power: Power::Given(1.0), drop_unanswered: true };
        let dropped = choose(rule, &answers, &[Some(9.0), Some(1.0), Some(5.0)], same).unwrap();
        assert_eq!((dropped.votes[0].answer.as_str(), dropped.votes[0].weight), ("B", 2.0));
        assert_eq!(dropped.share, Some(2.0 / 3.0));
    }

    #[test]
    fn the_mask_keeps_a_sure_sample_without_answer_from_winning() {
        let answers = [None, Some("A")];
        let scores = [Some(9.0), Some(-5.0)];
        let masked = choose(Rule::Argmax { allow_unanswered: false }, &answers, &scores, same).unwrap();
        assert_eq!(masked.sample, 1);
        let open = choose(Rule::Argmax { allow_unanswered: true }, &answers, &scores, same).unwrap();
        assert_eq!(open.sample, 0);
    }

    #[test]
    fn abstentions_are_no_scores_of_zero() {
        let answers = [Some("A"), Some("B"), Some("C")];
        let scores = [None, Some(-4.0), Some(f64::NAN)];
        for rule in [Rule::Sum, Rule::Mean, Rule::Argmax { allow_unanswered: false }] {
            let choice = choose(rule, &answers, &scores, same).unwrap();
            assert_eq!(choice.sample, 1, "{rule:?}: -4 is worse than 0, but it is the only score");
        }
        let ranked = choose(borda(1.0), &answers, &scores, same).unwrap();
        assert_eq!(ranked.sample, 1);
    }

    #[test]
    fn no_choice_is_said_in_words() {
        let nothing: [Option<&str>; 2] = [None, None];
        let message = choose(Rule::Majority, &nothing, &[], same).unwrap_err();
        assert!(message.contains("none of the 2 samples has an answer"), "{message}");
        let message = choose(Rule::Sum, &[Some("A")], &[None], same).unwrap_err();
        assert!(message.contains("score"), "{message}");
        assert!(choose(Rule::First, &[] as &[Option<&str>], &[], same).is_err());
    }

    #[test]
    fn the_rule_of_thumb_and_its_words() {
        assert_eq!((rule_of_thumb(1), rule_of_thumb(16)), (0.3, 0.3));
        assert!((rule_of_thumb(32) - 1.2).abs() < 1e-12 && (rule_of_thumb(64) - 1.2).abs() < 1e-12);
        assert!(rule_of_thumb(24) > 0.3 && rule_of_thumb(24) < 1.2);
        let read = |text: &str| serde_json::from_str::<Power>(text);
        assert_eq!(read("0.5").unwrap(), Power::Given(0.5));
        assert_eq!(read("\"auto\"").unwrap(), Power::ByCount);
        assert!(read("\"often\"").is_err());
        assert_eq!(serde_json::to_string(&Power::ByCount).unwrap(), "\"auto\"");
    }

    proptest! {
        #[test]
        fn borda_with_power_zero_is_majority(ballots in prop::collection::vec((prop::option::of(0u8..4), -9.0f64..9.0), 1..20)) {
            let answers: Vec<Option<String>> = ballots.iter().map(|(a, _)| a.map(|a| a.to_string())).collect();
            let scores: Vec<Option<f64>> = ballots.iter().map(|(_, s)| Some(*s)).collect();
            let one = choose(borda(0.0), &answers, &scores, same);
            let other = choose(Rule::Majority, &answers, &scores, same);
            prop_assert_eq!(one.is_ok(), other.is_ok());
            if let (Ok(one), Ok(other)) = (one, other) {
                prop_assert_eq!(one, other);
            }
        }

        #[test]
        fn borda_with_a_huge_power_is_argmax(scores in prop::collection::vec(-9.0f64..9.0, 1..9)) {
            let answers: Vec<Option<String>> = (0..scores.len()).map(|i| Some((i % 3).to_string())).collect();
            let scores: Vec<Option<f64>> = scores.into_iter().map(Some).collect();
            let one = choose(borda(60.0), &answers, &scores, same).unwrap();
            let best = choose(Rule::Argmax { allow_unanswered: false }, &answers, &scores, same).unwrap();
            prop_assert_eq!(&answers[one.sample], &answers[best.sample]);
        }
    }
}
