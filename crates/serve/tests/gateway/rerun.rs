//! A recipe run again from an edited or rejected stage.

use crate::support::{Act, Asked, Running, Stub, completion, pieces, question};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Solves wrongly, finds an error, and repairs what the critique says.
async fn refiner() -> Stub {
    let drawn = AtomicUsize::new(0);
    Stub::start(move |asked: &Asked| {
        let shown = asked.body["messages"].to_string();
        let text = if shown.contains("Improve the proposed solution") {
            if shown.contains("the sum is 9") { "2 + 2 = 9\nAnswer: 9" } else { "2 + 2 = 4\nAnswer: 4" }
                .to_string()
        } else if shown.contains("Solve the problem below") {
            match drawn.fetch_add(1, Ordering::SeqCst) {
                0 => "2 + 2 = 5\nAnswer: 5".to_string(),
                other => format!("2 + 2 = {}\nAnswer: {}", 5 + other, 5 + other),
            }
        } else if shown.contains("= 4") {
            "Step 1: correct — it is\nStep 2: correct — it is\nFirst wrong step: none\nAdvice: none"
                .to_string()
        } else {
            "Step 1: wrong — the sum is 4\nFirst wrong step: 1\nAdvice: add again".to_string()
        };
        let count = asked.body["n"].as_u64().unwrap_or(1) as usize;
        Act::Json(200, completion(&vec![text; count]))
    })
    .await
}

fn prompts(stub: &Stub, from: usize) -> Vec<String> {
    stub.asked()[from..].iter().map(|asked| asked.body["messages"].to_string()).collect()
}

fn stage_with(trace: &Value, kind: &str, text: &str) -> u64 {
    let stages = trace["stages"].as_array().unwrap();
    let found = stages
        .iter()
        .find(|stage| stage["kind"] == kind && stage["text"].as_str().is_some_and(|t| t.contains(text)));
    found.unwrap_or_else(|| panic!("no {kind} with {text}: {stages:#?}"))["id"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_earlier_stages_are_replayed_and_the_rest_is_new() {
    let stub = refiner().await;
    let gateway = Running::before(&[&stub]).await;
    let (status, first) = gateway.ask(question("elenchus/critique-and-refine/little", "2+2?")).await;
    assert_eq!((status, &first["elenchus"]["answer"]), (200, &json!("4")), "{first}");
    let id = first["elenchus"]["trace_id"].as_str().unwrap().to_string();
    let (_, trace) = gateway.get(&format!("/v1/traces/{id}")).await;

    // The critique says something else: the solution is not written again, the refinement is.
    let critique = stage_with(&trace, "evaluated", "the sum is 4");
    let before = stub.asked().len();
    let edit = json!({"stage": critique, "text": "Step 1: wrong — the sum is 9\nFirst wrong step: 1\nAdvice: add again"});
    let (status, again) = gateway.send(&format!("/v1/traces/{id}/rerun"), edit.clone()).await;
    assert_eq!(status, 200, "{again}");
    let made = prompts(&stub, before);
    assert!(made.iter().all(|prompt| !prompt.contains("Solve the problem below")), "{made:?}");
    assert!(
        made[0].contains("Improve the proposed solution") && made[0].contains("the sum is 9"),
        "{}",
        made[0]
    );
    let parent = &again["elenchus"]["parent"];
    assert_eq!((&parent["trace_id"], &parent["stage"]), (&json!(id), &json!(critique)));
    assert_ne!(again["elenchus"]["trace_id"], first["elenchus"]["trace_id"]);
    let stages = again["elenchus"]["stages"].as_array().unwrap();
    assert_eq!(stages[0]["text"], "2 + 2 = 5\nAnswer: 5", "as it was");
    assert_eq!(stages[0]["completion_tokens"], 0, "and not paid for again");
    let calls = again["elenchus"]["budget"]["spent"]["calls"].as_u64().unwrap();
    assert_eq!(calls as usize, made.len());

    // The edit is feedback on the stage, once however often it is run.
    let (_, trace) = gateway.get(&format!("/v1/traces/{id}")).await;
    let said = trace["feedback"].as_array().unwrap();
    assert_eq!(
        (said.len(), &said[0]["id"], &said[0]["stage"]),
        (1, &parent["feedback_id"], &json!(critique))
    );
    assert_eq!((&said[0]["edit"]["part"], &said[0]["edit"]["text"]), (&json!("critique"), &edit["text"]));
    let child = again["elenchus"]["trace_id"].as_str().unwrap().to_string();
    let (_, stored) = gateway.get(&format!("/v1/traces/{child}")).await;
    assert_eq!(&stored["parent"], parent);

    // The new trace can be run again itself, streamed too; its first stages still come from the first run.
    let refined = stage_with(&stored, "generated", "= 9");
    let before = stub.asked().len();
    let edit = json!({"stage": refined, "text": "2 + 2 = 4\nAnswer: 4", "stream": true});
    let response = gateway.post(&format!("/v1/traces/{child}/rerun")).json(&edit).send().await.unwrap();
    let (comments, data) = pieces(&response.text().await.unwrap());
    assert!(comments.iter().any(|comment| comment["type"] == "stage"));
    let report = &data.last().unwrap()["elenchus"];
    assert_eq!((&report["answer"], &report["parent"]["trace_id"]), (&json!("4"), &json!(child)), "{report}");
    assert!(
        prompts(&stub, before)
            .iter()
            .all(|prompt| !prompt.contains("Improve the") && !prompt.contains("Solve the"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_stage_is_written_anew() {
    let stub = refiner().await;
    let gateway = Running::before(&[&stub]).await;
    let mut body = question("little", "2+2?");
    body["temperature"] = json!(0);
    // The recipe is in the path, which the stored request does not say.
    let (_, first) = gateway.send("/v1/self-consistency@2/chat/completions", body).await;
    let id = first["elenchus"]["trace_id"].as_str().unwrap().to_string();
    let before = stub.asked().len();
    let (status, again) = gateway.send(&format!("/v1/traces/{id}/rerun"), json!({"stage": 0})).await;
    assert_eq!(status, 200, "{again}");
    let asked = &stub.asked()[before];
    assert!(asked.body["temperature"].as_f64().unwrap() > 0.0, "a greedy model would say the same again");
    assert_ne!(asked.body["seed"], stub.asked()[0].body["seed"]);
    let stages = again["elenchus"]["stages"].as_array().unwrap();
    assert_ne!(stages[0]["text"], first["elenchus"]["stages"][0]["text"]);
    let (_, trace) = gateway.get(&format!("/v1/traces/{id}")).await;
    assert_eq!(trace["feedback"][0]["edit"], json!({"part": "answer"}), "a rejection");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_run_again_is_said() {
    let stub = refiner().await;
    let gateway = Running::before(&[&stub]).await;
    let (_, first) = gateway.ask(question("elenchus/critique-and-refine/little", "2+2?")).await;
    let id = first["elenchus"]["trace_id"].as_str().unwrap().to_string();
    let (_, trace) = gateway.get(&format!("/v1/traces/{id}")).await;
    let stages = trace["stages"].as_array().unwrap();
    let mut decisions = stages.iter().filter(|stage| stage["kind"] == "decided");
    let earlier = decisions.next().unwrap();
    assert!(earlier["fixed"].as_str().unwrap().contains("followed from it"), "{earlier}");
    let (earlier, decided) = (earlier["id"].clone(), decisions.next_back().unwrap()["id"].clone());
    let (status, _) = gateway.send("/v1/embeddings", json!({"model": "little", "input": "x"})).await;
    assert_eq!(status, 200);
    let traces = gateway.traces(2).await;
    let numbers = traces.iter().find(|trace| trace["recipe"] == "embeddings").unwrap()["id"].clone();
    let numbers = numbers.as_str().unwrap().to_string();
    let (_, shown) = gateway.get(&format!("/v1/traces/{numbers}")).await;
    assert!(shown["stages"][0]["fixed"].as_str().unwrap().contains("numbers"), "{shown}");
    for (id, body, status, param) in [
        (id.as_str(), json!({"stage": decided, "text": "x"}), 400, json!("stage")),
        (id.as_str(), json!({"stage": 999}), 404, json!("stage")),
        (id.as_str(), json!({"stages": 0}), 400, json!("stages")),
        (id.as_str(), json!({"stage": 0, "part": "step"}), 400, json!("part")),
        (id.as_str(), json!({"stage": decided}), 400, json!("stage")),
        (id.as_str(), json!({"stage": earlier, "choose": 0}), 400, json!("stage")),
        (id.as_str(), json!({"stage": decided, "choose": 999}), 400, json!("choose")),
        (id.as_str(), json!({"stage": 0, "choose": 1}), 400, json!("choose")),
        (id.as_str(), json!({"stage": 0, "question": "3+3?"}), 400, json!("question")),
        (id.as_str(), json!({"stage": 0, "question": "3+3?", "text": "x"}), 400, json!("text")),
        (numbers.as_str(), json!({"stage": 0, "text": "x"}), 400, json!("stage")),
        ("tr_nothing", json!({"stage": 0}), 404, json!("id")),
    ] {
        let (found, error) = gateway.send(&format!("/v1/traces/{id}/rerun"), body.clone()).await;
        assert_eq!((found, &error["error"]["param"]), (status, &param), "{body}: {error}");
    }
    let (_, trace) = gateway.get(&format!("/v1/traces/{id}")).await;
    assert_eq!(trace["feedback"], json!([]), "what is refused leaves nothing behind");
}

/// The words of an answer.
fn content(answer: &Value) -> &Value {
    &answer["choices"][0]["message"]["content"]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_passed_on_is_asked_again_as_it_was_or_otherwise() {
    let drawn = AtomicUsize::new(0);
    let stub = Stub::start(move |asked: &Asked| {
        let text = format!("answer {}", drawn.fetch_add(1, Ordering::SeqCst));
        match asked.body["stream"] == true {
            true => Act::Stream {
                events: crate::support::events(&text),
                pause: std::time::Duration::ZERO,
                broken: false,
            },
            false => Act::Json(200, completion(&[text])),
        }
    })
    .await;
    let gateway = Running::before(&[&stub]).await;
    let mut body = question("little", "2+2?");
    body["temperature"] = json!(0.3);
    body["messages"][0]["content"] = json!([{"type": "text", "text": "2+2?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]);
    assert_eq!(gateway.ask(body.clone()).await.0, 200);
    let id = gateway.traces(1).await[0]["id"].as_str().unwrap().to_string();
    let (_, trace) = gateway.get(&format!("/v1/traces/{id}")).await;
    assert_eq!(trace["stages"][0].get("fixed"), None, "it is offered");
    let path = format!("/v1/traces/{id}/rerun");

    let again = gateway.post(&path).json(&json!({"stage": 0})).send().await.unwrap();
    let child = again.headers()["x-elenchus-trace-id"].to_str().unwrap().to_string();
    let answer: Value = again.json().await.unwrap();
    assert_eq!(content(&answer), "answer 1");
    assert_eq!(stub.asked()[1].body, body, "the same request");
    let (_, stored) = gateway.get(&format!("/v1/traces/{child}")).await;
    assert_eq!(
        (&stored["parent"]["trace_id"], &stored["parent"]["stage"]),
        (&json!(id), &json!(0)),
        "{stored}"
    );
    let (_, trace) = gateway.get(&format!("/v1/traces/{id}")).await;
    assert_eq!(trace["feedback"][0]["edit"], json!({"part": "answer"}), "a rejection");

    // Another question, streamed, of the new trace; the image stays.
    let other = json!({"stage": 0, "question": "3+3?", "stream": true});
    let response = gateway.post(&format!("/v1/traces/{child}/rerun")).json(&other).send().await.unwrap();
    let grandchild = response.headers()["x-elenchus-trace-id"].to_str().unwrap().to_string();
    assert!(response.text().await.unwrap().contains("[DONE]"));
    let asked = &stub.asked()[2].body;
    assert_eq!(asked["messages"][0]["content"][0]["text"], "3+3?");
    assert_eq!(asked["messages"][0]["content"][1], body["messages"][0]["content"][1]);
    assert_eq!(asked.get("rerun"), None, "what only we understand is not sent");
    let (_, stored) = gateway.get(&format!("/v1/traces/{grandchild}")).await;
    assert_eq!(
        (&stored["question"], &stored["parent"]["trace_id"]),
        (&json!("3+3?"), &json!(child)),
        "{stored}"
    );
    let (_, parent) = gateway.get(&format!("/v1/traces/{child}")).await;
    assert!(parent["feedback"][0]["comment"].as_str().unwrap().contains("3+3?"), "{parent}");

    // Another answer: nobody is asked, and it is a row to learn from.
    let before = stub.asked().len();
    let (status, answer) = gateway.send(&path, json!({"stage": 0, "text": "four"})).await;
    assert_eq!((status, content(&answer)), (200, &json!("four")), "{answer}");
    assert_eq!((stub.asked().len(), &answer["usage"]["total_tokens"]), (before, &json!(0)));
    let child = answer["elenchus"]["trace_id"].as_str().unwrap();
    let (_, stored) = gateway.get(&format!("/v1/traces/{child}")).await;
    assert_eq!(
        (&stored["answer"], &stored["stages"][0]["text"]),
        (&json!("four"), &json!("four")),
        "{stored}"
    );
    let (_, rows) = gateway.get("/v1/export?format=preference").await;
    assert_eq!(rows["chosen"][0]["content"], "four", "{rows}");
    assert_eq!(rows["rejected"][0]["content"], "answer 0", "{rows}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_asked_once_more_and_completions_too() {
    let drawn = AtomicUsize::new(0);
    let stub = Stub::start(move |asked: &Asked| match drawn.fetch_add(1, Ordering::SeqCst) {
        0 => Act::Json(500, json!({"error": {"message": "out of memory"}})),
        _ if asked.path.ends_with("/chat/completions") => Act::Json(200, completion(&["four".into()])),
        _ => Act::Json(200, json!({"choices": [{"index": 0, "text": "more", "finish_reason": "stop"}]})),
    })
    .await;
    let gateway = Running::before(&[&stub]).await;
    assert_eq!(gateway.ask(question("little", "2+2?")).await.0, 500);
    let id = gateway.traces(1).await[0]["id"].as_str().unwrap().to_string();
    let (status, answer) = gateway.send(&format!("/v1/traces/{id}/rerun"), json!({"stage": 0})).await;
    assert_eq!((status, content(&answer)), (200, &json!("four")), "{answer}");
    let (_, trace) = gateway.get(&format!("/v1/traces/{id}")).await;
    assert_eq!(trace["feedback"], json!([]), "a failure was no answer to reject");
    gateway.send("/v1/completions", json!({"model": "little", "prompt": "Once"})).await;
    let traces = gateway.traces(3).await;
    let id = traces.iter().find(|trace| trace["recipe"] == "completions").unwrap()["id"].clone();
    let path = format!("/v1/traces/{}/rerun", id.as_str().unwrap());
    let (status, answer) = gateway.send(&path, json!({"stage": 0, "question": "Twice"})).await;
    assert_eq!((status, &answer["choices"][0]["text"]), (200, &json!("more")), "{answer}");
    let last = stub.asked().pop().unwrap();
    assert_eq!((last.path.as_str(), &last.body["prompt"]), ("/v1/completions", &json!("Twice")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_last_decision_takes_what_a_person_says() {
    let stub = Stub::answering(&["Answer: 4", "Answer: 5", "Answer: 4"]).await;
    let gateway = Running::before(&[&stub]).await;
    let mut body = question("elenchus/self-consistency@3/little", "2+2?");
    body["elenchus"] = json!({"settings": {"early_stop": false}});
    let (_, first) = gateway.ask(body).await;
    let stages = first["elenchus"]["stages"].as_array().unwrap();
    let decided = stages.iter().find(|stage| stage["kind"] == "decided").unwrap();
    assert_eq!(decided.get("fixed"), None, "it is offered: {decided}");
    let other = stages.iter().find(|stage| stage["text"] == "Answer: 5").unwrap();
    let (id, before) = (first["elenchus"]["trace_id"].as_str().unwrap(), stub.asked().len());
    let mut wanted = json!({"stage": decided["id"], "choose": other["id"]});
    let (status, again) = gateway.send(&format!("/v1/traces/{id}/rerun"), wanted.clone()).await;
    assert_eq!((status, content(&again)), (200, &json!("Answer: 5")), "{again}");
    assert_eq!((stub.asked().len(), &again["usage"]["total_tokens"]), (before, &json!(0)), "nobody is asked");
    let child = again["elenchus"]["trace_id"].as_str().unwrap();
    let (_, stored) = gateway.get(&format!("/v1/traces/{child}")).await;
    assert_eq!((&stored["parent"], &stored["answer"]), (&again["elenchus"]["parent"], &json!("Answer: 5")));
    let place = decided["id"].as_u64().unwrap() as usize;
    assert_eq!(stored["stages"][place]["of"], other["id"], "{stored}");
    let (_, rows) = gateway.get("/v1/export?format=preference").await;
    assert_eq!(rows["chosen"][0]["content"], "Answer: 5", "{rows}");
    assert_eq!(rows["rejected"][0]["content"], "Answer: 4", "{rows}");
    // Streamed, too, and the new trace can be run again itself.
    wanted["choose"] = decided["of"].clone();
    wanted["stream"] = json!(true);
    let response = gateway.post(&format!("/v1/traces/{child}/rerun")).json(&wanted).send().await.unwrap();
    let (comments, data) = pieces(&response.text().await.unwrap());
    assert_eq!(comments[0]["type"], "begin");
    assert_eq!(data.last().unwrap()["elenchus"]["parent"]["trace_id"], child, "{data:?}");
    let (status, edited) = gateway
        .send(&format!("/v1/traces/{child}/rerun"), json!({"stage": other["id"], "text": "Answer: 4"}))
        .await;
    assert_eq!(status, 200, "{edited}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_model_is_asked_again_too() {
    let gateway = Running::before(&[]).await;
    let (status, first) = gateway.ask(question("embedded", "g=50;e=g-1;e?")).await;
    assert_eq!(status, 200, "{first}");
    let id = first["elenchus"]["trace_id"].as_str().unwrap();
    let (status, again) = gateway
        .send(&format!("/v1/traces/{id}/rerun"), json!({"stage": 0, "question": "g=40;e=g-1;e?"}))
        .await;
    assert_eq!(status, 200, "{again}");
    assert_eq!(again["elenchus"]["parent"]["trace_id"], id, "{again}");
    let child = again["elenchus"]["trace_id"].as_str().unwrap();
    let (_, stored) = gateway.get(&format!("/v1/traces/{child}")).await;
    assert_eq!(stored["question"], "g=40;e=g-1;e?");
}
