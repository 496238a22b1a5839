//! Sending: a bounded queue and one task that empties it in batches. Nobody waits for it.

use super::span::{Span, attribute};
use crate::ServeError;
use bytes::Bytes;
use elenchus_generate::hide_users;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Spans that may wait; further ones are dropped and counted.
const MOST_WAITING: usize = 4096;
/// Spans of one message.
const MOST_TOGETHER: usize = 512;
/// How long the first span of a batch waits for others.
const BATCH_WAITS: Duration = Duration::from_secs(1);
/// How long the collector may take.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Pauses before a message is sent again; after the last it is dropped.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// Longest pause that a collector may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Where spans go and what is said of the sender.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Target {
    pub endpoint: String,
    pub headers: BTreeMap<String, String>,
    pub resource: BTreeMap<String, String>,
}

/// Spans since the start.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub sent: AtomicU64,
    pub dropped: AtomicU64,
}

enum Job {
    Span(Box<Span>),
    Flush(oneshot::Sender<()>),
}

/// The way into the queue.
pub(super) struct Exporter {
    jobs: mpsc::Sender<Job>,
    pub target: Target,
    counts: Arc<Counts>,
}

impl Exporter {
    /// Starts the task that sends; it ends with the exporter, after what waits then is sent. Needs a runtime.
    ///
    /// # Errors
    /// The address is none, or a header cannot be sent.
    pub fn start(target: Target, counts: Arc<Counts>) -> Result<Self, ServeError> {
        let wrong = |what: String| {
            ServeError::setting(
                format!("telemetry endpoint `{}`: {what}", hide_users(&target.endpoint)),
                "give the address of a collector for OTLP over HTTP, such as http://localhost:4318/v1/traces",
            )
        };
        let url = reqwest::Url::parse(&target.endpoint).map_err(|error| wrong(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(wrong("not the address of a server".into()));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &target.headers {
            let (Ok(name), Ok(mut value)) =
                (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value.as_str()))
            else {
                return Err(wrong(format!("the header `{name}` cannot be sent")));
            };
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // The TLS library has no default of its own here; a provider that the program installed earlier stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("elenchus/", env!("CARGO_PKG_VERSION")))
            .timeout(SEND_TIMEOUT);
        if url.scheme() == "http" {
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(|error| wrong(error.to_string()))?;
        let resource = target.resource.iter().map(|(name, value)| attribute(name, &json!(value))).collect();
        let (jobs, waiting) = mpsc::channel(MOST_WAITING);
        let sender = Sender { client, url, headers, resource, counts: Arc::clone(&counts) };
        tokio::spawn(sender.run(waiting));
        Ok(Exporter { jobs, target, counts })
    }

    /// Puts a span into the queue, or drops it when that is full.
    pub fn add(&self, span: Span) {
        if self.jobs.try_send(Job::Span(Box::new(span))).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns when everything before is sent or given up, or the time is over.
    pub async fn flush(&self, within: Duration) {
        let (done, wait) = oneshot::channel();
        let flushing = async {
            if self.jobs.send(Job::Flush(done)).await.is_ok() {
                let _ = wait.await;
            }
        };
        // What is not sent by then is lost with the process.
        let _ = tokio::time::timeout(within, flushing).await;
    }
}

struct Sender {
    client: reqwest::Client,
    url: reqwest::Url,
    headers: HeaderMap,
    resource: Vec<Value>,
    counts: Arc<Counts>,
}

impl Sender {
    async fn run(self, mut waiting: mpsc::Receiver<Job>) {
        let mut flushes: Vec<oneshot::Sender<()>> = Vec::new();
        while let Some(first) = waiting.recv().await {
            let mut batch: Vec<Span> = Vec::new();
            let mut take = |job| match job {
                Job::Span(span) => batch.push(*span),
                Job::Flush(done) => flushes.push(done),
            };
            let is_flush = matches!(first, Job::Flush(_));
            take(first);
            let until = tokio::time::Instant::now() + BATCH_WAITS;
            let mut taken = 1;
            while !is_flush && taken < MOST_TOGETHER {
                match tokio::time::timeout_at(until, waiting.recv()).await {
                    Ok(Some(job)) => {
                        let is_flush = matches!(job, Job::Flush(_));
                        take(job);
                        if is_flush {
                            break;
                        }
                    }
                    Ok(None) | Err(_) => break,
                }
                taken += 1;
            }
            if !batch.is_empty() {
                self.send(&batch).await;
            }
            for done in flushes.drain(..) {
                // Who asked may have gone.
                let _ = done.send(());
            }
        }
    }

    async fn send(&self, batch: &[Span]) {
        let count = batch.len() as u64;
        let spans: Vec<Value> = batch.iter().map(Span::written).collect();
        let scope = json!({"name": "elenchus", "version": env!("CARGO_PKG_VERSION")});
        let message = json!({"resourceSpans": [{
            "resource": {"attributes": self.resource},
            "scopeSpans": [{"scope": scope, "spans": spans}],
        }]});
        let body = Bytes::from(message.to_string());
        for pause in PAUSES.map(Some).into_iter().chain([None]) {
            let request = self.client.post(self.url.clone()).headers(self.headers.clone());
            let pause = match request.body(body.clone()).send().await {
                Ok(response) if response.status().is_success() => {
                    self.counts.sent.fetch_add(count, Ordering::Relaxed);
                    return;
                }
                Ok(response) if is_worth_repeating(response.status()) => {
                    let asked = response.headers().get(RETRY_AFTER);
                    let asked = asked.and_then(|value| value.to_str().ok()?.parse().ok());
                    pause.map(|pause| asked.map_or(pause, Duration::from_secs).min(LONGEST_PAUSE))
                }
                Ok(_) => None,
                Err(_) => pause,
            };
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => break,
            }
        }
        self.counts.dropped.fetch_add(count, Ordering::Relaxed);
    }
}

/// The statuses after which OTLP lets a sender try again.
fn is_worth_repeating(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}
