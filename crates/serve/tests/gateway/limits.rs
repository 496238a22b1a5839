//! How long a request may take, upstream and at its client.

use crate::support::{Act, Running, Stub, events, pieces, question, until};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn streamed() -> Value {
    let mut body = question("little", "x");
    body["stream"] = true.into();
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_ends_with_its_time_whether_a_recipe_answers_or_an_upstream() {
    let stub = Stub::start(|asked| match (asked.body["stream"] == true, asked.text.contains("drip")) {
        // Never idle, and never at an end.
        (true, _) => Act::Stream {
            events: vec![events("word")[0].clone(); 1000],
            pause: Duration::from_millis(50),
            broken: false,
        },
        (false, true) => Act::Pieces { pieces: vec![" ".into(); 1000], pause: Duration::from_millis(50) },
        (false, false) => Act::Hang,
    })
    .await;
    let gateway = Running::with(&[&stub], |settings| settings.request_seconds = 0.6).await;
    let begun = Instant::now();
    for text in ["hang", "drip"] {
        let (status, error) = gateway.ask(question("little", text)).await;
        assert_eq!((status, &error["error"]["code"]), (504, &json!("request_timeout")), "{text}: {error}");
        assert!(error["error"]["message"].as_str().unwrap().contains("request_seconds"), "{error}");
    }
    let response = gateway.post("/v1/chat/completions").json(&streamed()).send().await.unwrap();
    let (_, data) = pieces(&response.text().await.unwrap());
    assert!(data.len() > 1, "what came in time");
    assert_eq!(data.last().unwrap()["error"]["code"], "request_timeout");
    let (status, error) = gateway.ask(question("elenchus/single/little", "hang")).await;
    assert_eq!((status, &error["error"]["code"]), (504, &json!("request_timeout")), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    for trace in gateway.traces(4).await {
        assert_eq!(trace["status"], "failed", "{trace}");
    }
    let (_, metrics) = gateway.get("/metrics").await;
    let healthy =
        metrics.as_str().unwrap().lines().find(|line| line.starts_with("elenchus_upstream_healthy{"));
    assert!(healthy.unwrap().ends_with(" 1"), "what the client allows says nothing about the upstream");
    // A request may allow less.
    let gateway = Running::before(&[&stub]).await;
    let mut body = question("little", "hang");
    body["elenchus"] = json!({"budget": {"seconds": 0.3}});
    assert_eq!(gateway.ask(body).await.0, 504);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_goes_on_coming_is_not_idle() {
    let text = serde_json::to_string(&crate::support::completion(&["Answer: 4".into()])).unwrap();
    let pieces: Vec<String> =
        text.as_bytes().chunks(40).map(|piece| String::from_utf8_lossy(piece).into()).collect();
    let count = pieces.len() as u32;
    let stub = Stub::start(move |asked| match asked.text.contains("stop") {
        true => Act::Pieces { pieces: vec!["{".into(), "}".into()], pause: Duration::from_secs(30) },
        false => Act::Pieces { pieces: pieces.clone(), pause: Duration::from_millis(150) },
    })
    .await;
    let idle = Duration::from_millis(700);
    assert!(Duration::from_millis(150) * count > idle, "all of it takes longer than a pause may");
    let gateway =
        Running::with(&[&stub], |settings| settings.upstreams[0].idle_seconds = idle.as_secs_f64()).await;
    let (status, answer) = gateway.ask(question("little", "go")).await;
    assert_eq!((status, &answer["choices"][0]["message"]["content"]), (200, &json!("Answer: 4")), "{answer}");
    let (status, error) = gateway.ask(question("little", "stop")).await;
    assert_eq!((status, &error["error"]["code"]), (502, &json!("upstream_failed")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_of_its_answer_is_let_go() {
    let stub = Stub::start(|_| Act::Stream {
        events: vec![format!("data: {}\n\n", "x".repeat(60_000)); 400],
        pause: Duration::ZERO,
        broken: false,
    })
    .await;
    let gateway = Running::with(&[&stub], |settings| settings.write_seconds = 0.5).await;
    let body = streamed().to_string();
    let mut stuck = TcpStream::connect(gateway.url.trim_start_matches("http://")).await.unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stuck.write_all(head.as_bytes()).await.unwrap();
    // It stays connected and reads nothing.
    until("the upstream is let go", || stub.gone() == 1).await;
    assert_eq!(gateway.traces(1).await[0]["status"], "cancelled");
    drop(stuck);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_writes_before_it_reads_learns_why_its_body_is_refused() {
    let stub = Stub::answering(&["x"]).await;
    let gateway = Running::with(&[&stub], |settings| settings.most_body_bytes = 100_000).await;
    let address = gateway.url.trim_start_matches("http://").to_string();
    for length in [10_000_000, 40_000_000] {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..length / 100_000 {
            stream.write_all(&[b' '; 100_000]).await.unwrap();
        }
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        assert!(reply.starts_with("HTTP/1.1 413 "), "{length}: {reply}");
    }
}
