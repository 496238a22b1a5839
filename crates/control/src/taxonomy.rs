//! Where a strategy stands among methods: generate, evaluate, control (arXiv 2407.11511), and the line of work in
//! self-feedback (arXiv 2407.14507).

use elenchus_evaluate::{Basis, Evaluator};
use elenchus_generate::ACTOR;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the step is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GenerateKind {
    /// A prompt written by hand.
    HandWritten,
    /// A prompt with knowledge from outside the model.
    ExternalKnowledge,
    /// A prompt that a model wrote: a critique, a hint, an earlier answer.
    ModelGenerated,
    /// A model whose weights were trained for it.
    FineTuned,
}

/// How the step is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EvaluateKind {
    /// Not at all.
    None,
    /// By the model itself: agreement of its samples, its certainty, its judgement.
    SelfAssessment,
    /// By a tool: verifier, interpreter, unit tests.
    Tool,
    /// By another model.
    ExternalModel,
}

impl EvaluateKind {
    /// The kind of a part's evaluator: a model in another role than the actor's is another model, though the same one may
    /// play it; the method does not rely on that.
    pub fn of(evaluator: &dyn Evaluator) -> Self {
        match evaluator.basis() {
            Basis::Nothing => EvaluateKind::None,
            Basis::Tool => EvaluateKind::Tool,
            Basis::Model if evaluator.needs().roles.iter().any(|role| role.role != ACTOR) => {
                EvaluateKind::ExternalModel
            }
            Basis::Model => EvaluateKind::SelfAssessment,
        }
    }
}

/// How the number and order of steps is controlled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ControlKind {
    /// One chain.
    Greedy,
    /// Several chains and one choice.
    Ensemble,
    /// Search, back-tracking or feedback between steps; the survey calls this reinforcement learning in the wide sense.
    Reinforcement,
}

/// The line of work in self-feedback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FeedbackLine {
    /// Vote or value, then select.
    ReasoningTopologically,
    /// Sample, then select or tune.
    RefiningWithResponses,
    /// Negotiate, then aggregate.
    MultiAgentCollaboration,
    /// Critique, then refine.
    RefiningIteratively,
    /// Check while generating, then delete.
    MitigatingWhileGenerating,
    /// Contrast layers or paths, then decode the best.
    DecodingTruthfully,
    /// Read latent states, then steer.
    ActivatingTruthfulness,
}

/// The word of a kind, as recipes write it.
fn word<T: Serialize>(kind: &T) -> String {
    serde_json::to_value(kind).ok().and_then(|word| Some(word.as_str()?.to_string())).unwrap_or_default()
}

/// The place of a method on the axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Axes")]
#[serde(deny_unknown_fields)]
pub struct Triple {
    /// How steps are asked for.
    pub generate: GenerateKind,
    /// How they are evaluated.
    pub evaluate: EvaluateKind,
    /// How they are controlled.
    pub control: ControlKind,
    /// The line of self-feedback, where the method gives itself feedback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<FeedbackLine>,
}

impl Triple {
    /// The words of the three axes and of the line of self-feedback, as recipes write them; `–` where there is no line.
    pub fn words(&self) -> [String; 4] {
        let line = self.line.as_ref().map_or("–".to_string(), word);
        [word(&self.generate), word(&self.evaluate), word(&self.control), line]
    }

    /// Several responses to a prompt written by hand, of which the model's own assessment chooses one.
    pub const SELF_VOTE: Triple = Triple {
        generate: GenerateKind::HandWritten,
        evaluate: EvaluateKind::SelfAssessment,
        control: ControlKind::Ensemble,
        line: Some(FeedbackLine::ReasoningTopologically),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ballot, Rule, majority};

    /// All outcomes of three samples, each right with probability 0.4 and accepted with a probability that depends on it:
    /// the chance that what `choose` picks is right.
    fn chance(accepts: [f64; 2], choose: impl Fn(&[bool], &[bool]) -> bool) -> f64 {
        let mut sum = 0.0;
        for code in 0..64u32 {
            let bit = |place: u32| code >> place & 1 == 1;
            let right = [bit(0), bit(1), bit(2)];
            let accepted = [bit(3), bit(4), bit(5)];
            let mut probability = 1.0;
            for (&right, &accepted) in right.iter().zip(&accepted) {
                probability *= if right { 0.4 } else { 0.6 };
                let accept = accepts[usize::from(!right)];
                probability *= if accepted { accept } else { 1.0 - accept };
            }
            if choose(&right, &accepted) {
                sum += probability;
            }
        }
        sum
    }

    fn answers(right: &[bool]) -> Vec<Option<&'static str>> {
        right.iter().map(|&right| Some(if right { "7" } else { "8" })).collect()
    }

    /// Samples are drawn alike, so the first of the accepted ones is a uniform choice among them.
    fn best_of(right: &[bool], accepted: &[bool]) -> bool {
        let scores: Vec<Option<f64>> = accepted.iter().map(|&a| Some(f64::from(u8::from(a)))).collect();
        let answers = answers(right);
        let ballot = Ballot { answers: &answers, scores: &scores, paths: &[] };
        let choice = ballot.choose(Rule::Argmax { allow_unanswered: false }, |a, b| a == b).unwrap();
        right[choice.sample]
    }

    #[test]
    fn the_controllers_of_the_sheet_in_figures() {
        let close = |found: f64, wanted: f64| assert!((found - wanted).abs() < 1e-9, "{found}, not {wanted}");
        let vote = |right: &[bool], _: &[bool]| {
            let result = majority(&answers(right), |a, b| a == b);
            right[result.sample().unwrap()]
        };
        close(chance([0.5, 0.5], vote), 0.352);
        close(chance([0.5, 0.5], |right, _| right.iter().any(|&right| right)), 0.784);
        close(chance([0.5, 0.5], best_of), 0.400);
        close(chance([0.8, 0.3], best_of), 0.580);
        close(chance([0.5, 0.5], |right, _| right[0]), 0.4);
    }

    #[test]
    fn the_words_are_those_that_recipes_write() {
        let words = Triple::SELF_VOTE.words();
        assert_eq!(words, ["hand-written", "self-assessment", "ensemble", "reasoning-topologically"]);
        let read: GenerateKind = serde_json::from_value(serde_json::json!(words[0])).unwrap();
        assert_eq!(read, GenerateKind::HandWritten);
    }
}
