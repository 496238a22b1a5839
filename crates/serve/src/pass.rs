//! Requests that are passed on as they are, and what went through them kept as a trace.

use crate::ApiError;
use crate::body::{Body, BoxError, Reply};
use crate::counted::WithoutCount;
use crate::exchange::Said;
use crate::keys::{Caller, TraceNote};
use crate::spending::Hold;
use crate::sse;
use crate::state::{Live, State};
use crate::telemetry::Link;
use crate::upstream::Upstream;
use bytes::Bytes;
use elenchus_generate::{CancelToken, Place, certificate_problem, error_status};
use elenchus_remember::service::{TraceEntry, TraceStatus, TraceSummary};
use elenchus_trace::Usage;
use futures::StreamExt;
use futures::stream::BoxStream;
use hyper::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, RETRY_AFTER,
    TRANSFER_ENCODING,
};
use hyper::{Method, Response, StatusCode};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Longest response that is kept with its trace; what goes through is not cut.
const MOST_KEPT_BYTES: usize = 8 << 20;
/// The end of a stream that is kept where the whole is too long: what it cost stands there.
const LAST_BYTES: usize = 16 << 10;

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
            | "proxy-connection"
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

/// The headers that belong to the message itself.
fn own(headers: &HeaderMap) -> HeaderMap {
    // `Connection` names further ones that belong to the connection.
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    // Room for what is added.
    let mut kept = HeaderMap::with_capacity(headers.len() + 2);
    for (name, value) in headers {
        if !is_ours(name) && !named.contains(name) {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}

/// A request on its way to an upstream.
pub(crate) struct Passed {
    pub method: Method,
    /// Behind the base URL, for example `chat/completions`.
    pub path: &'static str,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The same with the wish that a stream tells what it cost, where the client has none.
    pub asking: Option<Bytes>,
    pub limit: Limit,
    pub model: String,
    pub caller: Caller,
    pub live: Arc<Live>,
    /// What becomes the trace.
    pub record: PassRecord,
}

/// When a request has to be over, however its answer comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    pub at: Option<Instant>,
    pub seconds: f64,
}

impl Limit {
    /// How long something may take that may take `within` by itself.
    fn within(&self, within: Duration) -> Duration {
        self.at.map_or(within, |at| within.min(at.saturating_duration_since(Instant::now())))
    }

    fn is_over(&self) -> bool {
        self.at.is_some_and(|at| Instant::now() >= at)
    }

    fn error(&self) -> ApiError {
        let message = format!(
            "the request did not end within {} s\nhint: `request_seconds` in `[serve]` and `elenchus.budget.seconds` \
             bound it",
            self.seconds
        );
        ApiError::new(StatusCode::GATEWAY_TIMEOUT, "request_timeout", message)
    }
}

/// What becomes the trace.
pub(crate) struct PassRecord {
    state: Arc<State>,
    summary: TraceSummary,
    request: Bytes,
    response: Vec<u8>,
    /// The end of an answer that was longer than what is kept.
    last: Option<Vec<u8>>,
    hold: Option<Hold>,
    note: TraceNote,
    /// Held at the upstream until the answer has come.
    place: Option<Place>,
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
        hold: Option<Hold>,
    ) -> Self {
        caller.trace.note(&summary.id);
        PassRecord {
            state: Arc::clone(state),
            price: live.prices.get(&summary.model).copied(),
            span: caller.span.clone(),
            note: caller.trace.clone(),
            summary: TraceSummary { key: caller.name().into(), ..summary },
            request,
            response: Vec::new(),
            last: None,
            hold,
            place: None,
            started,
            finished: false,
            _unwritten: state.unwritten(),
        }
    }

    fn saw(&mut self, chunk: &[u8]) {
        if self.last.is_none() && self.response.len() + chunk.len() <= MOST_KEPT_BYTES {
            self.response.extend_from_slice(chunk);
            return;
        }
        let last = self.last.get_or_insert_default();
        last.extend_from_slice(chunk);
        if last.len() > 2 * LAST_BYTES {
            last.drain(..last.len() - LAST_BYTES);
        }
    }

    fn entry(&mut self, status: TraceStatus, problem: Option<&str>) -> TraceEntry {
        let mut said = Said::of(&self.response);
        if let Some(last) = &self.last {
            said.usage = Said::of_events(last).usage;
        }
        self.finished = true;
        let mut usage = match (status, &said.usage) {
            // A refusal without a count costs nothing.
            (TraceStatus::Failed, None) if said.written == 0 => Usage { calls: 1, ..Usage::default() },
            _ => said.usage(&self.request),
        };
        usage.seconds = self.started.elapsed().as_secs_f64();
        usage.money = self.price.map_or(0.0, |price| price.of(&usage));
        if let (Some(mut place), TraceStatus::Answered) = (self.place.take(), status) {
            place.done(usage.completion_tokens);
        }
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
            response: self.last.is_none().then(|| std::mem::take(&mut self.response)),
            trace: None,
        }
    }

    /// Stores it; says whether that worked.
    pub async fn keep(&mut self, status: TraceStatus, problem: Option<&str>) -> bool {
        let entry = self.entry(status, problem);
        self.state.keep(entry, self.hold.take(), &self.note).await
    }
}

impl Drop for PassRecord {
    fn drop(&mut self) {
        if !self.finished {
            let entry = self.entry(TraceStatus::Cancelled, None);
            self.state.archive.keep_later(entry, self.hold.take());
        }
    }
}

/// What an upstream answers.
enum Got {
    /// Events, which are passed on as they come; whether it was asked for a count that the client did not ask for.
    Events { response: reqwest::Response, counted: bool },
    /// Everything else, read to its end.
    Whole { status: StatusCode, headers: HeaderMap, bytes: Bytes },
}

impl Got {
    fn status(&self) -> StatusCode {
        match self {
            Got::Events { response, .. } => response.status(),
            Got::Whole { status, .. } => *status,
        }
    }

    /// Whether the server says that it is too much, and how long it wants to be left alone, seconds.
    fn is_too_much(&self) -> Option<Option<f64>> {
        let headers = match self {
            Got::Events { response, .. } => response.headers(),
            Got::Whole { headers, .. } => headers,
        };
        let wait = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        matches!(self.status().as_u16(), 429 | 503 | 529).then_some(wait)
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
    let mut untried = VecDeque::from(order);
    // Those that have a place free come first; then it is waited for the others.
    let mut full = Vec::new();
    loop {
        let (upstream, mut place) = match untried.pop_front() {
            Some(upstream) => match upstream.try_place(&passed.caller) {
                Some(place) => (upstream, place),
                None => {
                    full.push(upstream);
                    continue;
                }
            },
            None if full.is_empty() => break,
            None => {
                let found = tokio::select! {
                    biased;
                    found = tokio::time::timeout(passed.limit.within(Duration::MAX), first_place(&full)) => found,
                    () = cancel.cancelled() => return Err(give_up(&mut passed, ApiError::stopping()).await),
                };
                let Ok((index, place)) = found else {
                    let error = passed.limit.error();
                    return Err(give_up(&mut passed, error).await);
                };
                (full.swap_remove(index), place)
            }
        };
        if !upstream.admit() {
            continue;
        }
        let got = tokio::select! {
            biased;
            got = exchange(&passed, &upstream) => got,
            () = cancel.cancelled() => return Err(give_up(&mut passed, ApiError::stopping()).await),
        };
        if let (Some(place), Some(wait)) = (&mut place, got.as_ref().ok().and_then(Got::is_too_much)) {
            place.refused(wait);
        }
        match got {
            Ok(got) if got.is_passed_over() => refused = Some((upstream, got)),
            Ok(got) => {
                passed.record.place = place;
                return Ok(answer(passed, upstream, got, cancel).await);
            }
            // What the client allows says nothing about the upstream.
            Err(error) if passed.limit.is_over() => return Err(give_up(&mut passed, error).await),
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

/// The first of these upstreams that has a place free, by its number, and that place.
async fn first_place(full: &[Arc<Upstream>]) -> (usize, Option<Place>) {
    let places = full.iter().map(|upstream| Box::pin(upstream.place()));
    let (place, index, _) = futures::future::select_all(places).await;
    // A limit that has ended holds nobody up.
    (index, place.ok())
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
    let (response, counted) = send(passed, upstream).await?;
    let status = response.status();
    let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_stream = kind.is_some_and(|kind| kind.starts_with("text/event-stream"));
    let got = if is_stream {
        Got::Events { response, counted }
    } else {
        let headers = own(response.headers());
        let idle = seconds_of(upstream.settings.idle_seconds);
        // The time of the request ends it however its pieces come.
        let bytes = match tokio::time::timeout(
            passed.limit.within(Duration::MAX),
            whole(response, idle, upstream.settings.most_body_bytes),
        )
        .await
        {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(problem)) => {
                let message = format!("the answer of the upstream {} broke off: {problem}", upstream.name);
                return Err(ApiError::new(StatusCode::BAD_GATEWAY, "upstream_failed", message));
            }
            Err(_) => return Err(passed.limit.error()),
        };
        Got::Whole { status: meant(status, &bytes), headers, bytes }
    };
    let status = got.status();
    match (status.is_server_error(), is_stream) {
        (true, _) => upstream.failed(&format!("it answers with status {status}")),
        (false, false) => upstream.succeeded(),
        // How a stream ends is known at its end.
        (false, true) => {}
    }
    Ok(got)
}

/// The status that an answer means: some servers send an error with status 200.
fn meant(status: StatusCode, bytes: &[u8]) -> StatusCode {
    /// No error is longer.
    const MOST_BYTES: usize = 64 << 10;
    const ERROR: &[u8] = b"\"error\"";
    let may_be = status.is_success()
        && bytes.len() <= MOST_BYTES
        && bytes.windows(ERROR.len()).any(|word| word == ERROR);
    let body = may_be.then(|| serde_json::from_slice::<serde_json::Value>(bytes).ok()).flatten();
    let body = body.filter(|body| body.get("choices").is_none() && body.get("data").is_none());
    let said = body.as_ref().and_then(error_status);
    said.and_then(|said| StatusCode::from_u16(said).ok()).unwrap_or(status)
}

/// Looks for the last line of a stream, `data: [DONE]`, in the pieces that it comes in.
#[derive(Debug, Default)]
struct End {
    /// The beginning of the line that is not complete.
    line: Vec<u8>,
    seen: bool,
}

impl End {
    /// Longer lines are another one.
    const MOST_BYTES: usize = 32;

    /// Takes a piece; says whether the end is in it.
    fn saw(&mut self, piece: &[u8]) -> bool {
        for part in piece.split_inclusive(|&byte| byte == b'\n') {
            let room = Self::MOST_BYTES - self.line.len();
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                self.seen |= self.is_end();
                self.line.clear();
            }
        }
        self.seen
    }

    fn is_end(&self) -> bool {
        self.line.len() < Self::MOST_BYTES
            && self.line.strip_prefix(b"data:").is_some_and(|data| data.trim_ascii() == b"[DONE]")
    }
}

/// What a refusal of the wish for a count names.
const STREAM_OPTIONS: &[u8] = b"stream_options";

/// Gives the response, and whether it was asked for a count that the client did not ask for.
async fn send(passed: &Passed, upstream: &Upstream) -> Result<(reqwest::Response, bool), ApiError> {
    let url = format!("{}/{}", upstream.base_url, passed.path);
    let mut headers = own(&passed.headers);
    if let Some(parent) = passed.caller.span.as_ref().and_then(|link| link.headers().traceparent) {
        headers.insert("traceparent", parent);
    }
    if let Some(key) = upstream.authorization(&passed.caller) {
        headers.insert(AUTHORIZATION, key);
    }
    let ask = async |body: &Bytes| {
        let request = upstream.client.request(passed.method.clone(), &url).headers(headers.clone());
        let first_byte = seconds_of(upstream.settings.first_byte_seconds);
        let sent = tokio::time::timeout(passed.limit.within(first_byte), request.body(body.clone()).send());
        let name = &upstream.name;
        match sent.await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => {
                let (what, hint) = match certificate_problem(&error) {
                    Some(hint) => ("is not believed to be that server", hint),
                    None => ("cannot be asked", "see whether it runs at its `base_url`"),
                };
                let message = format!("the upstream {name} {what}: {}\nhint: {hint}", chain(&error));
                Err(ApiError::new(StatusCode::BAD_GATEWAY, "upstream_failed", message))
            }
            Err(_) if passed.limit.is_over() => Err(passed.limit.error()),
            Err(_) => {
                let seconds = upstream.settings.first_byte_seconds;
                let message = format!(
                    "the upstream {name} did not answer within {seconds} s\nhint: `first_byte_seconds` of the upstream \
                     gives it longer"
                );
                Err(ApiError::new(StatusCode::GATEWAY_TIMEOUT, "upstream_timeout", message))
            }
        }
    };
    let counts = upstream.counts.load(Ordering::Relaxed);
    let Some(asking) = passed.asking.as_ref().filter(|_| counts) else {
        return Ok((ask(&passed.body).await?, false));
    };
    let response = ask(asking).await?;
    if !matches!(response.status(), StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY) {
        return Ok((response, true));
    }
    // A server that does not know the wish may refuse the request for it; it is not asked for that again.
    let (status, headers) = (response.status(), response.headers().clone());
    let idle = passed.limit.within(seconds_of(upstream.settings.idle_seconds));
    let said = whole(response, idle, upstream.settings.most_body_bytes).await.unwrap_or_default();
    if said.windows(STREAM_OPTIONS.len()).any(|word| word == STREAM_OPTIONS) {
        let response = ask(&passed.body).await?;
        // One that repeats a request which it refuses names the wish, too: only where it takes the request without the
        // wish, that was the reason.
        if response.status().is_success() {
            upstream.counts.store(false, Ordering::Relaxed);
        }
        return Ok((response, false));
    }
    let mut again = Response::new(said);
    (*again.status_mut(), *again.headers_mut()) = (status, headers);
    Ok((again.into(), false))
}

fn seconds_of(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs(120))
}

/// An error with its causes; the outermost one of reqwest only repeats the address.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
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
    let (mut record, limit) = (passed.record, passed.limit);
    match got {
        Got::Events { response, counted } => {
            let (status, headers) = (response.status(), own(response.headers()));
            let stream = response.bytes_stream().map(|chunk| chunk.map_err(|error| chain(&error))).boxed();
            let count = counted.then(WithoutCount::default);
            let mark = End::default();
            let events =
                Events { stream: Some(stream), record, upstream, limit, status, count, mark, cancel };
            let body = futures::stream::unfold(events, |mut events| async move {
                let chunk = events.next().await?;
                Some((Ok::<Bytes, BoxError>(chunk), events))
            });
            with_head(status, headers, Body::Stream(Box::pin(body)))
        }
        Got::Whole { status, headers, bytes } => {
            record.saw(&bytes);
            let kept = if status.is_success() { TraceStatus::Answered } else { TraceStatus::Failed };
            record.keep(kept, None).await;
            with_head(status, headers, Body::Full(Some(bytes).filter(|bytes| !bytes.is_empty())))
        }
    }
}

/// The body as a whole, up to `most` bytes; `idle` bounds the wait for each piece of it.
async fn whole(mut response: reqwest::Response, idle: Duration, most: usize) -> Result<Bytes, String> {
    let mut bytes: Option<Bytes> = None;
    let mut more: Vec<u8> = Vec::new();
    loop {
        let chunk = match tokio::time::timeout(idle, response.chunk()).await {
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None)) => break,
            Ok(Err(error)) => return Err(chain(&error)),
            Err(_) => return Err(format!("nothing came for {idle:?}")),
        };
        match &bytes {
            None => bytes = Some(chunk),
            Some(first) => {
                if more.is_empty() {
                    more.extend_from_slice(first);
                }
                more.extend_from_slice(&chunk);
            }
        }
        if more.len().max(bytes.as_ref().map_or(0, Bytes::len)) > most {
            return Err(format!(
                "it is longer than {most} bytes\nhint: `most_body_bytes` of the upstream allows more"
            ));
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
    limit: Limit,
    status: StatusCode,
    /// Takes out what only we asked for.
    count: Option<WithoutCount>,
    mark: End,
    cancel: CancelToken,
}

impl Events {
    async fn next(&mut self) -> Option<Bytes> {
        let problem = loop {
            let stream = self.stream.as_mut()?;
            let (name, idle) = (&self.upstream.name, seconds_of(self.upstream.settings.idle_seconds));
            let next = tokio::select! {
                biased;
                next = tokio::time::timeout(self.limit.within(idle), stream.next()) => next,
                () = self.cancel.cancelled() => return self.end(Err(ApiError::stopping())).await,
            };
            match next {
                Ok(Some(Ok(chunk))) => {
                    self.record.saw(&chunk);
                    let is_end = self.mark.saw(&chunk);
                    let chunk = match &mut self.count {
                        Some(count) => count.pass(&chunk),
                        None => chunk,
                    };
                    // Clients read no further than this, and may speak of the answer at once: its trace comes first.
                    if is_end && !self.record.finished {
                        let is_answer = self.status.is_success();
                        if is_answer {
                            self.upstream.succeeded();
                        }
                        let status = if is_answer { TraceStatus::Answered } else { TraceStatus::Failed };
                        self.record.keep(status, None).await;
                    }
                    if !chunk.is_empty() {
                        return Some(chunk);
                    }
                }
                Ok(None) if self.is_whole() => return self.end(Ok(())).await,
                Ok(None) => break format!("the upstream {name} ended its answer before it was finished"),
                Ok(Some(Err(problem))) => {
                    break format!("the upstream {name} broke off in the middle of its answer: {problem}");
                }
                // What the client allows says nothing about the upstream.
                Err(_) if self.limit.is_over() => return self.end(Err(self.limit.error())).await,
                Err(_) => break format!("the upstream {name} sent nothing for {idle:?}"),
            }
        };
        if self.record.finished {
            // How the connection ends behind the answer is no part of it.
            return self.end(Ok(())).await;
        }
        self.upstream.failed(&problem);
        self.end(Err(ApiError::new(StatusCode::BAD_GATEWAY, "upstream_failed", problem))).await
    }

    /// Whether a stream that has ended came to its end: it says so, or why the text ends, or what went wrong.
    fn is_whole(&self) -> bool {
        if self.mark.seen || self.mark.is_end() || self.record.finished || !self.status.is_success() {
            return true;
        }
        let said = Said::of_events(self.record.last.as_ref().unwrap_or(&self.record.response));
        said.finish.is_some() || said.error.is_some()
    }

    /// Keeps the trace, and gives what is left to say: the end of what came, and an error. The stream ends for the client
    /// when its trace is kept.
    async fn end(&mut self, ended: Result<(), ApiError>) -> Option<Bytes> {
        self.stream = None;
        let status = match &ended {
            Ok(()) if self.status.is_success() => TraceStatus::Answered,
            Err(error) if error.is_cancelled() => TraceStatus::Cancelled,
            _ => TraceStatus::Failed,
        };
        if ended.is_ok() && !self.record.finished && !self.status.is_server_error() {
            self.upstream.succeeded();
        }
        let problem = ended.as_ref().err().filter(|error| !error.is_cancelled());
        if !self.record.finished {
            self.record.keep(status, problem.map(|error| error.message.as_str())).await;
        }
        let mut end = self.count.as_mut().map(|count| count.rest().to_vec()).unwrap_or_default();
        if let Err(error) = ended {
            // What came before may have ended in the middle of a line.
            end.extend_from_slice(b"\n\n");
            end.extend_from_slice(&sse::data(&error.body()));
        }
        (!end.is_empty()).then(|| end.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    #[test]
    fn what_belongs_to_the_connection_goes_no_further() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, X-Hop"),
            ("connection", "x-other"),
            ("x-hop", "1"),
            ("x-other", "1"),
            ("proxy-connection", "keep-alive"),
            ("upgrade", "h2c"),
            ("x-mine", "1"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        assert_eq!(own(&headers).keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-mine"]);
    }

    #[test]
    fn the_end_of_a_stream_is_a_line_of_its_own() {
        for (stream, wanted) in [
            ("data: {}\n\ndata: [DONE]\n\n", true),
            ("data: {}\r\n\r\ndata:[DONE]\r\n\r\n", true),
            ("data: {\"content\": \"data: [DONE]\"}\n\n", false),
            ("data: {\"content\": \"say data: [DONE]", false),
            (": data: [DONE]\n", false),
        ] {
            for size in [1, 3, 1000] {
                let mut end = End::default();
                stream.as_bytes().chunks(size).for_each(|piece| {
                    end.saw(piece);
                });
                assert_eq!(end.seen, wanted, "{stream:?} in pieces of {size}");
            }
        }
    }
}
