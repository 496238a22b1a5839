//! Keys over HTTP: beyond loopback they are needed, and their limits hold.

use crate::support::{Running, Stub, question};
use elenchus_recipe::ServiceSettings;
use elenchus_remember::service::{KeyEntry, ServiceStore, SqliteStore, Write};
use elenchus_serve::{Gateway, Options, hash_secret, new_secret};
use serde_json::json;
use std::sync::Arc;

pub fn key(name: &str, secret: &str, scopes: &[&str], tokens: Option<u64>) -> Write {
    Write::Key(KeyEntry {
        name: name.into(),
        hash: hash_secret(secret),
        scopes: scopes.iter().map(|scope| scope.to_string()).collect(),
        tokens,
        money: None,
        window_seconds: 3600,
        created_ms: 0,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_loopback_a_key_is_needed_to_start_and_to_ask() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(folder.path().join("store.sqlite")).unwrap());
    let settings = ServiceSettings { host: "0.0.0.0".into(), port: 0, ..ServiceSettings::default() };
    let options = Options { settings, prices: Default::default(), store };
    let error = Gateway::bind(options).await.err().unwrap().to_string();
    assert!(error.contains("elenchus keys add"), "{error}");

    let (asker, reader, nobody, scraper) = (new_secret(), new_secret(), new_secret(), new_secret());
    let store = SqliteStore::open(folder.path().join("store.sqlite")).unwrap();
    store
        .write(&[
            key("asker", &asker, &["ask", "feedback"], Some(40)),
            key("reader", &reader, &["read"], None),
            key("nobody", &nobody, &[], None),
            key("scraper", &scraper, &["metrics"], None),
        ])
        .unwrap();
    let stub = Stub::answering(&["Answer: 4"]).await;
    let open = |settings: &mut ServiceSettings| settings.host = "0.0.0.0".into();
    let gateway = Running::over(folder, &[&stub], Default::default(), open).await;
    let body = question("little", "2+2?");
    let status = async |secret: Option<&str>, path: &str, body: Option<&serde_json::Value>| {
        let mut request = match body {
            Some(body) => gateway.post(path).json(body),
            None => gateway.client.get(format!("{}{path}", gateway.url)),
        };
        if let Some(secret) = secret {
            request = request.bearer_auth(secret);
        }
        request.send().await.unwrap().status().as_u16()
    };
    let chat = "/v1/chat/completions";
    assert_eq!(status(None, chat, Some(&body)).await, 401);
    assert_eq!(status(Some("elk-0"), chat, Some(&body)).await, 401);
    assert_eq!(status(Some("sk-other"), chat, Some(&body)).await, 401);
    assert_eq!(status(Some(&reader), chat, Some(&body)).await, 403, "no right to ask");
    assert_eq!(status(Some(&asker), "/v1/traces", None).await, 403, "no right to read");
    assert_eq!(status(Some(&reader), "/v1/export", None).await, 403);
    assert!(stub.asked().is_empty(), "nobody was asked for those");
    for path in [
        chat,
        "/v1/gsa/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/estimate",
        "/v1/feedback",
    ] {
        assert_eq!(status(Some(&nobody), path, Some(&body)).await, 403, "{path}: a key without rights");
    }
    for path in [
        "/metrics",
        "/v1/models",
        "/v1/models/little",
        "/v1/recipes",
        "/v1/traces",
        "/v1/traces/x",
        "/v1/totals",
        "/v1/export",
    ] {
        assert_eq!(status(Some(&nobody), path, None).await, 403, "{path}: a key without rights");
    }
    assert!(stub.asked().is_empty(), "nobody was asked for those");
    assert_eq!(status(None, "/metrics", None).await, 401, "what is spent is nobody else's business");
    assert_eq!(status(Some(&reader), "/metrics", None).await, 403);
    assert_eq!(status(Some(&scraper), "/metrics", None).await, 200);
    for open in ["/", "/page/page.js", "/healthz", "/readyz", "/openapi.json"] {
        assert_eq!(status(None, open, None).await, 200, "{open}");
    }
    for _ in 0..3 {
        assert_eq!(status(Some(&asker), chat, Some(&body)).await, 200);
    }
    assert_eq!(status(Some(&asker), chat, Some(&body)).await, 429, "15 tokens each, 40 are allowed");
    assert!(stub.asked().iter().all(|asked| asked.authorization.is_none()), "our keys are not sent on");
    assert_eq!(status(Some(&reader), "/v1/traces", None).await, 200);
    let traces = gateway.client.get(format!("{}/v1/traces", gateway.url)).bearer_auth(&reader);
    let traces: serde_json::Value = traces.send().await.unwrap().json().await.unwrap();
    assert_eq!(traces["data"][0]["key"], "asker");

    store.write(&[Write::RevokeKey("reader".into())]).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(2100)).await;
    assert_eq!(status(Some(&reader), "/v1/traces", None).await, 401, "two seconds after its end");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_sites_pages_cannot_ask() {
    let stub = Stub::answering(&["Answer: 4"]).await;
    let gateway = Running::before(&[&stub]).await;
    let body = json!({"model": "little", "messages": [{"role": "user", "content": "x"}]});
    let request = gateway.post("/v1/chat/completions").header("origin", "https://evil.example").json(&body);
    assert_eq!(request.send().await.unwrap().status(), 403);
    let request = gateway.post("/v1/chat/completions").header("host", "evil.example").json(&body);
    assert_eq!(request.send().await.unwrap().status(), 403);
    assert!(stub.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn on_loopback_keys_are_needed_behind_a_proxy_and_once_there_is_one() {
    let stub = Stub::answering(&["Answer: 4"]).await;
    let gateway = Running::before(&[&stub]).await;
    let folder = gateway.folder.path().join("store.sqlite");
    let ask = async |gateway: &Running, secret: Option<&str>, proxied: bool| {
        let mut request = gateway.post("/v1/chat/completions").json(&question("little", "2+2?"));
        if let Some(secret) = secret {
            request = request.bearer_auth(secret);
        }
        if proxied {
            request = request.header("x-forwarded-for", "192.0.2.7").header("host", "gateway.example");
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    assert_eq!(ask(&gateway, None, false).await.0, 200, "no key was made");
    let (status, error) = ask(&gateway, None, true).await;
    assert!(status == 401 && error.contains("require_keys"), "who stands behind the proxy? {error}");
    for path in ["/v1/export", "/v1/traces", "/metrics"] {
        let request =
            gateway.client.get(format!("{}{path}", gateway.url)).header("forwarded", "for=192.0.2.7");
        assert_eq!(request.send().await.unwrap().status(), 401, "{path}");
    }
    let secret = new_secret();
    let store = SqliteStore::open(folder).unwrap();
    store.write(&[key("app", &secret, &["ask"], None)]).unwrap();
    let begun = std::time::Instant::now();
    while ask(&gateway, None, false).await.0 == 200 {
        assert!(begun.elapsed().as_secs() < 10, "a key that was made is noticed");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(ask(&gateway, None, false).await.0, 401);
    assert_eq!(ask(&gateway, Some(&secret), true).await.0, 200, "by any name, with a key");
    // Who says so has decided, either way.
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("store.sqlite")).unwrap();
    store.write(&[key("app", &secret, &["ask"], None)]).unwrap();
    let trusting = |settings: &mut ServiceSettings| settings.require_keys = Some(false);
    let gateway = Running::over(folder, &[&stub], Default::default(), trusting).await;
    assert_eq!(ask(&gateway, None, false).await.0, 200);
    for (host, setting) in [("127.0.0.1", true), ("0.0.0.0", false)] {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(folder.path().join("store.sqlite")).unwrap());
        if !setting {
            store.write(&[key("app", &secret, &["ask"], None)]).unwrap();
        }
        let settings = ServiceSettings {
            host: host.into(),
            port: 0,
            require_keys: Some(setting),
            ..ServiceSettings::default()
        };
        let options = Options { settings, prices: Default::default(), store };
        let error = Gateway::bind(options).await.err().unwrap().to_string();
        assert!(error.contains("require_keys") && error.contains("hint:"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_is_told_to_all_and_names_nobody() {
    let stub = Stub::answering(&["x"]).await;
    let gateway =
        Running::with(&[&stub], |settings| settings.upstreams[0].name = Some("secret-name".into())).await;
    let (status, ready) = gateway.get("/readyz").await;
    assert_eq!((status, &ready["upstreams"]), (200, &json!({"all": 1, "healthy": 1})));
    assert!(!ready.to_string().contains("secret-name"), "{ready}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_s_key_goes_to_an_upstream_that_has_neither_a_key_nor_a_user() {
    let stub = Stub::answering(&["Answer: 4"]).await;
    for (user, sent) in [("", "Bearer sk-mine"), ("ann:secret@", "Basic YW5uOnNlY3JldA==")] {
        let url = stub.url.replace("http://", &format!("http://{user}"));
        let gateway = Running::with(&[&stub], |settings| settings.upstreams[0].base_url = url.into()).await;
        let before = stub.asked().len();
        for model in ["little", "elenchus/single/little"] {
            let asked = gateway.post("/v1/chat/completions").bearer_auth("sk-mine");
            let answer = asked.json(&question(model, "2+2?")).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{model}");
        }
        let models = gateway.client.get(format!("{}/v1/models", gateway.url)).bearer_auth("sk-mine");
        assert_eq!(models.send().await.unwrap().status(), 200);
        let asked = stub.asked().split_off(before);
        assert_eq!(asked.len(), 3);
        assert!(asked.iter().all(|asked| asked.authorization.as_deref() == Some(sent)), "{asked:?}");
    }
}
