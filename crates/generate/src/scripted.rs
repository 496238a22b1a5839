//! A model that answers by rules, for tests.

use crate::cache::replay_stream;
use crate::context::derive_seed;
use crate::{
    Capabilities, GenerateError, GenerateRequest, LanguageModel, Lost, ScoreRequest, Scored, StreamEvent,
};
use async_trait::async_trait;
use elenchus_trace::{Completion, Message, Usage};
use futures::stream::BoxStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

type Matcher = Box<dyn Fn(&[Message]) -> bool + Send + Sync>;
type Answerer = Box<dyn Fn(&GenerateRequest, usize) -> Result<Completion, GenerateError> + Send + Sync>;
type Scorer = Box<dyn Fn(&ScoreRequest, usize) -> Result<Scored, GenerateError> + Send + Sync>;

enum Reply {
    /// Served in order, the last one again and again.
    Listed { items: Vec<Result<Completion, GenerateError>>, next: AtomicUsize },
    /// Made by a function of the request and the index of the sample in it.
    Made(Answerer),
}

struct Rule {
    matches: Matcher,
    reply: Reply,
    delay: Duration,
}

/// A model that follows rules: the first rule whose condition holds for the messages gives the samples.
///
/// Usage is counted in whitespace-separated words, so budgets can be tested with exact numbers. Requests that no rule
/// covers give [`GenerateError::NotRecorded`].
pub struct Scripted {
    name: String,
    capabilities: Capabilities,
    rules: Vec<Rule>,
    scorer: Option<Scorer>,
    delay: Duration,
    calls: AtomicUsize,
    running: AtomicUsize,
    most_running: AtomicUsize,
    requests: Mutex<Vec<GenerateRequest>>,
}

impl Scripted {
    /// A model without rules; it claims every capability but images and hidden states.
    pub fn new(name: impl Into<String>) -> Self {
        Scripted {
            name: name.into(),
            capabilities: Capabilities {
                logprobs: true,
                top_logprobs: 20,
                distributions: true,
                score: true,
                prefix: true,
                latent: false,
                weights: false,
                tools: true,
                images: false,
                seeded: true,
            },
            rules: Vec::new(),
            scorer: None,
            delay: Duration::ZERO,
            calls: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            most_running: AtomicUsize::new(0),
            requests: Mutex::default(),
        }
    }

    /// A model that gives these texts in order whatever is asked, the last one again and again.
    pub fn always<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Self {
        Scripted::new("scripted").on("", texts)
    }

    /// A rule: when the last message contains `part`, these texts in order, the last one again and again.
    pub fn on<T: Into<String>>(self, part: impl Into<String>, texts: impl IntoIterator<Item = T>) -> Self {
        self.on_completions(part, texts.into_iter().map(|text| Ok(Completion::text(text))))
    }

    /// The same with whole completions and failures.
    pub fn on_completions(
        self,
        part: impl Into<String>,
        replies: impl IntoIterator<Item = Result<Completion, GenerateError>>,
    ) -> Self {
        let part = part.into();
        let items = replies.into_iter().collect();
        self.rule(
            Box::new(move |messages| messages.last().is_some_and(|m| m.text().contains(&part))),
            Reply::Listed { items, next: AtomicUsize::new(0) },
        )
    }

    /// A rule for exactly this last message.
    pub fn on_exact<T: Into<String>>(
        self,
        prompt: impl Into<String>,
        texts: impl IntoIterator<Item = T>,
    ) -> Self {
        let prompt = prompt.into();
        let items = texts.into_iter().map(|text| Ok(Completion::text(text))).collect();
        self.rule(
            Box::new(move |messages| messages.last().is_some_and(|m| m.text() == prompt)),
            Reply::Listed { items, next: AtomicUsize::new(0) },
        )
    }

    /// A rule that makes each sample from the request and the index of the sample.
    pub fn on_with(
        self,
        condition: impl Fn(&[Message]) -> bool + Send + Sync + 'static,
        answer: impl Fn(&GenerateRequest, usize) -> Result<Completion, GenerateError> + Send + Sync + 'static,
    ) -> Self {
        self.rule(Box::new(condition), Reply::Made(Box::new(answer)))
    }

    fn rule(mut self, matches: Matcher, reply: Reply) -> Self {
        self.rules.push(Rule { matches, reply, delay: self.delay });
        self
    }

    /// How long the calls of rules added from here on take.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// How `score` is answered: from the request and the index of the continuation.
    pub fn scores(
        mut self,
        scorer: impl Fn(&ScoreRequest, usize) -> Result<Scored, GenerateError> + Send + Sync + 'static,
    ) -> Self {
        self.scorer = Some(Box::new(scorer));
        self
    }

    /// What the model claims to give.
    pub fn with_capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// The same as a shared model.
    pub fn shared(self) -> Arc<Self> {
        Arc::new(self)
    }

    /// Calls so far.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// The most calls that ran at once.
    pub fn most_concurrent(&self) -> usize {
        self.most_running.load(Ordering::SeqCst)
    }

    /// The requests so far, in the order in which they began.
    pub fn requests(&self) -> Vec<GenerateRequest> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a call and waits; the guard counts it as ended even when the future is dropped.
    async fn begin(&self, delay: Duration) -> impl Drop {
        struct Running<'a>(&'a AtomicUsize);
        impl Drop for Running<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.calls.fetch_add(1, Ordering::SeqCst);
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        let guard = Running(&self.running);
        self.most_running.fetch_max(running, Ordering::SeqCst);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        guard
    }
}

fn words(text: &str) -> u64 {
    text.split_whitespace().count() as u64
}

fn prompt_words(messages: &[Message]) -> u64 {
    messages.iter().map(|message| words(&message.text())).sum()
}

#[async_trait]
impl LanguageModel for Scripted {
    fn name(&self) -> &str {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn count_tokens(&self, text: &str) -> u64 {
        words(text)
    }

    async fn generate(&self, request: &GenerateRequest) -> Result<Vec<Completion>, GenerateError> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
        let rule = self.rules.iter().find(|rule| (rule.matches)(&request.messages));
        let Some(rule) = rule else {
            let _running = self.begin(Duration::ZERO).await;
            let last = request.messages.last().map(Message::text).unwrap_or_default();
            return Err(GenerateError::NotRecorded {
                what: format!("a prompt that ends in `{}`", shorten(&last)),
                hint: format!("give the scripted model `{}` a rule for it", self.name),
            });
        };
        let _running = self.begin(rule.delay).await;
        let mut completions = Vec::with_capacity(request.samples);
        for index in 0..request.samples {
            let mut completion = match &rule.reply {
                Reply::Made(answer) => answer(request, index)?,
                Reply::Listed { items, next } => {
                    let place = next.fetch_add(1, Ordering::SeqCst).min(items.len().saturating_sub(1));
                    items.get(place).cloned().unwrap_or_else(|| {
                        Err(GenerateError::NotRecorded {
                            what: "a rule without replies".into(),
                            hint: "give the rule at least one reply".into(),
                        })
                    })?
                }
            };
            if completion.usage == Usage::default() {
                completion.usage.completion_tokens = words(&completion.text);
                if index == 0 {
                    completion.usage.calls = 1;
                    completion.usage.prompt_tokens = prompt_words(&request.messages);
                }
            }
            completion.seed.get_or_insert_with(|| derive_seed(request.sampling.seed, "sample", index as u64));
            completions.push(completion);
            // A reply that tells of samples lost beside it stands for those too.
            if Lost::of(&completions).is_some_and(|lost| completions.len() + lost.samples >= request.samples)
            {
                break;
            }
        }
        Ok(completions)
    }

    async fn stream(
        &self,
        request: &GenerateRequest,
    ) -> Result<BoxStream<'static, Result<StreamEvent, GenerateError>>, GenerateError> {
        Ok(replay_stream(self.generate(request).await?))
    }

    async fn score(&self, request: &ScoreRequest) -> Result<Vec<Scored>, GenerateError> {
        let Some(scorer) = &self.scorer else {
            return Err(GenerateError::Capability {
                model: self.name.clone(),
                what: "log-probabilities of given text".into(),
                hint: "give the scripted model a scorer with `.scores(…)`".into(),
            });
        };
        let _running = self.begin(self.delay).await;
        (0..request.continuations.len())
            .map(|index| {
                let mut scored = scorer(request, index)?;
                if scored.usage == Usage::default() {
                    scored.usage.prompt_tokens = words(&request.continuations[index]);
                    if index == 0 {
                        scored.usage.calls = 1;
                        scored.usage.prompt_tokens += prompt_words(&request.messages);
                    }
                }
                Ok(scored)
            })
            .collect()
    }
}

/// The first 60 characters.
pub(crate) fn shorten(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}
