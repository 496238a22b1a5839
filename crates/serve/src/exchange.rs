//! What was said in a request that was passed on, read from the bytes that went through.

use crate::answering::final_completion;
use elenchus_remember::service::TraceEntry;
use elenchus_trace::{
    Completion, Content, FinishReason, Message, Node, NodeKind, Problem, ToolCall, Trace, Usage,
};
use serde::Deserialize;
use std::borrow::Cow;

/// What a response says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Said {
    pub text: String,
    pub tool_calls: Vec<ToolCall>,
    pub finish: Option<String>,
    /// As the server counts; `None` when it does not.
    pub usage: Option<(u64, u64)>,
    /// The words of an error.
    pub error: Option<String>,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow, default)]
    choices: Vec<WireChoice<'a>>,
    #[serde(default)]
    usage: Option<WireUsage>,
    #[serde(default)]
    error: Option<WireError>,
}

#[derive(Deserialize)]
struct WireChoice<'a> {
    #[serde(default)]
    index: u64,
    #[serde(default)]
    message: Option<WireMessage>,
    #[serde(default)]
    delta: Option<WireMessage>,
    /// Of `/v1/completions`.
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    finish_reason: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct WireMessage {
    #[serde(default)]
    content: Option<Content>,
    #[serde(default)]
    tool_calls: Option<Vec<serde_json::Value>>,
}

#[derive(Deserialize)]
struct WireUsage {
    #[serde(default, alias = "input_tokens")]
    prompt_tokens: Option<u64>,
    #[serde(default, alias = "output_tokens")]
    completion_tokens: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WireError {
    Object {
        #[serde(default)]
        message: Option<String>,
    },
    Text(String),
}

impl Said {
    fn add(&mut self, wire: Wire<'_>) {
        for choice in wire.choices.into_iter().filter(|choice| choice.index == 0) {
            if let Some(message) = choice.message.or(choice.delta) {
                if let Some(content) = &message.content {
                    self.text.push_str(&content.text());
                }
                for call in message.tool_calls.unwrap_or_default() {
                    self.call(call);
                }
            }
            if let Some(text) = choice.text {
                self.text.push_str(&text);
            }
            if let Some(finish) = choice.finish_reason {
                self.finish = Some(finish.into_owned());
            }
        }
        if let Some(usage) = wire.usage {
            self.usage = Some((usage.prompt_tokens.unwrap_or(0), usage.completion_tokens.unwrap_or(0)));
        }
        self.error = self.error.take().or(match wire.error {
            Some(WireError::Object { message }) => Some(message.unwrap_or_else(|| "an error".into())),
            Some(WireError::Text(text)) => Some(text),
            None => None,
        });
    }

    /// A call, or the next piece of one: those of a stream have an index, and only the first one the name.
    fn call(&mut self, mut call: serde_json::Value) {
        let index = call.get("index").and_then(|index| index.as_u64()).map(|index| index as usize);
        let more = call.pointer("/function/arguments").and_then(|text| text.as_str()).unwrap_or_default();
        if let Some(begun) = index.and_then(|index| self.tool_calls.get_mut(index)) {
            begun.function.arguments.push_str(more);
            return;
        }
        if let Some(fields) = call.as_object_mut() {
            fields.remove("index");
            if let Some(function) = fields.get_mut("function").and_then(|function| function.as_object_mut()) {
                function.entry("arguments").or_insert_with(|| "".into());
            }
        }
        self.tool_calls.extend(serde_json::from_value(call).ok());
    }

    /// Of a whole response; nothing when it is no JSON of that form.
    pub fn of_json(bytes: &[u8]) -> Self {
        let mut said = Said::default();
        if let Ok(wire) = serde_json::from_slice(bytes) {
            said.add(wire);
        }
        said
    }

    /// Of server-sent events; lines that are not understood are left out.
    pub fn of_events(bytes: &[u8]) -> Self {
        let mut said = Said::default();
        for line in bytes.split(|&byte| byte == b'\n') {
            let Some(data) = line.strip_prefix(b"data:") else { continue };
            if let Ok(wire) = serde_json::from_slice(data.trim_ascii()) {
                said.add(wire);
            }
        }
        said
    }

    /// Of either.
    pub fn of(bytes: &[u8]) -> Self {
        match bytes.trim_ascii_start().first() {
            Some(b'{' | b'[') => Self::of_json(bytes),
            _ => Self::of_events(bytes),
        }
    }

    /// The usage: as the server counts, else four bytes for a token.
    pub fn usage(&self, request_bytes: usize) -> Usage {
        let guess = |bytes: usize| (bytes as u64).div_ceil(4);
        let (prompt_tokens, completion_tokens) =
            self.usage.unwrap_or_else(|| (guess(request_bytes), guess(self.text.len())));
        Usage { prompt_tokens, completion_tokens, calls: 1, ..Usage::default() }
    }
}

/// The messages of a stored request.
pub(crate) fn messages(request: &[u8]) -> Vec<Message> {
    #[derive(Deserialize)]
    struct Asked {
        #[serde(default)]
        messages: Vec<Message>,
        #[serde(default)]
        prompt: Option<String>,
    }
    match serde_json::from_slice::<Asked>(request) {
        Ok(Asked { messages, prompt: Some(prompt) }) if messages.is_empty() => vec![Message::user(prompt)],
        Ok(asked) => asked.messages,
        Err(_) => Vec::new(),
    }
}

/// The trace of a stored request: the recipe's own, or one node for a request that was passed on.
pub(crate) fn trace_of(entry: &TraceEntry) -> Result<Trace, elenchus_trace::TraceError> {
    if let Some(trace) = &entry.trace {
        return Trace::from_json(trace);
    }
    let summary = &entry.summary;
    let prompt = messages(&entry.request);
    let said = entry.response.as_deref().map(Said::of).unwrap_or_default();
    let mut problem = Problem::new(&summary.id, "chat", &summary.question);
    problem.history = prompt.clone();
    let mut trace = Trace::new(&summary.id, &summary.recipe, problem);
    trace.started_unix_ms = summary.created_ms;
    let mut completion = Completion::text(said.text);
    completion.usage = summary.usage;
    completion.finish = match said.finish.as_deref() {
        Some("length") => FinishReason::Length,
        Some("tool_calls") => FinishReason::ToolCalls,
        Some("content_filter") => FinishReason::ContentFilter,
        Some("stop") => FinishReason::Stop,
        Some(other) => FinishReason::Other(other.into()),
        None => FinishReason::Interrupted,
    };
    if !said.tool_calls.is_empty() {
        completion.message =
            Some(Message { tool_calls: said.tool_calls, ..Message::assistant(completion.text.clone()) });
    }
    let kind = match said.error {
        Some(error) => NodeKind::Failed { error },
        None => NodeKind::Generated {
            role: "actor".into(),
            model: summary.model.clone(),
            prompt,
            completion: Box::new(completion),
        },
    };
    trace.push(Node {
        parent: None,
        kind,
        started_ms: 0.0,
        elapsed_ms: summary.elapsed_ms,
        usage: summary.usage,
    });
    Ok(trace)
}

/// The answer of a stored request as a message, with its calls of tools.
pub(crate) fn answer_of(entry: &TraceEntry, trace: &Trace) -> Message {
    let mut answer = Message::assistant(entry.summary.answer.clone());
    let written = final_completion(trace).and_then(|completion| completion.message.as_ref());
    if let Some(written) = written.filter(|message| !message.tool_calls.is_empty()) {
        answer.tool_calls.clone_from(&written.tool_calls);
        if entry.summary.answer.is_empty() {
            answer.content = None;
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_and_streams_say_the_same() {
        let whole = br#"{"choices": [{"index": 0, "message": {"role": "assistant", "content": "ab"},
            "finish_reason": "stop"}], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}"#;
        let stream = b": comment\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n\
            data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"b\"},\"finish_reason\":\"stop\"}]}\n\n\
            data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n";
        let said = Said::of(whole);
        assert_eq!((said.text.as_str(), said.usage), ("ab", Some((3, 2))));
        assert_eq!(said, Said::of(stream));
    }

    #[test]
    fn the_pieces_of_a_call_are_put_together() {
        let stream = br#"data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f"}}]}}]}

data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":"}}]}}]}

data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]}}]}
"#;
        let said = Said::of(stream);
        let calls: Vec<(&str, &str)> =
            said.tool_calls.iter().map(|call| (call.id.as_str(), call.function.arguments.as_str())).collect();
        assert_eq!(calls, [("c", "{\"a\":1}")]);
        assert!(said.tool_calls[0].extra.is_empty(), "the index belongs to the stream");
    }

    #[test]
    fn garbage_says_nothing_and_is_estimated() {
        let said = Said::of(b"\xff\xfe<html>");
        assert_eq!(said, Said::default());
        assert_eq!(said.usage(9).prompt_tokens, 3);
        assert_eq!(Said::of(br#"{"error": {"message": "no"}}"#).error.as_deref(), Some("no"));
    }
}
