//! Rows that others feed in; documented in `docs/formats.md`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One recorded sample of a question.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sample {
    /// The response.
    pub text: String,
    /// The answer in it, when already extracted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// Whether it is right, when already known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correct: Option<bool>,
    /// Mean log-probability per token, nats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_logprob: Option<f64>,
    /// Summed log-probability, nats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sum_logprob: Option<f64>,
    /// Log-probability of each token, nats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_logprobs: Option<Vec<f32>>,
    /// Self-certainty: mean KL from uniform, nats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certainty: Option<f64>,
    /// Any score, higher is better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Fields we do not know, kept.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A line of `samples.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SampleRow {
    /// Identifier of the question; a number is accepted and kept as its text.
    #[serde(deserialize_with = "text_or_number")]
    pub id: String,
    /// The question.
    #[serde(default)]
    pub question: String,
    /// The reference answer.
    #[serde(default, deserialize_with = "optional_text_or_number", skip_serializing_if = "Option::is_none")]
    pub gold: Option<String>,
    /// The recorded samples, in the order in which they were drawn.
    pub samples: Vec<Sample>,
    /// Fields we do not know, kept.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A line of `pairs.jsonl`; the options mean what they mean in HF Math-Verify.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PairRow {
    /// Identifier of the pair; a number is accepted and kept as its text.
    #[serde(deserialize_with = "text_or_number")]
    pub id: String,
    /// The reference answer.
    #[serde(deserialize_with = "text_or_number")]
    pub gold: String,
    /// The predicted answer or the response that holds it.
    #[serde(deserialize_with = "text_or_number")]
    pub pred: String,
    /// Which extractors to use: `latex`, `expr`, `string`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extract: Option<Vec<String>>,
    /// Priority of `\boxed{}` among matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boxed_match_priority: Option<i64>,
    /// Decimal digits at which numbers are rounded before comparison.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<u32>,
    /// Strict comparison of variables and of sets against tuples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
    /// Whether a relation may equal the set it describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_set_relation_comp: Option<bool>,
    /// Fields we do not know, kept.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A line of `judgements.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JudgementRow {
    /// Identifier of the judged item; a number is accepted and kept as its text.
    #[serde(deserialize_with = "text_or_number")]
    pub id: String,
    /// Stated probability of being right, in [0, 1].
    pub confidence: f64,
    /// Whether it was right.
    pub correct: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TextOrNumber {
    Text(String),
    Number(serde_json::Number),
}

impl From<TextOrNumber> for String {
    fn from(value: TextOrNumber) -> String {
        match value {
            TextOrNumber::Text(text) => text,
            TextOrNumber::Number(number) => number.to_string(),
        }
    }
}

fn text_or_number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    TextOrNumber::deserialize(deserializer).map(String::from)
}

fn optional_text_or_number<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    Option::<TextOrNumber>::deserialize(deserializer).map(|value| value.map(String::from))
}
