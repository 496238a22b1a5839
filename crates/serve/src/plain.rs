//! The embedded model asked as it is, without a recipe.

use crate::ApiError;
use crate::answering::{Asked, context, seed_of};
use crate::body::{BoxError, Reply};
use crate::chat::{
    BudgetReport, ChatRequest, ChoiceBody, Parent, Report, chunk_body, completion_body, finish_word,
    usage_chunk,
};
use crate::choose::PLAIN;
use crate::keys::Caller;
use crate::spending::Grant;
use crate::sse;
use crate::stage::views;
use crate::state::{Live, State, Target};
use bytes::Bytes;
use elenchus_generate::{
    ACTOR, CancelToken, Context, GenerateError, GenerateRequest, PromptSlots, Sampling, StreamEvent,
};
use elenchus_remember::service::{TraceEntry, TraceStatus, TraceSummary};
use elenchus_trace::{Completion, Node, NodeKind, Problem, Trace, Usage};
use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;

/// A request to the embedded model.
pub(crate) struct Plain {
    pub id: String,
    pub label: String,
    pub caller: Caller,
    pub live: Arc<Live>,
    pub request: ChatRequest,
    pub grant: Grant,
    pub bytes: Bytes,
    pub created_ms: u64,
    pub started: Instant,
    pub stream: bool,
    /// What it is asked again from.
    pub parent: Option<Parent>,
}

/// Keeps the trace however the request ends.
struct Kept {
    state: Arc<State>,
    plain: Plain,
    problem: Problem,
    request: GenerateRequest,
    context: Context,
    finished: bool,
    _unwritten: watch::Receiver<()>,
}

impl Kept {
    fn entry(&mut self, status: TraceStatus, completions: &[Completion], problem: &str) -> TraceEntry {
        self.finished = true;
        let plain = &self.plain;
        let elapsed_ms = plain.started.elapsed().as_secs_f64() * 1e3;
        let trace = trace(self, completions, elapsed_ms);
        let usage = self.context.usage();
        self.state.metrics.spent(PLAIN, &usage);
        let answer = completions.first().map_or(problem, |completion| completion.text.as_str());
        let summary = TraceSummary {
            id: plain.id.clone(),
            created_ms: plain.created_ms,
            recipe: PLAIN.into(),
            model: Target::Embedded.model().into(),
            key: plain.caller.name().into(),
            question: self.problem.question.clone(),
            answer: answer.into(),
            confidence: None,
            status,
            elapsed_ms,
            usage,
        };
        self.state.telemetry.answered(plain.caller.span.as_ref(), &summary, Some(&trace));
        TraceEntry {
            summary,
            request: plain.bytes.to_vec(),
            response: None,
            trace: serde_json::to_string(&trace).ok(),
        }
    }

    async fn keep(&mut self, status: TraceStatus, completions: &[Completion], problem: &str) -> bool {
        let entry = self.entry(status, completions, problem);
        let hold = self.plain.grant.hold.take();
        self.state.keep(entry, hold, &self.plain.caller.trace).await
    }

    fn report(&self, completions: &[Completion], stored: bool) -> Report {
        let elapsed_ms = self.plain.started.elapsed().as_secs_f64() * 1e3;
        let spent = self.context.usage();
        Report {
            trace_id: stored.then(|| self.plain.id.clone()),
            recipe: PLAIN.into(),
            answer: None,
            confidence: None,
            agreement: None,
            abstained: None,
            parent: self.plain.parent.clone(),
            budget: BudgetReport {
                limit: self.context.budget(),
                spent,
                answer: spent,
                recipe: Usage::default(),
            },
            stages: views(&trace(self, completions, elapsed_ms), &[]),
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if !self.finished {
            let entry = self.entry(TraceStatus::Cancelled, &[], "");
            self.state.archive.keep_later(entry, self.plain.grant.hold.take());
        }
    }
}

fn trace(kept: &Kept, completions: &[Completion], elapsed_ms: f64) -> Trace {
    let mut trace = Trace::new(&kept.plain.id, PLAIN, kept.problem.clone());
    trace.started_unix_ms = kept.plain.created_ms;
    trace.budget = kept.context.budget();
    for (index, completion) in completions.iter().enumerate() {
        let kind = NodeKind::Generated {
            role: ACTOR.into(),
            model: Target::Embedded.model().into(),
            prompt: if index == 0 { kept.request.messages.clone() } else { Vec::new() },
            completion: Box::new(completion.clone()),
        };
        let usage = completion.usage;
        trace.push(crate::stage::slim(Node { parent: None, kind, started_ms: 0.0, elapsed_ms, usage }));
    }
    trace
}

fn sampling(request: &ChatRequest, seed: u64) -> Sampling {
    let field = |name: &str| request.sampling.get(name);
    let number = |name: &str, otherwise: f64| field(name).and_then(Value::as_f64).unwrap_or(otherwise) as f32;
    let whole = |name: &str, otherwise: u64| {
        u32::try_from(field(name).and_then(Value::as_u64).unwrap_or(otherwise)).unwrap_or(u32::MAX)
    };
    let stop = field("stop").and_then(Value::as_array).into_iter().flatten();
    Sampling {
        // One answer is the likeliest one unless the caller wants otherwise; several would be the same then.
        temperature: number("temperature", if request.choices > 1 { 1.0 } else { 0.0 }),
        top_p: number("top_p", 1.0),
        top_k: whole("top_k", 0),
        min_p: number("min_p", 0.0),
        max_tokens: whole("max_tokens", 1024),
        stop: stop.filter_map(|text| text.as_str().map(str::to_string)).collect(),
        seed,
    }
}

/// Answers.
pub(crate) async fn answer(state: &Arc<State>, plain: Plain) -> Result<Reply, ApiError> {
    plain.request.for_embedded()?;
    let target = Target::Embedded;
    let seed = plain.request.seed.unwrap_or_else(|| seed_of(&plain.id));
    let asked = Asked {
        live: &plain.live,
        target: &target,
        caller: &plain.caller,
        request: &plain.request,
        budget: plain.grant.budget,
        seed,
        tape: None,
    };
    let context = context(state, asked, None, &[]).await?;
    let question = plain.request.question();
    let mut problem = Problem::new("request", target.task(), &question);
    problem.compact = Some(question);
    let messages = context.prompt(ACTOR, "solve", &PromptSlots::new(&problem))?;
    let request = GenerateRequest {
        samples: plain.request.choices as usize,
        sampling: sampling(&plain.request, context.seed()),
        ..GenerateRequest::new(messages)
    };
    let streaming = plain.stream;
    plain.caller.trace.note(&plain.id);
    let mut kept = Kept {
        state: Arc::clone(state),
        plain,
        problem,
        request: request.clone(),
        context: context.clone(),
        finished: false,
        _unwritten: state.unwritten(),
    };
    let (id, created) = (format!("chatcmpl-{}", kept.plain.id), kept.plain.created_ms / 1000);
    if streaming {
        let stream = match context.stream(ACTOR, &request).await {
            Ok(stream) => stream,
            Err(error) => return Err(fail(&mut kept, error).await),
        };
        let count = request.samples;
        let pieces = Pieces {
            stream: Some(stream),
            cancel: context.cancel_token().clone(),
            kept,
            id,
            created,
            done: vec![None; count],
            queue: VecDeque::new(),
        };
        let body = futures::stream::unfold(pieces, |mut pieces| async move {
            let piece = pieces.next().await?;
            Some((Ok::<Bytes, BoxError>(piece), pieces))
        });
        return Ok(sse::reply(body));
    }
    let completions = match context.generate(ACTOR, &request).await {
        Ok(completions) => completions,
        Err(error) => return Err(fail(&mut kept, error).await),
    };
    let stored = kept.keep(TraceStatus::Answered, &completions, "").await;
    let choices: Vec<ChoiceBody> = completions
        .iter()
        .map(|completion| ChoiceBody {
            text: completion.text.clone(),
            tool_calls: Vec::new(),
            finish: finish_word(&completion.finish),
            logprobs: Value::Null,
            report: None,
        })
        .collect();
    let report = kept.report(&completions, stored);
    let body = completion_body(&id, created, &kept.plain.label, &choices, &context.usage(), Some(&report));
    Ok(crate::body::json(hyper::StatusCode::OK, &body))
}

async fn fail(kept: &mut Kept, error: GenerateError) -> ApiError {
    let error = ApiError::from(error);
    match error.is_cancelled() {
        true => kept.keep(TraceStatus::Cancelled, &[], "").await,
        false => kept.keep(TraceStatus::Failed, &[], &error.message).await,
    };
    error
}

/// A streamed answer.
struct Pieces {
    stream: Option<BoxStream<'static, Result<StreamEvent, GenerateError>>>,
    cancel: CancelToken,
    kept: Kept,
    id: String,
    created: u64,
    done: Vec<Option<Completion>>,
    queue: VecDeque<Bytes>,
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Pieces {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(piece) = self.queue.pop_front() {
                return Some(piece);
            }
            let event = self.stream.as_mut()?.next().await;
            let chunk = |pieces: &Pieces, index, delta: Value, finish| {
                chunk_body(&pieces.id, pieces.created, &pieces.kept.plain.label, index, delta, finish)
            };
            match event {
                Some(Ok(StreamEvent::Text { index, text })) => {
                    let chunk = chunk(self, index, json!({"role": "assistant", "content": text}), None);
                    self.queue.push_back(sse::data(&chunk));
                }
                Some(Ok(StreamEvent::Done { index, completion })) => {
                    let finish = finish_word(&completion.finish);
                    let chunk = chunk(self, index, Value::Object(Map::new()), Some(finish));
                    if let Some(place) = self.done.get_mut(index) {
                        *place = Some(*completion);
                    }
                    if self.done.iter().any(Option::is_none) {
                        self.queue.push_back(sse::data(&chunk));
                    } else {
                        self.end(chunk).await;
                    }
                }
                Some(Err(error)) => {
                    self.stream = None;
                    let error = fail(&mut self.kept, error).await;
                    self.queue.push_back(sse::data(&error.body()));
                }
                None => self.stream = None,
            }
        }
    }

    /// The last pieces, once the trace is kept.
    async fn end(&mut self, mut last: Value) {
        self.stream = None;
        let completions: Vec<Completion> = self.done.iter_mut().filter_map(Option::take).collect();
        let stored = self.kept.keep(TraceStatus::Answered, &completions, "").await;
        last["elenchus"] = json!(self.kept.report(&completions, stored));
        self.queue.push_back(sse::data(&last));
        if self.kept.plain.request.include_usage {
            let usage = self.kept.context.usage();
            let piece = usage_chunk(&self.id, self.created, &self.kept.plain.label, &usage);
            self.queue.push_back(sse::data(&piece));
        }
        self.queue.push_back(Bytes::from_static(sse::DONE));
    }
}
