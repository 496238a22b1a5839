//! The calls behind RAIN's tree: sets of tokens, simulated clauses, self-judgement, embeddings.

use super::sets::{Draft, TokenSet, first_tokens, priors, sentence, until};
use super::{RainSettings, SimilarityFrom, Simulate};
use crate::ControlError;
use crate::tree::{Child, Explorer, Likeness, NodeIndex, Tree, spread};
use async_trait::async_trait;
use elenchus_evaluate::{Candidate, EvaluateInput, Evaluator, evaluate_all};
use elenchus_generate::{
    ACTOR, Context, GenerateError, GenerateRequest, LogprobDetail, PromptSlots, Sampling,
};
use elenchus_task::Task;
use elenchus_trace::{Completion, FinishReason, Message, Problem, Usage};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::HashMap;

/// Tokens of one sentence at most, where sets are sentences.
const SENTENCE_TOKENS: u32 = 128;

/// Stop strings that an OpenAI-compatible server must accept.
const MOST_STOPS: usize = 4;

/// What a set is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Unit {
    /// Tokens behind a prefix that the model continues.
    Tokens,
    /// Sentences that the model is asked for one by one: a substitute for endpoints that continue no prefix.
    Sentences,
}

/// What was done and what it cost.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Account {
    pub usage: Usage,
    /// Tokens that the model wrote as sets and simulations.
    pub generated_tokens: u64,
    /// Tokens that the judge read and wrote.
    pub judged_tokens: u64,
    /// Searches.
    pub searches: u64,
    /// Nodes that were expanded.
    pub expansions: u64,
    /// Continuations added because all others were alike and bad.
    pub widenings: u64,
    /// Texts that were judged.
    pub judged: u64,
    /// Judgements that were known already.
    pub known: u64,
    /// Judgements without a value.
    pub abstentions: u64,
    /// The first reason for one.
    pub why_abstained: Option<String>,
    /// Why words stand in for embeddings, where embeddings were asked for.
    pub why_words: Option<String>,
}

/// Writes, judges and compares texts for the tree.
pub(super) struct Writer<'a> {
    pub settings: &'a RainSettings,
    pub context: &'a Context,
    pub task: &'a dyn Task,
    pub problem: &'a Problem,
    pub judge: &'a dyn Evaluator,
    pub unit: Unit,
    /// Text that is committed: everything up to the root.
    pub committed: String,
    /// Its tokens.
    pub committed_tokens: u64,
    pub account: Account,
    /// What was judged since the last commit, for the trace.
    pub judged: Vec<Value>,
    /// Words stand in for embeddings.
    pub words: bool,
    prompt: Vec<Message>,
    /// What the user says to get another sentence.
    go_on: Vec<Message>,
    /// Likeliest tokens can be asked for.
    top: bool,
    /// Ends of clauses can be sent as stop strings.
    stops: bool,
    values: HashMap<String, f64>,
    drawn: u64,
}

impl<'a> Writer<'a> {
    pub fn new(
        settings: &'a RainSettings,
        context: &'a Context,
        task: &'a dyn Task,
        problem: &'a Problem,
        judge: &'a dyn Evaluator,
    ) -> Result<Self, ControlError> {
        let has = context.model(ACTOR).capabilities();
        let unit = if has.prefix { Unit::Tokens } else { Unit::Sentences };
        let slots = PromptSlots::new(problem);
        let bare = Problem::new(&problem.id, &problem.task, &problem.question);
        let go_on = match unit {
            Unit::Tokens => Vec::new(),
            Unit::Sentences => context.prompt(ACTOR, "next_sentence", &PromptSlots::new(&bare))?,
        };
        let ends = settings.clause_ends.len() + settings.turns.len() + settings.draw.stop.len();
        Ok(Writer {
            settings,
            context,
            task,
            problem,
            judge,
            unit,
            committed: String::new(),
            committed_tokens: 0,
            account: Account::default(),
            judged: Vec::new(),
            words: settings.similarity_from == SimilarityFrom::Words,
            prompt: context.prompt(ACTOR, settings.draw.skill.as_str(), &slots)?,
            go_on,
            top: usize::from(has.top_logprobs) >= settings.children,
            // The embedded engine takes any number; servers are only sure to take four.
            stops: has.weights || ends <= MOST_STOPS,
            values: HashMap::new(),
            drawn: 0,
        })
    }

    /// The dialogue that continues this text.
    fn messages(&self, text: &str) -> Vec<Message> {
        let mut messages = self.prompt.clone();
        if text.is_empty() {
            return messages;
        }
        messages.push(Message::assistant(text));
        messages.extend(self.go_on.iter().cloned());
        messages
    }

    /// The text behind the root, up to and with the last node of a path.
    fn text(&self, tree: &Tree<TokenSet>, path: &[NodeIndex]) -> String {
        let pieces = path.iter().skip(1).map(|node| tree.data(*node).text.as_str());
        std::iter::once(self.committed.as_str()).chain(pieces).collect()
    }

    /// Tokens that may still be written behind a node.
    fn tokens_left(&self, tree: &Tree<TokenSet>, path: &[NodeIndex]) -> u32 {
        let written = path.iter().skip(1).map(|node| tree.data(*node).tokens).sum::<u64>();
        let left = u64::from(self.settings.draw.max_tokens).saturating_sub(self.committed_tokens + written);
        u32::try_from(left).unwrap_or(u32::MAX)
    }

    fn request(
        &mut self,
        text: &str,
        samples: usize,
        sampling: Sampling,
        detail: LogprobDetail,
    ) -> GenerateRequest {
        self.drawn += 1;
        let label = format!("rain\0{}\0{}\0{}", self.problem.task, self.problem.id, self.drawn);
        let mut stop = self.settings.draw.stop.clone();
        stop.extend(self.settings.turns.iter().cloned());
        stop.extend(sampling.stop);
        let seed = self.context.seed_for(&label, self.settings.draw.seed);
        GenerateRequest {
            samples,
            sampling: Sampling { stop, seed, ..sampling },
            logprobs: detail,
            ..GenerateRequest::new(self.messages(text))
        }
    }

    fn book(&mut self, completions: &[Completion]) {
        for completion in completions {
            self.account.usage += completion.usage;
            self.account.generated_tokens += completion.usage.completion_tokens;
        }
    }

    /// A completion as a set. `most` is how many tokens the reply may still have.
    fn draft(&self, completion: &Completion, text: &str, most: u32) -> Option<Draft> {
        let ended = match completion.finish {
            FinishReason::Stop => true,
            FinishReason::Length => false,
            // Withheld, broken off, or a call of a tool: nothing to build on.
            _ => return None,
        };
        let tokens = completion.usage.completion_tokens;
        let probability = completion.sum_logprob().map(f64::exp).filter(|p| p.is_finite());
        if self.unit == Unit::Tokens {
            let terminal = ended || tokens >= u64::from(most);
            return Some(Draft { text: completion.text.clone(), tokens, terminal, probability });
        }
        let (said, whole) = sentence(&completion.text);
        let over = said == "<end>" || said.is_empty();
        let gap = if text.is_empty() || over { "" } else { " " };
        Some(Draft {
            text: if over { String::new() } else { format!("{gap}{said}") },
            tokens,
            // The first reply is the whole answer where nothing was cut away; later ones are single sentences.
            terminal: over || text.is_empty() && ended && whole || tokens >= u64::from(most),
            // The probability of what is left after a cut is not known.
            probability: None,
        })
    }

    /// One greedy and several sampled sets behind a text, duplicates dropped; the greedy one first.
    async fn sets(
        &mut self,
        text: &str,
        greedy: bool,
        sampled: usize,
        length: u32,
        most: u32,
    ) -> Result<Vec<Draft>, ControlError> {
        let length = match self.unit {
            Unit::Tokens => length.min(most),
            Unit::Sentences => SENTENCE_TOKENS.min(most),
        };
        let min_p = self.settings.draw.min_p;
        let sampling = |temperature, top_k| Sampling {
            temperature,
            top_k,
            min_p,
            max_tokens: length,
            ..Sampling::default()
        };
        let one = self.request(text, 1, sampling(0.0, 0), LogprobDetail::Offered);
        let warm = sampling(self.settings.set_temperature, self.settings.set_top_k);
        let many = self.request(text, sampled, warm, LogprobDetail::Offered);
        let context = self.context;
        let first = async { if greedy { context.generate(ACTOR, &one).await } else { Ok(Vec::new()) } };
        let (first, others) = futures::join!(first, context.generate(ACTOR, &many));
        // What was paid for counts, also when the other request failed.
        let (first, others) = match (first, others) {
            (Ok(first), Ok(others)) => (first, others),
            (Ok(paid), Err(error)) | (Err(error), Ok(paid)) => {
                self.book(&paid);
                return Err(error.into());
            }
            (Err(error), Err(_)) => return Err(error.into()),
        };
        self.book(&first);
        self.book(&others);
        let mut drafts: Vec<Draft> = Vec::new();
        for completion in first.iter().chain(&others) {
            if let Some(draft) = self.draft(completion, text, most)
                && !drafts.iter().any(|known| known.text == draft.text && known.terminal == draft.terminal)
            {
                drafts.push(draft);
            }
        }
        Ok(drafts)
    }

    /// The likeliest next tokens as sets of one; `None` where the model does not give them.
    async fn likeliest(&mut self, text: &str, most: u32) -> Result<Option<Vec<Draft>>, ControlError> {
        if !self.top || self.unit == Unit::Sentences {
            return Ok(None);
        }
        let count = u8::try_from(self.settings.children).unwrap_or(u8::MAX);
        let sampling = Sampling { temperature: 0.0, max_tokens: 1, ..Sampling::default() };
        let request = self.request(text, 1, sampling, LogprobDetail::Top(count));
        let completions = self.context.generate(ACTOR, &request).await?;
        self.book(&completions);
        let top = completions.first().and_then(|completion| completion.top.first());
        let drafts = top.map(|top| first_tokens(top, most, self.settings.draw.min_p)).unwrap_or_default();
        // An endpoint may promise likely tokens and give none.
        self.top = !drafts.is_empty();
        Ok(self.top.then_some(drafts))
    }

    /// Writes on to the end of the clause or reply.
    async fn simulate(&mut self, text: &str, left: u32) -> Result<String, ControlError> {
        let clause = self.settings.simulate == Simulate::Clause;
        let stop = if clause && self.stops { self.settings.clause_ends.clone() } else { Vec::new() };
        let sampling = Sampling {
            max_tokens: if clause { self.settings.clause_tokens.min(left) } else { left },
            stop,
            ..self.settings.draw.sampling(true, 0)
        };
        let request = self.request(text, 1, sampling, LogprobDetail::None);
        let completions = self.context.generate(ACTOR, &request).await?;
        self.book(&completions);
        let written = completions.first().map(|completion| completion.text.as_str()).unwrap_or_default();
        Ok(if clause { until(written, &self.settings.clause_ends).to_string() } else { written.to_string() })
    }

    /// v in −1 … 1 of a text; `None` where the judge abstains.
    async fn value(&mut self, text: &str) -> Result<Option<f64>, ControlError> {
        if let Some(value) = self.values.get(text) {
            self.account.known += 1;
            return Ok(Some(*value));
        }
        let candidate = Candidate { completion: Completion::text(text), answer: None };
        let input = EvaluateInput {
            context: self.context,
            task: self.task,
            problem: self.problem,
            candidates: std::slice::from_ref(&candidate),
        };
        let feedback = evaluate_all(self.judge, input).await?.into_iter().next().unwrap_or_default();
        self.account.usage += feedback.usage;
        self.account.judged_tokens += feedback.usage.tokens();
        self.judged.push(json!({
            "text": text, "score": feedback.score, "abstained": feedback.abstained,
            "tokens": feedback.usage.tokens(), "milliseconds": (feedback.usage.seconds * 1e3).round(),
        }));
        let Some(score) = feedback.score else {
            self.account.abstentions += 1;
            self.account.why_abstained = self.account.why_abstained.take().or(feedback.abstained);
            return Ok(None);
        };
        self.account.judged += 1;
        let value = 2.0 * (score - 0.5);
        self.values.insert(text.to_string(), value);
        Ok(Some(value))
    }

    /// What each text is like; nothing where it has no words.
    async fn likenesses(&mut self, texts: &[String]) -> Result<Vec<Option<Likeness>>, ControlError> {
        if !self.words {
            match self.context.embed(ACTOR, texts).await {
                Ok(vectors) => {
                    self.account.usage.calls += 1;
                    return Ok(vectors.iter().map(|vector| Likeness::embedding(vector)).collect());
                }
                // Many servers have no such route, and say so in many ways.
                Err(
                    error @ (GenerateError::Capability { .. }
                    | GenerateError::Request { .. }
                    | GenerateError::Unavailable { .. }
                    | GenerateError::NotRecorded { .. }),
                ) => {
                    self.words = true;
                    // A call that failed is booked like one that did not.
                    self.account.usage.calls += 1;
                    self.account.why_words = Some(error.to_string());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(texts.iter().map(|text| Likeness::words(text)).collect())
    }

    /// Whether anything asks how alike nodes are.
    fn compares(&self) -> bool {
        self.settings.share > 0.0 || self.settings.most_children > self.settings.children
    }

    /// Brings the likeness of the nodes on a path up to date: each is like the text that was generated behind it.
    async fn compare(
        &mut self,
        tree: &mut Tree<TokenSet>,
        path: &[NodeIndex],
        suffix: &str,
    ) -> Result<(), ControlError> {
        let behind = |place: usize| -> String {
            let pieces = path[place + 1..].iter().map(|node| tree.data(*node).text.as_str());
            pieces.chain([suffix]).collect()
        };
        let behind: Vec<(NodeIndex, String)> = (1..path.len())
            .map(|place| (path[place], behind(place)))
            .filter(|(_, text)| !text.is_empty())
            .collect();
        if behind.is_empty() {
            return Ok(());
        }
        let texts: Vec<String> = behind.iter().map(|(_, text)| text.clone()).collect();
        for ((node, _), new) in behind.iter().zip(self.likenesses(&texts).await?) {
            let known = &mut tree.node_mut(*node).data.likeness;
            match (known, new) {
                (Some(known), Some(new)) => known.take(&new),
                (known, Some(new)) => *known = Some(new),
                (_, None) => {}
            }
        }
        Ok(())
    }

    /// Priors at the root: 1 − u of what they are, u of the uniform distribution.
    pub fn mix_root(&self, tree: &mut Tree<TokenSet>) {
        let (root, share) = (tree.root(), self.settings.root_uniform);
        let uniform = 1.0 / tree.children(root).len().max(1) as f64;
        tree.set_priors(root, |prior| (1.0 - share) * prior + share * uniform);
    }

    /// Makes a child of the root part of the reply, and the new root.
    pub fn commit(&mut self, tree: &mut Tree<TokenSet>, child: NodeIndex) {
        self.committed.push_str(&tree.data(child).text);
        self.committed_tokens += tree.data(child).tokens;
        tree.reroot(child);
        self.mix_root(tree);
    }
}

#[async_trait]
impl Explorer<TokenSet> for Writer<'_> {
    fn is_terminal(&self, data: &TokenSet) -> bool {
        data.terminal
    }

    async fn expand(
        &mut self,
        tree: &Tree<TokenSet>,
        node: NodeIndex,
    ) -> Result<Vec<Child<TokenSet>>, ControlError> {
        let path = tree.path(node);
        let (text, most) = (self.text(tree, &path), self.tokens_left(tree, &path));
        let length = self.settings.length(path.len() - 1);
        self.account.expansions += 1;
        let likeliest = if length == 1 { self.likeliest(&text, most).await? } else { None };
        let (drafts, greedy) = match likeliest {
            Some(drafts) => (drafts, false),
            None => (self.sets(&text, true, self.settings.children - 1, length, most).await?, true),
        };
        let mut priors = priors(&drafts, greedy);
        if node == tree.root() {
            let (share, uniform) = (self.settings.root_uniform, 1.0 / drafts.len().max(1) as f64);
            priors.iter_mut().for_each(|prior| *prior = (1.0 - share) * *prior + share * uniform);
        }
        Ok(drafts.into_iter().zip(priors).map(|(draft, prior)| Child { prior, data: draft.into() }).collect())
    }

    async fn widen(
        &mut self,
        tree: &mut Tree<TokenSet>,
        node: NodeIndex,
    ) -> Result<Option<Child<TokenSet>>, ControlError> {
        let children = tree.children(node);
        let most = self.settings.most_children;
        if children.len() >= most || tree.data(node).widenings >= most - self.settings.children {
            return Ok(None);
        }
        let path = tree.path(node);
        let length = self.settings.length(path.len() - 1);
        let good = |child: &NodeIndex| {
            let statistics = tree.statistics(*child);
            statistics.visits <= 0.0 || statistics.value >= 0.0
        };
        if children.iter().any(good) {
            return Ok(None);
        }
        let likenesses: Vec<&Likeness> =
            children.iter().filter_map(|child| tree.data(*child).likeness.as_ref()).collect();
        if likenesses.len() < children.len()
            || spread(&likenesses) >= self.settings.variance * f64::from(length)
        {
            return Ok(None);
        }
        let (text, left) = (self.text(tree, &path), self.tokens_left(tree, &path));
        // A set that is known already is not drawn for ever.
        tree.node_mut(node).data.widenings += 1;
        let Some(draft) = self.sets(&text, false, 1, length, left).await?.into_iter().next() else {
            return Ok(None);
        };
        let family: Vec<&TokenSet> = tree.children(node).iter().map(|child| tree.data(*child)).collect();
        if family.iter().any(|known| known.text == draft.text && known.terminal == draft.terminal) {
            return Ok(None);
        }
        self.account.widenings += 1;
        let total: f64 = family.iter().filter_map(|known| known.probability).sum();
        let own = draft.probability.unwrap_or(0.0);
        // Its share of the probabilities; an equal share where they are not known.
        let prior = if own > 0.0 { own / (own + total) } else { 1.0 / (family.len() + 1) as f64 };
        tree.set_priors(node, |other| other * (1.0 - prior));
        Ok(Some(Child { prior, data: draft.into() }))
    }

    async fn evaluate(
        &mut self,
        tree: &mut Tree<TokenSet>,
        path: &[NodeIndex],
    ) -> Result<Option<f64>, ControlError> {
        self.account.searches += 1;
        let Some(&leaf) = path.last() else { return Ok(None) };
        let text = self.text(tree, path);
        let left = self.tokens_left(tree, path);
        // A sentence is judged as it stands.
        let whole = tree.data(leaf).terminal || self.unit == Unit::Sentences && !text.is_empty();
        let suffix = if whole { String::new() } else { self.simulate(&text, left).await? };
        let value = self.value(&format!("{text}{suffix}")).await?;
        if value.is_none() {
            // The next search should look elsewhere first: without a visit nothing else would change its way.
            tree.node_mut(leaf).statistics.prior = 0.0;
        } else if self.compares() {
            self.compare(tree, path, &suffix).await?;
        }
        Ok(value)
    }
}
