//! What is read inside a model: attention over parts of the prompt, and the answers of single layers and heads.

use crate::GenerateError;
use elenchus_trace::{Message, Usage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A request to look inside the model while it reads a dialogue and a beginning of its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatentRequest {
    /// The dialogue. When the last message is the assistant's, it is a prefix that the model continues.
    pub messages: Vec<Message>,
    /// What the assistant says behind the dialogue; may be empty.
    pub continuation: String,
    /// What is read.
    pub read: LatentRead,
}

/// What is read inside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LatentRead {
    /// How the attention of one layer is divided over segments of the prompt.
    Attention {
        /// The tokens of the continuation whose writing is looked at. The row of a token is that of the position
        /// *before* it: there the model decides what it writes.
        rows: Stretch,
        /// Parts of the prompt; no token may lie in two of them.
        segments: Vec<Segment>,
        /// The layer from 0; absent: the last one.
        layer: Option<usize>,
    },
    /// The next token read off every layer: the residual stream at the last token through the final norm and the
    /// output matrix ("logit lens").
    Layers,
    /// The next token when one head is kept in one layer and the others of that layer are multiplied by a factor
    /// before the output projection; other layers are left alone. One forward pass per layer and head.
    Heads {
        /// The layers from 0; empty: every one.
        layers: Vec<usize>,
        /// 0 silences the other heads, 1 changes nothing.
        factor: f32,
    },
    /// The residual stream at the last token.
    States {
        /// 0: the embedding, l: behind block l.
        layers: Vec<usize>,
    },
}

/// Part of the continuation; `to` is not part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stretch {
    /// Tokens that begin within these bytes of the text.
    Bytes {
        /// First byte.
        from: usize,
        /// Behind the last.
        to: usize,
    },
    /// Tokens by their number in the continuation.
    Tokens {
        /// First token.
        from: usize,
        /// Behind the last.
        to: usize,
    },
}

/// Part of the prompt; `to` is not part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Segment {
    /// Tokens that begin within these bytes of the text of a message.
    Bytes {
        /// Index of the message.
        message: usize,
        /// First byte.
        from: usize,
        /// Behind the last.
        to: usize,
    },
    /// Tokens by their number in the prompt, template included.
    Tokens {
        /// First token.
        from: usize,
        /// Behind the last.
        to: usize,
    },
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LatentReading {
    /// The values.
    pub values: LatentValues,
    /// What it cost: every token that was read in every pass.
    pub usage: Usage,
}

/// The values of a [`LatentReading`], as asked for by [`LatentRead`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LatentValues {
    /// `[heads][segments + 1]`: attention mass on each segment, then on all the rest (template, other text, the
    /// answer's own tokens), the mean over the rows. Each head sums to 1.
    Attention(Vec<Vec<f32>>),
    /// One per layer, or per layer and head.
    Tokens(Vec<InnerToken>),
    /// `[layers][d]`.
    States(Vec<Vec<f32>>),
}

/// The next token as one place of the model says it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InnerToken {
    /// Lens: 0 the embedding, l behind block l. Heads: the block from 0.
    pub layer: usize,
    /// The head that was kept; absent for the lens.
    pub head: Option<usize>,
    /// The likeliest token; of equals the one with the smallest number.
    pub token: u32,
    /// Its text.
    pub text: String,
    /// Its log-probability, nats.
    pub logprob: f32,
    /// Entropy of the distribution, nats.
    pub entropy: f32,
}

/// What a model without visible insides answers.
pub(crate) fn not_measurable(model: &str) -> GenerateError {
    GenerateError::Capability {
        model: model.into(),
        what: "latent states: not measurable from outside (attention, hidden states, single heads)".into(),
        hint:
            "only the embedded engine shows them; decoding and response layers can be measured on any model"
                .into(),
    }
}
