//! Where a strategy stands among methods: generate, evaluate, control (arXiv 2407.11511), and the line of work in
//! self-feedback (arXiv 2407.14507).

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

/// The place of a method on the axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
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
    /// Several responses to a prompt written by hand, of which the model's own assessment chooses one.
    pub const SELF_VOTE: Triple = Triple {
        generate: GenerateKind::HandWritten,
        evaluate: EvaluateKind::SelfAssessment,
        control: ControlKind::Ensemble,
        line: Some(FeedbackLine::ReasoningTopologically),
    };
}
