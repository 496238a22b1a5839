//! How many of the candidates agree.

use crate::{EvaluateError, EvaluateInput, Evaluator, Needs, group_answers};
use async_trait::async_trait;
use elenchus_trace::Feedback;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of the `vote-share` evaluator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VoteShareSettings {
    /// Divide by the candidates that have an answer instead of by all candidates.
    pub only_answered: bool,
}

/// Scores each candidate by the share of all candidates whose answer is equivalent to its own (itself included), by
/// the task's own equivalence; claimed as the probability of being right, uncalibrated. A candidate without an answer
/// abstains, and counts as disagreement with everybody unless `only_answered` is set. Costs no model call.
#[derive(Debug, Clone, Copy)]
pub struct VoteShare {
    settings: VoteShareSettings,
}

impl VoteShare {
    /// The evaluator with its settings.
    pub fn new(settings: VoteShareSettings) -> Self {
        VoteShare { settings }
    }
}

#[async_trait]
impl Evaluator for VoteShare {
    fn name(&self) -> &'static str {
        "vote-share"
    }

    fn summary(&self) -> &'static str {
        "share of the candidates that give an equivalent answer"
    }

    fn needs(&self) -> Needs {
        Needs::default()
    }

    async fn evaluate(&self, input: EvaluateInput<'_>) -> Result<Vec<Feedback>, EvaluateError> {
        let answers: Vec<Option<&str>> = input.candidates.iter().map(|c| c.answer.as_deref()).collect();
        let groups = group_answers(&answers, |left, right| input.task.equivalent(input.problem, left, right));
        let mut counts = vec![0usize; groups.len()];
        for &group in groups.of.iter().flatten() {
            counts[group] += 1;
        }
        let total = if self.settings.only_answered { counts.iter().sum() } else { answers.len() };
        Ok(groups
            .of
            .iter()
            .map(|group| match group {
                Some(group) => {
                    let share = counts[*group] as f64 / total as f64;
                    Feedback { probability: Some(share), ..Feedback::score(self.name(), share) }
                }
                None => Feedback::abstain(self.name(), "no answer could be extracted, so it cannot vote"),
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, candidates};

    #[test]
    fn shares_over_all_and_over_answered_candidates() {
        let samples = candidates(&[("x", Some("7")), ("x", Some("07")), ("x", None), ("x", Some("8"))]);
        let all = testing::evaluate(&VoteShare::new(VoteShareSettings::default()), &samples).unwrap();
        let scores: Vec<_> = all.iter().map(|f| f.score).collect();
        assert_eq!(
            scores,
            [Some(0.5), Some(0.5), None, Some(0.25)],
            "`7` and `07` are equivalent in this task"
        );
        assert!(all[2].abstained.is_some());
        let answered = VoteShare::new(VoteShareSettings { only_answered: true });
        let answered = testing::evaluate(&answered, &samples).unwrap();
        assert_eq!(answered[0].probability, Some(2.0 / 3.0));
    }
}
