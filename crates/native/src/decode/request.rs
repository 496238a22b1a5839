//! What is asked of the decoder and what it answers.

use elenchus_trace::TokenDistribution;
use std::sync::Arc;

/// What is recorded about each generated or scored token. Everything refers to the raw distribution p: softmax of the
/// logits at temperature 1, untruncated, natural logarithms, whatever the sampling settings are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Detail {
    /// Token ids only.
    None,
    /// log p of the chosen token.
    #[default]
    Chosen,
    /// `Chosen`, and the k likeliest tokens with their log p, likeliest first (lower id first on ties).
    Top(usize),
    /// `Chosen`, and the statistics of the full distribution.
    Distribution,
    /// `Top` and `Distribution` together.
    All(usize),
}

impl Detail {
    pub(crate) fn chosen(self) -> bool {
        self != Detail::None
    }

    pub(crate) fn top(self) -> usize {
        match self {
            Detail::Top(k) | Detail::All(k) => k,
            _ => 0,
        }
    }

    pub(crate) fn distribution(self) -> bool {
        matches!(self, Detail::Distribution | Detail::All(_))
    }
}

/// One prompt and how to continue it.
///
/// The sampling settings apply in this order: temperature, top-k, top-p, min-p; what is left is renormalised.
/// The random number of a token depends on (`seed`, `first_sample` + index, its absolute position in the sequence)
/// alone, so a result depends neither on what else is in the batch nor on the number of threads, and a generation that
/// is resumed from `prompt + tokens so far` goes on as it would have.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodeRequest {
    /// Token ids of the prompt, which may hold the beginning of the answer; at least one.
    pub prompt: Vec<u32>,
    /// How many continuations to draw.
    pub samples: usize,
    /// Added to the index of each sample where random numbers are drawn: later samples of an earlier request.
    pub first_sample: u64,
    /// Seed of the random numbers.
    pub seed: u64,
    /// Tokens to write at most, end-of-text included.
    pub max_new_tokens: usize,
    /// Divides the logits; 0 is greedy (the likeliest token, the lowest id on ties).
    pub temperature: f32,
    /// Keep the smallest set of likeliest tokens with at least this much mass; 1 keeps all.
    pub top_p: f32,
    /// Keep this many likeliest tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep tokens at least this fraction as likely as the likeliest; 0 keeps all.
    pub min_p: f32,
    /// Tokens that end the generation beside the end-of-text tokens of the model.
    pub stop_tokens: Vec<u32>,
    /// Texts that end the generation where they appear, also across tokens.
    pub stop_strings: Vec<String>,
    /// What to record.
    pub detail: Detail,
}

impl Default for DecodeRequest {
    fn default() -> Self {
        DecodeRequest {
            prompt: Vec::new(),
            samples: 1,
            first_sample: 0,
            seed: 0,
            max_new_tokens: 256,
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            stop_tokens: Vec::new(),
            stop_strings: Vec::new(),
            detail: Detail::Chosen,
        }
    }
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeFinish {
    /// An end-of-text token of the model, or one of the request's stop tokens, was written.
    EndOfText,
    /// A stop string appeared.
    StopString,
    /// `max_new_tokens`, or the longest sequence of the model, was reached.
    Length,
    /// Nobody needs the rest.
    Cancelled,
}

/// One continuation.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// All tokens written, the end-of-text token and the tokens of a stop string included.
    pub tokens: Vec<u32>,
    /// How many leading tokens are wholly text: before end-of-text, before the stop string.
    pub text_tokens: usize,
    /// What the token at `text_tokens` says before the stop string begins within it; nearly always empty.
    /// The text of the continuation is the text of `tokens[..text_tokens]`, then this.
    pub text_tail: Vec<u8>,
    /// log p of each token, nats; empty with [`Detail::None`].
    pub logprobs: Vec<f32>,
    /// The likeliest tokens at each position; empty unless asked for.
    pub top: Vec<Vec<(u32, f32)>>,
    /// The statistics of each full distribution; empty unless asked for.
    pub distributions: Vec<TokenDistribution>,
    /// Why it ended.
    pub finish: DecodeFinish,
}

/// A token as it is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenEvent {
    /// Index of the request in the call.
    pub request: usize,
    /// Index of the sample within the request, from 0.
    pub sample: usize,
    /// The token.
    pub token: u32,
    /// log p of the token, nats; NaN with [`Detail::None`].
    pub logprob: f32,
    /// How many leading tokens of the sample are text whatever comes next: not end-of-text, and no part of what may
    /// become a stop string. A stream shows these.
    pub settled_tokens: usize,
}

/// Texts to score after a common prefix.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ScoreRequest {
    /// Token ids of the prefix, computed once; at least one.
    pub prefix: Vec<u32>,
    /// The continuations; an empty one has no tokens to score.
    pub continuations: Vec<Vec<u32>>,
    /// Whether to score the model's first end-of-text token after each continuation too.
    pub with_end: bool,
    /// What to record.
    pub detail: Detail,
}

/// The scores of one continuation: one entry per token, and one for the end when asked for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scored {
    /// log p(token | everything before it), nats.
    pub logprobs: Vec<f32>,
    /// The likeliest tokens at each position; empty unless asked for.
    pub top: Vec<Vec<(u32, f32)>>,
    /// The statistics of each full distribution; empty unless asked for.
    pub distributions: Vec<TokenDistribution>,
}

impl Scored {
    /// log p of the whole continuation, nats.
    pub fn total(&self) -> f64 {
        self.logprobs.iter().map(|&logprob| f64::from(logprob)).sum()
    }
}

/// The text of every token, needed to find stop strings. Bytes, since a token of a byte-level vocabulary may be a part
/// of a character.
#[derive(Debug, Clone)]
pub struct TokenTexts(Arc<[Vec<u8>]>);

impl TokenTexts {
    /// From the texts in the order of the ids.
    pub fn new<T: Into<Vec<u8>>>(texts: impl IntoIterator<Item = T>) -> Self {
        TokenTexts(texts.into_iter().map(Into::into).collect())
    }

    /// The text of a token; empty for an unknown id.
    pub fn get(&self, token: u32) -> &[u8] {
        self.0.get(token as usize).map_or(&[], Vec::as_slice)
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// How a decoder works; no setting changes a result.
#[derive(Debug, Clone)]
pub struct DecoderOptions {
    /// Threads that compute; 0 takes one per available core.
    pub threads: usize,
    /// Sequences decoded together at most; finished ones make room for waiting ones.
    pub max_batch_rows: usize,
    /// Texts of the tokens; without them a request with stop strings is refused.
    pub token_texts: Option<TokenTexts>,
}

impl Default for DecoderOptions {
    fn default() -> Self {
        DecoderOptions { threads: 0, max_batch_rows: 128, token_texts: None }
    }
}

/// Rows of the batches computed so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DecodeCounters {
    /// Batches of one token for each running sequence.
    pub steps: u64,
    /// Rows of those batches.
    pub step_rows: u64,
    /// Of those, rows whose token was part of a result.
    pub useful_rows: u64,
    /// Rows that could have been computed: steps times the most rows of a batch.
    pub row_capacity: u64,
    /// Rows of prompts, prefixes and continuations.
    pub prompt_rows: u64,
}

/// Why a request was refused. `request` is its index in the call.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// Nothing to continue.
    #[error(
        "request {request}: {what} is empty\nhint: begin it with at least one token, such as a tag or begin-of-text"
    )]
    EmptyPrompt {
        /// The request.
        request: usize,
        /// `prompt` or `prefix`.
        what: &'static str,
    },
    /// More tokens than the model has positions.
    #[error(
        "request {request}: {what} needs {length} positions, the model has {max_positions}\n\
         hint: shorten it, or use a model with a larger `max_position_embeddings`"
    )]
    TooLong {
        /// The request.
        request: usize,
        /// What is too long.
        what: &'static str,
        /// Its length.
        length: usize,
        /// The longest possible.
        max_positions: usize,
    },
    /// A token id that the model does not have.
    #[error(
        "request {request}: {what} holds token {token}, the vocabulary has {vocabulary}\n\
         hint: the text was encoded with the tokenizer of another model"
    )]
    UnknownToken {
        /// The request.
        request: usize,
        /// Where it stands.
        what: &'static str,
        /// The token.
        token: u32,
        /// V.
        vocabulary: usize,
    },
    /// A setting outside its range.
    #[error("request {request}: `{field}` is {value}\nhint: {hint}")]
    Setting {
        /// The request.
        request: usize,
        /// The field.
        field: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        hint: &'static str,
    },
    /// The end was to be scored, and the model has no token for it.
    #[error(
        "request {request}: `with_end` is set and the model has no end-of-text token\nhint: set `eos_token_ids` in the model's configuration"
    )]
    NoEndToken {
        /// The request.
        request: usize,
    },
    /// The new weights have another shape.
    #[error("new weights: the shape of the model differs\nhint: start another decoder for another shape")]
    OtherShape,
    /// A thread could not be started.
    #[error("decoder: no thread could be started: {0}\nhint: lower `threads` or the load of the machine")]
    Thread(String),
    /// The service was shut down.
    #[error("decode service: it has stopped\nhint: keep the `DecodeService` alive while requests run")]
    Stopped,
}
