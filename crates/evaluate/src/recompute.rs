//! A tool that checks a response without the reference answer.

use crate::{Basis, EvaluateError, EvaluateInput, Evaluator, Needs};
use async_trait::async_trait;
use elenchus_trace::Feedback;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of the `recompute` evaluator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RecomputeSettings {
    /// Score 1 and 0 instead: 1 only when nothing that could be checked is wrong.
    pub strict: bool,
}

/// Checks with a tool what a response says, from its text and the problem alone: equations are computed again, and the
/// answer must be the result of one; a Countdown expression must use the given numbers and reach the target; a query must
/// run. Scores 1 when nothing is wrong, else half of the share of checks that are right, so that a response without a fault
/// stands above every one with a fault. It never sees the reference answer: a response can score 1 and be wrong.
///
/// A response that writes nothing which can be checked abstains. Also judges unfinished responses. Costs no model call.
#[derive(Debug, Clone, Copy)]
pub struct Recompute {
    settings: RecomputeSettings,
}

impl Recompute {
    /// The evaluator with its settings.
    pub fn new(settings: RecomputeSettings) -> Self {
        Recompute { settings }
    }
}

#[async_trait]
impl Evaluator for Recompute {
    fn name(&self) -> &'static str {
        "recompute"
    }

    fn summary(&self) -> &'static str {
        "a calculator or other tool that checks what a response says, without the reference answer"
    }

    fn needs(&self) -> Needs {
        Needs::default()
    }

    fn basis(&self) -> Basis {
        Basis::Tool
    }

    fn advises(&self) -> bool {
        true
    }

    async fn evaluate(&self, input: EvaluateInput<'_>) -> Result<Vec<Feedback>, EvaluateError> {
        let one = |text: &str| {
            let found = input.task.recheck(input.problem, text)?;
            let Some(score) = found.score() else {
                return Ok(Feedback::abstain(self.name(), "the response says nothing that can be checked"));
            };
            let score = if self.settings.strict { f64::from(u8::from(score == 1.0)) } else { score };
            Ok(Feedback {
                step_scores: found.steps.iter().map(|step| f64::from(u8::from(step.correct))).collect(),
                text: found.reason,
                ..Feedback::score(self.name(), score)
            })
        };
        input.candidates.iter().map(|candidate| one(&candidate.completion.text)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, candidates};

    fn scores(strict: bool, texts: &[&str]) -> Vec<Option<f64>> {
        let samples = candidates(&texts.iter().map(|text| (*text, None)).collect::<Vec<_>>());
        let found = testing::evaluate(&Recompute::new(RecomputeSettings { strict }), &samples).unwrap();
        found.into_iter().map(|feedback| feedback.score).collect()
    }

    #[test]
    fn equations_are_checked_and_the_reference_answer_is_not_looked_at() {
        // The reference answer of the problem is 7; all of these are consistent in themselves.
        assert_eq!(scores(false, &["a=2+5=7#7", "a=2+6=8#8"]), [Some(1.0), Some(1.0)]);
        assert_eq!(scores(false, &["a=2+5=8#8", "a=2+5=7#9"]), [Some(0.25), Some(0.25)]);
        assert_eq!(scores(true, &["a=2+5=8#8", "a=2+5=7#7", "#7"]), [Some(0.0), Some(1.0), None]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let samples = candidates(&[("a=2+5=8#8", None), ("mumbling", None)]);
        let found = testing::evaluate(&Recompute::new(RecomputeSettings::default()), &samples).unwrap();
        assert_eq!(found[0].text.as_deref(), Some("`2+5=8` is wrong: it is 7"));
        assert_eq!(found[0].step_scores, [0.0]);
        assert!(found[1].abstained.is_some());
    }
}
