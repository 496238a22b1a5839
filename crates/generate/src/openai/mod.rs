//! Any server that speaks OpenAI's chat completions: OpenAI, vLLM, SGLang, llama.cpp, Ollama and others.

mod http;
mod refusal;
mod retry_after;
mod sse;
mod stop;
mod stream;
mod trust;
mod wire;

pub use refusal::error_status;
pub use sse::{SseError, SseEvent, SseParser};
pub use trust::{certificate_problem, certificates};
pub use wire::REPEATS_ITSELF;

use crate::context::derive_seed;
use crate::model::SharedModel;
use crate::timeout::Timeouts;
use crate::{
    Address, Capabilities, GenerateError, GenerateRequest, LanguageModel, LogprobDetail, Lost, StreamEvent,
};
use async_trait::async_trait;
use elenchus_trace::{Completion, Role};
use futures::stream::BoxStream;
use http::{Refusal, Server};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Instant;

/// How several samples of one request are asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SampleStyle {
    /// In one request; when the server refuses or gives fewer, the rest at once in requests of their own, and so from
    /// then on.
    #[default]
    Detect,
    /// Always in one request.
    Together,
    /// Always in requests of their own, at once.
    Concurrent,
}

/// What happens with a dialogue that ends in the beginning of the assistant's answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PrefixStyle {
    /// It is refused: the server would begin a second answer.
    #[default]
    Refuse,
    /// It is sent as it is, for servers that continue it by themselves (llama.cpp, Anthropic's compatible API).
    Send,
    /// It is sent with `continue_final_message`, for vLLM and SGLang.
    ContinueFinalMessage,
}

/// Which field bounds the length of the answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MaxTokensField {
    /// `max_tokens`; when the server refuses it and names the other, that one from then on.
    #[default]
    Detect,
    /// `max_tokens`
    MaxTokens,
    /// `max_completion_tokens`
    MaxCompletionTokens,
}

/// What the server at the other side can do; believed as it is written here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerAbilities {
    /// Reports log-probabilities.
    pub logprobs: bool,
    /// How many alternatives per token it reports.
    pub top_logprobs: u8,
    /// Knows tools.
    pub tools: bool,
    /// Knows images.
    pub images: bool,
    /// The same seed gives the same text.
    pub seeded: bool,
}

impl Default for ServerAbilities {
    fn default() -> Self {
        ServerAbilities { logprobs: true, top_logprobs: 20, tools: true, images: true, seeded: false }
    }
}

/// Settings of an endpoint.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OpenAiConfig {
    /// Address of the API, usually ending in `/v1`. A user and a password in it are sent in place of a key.
    pub base_url: Address,
    /// Name of the model at the server.
    pub model: String,
    /// Name in traces and messages; that of the model when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The key itself. Never written out; prefer `api_key_variable`.
    #[serde(skip_serializing)]
    pub api_key: Option<String>,
    /// Environment variable that holds the key; used when `api_key` is absent, and no key is sent when it is not set.
    pub api_key_variable: String,
    /// Further headers of every request. Their values are never shown.
    #[serde(skip_serializing)]
    pub headers: BTreeMap<String, String>,
    /// Further fields of every request body; a request's own `extra` fields win.
    pub body: Map<String, Value>,
    /// How several samples are asked for.
    pub samples: SampleStyle,
    /// What happens with an assistant prefix.
    pub prefix: PrefixStyle,
    /// Which field bounds the length.
    pub max_tokens_field: MaxTokensField,
    /// Whether `seed` is sent: each sample its own, 31 bits. A few servers refuse the field.
    pub send_seed: bool,
    /// What the server can do.
    pub abilities: ServerAbilities,
    /// Connection, first byte and idle time are kept here; the total time by [`crate::TimeoutLayer`].
    pub timeouts: Timeouts,
    /// Longest answer that is read, bytes.
    pub most_body_bytes: usize,
    /// File (PEM) of the authorities that may sign the server's certificate, beside those of the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Model for `/embeddings`; that of the chat when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding_model: Option<String>,
}

impl Default for OpenAiConfig {
    fn default() -> Self {
        OpenAiConfig {
            base_url: "https://api.openai.com/v1".into(),
            model: String::new(),
            name: None,
            api_key: None,
            api_key_variable: "OPENAI_API_KEY".into(),
            headers: BTreeMap::new(),
            body: Map::new(),
            samples: SampleStyle::Detect,
            prefix: PrefixStyle::Refuse,
            max_tokens_field: MaxTokensField::Detect,
            send_seed: true,
            abilities: ServerAbilities::default(),
            timeouts: Timeouts::default(),
            most_body_bytes: 64 << 20,
            ca_file: None,
            embedding_model: None,
        }
    }
}

impl fmt::Debug for OpenAiConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Key and header values are left out: debug output ends up in logs.
        f.debug_struct("OpenAiConfig")
            .field("base_url", &self.base_url)
            .field("model", &self.model)
            .field("has_api_key", &self.api_key.is_some())
            .field("api_key_variable", &self.api_key_variable)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("samples", &self.samples)
            .finish_non_exhaustive()
    }
}

/// A model behind an endpoint. Cheap to clone; clones share connections and what was learned about the server.
///
/// A call for several samples may become several HTTP requests. [`crate::stack`] therefore puts its layers around each
/// of these, not around the call: a limit per host counts requests, and one failed sample is tried again alone.
#[derive(Clone)]
pub struct OpenAi {
    inner: Arc<Endpoint>,
    /// The endpoint, or the endpoint in its layers.
    requests: Arc<dyn LanguageModel>,
}

/// What all requests share.
struct Endpoint {
    config: OpenAiConfig,
    name: String,
    server: Arc<Server>,
    learned: Learned,
}

/// What the server's answers have taught us.
#[derive(Debug, Default)]
struct Learned {
    /// 0 unknown, 1 several samples in one request work, 2 they do not.
    samples: AtomicU8,
    max_completion_tokens: AtomicBool,
    no_stream_options: AtomicBool,
    no_logprobs: AtomicBool,
}

const TOGETHER: u8 = 1;
const CONCURRENT: u8 = 2;

impl OpenAi {
    /// Connects nothing yet. Errors when the address, a header or the model's name cannot be.
    pub fn new(config: OpenAiConfig) -> Result<Self, GenerateError> {
        if config.model.is_empty() {
            return Err(GenerateError::Request {
                model: config.base_url.to_string(),
                what: "no model is named".into(),
                hint: "set `model` to a name that the server lists under `/models`".into(),
            });
        }
        let name = config.name.clone().unwrap_or_else(|| config.model.clone());
        let key = config.api_key.clone().or_else(|| {
            let variable = config.api_key_variable.as_str();
            (!variable.is_empty()).then(|| std::env::var(variable).ok()).flatten()
        });
        // One header holds either; the variable may hold the key of another server.
        let key = key.filter(|_| !config.base_url.has_user());
        let key = key.map(|key| key.trim().to_string()).filter(|key| !key.is_empty());
        let server = Server::new(
            &name,
            &config.base_url,
            key.as_deref(),
            &config.headers,
            &config.timeouts,
            config.most_body_bytes,
            config.ca_file.as_deref(),
        )?;
        let learned = Learned::default();
        match config.samples {
            SampleStyle::Detect => {}
            SampleStyle::Together => learned.samples.store(TOGETHER, Ordering::Relaxed),
            SampleStyle::Concurrent => learned.samples.store(CONCURRENT, Ordering::Relaxed),
        }
        if config.max_tokens_field == MaxTokensField::MaxCompletionTokens {
            learned.max_completion_tokens.store(true, Ordering::Relaxed);
        }
        let inner = Arc::new(Endpoint { config, name, server: Arc::new(server), learned });
        Ok(OpenAi { requests: Arc::clone(&inner) as Arc<dyn LanguageModel>, inner })
    }

    /// One HTTP request per call, which may give fewer samples than asked for.
    pub fn requests(&self) -> Arc<dyn LanguageModel> {
        Arc::clone(&self.requests)
    }

    /// The same with its HTTP requests made by another model, [`OpenAi::requests`] in layers for example.
    pub fn over(&self, requests: Arc<dyn LanguageModel>) -> OpenAi {
        OpenAi { inner: Arc::clone(&self.inner), requests }
    }

    /// Names of the models that the server offers.
    pub async fn models(&self) -> Result<Vec<String>, GenerateError> {
        let body = self.inner.server.exchange("models", None).await.map_err(|refusal| refusal.error)?;
        let list = body.get("data").or_else(|| body.get("models")).and_then(Value::as_array);
        let list = list.ok_or_else(|| {
            self.inner.fault(wire::WireFault::Shape("the list of models has no `data`".into()))
        })?;
        let name = |model: &Value| {
            ["id", "name"].iter().find_map(|field| model.get(field)?.as_str().map(str::to_string))
        };
        Ok(list.iter().filter_map(name).collect())
    }
}

impl Endpoint {
    fn fault(&self, fault: wire::WireFault) -> GenerateError {
        self.server.fault(fault)
    }

    fn check(&self, request: &GenerateRequest) -> Result<(), GenerateError> {
        let abilities = self.config.abilities;
        let cannot = |what: &str, hint: &str| {
            Err(GenerateError::Capability { model: self.name.clone(), what: what.into(), hint: hint.into() })
        };
        match request.logprobs {
            LogprobDetail::Distribution => {
                return cannot(
                    "statistics of full distributions",
                    "use the embedded model, or a method that needs only `top_logprobs`",
                );
            }
            LogprobDetail::Chosen | LogprobDetail::Top(_) if !abilities.logprobs => {
                return cannot(
                    "log-probabilities",
                    "set `abilities.logprobs = true` under `[endpoint]` if the server does report them",
                );
            }
            LogprobDetail::Top(count) if count > abilities.top_logprobs => {
                let what = format!("{count} alternatives per token, only {}", abilities.top_logprobs);
                return cannot(&what, "ask for fewer, or raise `abilities.top_logprobs` under `[endpoint]`");
            }
            _ => {}
        }
        if !request.tools.is_empty() && !abilities.tools {
            return cannot(
                "tool calls",
                "set `abilities.tools = true` under `[endpoint]` if the server knows them",
            );
        }
        if self.config.prefix == PrefixStyle::Refuse
            && request.messages.last().is_some_and(|message| message.role == Role::Assistant)
        {
            return cannot(
                "a continuation of the assistant's own words",
                "if the server continues them, set `prefix` under `[endpoint]`, or `--prefix`, to `send` or \
                 `continue_final_message`",
            );
        }
        Ok(())
    }

    fn together(&self, samples: usize) -> bool {
        samples > 1 && self.learned.samples.load(Ordering::Relaxed) != CONCURRENT
    }

    /// Whether a server that does not give several samples at once may be asked one by one.
    fn may_divide(&self) -> bool {
        self.config.samples != SampleStyle::Together
    }

    fn learn_concurrent(&self) {
        self.learned.samples.store(CONCURRENT, Ordering::Relaxed);
    }

    fn sent_seed(&self, request: &GenerateRequest) -> Option<u64> {
        self.config.send_seed.then(|| wire::wire_seed(request.sampling.seed))
    }

    fn body(&self, request: &GenerateRequest, stream: bool) -> Value {
        let newer = self.learned.max_completion_tokens.load(Ordering::Relaxed);
        let style = wire::BodyStyle {
            model: &self.config.model,
            base: &self.config.body,
            max_tokens_field: if newer { "max_completion_tokens" } else { "max_tokens" },
            send_seed: self.config.send_seed,
            offer_logprobs: self.config.abilities.logprobs
                && !self.learned.no_logprobs.load(Ordering::Relaxed),
            continue_final_message: self.config.prefix == PrefixStyle::ContinueFinalMessage,
            stream,
            stream_usage: !self.learned.no_stream_options.load(Ordering::Relaxed),
        };
        wire::chat_body(&style, request)
    }

    /// The body written otherwise, when a refusal names a field that we can change; what is learned stays for later
    /// requests. The test is on the body that was refused: another request may have learned the same meanwhile.
    fn adapted(&self, refusal: &Refusal, request: &GenerateRequest, refused: &Value) -> Option<Value> {
        let words = refusal.refused.as_ref()?;
        if self.config.max_tokens_field == MaxTokensField::Detect && words.contains("max_completion_tokens") {
            self.learned.max_completion_tokens.store(true, Ordering::Relaxed);
        }
        let streamed = refused.get("stream").is_some();
        if streamed && words.contains("stream_options") {
            self.learned.no_stream_options.store(true, Ordering::Relaxed);
        }
        if request.logprobs == LogprobDetail::Offered && words.contains("logprobs") {
            self.learned.no_logprobs.store(true, Ordering::Relaxed);
        }
        let body = self.body(request, streamed);
        (body != *refused).then_some(body)
    }

    fn too_few(&self, given: usize, wanted: usize) -> GenerateError {
        GenerateError::Unavailable {
            model: self.name.clone(),
            what: format!("{} gives {given} of {wanted} samples", self.server.place()),
            hint: "set `samples` to `detect` or `concurrent`".into(),
            retry_after_seconds: None,
            retryable: false,
        }
    }
}

/// Sample `index` alone. Each has a seed of its own, else a server that honours seeds would repeat itself.
fn single(request: &GenerateRequest, index: usize) -> GenerateRequest {
    let mut single = request.clone();
    single.samples = 1;
    single.sampling.seed = derive_seed(request.sampling.seed, "sample", index as u64);
    single
}

/// Whether the server refused the request for its content (400, 422), which may be about `n`.
fn refused(error: &GenerateError) -> bool {
    matches!(error, GenerateError::Request { .. }) && matches!(error.http_status(), Some(400 | 422))
}

/// One HTTP request per call; may give fewer samples than asked for.
#[async_trait]
impl LanguageModel for Endpoint {
    fn name(&self) -> &str {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        let abilities = self.config.abilities;
        Capabilities {
            logprobs: abilities.logprobs,
            top_logprobs: if abilities.logprobs { abilities.top_logprobs } else { 0 },
            distributions: false,
            score: false,
            prefix: self.config.prefix != PrefixStyle::Refuse,
            latent: false,
            weights: false,
            tools: abilities.tools,
            images: abilities.images,
            seeded: abilities.seeded && self.config.send_seed,
        }
    }

    fn fingerprint(&self) -> String {
        format!("openai {} {} {}", self.config.base_url, self.config.model, json!(self.config.body))
    }

    fn host(&self) -> Option<String> {
        Some(self.server.place())
    }

    async fn generate(&self, request: &GenerateRequest) -> Result<Vec<Completion>, GenerateError> {
        let mut body = self.body(request, false);
        loop {
            let started = Instant::now();
            match self.server.exchange("chat/completions", Some(&body)).await {
                Err(refusal) => match self.adapted(&refusal, request, &body) {
                    Some(other) => body = other,
                    None => return Err(refusal.error),
                },
                Ok(answer) => {
                    let mut completions =
                        wire::parse_response(answer, request).map_err(|fault| self.fault(fault))?;
                    completions.truncate(request.samples);
                    if let Some(first) = completions.first_mut() {
                        first.usage.seconds = started.elapsed().as_secs_f64();
                    }
                    if let (1, [only]) = (request.samples, completions.as_mut_slice()) {
                        only.seed = self.sent_seed(request);
                    }
                    return Ok(completions);
                }
            }
        }
    }

    async fn stream(
        &self,
        request: &GenerateRequest,
    ) -> Result<BoxStream<'static, Result<StreamEvent, GenerateError>>, GenerateError> {
        stream::one(self, request).await
    }

    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, GenerateError> {
        let model = self.config.embedding_model.as_ref().unwrap_or(&self.config.model);
        let body = json!({"model": model, "input": texts, "encoding_format": "float"});
        let answer =
            self.server.exchange("embeddings", Some(&body)).await.map_err(|refusal| refusal.error)?;
        wire::parse_embeddings(answer, texts.len()).map_err(|fault| self.fault(fault))
    }
}

/// OpenAI's bound on `n`; servers that have one have this one.
const MOST_TOGETHER: usize = 128;

/// Samples of one call, and the failures of those that did not come.
#[derive(Default)]
struct Drawn {
    completions: Vec<Completion>,
    failures: Vec<GenerateError>,
}

impl Drawn {
    /// The samples, with what is missing noted. None at all is an error, and so is a failure that is none of the server's.
    fn samples(mut self) -> Result<Vec<Completion>, GenerateError> {
        let is_lost = |error: &GenerateError| matches!(error, GenerateError::Unavailable { .. });
        if self.completions.is_empty() || !self.failures.iter().all(is_lost) {
            let first = self.failures.iter().position(|error| !is_lost(error)).unwrap_or(0);
            return match self.failures.is_empty() {
                true => Ok(self.completions),
                false => Err(self.failures.swap_remove(first)),
            };
        }
        if let Some(GenerateError::Unavailable { what, .. }) = self.failures.first() {
            let lost = Lost { samples: self.failures.len(), why: what.clone() };
            lost.note(&mut self.completions);
        }
        Ok(self.completions)
    }
}

impl OpenAi {
    /// Samples `range` of the request, each in a request of its own, all at once. One that fails costs no other: those
    /// that came are paid for.
    async fn each(&self, request: &GenerateRequest, range: std::ops::Range<usize>) -> Drawn {
        let singles: Vec<GenerateRequest> = range.map(|index| single(request, index)).collect();
        let calls = singles.iter().map(|single| self.requests.generate(single));
        let mut drawn = Drawn::default();
        for answer in futures::future::join_all(calls).await {
            match answer {
                Ok(completions) => drawn.completions.extend(completions),
                Err(error) => drawn.failures.push(error),
            }
        }
        drawn
    }

    /// In requests of at most [`MOST_TOGETHER`] samples each, all at once.
    async fn samples(&self, request: &GenerateRequest) -> Result<Vec<Completion>, GenerateError> {
        let wanted = request.samples;
        if wanted <= MOST_TOGETHER || !self.inner.together(wanted) {
            return self.samples_of_one(request).await;
        }
        let parts: Vec<GenerateRequest> = (0..wanted)
            .step_by(MOST_TOGETHER)
            .map(|start| GenerateRequest {
                samples: MOST_TOGETHER.min(wanted - start),
                ..single(request, start)
            })
            .collect();
        let mut drawn = Drawn::default();
        for answer in futures::future::join_all(parts.iter().map(|part| self.samples_of_one(part))).await {
            match answer {
                Ok(completions) => drawn.completions.extend(completions),
                Err(error) => drawn.failures.push(error),
            }
        }
        drawn.samples()
    }

    async fn samples_of_one(&self, request: &GenerateRequest) -> Result<Vec<Completion>, GenerateError> {
        let (wanted, endpoint) = (request.samples, &self.inner);
        if !endpoint.together(wanted) {
            return self.each(request, 0..wanted).await.samples();
        }
        let mut completions = match self.requests.generate(request).await {
            Ok(completions) => completions,
            // If single samples work, the refusal was about `n`.
            Err(error) if refused(&error) && endpoint.may_divide() => {
                let completions = self.each(request, 0..wanted).await.samples()?;
                endpoint.learn_concurrent();
                return Ok(completions);
            }
            Err(error) => return Err(error),
        };
        let given = completions.len();
        if given < wanted {
            if !endpoint.may_divide() {
                return Err(endpoint.too_few(given, wanted));
            }
            endpoint.learn_concurrent();
            let rest = self.each(request, given..wanted).await;
            completions.extend(rest.completions);
            return Drawn { completions, failures: rest.failures }.samples();
        }
        endpoint.learned.samples.store(TOGETHER, Ordering::Relaxed);
        Ok(completions)
    }
}

#[async_trait]
impl LanguageModel for OpenAi {
    fn name(&self) -> &str {
        &self.inner.name
    }

    fn capabilities(&self) -> Capabilities {
        // Of what makes the requests, which may be several servers.
        self.requests.capabilities()
    }

    fn fingerprint(&self) -> String {
        self.inner.fingerprint()
    }

    fn host(&self) -> Option<String> {
        self.inner.host()
    }

    fn with_layers(&self, wrap: &dyn Fn(Arc<dyn LanguageModel>) -> SharedModel) -> Option<SharedModel> {
        let wrapped = wrap(self.requests());
        Some(wrapped.map(|requests| Arc::new(self.over(requests)) as Arc<dyn LanguageModel>))
    }

    async fn generate(&self, request: &GenerateRequest) -> Result<Vec<Completion>, GenerateError> {
        self.inner.check(request)?;
        if request.samples == 0 {
            return Ok(Vec::new());
        }
        let mut completions = self.samples(request).await?;
        wire::note_identical(request, &mut completions);
        Ok(completions)
    }

    async fn stream(
        &self,
        request: &GenerateRequest,
    ) -> Result<BoxStream<'static, Result<StreamEvent, GenerateError>>, GenerateError> {
        self.inner.check(request)?;
        stream::all(self, request).await
    }

    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, GenerateError> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        self.requests.embed(texts).await
    }
}
