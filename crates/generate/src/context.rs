//! Everything that a strategy or an evaluator needs to ask models: roles, budget, cache, journal, prompts, seed.

use crate::budget::{BudgetLayer, Ledger};
use crate::cache::{CacheLayer, CacheStore};
use crate::journal::{JournalLayer, JournalSink};
use crate::price::PriceLayer;
use crate::prompt::{PromptSlots, Prompts, SkillName, Voice};
use crate::{CancelToken, GenerateError, GenerateRequest, LanguageModel, ScoreRequest, Scored, StreamEvent};
use elenchus_trace::{Budget, Completion, Message, Price, Problem, Trace, Usage};
use futures::stream::BoxStream;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// The role that stands in for every role that is not bound.
pub const ACTOR: &str = "actor";

/// The way to every model call. Cheap to clone; clones share the budget.
///
/// A call passes, from outside: budget and cancellation, cache, journal, price, and then the model with the layers it
/// brought ([`crate::stack`]).
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
}

struct Inner {
    /// Models below the budget, by role.
    models: Arc<BTreeMap<String, Arc<dyn LanguageModel>>>,
    /// The same under this context's budgets.
    metered: BTreeMap<String, Arc<dyn LanguageModel>>,
    actor: Arc<dyn LanguageModel>,
    /// This context's own account first, those above it behind.
    ledgers: Vec<Arc<Ledger>>,
    own: Arc<Ledger>,
    prompts: Prompts,
    voice: Voice,
    voices: Arc<BTreeMap<String, Voice>>,
    seed: u64,
    cancel: CancelToken,
    /// How often a trace of the same strategy and problem was begun; keeps trace ids unique and repeatable.
    traces: Arc<Mutex<HashMap<u64, u32>>>,
}

impl Context {
    /// Begins a context.
    pub fn builder() -> ContextBuilder {
        ContextBuilder::default()
    }

    fn assemble(
        models: Arc<BTreeMap<String, Arc<dyn LanguageModel>>>,
        ledgers: Vec<Arc<Ledger>>,
        own: Arc<Ledger>,
        cancel: CancelToken,
        rest: impl FnOnce(Parts) -> Inner,
    ) -> Result<Self, GenerateError> {
        let metered: BTreeMap<String, Arc<dyn LanguageModel>> = models
            .iter()
            .map(|(role, model)| {
                let layer = BudgetLayer::new(Arc::clone(model), ledgers.clone(), cancel.clone());
                (role.clone(), Arc::new(layer) as Arc<dyn LanguageModel>)
            })
            .collect();
        let Some(actor) = metered.get(ACTOR).cloned() else {
            return Err(GenerateError::Request {
                model: ACTOR.into(),
                what: "the role `actor` is bound to no model".into(),
                hint: "bind it with `.role(\"actor\", model)`; roles that are not bound fall back to it"
                    .into(),
            });
        };
        Ok(Context { inner: Arc::new(rest(Parts { models, metered, actor, ledgers, own, cancel })) })
    }

    /// A context with the same roles whose calls count in this budget and in its own. Its token is a child of this
    /// one's.
    pub fn child(&self, budget: Budget) -> Context {
        let own = Arc::new(Ledger::new(budget));
        let mut ledgers = vec![Arc::clone(&own)];
        ledgers.extend(self.inner.ledgers.iter().cloned());
        let cancel = self.inner.cancel.child();
        let parent = &self.inner;
        let child = Self::assemble(Arc::clone(&parent.models), ledgers, own, cancel, |parts| Inner {
            models: parts.models,
            metered: parts.metered,
            actor: parts.actor,
            ledgers: parts.ledgers,
            own: parts.own,
            cancel: parts.cancel,
            prompts: parent.prompts.clone(),
            voice: parent.voice,
            voices: Arc::clone(&parent.voices),
            seed: parent.seed,
            traces: Arc::clone(&parent.traces),
        });
        // A parent has an actor, so its child has one.
        child.unwrap_or_else(|_| self.clone())
    }

    /// The model of a role, under this context's budget; a role that is not bound falls back to `actor`.
    pub fn model(&self, role: &str) -> Arc<dyn LanguageModel> {
        Arc::clone(self.inner.metered.get(role).unwrap_or(&self.inner.actor))
    }

    /// Names of the roles that are bound.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.inner.metered.keys().map(String::as_str)
    }

    /// Draws samples from the model of a role.
    pub async fn generate(
        &self,
        role: &str,
        request: &GenerateRequest,
    ) -> Result<Vec<Completion>, GenerateError> {
        self.model(role).generate(request).await
    }

    /// The same as a stream of pieces.
    pub async fn stream(
        &self,
        role: &str,
        request: &GenerateRequest,
    ) -> Result<BoxStream<'static, Result<StreamEvent, GenerateError>>, GenerateError> {
        self.model(role).stream(request).await
    }

    /// Log-probabilities of given continuations under the model of a role.
    pub async fn score(&self, role: &str, request: &ScoreRequest) -> Result<Vec<Scored>, GenerateError> {
        self.model(role).score(request).await
    }

    /// Vectors from the model of a role.
    pub async fn embed(&self, role: &str, texts: &[String]) -> Result<Vec<Vec<f32>>, GenerateError> {
        self.model(role).embed(texts).await
    }

    /// The voice of the context.
    pub fn voice(&self) -> Voice {
        self.inner.voice
    }

    /// The voice of a role's model: the context's unless the role was given its own.
    pub fn voice_of(&self, role: &str) -> Voice {
        self.inner.voices.get(role).copied().unwrap_or(self.inner.voice)
    }

    /// The prompt of a skill in the voice of a role.
    pub fn prompt(
        &self,
        role: &str,
        skill: impl SkillName,
        slots: &PromptSlots<'_>,
    ) -> Result<Vec<Message>, GenerateError> {
        self.inner.prompts.render(self.voice_of(role), skill, slots)
    }

    /// The templates.
    pub fn prompts(&self) -> &Prompts {
        &self.inner.prompts
    }

    /// The seed that all others are derived from.
    pub fn seed(&self) -> u64 {
        self.inner.seed
    }

    /// A seed for one purpose, the same in every run with the same context seed. Labels should name the strategy, the
    /// problem and the purpose, so that no two calls draw the same numbers by accident.
    pub fn seed_for(&self, label: &str, index: u64) -> u64 {
        derive_seed(self.inner.seed, label, index)
    }

    /// What the calls of this context and of its children have cost.
    pub fn usage(&self) -> Usage {
        self.inner.own.spent()
    }

    /// What is left, the tightest of this budget and those above it.
    pub fn remaining(&self) -> Budget {
        let remaining = self.inner.ledgers.iter().map(|ledger| ledger.remaining());
        remaining.fold(Budget::default(), |tightest, next| Budget {
            tokens: least(tightest.tokens, next.tokens),
            calls: least(tightest.calls, next.calls),
            seconds: least(tightest.seconds, next.seconds),
            money: least(tightest.money, next.money),
        })
    }

    /// The bounds of this context alone.
    pub fn budget(&self) -> Budget {
        self.inner.own.limit()
    }

    /// Books a cost that arose outside a model call (a tool that is paid for, for example).
    pub fn spend(&self, usage: Usage) {
        self.inner.ledgers.iter().for_each(|ledger| ledger.add(usage));
    }

    /// The token that cancels every call of this context.
    pub fn cancel_token(&self) -> &CancelToken {
        &self.inner.cancel
    }

    /// An empty trace. Its id is made of strategy, problem, seed and how often this pair was begun.
    pub fn new_trace(&self, strategy: &str, problem: &Problem) -> Trace {
        let label = format!("{strategy}\0{}\0{}\0{}", problem.task, problem.id, problem.question);
        let pair = self.seed_for(&label, 0);
        let count = {
            let mut traces = self.inner.traces.lock().unwrap_or_else(PoisonError::into_inner);
            let count = traces.entry(pair).or_insert(0);
            *count += 1;
            *count
        };
        let unique = self.seed_for(&label, u64::from(count));
        let mut trace =
            Trace::new(format!("{strategy}-{}-{unique:016x}", problem.id), strategy, problem.clone());
        trace.budget = self.remaining();
        trace
    }
}

/// blake3 of seed, label and index, first 8 bytes.
pub(crate) fn derive_seed(seed: u64, label: &str, index: u64) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(&index.to_le_bytes());
    hasher.update(label.as_bytes());
    let hash = hasher.finalize();
    let mut bytes = [0u8; 8];
    bytes.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}

fn least<T: PartialOrd>(left: Option<T>, right: Option<T>) -> Option<T> {
    match (left, right) {
        (Some(left), Some(right)) => Some(if right < left { right } else { left }),
        (left, right) => left.or(right),
    }
}

struct Parts {
    models: Arc<BTreeMap<String, Arc<dyn LanguageModel>>>,
    metered: BTreeMap<String, Arc<dyn LanguageModel>>,
    actor: Arc<dyn LanguageModel>,
    ledgers: Vec<Arc<Ledger>>,
    own: Arc<Ledger>,
    cancel: CancelToken,
}

/// Collects what a [`Context`] holds.
#[derive(Default)]
pub struct ContextBuilder {
    roles: BTreeMap<String, Arc<dyn LanguageModel>>,
    voices: BTreeMap<String, Voice>,
    budget: Budget,
    prices: HashMap<String, Price>,
    cache: Option<Arc<dyn CacheStore>>,
    journal: Option<Arc<dyn JournalSink>>,
    prompts: Option<Prompts>,
    voice: Voice,
    seed: u64,
    cancel: CancelToken,
}

impl ContextBuilder {
    /// Binds a role to a model. `actor` must be bound.
    pub fn role(mut self, name: impl Into<String>, model: Arc<dyn LanguageModel>) -> Self {
        self.roles.insert(name.into(), model);
        self
    }

    /// Gives a role a voice of its own, for contexts whose models are spoken to differently.
    pub fn role_voice(mut self, name: impl Into<String>, voice: Voice) -> Self {
        self.voices.insert(name.into(), voice);
        self
    }

    /// Bounds on all calls together.
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// What the tokens of a model cost, by its name.
    pub fn price(mut self, model: impl Into<String>, price: Price) -> Self {
        self.prices.insert(model.into(), price);
        self
    }

    /// Keeps answers.
    pub fn cache(mut self, store: Arc<dyn CacheStore>) -> Self {
        self.cache = Some(store);
        self
    }

    /// Records calls.
    pub fn journal(mut self, sink: Arc<dyn JournalSink>) -> Self {
        self.journal = Some(sink);
        self
    }

    /// Templates other than those in the binary.
    pub fn prompts(mut self, prompts: Prompts) -> Self {
        self.prompts = Some(prompts);
        self
    }

    /// The voice of roles that have none of their own.
    pub fn voice(mut self, voice: Voice) -> Self {
        self.voice = voice;
        self
    }

    /// The seed of everything random.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The token that cancels every call.
    pub fn cancel(mut self, token: CancelToken) -> Self {
        self.cancel = token;
        self
    }

    /// The context. Errors when `actor` is not bound, a price is negative or a template is broken.
    pub fn build(self) -> Result<Context, GenerateError> {
        let prompts = match self.prompts {
            Some(prompts) => prompts,
            None => Prompts::embedded()?,
        };
        for (model, price) in &self.prices {
            if !(price.prompt_per_million >= 0.0 && price.completion_per_million >= 0.0) {
                return Err(GenerateError::Request {
                    model: model.clone(),
                    what: "its price is negative or not a number".into(),
                    hint: "give money per million tokens, 0 or more".into(),
                });
            }
        }
        let models: BTreeMap<String, Arc<dyn LanguageModel>> = self
            .roles
            .into_iter()
            .map(|(role, mut model)| {
                if let Some(price) = self.prices.get(model.name()) {
                    model = Arc::new(PriceLayer::new(model, *price));
                }
                if let Some(journal) = &self.journal {
                    model = Arc::new(JournalLayer::new(model, Arc::clone(journal), role.clone()));
                }
                if let Some(store) = &self.cache {
                    let mut layer = CacheLayer::new(model, Arc::clone(store));
                    if let Some(journal) = &self.journal {
                        layer = layer.with_journal(Arc::clone(journal), role.clone());
                    }
                    model = Arc::new(layer);
                }
                (role, model)
            })
            .collect();
        let own = Arc::new(Ledger::new(self.budget));
        let (voice, voices, seed) = (self.voice, Arc::new(self.voices), self.seed);
        Context::assemble(Arc::new(models), vec![Arc::clone(&own)], own, self.cancel, |parts| Inner {
            models: parts.models,
            metered: parts.metered,
            actor: parts.actor,
            ledgers: parts.ledgers,
            own: parts.own,
            cancel: parts.cancel,
            prompts,
            voice,
            voices,
            seed,
            traces: Arc::default(),
        })
    }
}
