//! A chat answer as a response.

use crate::ApiError;
use crate::state::now_ms;
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// What a response says of its request; the same in every event of a stream.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub id: String,
    created: u64,
    pub model: String,
    /// Fields of the request that a response repeats, with what holds where they were left out.
    echo: Map<String, Value>,
}

/// One thing that was written.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Output {
    pub text: String,
    pub refusal: String,
    /// In OpenAI's form of a chat.
    pub logprobs: Vec<Value>,
    pub calls: Vec<Call>,
    /// Whether there is a message: also an empty one, where nothing else is there.
    pub speaks: bool,
}

/// A function to call.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Call {
    pub call_id: String,
    pub name: String,
    pub arguments: String,
}

impl Head {
    pub fn new(id: String, created: u64, model: String, request: &Map<String, Value>) -> Self {
        let or = |name: &str, otherwise: Value| request.get(name).cloned().unwrap_or(otherwise);
        let tools: Vec<Value> = or("tools", json!([]))
            .as_array()
            .into_iter()
            .flatten()
            .cloned()
            .map(|mut tool| {
                for field in ["parameters", "strict"] {
                    if tool.get(field).is_none() {
                        tool[field] = Value::Null;
                    }
                }
                tool
            })
            .collect();
        let mut echo = Map::new();
        let mut put = |name: &str, value: Value| echo.insert(name.into(), value);
        for name in ["instructions", "max_output_tokens", "max_tool_calls", "previous_response_id"] {
            put(name, or(name, Value::Null));
        }
        put("parallel_tool_calls", or("parallel_tool_calls", json!(true)));
        put("reasoning", or("reasoning", json!({"effort": null, "summary": null})));
        put("store", or("store", json!(true)));
        put("temperature", or("temperature", Value::Null));
        put("top_p", or("top_p", Value::Null));
        let mut text = or("text", json!({}));
        if text.get("format").is_none_or(Value::is_null) {
            text["format"] = json!({"type": "text"});
        }
        put("text", text);
        put("tool_choice", or("tool_choice", json!("auto")));
        put("tools", Value::Array(tools));
        put("truncation", or("truncation", json!("disabled")));
        put("metadata", or("metadata", json!({})));
        for name in ["user", "top_logprobs", "service_tier", "safety_identifier", "prompt_cache_key"] {
            if let Some(value) = request.get(name) {
                put(name, value.clone());
            }
        }
        Head { id, created, model, echo }
    }

    /// Identifiers of the items: those of the response behind another prefix.
    pub fn message_id(&self) -> String {
        self.id.replacen(super::PREFIX, "msg_", 1)
    }

    pub fn call_id(&self, index: usize) -> String {
        format!("{}_{index}", self.id.replacen(super::PREFIX, "fc_", 1))
    }

    /// The response with this status and these items.
    pub fn response(&self, status: &str, output: Vec<Value>) -> Value {
        let mut response = json!({
            "id": self.id, "object": "response", "created_at": self.created, "status": status, "error": null,
            "incomplete_details": null, "model": self.model, "output": output,
        });
        if let Some(fields) = response.as_object_mut() {
            fields.extend(self.echo.clone());
        }
        response
    }

    /// The response at its end.
    pub fn finished(&self, output: &Output, end: &End) -> Value {
        let reason = match end.finish.as_deref() {
            Some("length") => Some("max_output_tokens"),
            Some("content_filter") => Some("content_filter"),
            _ => None,
        };
        let status = if reason.is_some() { "incomplete" } else { "completed" };
        let mut response = self.response(status, output.items(self, status));
        match reason {
            Some(reason) => response["incomplete_details"] = json!({"reason": reason}),
            None => response["completed_at"] = json!(now_ms() / 1000),
        }
        // Absent where the server does not count.
        if let Some(counted) = &end.usage {
            response["usage"] = usage(counted);
        }
        if let Some(report) = &end.report {
            response["elenchus"] = report.clone();
        }
        response
    }

    /// The response that failed in the middle.
    pub fn failed(&self, output: &Output, error: &Value) -> Value {
        let mut response = self.response("failed", output.items(self, "incomplete"));
        let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default().to_string();
        let code = match text("type").as_str() {
            "insufficient_quota" | "rate_limit_error" => "rate_limit_exceeded",
            "invalid_request_error" => "invalid_prompt",
            _ => "server_error",
        };
        response["error"] = json!({"code": code, "message": text("message")});
        response
    }
}

/// What is known at the end of an answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct End {
    pub finish: Option<String>,
    /// As a chat counts.
    pub usage: Option<Value>,
    /// The field `elenchus`.
    pub report: Option<Value>,
}

/// Usage of a chat in the words of a response.
fn usage(chat: &Value) -> Value {
    let count = |pointer: &str| chat.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    json!({
        "input_tokens": count("/prompt_tokens"),
        "input_tokens_details": {
            "cached_tokens": count("/prompt_tokens_details/cached_tokens"), "cache_write_tokens": 0,
        },
        "output_tokens": count("/completion_tokens"),
        "output_tokens_details": {
            "reasoning_tokens": count("/completion_tokens_details/reasoning_tokens"),
        },
        "total_tokens": count("/prompt_tokens") + count("/completion_tokens"),
    })
}

/// Log-probabilities of a chat with the bytes that a response must have.
pub(crate) fn logprobs(chat: &[Value]) -> Vec<Value> {
    let one = |entry: &Value| {
        let token = entry.get("token").and_then(Value::as_str).unwrap_or_default();
        let bytes = entry.get("bytes").filter(|bytes| bytes.is_array()).cloned();
        let logprob = entry.get("logprob").cloned().unwrap_or(json!(0.0));
        json!({"token": token, "logprob": logprob, "bytes": bytes.unwrap_or_else(|| json!(token.as_bytes()))})
    };
    let with_top = |entry: &Value| {
        let mut made = one(entry);
        let top = entry.get("top_logprobs").and_then(Value::as_array);
        made["top_logprobs"] = top.into_iter().flatten().map(one).collect();
        made
    };
    chat.iter().map(with_top).collect()
}

impl Output {
    /// The parts of the message.
    pub fn content(&self) -> Vec<Value> {
        let mut content = Vec::new();
        if !self.text.is_empty() || self.refusal.is_empty() {
            content.push(json!({
                "type": "output_text", "text": self.text, "annotations": [], "logprobs": logprobs(&self.logprobs),
            }));
        }
        if !self.refusal.is_empty() {
            content.push(json!({"type": "refusal", "refusal": self.refusal}));
        }
        content
    }

    pub fn message(&self, head: &Head, status: &str) -> Value {
        json!({
            "type": "message", "id": head.message_id(), "status": status, "role": "assistant",
            "content": self.content(),
        })
    }

    /// Everything, in order.
    pub fn items(&self, head: &Head, status: &str) -> Vec<Value> {
        let message = self.speaks.then(|| self.message(head, status));
        let calls = self.calls.iter().enumerate().map(|(index, call)| call.item(head, index, status));
        message.into_iter().chain(calls).collect()
    }
}

impl Call {
    pub fn item(&self, head: &Head, index: usize, status: &str) -> Value {
        json!({
            "type": "function_call", "id": head.call_id(index), "call_id": self.call_id, "name": self.name,
            "arguments": self.arguments, "status": status,
        })
    }
}

#[derive(Deserialize)]
struct Chat {
    #[serde(default)]
    model: Option<String>,
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Value>,
    #[serde(default)]
    elenchus: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    message: ChatMessage,
    #[serde(default)]
    finish_reason: Option<String>,
    #[serde(default)]
    logprobs: Option<Logprobs>,
}

#[derive(Deserialize)]
struct ChatMessage {
    #[serde(default)]
    content: Option<elenchus_trace::Content>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<elenchus_trace::ToolCall>>,
}

#[derive(Deserialize)]
struct Logprobs {
    #[serde(default)]
    content: Option<Vec<Value>>,
}

/// The response that a whole chat answer is.
///
/// # Errors
/// It is no chat answer.
pub(crate) fn of_chat(head: &Head, bytes: &[u8]) -> Result<Value, ApiError> {
    let wrong = |what: String| {
        let message = format!("the upstream answers with something else than a chat completion: {what}");
        ApiError::new(StatusCode::BAD_GATEWAY, "upstream_failed", message)
    };
    let chat: Chat = serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
    let choice = chat.choices.into_iter().next().ok_or_else(|| wrong("it has no choice".into()))?;
    let mut output = Output {
        text: choice.message.content.map(|content| content.text()).unwrap_or_default(),
        refusal: choice.message.refusal.unwrap_or_default(),
        logprobs: choice.logprobs.and_then(|logprobs| logprobs.content).unwrap_or_default(),
        ..Output::default()
    };
    let calls = choice.message.tool_calls.unwrap_or_default();
    output.calls = calls
        .into_iter()
        .map(|call| Call { call_id: call.id, name: call.function.name, arguments: call.function.arguments })
        .collect();
    output.speaks = !output.text.is_empty() || !output.refusal.is_empty() || output.calls.is_empty();
    let end = End { finish: choice.finish_reason, usage: chat.usage, report: chat.elenchus };
    let head = Head { model: chat.model.unwrap_or_else(|| head.model.clone()), ..head.clone() };
    Ok(head.finished(&output, &end))
}
