//! What goes wrong upstream, in requests, in the store.

use crate::support::{Act, Asked, Running, Stub, completion, events, pieces, question, until};
use elenchus_remember::service::{ServiceStore, SqliteStore, TraceFilter};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

fn streamed(model: &str) -> Value {
    let mut body = question(model, "2+2?");
    body["stream"] = true.into();
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_dies_in_mid_stream_is_said_in_the_stream() {
    let stub = Stub::start(|_| {
        let mut events = events("one two");
        events.truncate(1);
        events.push("data: {\"choi".into());
        Act::Stream { events, pause: Duration::ZERO, broken: true }
    })
    .await;
    let gateway = Running::before(&[&stub]).await;
    let response = gateway.post("/v1/chat/completions").json(&streamed("little")).send().await.unwrap();
    let text = response.text().await.unwrap();
    let last = text.lines().rfind(|line| line.starts_with("data: ")).unwrap();
    let error: Value = serde_json::from_str(&last[6..]).unwrap();
    assert_eq!(error["error"]["code"], "upstream_failed", "{text}");
    let trace = &gateway.traces(1).await[0];
    assert_eq!(trace["status"], "failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_hangs_is_given_up() {
    let stub = Stub::start(|asked| match asked.body["stream"] == true {
        true => Act::Stream {
            events: vec!["data: {}\n\n".into(), "data: {}\n\n".into()],
            pause: Duration::from_secs(2),
            broken: false,
        },
        false => Act::Hang,
    })
    .await;
    let gateway = Running::with(&[&stub], |settings| {
        settings.upstreams[0].first_byte_seconds = 0.3;
        settings.upstreams[0].idle_seconds = 0.3;
    })
    .await;
    let begun = Instant::now();
    let (status, error) = gateway.ask(question("little", "x")).await;
    assert_eq!((status, &error["error"]["code"]), (504, &json!("upstream_timeout")));
    let response = gateway.post("/v1/chat/completions").json(&streamed("little")).send().await.unwrap();
    let (_, data) = pieces(&response.text().await.unwrap());
    assert!(data.last().unwrap()["error"]["message"].as_str().unwrap().contains("sent nothing"), "{data:?}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    until("the upstream notices", || stub.gone() >= 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_of_an_upstream_is_an_error_of_ours_only_for_recipes() {
    let html = "<html>\u{fffd}busy</html>";
    let stub = Stub::start(move |_| {
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\n\r\n", html.len());
        Act::Raw((head + html).into_bytes())
    })
    .await;
    let gateway = Running::before(&[&stub]).await;
    let (status, text) = gateway.ask(question("little", "x")).await;
    assert_eq!((status, text.as_str()), (200, Some(html)), "what is passed on is not judged");
    let (status, error) = gateway.ask(question("elenchus/self-consistency@2/little", "x")).await;
    assert_eq!((status, &error["error"]["code"]), (502, &json!("upstream_failed")), "{error}");
    let no_http = Stub::start(|_| Act::Raw(b"\xff\xfe\x00garbage\r\n\r\n".to_vec())).await;
    let gateway = Running::before(&[&no_http]).await;
    assert_eq!(gateway.ask(question("little", "x")).await.0, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_that_fail_are_asked_again() {
    let calls = AtomicUsize::new(0);
    let stub = Stub::start(move |asked| {
        // One sample in one request; every other connection is closed.
        if asked.body["n"].as_u64().unwrap_or(1) > 1 {
            return Act::Json(400, json!({"error": {"message": "n must be 1"}}));
        }
        match calls.fetch_add(1, Ordering::SeqCst) % 2 {
            0 => Act::Close,
            _ => Act::Json(200, completion(&["Answer: 4".into()])),
        }
    })
    .await;
    let gateway = Running::before(&[&stub]).await;
    let mut body = question("elenchus/self-consistency@4/little", "2+2?");
    body["elenchus"] = json!({"settings": {"early_stop": false}});
    let (status, answer) = gateway.ask(body).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["elenchus"]["agreement"], 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_one_upstream_fails_another_answers_and_the_broken_one_rests() {
    let broken = Stub::start(|_| Act::Json(500, json!({"error": {"message": "out of memory"}}))).await;
    let whole = Stub::answering(&["Answer: 4"]).await;
    let gateway = Running::before(&[&broken, &whole]).await;
    for _ in 0..40 {
        assert_eq!(gateway.ask(question("little", "x")).await.0, 200);
    }
    let asked = broken.asked().len();
    assert_eq!(asked, 5, "after five failures it rests");
    let (_, metrics) = gateway.get("/metrics").await;
    let metrics = metrics.as_str().unwrap();
    assert!(
        metrics.lines().any(|line| line.starts_with("elenchus_upstream_healthy") && line.ends_with(" 0"))
    );
    assert!(metrics.contains("elenchus_requests_total{route=\"chat\",status=\"200\"} 40"), "{metrics}");
    let gateway = Running::before(&[&broken]).await;
    let (status, error) = gateway.ask(question("little", "x")).await;
    assert_eq!(status, 500, "the words of an only upstream are passed on: {error}");
    assert_eq!(error["error"]["message"], "out of memory");
    let nobody = Running::with(&[&whole], |settings| {
        settings.upstreams[0].base_url = "http://127.0.0.1:1/v1".into();
    })
    .await;
    assert_eq!(nobody.ask(question("little", "x")).await.0, 502);
    assert_eq!(nobody.traces(1).await[0]["status"], "failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_without_answers_open_the_breaker_and_whole_answers_are_asked_for_elsewhere() {
    let broken = Stub::start(|asked| match asked.body["stream"] == true {
        true => Act::Stream { events: events("one two")[..1].to_vec(), pause: Duration::ZERO, broken: true },
        // Less than it says.
        false => {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
            Act::Raw(head.as_bytes().to_vec())
        }
    })
    .await;
    let whole = Stub::answering(&["Answer: 4"]).await;
    let gateway = Running::before(&[&broken, &whole]).await;
    let healthy = async |gateway: &Running| gateway.get("/readyz").await.1["upstreams"]["healthy"].clone();
    for _ in 0..40 {
        assert_eq!(gateway.ask(question("little", "x")).await.0, 200);
    }
    assert_eq!((broken.asked().len(), healthy(&gateway).await), (5, json!(1)), "after five it rests");
    // A stream is known to be broken only when the client has a part of it.
    let gateway = Running::with(&[&broken, &whole], |settings| settings.upstreams[1].weight = 0).await;
    for _ in 0..5 {
        let response = gateway.post("/v1/chat/completions").json(&streamed("little")).send().await.unwrap();
        assert!(response.text().await.unwrap().contains("upstream_failed"));
    }
    assert_eq!(healthy(&gateway).await, json!(1));
    let response = gateway.post("/v1/chat/completions").json(&streamed("little")).send().await.unwrap();
    assert!(response.text().await.unwrap().ends_with("data: [DONE]\n\n"), "the spare one answers");
}

#[tokio::test(flavor = "multi_thread")]
async fn recipes_ask_the_next_upstream_at_once_and_open_the_breaker_too() {
    for act in ["close", "error", "half a stream"] {
        let broken = Stub::start(move |asked| match (act, asked.body["stream"] == true) {
            ("close", _) => Act::Close,
            ("error", _) | (_, false) => Act::Json(500, json!({"error": {"message": "out of memory"}})),
            // A head and a role, and nothing that was said.
            _ => {
                let role = json!({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]});
                let events = vec![format!("data: {role}\n\n")];
                Act::Stream { events, pause: Duration::ZERO, broken: true }
            }
        })
        .await;
        let whole = Stub::answering(&["Answer: 4"]).await;
        // All requests begin at the broken one.
        let gateway = Running::with(&[&broken, &whole], |settings| settings.upstreams[1].weight = 0).await;
        for asked in 1..=6 {
            let mut body = question("elenchus/single/little", "x");
            body["stream"] = (act == "half a stream").into();
            let response = gateway.post("/v1/chat/completions").json(&body).send().await.unwrap();
            assert_eq!(response.status(), 200, "{act}");
            let text = response.text().await.unwrap();
            assert!(text.contains("4") && !text.contains("\"error\""), "{act}: {text}");
            // Not six times with pauses before the other one is asked.
            assert_eq!((broken.asked().len(), whole.asked().len()), (asked.min(5), asked), "{act}");
        }
        let (_, metrics) = gateway.get("/metrics").await;
        let line =
            metrics.as_str().unwrap().lines().find(|line| line.starts_with("elenchus_upstream_healthy"));
        assert!(line.unwrap().ends_with(" 0"), "{act}: {line:?}");
    }
    // Alone and resting, it is not waited for.
    let broken = Stub::start(|_| Act::Close).await;
    let gateway = Running::before(&[&broken]).await;
    let (status, error) = gateway.ask(question("elenchus/single/little", "x")).await;
    assert_eq!((status, broken.asked().len()), (503, 5), "{error}");
    for model in ["elenchus/single/little", "little"] {
        let (status, error) = gateway.ask(question(model, "x")).await;
        assert_eq!((status, &error["error"]["code"]), (503, &json!("upstream_resting")), "{model}: {error}");
    }
    let (_, error) = gateway.ask(question("elenchus/single/little", "x")).await;
    assert_eq!(broken.asked().len(), 5, "{error}");
    assert!(error["error"]["message"].as_str().unwrap().contains("does not work at present"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_one_model_that_cannot_be_read_leave_the_others_alone() {
    let stub = Stub::start(|asked| match asked.body["model"] == "half" {
        false => Act::Json(200, completion(&["Answer: 4".into()])),
        true => {
            let half = "{\"choices\": [{\"index\": 0, \"mess";
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length";
            Act::Raw(format!("{head}: {}\r\n\r\n{half}", half.len()).into_bytes())
        }
    })
    .await;
    let gateway = Running::with(&[&stub], |settings| settings.retry.base_seconds = 0.001).await;
    for _ in 0..2 {
        let (status, error) = gateway.ask(question("elenchus/self-consistency@3/half", "x")).await;
        assert_eq!((status, &error["error"]["code"]), (502, &json!("upstream_failed")), "{error}");
        let (status, answer) = gateway.ask(question("elenchus/single/little", "2+2?")).await;
        assert_eq!(status, 200, "{answer}");
        assert!(is_healthy(&gateway).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_with_status_200_is_what_it_says_and_a_wrong_request_is_asked_once() {
    for (error, wanted, asked) in [
        (json!({"code": 400, "message": "context length exceeded"}), 400, 1),
        (json!({"code": "context_length_exceeded", "type": null, "message": "too long"}), 400, 1),
        (json!({"type": "invalid_request_error", "message": "too long"}), 400, 1),
        (json!({"code": "404", "message": "no such model"}), 404, 1),
        (json!({"code": 429, "message": "slower"}), 429, 6),
    ] {
        let body = json!({ "error": error });
        let stub = Stub::start(move |_| Act::Json(200, body.clone())).await;
        let gateway = Running::with(&[&stub], |settings| settings.retry.base_seconds = 0.001).await;
        let (status, said) = gateway.ask(question("elenchus/single/little", "x")).await;
        assert_eq!((status, stub.asked().len()), (wanted, asked), "{error}: {said}");
        let words = said["error"]["message"].as_str().unwrap();
        assert!(words.contains(error["message"].as_str().unwrap()), "{words}");
        let (status, said) = gateway.ask(question("little", "x")).await;
        assert_eq!((status, &said["error"]), (wanted, &error), "passed on as it is, with its status");
        for _ in 0..5 {
            gateway.ask(question("little", "x")).await;
        }
        assert!(is_healthy(&gateway).await, "{error}");
        assert_eq!(gateway.traces(7).await[0]["status"], "failed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_requests_are_refused_and_never_an_error_of_ours() {
    let stub = Stub::answering(&["x"]).await;
    let gateway = Running::with(&[&stub], |settings| settings.most_body_bytes = 100_000).await;
    let deep = format!("{{\"model\":\"little\",\"messages\":{}1{}}}", "[".repeat(5000), "]".repeat(5000));
    let bodies: Vec<(Vec<u8>, u16)> = vec![
        (b"".to_vec(), 400),
        (b"{".to_vec(), 400),
        (b"[]".to_vec(), 400),
        (b"null".to_vec(), 400),
        (b"\"text\"".to_vec(), 400),
        (b"[\"little\", false, null, null, [{\"role\": \"user\", \"content\": \"x\"}]]".to_vec(), 400),
        (b"{\"model\": 3, \"messages\": []}".to_vec(), 400),
        (b"{\"model\": \"elenchus/gsa/little\", \"messages\": [5]}".to_vec(), 400),
        (
            b"{\"model\": \"elenchus/gsa/little\", \"messages\": [{\"role\": \"user\", \"content\": 5}]}"
                .to_vec(),
            400,
        ),
        (
            b"{\"model\": \"elenchus/gsa/little\", \"messages\": [{\"role\": \"user\", \"content\": [5]}]}"
                .to_vec(),
            400,
        ),
        (b"{\"model\": \"little\", \"elenchus\": 5, \"messages\": []}".to_vec(), 400),
        (b"{\"model\": \"little\", \"elenchus\": {\"budget\": \"5\"}, \"messages\": []}".to_vec(), 400),
        (
            b"{\"model\": \"little\", \"elenchus\": {\"budget\": {\"seconds\": -1}}, \"messages\": []}"
                .to_vec(),
            400,
        ),
        (
            b"{\"model\": \"little\", \"elenchus\": {\"budget\": {\"money\": -1}}, \"messages\": []}"
                .to_vec(),
            400,
        ),
        (b"{\"model\": \"little\"}".to_vec(), 400),
        (b"{\"model\": \"little\", \"stream\": \"yes\", \"messages\": []}".to_vec(), 400),
        (b"{\"model\": \"elenchus/gsa/little\", \"messages\": \"x\"}".to_vec(), 400),
        (b"{\"model\": \"elenchus//little\", \"messages\": []}".to_vec(), 404),
        (b"{\"model\": \"elenchus/gsa@-1/little\", \"messages\": []}".to_vec(), 400),
        (b"{\"model\": \"\xff\xfe\", \"messages\": []}".to_vec(), 400),
        (deep.into_bytes(), 400),
        (vec![b' '; 100_001], 413),
    ];
    for (body, param) in [
        (json!({"model": "little", "messages": [], "elenchus": {"samples": "5"}}), "elenchus.samples"),
        (
            json!({"model": "little", "messages": [], "elenchus": {"budget": {"tokens": -1}}}),
            "elenchus.budget.tokens",
        ),
        (json!({"model": "little", "messages": [], "elenchus": {"settings": []}}), "elenchus.settings"),
        (json!({"model": "little", "messages": [], "stream": "yes"}), "stream"),
        (json!({"model": 3, "messages": []}), "model"),
        (
            json!({"model": "elenchus/gsa/little", "messages": [{"role": 3, "content": "x"}]}),
            "messages[0].role",
        ),
        (
            json!({"model": "elenchus/gsa/little", "messages": [{"role": "user", "content": [5]}]}),
            "messages[0].content",
        ),
    ] {
        let (status, error) = gateway.ask(body).await;
        assert_eq!((status, &error["error"]["param"]), (400, &json!(param)), "{error}");
        let message = error["error"]["message"].as_str().unwrap();
        assert!(message.contains(param) && !message.contains("u64"), "{message}");
    }
    for path in ["/v1/responses", "/v1/traces/x/rerun"] {
        let (status, error) = gateway.send(path, json!([0, "x"])).await;
        assert!(
            status == 400 && error["error"]["message"].as_str().unwrap().contains("no object"),
            "{error}"
        );
    }
    for (body, wanted) in bodies {
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        for path in ["/v1/chat/completions", "/v1/gsa/chat/completions", "/v1/estimate", "/v1/feedback"] {
            let response = gateway.post(path).body(body.clone()).send().await.unwrap();
            let status = response.status().as_u16();
            let error: Value = response.json().await.unwrap_or(Value::Null);
            assert!((400..500).contains(&status), "{path} {shown}: {status} {error}");
            let message = error["error"]["message"].as_str().unwrap_or_default();
            assert!(!message.is_empty(), "{path} {shown}: {error}");
            for inner in ["struct", "enum", "Peek", "Wish"] {
                assert!(!message.contains(inner), "{path} {shown} names what is ours: {message}");
            }
            if path == "/v1/chat/completions" {
                assert_eq!(status, wanted, "{shown}: {error}");
            }
        }
    }
    // Who is still writing reads why it was refused, also where that takes longer than what the system holds for it.
    for _ in 0..20 {
        let sent = gateway.post("/v1/chat/completions").body(vec![b' '; 900_000]).send().await;
        assert_eq!(sent.unwrap().status(), 413);
    }
    assert!(stub.asked().is_empty(), "none of them was passed on");
    assert_eq!(gateway.get("/v1/chat/completions").await.0, 405);
    assert_eq!(gateway.get("/v1/nothing").await.0, 404);
    for path in
        ["/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/page.js/../../x", "/v1/traces/..%2f..%2fx"]
    {
        assert_eq!(
            raw(&gateway, &format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"))
                .await,
            404,
            "{path}"
        );
    }
    assert_eq!(raw(&gateway, "GARBAGE\r\n\r\n").await, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_upstream_refuses_has_the_same_status_with_a_recipe_and_without() {
    for status in [401, 403, 404, 429] {
        let refused = Act::Json(status, json!({"error": {"message": "no"}}));
        let stub = Stub::start(move |asked| match asked.path.ends_with("/models") {
            true => Act::Json(200, json!({"data": [{"id": "little"}]})),
            false => refused.clone(),
        })
        .await;
        let gateway = Running::before(&[&stub]).await;
        let (plain, _) = gateway.ask(question("little", "x")).await;
        let (recipe, error) = gateway.ask(question("elenchus/single/little", "x")).await;
        assert_eq!((plain, recipe), (status, status), "{error}");
        assert!(error["error"]["message"].as_str().unwrap().contains("hint: "), "{error}");
    }
}

/// Sends bytes and gives the status of the answer; 0 without one.
async fn raw(gateway: &Running, text: &str) -> u16 {
    let mut stream = TcpStream::connect(gateway.url.trim_start_matches("http://")).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_idle_clients_are_let_go_and_hinder_nobody() {
    let stub = Stub::answering(&["x"]).await;
    let gateway = Running::with(&[&stub], |settings| {
        settings.header_seconds = 0.5;
        settings.body_seconds = 0.5;
        settings.most_connections = 400;
    })
    .await;
    let place = gateway.url.trim_start_matches("http://").to_string();
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(TcpStream::connect(&place).await.unwrap());
    }
    let mut slow = TcpStream::connect(&place).await.unwrap();
    slow.write_all(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nx-slow: ").await.unwrap();
    assert_eq!(gateway.ask(question("little", "x")).await.0, 200, "beside 300 idle connections");
    let mut end = Vec::new();
    tokio::time::timeout(Duration::from_secs(10), slow.read_to_end(&mut end))
        .await
        .expect("it is closed")
        .unwrap();
    let body = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\nconnection: close\r\n\r\n{";
    assert_eq!(raw(&gateway, body).await, 408, "a body that does not come");
    for stream in &mut idle {
        let mut byte = [0; 1];
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut byte)).await;
        assert!(matches!(read, Ok(Ok(0) | Err(_))), "closed after the time for a head");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_locked_costs_the_trace_and_not_the_answer() {
    let stub = Stub::answering(&["Answer: 4"]).await;
    let gateway = Running::before(&[&stub]).await;
    let id = {
        let (_, answer) = gateway.ask(question("elenchus/single/little", "x")).await;
        answer["elenchus"]["trace_id"].clone()
    };
    // Another process in the middle of a long write.
    let other = rusqlite::Connection::open(gateway.folder.path().join("store.sqlite")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let response = gateway.post("/v1/chat/completions").json(&question("little", "x")).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(!response.headers().contains_key("x-elenchus-trace-id"), "what is not stored is not promised");
    let asked = question("elenchus/single/little", "x");
    let response = gateway.post("/v1/chat/completions").json(&asked).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers().get("x-elenchus-trace-id")), (200, None));
    assert_eq!(response.json::<Value>().await.unwrap()["elenchus"]["trace_id"], Value::Null);
    let (status, error) = gateway.send("/v1/feedback", json!({"trace_id": id, "reaction": "up"})).await;
    assert_eq!((status, &error["error"]["code"]), (503, &json!("store_unavailable")), "{error}");
    let (_, metrics) = gateway.get("/metrics").await;
    assert!(metrics.as_str().unwrap().contains("elenchus_store_failures_total 3"), "{metrics}");
    let (status, ready) = gateway.get("/readyz").await;
    assert_eq!((status, &ready["store"]), (503, &json!(false)), "{ready}");
    other.execute_batch("ROLLBACK").unwrap();
    let (status, _) = gateway.send("/v1/feedback", json!({"trace_id": id, "reaction": "up"})).await;
    assert_eq!(status, 200, "it works again by itself");
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(gateway.get("/readyz").await.0, 200);
    let place = gateway.folder.path().join("store.sqlite");
    std::fs::rename(&place, gateway.folder.path().join("moved.sqlite")).unwrap();
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let (status, ready) = gateway.get("/readyz").await;
    assert_eq!((status, &ready["store"]), (503, &json!(false)), "its file is somewhere else: {ready}");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_wait_for_each_other_and_too_many_samples_are_refused() {
    let stub = Stub::start(|asked| match asked.body["messages"][0]["content"].as_str() {
        Some(text) if text.starts_with("hang") => Act::Hang,
        _ => Act::Json(200, completion(&["Answer: 4".to_string()])),
    })
    .await;
    let gateway = Running::with(&[&stub], |settings| {
        settings.most_body_bytes = 1 << 20;
        settings.most_bytes_in_flight = 1 << 20;
        settings.most_samples = 9;
    })
    .await;
    let large = |start: &str| question("little", &format!("{start}{}", "x".repeat(600 << 10)));
    // Who announces much and writes little holds little.
    let mut slow = TcpStream::connect(gateway.url.trim_start_matches("http://")).await.unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n",
        1 << 20
    );
    slow.write_all(format!("{head}{}", " ".repeat(200 << 10)).as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(gateway.ask(large("")).await.0, 200, "beside a slow client");
    drop(slow);
    let begun = gateway.post("/v1/chat/completions").json(&large("hang"));
    let held = tokio::spawn(async move { begun.send().await });
    until("the first is there", || stub.asked().len() == 2).await;
    assert_eq!(gateway.ask(question("little", "small")).await.0, 200, "small ones take no place");
    let response = gateway.post("/v1/chat/completions").json(&large("")).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["retry-after"].to_str().unwrap()), (503, "2"));
    held.abort();
    let _ = held.await;
    assert_eq!(gateway.ask(large("")).await.0, 200, "its place is free again");
    let choices = |count: u64| {
        let mut body = question("elenchus/self-consistency@3/little", "x");
        body["n"] = count.into();
        body
    };
    assert_eq!(gateway.ask(choices(3)).await.0, 200);
    let branches = question("elenchus/best of self-consistency@5, self-consistency@5 by judge/little", "x");
    for many in [
        question("elenchus/self-consistency@10/little", "x"),
        question("elenchus/gsa@100000/little", "x"),
        choices(4),
        branches,
    ] {
        let (status, error) = gateway.ask(many).await;
        let message = error["error"]["message"].as_str().unwrap_or_default();
        assert!(status == 400 && message.contains("most_samples"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_lets_requests_in_flight_end_and_cuts_what_takes_too_long() {
    let slow = Stub::start(|_| Act::Stream {
        events: events("one two three four"),
        pause: Duration::from_millis(200),
        broken: false,
    })
    .await;
    let mut gateway = Running::before(&[&slow]).await;
    let url = gateway.url.clone();
    let request = gateway.post("/v1/chat/completions").json(&streamed("little"));
    let client = tokio::spawn(async move { request.send().await.unwrap().text().await.unwrap() });
    until("it is under way", || !slow.asked().is_empty()).await;
    gateway.stop().await;
    assert!(client.await.unwrap().ends_with("data: [DONE]\n\n"), "the answer came whole");
    assert!(reqwest::get(format!("{url}/healthz")).await.is_err(), "nobody listens any more");

    let hanging = Arc::new(Stub::start(|_| Act::Hang).await);
    let mut gateway = Running::with(&[&hanging], |settings| settings.grace_seconds = 0.3).await;
    let request = gateway.post("/v1/chat/completions").json(&question("elenchus/single/little", "x"));
    let client = tokio::spawn(async move { request.send().await.map(|response| response.status().as_u16()) });
    until("it is under way", || !hanging.asked().is_empty()).await;
    let begun = Instant::now();
    gateway.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(client.await.unwrap().unwrap(), 503, "handed back");
    assert_eq!(statuses(&mut gateway).await, ["cancelled"], "and written down before the end");
}

/// The statuses of the traces in the store of a gateway that was stopped, oldest first.
async fn statuses(gateway: &mut Running) -> Vec<String> {
    let folder = std::mem::replace(&mut gateway.folder, tempfile::tempdir().unwrap());
    let store = SqliteStore::open(folder.path().join("store.sqlite")).unwrap();
    let mut traces = store.traces(&TraceFilter { limit: 100, ..TraceFilter::default() }).unwrap();
    traces.reverse();
    traces.iter().map(|trace| trace.summary.status.name().to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_ends_what_was_passed_on_with_an_error_and_writes_it_down() {
    let gate = Arc::new(Semaphore::new(0));
    let stub = Arc::new(
        Stub::start(move |asked| match asked.body["stream"] == true {
            true => {
                Act::Gated { first: events("one two")[..1].to_vec(), gate: Arc::clone(&gate), rest: vec![] }
            }
            false => Act::Hang,
        })
        .await,
    );
    let mut gateway = Running::with(&[&stub], |settings| settings.grace_seconds = 0.3).await;
    // A stream in its middle, an answer that has not begun, and a client that reads nothing of what it gets.
    let mut stream = gateway.post("/v1/chat/completions").json(&streamed("little")).send().await.unwrap();
    assert!(String::from_utf8_lossy(&stream.chunk().await.unwrap().unwrap()).contains("one"));
    let request = gateway.post("/v1/chat/completions").json(&question("little", "x"));
    let whole = tokio::spawn(async move {
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    });
    let unread = gateway.post("/v1/chat/completions").json(&streamed("little")).send().await.unwrap();
    until("all are under way", || stub.asked().len() == 3).await;
    gateway.stop().await;
    let (status, error) = whole.await.unwrap();
    assert_eq!((status, &error["error"]["code"]), (503, &json!("stopping")), "{error}");
    let mut rest = String::new();
    while let Some(chunk) = stream.chunk().await.unwrap() {
        rest.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    let (_, data) = pieces(&rest);
    assert_eq!(data.last().unwrap()["error"]["code"], "stopping", "{rest}");
    drop(unread);
    assert_eq!(statuses(&mut gateway).await, ["cancelled", "cancelled", "cancelled"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_cuts_connections_that_do_not_end_and_writes_them_down() {
    // More than the buffers between here and there hold.
    let stub = Stub::start(|_| Act::Stream {
        events: vec![format!("data: {}\n\n", "x".repeat(60_000)); 400],
        pause: Duration::ZERO,
        broken: false,
    })
    .await;
    let mut gateway = Running::with(&[&stub], |settings| settings.grace_seconds = 0.1).await;
    let body = streamed("little").to_string();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length";
    let mut stuck = TcpStream::connect(gateway.url.trim_start_matches("http://")).await.unwrap();
    stuck.write_all(format!("{head}: {}\r\n\r\n{body}", body.len()).as_bytes()).await.unwrap();
    until("it is under way", || !stub.asked().is_empty()).await;
    gateway.stop().await;
    assert_eq!(statuses(&mut gateway).await, ["cancelled"]);
    drop(stuck);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_recipes_at_once_are_told_to_come_back() {
    let stub = Stub::start(|_| Act::Hang).await;
    let gateway = Running::with(&[&stub], |settings| settings.most_recipes = 1).await;
    let request = gateway.post("/v1/chat/completions").json(&question("elenchus/single/little", "x"));
    let first = tokio::spawn(async move { request.send().await });
    until("the first runs", || !stub.asked().is_empty()).await;
    let request = gateway.post("/v1/chat/completions").json(&question("elenchus/single/little", "x"));
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "1");
    first.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_that_never_come_abstain_and_the_vote_goes_on_without_them() {
    // The same samples fail however often they are asked for.
    let stub = Stub::start(|asked| {
        if asked.body["n"].as_u64().unwrap_or(1) > 1 {
            return Act::Json(400, json!({"error": {"message": "n must be 1"}}));
        }
        match gives(asked) {
            false => Act::Close,
            true => Act::Json(200, completion(&["Answer: 4".into()])),
        }
    })
    .await;
    let gateway = Running::before(&[&stub]).await;
    let mut body = question("elenchus/self-consistency@8/little", "2+2?");
    body["elenchus"] = json!({"settings": {"early_stop": false}});
    body["seed"] = 1.into();
    let (status, answer) = gateway.ask(body.clone()).await;
    let asked = stub.asked();
    let seeds: HashSet<u64> = asked.iter().filter(|asked| gives(asked)).map(seed).collect();
    let came = seeds.len();
    assert!((1..8).contains(&came), "some come and some do not: {came}");
    assert_eq!((status, &answer["elenchus"]["answer"]), (200, &json!("4")), "{answer}");
    let confidence = answer["elenchus"]["confidence"]["value"].as_f64().unwrap();
    assert!((confidence - came as f64 / 8.0).abs() < 1e-9, "{confidence}: what did not come abstains");
    let spent = &answer["elenchus"]["budget"]["spent"];
    assert_eq!((&spent["calls"], &spent["completion_tokens"]), (&json!(8), &json!(5 * came)), "{spent}");
    let stages = answer["elenchus"]["stages"].as_array().unwrap();
    let said = stages.iter().find(|stage| stage["kind"] == "failed").unwrap()["text"].as_str().unwrap();
    assert!(said.starts_with(&format!("{} of 8 responses did not come", 8 - came)), "{said}");
    assert_eq!(gateway.traces(1).await[0]["status"], "answered");

    // None at all is an error; after so many failures the upstream is left alone for a while, and the error says why.
    let nobody = Stub::start(|_| Act::Close).await;
    let gateway = Running::before(&[&nobody]).await;
    let (status, error) = gateway.ask(body).await;
    assert_eq!((status, &error["error"]["code"]), (503, &json!("upstream_resting")), "{error}");
    assert!(error["error"]["message"].as_str().unwrap().contains("connection closed"), "{error}");
    assert_eq!(gateway.traces(1).await[0]["status"], "failed");
}

fn seed(asked: &Asked) -> u64 {
    asked.body["seed"].as_u64().unwrap_or(0)
}

/// Half of all samples are given, the same ones however often they are asked for.
fn gives(asked: &Asked) -> bool {
    asked.body["n"].is_null() && seed(asked) % 2 == 1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_body_without_a_length_is_cut_off_where_it_gets_too_large() {
    let stub = Stub::answering(&["x"]).await;
    let gateway = Running::with(&[&stub], |settings| settings.most_body_bytes = 100_000).await;
    let mut stream = TcpStream::connect(gateway.url.trim_start_matches("http://")).await.unwrap();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("{:x}\r\n{}\r\n", 10_000, " ".repeat(10_000));
    let mut sent = 0;
    // 1 GB, were it all taken.
    while sent < 100_000 && stream.write_all(chunk.as_bytes()).await.is_ok() {
        sent += 1;
    }
    assert!(sent < 10_000, "it does not take {sent} chunks");
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert_eq!(gateway.ask(question("little", "x")).await.0, 200);
    let length =
        "POST /v1/feedback HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999999999999999\r\n\r\n";
    assert_eq!(raw(&gateway, length).await, 400, "a length beyond all numbers");
    assert!(stub.asked().len() == 1, "nothing of it went on");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_send_or_read_a_byte_at_a_time_hold_nothing_up() {
    let stub = Stub::start(|_| Act::Stream {
        events: vec![format!("data: {}\n\n", "x".repeat(60_000)); 400],
        pause: Duration::ZERO,
        broken: false,
    })
    .await;
    let gateway = Running::with(&[&stub], |settings| {
        settings.header_seconds = 1.0;
        settings.body_seconds = 1.0;
    })
    .await;
    let place = gateway.url.trim_start_matches("http://").to_string();
    // A head and a body that never end, a byte at a time.
    let begun = Instant::now();
    let mut drips = Vec::new();
    for start in [
        "GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: ",
        "POST /v1/feedback HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9999\r\n\r\n",
    ] {
        for _ in 0..20 {
            let mut stream = TcpStream::connect(&place).await.unwrap();
            drips.push(tokio::spawn(async move {
                stream.write_all(start.as_bytes()).await.unwrap();
                while stream.write_all(b"x").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }));
        }
    }
    // Nobody reads 24 MB of a stream: what is not read is not fetched either.
    let mut body = question("little", "x");
    body["stream"] = true.into();
    let body = body.to_string();
    let mut stuck = TcpStream::connect(&place).await.unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stuck.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..20 {
        let asked = Instant::now();
        assert_eq!(gateway.get("/healthz").await.0, 200);
        assert!(asked.elapsed() < Duration::from_secs(1), "others are answered meanwhile");
    }
    for drip in drips {
        let end = tokio::time::timeout(Duration::from_secs(10), drip).await;
        assert!(end.is_ok(), "a drip is let go");
    }
    assert!(begun.elapsed() < Duration::from_secs(10));
    drop(stuck);
    assert_eq!(gateway.traces(1).await[0]["status"], "cancelled");
}

/// Whether the one upstream of a gateway may be asked.
async fn is_healthy(gateway: &Running) -> bool {
    gateway.get("/readyz").await.1["upstreams"]["healthy"] == json!(1)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_counts_for_its_upstream_once_its_end_is_there() {
    for model in ["little", "elenchus/single/little"] {
        // Every answer but the fifth fails; behind the end of that one the connection is left open.
        let asked = AtomicUsize::new(0);
        let stub = Stub::start(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
            4 => {
                let gate = Arc::new(Semaphore::new(0));
                Act::Gated { first: events("one two"), gate, rest: Vec::new() }
            }
            _ => Act::Json(500, json!({"error": {"message": "out of memory"}})),
        })
        .await;
        let gateway = Running::with(&[&stub], |settings| settings.retry.attempts = 1).await;
        for _ in 0..4 {
            assert_ne!(gateway.ask(question(model, "x")).await.0, 200);
        }
        let mut response = gateway.post("/v1/chat/completions").json(&streamed(model)).send().await.unwrap();
        let mut text = String::new();
        while !text.contains("[DONE]") {
            text.push_str(std::str::from_utf8(&response.chunk().await.unwrap().unwrap()).unwrap());
        }
        // As clients do, it reads no further.
        drop(response);
        assert_ne!(gateway.ask(question(model, "x")).await.0, 200);
        assert!(is_healthy(&gateway).await, "{model}: five failures, but not in a row");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_ends_in_the_middle_is_no_answer() {
    let stub = Stub::start(|_| {
        let mut events = events("one two");
        // Neither the end nor why the text ends.
        events.truncate(2);
        Act::Stream { events, pause: Duration::ZERO, broken: false }
    })
    .await;
    let gateway = Running::before(&[&stub]).await;
    for _ in 0..5 {
        assert!(is_healthy(&gateway).await);
        let response = gateway.post("/v1/chat/completions").json(&streamed("little")).send().await.unwrap();
        let (_, data) = pieces(&response.text().await.unwrap());
        let error = &data.last().unwrap()["error"];
        assert_eq!(error["code"], "upstream_failed", "{data:?}");
    }
    assert!(gateway.traces(5).await.iter().all(|trace| trace["status"] == "failed"));
    assert!(!is_healthy(&gateway).await, "broken streams open the breaker");
    // A server that leaves the last line out, but says why the text ends, is no broken one.
    let stub = Stub::start(|_| {
        let mut events = events("one two");
        events.pop();
        Act::Stream { events, pause: Duration::ZERO, broken: false }
    })
    .await;
    let gateway = Running::before(&[&stub]).await;
    let response = gateway.post("/v1/chat/completions").json(&streamed("little")).send().await.unwrap();
    assert!(!response.text().await.unwrap().contains("error"));
    assert_eq!(gateway.traces(1).await[0]["status"], "answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_repeats_what_it_refuses_is_still_asked_to_count() {
    let stub = Stub::start(|asked| match asked.body["messages"][0]["content"] == "bad" {
        // As validation errors do, with the request in it.
        true => Act::Json(422, json!({"detail": [{"msg": "no", "input": asked.body}]})),
        false => Act::Stream { events: events("one"), pause: Duration::ZERO, broken: false },
    })
    .await;
    let gateway = Running::before(&[&stub]).await;
    for text in ["bad", "good"] {
        let mut body = question("little", text);
        body["stream"] = true.into();
        let status = gateway.post("/v1/chat/completions").json(&body).send().await.unwrap().status();
        assert_eq!(status.as_u16(), if text == "bad" { 422 } else { 200 });
    }
    let last = stub.asked().pop().unwrap();
    assert_eq!(last.body["stream_options"]["include_usage"], true, "one bad request teaches nothing");
}
