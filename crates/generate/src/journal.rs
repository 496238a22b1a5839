//! A record of every call, for the run folder.

use crate::{
    Capabilities, GenerateError, GenerateRequest, LanguageModel, ScoreRequest, Scored, StreamEvent,
    cache::CacheKey,
};
use async_trait::async_trait;
use elenchus_trace::{Completion, Usage};
use futures::StreamExt;
use futures::stream::BoxStream;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};
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
}

/// Where call records go. A write that fails makes the call fail: a run whose account has holes cannot be resumed.
pub trait JournalSink: Send + Sync {
    /// Keeps one record.
    fn record(&self, record: &CallRecord) -> Result<(), GenerateError>;
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
    ) -> Result<(), GenerateError> {
        self.finished = true;
        self.record.usage = usage;
        self.record.cached = cached;
        self.record.error = error.map(ToString::to_string);
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

/// A model whose every call is recorded, the failed and the cancelled ones too.
pub struct JournalLayer {
    inner: Arc<dyn LanguageModel>,
    sink: Arc<dyn JournalSink>,
    role: String,
}

impl JournalLayer {
    /// Records calls of `inner` under `role`.
    pub fn new(inner: Arc<dyn LanguageModel>, sink: Arc<dyn JournalSink>, role: impl Into<String>) -> Self {
        JournalLayer { inner, sink, role: role.into() }
    }

    fn pending(&self, operation: Operation, key: &CacheKey, items: usize) -> Pending {
        Pending::new(&self.sink, &self.role, self.inner.name(), operation, key, items)
    }
}

#[async_trait]
impl LanguageModel for JournalLayer {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn fingerprint(&self) -> String {
        self.inner.fingerprint()
    }

    fn host(&self) -> Option<String> {
        self.inner.host()
    }

    async fn generate(&self, request: &GenerateRequest) -> Result<Vec<Completion>, GenerateError> {
        let key = CacheKey::of_generate(&self.fingerprint(), request);
        let pending = self.pending(Operation::Generate, &key, request.samples);
        let result = self.inner.generate(request).await;
        match &result {
            Ok(completions) => pending.finish(completions.iter().map(|c| c.usage).sum(), false, None)?,
            Err(error) => pending.finish(Usage { calls: 1, ..Usage::default() }, false, Some(error))?,
        }
        result
    }

    async fn stream(
        &self,
        request: &GenerateRequest,
    ) -> Result<BoxStream<'static, Result<StreamEvent, GenerateError>>, GenerateError> {
        let key = CacheKey::of_generate(&self.fingerprint(), request);
        let pending = self.pending(Operation::Stream, &key, request.samples);
        let inner = match self.inner.stream(request).await {
            Ok(inner) => inner,
            Err(error) => {
                pending.finish(Usage { calls: 1, ..Usage::default() }, false, Some(&error))?;
                return Err(error);
            }
        };
        let state = Some((inner, pending, Usage::default()));
        let stream = futures::stream::unfold(state, |state| async move {
            let (mut inner, pending, mut usage) = state?;
            match inner.next().await {
                None => match pending.finish(usage, false, None) {
                    Ok(()) => None,
                    Err(error) => Some((Err(error), None)),
                },
                Some(Ok(event)) => {
                    if let StreamEvent::Done { completion, .. } = &event {
                        usage += completion.usage;
                    }
                    Some((Ok(event), Some((inner, pending, usage))))
                }
                Some(Err(error)) => {
                    let error = pending.finish(usage, false, Some(&error)).err().unwrap_or(error);
                    Some((Err(error), None))
                }
            }
        });
        Ok(stream.boxed())
    }

    async fn score(&self, request: &ScoreRequest) -> Result<Vec<Scored>, GenerateError> {
        let key = CacheKey::of_score(&self.fingerprint(), request);
        let pending = self.pending(Operation::Score, &key, request.continuations.len());
        let result = self.inner.score(request).await;
        match &result {
            Ok(scored) => pending.finish(scored.iter().map(|s| s.usage).sum(), false, None)?,
            Err(error) => pending.finish(Usage { calls: 1, ..Usage::default() }, false, Some(error))?,
        }
        result
    }

    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, GenerateError> {
        let key = CacheKey::of_embed(&self.fingerprint(), texts);
        let pending = self.pending(Operation::Embed, &key, texts.len());
        let result = self.inner.embed(texts).await;
        pending.finish(Usage { calls: 1, ..Usage::default() }, false, result.as_ref().err())?;
        result
    }
}
