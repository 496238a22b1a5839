//! A record of every call, and answers from it instead of a second call.

use crate::{
    GenerateError, GenerateRequest, LanguageModel, LatentReading, LatentRequest, Lost, ScoreRequest, Scored,
    StreamEvent,
    cache::{CacheKey, replay_stream, whole},
};
use async_trait::async_trait;
use elenchus_trace::{Completion, Usage};
use futures::StreamExt;
use futures::stream::BoxStream;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// What was asked of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Samples.
    Generate,
    /// Samples, piece by piece.
    Stream,
    /// Log-probabilities of given text.
    Score,
    /// Vectors.
    Embed,
    /// A look inside.
    Latent,
}

/// What a model answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallAnswer {
    /// Samples, in order; also those of a stream.
    Samples(Vec<Completion>),
    /// One per continuation.
    Scores(Vec<Scored>),
    /// One per text.
    Vectors(Vec<Vec<f32>>),
    /// What was found inside.
    Latent(LatentReading),
}

/// One call as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CallRecord {
    /// Role of the model in the context; empty outside one.
    pub role: String,
    /// Name of the model.
    pub model: String,
    /// What was asked.
    pub operation: Operation,
    /// Cache key of the request: blake3 in hexadecimal, the same for the same request to the same model.
    pub request_hash: String,
    /// Samples, continuations or texts that were asked for.
    pub items: usize,
    /// What it cost.
    pub usage: Usage,
    /// Start, milliseconds after 1970-01-01 UTC.
    pub started_unix_ms: u64,
    /// Duration in milliseconds.
    pub elapsed_ms: f64,
    /// Whether the answer came from the cache.
    pub cached: bool,
    /// Why it failed; absent when it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The answer; absent when there was none, it came from the cache, or it was cut off by us or by a broken
    /// connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<CallAnswer>,
}

/// Where call records go. A write that fails makes the call fail: a run whose account has holes cannot be resumed.
pub trait JournalSink: Send + Sync {
    /// Keeps one record.
    fn record(&self, record: &CallRecord) -> Result<(), GenerateError>;

    /// The answer that this request was given before, where the sink outlives the process; the call is then not made.
    fn answer(&self, key: &CacheKey) -> Result<Option<CallAnswer>, GenerateError> {
        let _ = key;
        Ok(None)
    }
}

/// Keeps records in memory.
#[derive(Debug, Default)]
pub struct MemoryJournal {
    records: Mutex<Vec<CallRecord>>,
}

impl MemoryJournal {
    /// All records so far, in the order in which the calls ended.
    pub fn records(&self) -> Vec<CallRecord> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl JournalSink for MemoryJournal {
    fn record(&self, record: &CallRecord) -> Result<(), GenerateError> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).push(record.clone());
        Ok(())
    }
}

/// A record that is filled in while the call runs. Dropped without [`Pending::finish`], it is kept as cancelled.
pub(crate) struct Pending {
    sink: Arc<dyn JournalSink>,
    record: CallRecord,
    started: Instant,
    finished: bool,
}

impl Pending {
    pub(crate) fn new(
        sink: &Arc<dyn JournalSink>,
        role: &str,
        model: &str,
        operation: Operation,
        key: &CacheKey,
        items: usize,
    ) -> Self {
        let started_unix_ms =
            SystemTime::now().duration_since(UNIX_EPOCH).map(|d| d.as_millis() as u64).unwrap_or(0);
        Pending {
            sink: Arc::clone(sink),
            record: CallRecord {
                role: role.into(),
                model: model.into(),
                operation,
                request_hash: key.to_string(),
                items,
                usage: Usage::default(),
                started_unix_ms,
                elapsed_ms: 0.0,
                cached: false,
                error: None,
                answer: None,
            },
            started: Instant::now(),
            finished: false,
        }
    }

    pub(crate) fn finish(
        mut self,
        usage: Usage,
        cached: bool,
        error: Option<&GenerateError>,
        answer: Option<CallAnswer>,
    ) -> Result<(), GenerateError> {
        self.finished = true;
        self.record.usage = usage;
        self.record.cached = cached;
        self.record.error = error.map(ToString::to_string);
        self.record.answer = answer;
        self.record.elapsed_ms = self.started.elapsed().as_secs_f64() * 1e3;
        self.sink.record(&self.record)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.finished {
            self.record.elapsed_ms = self.started.elapsed().as_secs_f64() * 1e3;
            self.record.usage.calls = 1;
            self.record.error = Some(GenerateError::Cancelled.to_string());
            // Nobody waits for this call any more, so nobody can be told that its record is lost.
            let _ = self.sink.record(&self.record);
        }
    }
}

/// The calls of a context that run now, by key. The second of two equal calls waits for the first one's answer: were
/// both made, only one answer could be kept, and a resumed run would see another one than the run that was killed.
#[derive(Clone, Default)]
pub(crate) struct Running {
    calls: Arc<Mutex<HashMap<CacheKey, Weak<tokio::sync::Mutex<()>>>>>,
}

impl Running {
    /// Waits until no equal call runs. The call runs as long as the guard lives.
    async fn enter(&self, key: &CacheKey) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
            calls.retain(|_, turn| turn.strong_count() > 0);
            match calls.get(key).and_then(Weak::upgrade) {
                Some(turn) => turn,
                None => {
                    let turn = Arc::new(tokio::sync::Mutex::new(()));
                    calls.insert(*key, Arc::downgrade(&turn));
                    turn
                }
            }
        };
        turn.lock_owned().await
    }
}

/// A model whose every call is recorded, the failed and the cancelled ones too, and made only when its sink has no
/// answer to an equal one.
///
/// An answer from the record books what it cost when it was made, money and seconds included: the account of a run
/// that was interrupted is that of an undisturbed run. It is not recorded a second time.
pub struct JournalLayer {
    inner: Arc<dyn LanguageModel>,
    sink: Arc<dyn JournalSink>,
    role: String,
    running: Running,
}

impl JournalLayer {
    /// Records calls of `inner` under `role`.
    pub fn new(inner: Arc<dyn LanguageModel>, sink: Arc<dyn JournalSink>, role: impl Into<String>) -> Self {
        JournalLayer { inner, sink, role: role.into(), running: Running::default() }
    }

    /// Shares the calls that run with other layers over the same sink.
    pub(crate) fn sharing(mut self, running: Running) -> Self {
        self.running = running;
        self
    }

    fn pending(&self, operation: Operation, key: &CacheKey, items: usize) -> Pending {
        Pending::new(&self.sink, &self.role, self.inner.name(), operation, key, items)
    }

    fn recorded(&self, keys: &Keys, samples: usize) -> Result<Option<Vec<Completion>>, GenerateError> {
        match (self.recorded_samples(&keys.asked, samples)?, &keys.lowered) {
            (None, Some(lowered)) => self.recorded_samples(lowered, samples),
            (found, _) => Ok(found),
        }
    }

    fn recorded_samples(
        &self,
        key: &CacheKey,
        samples: usize,
    ) -> Result<Option<Vec<Completion>>, GenerateError> {
        Ok(match self.sink.answer(key)? {
            Some(CallAnswer::Samples(completions))
                if completions.len() + Lost::of(&completions).map_or(0, |lost| lost.samples) == samples =>
            {
                Some(completions)
            }
            _ => None,
        })
    }
}

/// By what a request for samples is found again.
#[derive(Debug, Clone, Copy)]
struct Keys {
    /// As it was asked.
    asked: CacheKey,
    /// As a budget has lowered it since, where one has.
    lowered: Option<CacheKey>,
}

impl Keys {
    fn of(fingerprint: &str, request: &GenerateRequest) -> Self {
        let made = CacheKey::of_generate(fingerprint, request);
        match request.unbounded_tokens {
            None => Keys { asked: made, lowered: None },
            Some(max_tokens) => {
                let mut asked = request.clone();
                asked.sampling.max_tokens = max_tokens;
                Keys { asked: CacheKey::of_generate(fingerprint, &asked), lowered: Some(made) }
            }
        }
    }

    /// The key under which an answer belongs: one that ended by itself would have been the same with all the tokens that
    /// were asked for, so a larger budget finds it; one that was cut is the answer to the lowered request alone.
    fn fitting(&self, completions: &[Completion]) -> CacheKey {
        let is_cut = completions.iter().any(Completion::was_cut);
        self.lowered.filter(|_| is_cut).unwrap_or(self.asked)
    }
}

/// A call that failed is a call all the same.
fn failed() -> Usage {
    Usage { calls: 1, ..Usage::default() }
}

/// The samples as an answer, unless one of them was cut off.
fn answer_of(completions: Vec<Completion>) -> Option<CallAnswer> {
    completions.iter().all(whole).then_some(CallAnswer::Samples(completions))
}

#[async_trait]
impl LanguageModel for JournalLayer {
    crate::model::same_model!();

    async fn generate(&self, request: &GenerateRequest) -> Result<Vec<Completion>, GenerateError> {
        let keys = Keys::of(&self.fingerprint(), request);
        let _turn = self.running.enter(&keys.asked).await;
        if let Some(completions) = self.recorded(&keys, request.samples)? {
            return Ok(completions);
        }
        let mut pending = self.pending(Operation::Generate, &keys.asked, request.samples);
        let result = self.inner.generate(request).await;
        match &result {
            Ok(completions) => {
                let usage = completions.iter().map(|c| c.usage).sum();
                pending.record.request_hash = keys.fitting(completions).to_string();
                pending.finish(usage, false, None, answer_of(completions.clone()))?;
            }
            Err(error) => pending.finish(failed(), false, Some(error), None)?,
        }
        result
    }

    async fn stream(
        &self,
        request: &GenerateRequest,
    ) -> Result<BoxStream<'static, Result<StreamEvent, GenerateError>>, GenerateError> {
        // A streamed request and a plain one have the same answers, so they share their key. A stream does not wait
        // for an equal call: whoever holds it may not read on.
        let keys = Keys::of(&self.fingerprint(), request);
        if let Some(completions) = self.recorded(&keys, request.samples)? {
            return Ok(replay_stream(completions));
        }
        let pending = self.pending(Operation::Stream, &keys.asked, request.samples);
        let inner = match self.inner.stream(request).await {
            Ok(inner) => inner,
            Err(error) => {
                pending.finish(failed(), false, Some(&error), None)?;
                return Err(error);
            }
        };
        let samples = request.samples;
        let seen: BTreeMap<usize, Completion> = BTreeMap::new();
        let state = Some((inner, pending, seen));
        let stream = futures::stream::unfold(state, move |state| async move {
            let (mut inner, mut pending, mut seen) = state?;
            let event = inner.next().await;
            if let Some(Ok(event)) = event {
                if let StreamEvent::Done { index, completion } = &event {
                    seen.insert(*index, completion.as_ref().clone());
                }
                return Some((Ok(event), Some((inner, pending, seen))));
            }
            let error = event.and_then(Result::err);
            let usage = seen.values().map(|completion| completion.usage).sum();
            let completions: Vec<Completion> = seen.into_values().collect();
            pending.record.request_hash = keys.fitting(&completions).to_string();
            let answer = match error {
                None if completions.len() == samples => answer_of(completions),
                _ => None,
            };
            let unkept = pending.finish(usage, false, error.as_ref(), answer).err();
            unkept.or(error).map(|error| (Err(error), None))
        });
        Ok(stream.boxed())
    }

    async fn score(&self, request: &ScoreRequest) -> Result<Vec<Scored>, GenerateError> {
        let key = CacheKey::of_score(&self.fingerprint(), request);
        let _turn = self.running.enter(&key).await;
        if let Some(CallAnswer::Scores(scored)) = self.sink.answer(&key)?
            && scored.len() == request.continuations.len()
        {
            return Ok(scored);
        }
        let pending = self.pending(Operation::Score, &key, request.continuations.len());
        let result = self.inner.score(request).await;
        match &result {
            Ok(scored) => {
                let usage = scored.iter().map(|s| s.usage).sum();
                pending.finish(usage, false, None, Some(CallAnswer::Scores(scored.clone())))?;
            }
            Err(error) => pending.finish(failed(), false, Some(error), None)?,
        }
        result
    }

    async fn latent(&self, request: &LatentRequest) -> Result<LatentReading, GenerateError> {
        let key = CacheKey::of_latent(&self.fingerprint(), request);
        let _turn = self.running.enter(&key).await;
        if let Some(CallAnswer::Latent(reading)) = self.sink.answer(&key)? {
            return Ok(reading);
        }
        let pending = self.pending(Operation::Latent, &key, 1);
        let result = self.inner.latent(request).await;
        match &result {
            Ok(reading) => {
                pending.finish(reading.usage, false, None, Some(CallAnswer::Latent(reading.clone())))?;
            }
            Err(error) => pending.finish(failed(), false, Some(error), None)?,
        }
        result
    }

    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, GenerateError> {
        let key = CacheKey::of_embed(&self.fingerprint(), texts);
        let _turn = self.running.enter(&key).await;
        if let Some(CallAnswer::Vectors(vectors)) = self.sink.answer(&key)?
            && vectors.len() == texts.len()
        {
            return Ok(vectors);
        }
        let pending = self.pending(Operation::Embed, &key, texts.len());
        let result = self.inner.embed(texts).await;
        let answer = result.as_ref().ok().cloned().map(CallAnswer::Vectors);
        pending.finish(Usage { calls: 1, ..Usage::default() }, false, result.as_ref().err(), answer)?;
        result
    }
}
