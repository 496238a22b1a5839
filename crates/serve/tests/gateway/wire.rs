//! Our answers against OpenAI's own description of them, where the reference data lies beside the checkout.

use crate::responses::{events, forecaster, weather_tool};
use crate::schema::problems;
use crate::support::{Act, Running, Stub, pieces, question};
use serde_json::{Value, json};
use std::path::Path;

/// OpenAI's description; `None`, said on standard error, where it is not there.
fn contract() -> Option<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data/openai_wire/openapi_chat_responses.json");
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(serde_json::from_str(&text).unwrap()),
        Err(error) => {
            eprintln!("skipped: {}: {error}", path.display());
            None
        }
    }
}

fn check(contract: &Value, name: &str, value: &Value) {
    let problems = problems(contract, &contract["components"]["schemas"][name], value);
    assert!(problems.is_empty(), "{name}: {problems:#?}\n{value}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_keep_openais_contract() {
    let Some(contract) = contract() else { return };
    let stub = Stub::answering(&["Answer: 4", "Answer: 5"]).await;
    let behind = Running::before(&[&stub]).await;
    let alone = Running::with(&[], |_| {}).await;
    let example = alone.get("/v1/models").await.1["data"][0]["elenchus"]["examples"][0].clone();
    let embedded = |model: &str| question(model, example.as_str().unwrap());
    for (gateway, body) in [
        (&behind, question("elenchus/self-consistency@3/little", "2+2?")),
        (&behind, question("elenchus/gsa/little", "2+2?")),
        (&behind, {
            let mut body = question("elenchus/self-consistency@3/little", "2+2?");
            (body["n"], body["logprobs"]) = (2.into(), true.into());
            body
        }),
        (&alone, embedded("embedded")),
        (&alone, embedded("elenchus/self-consistency@3/embedded")),
    ] {
        let (status, answer) = gateway.ask(body.clone()).await;
        assert_eq!(status, 200, "{answer}");
        check(&contract, "CreateChatCompletionResponse", &answer);
        let mut streamed = body.clone();
        streamed["stream"] = true.into();
        streamed["stream_options"] = json!({"include_usage": true});
        let response = gateway.post("/v1/chat/completions").json(&streamed).send().await.unwrap();
        let (_, data) = pieces(&response.text().await.unwrap());
        assert!(data.len() >= 3, "{data:?}");
        for piece in &data {
            check(&contract, "CreateChatCompletionStreamResponse", piece);
        }
    }
    check(&contract, "ListModelsResponse", &behind.get("/v1/models").await.1);
    check(&contract, "Model", &behind.get("/v1/models/little").await.1);
    for (status, error) in [
        behind.ask(json!({"model": "little"})).await,
        behind.ask(question("elenchus/nothing/little", "x")).await,
    ] {
        assert!((400..500).contains(&status));
        check(&contract, "ErrorResponse", &error);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_keep_openais_contract() {
    let Some(contract) = contract() else { return };
    let stub = Stub::answering(&["Answer: 4", "Answer: 5"]).await;
    let talker = Running::before(&[&stub]).await;
    let stub = forecaster().await;
    let caller = Running::before(&[&stub]).await;
    let alone = Running::with(&[], |_| {}).await;
    let example = alone.get("/v1/models").await.1["data"][0]["elenchus"]["examples"][0].clone();
    for (gateway, body) in [
        (&talker, json!({"model": "little", "input": "2+2?", "metadata": {"a": "b"}, "user": "u"})),
        (&talker, json!({"model": "elenchus/self-consistency@3/little", "input": "2+2?"})),
        (&talker, json!({"model": "elenchus/gsa/little", "input": [{"role": "user", "content": "2+2?"}]})),
        (&alone, json!({"model": "embedded", "input": example})),
        (&caller, json!({"model": "little", "input": "Weather?", "tools": [weather_tool()]})),
    ] {
        let (status, answer) = gateway.send("/v1/responses", body.clone()).await;
        assert_eq!(status, 200, "{answer}");
        check(&contract, "Response", &answer);
        let again = gateway.get(&format!("/v1/responses/{}", answer["id"].as_str().unwrap())).await.1;
        check(&contract, "Response", &again);
        let mut streamed = body.clone();
        streamed["stream"] = true.into();
        let response = gateway.post("/v1/responses").json(&streamed).send().await.unwrap();
        let events = events(&response.text().await.unwrap());
        assert!(events.len() >= 6, "{events:?}");
        for event in &events {
            check(&contract, "ResponseStreamEvent", event);
        }
    }
    let (_, error) = talker.send("/v1/responses", json!({"model": "little"})).await;
    check(&contract, "ErrorResponse", &error);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_call_tools_keep_openais_contract() {
    let Some(contract) = contract() else { return };
    let stub = forecaster().await;
    let gateway = Running::before(&[&stub]).await;
    for model in ["elenchus/single/little", "elenchus/self-consistency@2/little"] {
        let mut body = question(model, "Weather?");
        let mut tool = weather_tool();
        let function = tool.as_object_mut().unwrap();
        function.remove("type");
        body["tools"] = json!([{"type": "function", "function": function}]);
        let (status, answer) = gateway.ask(body.clone()).await;
        assert_eq!(status, 200, "{answer}");
        assert!(answer["choices"][0]["message"]["tool_calls"].is_array(), "{answer}");
        check(&contract, "CreateChatCompletionResponse", &answer);
        body["stream"] = true.into();
        let response = gateway.post("/v1/chat/completions").json(&body).send().await.unwrap();
        let (_, data) = pieces(&response.text().await.unwrap());
        assert!(!data.is_empty());
        for piece in &data {
            check(&contract, "CreateChatCompletionStreamResponse", piece);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_passed_on_keeps_openais_contract() {
    let Some(contract) = contract() else { return };
    let completion = json!({"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "little",
        "choices": [{"index": 0, "text": " world", "logprobs": null, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}});
    let embedding = json!({"object": "list", "model": "little",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -0.5]}],
        "usage": {"prompt_tokens": 1, "total_tokens": 1}});
    let stub = Stub::start(move |asked| {
        Act::Json(200, if asked.body["input"].is_null() { completion.clone() } else { embedding.clone() })
    })
    .await;
    let gateway = Running::before(&[&stub]).await;
    for (path, name, body) in [
        ("/v1/completions", "CreateCompletion", json!({"model": "little", "prompt": "Hello"})),
        ("/v1/embeddings", "CreateEmbedding", json!({"model": "little", "input": "Hello"})),
    ] {
        let (status, answer) = gateway.send(path, body).await;
        assert_eq!(status, 200, "{answer}");
        for (name, value) in [("Response", &answer), ("Request", &stub.asked().last().unwrap().body)]
            .map(|(end, value)| (format!("{name}{end}"), value))
        {
            match contract["components"]["schemas"][&name].is_null() {
                true => eprintln!("skipped: the reference data has no schema `{name}`"),
                false => check(&contract, &name, value),
            }
        }
        let (_, error) = gateway.send(path, json!({"model": "elenchus/gsa/little"})).await;
        check(&contract, "ErrorResponse", &error);
    }
}
