//! The border of this crate: what every language model can be asked.

use crate::latent::{LatentReading, LatentRequest};
use async_trait::async_trait;
use elenchus_trace::{Completion, Message, TokenDistribution, Usage};
use futures::stream::BoxStream;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How tokens are drawn. The filters apply in the order temperature, top-k, top-p, min-p.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// 0 takes the likeliest token always.
    pub temperature: f32,
    /// Smallest set of tokens with this probability mass; 1 keeps all.
    pub top_p: f32,
    /// Keep this many tokens; 0 keeps all.
    pub top_k: u32,
    /// Drop tokens below this share of the likeliest one; 0 keeps all.
    pub min_p: f32,
    /// Most tokens to write.
    pub max_tokens: u32,
    /// Strings that end the text (left out of it).
    pub stop: Vec<String>,
    /// Seed; sample i of a request uses a seed derived from this one and i, whatever else is in the batch.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            max_tokens: 1024,
            stop: Vec::new(),
            seed: 0,
        }
    }
}

/// How much to report about each token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogprobDetail {
    /// Nothing.
    #[default]
    None,
    /// Log-probability of the chosen token where the model gives it; a model that does not is no error.
    Offered,
    /// Log-probability of the chosen token.
    Chosen,
    /// The same and the k likeliest tokens.
    Top(u8),
    /// The same as `Chosen` and statistics of the full distribution.
    Distribution,
}

/// A request for one or more samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GenerateRequest {
    /// The dialogue. When the last message is the assistant's, it is a prefix that the model continues.
    pub messages: Vec<Message>,
    /// How many samples.
    pub samples: usize,
    /// How to draw them.
    pub sampling: Sampling,
    /// What to report about tokens.
    pub logprobs: LogprobDetail,
    /// Tool definitions in the OpenAI shape, passed through.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Value>,
    /// Further request fields, passed through to endpoints (`response_format`, `tool_choice`, …).
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub extra: Map<String, Value>,
    /// The `max_tokens` that was asked for, where a budget has lowered it since.
    #[serde(skip)]
    pub unbounded_tokens: Option<u32>,
}

/// Field of a completion's `extra` that says that a lowered budget cut it, and not the length that was asked for.
pub const CUT_BY_BUDGET: &str = "cut_by_budget";

impl GenerateRequest {
    /// One sample with default sampling.
    pub fn new(messages: Vec<Message>) -> Self {
        GenerateRequest {
            messages,
            samples: 1,
            sampling: Sampling::default(),
            logprobs: LogprobDetail::None,
            tools: Vec::new(),
            extra: Map::new(),
            unbounded_tokens: None,
        }
    }
}

/// A request for the log-probabilities of given continuations of one prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoreRequest {
    /// The dialogue before the continuation.
    pub messages: Vec<Message>,
    /// The texts to score, each as the assistant's reply.
    pub continuations: Vec<String>,
    /// Whether statistics of the full distributions are wanted.
    pub distributions: bool,
    /// Whether the end-of-text token behind each continuation is scored too.
    pub with_end: bool,
}

/// Log-probabilities of one continuation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Scored {
    /// Natural log-probability per token, raw distribution.
    pub logprobs: Vec<f32>,
    /// Statistics of the full distributions, when wanted.
    pub distributions: Vec<TokenDistribution>,
    /// What it cost.
    pub usage: Usage,
}

/// What a model can give. A strategy checks this before its first call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Capabilities {
    /// Log-probabilities of chosen tokens.
    pub logprobs: bool,
    /// How many of the likeliest tokens it can report; 0 none.
    pub top_logprobs: u8,
    /// Statistics of full distributions.
    pub distributions: bool,
    /// Scoring of given text.
    pub score: bool,
    /// Continuing an assistant prefix.
    pub prefix: bool,
    /// Hidden states and attention (embedded model).
    pub latent: bool,
    /// Weights that can be trained (embedded model).
    pub weights: bool,
    /// Tools.
    pub tools: bool,
    /// Images.
    pub images: bool,
    /// A seed is honoured.
    pub seeded: bool,
}

impl Capabilities {
    /// What both models can.
    pub fn shared_with(self, other: Capabilities) -> Capabilities {
        Capabilities {
            logprobs: self.logprobs && other.logprobs,
            top_logprobs: self.top_logprobs.min(other.top_logprobs),
            distributions: self.distributions && other.distributions,
            score: self.score && other.score,
            prefix: self.prefix && other.prefix,
            latent: self.latent && other.latent,
            weights: self.weights && other.weights,
            tools: self.tools && other.tools,
            images: self.images && other.images,
            seeded: self.seeded && other.seeded,
        }
    }
}

/// A piece of a streamed answer.
#[derive(Debug, Clone, PartialEq)]
pub enum StreamEvent {
    /// More text of sample `index`.
    Text {
        /// The sample.
        index: usize,
        /// The new text.
        text: String,
    },
    /// Sample `index` is complete.
    Done {
        /// The sample.
        index: usize,
        /// All of it.
        completion: Box<Completion>,
    },
}

/// Why a call failed.
#[derive(Debug, Clone, thiserror::Error, PartialEq)]
pub enum GenerateError {
    /// The model cannot do what the request needs.
    #[error("model `{model}` cannot give {what}\nhint: {hint}")]
    Capability {
        /// The model.
        model: String,
        /// What is missing.
        what: String,
        /// What to do.
        hint: String,
    },
    /// The budget does not allow the call.
    #[error("{}: {what}\nhint: raise it with `{option}`, or ask for fewer samples", Self::BUDGET_EXHAUSTED)]
    Budget {
        /// Which bound, how much of it is spent.
        what: String,
        /// The option that raises it.
        option: String,
    },
    /// The request is wrong and would fail again.
    #[error("model `{model}` refused the request: {what}\nhint: {hint}")]
    Request {
        /// The model.
        model: String,
        /// Its words.
        what: String,
        /// What to do.
        hint: String,
    },
    /// The other side failed; the call was retried as often as allowed.
    #[error("model `{model}` failed: {what}\nhint: {hint}")]
    Unavailable {
        /// The model.
        model: String,
        /// What happened.
        what: String,
        /// What to do.
        hint: String,
        /// How long the server asks us to wait, seconds.
        retry_after_seconds: Option<f64>,
        /// Whether trying again can help.
        retryable: bool,
    },
    /// Nothing is recorded for the request.
    #[error("nothing recorded for {what}\nhint: {hint}")]
    NotRecorded {
        /// The request, shortened.
        what: String,
        /// What to do.
        hint: String,
    },
    /// The cache or the journal could not be read or written.
    #[error("storage failed: {what}\nhint: {hint}")]
    Storage {
        /// Which store, which operation, the words of the system.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A prompt template is missing or broken.
    #[error("prompt `{name}`: {what}\nhint: {hint}")]
    Prompt {
        /// Voice and skill, for example `chat/judge`.
        name: String,
        /// What is wrong.
        what: String,
        /// What to do.
        hint: String,
    },
    /// Cancelled from outside.
    #[error("cancelled\nhint: ask again; what a journal or a cache holds already is not paid for twice")]
    Cancelled,
}

impl GenerateError {
    /// The words with which a spent budget is told, in errors and in what a trace says of them.
    pub const BUDGET_EXHAUSTED: &'static str = "budget exhausted";
}

/// Four bytes per token is the usual rule of thumb for English text.
pub(crate) fn estimated_tokens(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(4)
}

/// Divides a message of another crate into what happened and its hint line.
pub(crate) fn split_hint(message: &str) -> (String, Option<String>) {
    match message.split_once("\nhint: ") {
        Some((what, hint)) => (what.to_string(), Some(hint.to_string())),
        None => (message.to_string(), None),
    }
}

/// The part of a layer's [`LanguageModel`] that says who it is: it is the model in its field `inner`, whatever it does
/// with calls.
macro_rules! same_model {
    () => {
        $crate::model::same_model!(but its price);

        fn price(&self) -> Option<elenchus_trace::Price> {
            self.inner.price()
        }
    };
    (but its price) => {
        fn name(&self) -> &str {
            self.inner.name()
        }

        fn capabilities(&self) -> $crate::Capabilities {
            self.inner.capabilities()
        }

        fn fingerprint(&self) -> String {
            self.inner.fingerprint()
        }

        fn count_tokens(&self, text: &str) -> u64 {
            self.inner.count_tokens(text)
        }

        fn host(&self) -> Option<String> {
            self.inner.host()
        }
    };
}
pub(crate) use same_model;

/// A language model or why it could not be had.
pub type SharedModel = Result<std::sync::Arc<dyn LanguageModel>, GenerateError>;

/// A language model. Dropping a returned future or stream cancels the work.
#[async_trait]
pub trait LanguageModel: Send + Sync {
    /// Name for traces and messages.
    fn name(&self) -> &str;

    /// What it can give.
    fn capabilities(&self) -> Capabilities;

    /// Name and, where known, a hash of the weights: two models with the same fingerprint give the same answers.
    /// Part of every cache key.
    fn fingerprint(&self) -> String {
        self.name().to_string()
    }

    /// How many tokens a text is, for a plan made before a call: exact where the tokenizer is at hand, else by the rule
    /// of thumb of four bytes per token. What a call really read and wrote is in its usage.
    fn count_tokens(&self, text: &str) -> u64 {
        estimated_tokens(text.len())
    }

    /// What its tokens cost, where that is known: what a call may cost is bounded before it is made.
    fn price(&self) -> Option<elenchus_trace::Price> {
        None
    }

    /// The machine that answers, where it is another one: calls to one host share a limit.
    fn host(&self) -> Option<String> {
        None
    }

    /// Puts layers around each request when the model divides a call into several; `None` when it does not, and the
    /// layers belong around the whole. See [`crate::stack`].
    fn with_layers(
        &self,
        wrap: &dyn Fn(std::sync::Arc<dyn LanguageModel>) -> SharedModel,
    ) -> Option<SharedModel> {
        let _ = wrap;
        None
    }

    /// Draws `request.samples` samples, in order. Returns exactly that many or an error.
    async fn generate(&self, request: &GenerateRequest) -> Result<Vec<Completion>, GenerateError>;

    /// The same as a stream of pieces.
    async fn stream(
        &self,
        request: &GenerateRequest,
    ) -> Result<BoxStream<'static, Result<StreamEvent, GenerateError>>, GenerateError>;

    /// Log-probabilities of given continuations.
    async fn score(&self, request: &ScoreRequest) -> Result<Vec<Scored>, GenerateError> {
        let _ = request;
        Err(GenerateError::Capability {
            model: self.name().into(),
            what: "log-probabilities of given text".into(),
            hint: "use the embedded model, or a method that needs only samples".into(),
        })
    }

    /// Looks inside the model; only a model with [`Capabilities::latent`] can.
    async fn latent(&self, request: &LatentRequest) -> Result<LatentReading, GenerateError> {
        let _ = request;
        Err(crate::latent::not_measurable(self.name()))
    }

    /// One vector per text.
    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, GenerateError> {
        let _ = texts;
        Err(GenerateError::Capability {
            model: self.name().into(),
            what: "embeddings".into(),
            hint: "use an endpoint that serves /v1/embeddings".into(),
        })
    }
}
