use crate::{Trace, Usage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How votes fell on one answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Votes {
    /// The answer, as its first sample wrote it.
    pub answer: String,
    /// Samples that gave it.
    pub count: usize,
    /// Their summed weight (equal to `count` in a plain vote).
    pub weight: f64,
}

/// What a strategy returns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Answer {
    /// The response that is returned to the asker, whole. Empty only when `abstained` says why.
    pub text: String,
    /// The answer extracted from it, where the task can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// In [0, 1], raw unless a calibration was applied; `None` when the strategy has no ground for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// How the votes fell, heaviest first, for strategies that vote.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub votes: Vec<Votes>,
    /// Why there is no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abstained: Option<String>,
    /// All that was spent.
    pub usage: Usage,
    /// Everything that happened.
    pub trace: Trace,
}
