//! Spans: where a request stands in the caller's trace, and what is said of it and of its model calls.

use crate::pass::TRACE_HEADER;
use crate::state::now_ms;
use elenchus_generate::TraceContext;
use elenchus_recipe::models;
use elenchus_remember::service::{TraceStatus, TraceSummary};
use elenchus_trace::{FinishReason, Node, NodeKind, Trace, Usage};
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderValue};
use rand::RngExt;
use serde_json::{Value, json};
use std::time::Duration;

/// The numbers that OTLP gives to kinds of spans.
const INTERNAL: u8 = 1;
const SERVER: u8 = 2;
const CLIENT: u8 = 3;
/// The number of the status `ERROR`.
const ERROR: u8 = 2;
/// Most spans of one request; a search may make thousands of calls.
const MOST_CALLS: usize = 512;

/// The span of a request and its place in the trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub trace: u128,
    pub span: u64,
    pub parent: Option<u64>,
    pub sampled: bool,
    state: Option<HeaderValue>,
}

fn new_span() -> u64 {
    rand::rng().random_range(1..=u64::MAX)
}

/// Trace, span and flags of a `traceparent`: `00-<32 hex>-<16 hex>-<2 hex>`; versions to come may have more behind.
fn read_parent(text: &str) -> Option<(u128, u64, u8)> {
    let mut parts = text.split('-');
    let mut hex = |digits: usize| {
        let part = parts.next()?;
        let right = part.len() == digits && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        right.then_some(part)
    };
    let (version, trace, span, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
    if version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let (trace, span) = (u128::from_str_radix(trace, 16).ok()?, u64::from_str_radix(span, 16).ok()?);
    (trace != 0 && span != 0).then_some((trace, span, u8::from_str_radix(flags, 16).ok()?))
}

impl Link {
    /// A child of the span that the caller names; without one, the first of a trace.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut named = headers.get_all("traceparent").iter();
        let parent = named
            .next()
            .filter(|_| named.next().is_none())
            .and_then(|value| read_parent(value.to_str().ok()?));
        let state = headers.get("tracestate").filter(|_| parent.is_some()).cloned();
        match parent {
            Some((trace, parent, flags)) => {
                Link { trace, span: new_span(), parent: Some(parent), sampled: flags & 1 == 1, state }
            }
            None => Link {
                trace: rand::rng().random_range(1..=u128::MAX),
                span: new_span(),
                parent: None,
                sampled: true,
                state: None,
            },
        }
    }

    /// The headers of calls that are made for this request.
    pub fn headers(&self) -> TraceContext {
        let parent = format!("00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled));
        TraceContext { traceparent: HeaderValue::try_from(parent).ok(), tracestate: self.state.clone() }
    }
}

/// What calls for a request carry: our own span where one is recorded, else what the caller sent.
pub(crate) fn outgoing(link: Option<&Link>, headers: &HeaderMap) -> TraceContext {
    match link {
        Some(link) => link.headers(),
        None => TraceContext {
            traceparent: headers.get("traceparent").cloned(),
            tracestate: headers.get("tracestate").cloned(),
        },
    }
}

/// A span on its way out.
#[derive(Debug)]
pub(crate) struct Span {
    trace: u128,
    span: u64,
    parent: Option<u64>,
    name: String,
    kind: u8,
    start_ns: u128,
    end_ns: u128,
    attributes: Vec<(&'static str, Value)>,
    /// Words of the error, where it failed.
    error: Option<String>,
}

/// A value as OTLP writes it.
fn written(value: &Value) -> Value {
    match value {
        Value::Bool(value) => json!({"boolValue": value}),
        // Whole numbers of 64 bits are text in JSON.
        Value::Number(value) if value.is_f64() => json!({"doubleValue": value}),
        Value::Number(value) => json!({"intValue": value.to_string()}),
        Value::Array(values) => {
            json!({"arrayValue": {"values": values.iter().map(written).collect::<Vec<_>>()}})
        }
        Value::String(text) => json!({"stringValue": text}),
        other => json!({"stringValue": other.to_string()}),
    }
}

/// One attribute as OTLP writes it.
pub(super) fn attribute(name: &str, value: &Value) -> Value {
    json!({"key": name, "value": written(value)})
}

impl Span {
    /// As OTLP writes it in JSON.
    pub fn written(&self) -> Value {
        let attributes: Vec<Value> =
            self.attributes.iter().map(|(name, value)| attribute(name, value)).collect();
        let mut span = json!({
            "traceId": format!("{:032x}", self.trace),
            "spanId": format!("{:016x}", self.span),
            "name": self.name,
            "kind": self.kind,
            "startTimeUnixNano": self.start_ns.to_string(),
            "endTimeUnixNano": self.end_ns.to_string(),
            "attributes": attributes,
        });
        if let Some(parent) = self.parent {
            span["parentSpanId"] = format!("{parent:016x}").into();
        }
        if let Some(error) = &self.error {
            span["status"] = json!({"code": ERROR, "message": error});
        }
        span
    }
}

fn nanoseconds(ms: f64) -> u128 {
    (ms.max(0.0) * 1e6) as u128
}

/// The span of a request, ending now.
pub(super) fn request(link: &Link, method: &str, route: &str, status: StatusCode, took: Duration) -> Span {
    let end_ns = u128::from(now_ms()) * 1_000_000;
    let mut attributes = vec![
        ("http.request.method", json!(method)),
        ("http.route", json!(route)),
        ("url.scheme", json!("http")),
        ("http.response.status_code", json!(status.as_u16())),
    ];
    // What a client did wrong is no error of the server.
    let error = status.is_server_error().then(|| status.canonical_reason().unwrap_or("error").to_string());
    if error.is_some() {
        attributes.push(("error.type", json!(status.as_str())));
    }
    Span {
        trace: link.trace,
        span: link.span,
        parent: link.parent,
        name: format!("{method} {route}"),
        kind: SERVER,
        start_ns: end_ns.saturating_sub(took.as_nanos()),
        end_ns,
        attributes,
        error,
    }
}

fn provider(model: &str) -> &'static str {
    // Every upstream speaks OpenAI's API; whose model answers behind it is not known here.
    if model == models::EMBEDDED { "elenchus" } else { "openai" }
}

fn used(attributes: &mut Vec<(&'static str, Value)>, usage: &Usage) {
    attributes.push(("gen_ai.usage.input_tokens", json!(usage.prompt_tokens)));
    attributes.push(("gen_ai.usage.output_tokens", json!(usage.completion_tokens)));
}

fn finish(reason: &FinishReason) -> Value {
    json!(crate::chat::finish_word(reason))
}

/// What was done for a request: one span for a request that was passed on, else one for the recipe and one for each of
/// its model calls.
pub(super) fn calls(link: &Link, summary: &TraceSummary, trace: Option<&Trace>) -> Vec<Span> {
    let start_ns = u128::from(summary.created_ms) * 1_000_000;
    let failed = match summary.status {
        TraceStatus::Failed => Some("failed"),
        TraceStatus::Cancelled => Some("cancelled"),
        TraceStatus::Answered | TraceStatus::Abstained => None,
    };
    let operation = match (trace, summary.recipe.as_str()) {
        (Some(_), recipe) if recipe != crate::choose::PLAIN => "invoke_agent",
        (_, "embeddings") => "embeddings",
        (_, "completions") => "text_completion",
        _ => "chat",
    };
    let is_recipe = operation == "invoke_agent";
    let mut attributes = vec![
        ("gen_ai.operation.name", json!(operation)),
        ("gen_ai.provider.name", json!(provider(&summary.model))),
        ("gen_ai.request.model", json!(summary.model)),
        ("elenchus.trace_id", json!(summary.id)),
        ("elenchus.recipe", json!(summary.recipe)),
        ("elenchus.status", json!(summary.status.name())),
    ];
    if is_recipe {
        attributes.push(("gen_ai.agent.name", json!(summary.recipe)));
    }
    if let Some(confidence) = summary.confidence {
        attributes.push(("elenchus.confidence", json!(confidence)));
    }
    if summary.usage.money > 0.0 {
        attributes.push(("elenchus.money", json!(summary.usage.money)));
    }
    used(&mut attributes, &summary.usage);
    if let Some(word) = failed {
        attributes.push(("error.type", json!(word)));
    }
    let whole = Span {
        trace: link.trace,
        span: new_span(),
        parent: Some(link.span),
        name: format!("{operation} {}", if is_recipe { &summary.recipe } else { &summary.model }),
        kind: if is_recipe { INTERNAL } else { CLIENT },
        start_ns,
        end_ns: start_ns + nanoseconds(summary.elapsed_ms),
        attributes,
        // The words of an error may quote what was asked; they are in the log and in the store.
        error: failed.map(|word| format!("{word}; {TRACE_HEADER}: {}", summary.id)),
    };
    let mut spans = vec![whole];
    let Some(trace) = trace.filter(|_| is_recipe) else { return spans };
    let parent = spans[0].span;
    for node in &trace.nodes {
        if let Some(span) = further_sample(spans.last_mut(), node) {
            used_again(span, node);
        } else if let Some(call) = call(node, summary, start_ns)
            && spans.len() <= MOST_CALLS
        {
            spans.push(Span { trace: link.trace, parent: Some(parent), ..call });
        }
    }
    spans
}

/// The span of the call that also drew this sample: its tokens are booked with each sample, the call with the first.
fn further_sample<'a>(last: Option<&'a mut Span>, node: &Node) -> Option<&'a mut Span> {
    let drawn = matches!(node.kind, NodeKind::Generated { .. }) && node.usage.calls == 0;
    last.filter(|span| drawn && span.kind == CLIENT)
}

fn used_again(span: &mut Span, node: &Node) {
    let NodeKind::Generated { completion, .. } = &node.kind else { return };
    for (name, value) in &mut span.attributes {
        let more = match *name {
            "gen_ai.usage.input_tokens" => node.usage.prompt_tokens,
            "gen_ai.usage.output_tokens" => node.usage.completion_tokens,
            "gen_ai.request.choice.count" => 1,
            "gen_ai.response.finish_reasons" => {
                if let Some(reasons) = value.as_array_mut() {
                    reasons.push(finish(&completion.finish));
                }
                continue;
            }
            _ => continue,
        };
        *value = json!(value.as_u64().unwrap_or(0) + more);
    }
    let end = nanoseconds(node.elapsed_ms) + span.start_ns;
    span.end_ns = span.end_ns.max(end);
}

/// The span of a node that is a model call.
fn call(node: &Node, summary: &TraceSummary, begun_ns: u128) -> Option<Span> {
    let (model, mut attributes, error) = match &node.kind {
        NodeKind::Generated { role, model, completion, .. } => {
            let attributes = vec![
                ("elenchus.role", json!(role)),
                ("gen_ai.request.choice.count", json!(1)),
                ("gen_ai.response.finish_reasons", json!([finish(&completion.finish)])),
            ];
            (model.as_str(), attributes, None)
        }
        NodeKind::Evaluated { feedback, .. } if node.usage.calls > 0 => {
            (summary.model.as_str(), vec![("elenchus.evaluator", json!(feedback.evaluator))], None)
        }
        NodeKind::Failed { .. } => {
            (summary.model.as_str(), vec![("error.type", json!("failed"))], Some("failed".to_string()))
        }
        _ => return None,
    };
    attributes.push(("gen_ai.operation.name", json!("chat")));
    attributes.push(("gen_ai.provider.name", json!(provider(model))));
    attributes.push(("gen_ai.request.model", json!(model)));
    used(&mut attributes, &node.usage);
    let start_ns = begun_ns + nanoseconds(node.started_ms);
    Some(Span {
        trace: 0,
        span: new_span(),
        parent: None,
        name: format!("chat {model}"),
        kind: CLIENT,
        start_ns,
        end_ns: start_ns + nanoseconds(node.elapsed_ms),
        attributes,
        error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_strictly_and_handed_on() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", HeaderValue::from_static(good));
        headers.insert("tracestate", HeaderValue::from_static("a=1"));
        let link = Link::of(&headers);
        assert_eq!((link.parent, link.sampled), (Some(0xb7ad_6b71_6920_3331), true));
        let on = link.headers();
        let text = on.traceparent.unwrap().to_str().unwrap().to_string();
        assert!(text.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && text.ends_with("-01"), "{text}");
        assert!(!text.contains("b7ad6b7169203331"), "the parent is ours now");
        assert_eq!(on.tracestate.unwrap(), "a=1");
        for wrong in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "00-0af7651916cd43dd8448eb211c80319c-+7ad6b7169203331-01",
        ] {
            assert_eq!(read_parent(wrong), None, "{wrong}");
        }
        assert!(read_parent("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-later").is_some());
        headers.append("traceparent", HeaderValue::from_static(good));
        assert_eq!(Link::of(&headers).parent, None, "two are none");
    }

    #[test]
    fn values_are_written_as_otlp_wants_them() {
        assert_eq!(written(&json!(7)), json!({"intValue": "7"}));
        assert_eq!(written(&json!(0.5)), json!({"doubleValue": 0.5}));
        assert_eq!(written(&json!(["a"])), json!({"arrayValue": {"values": [{"stringValue": "a"}]}}));
    }
}
