//! What requests may spend, and what they are said to have spent.

use crate::keys::key;
use crate::support::{Act, Running, Stub, completion, events, pieces, question};
use elenchus_recipe::ServiceSettings;
use elenchus_remember::service::{KeyEntry, ServiceStore, SqliteStore, Write};
use elenchus_serve::new_secret;
use elenchus_trace::{Budget, Price};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::Duration;

/// A gateway with one key.
async fn keyed(stub: &Stub, entry: Write, prices: HashMap<String, Price>) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("store.sqlite")).unwrap();
    store.write(&[entry]).unwrap();
    Running::over(folder, &[stub], prices, |_| {}).await
}

fn with(mut body: Value, fields: Value) -> Value {
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn money(write: Write, most: f64) -> Write {
    match write {
        Write::Key(entry) => Write::Key(KeyEntry { money: Some(most), ..entry }),
        other => other,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_passed_on_keep_budgets() {
    let stub = Stub::answering(&["Answer: 4"]).await;
    let gateway = Running::with(&[&stub], |settings| {
        settings.budget = Budget { tokens: Some(1000), ..Budget::default() };
    })
    .await;
    let long = "x".repeat(5000);
    let plain = |fields| with(question("little", "2+2?"), fields);
    for (body, status, field, bound) in [
        (plain(json!({})), 200, "max_tokens", Some(999)),
        (plain(json!({"max_tokens": 50})), 200, "max_tokens", Some(50)),
        (plain(json!({"max_tokens": 5000})), 200, "max_tokens", Some(999)),
        (plain(json!({"max_completion_tokens": 5000, "n": 3})), 200, "max_completion_tokens", Some(333)),
        (plain(json!({"elenchus": {"budget": {"tokens": 101}}})), 200, "max_tokens", Some(100)),
        (plain(json!({"elenchus": {"budget": {"tokens": 1}}})), 429, "", None),
        (plain(json!({"elenchus": {"budget": {"calls": 0}}})), 429, "", None),
        (plain(json!({"elenchus": {"budget": {"seconds": 0}}})), 429, "", None),
        (question("little", &long), 429, "", None),
    ] {
        let before = stub.asked().len();
        let (found, answer) = gateway.ask(body.clone()).await;
        assert_eq!(found, status, "{body}: {answer}");
        let asked = stub.asked();
        if status == 429 {
            assert_eq!(answer["error"]["code"], "budget_exhausted", "{answer}");
            assert!(answer["error"]["message"].as_str().unwrap().contains("hint:"), "{answer}");
            assert_eq!(asked.len(), before, "nobody was asked: {body}");
            continue;
        }
        let sent = &asked.last().unwrap().body;
        assert_eq!(sent[field].as_u64(), bound, "{sent}");
        assert!(sent.get("elenchus").is_none() && sent["messages"] == body["messages"], "{sent}");
    }
    let (status, error) = gateway.send("/v1/embeddings", json!({"model": "little", "input": long})).await;
    assert_eq!((status, &error["error"]["code"]), (429, &json!("budget_exhausted")), "{error}");
    let (status, _) = gateway.send("/v1/embeddings", json!({"model": "little", "input": "x"})).await;
    assert_eq!(status, 200);
    assert!(stub.asked().last().unwrap().body.get("max_tokens").is_none(), "nothing is written there");
    let free = Running::before(&[&stub]).await;
    free.ask(question("little", "2+2?")).await;
    assert!(stub.asked().last().unwrap().body.get("max_tokens").is_none(), "no budget, no bound");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_one_key_that_run_at_once_do_not_overrun_it() {
    let stub = Stub::start(|_| Act::Stream {
        events: events("one two"),
        pause: Duration::from_secs(60),
        broken: false,
    })
    .await;
    let secret = new_secret();
    let gateway = keyed(&stub, key("app", &secret, &["ask"], Some(1000)), HashMap::new()).await;
    let body = with(question("little", "2+2?"), json!({"stream": true, "max_tokens": 200}));
    let ask = || gateway.post("/v1/chat/completions").bearer_auth(&secret).json(&body).send();
    let mut running = Vec::new();
    let mut refused = Vec::new();
    for _ in 0..8 {
        let response = ask().await.unwrap();
        match response.status().as_u16() {
            200 => running.push(response),
            status => {
                refused.push((status, response.headers().contains_key("retry-after"), response.text().await))
            }
        }
    }
    // 201 tokens each with the prompt, and what is left for the fifth.
    assert_eq!((running.len(), refused.len()), (5, 3));
    for (status, again, error) in refused {
        let error = error.unwrap();
        assert!(status == 429 && again && error.contains("key_budget_held"), "{error}");
    }
    let bounds: u64 = stub.asked().iter().map(|asked| asked.body["max_tokens"].as_u64().unwrap() + 1).sum();
    assert!(bounds <= 1000, "{bounds}");
    drop(running);
    let begun = std::time::Instant::now();
    while ask().await.unwrap().status() != 200 {
        assert!(begun.elapsed() < Duration::from_secs(20), "what a call held is free when it ends");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_on_money_needs_a_price() {
    let stub = Stub::answering(&["Answer: 4"]).await;
    let secret = new_secret();
    let entry = money(key("app", &secret, &["ask"], None), 40.0);
    let gateway = keyed(&stub, entry.clone(), HashMap::new()).await;
    for (path, body) in [
        ("/v1/chat/completions", question("little", "2+2?")),
        ("/v1/chat/completions", question("elenchus/single/little", "2+2?")),
        ("/v1/responses", json!({"model": "little", "input": "2+2?"})),
        ("/v1/embeddings", json!({"model": "little", "input": "2+2?"})),
    ] {
        let response = gateway.post(path).bearer_auth(&secret).json(&body).send().await.unwrap();
        assert_eq!(response.status(), 403, "{path} {body}");
        let error: Value = response.json().await.unwrap();
        assert_eq!(error["error"]["code"], "model_without_price", "{error}");
        assert!(error["error"]["message"].as_str().unwrap().contains("[prices.\"little\"]"), "{error}");
    }
    let open = Running::before(&[&stub]).await;
    for model in ["little", "elenchus/single/little"] {
        let body = with(question(model, "2+2?"), json!({"elenchus": {"budget": {"money": 1.0}}}));
        assert_eq!(open.ask(body).await.0, 400, "{model}");
    }
    let bounded = Running::with(&[&stub], |settings: &mut ServiceSettings| {
        settings.budget.money = Some(1.0);
    })
    .await;
    assert_eq!(bounded.ask(question("little", "2+2?")).await.0, 403);
    assert!(stub.asked().is_empty(), "nobody was asked for those");

    // A token costs 0.1 to read and 1 to write: 6 a call, of 40.
    let price = Price { prompt_per_million: 1e5, completion_per_million: 1e6 };
    let gateway = keyed(&stub, entry, HashMap::from([("little".to_string(), price)])).await;
    let ask = async |model: &str| {
        let request =
            gateway.post("/v1/chat/completions").bearer_auth(&secret).json(&question(model, "2+2?"));
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    for (model, bound) in [("little", Some(39)), ("elenchus/single/little", None), ("little", Some(27))] {
        let (status, answer) = ask(model).await;
        assert_eq!(status, 200, "{answer}");
        if bound.is_some() {
            assert_eq!(stub.asked().last().unwrap().body["max_tokens"].as_u64(), bound, "what is left of 40");
        }
    }
    // 22 are left, for four calls.
    for _ in 0..4 {
        assert_eq!(ask("little").await.0, 200);
    }
    let (status, error) = ask("little").await;
    assert!(status == 429 && error.contains("key_budget_exhausted") && error.contains("of money"), "{error}");
}

/// Counts when it is asked to, as servers do.
async fn counting() -> Stub {
    Stub::start(|asked| {
        let mut events = events("one two");
        if asked.body["stream_options"]["include_usage"] == true {
            let usage = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "little",
                "choices": [], "usage": {"prompt_tokens": 1234, "completion_tokens": 56}});
            events.insert(events.len() - 1, format!("data: {usage}\n\n"));
        }
        Act::Stream { events, pause: Duration::ZERO, broken: false }
    })
    .await
}

async fn stream(gateway: &Running, body: &Value) -> (String, Value) {
    let response = gateway.post("/v1/chat/completions").json(body).send().await.unwrap();
    let id = response.headers()["x-elenchus-trace-id"].to_str().unwrap().to_string();
    let text = response.text().await.unwrap();
    (text, gateway.get(&format!("/v1/traces/{id}")).await.1)
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_counted_by_the_upstream_and_clients_see_what_they_asked_for() {
    let stub = counting().await;
    let gateway = Running::before(&[&stub]).await;
    let body = with(question("little", "count"), json!({"stream": true}));
    let (text, trace) = stream(&gateway, &body).await;
    assert_eq!(text, events("one two").concat(), "the count is not the client's");
    assert_eq!(trace["usage"]["prompt_tokens"], 1234);
    assert_eq!(trace["usage"]["completion_tokens"], 56);
    let completion = &trace["trace"]["nodes"][0]["completion"];
    assert!(completion["extra"].get("usage_guessed").is_none(), "{completion}");
    assert_eq!(trace["request"].get("stream_options"), None, "what is kept is what was asked");
    let asked = with(body, json!({"stream_options": {"include_usage": true}}));
    let (text, _) = stream(&gateway, &asked).await;
    assert_eq!(pieces(&text).1.last().unwrap()["usage"]["prompt_tokens"], 1234);
    assert_eq!(stub.asked()[1].text, asked.to_string(), "byte for byte");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_count_is_asked_without_and_the_guess_is_marked() {
    let stub = Stub::start(|asked| match asked.body.get("stream_options") {
        Some(_) => Act::Json(400, json!({"error": {"message": "unknown field: stream_options"}})),
        None => Act::Stream { events: events("four"), pause: Duration::ZERO, broken: false },
    })
    .await;
    let gateway = Running::before(&[&stub]).await;
    let image = format!("data:image/png;base64,{}", "A".repeat(1 << 20));
    let body = json!({"model": "little", "stream": true, "messages": [{"role": "user", "content": [
        {"type": "text", "text": "What is this, please?"}, {"type": "image_url", "image_url": {"url": image}}]}]});
    for _ in 0..2 {
        let (text, trace) = stream(&gateway, &body).await;
        assert_eq!(text, events("four").concat());
        let usage = &trace["usage"];
        assert!(usage["prompt_tokens"].as_u64().unwrap() < 5000, "an image is no text: {usage}");
        assert_eq!(usage["completion_tokens"], 1);
        assert_eq!(trace["trace"]["nodes"][0]["completion"]["extra"]["usage_guessed"], true);
    }
    assert_eq!(stub.asked().len(), 3, "it is asked once whether it counts");
    let stub = Stub::start(|_| Act::Json(400, json!({"error": {"message": "no such model"}}))).await;
    let gateway = Running::before(&[&stub]).await;
    let (status, error) = gateway.ask(with(question("little", "x"), json!({"stream": true}))).await;
    assert_eq!(
        (status, &error["error"]["message"]),
        (400, &json!("no such model")),
        "a refusal comes as it is"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absurd_count_of_an_upstream_harms_nobody() {
    let stub = Stub::start(|asked| {
        let mut answer = completion(&["Answer: 4".into()]);
        if asked.text.contains("absurd") {
            answer["usage"]["prompt_tokens"] = u64::MAX.into();
            answer["usage"]["completion_tokens"] = json!(1e300);
        } else if asked.text.contains("huge") {
            answer["usage"]["prompt_tokens"] = (1u64 << 63).into();
        }
        Act::Json(200, answer)
    })
    .await;
    let secret = new_secret();
    let gateway = keyed(&stub, key("app", &secret, &["ask", "read", "feedback"], None), HashMap::new()).await;
    let send = async |path: &str, body: Value| {
        gateway.post(path).bearer_auth(&secret).json(&body).send().await.unwrap()
    };
    for (model, worst) in [("little", "absurd"), ("elenchus/single/little", "huge")] {
        for text in [worst, "fine", worst] {
            let asking = (0..8).map(|_| send("/v1/chat/completions", question(model, text)));
            for response in futures::future::join_all(asking).await {
                assert_eq!(response.status(), 200);
                let id = match response.headers().get("x-elenchus-trace-id") {
                    Some(id) => json!(id.to_str().unwrap()),
                    None => response.json::<Value>().await.unwrap()["elenchus"]["trace_id"].clone(),
                };
                assert!(id.is_string(), "every trace is kept");
                let said = send("/v1/feedback", json!({"trace_id": id, "reaction": "up"})).await;
                assert_eq!(said.status(), 200);
            }
        }
    }
    let totals = gateway.client.get(format!("{}/v1/totals", gateway.url)).bearer_auth(&secret);
    assert_eq!(totals.send().await.unwrap().status(), 200);
}
