//! Sending, bounded reading, and errors in words.

use super::retry_after::retry_after_seconds;
use super::trust::{certificate_problem, certificates};
use super::wire::{WireFault, error_message, fault_error};
use crate::propagate::TraceContext;
use crate::{Address, GenerateError, timeout::Timeouts};
use futures::StreamExt;
use futures::stream::BoxStream;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response, StatusCode, Url};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// One server: its address, our connections to it, and the words for its failures.
pub(crate) struct Server {
    client: Client,
    base: Url,
    /// Name of the model, for messages.
    model: String,
    headers: HeaderMap,
    first_byte: Duration,
    idle: Duration,
    most_body_bytes: usize,
}

/// A failed exchange: the error, and the server's words when it refused the request itself (400, 422).
#[derive(Debug)]
pub(crate) struct Refusal {
    pub error: GenerateError,
    pub refused: Option<String>,
}

impl From<GenerateError> for Refusal {
    fn from(error: GenerateError) -> Self {
        Refusal { error, refused: None }
    }
}

impl Server {
    pub(crate) fn new(
        model: &str,
        base_url: &Address,
        api_key: Option<&str>,
        headers: &BTreeMap<String, String>,
        timeouts: &Timeouts,
        most_body_bytes: usize,
        ca_file: Option<&Path>,
    ) -> Result<Self, GenerateError> {
        let wrong = |what: String, hint: &str| GenerateError::Request {
            model: model.into(),
            what,
            hint: hint.into(),
        };
        let mut base = Url::parse(base_url.reveal())
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| {
                wrong(
                    format!("`{base_url}` is not the address of a server"),
                    "give a base URL such as `http://localhost:8000/v1`",
                )
            })?;
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let pair = (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value.as_str()));
            let (Ok(name), Ok(value)) = pair else {
                return Err(wrong(
                    format!("header `{name}` cannot be sent"),
                    "use plain ASCII names and values",
                ));
            };
            map.insert(name, value);
        }
        if let Some(key) = api_key {
            let mut value = HeaderValue::try_from(format!("Bearer {key}")).map_err(|_| {
                wrong(
                    "the API key holds characters that no header can carry".into(),
                    "check the key for line ends",
                )
            })?;
            value.set_sensitive(true);
            map.insert(reqwest::header::AUTHORIZATION, value);
        }
        // The TLS library has no default of its own here; a provider that the program installed earlier stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .user_agent(concat!("elenchus/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(64)
            .connect_timeout(timeouts.connect());
        if let Some(file) = ca_file {
            let hint = "name a PEM file with the certificate of the authority of an https server";
            let authorities = certificates(file, base.scheme()).map_err(|what| wrong(what, hint))?;
            builder = builder.tls_certs_merge(authorities);
        } else if base.scheme() == "http" {
            // No certificates are needed, and looking for them fails on machines without any.
            builder = builder.tls_certs_only([]);
        }
        if is_loopback(&base) {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| {
            wrong(format!("no HTTPS is possible: {}", chain(&error)), "install the CA certificates")
        })?;
        Ok(Server {
            client,
            base,
            model: model.into(),
            headers: map,
            first_byte: timeouts.first_byte(),
            idle: timeouts.idle(),
            most_body_bytes,
        })
    }

    /// Host and port, for messages and for the limit per host.
    pub(crate) fn place(&self) -> String {
        let host = self.base.host_str().unwrap_or_default();
        match self.base.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_string(),
        }
    }

    fn unavailable(&self, what: String, hint: &str, retryable: bool) -> GenerateError {
        GenerateError::Unavailable {
            model: self.model.clone(),
            what,
            hint: hint.into(),
            retry_after_seconds: None,
            retryable,
        }
    }

    /// Sends a request; returns the response once its head with a good status is there.
    pub(crate) async fn send(
        self: &Arc<Self>,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response, Refusal> {
        let url = self.base.join(path).map_err(|error| {
            GenerateError::from_request(
                &self.model,
                format!("address `{path}`: {error}"),
                "check the base URL",
            )
        })?;
        let request = match body {
            Some(body) => self.client.post(url).json(body),
            None => self.client.get(url),
        };
        let mut headers = self.headers.clone();
        TraceContext::add_to(&mut headers);
        let sending = request.headers(headers).send();
        let response = match tokio::time::timeout(self.first_byte, sending).await {
            Err(_) => {
                let what = format!("{} did not answer within {:?}", self.place(), self.first_byte);
                return Err(self
                    .unavailable(what, "the server may be loading; raise `timeouts.first_byte_seconds`", true)
                    .into());
            }
            Ok(Err(error)) => return Err(self.transport_error(&error).into()),
            Ok(Ok(response)) => response,
        };
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.status_error(response).await)
    }

    /// Sends a request and reads its answer as JSON.
    pub(crate) async fn exchange(
        self: &Arc<Self>,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Refusal> {
        let response = self.send(path, body).await?;
        let is_html = is_html(&response);
        let bytes = self.read(response).await?;
        Ok(self.json(&bytes, is_html)?)
    }

    fn json(&self, bytes: &[u8], is_html: bool) -> Result<Value, GenerateError> {
        let place = self.place();
        let Ok(text) = std::str::from_utf8(bytes) else {
            let what = format!("{place} answers with bytes that are not UTF-8");
            return Err(self.unavailable(what, "the server or a proxy before it is broken", true));
        };
        serde_json::from_str(text).map_err(|error| {
            let start = crate::scripted::shorten(text.trim_start());
            if is_html || start.starts_with('<') {
                let what = format!("{place} answers with a web page: `{start}`");
                self.unavailable(what, "check the base URL: that of an API usually ends in `/v1`", false)
            } else {
                let what = format!("{place} answers with invalid JSON ({error}): `{start}`");
                self.unavailable(
                    what,
                    "the server or a proxy before it is broken, or the answer was cut",
                    true,
                )
            }
        })
    }

    /// Reads a body up to the bound; a pause longer than the idle time is an error.
    async fn read(self: &Arc<Self>, response: Response) -> Result<Vec<u8>, GenerateError> {
        let mut chunks = self.chunks(response);
        let mut bytes = Vec::new();
        while let Some(chunk) = chunks.next().await {
            bytes.extend_from_slice(&chunk?);
            if bytes.len() > self.most_body_bytes {
                let what = format!("{} answers with more than {} bytes", self.place(), self.most_body_bytes);
                return Err(self.unavailable(
                    what,
                    "raise `most_body_bytes` if such answers are wanted",
                    false,
                ));
            }
        }
        Ok(bytes)
    }

    /// The chunks of a body as they arrive.
    pub(crate) fn chunks(
        self: &Arc<Self>,
        response: Response,
    ) -> BoxStream<'static, Result<Vec<u8>, GenerateError>> {
        let body = Box::pin(response.bytes_stream());
        let server = Arc::clone(self);
        let stream = futures::stream::unfold(Some(body), move |body| {
            let server = Arc::clone(&server);
            async move {
                let mut body = body?;
                match tokio::time::timeout(server.idle, body.next()).await {
                    Err(_) => {
                        let (place, idle) = (server.place(), server.idle);
                        let what = format!("{place} sent nothing for {idle:?} in the middle of its answer");
                        let hint = "raise `timeouts.idle_seconds` for a slow server";
                        Some((Err(server.unavailable(what, hint, true)), None))
                    }
                    Ok(None) => None,
                    Ok(Some(Err(error))) => Some((Err(server.transport_error(&error)), None)),
                    Ok(Some(Ok(chunk))) => Some((Ok(chunk.to_vec()), Some(body))),
                }
            }
        });
        stream.boxed()
    }

    pub(crate) fn fault(&self, fault: WireFault) -> GenerateError {
        fault_error(&self.model, &self.place(), fault)
    }

    pub(crate) fn protocol_error(&self, what: String) -> GenerateError {
        let what = format!("{} breaks the stream: {what}", self.place());
        self.unavailable(what, "the server or a proxy before it is broken", true)
    }

    fn transport_error(&self, error: &reqwest::Error) -> GenerateError {
        let place = self.place();
        let cause = chain(error);
        if let Some(hint) = certificate_problem(error) {
            return self.unavailable(
                format!("{place} is not believed to be that server: {cause}"),
                hint,
                false,
            );
        }
        if error.is_timeout() {
            let what = format!("{place} could not be reached in time: {cause}");
            return self.unavailable(what, "check the address and the network", true);
        }
        if error.is_connect() {
            let what = format!("no connection to {place}: {cause}");
            return self.unavailable(
                what,
                "check that the server runs and that host and port are right",
                true,
            );
        }
        if error.is_builder() {
            return GenerateError::from_request(
                &self.model,
                format!("it cannot be sent: {cause}"),
                "check the base URL and the headers",
            );
        }
        let what = format!("the connection to {place} broke: {cause}");
        self.unavailable(what, "the server closed it in the middle of its answer; its log may say why", true)
    }

    async fn status_error(self: &Arc<Self>, response: Response) -> Refusal {
        let status = response.status();
        let retry_after_seconds = retry_after_seconds(response.headers());
        let moved_to = response
            .headers()
            .get(reqwest::header::LOCATION)
            .and_then(|value| value.to_str().ok())
            .map(str::to_string);
        let is_html = is_html(&response);
        // The words matter less than the status: when they cannot be read, the status is said alone.
        let bytes = self.read(response).await.unwrap_or_default();
        let (words, code) = words(&bytes, is_html);
        let place = self.place();
        let what = format!(
            "{place}{ANSWERS}{status}{}",
            if words.is_empty() { String::new() } else { format!(": {words}") }
        );
        let refuse = |hint: &str| GenerateError::from_request(&self.model, what.clone(), hint);
        let unavailable = |hint: &str, retryable| GenerateError::Unavailable {
            model: self.model.clone(),
            what: what.clone(),
            hint: hint.into(),
            retry_after_seconds,
            retryable,
        };
        let error = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => refuse(
                "check the API key: it stands in the variable OPENAI_API_KEY, or in the one that `api_key_variable` names",
            ),
            StatusCode::NOT_FOUND => {
                refuse("check the name of the model and the base URL, which usually ends in `/v1`")
            }
            StatusCode::TOO_MANY_REQUESTS if code.as_deref() == Some("insufficient_quota") => {
                unavailable("the account has no credit left", false)
            }
            StatusCode::TOO_MANY_REQUESTS => {
                unavailable("the server limits the rate; fewer concurrent calls help", true)
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT | StatusCode::TOO_EARLY => {
                unavailable("the server could not take the request now", true)
            }
            StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED => {
                unavailable("the server does not offer this", false)
            }
            status if status.is_server_error() => unavailable("the server failed; its log may say why", true),
            status if status.is_redirection() => {
                let to = moved_to.unwrap_or_else(|| "another address".into());
                refuse(&format!("use the base URL that the server names: {to}"))
            }
            _ => refuse("these are the words of the server; mend the request or choose another model"),
        };
        let refused =
            matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY).then_some(words);
        Refusal { error, refused }
    }
}

/// Between the server and the status in the words of an error.
pub(super) const ANSWERS: &str = " answers ";

impl GenerateError {
    /// The status with which a server refused or failed, where one did.
    pub fn http_status(&self) -> Option<u16> {
        let (GenerateError::Request { what, .. } | GenerateError::Unavailable { what, .. }) = self else {
            return None;
        };
        let (_, status) = what.split_once(ANSWERS)?;
        status.get(..3)?.parse().ok().filter(|status| (100..600).contains(status))
    }

    /// Whether the server did answer, and only this answer failed: it cannot be read, or is an error that says nothing of the
    /// server as a whole (400 and others below 500). Not where no connection was, an answer broke off, or the status is 5xx.
    pub fn is_of_one_answer(&self) -> bool {
        let (GenerateError::Request { what, .. } | GenerateError::Unavailable { what, .. }) = self else {
            return false;
        };
        // The first word is host and port.
        let said = what.split_once(' ').map_or("", |(_, said)| said);
        let answered = said.starts_with("answers ") || said.starts_with("answers:");
        let is_read = answered || said.starts_with("breaks the stream");
        is_read && self.http_status().is_none_or(|status| status < 500)
    }

    pub(super) fn from_request(model: &str, what: String, hint: &str) -> Self {
        GenerateError::Request { model: model.into(), what, hint: hint.into() }
    }
}

fn is_html(response: &Response) -> bool {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.to_ascii_lowercase().starts_with("text/html"))
}

/// What an error body says, on one line and not long, and its code.
fn words(bytes: &[u8], is_html: bool) -> (String, Option<String>) {
    const MOST_CHARACTERS: usize = 600;
    let text = String::from_utf8_lossy(bytes);
    let (message, code) = match serde_json::from_str::<Value>(&text).ok().as_ref().and_then(error_message) {
        Some((message, code)) => (message, code),
        None if is_html || text.trim_start().starts_with('<') => ("a web page".to_string(), None),
        None => (text.to_string(), None),
    };
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    (line.chars().take(MOST_CHARACTERS).collect(), code)
}

fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback()),
        None => false,
    }
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
