//! Asking: plain, with recipes, streamed.

use crate::support::{Act, Running, Stub, completion, events, pieces, question, until};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn without_configuration_the_embedded_model_answers() {
    let begun = Instant::now();
    let gateway = Running::with(&[], |_| {}).await;
    let (status, _) = gateway.get("/healthz").await;
    assert_eq!(status, 200);
    // Far above the 0.2 s that the benchmark measures: this machine may be busy.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let (_, models) = gateway.get("/v1/models").await;
    let embedded = &models["data"][0];
    assert_eq!(embedded["id"], "embedded");
    let example = embedded["elenchus"]["examples"][0].as_str().unwrap().to_string();

    let (status, plain) = gateway.ask(question("embedded", &example)).await;
    assert_eq!(status, 200, "{plain}");
    assert!(!plain["choices"][0]["message"]["content"].as_str().unwrap().is_empty());
    assert!(plain["usage"]["completion_tokens"].as_u64().unwrap() > 0);

    let (status, voted) = gateway.ask(question("elenchus/self-consistency@5/embedded", &example)).await;
    assert_eq!(status, 200, "{voted}");
    let report = &voted["elenchus"];
    assert_eq!(report["recipe"], "self-consistency");
    assert!(report["confidence"]["value"].as_f64().unwrap() > 0.0);
    assert_eq!(report["confidence"]["kind"], "raw");
    let answer = report["answer"].as_str().unwrap();
    assert!(answer.parse::<i64>().is_ok(), "the value, not the whole chain: {answer}");
    assert!(report["stages"].as_array().unwrap().len() >= 4, "{report}");

    let mut streamed = question("embedded", &example);
    streamed["stream"] = true.into();
    let text =
        gateway.post("/v1/chat/completions").json(&streamed).send().await.unwrap().text().await.unwrap();
    let (_, data) = pieces(&text);
    let said: String =
        data.iter().filter_map(|piece| piece["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(plain["choices"][0]["message"]["content"], said.as_str(), "greedy: the same answer");
    assert!(text.ends_with("data: [DONE]\n\n"));
    assert_eq!(gateway.traces(3).await.len(), 3);
    let (status, ready) = gateway.get("/readyz").await;
    assert_eq!((status, &ready["ready"]), (200, &json!(true)));

    let (status, error) = gateway.ask(question("embedded", "Ω")).await;
    assert_eq!(status, 400, "a sign it does not know: {error}");
    let (status, error) = gateway.ask(question("gpt-4o", "x")).await;
    assert_eq!((status, &error["error"]["code"]), (404, &json!("model_not_found")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_request_goes_through_byte_for_byte() {
    let stub = Stub::answering(&["The answer is 4."]).await;
    let gateway = Running::before(&[&stub]).await;
    // Spaces, order and fields of nobody's stay as they are.
    let body = r#"{ "zeta":1.50,"model":"little", "messages":[{"role":"user","content":"2+2?"}],"my_field":{"a":[1,2]}}"#;
    let response = gateway
        .post("/v1/chat/completions")
        .header("content-type", "application/json")
        .header("authorization", "Bearer sk-mine")
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let id = response.headers()["x-elenchus-trace-id"].to_str().unwrap().to_string();
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer, completion(&["The answer is 4.".into()]), "so does the answer");
    let asked = &stub.asked()[0];
    assert_eq!(asked.text, body);
    assert_eq!(asked.authorization.as_deref(), Some("Bearer sk-mine"), "the caller's key is passed on");
    let (status, trace) = gateway.get(&format!("/v1/traces/{id}")).await;
    assert_eq!(status, 200);
    assert_eq!(trace["question"], "2+2?");
    assert_eq!(trace["answer"], "The answer is 4.");
    assert_eq!(trace["usage"]["prompt_tokens"], 10);
    assert_eq!(trace["trace"]["nodes"][0]["completion"]["text"], "The answer is 4.");
    assert_eq!(trace["request"]["my_field"], json!({"a": [1, 2]}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_through_without_waiting_for_its_end() {
    let stub = Stub::start(|_| Act::Stream {
        events: events("one two three"),
        pause: Duration::from_millis(150),
        broken: false,
    })
    .await;
    let gateway = Running::before(&[&stub]).await;
    let mut body = question("little", "count");
    body["stream"] = true.into();
    let begun = Instant::now();
    let mut response = gateway.post("/v1/chat/completions").json(&body).send().await.unwrap();
    let first = response.chunk().await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&first).contains("one"));
    assert!(begun.elapsed() < Duration::from_millis(600), "the last piece comes after 750 ms");
    let mut all = first.to_vec();
    while let Some(chunk) = response.chunk().await.unwrap() {
        all.extend_from_slice(&chunk);
    }
    assert_eq!(String::from_utf8(all).unwrap(), events("one two three").concat(), "nothing added or lost");
    let traces = gateway.traces(1).await;
    assert_eq!((&traces[0]["answer"], &traces[0]["status"]), (&json!("one two three"), &json!("answered")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_of_a_stream_is_there_when_its_client_reads_the_last_piece() {
    // The upstream says that it is done, and closes later.
    let stub = Stub::start(|_| Act::Stream {
        events: [events("one"), vec![": behind\n\n".into()]].concat(),
        pause: Duration::from_millis(500),
        broken: false,
    })
    .await;
    let gateway = Running::before(&[&stub]).await;
    let mut body = question("little", "count");
    body["stream"] = true.into();
    let mut response = gateway.post("/v1/chat/completions").json(&body).send().await.unwrap();
    let id = response.headers()["x-elenchus-trace-id"].to_str().unwrap().to_string();
    while !String::from_utf8_lossy(&response.chunk().await.unwrap().unwrap()).contains("[DONE]") {}
    let (status, said) = gateway.send("/v1/feedback", json!({"trace_id": id, "reaction": "up"})).await;
    assert_eq!(status, 200, "{said}");
    assert_eq!(gateway.get(&format!("/v1/traces/{id}")).await.1["status"], "answered");
    assert_eq!(response.text().await.unwrap(), ": behind\n\n", "what comes behind it goes through");
}

#[tokio::test(flavor = "multi_thread")]
async fn recipes_are_chosen_by_name_path_body_and_alias() {
    let stub = Stub::answering(&["Answer: 4", "Answer: 4", "Answer: 5"]).await;
    let gateway = Running::before(&[&stub]).await;
    let plain = question("little", "2+2?");
    let with = |name: &str, value: Value| {
        let mut body = plain.clone();
        body[name] = value;
        body
    };
    for (path, body) in [
        ("/v1/chat/completions", question("elenchus/self-consistency@3/little", "2+2?")),
        ("/v1/chat/completions", with("elenchus", json!({"recipe": "self-consistency", "samples": 3}))),
        ("/v1/self-consistency/chat/completions", with("elenchus", json!({"settings": {"samples": 3}}))),
        ("/v1/chat/completions", with("optillm_approach", json!("self_consistency"))),
        ("/v1/chat/completions", question("self_consistency-little", "2+2?")),
    ] {
        let (status, answer) = gateway.send(path, body.clone()).await;
        assert_eq!(status, 200, "{path} {body}: {answer}");
        assert_eq!(answer["elenchus"]["recipe"], "self-consistency", "{path} {body}");
        assert_eq!(answer["elenchus"]["answer"], "4");
        assert_eq!(answer["model"], body["model"], "the client sees the name that it asked for");
        let sent = stub.asked().last().unwrap().body.clone();
        assert_eq!(sent["model"], "little");
        assert!(sent.get("elenchus").is_none() && sent.get("optillm_approach").is_none());
    }
    let (status, _) = gateway.send("/v1/plain/chat/completions", plain.clone()).await;
    assert_eq!(status, 200);
    let (status, error) = gateway.send("/v1/self-consistancy/chat/completions", plain.clone()).await;
    assert_eq!(status, 404);
    assert!(error["error"]["message"].as_str().unwrap().contains("did you mean"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vote_reports_what_it_did_and_what_it_cost() {
    let stub = Stub::answering(&["Answer: 4", "Answer: 5", "Answer: 4"]).await;
    let gateway = Running::before(&[&stub]).await;
    let mut body = question("elenchus/self-consistency@3/little", "2+2?");
    body["elenchus"] = json!({"settings": {"early_stop": false}, "budget": {"tokens": 1000}});
    let (status, answer) = gateway.ask(body).await;
    assert_eq!(status, 200, "{answer}");
    let report = &answer["elenchus"];
    assert_eq!(answer["choices"][0]["message"]["content"], "Answer: 4");
    assert_eq!(answer["usage"], json!({"prompt_tokens": 10, "completion_tokens": 15, "total_tokens": 25}));
    assert!((report["agreement"].as_f64().unwrap() - 2.0 / 3.0).abs() < 1e-9);
    assert_eq!(report["budget"]["limit"]["tokens"], 1000);
    assert_eq!(report["budget"]["spent"]["completion_tokens"], 15);
    assert_eq!(report["budget"]["answer"]["completion_tokens"], 5);
    assert_eq!(report["budget"]["recipe"]["completion_tokens"], 10, "the recipe's own share");
    let kinds: Vec<&str> =
        report["stages"].as_array().unwrap().iter().map(|stage| stage["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["generated", "generated", "generated", "decided"]);
    let (_, trace) = gateway.get(&format!("/v1/traces/{}", report["trace_id"].as_str().unwrap())).await;
    assert_eq!(trace["trace"]["nodes"].as_array().unwrap().len(), 4);
    assert_eq!(trace["trace"]["id"], report["trace_id"]);
    assert_eq!(trace["confidence"], report["confidence"]["value"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn history_images_and_parameters_reach_the_model_and_the_rest_is_refused() {
    let stub = Stub::answering(&["Answer: 4"]).await;
    let gateway = Running::before(&[&stub]).await;
    let image = json!({"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}});
    let mut body = json!({
        "model": "elenchus/self-consistency@2/little", "temperature": 0.25, "top_p": 0.5, "max_tokens": 77,
        "stop": ["END"], "seed": 9, "presence_penalty": 0.5, "user": "me", "my_field": [1],
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "result"},
            {"role": "assistant", "content": "two"},
            {"role": "user", "content": [{"type": "text", "text": "2+2?"}, image]},
        ],
    });
    let (status, answer) = gateway.ask(body.clone()).await;
    assert_eq!(status, 200, "{answer}");
    let sent = stub.asked()[0].body.clone();
    for (field, value) in [
        ("temperature", json!(0.25)),
        ("top_p", json!(0.5)),
        ("stop", json!(["END"])),
        ("presence_penalty", json!(0.5)),
        ("user", json!("me")),
        ("my_field", json!([1])),
    ] {
        assert_eq!(sent[field], value, "{field}");
    }
    assert_eq!(sent["max_tokens"], 77);
    let messages = sent["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 6, "the whole history");
    assert_eq!(messages[0]["content"], "Be brief.");
    assert_eq!(messages[2]["tool_calls"][0]["id"], "c1");
    assert_eq!(messages[3]["tool_call_id"], "c1");
    assert_eq!(messages[5]["content"][1], image, "the image is where it was");
    body["tools"] = json!([{"type": "function", "function": {"name": "f"}}]);
    body["model"] = "elenchus/gsa@2/little".into();
    let (status, error) = gateway.ask(body).await;
    assert_eq!((status, &error["error"]["param"]), (400, &json!("tools")), "{error}");
    assert!(error["error"]["message"].as_str().unwrap().contains("hint:"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_seed_draws_the_same_and_no_seed_another() {
    let stub = Stub::answering(&["Answer: 4"]).await;
    let gateway = Running::before(&[&stub]).await;
    let mut body = question("elenchus/single/little", "2+2?");
    let seed = |stub: &Stub| stub.asked().last().unwrap().body["seed"].clone();
    gateway.ask(body.clone()).await;
    let first = seed(&stub);
    gateway.ask(body.clone()).await;
    assert_ne!(seed(&stub), first);
    body["seed"] = 5.into();
    gateway.ask(body.clone()).await;
    let first = seed(&stub);
    gateway.ask(body.clone()).await;
    assert_eq!(seed(&stub), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_arrive_while_they_happen_and_plain_clients_do_not_see_them() {
    let stub = Stub::start(|asked| {
        let judged = asked.text.contains("most consistent") || asked.text.contains("drafts");
        std::thread::sleep(Duration::from_millis(if judged { 300 } else { 1 }));
        let count = asked.body["n"].as_u64().unwrap_or(1) as usize;
        Act::Json(200, completion(&vec!["Answer: 4".to_string(); count]))
    })
    .await;
    let gateway = Running::before(&[&stub]).await;
    let mut body = question("elenchus/self-consistency@4/little", "2+2?");
    body["stream"] = true.into();
    body["stream_options"] = json!({"include_usage": true});
    let response = gateway.post("/v1/chat/completions").json(&body).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
    let text = response.text().await.unwrap();
    let (comments, data) = pieces(&text);
    assert_eq!(comments[0]["type"], "begin");
    assert!(comments.iter().filter(|comment| comment["type"] == "stage").count() >= 3, "{text}");
    assert_eq!(data[0]["choices"][0]["delta"]["content"], "Answer: 4");
    let last = &data[1];
    assert_eq!(last["choices"][0]["finish_reason"], "stop");
    assert_eq!(last["elenchus"]["trace_id"], comments[0]["trace_id"]);
    assert_eq!(data[2]["choices"], json!([]));
    assert!(data[2]["usage"]["total_tokens"].as_u64().unwrap() > 0);
    assert!(data.iter().all(|piece| piece["object"] == "chat.completion.chunk"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_cancels_all_its_work() {
    let stub = Stub::start(|asked| match asked.body["stream"] == true {
        true => Act::Stream {
            events: events(&"word ".repeat(200)),
            pause: Duration::from_millis(50),
            broken: false,
        },
        false => Act::Hang,
    })
    .await;
    let gateway = Running::before(&[&stub]).await;
    for (model, stream) in [
        ("little", true),
        ("little", false),
        ("elenchus/self-consistency@3/little", true),
        ("elenchus/self-consistency@3/little", false),
    ] {
        let (before, asked) = (stub.gone(), stub.asked().len());
        let mut body = question(model, "2+2?");
        body["stream"] = stream.into();
        let request = gateway.post("/v1/chat/completions").json(&body).send();
        let client = tokio::spawn(async move {
            let mut response = request.await.unwrap();
            while response.chunk().await.unwrap().is_some() {}
        });
        until("the upstream is asked", || stub.asked().len() > asked).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.abort();
        until(&format!("{model} stream={stream}: the upstream call is dropped"), || stub.gone() > before)
            .await;
    }
    let traces = gateway.traces(4).await;
    assert!(traces.iter().all(|trace| trace["status"] == "cancelled"), "{traces:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn budgets_and_prices_hold() {
    let stub = Stub::answering(&["Answer: 4", "Answer: 5"]).await;
    let price = elenchus_trace::Price { prompt_per_million: 1e6, completion_per_million: 2e6 };
    let folder = tempfile::tempdir().unwrap();
    let prices = [("little".to_string(), price)].into();
    let gateway = Running::over(folder, &[&stub], prices, |_| {}).await;
    let mut body = question("elenchus/self-consistency@4/little", "2+2?");
    body["elenchus"] = json!({"settings": {"early_stop": false}});
    let (_, answer) = gateway.ask(body.clone()).await;
    // 10 prompt tokens at 1, 20 completion tokens at 2.
    assert_eq!(answer["elenchus"]["budget"]["spent"]["money"], 50.0);
    body["elenchus"]["budget"] = json!({"calls": 0});
    let (status, error) = gateway.ask(body.clone()).await;
    assert_eq!((status, &error["error"]["code"]), (429, &json!("budget_exhausted")), "{error}");
    // A list is no budget, although its values could be taken for the fields in their order.
    for wrong in [json!({"coins": 1}), json!([]), json!([1000])] {
        body["elenchus"]["budget"] = wrong;
        assert_eq!(gateway.ask(body.clone()).await.0, 400, "{body}");
    }
    let before = stub.asked().len();
    body["elenchus"] = json!({"settings": {"early_stop": false}});
    let (status, estimate) = gateway.send("/v1/estimate", body).await;
    assert_eq!(status, 200, "{estimate}");
    assert_eq!((&estimate["recipe"], &estimate["usage"]["calls"]), (&json!("self-consistency"), &json!(1)));
    assert!(estimate["usage"]["money"].as_f64().unwrap() > 0.0);
    assert_eq!(stub.asked().len(), before, "an estimate asks nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn models_and_recipes_are_listed() {
    let stub = Stub::answering(&["x"]).await;
    let gateway = Running::before(&[&stub]).await;
    let (_, models) = gateway.get("/v1/models").await;
    let ids: Vec<&str> =
        models["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids[0], "little");
    assert!(ids.contains(&"elenchus/self-consistency/little"), "{ids:?}");
    for path in ["elenchus/gsa/little", "elenchus%2Fgsa%2Flittle"] {
        let (status, model) = gateway.get(&format!("/v1/models/{path}")).await;
        assert_eq!((status, &model["id"]), (200, &json!("elenchus/gsa/little")), "{path}");
    }
    assert_eq!(gateway.get("/v1/models/large").await.0, 404);
    let (_, recipes) = gateway.get("/v1/recipes").await;
    let vote = recipes["data"].as_array().unwrap().iter().find(|r| r["name"] == "self-consistency").unwrap();
    assert!(
        vote["settings"]["properties"]["samples"].is_object() && !vote["cost"].as_str().unwrap().is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn embeddings_and_completions_are_passed_on() {
    let stub = Stub::start(|asked| {
        Act::Json(200, json!({"echo": asked.path, "usage": {"prompt_tokens": 3, "total_tokens": 3}}))
    })
    .await;
    let gateway = Running::before(&[&stub]).await;
    let (status, answer) = gateway.send("/v1/embeddings", json!({"model": "e", "input": "x"})).await;
    assert_eq!((status, &answer["echo"]), (200, &json!("/v1/embeddings")));
    let (status, answer) = gateway.send("/v1/completions", json!({"model": "e", "prompt": "x"})).await;
    assert_eq!((status, &answer["echo"]), (200, &json!("/v1/completions")));
    let traces = gateway.traces(2).await;
    assert_eq!(traces[0]["usage"]["prompt_tokens"], 3);
    assert_eq!(traces[0]["question"], "x", "what was asked");
    // A recipe is not dropped without a word.
    for (path, field, body) in [
        ("/v1/completions", "model", json!({"model": "elenchus/gsa/e", "prompt": "x"})),
        ("/v1/completions", "model", json!({"model": "majority_voting-e", "prompt": "x"})),
        ("/v1/completions", "elenchus", json!({"model": "e", "prompt": "x", "elenchus": "gsa"})),
        (
            "/v1/completions",
            "optillm_approach",
            json!({"model": "e", "prompt": "x", "optillm_approach": "bon"}),
        ),
        ("/v1/embeddings", "model", json!({"model": "elenchus/gsa/e", "input": "x"})),
    ] {
        let (status, error) = gateway.send(path, body).await;
        assert_eq!((status, &error["error"]["param"]), (400, &json!(field)), "{error}");
        assert!(error["error"]["message"].as_str().unwrap().contains("/v1/chat/completions"), "{error}");
    }
    let (status, _) =
        gateway.send("/v1/completions", json!({"model": "elenchus/plain/e", "prompt": "x"})).await;
    assert_eq!((status, &stub.asked().pop().unwrap().body["model"]), (200, &json!("e")));
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_replaced_while_it_runs() {
    let (first, second) = (Stub::answering(&["first"]).await, Stub::answering(&["second"]).await);
    let gateway = Running::before(&[&first]).await;
    let said = |answer: &Value| answer["choices"][0]["message"]["content"].as_str().unwrap().to_string();
    assert_eq!(said(&gateway.ask(question("little", "x")).await.1), "first");
    let settings = elenchus_recipe::ServiceSettings {
        upstreams: vec![elenchus_recipe::UpstreamSettings::new(&second.url)],
        ..Default::default()
    };
    gateway.handle.reload((settings, Default::default())).unwrap();
    assert_eq!(said(&gateway.ask(question("little", "x")).await.1), "second");
    let wrong = elenchus_recipe::ServiceSettings {
        upstreams: vec![elenchus_recipe::UpstreamSettings::new("nowhere")],
        ..Default::default()
    };
    assert!(gateway.handle.reload((wrong, Default::default())).is_err());
    assert_eq!(said(&gateway.ask(question("little", "x")).await.1), "second", "the old settings stay");
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_listed_only_from_the_named_folder_and_reports_need_their_ticket() {
    let stub = Stub::answering(&["x"]).await;
    let nothing = Running::before(&[&stub]).await;
    assert_eq!(nothing.get("/v1/runs").await.1, json!({"configured": false, "data": []}));
    assert_eq!(nothing.get("/v1/runs/first").await.0, 404);
    let folder = tempfile::tempdir().unwrap();
    let run =
        elenchus_remember::Run::create(folder.path().join("runs/first"), &json!({"command": "improve"}))
            .unwrap();
    run.metrics().record("round/0", &json!({"round": 0})).unwrap();
    std::fs::write(folder.path().join("report.html"), "outside").unwrap();
    let runs = folder.path().join("runs");
    let gateway = Running::with(&[&stub], |settings| settings.runs = Some(runs)).await;
    let (_, list) = gateway.get("/v1/runs").await;
    assert_eq!(
        (&list["data"][0]["name"], &list["data"][0]["state"]),
        (&json!("first"), &json!("running")),
        "{list}"
    );
    let (_, one) = gateway.get("/v1/runs/first").await;
    assert_eq!((&one["metrics"], one.get("report")), (&json!([{"round": 0}]), None), "{one}");
    run.write_report("<h1>done</h1>").unwrap();
    let (_, one) = gateway.get("/v1/runs/first").await;
    let address = one["report"].as_str().unwrap();
    assert_eq!(gateway.get(address).await, (200, json!("<h1>done</h1>")));
    for path in ["/v1/runs/first/report", "/v1/runs/first/report?ticket=", "/v1/runs/first/report?ticket=00"]
    {
        assert_eq!(gateway.get(path).await.0, 403, "{path}");
    }
    let ticket = address.split_once('=').unwrap().1;
    for name in ["second", "first.", "..%2f.."] {
        assert_eq!(gateway.get(&format!("/v1/runs/{name}/report?ticket={ticket}")).await.0, 403, "{name}");
        assert_eq!(gateway.get(&format!("/v1/runs/{name}x")).await.0, 404, "{name}");
    }
    assert_eq!(nothing.get(address).await.0, 403, "a ticket is of one process");
}

#[tokio::test(flavor = "multi_thread")]
async fn recipes_that_a_model_cannot_answer_with_are_said_and_not_listed_as_models() {
    let stub = Stub::answering(&["The answer is 42."]).await;
    let gateway = Running::before(&[&stub]).await;
    let (_, all) = gateway.get("/v1/recipes").await;
    assert!(
        all["data"].as_array().unwrap().iter().all(|recipe| recipe["name"] != "act"),
        "a chat has no world to act in"
    );
    let (_, able) = gateway.get("/v1/recipes?model=little").await;
    let recipes = able["data"].as_array().unwrap();
    let cannot: Vec<&str> = recipes
        .iter()
        .filter(|recipe| recipe["cannot"].is_string())
        .map(|recipe| recipe["name"].as_str().unwrap())
        .collect();
    assert!(cannot.contains(&"self-certainty") && !cannot.contains(&"gsa"), "{cannot:?}");
    let (_, models) = gateway.get("/v1/models").await;
    let listed = |recipe: &str| {
        models["data"].as_array().unwrap().iter().any(|m| m["id"] == format!("elenchus/{recipe}/little"))
    };
    for recipe in recipes {
        let name = recipe["name"].as_str().unwrap();
        assert_eq!(listed(name), recipe["cannot"].is_null(), "{name}");
    }
    for name in &cannot {
        let body = question(&format!("elenchus/{name}/little"), "x");
        for path in ["/v1/estimate", "/v1/chat/completions"] {
            let (status, error) = gateway.send(path, body.clone()).await;
            assert_eq!(status, 400, "{path} {name}: {error}");
            assert!(error["error"]["message"].as_str().unwrap().contains("hint: "), "{error}");
        }
    }
    assert!(stub.asked().iter().all(|asked| asked.path.ends_with("/models")), "nothing of it was asked");
    assert_eq!(gateway.get("/v1/recipes?modell=little").await.0, 400);
    let (status, error) = gateway.ask(question("elenchus/act/little", "x")).await;
    assert_eq!(status, 404, "{error}");
    let mut nobody = question("little", "x");
    nobody["elenchus"] = json!("best of single, gsa by nobody");
    let (status, error) = gateway.ask(nobody).await;
    assert_eq!(status, 400, "{error}");
    let (status, error) = gateway.ask(question("elenchus/gsa@0/little", "x")).await;
    assert_eq!((status, &error["error"]["param"]), (400, &json!("model")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_a_recipe_is_bounded_by_what_is_left_of_the_budget() {
    let stub = Stub::answering(&["The answer is 42."]).await;
    let gateway = Running::before(&[&stub]).await;
    let mut body = question("elenchus/self-consistency@5/little", "What is 6 * 7?");
    body["elenchus"] = json!({"budget": {"tokens": 400}, "settings": {"early_stop": false}});
    let (status, answer) = gateway.ask(body.clone()).await;
    assert_eq!(status, 200, "{answer}");
    let asked = stub.asked();
    let bound = asked[0].body["max_tokens"].as_u64().unwrap();
    assert!((16..80).contains(&bound), "400 tokens for a prompt and 5 samples: {bound}");
    body["elenchus"]["budget"]["tokens"] = json!(40);
    let before = stub.asked().len();
    let (status, error) = gateway.ask(body).await;
    assert_eq!((status, stub.asked().len()), (429, before), "{error}");
    let mut long = question("elenchus/gsa/little", &"word ".repeat(4000));
    long["elenchus"] = json!({"budget": {"tokens": 100}});
    let (status, error) = gateway.ask(long).await;
    assert_eq!((status, stub.asked().len()), (429, before), "the prompt alone is too long: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipe_without_an_answer_is_no_empty_success() {
    let stub = Stub::answering(&["I cannot say."]).await;
    let gateway = Running::before(&[&stub]).await;
    let asked = question("elenchus/real-critic/little", "What is 6 * 7?");
    let response = gateway.post("/v1/chat/completions").json(&asked).send().await.unwrap();
    let named = response.headers()["x-elenchus-trace-id"].to_str().unwrap().to_string();
    let (status, error) = (response.status().as_u16(), response.json::<Value>().await.unwrap());
    let message = error["error"]["message"].as_str().unwrap_or_default();
    assert_eq!((status, &error["error"]["code"]), (422, &json!("no_answer")), "{error}");
    assert!(message.contains("else plain"), "{message}");
    let traces = gateway.traces(1).await;
    assert_eq!((&traces[0]["status"], &traces[0]["id"]), (&json!("abstained"), &json!(named)));
    let (status, answer) =
        gateway.ask(question("elenchus/real-critic else plain/little", "What is 6 * 7?")).await;
    assert_eq!(
        (status, &answer["choices"][0]["message"]["content"]),
        (200, &json!("I cannot say.")),
        "{answer}"
    );
}
