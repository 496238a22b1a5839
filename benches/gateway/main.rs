//! How fast the gateway is, with a stub upstream and a load generator of our own, each a process.
//!
//! `cargo run --release -p elenchus-serve --example gateway_bench -- all --elenchus target/release/elenchus`

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a benchmark that fails should stop")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let number = |name: &str, otherwise: f64| option(name).map_or(otherwise, |text| text.parse().unwrap());
    match arguments.first().map(String::as_str) {
        Some("stub") => run(stub(number("--delay-ms", 0.0))),
        Some("load") => {
            let url = option("--url").expect("--url HOST:PORT");
            let body = option("--body").unwrap_or_else(|| plain(false));
            let (connections, seconds) = (number("--connections", 1.0) as usize, number("--seconds", 5.0));
            println!("{}", run(load(url, body, connections, seconds)).json());
        }
        Some("all") => {
            let elenchus = option("--elenchus").unwrap_or_else(|| "target/release/elenchus".into());
            all(&elenchus, number("--seconds", 5.0));
            let streams = number("--streams", 1000.0) as usize;
            streaming(&elenchus, streams, number("--stream-seconds", 60.0));
        }
        Some("streams") => {
            let elenchus = option("--elenchus").unwrap_or_else(|| "target/release/elenchus".into());
            let streams = number("--streams", 1000.0) as usize;
            streaming(&elenchus, streams, number("--stream-seconds", 60.0));
        }
        _ => eprintln!(
            "stub [--delay-ms N] | load --url HOST:PORT [--body JSON] [--connections N] [--seconds S]\n\
             all [--elenchus PROGRAM] [--seconds S] [--streams N] [--stream-seconds S] | streams (the last part of it)"
        ),
    }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    // One thread each: on two cores stub, load and gateway share what there is.
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

// ---- the stub ----

/// Answers every chat request after a pause; prints its address first.
async fn stub(delay_ms: f64) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    let delay = Duration::from_secs_f64(delay_ms / 1e3);
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        tokio::spawn(async move {
            let _ = serve(stream, delay).await;
        });
    }
}

fn choice(index: usize) -> String {
    format!(
        r#"{{"index":{index},"message":{{"role":"assistant","content":"The answer is 4.\nAnswer: 4","refusal":null}},"logprobs":null,"finish_reason":"stop"}}"#
    )
}

async fn serve(mut stream: TcpStream, delay: Duration) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    loop {
        let (head, length) = match read_head(&mut stream, &mut buffer).await? {
            Some(found) => found,
            None => return Ok(()),
        };
        while buffer.len() < head + length {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        let body = String::from_utf8_lossy(&buffer[head..head + length]).into_owned();
        buffer.drain(..head + length);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if body.contains("\"stream\":true") {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n").await?;
            for word in 0..10 {
                let event = format!(
                    "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"w{word} \"}},\"finish_reason\":null}}]}}\n\n"
                );
                stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await?;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            stream.write_all(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n").await?;
            continue;
        }
        let count = body.split_once("\"n\":").map_or(1, |(_, rest)| {
            rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(1).min(128)
        });
        let choices: Vec<String> = (0..count).map(choice).collect();
        let answer = format!(
            r#"{{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{}],"usage":{{"prompt_tokens":10,"completion_tokens":{},"total_tokens":{}}}}}"#,
            choices.join(","),
            8 * count,
            10 + 8 * count
        );
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        stream.write_all((head + &answer).as_bytes()).await?;
    }
}

/// Reads a head; gives its length and that of the body, `usize::MAX` for one in chunks.
async fn read_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> std::io::Result<Option<(usize, usize)>> {
    loop {
        if let Some(at) = buffer.windows(4).position(|part| part == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..at]).to_ascii_lowercase();
            let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            let length = match field("content-length:") {
                Some(length) => length.parse().unwrap_or(0),
                None if field("transfer-encoding:").is_some() => usize::MAX,
                None => 0,
            };
            return Ok(Some((at + 4, length)));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

// ---- the load ----

fn plain(stream: bool) -> String {
    let stream = if stream { r#","stream":true"# } else { "" };
    format!(r#"{{"model":"m","messages":[{{"role":"user","content":"What is 2+2?"}}]{stream}}}"#)
}

struct Measured {
    milliseconds: Vec<f64>,
    errors: u64,
    seconds: f64,
}

impl Measured {
    fn quantile(&self, share: f64) -> f64 {
        let at = ((self.milliseconds.len() as f64 - 1.0) * share).round().max(0.0) as usize;
        self.milliseconds.get(at).copied().unwrap_or(f64::NAN)
    }

    fn per_second(&self) -> f64 {
        self.milliseconds.len() as f64 / self.seconds
    }

    fn json(&self) -> String {
        format!(
            r#"{{"requests": {}, "per_second": {:.0}, "p50_ms": {:.3}, "p99_ms": {:.3}, "errors": {}}}"#,
            self.milliseconds.len(),
            self.per_second(),
            self.quantile(0.5),
            self.quantile(0.99),
            self.errors
        )
    }
}

/// Asks again and again over so many connections for so long. The first tenth of the time is not counted.
async fn load(place: String, body: String, connections: usize, seconds: f64) -> Measured {
    let request = Arc::new(format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {place}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ));
    let begun = Instant::now();
    let warm = begun + Duration::from_secs_f64(seconds * 0.1);
    let end = begun + Duration::from_secs_f64(seconds);
    let errors = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..connections)
        .map(|_| {
            let (place, request, errors) = (place.clone(), Arc::clone(&request), Arc::clone(&errors));
            tokio::spawn(async move {
                let mut took = Vec::new();
                let mut connection: Option<(TcpStream, Vec<u8>)> = None;
                while Instant::now() < end {
                    let started = Instant::now();
                    match once(&place, &request, &mut connection).await {
                        Ok(()) if started >= warm => took.push(started.elapsed().as_secs_f64() * 1e3),
                        Ok(()) => {}
                        Err(_) => {
                            errors.fetch_add(1, Ordering::Relaxed);
                            connection = None;
                        }
                    }
                }
                took
            })
        })
        .collect();
    let mut milliseconds = Vec::new();
    for task in tasks {
        milliseconds.extend(task.await.unwrap());
    }
    milliseconds.sort_by(f64::total_cmp);
    Measured { milliseconds, errors: errors.load(Ordering::Relaxed), seconds: seconds * 0.9 }
}

async fn once(place: &str, request: &str, kept: &mut Option<(TcpStream, Vec<u8>)>) -> std::io::Result<()> {
    let (stream, buffer) = match kept {
        Some(kept) => kept,
        None => {
            let stream = TcpStream::connect(place).await?;
            stream.set_nodelay(true)?;
            kept.insert((stream, Vec::new()))
        }
    };
    let broken = || std::io::Error::other("broken answer");
    stream.write_all(request.as_bytes()).await?;
    let (head, length) = read_head(stream, buffer).await?.ok_or_else(broken)?;
    if !buffer.starts_with(b"HTTP/1.1 200") {
        return Err(broken());
    }
    // A server that closes behind its answer (werkzeug) reads what else is sent and never answers it.
    let ends =
        String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase().contains("\r\nconnection: close\r\n");
    if length == usize::MAX {
        while !buffer.ends_with(b"\r\n0\r\n\r\n") {
            if stream.read_buf(buffer).await? == 0 {
                return Err(broken());
            }
        }
        let whole = buffer.windows(6).any(|part| part == b"[DONE]");
        buffer.clear();
        if ends {
            *kept = None;
        }
        return if whole { Ok(()) } else { Err(broken()) };
    }
    while buffer.len() < head + length {
        if stream.read_buf(buffer).await? == 0 {
            return Err(broken());
        }
    }
    buffer.drain(..head + length);
    if ends {
        *kept = None;
    }
    Ok(())
}

// ---- all of it ----

/// A process that prints its address on its first line.
struct Process {
    child: Child,
    address: String,
    started_in: Duration,
}

impl Process {
    fn start(program: &str, arguments: &[&str]) -> Process {
        let begun = Instant::now();
        let mut child = Command::new(program)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().trim_start_matches("http://").to_string();
        Process { child, address, started_in: begun.elapsed() }
    }

    /// Resident memory in MB, now and at most.
    fn memory(&self) -> (f64, f64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok()).unwrap_or(f64::NAN)
                / 1024.0
        };
        (field("VmRSS:"), field("VmHWM:"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn all(elenchus: &str, seconds: f64) {
    let own = std::env::current_exe().unwrap().display().to_string();
    let folder = std::env::temp_dir().join(format!("elenchus-gateway-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let store = folder.join("store.sqlite").display().to_string();
    let stub = Process::start(&own, &["stub"]);
    let slow = Process::start(&own, &["stub", "--delay-ms", "50"]);
    let serve = |upstream: &str, embedded: bool| {
        let url = format!("http://{upstream}/v1");
        let mut arguments = vec!["serve", "--port", "0", "--upstream", &url, "--store", &store];
        if !embedded {
            arguments.push("--no-embedded");
        }
        Process::start(elenchus, &arguments)
    };
    let asked = |process: &Process, body: String, connections: usize, seconds: f64| {
        run(load(process.address.clone(), body, connections, seconds))
    };
    let alone = Process::start(elenchus, &["serve", "--port", "0", "--store", &store]);
    println!("start without configuration (embedded model, store) {:.3} s", alone.started_in.as_secs_f64());
    drop(alone);
    let gateway = serve(&stub.address, false);
    let (rest, _) = gateway.memory();
    // Direct, through the gateway and direct again: what else the machine does falls on both.
    let direct = asked(&stub, plain(false), 1, seconds);
    let through = asked(&gateway, plain(false), 1, seconds);
    let again = asked(&stub, plain(false), 1, seconds);
    let base = direct.quantile(0.5).min(again.quantile(0.5));
    println!("1 connection, direct          {}", direct.json());
    println!("1 connection, gateway         {}", through.json());
    println!(
        "added at p50 {:.3} ms, at p99 {:.3} ms",
        through.quantile(0.5) - base,
        through.quantile(0.99) - direct.quantile(0.99)
    );
    println!("32 connections, direct        {}", asked(&stub, plain(false), 32, seconds).json());
    println!("32 connections, gateway       {}", asked(&gateway, plain(false), 32, seconds).json());
    let (now, most) = gateway.memory();
    println!("resident memory {rest:.1} MB at rest, {now:.1} MB behind the load, {most:.1} MB at most");
    let voting = serve(&slow.address, false);
    let vote = r#"{"model":"elenchus/self-consistency@5/m","messages":[{"role":"user","content":"What is 2+2?"}],"elenchus":{"settings":{"early_stop":false}}}"#;
    println!("50 ms upstream, direct        {}", asked(&slow, plain(false), 1, seconds).json());
    println!("50 ms upstream, vote of 5     {}", asked(&voting, vote.into(), 1, seconds).json());
    drop(voting);
    println!(
        "every request was stored with its trace: {:.1} MB",
        std::fs::metadata(&store).map_or(0.0, |found| found.len() as f64 / 1e6)
    );
    drop(gateway);
    let _ = std::fs::remove_dir_all(folder);
}

/// Many clients that stream at once: no error, what it adds, and whether the memory grows.
fn streaming(elenchus: &str, streams: usize, seconds: f64) {
    let own = std::env::current_exe().unwrap().display().to_string();
    let folder = std::env::temp_dir().join(format!("elenchus-gateway-streams-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let store = folder.join("store.sqlite").display().to_string();
    let stub = Process::start(&own, &["stub"]);
    let url = format!("http://{}/v1", stub.address);
    let arguments = ["serve", "--port", "0", "--no-embedded", "--upstream", &url, "--store", &store];
    let gateway = Process::start(elenchus, &arguments);
    // Direct before and behind: what else the machine does falls on both.
    let direct = run(load(stub.address.clone(), plain(true), streams, seconds / 2.0));
    let ends = std::sync::atomic::AtomicBool::new(false);
    let (through, memory) = std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut seen = Vec::new();
            while !ends.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_secs(1));
                seen.push(gateway.memory().0);
            }
            seen
        });
        let through = run(load(gateway.address.clone(), plain(true), streams, seconds));
        ends.store(true, Ordering::Relaxed);
        (through, watching.join().unwrap())
    });
    let again = run(load(stub.address.clone(), plain(true), streams, seconds / 2.0));
    println!("{streams} streams, direct      {}", direct.json());
    println!("{streams} streams, gateway     {}", through.json());
    println!("{streams} streams, direct      {}", again.json());
    for share in [0.5, 0.99] {
        let base = direct.quantile(share).min(again.quantile(share));
        let added = through.quantile(share) - base;
        println!("added to a stream of 1 s at p{:.0}: {added:.1} ms", 100.0 * share);
    }
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len().max(1) as f64;
    let third = memory.len() / 3;
    println!(
        "resident memory {:.1} MB in the second third of the time, {:.1} MB in the last, {:.1} MB at most",
        mean(&memory[third..2 * third]),
        mean(&memory[2 * third..]),
        gateway.memory().1
    );
    drop(gateway);
    let _ = std::fs::remove_dir_all(folder);
}
