//! An OpenAI-compatible server on the loopback interface that counts what it is asked, and the binary.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![expect(clippy::expect_used, reason = "a test helper that fails should stop the test")]

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// One chat request.
#[derive(Debug, Clone)]
pub struct Asked {
    pub body: Value,
    pub authorization: Option<String>,
    pub answered: bool,
}

/// Answers every chat request; from `silent_from` on (counted over its life, from 0) it keeps the connection open and
/// says nothing.
pub struct Server {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    silent_from: Arc<AtomicUsize>,
}

/// What a request is answered with.
type Reply = dyn Fn(&Value) -> Value + Send + Sync;

impl Server {
    pub fn start() -> Server {
        Server::answering(chat)
    }

    /// Answers with what `reply` makes of the body of a request.
    pub fn answering(reply: impl Fn(&Value) -> Value + Send + Sync + 'static) -> Server {
        let reply: Arc<Reply> = Arc::new(reply);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let silent_from = Arc::new(AtomicUsize::new(usize::MAX));
        let shared = (Arc::clone(&asked), Arc::clone(&silent_from));
        // The thread ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (asked, silent_from) = (Arc::clone(&shared.0), Arc::clone(&shared.1));
                let reply = Arc::clone(&reply);
                std::thread::spawn(move || serve(stream, &asked, &silent_from, &*reply));
            }
        });
        Server { url, asked, silent_from }
    }

    pub fn silent_from(&self, request: usize) {
        self.silent_from.store(request, Ordering::SeqCst);
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("not poisoned").clone()
    }

    pub fn count(&self) -> usize {
        self.asked().len()
    }

    /// Waits until this many requests have come.
    pub fn wait_for(&self, count: usize) {
        let begun = Instant::now();
        while self.count() < count {
            assert!(begun.elapsed() < Duration::from_secs(60), "{} of {count} requests came", self.count());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// `None` when the client goes away.
fn serve(
    stream: TcpStream,
    asked: &Mutex<Vec<Asked>>,
    silent_from: &AtomicUsize,
    reply: &Reply,
) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let (mut length, mut authorization) = (0, None);
        let mut line = String::new();
        while reader.read_line(&mut line).ok()? > 0 && !line.trim().is_empty() {
            if let Some((name, value)) = line.split_once(':') {
                match name.to_ascii_lowercase().as_str() {
                    "content-length" => length = value.trim().parse().ok()?,
                    "authorization" => authorization = Some(value.trim().to_string()),
                    _ => {}
                }
            }
            line.clear();
        }
        if length == 0 {
            return None;
        }
        let mut bytes = vec![0; length];
        reader.read_exact(&mut bytes).ok()?;
        let body: Value = serde_json::from_slice(&bytes).ok()?;
        let answered = {
            let mut asked = asked.lock().ok()?;
            let answered = asked.len() < silent_from.load(Ordering::SeqCst);
            asked.push(Asked { body: body.clone(), authorization, answered });
            answered
        };
        if !answered {
            // Until the client closes.
            let _ = reader.read(&mut [0; 1]);
            return None;
        }
        let answer = reply(&body).to_string();
        write!(
            writer,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{answer}",
            answer.len()
        )
        .ok()?;
    }
}

/// A response with these texts, one token each; with log-probabilities when they are wanted and `logprobs` allows.
pub fn completion(body: &Value, texts: &[String], logprobs: bool) -> Value {
    let choices: Vec<Value> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let mut choice = json!({"index": index, "finish_reason": "stop",
                "message": {"role": "assistant", "content": text}});
            if logprobs && body["logprobs"] == true {
                let token = json!({"token": text, "logprob": -0.5, "top_logprobs": []});
                choice["logprobs"] = json!({"content": [token]});
            }
            choice
        })
        .collect();
    let written = texts.len();
    json!({"id": "c", "object": "chat.completion", "model": body["model"], "choices": choices,
        "usage": {"prompt_tokens": 10, "completion_tokens": written, "total_tokens": 10 + written}})
}

/// The text of the last message of a request.
pub fn last_message(body: &Value) -> String {
    let last = body["messages"].as_array().and_then(|messages| messages.last());
    last.and_then(|message| message["content"].as_str()).unwrap_or_default().to_string()
}

/// Answers that depend on the request alone.
fn chat(body: &Value) -> Value {
    let samples = body["n"].as_u64().unwrap_or(1);
    let seed = body["seed"].as_u64().unwrap_or(0);
    let choices: Vec<Value> = (0..samples)
        .map(|index| {
            let tokens = ["The", " answer", " is", &format!(" {}", (seed + index) % 5), "."];
            let logprobs = tokens.map(|token| json!({"token": token, "logprob": -0.5, "top_logprobs": []}));
            let mut choice = json!({"index": index, "finish_reason": "stop",
                "message": {"role": "assistant", "content": tokens.concat()}});
            if body["logprobs"] == true {
                choice["logprobs"] = json!({"content": logprobs});
            }
            choice
        })
        .collect();
    json!({"id": "c", "object": "chat.completion", "model": body["model"], "choices": choices,
        "usage": {"prompt_tokens": 10, "completion_tokens": 5 * samples, "total_tokens": 10 + 5 * samples}})
}

/// The binary in a scratch folder with its own cache.
pub fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_elenchus"));
    command
        .args(arguments)
        .current_dir(folder)
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .env_remove("OPENAI_API_KEY");
    command
}

pub fn run(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().expect("the binary starts")
}

pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn json_of(output: &Output) -> Value {
    assert_eq!(code(output), 0, "{}", stderr(output));
    serde_json::from_slice(&output.stdout).expect("standard output is JSON and nothing else")
}

pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a scratch folder")
}

pub fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).expect("the scratch folder can be written");
}
