//! An answer again: a recipe from one of its stages, with that stage as a person wants it; a last decision that takes another
//! response; a request without a recipe, as it was or with another question or answer.

use crate::ApiError;
use crate::answering::{Finished, Job, STAGE_CHARACTERS, seed_of};
use crate::ask::{PATH, given, reply, serving};
use crate::body::Reply;
use crate::catalogue::Cost;
use crate::chat::{BudgetReport, ChatRequest, ChoiceBody, Parent, Peek, Report};
use crate::choose::{PLAIN, Wish, choose};
use crate::exchange::{messages, trace_of};
use crate::forward::Forward;
use crate::keys::{Caller, Scope};
use crate::plain::Plain;
use crate::reading::object;
use crate::stage::views;
use crate::state::{Live, State, Target, new_id, now_ms};
use crate::tape::{ANOTHER_TEMPERATURE, Call, Kept as Recorded, Replay, calls_of, choices, without_calls};
use bytes::Bytes;
use elenchus_generate::ACTOR;
use elenchus_recipe::models;
use elenchus_remember::service::{
    FeedbackEntry, StageEdit, StagePart, TraceEntry, TraceStatus, TraceSummary, Write, Written,
};
use elenchus_trace::{Completion, NodeId, NodeKind, Trace, Usage};
use hyper::header::HeaderMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Instant;

/// Longest text of a stage, bytes.
const MOST_TEXT_BYTES: usize = 256 << 10;
/// The field under which a trace keeps what it was run again from.
const FIELD: &str = "rerun";

/// Which stage is another one, and what it should be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RerunRequest {
    /// Number of the stage: a text that a model wrote, a critique, or the last decision.
    pub stage: u32,
    /// Its text; absent, the stage is rejected, and the model writes another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The question as it should have been (the last message of the user), where no recipe answered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// Of a decision: number of the stage whose response it should have taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choose: Option<u32>,
    /// What the edit is stored as; absent, `critique` for what an evaluator said, else `answer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<StagePart>,
    /// Whether the answer is streamed, as a chat's.
    #[serde(default)]
    pub stream: bool,
}

impl RerunRequest {
    fn check(&self) -> Result<(), ApiError> {
        for (name, text) in [("text", &self.text), ("question", &self.question)] {
            if text.as_ref().is_some_and(|text| text.len() > MOST_TEXT_BYTES) {
                return Err(ApiError::bad(name, format!("`{name}` is longer than {MOST_TEXT_BYTES} bytes")));
            }
        }
        if self.question.as_ref().is_some_and(|question| question.trim().is_empty()) {
            return Err(ApiError::bad("question", "`question` is empty"));
        }
        let given = [self.text.is_some(), self.question.is_some(), self.choose.is_some()];
        if given.into_iter().filter(|given| *given).count() > 1 {
            let message =
                "`text`, `question` and `choose` are three things to change\nhint: change one at a time";
            return Err(ApiError::bad("text", message));
        }
        if self.part == Some(StagePart::Step) {
            let hint = "give the whole text of the stage as `answer`";
            return Err(ApiError::bad("part", format!("`part` cannot be a step here\nhint: {hint}")));
        }
        Ok(())
    }
}

/// What is kept of it with the new trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Kept {
    #[serde(flatten)]
    parent: Parent,
    text: Option<String>,
    /// The stage whose response a decision took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    choose: Option<u32>,
    /// The seed of the first run: the calls that come again are the same.
    seed: u64,
}

/// What a stored request was run again from.
pub(crate) fn parent_of(request: &Value) -> Option<Parent> {
    serde_json::from_value::<Kept>(request.get(FIELD)?.clone()).ok().map(|kept| kept.parent)
}

/// A stored request, and what its trace was run again from itself.
struct Stored {
    entry: TraceEntry,
    trace: Trace,
    calls: Vec<Call>,
    /// The request as it is kept with the trace, without the field of an earlier rerun.
    kept: Map<String, Value>,
    /// The same without what belongs to no model: what a Responses request was before it became a chat, and the path.
    fields: Map<String, Value>,
    path: Option<String>,
    before: Option<Kept>,
}

impl Stored {
    async fn read(state: &State, caller: &Caller, id: &str) -> Result<Self, ApiError> {
        let entry = own_trace(state, caller, id).await?;
        let trace = trace_of(&entry).map_err(|error| {
            ApiError::new(hyper::StatusCode::INTERNAL_SERVER_ERROR, "trace_damaged", error.to_string())
        })?;
        let calls = entry.trace.as_deref().map(calls_of).unwrap_or_default();
        let mut kept: Map<String, Value> = serde_json::from_slice(&entry.request).map_err(|error| {
            ApiError::bad("", format!("the request of trace `{id}` cannot be made again: {error}"))
        })?;
        let before = kept.remove(FIELD).and_then(|kept| serde_json::from_value(kept).ok());
        let mut fields = kept.clone();
        fields.remove(crate::responses::ORIGINAL);
        let path = fields.remove(PATH).and_then(|path| path.as_str().map(str::to_string));
        Ok(Stored { entry, trace, calls, kept, fields, path, before })
    }

    fn id(&self) -> &str {
        &self.entry.summary.id
    }

    fn target(&self, live: &Live) -> Target {
        match self.entry.summary.model.as_str() {
            models::EMBEDDED if live.settings.embedded => Target::Embedded,
            model => Target::Upstream(model.into()),
        }
    }

    /// The model as the client named it.
    fn label(&self) -> String {
        let named = self.fields.get("model").and_then(Value::as_str).filter(|name| !name.is_empty());
        named.unwrap_or(&self.entry.summary.model).to_string()
    }

    /// The request for the new trace, which says what it was made again from.
    fn kept(&self, parent: &Parent, wanted: &RerunRequest, seed: u64) -> Bytes {
        let (text, choose) = (wanted.text.clone(), wanted.choose);
        let mut kept = self.kept.clone();
        kept.insert(FIELD.into(), json!(Kept { parent: parent.clone(), text, choose, seed }));
        Value::Object(kept).to_string().into()
    }

    /// The seed of the first run.
    fn seed(&self) -> u64 {
        let first = || named_seed(&self.fields).unwrap_or_else(|| seed_of(self.id()));
        self.before.as_ref().map_or_else(first, |before| before.seed)
    }
}

/// `POST /v1/traces/{id}/rerun`
pub(crate) async fn rerun(
    state: &Arc<State>,
    caller: Caller,
    headers: HeaderMap,
    id: &str,
    bytes: &[u8],
) -> Result<Reply, ApiError> {
    let (started, created_ms, live) = (Instant::now(), now_ms(), state.live());
    let wanted: RerunRequest = object(bytes)?;
    wanted.check()?;
    let stored = Stored::read(state, &caller, id).await?;
    let Some(node) = stored.trace.nodes.get(wanted.stage as usize) else {
        let message = format!("trace `{id}` has {} stages, from 0", stored.trace.nodes.len());
        return Err(ApiError::not_found(message).param("stage"));
    };
    let is_decision = matches!(node.kind, NodeKind::Decided { .. });
    if wanted.choose.is_some() && !is_decision {
        let hint = "give the number of a decision as `stage`";
        return Err(ApiError::bad("choose", format!("`choose` is what a decision takes\nhint: {hint}")));
    }
    if wanted.question.is_some() && !stored.calls.is_empty() {
        let hint = "ask the recipe that question with `/v1/chat/completions`";
        let message = format!("with another question nothing of trace `{id}` could be kept\nhint: {hint}");
        return Err(ApiError::bad("question", message));
    }
    if stored.calls.is_empty() {
        if let Err(what) = without_calls(&stored.trace, &node.kind) {
            let hint = "any stage can be commented with `/v1/feedback`";
            return Err(ApiError::bad(
                "stage",
                format!("it cannot be run again from there: {what}\nhint: {hint}"),
            ));
        }
        return match wanted.text.is_some() {
            true => rewritten(state, caller, stored, wanted, started, created_ms).await,
            false => asked_again(state, caller, headers, stored, wanted, started, created_ms).await,
        };
    }
    if is_decision {
        return overruled(state, caller, stored, wanted, started, created_ms).await;
    }
    let calls = stored.calls.clone();
    let replay = Replay::new(&stored.trace, calls, wanted.stage, wanted.text.clone()).map_err(|what| {
        let hint = "edit a response, what a critic said, or the last decision; any stage can be commented with `/v1/feedback`";
        ApiError::bad("stage", format!("it cannot be run again from there: {what}\nhint: {hint}"))
    })?;
    let chat = Value::Object(stored.fields.clone()).to_string();
    let peek = Peek::read(chat.as_bytes())?;
    let wish = peek.elenchus.as_ref().map(Wish::read).transpose()?.unwrap_or_default();
    let named = peek.model.as_deref().unwrap_or_default();
    let choice = choose(named, stored.path.as_deref(), peek.optillm_approach.as_deref(), &wish)?;
    let target = stored.target(&live);
    let Some(recipe) = choice.recipe else {
        return Err(ApiError::bad("", format!("the trace `{id}` is that of no recipe")));
    };
    let mut request = ChatRequest::read(chat.as_bytes())?;
    if target == Target::Embedded {
        request.for_embedded()?;
    }
    let serving = serving(&recipe, choice.samples, &wish, &request, &target, &live)?;
    request.for_recipe(&serving)?;
    let cost = Cost::of(&request, Some(&serving)).usage;
    let grant = state.grant(&live, &caller, &target, wish.budget, cost).await?;
    let part = wanted.part.unwrap_or(match node.kind {
        NodeKind::Evaluated { .. } => StagePart::Critique,
        _ => StagePart::Answer,
    });
    let edit = StageEdit { part, text: wanted.text.clone(), step: None };
    let feedback_id = Some(store(state, &caller, id, wanted.stage, Said::Edit(edit)).await?);
    let seed = stored.seed();
    let parent = Parent { trace_id: id.into(), stage: wanted.stage, feedback_id };
    let (bytes, label) = (stored.kept(&parent, &wanted, seed), stored.label());
    let job = Job {
        id: new_id("tr_"),
        caller,
        live,
        target,
        serving,
        request,
        grant,
        bytes,
        created_ms,
        started,
        seed,
        replay: Some((replay, parent)),
    };
    reply(state, job, label, wanted.stream).await
}

/// A request without a recipe once more: as it was, or with another question.
async fn asked_again(
    state: &Arc<State>,
    caller: Caller,
    headers: HeaderMap,
    mut stored: Stored,
    wanted: RerunRequest,
    started: Instant,
    created_ms: u64,
) -> Result<Reply, ApiError> {
    let (id, live) = (stored.id().to_string(), state.live());
    let mut fields = stored.fields.clone();
    for name in ["stream", "stream_options"] {
        fields.remove(name);
    }
    if wanted.stream {
        fields.insert("stream".into(), true.into());
    }
    if let Some(question) = &wanted.question {
        // The kept request says what was asked now.
        for fields in [&mut fields, &mut stored.kept] {
            put_question(fields, question)?;
        }
    }
    let said = match (&wanted.question, &stored.trace.nodes[wanted.stage as usize].kind) {
        (Some(question), _) => Some(Said::Comment(format!("asked again as: {question}"))),
        // What failed was no answer that could be rejected.
        (None, NodeKind::Failed { .. }) => None,
        (None, _) => {
            let part = wanted.part.unwrap_or(StagePart::Answer);
            Some(Said::Edit(StageEdit { part, text: None, step: None }))
        }
    };
    let chat = Bytes::from(Value::Object(fields).to_string());
    let peek = Peek::read(&chat)?;
    let wish = peek.elenchus.as_ref().map(Wish::read).transpose()?.unwrap_or_default();
    let target = stored.target(&live);
    let label = stored.label();
    // Another answer is wanted: the embedded model draws with the seed of the new trace.
    let new = new_id("tr_");
    let seed = named_seed(&stored.fields).unwrap_or_else(|| seed_of(&new));
    let is_chat = stored.trace.strategy == PLAIN;
    let request = match target {
        Target::Embedded => {
            let request = ChatRequest::read(&chat)?;
            request.for_embedded()?;
            Some(request)
        }
        Target::Upstream(_) => None,
    };
    let feedback_id = match said {
        Some(said) => Some(store(state, &caller, &id, wanted.stage, said).await?),
        None => None,
    };
    let parent = Parent { trace_id: id, stage: wanted.stage, feedback_id };
    let kept = stored.kept(&parent, &wanted, seed);
    match (target, request) {
        (Target::Upstream(model), _) => {
            let forward = Forward {
                id: new,
                caller,
                headers,
                live,
                model,
                path: if is_chat { "chat/completions" } else { "completions" },
                recipe: if is_chat { PLAIN } else { "completions" },
                bytes: chat.clone(),
                kept,
                peek: &peek,
                wish: wish.budget,
                created_ms,
                started,
            };
            crate::forward::forward(state, forward).await
        }
        (target, request) => {
            let mut request = request.unwrap_or_default();
            if wanted.question.is_none() {
                // A greedy model would write the same again.
                let asked = request.sampling.get("temperature").and_then(Value::as_f64).unwrap_or(0.0);
                let warm = asked.max(f64::from(ANOTHER_TEMPERATURE));
                request.sampling.insert("temperature".into(), warm.into());
            }
            let cost = Cost::of(&request, None).usage;
            let grant = state.grant(&live, &caller, &target, wish.budget, cost).await?;
            let plain = Plain {
                id: new,
                label,
                caller,
                live,
                request,
                grant,
                bytes: kept,
                created_ms,
                started,
                stream: wanted.stream,
                parent: Some(parent),
            };
            crate::plain::answer(state, plain).await
        }
    }
}

fn named_seed(fields: &Map<String, Value>) -> Option<u64> {
    fields.get("seed").and_then(Value::as_i64).map(|seed| seed as u64)
}

/// Puts another question in the place of the last one: the text of the last message of the user, whose images stay, or the
/// prompt.
///
/// # Errors
/// There is no such place.
fn put_question(fields: &mut Map<String, Value>, question: &str) -> Result<(), ApiError> {
    if let Some(prompt) = fields.get_mut("prompt").filter(|prompt| prompt.is_string()) {
        *prompt = question.into();
        return Ok(());
    }
    let messages = fields.get_mut("messages").and_then(Value::as_array_mut);
    let last = messages.and_then(|all| all.iter_mut().rev().find(|message| message["role"] == "user"));
    let Some(last) = last else {
        let message = "the request has no question that could be another one\nhint: leave `question` out";
        return Err(ApiError::bad("question", message));
    };
    match last.get_mut("content").and_then(Value::as_array_mut) {
        Some(parts) => {
            parts.retain(|part| part["type"] != "text");
            parts.insert(0, json!({"type": "text", "text": question}));
        }
        None => last["content"] = question.into(),
    }
    Ok(())
}

/// An answer without a recipe as a person wrote it; nobody is asked.
async fn rewritten(
    state: &Arc<State>,
    caller: Caller,
    mut stored: Stored,
    wanted: RerunRequest,
    started: Instant,
    created_ms: u64,
) -> Result<Reply, ApiError> {
    let text = wanted.text.clone().unwrap_or_default();
    let part = wanted.part.unwrap_or(StagePart::Answer);
    let edit = StageEdit { part, text: Some(text.clone()), step: None };
    let feedback_id = Some(store(state, &caller, stored.id(), wanted.stage, Said::Edit(edit)).await?);
    let prompt = messages(&stored.entry.request);
    let model = stored.entry.summary.model.clone();
    let node = &mut stored.trace.nodes[wanted.stage as usize];
    match &mut node.kind {
        NodeKind::Generated { completion, .. } => **completion = Completion::text(&text),
        other => {
            let completion = Box::new(Completion::text(&text));
            *other = NodeKind::Generated { role: ACTOR.into(), model, prompt, completion };
        }
    }
    let answer = Completion::text(&text);
    let parent = Parent { trace_id: stored.id().into(), stage: wanted.stage, feedback_id };
    put_down(state, caller, stored, wanted, parent, answer, started, created_ms).await
}

/// The last decision of a recipe, taken by a person; nobody is asked.
async fn overruled(
    state: &Arc<State>,
    caller: Caller,
    mut stored: Stored,
    wanted: RerunRequest,
    started: Instant,
    created_ms: u64,
) -> Result<Reply, ApiError> {
    let refuse = |field: &str, what: String| Err(ApiError::bad(field, what));
    let others = match choices(&stored.trace, wanted.stage) {
        Ok(others) => others,
        Err(what) => {
            let hint =
                "edit a response, or what a critic said; any stage can be commented with `/v1/feedback`";
            return refuse("stage", format!("it cannot be run again from there: {what}\nhint: {hint}"));
        }
    };
    let listed = others.iter().map(|id| id.0.to_string()).collect::<Vec<_>>().join(", ");
    let Some(chosen) = wanted.choose.map(NodeId) else {
        let message =
            format!("a decision has no text of its own\nhint: say what it should take as `choose`: {listed}");
        return refuse("stage", message);
    };
    if stored.fields.get("n").and_then(Value::as_u64).is_some_and(|choices| choices > 1) {
        return refuse(
            "stage",
            "the request wanted several answers, and this decision is that of one\nhint: ask for one".into(),
        );
    }
    let Some(answer) = stored.trace.completion(chosen).filter(|_| others.contains(&chosen)).cloned() else {
        let message = format!(
            "the decision could not have taken stage {}\nhint: `choose` is one of {listed}",
            chosen.0
        );
        return refuse("choose", message);
    };
    let edit = StageEdit { part: StagePart::Answer, text: Some(answer.text.clone()), step: None };
    let feedback_id = Some(store(state, &caller, stored.id(), wanted.stage, Said::Edit(edit)).await?);
    if let NodeKind::Decided { decision, chosen: taken, data } =
        &mut stored.trace.nodes[wanted.stage as usize].kind
    {
        *data = json!({"overruled": {"decision": decision, "chosen": taken}});
        *decision = format!("a person takes stage {}", chosen.0);
        *taken = Some(chosen);
    }
    let parent = Parent { trace_id: stored.id().into(), stage: wanted.stage, feedback_id };
    put_down(state, caller, stored, wanted, parent, answer, started, created_ms).await
}

/// Keeps a trace whose answer a person decided as a new one, and answers with it.
#[expect(clippy::too_many_arguments, reason = "everything that a new trace is made of")]
async fn put_down(
    state: &Arc<State>,
    caller: Caller,
    stored: Stored,
    wanted: RerunRequest,
    parent: Parent,
    answer: Completion,
    started: Instant,
    created_ms: u64,
) -> Result<Reply, ApiError> {
    let (id, label) = (new_id("tr_"), stored.label());
    caller.trace.note(&id);
    let bytes = stored.kept(&parent, &wanted, stored.seed());
    let Stored { entry, mut trace, calls, .. } = stored;
    trace.id.clone_from(&id);
    trace.started_unix_ms = created_ms;
    // All of it was paid for already.
    for node in &mut trace.nodes {
        node.usage = Usage::default();
        if let NodeKind::Generated { completion, .. } = &mut node.kind {
            completion.usage = Usage::default();
        }
    }
    let summary = TraceSummary {
        id: id.clone(),
        created_ms,
        key: caller.name().into(),
        answer: answer.text.clone(),
        confidence: None,
        status: TraceStatus::Answered,
        elapsed_ms: started.elapsed().as_secs_f64() * 1e3,
        usage: Usage::default(),
        ..entry.summary
    };
    let recipe = summary.recipe.clone();
    let stages = views(&trace, &calls);
    let text = serde_json::to_string(&Recorded { trace: &trace, calls, given: None }).ok();
    let entry = TraceEntry { summary, request: bytes.to_vec(), response: None, trace: text };
    let stored = state.keep(entry, None, &caller.trace).await;
    let tool_calls = answer.message.map(|message| message.tool_calls).unwrap_or_default();
    let report = Report {
        trace_id: stored.then(|| id.clone()),
        recipe,
        answer: None,
        confidence: None,
        agreement: None,
        abstained: None,
        parent: Some(parent),
        budget: BudgetReport::default(),
        stages: stages.into_iter().map(|view| view.cut(STAGE_CHARACTERS)).collect(),
    };
    let finish = if tool_calls.is_empty() { "stop" } else { "tool_calls" };
    let choice = ChoiceBody { text: answer.text, tool_calls, finish, logprobs: Value::Null, report: None };
    let finished = Finished { choices: vec![choice], usage: Usage::default(), report };
    Ok(given(finished, &id, created_ms, label, false, wanted.stream))
}

/// The trace, if it is the caller's own or they may read all.
async fn own_trace(state: &State, caller: &Caller, id: &str) -> Result<TraceEntry, ApiError> {
    let wanted = id.to_string();
    let entry = state.archive.read(move |store| store.trace(&wanted)).await?;
    let may = |scope: Scope| {
        caller.key.as_ref().is_none_or(|key| key.scopes.iter().any(|known| known == scope.name()))
    };
    let shown: String = id.chars().take(80).collect();
    let entry = entry
        .filter(|entry| entry.summary.key == caller.name() || may(Scope::Read))
        .ok_or_else(|| ApiError::not_found(format!("there is no trace `{shown}`")).param("id"))?;
    if !may(Scope::Feedback) {
        let message = format!("the key `{}` has no right to `feedback`, and an edit is that", caller.name());
        return Err(ApiError::new(hyper::StatusCode::FORBIDDEN, "missing_scope", message));
    }
    Ok(entry)
}

/// What is said of a stage by running it again.
enum Said {
    Edit(StageEdit),
    Comment(String),
}

/// Keeps what is said as feedback on the stage; gives its identifier.
async fn store(state: &State, caller: &Caller, id: &str, stage: u32, said: Said) -> Result<String, ApiError> {
    let (edit, comment) = match said {
        Said::Edit(edit) => (Some(edit), None),
        Said::Comment(comment) => (None, Some(comment)),
    };
    let mut entry = FeedbackEntry {
        id: String::new(),
        trace_id: id.into(),
        stage: Some(stage),
        reaction: None,
        metric: None,
        score: None,
        comment,
        correction: None,
        edit,
        key: caller.name().into(),
        created_ms: now_ms(),
    };
    // The same edit may be run several times, and is one thing that was said.
    entry.id = format!("fb_{}", entry.content_hash());
    let feedback_id = entry.id.clone();
    match state.archive.write(Write::Feedback(Box::new(entry))).await? {
        Written::Stored => {
            state.metrics.feedback();
            Ok(feedback_id)
        }
        Written::Known => Ok(feedback_id),
        Written::Missing | Written::Conflict => {
            Err(ApiError::not_found(format!("there is no trace `{id}`")).param("id"))
        }
    }
}
