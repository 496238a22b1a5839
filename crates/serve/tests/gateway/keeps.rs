//! What a request says of the answer itself survives a recipe: JSON, tools, several choices, log-probabilities; and recipes
//! compose.

use crate::support::{Act, Asked, Running, Stub, completion, pieces, question};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};

fn with(model: &str, fields: Value) -> Value {
    let mut body = question(model, "Which city?");
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn tools() -> Value {
    json!([{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}])
}

/// Calls `weather` with these arguments in turn, one for each sample.
async fn calling(arguments: &[&str]) -> Stub {
    let arguments: Vec<String> = arguments.iter().map(|text| text.to_string()).collect();
    let next = AtomicUsize::new(0);
    Stub::start(move |asked: &Asked| {
        let count = asked.body["n"].as_u64().unwrap_or(1) as usize;
        let mut answer = completion(&vec![String::new(); count]);
        for choice in answer["choices"].as_array_mut().unwrap() {
            let place = next.fetch_add(1, Ordering::SeqCst);
            let call = json!({"id": format!("call_{place}"), "type": "function",
                "function": {"name": "weather", "arguments": arguments[place % arguments.len()]}});
            choice["message"] = json!({"role": "assistant", "content": null, "tool_calls": [call]});
            choice["finish_reason"] = "tool_calls".into();
        }
        Act::Json(200, answer)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_vote_over_calls_of_tools() {
    let rome =
        ["{\"city\":\"Rome\",\"days\":1}", "{\"city\":\"Oslo\"}", "{ \"days\": 1.0, \"city\": \"Rome\" }"];
    let stub = calling(&rome).await;
    let gateway = Running::before(&[&stub]).await;
    let ask = |stream: bool| {
        with(
            "elenchus/self-consistency@3/little",
            json!({"tools": tools(), "tool_choice": "auto", "stream": stream,
            "elenchus": {"settings": {"early_stop": false}}}),
        )
    };
    let (status, answer) = gateway.ask(ask(false)).await;
    assert_eq!(status, 200, "{answer}");
    let choice = &answer["choices"][0];
    assert_eq!(
        (&choice["finish_reason"], &choice["message"]["content"]),
        (&json!("tool_calls"), &Value::Null)
    );
    let call = &choice["message"]["tool_calls"][0];
    assert_eq!((&call["id"], &call["function"]["arguments"]), (&json!("call_0"), &json!(rome[0])));
    assert_eq!(answer["elenchus"]["answer"], "call weather({\"city\":\"Rome\",\"days\":1})");
    assert!((answer["elenchus"]["agreement"].as_f64().unwrap() - 2.0 / 3.0).abs() < 1e-9, "{answer}");
    let sent = stub.asked().last().unwrap().body.clone();
    assert_eq!((&sent["tools"], &sent["tool_choice"]), (&tools(), &json!("auto")));
    assert_eq!(sent["messages"], json!([{"role": "user", "content": "Which city?"}]), "asked as it stands");

    let text =
        gateway.post("/v1/chat/completions").json(&ask(true)).send().await.unwrap().text().await.unwrap();
    let (_, data) = pieces(&text);
    assert_eq!(data[0]["choices"][0]["delta"]["tool_calls"][0]["function"]["name"], "weather");
    assert_eq!(data[1]["choices"][0]["finish_reason"], "tool_calls");

    // The result of a tool goes on under the same recipe.
    let mut body = ask(false);
    body["messages"] = json!([{"role": "user", "content": "Which city?"}, choice["message"],
        {"role": "tool", "tool_call_id": "call_0", "content": "sun"}]);
    let (status, next) = gateway.ask(body.clone()).await;
    assert_eq!(status, 200, "{next}");
    let sent = stub.asked().last().unwrap().body["messages"].clone();
    assert_eq!((sent.as_array().unwrap().len(), &sent[2]["role"]), (3, &json!("tool")));
    let judged = Stub::start(|asked: &Asked| {
        let shown = asked.body["messages"].to_string();
        if !shown.contains("Decide whether") {
            let call = |city: &str| {
                json!({"role": "assistant", "content": null, "tool_calls": [{"id": "c", "type": "function",
                "function": {"name": "weather", "arguments": format!("{{\"city\":\"{city}\"}}")}}]})
            };
            let mut answer = completion(&[String::new(), String::new()]);
            for (index, city) in ["Oslo", "Rome"].into_iter().enumerate() {
                answer["choices"][index]["message"] = call(city);
                answer["choices"][index]["finish_reason"] = "tool_calls".into();
            }
            return Act::Json(200, answer);
        }
        let first = shown.contains("(A) right");
        let right = shown.contains("Rome");
        let count = asked.body["n"].as_u64().unwrap_or(1) as usize;
        Act::Json(200, completion(&vec![if first == right { "A" } else { "B" }.to_string(); count]))
    })
    .await;
    let gateway = Running::before(&[&judged]).await;
    let settings = json!({"evaluator": "judge", "evaluator_settings": {"reading": "sample", "samples": 2}});
    let body =
        with("elenchus/best-of-n@2/little", json!({"tools": tools(), "elenchus": {"settings": settings}}));
    let (status, answer) = gateway.ask(body).await;
    assert_eq!(status, 200, "{answer}");
    let call = &answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"];
    assert_eq!(call, "{\"city\":\"Rome\"}", "the judge sees the calls: {answer}");
    let judging = judged
        .asked()
        .iter()
        .filter(|asked| asked.text.contains("Decide whether"))
        .cloned()
        .collect::<Vec<_>>();
    assert!(
        !judging.is_empty() && judging.iter().all(|asked| asked.body.get("tools").is_none()),
        "a judge calls nothing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_grouped_as_json_and_goes_with_the_answers_only() {
    let stub = Stub::answering(&[
        "{\"city\": \"Oslo\"}",
        "{\"city\":\"Rome\",\"n\":1}",
        "{ \"n\": 1.0, \"city\": \"Rome\" }",
    ])
    .await;
    let gateway = Running::before(&[&stub]).await;
    let format =
        json!({"type": "json_schema", "json_schema": {"name": "city", "schema": {"type": "object"}}});
    let body = with(
        "elenchus/self-consistency@3/little",
        json!({"response_format": format,
        "elenchus": {"settings": {"early_stop": false}}}),
    );
    let (status, answer) = gateway.ask(body).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["choices"][0]["message"]["content"], "{\"city\":\"Rome\",\"n\":1}");
    assert_eq!(answer["elenchus"]["answer"], "{\"city\":\"Rome\",\"n\":1}");
    let sent = stub.asked()[0].body.clone();
    assert_eq!(sent["response_format"], format);
    assert_eq!(sent["messages"][0]["content"], "Which city?", "no prompt of ours asks for another form");
    for (recipe, field, value) in [
        ("iad", "response_format", format.clone()),
        ("critique-and-refine", "tools", tools()),
        ("iad", "logprobs", json!(true)),
    ] {
        let (status, error) =
            gateway.ask(with(&format!("elenchus/{recipe}/little"), json!({field: value}))).await;
        assert_eq!((status, &error["error"]["param"]), (400, &json!(field)), "{error}");
        let message = error["error"]["message"].as_str().unwrap();
        assert!(message.contains(recipe) && message.contains("self-consistency"), "{message}");
    }
    let (_, recipes) = gateway.get("/v1/recipes").await;
    let of = |name: &str| {
        recipes["data"].as_array().unwrap().iter().find(|offer| offer["name"] == name).unwrap()["keeps"]
            .clone()
    };
    assert_eq!(of("self-consistency"), json!({"response_format": true, "tools": true, "logprobs": true}));
    assert_eq!(of("gsa"), json!({"response_format": true, "tools": false, "logprobs": false}));
    assert_eq!(of("iad"), json!({"response_format": false, "tools": false, "logprobs": false}));
}

#[tokio::test(flavor = "multi_thread")]
async fn json_goes_with_every_text_that_may_become_the_answer_and_with_no_critique() {
    let format =
        json!({"type": "json_schema", "json_schema": {"name": "city", "schema": {"type": "object"}}});
    let stub = Stub::start(|asked: &Asked| {
        let shown = asked.body["messages"].to_string();
        let text = if shown.contains("Check the proposed solution") {
            "Step 1: wrong — it is Rome\nFirst wrong step: 1\nAdvice: say Rome"
        } else if shown.contains("Improve the proposed") || shown.contains("Draft 1") {
            "{\"city\": \"Rome\"}"
        } else {
            "{\"city\": \"Oslo\"}"
        };
        let count = asked.body["n"].as_u64().unwrap_or(1) as usize;
        Act::Json(200, completion(&vec![text.to_string(); count]))
    })
    .await;
    let gateway = Running::before(&[&stub]).await;
    let always = json!({"rounds": 1, "acceptance": "always"});
    for (recipe, settings) in [
        ("gsa", json!({})),
        ("critique-and-refine", always.clone()),
        ("self-consistency@2 then critique-and-refine", json!({"critique-and-refine": always})),
    ] {
        let before = stub.asked().len();
        let body = with(
            &format!("elenchus/{recipe}/little"),
            json!({"response_format": format, "elenchus": {"settings": settings}}),
        );
        let (status, answer) = gateway.ask(body).await;
        assert_eq!(status, 200, "{recipe}: {answer}");
        assert_eq!(answer["choices"][0]["message"]["content"], "{\"city\": \"Rome\"}", "{recipe}");
        assert_eq!(answer["elenchus"]["answer"], "{\"city\":\"Rome\"}", "{recipe}");
        for asked in &stub.asked()[before..] {
            let critic = asked.text.contains("Check the proposed solution");
            assert_eq!(asked.body.get("response_format"), (!critic).then_some(&format), "{recipe}");
            assert!(!asked.text.contains("Answer:"), "nothing asks for another form: {}", asked.text);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_choices_are_independent_runs_under_one_budget() {
    let stub = Stub::answering(&["Answer: 4", "Answer: 5"]).await;
    let gateway = Running::before(&[&stub]).await;
    let body = with("elenchus/single/little", json!({"n": 2}));
    let (status, answer) = gateway.ask(body.clone()).await;
    assert_eq!(status, 200, "{answer}");
    let choices = answer["choices"].as_array().unwrap();
    let mut answers: Vec<&str> =
        choices.iter().map(|choice| choice["elenchus"]["answer"].as_str().unwrap()).collect();
    answers.sort_unstable();
    assert_eq!(answers, ["4", "5"]);
    assert_eq!((&choices[0]["index"], &choices[1]["index"]), (&json!(0), &json!(1)));
    let seeds: Vec<Value> = stub.asked().iter().map(|asked| asked.body["seed"].clone()).collect();
    assert_ne!(seeds[0], seeds[1], "drawn with seeds of their own");
    assert_eq!(answer["usage"]["completion_tokens"], 10, "all of both");
    let stages = answer["elenchus"]["stages"].as_array().unwrap();
    assert!(stages.iter().enumerate().all(|(index, stage)| stage["id"] == index), "{stages:?}");
    let roots: Vec<&str> = stages
        .iter()
        .filter(|stage| stage["kind"] == "stage")
        .map(|stage| stage["title"].as_str().unwrap())
        .collect();
    assert_eq!(roots, ["choice 1", "choice 2"]);
    let mut streamed = body.clone();
    streamed["stream"] = true.into();
    let text =
        gateway.post("/v1/chat/completions").json(&streamed).send().await.unwrap().text().await.unwrap();
    let (comments, data) = pieces(&text);
    // Both are told at the same time; each ends with its own reason, in order.
    let of = |piece: &Value, field: &str| piece["choices"][0][field].clone();
    let mut texts: Vec<String> = Vec::new();
    for index in 0..2 {
        let own: Vec<&Value> = data.iter().filter(|piece| of(piece, "index") == index).collect();
        let said = own.iter().filter_map(|piece| piece["choices"][0]["delta"]["content"].as_str());
        texts.push(said.collect());
        assert_eq!(of(own.last().unwrap(), "finish_reason"), "stop");
        assert_eq!(of(own[0], "delta")["role"], "assistant");
    }
    texts.sort_unstable();
    assert_eq!(texts, ["Answer: 4", "Answer: 5"]);
    let [.., before, last] = data.as_slice() else { panic!("{data:?}") };
    assert_eq!((of(before, "index"), of(last, "index")), (json!(0), json!(1)));
    assert!(last["elenchus"].is_object(), "the report comes last");
    let ids: Vec<u64> = comments.iter().filter_map(|comment| comment["stage"]["id"].as_u64()).collect();
    assert_eq!(ids, (0..ids.len() as u64).collect::<Vec<_>>(), "as in the trace");
    let mut tight = body;
    tight["elenchus"] = json!({"budget": {"calls": 1}});
    let (status, error) = gateway.ask(tight).await;
    assert_eq!((status, &error["error"]["code"]), (429, &json!("budget_exhausted")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn log_probabilities_are_those_of_the_chosen_sample() {
    let stub = Stub::start(|asked: &Asked| {
        let count = asked.body["n"].as_u64().unwrap_or(1) as usize;
        let texts: Vec<String> =
            (0..count).map(|index| format!("Answer: {}", if index == 0 { 5 } else { 4 })).collect();
        let mut answer = completion(&texts);
        for (index, choice) in answer["choices"].as_array_mut().unwrap().iter_mut().enumerate() {
            let token = |text: &str| {
                json!({"token": text, "logprob": -0.25 * (index + 1) as f64, "bytes": null,
                "top_logprobs": [{"token": text, "logprob": -0.25, "bytes": null}]})
            };
            choice["logprobs"] = json!({"content": [token("Answer: "), token("4")], "refusal": null});
        }
        Act::Json(200, answer)
    })
    .await;
    let gateway = Running::before(&[&stub]).await;
    let wanted =
        json!({"logprobs": true, "top_logprobs": 1, "elenchus": {"settings": {"early_stop": false}}});
    let (status, answer) = gateway.ask(with("elenchus/self-consistency@3/little", wanted)).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["elenchus"]["answer"], "4");
    let content = &answer["choices"][0]["logprobs"]["content"];
    assert_eq!(content.as_array().unwrap().len(), 2);
    assert_eq!(
        (&content[1]["token"], &content[1]["logprob"]),
        (&json!("4"), &json!(-0.5)),
        "of the second sample"
    );
    assert_eq!((&content[1]["bytes"], &content[1]["top_logprobs"][0]["token"]), (&json!([52]), &json!("4")));
    assert_eq!(stub.asked()[0].body["top_logprobs"], 1);
    let (_, unasked) = gateway.ask(question("elenchus/self-consistency@3/little", "2+2?")).await;
    assert_eq!(unasked["choices"][0]["logprobs"], Value::Null, "only who asks gets them");
}

#[tokio::test(flavor = "multi_thread")]
async fn recipes_compose_by_body_path_and_name() {
    let stub = Stub::start(|asked: &Asked| {
        let shown = asked.body["messages"].to_string();
        let count = asked.body["n"].as_u64().unwrap_or(1) as usize;
        let text = match shown {
            _ if shown.contains("Improve the proposed solution") => "2 + 2 = 4\nAnswer: 4",
            _ if shown.contains("Solve the problem below") => "2 + 2 = 5\nAnswer: 5",
            _ if shown.contains("2 + 2 = 5") => {
                "Step 1: wrong — the sum is 4\nFirst wrong step: 1\nAdvice: add again"
            }
            _ => "Step 1: correct — it is\nStep 2: correct — it is\nFirst wrong step: none\nAdvice: none",
        };
        Act::Json(200, completion(&vec![text.to_string(); count]))
    })
    .await;
    let gateway = Running::before(&[&stub]).await;
    let text = "self-consistency@2 then critique-and-refine";
    let parts = json!({"then": [{"recipe": "self-consistency", "samples": 2}, "critique-and-refine"]});
    for (path, body) in [
        ("/v1/chat/completions", with("little", json!({"elenchus": text}))),
        ("/v1/chat/completions", with("little", json!({"elenchus": {"recipe": parts}}))),
        ("/v1/chat/completions", with(&format!("elenchus/{text}/little"), json!({}))),
        ("/v1/self-consistency@2%20then+critique-and-refine/chat/completions", with("little", json!({}))),
    ] {
        let (status, answer) = gateway.send(path, body).await;
        assert_eq!(status, 200, "{path}: {answer}");
        assert_eq!(
            (&answer["elenchus"]["recipe"], &answer["elenchus"]["answer"]),
            (&json!(text), &json!("4")),
            "{answer}"
        );
        let stages = answer["elenchus"]["stages"].as_array().unwrap();
        let roots: Vec<&str> = stages
            .iter()
            .filter(|stage| stage["kind"] == "stage" && stage["parent"].is_null())
            .map(|stage| stage["title"].as_str().unwrap())
            .collect();
        assert_eq!(roots, ["self-consistency@2", "critique-and-refine"]);
        let id = answer["elenchus"]["trace_id"].as_str().unwrap();
        let (status, trace) = gateway.get(&format!("/v1/traces/{id}")).await;
        assert_eq!((status, &trace["recipe"]), (200, &json!(text)));
    }
    let settings = json!({"recipe": text, "settings": {"critique-and-refine": {"rounds": 0}}});
    let (status, error) = gateway.ask(with("little", json!({"elenchus": settings}))).await;
    assert_eq!(status, 400);
    assert!(error["error"]["message"].as_str().unwrap().contains("rounds"), "{error}");
    let (status, estimate) = gateway.send("/v1/estimate", with("little", json!({"elenchus": text}))).await;
    assert_eq!((status, &estimate["recipe"]), (200, &json!(text)), "{estimate}");
    // A recipe that the model cannot serve is replaced by the plain question.
    let (status, answer) =
        gateway.ask(with("little", json!({"elenchus": "self-certainty else plain"}))).await;
    assert_eq!(status, 200, "{answer}");
    let sent = stub.asked().last().unwrap().body["messages"].clone();
    assert_eq!(sent, json!([{"role": "user", "content": "Which city?"}]));
}
