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
    let decided =
        trace["stages"].as_array().unwrap().iter().find(|stage| stage["kind"] == "decided").unwrap()["id"]
            .clone();
    let plain = gateway.ask(question("little", "2+2?")).await;
    assert_eq!(plain.0, 200);
    let plain =
        gateway.traces(2).await.iter().find(|trace| trace["recipe"] == "plain").unwrap()["id"].clone();
    let plain = plain.as_str().unwrap().to_string();
    for (id, body, status, param) in [
        (id.as_str(), json!({"stage": decided, "text": "x"}), 400, json!("stage")),
        (id.as_str(), json!({"stage": 999}), 404, json!("stage")),
        (id.as_str(), json!({"stages": 0}), 400, Value::Null),
        (id.as_str(), json!({"stage": 0, "part": "step"}), 400, json!("part")),
        (plain.as_str(), json!({"stage": 0, "text": "x"}), 400, Value::Null),
        ("tr_nothing", json!({"stage": 0}), 404, json!("id")),
    ] {
        let (found, error) = gateway.send(&format!("/v1/traces/{id}/rerun"), body.clone()).await;
        assert_eq!((found, &error["error"]["param"]), (status, &param), "{body}: {error}");
    }
    let (_, trace) = gateway.get(&format!("/v1/traces/{id}")).await;
    assert_eq!(trace["feedback"], json!([]), "what is refused leaves nothing behind");
}
