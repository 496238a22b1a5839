//! `/v1/responses`: what plain text and tools need of OpenAI's newer API, over everything that the chat API can ask.
//!
//! A request becomes a chat request ([`request`]), takes the way of all chat requests, and its answer becomes a response
//! ([`reply`]), whole or as events ([`events`]). So recipes, plain models and the embedded one are asked the same way.

mod events;
mod reply;
mod request;

use crate::ApiError;
use crate::ask::{self, Inbound};
use crate::body::{Body, Reply, json as reply_json};
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
    if !matches!(entry.summary.status, TraceStatus::Answered | TraceStatus::Abstained) {
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
