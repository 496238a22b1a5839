//! Responses that are written in several calls, against a scripted OpenAI-compatible server: one that continues a begun
//! answer and one that does not, with and without log-probabilities, with history and images, with hostile replies.

#[path = "../../generate/tests/support/mod.rs"]
mod support;

use elenchus_control::{ControlError, strategy};
use elenchus_generate::{Context, OpenAi, OpenAiConfig, PrefixStyle, ServerAbilities};
use elenchus_task::{Split, task};
use elenchus_trace::{Answer, Budget, NodeKind, Problem};
use serde_json::{Value, json};
use std::sync::Arc;
use support::{Received, Server, chat, ok};

const TRIGGER: &str = "rethink from scratch";

fn text_of(message: &Value) -> String {
    match &message["content"] {
        Value::String(text) => text.clone(),
        parts => parts.as_array().into_iter().flatten().filter_map(|part| part["text"].as_str()).collect(),
    }
}

/// A reply: its text, and whether it was cut at the length that was asked for.
type Reply = (&'static str, bool);

/// First the begun response, then what comes behind a trigger, then what comes behind the opener of the answer.
#[derive(Clone, Copy)]
struct Script {
    begun: Reply,
    rethought: Reply,
    answered: Reply,
    logprobs: bool,
    prefix: PrefixStyle,
}

const SCRIPT: Script = Script {
    begun: ("20 - 2 = 19 and so fo", true),
    rethought: ("20 - 2 = 18\nAnswer: 18", false),
    answered: (" 18", true),
    logprobs: false,
    prefix: PrefixStyle::ContinueFinalMessage,
};

impl Script {
    fn answer(&self, received: &Received) -> Vec<support::Part> {
        let messages = received.body["messages"].as_array().cloned().unwrap_or_default();
        let last = messages.last().map(text_of).unwrap_or_default();
        let (text, cut) = if last.ends_with("Answer:") || last.contains("Stop here") {
            self.answered
        } else if last.contains(TRIGGER) {
            self.rethought
        } else {
            self.begun
        };
        let count = received.body["n"].as_u64().unwrap_or(1) as usize;
        let mut body = chat(&vec![text; count]);
        for choice in body["choices"].as_array_mut().into_iter().flatten() {
            choice["finish_reason"] = json!(if cut { "length" } else { "stop" });
            if self.logprobs && received.body["logprobs"] == true {
                let top = json!([{"token": text, "logprob": -0.3, "bytes": null}]);
                choice["logprobs"] = json!({"content": [
                    {"token": text, "logprob": -0.3, "bytes": null, "top_logprobs": top}]});
            }
        }
        ok(&body)
    }
}

#[expect(clippy::unwrap_used, reason = "what cannot be set up should stop the test")]
fn problem() -> Problem {
    task("arithmetic", &Value::Null).unwrap().problems(Split::Test, 1, 1).unwrap().remove(0)
}

struct Asked {
    requests: Vec<Value>,
    result: Result<Answer, ControlError>,
}

#[expect(clippy::unwrap_used, reason = "what cannot be set up should stop the test")]
async fn ask_about(script: Script, settings: Value, problem: Problem, budget: Budget) -> Asked {
    let server = Server::start(move |received, _| script.answer(received)).await;
    let abilities = ServerAbilities {
        logprobs: script.logprobs,
        top_logprobs: if script.logprobs { 20 } else { 0 },
        ..ServerAbilities::default()
    };
    let config = OpenAiConfig { abilities, prefix: script.prefix, ..server.config() };
    let model = OpenAi::new(config).unwrap();
    let context = Context::builder().role("actor", Arc::new(model)).budget(budget).build().unwrap();
    let arithmetic = task("arithmetic", &Value::Null).unwrap();
    let made = strategy("iterative-deepening-sampling", settings).unwrap();
    let result = made.run(&context, arithmetic.as_ref(), &problem).await;
    Asked { requests: server.requests().into_iter().map(|received| received.body).collect(), result }
}

async fn ask(script: Script, settings: Value) -> Asked {
    ask_about(script, settings, problem(), Budget::default()).await
}

fn roles(request: &Value) -> Vec<&str> {
    request["messages"].as_array().into_iter().flatten().filter_map(|m| m["role"].as_str()).collect()
}

fn last(request: &Value) -> String {
    request["messages"].as_array().and_then(|m| m.last()).map(text_of).unwrap_or_default()
}

fn decided(answer: &Answer) -> Value {
    let decisions = answer.trace.nodes.iter().rev().filter_map(|node| match &node.kind {
        NodeKind::Decided { data, decision, .. } => Some(json!({"decision": decision, "data": data})),
        _ => None,
    });
    decisions.into_iter().next().unwrap_or_default()
}

#[tokio::test]
async fn a_begun_answer_is_continued_with_and_without_log_probabilities() {
    for logprobs in [false, true] {
        let asked = ask(Script { logprobs, ..SCRIPT }, json!({"samples": 2})).await;
        let answer = asked.result.unwrap();
        assert_eq!(answer.answer.as_deref(), Some("18"), "{}", decided(&answer));
        assert_eq!(asked.requests.len(), 3, "the first round is one request, then one for each response");
        assert_eq!(asked.requests[0]["n"], json!(2));
        assert_eq!(asked.requests[0]["max_tokens"], json!(256));
        let second = &asked.requests[1];
        assert_eq!(roles(second), ["user", "assistant"]);
        assert_eq!(second["continue_final_message"], json!(true));
        assert_eq!(second["max_tokens"], json!(512));
        assert!(
            last(second).starts_with("20 - 2 = 19 and so \nWait!"),
            "the broken word is gone: {}",
            last(second)
        );
        let (whole, trace) = (answer.usage, answer.trace.usage());
        assert_eq!(
            (whole.calls, whole.tokens()),
            (trace.calls, trace.tokens()),
            "every call is in the trace"
        );
        let carried =
            answer.trace.completions().all(|(_, completion)| completion.logprobs.is_empty() != logprobs);
        assert!(carried, "log-probabilities are kept where they are given");
        assert_eq!(decided(&answer)["data"]["resumption"], "prefix");
    }
}

#[tokio::test]
async fn turns_stand_in_where_a_begun_answer_is_refused() {
    for logprobs in [false, true] {
        let script = Script { logprobs, prefix: PrefixStyle::Refuse, ..SCRIPT };
        let asked = ask(script, json!({"samples": 1})).await;
        let answer = asked.result.unwrap();
        assert_eq!(answer.answer.as_deref(), Some("18"), "{}", decided(&answer));
        let second = &asked.requests[1];
        assert_eq!(roles(second), ["user", "assistant", "user"]);
        assert!(last(second).contains(TRIGGER));
        assert!(second.get("continue_final_message").is_none());
        let marks: Vec<bool> = answer
            .trace
            .completions()
            .map(|(_, completion)| completion.extra.contains_key("prefix_emulated_with_turns"))
            .collect();
        assert_eq!(marks, [false, true], "what is emulated says so");
        assert_eq!(decided(&answer)["data"]["resumption"], "turns");
    }
}

#[tokio::test]
async fn an_answer_is_forced_at_the_cap() {
    for prefix in [PrefixStyle::Send, PrefixStyle::Refuse] {
        let script = Script { rethought: ("no end in sigh", true), prefix, ..SCRIPT };
        let settings = json!({"samples": 1, "max_tokens": 60, "first_budget": 8, "answer_tokens": 5});
        let asked = ask(script, settings).await;
        let answer = asked.result.unwrap();
        assert_eq!(answer.answer.as_deref(), Some("18"), "{}", decided(&answer));
        let forced = asked.requests.last().unwrap();
        assert_eq!((&forced["max_tokens"], &forced["temperature"]), (&json!(5), &json!(0.0)));
        assert_eq!(decided(&answer)["data"]["responses"][0]["forced"], json!(true));
    }
}

#[tokio::test]
async fn history_tools_and_images_stay_in_front() {
    let mut problem = problem();
    problem.history = serde_json::from_value(json!([
        {"role": "system", "content": "Be brief."},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "20 apples"},
        {"role": "user", "content": [
            {"type": "text", "text": "What is 20 - 2?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}
    ]))
    .unwrap();
    for prefix in [PrefixStyle::ContinueFinalMessage, PrefixStyle::Refuse] {
        let script = Script { prefix, ..SCRIPT };
        let asked = ask_about(script, json!({"samples": 1}), problem.clone(), Budget::default()).await;
        asked.result.unwrap();
        assert_eq!(asked.requests.len(), 2);
        for request in &asked.requests {
            let messages = &request["messages"];
            assert_eq!(messages[0]["content"], "Be brief.");
            assert_eq!(messages[1]["tool_calls"][0]["id"], "call_1");
            assert_eq!(messages[2]["tool_call_id"], "call_1");
            assert_eq!(messages[3]["content"][1]["image_url"]["url"], "data:image/png;base64,AAAA");
        }
        assert_eq!(asked.requests[0]["messages"][3], asked.requests[1]["messages"][3], "unchanged");
    }
}

#[tokio::test]
async fn hostile_servers_end_in_an_answer_or_an_abstention() {
    // Nothing, and never an end: no endless loop.
    let silent = Script { begun: ("", true), rethought: ("", true), answered: ("", true), ..SCRIPT };
    let asked = ask(silent, json!({"samples": 1})).await;
    let answer = asked.result.unwrap();
    assert!(answer.answer.is_none() && answer.abstained.is_some());
    assert!(asked.requests.len() <= 2, "{} requests", asked.requests.len());
    // Behind the trigger the model only says that it stands by its answer: it is asked for it.
    let stands =
        Script { begun: ("It is 18. Let me see ", true), rethought: ("{\"yes\": ", false), ..SCRIPT };
    let asked = ask(stands, json!({"samples": 1})).await;
    let answer = asked.result.unwrap();
    assert_eq!(answer.answer.as_deref(), Some("18"), "{}", decided(&answer));
    assert_eq!(decided(&answer)["data"]["responses"][0]["forced"], json!(true));
    // The same text for every sample, whatever the temperature.
    let asked = ask(SCRIPT, json!({"samples": 3})).await;
    let decision = decided(&asked.result.unwrap())["decision"].as_str().unwrap_or_default().to_string();
    assert!(decision.contains("identical"), "{decision}");
}

#[tokio::test]
async fn a_budget_for_the_first_round_alone() {
    let one = Budget { calls: Some(1), ..Budget::default() };
    let asked = ask_about(SCRIPT, json!({"samples": 1}), problem(), one).await;
    let answer = asked.result.unwrap();
    assert!(answer.abstained.is_some(), "nothing stands behind the trigger: {}", decided(&answer));
    let none = Budget { calls: Some(0), ..Budget::default() };
    let asked = ask_about(SCRIPT, json!({"samples": 1}), problem(), none).await;
    assert!(matches!(asked.result, Err(ControlError::Budget { .. })));
    assert!(asked.requests.is_empty(), "said before the first call");
}
