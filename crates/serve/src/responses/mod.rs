//! `/v1/responses`: what plain text and tools need of OpenAI's newer API, over everything that the chat API can ask.
//!
//! A request becomes a chat request ([`request`]), takes the way of all chat requests, and its answer becomes a response
//! ([`reply`]), whole or as events ([`events`]). So recipes, plain models and the embedded one are asked the same way.

mod events;
mod reply;
mod request;

use crate::ApiError;
use crate::answering::final_completion;
use crate::ask::{self, Inbound};
use crate::body::{Body, Reply, json as reply_json};
use crate::chat::{finish_word, usage_body};
use crate::exchange::{answer_of, trace_of};
use crate::keys::Caller;
use crate::state::{State, new_id, now_ms};
use bytes::Bytes;
use elenchus_remember::service::{TraceEntry, TraceStatus};
use elenchus_trace::Message;
use hyper::StatusCode;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use reply::Head;
use request::Asked;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// What stands before the trace's identifier in that of a response.
const PREFIX: &str = "resp_";
/// The field under which a trace keeps the request as it came, beside the chat request that it became.
pub(crate) const ORIGINAL: &str = "responses";

/// Answers a request. `path` is the recipe in the path, where there is one.
pub(crate) async fn respond(
    state: &Arc<State>,
    caller: Caller,
    headers: HeaderMap,
    bytes: Bytes,
    path: Option<&str>,
) -> Result<Reply, ApiError> {
    let created = now_ms() / 1000;
    let asked = Asked::read(&bytes)?;
    let earlier = match asked.previous() {
        None => Vec::new(),
        Some(previous) => conversation(state, &caller, previous).await?,
    };
    let chat = asked.chat(&earlier)?;
    let mut kept = chat.clone();
    kept.insert(ORIGINAL.into(), Value::Object(asked.fields.clone()));
    let id = new_id("tr_");
    let live = state.live();
    let model = asked.model().map(str::to_string).or(live.settings.model.clone());
    let head = Head::new(format!("{PREFIX}{id}"), created, model.unwrap_or_default(), &asked.fields);
    let inbound = Inbound {
        id,
        caller,
        headers,
        bytes: Value::Object(chat).to_string().into(),
        kept: Value::Object(kept).to_string().into(),
        path: path.map(str::to_string),
    };
    let mut reply = ask::chat(state, inbound).await?;
    if !reply.status().is_success() {
        return Ok(reply);
    }
    let (mut parts, body) = std::mem::replace(&mut reply, Reply::new(Body::Full(None))).into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    match body {
        Body::Stream(chat) => {
            let kind = HeaderValue::from_static("text/event-stream; charset=utf-8");
            parts.headers.insert(CONTENT_TYPE, kind);
            Ok(Reply::from_parts(parts, Body::Stream(events::translate(chat, head))))
        }
        Body::Full(bytes) => {
            let mut reply = match reply::of_chat(&head, &bytes.unwrap_or_default()) {
                Ok(response) => reply_json(StatusCode::OK, &response),
                Err(error) => return Err(error),
            };
            for (name, value) in &parts.headers {
                if name != CONTENT_TYPE {
                    reply.headers_mut().insert(name.clone(), value.clone());
                }
            }
            Ok(reply)
        }
    }
}

/// A response that the caller may name again: their own, answered, and asked for to be stored.
async fn stored(state: &State, caller: &Caller, id: &str) -> Result<(TraceEntry, Message), ApiError> {
    let wanted = id.strip_prefix(PREFIX).unwrap_or_default().to_string();
    let entry = state.archive.read(move |store| store.trace(&wanted)).await?;
    entry
        .filter(|entry| entry.summary.key == caller.name() && is_answered(entry))
        .filter(|entry| original(&entry.request).is_some())
        .and_then(|entry| {
            let answer = earlier(&entry)?.pop()?;
            Some((entry, answer))
        })
        .ok_or_else(|| {
            let shown: String = id.chars().take(80).collect();
            let hint = "its `id` stands in the answer; one of another key, or asked for with `store: false`, is none";
            ApiError::not_found(format!("there is no stored response `{shown}`\nhint: {hint}"))
        })
}

/// The request as it came, where it was one for a response.
fn original(request: &[u8]) -> Option<Map<String, Value>> {
    let mut fields: Map<String, Value> = serde_json::from_slice(request).ok()?;
    match fields.remove(ORIGINAL)? {
        Value::Object(original) => Some(original),
        _ => None,
    }
}

/// `GET /v1/responses/{id}`: the response as its trace tells it, without the report of a recipe.
pub(crate) async fn get(state: &State, caller: &Caller, id: &str) -> Result<Reply, ApiError> {
    let (entry, answer) = stored(state, caller, id).await?;
    let summary = &entry.summary;
    let fields = original(&entry.request).unwrap_or_default();
    let model = fields.get("model").and_then(Value::as_str).unwrap_or(&summary.model);
    let head = Head::new(id.to_string(), summary.created_ms / 1000, model.into(), &fields);
    let finish =
        trace_of(&entry).ok().as_ref().and_then(final_completion).map(|written| written.finish.clone());
    let chat = json!({
        "choices": [{"message": answer, "finish_reason": finish.as_ref().map_or("stop", finish_word)}],
        "usage": usage_body(&summary.usage),
    });
    let mut response = reply::of_chat(&head, chat.to_string().as_bytes())?;
    if response.get("completed_at").is_some() {
        response["completed_at"] = json!((summary.created_ms + summary.elapsed_ms.max(0.0) as u64) / 1000);
    }
    Ok(reply_json(StatusCode::OK, &response))
}

/// `DELETE /v1/responses/{id}`: no later request can name it; what was asked and answered stays in its trace.
pub(crate) async fn delete(state: &State, caller: &Caller, id: &str) -> Result<Reply, ApiError> {
    let (mut entry, _) = stored(state, caller, id).await?;
    let mut fields: Map<String, Value> = serde_json::from_slice(&entry.request).unwrap_or_default();
    fields[ORIGINAL]["store"] = json!(false);
    entry.request = Value::Object(fields).to_string().into_bytes();
    state.archive.keep(entry, None).await?;
    Ok(reply_json(StatusCode::OK, &json!({"id": id, "object": "response", "deleted": true})))
}

/// Whether there is something to go on with.
fn is_answered(entry: &TraceEntry) -> bool {
    matches!(entry.summary.status, TraceStatus::Answered | TraceStatus::Abstained)
}

/// The messages of an earlier response and of what it was said to. Its instructions are not among them: they hold for one
/// response.
async fn conversation(state: &State, caller: &Caller, previous: &str) -> Result<Vec<Message>, ApiError> {
    let refuse = |what: &str| {
        let shown: String = previous.chars().take(80).collect();
        let hint = "send the conversation in `input`, or the identifier of a response that was stored";
        let message = format!("the response `{shown}` {what}\nhint: {hint}");
        Err(ApiError::new(StatusCode::BAD_REQUEST, "previous_response_not_found", message)
            .param("previous_response_id"))
    };
    let Some(id) = previous.strip_prefix(PREFIX).map(str::to_string) else {
        return refuse("is none of this gateway");
    };
    let entry = state.archive.read(move |store| store.trace(&id)).await?;
    // Another's response is as unknown as one that is not there.
    let Some(entry) = entry.filter(|entry| entry.summary.key == caller.name()) else {
        return refuse("is not stored here");
    };
    if !is_answered(&entry) {
        return refuse("has no answer");
    }
    match earlier(&entry) {
        Some(messages) => Ok(messages),
        None => refuse("was asked for not to be stored, or cannot be read"),
    }
}

/// What was said in a trace, the answer last.
fn earlier(entry: &TraceEntry) -> Option<Vec<Message>> {
    #[derive(Deserialize)]
    struct Kept {
        messages: Vec<Message>,
        #[serde(default)]
        responses: Map<String, Value>,
    }
    let Kept { mut messages, responses } = serde_json::from_slice(&entry.request).ok()?;
    if responses.get("store") == Some(&json!(false)) {
        return None;
    }
    if responses.get("instructions").is_some_and(|said| !said.is_null()) && !messages.is_empty() {
        messages.remove(0);
    }
    let trace = trace_of(entry).ok()?;
    messages.push(answer_of(entry, &trace));
    Some(messages)
}
