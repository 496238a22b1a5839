//! A scripted HTTP server on the loopback interface that can also say what no server should.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use elenchus_generate::{GenerateRequest, OpenAi, OpenAiConfig};
use elenchus_trace::Message;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the server writes, in order; then it closes the connection.
#[derive(Clone)]
pub enum Part {
    Bytes(Vec<u8>),
    Wait(Duration),
    /// Writes the bytes one by one with pauses.
    Drip(Vec<u8>, Duration),
    /// Never answers nor closes; ends when the client closes.
    Hang,
}

#[derive(Clone)]
pub struct Received {
    pub line: String,
    pub headers: String,
    pub body: Value,
}

type Handler = dyn Fn(&Received, usize) -> Vec<Part> + Send + Sync;

pub struct Server {
    pub url: String,
    received: Arc<Mutex<Vec<Received>>>,
    running: Arc<AtomicUsize>,
    most_running: Arc<AtomicUsize>,
    closed_by_client: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// `handler` gets each request with its number from 0.
    pub async fn start(handler: impl Fn(&Received, usize) -> Vec<Part> + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let handler: Arc<Handler> = Arc::new(handler);
        let received: Arc<Mutex<Vec<Received>>> = Arc::default();
        let (running, most_running, closed): (Arc<AtomicUsize>, Arc<AtomicUsize>, Arc<AtomicUsize>) =
            Default::default();
        let shared = (received.clone(), running.clone(), most_running.clone(), closed.clone());
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (received, running, most_running, closed) = shared.clone();
                let handler = handler.clone();
                tokio::spawn(async move {
                    let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                    most_running.fetch_max(now, Ordering::SeqCst);
                    if serve(stream, &*handler, &received).await.is_none() {
                        closed.fetch_add(1, Ordering::SeqCst);
                    }
                    running.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Server {
            url: format!("http://{address}/v1"),
            received,
            running,
            most_running,
            closed_by_client: closed,
            task,
        }
    }

    /// A server that gives the same reply to everything.
    pub async fn always(reply: Vec<Part>) -> Server {
        Server::start(move |_, _| reply.clone()).await
    }

    pub fn requests(&self) -> Vec<Received> {
        self.received.lock().expect("not poisoned").clone()
    }

    pub fn count(&self) -> usize {
        self.requests().len()
    }

    pub fn most_concurrent(&self) -> usize {
        self.most_running.load(Ordering::SeqCst)
    }

    /// Connections that the client closed before the server had said all.
    pub async fn wait_for_closed(&self, count: usize) {
        for _ in 0..200 {
            if self.closed_by_client.load(Ordering::SeqCst) >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the client did not close {count} connections");
    }

    pub fn config(&self) -> OpenAiConfig {
        OpenAiConfig {
            base_url: self.url.as_str().into(),
            model: "test-model".into(),
            api_key_variable: String::new(),
            ..OpenAiConfig::default()
        }
    }

    pub fn model(&self) -> OpenAi {
        OpenAi::new(self.config()).expect("a valid configuration")
    }
}

/// `None` when the client went away first.
async fn serve(mut stream: TcpStream, handler: &Handler, received: &Mutex<Vec<Received>>) -> Option<()> {
    let mut bytes = Vec::new();
    let mut buffer = [0u8; 4096];
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        let count = stream.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
    };
    let headers = String::from_utf8_lossy(&bytes[..head]).to_string();
    let length: usize = headers
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0);
    while bytes.len() < head + length {
        let count = stream.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
    }
    let request = Received {
        line: headers.lines().next().unwrap_or_default().into(),
        body: serde_json::from_slice(&bytes[head..]).unwrap_or(Value::Null),
        headers,
    };
    let number = {
        let mut received = received.lock().expect("not poisoned");
        received.push(request.clone());
        received.len() - 1
    };
    for part in handler(&request, number) {
        match part {
            Part::Bytes(bytes) => stream.write_all(&bytes).await.ok()?,
            Part::Wait(time) => {
                tokio::select! {
                    () = tokio::time::sleep(time) => {}
                    _ = stream.read(&mut buffer) => return None,
                }
            }
            Part::Drip(bytes, pause) => {
                for byte in bytes {
                    stream.write_all(&[byte]).await.ok()?;
                    stream.flush().await.ok()?;
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        _ = stream.read(&mut buffer) => return None,
                    }
                }
            }
            Part::Hang => {
                let _ = stream.read(&mut buffer).await;
                return None;
            }
        }
    }
    let _ = stream.shutdown().await;
    Some(())
}

pub fn raw(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<Part> {
    let mut head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    vec![Part::Bytes([head.as_bytes(), body].concat())]
}

pub fn reply(status: &str, body: &Value) -> Vec<Part> {
    raw(status, &[("content-type", "application/json")], body.to_string().as_bytes())
}

pub fn ok(body: &Value) -> Vec<Part> {
    reply("200 OK", body)
}

/// The head of an event stream whose end is the end of the connection.
pub fn stream_head() -> Part {
    Part::Bytes(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n\r\n".to_vec())
}

pub fn event(data: &Value) -> Part {
    Part::Bytes(format!("data: {data}\n\n").into_bytes())
}

pub fn done() -> Part {
    Part::Bytes(b"data: [DONE]\n\n".to_vec())
}

pub fn delta(index: usize, text: &str, finish: Option<&str>) -> Value {
    json!({"id": "c", "object": "chat.completion.chunk", "choices": [
        {"index": index, "delta": {"content": text}, "finish_reason": finish}]})
}

/// A chat completion with these texts.
pub fn chat(texts: &[&str]) -> Value {
    let choices: Vec<Value> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            json!({"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"})
        })
        .collect();
    json!({"id": "c", "object": "chat.completion", "created": 1, "model": "test-model", "choices": choices,
        "usage": {"prompt_tokens": 10, "completion_tokens": 4 * texts.len(), "total_tokens": 10 + 4 * texts.len()}})
}

pub fn request(samples: usize) -> GenerateRequest {
    GenerateRequest { samples, ..GenerateRequest::new(vec![Message::user("What is 2+2?")]) }
}

/// All text of the last message of a request.
pub fn last_text(body: &Value) -> String {
    text_of(body["messages"].as_array().and_then(|messages| messages.last()).unwrap_or(&Value::Null))
}

fn text_of(message: &Value) -> String {
    match &message["content"] {
        Value::String(text) => text.clone(),
        parts => parts.as_array().into_iter().flatten().filter_map(|part| part["text"].as_str()).collect(),
    }
}

/// Samples that disagree, and a judge that says `A`.
pub fn sensible(body: &Value) -> Vec<&'static str> {
    const SAMPLES: [&str; 3] = ["20 - 2 = 18\nAnswer: 18", "20 - 2 = 15\nAnswer: 15", "so\nAnswer: 18"];
    let count = body["n"].as_u64().unwrap_or(1) as usize;
    if last_text(body).contains("single letter") {
        return vec!["A"; count];
    }
    if last_text(body).contains("by each of the criteria") {
        return vec!["correctness: 7 — fine\ncompleteness: 8 — fine\ninstructions: 9 — fine"; count];
    }
    (0..count).map(|i| SAMPLES[i % SAMPLES.len()]).collect()
}

/// A chat completion with these texts, one token each; with log-probabilities when they are wanted and the server has them.
pub fn said(texts: &[&str], body: &Value, logprobs: bool) -> Vec<Part> {
    let mut reply = chat(texts);
    if logprobs && body["logprobs"] == true {
        for (i, choice) in reply["choices"].as_array_mut().into_iter().flatten().enumerate() {
            let token = choice["message"]["content"].clone();
            let logprob = -0.1 - 0.2 * i as f64;
            let top = json!([{"token": token, "logprob": logprob, "bytes": null}]);
            choice["logprobs"] = json!({"content": [
                {"token": token, "logprob": logprob, "bytes": null, "top_logprobs": top}]});
        }
    }
    ok(&reply)
}

/// A dialogue with instructions, a call of a tool, its result, and an image.
pub fn asker() -> Vec<Message> {
    let history = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "20 apples"},
        {"role": "user", "content": [
            {"type": "text", "text": "What is 20 - 2?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}
    ]);
    serde_json::from_value(history).expect("a dialogue")
}

/// Whether a request shows the whole dialogue of [`asker`]: to who answers as messages, to who judges as data in one message.
/// Solved examples of a judge may stand between the instructions and the rest.
pub fn keeps(body: &Value) -> bool {
    let messages = body["messages"].as_array().cloned().unwrap_or_default();
    let Some(call) = messages.iter().position(|message| message["tool_calls"][0]["id"] == "call_1") else {
        return keeps_as_data(body);
    };
    messages[0]["content"] == "Be brief."
        && messages[call + 1]["tool_call_id"] == "call_1"
        && messages[call + 2]["content"][1]["image_url"]["url"] == "data:image/png;base64,AAAA"
}

/// Whether a request shows the whole dialogue of [`asker`] between rows that it cannot close, and nothing of it elsewhere.
pub fn keeps_as_data(body: &Value) -> bool {
    let messages = body["messages"].as_array().cloned().unwrap_or_default();
    let shows = |message: &Value| {
        let text = text_of(message);
        let fenced = |said: &str| text.contains(&format!("\n~~~~\n{said}\n~~~~\n"));
        fenced("Be brief.")
            && fenced("call call_1: look({})")
            && fenced("result of call call_1:\n20 apples")
            && fenced("What is 20 - 2?\n[attachment 1]")
            && message["content"][1]["image_url"]["url"] == "data:image/png;base64,AAAA"
    };
    let is_ours = |message: &Value| matches!(message["role"].as_str(), Some("user" | "assistant"));
    messages.iter().any(shows) && messages.iter().all(is_ours)
}
