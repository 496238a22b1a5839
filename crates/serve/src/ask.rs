//! `/v1/chat/completions`: which way a request takes, and the answer of a recipe, whole or streamed.

use crate::ApiError;
use crate::answering::{Finished, Job, Told, Watch, run, seed_of};
use crate::body::{BoxError, Reply, json as reply_json};
use crate::catalogue::Cost;
use crate::chat::{ChatRequest, Peek, chunk_body, completion_body, usage_chunk};
use crate::choose::{PLAIN, Wish, choose};
use crate::forward::Forward;
use crate::keys::Caller;
use crate::plain::Plain;
use crate::sse;
use crate::state::{Live, State, Target, new_id, now_ms};
use bytes::Bytes;
use elenchus_generate::TraceContext;
use elenchus_recipe::{Composition, RecipeError, Serving, offer_of};
use futures::Stream;
use hyper::StatusCode;
use hyper::header::HeaderMap;
use serde_json::{Map, Value, json};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;

/// After this long without a piece the client is told that we are still there.
const PING_AFTER: Duration = Duration::from_secs(10);
/// How long the head of a stream waits for the first stage: what fails at once gets a status of its own.
const HEAD_WAITS: Duration = Duration::from_millis(50);

/// A chat request on its way in.
pub(crate) struct Inbound {
    /// Identifier of its trace.
    pub id: String,
    pub caller: Caller,
    pub headers: HeaderMap,
    /// The request.
    pub bytes: Bytes,
    /// What is kept of it with the trace: the request itself, unless it came in another form.
    pub kept: Bytes,
    /// The recipe in the path, where there is one.
    pub path: Option<String>,
}

impl Inbound {
    pub fn new(caller: Caller, headers: HeaderMap, bytes: Bytes, path: Option<&str>) -> Self {
        let kept = bytes.clone();
        Inbound { id: new_id("tr_"), caller, headers, bytes, kept, path: path.map(str::to_string) }
    }
}

/// Answers a chat request.
pub(crate) async fn chat(state: &Arc<State>, inbound: Inbound) -> Result<Reply, ApiError> {
    let (started, created_ms, live) = (Instant::now(), now_ms(), state.live());
    let Inbound { id, caller, headers, bytes, kept, path } = inbound;
    let peek = Peek::read(&bytes)?;
    let wish = peek.elenchus.as_ref().map(Wish::read).transpose()?.unwrap_or_default();
    let named = peek.model.as_deref().unwrap_or_default();
    let choice = choose(named, path.as_deref(), peek.optillm_approach.as_deref(), &wish)?;
    let target = state.target(&live, &choice.model)?;
    let stream = peek.stream.unwrap_or(false);
    let label = if named.is_empty() { target.model().to_string() } else { named.to_string() };
    let Some(recipe) = choice.recipe else {
        return match target {
            Target::Embedded => {
                let request = ChatRequest::read(&bytes)?;
                let cost = Cost::of(&request, None).usage;
                let grant = state.grant(&live, &caller, &target, wish.budget, cost).await?;
                let bytes = kept;
                let plain = Plain {
                    id,
                    label,
                    caller,
                    live,
                    request,
                    grant,
                    bytes,
                    created_ms,
                    started,
                    stream,
                    parent: None,
                };
                crate::plain::answer(state, plain).await
            }
            Target::Upstream(model) => {
                if peek.messages.is_none() {
                    return Err(ApiError::bad("messages", "`messages` is missing"));
                }
                let forward = Forward {
                    id,
                    caller,
                    headers,
                    live,
                    model,
                    path: "chat/completions",
                    recipe: PLAIN,
                    bytes: bytes.clone(),
                    kept,
                    peek: &peek,
                    wish: wish.budget,
                    created_ms,
                    started,
                };
                crate::forward::forward(state, forward).await
            }
        };
    };
    let mut request = ChatRequest::read(&bytes)?;
    if target == Target::Embedded {
        request.for_embedded()?;
    }
    let serving = serving(&recipe, choice.samples, &wish, &request, &target, &live)?;
    request.for_recipe(&serving)?;
    let cost = Cost::of(&request, Some(&serving)).usage;
    let grant = state.grant(&live, &caller, &target, wish.budget, cost).await?;
    let bytes = match &path {
        None => kept,
        Some(path) => with_path(&kept, path)?,
    };
    let seed = request.seed.unwrap_or_else(|| seed_of(&id));
    let job = Job {
        id,
        caller,
        live,
        target,
        serving,
        request,
        grant,
        bytes,
        created_ms,
        started,
        seed,
        replay: None,
    };
    reply(state, job, label, stream).await
}

/// Runs a recipe and answers, whole or streamed; `label` is the model as the client named it.
pub(crate) async fn reply(
    state: &Arc<State>,
    job: Job,
    label: String,
    stream: bool,
) -> Result<Reply, ApiError> {
    if stream { streamed(state, job, label).await } else { whole(state, job, &label).await }
}

/// The recipe that stood in the path, where a trace keeps it: without it the request could not be run again.
pub(crate) const PATH: &str = "elenchus_path";

fn with_path(kept: &Bytes, path: &str) -> Result<Bytes, ApiError> {
    let mut fields: Map<String, Value> =
        serde_json::from_slice(kept).map_err(|error| ApiError::bad("", error.to_string()))?;
    fields.insert(PATH.into(), path.into());
    Ok(Bytes::from(Value::Object(fields).to_string()))
}

/// The recipe with the settings of the request: its sampling, its number of samples, its own settings, which win.
pub(crate) fn serving(
    recipe: &Composition,
    samples: Option<u64>,
    wish: &Wish,
    request: &ChatRequest,
    target: &Target,
    live: &Live,
) -> Result<Serving, ApiError> {
    let task = wish.task.as_deref().unwrap_or(target.task());
    for part in recipe.parts() {
        let offer = offer_of(&part.name)?;
        if let Some(field) = request.sampling.keys().find(|name| !offer.has_setting(name)) {
            let message = format!("the recipe `{}` cannot keep `{field}`", part.name);
            return Err(ApiError::bad(field, message));
        }
        if let Some(samples) = samples.filter(|_| !offer.has_setting("samples")) {
            let message = format!("the recipe `{}` has no number of samples", part.name);
            let hint = format!("leave `@{samples}` out; `GET /v1/recipes` lists the settings");
            return Err(ApiError::bad("model", format!("{message}\nhint: {hint}")));
        }
    }
    let mut recipe = recipe.clone().with_settings(&wish.settings).map_err(RecipeError::from)?;
    for (field, value) in &request.sampling {
        recipe = recipe.with_default(field, value);
    }
    if let Some(samples) = samples {
        recipe = recipe.with_default("samples", &samples.into());
    }
    let most = live.settings.most_samples;
    let parts = recipe.parts();
    let asked = parts.iter().filter_map(|part| part.settings.get("samples")?.as_u64());
    let asked = asked.fold(0, u64::saturating_add).saturating_mul(request.choices.max(1));
    if asked > most {
        let hint = format!(
            "ask for {most} or fewer over all parts and choices; `most_samples` in `[serve]` is the bound"
        );
        return Err(ApiError::bad("samples", format!("{asked} samples are too many\nhint: {hint}")));
    }
    Ok(Serving::new(&recipe, task)?)
}

async fn whole(state: &Arc<State>, job: Job, label: &str) -> Result<Reply, ApiError> {
    let (id, created) = (format!("chatcmpl-{}", job.id), job.created_ms / 1000);
    let finished = run(state, job, Arc::default()).await?;
    let body =
        completion_body(&id, created, label, &finished.choices, &finished.usage, Some(&finished.report));
    Ok(reply_json(StatusCode::OK, &body))
}

/// An answer that is there, as [`reply`] gives one.
pub(crate) fn given(
    finished: Finished,
    trace_id: &str,
    created_ms: u64,
    label: String,
    include_usage: bool,
    stream: bool,
) -> Reply {
    let (id, created) = (format!("chatcmpl-{trace_id}"), created_ms / 1000);
    if !stream {
        let Finished { choices, usage, report } = &finished;
        let body = completion_body(&id, created, &label, choices, usage, Some(report));
        return reply_json(StatusCode::OK, &body);
    }
    let recipe = &finished.report.recipe;
    let begin = sse::comment(&json!({"type": "begin", "trace_id": trace_id, "recipe": recipe}));
    let (queue, sent) = (VecDeque::from([begin]), HashMap::new());
    let mut pieces = Pieces { events: None, _task: None, queue, id, created, label, include_usage, sent };
    for stage in finished.report.stages.clone() {
        pieces.take(Event::Told(Told::Stage(Box::new(stage))));
    }
    pieces.take(Event::End(Box::new(Ok(finished))));
    sse::reply(pieces.stream())
}

/// Ends a task with whoever waits for it: a client that goes away drops the stream, and that cancels every call.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

enum Event {
    Told(Told),
    End(Box<Result<Finished, ApiError>>),
}

async fn streamed(state: &Arc<State>, job: Job, label: String) -> Result<Reply, ApiError> {
    let (id, created, trace_id) = (format!("chatcmpl-{}", job.id), job.created_ms / 1000, job.id.clone());
    let (include_usage, note) = (job.request.include_usage, job.caller.trace.clone());
    let recipe = job.serving.name().to_string();
    let (tell, mut listening) = unbounded_channel::<Told>();
    let (sender, mut events) = unbounded_channel::<Event>();
    let shared = Arc::clone(state);
    let task = AbortOnDrop(tokio::spawn(TraceContext::kept(async move {
        let running = run(&shared, job, Arc::new(Watch::telling(tell)));
        tokio::pin!(running);
        // Who listens may be gone; then this task is being aborted.
        loop {
            tokio::select! {
                biased;
                told = listening.recv() => match told {
                    Some(told) => { let _ = sender.send(Event::Told(told)); }
                    None => break,
                },
                result = &mut running => {
                    while let Ok(told) = listening.try_recv() {
                        let _ = sender.send(Event::Told(told));
                    }
                    let _ = sender.send(Event::End(Box::new(result)));
                    return;
                }
            }
        }
        let result = running.await;
        let _ = sender.send(Event::End(Box::new(result)));
    })));
    let mut queue = VecDeque::new();
    queue.push_back(sse::comment(&json!({"type": "begin", "trace_id": trace_id, "recipe": recipe})));
    let sent = HashMap::new();
    let mut pieces =
        Pieces { events: None, _task: Some(task), queue, id, created, label, include_usage, sent };
    match tokio::time::timeout(HEAD_WAITS, events.recv()).await {
        Ok(Some(Event::End(result))) if result.is_err() => return Err(result.err().unwrap_or_else(lost)),
        Ok(Some(event)) => pieces.take(event),
        Ok(None) => return Err(lost()),
        Err(_) => {}
    }
    pieces.events = Some(events);
    // Its first piece says so, too.
    note.note(&trace_id);
    Ok(sse::reply(pieces.stream()))
}

fn lost() -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the recipe ended without a result")
}

struct Pieces {
    events: Option<UnboundedReceiver<Event>>,
    _task: Option<AbortOnDrop>,
    queue: VecDeque<Bytes>,
    id: String,
    created: u64,
    label: String,
    include_usage: bool,
    /// What went out of each choice.
    sent: HashMap<usize, String>,
}

impl Pieces {
    fn stream(self) -> impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static {
        futures::stream::unfold(self, |mut pieces| async move {
            let piece = pieces.next().await?;
            Some((Ok::<Bytes, BoxError>(piece), pieces))
        })
    }

    async fn next(&mut self) -> Option<Bytes> {
        if let Some(piece) = self.queue.pop_front() {
            return Some(piece);
        }
        let event = match tokio::time::timeout(PING_AFTER, self.events.as_mut()?.recv()).await {
            Err(_) => return Some(Bytes::from_static(sse::PING)),
            Ok(Some(event)) => event,
            Ok(None) => Event::End(Box::new(Err(lost()))),
        };
        self.take(event);
        self.queue.pop_front()
    }

    /// Sends a piece of an answer that is being written.
    fn say(&mut self, choice: usize, text: &str) {
        let delta = match self.sent.get(&choice) {
            None => json!({"role": "assistant", "content": text}),
            Some(_) => json!({"content": text}),
        };
        self.sent.entry(choice).or_default().push_str(text);
        let chunk = chunk_body(&self.id, self.created, &self.label, choice, delta, None);
        self.queue.push_back(sse::data(&chunk));
    }

    fn take(&mut self, event: Event) {
        let result = match event {
            Event::Told(Told::Stage(stage)) => {
                self.queue.push_back(sse::comment(&json!({"type": "stage", "stage": stage})));
                return;
            }
            Event::Told(Told::Text { choice, text }) => return self.say(choice, &text),
            Event::End(result) => *result,
        };
        self.events = None;
        let finished = match result {
            Ok(finished) => finished,
            Err(error) => {
                self.queue.push_back(sse::data(&error.body()));
                return;
            }
        };
        let chunk =
            |index, delta, finish| chunk_body(&self.id, self.created, &self.label, index, delta, finish);
        let count = finished.choices.len();
        for (index, choice) in finished.choices.into_iter().enumerate() {
            let sent = self.sent.remove(&index);
            // What went out is the beginning of the whole (see `LiveAnswer`).
            let rest = choice.text.strip_prefix(sent.as_deref().unwrap_or_default());
            let mut delta = json!({"role": "assistant", "content": rest.unwrap_or_default()});
            if let (Some(_), Some(fields)) = (&sent, delta.as_object_mut()) {
                fields.remove("role");
            }
            if !choice.tool_calls.is_empty() {
                let calls = choice.tool_calls.iter().enumerate().map(|(index, call)| {
                    let mut call = json!(call);
                    call["index"] = index.into();
                    call
                });
                delta["tool_calls"] = calls.collect();
            }
            let mut first = chunk(index, delta, None);
            first["choices"][0]["logprobs"] = choice.logprobs;
            let mut last = chunk(index, json!({}), Some(choice.finish));
            if let Some(of_choice) = choice.report {
                last["choices"][0]["elenchus"] = json!(of_choice);
            }
            if index + 1 == count {
                last["elenchus"] = json!(finished.report);
            }
            let says_more = sent.is_none() || rest != Some("") || !choice.tool_calls.is_empty();
            if says_more {
                self.queue.push_back(sse::data(&first));
            }
            self.queue.push_back(sse::data(&last));
        }
        if self.include_usage {
            let usage = usage_chunk(&self.id, self.created, &self.label, &finished.usage);
            self.queue.push_back(sse::data(&usage));
        }
        self.queue.push_back(Bytes::from_static(sse::DONE));
    }
}
