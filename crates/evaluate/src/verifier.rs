//! The task's own exact verifier.

use crate::{EvaluateError, EvaluateInput, Evaluator, Needs};
use async_trait::async_trait;
use elenchus_trace::{Feedback, Outcome};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of the `verifier` evaluator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VerifierSettings {
    /// Report one score per checked step, 1 right and 0 wrong.
    pub steps: bool,
}

/// Scores 1 a response that the task's exact verifier finds right, 0 one that it finds wrong or without an answer;
/// the verdict says which. It knows the reference answer: use it as an oracle, for measuring and for training rows,
/// never to claim what a model can do by itself. A verifier that fails is an error. Costs no model call.
#[derive(Debug, Clone, Copy)]
pub struct Verifier {
    settings: VerifierSettings,
}

impl Verifier {
    /// The evaluator with its settings.
    pub fn new(settings: VerifierSettings) -> Self {
        Verifier { settings }
    }
}

#[async_trait]
impl Evaluator for Verifier {
    fn name(&self) -> &'static str {
        "verifier"
    }

    fn summary(&self) -> &'static str {
        "the task's exact verifier (knows the reference answer)"
    }

    fn needs(&self) -> Needs {
        Needs { oracle: true, ..Needs::default() }
    }

    async fn evaluate(&self, input: EvaluateInput<'_>) -> Result<Vec<Feedback>, EvaluateError> {
        input
            .candidates
            .iter()
            .map(|candidate| {
                let verdict = input.task.verify(input.problem, &candidate.completion.text)?;
                let score = if verdict.outcome == Outcome::Correct { 1.0 } else { 0.0 };
                let step_scores = match self.settings.steps {
                    true => verdict.steps.iter().map(|step| f64::from(u8::from(step.correct))).collect(),
                    false => Vec::new(),
                };
                let feedback = Feedback::score(self.name(), score);
                Ok(Feedback { probability: Some(score), verdict: Some(verdict), step_scores, ..feedback })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, candidates};

    #[test]
    fn right_wrong_and_missing_answers() {
        let samples = candidates(&[("a=1#7", None), ("a=1#8", None), ("mumbling", None)]);
        let found = testing::evaluate(&Verifier::new(VerifierSettings { steps: true }), &samples).unwrap();
        let scores: Vec<_> = found.iter().map(|f| f.score).collect();
        assert_eq!(scores, [Some(1.0), Some(0.0), Some(0.0)]);
        let outcomes: Vec<_> = found.iter().map(|f| f.verdict.as_ref().unwrap().outcome).collect();
        assert_eq!(outcomes, [Outcome::Correct, Outcome::Wrong, Outcome::NoAnswer]);
    }

    #[test]
    fn a_verifier_that_fails_is_an_error_and_no_score() {
        let samples = candidates(&[("broken#7", None)]);
        let error = testing::evaluate(&Verifier::new(VerifierSettings::default()), &samples).unwrap_err();
        assert!(error.to_string().contains("hint:"), "{error}");
    }
}
