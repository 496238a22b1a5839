//! `elenchus serve` and `elenchus keys` as processes: start, ask, kill, start again.

#![expect(clippy::expect_used, clippy::panic, reason = "a test helper that fails should stop the test")]

mod support;

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use support::{Server, code, command, run, scratch, stderr};

/// A running gateway.
struct Gateway {
    child: Child,
    place: String,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Gateway {
    fn start(folder: &Path, arguments: &[&str]) -> Gateway {
        let all = [&["serve", "--port", "0", "--store", "store.sqlite"], arguments].concat();
        let mut child =
            command(folder, &all).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        let place = line.trim().trim_start_matches("http://").to_string();
        assert!(!place.is_empty(), "the first line is the address");
        Gateway { child, place }
    }

    /// Status and body of an answer.
    fn send(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let answer = exchange(&self.place, method, path, body).expect("an answer");
        (answer.status, answer.body)
    }

    fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}

struct Answer {
    status: u16,
    head: String,
    body: Value,
}

/// Asks and reads the whole answer; `None` where it does not come whole.
fn exchange(place: &str, method: &str, path: &str, body: &Value) -> Option<Answer> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut stream = TcpStream::connect(place).ok()?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {place}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let head = head.to_ascii_lowercase();
    let length = header(&head, "content-length").and_then(|length| length.parse().ok());
    if length.is_some_and(|length: usize| length != body.len()) {
        return None;
    }
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = serde_json::from_str(body).unwrap_or(Value::String(body.into()));
    Some(Answer { status, head, body })
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn question(model: &str, text: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": text}]})
}

/// What a gateway acknowledged: traces, and the feedback on them.
type Acknowledged = Mutex<Vec<(String, bool)>>;

/// Asks and says what it thinks of the answer, until nobody answers any more.
fn write_on(place: &str, acknowledged: &Acknowledged) {
    let note =
        |id: &str, feedback| acknowledged.lock().expect("not poisoned").push((id.to_string(), feedback));
    while let Some(answer) = exchange(place, "POST", "/v1/chat/completions", &question("m", "x")) {
        assert_eq!(answer.status, 200, "{}", answer.body);
        let id = header(&answer.head, "x-elenchus-trace-id").expect("it is stored");
        note(id, false);
        let said = json!({"trace_id": id, "reaction": "up"});
        match exchange(place, "POST", "/v1/feedback", &said) {
            Some(answer) if answer.status == 200 => note(id, true),
            Some(answer) => panic!("{}", answer.body),
            None => return,
        }
    }
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill_under_concurrent_writes() {
    let folder = scratch();
    let server = Server::start();
    let mut all = Vec::new();
    for _ in 0..3 {
        let mut gateway = Gateway::start(folder.path(), &["--no-embedded", "--upstream", &server.url]);
        let (place, acknowledged) = (gateway.place.clone(), Acknowledged::default());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| write_on(&place, &acknowledged));
            }
            let begun = Instant::now();
            while acknowledged.lock().expect("not poisoned").len() < 150 {
                assert!(begun.elapsed() < Duration::from_secs(60), "the writes do not come");
                std::thread::sleep(Duration::from_millis(1));
            }
            // Writes are under way, and there is no time for anything more.
            gateway.kill();
        });
        all.extend(acknowledged.into_inner().expect("not poisoned"));
    }
    let again = Gateway::start(folder.path(), &[]);
    for (id, feedback) in all {
        let (status, trace) = again.send("GET", &format!("/v1/traces/{id}"), &Value::Null);
        assert_eq!(status, 200, "{id} was acknowledged");
        assert!(!feedback || trace["feedback"][0]["reaction"] == "up", "{id}: so was its feedback");
    }
}

#[test]
fn log_lines_name_the_trace_of_their_request() {
    let folder = scratch();
    // Nobody listens there.
    let mut gateway =
        Gateway::start(folder.path(), &["--upstream", "http://127.0.0.1:1/v1", "--log", "requests"]);
    let example = "g=50;e=g-1;e?";
    let recipe = question("elenchus/self-consistency@2/embedded", example);
    let (_, answer) = gateway.send("POST", "/v1/chat/completions", &recipe);
    let answered = answer["elenchus"]["trace_id"].as_str().expect("a trace").to_string();
    let mut streamed = question("elenchus/self-consistency@2/embedded", example);
    streamed["stream"] = true.into();
    gateway.send("POST", "/v1/chat/completions", &streamed);
    // A recipe asks again until the upstream is left alone for a while.
    for (model, status) in [("m", 502), ("elenchus/single/m", 503)] {
        assert_eq!(gateway.send("POST", "/v1/chat/completions", &question(model, "x")).0, status);
    }
    gateway.send("GET", "/healthz", &Value::Null);
    assert_eq!(gateway.send("POST", "/v1/chat/completions", &json!({"model": "m"})).0, 400);
    let (_, traces) = gateway.send("GET", "/v1/traces", &Value::Null);
    let mut stored: Vec<&str> =
        traces["data"].as_array().expect("a list").iter().filter_map(|trace| trace["id"].as_str()).collect();
    gateway.kill();
    let mut text = String::new();
    gateway.child.stderr.take().expect("a pipe").read_to_string(&mut text).expect("text");
    let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of = |event: &str| -> Vec<&Value> { lines.iter().filter(|line| line["event"] == event).collect() };
    let chats: Vec<&Value> = of("request").into_iter().filter(|line| line["route"] == "chat").collect();
    assert_eq!(chats.len(), 5, "{text}");
    assert_eq!(chats[0]["trace_id"], answered.as_str());
    for (field, wanted) in
        [("method", json!("POST")), ("path", json!("/v1/chat/completions")), ("status", json!(200))]
    {
        assert_eq!(chats[0][field], wanted);
    }
    assert!(chats[0]["milliseconds"].as_f64().is_some_and(|took| took > 0.0) && chats[0]["time_ms"].is_u64());
    let mut named: Vec<&str> = chats.iter().filter_map(|line| line["trace_id"].as_str()).collect();
    named.sort_unstable();
    stored.sort_unstable();
    assert_eq!(named, stored, "whole, streamed and failed ones; what was refused has no trace");
    let failed = of("failed");
    assert_eq!(failed.len(), 2, "{text}");
    for (line, code) in failed.into_iter().zip(["upstream_failed", "upstream_resting"]) {
        assert!(stored.contains(&line["trace_id"].as_str().expect("a trace")), "{line}");
        assert_eq!(line["code"], code, "{line}");
    }
    let health = of("request").into_iter().find(|line| line["route"] == "healthz").expect("a line");
    assert_eq!((&health["trace_id"], &health["status"]), (&Value::Null, &json!(200)));
}

#[test]
fn a_key_that_is_made_closes_a_running_gateway_to_others() {
    let folder = scratch();
    let gateway = Gateway::start(folder.path(), &[]);
    let status = || gateway.send("GET", "/v1/export", &Value::Null).0;
    assert_eq!(status(), 200, "as long as there is no key");
    let made = run(folder.path(), &["keys", "--store", "store.sqlite", "add", "app"]);
    assert_eq!(code(&made), 0, "{}", stderr(&made));
    let begun = Instant::now();
    while status() == 200 {
        assert!(begun.elapsed() < Duration::from_secs(10), "it is noticed within two seconds");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(status(), 401);
    assert_eq!(gateway.send("GET", "/metrics", &Value::Null).0, 401);
}

#[cfg(unix)]
fn signal(gateway: &Gateway, name: &str) {
    let id = gateway.child.id().to_string();
    assert!(Command::new("kill").args([name, &id]).status().expect("kill").success());
}

#[cfg(unix)]
#[test]
fn a_signal_ends_it_and_another_reads_the_configuration_again() {
    let folder = scratch();
    let (first, second) = (Server::start(), Server::start());
    let configuration = |server: &Server| {
        let text = format!("[[serve.upstreams]]\nbase_url = \"{}\"\n", server.url);
        std::fs::write(folder.path().join("elenchus.toml"), text).expect("it can be written");
    };
    configuration(&first);
    let mut gateway = Gateway::start(folder.path(), &["--no-embedded"]);
    assert_eq!(gateway.send("POST", "/v1/chat/completions", &question("m", "x")).0, 200);
    assert_eq!((first.count(), second.count()), (1, 0));
    configuration(&second);
    signal(&gateway, "-HUP");
    let begun = Instant::now();
    while second.count() == 0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "the new upstream is never asked");
        gateway.send("POST", "/v1/chat/completions", &question("m", "x"));
        std::thread::sleep(Duration::from_millis(20));
    }
    signal(&gateway, "-TERM");
    assert!(gateway.child.wait().expect("it ends").success());
}

#[test]
fn the_layers_of_the_endpoint_hold_for_the_gateway() {
    let folder = scratch();
    // Nobody listens there.
    let text = "[endpoint]\nbase_url = \"http://127.0.0.1:1/v1\"\n[endpoint.layers]\nretry.attempts = 1\n";
    std::fs::write(folder.path().join("elenchus.toml"), text).expect("it can be written");
    let gateway = Gateway::start(folder.path(), &["--no-embedded"]);
    let begun = Instant::now();
    let (status, error) = gateway.send("POST", "/v1/chat/completions", &question("elenchus/single/m", "x"));
    assert_eq!(status, 502, "{error}");
    assert!(begun.elapsed() < Duration::from_secs(2), "it does not ask six times: {:?}", begun.elapsed());
}

#[cfg(unix)]
#[test]
fn the_user_of_an_upstream_reaches_it_and_neither_logs_nor_the_store() {
    let folder = scratch();
    let server = Server::start();
    let url = server.url.replace("http://", "http://ann:hush-hush@");
    let away = "http://ann:hush-hush@127.0.0.1:1/v1";
    let text = format!(
        "[[serve.upstreams]]\nbase_url = \"{url}\"\nmodels = [\"m\"]\napi_key_variable = \"OTHER_KEY\"\n\
         [[serve.upstreams]]\nbase_url = \"{away}\"\nmodels = [\"gone\"]\n\
         [serve.retry]\nattempts = 1\n[roles.judge]\nmodel = \"m\"\nbase_url = \"{url}\"\n\
         [roles.critic]\nmodel = \"gone\"\nbase_url = \"{away}\"\nlayers = {{ retry = {{ attempts = 1 }} }}\n"
    );
    std::fs::write(folder.path().join("elenchus.toml"), text).expect("it can be written");
    let mut gateway = Gateway::start(folder.path(), &["--no-embedded", "--log", "requests"]);
    let mut told = String::new();
    for (model, settings) in [
        ("m", json!({})),
        ("elenchus/self-consistency@2/m", json!({})),
        ("elenchus/best-of-n@2/m", json!({"evaluator": "judge"})),
        ("elenchus/critique-and-refine/m", json!({})),
        ("gone", json!({})),
        ("elenchus/single/gone", json!({})),
    ] {
        let mut body = question(model, "x");
        body["elenchus"] = json!({"settings": settings});
        let (_, answer) = gateway.send("POST", "/v1/chat/completions", &body);
        told += &answer.to_string();
    }
    for path in ["/v1/models", "/v1/traces", "/v1/totals", "/v1/recipes", "/metrics", "/readyz"] {
        told += &gateway.send("GET", path, &Value::Null).1.to_string();
    }
    assert!(!told.contains("hush") && told.contains("127.0.0.1:1"), "{told}");
    let basic = Some("Basic YW5uOmh1c2gtaHVzaA==".to_string());
    assert!(server.count() > 5, "it was asked");
    assert!(server.asked().iter().all(|asked| asked.authorization == basic), "a user in place of a key");
    signal(&gateway, "-TERM");
    let mut said = String::new();
    gateway.child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
    assert!(gateway.child.wait().expect("it ends").success());
    assert!(said.contains("http://***@127.0.0.1") && !said.contains("hush"), "{said}");
    let store = std::fs::read(folder.path().join("store.sqlite")).expect("the store");
    assert!(!String::from_utf8_lossy(&store).contains("hush"));
}

#[test]
fn keys_are_made_listed_and_ended() {
    let folder = scratch();
    let keys =
        |arguments: &[&str]| run(folder.path(), &[&["keys", "--store", "k.sqlite"], arguments].concat());
    let made = keys(&["add", "app", "--tokens", "1000"]);
    assert_eq!(code(&made), 0, "{}", stderr(&made));
    let secret = String::from_utf8(made.stdout).expect("text");
    assert!(secret.trim().starts_with("elk-") && secret.trim().len() == 68, "{secret}");
    let twice = keys(&["add", "app"]);
    assert_eq!(code(&twice), 2);
    assert!(stderr(&twice).contains("hint:"));
    let list = String::from_utf8(keys(&["list"]).stdout).expect("text");
    assert!(
        list.contains("app") && list.contains("ask, feedback") && !list.contains(secret.trim()),
        "{list}"
    );
    assert_eq!(code(&keys(&["revoke", "app"])), 0);
    assert_eq!(code(&keys(&["revoke", "app"])), 2);
}

#[test]
fn what_cannot_be_served_is_said_at_the_start() {
    let folder = scratch();
    let none = run(folder.path(), &["serve", "--no-embedded", "--port", "0"]);
    assert_eq!(code(&none), 2, "{}", stderr(&none));
    assert!(stderr(&none).contains("--upstream"), "{}", stderr(&none));
    let open = run(folder.path(), &["serve", "--host", "0.0.0.0", "--port", "0", "--store", "s.sqlite"]);
    assert_eq!(code(&open), 2);
    assert!(stderr(&open).contains("elenchus keys add"), "{}", stderr(&open));
    let taken = Gateway::start(folder.path(), &[]);
    let port = taken.place.rsplit(':').next().expect("a port").to_string();
    let twice = run(folder.path(), &["serve", "--port", &port, "--store", "s.sqlite"]);
    assert_eq!(code(&twice), 1);
    assert!(stderr(&twice).contains("--port"), "{}", stderr(&twice));
}

#[cfg(unix)]
#[test]
fn a_disk_that_is_full_costs_the_trace_and_not_the_answer() {
    let folder = scratch();
    // With the signal ignored, writes beyond the limit fail as on a full disk; blocks are of 512 or 1,024 bytes.
    let server = Server::start();
    let script = format!(
        "trap '' XFSZ; ulimit -f 1200 || exit 9; exec \"$0\" serve --port 0 --no-embedded --store full/store.sqlite --upstream {}",
        server.url
    );
    let program = command(folder.path(), &[]).get_program().to_owned();
    let mut child = Command::new("sh")
        .args(["-c", &script])
        .arg(program)
        .current_dir(folder.path())
        .env("ELENCHUS_DATA", folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a shell");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    let place = line.trim().trim_start_matches("http://").to_string();
    assert!(!place.is_empty(), "it starts");
    let gateway = Gateway { child, place };
    let long = "x".repeat(30_000);
    let mut kept = Vec::new();
    let mut without = 0;
    for _ in 0..60 {
        let (status, answer) =
            gateway.send("POST", "/v1/chat/completions", &question("elenchus/single/m", &long));
        assert_eq!(status, 200, "the answer does not hang on the store: {answer}");
        match answer["elenchus"]["trace_id"].as_str() {
            Some(id) => kept.push(id.to_string()),
            None => without += 1,
        }
    }
    assert!(!kept.is_empty() && without > 0, "{} kept, {without} not", kept.len());
    let said = json!({"trace_id": kept[0], "reaction": "up", "comment": "y".repeat(200_000)});
    let (status, error) = gateway.send("POST", "/v1/feedback", &said);
    assert_eq!((status, &error["error"]["code"]), (503, &json!("store_unavailable")), "{error}");
    assert!(error["error"]["message"].as_str().expect("words").contains("hint:"), "{error}");
    for id in kept {
        assert_eq!(gateway.send("GET", &format!("/v1/traces/{id}"), &Value::Null).0, 200, "{id}");
    }
}

#[cfg(unix)]
#[test]
fn a_store_that_is_removed_acknowledges_nothing() {
    let folder = scratch();
    let gateway = Gateway::start(folder.path(), &[]);
    let ask = || gateway.send("POST", "/v1/chat/completions", &question("embedded", "g=50;e=g-1;e?")).1;
    let id = ask()["elenchus"]["trace_id"].clone();
    assert!(id.is_string());
    std::fs::remove_file(folder.path().join("store.sqlite")).expect("it is there");
    assert_eq!(ask()["elenchus"].get("trace_id").cloned().unwrap_or_default(), Value::Null);
    let (status, error) = gateway.send("POST", "/v1/feedback", &json!({"trace_id": id, "reaction": "up"}));
    assert_eq!((status, &error["error"]["code"]), (503, &json!("store_unavailable")), "{error}");
}

#[cfg(unix)]
#[test]
fn thousands_of_idle_connections_hinder_nobody_and_cost_little() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(20_000).max(soft), hard).expect("it can be raised");
    let wanted = 4000.min(usize::try_from(hard).unwrap_or(usize::MAX).saturating_sub(200));
    let folder = scratch();
    let server = Server::start();
    // Started under the usual limit, which it raises by itself.
    let script =
        "ulimit -S -n 1024; exec \"$0\" serve --port 0 --no-embedded --store s.sqlite --upstream \"$1\"";
    let mut child = Command::new("sh")
        .args(["-c", script])
        .arg(command(folder.path(), &[]).get_program())
        .arg(&server.url)
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a shell");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    let gateway = Gateway { child, place: line.trim().trim_start_matches("http://").to_string() };
    let resident_kib = || -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.child.id())).ok()?;
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().split(' ').next()?.parse().ok())
    };
    let before = resident_kib();
    let idle: Vec<TcpStream> =
        (0..wanted).map(|_| TcpStream::connect(&gateway.place).expect("it listens")).collect();
    for _ in 0..20 {
        let begun = Instant::now();
        let (status, answer) = gateway.send("POST", "/v1/chat/completions", &question("m", "x"));
        assert_eq!(status, 200, "{answer}");
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
    let (_, metrics) = gateway.send("GET", "/metrics", &Value::Null);
    let open =
        metrics.as_str().expect("text").lines().find_map(|line| line.strip_prefix("elenchus_connections "));
    let open: usize = open.and_then(|open| open.parse().ok()).expect("a number");
    assert!(open > wanted, "{open} of {wanted} are open");
    if let (Some(before), Some(after)) = (before, resident_kib()) {
        let each = (after.saturating_sub(before)) as f64 / wanted as f64;
        assert!(each < 20.0, "{each:.1} KiB a connection");
    }
    drop(idle);
}
