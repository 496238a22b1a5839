//! Requests that are passed on as they are, and what went through them kept as a trace.

use crate::ApiError;
use crate::body::{Body, BoxError, Reply};
use crate::exchange::Said;
use crate::keys::Caller;
use crate::sse;
use crate::state::{Live, State};
use crate::telemetry::Link;
use crate::upstream::Upstream;
use bytes::Bytes;
use elenchus_generate::CancelToken;
use elenchus_recipe::LogLevel;
use elenchus_remember::service::{TraceEntry, TraceStatus, TraceSummary, Write};
use elenchus_trace::Usage;
use futures::StreamExt;
use futures::stream::BoxStream;
use hyper::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING,
};
use hyper::{Method, Response, StatusCode};
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Longest response that is kept with its trace; what goes through is not cut.
const MOST_KEPT_BYTES: usize = 8 << 20;
/// Longest response that is held as a whole.
const MOST_WHOLE_BYTES: usize = 64 << 20;

/// Header that names the trace of a response.
pub(crate) const TRACE_HEADER: &str = "x-elenchus-trace-id";

/// Headers that belong to one connection, to a browser, or that we write ourselves.
fn is_ours(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "host"
            | "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "content-length"
            | "expect"
            | "authorization"
            | "cookie"
            | "set-cookie"
            | "origin"
            | "referer"
            // The bytes are read on their way.
            | "accept-encoding"
            | "content-encoding"
    ) || name.as_str().starts_with("sec-")
}

/// A request on its way to an upstream.
pub(crate) struct Passed {
    pub method: Method,
    /// Behind the base URL, for example `chat/completions`.
    pub path: &'static str,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub model: String,
    pub caller: Caller,
    pub live: Arc<Live>,
    /// What becomes the trace.
    pub record: PassRecord,
}

/// What becomes the trace.
pub(crate) struct PassRecord {
    state: Arc<State>,
    summary: TraceSummary,
    request: Bytes,
    response: Vec<u8>,
    cut: bool,
    price: Option<elenchus_trace::Price>,
    span: Option<Link>,
    started: Instant,
    finished: bool,
    _unwritten: watch::Receiver<()>,
}

impl PassRecord {
    pub fn new(
        state: &Arc<State>,
        live: &Live,
        caller: &Caller,
        summary: TraceSummary,
        request: Bytes,
        started: Instant,
    ) -> Self {
        PassRecord {
            state: Arc::clone(state),
            price: live.prices.get(&summary.model).copied(),
            span: caller.span.clone(),
            summary: TraceSummary { key: caller.name().into(), ..summary },
            request,
            response: Vec::new(),
            cut: false,
            started,
            finished: false,
            _unwritten: state.unwritten(),
        }
    }

    pub fn id(&self) -> &str {
        &self.summary.id
    }

    fn saw(&mut self, chunk: &[u8]) {
        if self.response.len() + chunk.len() <= MOST_KEPT_BYTES {
            self.response.extend_from_slice(chunk);
        } else {
            self.cut = true;
        }
    }

    fn entry(&mut self, status: TraceStatus, problem: Option<&str>) -> TraceEntry {
        let said = Said::of(&self.response);
        self.finished = true;
        let mut usage = match (status, &said.usage) {
            // A refusal without a count costs nothing.
            (TraceStatus::Failed, None) if said.text.is_empty() => Usage { calls: 1, ..Usage::default() },
            _ => said.usage(self.request.len()),
        };
        usage.seconds = self.started.elapsed().as_secs_f64();
        usage.money = self.price.map_or(0.0, |price| price.of(&usage));
        self.state.metrics.spent(&self.summary.recipe, &usage);
        let answer = match (problem, &said.error) {
            (Some(problem), _) => problem.to_string(),
            (None, Some(error)) => error.clone(),
            (None, None) => said.text,
        };
        let summary = TraceSummary {
            answer,
            status,
            usage,
            elapsed_ms: self.started.elapsed().as_secs_f64() * 1e3,
            ..self.summary.clone()
        };
        self.state.telemetry.answered(self.span.as_ref(), &summary, None);
        TraceEntry {
            summary,
            request: self.request.to_vec(),
            response: (!self.cut).then(|| std::mem::take(&mut self.response)),
            trace: None,
        }
    }

    /// Stores it; says whether that worked.
    pub async fn keep(&mut self, status: TraceStatus, problem: Option<&str>) -> bool {
        let entry = self.entry(status, problem);
        match self.state.archive.keep(entry).await {
            Ok(()) => true,
            Err(error) => {
                let fields = json!({"trace_id": self.summary.id, "error": error.message});
                self.state.log(LogLevel::Problems, "trace_not_stored", fields);
                false
            }
        }
    }
}

impl Drop for PassRecord {
    fn drop(&mut self) {
        if !self.finished {
            let entry = self.entry(TraceStatus::Cancelled, None);
            self.state.archive.write_later(Write::Trace(Box::new(entry)));
        }
    }
}

/// What an upstream answers.
enum Got {
    /// Events, which are passed on as they come.
    Events(reqwest::Response),
    /// Everything else, read to its end.
    Whole { status: StatusCode, headers: HeaderMap, bytes: Bytes },
}

impl Got {
    fn status(&self) -> StatusCode {
        match self {
            Got::Events(response) => response.status(),
            Got::Whole { status, .. } => *status,
        }
    }

    /// Whether another upstream may do better.
    fn is_passed_over(&self) -> bool {
        self.status().is_server_error() || self.status() == StatusCode::TOO_MANY_REQUESTS
    }
}

/// Sends a request to the upstreams of its model, in their order, until one answers; retries only before anything of
/// the answer was passed on. Where none answers, what the last one refused with is passed on.
pub(crate) async fn pass(mut passed: Passed) -> Result<Reply, ApiError> {
    let order = match passed.live.pool.order(&passed.model) {
        Ok(order) => order,
        Err(error) => return Err(give_up(&mut passed, error).await),
    };
    let cancel = passed.record.state.cancel.clone();
    let (mut refused, mut failed) = (None, None);
    for upstream in order {
        if !upstream.admit() {
            continue;
        }
        let got = tokio::select! {
            biased;
            got = exchange(&passed, &upstream) => got,
            () = cancel.cancelled() => return Err(give_up(&mut passed, ApiError::stopping()).await),
        };
        match got {
            Ok(got) if got.is_passed_over() => refused = Some((upstream, got)),
            Ok(got) => return Ok(answer(passed, upstream, got, cancel).await),
            Err(error) => {
                upstream.failed(&error.message);
                failed = Some(error);
            }
        }
    }
    if let Some((upstream, got)) = refused {
        return Ok(answer(passed, upstream, got, cancel).await);
    }
    let error = failed.unwrap_or_else(|| passed.live.pool.resting(&passed.model));
    Err(give_up(&mut passed, error).await)
}

async fn give_up(passed: &mut Passed, error: ApiError) -> ApiError {
    match error.is_cancelled() {
        true => passed.record.keep(TraceStatus::Cancelled, None).await,
        false => passed.record.keep(TraceStatus::Failed, Some(&error.message)).await,
    };
    error
}

/// Asks one upstream, and reads its answer unless that is a stream.
async fn exchange(passed: &Passed, upstream: &Upstream) -> Result<Got, ApiError> {
    let response = send(passed, upstream).await?;
    let status = response.status();
    let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_stream = kind.is_some_and(|kind| kind.starts_with("text/event-stream"));
    let got = if is_stream {
        Got::Events(response)
    } else {
        let headers = theirs(response.headers());
        let idle = seconds_of(upstream.settings.idle_seconds);
        let name = &upstream.name;
        let problem = match tokio::time::timeout(idle, whole(response)).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(problem)) => Err(format!("the answer of the upstream {name} broke off: {problem}")),
            Err(_) => Err(format!("the upstream {name} stopped in the middle of its answer")),
        };
        let broken = |problem| ApiError::new(StatusCode::BAD_GATEWAY, "upstream_failed", problem);
        Got::Whole { status, headers, bytes: problem.map_err(broken)? }
    };
    match (status.is_server_error(), is_stream) {
        (true, _) => upstream.failed(&format!("it answers with status {status}")),
        (false, false) => upstream.succeeded(),
        // How a stream ends is known at its end.
        (false, true) => {}
    }
    Ok(got)
}

/// The headers of an answer that belong to it.
fn theirs(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(headers.len() + 1);
    for (name, value) in headers {
        if !is_ours(name) {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}

async fn send(passed: &Passed, upstream: &Upstream) -> Result<reqwest::Response, ApiError> {
    let url = format!("{}/{}", upstream.base_url, passed.path);
    let mut headers = HeaderMap::with_capacity(passed.headers.len() + 1);
    for (name, value) in &passed.headers {
        if !is_ours(name) {
            headers.append(name.clone(), value.clone());
        }
    }
    if let Some(parent) = passed.caller.span.as_ref().and_then(|link| link.headers().traceparent) {
        headers.insert("traceparent", parent);
    }
    if let Some(key) = &upstream.key {
        headers.insert(AUTHORIZATION, key.clone());
    } else if let Some(Ok(mut value)) =
        passed.caller.foreign.as_ref().map(|token| HeaderValue::try_from(format!("Bearer {token}")))
    {
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    let request =
        upstream.client.request(passed.method.clone(), url).headers(headers).body(passed.body.clone());
    let seconds = upstream.settings.first_byte_seconds;
    let name = &upstream.name;
    match tokio::time::timeout(seconds_of(seconds), request.send()).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) => {
            let message = format!("the upstream {name} cannot be asked: {}", chain(&error));
            Err(ApiError::new(StatusCode::BAD_GATEWAY, "upstream_failed", message))
        }
        Err(_) => {
            let message = format!("the upstream {name} did not answer within {seconds} s");
            Err(ApiError::new(StatusCode::GATEWAY_TIMEOUT, "upstream_timeout", message))
        }
    }
}

fn seconds_of(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs(120))
}

/// An error with its causes; the outermost one of reqwest only repeats the address.
fn chain(error: &dyn std::error::Error) -> String {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    causes.dedup();
    if causes.is_empty() { error.to_string() } else { causes.join(": ") }
}

/// Passes the answer of an upstream on: events as they come, everything else as a whole.
async fn answer(passed: Passed, upstream: Arc<Upstream>, got: Got, cancel: CancelToken) -> Reply {
    let mut record = passed.record;
    let id = HeaderValue::try_from(record.id()).ok();
    match got {
        Got::Events(response) => {
            let (status, mut headers) = (response.status(), theirs(response.headers()));
            if let Some(id) = id {
                headers.insert(TRACE_HEADER, id);
            }
            let stream = response.bytes_stream().map(|chunk| chunk.map_err(|error| chain(&error))).boxed();
            let events = Events { stream: Some(stream), record, upstream, status, cancel };
            let body = futures::stream::unfold(events, |mut events| async move {
                let chunk = events.next().await?;
                Some((Ok::<Bytes, BoxError>(chunk), events))
            });
            with_head(status, headers, Body::Stream(Box::pin(body)))
        }
        Got::Whole { status, mut headers, bytes } => {
            record.saw(&bytes);
            let kept = if status.is_success() { TraceStatus::Answered } else { TraceStatus::Failed };
            if record.keep(kept, None).await
                && let Some(id) = id
            {
                headers.insert(TRACE_HEADER, id);
            }
            with_head(status, headers, Body::Full(Some(bytes).filter(|bytes| !bytes.is_empty())))
        }
    }
}

async fn whole(mut response: reqwest::Response) -> Result<Bytes, String> {
    let mut bytes: Option<Bytes> = None;
    let mut more: Vec<u8> = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| chain(&error))? {
        match &bytes {
            None => bytes = Some(chunk),
            Some(first) => {
                if more.is_empty() {
                    more.extend_from_slice(first);
                }
                more.extend_from_slice(&chunk);
                if more.len() > MOST_WHOLE_BYTES {
                    return Err(format!("it is longer than {MOST_WHOLE_BYTES} bytes"));
                }
            }
        }
    }
    Ok(if more.is_empty() { bytes.unwrap_or_default() } else { more.into() })
}

fn with_head(status: StatusCode, mut headers: HeaderMap, body: Body) -> Reply {
    headers.remove(CONTENT_LENGTH);
    headers.remove(TRANSFER_ENCODING);
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    *reply.headers_mut() = headers;
    reply
}

/// Events on their way through.
struct Events {
    stream: Option<BoxStream<'static, Result<Bytes, String>>>,
    record: PassRecord,
    upstream: Arc<Upstream>,
    status: StatusCode,
    cancel: CancelToken,
}

impl Events {
    async fn next(&mut self) -> Option<Bytes> {
        let stream = self.stream.as_mut()?;
        let (name, idle) = (&self.upstream.name, seconds_of(self.upstream.settings.idle_seconds));
        let next = tokio::select! {
            biased;
            next = tokio::time::timeout(idle, stream.next()) => next,
            () = self.cancel.cancelled() => return Some(self.end(Err(ApiError::stopping())).await),
        };
        let problem = match next {
            Ok(Some(Ok(chunk))) => {
                self.record.saw(&chunk);
                return Some(chunk);
            }
            Ok(None) => {
                self.end(Ok(())).await;
                return None;
            }
            Ok(Some(Err(problem))) => {
                format!("the upstream {name} broke off in the middle of its answer: {problem}")
            }
            Err(_) => format!("the upstream {name} sent nothing for {idle:?}"),
        };
        self.upstream.failed(&problem);
        let error = ApiError::new(StatusCode::BAD_GATEWAY, "upstream_failed", problem);
        Some(self.end(Err(error)).await)
    }

    /// Keeps the trace, and gives what tells the client of an error. The stream ends for the client when its trace is kept.
    async fn end(&mut self, ended: Result<(), ApiError>) -> Bytes {
        self.stream = None;
        let status = match &ended {
            Ok(()) if self.status.is_success() => TraceStatus::Answered,
            Err(error) if error.is_cancelled() => TraceStatus::Cancelled,
            _ => TraceStatus::Failed,
        };
        if ended.is_ok() && !self.status.is_server_error() {
            self.upstream.succeeded();
        }
        let problem = ended.as_ref().err().filter(|error| !error.is_cancelled());
        self.record.keep(status, problem.map(|error| error.message.as_str())).await;
        // What came before may have ended in the middle of a line.
        let mut end = b"\n\n".to_vec();
        if let Err(error) = ended {
            end.extend_from_slice(&sse::data(&error.body()));
        }
        end.into()
    }
}
