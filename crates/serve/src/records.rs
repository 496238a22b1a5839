//! What people say of answers, traces to look at, rows to train on.

use crate::ApiError;
use crate::body::{Reply, full, json as reply_json};
use crate::chat::{ChoiceReport, Parent};
use crate::exchange::trace_of;
use crate::judged::{judged, steps};
use crate::keys::Caller;
use crate::reading::{field, object};
use crate::rerun::parent_of;
use crate::stage::{StageView, views};
use crate::state::{State, new_id, now_ms};
use crate::tape::{calls_of, given_of};
use elenchus_generate::ACTOR;
use elenchus_measure::{LEVEL, wilson as wilson_interval};
use elenchus_remember::RememberError;
use elenchus_remember::service::{
    ExportFormat, FeedbackEntry, Judged, ListedTrace, Reaction, RecipeTotals, ServiceStore, StageEdit,
    StagePart, TraceFilter, TraceStatus, TraceSummary, WRITTEN_PARTS, Write, Written, export_rows,
};
use elenchus_trace::{Node, NodeKind, Trace};
use hyper::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::Arc;

/// Longest text of a person, bytes.
const MOST_TEXT_BYTES: usize = 256 << 10;
/// Traces of a list at most.
const MOST_LISTED: usize = 500;
/// Labelled traces read at once for an export.
const PAGE: usize = 200;

/// What a person says of a trace or of one of its stages. At least one of `reaction`, `score`, `comment`, `correction`
/// and `edit` must be there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FeedbackRequest {
    /// Identifier of this feedback, chosen by who sends it: sent twice, it is stored once. Absent, it is made from the
    /// content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The trace.
    pub trace_id: String,
    /// Number of the stage; absent for the whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<u32>,
    /// Love, up or down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reaction: Option<Reaction>,
    /// What the score measures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
    /// A number; the scale belongs to the metric.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The answer as it should have been.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correction: Option<String>,
    /// The stage rewritten or rejected; needs `stage`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edit: Option<StageEdit>,
}

/// What became of feedback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FeedbackReply {
    /// Its identifier.
    pub id: String,
    /// False when the same was there already.
    pub stored: bool,
}

impl FeedbackRequest {
    fn check(&self) -> Result<(), ApiError> {
        let bad = |field: &str, what: &str| Err(ApiError::bad(field, format!("`{field}` {what}")));
        if self.trace_id.is_empty() {
            return bad("trace_id", "is missing");
        }
        for (name, text) in [
            ("id", &self.id),
            ("metric", &self.metric),
            ("comment", &self.comment),
            ("correction", &self.correction),
        ] {
            let Some(text) = text else { continue };
            if text.trim().is_empty() {
                return bad(name, "is empty");
            }
            let most = if matches!(name, "id" | "metric") { 200 } else { MOST_TEXT_BYTES };
            if text.len() > most {
                return bad(name, &format!("is longer than {most} bytes"));
            }
        }
        if self.score.is_some() != self.metric.is_some() {
            return bad("score", "and `metric` belong together");
        }
        if let Some(edit) = &self.edit {
            if self.stage.is_none() {
                return bad("stage", "is missing: an edit concerns one stage");
            }
            if edit.text.as_ref().is_some_and(|text| text.len() > MOST_TEXT_BYTES) {
                return bad("edit", &format!("is longer than {MOST_TEXT_BYTES} bytes"));
            }
            if edit.step.is_some() != (edit.part == StagePart::Step) {
                return bad("edit", "has a `step` when `part` is `step`, and only then");
            }
        }
        let says = self.reaction.is_some()
            || self.score.is_some()
            || self.comment.is_some()
            || self.correction.is_some()
            || self.edit.is_some();
        if !says {
            return bad("reaction", "is missing, and so are `score`, `comment`, `correction` and `edit`");
        }
        Ok(())
    }
}

/// `POST /v1/feedback`
pub(crate) async fn feedback(state: &Arc<State>, caller: Caller, bytes: &[u8]) -> Result<Reply, ApiError> {
    let fields: Map<String, Value> = object(bytes)?;
    // A list would be taken as the fields of the edit in their order.
    if !matches!(fields.get("edit"), None | Some(Value::Null | Value::Object(_))) {
        return Err(ApiError::bad("edit", "`edit` is an object of `part`, `step` and `text`"));
    }
    let said: FeedbackRequest = field("", Value::Object(fields))?;
    said.check()?;
    if let Some(stage) = said.stage {
        let id = said.trace_id.clone();
        let entry = state.archive.read(move |store| store.trace(&id)).await?;
        let entry = entry.ok_or_else(|| unknown_trace(&said.trace_id))?;
        let trace = trace_of(&entry).ok();
        let nodes = trace.as_ref().map_or(&[][..], |trace| &trace.nodes);
        let Some(node) = nodes.get(stage as usize) else {
            let message = format!("trace `{}` has {} stages, from 0", said.trace_id, nodes.len());
            return Err(ApiError::not_found(message).param("stage"));
        };
        if let (Some(trace), Some(edit)) = (&trace, &said.edit) {
            fits(trace, node, edit)?;
        }
    }
    let mut entry = FeedbackEntry {
        id: String::new(),
        trace_id: said.trace_id,
        stage: said.stage,
        reaction: said.reaction,
        metric: said.metric,
        score: said.score,
        comment: said.comment,
        correction: said.correction,
        edit: said.edit,
        key: caller.name().into(),
        created_ms: now_ms(),
    };
    // A reaction may change and change back: each of those counts, so equal content is the same within a second only.
    entry.id = match said.id {
        Some(id) => id,
        None => format!("fb_{}_{}", entry.created_ms / 1000, entry.content_hash()),
    };
    let (id, trace_id) = (entry.id.clone(), entry.trace_id.clone());
    let stored = match state.archive.write(Write::Feedback(Box::new(entry))).await? {
        Written::Stored => true,
        Written::Known => false,
        Written::Missing => return Err(unknown_trace(&trace_id)),
        Written::Conflict => {
            let message = format!("feedback `{id}` is there and says something else");
            return Err(ApiError::new(StatusCode::CONFLICT, "feedback_conflict", message).param("id"));
        }
    };
    if stored {
        state.metrics.feedback();
    }
    Ok(reply_json(StatusCode::OK, &FeedbackReply { id, stored }))
}

/// Whether a stage has the part that is edited.
fn fits(trace: &Trace, node: &Node, edit: &StageEdit) -> Result<(), ApiError> {
    let refuse = |what: String, hint: &str| Err(ApiError::bad("edit", format!("{what}\nhint: {hint}")));
    let text = match &node.kind {
        NodeKind::Generated { completion, .. } => Some(completion.text.as_str()),
        NodeKind::Evaluated { feedback, .. } => feedback.text.as_deref(),
        _ => None,
    };
    if let Some(step) = edit.step {
        let count = text.map_or(0, |text| steps(trace, text).len());
        if step as usize >= count {
            let hint = "steps are counted from 0; `GET /v1/traces/{id}` shows those of each stage";
            return refuse(format!("the stage has {count} steps, and `step` is {step}"), hint);
        }
    }
    // A rejection names no text.
    if edit.text.is_none() {
        return Ok(());
    }
    match (&node.kind, edit.part) {
        (NodeKind::Evaluated { .. }, StagePart::Answer) => {
            refuse("an evaluator wrote no answer there".into(), "edit its `critique`")
        }
        (NodeKind::Generated { role, .. }, StagePart::Critique) if role == ACTOR => {
            refuse("whoever answers wrote no critique there".into(), "edit the text as `answer`")
        }
        (NodeKind::Decided { .. }, part) if part != StagePart::Answer => refuse(
            "a decision only chooses an answer".into(),
            "edit it as `answer`, or a text that it chose from",
        ),
        (NodeKind::Stage { .. } | NodeKind::Failed { .. }, StagePart::Answer | StagePart::Critique) => {
            refuse("nobody wrote anything there".into(), "edit a stage with a text, within it")
        }
        _ => Ok(()),
    }
}

fn unknown_trace(id: &str) -> ApiError {
    let shown: String = id.chars().take(80).collect();
    ApiError::not_found(format!("there is no trace `{shown}`")).param("trace_id")
}

/// A list of traces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TraceList {
    /// The traces, newest first.
    pub data: Vec<ListedTrace>,
    /// For `before` of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// One trace, whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TraceReply {
    /// What lists show.
    #[serde(flatten)]
    pub summary: TraceSummary,
    /// The request as it came.
    pub request: Value,
    /// What it was run again from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// What was said of the answer when it was given: the extracted answer, a confidence that may be calibrated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub given: Option<ChoiceReport>,
    /// The caller's own last reaction to the whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own_reaction: Option<Reaction>,
    /// Everything that happened.
    pub trace: Trace,
    /// The same for reading.
    pub stages: Vec<StageView>,
    /// What was said of it, oldest first.
    pub feedback: Vec<FeedbackEntry>,
}

/// `GET /v1/traces`
pub(crate) async fn list(state: &Arc<State>, query: &HashMap<String, String>) -> Result<Reply, ApiError> {
    let mut filter = TraceFilter { limit: 50, ..TraceFilter::default() };
    for (name, value) in query {
        // A form sends its empty fields, too.
        let text = || Some(value.clone()).filter(|value| !value.is_empty());
        match name.as_str() {
            "recipe" => filter.recipe = text(),
            "model" => filter.model = text(),
            "key" => filter.key = text(),
            "text" => filter.text = text(),
            "reaction" => {
                if !matches!(value.as_str(), "love" | "up" | "down" | "any" | "none") {
                    return Err(ApiError::bad("reaction", "`reaction` is love, up, down, any or none"));
                }
                filter.reaction = Some(value.clone());
            }
            "status" => {
                let status = TraceStatus::from_name(value).ok_or_else(|| {
                    ApiError::bad("status", "`status` is answered, abstained, failed or cancelled")
                })?;
                filter.status = Some(status);
            }
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=MOST_LISTED).contains(limit));
                filter.limit = limit.ok_or_else(|| {
                    ApiError::bad("limit", format!("`limit` is a whole number from 1 to {MOST_LISTED}"))
                })?;
            }
            "before" => {
                let before =
                    value.split_once('.').and_then(|(ms, id)| Some((ms.parse().ok()?, id.to_string())));
                let hint = "`before` is what `next` of the page before says";
                filter.before = Some(before.ok_or_else(|| ApiError::bad("before", hint))?);
            }
            _ => return Err(ApiError::bad(name, format!("there is no filter `{name}`"))),
        }
    }
    let limit = filter.limit;
    let data = state.archive.read(move |store| store.traces(&filter)).await?;
    let last = data.last().filter(|_| data.len() == limit).map(|last| &last.summary);
    let next = last.map(|last| format!("{}.{}", last.created_ms, last.id));
    Ok(reply_json(StatusCode::OK, &TraceList { data, next }))
}

/// `GET /v1/traces/{id}`
pub(crate) async fn trace(state: &Arc<State>, caller: &Caller, id: &str) -> Result<Reply, ApiError> {
    let wanted = id.to_string();
    let found = state
        .archive
        .read(move |store| {
            let Some(entry) = store.trace(&wanted)? else { return Ok(None) };
            Ok(Some((store.feedback(&wanted)?, entry)))
        })
        .await?;
    let (feedback, entry) = found.ok_or_else(|| unknown_trace(id))?;
    let trace = trace_of(&entry).map_err(|error| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "trace_damaged", error.to_string())
    })?;
    // What was no JSON was refused before it was stored.
    let request = serde_json::from_slice(&entry.request).unwrap_or(Value::Null);
    let calls = entry.trace.as_deref().map(calls_of).unwrap_or_default();
    let own = feedback.iter().rev().filter(|said| said.stage.is_none() && said.key == caller.name());
    let reply = TraceReply {
        own_reaction: own.into_iter().find_map(|said| said.reaction),
        given: entry.trace.as_deref().and_then(given_of),
        stages: views(&trace, &calls),
        parent: parent_of(&request),
        request,
        trace,
        feedback,
        summary: entry.summary,
    };
    Ok(reply_json(StatusCode::OK, &reply))
}

/// Totals of a recipe with the interval of its share of good reactions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TotalsRow {
    /// The counts.
    #[serde(flatten)]
    pub totals: RecipeTotals,
    /// Share of `love` and `up` among the reactions; absent without any.
    pub good: Option<f64>,
    /// Its 95 % interval (Wilson).
    pub good_interval: Option<[f64; 2]>,
}

/// `GET /v1/totals`
pub(crate) async fn totals(state: &Arc<State>, query: &HashMap<String, String>) -> Result<Reply, ApiError> {
    if let Some(name) = query.keys().next() {
        let message = format!("there is no filter `{name}`\nhint: totals are of all traces");
        return Err(ApiError::bad(name, message));
    }
    let totals = state.archive.read(|store| store.totals()).await?;
    let rows: Vec<TotalsRow> = totals
        .into_iter()
        .map(|totals| {
            let (good, all) = (totals.love + totals.up, totals.love + totals.up + totals.down);
            let share = (all > 0).then(|| good as f64 / all as f64);
            let good_interval = share.map(|_| wilson(good, all));
            TotalsRow { totals, good: share, good_interval }
        })
        .collect();
    Ok(reply_json(StatusCode::OK, &json!({"data": rows})))
}

/// `GET /v1/export`
pub(crate) async fn export(state: &Arc<State>, query: &HashMap<String, String>) -> Result<Reply, ApiError> {
    let format = match query.get("format").map_or("sft", String::as_str) {
        "sft" => ExportFormat::Sft,
        "preference" => ExportFormat::Preference,
        "unpaired_preference" => ExportFormat::UnpairedPreference,
        "reward" => ExportFormat::Reward,
        _ => {
            let message = "`format` is sft, preference, unpaired_preference or reward";
            return Err(ApiError::bad("format", message));
        }
    };
    let parquet = match query.get("file").map_or("jsonl", String::as_str) {
        "jsonl" => false,
        "parquet" => true,
        _ => return Err(ApiError::bad("file", "`file` is jsonl or parquet")),
    };
    let parts = match query.get("parts") {
        None => WRITTEN_PARTS.to_vec(),
        Some(text) => parts(text)?,
    };
    let mut wanted = Wanted::default();
    for (name, value) in query {
        match name.as_str() {
            "format" | "file" | "parts" => {}
            "recipe" => wanted.recipe = Some(value.clone()),
            "model" => wanted.model = Some(value.clone()),
            "key" => wanted.key = Some(value.clone()),
            _ => {
                let hint = "there are `format`, `file`, `parts`, `recipe`, `model` and `key`";
                return Err(ApiError::bad(name, format!("there is no filter `{name}`\nhint: {hint}")));
            }
        }
    }
    let bytes = state
        .archive
        .read(move |store| {
            let rows = rows(store, format, &parts, &wanted)?;
            // A Parquet file takes its columns from its rows.
            if parquet && rows.is_empty() { Ok(None) } else { file(&rows, parquet).map(Some) }
        })
        .await?;
    let bytes = bytes.ok_or_else(|| {
        ApiError::not_found("there are no rows of this format yet\nhint: `file=jsonl` gives an empty file")
            .param("format")
    })?;
    Ok(match parquet {
        true => full(StatusCode::OK, "application/vnd.apache.parquet", bytes),
        false => full(StatusCode::OK, "application/x-ndjson", bytes),
    })
}

/// Of which traces rows are wanted.
#[derive(Debug, Default)]
struct Wanted {
    recipe: Option<String>,
    model: Option<String>,
    key: Option<String>,
}

impl Wanted {
    fn holds(&self, of: &TraceSummary) -> bool {
        let same = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
        same(&self.recipe, &of.recipe) && same(&self.model, &of.model) && same(&self.key, &of.key)
    }
}

/// Parts of stages, by their names with commas between them.
fn parts(text: &str) -> Result<Vec<StagePart>, ApiError> {
    let one = |name: &str| {
        serde_json::from_value(Value::from(name.trim())).map_err(|_| {
            let hint = "there are answer, step, critique (these three by default), sub_question, evidence";
            ApiError::bad("parts", format!("there is no part `{name}`\nhint: {hint}"))
        })
    };
    text.split(',').map(one).collect()
}

fn rows(
    store: &dyn ServiceStore,
    format: ExportFormat,
    parts: &[StagePart],
    wanted: &Wanted,
) -> Result<Vec<Map<String, Value>>, RememberError> {
    let mut all: Vec<Judged> = Vec::new();
    let mut after = String::new();
    loop {
        let page = store.labelled(&after, PAGE)?;
        match page.last() {
            None => break,
            Some(last) => after.clone_from(&last.trace.summary.id),
        }
        // Only what was spoken of is kept in memory.
        for item in page.into_iter().filter(|item| wanted.holds(&item.trace.summary)) {
            all.push(judged(item)?);
        }
    }
    export_rows(format, &all, parts)
}

fn file(rows: &[Map<String, Value>], parquet: bool) -> Result<Vec<u8>, RememberError> {
    if !parquet {
        let mut bytes = Vec::new();
        for row in rows {
            bytes.extend_from_slice(Value::Object(row.clone()).to_string().as_bytes());
            bytes.push(b'\n');
        }
        return Ok(bytes);
    }
    // The writer of Parquet writes files.
    let path = std::env::temp_dir().join(format!("{}.parquet", new_id("elenchus-export-")));
    let written =
        elenchus_remember::data::write_rows(&path, rows).and_then(|()| elenchus_remember::fs::read(&path));
    // A file that is not there needs no removal, and one that stays is only a temporary one.
    let _ = elenchus_remember::fs::remove_file(&path);
    written
}

fn wilson(good: u64, all: u64) -> [f64; 2] {
    match wilson_interval(good as usize, all as usize, LEVEL) {
        Ok(interval) => [interval.low, interval.high],
        Err(_) => [0.0, 1.0],
    }
}
