//! The likelihood that the model gave its own response.

use crate::{EvaluateError, EvaluateInput, Evaluator, Needs, RoleNeeds};
use async_trait::async_trait;
use elenchus_trace::Feedback;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How token log-probabilities become one score.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reduction {
    /// (1/n) Σᵢ log p(yᵢ): does not punish length.
    #[default]
    Mean,
    /// Σᵢ log p(yᵢ): the log-probability of the whole response; long responses score lower.
    Sum,
}

/// Settings of the `likelihood` evaluator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LikelihoodSettings {
    /// Mean or sum over the tokens.
    pub reduction: Reduction,
}

/// Scores each candidate by its log-probability in nats under the raw distribution of the model that wrote it, the
/// end-of-text token included when it was generated. Costs no model call.
#[derive(Debug, Clone, Copy)]
pub struct Likelihood {
    settings: LikelihoodSettings,
}

impl Likelihood {
    /// The evaluator with its settings.
    pub fn new(settings: LikelihoodSettings) -> Self {
        Likelihood { settings }
    }
}

#[async_trait]
impl Evaluator for Likelihood {
    fn name(&self) -> &'static str {
        "likelihood"
    }

    fn summary(&self) -> &'static str {
        "mean or summed log-probability of the response under the model that wrote it"
    }

    fn needs(&self) -> Needs {
        Needs::role(RoleNeeds { logprobs: true, ..RoleNeeds::new("actor") })
    }

    async fn evaluate(&self, input: EvaluateInput<'_>) -> Result<Vec<Feedback>, EvaluateError> {
        Ok(input
            .candidates
            .iter()
            .map(|candidate| {
                let value = match self.settings.reduction {
                    Reduction::Mean => candidate.completion.mean_logprob(),
                    Reduction::Sum => candidate.completion.sum_logprob(),
                };
                match value {
                    Some(score) if score.is_finite() => Feedback::score(self.name(), score),
                    Some(score) => Feedback::abstain(self.name(), format!("the log-probability is {score}")),
                    None => Feedback::abstain(self.name(), "the completion carries no log-probabilities"),
                }
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, candidates};

    #[test]
    fn mean_and_sum_of_the_token_log_probabilities() {
        let mut samples = candidates(&[("a", None), ("b", None), ("c", None)]);
        samples[0].completion.logprobs = vec![-1.0, -0.5];
        samples[1].completion.logprobs = vec![f32::NEG_INFINITY];
        for (reduction, wanted) in [(Reduction::Mean, -0.75), (Reduction::Sum, -1.5)] {
            let found =
                testing::evaluate(&Likelihood::new(LikelihoodSettings { reduction }), &samples).unwrap();
            assert_eq!(found[0].score, Some(wanted));
            for silent in &found[1..] {
                assert!(
                    silent.score.is_none() && silent.abstained.is_some(),
                    "no number must become no score"
                );
            }
        }
    }
}
