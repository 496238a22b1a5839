//! What was said in a request that was passed on, read from the bytes that went through.

use crate::answering::final_completion;
use elenchus_remember::service::TraceEntry;
use elenchus_trace::{
    Completion, Content, FinishReason, Message, Node, NodeKind, Problem, ToolCall, Trace, Usage,
};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// What a response says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Said {
    pub text: String,
    /// What the model thought before it, where the server says so.
    pub reasoning: String,
    pub tool_calls: Vec<ToolCall>,
    pub finish: Option<String>,
    /// As the server counts; `None` when it does not.
    pub usage: Option<(u64, u64)>,
    /// Bytes of everything that was written, in all choices.
    pub written: usize,
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
    /// Of several servers; others say `reasoning`, which may be something else than a text.
    #[serde(default)]
    reasoning_content: Option<Value>,
    #[serde(default)]
    reasoning: Option<Value>,
    #[serde(default)]
    tool_calls: Option<Vec<Value>>,
}

/// More tokens than anybody counts; what a server says beyond it would only break sums.
const MOST_TOKENS: u64 = 1 << 40;
/// Tokens of an image, a sound or a file, by guess: servers count from under a hundred to some thousands.
const MEDIA_TOKENS: u64 = 1000;

#[derive(Deserialize)]
struct WireUsage {
    #[serde(default, alias = "input_tokens")]
    prompt_tokens: Option<Value>,
    #[serde(default, alias = "output_tokens")]
    completion_tokens: Option<Value>,
}

/// A count as a server may write it; one that is no count is none.
fn count(said: Option<&Value>) -> u64 {
    said.and_then(Value::as_f64).map_or(0, |count| count.clamp(0.0, MOST_TOKENS as f64) as u64)
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
        for choice in wire.choices {
            let shown = choice.index == 0;
            if let Some(message) = choice.message.or(choice.delta) {
                let content = message.content.as_ref().map(|content| content.text()).unwrap_or_default();
                let reasoning = [&message.reasoning_content, &message.reasoning]
                    .into_iter()
                    .find_map(|said| said.as_ref()?.as_str())
                    .unwrap_or_default();
                self.written += content.len() + reasoning.len();
                if shown {
                    self.text.push_str(&content);
                    self.reasoning.push_str(reasoning);
                }
                for call in message.tool_calls.unwrap_or_default() {
                    let arguments = call.pointer("/function/arguments").and_then(Value::as_str);
                    self.written += arguments.map_or(0, str::len);
                    if shown {
                        self.call(call);
                    }
                }
            }
            if let Some(text) = choice.text {
                self.written += text.len();
                if shown {
                    self.text.push_str(&text);
                }
            }
            if let Some(finish) = choice.finish_reason.filter(|_| shown) {
                self.finish = Some(finish.into_owned());
            }
        }
        if let Some(usage) = wire.usage {
            self.usage = Some((count(usage.prompt_tokens.as_ref()), count(usage.completion_tokens.as_ref())));
        }
        self.error = self.error.take().or(match wire.error {
            Some(WireError::Object { message }) => Some(message.unwrap_or_else(|| "an error".into())),
            Some(WireError::Text(text)) => Some(text),
            None => None,
        });
    }

    /// A call, or the next piece of one: those of a stream have an index, and only the first one the name.
    fn call(&mut self, mut call: Value) {
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

    /// The usage: as the server counts, else by guess.
    pub fn usage(&self, request: &[u8]) -> Usage {
        let (prompt_tokens, completion_tokens) =
            self.usage.unwrap_or_else(|| (prompt_guess(request), tokens_of(self.written)));
        Usage { prompt_tokens, completion_tokens, calls: 1, ..Usage::default() }
    }
}

/// Tokens of a text, by guess: four bytes each.
fn tokens_of(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(4)
}

/// Tokens that a request has a model read, by guess: its texts at four bytes each, a thousand for each image, sound or
/// file that it holds.
pub(crate) fn prompt_guess(request: &[u8]) -> u64 {
    fn read(name: &str, value: &Value, bytes: &mut usize, media: &mut u64) {
        match value {
            Value::String(text) if text.starts_with("data:") || matches!(name, "data" | "file_data") => {
                *media += 1;
            }
            Value::String(_) if matches!(name, "role" | "type" | "detail" | "format") => {}
            Value::String(text) => *bytes += text.len(),
            // A prompt may be a list of tokens.
            Value::Number(_) if matches!(name, "prompt" | "input") => *bytes += 4,
            Value::Array(items) => items.iter().for_each(|item| read(name, item, bytes, media)),
            Value::Object(fields) => fields.iter().for_each(|(name, value)| read(name, value, bytes, media)),
            _ => {}
        }
    }
    let Ok(fields) = serde_json::from_slice::<Map<String, Value>>(request) else {
        return tokens_of(request.len());
    };
    let (mut bytes, mut media) = (0, 0);
    for name in ["messages", "prompt", "input", "tools", "functions", "response_format"] {
        if let Some(value) = fields.get(name) {
            read(name, value, &mut bytes, &mut media);
        }
    }
    tokens_of(bytes) + media * MEDIA_TOKENS
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
    let said = entry.response.as_deref().map(Said::of);
    // What was answered beyond what is kept may have been counted.
    let is_guess = said.as_ref().is_some_and(|said| said.usage.is_none() && said.error.is_none());
    let said = said.unwrap_or_default();
    let mut problem = Problem::new(&summary.id, "chat", &summary.question);
    problem.history = prompt.clone();
    let mut trace = Trace::new(&summary.id, &summary.recipe, problem);
    trace.started_unix_ms = summary.created_ms;
    let mut completion = Completion::text(said.text);
    completion.usage = summary.usage;
    if is_guess {
        completion.extra.insert("usage_guessed".into(), true.into());
    }
    if !said.reasoning.is_empty() {
        completion.extra.insert("reasoning_content".into(), said.reasoning.into());
    }
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
        assert_eq!(said.usage(b"123456789").prompt_tokens, 3);
        assert_eq!(Said::of(br#"{"error": {"message": "no"}}"#).error.as_deref(), Some("no"));
    }

    #[test]
    fn a_guess_counts_all_that_was_written_and_no_bytes_of_images() {
        let whole = br#"{"choices": [
            {"index": 0, "message": {"content": "12345678", "reasoning_content": "1234"}},
            {"index": 1, "message": {"content": "1234", "tool_calls": [{"id": "c", "type": "function",
                "function": {"name": "f", "arguments": "1234"}}]}}]}"#;
        let said = Said::of(whole);
        assert_eq!(
            (said.text.as_str(), said.reasoning.as_str()),
            ("12345678", "1234"),
            "of the first choice"
        );
        assert!(said.tool_calls.is_empty());
        let image = format!("data:image/png;base64,{}", "A".repeat(1 << 20));
        let request = serde_json::json!({"model": "m", "messages": [{"role": "user", "content": [
            {"type": "text", "text": "12345678"}, {"type": "image_url", "image_url": {"url": image}}]}]});
        let usage = said.usage(request.to_string().as_bytes());
        assert_eq!((usage.prompt_tokens, usage.completion_tokens), (2 + MEDIA_TOKENS, 5));
        assert_eq!(prompt_guess(br#"{"prompt": [1, 2, 3], "temperature": 5}"#), 3, "a list of tokens");
    }

    #[test]
    fn absurd_counts_are_bounded_and_odd_ones_lose_no_text() {
        for (said, wanted) in [
            ("18446744073709551615", MOST_TOKENS),
            ("1e300", MOST_TOKENS),
            ("-3", 0),
            ("\"7\"", 0),
            ("7.0", 7),
            ("null", 0),
        ] {
            let text = format!(r#"{{"choices": [{{"text": "a"}}], "usage": {{"prompt_tokens": {said}}}}}"#);
            let found = Said::of(text.as_bytes());
            assert_eq!((found.text.as_str(), found.usage), ("a", Some((wanted, 0))), "{said}");
        }
    }
}
