use crate::{Message, Usage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Why a generation stopped.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended its turn, or a stop string was met.
    Stop,
    /// The token limit was reached: the text is cut.
    Length,
    /// The model wants tools called.
    ToolCalls,
    /// The server withheld content.
    ContentFilter,
    /// Nobody needed the rest: the text is cut by us.
    Cancelled,
    /// The connection broke in mid-stream: the text is cut.
    Interrupted,
    /// A reason of the server that we do not know, in its own words.
    #[serde(untagged)]
    Other(String),
}

/// One of the likeliest tokens at a position.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TopToken {
    /// Text of the token.
    pub token: String,
    /// Natural log-probability under the raw distribution.
    pub logprob: f32,
}

/// Statistics of one full next-token distribution p over V tokens: raw softmax at temperature 1, untruncated.
/// All logarithms are natural.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TokenDistribution {
    /// KL(U‖p) = −(1/V) Σⱼ log(V pⱼ) ≥ 0 (self-certainty, arXiv 2502.18581), nats.
    pub kl_from_uniform: f32,
    /// H(p) = −Σⱼ pⱼ log pⱼ, nats.
    pub entropy: f32,
    /// Σⱼ pⱼ².
    pub gini: f32,
    /// maxⱼ log pⱼ.
    pub max_logprob: f32,
}

/// One generated text with what is known about its tokens.
///
/// Per-token vectors have one entry per generated token, the end-of-text token included when it was generated;
/// they are empty when the backend cannot give them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Completion {
    /// The text, stop string and end-of-text left out.
    pub text: String,
    /// Why it ended.
    pub finish: FinishReason,
    /// Token ids in the vocabulary of the model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub token_ids: Vec<u32>,
    /// Text of each token, for backends that do not give ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub token_texts: Vec<String>,
    /// Natural log-probability of each token under the raw untruncated distribution (temperature 1).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logprobs: Vec<f32>,
    /// Likeliest alternatives at each position.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top: Vec<Vec<TopToken>>,
    /// Statistics of the full distribution at each position.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub distributions: Vec<TokenDistribution>,
    /// Size V of the vocabulary that `distributions` or `top` refer to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<u32>,
    /// The whole assistant message when it holds more than text (tool calls, refusal, unknown fields).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Message>,
    /// Tokens, calls and seconds that this completion cost.
    #[serde(default)]
    pub usage: Usage,
    /// Seed of this very sample, where the backend is seeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Response fields we do not know, kept.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub extra: Map<String, Value>,
}

impl Completion {
    /// A completion that is only text, ended by itself.
    pub fn text(text: impl Into<String>) -> Self {
        Completion {
            text: text.into(),
            finish: FinishReason::Stop,
            token_ids: Vec::new(),
            token_texts: Vec::new(),
            logprobs: Vec::new(),
            top: Vec::new(),
            distributions: Vec::new(),
            vocabulary: None,
            message: None,
            usage: Usage::default(),
            seed: None,
            extra: Map::new(),
        }
    }

    /// Whether the text ends before the model had said all: at the token limit, or because somebody or something broke in.
    pub fn was_cut(&self) -> bool {
        matches!(self.finish, FinishReason::Length | FinishReason::Cancelled | FinishReason::Interrupted)
    }

    /// Mean log-probability per token in nats, `None` without log-probabilities.
    pub fn mean_logprob(&self) -> Option<f64> {
        (!self.logprobs.is_empty())
            .then(|| self.logprobs.iter().map(|&l| f64::from(l)).sum::<f64>() / self.logprobs.len() as f64)
    }

    /// Summed log-probability in nats, `None` without log-probabilities.
    pub fn sum_logprob(&self) -> Option<f64> {
        (!self.logprobs.is_empty()).then(|| self.logprobs.iter().map(|&l| f64::from(l)).sum())
    }
}
