//! The embedded engine as a language model.

use crate::chat_template::ChatTemplate;
use crate::model::split_hint;
use crate::{
    Capabilities, GenerateError, GenerateRequest, LanguageModel, LogprobDetail, ScoreRequest, Scored,
    StreamEvent,
};
use async_trait::async_trait;
use elenchus_native::{
    Checkpoint, DecodeError, DecodeEvent, DecodeFinish, DecodeRequest, DecodeService, Decoded,
    DecoderOptions, Detail, Model, NativeError, TokenTexts, Tokenizer,
};
use elenchus_trace::{Completion, FinishReason, Message, TopToken, Usage};
use futures::StreamExt;
use futures::channel::mpsc::{UnboundedReceiver, unbounded};
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// How the engine works; no setting changes a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NativeOptions {
    /// Threads that compute; 0 takes one per core.
    pub threads: usize,
    /// Sequences decoded together at most.
    pub max_batch_rows: usize,
}

impl Default for NativeOptions {
    fn default() -> Self {
        let options = DecoderOptions::default();
        NativeOptions { threads: options.threads, max_batch_rows: options.max_batch_rows }
    }
}

/// A model of the embedded engine. Concurrent requests are batched by one service thread; cheap to clone.
///
/// A dialogue is written as the chat template of the model folder wants it. Without one it is the text of its messages,
/// one behind the other: the compact voice is one message. An assistant message at the end is continued.
#[derive(Clone)]
pub struct NativeModel {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    service: DecodeService,
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    /// Text of each token.
    texts: Vec<String>,
    stop_tokens: Vec<u32>,
    /// Hash of the weights in use.
    weights: Mutex<String>,
}

impl NativeModel {
    /// Packs the weights and starts the service. Errors when tokenizer and weights do not fit.
    pub fn new(
        name: impl Into<String>,
        model: &Model,
        tokenizer: Tokenizer,
        options: NativeOptions,
    ) -> Result<Self, GenerateError> {
        Self::start(name.into(), model, tokenizer, None, options)
    }

    fn start(
        name: String,
        model: &Model,
        tokenizer: Tokenizer,
        template: Option<ChatTemplate>,
        options: NativeOptions,
    ) -> Result<Self, GenerateError> {
        let vocabulary = model.config().vocab_size;
        if tokenizer.vocabulary_size() > vocabulary {
            return Err(GenerateError::Request {
                what: format!(
                    "the tokenizer has {} tokens, the weights have {vocabulary}",
                    tokenizer.vocabulary_size()
                ),
                hint: "take `tokenizer.json` and `model.safetensors` from the same model".into(),
                model: name,
            });
        }
        let ids = 0..u32::try_from(vocabulary).unwrap_or(u32::MAX);
        let texts: Vec<String> = ids.map(|id| tokenizer.decode(&[id]).unwrap_or_default()).collect();
        let decoder = DecoderOptions {
            threads: options.threads,
            max_batch_rows: options.max_batch_rows,
            token_texts: Some(TokenTexts::new(texts.iter().map(String::as_str))),
        };
        let service = DecodeService::new(model, decoder).map_err(|error| decode_error(&name, &error))?;
        let known = &model.config().eos_token_ids;
        let stop_tokens = tokenizer.eos().into_iter().filter(|eos| !known.contains(eos)).collect();
        let weights = Mutex::new(weights_hash(model));
        Ok(NativeModel {
            inner: Arc::new(Inner { name, service, tokenizer, template, texts, stop_tokens, weights }),
        })
    }

    /// Reads a model folder in the Hugging Face form (`config.json`, `tokenizer.json`, `model.safetensors`). The model
    /// bears the name of the folder.
    pub fn load(folder: impl AsRef<Path>, options: NativeOptions) -> Result<Self, GenerateError> {
        let folder = folder.as_ref();
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or("native").to_string();
        let checkpoint = Checkpoint::load(folder).map_err(|error| native_error(&name, &error))?;
        let Some(tokenizer) = checkpoint.tokenizer else {
            return Err(GenerateError::Request {
                what: format!("`{}` holds no `tokenizer.json`", folder.display()),
                hint: "copy the tokenizer of the model into the folder".into(),
                model: name,
            });
        };
        let template = ChatTemplate::load(folder, &name)?;
        Self::start(name, &checkpoint.model, tokenizer, template, options)
    }

    /// Puts other weights of the same shape in place: requests that run end with the old ones.
    pub fn swap(&self, model: &Model) -> Result<(), GenerateError> {
        let hash = weights_hash(model);
        // Held over both, so that no request is cached under the hash of other weights.
        let mut weights = self.inner.weights.lock().unwrap_or_else(PoisonError::into_inner);
        self.inner.service.swap(model).map_err(|error| decode_error(&self.inner.name, &error))?;
        *weights = hash;
        Ok(())
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.inner.tokenizer
    }

    /// The service, for callers that work on tokens.
    pub fn service(&self) -> &DecodeService {
        &self.inner.service
    }
}

/// blake3 of shape, parameters and adapter: everything that decides what is generated.
fn weights_hash(model: &Model) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(serde_json::to_string(model.config()).unwrap_or_default().as_bytes());
    let mut bytes = Vec::with_capacity(4 * 4096);
    let adapter = model.adapter.iter().map(|adapter| &adapter.numbers);
    for numbers in std::iter::once(&model.parameters).chain(adapter) {
        for part in numbers.chunks(4096) {
            bytes.clear();
            bytes.extend(part.iter().flat_map(|number| number.to_le_bytes()));
            hasher.update(&bytes);
        }
    }
    hasher.finalize().to_hex().to_string()
}

fn decode_error(model: &str, error: &DecodeError) -> GenerateError {
    let (what, hint) = split_hint(&error.to_string());
    let hint = hint.unwrap_or_default();
    match error {
        DecodeError::Thread(_) | DecodeError::Stopped => GenerateError::Unavailable {
            model: model.into(),
            what,
            hint,
            retry_after_seconds: None,
            retryable: false,
        },
        _ => GenerateError::Request { model: model.into(), what, hint },
    }
}

fn native_error(model: &str, error: &NativeError) -> GenerateError {
    let (what, hint) = split_hint(&error.to_string());
    GenerateError::Request { model: model.into(), what, hint: hint.unwrap_or_default() }
}

fn detail(logprobs: LogprobDetail) -> Detail {
    match logprobs {
        LogprobDetail::None => Detail::None,
        LogprobDetail::Chosen => Detail::Chosen,
        LogprobDetail::Top(count) => Detail::Top(usize::from(count)),
        LogprobDetail::Distribution => Detail::Distribution,
    }
}

impl Inner {
    fn cannot<T>(&self, what: &str, hint: &str) -> Result<T, GenerateError> {
        Err(GenerateError::Capability { model: self.name.clone(), what: what.into(), hint: hint.into() })
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>, GenerateError> {
        let tokens = self.tokenizer.encode(text).map_err(|error| native_error(&self.name, &error))?;
        let unknown = self.tokenizer.unknown();
        if unknown.is_some_and(|unknown| tokens.contains(&unknown)) {
            return Err(GenerateError::Request {
                model: self.name.clone(),
                what: format!(
                    "`{}` holds signs or words that the model does not know",
                    crate::scripted::shorten(text)
                ),
                hint: "the embedded model reads the compact voice of its own tasks; use an endpoint for other questions"
                    .into(),
            });
        }
        Ok(tokens)
    }

    fn prompt(&self, messages: &[Message]) -> Result<Vec<u32>, GenerateError> {
        if messages.iter().any(|message| message.content.as_ref().is_some_and(|c| c.has_other_than_text())) {
            return self.cannot("an answer about images", "use an endpoint whose model sees");
        }
        if messages.iter().any(|message| !message.tool_calls.is_empty()) {
            return self.cannot("a continuation of tool calls", "use an endpoint whose model knows tools");
        }
        match &self.template {
            Some(template) => self.encode(&template.render(messages, &self.name)?),
            None => self.encode(&messages.iter().map(Message::text).collect::<String>()),
        }
    }

    fn decode_request(&self, request: &GenerateRequest) -> Result<DecodeRequest, GenerateError> {
        if !request.tools.is_empty() {
            return self.cannot("tool calls", "use an endpoint whose model knows tools");
        }
        let sampling = &request.sampling;
        Ok(DecodeRequest {
            prompt: self.prompt(&request.messages)?,
            samples: request.samples,
            first_sample: 0,
            seed: sampling.seed,
            max_new_tokens: sampling.max_tokens as usize,
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            top_k: sampling.top_k as usize,
            min_p: sampling.min_p,
            stop_tokens: self.stop_tokens.clone(),
            stop_strings: sampling.stop.clone(),
            detail: detail(request.logprobs),
        })
    }

    fn text(&self, tokens: &[u32]) -> String {
        self.tokenizer.decode(tokens).unwrap_or_default()
    }

    fn completion(&self, decoded: Decoded, call: &Call, sample: usize) -> Completion {
        let mut text = self.text(&decoded.tokens[..decoded.text_tokens.min(decoded.tokens.len())]);
        text.push_str(&String::from_utf8_lossy(&decoded.text_tail));
        let mut completion = Completion::text(text);
        completion.finish = match decoded.finish {
            DecodeFinish::EndOfText | DecodeFinish::StopString => FinishReason::Stop,
            DecodeFinish::Length => FinishReason::Length,
            DecodeFinish::Cancelled => FinishReason::Cancelled,
        };
        completion.usage = Usage { completion_tokens: decoded.tokens.len() as u64, ..Usage::default() };
        // The first sample carries what the request cost once.
        if sample == 0 {
            completion.usage.calls = 1;
            completion.usage.prompt_tokens = call.prompt_tokens;
            completion.usage.seconds = call.started.elapsed().as_secs_f64();
        }
        completion.vocabulary = Some(self.texts.len() as u32);
        completion.top = decoded
            .top
            .into_iter()
            .map(|place| place.into_iter().map(|(token, logprob)| self.top_token(token, logprob)).collect())
            .collect();
        completion.token_ids = decoded.tokens;
        completion.logprobs = decoded.logprobs;
        completion.distributions = decoded.distributions;
        completion.seed = Some(call.seed);
        completion
    }

    fn top_token(&self, token: u32, logprob: f32) -> TopToken {
        let text = match self.texts.get(token as usize) {
            // A special token has no text; its written form tells it from others.
            Some(text) if text.is_empty() => self.tokenizer.token_text(token).unwrap_or_default(),
            Some(text) => text.clone(),
            None => String::new(),
        };
        TopToken { token: text, logprob }
    }
}

/// What is the same for all samples of a request.
struct Call {
    prompt_tokens: u64,
    seed: u64,
    started: Instant,
}

impl Call {
    fn new(request: &DecodeRequest) -> Self {
        Call { prompt_tokens: request.prompt.len() as u64, seed: request.seed, started: Instant::now() }
    }
}

/// The service's thread has ended before the request.
fn stopped(inner: &Inner) -> GenerateError {
    decode_error(&inner.name, &DecodeError::Stopped)
}

#[async_trait]
impl LanguageModel for NativeModel {
    fn name(&self) -> &str {
        &self.inner.name
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            logprobs: true,
            top_logprobs: u8::try_from(self.inner.texts.len()).unwrap_or(u8::MAX),
            distributions: true,
            score: true,
            prefix: true,
            latent: true,
            weights: true,
            tools: false,
            images: false,
            seeded: true,
        }
    }

    fn fingerprint(&self) -> String {
        let weights = self.inner.weights.lock().unwrap_or_else(PoisonError::into_inner);
        match &self.inner.template {
            Some(template) => format!("native {weights} {}", template.hash()),
            None => format!("native {weights}"),
        }
    }

    async fn generate(&self, request: &GenerateRequest) -> Result<Vec<Completion>, GenerateError> {
        let inner = &self.inner;
        let wanted = request.samples;
        let request = inner.decode_request(request)?;
        if wanted == 0 {
            return Ok(Vec::new());
        }
        let call = Call::new(&request);
        let (sender, mut receiver) = unbounded();
        let sink = move |event| match event {
            DecodeEvent::Finished { sample, decoded } => {
                flow(sender.unbounded_send((sample, decoded)).is_ok())
            }
            // Nobody waits any more once the receiver is dropped: the next token ends the request.
            DecodeEvent::Token(_) => flow(!sender.is_closed()),
        };
        inner.service.submit_with(request, sink).map_err(|error| decode_error(&inner.name, &error))?;
        let mut samples: Vec<Option<Decoded>> = (0..wanted).map(|_| None).collect();
        while let Some((sample, decoded)) = receiver.next().await {
            if let Some(place) = samples.get_mut(sample) {
                *place = Some(decoded);
            }
        }
        let samples: Option<Vec<Decoded>> = samples.into_iter().collect();
        let samples = samples.ok_or_else(|| stopped(inner))?;
        let completions = samples.into_iter().enumerate();
        Ok(completions.map(|(sample, decoded)| inner.completion(decoded, &call, sample)).collect())
    }

    async fn stream(
        &self,
        request: &GenerateRequest,
    ) -> Result<BoxStream<'static, Result<StreamEvent, GenerateError>>, GenerateError> {
        let samples = request.samples;
        let request = self.inner.decode_request(request)?;
        let call = Call::new(&request);
        let (sender, receiver) = unbounded();
        if samples > 0 {
            let sink = move |event| flow(sender.unbounded_send(event).is_ok());
            let submitted = self.inner.service.submit_with(request, sink);
            submitted.map_err(|error| decode_error(&self.inner.name, &error))?;
        }
        let speaking = Speaking {
            inner: Arc::clone(&self.inner),
            call,
            receiver,
            samples: (0..samples).map(|_| Spoken::default()).collect(),
            ready: VecDeque::new(),
            over: false,
        };
        let stream = futures::stream::unfold(speaking, |mut speaking| async move {
            speaking.next().await.map(|event| (event, speaking))
        });
        Ok(stream.boxed())
    }

    async fn score(&self, request: &ScoreRequest) -> Result<Vec<Scored>, GenerateError> {
        let inner = Arc::clone(&self.inner);
        let prefix = inner.prompt(&request.messages)?;
        let continuations: Vec<Vec<u32>> =
            request.continuations.iter().map(|text| inner.encode(text)).collect::<Result<_, _>>()?;
        let prompt_tokens = prefix.len() as u64;
        let native = elenchus_native::ScoreRequest {
            prefix,
            continuations,
            with_end: request.with_end,
            detail: if request.distributions { Detail::Distribution } else { Detail::Chosen },
        };
        let started = Instant::now();
        let service = inner.service.clone();
        // The service answers when its running batch lets it; a thread of its own waits, not this one.
        let (sender, receiver) = futures::channel::oneshot::channel();
        let waiting = std::thread::Builder::new().name("score".into());
        let spawned = waiting.spawn(move || drop(sender.send(service.score(vec![native]))));
        spawned.map_err(|error| decode_error(&inner.name, &DecodeError::Thread(error.to_string())))?;
        let lists = receiver
            .await
            .map_err(|_| stopped(&inner))?
            .map_err(|error| decode_error(&inner.name, &error))?;
        let seconds = started.elapsed().as_secs_f64();
        let scored = lists.into_iter().flatten().enumerate().map(|(index, scored)| {
            let mut usage = Usage { prompt_tokens: scored.logprobs.len() as u64, ..Usage::default() };
            if index == 0 {
                usage.calls = 1;
                usage.seconds = seconds;
                usage.prompt_tokens += prompt_tokens;
            }
            Scored { logprobs: scored.logprobs, distributions: scored.distributions, usage }
        });
        Ok(scored.collect())
    }
}

fn flow(go_on: bool) -> ControlFlow<()> {
    if go_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}

/// A running stream.
struct Speaking {
    inner: Arc<Inner>,
    call: Call,
    receiver: UnboundedReceiver<DecodeEvent>,
    samples: Vec<Spoken>,
    ready: VecDeque<Result<StreamEvent, GenerateError>>,
    over: bool,
}

/// What of a sample was reported.
#[derive(Default)]
struct Spoken {
    tokens: Vec<u32>,
    /// Tokens before this one are reported and their text no longer depends on what follows.
    from: usize,
    /// Tokens before this one are reported.
    to: usize,
    text: String,
    finished: bool,
}

impl Spoken {
    /// The new text of the first `settled` tokens. A token may be a part of a character and white space may depend on
    /// its neighbour, so the text is the difference of two decodings that begin at the same token.
    fn news(&mut self, inner: &Inner, settled: usize) -> Option<String> {
        let settled = settled.min(self.tokens.len());
        if settled <= self.to {
            return None;
        }
        let before = inner.text(&self.tokens[self.from..self.to]);
        let now = inner.text(&self.tokens[self.from..settled]);
        if now.ends_with('\u{fffd}') {
            return None;
        }
        let news = now.strip_prefix(before.as_str())?.to_string();
        self.from = self.to;
        self.to = settled;
        self.text.push_str(&news);
        (!news.is_empty()).then_some(news)
    }
}

impl Speaking {
    async fn next(&mut self) -> Option<Result<StreamEvent, GenerateError>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.over {
                return None;
            }
            match self.receiver.next().await {
                None => {
                    self.over = true;
                    if self.samples.iter().any(|sample| !sample.finished) {
                        return Some(Err(stopped(&self.inner)));
                    }
                }
                Some(DecodeEvent::Token(token)) => {
                    let Some(spoken) = self.samples.get_mut(token.sample) else { continue };
                    spoken.tokens.push(token.token);
                    if let Some(text) = spoken.news(&self.inner, token.settled_tokens) {
                        return Some(Ok(StreamEvent::Text { index: token.sample, text }));
                    }
                }
                Some(DecodeEvent::Finished { sample, decoded }) => {
                    let Some(spoken) = self.samples.get_mut(sample) else { continue };
                    spoken.finished = true;
                    let completion = self.inner.completion(decoded, &self.call, sample);
                    if let Some(rest) = completion.text.strip_prefix(spoken.text.as_str())
                        && !rest.is_empty()
                    {
                        self.ready.push_back(Ok(StreamEvent::Text { index: sample, text: rest.into() }));
                    }
                    let completion = Box::new(completion);
                    self.ready.push_back(Ok(StreamEvent::Done { index: sample, completion }));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use elenchus_native::{ModelConfig, Precision};

    fn tokenizer() -> Tokenizer {
        let pieces: Vec<String> = "SDJ0123456789=+-;#?!abcdefg".chars().map(String::from).collect();
        Tokenizer::word_level(&pieces).unwrap()
    }

    fn weights(seed: u64) -> Model {
        let config = ModelConfig {
            vocab_size: tokenizer().vocabulary_size(),
            hidden_size: 16,
            intermediate_size: 32,
            layers: 2,
            heads: 2,
            kv_heads: 1,
            head_dim: 8,
            rope_theta: 10_000.0,
            rms_norm_eps: 1e-5,
            max_positions: 64,
            tie_embeddings: true,
            qkv_bias: false,
            qk_norm: false,
            eos_token_ids: vec![1],
        };
        let mut model = Model::initialise(config, seed).unwrap();
        // Sharper than a fresh model, so that sampled texts differ from token to token.
        model.parameters.iter_mut().for_each(|number| *number *= 3.0);
        model
    }

    fn model() -> NativeModel {
        let options = NativeOptions { threads: 1, ..NativeOptions::default() };
        NativeModel::new("tiny", &weights(7), tokenizer(), options).unwrap()
    }

    fn request(text: &str, samples: usize) -> GenerateRequest {
        let mut request = GenerateRequest { samples, ..GenerateRequest::new(vec![Message::user(text)]) };
        request.sampling.max_tokens = 20;
        request.sampling.seed = 5;
        request
    }

    #[tokio::test]
    async fn samples_do_not_depend_on_what_else_runs() {
        let model = model();
        let wanted = request("Sa=1;b=a+2;b?", 4);
        let alone = model.generate(&wanted).await.unwrap();
        let others: Vec<GenerateRequest> =
            (0..6).map(|digit| request(&format!("Sa={digit};a?"), 3)).collect();
        let crowd = futures::future::join_all(others.iter().map(|other| model.generate(other)));
        let (among, crowd) = tokio::join!(model.generate(&wanted), crowd);
        assert!(crowd.into_iter().all(|result| result.unwrap().len() == 3));
        let texts =
            |completions: &[Completion]| completions.iter().map(|c| c.text.clone()).collect::<Vec<_>>();
        assert_eq!(texts(&among.unwrap()), texts(&alone));
        assert!(alone.iter().any(|completion| completion.text != alone[0].text), "samples differ");
    }

    #[tokio::test]
    async fn completions_carry_what_was_asked_for() {
        let model = model();
        for logprobs in
            [LogprobDetail::None, LogprobDetail::Chosen, LogprobDetail::Top(3), LogprobDetail::Distribution]
        {
            let completions =
                model.generate(&GenerateRequest { logprobs, ..request("Sa=1;a?", 2) }).await.unwrap();
            for completion in &completions {
                let tokens = completion.token_ids.len();
                let wanted = |has: bool| if has { tokens } else { 0 };
                assert_eq!(completion.usage.completion_tokens, tokens as u64);
                assert_eq!(completion.logprobs.len(), wanted(logprobs != LogprobDetail::None));
                assert_eq!(completion.top.len(), wanted(logprobs == LogprobDetail::Top(3)));
                assert!(completion.top.iter().all(|top| top.len() == 3));
                assert_eq!(completion.distributions.len(), wanted(logprobs == LogprobDetail::Distribution));
                assert_eq!(completion.vocabulary, Some(tokenizer().vocabulary_size() as u32));
            }
            let usage: Usage = completions.iter().map(|completion| completion.usage).sum();
            assert_eq!((usage.calls, usage.prompt_tokens), (1, 7), "the prompt is shared");
        }
    }

    #[tokio::test]
    async fn scores_are_those_of_the_generation() {
        let model = model();
        let (wanted, completion) = readable(&model).await;
        let ended = completion.finish == FinishReason::Stop;
        let scored = model
            .score(&ScoreRequest {
                messages: wanted.messages.clone(),
                continuations: vec![completion.text.clone(), "1".into()],
                distributions: true,
                with_end: ended,
            })
            .await
            .unwrap();
        assert_eq!(scored[0].logprobs.len(), completion.logprobs.len());
        for (scored, generated) in scored[0].logprobs.iter().zip(&completion.logprobs) {
            assert!((scored - generated).abs() < 1e-4, "{scored} against {generated}");
        }
        assert_eq!(scored[0].distributions.len(), scored[0].logprobs.len());
        assert_eq!(scored.iter().map(|scored| scored.usage.calls).sum::<u64>(), 1);
    }

    #[tokio::test]
    async fn a_stream_says_what_the_whole_answer_says() {
        let model = model();
        let mut wanted = request("Sa=1;a?", 3);
        wanted.sampling.stop = vec!["#".into()];
        let whole = model.generate(&wanted).await.unwrap();
        let mut texts = vec![String::new(); 3];
        let mut stream = model.stream(&wanted).await.unwrap();
        while let Some(event) = stream.next().await {
            match event.unwrap() {
                StreamEvent::Text { index, text } => texts[index].push_str(&text),
                StreamEvent::Done { index, completion } => {
                    assert_eq!(completion.text, whole[index].text);
                    assert_eq!(completion.token_ids, whole[index].token_ids);
                    assert_eq!(texts[index], completion.text, "pieces make the whole");
                    assert!(!completion.text.contains('#'), "the stop string is left out");
                }
            }
        }
    }

    #[tokio::test]
    async fn an_assistant_message_at_the_end_is_continued() {
        let model = model();
        let (mut wanted, whole) = readable(&model).await;
        wanted.messages.push(Message::assistant(&whole.text[..3]));
        wanted.sampling.max_tokens -= 3;
        let rest = model.generate(&wanted).await.unwrap().remove(0);
        assert_eq!(rest.text, whole.text[3..], "sampled as if it had never been interrupted");
    }

    /// A request and its sample whose text says which tokens it is made of: no special token within.
    async fn readable(model: &NativeModel) -> (GenerateRequest, Completion) {
        for seed in 0..100 {
            let mut wanted = GenerateRequest { logprobs: LogprobDetail::Chosen, ..request("Sa=1;a?", 1) };
            wanted.sampling.seed = seed;
            let completion = model.generate(&wanted).await.unwrap().remove(0);
            let mut tokens = model.tokenizer().encode(&completion.text).unwrap();
            if completion.finish == FinishReason::Stop {
                tokens.push(1);
            }
            if tokens == completion.token_ids && tokens.len() > 4 {
                return (wanted, completion);
            }
        }
        panic!("no seed of a hundred gives plain text");
    }

    fn greedy(text: &str) -> GenerateRequest {
        let mut request = request(text, 1);
        request.sampling.temperature = 0.0;
        request
    }

    #[tokio::test]
    async fn what_cannot_be_done_is_said_before() {
        let model = model();
        let error = model.generate(&request("What is love?", 1)).await.unwrap_err().to_string();
        assert!(error.contains("does not know") && error.contains("hint: "), "{error}");
        let mut tools = request("Sa=1;a?", 1);
        tools.tools = vec![serde_json::json!({})];
        assert!(matches!(model.generate(&tools).await, Err(GenerateError::Capability { .. })));
        let error = model.generate(&request(&"a".repeat(100), 1)).await.unwrap_err();
        assert!(matches!(error, GenerateError::Request { .. }), "longer than the model's positions: {error}");
        let mut small = tokenizer();
        small = Tokenizer::word_level(&[small.token_text(3).unwrap()]).unwrap();
        let large = NativeModel::new("m", &weights(1), small, NativeOptions::default());
        assert!(large.is_ok(), "a vocabulary may be padded");
        assert!(model.generate(&request("Sa=1;a?", 0)).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn swapping_weights_changes_answers_and_fingerprint() {
        let model = model();
        let wanted = request("Sa=1;a?", 1);
        let (before, print) = (model.generate(&wanted).await.unwrap(), model.fingerprint());
        model.swap(&weights(8)).unwrap();
        let after = model.generate(&wanted).await.unwrap();
        assert_ne!(before[0].token_ids, after[0].token_ids);
        assert_ne!(print, model.fingerprint());
        model.swap(&weights(7)).unwrap();
        assert_eq!(print, model.fingerprint());
    }

    #[tokio::test]
    async fn a_dropped_call_leaves_the_engine_to_the_others() {
        let model = model();
        let many = request("Sa=1;a?", 64);
        drop(tokio::time::timeout(std::time::Duration::from_micros(100), model.generate(&many)).await);
        assert_eq!(model.generate(&request("Sa=2;a?", 1)).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_model_folder_is_loaded_by_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("little");
        let checkpoint = Checkpoint { model: weights(7), tokenizer: Some(tokenizer()) };
        checkpoint.save(&path, Precision::default()).unwrap();
        let loaded = NativeModel::load(&path, NativeOptions::default()).unwrap();
        assert_eq!(loaded.name(), "little");
        assert_eq!(loaded.fingerprint(), model().fingerprint());
        let wanted = greedy("Sa=1;a?");
        let plain = loaded.generate(&wanted).await.unwrap();
        std::fs::write(path.join("chat_template.jinja"), "{{ messages[0].content }}{{ '#' }}").unwrap();
        let templated = NativeModel::load(&path, NativeOptions::default()).unwrap();
        let templated = templated.generate(&wanted).await.unwrap();
        assert_eq!(
            templated[0].usage.prompt_tokens,
            plain[0].usage.prompt_tokens + 1,
            "the template is used"
        );
        let error = NativeModel::load(folder.path().join("none"), NativeOptions::default()).err().unwrap();
        assert!(error.to_string().contains("none"), "the path is named: {error}");
    }
}
