//! Several gateways over one PostgreSQL server, also while it is away; skipped, with the reason, where PostgreSQL is not
//! installed.

use crate::postgres_server::PostgresServer;
use crate::support::{Act, Running, Stub, completion, question};
use elenchus_recipe::ServiceSettings;
use elenchus_remember::service::{KeyEntry, StorePlace, Write};
use elenchus_serve::{hash_secret, new_secret};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

async fn gateway(server: &PostgresServer, database: &str, stub: &Stub, open: bool) -> Running {
    let store = StorePlace::new(server.url(database)).open().unwrap();
    let change = |settings: &mut ServiceSettings| {
        if open {
            settings.host = "0.0.0.0".into();
        }
    };
    Running::keeping(store, tempfile::tempdir().unwrap(), &[stub], Default::default(), change).await
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_share_keys_budgets_traces_and_feedback() {
    let Some(server) = PostgresServer::shared() else { return };
    let database = server.database();
    let (secret, reader) = (new_secret(), new_secret());
    let key = |name: &str, secret: &str, scopes: &[&str], tokens| {
        Write::Key(KeyEntry {
            name: name.into(),
            hash: hash_secret(secret),
            scopes: scopes.iter().map(|scope| scope.to_string()).collect(),
            tokens,
            money: None,
            window_seconds: 3600,
            created_ms: 0,
        })
    };
    let all = ["ask", "feedback", "read", "export"];
    let store = StorePlace::new(server.url(&database)).open().unwrap();
    store.write(&[key("app", &secret, &all, Some(600)), key("reader", &reader, &all, None)]).unwrap();
    let stub = Stub::start(|_| {
        let mut body = completion(&["Answer: 4".to_string()]);
        body["usage"] = json!({"prompt_tokens": 80, "completion_tokens": 20, "total_tokens": 100});
        Act::Json(200, body)
    })
    .await;
    let first = gateway(&server, &database, &stub, true).await;
    let second = gateway(&server, &database, &stub, true).await;
    let send = async |gateway: &Running, secret: &str, path: &str, body: Value| {
        let request = match body.is_null() {
            true => gateway.client.get(format!("{}{path}", gateway.url)),
            false => gateway.post(path).json(&body),
        };
        let response = request.bearer_auth(secret).send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap_or_default())
    };
    let chat = "/v1/chat/completions";
    // 100 tokens each; 600 are allowed, at whichever gateway.
    let mut ids = Vec::new();
    for turn in 0..6 {
        let gateway = if turn % 2 == 0 { &first } else { &second };
        let (status, answer) = send(gateway, &secret, chat, question("elenchus/single/little", "2+2?")).await;
        assert_eq!(status, 200, "{answer}");
        ids.push(answer["elenchus"]["trace_id"].as_str().unwrap().to_string());
    }
    for gateway in [&first, &second] {
        let (status, error) = send(gateway, &secret, chat, question("little", "2+2?")).await;
        assert_eq!((status, &error["error"]["code"]), (429, &json!("key_budget_exhausted")), "{error}");
    }
    // Said at one, seen at the other.
    let said = json!({"id": "mine", "trace_id": ids[0], "reaction": "love"});
    for (gateway, stored) in [(&second, true), (&first, false)] {
        let (status, reply) = send(gateway, &secret, "/v1/feedback", said.clone()).await;
        assert_eq!((status, &reply["stored"]), (200, &json!(stored)), "{reply}");
    }
    let (_, totals) = send(&first, &reader, "/v1/totals", Value::Null).await;
    assert_eq!(
        (&totals["data"][0]["traces"], &totals["data"][0]["love"]),
        (&json!(6), &json!(1)),
        "{totals}"
    );
    let (_, trace) = send(&first, &reader, &format!("/v1/traces/{}", ids[1]), Value::Null).await;
    assert_eq!(trace["key"], "app");
    store.write(&[Write::RevokeKey("reader".into())]).unwrap();
    tokio::time::sleep(Duration::from_millis(2100)).await;
    for gateway in [&first, &second] {
        assert_eq!(send(gateway, &reader, "/v1/traces", Value::Null).await.0, 401, "ended for all");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_and_starts_under_load_loses_nothing_that_was_acknowledged() {
    // Its own server: the others' must not go away.
    let Some(server) = PostgresServer::start() else { return };
    let server = Arc::new(server);
    let database = server.database();
    let stub = Stub::answering(&["Answer: 4"]).await;
    let gateways =
        [gateway(&server, &database, &stub, false).await, gateway(&server, &database, &stub, false).await];
    let ends = Arc::new(AtomicBool::new(false));
    let mut clients = Vec::new();
    for (index, gateway) in gateways.iter().cycle().take(8).enumerate() {
        let (url, client, ends) = (gateway.url.clone(), gateway.client.clone(), Arc::clone(&ends));
        clients.push(tokio::spawn(async move {
            let (mut traces, mut feedback, mut without, mut refused) = (Vec::new(), Vec::new(), 0u32, 0u32);
            let mut turn = 0;
            while !ends.load(Ordering::Relaxed) {
                turn += 1;
                let request = client.post(format!("{url}/v1/chat/completions"));
                let response = request.json(&question("little", "2+2?")).send().await.unwrap();
                assert_eq!(response.status(), 200, "an answer does not hang on the store");
                let Some(id) = response.headers().get("x-elenchus-trace-id") else {
                    without += 1;
                    continue;
                };
                let id = id.to_str().unwrap().to_string();
                traces.push(id.clone());
                let said = json!({"id": format!("{index}-{turn}"), "trace_id": id, "reaction": "up"});
                let response = client.post(format!("{url}/v1/feedback")).json(&said).send().await.unwrap();
                match response.status().as_u16() {
                    200 => feedback.push(id),
                    503 => {
                        assert_eq!(response.headers()["retry-after"], "1");
                        let error: Value = response.json().await.unwrap();
                        assert_eq!(error["error"]["code"], "store_unavailable");
                        let text = error["error"]["message"].as_str().unwrap();
                        assert!(text.contains("postgres://") && text.contains("hint:"), "{text}");
                        refused += 1;
                    }
                    other => panic!("{other}: {}", response.text().await.unwrap()),
                }
            }
            (traces, feedback, without, refused)
        }));
    }
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let down = Arc::clone(&server);
        tokio::task::spawn_blocking(move || {
            down.crash();
            std::thread::sleep(Duration::from_millis(500));
            down.run();
        })
        .await
        .unwrap();
    }
    // By itself both find it again.
    for gateway in &gateways {
        let begun = Instant::now();
        while gateway.get("/readyz").await.1["store"] != json!(true) {
            assert!(begun.elapsed() < Duration::from_secs(10), "it is not found again");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let ask = || gateway.post("/v1/chat/completions").json(&question("little", "again")).send();
        while !ask().await.unwrap().headers().contains_key("x-elenchus-trace-id") {
            assert!(begun.elapsed() < Duration::from_secs(10), "traces are not kept again");
        }
    }
    ends.store(true, Ordering::Relaxed);
    let (mut acknowledged, mut without, mut refused) = (0, 0, 0);
    for client in clients {
        let (traces, feedback, lost, not_taken) = client.await.unwrap();
        without += lost;
        refused += not_taken;
        acknowledged += traces.len();
        for id in &traces {
            let (status, trace) = gateways[0].get(&format!("/v1/traces/{id}")).await;
            assert_eq!(status, 200, "{id} was acknowledged: {trace}");
            let said = trace["feedback"].as_array().unwrap().len();
            // A commit that broke off may have happened, or not; one that was acknowledged did.
            assert!(said == 1 || !feedback.contains(id), "{id}: {said}");
        }
    }
    assert!(acknowledged > 20 && without > 0, "{acknowledged} kept, {without} not, {refused} refused");
}
