//! Connections, requests, and the end.

use crate::archive::Archive;
use crate::ask::Inbound;
use crate::body::{Body, Received, Reply, check_depth, full, json as reply_json, read, refuse};
use crate::chat::Peek;
use crate::choose::{Wish, choose};
use crate::forward::Forward;
use crate::keys::{Caller, KeyRing, TraceNote};
use crate::metrics::Gauges;
use crate::pass::TRACE_HEADER;
use crate::patience::Patience;
use crate::routes::{Found, Route, find};
use crate::state::{Live, State, Target, new_id, now_ms};
use crate::telemetry::{Telemetry, outgoing};
use crate::{ApiError, ServeError, ask, catalogue, openapi, page, records, rerun, responses, runs};
use bytes::Bytes;
use elenchus_recipe::{LogLevel, ServiceSettings};
use elenchus_remember::service::ServiceStore;
use elenchus_trace::Price;
use hyper::body::Incoming;
use hyper::header::{ALLOW, HOST, HeaderMap, HeaderValue, ORIGIN};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};

/// How long the collector may hold up the end.
const TELEMETRY_ENDS: Duration = Duration::from_secs(3);

/// How long an answer of `/readyz` about the store holds.
const READY_HOLDS: Duration = Duration::from_secs(1);
/// How long it waits for the store.
const READY_WAITS: Duration = Duration::from_secs(1);
/// How long what was cancelled may take to end.
const CANCELLED_ENDS: Duration = Duration::from_secs(2);

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stop {
    Running,
    /// Requests in flight may end.
    Finishing,
    /// Nothing may.
    Cut,
}

/// What a reload gives: settings and prices.
pub type Reloaded = (ServiceSettings, HashMap<String, Price>);

/// What the gateway runs with.
pub struct Options {
    /// The `[serve]` table.
    pub settings: ServiceSettings,
    /// What tokens cost, by the name of the model.
    pub prices: HashMap<String, Price>,
    /// Where traces, feedback and keys are kept.
    pub store: Arc<dyn ServiceStore>,
}

/// A gateway that listens.
pub struct Gateway {
    listener: TcpListener,
    address: SocketAddr,
    state: Arc<State>,
}

/// The way to a running gateway from outside.
#[derive(Clone)]
pub struct Handle {
    state: Arc<State>,
}

impl Handle {
    /// Takes new settings and prices for the requests from now on. Gives the names of the settings in `[serve]` that have
    /// changed and hold from the next start only: address, store, limits on connections and on recipes.
    ///
    /// # Errors
    /// An upstream or the collector cannot be; all old settings stay.
    pub fn reload(&self, (settings, prices): Reloaded) -> Result<Vec<&'static str>, ServeError> {
        let needs_restart = changed(&self.state.started, &settings);
        let telemetry = self.state.telemetry.next(&settings.telemetry)?;
        self.state.replace(Live::new(settings, prices, Some(&self.state.live()))?);
        self.state.telemetry.take(telemetry);
        self.state.log(LogLevel::Off, "reloaded", json!({"needs_restart": needs_restart}));
        Ok(needs_restart)
    }

    /// Traces and feedback that the store did not take, since the start.
    pub fn unstored(&self) -> u64 {
        self.state.archive.failures()
    }
}

/// The settings that a running gateway cannot change, where these two differ in them.
fn changed(started: &ServiceSettings, now: &ServiceSettings) -> Vec<&'static str> {
    let fixed = [
        ("host", started.host != now.host),
        ("port", started.port != now.port),
        ("store", started.store != now.store),
        ("most_connections", started.most_connections != now.most_connections),
        ("most_recipes", started.most_recipes != now.most_recipes),
        ("most_bytes_in_flight", started.most_bytes_in_flight != now.most_bytes_in_flight),
    ];
    fixed.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
}

impl Gateway {
    /// Opens the listener.
    ///
    /// # Errors
    /// The address is taken or no address; an upstream cannot be; the listener can be reached by others and no key was
    /// made.
    pub async fn bind(options: Options) -> Result<Self, ServeError> {
        let Options { settings, prices, store } = options;
        let wanted = format!("{}:{}", settings.host, settings.port);
        let listen = |source| ServeError::Listen {
            address: wanted.clone(),
            source,
            hint: "`--port` takes another port (0 a free one), `--host` another address",
        };
        let listener = TcpListener::bind(&wanted).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let open = !address.ip().is_loopback();
        let keys = KeyRing::new(open);
        keys.refresh(store.as_ref())?;
        let hint = match (open, settings.require_keys) {
            (true, Some(false)) => Some("leave `require_keys` out, or listen on 127.0.0.1"),
            (true, _) if keys.is_empty() => {
                Some("make one with `elenchus keys add NAME`, or listen on 127.0.0.1")
            }
            (false, Some(true)) if keys.is_empty() => Some("make one with `elenchus keys add NAME`"),
            _ => None,
        };
        if let Some(hint) = hint {
            let why = if open {
                format!("{address} can be reached by others")
            } else {
                "`require_keys` is set".into()
            };
            let what = if keys.is_empty() { "there is no key" } else { "`require_keys` is `false`" };
            return Err(ServeError::setting(format!("{why}, and {what}"), hint));
        }
        let archive = Archive::new(store).map_err(listen)?;
        let telemetry = Telemetry::start(&settings.telemetry)?;
        let state = Arc::new(State::new(Live::new(settings, prices, None)?, archive, keys, telemetry));
        Ok(Gateway { listener, address, state })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The way to it while it runs.
    pub fn handle(&self) -> Handle {
        Handle { state: Arc::clone(&self.state) }
    }

    /// Serves until `stop` is ready; then takes no more requests, lets those in flight end for as long as the settings
    /// say, cancels the rest, and returns when everything is written.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Gateway { listener, state, .. } = self;
        let settings = state.live().settings.clone();
        if settings.embedded {
            // Read while nobody waits for it.
            let early = Arc::clone(&state);
            tokio::spawn(async move {
                if let Err(error) = early.embedded().await {
                    early.log(LogLevel::Problems, "embedded_not_loaded", json!({"error": error.message}));
                }
            });
        }
        let places = Arc::new(Semaphore::new(settings.most_connections));
        let (stopping, stopped) = watch::channel(Stop::Running);
        // Every connection holds a sender; when the last is dropped, all have ended.
        let (alive, mut ended) = mpsc::channel::<Infallible>(1);
        tokio::pin!(stop);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut stop => break,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                // Out of file handles, most likely: a pause lets some be closed.
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                // Closing at once tells the client more than a wait without end.
                drop(stream);
                continue;
            };
            let (state, stopped, alive) = (Arc::clone(&state), stopped.clone(), alive.clone());
            tokio::spawn(async move {
                state.metrics.connections.fetch_add(1, Ordering::Relaxed);
                connection(stream, &state, stopped).await;
                state.metrics.connections.fetch_sub(1, Ordering::Relaxed);
                drop((place, alive));
            });
        }
        drop(listener);
        drop(alive);
        state.stop();
        // Without connections nobody listens.
        let _ = stopping.send(Stop::Finishing);
        let grace = Duration::from_secs_f64(state.live().settings.grace_seconds.clamp(0.0, 1e6));
        if tokio::time::timeout(grace, ended.recv()).await.is_err() {
            state.cancel.cancel();
            if tokio::time::timeout(CANCELLED_ENDS, ended.recv()).await.is_err() {
                let _ = stopping.send(Stop::Cut);
            }
        }
        // What was cut off is written down when it is dropped, which takes a moment.
        let _ = tokio::time::timeout(CANCELLED_ENDS, state.all_written()).await;
        state.archive.flush().await;
        state.telemetry.flush(TELEMETRY_ENDS).await;
    }
}

async fn connection(stream: TcpStream, state: &Arc<State>, mut stopped: watch::Receiver<Stop>) {
    // Small pieces of a stream go out at once; where this cannot be set, they only come later.
    let _ = stream.set_nodelay(true);
    let settings = state.live();
    let header_seconds = settings.settings.header_seconds.clamp(0.1, 1e6);
    let write_seconds = settings.settings.write_seconds.clamp(0.1, 1e6);
    let stream = Patience::new(stream, Duration::from_secs_f64(write_seconds));
    drop(settings);
    let service = service_fn(|request| {
        let state = Arc::clone(state);
        // In a box, because an idle connection keeps the place that its next request will need.
        Box::pin(async move { Ok::<_, Infallible>(handle(state, request).await) })
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs_f64(header_seconds))
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // How a connection breaks concerns nobody but its client.
    let is_stopped = async {
        // The sender lives as long as the listener; that it is gone means the same.
        let _ = stopped.wait_for(|stop| *stop != Stop::Running).await.map(|_| ());
    };
    let ended = tokio::select! {
        _ = connection.as_mut() => true,
        () = is_stopped => false,
    };
    if !ended {
        connection.as_mut().graceful_shutdown();
        let is_cut = async {
            let _ = stopped.wait_for(|stop| *stop == Stop::Cut).await.map(|_| ());
        };
        tokio::select! {
            _ = connection.as_mut() => {}
            () = is_cut => {}
        }
    }
}

/// Counts a request as in flight.
struct InFlight(Arc<State>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.metrics.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn handle(state: Arc<State>, request: Request<Incoming>) -> Reply {
    let started = Instant::now();
    state.metrics.in_flight.fetch_add(1, Ordering::Relaxed);
    let _in_flight = InFlight(Arc::clone(&state));
    let (method, path) = (request.method().clone(), request.uri().path().to_string());
    let trace = TraceNote::default();
    let is_head = method == Method::HEAD;
    let (name, mut reply) = match find(&method, &path) {
        Found::Nothing => {
            ("none", refuse(&ApiError::not_found(format!("there is nothing at `{}`", shown(&path)))))
        }
        Found::Method(others) => {
            let allowed = others.join(", ");
            let message = format!("`{}` takes {allowed}", shown(&path));
            let mut reply =
                refuse(&ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message));
            if let Ok(value) = HeaderValue::try_from(allowed) {
                reply.headers_mut().insert(ALLOW, value);
            }
            ("none", reply)
        }
        Found::Route(route, inner) => {
            // Pages and probes are no work of ours that anybody wants to see in a trace.
            let link = route.is_work().then(|| state.telemetry.begin(request.headers())).flatten();
            let outgoing = outgoing(link.as_ref(), request.headers());
            let caller = Caller { span: link.clone(), trace: trace.clone(), ..Caller::default() };
            let answering = answer(&state, route, inner, request, caller);
            let reply = match outgoing.scope(answering).await {
                Ok(reply) => reply,
                Err(error) => {
                    if error.status.is_server_error() {
                        let fields = json!({
                            "route": route.name, "code": error.code, "error": error.message, "trace_id": trace.id(),
                        });
                        state.log(LogLevel::Problems, "failed", fields);
                    }
                    refuse(&error)
                }
            };
            state.telemetry.responded(link.as_ref(), (route.method, route.path), reply.status(), started);
            (route.name, reply)
        }
    };
    if is_head {
        *reply.body_mut() = Body::Full(None);
    }
    let headers = reply.headers_mut();
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    if let Some(id) = trace.promised().and_then(|id| HeaderValue::try_from(id).ok()) {
        headers.insert(TRACE_HEADER, id);
    }
    let took = started.elapsed();
    state.metrics.request(name, reply.status().as_u16(), took);
    if state.live().settings.log == LogLevel::Requests {
        let fields = json!({
            "route": name, "method": method.as_str(), "path": shown(&path), "status": reply.status().as_u16(),
            "milliseconds": took.as_secs_f64() * 1e3, "trace_id": trace.id(),
        });
        state.log(LogLevel::Requests, "request", fields);
    }
    reply
}

/// A path for a message: not longer than a line.
fn shown(path: &str) -> String {
    path.chars().take(120).collect()
}

/// Refuses what a page of another site makes a browser send: on loopback no key stands before the store.
fn check_origin(headers: &HeaderMap, needs_key: bool) -> Result<(), ApiError> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let host = text(HOST).unwrap_or_default();
    let forbidden = |code, message| Err(ApiError::new(StatusCode::FORBIDDEN, code, message));
    if let Some(origin) = text(ORIGIN) {
        let place = origin.split_once("://").map_or(origin, |(_, place)| place);
        if !place.eq_ignore_ascii_case(host) {
            let message = "requests of other sites' pages are refused";
            return forbidden("foreign_origin", message);
        }
    }
    if needs_key {
        return Ok(());
    }
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let loopback = name.is_empty()
        || name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if loopback {
        return Ok(());
    }
    // A name that another's DNS points at this machine (rebinding).
    forbidden("foreign_host", "this gateway listens on loopback and answers to `localhost` only")
}

async fn answer(
    state: &Arc<State>,
    route: &'static Route,
    inner: Option<&str>,
    request: Request<Incoming>,
    caller: Caller,
) -> Result<Reply, ApiError> {
    if route.scope.is_some() {
        state.freshen_keys(request.headers()).await?;
    }
    check_origin(request.headers(), state.needs_key(request.headers()))?;
    let caller = match route.scope {
        Some(scope) => {
            let setting = state.live().settings.require_keys;
            let Caller { key, foreign, .. } = state.keys.caller(request.headers(), scope, setting)?;
            Caller { key, foreign, ..caller }
        }
        None => caller,
    };
    if state.is_stopping() && route.is_work() {
        return Err(ApiError::stopping());
    }
    let query: HashMap<String, String> = match request.uri().query() {
        None => HashMap::new(),
        Some(query) => form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
    };
    if route.method == "GET" {
        return match route.name {
            "page" => Ok(page::html()),
            "page_css" => Ok(page::css()),
            "page_script" => page::script(inner.unwrap_or_default()),
            "icon" => Ok(full(StatusCode::NO_CONTENT, "image/x-icon", Bytes::new())),
            "healthz" => Ok(reply_json(StatusCode::OK, &json!({"status": "ok"}))),
            "readyz" => Ok(ready(state).await),
            "metrics" => Ok(metrics(state)),
            "openapi" => Ok(reply_json(StatusCode::OK, &openapi::description())),
            "models" => Ok(catalogue::list_models(state, &caller).await),
            // Clients write the slashes of a name as `%2F`.
            "model" => {
                let name = inner.unwrap_or_default().replace('+', "%2B");
                catalogue::one_model(state, &caller, &decoded(&name)).await
            }
            "response" => responses::get(state, &caller, inner.unwrap_or_default()).await,
            "recipes" => catalogue::list_recipes(state, &caller, &query).await,
            "traces" => records::list(state, &query).await,
            "trace" => records::trace(state, &caller, inner.unwrap_or_default()).await,
            "totals" => records::totals(state, &query).await,
            "runs" => runs::list(state).await,
            "run" => runs::one(state, inner.unwrap_or_default()).await,
            "run_report" => {
                let ticket = query.get("ticket").map(String::as_str);
                runs::report(state, inner.unwrap_or_default(), ticket).await
            }
            "export" => records::export(state, &query).await,
            _ => Err(ApiError::not_found("there is nothing here")),
        };
    }
    if route.name == "response_delete" {
        return responses::delete(state, &caller, inner.unwrap_or_default()).await;
    }
    // A composition in the path has spaces.
    let recipe = inner.map(decoded);
    let inner = recipe.as_deref();
    let live = state.live();
    let headers = request.headers().clone();
    let within = Duration::from_secs_f64(live.settings.body_seconds.clamp(0.1, 1e6));
    let most = live.settings.most_body_bytes;
    let Received { bytes, place } = read(request, &state.bodies, most, within).await?;
    check_depth(&bytes, live.settings.most_depth)?;
    let reply = match route.name {
        "chat" | "chat_recipe" => ask::chat(state, Inbound::new(caller, headers, bytes, inner)).await,
        "responses" | "responses_recipe" => responses::respond(state, caller, headers, bytes, inner).await,
        "completions" => passed(state, live, caller, headers, bytes, "completions").await,
        "embeddings" => passed(state, live, caller, headers, bytes, "embeddings").await,
        "rerun" => rerun::rerun(state, caller, headers, inner.unwrap_or_default(), &bytes).await,
        "estimate" => catalogue::estimate(state, &caller, &bytes).await,
        "feedback" => records::feedback(state, caller, &bytes).await,
        _ => Err(ApiError::not_found("there is nothing here")),
    }?;
    Ok(reply.map(|body| body.holding(place)))
}

/// A part of a path, `%20` and `+` as the spaces that they stand for.
fn decoded(part: &str) -> String {
    // As the value of a field: other signs of a query stand for themselves here.
    let field = format!("part={}", part.replace('&', "%26"));
    form_urlencoded::parse(field.as_bytes()).next().map_or_else(String::new, |(_, part)| part.into_owned())
}

/// Passes a request on without a recipe.
async fn passed(
    state: &Arc<State>,
    live: Arc<Live>,
    caller: Caller,
    headers: HeaderMap,
    bytes: Bytes,
    path: &'static str,
) -> Result<Reply, ApiError> {
    let (started, created_ms) = (Instant::now(), now_ms());
    let peek = Peek::read(&bytes)?;
    let wish = peek.elenchus.as_ref().map(Wish::read).transpose()?.unwrap_or_default();
    let (named, approach) = (peek.model.as_deref().unwrap_or_default(), peek.optillm_approach.as_deref());
    let choice = choose(named, None, approach, &wish)?;
    if let Some(recipe) = choice.recipe {
        let field = match (&wish.recipe, approach) {
            (Some(_), _) => "elenchus",
            (None, Some(_)) => "optillm_approach",
            (None, None) => "model",
        };
        let message = format!("the recipe `{recipe}` answers chats, and `/v1/{path}` asks the model alone");
        let hint = "ask the recipe by `/v1/chat/completions`, or name the model without it";
        return Err(ApiError::bad(field, format!("{message}\nhint: {hint}")));
    }
    let model = match state.target(&live, &choice.model)? {
        Target::Upstream(model) => model,
        Target::Embedded => {
            let message = format!("the embedded model does not answer `/v1/{path}`");
            let hint = "ask it by `/v1/chat/completions`, or give the gateway an upstream";
            return Err(ApiError::bad("model", format!("{message}\nhint: {hint}")));
        }
    };
    let forward = Forward {
        id: new_id("tr_"),
        caller,
        headers,
        live,
        model,
        path,
        recipe: path,
        bytes: bytes.clone(),
        kept: bytes.clone(),
        peek: &peek,
        wish: wish.budget,
        created_ms,
        started,
    };
    crate::forward::forward(state, forward).await
}

/// Whether requests can be answered. Anybody may ask that, so it names nothing, and the store is tried once a second.
async fn ready(state: &Arc<State>) -> Reply {
    let live = state.live();
    let store = {
        let mut known = state.readiness.lock().await;
        match *known {
            Some((at, works)) if at.elapsed() < READY_HOLDS => works,
            _ => {
                // A change of nothing: it takes the lock, and sees whether the file is where it was.
                let changes = state.archive.read(|store| store.write(&[]));
                let takes_changes = tokio::time::timeout(READY_WAITS, changes).await;
                let works = matches!(takes_changes, Ok(Ok(_))) && state.refresh_keys().await.is_ok();
                *known = Some((Instant::now(), works));
                works
            }
        }
    };
    let all = live.pool.upstreams.len();
    let healthy = live.pool.upstreams.iter().filter(|upstream| upstream.is_healthy()).count();
    let embedded = state.embedded_is_loaded();
    let answers = healthy > 0 || (live.settings.embedded && embedded);
    let is_ready = store && answers && !state.is_stopping();
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "ready": is_ready, "store": store, "embedded": embedded,
        "upstreams": {"all": all, "healthy": healthy}, "stopping": state.is_stopping(),
    });
    reply_json(status, &body)
}

fn metrics(state: &Arc<State>) -> Reply {
    let live = state.live();
    let upstreams = live
        .pool
        .upstreams
        .iter()
        .map(|upstream| {
            let requests = upstream.requests.load(Ordering::Relaxed);
            let failures = upstream.failures.load(Ordering::Relaxed);
            (upstream.name.as_str(), upstream.is_healthy(), requests, failures)
        })
        .collect();
    let gauges =
        Gauges { upstreams, store_failures: state.archive.failures(), spans: state.telemetry.counts() };
    let mut reply = Response::new(Body::Full(Some(state.metrics.page(&gauges).into())));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    reply.headers_mut().insert(hyper::header::CONTENT_TYPE, kind);
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(host: &str, origin: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        headers
    }

    #[test]
    fn parts_of_a_path_are_read_as_clients_write_them() {
        for (part, read) in [("a%20then+b", "a then b"), ("a%2Fb%2Bc", "a/b+c"), ("a=b&c", "a=b&c"), ("", "")]
        {
            assert_eq!(decoded(part), read);
        }
    }

    #[test]
    fn pages_of_other_sites_and_rebound_names_are_refused() {
        let code = |keys: bool, host: &str, origin: Option<&str>| {
            check_origin(&headers(host, origin), keys).err().map(|error| error.code)
        };
        assert_eq!(code(false, "localhost:8080", None), None);
        assert_eq!(code(false, "127.0.0.1:8080", Some("http://127.0.0.1:8080")), None);
        assert_eq!(code(false, "[::1]:8080", None), None);
        assert_eq!(code(false, "127.0.0.1:8080", Some("https://evil.example")), Some("foreign_origin"));
        assert_eq!(code(false, "127.0.0.1:8080", Some("null")), Some("foreign_origin"));
        assert_eq!(code(false, "evil.example:8080", None), Some("foreign_host"));
        assert_eq!(code(false, "127.0.0.1.evil.example", None), Some("foreign_host"));
        assert_eq!(code(true, "gateway.example", None), None, "keys stand before it");
        assert_eq!(code(true, "gateway.example", Some("https://evil.example")), Some("foreign_origin"));
    }
}
