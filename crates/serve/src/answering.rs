//! Running a recipe for a request: context, trace, report.

use crate::ApiError;
use crate::carry::Carrying;
use crate::chat::{
    BudgetReport, ChatRequest, ChoiceBody, ChoiceReport, Confidence, ConfidenceKind, Parent, Report,
    finish_word, logprobs_body,
};
use crate::keys::{Caller, TraceNote};
use crate::spending::{Grant, Hold};
use crate::stage::{StageView, slim, views};
use crate::state::{Live, State, Target};
use crate::tape::{Kept, Replay, Tape, Taped};
use bytes::Bytes;
use elenchus_generate::{ACTOR, Context, LanguageModel, LiveAnswer, TraceObserver, Voice};
use elenchus_recipe::{Repeated, Serving};
use elenchus_remember::service::{TraceEntry, TraceStatus, TraceSummary};
use elenchus_trace::{Answer, Budget, Completion, Node, NodeId, Problem, Trace, Usage};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

/// Characters of a stage's text in the answer itself.
pub(crate) const STAGE_CHARACTERS: usize = 240;
/// What a recipe may overrun its time by before it is cut off: its budget ends it earlier, with what it has.
const OVERRUN: Duration = Duration::from_secs(5);

/// A request that a recipe answers.
pub(crate) struct Job {
    pub id: String,
    pub caller: Caller,
    pub live: Arc<Live>,
    pub target: Target,
    pub serving: Serving,
    pub request: ChatRequest,
    pub grant: Grant,
    pub bytes: Bytes,
    pub created_ms: u64,
    pub started: Instant,
    /// Everything random follows from it.
    pub seed: u64,
    /// What is run again, and from which trace.
    pub replay: Option<(Replay, Parent)>,
}

/// The seed of a request that names none: a trace that is run again draws the same.
pub(crate) fn seed_of(trace_id: &str) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&blake3::hash(trace_id.as_bytes()).as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}

/// What is told while a recipe runs.
pub(crate) enum Told {
    Stage(Box<StageView>),
    /// The next piece of an answer.
    Text {
        choice: usize,
        text: String,
    },
}

/// Keeps what a strategy does while it does it, so that nothing is lost when it is cut off, and tells who listens.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    nodes: Mutex<Vec<Node>>,
    listener: Option<UnboundedSender<Told>>,
}

impl Watch {
    pub fn telling(listener: UnboundedSender<Told>) -> Self {
        Watch { nodes: Mutex::default(), listener: Some(listener) }
    }

    /// Tells the answer while it is written. One that has to come with the probabilities of its tokens comes at once: a
    /// piece has none.
    fn live(&self, request: &ChatRequest) -> Option<Arc<LiveAnswer>> {
        let listener = self.listener.clone().filter(|_| !request.logprobs)?;
        Some(LiveAnswer::new(move |choice, text| {
            // The client may be gone; the request is then being dropped.
            let _ = listener.send(Told::Text { choice, text: text.into() });
        }))
    }

    /// What happened, for the trace.
    fn take(&self) -> Vec<Node> {
        std::mem::take(&mut *self.nodes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl TraceObserver for Watch {
    fn node(&self, id: NodeId, node: &Node) {
        if let Some(listener) = &self.listener {
            // The client may be gone; the request is then being dropped.
            let _ = listener.send(Told::Stage(Box::new(StageView::new(id, node))));
        }
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).push(slim(node.clone()));
    }
}

/// What came of it.
#[derive(Debug, Clone)]
pub(crate) struct Finished {
    pub choices: Vec<ChoiceBody>,
    pub usage: Usage,
    pub report: Report,
}

/// Writes the trace down however the request ends: a record that is dropped unfinished was cancelled.
pub(crate) struct Record {
    state: Arc<State>,
    summary: TraceSummary,
    request: Bytes,
    problem: Arc<Problem>,
    context: Context,
    watch: Arc<Watch>,
    tape: Arc<Tape>,
    started: Instant,
    span: Option<crate::telemetry::Link>,
    /// What it is expected to cost, held of its key's budget until the trace is kept.
    hold: Option<Hold>,
    note: TraceNote,
    finished: bool,
    _unwritten: watch::Receiver<()>,
}

impl Record {
    pub fn new(
        state: &Arc<State>,
        job: &mut Job,
        problem: &Arc<Problem>,
        context: &Context,
        watch: &Arc<Watch>,
        tape: &Arc<Tape>,
    ) -> Self {
        job.caller.trace.note(&job.id);
        Record {
            state: Arc::clone(state),
            summary: TraceSummary {
                id: job.id.clone(),
                created_ms: job.created_ms,
                recipe: job.serving.name().into(),
                model: job.target.model().into(),
                key: job.caller.name().into(),
                // As the entry is made.
                question: String::new(),
                answer: String::new(),
                confidence: None,
                status: TraceStatus::Cancelled,
                elapsed_ms: 0.0,
                usage: Usage::default(),
            },
            request: job.bytes.clone(),
            problem: Arc::clone(problem),
            context: context.clone(),
            watch: Arc::clone(watch),
            tape: Arc::clone(tape),
            started: job.started,
            span: job.caller.span.clone(),
            hold: job.grant.hold.take(),
            note: job.caller.trace.clone(),
            finished: false,
            _unwritten: state.unwritten(),
        }
    }

    /// The entry as things stand.
    fn entry(
        &mut self,
        status: TraceStatus,
        answer: &str,
        nodes: Vec<Node>,
        given: Option<&ChoiceReport>,
    ) -> TraceEntry {
        // Nobody needs it behind the end, and it may be large.
        let problem = std::mem::replace(&mut self.problem, Arc::new(Problem::new("", "", "")));
        let problem = Arc::unwrap_or_clone(problem);
        let mut trace = Trace::new(&self.summary.id, &self.summary.recipe, problem);
        trace.started_unix_ms = self.summary.created_ms;
        trace.budget = self.context.budget();
        trace.nodes = nodes;
        self.summary.status = status;
        self.summary.usage = self.context.usage();
        self.summary.elapsed_ms = self.started.elapsed().as_secs_f64() * 1e3;
        self.finished = true;
        self.state.metrics.spent(&self.summary.recipe, &self.summary.usage);
        self.state.telemetry.answered(self.span.as_ref(), &self.summary, Some(&trace));
        // A trace is text and numbers and always serializes.
        let kept = Kept { calls: self.tape.kept(&trace), trace: &trace, given };
        let kept = serde_json::to_string(&kept).ok();
        let question = trace.problem.question;
        TraceEntry {
            summary: TraceSummary { question, answer: answer.into(), ..self.summary.clone() },
            request: self.request.to_vec(),
            response: None,
            trace: kept,
        }
    }

    /// Stores an answer with what is said of it; says whether that worked.
    async fn answered(&mut self, found: &Repeated, given: Option<&ChoiceReport>) -> bool {
        let Some(answer) = found.answers.first() else { return false };
        self.summary.confidence = answer.confidence;
        let status = match answer.abstained {
            Some(_) => TraceStatus::Abstained,
            None => TraceStatus::Answered,
        };
        drop(self.watch.take());
        let nodes = found.trace.nodes.iter().cloned().map(slim).collect();
        let entry = self.entry(status, &answer.text, nodes, given);
        self.keep(entry).await
    }

    /// Stores a failure.
    async fn failed(&mut self, error: &ApiError) {
        let nodes = self.watch.take();
        let status = match error.is_cancelled() {
            true => TraceStatus::Cancelled,
            false => TraceStatus::Failed,
        };
        let said = if status == TraceStatus::Failed { error.message.as_str() } else { "" };
        let entry = self.entry(status, said, nodes, None);
        self.keep(entry).await;
    }

    async fn keep(&mut self, entry: TraceEntry) -> bool {
        self.state.keep(entry, self.hold.take(), &self.note).await
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.finished {
            let nodes = self.watch.take();
            let entry = self.entry(TraceStatus::Cancelled, "", nodes, None);
            self.state.archive.keep_later(entry, self.hold.take());
        }
    }
}

/// The problem of a request.
fn problem(job: &mut Job) -> Problem {
    let question = job.request.question();
    // The id is part of every seed: the same request with the same seed draws the same samples.
    let mut problem = Problem::new("request", job.serving.task(), &question);
    match job.target {
        Target::Embedded => {
            problem.data = exercise(&question);
            problem.compact = Some(question);
        }
        Target::Upstream(_) => {
            problem.history = std::mem::take(&mut job.request.messages);
            // Fields that are none of ours go with whatever may become the answer, whoever writes it.
            problem.wants = job.request.wants.clone();
            problem.wants.extend(job.request.rest.clone());
        }
    }
    problem
}

/// What the task of the embedded model wants to know of a question in its notation, `g=50;e=g-1;e?`. A question in
/// another form has no answer that the task could extract, and the recipe says so.
fn exercise(question: &str) -> Value {
    let mut parts: Vec<&str> = question.trim().trim_end_matches('?').split(';').collect();
    let asked = parts.pop();
    json!({"form": "chain", "surface": "symbols", "statements": parts, "asked": asked})
}

/// What a context is made of.
pub(crate) struct Asked<'a> {
    pub live: &'a Live,
    pub target: &'a Target,
    pub caller: &'a Caller,
    pub request: &'a ChatRequest,
    pub budget: Budget,
    pub seed: u64,
    /// Keeps the calls.
    pub tape: Option<Arc<Tape>>,
}

/// A context over the model of a request, bound to these roles beside the actor's.
pub(crate) async fn context(
    state: &State,
    asked: Asked<'_>,
    watch: Option<Arc<Watch>>,
    roles: &[String],
) -> Result<Context, ApiError> {
    let Asked { live, target, caller, request, budget, seed, tape } = asked;
    let (model, voice): (Arc<dyn LanguageModel>, Voice) = match target {
        Target::Embedded => (state.embedded().await?, Voice::Compact),
        Target::Upstream(name) => (live.pool.model(name, caller.foreign.as_deref())?, Voice::Chat),
    };
    let mut builder = Context::builder();
    if let Some(price) = live.prices.get(target.model()) {
        builder = builder.price(model.name(), *price);
    }
    let carried = match target {
        Target::Embedded => Default::default(),
        Target::Upstream(_) => request.rest.clone(),
    };
    let taped = |model: Arc<dyn LanguageModel>, role: &str| match &tape {
        Some(tape) => Taped::around(model, role, tape),
        None => model,
    };
    // What the caller said about the answer goes to the actor; judges and critics write for us.
    for role in roles.iter().filter(|role| role.as_str() != ACTOR) {
        let Some((own, own_voice, name)) =
            crate::roles::model(state, live, role, caller.foreign.as_deref()).await?
        else {
            builder = builder.role(role, taped(Arc::clone(&model), role));
            continue;
        };
        if let Some(price) = live.prices.get(&name) {
            builder = builder.price(own.name(), *price);
        }
        builder = builder.role(role, taped(own, role)).role_voice(role, own_voice);
    }
    builder = builder
        .role(ACTOR, taped(Carrying::around(model, carried), ACTOR))
        .budget(budget)
        .voice(voice)
        .seed(seed)
        .cancel(state.cancel.child());
    if let Some(watch) = watch {
        if let Some(live) = watch.live(request) {
            builder = builder.live(live);
        }
        builder = builder.observer(watch);
    }
    Ok(builder.build()?)
}

/// Runs the recipe of a request to its end and stores the trace. Dropping the future cancels it.
pub(crate) async fn run(state: &Arc<State>, mut job: Job, watch: Arc<Watch>) -> Result<Finished, ApiError> {
    let _place = Arc::clone(&state.recipes).try_acquire_owned().map_err(|_| ApiError {
        retry_after_seconds: Some(1),
        ..ApiError::unavailable("busy", "as many recipes run as are allowed at once")
    })?;
    let (replay, parent) = job.replay.take().unzip();
    let tape = Arc::new(Tape::new(replay));
    let roles = job.serving.roles();
    let asked = Asked {
        live: &job.live,
        target: &job.target,
        caller: &job.caller,
        request: &job.request,
        budget: job.grant.budget,
        seed: job.seed,
        tape: Some(Arc::clone(&tape)),
    };
    let context = context(state, asked, Some(Arc::clone(&watch)), roles).await?;
    let problem = Arc::new(problem(&mut job));
    let mut record = Record::new(state, &mut job, &problem, &context, &watch, &tape);
    let within = Duration::from_secs_f64(job.live.settings.request_seconds.clamp(0.0, 1e6)) + OVERRUN;
    let count = job.request.choices as usize;
    let found = match tokio::time::timeout(within, job.serving.answers(&context, &problem, count)).await {
        Ok(Ok(found)) => found,
        outcome => {
            let error = match outcome {
                Ok(Err(error)) => ApiError::from(error),
                _ => ApiError::new(
                    hyper::StatusCode::GATEWAY_TIMEOUT,
                    "request_timeout",
                    format!("the recipe did not end within {within:?}"),
                ),
            };
            drop(problem);
            record.failed(&error).await;
            return Err(error);
        }
    };
    drop(problem);
    let given = found.answers.first().map(|answer| of_choice(&job, answer));
    let stored = record.answered(&found, given.as_ref()).await;
    finished(&job, found, &context, &tape, stored, parent)
}

/// The response that became the answer: what the last decision chose; without one, what was written last.
pub(crate) fn final_completion(trace: &Trace) -> Option<&Completion> {
    match trace.chosen() {
        Some(node) => trace.completion(node),
        None => trace.completions().last().map(|(_, completion)| completion),
    }
}

/// A confidence, calibrated where that was fitted.
fn confidence(job: &Job, raw: f64) -> Confidence {
    let (recipe, model, task) = (job.serving.name(), job.target.model(), job.serving.task());
    match job.live.calibrations.find(recipe, model, task) {
        None => Confidence { value: raw, kind: ConfidenceKind::Raw, raw: None },
        Some(entry) => Confidence {
            value: entry.calibrator.apply(raw),
            kind: ConfidenceKind::Calibrated,
            raw: Some(raw),
        },
    }
}

/// What is said of one answer.
fn of_choice(job: &Job, answer: &Answer) -> ChoiceReport {
    let votes: usize = answer.votes.iter().map(|votes| votes.count).sum();
    ChoiceReport {
        answer: answer.answer.clone(),
        confidence: answer.confidence.map(|raw| confidence(job, raw)),
        agreement: answer.votes.first().map(|first| first.count as f64 / votes.max(1) as f64),
        abstained: answer.abstained.clone(),
    }
}

/// The completion that an answer is; where none was chosen, the one whose text is shown.
fn completion_of(answer: &Answer) -> Option<&Completion> {
    let shown =
        || answer.trace.completions().map(|(_, written)| written).find(|written| written.text == answer.text);
    answer.trace.chosen().and_then(|node| answer.trace.completion(node)).or_else(shown)
}

fn finished(
    job: &Job,
    found: Repeated,
    context: &Context,
    tape: &Tape,
    stored: bool,
    parent: Option<Parent>,
) -> Result<Finished, ApiError> {
    let spent = context.usage();
    let several = found.answers.len() > 1;
    let own: Usage = found.answers.iter().filter_map(completion_of).map(|completion| completion.usage).sum();
    let choices = found.answers.iter().map(|answer| {
        let completion = completion_of(answer);
        let message = completion.and_then(|completion| completion.message.as_ref());
        let tool_calls = message.map(|message| message.tool_calls.clone()).unwrap_or_default();
        let word = completion.map_or("stop", |completion| finish_word(&completion.finish));
        ChoiceBody {
            finish: if tool_calls.is_empty() || word != "stop" { word } else { "tool_calls" },
            tool_calls,
            text: answer.text.clone(),
            logprobs: match completion {
                Some(completion) if job.request.logprobs => logprobs_body(completion),
                _ => serde_json::Value::Null,
            },
            report: several.then(|| of_choice(job, answer)),
        }
    });
    let choices: Vec<ChoiceBody> = choices.collect();
    let first = found.answers.first().map(|answer| of_choice(job, answer)).ok_or_else(|| {
        ApiError::new(hyper::StatusCode::INTERNAL_SERVER_ERROR, "internal", "the recipe gave no answer")
    })?;
    // A client that knows nothing of abstentions would take an empty answer for an answer.
    let silent = |choice: &ChoiceBody| choice.text.trim().is_empty() && choice.tool_calls.is_empty();
    if let Some(why) = first.abstained.as_deref().filter(|_| choices.iter().all(silent)) {
        let (recipe, id) = (job.serving.name(), &job.id);
        let message = format!(
            "the recipe `{recipe}` has no answer: {why}\nhint: `{recipe} else plain` answers with the model alone then; the \
             trace `{id}` has what was tried"
        );
        return Err(ApiError::new(hyper::StatusCode::UNPROCESSABLE_ENTITY, "no_answer", message));
    }
    let report = Report {
        trace_id: stored.then(|| job.id.clone()),
        recipe: job.serving.name().into(),
        answer: first.answer,
        confidence: first.confidence,
        agreement: first.agreement,
        abstained: first.abstained,
        parent,
        budget: BudgetReport {
            limit: context.budget(),
            spent,
            answer: own,
            recipe: Usage {
                prompt_tokens: spent.prompt_tokens.saturating_sub(own.prompt_tokens),
                completion_tokens: spent.completion_tokens.saturating_sub(own.completion_tokens),
                calls: spent.calls.saturating_sub(own.calls),
                seconds: (spent.seconds - own.seconds).max(0.0),
                money: (spent.money - own.money).max(0.0),
            },
        },
        stages: views(&found.trace, &tape.calls())
            .into_iter()
            .map(|view| view.cut(STAGE_CHARACTERS))
            .collect(),
    };
    Ok(Finished { choices, usage: spent, report })
}
