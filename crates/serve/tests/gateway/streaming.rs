//! The tokens of a final answer go out while the upstream writes them.

use crate::support::{Act, Running, Stub, completion, events, pieces, question};
use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// A stream that is being read.
struct Reading {
    chunks: BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    text: String,
}

impl Reading {
    async fn begin(gateway: &Running, path: &str, mut body: Value) -> Reading {
        body["stream"] = true.into();
        let response = gateway.post(path).json(&body).send().await.unwrap();
        assert_eq!(response.status(), 200);
        Reading { chunks: response.bytes_stream().boxed(), text: String::new() }
    }

    /// Reads on until this was seen; waits for it without end where it does not come.
    async fn until(&mut self, wanted: &str) {
        while !self.text.contains(wanted) {
            let chunk = tokio::time::timeout(Duration::from_secs(20), self.chunks.next()).await;
            let chunk = chunk.unwrap_or_else(|_| panic!("no `{wanted}` in {}", self.text));
            let chunk = chunk.unwrap_or_else(|| panic!("it ended without `{wanted}`: {}", self.text));
            self.text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
        }
    }

    /// The data of the whole stream.
    async fn end(mut self) -> Vec<Value> {
        while let Some(chunk) = self.chunks.next().await {
            self.text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
        }
        pieces(&self.text).1
    }
}

/// Words in which no task finds an answer.
const SILENT: &str = "I cannot tell.\nIt depends on many things, and nobody has said which of them hold here.\nWho wants to \
    know has to look more closely, and may then see that the question was not the right one.\nSo much for this.";

/// What the pieces of a choice say.
fn said(data: &[Value], choice: usize) -> String {
    let choices = data.iter().flat_map(|piece| piece["choices"].as_array().into_iter().flatten());
    let own = choices.filter(|found| found["index"] == choice);
    own.filter_map(|found| found["delta"]["content"].as_str()).collect()
}

/// An upstream that answers what is streamed word by word, the words after the first one when the gate is opened, and
/// what is not streamed at once.
async fn gated(whole: &[&str], streamed: &str, gate: &Arc<Semaphore>) -> Stub {
    let whole: Vec<String> = whole.iter().map(|text| text.to_string()).collect();
    let (streamed, gate) = (streamed.to_string(), Arc::clone(gate));
    Stub::start(move |asked| {
        if asked.body["stream"] != true {
            let count = asked.body["n"].as_u64().unwrap_or(1) as usize;
            return Act::Json(
                200,
                completion(&whole.iter().cycle().take(count).cloned().collect::<Vec<_>>()),
            );
        }
        let mut first = events(&streamed);
        let rest = first.split_off(1);
        Act::Gated { first, gate: Arc::clone(&gate), rest }
    })
    .await
}

/// Asks, sees the first word while the upstream waits, lets it go on, and gives the pieces and the stored trace.
async fn watched(whole: &[&str], streamed: &str, body: Value) -> (Vec<Value>, Value) {
    let gate = Arc::new(Semaphore::new(0));
    let stub = gated(whole, streamed, &gate).await;
    let gateway = Running::before(&[&stub]).await;
    let mut reading = Reading::begin(&gateway, "/v1/chat/completions", body).await;
    let first = streamed.split_inclusive(' ').next().unwrap();
    reading.until(&json!({"role": "assistant", "content": first}).to_string()).await;
    gate.add_permits(100);
    let data = reading.end().await;
    let report = &data.iter().rfind(|piece| piece.get("elenchus").is_some()).unwrap()["elenchus"];
    let id = report["trace_id"].as_str().unwrap().to_string();
    let (_, trace) = gateway.get(&format!("/v1/traces/{id}")).await;
    assert_eq!(trace["answer"], said(&data, 0), "what went out is what is kept");
    assert_eq!(data.iter().filter(|piece| piece["choices"][0]["delta"].get("role").is_some()).count(), 1);
    (data, trace)
}

fn with(model: &str, settings: Value) -> Value {
    let mut body = question(model, "2+2?");
    body["elenchus"] = json!({"settings": settings});
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn an_only_response_is_told_while_it_is_written() {
    for model in ["elenchus/single/little", "elenchus/self-consistency@1/little"] {
        let (data, trace) = watched(&[], "two and two are four\nAnswer: 4", question(model, "2+2?")).await;
        assert_eq!(said(&data, 0), "two and two are four\nAnswer: 4");
        let last = data.last().unwrap();
        assert_eq!(
            (&last["choices"][0]["finish_reason"], &last["elenchus"]["answer"]),
            (&json!("stop"), &json!("4"))
        );
        assert_eq!(
            (&trace["status"], trace["trace"]["nodes"].as_array().unwrap().len()),
            (&json!("answered"), 2)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_call_of_a_recipe_is_told_while_it_is_written() {
    let drafts = ["a\nAnswer: 3", "b\nAnswer: 4", "c\nAnswer: 4"];
    let (data, _) = watched(&drafts, "all in all\nAnswer: 4", question("elenchus/gsa/little", "2+2?")).await;
    assert_eq!(said(&data, 0), "all in all\nAnswer: 4");

    // What abstains gives its place to the next, which is the last.
    let body = question("elenchus/self-consistency@2 else plain/little", "2+2?");
    let (data, trace) = watched(&[SILENT], "well then\nAnswer: 4", body).await;
    assert_eq!(said(&data, 0), "well then\nAnswer: 4");
    assert!(trace["trace"]["nodes"].to_string().contains("I cannot tell"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refinement_that_stands_in_any_case_is_told() {
    let gate = Arc::new(Semaphore::new(0));
    let shared = Arc::clone(&gate);
    let stub = Stub::start(move |asked| {
        let shown = asked.body["messages"].to_string();
        if asked.body["stream"] == true {
            let mut first = events("now right\nAnswer: 4");
            let rest = first.split_off(1);
            return Act::Gated { first, gate: Arc::clone(&shared), rest };
        }
        let text = match shown.contains("Solve the problem below") {
            true => "2 + 2 = 5\nAnswer: 5",
            false => "Step 1: wrong — the sum is 4\nFirst wrong step: 1\nAdvice: add again",
        };
        Act::Json(200, completion(&[text.into()]))
    })
    .await;
    let gateway = Running::before(&[&stub]).await;
    let settings = json!({"rounds": 1, "acceptance": "always"});
    let body = with("elenchus/critique-and-refine/little", settings);
    let mut reading = Reading::begin(&gateway, "/v1/chat/completions", body).await;
    reading.until("\"content\":\"now \"").await;
    gate.add_permits(1);
    assert_eq!(said(&reading.end().await, 0), "now right\nAnswer: 4");
    // Where it may still be rejected, nothing is told before that is known, and nothing is streamed.
    let body = with("elenchus/critique-and-refine/little", json!({"rounds": 1}));
    let before = stub.asked().len();
    let data = Reading::begin(&gateway, "/v1/chat/completions", body).await.end().await;
    assert!(!said(&data, 0).is_empty(), "{data:?}");
    assert!(stub.asked()[before..].iter().all(|asked| asked.body.get("stream").is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_told_stands_when_the_recipe_falls_back_behind_it() {
    let drafts = ["a\nAnswer: 3", "b\nAnswer: 4", "c\nAnswer: 4"];
    let (data, trace) = watched(&drafts, SILENT, question("elenchus/gsa/little", "2+2?")).await;
    assert_eq!(said(&data, 0), format!("{SILENT}\n\nb\nAnswer: 4"));
    assert_eq!(data.last().unwrap()["elenchus"]["answer"], "4");
    assert!(trace["trace"].to_string().contains("the drafts' vote instead"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_an_error_in_the_stream_and_its_beginning_is_kept() {
    let stub = Stub::start(|_| {
        let mut events = events("one two three");
        events.truncate(2);
        Act::Stream { events, pause: Duration::ZERO, broken: true }
    })
    .await;
    let gateway = Running::before(&[&stub]).await;
    let reading =
        Reading::begin(&gateway, "/v1/chat/completions", question("elenchus/single/little", "x")).await;
    let data = reading.end().await;
    assert_eq!(said(&data, 0), "one two ");
    assert_eq!(data.last().unwrap()["error"]["code"], "upstream_failed", "{data:?}");
    assert_eq!(stub.asked().len(), 1, "who has heard the beginning gets no other one");
    let id = gateway.traces(1).await[0]["id"].as_str().unwrap().to_string();
    let (_, trace) = gateway.get(&format!("/v1/traces/{id}")).await;
    assert_eq!((&trace["status"], &trace["stages"][0]["text"]), (&json!("failed"), &json!("one two ")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_stream_still_answers() {
    let stub = Stub::start(|asked| match asked.body["stream"] == true {
        true => Act::Json(400, json!({"error": {"message": "no streaming here"}})),
        false => Act::Json(200, completion(&["Answer: 4".into()])),
    })
    .await;
    let gateway = Running::before(&[&stub]).await;
    let body = question("elenchus/single/little", "2+2?");
    let data = Reading::begin(&gateway, "/v1/chat/completions", body).await.end().await;
    assert_eq!(said(&data, 0), "Answer: 4");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_choices_are_told_each_for_itself_and_probabilities_come_with_the_whole() {
    let stub = Stub::answering(&["Answer: 4", "Answer: 5"]).await;
    let gateway = Running::before(&[&stub]).await;
    let mut body = question("elenchus/single/little", "2+2?");
    body["n"] = 2.into();
    let data = Reading::begin(&gateway, "/v1/chat/completions", body.clone()).await.end().await;
    let mut texts = [said(&data, 0), said(&data, 1)];
    texts.sort_unstable();
    assert_eq!(texts, ["Answer: 4", "Answer: 5"]);
    assert!(stub.asked().iter().all(|asked| asked.body["stream"] == true));
    let before = stub.asked().len();
    body["logprobs"] = true.into();
    Reading::begin(&gateway, "/v1/chat/completions", body).await.end().await;
    assert!(stub.asked()[before..].iter().all(|asked| asked.body.get("stream").is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_told_answer_can_be_run_again_and_is_a_response_too() {
    let stub = Stub::answering(&["Answer: 4"]).await;
    let gateway = Running::before(&[&stub]).await;
    let body = json!({"model": "elenchus/single/little", "input": "2+2?"});
    let reading = Reading::begin(&gateway, "/v1/responses", body).await;
    let data = reading.end().await;
    let deltas: Vec<&str> = data.iter().filter_map(|event| event["delta"].as_str()).collect();
    assert_eq!(deltas, ["Answer: ", "4"], "{data:?}");
    let id = gateway.traces(1).await[0]["id"].as_str().unwrap().to_string();
    let before = stub.asked().len();
    let path = format!("/v1/traces/{id}/rerun");
    let data = Reading::begin(&gateway, &path, json!({"stage": 0, "text": "Answer: 5"})).await.end().await;
    assert_eq!((said(&data, 0), stub.asked().len()), ("Answer: 5".into(), before), "the call is on the tape");
}
