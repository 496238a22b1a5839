//! Training rows from what was said: of failures none, of critiques with the critic's prompt, of calls with the calls.

use crate::feedback::rows;
use crate::support::{Act, Running, Stub, completion, events, question, until};
use elenchus_remember::data::{PreferenceRow, PromptCompletionRow, UnpairedPreferenceRow};
use serde_json::{Value, json};
use std::time::Duration;

async fn say(gateway: &Running, body: Value) {
    let (status, reply) = gateway.send("/v1/feedback", body.clone()).await;
    assert_eq!((status, &reply["stored"]), (200, &json!(true)), "{body}: {reply}");
}

async fn count(gateway: &Running, format: &str) -> usize {
    let (_, text) = gateway.get(&format!("/v1/export?format={format}")).await;
    text.as_str().map_or(1, |text| text.lines().count())
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_and_what_broke_off_are_no_answers() {
    let stub = Stub::start(|asked| match asked.text.contains("slowly") {
        true => Act::Stream { events: events("one two"), pause: Duration::from_millis(300), broken: false },
        false => Act::Json(500, json!({"error": {"message": "out of memory"}})),
    })
    .await;
    let gateway = Running::before(&[&stub]).await;
    let mut body = question("little", "slowly");
    body["stream"] = true.into();
    let mut response = gateway.post("/v1/chat/completions").json(&body).send().await.unwrap();
    assert!(response.chunk().await.unwrap().is_some());
    drop(response);
    until("it notices", || stub.gone() > 0).await;
    assert_eq!(gateway.ask(question("little", "2+2?")).await.0, 500);
    // A recipe asks again until the upstream is left alone for a while.
    assert_eq!(gateway.ask(question("elenchus/single/little", "2+2?")).await.0, 503);
    let traces = gateway.traces(3).await;
    let mut statuses: Vec<&str> = traces.iter().map(|trace| trace["status"].as_str().unwrap()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, ["cancelled", "failed", "failed"]);
    for trace in &traces {
        say(&gateway, json!({"trace_id": trace["id"], "reaction": "up"})).await;
        say(&gateway, json!({"trace_id": trace["id"], "metric": "helpful", "score": 1})).await;
    }
    for format in ["sft", "preference", "unpaired_preference", "reward"] {
        assert_eq!(count(&gateway, format).await, 0, "{format}");
    }
    // What the answer should have been is worth as much as ever; there is nothing to prefer it to.
    say(&gateway, json!({"trace_id": traces[0]["id"], "correction": "Answer: 4"})).await;
    let sft = rows::<PromptCompletionRow>(&gateway, "sft", "jsonl").await;
    assert_eq!(sft[0]["completion"], json!([{"role": "assistant", "content": "Answer: 4"}]));
    assert_eq!((sft.len(), count(&gateway, "preference").await), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_of_a_critique_becomes_rows_with_the_critics_prompt() {
    let critique = "Step 1: wrong — the sum is 4\nFirst wrong step: 1\nAdvice: add again";
    let stub = Stub::start(move |asked| {
        let shown = asked.body["messages"].to_string();
        let text = match shown.contains("Solve the problem below") || shown.contains("Improve the proposed") {
            true => "2 + 2 = 5\nAnswer: 5",
            false => critique,
        };
        Act::Json(200, completion(&[text.into()]))
    })
    .await;
    let gateway = Running::before(&[&stub]).await;
    let mut body = question("elenchus/critique-and-refine/little", "2+2?");
    body["elenchus"] = json!({"settings": {"rounds": 1}});
    let (status, answer) = gateway.ask(body).await;
    assert_eq!(status, 200, "{answer}");
    let id = answer["elenchus"]["trace_id"].clone();
    let stages = answer["elenchus"]["stages"].as_array().unwrap();
    let stage = &stages.iter().find(|stage| stage["kind"] == "evaluated").unwrap()["id"];
    let edit =
        json!({"part": "critique", "text": "Step 1: wrong — it is 4\nFirst wrong step: 1\nAdvice: none"});
    say(&gateway, json!({"trace_id": id, "stage": stage, "edit": edit})).await;
    say(&gateway, json!({"trace_id": id, "stage": stage, "reaction": "up"})).await;
    let pairs = rows::<PreferenceRow>(&gateway, "preference", "jsonl").await;
    assert_eq!(pairs.len(), 1, "{pairs:?}");
    assert_eq!(
        (&pairs[0]["chosen"][0]["content"], &pairs[0]["rejected"][0]["content"]),
        (&edit["text"], &json!(critique))
    );
    let asked = stub.asked();
    let asked = asked.iter().find(|asked| !asked.text.contains("Solve the problem below")).unwrap();
    assert_eq!(pairs[0]["prompt"], asked.body["messages"], "what the critic was told");
    let marked = rows::<UnpairedPreferenceRow>(&gateway, "unpaired_preference", "jsonl").await;
    assert_eq!(
        (&marked[0]["completion"][0]["content"], &marked[0]["label"]),
        (&json!(critique), &json!(true))
    );
    assert_eq!(count(&gateway, "sft").await, 2, "the edit, and what was liked");
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_of_answers_and_steps_become_rows_and_those_of_evidence_only_where_they_are_wanted() {
    let stub = Stub::answering(&["first\nsecond\nAnswer: 4"]).await;
    let gateway = Running::before(&[&stub]).await;
    assert_eq!(gateway.ask(question("little", "2+2?")).await.0, 200);
    let plain = gateway.traces(1).await[0]["id"].clone();
    say(&gateway, json!({"trace_id": plain, "stage": 0, "edit": {"part": "answer", "text": "Four."}})).await;
    say(
        &gateway,
        json!({"trace_id": plain, "stage": 0, "edit": {"part": "evidence", "text": "2 and 2 are 4."}}),
    )
    .await;
    say(&gateway, json!({"trace_id": plain, "stage": 0, "edit": {"part": "step", "step": 1, "text": "2nd"}}))
        .await;
    let pairs = rows::<PreferenceRow>(&gateway, "preference", "jsonl").await;
    let chosen: Vec<&Value> = pairs.iter().map(|row| &row["chosen"][0]["content"]).collect();
    assert_eq!(chosen, ["Four.", "first\n2nd"], "a piece of evidence is no answer to the question");
    assert_eq!(
        (&pairs[0]["part"], &pairs[1]["part"], &pairs[1]["step"]),
        (&json!("answer"), &json!("step"), &json!(1))
    );
    let wanted = rows::<PreferenceRow>(&gateway, "preference&parts=evidence", "jsonl").await;
    let evidence: Vec<&Value> = wanted.iter().map(|row| &row["chosen"][0]["content"]).collect();
    assert_eq!((evidence, &wanted[0]["part"]), (vec![&json!("2 and 2 are 4.")], &json!("evidence")));
    for (filter, count) in [("recipe=plain", 2), ("recipe=gsa", 0), ("model=little", 2), ("key=nobody", 0)] {
        let found = rows::<PreferenceRow>(&gateway, &format!("preference&{filter}"), "jsonl").await;
        assert_eq!(found.len(), count, "{filter}");
    }
    for path in ["/v1/export?format=sft&limit=1", "/v1/export?parts=answers", "/v1/totals?recipe=gsa"] {
        let (status, error) = gateway.get(path).await;
        assert!(
            status == 400 && error["error"]["message"].as_str().unwrap().contains("hint: "),
            "{path}: {error}"
        );
    }
    let step = &pairs[1];
    assert_eq!(step["rejected"][0]["content"], "first\nsecond", "both end with the step");
    assert_eq!(step["prompt"], json!([{"role": "user", "content": "2+2?"}]));
    let far = json!({"trace_id": plain, "stage": 0, "edit": {"part": "step", "step": 99, "text": "x"}});
    let (status, error) = gateway.send("/v1/feedback", far).await;
    assert!(status == 400 && error["error"]["message"].as_str().unwrap().contains("3 steps"), "{error}");
    // A stage that is rejected without a reaction is bad all the same.
    say(&gateway, json!({"trace_id": plain, "stage": 0, "edit": {"part": "answer"}})).await;
    let marked = rows::<UnpairedPreferenceRow>(&gateway, "unpaired_preference", "jsonl").await;
    assert_eq!((marked.len(), &marked[0]["label"]), (1, &json!(false)), "{marked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_calls_of_tools_come_out_as_calls() {
    let call = json!({"id": "call_1", "type": "function",
        "function": {"name": "weather", "arguments": "{\"city\":\"Rome\"}"}});
    let said = json!({"role": "assistant", "content": null, "tool_calls": [call]});
    let stub = Stub::start(move |_| {
        let mut answer = completion(&[String::new()]);
        answer["choices"][0]["message"] = said.clone();
        answer["choices"][0]["finish_reason"] = "tool_calls".into();
        Act::Json(200, answer)
    })
    .await;
    let gateway = Running::before(&[&stub]).await;
    for model in ["little", "elenchus/self-consistency@1/little"] {
        let mut body = question(model, "Which city?");
        body["tools"] = json!([{"type": "function", "function": {"name": "weather"}}]);
        assert_eq!(gateway.ask(body).await.0, 200);
    }
    for trace in gateway.traces(2).await {
        say(&gateway, json!({"trace_id": trace["id"], "reaction": "love"})).await;
        say(&gateway, json!({"trace_id": trace["id"], "stage": 0, "reaction": "up"})).await;
    }
    let sft = rows::<PromptCompletionRow>(&gateway, "sft", "jsonl").await;
    assert_eq!(sft.len(), 4, "{sft:?}");
    for row in sft {
        assert_eq!(row["completion"][0]["tool_calls"], json!([call]), "{row}");
        assert_eq!(row["completion"][0]["content"].as_str().unwrap_or_default(), "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_that_do_not_fit_their_stage_are_refused() {
    let stub = Stub::answering(&["Answer: 4", "Judgment: incorrect."]).await;
    let gateway = Running::before(&[&stub]).await;
    let mut body = question("elenchus/best-of-n@2/little", "2+2?");
    body["elenchus"] = json!({"settings": {"evaluator": "judgment"}});
    let (status, answer) = gateway.ask(body).await;
    assert_eq!(status, 200, "{answer}");
    let id = gateway.traces(1).await[0]["id"].clone();
    let (_, trace) = gateway.get(&format!("/v1/traces/{}", id.as_str().unwrap())).await;
    let stages = trace["stages"].as_array().unwrap();
    let of = |kind: &str| stages.iter().find(|stage| stage["kind"] == kind).map(|stage| stage["id"].clone());
    let evaluated = of("evaluated").unwrap();
    let edit = |stage: &Value, part: &str| json!({"trace_id": id, "stage": stage, "edit": {"part": part, "text": "x"}});
    let (status, error) = gateway.send("/v1/feedback", edit(&evaluated, "answer")).await;
    assert!(status == 400 && error["error"]["message"].as_str().unwrap().contains("`critique`"), "{error}");
    assert_eq!(gateway.send("/v1/feedback", edit(&evaluated, "critique")).await.0, 200);
    // As an answer each would teach the model something else.
    for (kind, part) in
        [("generated", "critique"), ("decided", "critique"), ("decided", "evidence"), ("stage", "answer")]
    {
        let Some(stage) = of(kind) else { continue };
        let (status, error) = gateway.send("/v1/feedback", edit(&stage, part)).await;
        assert!(
            status == 400 && error["error"]["message"].as_str().unwrap().contains("hint: "),
            "{part} of {kind}: {error}"
        );
    }
    for kind in ["generated", "decided"] {
        assert_eq!(gateway.send("/v1/feedback", edit(&of(kind).unwrap(), "answer")).await.0, 200, "{kind}");
    }
}
