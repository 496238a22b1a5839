//! `/v1/responses`: text, functions, earlier responses, streams.

use crate::support::{Act, Asked, Running, Stub, completion};
use serde_json::{Value, json};
use std::time::Duration;

/// Type and content of every event of a stream, with the number that each must have.
pub fn events(text: &str) -> Vec<Value> {
    let events: Vec<Value> = text
        .split("\n\n")
        .filter(|event| event.starts_with("event: "))
        .map(|event| {
            let (kind, data) = event.split_once("\ndata: ").expect("an event has data");
            let data: Value = serde_json::from_str(data).expect("the data is JSON");
            assert_eq!(kind.trim_start_matches("event: "), data["type"], "the name stands twice");
            data
        })
        .collect();
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number);
    }
    events
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap().trim_start_matches("response.")).collect()
}

/// A model that calls a function once and reads its result then.
pub async fn forecaster() -> Stub {
    Stub::start(|asked: &Asked| {
        let messages = asked.body["messages"].as_array().unwrap();
        if messages.iter().any(|message| message["role"] == "tool") {
            return Act::Json(200, completion(&["Sunny.".into()]));
        }
        let function = json!({"name": "weather", "arguments": "{\"city\":\"Rome\"}"});
        if asked.body["stream"] == true {
            let chunk = |delta: Value, finish: Value| {
                format!(
                    "data: {}\n\n",
                    json!({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
                )
            };
            let begun = json!({"tool_calls": [{"index": 0, "id": "call_1", "type": "function",
                "function": {"name": "weather", "arguments": ""}}]});
            let more = |text: &str| json!({"tool_calls": [{"index": 0, "function": {"arguments": text}}]});
            let events = vec![
                chunk(json!({"role": "assistant", "content": null}), Value::Null),
                chunk(begun, Value::Null),
                chunk(more("{\"city\":"), Value::Null),
                chunk(more("\"Rome\"}"), Value::Null),
                chunk(json!({}), json!("tool_calls")),
                "data: [DONE]\n\n".into(),
            ];
            return Act::Stream { events, pause: Duration::ZERO, broken: false };
        }
        let mut answer = completion(&[String::new()]);
        answer["choices"][0]["message"]["content"] = Value::Null;
        answer["choices"][0]["message"]["tool_calls"] =
            json!([{"id": "call_1", "type": "function", "function": function}]);
        answer["choices"][0]["finish_reason"] = "tool_calls".into();
        Act::Json(200, answer)
    })
    .await
}

pub fn weather_tool() -> Value {
    json!({"type": "function", "name": "weather", "parameters": {"type": "object",
        "properties": {"city": {"type": "string"}}}, "strict": true})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_is_answered_plain_and_by_a_recipe() {
    let stub = Stub::answering(&["Answer: 4"]).await;
    let gateway = Running::before(&[&stub]).await;
    for (path, model, recipe) in [
        ("/v1/responses", "little", None),
        ("/v1/responses", "elenchus/self-consistency@3/little", Some("self-consistency")),
        ("/v1/gsa/responses", "little", Some("gsa")),
    ] {
        let before = stub.asked().len();
        let body = json!({"model": model, "input": "2+2?", "instructions": "Be brief.", "temperature": 0.5});
        let (status, response) = gateway.send(path, body).await;
        assert_eq!(status, 200, "{response}");
        assert_eq!((&response["object"], &response["status"]), (&json!("response"), &json!("completed")));
        let item = &response["output"][0];
        assert_eq!((&item["type"], &item["content"][0]["text"]), (&json!("message"), &json!("Answer: 4")));
        assert!(response["usage"]["output_tokens"].as_u64().unwrap() >= 5, "{response}");
        assert_eq!((&response["temperature"], &response["instructions"]), (&json!(0.5), &json!("Be brief.")));
        assert_eq!(response["elenchus"]["recipe"].as_str(), recipe);
        let sent = stub.asked()[before].body.clone();
        assert_eq!(sent["messages"][0], json!({"role": "system", "content": "Be brief."}));
        assert_eq!(sent["temperature"], 0.5);
        // What it was is kept with the trace, under the same number.
        let id = response["id"].as_str().unwrap().strip_prefix("resp_").unwrap().to_string();
        let (status, trace) = gateway.get(&format!("/v1/traces/{id}")).await;
        assert_eq!((status, &trace["question"]), (200, &json!("2+2?")));
        assert_eq!(trace["request"]["responses"]["input"], "2+2?");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_has_the_events_of_a_response_and_our_stages_beside_them() {
    let stub = Stub::answering(&["The answer is 4"]).await;
    let gateway = Running::before(&[&stub]).await;
    let ask = async |model: &str| {
        let body = json!({"model": model, "input": "2+2?", "stream": true});
        let response = gateway.post("/v1/responses").json(&body).send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
        response.text().await.unwrap()
    };
    let text = ask("little").await;
    let plain = events(&text);
    assert_eq!(
        kinds(&plain),
        [
            "created",
            "in_progress",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.delta",
            "output_text.delta",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "completed",
        ]
    );
    let deltas: String = plain.iter().filter_map(|event| event["delta"].as_str()).collect();
    assert_eq!(deltas, "The answer is 4");
    let last = &plain[plain.len() - 1]["response"];
    assert_eq!(last["output"][0]["content"][0]["text"], "The answer is 4");
    assert_eq!(stub.asked()[0].body["stream_options"]["include_usage"], true);
    let text = ask("elenchus/self-consistency@3/little").await;
    assert!(text.contains(": elenchus {\"type\":\"stage\""), "{text}");
    let recipe = events(&text);
    let last = &recipe[recipe.len() - 1];
    assert_eq!(last["type"], "response.completed");
    assert_eq!(last["response"]["elenchus"]["recipe"], "self-consistency");
    assert!(last["response"]["usage"]["total_tokens"].as_u64().unwrap() > 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_are_called_and_their_results_are_read() {
    let stub = forecaster().await;
    let gateway = Running::before(&[&stub]).await;
    for stream in [false, true] {
        let body = json!({"model": "little", "input": "Weather in Rome?", "tools": [weather_tool()], "stream": stream});
        let response = gateway.post("/v1/responses").json(&body).send().await.unwrap();
        let response = match stream {
            false => response.json::<Value>().await.unwrap(),
            true => {
                let events = events(&response.text().await.unwrap());
                assert_eq!(
                    kinds(&events)[2..],
                    [
                        "output_item.added",
                        "function_call_arguments.delta",
                        "function_call_arguments.delta",
                        "function_call_arguments.done",
                        "output_item.done",
                        "completed",
                    ]
                );
                events.last().unwrap()["response"].clone()
            }
        };
        let call = &response["output"][0];
        assert_eq!((&call["type"], &call["name"]), (&json!("function_call"), &json!("weather")));
        assert_eq!((&call["arguments"], &call["call_id"]), (&json!("{\"city\":\"Rome\"}"), &json!("call_1")));
        assert_eq!(response["output"].as_array().unwrap().len(), 1, "no empty message beside the call");
        // The result goes on with the stored conversation.
        let body = json!({
            "model": "little", "previous_response_id": response["id"], "tools": [weather_tool()],
            "input": [{"type": "function_call_output", "call_id": "call_1", "output": "sun"}],
        });
        let (status, next) = gateway.send("/v1/responses", body).await;
        assert_eq!(status, 200, "{next}");
        assert_eq!(next["output"][0]["content"][0]["text"], "Sunny.");
        let sent = stub.asked().last().unwrap().body["messages"].clone();
        let roles: Vec<&str> =
            sent.as_array().unwrap().iter().map(|message| message["role"].as_str().unwrap()).collect();
        assert_eq!(roles, ["user", "assistant", "tool"]);
        let call = &sent[1]["tool_calls"][0];
        assert_eq!(
            (&call["id"], &call["function"]["arguments"]),
            (&json!("call_1"), &json!("{\"city\":\"Rome\"}"))
        );
    }
    let sent = stub.asked()[0].body["tools"][0].clone();
    assert_eq!((&sent["type"], &sent["function"]["name"]), (&json!("function"), &json!("weather")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_response_is_gone_on_with_and_its_instructions_are_not() {
    let stub = Stub::answering(&["Answer: 4"]).await;
    let gateway = Running::before(&[&stub]).await;
    let mut previous = Value::Null;
    for (turn, model) in ["little", "elenchus/self-consistency@3/little", "little"].into_iter().enumerate() {
        let body = json!({"model": model, "input": format!("question {turn}"), "instructions": format!("rule {turn}"),
            "previous_response_id": previous});
        let (status, response) = gateway.send("/v1/responses", body).await;
        assert_eq!(status, 200, "{response}");
        assert_eq!(response["previous_response_id"], previous);
        previous = response["id"].clone();
    }
    let said: Vec<String> = stub.asked().last().unwrap().body["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["content"].as_str().unwrap().to_string())
        .collect();
    assert_eq!(said, ["rule 2", "question 0", "Answer: 4", "question 1", "Answer: 4", "question 2"]);
    let unstored = json!({"model": "little", "input": "x", "store": false});
    let (_, unstored) = gateway.send("/v1/responses", unstored).await;
    for id in ["resp_tr_nothing", "chatcmpl-1", unstored["id"].as_str().unwrap()] {
        let body = json!({"model": "little", "input": "x", "previous_response_id": id});
        let (status, error) = gateway.send("/v1/responses", body).await;
        assert_eq!(
            (status, &error["error"]["param"]),
            (400, &json!("previous_response_id")),
            "{id}: {error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_response_is_read_again_and_deleted() {
    let (caller, talker) = (forecaster().await, Stub::answering(&["Answer: 4"]).await);
    let (caller, talker) = (Running::before(&[&caller]).await, Running::before(&[&talker]).await);
    for (gateway, tools, recipe) in [(&caller, true, "little"), (&talker, false, "elenchus/single/little")] {
        let mut body = json!({"model": recipe, "input": "Weather?", "instructions": "Be brief."});
        if tools {
            body["tools"] = json!([weather_tool()]);
        }
        let (status, mut response) = gateway.send("/v1/responses", body).await;
        assert_eq!(status, 200, "{response}");
        let path = format!("/v1/responses/{}", response["id"].as_str().unwrap());
        let (status, mut again) = gateway.get(&path).await;
        assert_eq!(status, 200, "{again}");
        for one in [&mut response, &mut again] {
            let fields = one.as_object_mut().unwrap();
            // The report of a recipe is in its trace; when it ended is told to the second.
            fields.remove("elenchus");
            assert!(fields.remove("completed_at").unwrap().as_u64() > Some(1_000_000_000));
            if tools {
                // An upstream names its model; a trace keeps the one that was asked for.
                fields.remove("model");
            }
        }
        assert_eq!(again, response);
        let deleted = gateway.client.delete(format!("{}{path}", gateway.url)).send().await.unwrap();
        assert_eq!(deleted.status(), 200);
        let deleted: Value = deleted.json().await.unwrap();
        assert_eq!(deleted, json!({"id": response["id"], "object": "response", "deleted": true}));
        assert_eq!(gateway.get(&path).await.0, 404);
        let twice = gateway.client.delete(format!("{}{path}", gateway.url)).send().await.unwrap();
        assert_eq!(twice.status(), 404);
        let body = json!({"model": "little", "input": "x", "previous_response_id": response["id"]});
        assert_eq!(gateway.send("/v1/responses", body).await.0, 400, "it cannot be gone on with");
        let trace = response["id"].as_str().unwrap().trim_start_matches("resp_").to_string();
        assert_eq!(gateway.get(&format!("/v1/traces/{trace}")).await.0, 200, "the trace is kept");
    }
    // An answer that came another way is no response.
    let (_, answer) = talker.ask(crate::support::question("elenchus/single/little", "x")).await;
    let path = format!("/v1/responses/resp_{}", answer["elenchus"]["trace_id"].as_str().unwrap());
    for path in [path.as_str(), "/v1/responses/resp_nothing", "/v1/responses/x"] {
        assert_eq!(talker.get(path).await.0, 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_is_told_before_and_in_the_middle() {
    let stub = Stub::start(|asked: &Asked| match asked.body["messages"][0]["content"].as_str() {
        Some("break") => Act::Stream {
            events: vec!["data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Half\"}}]}\n\n".into()],
            pause: Duration::ZERO,
            broken: true,
        },
        Some("cut") => {
            let mut answer = completion(&["Half an".into()]);
            answer["choices"][0]["finish_reason"] = "length".into();
            Act::Json(200, answer)
        }
        _ => Act::Json(
            429,
            json!({"error": {"message": "slow down", "type": "rate_limit_error", "code": null}}),
        ),
    })
    .await;
    let gateway = Running::before(&[&stub]).await;
    let body = json!({"model": "little", "input": "break", "stream": true});
    let text = gateway.post("/v1/responses").json(&body).send().await.unwrap().text().await.unwrap();
    let events = events(&text);
    let last = events.last().unwrap();
    assert_eq!((&last["type"], &last["response"]["status"]), (&json!("response.failed"), &json!("failed")));
    assert_eq!(last["response"]["error"]["code"], "server_error");
    assert_eq!(last["response"]["output"][0]["content"][0]["text"], "Half", "what came is not lost");
    let (status, cut) = gateway.send("/v1/responses", json!({"model": "little", "input": "cut"})).await;
    assert_eq!((status, &cut["status"]), (200, &json!("incomplete")));
    assert_eq!(cut["incomplete_details"]["reason"], "max_output_tokens");
    let (status, error) = gateway.send("/v1/responses", json!({"model": "little", "input": "x"})).await;
    assert_eq!((status, &error["error"]["message"]), (429, &json!("slow down")), "the upstream's own words");
    let (status, error) =
        gateway.send("/v1/responses", json!({"model": "little", "input": "x", "background": true})).await;
    assert_eq!((status, &error["error"]["param"]), (400, &json!("background")));
}
