//! An answer that is written in several calls: it goes on after a pause, words of ours can be put into it, and it can be
//! rewound to an earlier point.
//!
//! A [`Continuation`] holds a dialogue and the assistant's text so far, in pieces that say who wrote them. Where the model
//! can continue its own words (capability `prefix`), each call sends the dialogue with the text so far as the beginning
//! of the assistant's answer, and the whole is one answer. Where it cannot, the same is played with turns: what was
//! written so far is an answer of the assistant, and words of ours are the user's next message. That is another prompt
//! than the one that a method's paper means, so the trace marks every such call as emulated.
//!
//! Whatever is put in is counted apart from what the model wrote, and so are the prompt tokens that calls after the first
//! one read again: a server with a prefix cache does not compute them anew, but bills most of them.

use crate::{ControlError, Trail};
use elenchus_generate::{
    Context, GenerateError, GenerateRequest, LogprobDetail, PromptSlots, Sampling, Voice,
};
use elenchus_trace::{Completion, FinishReason, Message, NodeId, Problem, Usage};
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use unicode_segmentation::UnicodeSegmentation;

/// How an answer is taken up again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resumption {
    /// The model continues its own words.
    Prefix,
    /// Turns stand in for that: the words so far are an answer, ours are the user's next message.
    Turns,
}

/// What words of ours mean for what the model wrote before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// They ask for a new start: what stands before them is no longer part of the final text.
    Restart,
    /// They say nothing: what stands before and behind them belongs together, they themselves do not.
    Filler,
    /// They begin the final answer and belong to it.
    Opener,
}

/// Words that are put into an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injection {
    /// As they stand in the assistant's text.
    pub text: String,
    /// What the user says in their place where turns stand in.
    pub turn: String,
    /// What they mean.
    pub purpose: Purpose,
}

impl Injection {
    /// The words of a template in the voice of a role. In the chat voice they stand on a line of their own; an opener
    /// leaves its line open. The template sees `turns`, whether it is the user who speaks.
    pub fn of(
        context: &Context,
        role: &str,
        problem: &Problem,
        template: &str,
        purpose: Purpose,
    ) -> Result<Self, GenerateError> {
        let words = |turns: bool| {
            let mut slots = PromptSlots::new(problem);
            slots.extra.insert("turns".into(), json!(turns));
            context.insert(role, template, &slots)
        };
        Ok(Injection::words(context.voice_of(role), words(false)?, words(true)?, purpose))
    }

    /// The same with given words: `text` within the answer, `turn` as the user's message.
    pub fn words(voice: Voice, text: impl Into<String>, turn: impl Into<String>, purpose: Purpose) -> Self {
        let mut text = text.into();
        if voice == Voice::Chat {
            text.insert(0, '\n');
            if purpose != Purpose::Opener {
                text.push('\n');
            }
        }
        Injection { text, turn: turn.into(), purpose }
    }
}

/// A piece of the assistant's text.
#[derive(Debug, Clone, PartialEq)]
enum Piece {
    /// By the model: what is kept of it, and the calls that wrote it, whole.
    Generated(String, Vec<Arc<Completion>>),
    /// By us.
    Injected(Injection),
}

impl Piece {
    /// The model's words.
    fn generated(&self) -> &str {
        match self {
            Piece::Generated(text, _) => text,
            Piece::Injected(_) => "",
        }
    }
}

/// At most how much a call writes, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// How tokens are drawn; `max_tokens` is the most that the call writes.
    pub sampling: Sampling,
    /// What is reported about them.
    pub logprobs: LogprobDetail,
}

/// What one line of text has cost. A branch begins with the spending of the text it grew from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Spending {
    /// Calls, prompt and completion tokens.
    pub usage: Usage,
    /// Tokens that the model wrote, those that were cut away or rewound included.
    pub generated_tokens: u64,
    /// Tokens of ours.
    pub injected_tokens: u64,
    /// Prompt tokens of all calls but the first.
    pub reread_tokens: u64,
}

impl Spending {
    /// Written and injected tokens: what a cap on the length of an answer counts.
    pub fn length(&self) -> u64 {
        self.generated_tokens + self.injected_tokens
    }
}

/// An earlier point of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    pieces: Vec<Piece>,
    finish: Option<FinishReason>,
    node: Option<NodeId>,
}

/// An answer in the making. A clone is a branch.
#[derive(Debug, Clone)]
pub struct Continuation {
    role: String,
    resumption: Resumption,
    dialogue: Vec<Message>,
    /// What the user says where turns stand in and nothing was put in.
    go_on: String,
    pieces: Vec<Piece>,
    finish: Option<FinishReason>,
    /// Node of the last call, injection or rewinding.
    node: Option<NodeId>,
    spending: Spending,
    started: bool,
}

impl Continuation {
    /// Nothing is written yet. `dialogue` ends with what the user says; `parent` is where the trace grows from.
    pub fn begin(
        context: &Context,
        role: &str,
        problem: &Problem,
        dialogue: Vec<Message>,
        parent: Option<NodeId>,
    ) -> Result<Self, GenerateError> {
        let prefix = context.model(role).capabilities().prefix;
        Ok(Continuation {
            role: role.into(),
            resumption: if prefix { Resumption::Prefix } else { Resumption::Turns },
            dialogue,
            go_on: context.insert(role, "go_on", &PromptSlots::new(problem))?,
            pieces: Vec::new(),
            finish: None,
            node: parent,
            spending: Spending::default(),
            started: false,
        })
    }

    /// How calls after the first take the text up.
    pub fn resumption(&self) -> Resumption {
        self.resumption
    }

    /// Everything written so far, words of ours included.
    pub fn text(&self) -> String {
        self.pieces
            .iter()
            .map(|piece| match piece {
                Piece::Generated(text, _) => text.as_str(),
                Piece::Injected(injection) => injection.text.as_str(),
            })
            .collect()
    }

    /// The texts between the restarts, in order, without words of ours other than openers. The last one is
    /// [`Self::final_text`].
    pub fn attempts(&self) -> Vec<String> {
        let mut attempts = vec![String::new()];
        for (place, piece) in self.pieces.iter().enumerate() {
            let text = match piece {
                Piece::Generated(text, _) => text.as_str(),
                Piece::Injected(injection) => match injection.purpose {
                    Purpose::Restart => {
                        attempts.push(String::new());
                        continue;
                    }
                    Purpose::Filler => continue,
                    // In turns the user has asked in other words; whoever answers may write the opener again.
                    Purpose::Opener if self.is_written_behind(place, &injection.text) => "\n",
                    Purpose::Opener => injection.text.as_str(),
                },
            };
            if let Some(last) = attempts.last_mut() {
                last.push_str(text);
            }
        }
        attempts
    }

    /// Whether the model itself wrote these words in the piece behind this place.
    fn is_written_behind(&self, place: usize, words: &str) -> bool {
        self.pieces.get(place + 1).is_some_and(|piece| piece.generated().contains(words.trim()))
    }

    /// What counts as the answer: the text behind the last restart.
    pub fn final_text(&self) -> String {
        self.attempts().pop().unwrap_or_default()
    }

    /// [`Self::final_text`] as one completion, with what is known about the tokens that were written for it (those of ours
    /// are not among them, those that were cut away are), and with the usage of the whole text.
    pub fn completion(&self) -> Completion {
        let mut whole = Completion::text(self.final_text());
        let restart = self.pieces.iter().rposition(
            |piece| matches!(piece, Piece::Injected(injection) if injection.purpose == Purpose::Restart),
        );
        let pieces = &self.pieces[restart.map_or(0, |at| at + 1)..];
        let calls: Vec<&Completion> = pieces
            .iter()
            .flat_map(|piece| match piece {
                Piece::Generated(_, calls) => calls.as_slice(),
                Piece::Injected(_) => &[],
            })
            .map(Arc::as_ref)
            .collect();
        // A list that one call lacks says nothing about the whole.
        let all = |has: &dyn Fn(&Completion) -> bool| calls.iter().all(|call| has(call));
        if all(&|call| !call.logprobs.is_empty()) {
            whole.logprobs = calls.iter().flat_map(|call| call.logprobs.iter().copied()).collect();
        }
        if all(&|call| !call.token_ids.is_empty()) {
            whole.token_ids = calls.iter().flat_map(|call| call.token_ids.iter().copied()).collect();
        }
        if all(&|call| !call.top.is_empty()) {
            whole.top = calls.iter().flat_map(|call| call.top.iter().cloned()).collect();
        }
        if all(&|call| !call.distributions.is_empty()) {
            whole.distributions = calls.iter().flat_map(|call| call.distributions.iter().copied()).collect();
        }
        whole.vocabulary = calls.first().and_then(|call| call.vocabulary);
        whole.finish = self.finish.clone().unwrap_or(FinishReason::Length);
        whole.message = calls.last().and_then(|call| call.message.clone());
        whole.usage = self.spending.usage;
        whole
    }

    /// Why the last call stopped; `None` before the first one, and behind words of ours.
    pub fn finish(&self) -> Option<&FinishReason> {
        self.finish.as_ref()
    }

    /// Whether the model ended its answer by itself and nothing was put in since.
    pub fn has_ended(&self) -> bool {
        self.finish == Some(FinishReason::Stop)
    }

    /// Whether the last thing that happened to the text is a call that wrote something.
    pub fn has_news(&self) -> bool {
        self.pieces.last().is_some_and(|piece| !piece.generated().is_empty())
    }

    /// Whether another call can go on with the text: not where the model wants a tool called or the server withheld
    /// something.
    pub fn can_go_on(&self) -> bool {
        use FinishReason::{Cancelled, Interrupted, Length, Stop};
        matches!(self.finish, None | Some(Stop | Length | Cancelled | Interrupted))
    }

    /// What it has cost.
    pub fn spending(&self) -> Spending {
        self.spending
    }

    /// Its last node in the trace.
    pub fn node(&self) -> Option<NodeId> {
        self.node
    }

    /// How many times words of this purpose were put in.
    pub fn injections(&self, purpose: Purpose) -> usize {
        self.pieces
            .iter()
            .filter(|piece| matches!(piece, Piece::Injected(injection) if injection.purpose == purpose))
            .count()
    }

    /// What the next call sends.
    pub fn messages(&self) -> Vec<Message> {
        let mut messages = self.dialogue.clone();
        if self.pieces.is_empty() {
            return messages;
        }
        if self.resumption == Resumption::Prefix {
            messages.push(Message::assistant(self.text()));
            return messages;
        }
        // A message of the assistant for each run of generated pieces, one of the user for each run of ours.
        let mut written = String::new();
        let mut asked = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Generated(text, _) => {
                    if !asked.is_empty() {
                        messages.push(Message::user(std::mem::take(&mut asked)));
                    }
                    written.push_str(text);
                }
                Piece::Injected(injection) => {
                    if !written.is_empty() {
                        messages.push(Message::assistant(std::mem::take(&mut written)));
                    }
                    if !asked.is_empty() {
                        asked.push('\n');
                    }
                    asked.push_str(&injection.turn);
                }
            }
        }
        if !written.is_empty() {
            messages.push(Message::assistant(written));
            asked.clone_from(&self.go_on);
        }
        if !asked.is_empty() {
            messages.push(Message::user(asked));
        }
        messages
    }

    fn request(&self, samples: usize, span: &Span) -> GenerateRequest {
        GenerateRequest {
            samples,
            sampling: span.sampling.clone(),
            logprobs: span.logprobs,
            ..GenerateRequest::new(self.messages())
        }
    }

    /// Whether a call now would be emulated with turns.
    fn emulated(&self) -> bool {
        self.resumption == Resumption::Turns && !self.pieces.is_empty()
    }

    /// Takes what a call gave.
    fn take(
        &mut self,
        trail: &mut Trail,
        context: &Context,
        prompt: Vec<Message>,
        mut completion: Completion,
        started: f64,
    ) {
        let model = context.model(&self.role);
        if self.emulated() {
            completion.extra.insert("prefix_emulated_with_turns".into(), json!(true));
        }
        let usage = completion.usage;
        self.spending.usage += usage;
        // A server that counts nothing must not make a text look free: rounds end when the cap is reached.
        let counted = usage.completion_tokens.max(completion.token_ids.len() as u64);
        let counted = if counted == 0 { model.count_tokens(&completion.text) } else { counted };
        self.spending.generated_tokens += counted.max(1);
        if self.started {
            self.spending.reread_tokens += usage.prompt_tokens;
        }
        self.started = true;
        self.node = Some(trail.generated(self.node, &self.role, model.name(), prompt, &completion, started));
        self.finish = Some(completion.finish.clone());
        self.pieces.push(Piece::Generated(completion.text.clone(), vec![Arc::new(completion)]));
    }

    /// Goes on with at most `span.sampling.max_tokens` tokens.
    pub async fn generate(
        &mut self,
        trail: &mut Trail,
        context: &Context,
        span: &Span,
    ) -> Result<(), ControlError> {
        let outcomes = Self::generate_all(trail, context, vec![(self, span.clone())]).await;
        outcomes.into_iter().next().unwrap_or(Ok(())).map_err(ControlError::from)
    }

    /// The same for several texts at once, each with its own span: all calls run together, and the trace has them in the
    /// order given. A failure concerns its own text only, which stays as it was.
    pub async fn generate_all(
        trail: &mut Trail,
        context: &Context,
        texts: Vec<(&mut Continuation, Span)>,
    ) -> Vec<Result<(), GenerateError>> {
        let started = trail.now();
        let requests: Vec<(String, GenerateRequest)> =
            texts.iter().map(|(text, span)| (text.role.clone(), text.request(1, span))).collect();
        let replies = join_all(requests.iter().map(|(role, request)| context.generate(role, request))).await;
        let taken = texts.into_iter().zip(requests).zip(replies);
        taken
            .map(|(((text, _), (_, request)), reply)| {
                let completion = reply?.into_iter().next();
                let completion = completion.ok_or_else(|| no_sample(context, &text.role))?;
                text.take(trail, context, request.messages, completion, started);
                Ok(())
            })
            .collect()
    }

    /// Several different ways to go on from here, drawn in one request that reads the text once: one branch per sample.
    /// What the reading cost stands with the first.
    pub async fn branch(
        &self,
        trail: &mut Trail,
        context: &Context,
        samples: usize,
        span: &Span,
    ) -> Result<Vec<Continuation>, ControlError> {
        let started = trail.now();
        let request = self.request(samples, span);
        let completions = context.generate(&self.role, &request).await?;
        let mut prompt = Some(request.messages);
        let branches = completions.into_iter().map(|completion| {
            let mut branch = self.clone();
            branch.take(trail, context, prompt.take().unwrap_or_default(), completion, started);
            branch
        });
        Ok(branches.collect())
    }

    /// Takes back what would end within a word or a number, if the last call was stopped in the middle: words of ours
    /// must not stand there. Returns false, and leaves the text as it is, when nothing would be left since the last
    /// injection. Tokens stay counted: they were paid for.
    pub fn cut_to_boundary(&mut self) -> bool {
        if self.finish.is_none() || self.has_ended() {
            return true;
        }
        let Some(since) = self.pieces.iter().rposition(|piece| matches!(piece, Piece::Injected(_))) else {
            return self.cut_from(0);
        };
        self.cut_from(since + 1)
    }

    /// The same for the run of generated pieces from `first` on, which becomes one piece.
    fn cut_from(&mut self, first: usize) -> bool {
        let run: String = self.pieces[first..].iter().map(Piece::generated).collect();
        let keep = boundary(&run);
        if run[..keep].trim().is_empty() {
            return false;
        }
        let calls = self.pieces.drain(first..).flat_map(|piece| match piece {
            Piece::Generated(_, calls) => calls,
            Piece::Injected(_) => Vec::new(),
        });
        let piece = Piece::Generated(run[..keep].to_string(), calls.collect());
        self.pieces.push(piece);
        true
    }

    /// Puts words into the text. An end that the model wrote is gone: the text goes on behind the words. Their tokens are
    /// counted as [`elenchus_generate::LanguageModel::count_tokens`] does.
    pub fn inject(&mut self, trail: &mut Trail, context: &Context, injection: &Injection) {
        let mut injection = injection.clone();
        let tokens = self.injection_tokens(context, &injection);
        let before = self.text();
        if injection.text.starts_with('\n') && (before.is_empty() || before.ends_with('\n')) {
            injection.text.remove(0);
        }
        let shown = match self.resumption {
            Resumption::Prefix => &injection.text,
            Resumption::Turns => &injection.turn,
        };
        self.spending.injected_tokens += tokens;
        let data = json!({
            "purpose": injection.purpose, "tokens": tokens, "resumption": self.resumption,
            "ended_before": self.has_ended(),
        });
        self.node = Some(trail.decided(self.node, format!("puts in `{}`", shown.trim()), None, data));
        self.finish = None;
        self.pieces.push(Piece::Injected(injection));
    }

    /// Tokens of an injection, as this text's model counts them.
    pub fn injection_tokens(&self, context: &Context, injection: &Injection) -> u64 {
        let shown = match self.resumption {
            Resumption::Prefix => &injection.text,
            Resumption::Turns => &injection.turn,
        };
        context.model(&self.role).count_tokens(shown)
    }

    /// Forces the final answer: the opener behind a clean cut, then at most `max_tokens` of the likeliest
    /// tokens.
    pub async fn force_answer(
        &mut self,
        trail: &mut Trail,
        context: &Context,
        opener: &Injection,
        max_tokens: u32,
        detail: LogprobDetail,
    ) -> Result<(), ControlError> {
        self.open(trail, context, opener);
        self.generate(trail, context, &answer_span(max_tokens, detail)).await
    }

    /// Puts the opener behind a clean cut, unless the model has just written it.
    fn open(&mut self, trail: &mut Trail, context: &Context, opener: &Injection) {
        self.cut_to_boundary();
        let written = self.pieces.last().map(Piece::generated).unwrap_or_default();
        let begun = !self.has_ended() && written.trim_end().ends_with(opener.text.trim());
        if self.resumption == Resumption::Turns || !begun {
            self.inject(trail, context, opener);
        }
    }

    /// The same for several texts at once; see [`Self::generate_all`].
    pub async fn force_answers(
        trail: &mut Trail,
        context: &Context,
        mut texts: Vec<&mut Continuation>,
        opener: &Injection,
        max_tokens: u32,
        detail: LogprobDetail,
    ) -> Vec<Result<(), GenerateError>> {
        for text in &mut texts {
            text.open(trail, context, opener);
        }
        let span = answer_span(max_tokens, detail);
        Self::generate_all(trail, context, texts.into_iter().map(|text| (text, span.clone())).collect()).await
    }

    /// This point, to come back to.
    pub fn mark(&self) -> Mark {
        Mark { pieces: self.pieces.clone(), finish: self.finish.clone(), node: self.node }
    }

    /// Goes back to an earlier point of this text, or of the text that it branched from. What was written since is gone
    /// from the text, and stays in the trace and in what was spent.
    pub fn rewind(&mut self, trail: &mut Trail, mark: &Mark) {
        let (from, node) = (self.text().len(), self.node);
        self.pieces.clone_from(&mark.pieces);
        self.finish.clone_from(&mark.finish);
        let to = self.text().len();
        let decision = format!("rewinds from {from} to {to} bytes of text");
        trail.decided(node, decision, mark.node, json!({"from_bytes": from, "to_bytes": to}));
        // What comes next grows from where the text stands.
        self.node = mark.node;
    }
}

/// A short greedy span.
fn answer_span(max_tokens: u32, logprobs: LogprobDetail) -> Span {
    Span { sampling: Sampling { temperature: 0.0, max_tokens, ..Sampling::default() }, logprobs }
}

fn no_sample(context: &Context, role: &str) -> GenerateError {
    GenerateError::Unavailable {
        model: context.model(role).name().into(),
        what: "the reply holds no sample".into(),
        hint: "the server gives fewer samples than asked for; look at its log".into(),
        retry_after_seconds: None,
        retryable: false,
    }
}

/// Length in bytes of the longest beginning of a text that does not end within a word or a number. The last word is
/// taken away even where it looks whole: nobody knows what would have followed. Words and numbers are those of Unicode
/// (UAX 29); a sign that may belong to a number (`3.`, `3,`) goes with it, and so does the backslash of a command.
pub fn boundary(text: &str) -> usize {
    let mut segments = text.split_word_bound_indices().rev().peekable();
    let Some((start, last)) = segments.next() else { return 0 };
    let is_word = |segment: &str| segment.chars().any(|c| c.is_alphanumeric() || c == '_');
    let ends_in_digit = |segment: &str| segment.chars().next_back().is_some_and(char::is_numeric);
    let mut end = text.len();
    if is_word(last) {
        end = start;
    } else if matches!(last, "." | ",")
        && let Some((start, number)) = segments.peek()
        && ends_in_digit(number)
    {
        end = *start;
    } else if last == "\\" {
        return boundary(&text[..start]);
    }
    match text[..end].strip_suffix('\\') {
        Some(rest) if end < text.len() => boundary(rest),
        _ => end,
    }
}

#[cfg(test)]
#[path = "continuation_tests.rs"]
mod tests;
