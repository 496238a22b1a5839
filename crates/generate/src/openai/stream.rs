//! Streamed chat completions.

use super::http::Server;
use super::sse::{SseEvent, SseParser};
use super::stop::{self, Gate};
use super::wire::{self, WireFault};
use super::{Endpoint, OpenAi, refused, single};
use crate::{GenerateError, GenerateRequest, StreamEvent};
use elenchus_trace::{Completion, FinishReason};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

type Events = BoxStream<'static, Result<StreamEvent, GenerateError>>;

/// All samples of a request, in one HTTP request or in several.
pub(super) async fn all(model: &OpenAi, request: &GenerateRequest) -> Result<Events, GenerateError> {
    let (wanted, endpoint) = (request.samples, &model.inner);
    if !endpoint.together(wanted) {
        return each(model, request, 0..wanted).await;
    }
    let inner = match model.requests.stream(request).await {
        Ok(inner) => inner,
        Err(error) if refused(&error) && endpoint.may_divide() => {
            let stream = each(model, request, 0..wanted).await?;
            endpoint.learn_concurrent();
            return Ok(stream);
        }
        Err(error) => return Err(error),
    };
    let together =
        Together { inner, model: model.clone(), request: request.clone(), seen: 0, divided: false };
    let stream = futures::stream::unfold(Some(together), |state| async move {
        let mut together = state?;
        match together.next().await {
            None => None,
            Some(event) => {
                let rest = event.is_ok().then_some(together);
                Some((event, rest))
            }
        }
    });
    Ok(stream.boxed())
}

/// A stream of several samples that asks for those that the server left out.
struct Together {
    inner: Events,
    model: OpenAi,
    request: GenerateRequest,
    seen: usize,
    divided: bool,
}

impl Together {
    async fn next(&mut self) -> Option<Result<StreamEvent, GenerateError>> {
        loop {
            if let Some(event) = self.inner.next().await {
                self.seen += usize::from(matches!(event, Ok(StreamEvent::Done { .. })));
                return Some(event);
            }
            let (wanted, endpoint) = (self.request.samples, &self.model.inner);
            if self.divided || self.seen >= wanted {
                return None;
            }
            if !endpoint.may_divide() {
                self.divided = true;
                return Some(Err(endpoint.too_few(self.seen, wanted)));
            }
            endpoint.learn_concurrent();
            self.divided = true;
            match each(&self.model, &self.request, self.seen..wanted).await {
                Ok(rest) => self.inner = rest,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Samples of a range, each in a request of its own, all at once. The failure of an only sample is reported at once,
/// that of one among several in its place in the stream, so that nothing waits for the slowest.
async fn each(
    model: &OpenAi,
    request: &GenerateRequest,
    range: std::ops::Range<usize>,
) -> Result<Events, GenerateError> {
    let shift = |event: Result<StreamEvent, GenerateError>, first: usize| {
        event.map(|event| match event {
            StreamEvent::Text { index, text } => StreamEvent::Text { index: first + index, text },
            StreamEvent::Done { index, completion } => StreamEvent::Done { index: first + index, completion },
        })
    };
    if range.len() == 1 {
        let first = range.start;
        let inner = model.requests.stream(&single(request, first)).await?;
        return Ok(inner.map(move |event| shift(event, first)).boxed());
    }
    let streams = range.map(|first| {
        let requests = Arc::clone(&model.requests);
        let single = single(request, first);
        let opening = async move { requests.stream(&single).await };
        opening.into_stream().try_flatten().map(move |event| shift(event, first)).boxed()
    });
    Ok(futures::stream::select_all(streams).boxed())
}

/// One HTTP request: the samples that it gives, possibly fewer than asked for.
pub(super) async fn one(endpoint: &Endpoint, request: &GenerateRequest) -> Result<Events, GenerateError> {
    let mut body = endpoint.body(request, true);
    let (started, response) = loop {
        let started = Instant::now();
        match endpoint.server.send("chat/completions", Some(&body)).await {
            Ok(response) => break (started, response),
            Err(refusal) => match endpoint.adapted(&refusal, request, &body) {
                Some(other) => body = other,
                None => return Err(refusal.error),
            },
        }
    };
    let reader = Reader {
        chunks: endpoint.server.chunks(response),
        server: Arc::clone(&endpoint.server),
        parser: SseParser::new(endpoint.config.most_body_bytes),
        assembly: Assembly::default(),
        stops: stop::stops_of(request),
        request: request.clone(),
        seed: (request.samples == 1).then(|| endpoint.sent_seed(request)).flatten(),
        started,
        start: Vec::new(),
        ready: VecDeque::new(),
        over: false,
    };
    // Reading happens when the consumer polls: what nobody reads is never fetched, and a dropped stream drops its
    // connection.
    let stream = futures::stream::unfold(reader, |mut reader| async move {
        reader.next().await.map(|event| (event, reader))
    });
    Ok(stream.boxed())
}

struct Reader {
    chunks: BoxStream<'static, Result<Vec<u8>, GenerateError>>,
    server: Arc<Server>,
    parser: SseParser,
    assembly: Assembly,
    request: GenerateRequest,
    /// The strings that end a sample.
    stops: Vec<String>,
    /// The seed of a single sample.
    seed: Option<u64>,
    started: Instant,
    /// The first bytes, to say what came instead of events.
    start: Vec<u8>,
    ready: VecDeque<Result<StreamEvent, GenerateError>>,
    over: bool,
}

impl Reader {
    async fn next(&mut self) -> Option<Result<StreamEvent, GenerateError>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.over {
                return None;
            }
            let done = match self.chunks.next().await {
                Some(Ok(bytes)) => self.take(&bytes),
                Some(Err(error)) => self.end(Some(error)).map(|()| true),
                None => self.end(None).map(|()| true),
            };
            match done {
                Ok(done) => self.over = done,
                Err(error) => {
                    self.over = true;
                    self.ready.push_back(Err(error));
                }
            }
        }
    }

    /// Takes a chunk; true when the stream says that it is over.
    fn take(&mut self, bytes: &[u8]) -> Result<bool, GenerateError> {
        const KEPT: usize = 256;
        if self.assembly.is_empty() {
            let room = KEPT.saturating_sub(self.start.len());
            self.start.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        let mut events = Vec::new();
        let fed = self.parser.feed(bytes, &mut events);
        for event in events {
            if event.data.trim() == "[DONE]" {
                self.assembly.ended = true;
                return self.end(None).map(|()| true);
            }
            let taken = self.assembly.take(&event, self.request.samples, &self.stops);
            taken.map_err(|fault| self.fault(fault))?;
            let news = self.assembly.news.drain(..);
            self.ready.extend(news.map(|(index, text)| Ok(StreamEvent::Text { index, text })));
        }
        fed.map_err(|error| self.server.protocol_error(error.to_string()))?;
        Ok(false)
    }

    /// Reports the samples, whole or cut off.
    fn end(&mut self, broken: Option<GenerateError>) -> Result<(), GenerateError> {
        let mut assembly = std::mem::take(&mut self.assembly);
        if assembly.is_empty() {
            let start = crate::scripted::shorten(String::from_utf8_lossy(&self.start).trim_start());
            return Err(match broken {
                Some(error) => error,
                None if start.is_empty() || assembly.ended => self.fault(WireFault::NoChoices),
                None => self.fault(WireFault::Shape(format!("no event stream but `{start}`"))),
            });
        }
        let rest =
            assembly.samples.iter_mut().filter_map(|(&index, pieces)| Some((index, pieces.gate.rest()?)));
        self.ready.extend(rest.map(|(index, text)| Ok(StreamEvent::Text { index, text })));
        let mut completions =
            assembly.finish(&self.request, broken.as_ref()).map_err(|fault| self.fault(fault))?;
        completions.iter_mut().for_each(|completion| stop::cut(completion, &self.stops));
        wire::note_identical(&self.request, &mut completions);
        for (index, mut completion) in completions.into_iter().enumerate() {
            if index == 0 {
                completion.usage.seconds = self.started.elapsed().as_secs_f64();
            }
            completion.seed = self.seed;
            self.ready.push_back(Ok(StreamEvent::Done { index, completion: Box::new(completion) }));
        }
        Ok(())
    }

    fn fault(&self, fault: WireFault) -> GenerateError {
        self.server.fault(fault)
    }
}

/// The pieces of the samples of one response.
#[derive(Default)]
struct Assembly {
    samples: BTreeMap<usize, Pieces>,
    /// Fields beside the choices; the last value of each.
    response: Map<String, Value>,
    usage: Option<Value>,
    /// Texts that were not yet reported.
    news: Vec<(usize, String)>,
    /// The stream has said that it is over.
    ended: bool,
}

#[derive(Default)]
struct Pieces {
    /// The message so far, in the shape of a whole one.
    message: Map<String, Value>,
    tool_calls: BTreeMap<u64, Map<String, Value>>,
    logprobs: Vec<Value>,
    finish: Option<Value>,
    extra: Map<String, Value>,
    /// What of its text may be reported.
    gate: Gate,
}

impl Assembly {
    fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    fn take(&mut self, event: &SseEvent, samples: usize, stops: &[String]) -> Result<(), WireFault> {
        let chunk: Value = serde_json::from_str(&event.data).map_err(|error| {
            let start = crate::scripted::shorten(&event.data);
            WireFault::Shape(format!("an event of the stream is invalid JSON ({error}): `{start}`"))
        })?;
        if let Some(fault) = wire::server_fault(&chunk) {
            return Err(fault);
        }
        if event.event == "error" {
            return Err(WireFault::Server { message: event.data.clone(), code: None, status: None });
        }
        let Value::Object(mut chunk) = chunk else {
            return Err(WireFault::Shape("an event of the stream is not a JSON object".into()));
        };
        if let Some(usage) = chunk.get("usage").filter(|usage| usage.is_object()) {
            self.usage = Some(usage.clone());
        }
        if let Some(Value::Array(choices)) = chunk.remove("choices") {
            for (position, choice) in choices.into_iter().enumerate() {
                let Value::Object(mut choice) = choice else { continue };
                let index = choice.remove("index").and_then(|index| index.as_u64());
                let index = index.unwrap_or(position as u64) as usize;
                if index >= samples {
                    continue;
                }
                let pieces = self.samples.entry(index).or_default();
                if let Some(text) = pieces.add(choice).and_then(|text| pieces.gate.take(&text, stops)) {
                    self.news.push((index, text));
                }
            }
            self.ended |= !self.samples.is_empty() && self.samples.values().all(|p| p.finish.is_some());
        }
        self.response.extend(chunk.into_iter().filter(|(_, value)| !value.is_null()));
        Ok(())
    }

    fn finish(
        self,
        request: &GenerateRequest,
        broken: Option<&GenerateError>,
    ) -> Result<Vec<Completion>, WireFault> {
        let interrupted = broken.is_some() || !self.ended;
        let mut completions = Vec::with_capacity(self.samples.len());
        for (_, pieces) in self.samples {
            let cut = interrupted && pieces.finish.is_none();
            let mut completion = pieces.completion().map_err(WireFault::Shape)?;
            if cut {
                completion.finish = FinishReason::Interrupted;
                if let Some(GenerateError::Unavailable { what, .. }) = broken {
                    stop::note(&mut completion, what.clone());
                }
            } else {
                wire::check_logprobs(&completion, request)?;
            }
            completions.push(completion);
        }
        wire::share_usage(self.usage.as_ref(), request, &mut completions);
        wire::attach_response(self.response, &mut completions);
        Ok(completions)
    }
}

impl Pieces {
    /// Adds a choice of a chunk; returns new text.
    fn add(&mut self, mut choice: Map<String, Value>) -> Option<String> {
        if let Some(Value::Object(logprobs)) = choice.remove("logprobs")
            && let Some(Value::Array(content)) = logprobs.get("content")
        {
            self.logprobs.extend(content.iter().cloned());
        }
        if let Some(finish) = choice.remove("finish_reason").filter(|finish| !finish.is_null()) {
            self.finish = Some(finish);
        }
        let delta = choice.remove("delta").or_else(|| choice.remove("message"));
        self.extra.extend(choice.into_iter().filter(|(_, value)| !value.is_null()));
        let Some(Value::Object(mut delta)) = delta else { return None };
        if let Some(Value::Array(calls)) = delta.remove("tool_calls") {
            for (position, call) in calls.into_iter().enumerate() {
                let Value::Object(mut call) = call else { continue };
                let index = call.remove("index").and_then(|index| index.as_u64()).unwrap_or(position as u64);
                merge(self.tool_calls.entry(index).or_default(), call);
            }
        }
        // Said again in every chunk by some servers.
        if let Some(role) = delta.remove("role").filter(|role| !role.is_null()) {
            self.message.insert("role".into(), role);
        }
        let text = delta.get("content").and_then(Value::as_str).filter(|text| !text.is_empty());
        let text = text.map(str::to_string);
        merge(&mut self.message, delta);
        text
    }

    fn completion(mut self) -> Result<Completion, String> {
        self.message.entry("role").or_insert_with(|| json!("assistant"));
        if !self.tool_calls.is_empty() {
            let calls: Vec<Value> = self.tool_calls.into_values().map(whole_call).collect();
            self.message.insert("tool_calls".into(), json!(calls));
        }
        let mut completion = wire::completion_of(self.message)?;
        completion.finish = wire::finish_reason(self.finish, &completion);
        wire::read_logprobs(Some(json!({"content": self.logprobs})), &mut completion);
        completion.extra = self.extra;
        Ok(completion)
    }
}

/// A call that was cut off may lack fields; what is there is kept.
fn whole_call(mut call: Map<String, Value>) -> Value {
    call.entry("id").or_insert_with(|| json!(""));
    let function = call.entry("function").or_insert_with(|| json!({}));
    if let Value::Object(function) = function {
        function.entry("name").or_insert_with(|| json!(""));
        function.entry("arguments").or_insert_with(|| json!(""));
    }
    Value::Object(call)
}

/// Adds a delta to what is there: strings grow, objects and lists merge, other values are replaced. Identifiers and
/// kinds are said once or repeated whole, so they never grow.
fn merge(whole: &mut Map<String, Value>, delta: Map<String, Value>) {
    for (name, value) in delta {
        let fixed = matches!(name.as_str(), "id" | "type" | "role");
        match (whole.get_mut(&name), value) {
            (_, Value::Null) => {}
            (Some(Value::String(old)), Value::String(new)) if !fixed => old.push_str(&new),
            (Some(Value::String(_)), Value::String(new)) if fixed && new.is_empty() => {}
            (Some(Value::Object(old)), Value::Object(new)) => merge(old, new),
            (Some(Value::Array(old)), Value::Array(new)) => old.extend(new),
            (_, value) => {
                whole.insert(name, value);
            }
        }
    }
}
