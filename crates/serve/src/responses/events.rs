//! The events of a streamed chat answer as events of a response.

use super::reply::{Call, End, Head, Output, logprobs};
use crate::body::BoxError;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::VecDeque;

/// Longest line of an upstream.
const MOST_LINE_BYTES: usize = 16 << 20;

/// The events of a response, as those of the chat come. Comments go through: stages and signs of life.
pub(crate) fn translate(
    chat: BoxStream<'static, Result<Bytes, BoxError>>,
    head: Head,
) -> BoxStream<'static, Result<Bytes, BoxError>> {
    let mut writer = Writer::new(head);
    writer.begin();
    let state = Translation { chat: Some(chat), line: Vec::new(), writer };
    futures::stream::unfold(state, |mut state| async move {
        let piece = state.next().await?;
        Some((piece, state))
    })
    .boxed()
}

struct Translation {
    chat: Option<BoxStream<'static, Result<Bytes, BoxError>>>,
    /// What came of a line so far.
    line: Vec<u8>,
    writer: Writer,
}

impl Translation {
    async fn next(&mut self) -> Option<Result<Bytes, BoxError>> {
        loop {
            if let Some(piece) = self.writer.queue.pop_front() {
                return Some(Ok(piece));
            }
            match self.chat.as_mut()?.next().await {
                Some(Ok(bytes)) => self.feed(&bytes),
                Some(Err(error)) => {
                    self.chat = None;
                    return Some(Err(error));
                }
                None => {
                    let rest = std::mem::take(&mut self.line);
                    self.writer.line(&rest);
                    self.writer.end();
                }
            }
            if self.writer.ended {
                self.chat = None;
            }
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.writer.line(&line);
            } else if self.line.len() > MOST_LINE_BYTES {
                self.line.clear();
                self.writer.fail(&json!({"message": format!("the upstream sent a line of more than {MOST_LINE_BYTES} bytes")}));
            }
        }
    }
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Value>,
    #[serde(default)]
    elenchus: Option<Value>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u64,
    #[serde(default)]
    delta: Delta,
    #[serde(default)]
    finish_reason: Option<String>,
    #[serde(default)]
    logprobs: Option<Value>,
}

#[derive(Default, Deserialize)]
struct Delta {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<CallDelta>>,
}

#[derive(Deserialize)]
struct CallDelta {
    #[serde(default)]
    index: Option<u64>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    function: Option<FunctionDelta>,
}

#[derive(Default, Deserialize)]
struct FunctionDelta {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    arguments: Option<String>,
}

/// What an item is.
#[derive(Clone, Copy, PartialEq)]
enum Item {
    Message,
    /// Number of the call.
    Call(usize),
}

/// Writes events in the order that clients rely on: an item is added, its parts grow, and all are done at the end.
struct Writer {
    head: Head,
    queue: VecDeque<Bytes>,
    sequence: u64,
    output: Output,
    /// In the order in which they were added.
    items: Vec<Item>,
    /// The chat's number of each call.
    indices: Vec<u64>,
    end: End,
    ended: bool,
}

impl Writer {
    fn new(head: Head) -> Self {
        Writer {
            head,
            queue: VecDeque::new(),
            sequence: 0,
            output: Output::default(),
            items: Vec::new(),
            indices: Vec::new(),
            end: End::default(),
            ended: false,
        }
    }

    fn say(&mut self, kind: &str, mut event: Value) {
        event["type"] = kind.into();
        event["sequence_number"] = self.sequence.into();
        self.sequence += 1;
        self.queue.push_back(format!("event: {kind}\ndata: {event}\n\n").into());
    }

    fn begin(&mut self) {
        for kind in ["response.created", "response.in_progress"] {
            let response = self.head.response("in_progress", Vec::new());
            self.say(kind, json!({"response": response}));
        }
    }

    fn line(&mut self, line: &[u8]) {
        let line = line.trim_ascii_end();
        if line.first() == Some(&b':') {
            self.queue.push_back([line, b"\n\n"].concat().into());
        }
        let Some(data) = line.strip_prefix(b"data:").map(<[u8]>::trim_ascii) else { return };
        if self.ended || data == b"[DONE]" {
            return;
        }
        match serde_json::from_slice::<Chunk>(data) {
            Ok(chunk) => self.chunk(chunk),
            Err(error) => {
                let message = format!("the upstream sent a piece that is none of a chat: {error}");
                self.fail(&json!({"message": message}));
            }
        }
    }

    fn chunk(&mut self, chunk: Chunk) {
        if let Some(error) = chunk.error {
            let error = match error {
                Value::String(message) => json!({"message": message}),
                error => error,
            };
            return self.fail(&error);
        }
        self.end.usage = chunk.usage.or(self.end.usage.take());
        self.end.report = chunk.elenchus.or(self.end.report.take());
        for choice in chunk.choices.into_iter().filter(|choice| choice.index == 0) {
            let said =
                choice.logprobs.as_ref().and_then(|said| said.get("content")).and_then(Value::as_array);
            let said = said.cloned().unwrap_or_default();
            if let Some(text) = choice.delta.content.filter(|text| !text.is_empty() || !said.is_empty()) {
                self.text(&text, said);
            }
            if let Some(refusal) = choice.delta.refusal.filter(|refusal| !refusal.is_empty()) {
                self.refusal(&refusal);
            }
            for call in choice.delta.tool_calls.into_iter().flatten() {
                self.call(call);
            }
            self.end.finish = choice.finish_reason.or(self.end.finish.take());
        }
    }

    /// Place of an item in the output; it is added when it is not there.
    fn place(&mut self, item: Item) -> usize {
        if let Some(place) = self.items.iter().position(|known| *known == item) {
            return place;
        }
        let place = self.items.len();
        self.items.push(item);
        let shown =
            match item {
                Item::Message => {
                    self.output.speaks = true;
                    let mut message = self.output.message(&self.head, "in_progress");
                    message["content"] = json!([]);
                    message
                }
                Item::Call(index) => Call { arguments: String::new(), ..self.output.calls[index].clone() }
                    .item(&self.head, index, "in_progress"),
            };
        self.say("response.output_item.added", json!({"output_index": place, "item": shown}));
        place
    }

    /// Adds a part of the message.
    fn part(&mut self, place: usize, content_index: usize, part: Value) {
        let item_id = self.head.message_id();
        let event =
            json!({"item_id": item_id, "output_index": place, "content_index": content_index, "part": part});
        self.say("response.content_part.added", event);
    }

    fn text(&mut self, text: &str, said: Vec<Value>) {
        let is_new = !self.items.contains(&Item::Message);
        let place = self.place(Item::Message);
        if is_new {
            let part = json!({"type": "output_text", "text": "", "annotations": [], "logprobs": []});
            self.part(place, 0, part);
        }
        self.output.text.push_str(text);
        let event = json!({
            "item_id": self.head.message_id(), "output_index": place, "content_index": 0, "delta": text,
            "logprobs": logprobs(&said),
        });
        self.output.logprobs.extend(said);
        self.say("response.output_text.delta", event);
    }

    fn refusal(&mut self, text: &str) {
        let is_new = self.output.refusal.is_empty();
        let place = self.place(Item::Message);
        let content_index = usize::from(!self.output.text.is_empty());
        if is_new {
            self.part(place, content_index, json!({"type": "refusal", "refusal": ""}));
        }
        self.output.refusal.push_str(text);
        let event = json!({
            "item_id": self.head.message_id(), "output_index": place, "content_index": content_index, "delta": text,
        });
        self.say("response.refusal.delta", event);
    }

    fn call(&mut self, delta: CallDelta) {
        let chat_index = delta.index.unwrap_or(self.indices.len() as u64);
        let function = delta.function.unwrap_or_default();
        let index = match self.indices.iter().position(|known| *known == chat_index) {
            Some(index) => index,
            None => {
                self.indices.push(chat_index);
                let name = function.name.unwrap_or_default();
                let call_id = delta.id.unwrap_or_else(|| format!("call_{chat_index}"));
                self.output.calls.push(Call { call_id, name, arguments: String::new() });
                self.indices.len() - 1
            }
        };
        let place = self.place(Item::Call(index));
        if let Some(arguments) = function.arguments.filter(|arguments| !arguments.is_empty()) {
            self.output.calls[index].arguments.push_str(&arguments);
            let item_id = self.head.call_id(index);
            let event = json!({"item_id": item_id, "output_index": place, "delta": arguments});
            self.say("response.function_call_arguments.delta", event);
        }
    }

    fn fail(&mut self, error: &Value) {
        if self.ended {
            return;
        }
        self.ended = true;
        let response = self.head.failed(&self.output, error);
        self.say("response.failed", json!({"response": response}));
    }

    fn end(&mut self) {
        if self.ended {
            return;
        }
        if self.items.is_empty() {
            self.text("", Vec::new());
        }
        self.ended = true;
        let cut = matches!(self.end.finish.as_deref(), Some("length" | "content_filter"));
        let status = if cut { "incomplete" } else { "completed" };
        for (place, item) in self.items.clone().into_iter().enumerate() {
            match item {
                Item::Message => self.end_message(place, status),
                Item::Call(index) => {
                    let call = self.output.calls[index].clone();
                    let event = json!({
                        "item_id": self.head.call_id(index), "output_index": place, "name": call.name,
                        "arguments": call.arguments,
                    });
                    self.say("response.function_call_arguments.done", event);
                    let item = call.item(&self.head, index, status);
                    self.say("response.output_item.done", json!({"output_index": place, "item": item}));
                }
            }
        }
        let mut response = self.head.finished(&self.output, &self.end);
        // In the order in which they were added.
        let items = self.items.iter().map(|item| match item {
            Item::Message => self.output.message(&self.head, status),
            Item::Call(index) => self.output.calls[*index].item(&self.head, *index, status),
        });
        response["output"] = items.collect();
        self.say(&format!("response.{status}"), json!({"response": response}));
    }

    fn end_message(&mut self, place: usize, status: &str) {
        let item_id = self.head.message_id();
        for (content_index, part) in self.output.content().into_iter().enumerate() {
            let at = json!({"item_id": item_id, "output_index": place, "content_index": content_index});
            let with = |name: &str, value: &Value| {
                let mut event = at.clone();
                event[name] = value.clone();
                event
            };
            if part["type"] == "refusal" {
                self.say("response.refusal.done", with("refusal", &part["refusal"]));
            } else {
                let mut done = with("text", &part["text"]);
                done["logprobs"] = part["logprobs"].clone();
                self.say("response.output_text.done", done);
            }
            self.say("response.content_part.done", with("part", &part));
        }
        let item = self.output.message(&self.head, status);
        self.say("response.output_item.done", json!({"output_index": place, "item": item}));
    }
}
