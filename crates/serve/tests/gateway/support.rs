//! A gateway on a free port, and a stub of an upstream that does what a test tells it.

use elenchus_recipe::{LogLevel, ServiceSettings, UpstreamSettings};
use elenchus_remember::service::{ServiceStore, SqliteStore};
use elenchus_serve::{Gateway, Handle, Options};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

/// How the stub answers a request.
#[derive(Clone)]
pub enum Act {
    /// A response of JSON.
    Json(u16, Value),
    /// These bytes, as they are.
    Raw(Vec<u8>),
    /// Events with a pause before each; `broken` closes without an end.
    Stream { events: Vec<String>, pause: Duration, broken: bool },
    /// A response of JSON in pieces, with a pause before each.
    Pieces { pieces: Vec<String>, pause: Duration },
    /// The same, with the rest only when the gate is opened.
    Gated { first: Vec<String>, gate: Arc<Semaphore>, rest: Vec<String> },
    /// Nothing, until the client goes away.
    Hang,
    /// The connection is closed.
    Close,
}

/// What the stub was asked.
#[derive(Debug, Clone)]
pub struct Asked {
    pub path: String,
    pub authorization: Option<String>,
    pub traceparent: Option<String>,
    pub text: String,
    pub body: Value,
}

type Answerer = dyn Fn(&Asked) -> Act + Send + Sync;

/// An upstream.
pub struct Stub {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    gone: Arc<AtomicUsize>,
}

impl Stub {
    pub async fn start(answer: impl Fn(&Asked) -> Act + Send + Sync + 'static) -> Stub {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let (asked, gone): (Arc<Mutex<Vec<Asked>>>, Arc<AtomicUsize>) = Default::default();
        let answer: Arc<Answerer> = Arc::new(answer);
        let shared = (Arc::clone(&asked), Arc::clone(&gone));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (asked, gone) = (Arc::clone(&shared.0), Arc::clone(&shared.1));
                tokio::spawn(serve(stream, asked, gone, Arc::clone(&answer)));
            }
        });
        Stub { url, asked, gone }
    }

    /// Answers "The answer is N." with N from the list in turn, for each sample asked for.
    pub async fn answering(answers: &[&str]) -> Stub {
        let answers: Vec<String> = answers.iter().map(|answer| answer.to_string()).collect();
        let next = AtomicUsize::new(0);
        Stub::start(move |asked| {
            if asked.path.ends_with("/models") {
                return Act::Json(
                    200,
                    json!({"object": "list", "data": [
                    {"id": "little", "object": "model", "created": 7, "owned_by": "stub"}]}),
                );
            }
            let count = asked.body["n"].as_u64().unwrap_or(1);
            let texts: Vec<String> = (0..count)
                .map(|_| answers[next.fetch_add(1, Ordering::SeqCst) % answers.len()].clone())
                .collect();
            if asked.body["stream"] == true {
                return Act::Stream { events: events(&texts[0]), pause: Duration::ZERO, broken: false };
            }
            Act::Json(200, completion(&texts))
        })
        .await
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Connections that the gateway closed while it was being answered.
    pub fn gone(&self) -> usize {
        self.gone.load(Ordering::SeqCst)
    }
}

/// A chat completion of these texts.
pub fn completion(texts: &[String]) -> Value {
    let choices: Vec<Value> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            json!({"index": index, "finish_reason": "stop", "logprobs": null,
            "message": {"role": "assistant", "content": text, "refusal": null}})
        })
        .collect();
    let written = 5 * texts.len();
    json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "little", "choices": choices,
        "usage": {"prompt_tokens": 10, "completion_tokens": written, "total_tokens": 10 + written}})
}

/// The events of a streamed answer, a word each.
pub fn events(text: &str) -> Vec<String> {
    let chunk = |delta: Value, finish: Value| {
        let body = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "little",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
        format!("data: {body}\n\n")
    };
    let mut events: Vec<String> =
        text.split_inclusive(' ').map(|word| chunk(json!({"content": word}), Value::Null)).collect();
    events.push(chunk(json!({}), json!("stop")));
    events.push("data: [DONE]\n\n".into());
    events
}

const STREAM_HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

fn chunk(event: &str) -> String {
    format!("{:x}\r\n{event}\r\n", event.len())
}

async fn serve(
    stream: TcpStream,
    asked: Arc<Mutex<Vec<Asked>>>,
    gone: Arc<AtomicUsize>,
    answer: Arc<Answerer>,
) -> Option<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let (mut length, mut authorization, mut first) = (0, None, String::new());
        let mut traceparent = None;
        let mut line = String::new();
        while reader.read_line(&mut line).await.ok()? > 0 && !line.trim().is_empty() {
            if first.is_empty() {
                first.clone_from(&line);
            }
            if let Some((name, value)) = line.split_once(':') {
                match name.to_ascii_lowercase().as_str() {
                    "content-length" => length = value.trim().parse().ok()?,
                    "authorization" => authorization = Some(value.trim().to_string()),
                    "traceparent" => traceparent = Some(value.trim().to_string()),
                    _ => {}
                }
            }
            line.clear();
        }
        if first.is_empty() {
            return None;
        }
        let mut bytes = vec![0; length];
        reader.read_exact(&mut bytes).await.ok()?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let request = Asked {
            path: first.split(' ').nth(1)?.to_string(),
            authorization,
            traceparent,
            body: serde_json::from_str(&text).unwrap_or(Value::Null),
            text,
        };
        asked.lock().ok()?.push(request.clone());
        let act = answer(&request);
        let (kind, broken) = match act {
            Act::Stream { broken, .. } => ("text/event-stream", broken),
            _ => ("application/json", false),
        };
        match act {
            Act::Json(status, body) => {
                let body = body.to_string();
                let head = format!(
                    "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                writer.write_all((head + &body).as_bytes()).await.ok()?;
            }
            Act::Raw(bytes) => {
                writer.write_all(&bytes).await.ok()?;
                return None;
            }
            Act::Close => return None,
            Act::Hang => {
                let mut byte = [0; 1];
                if reader.read(&mut byte).await.map_or(true, |read| read == 0) {
                    gone.fetch_add(1, Ordering::SeqCst);
                }
                return None;
            }
            Act::Gated { first, gate, rest } => {
                writer.write_all(STREAM_HEAD.as_bytes()).await.ok()?;
                for event in first {
                    writer.write_all(chunk(&event).as_bytes()).await.ok()?;
                }
                // It is never closed.
                gate.acquire().await.ok()?.forget();
                for event in rest {
                    writer.write_all(chunk(&event).as_bytes()).await.ok()?;
                }
                writer.write_all(b"0\r\n\r\n").await.ok()?;
            }
            Act::Stream { events, pause, .. } | Act::Pieces { pieces: events, pause } => {
                let head =
                    format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n");
                writer.write_all(head.as_bytes()).await.ok()?;
                let mut byte = [0; 1];
                for event in events {
                    let piece = chunk(&event);
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        _ = reader.read(&mut byte) => {
                            gone.fetch_add(1, Ordering::SeqCst);
                            return None;
                        }
                    }
                    if writer.write_all(piece.as_bytes()).await.is_err() {
                        gone.fetch_add(1, Ordering::SeqCst);
                        return None;
                    }
                }
                if broken {
                    return None;
                }
                writer.write_all(b"0\r\n\r\n").await.ok()?;
            }
        }
    }
}

/// A running gateway.
pub struct Running {
    pub url: String,
    pub client: reqwest::Client,
    pub handle: Handle,
    pub folder: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<()>>,
}

impl Running {
    /// In front of these upstreams, without the embedded model.
    pub async fn before(upstreams: &[&Stub]) -> Running {
        Running::with(upstreams, |_| {}).await
    }

    pub async fn with(upstreams: &[&Stub], change: impl FnOnce(&mut ServiceSettings)) -> Running {
        let folder = tempfile::tempdir().unwrap();
        Running::over(folder, upstreams, HashMap::new(), change).await
    }

    pub async fn over(
        folder: tempfile::TempDir,
        upstreams: &[&Stub],
        prices: HashMap<String, elenchus_trace::Price>,
        change: impl FnOnce(&mut ServiceSettings),
    ) -> Running {
        let store = Arc::new(SqliteStore::open(folder.path().join("store.sqlite")).unwrap());
        Running::keeping(store, folder, upstreams, prices, change).await
    }

    /// Over a store of the test's choice.
    pub async fn keeping(
        store: Arc<dyn ServiceStore>,
        folder: tempfile::TempDir,
        upstreams: &[&Stub],
        prices: HashMap<String, elenchus_trace::Price>,
        change: impl FnOnce(&mut ServiceSettings),
    ) -> Running {
        let mut settings = ServiceSettings {
            port: 0,
            embedded: upstreams.is_empty(),
            upstreams: upstreams.iter().map(|stub| UpstreamSettings::new(&stub.url)).collect(),
            log: LogLevel::Off,
            // What a person who runs the tests has fitted is not theirs.
            calibrations: Some(folder.path().join("calibrations.json")),
            ..ServiceSettings::default()
        };
        change(&mut settings);
        let gateway = Gateway::bind(Options { settings, prices, store }).await.unwrap();
        let url = format!("http://127.0.0.1:{}", gateway.address().port());
        let handle = gateway.handle();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(gateway.run(async move {
            let _ = stopped.await;
        }));
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        Running { url, client, handle, folder, stop: Some(stop), task: Some(task) }
    }

    /// Stops it and waits for the end.
    pub async fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(task) = self.task.take() {
            task.await.unwrap();
        }
    }

    pub fn post(&self, path: &str) -> reqwest::RequestBuilder {
        self.client.post(format!("{}{path}", self.url))
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        let response = self.client.get(format!("{}{path}", self.url)).send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Asks and gives status and body.
    pub async fn ask(&self, body: Value) -> (u16, Value) {
        self.send("/v1/chat/completions", body).await
    }

    pub async fn send(&self, path: &str, body: Value) -> (u16, Value) {
        let response = self.post(path).json(&body).send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// The traces, once there are so many.
    pub async fn traces(&self, count: usize) -> Vec<Value> {
        let begun = Instant::now();
        loop {
            let (_, list) = self.get("/v1/traces").await;
            let data = list["data"].as_array().cloned().unwrap_or_default();
            if data.len() >= count {
                return data;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{} of {count} traces", data.len());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A request of one user message.
pub fn question(model: &str, text: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": text}]})
}

/// Waits until something holds.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The comments and the data of a stream of events.
pub fn pieces(text: &str) -> (Vec<Value>, Vec<Value>) {
    let comments = text
        .lines()
        .filter_map(|line| line.strip_prefix(": elenchus "))
        .map(|json| serde_json::from_str(json).expect("a comment is JSON"))
        .collect();
    let data = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter(|data| *data != "[DONE]")
        .map(|json| serde_json::from_str(json).expect("a piece is JSON"))
        .collect();
    (comments, data)
}
