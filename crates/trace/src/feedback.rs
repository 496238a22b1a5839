use crate::Usage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One step of a response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// Text of the step.
    pub text: String,
    /// Byte offset of the step in the response.
    pub start: usize,
    /// Byte offset just behind the step.
    pub end: usize,
}

/// What is said of one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepVerdict {
    /// The step that is judged.
    pub step: Step,
    /// Whether the step is right, given the steps before it.
    pub correct: bool,
    /// What it should have been, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
}

/// What an exact verifier found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The answer is right.
    Correct,
    /// There is an answer and it is wrong.
    Wrong,
    /// No answer could be extracted.
    NoAnswer,
}

/// The verdict of a task's verifier on one response.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// Right, wrong, or nothing to judge.
    pub outcome: Outcome,
    /// The answer that was extracted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// Verdicts on steps, where the task can check them; in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepVerdict>,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Verdict {
    /// Whether the answer is right.
    pub fn is_correct(&self) -> bool {
        self.outcome == Outcome::Correct
    }

    /// Index of the first wrong step, 0-based; `None` when every checked step is right.
    pub fn first_wrong_step(&self) -> Option<usize> {
        self.steps.iter().position(|s| !s.correct)
    }
}

/// What an evaluator says of one candidate.
///
/// An evaluator that fails or cannot be parsed gives an error or an abstention (`abstained` holds the reason and
/// every score is `None`): never a score of zero.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Feedback {
    /// Name of the evaluator.
    pub evaluator: String,
    /// Higher is better; the scale belongs to the evaluator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// A probability that the candidate is right, when the evaluator claims one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// A verdict, when the evaluator gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// One score per step, when the evaluator looks at steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub step_scores: Vec<f64>,
    /// The score in each order in which the evaluator asked (of labels or criteria), where it asked in more than one: how
    /// far they lie apart is decided by the order and not by the response.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orders: Vec<f64>,
    /// Words: a critique, advice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Why the evaluator did not judge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abstained: Option<String>,
    /// What the judgement cost.
    #[serde(default)]
    pub usage: Usage,
}

impl Feedback {
    /// Feedback that is a score.
    pub fn score(evaluator: impl Into<String>, score: f64) -> Self {
        Feedback { evaluator: evaluator.into(), score: Some(score), ..Default::default() }
    }

    /// Feedback that says why there is none.
    pub fn abstain(evaluator: impl Into<String>, reason: impl Into<String>) -> Self {
        Feedback { evaluator: evaluator.into(), abstained: Some(reason.into()), ..Default::default() }
    }
}
