//! Traces, feedback, training rows; and that nothing which was acknowledged is lost.

use crate::support::{Running, Stub, question};
use elenchus_remember::data::{
    JsonlOptions, PreferenceRow, PromptCompletionRow, TrainingRow, UnpairedPreferenceRow, read_rows,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

async fn asked(gateway: &Running, text: &str) -> String {
    let (status, answer) = gateway.ask(question("elenchus/self-consistency@3/little", text)).await;
    assert_eq!(status, 200, "{answer}");
    answer["elenchus"]["trace_id"].as_str().unwrap().to_string()
}

pub async fn rows<T: DeserializeOwned + TrainingRow>(
    gateway: &Running,
    format: &str,
    file: &str,
) -> Vec<Value> {
    let url = format!("{}/v1/export?format={format}&file={file}", gateway.url);
    let bytes = gateway.client.get(url).send().await.unwrap().bytes().await.unwrap();
    let path = gateway.folder.path().join(format!("rows.{file}"));
    std::fs::write(&path, &bytes).unwrap();
    // What we write, our own trainer reads.
    let read = read_rows::<T>(&path, &JsonlOptions { allow_empty: true, ..JsonlOptions::default() }).unwrap();
    elenchus_remember::data::check_rows(&read.rows).unwrap();
    read.rows.iter().map(|row| serde_json::to_value(row).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_say_is_stored_shown_counted_and_exported() {
    let stub = Stub::answering(&["Answer: 4", "Answer: 4", "Answer: 5"]).await;
    let gateway = Running::before(&[&stub]).await;
    let liked = asked(&gateway, "2+2?").await;
    let disliked = asked(&gateway, "2+3?").await;
    for body in [
        json!({"trace_id": liked, "reaction": "love"}),
        json!({"trace_id": liked, "metric": "helpful", "score": 0.75, "comment": "short"}),
        json!({"trace_id": liked, "stage": 0, "reaction": "up"}),
        json!({"trace_id": disliked, "reaction": "up"}),
        json!({"trace_id": disliked, "reaction": "down"}),
        json!({"trace_id": disliked, "correction": "Answer: 5, of course"}),
        json!({"trace_id": disliked, "stage": 1, "edit": {"part": "answer", "text": "Answer: 5!"}}),
        json!({"trace_id": disliked, "stage": 1, "edit": {"part": "step", "step": 0}}),
    ] {
        let (status, reply) = gateway.send("/v1/feedback", body.clone()).await;
        assert_eq!((status, &reply["stored"]), (200, &json!(true)), "{body}: {reply}");
    }
    let (_, trace) = gateway.get(&format!("/v1/traces/{disliked}")).await;
    assert_eq!(trace["feedback"].as_array().unwrap().len(), 5);
    assert_eq!(trace["feedback"][3]["edit"]["text"], "Answer: 5!");
    let (_, totals) = gateway.get("/v1/totals").await;
    let row = &totals["data"][0];
    assert_eq!(
        (&row["traces"], &row["love"], &row["up"], &row["down"], &row["corrections"]),
        (&json!(2), &json!(1), &json!(0), &json!(1), &json!(3)),
        "the last reaction of a person counts: {row}"
    );
    assert_eq!(row["good"], 0.5);
    let interval = row["good_interval"].as_array().unwrap();
    assert!(interval[0].as_f64().unwrap() < 0.1 && interval[1].as_f64().unwrap() > 0.9, "two are few");

    let sft = rows::<PromptCompletionRow>(&gateway, "sft", "jsonl").await;
    let texts: Vec<&str> = sft.iter().map(|row| row["completion"][0]["content"].as_str().unwrap()).collect();
    for wanted in ["Answer: 4", "Answer: 5, of course", "Answer: 5!"] {
        assert!(texts.contains(&wanted), "{wanted}: {texts:?}");
    }
    let corrected = sft.iter().find(|row| row["completion"][0]["content"] == "Answer: 5, of course").unwrap();
    assert_eq!(corrected["prompt"], json!([{"role": "user", "content": "2+3?"}]), "as the application asked");
    assert_eq!(corrected["trace_id"], disliked.as_str(), "where it comes from");
    let pairs = rows::<PreferenceRow>(&gateway, "preference", "jsonl").await;
    assert_eq!(pairs.len(), 2, "the correction and the edited answer: {pairs:?}");
    assert!(pairs.iter().any(|row| row["chosen"][0]["content"] == "Answer: 5!" && row["stage"] == 1));
    let marked = rows::<UnpairedPreferenceRow>(&gateway, "unpaired_preference", "parquet").await;
    let labels: Vec<bool> = marked.iter().map(|row| row["label"].as_bool().unwrap()).collect();
    assert_eq!(labels.iter().filter(|label| **label).count(), 2, "love, and the stage: {marked:?}");
    assert_eq!(labels.len(), 3);
    let (_, rewards) = gateway.get("/v1/export?format=reward").await;
    let rewards: Vec<Value> =
        rewards.as_str().unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(rewards.iter().any(|row| row["metric"] == "helpful" && row["reward"] == 0.75), "{rewards:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn liked_and_disliked_answers_to_one_prompt_make_a_pair() {
    let stub =
        Stub::answering(&["Answer: 4", "Answer: 4", "Answer: 4", "Answer: 5", "Answer: 5", "Answer: 5"])
            .await;
    let gateway = Running::before(&[&stub]).await;
    let mut body = question("elenchus/self-consistency@3/little", "2+2?");
    body["elenchus"] = json!({"settings": {"early_stop": false}});
    for reaction in ["up", "down"] {
        let id = gateway.ask(body.clone()).await.1["elenchus"]["trace_id"].clone();
        gateway.send("/v1/feedback", json!({"trace_id": id, "reaction": reaction})).await;
    }
    let pairs = rows::<PreferenceRow>(&gateway, "preference", "jsonl").await;
    assert_eq!(pairs.len(), 1, "{pairs:?}");
    assert_eq!(pairs[0]["chosen"][0]["content"], "Answer: 4");
    assert_eq!(pairs[0]["rejected"][0]["content"], "Answer: 5");
    assert_ne!(pairs[0]["trace_id"], pairs[0]["rejected_trace_id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_of_nothing_is_empty_or_not_there() {
    let stub = Stub::answering(&["Answer: 4"]).await;
    let gateway = Running::before(&[&stub]).await;
    for format in ["sft", "preference", "unpaired_preference", "reward"] {
        let (status, rows) = gateway.get(&format!("/v1/export?format={format}")).await;
        assert_eq!((status, rows.as_str()), (200, Some("")));
        let (status, error) = gateway.get(&format!("/v1/export?format={format}&file=parquet")).await;
        assert_eq!((status, &error["error"]["code"]), (404, &json!("not_found")), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn feedback_is_idempotent_and_wrong_feedback_is_refused() {
    let stub = Stub::answering(&["Answer: 4"]).await;
    let gateway = Running::before(&[&stub]).await;
    let id = asked(&gateway, "2+2?").await;
    let body = json!({"id": "mine", "trace_id": id, "reaction": "up"});
    let (_, first) = gateway.send("/v1/feedback", body.clone()).await;
    let (_, again) = gateway.send("/v1/feedback", body.clone()).await;
    assert_eq!((&first["stored"], &again["stored"]), (&json!(true), &json!(false)));
    let (status, error) =
        gateway.send("/v1/feedback", json!({"id": "mine", "trace_id": id, "reaction": "down"})).await;
    assert_eq!((status, &error["error"]["code"]), (409, &json!("feedback_conflict")));
    for (body, status) in [
        (json!({"trace_id": "tr_nothing", "reaction": "up"}), 404),
        (json!({"trace_id": id}), 400),
        (json!({"trace_id": id, "reaction": "meh"}), 400),
        (json!({"trace_id": id, "score": 1}), 400),
        (json!({"trace_id": id, "metric": "m"}), 400),
        (json!({"trace_id": id, "edit": {"part": "answer", "text": "x"}}), 400),
        (json!({"trace_id": id, "stage": 99, "reaction": "up"}), 404),
        (json!({"trace_id": id, "stage": 0, "edit": {"part": "step"}}), 400),
        (json!({"trace_id": id, "comment": " "}), 400),
        (json!({"trace_id": id, "comment": "x".repeat(300_000)}), 400),
        (json!({"trace_id": id, "reaction": "up", "colour": "red"}), 400),
        (json!([1]), 400),
    ] {
        let (found, error) = gateway.send("/v1/feedback", body.clone()).await;
        assert_eq!(found, status, "{body}: {error}");
    }
    let (_, trace) = gateway.get(&format!("/v1/traces/{id}")).await;
    assert_eq!(trace["feedback"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_are_filtered_and_paged() {
    let stub = Stub::answering(&["Answer: 4"]).await;
    let gateway = Running::before(&[&stub]).await;
    for index in 0..5 {
        asked(&gateway, &format!("vote {index} 100%_sure")).await;
    }
    gateway.ask(question("little", "plain")).await;
    let count = async |query: &str| {
        let (status, list) = gateway.get(&format!("/v1/traces?{query}")).await;
        assert_eq!(status, 200, "{query}: {list}");
        list["data"].as_array().unwrap().len()
    };
    assert_eq!(count("").await, 6);
    assert_eq!(count("recipe=plain").await, 1);
    assert_eq!(count("text=VOTE%203").await, 1);
    assert_eq!(count("text=%25_").await, 5, "no pattern: these signs stand for themselves");
    assert_eq!(count("text=%27%20OR%201%3D1%20--").await, 0, "no injection");
    assert_eq!(count("reaction=none").await, 6);
    assert_eq!(count("reaction=any").await, 0);
    assert_eq!(count("status=failed").await, 0);
    let (_, first) = gateway.get("/v1/traces?limit=4").await;
    let next = first["next"].as_str().unwrap();
    let (_, rest) = gateway.get(&format!("/v1/traces?limit=4&before={next}")).await;
    assert_eq!(rest["data"].as_array().unwrap().len(), 2);
    assert!(rest.get("next").is_none());
    assert_eq!(count("recipe=&model=&key=&text=").await, 6, "empty fields of a form");
    for wrong in [
        "limit=",
        "status=",
        "reaction=",
        "before=",
        "limit=0",
        "limit=x",
        "status=odd",
        "reaction=odd",
        "before=x",
        "colour=red",
    ] {
        assert_eq!(gateway.get(&format!("/v1/traces?{wrong}")).await.0, 400, "{wrong}");
    }
    assert_eq!(gateway.get("/v1/traces/tr_nothing").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_and_feedback_are_there_after_a_restart() {
    let stub = Stub::answering(&["Answer: 4"]).await;
    let mut gateway = Running::before(&[&stub]).await;
    let id = asked(&gateway, "2+2?").await;
    gateway.send("/v1/feedback", json!({"trace_id": id, "reaction": "love"})).await;
    gateway.stop().await;
    let folder = std::mem::replace(&mut gateway.folder, tempfile::tempdir().unwrap());
    let again = Running::over(folder, &[&stub], Default::default(), |_| {}).await;
    let (status, trace) = again.get(&format!("/v1/traces/{id}")).await;
    assert_eq!((status, &trace["feedback"][0]["reaction"]), (200, &json!("love")));
}
