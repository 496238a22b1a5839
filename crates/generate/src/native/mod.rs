//! The embedded engine as a language model.

mod embed;
mod latent;
mod stream;
mod translate;

#[cfg(test)]
mod tests;

use crate::chat_template::ChatTemplate;
use crate::model::split_hint;
use crate::{
    Capabilities, GenerateError, GenerateRequest, LanguageModel, LatentReading, LatentRequest, ScoreRequest,
    Scored, StreamEvent,
};
use async_trait::async_trait;
use elenchus_native::{
    Checkpoint, DecodeError, DecodeEvent, DecodeRequest, DecodeService, Decoded, DecoderOptions, Detail,
    Model, NativeError, TokenTexts, Tokenizer,
};
use elenchus_trace::{Completion, Role, Usage};
use futures::StreamExt;
use futures::channel::mpsc::unbounded;
use futures::stream::BoxStream;
use latent::{Source, Weights};
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use stream::Speaking;
use translate::{Call, Translator};

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
    translator: Translator,
    service: DecodeService,
    /// The weights in use, for the fingerprint and for looks inside.
    weights: Mutex<Weights>,
}

impl NativeModel {
    /// Packs the weights and starts the service. Errors when tokenizer and weights do not fit.
    pub fn new(
        name: impl Into<String>,
        model: &Model,
        tokenizer: Tokenizer,
        options: NativeOptions,
    ) -> Result<Self, GenerateError> {
        let source = Source::Held(Arc::new(model.clone()));
        Self::start(name.into(), model, source, tokenizer, None, options)
    }

    fn start(
        name: String,
        model: &Model,
        source: Source,
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
        let weights = Mutex::new(Weights { hash: weights_hash(model), source });
        let translator = Translator { name, tokenizer, template, texts, stop_tokens };
        Ok(NativeModel { inner: Arc::new(Inner { translator, service, weights }) })
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
        let source = Source::Folder(folder.to_path_buf());
        Self::start(name, &checkpoint.model, source, tokenizer, template, options)
    }

    /// Puts other weights of the same shape in place: requests that run end with the old ones.
    pub fn swap(&self, model: &Model) -> Result<(), GenerateError> {
        let hash = weights_hash(model);
        // Held over both, so that no request is cached under the hash of other weights.
        let mut weights = self.inner.weights.lock().unwrap_or_else(PoisonError::into_inner);
        self.inner.service.swap(model).map_err(|error| decode_error(&self.inner.translator.name, &error))?;
        *weights = Weights { hash, source: Source::Held(Arc::new(model.clone())) };
        Ok(())
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.inner.translator.tokenizer
    }

    /// The request in tokens. An answer that is to be continued may break off within a run of letters: `,ask` goes on as
    /// `,askcook`, where the model has only ever read `ask` letter by letter. Of the two ways to write the last word the one
    /// that the model finds likelier stands; the other would lead it where it has never been.
    async fn decode_request(&self, request: &GenerateRequest) -> Result<DecodeRequest, GenerateError> {
        let translator = &self.inner.translator;
        let mut decoding = translator.decode_request(request)?;
        let continued = request.messages.last().is_some_and(|message| message.role == Role::Assistant);
        if let Some((&word, before)) = decoding.prompt.split_last()
            && continued
            && let Some(letters) = translator.tokenizer.spelled(word)
        {
            let both = elenchus_native::ScoreRequest {
                prefix: before.to_vec(),
                continuations: vec![vec![word], letters.clone()],
                with_end: false,
                detail: Detail::Chosen,
            };
            let likely = scored(&self.inner, both).await?;
            let likely: Vec<f32> = likely.iter().map(|scored| scored.logprobs.iter().sum()).collect();
            if likely.get(1) > likely.first() {
                decoding.prompt.pop();
                decoding.prompt.extend(letters);
            }
        }
        Ok(decoding)
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

/// The service's thread has ended before the request.
fn stopped(inner: &Inner) -> GenerateError {
    decode_error(&inner.translator.name, &DecodeError::Stopped)
}

/// Scores continuations of one prefix. The service answers when its running batch lets it; a thread of its own waits for it.
async fn scored(
    inner: &Inner,
    request: elenchus_native::ScoreRequest,
) -> Result<Vec<elenchus_native::Scored>, GenerateError> {
    let service = inner.service.clone();
    let failed = |error: DecodeError| decode_error(&inner.translator.name, &error);
    let (sender, receiver) = futures::channel::oneshot::channel();
    let waiting = std::thread::Builder::new().name("score".into());
    let spawned = waiting.spawn(move || drop(sender.send(service.score(vec![request]))));
    spawned.map_err(|error| failed(DecodeError::Thread(error.to_string())))?;
    let lists = receiver.await.map_err(|_| failed(DecodeError::Stopped))?.map_err(failed)?;
    Ok(lists.into_iter().flatten().collect())
}

#[async_trait]
impl LanguageModel for NativeModel {
    fn name(&self) -> &str {
        &self.inner.translator.name
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            logprobs: true,
            top_logprobs: u8::try_from(self.inner.translator.texts.len()).unwrap_or(u8::MAX),
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
        match &self.inner.translator.template {
            Some(template) => format!("native {} {}", weights.hash, template.hash()),
            None => format!("native {}", weights.hash),
        }
    }

    fn count_tokens(&self, text: &str) -> u64 {
        // A text with unknown signs is refused when it is sent; its length is a bound until then.
        self.inner.translator.tokenizer.encode(text).map_or(text.len(), |tokens| tokens.len()) as u64
    }

    async fn generate(&self, request: &GenerateRequest) -> Result<Vec<Completion>, GenerateError> {
        let inner = &self.inner;
        let wanted = request.samples;
        let request = self.decode_request(request).await?;
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
        inner
            .service
            .submit_with(request, sink)
            .map_err(|error| decode_error(&inner.translator.name, &error))?;
        let mut samples: Vec<Option<Decoded>> = (0..wanted).map(|_| None).collect();
        while let Some((sample, decoded)) = receiver.next().await {
            if let Some(place) = samples.get_mut(sample) {
                *place = Some(decoded);
            }
        }
        let samples: Option<Vec<Decoded>> = samples.into_iter().collect();
        let samples = samples.ok_or_else(|| stopped(inner))?;
        let completions = samples.into_iter().enumerate();
        Ok(completions.map(|(sample, decoded)| inner.translator.completion(decoded, &call, sample)).collect())
    }

    async fn stream(
        &self,
        request: &GenerateRequest,
    ) -> Result<BoxStream<'static, Result<StreamEvent, GenerateError>>, GenerateError> {
        let samples = request.samples;
        let request = self.decode_request(request).await?;
        let call = Call::new(&request);
        let (sender, receiver) = unbounded();
        if samples > 0 {
            let sink = move |event| flow(sender.unbounded_send(event).is_ok());
            let submitted = self.inner.service.submit_with(request, sink);
            submitted.map_err(|error| decode_error(&self.inner.translator.name, &error))?;
        }
        let speaking = Speaking::new(Arc::clone(&self.inner), call, receiver, samples);
        let stream = futures::stream::unfold(speaking, |mut speaking| async move {
            speaking.next().await.map(|event| (event, speaking))
        });
        Ok(stream.boxed())
    }

    async fn score(&self, request: &ScoreRequest) -> Result<Vec<Scored>, GenerateError> {
        let inner = Arc::clone(&self.inner);
        let prefix = inner.translator.prompt(&request.messages)?;
        let continuations: Vec<Vec<u32>> = request
            .continuations
            .iter()
            .map(|text| inner.translator.encode(text))
            .collect::<Result<_, _>>()?;
        let prompt_tokens = prefix.len() as u64;
        let native = elenchus_native::ScoreRequest {
            prefix,
            continuations,
            with_end: request.with_end,
            detail: if request.distributions { Detail::Distribution } else { Detail::Chosen },
        };
        let started = Instant::now();
        let lists = scored(&inner, native).await?;
        let seconds = started.elapsed().as_secs_f64();
        let scored = lists.into_iter().enumerate().map(|(index, scored)| {
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

    async fn latent(&self, request: &LatentRequest) -> Result<LatentReading, GenerateError> {
        let (inner, request) = (Arc::clone(&self.inner), request.clone());
        let look = move || {
            let name = &inner.translator.name;
            let model = inner.weights.lock().unwrap_or_else(PoisonError::into_inner).model(name)?;
            latent::read(&inner.translator, &model, &request)
        };
        latent::aside(&self.inner.translator.name, look).await?
    }

    /// The mean of the last hidden states of each text, which is read alone; zeros for an empty one.
    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, GenerateError> {
        let (inner, texts) = (Arc::clone(&self.inner), texts.to_vec());
        let look = move || {
            let name = &inner.translator.name;
            let model = inner.weights.lock().unwrap_or_else(PoisonError::into_inner).model(name)?;
            embed::mean_states(&inner.translator, &model, &texts)
        };
        latent::aside(&self.inner.translator.name, look).await?
    }
}

fn flow(go_on: bool) -> ControlFlow<()> {
    if go_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}
