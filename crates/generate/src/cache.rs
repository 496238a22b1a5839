//! Answers kept by the content of the request.

use crate::journal::{JournalSink, Operation, Pending};
use crate::{
    GenerateError, GenerateRequest, LanguageModel, LatentReading, LatentRequest, ScoreRequest, Scored,
    StreamEvent,
};
use async_trait::async_trait;
use elenchus_trace::{Completion, Usage};
use futures::StreamExt;
use futures::stream::BoxStream;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Hash of a request to a model: blake3 over the model's fingerprint, the operation and the canonical request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CacheKey([u8; 32]);

impl CacheKey {
    fn of(fingerprint: &str, operation: &str, request: &impl Serialize) -> Self {
        let mut hasher = blake3::Hasher::new();
        hash_text(&mut hasher, fingerprint);
        hash_text(&mut hasher, operation);
        match serde_json::to_value(request) {
            Ok(value) => hash_value(&mut hasher, &value),
            // Requests are plain data; should one not serialise, its error text keeps it apart from others.
            Err(error) => hash_text(&mut hasher, &error.to_string()),
        }
        CacheKey(*hasher.finalize().as_bytes())
    }

    /// Key of a request for samples.
    pub fn of_generate(fingerprint: &str, request: &GenerateRequest) -> Self {
        Self::of(fingerprint, "generate", request)
    }

    /// Key of a request for log-probabilities.
    pub fn of_score(fingerprint: &str, request: &ScoreRequest) -> Self {
        Self::of(fingerprint, "score", request)
    }

    /// Key of a look inside.
    pub fn of_latent(fingerprint: &str, request: &LatentRequest) -> Self {
        Self::of(fingerprint, "latent", request)
    }

    /// Key of a request for vectors.
    pub fn of_embed(fingerprint: &str, texts: &[String]) -> Self {
        Self::of(fingerprint, "embed", &texts)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn hash_text(hasher: &mut blake3::Hasher, text: &str) {
    hasher.update(&(text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
}

/// Objects are hashed with sorted keys: the order in which a caller wrote `extra` fields means nothing.
fn hash_value(hasher: &mut blake3::Hasher, value: &Value) {
    match value {
        Value::Array(items) => {
            hasher.update(b"a");
            hasher.update(&(items.len() as u64).to_le_bytes());
            items.iter().for_each(|item| hash_value(hasher, item));
        }
        Value::Object(fields) => {
            let sorted: BTreeMap<&String, &Value> = fields.iter().collect();
            hasher.update(b"o");
            hasher.update(&(sorted.len() as u64).to_le_bytes());
            for (key, field) in sorted {
                hash_text(hasher, key);
                hash_value(hasher, field);
            }
        }
        Value::String(text) => {
            hasher.update(b"s");
            hash_text(hasher, text);
        }
        // Null, booleans and numbers have one spelling each.
        scalar => {
            hasher.update(b"v");
            hash_text(hasher, &scalar.to_string());
        }
    }
}

/// Where cached answers are kept. Implementations are shared by threads.
pub trait CacheStore: Send + Sync {
    /// The value of a key.
    fn get(&self, key: &CacheKey) -> Result<Option<Vec<u8>>, GenerateError>;
    /// Keeps a value; a second value for a key replaces the first.
    fn put(&self, key: &CacheKey, value: &[u8]) -> Result<(), GenerateError>;
}

/// A store in memory that forgets what was not used for longest.
#[derive(Debug)]
pub struct MemoryCache {
    most_bytes: usize,
    state: Mutex<MemoryState>,
}

#[derive(Debug, Default)]
struct MemoryState {
    values: HashMap<CacheKey, (u64, Arc<[u8]>)>,
    /// Keys by the tick of their last use; ticks are unique.
    by_use: BTreeMap<u64, CacheKey>,
    tick: u64,
    bytes: usize,
}

impl MemoryCache {
    /// A store of at most `most_bytes` bytes of values.
    pub fn new(most_bytes: usize) -> Self {
        MemoryCache { most_bytes, state: Mutex::default() }
    }

    /// How many values it holds.
    pub fn len(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).values.len()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for MemoryCache {
    /// 64 MiB.
    fn default() -> Self {
        MemoryCache::new(64 << 20)
    }
}

impl CacheStore for MemoryCache {
    fn get(&self, key: &CacheKey) -> Result<Option<Vec<u8>>, GenerateError> {
        let mut guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *guard;
        state.tick += 1;
        let tick = state.tick;
        let Some((used, value)) = state.values.get_mut(key) else { return Ok(None) };
        state.by_use.remove(used);
        *used = tick;
        let value = value.to_vec();
        state.by_use.insert(tick, *key);
        Ok(Some(value))
    }

    fn put(&self, key: &CacheKey, value: &[u8]) -> Result<(), GenerateError> {
        if value.len() > self.most_bytes {
            return Ok(());
        }
        let mut guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *guard;
        state.tick += 1;
        let tick = state.tick;
        if let Some((used, old)) = state.values.insert(*key, (tick, value.into())) {
            state.by_use.remove(&used);
            state.bytes -= old.len();
        }
        state.by_use.insert(tick, *key);
        state.bytes += value.len();
        while state.bytes > self.most_bytes
            && let Some((_, oldest)) = state.by_use.pop_first()
        {
            if let Some((_, value)) = state.values.remove(&oldest) {
                state.bytes -= value.len();
            }
        }
        Ok(())
    }
}

/// The SQLite store of the remember crate: survives kills, bounded in size, shared by processes.
impl CacheStore for elenchus_remember::Cache {
    fn get(&self, key: &CacheKey) -> Result<Option<Vec<u8>>, GenerateError> {
        self.get(&key.to_string()).map_err(|error| storage(&error))
    }

    fn put(&self, key: &CacheKey, value: &[u8]) -> Result<(), GenerateError> {
        // A value beyond the limit is not kept, which is no failure.
        self.put(&key.to_string(), value).map(|_| ()).map_err(|error| storage(&error))
    }
}

pub(crate) fn storage(error: &elenchus_remember::RememberError) -> GenerateError {
    let (what, hint) = crate::model::split_hint(&error.to_string());
    GenerateError::Storage {
        what,
        hint: hint.unwrap_or_else(|| "look at the disk and its free space".into()),
    }
}

/// A model whose answers are kept.
///
/// A hit books the tokens and calls that the answer cost the first time, so that a resumed run takes the same
/// decisions under the same budget; it books no seconds and no money, because none were spent. A stored value that
/// cannot be read counts as absent. Answers cut off by us or by a broken connection are not kept.
pub struct CacheLayer {
    inner: Arc<dyn LanguageModel>,
    store: Arc<dyn CacheStore>,
    journal: Option<(Arc<dyn JournalSink>, String)>,
}

impl CacheLayer {
    /// Keeps the answers of `inner` in `store`.
    pub fn new(inner: Arc<dyn LanguageModel>, store: Arc<dyn CacheStore>) -> Self {
        CacheLayer { inner, store, journal: None }
    }

    /// Records hits under `role`; misses are recorded by a [`crate::JournalLayer`] below.
    pub fn with_journal(mut self, sink: Arc<dyn JournalSink>, role: impl Into<String>) -> Self {
        self.journal = Some((sink, role.into()));
        self
    }

    fn pending(&self, operation: Operation, key: &CacheKey, items: usize) -> Option<Pending> {
        let (sink, role) = self.journal.as_ref()?;
        Some(Pending::new(sink, role, self.inner.name(), operation, key, items))
    }

    fn look_up<T: DeserializeOwned>(&self, key: &CacheKey) -> Result<Option<T>, GenerateError> {
        let bytes = self.store.get(key)?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    fn keep<T: Serialize>(&self, key: &CacheKey, value: &T) -> Result<(), GenerateError> {
        let bytes = serde_json::to_vec(value).map_err(|error| GenerateError::Storage {
            what: format!("an answer of `{}` cannot be written as JSON: {error}", self.inner.name()),
            hint: "run without a cache, and report this".into(),
        })?;
        self.store.put(key, &bytes)
    }

    fn cached_samples(
        &self,
        key: &CacheKey,
        samples: usize,
    ) -> Result<Option<Vec<Completion>>, GenerateError> {
        let Some(mut completions) = self.look_up::<Vec<Completion>>(key)? else { return Ok(None) };
        if completions.len() != samples {
            return Ok(None);
        }
        completions.iter_mut().for_each(|completion| free(&mut completion.usage));
        Ok(Some(completions))
    }
}

fn free(usage: &mut Usage) {
    usage.seconds = 0.0;
    usage.money = 0.0;
}

/// Whether an answer was neither cut off by us nor by a broken connection.
pub(crate) fn whole(completion: &Completion) -> bool {
    use elenchus_trace::FinishReason::{Cancelled, Interrupted};
    !matches!(completion.finish, Cancelled | Interrupted)
}

#[async_trait]
impl LanguageModel for CacheLayer {
    crate::model::same_model!();

    async fn generate(&self, request: &GenerateRequest) -> Result<Vec<Completion>, GenerateError> {
        let key = CacheKey::of_generate(&self.fingerprint(), request);
        if let Some(completions) = self.cached_samples(&key, request.samples)? {
            if let Some(pending) = self.pending(Operation::Generate, &key, request.samples) {
                pending.finish(completions.iter().map(|c| c.usage).sum(), true, None, None)?;
            }
            return Ok(completions);
        }
        let completions = self.inner.generate(request).await?;
        // Another time all samples may come.
        if completions.len() == request.samples && completions.iter().all(whole) {
            self.keep(&key, &completions)?;
        }
        Ok(completions)
    }

    async fn stream(
        &self,
        request: &GenerateRequest,
    ) -> Result<BoxStream<'static, Result<StreamEvent, GenerateError>>, GenerateError> {
        // A streamed request and a plain one have the same answers, so they share their key.
        let key = CacheKey::of_generate(&self.fingerprint(), request);
        if let Some(completions) = self.cached_samples(&key, request.samples)? {
            if let Some(pending) = self.pending(Operation::Stream, &key, request.samples) {
                pending.finish(completions.iter().map(|c| c.usage).sum(), true, None, None)?;
            }
            return Ok(replay_stream(completions));
        }
        let inner = self.inner.stream(request).await?;
        let seen: BTreeMap<usize, Completion> = BTreeMap::new();
        let keeper =
            CacheLayer { inner: Arc::clone(&self.inner), store: Arc::clone(&self.store), journal: None };
        let samples = request.samples;
        let state = Some((inner, seen, keeper));
        let stream = futures::stream::unfold(state, move |state| async move {
            let (mut inner, mut seen, keeper) = state?;
            match inner.next().await {
                None => {
                    if seen.len() == samples && seen.values().all(whole) {
                        let completions: Vec<Completion> = seen.into_values().collect();
                        if let Err(error) = keeper.keep(&key, &completions) {
                            return Some((Err(error), None));
                        }
                    }
                    None
                }
                Some(event) => {
                    if let Ok(StreamEvent::Done { index, completion }) = &event {
                        seen.insert(*index, completion.as_ref().clone());
                    }
                    let rest = event.is_ok().then_some((inner, seen, keeper));
                    Some((event, rest))
                }
            }
        });
        Ok(stream.boxed())
    }

    async fn score(&self, request: &ScoreRequest) -> Result<Vec<Scored>, GenerateError> {
        let key = CacheKey::of_score(&self.fingerprint(), request);
        if let Some(mut scored) = self.look_up::<Vec<Scored>>(&key)?
            && scored.len() == request.continuations.len()
        {
            scored.iter_mut().for_each(|scored| free(&mut scored.usage));
            if let Some(pending) = self.pending(Operation::Score, &key, scored.len()) {
                pending.finish(scored.iter().map(|s| s.usage).sum(), true, None, None)?;
            }
            return Ok(scored);
        }
        let scored = self.inner.score(request).await?;
        self.keep(&key, &scored)?;
        Ok(scored)
    }

    async fn latent(&self, request: &LatentRequest) -> Result<LatentReading, GenerateError> {
        let key = CacheKey::of_latent(&self.fingerprint(), request);
        if let Some(mut reading) = self.look_up::<LatentReading>(&key)? {
            free(&mut reading.usage);
            if let Some(pending) = self.pending(Operation::Latent, &key, 1) {
                pending.finish(reading.usage, true, None, None)?;
            }
            return Ok(reading);
        }
        let reading = self.inner.latent(request).await?;
        self.keep(&key, &reading)?;
        Ok(reading)
    }

    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, GenerateError> {
        let key = CacheKey::of_embed(&self.fingerprint(), texts);
        if let Some(vectors) = self.look_up::<Vec<Vec<f32>>>(&key)?
            && vectors.len() == texts.len()
        {
            if let Some(pending) = self.pending(Operation::Embed, &key, texts.len()) {
                pending.finish(Usage { calls: 1, ..Usage::default() }, true, None, None)?;
            }
            return Ok(vectors);
        }
        let vectors = self.inner.embed(texts).await?;
        self.keep(&key, &vectors)?;
        Ok(vectors)
    }
}

/// Complete answers as a stream: the text of each sample in one piece, then its end.
pub fn replay_stream(completions: Vec<Completion>) -> BoxStream<'static, Result<StreamEvent, GenerateError>> {
    let events = completions.into_iter().enumerate().flat_map(|(index, completion)| {
        let text = StreamEvent::Text { index, text: completion.text.clone() };
        [Ok(text), Ok(StreamEvent::Done { index, completion: Box::new(completion) })]
    });
    futures::stream::iter(events.collect::<Vec<_>>()).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scripted;
    use elenchus_trace::{FinishReason, Message};
    use serde_json::json;

    fn request(text: &str) -> GenerateRequest {
        GenerateRequest::new(vec![Message::user(text)])
    }

    #[test]
    fn the_key_depends_on_content_and_not_on_the_order_of_fields() {
        let (mut one, mut two) = (request("x"), request("x"));
        one.extra.insert("a".into(), json!({"p": 1, "q": [1, "1"]}));
        one.extra.insert("b".into(), json!(null));
        two.extra.insert("b".into(), json!(null));
        two.extra.insert("a".into(), json!({"q": [1, "1"], "p": 1}));
        assert_eq!(CacheKey::of_generate("m", &one), CacheKey::of_generate("m", &two));
        two.extra.insert("a".into(), json!({"q": ["1", 1], "p": 1}));
        assert_ne!(CacheKey::of_generate("m", &one), CacheKey::of_generate("m", &two));
        assert_ne!(CacheKey::of_generate("m", &one), CacheKey::of_generate("n", &one), "other weights");
        assert_eq!(CacheKey::of_generate("m", &one).to_string().len(), 64);
    }

    #[test]
    fn memory_forgets_what_was_not_used_for_longest() {
        let cache = MemoryCache::new(10);
        let key = |text: &str| CacheKey::of_generate("m", &request(text));
        cache.put(&key("a"), b"aaaa").unwrap();
        cache.put(&key("b"), b"bbbb").unwrap();
        assert!(cache.get(&key("a")).unwrap().is_some());
        cache.put(&key("c"), b"cccc").unwrap();
        assert!(cache.get(&key("b")).unwrap().is_none(), "b was used before a");
        assert_eq!(cache.get(&key("a")).unwrap().as_deref(), Some(&b"aaaa"[..]));
        cache.put(&key("a"), b"a").unwrap();
        cache.put(&key("d"), b"dddd").unwrap();
        assert_eq!(cache.len(), 3, "replacing frees the bytes of the old value");
        cache.put(&key("e"), b"too long a value").unwrap();
        assert!(cache.get(&key("e")).unwrap().is_none());
    }

    #[tokio::test]
    async fn answers_survive_in_the_sqlite_store() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache.sqlite");
        let mut drawn = Completion::text("drawn");
        drawn.logprobs = vec![-0.1, f32::MIN_POSITIVE, -12.345_679];
        drawn.usage.completion_tokens = 3;
        for round in 0..2 {
            let model = Scripted::new("m").on_completions("", [Ok(drawn.clone())]).shared();
            let store = Arc::new(elenchus_remember::Cache::open(&path, 1 << 20).unwrap());
            let layer = CacheLayer::new(model.clone(), store);
            let completions = layer.generate(&request("x")).await.unwrap();
            assert_eq!(completions[0].logprobs, drawn.logprobs, "to the last bit");
            assert_eq!(model.calls(), 1 - round, "the second process asks nobody");
        }
    }

    #[tokio::test]
    async fn what_was_cut_off_or_cannot_be_read_is_asked_again() {
        let mut cut = Completion::text("half");
        cut.finish = FinishReason::Interrupted;
        let model = Scripted::new("m").on_completions("", [Ok(cut), Ok(Completion::text("whole"))]).shared();
        let store = Arc::new(MemoryCache::default());
        let layer = CacheLayer::new(model.clone(), store.clone());
        assert_eq!(layer.generate(&request("x")).await.unwrap()[0].text, "half");
        assert_eq!(layer.generate(&request("x")).await.unwrap()[0].text, "whole");
        assert_eq!(layer.generate(&request("x")).await.unwrap()[0].text, "whole");
        assert_eq!(model.calls(), 2);
        store.put(&CacheKey::of_generate("m", &request("x")), b"{ broken").unwrap();
        layer.generate(&request("x")).await.unwrap();
        assert_eq!(model.calls(), 3);
    }

    #[tokio::test]
    async fn scores_are_kept_too() {
        let model = Scripted::new("m")
            .scores(|_, _| {
                Ok(Scored { logprobs: vec![-1.0], distributions: vec![], usage: Usage::default() })
            })
            .shared();
        let layer = CacheLayer::new(model.clone(), Arc::new(MemoryCache::default()));
        let request = ScoreRequest {
            messages: vec![Message::user("x")],
            continuations: vec!["Y".into(), "N".into()],
            distributions: false,
            with_end: false,
        };
        let first = layer.score(&request).await.unwrap();
        assert_eq!(layer.score(&request).await.unwrap()[1].logprobs, first[1].logprobs);
        assert_eq!(model.calls(), 1);
    }
}
