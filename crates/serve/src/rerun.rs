//! A recipe run again from one of its stages, with that stage as a person wants it.

use crate::ApiError;
use crate::answering::{Job, seed_of};
use crate::ask::{PATH, reply, serving};
use crate::body::Reply;
use crate::catalogue::Cost;
use crate::chat::{ChatRequest, Parent, Peek};
use crate::choose::{Wish, choose};
use crate::exchange::trace_of;
use crate::keys::{Caller, Scope};
use crate::state::{State, Target, new_id, now_ms};
use crate::tape::{Replay, calls_of};
use elenchus_recipe::models;
use elenchus_remember::service::{FeedbackEntry, StageEdit, StagePart, TraceEntry, Write, Written};
use elenchus_trace::{NodeKind, Trace};
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
    /// Number of the stage: a text that a model wrote, or a critique.
    pub stage: u32,
    /// Its text; absent, the stage is rejected, and the model writes another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// What the edit is stored as; absent, `critique` for what an evaluator said, else `answer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<StagePart>,
    /// Whether the answer is streamed, as a chat's.
    #[serde(default)]
    pub stream: bool,
}

/// What is kept of it with the new trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Kept {
    #[serde(flatten)]
    parent: Parent,
    text: Option<String>,
    /// The seed of the first run: the calls that come again are the same.
    seed: u64,
}

/// What a stored request was run again from.
pub(crate) fn parent_of(request: &Value) -> Option<Parent> {
    serde_json::from_value::<Kept>(request.get(FIELD)?.clone()).ok().map(|kept| kept.parent)
}

/// `POST /v1/traces/{id}/rerun`
pub(crate) async fn rerun(
    state: &Arc<State>,
    caller: Caller,
    id: &str,
    bytes: &[u8],
) -> Result<Reply, ApiError> {
    let (started, created_ms, live) = (Instant::now(), now_ms(), state.live());
    let wanted: RerunRequest = serde_json::from_slice(bytes)
        .map_err(|error| ApiError::bad("", format!("the request is none to run a stage again: {error}")))?;
    if wanted.text.as_ref().is_some_and(|text| text.len() > MOST_TEXT_BYTES) {
        return Err(ApiError::bad("text", format!("`text` is longer than {MOST_TEXT_BYTES} bytes")));
    }
    if wanted.part == Some(StagePart::Step) {
        let hint = "give the whole text of the stage as `answer`";
        return Err(ApiError::bad("part", format!("`part` cannot be a step here\nhint: {hint}")));
    }
    let entry = own_trace(state, &caller, id).await?;
    let stored = entry.trace.as_deref().map(calls_of).unwrap_or_default();
    if stored.is_empty() {
        let hint = "ask with a recipe; answers that were passed on, and traces from before calls were kept, have none";
        return Err(ApiError::bad("", format!("the trace `{id}` holds no calls to run again\nhint: {hint}")));
    }
    let trace = trace_of(&entry).map_err(|error| {
        ApiError::new(hyper::StatusCode::INTERNAL_SERVER_ERROR, "trace_damaged", error.to_string())
    })?;
    if wanted.stage as usize >= trace.nodes.len() {
        let message = format!("trace `{id}` has {} stages, from 0", trace.nodes.len());
        return Err(ApiError::not_found(message).param("stage"));
    }
    let replay = Replay::new(&trace, stored, wanted.stage, wanted.text.clone()).map_err(|what| {
        let hint = "edit a response, or what a critic said; any stage can be commented with `/v1/feedback`";
        ApiError::bad("stage", format!("it cannot be run again from there: {what}\nhint: {hint}"))
    })?;
    let mut fields: Map<String, Value> = serde_json::from_slice(&entry.request)
        .map_err(|error| ApiError::bad("", format!("the request of trace `{id}` is no chat: {error}")))?;
    let before: Option<Kept> = fields.remove(FIELD).and_then(|kept| serde_json::from_value(kept).ok());
    let mut kept = fields.clone();
    // What a Responses request was before it became a chat, and the path that it took, belong to no model.
    fields.remove(crate::responses::ORIGINAL);
    let path = fields.remove(PATH).and_then(|path| path.as_str().map(str::to_string));
    let chat = Value::Object(fields).to_string();
    let peek = Peek::read(chat.as_bytes())?;
    let wish = peek.elenchus.as_ref().map(Wish::read).transpose()?.unwrap_or_default();
    let named = peek.model.as_deref().unwrap_or_default();
    let approach = peek.optillm_approach.as_deref();
    let choice = choose(named, path.as_deref(), approach, &wish)?;
    let target = match entry.summary.model.as_str() {
        models::EMBEDDED if live.settings.embedded => Target::Embedded,
        model => Target::Upstream(model.into()),
    };
    let Some(recipe) = choice.recipe else {
        return Err(ApiError::bad("", format!("the trace `{id}` is that of no recipe")));
    };
    let mut request = ChatRequest::read(chat.as_bytes())?;
    if target == Target::Embedded {
        request.for_embedded()?;
    }
    let serving = serving(&recipe, choice.samples, &wish, &request, &target)?;
    request.for_recipe(&serving)?;
    let cost = Cost::of(&request, Some(&serving)).usage;
    let grant = state.grant(&live, &caller, &target, wish.budget, cost).await?;
    let feedback_id = store_edit(state, &caller, id, &trace, &wanted).await?;
    let seed = before.map_or_else(|| request.seed.unwrap_or_else(|| seed_of(id)), |before| before.seed);
    let parent = Parent { trace_id: id.into(), stage: wanted.stage, feedback_id };
    kept.insert(FIELD.into(), json!(Kept { parent: parent.clone(), text: wanted.text.clone(), seed }));
    let label = if named.is_empty() { target.model().to_string() } else { named.to_string() };
    let job = Job {
        id: new_id("tr_"),
        caller,
        live,
        target,
        serving,
        request,
        grant,
        bytes: Value::Object(kept).to_string().into(),
        created_ms,
        started,
        seed,
        replay: Some((replay, parent)),
    };
    reply(state, job, label, wanted.stream).await
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

/// Keeps the edit as feedback on the stage; gives its identifier.
async fn store_edit(
    state: &State,
    caller: &Caller,
    id: &str,
    trace: &Trace,
    wanted: &RerunRequest,
) -> Result<String, ApiError> {
    let kind = trace.nodes.get(wanted.stage as usize).map(|node| &node.kind);
    let part = wanted.part.unwrap_or(match kind {
        Some(NodeKind::Evaluated { .. }) => StagePart::Critique,
        _ => StagePart::Answer,
    });
    let mut entry = FeedbackEntry {
        id: String::new(),
        trace_id: id.into(),
        stage: Some(wanted.stage),
        reaction: None,
        metric: None,
        score: None,
        comment: None,
        correction: None,
        edit: Some(StageEdit { part, text: wanted.text.clone(), step: None }),
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
