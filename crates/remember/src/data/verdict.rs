//! Recorded comparisons of a judge.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A line of `verdicts.jsonl`: a judge compared two responses.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VerdictRow {
    /// The pair; the same pair in the other order has the same identifier.
    pub id: String,
    /// Whether this is the other order of the pair.
    #[serde(default)]
    pub swapped: bool,
    /// Probability that the judge prefers the response it saw first; 0, 0.5 or 1 for a bare verdict. Absent when it gave
    /// none that can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<f64>,
    /// Lengths of both in the order seen, in characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lengths: Option<[f64; 2]>,
    /// What people or a verifier prefer: 1 for the response seen first, 0 for the second, 0.5 for a tie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<f64>,
    /// Fields we do not know, kept.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}
