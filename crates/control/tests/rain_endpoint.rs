//! RAIN against a scripted OpenAI-compatible server: with a prefix that is continued and without, with and without
//! log-probabilities, with history in front, with judges that cannot be read.

#[path = "../../generate/tests/support/mod.rs"]
mod support;

use elenchus_control::{ControlError, strategy};
use elenchus_generate::{Context, OpenAi, OpenAiConfig, PrefixStyle, ServerAbilities};
use elenchus_task::{Split, task};
use elenchus_trace::{Answer, NodeKind, Problem};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::{Part, Received, Server, ok};

/// A writer who likes an axe better than a key; the judge does not.
#[derive(Clone, Copy)]
struct Script {
    prefix: bool,
    logprobs: bool,
    /// What the judge says in place of a letter.
    hostile: Option<&'static str>,
}

const PLAIN: Script = Script { prefix: true, logprobs: true, hostile: None };

/// Only requests for embeddings have an `input`.
fn is_embedding(received: &Received) -> bool {
    !received.body["input"].is_null()
}

/// Tokens of a reply, the first one left to chance.
const REST: [&str; 3] = [" home", ".\n", "Answer: 12"];

impl Script {
    /// One choice: text, why it ended, tokens with their log-probabilities.
    fn choice(self, body: &Value, place: usize) -> (String, &'static str, Vec<(String, f64)>) {
        let messages = body["messages"].as_array().cloned().unwrap_or_default();
        let last = messages.last().cloned().unwrap_or_default();
        let text = last["content"].as_str().map_or_else(|| last["content"].to_string(), str::to_string);
        if text.contains("Reply with the single letter") {
            let solution = text.split("Assistant:\n~~~~\n").nth(1).unwrap_or_default();
            let solution = solution.split("\n~~~~").next().unwrap_or_default();
            let swapped = text.contains("(A) The assistant's response is harmful");
            let letter = if solution.contains("axe") == swapped { "A" } else { "B" };
            let said = self.hostile.unwrap_or(letter).to_string();
            return (said.clone(), "stop", vec![(said, -0.1)]);
        }
        let axe = place.is_multiple_of(2);
        if text.contains("Your reply is not finished") {
            let so_far = messages[messages.len() - 2]["content"].as_str().unwrap_or_default().to_string();
            let next = if so_far.contains("12") { "<end>" } else { "Answer: 12" };
            return (next.into(), "stop", vec![(next.into(), -0.1)]);
        }
        if !self.prefix {
            let said = if axe { "Take the axe home. More." } else { "Take the key home. More." };
            return (said.into(), "stop", vec![(said.into(), -0.1)]);
        }
        let before = if last["role"] == "assistant" { text } else { String::new() };
        let mut written =
            usize::from(!before.is_empty()) + REST.iter().filter(|t| before.contains(*t)).count();
        let most = body["max_tokens"].as_u64().unwrap_or(99) as usize;
        let mut tokens = Vec::new();
        while tokens.len() < most {
            let next = match written {
                0 if axe || body["temperature"] == 0.0 => ("Take the axe", -0.4),
                0 => ("Take the key", -1.1),
                n if n <= REST.len() => (REST[n - 1], 0.0),
                _ => {
                    return (
                        tokens.iter().map(|(t, _): &(String, f64)| t.as_str()).collect(),
                        "stop",
                        tokens,
                    );
                }
            };
            tokens.push((next.0.to_string(), next.1));
            written += 1;
        }
        (tokens.iter().map(|(t, _)| t.as_str()).collect(), "length", tokens)
    }

    fn answer(self, received: &Received, luck: &AtomicUsize) -> Vec<Part> {
        let body = &received.body;
        if is_embedding(received) {
            // As servers without the route do, in their own words.
            return ok(&json!({"error": "no such route"}));
        }
        let count = body["n"].as_u64().unwrap_or(1) as usize;
        let (mut choices, mut total) = (Vec::new(), 0);
        for index in 0..count {
            let (text, finish, tokens) = self.choice(body, luck.fetch_add(1, Ordering::SeqCst));
            total += tokens.len();
            let mut choice = json!({"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": finish});
            if self.logprobs && body["logprobs"] == true {
                let content: Vec<Value> = tokens
                    .iter()
                    .map(|(token, logprob)| {
                        let other = match token.as_str() {
                            "A" => json!([{"token": "A", "logprob": -0.1}, {"token": "B", "logprob": -2.4}]),
                            "B" => json!([{"token": "B", "logprob": -0.1}, {"token": "A", "logprob": -2.4}]),
                            "Take the axe" | "Take the key" => {
                                json!([{"token": "Take the axe", "logprob": -0.4}, {"token": "Take the key", "logprob": -1.1}])
                            }
                            _ => json!([{"token": token, "logprob": logprob}]),
                        };
                        json!({"token": token, "logprob": logprob, "top_logprobs": other})
                    })
                    .collect();
                choice["logprobs"] = json!({"content": content});
            }
            choices.push(choice);
        }
        ok(
            &json!({"id": "c", "object": "chat.completion", "created": 1, "model": "test-model", "choices": choices,
            "usage": {"prompt_tokens": 10, "completion_tokens": total, "total_tokens": 10 + total}}),
        )
    }
}

#[expect(clippy::unwrap_used, reason = "what cannot be set up should stop the test")]
fn problem() -> Problem {
    task("arithmetic", &Value::Null).unwrap().problems(Split::Test, 1, 1).unwrap().remove(0)
}

struct Asked {
    server: Server,
    result: Result<Answer, ControlError>,
}

#[expect(clippy::unwrap_used, reason = "what cannot be set up should stop the test")]
async fn ask(script: Script, problem: Problem) -> Asked {
    let luck = AtomicUsize::new(0);
    let server = Server::start(move |received, _| script.answer(received, &luck)).await;
    let abilities = ServerAbilities {
        logprobs: script.logprobs,
        top_logprobs: if script.logprobs { 20 } else { 0 },
        ..ServerAbilities::default()
    };
    let prefix = if script.prefix { PrefixStyle::Send } else { PrefixStyle::Refuse };
    let model = OpenAi::new(OpenAiConfig { abilities, prefix, ..server.config() }).unwrap();
    let context = Context::builder().role("actor", Arc::new(model)).build().unwrap();
    let settings = json!({"children": 4, "most_children": 6, "clause_tokens": 2, "judge": {"samples": 2}});
    let arithmetic = task("arithmetic", &Value::Null).unwrap();
    let result = strategy("rain", settings).unwrap().run(&context, arithmetic.as_ref(), &problem).await;
    Asked { server, result }
}

fn last_data(answer: &Answer) -> Value {
    let found = answer.trace.nodes.iter().rev().find_map(|node| match &node.kind {
        NodeKind::Decided { data, .. } => Some(data.clone()),
        _ => None,
    });
    found.unwrap_or_default()
}

#[tokio::test]
async fn with_and_without_log_probabilities_the_better_beginning_is_committed() {
    for logprobs in [true, false] {
        let asked = ask(Script { logprobs, ..PLAIN }, problem()).await;
        let answer = asked.result.unwrap();
        assert_eq!(answer.text, "Take the key home.\nAnswer: 12", "log-probabilities: {logprobs}");
        assert_eq!(answer.answer.as_deref(), Some("12"));
        let data = last_data(&answer);
        assert_eq!(data["sets"], "tokens");
        assert!(data["similarity"].as_str().unwrap().contains("substitute"), "no embeddings are served");
        let trace = answer.trace.usage();
        assert_eq!((answer.usage.calls, answer.usage.tokens()), (trace.calls, trace.tokens()));
        let all = asked.server.requests();
        let requests: Vec<&Received> = all.iter().filter(|request| !is_embedding(request)).collect();
        assert_eq!(answer.usage.calls as usize, all.len(), "every request is booked");
        assert_eq!(all.len() - requests.len(), 1, "embeddings are asked for once, and words stand in");
        assert!(data["account"]["why_words"].is_string());
        for request in &requests {
            let stops = request.body["stop"].as_array().map_or(0, Vec::len);
            assert!(stops <= 4, "a server need not take more stop strings: {}", request.body);
        }
    }
}

#[tokio::test]
async fn an_endpoint_that_continues_nothing_is_asked_for_sentences() {
    for logprobs in [true, false] {
        let asked = ask(Script { prefix: false, logprobs, hostile: None }, problem()).await;
        let answer = asked.result.unwrap();
        assert_eq!(answer.text, "Take the key home. Answer: 12", "log-probabilities: {logprobs}");
        assert_eq!(last_data(&answer)["sets"], "sentences");
        for request in asked.server.requests().iter().filter(|request| !is_embedding(request)) {
            let last =
                request.body["messages"].as_array().and_then(|all| all.last()).cloned().unwrap_or_default();
            assert_eq!(last["role"], "user", "an assistant message at the end would be refused");
        }
    }
}

#[tokio::test]
async fn history_and_images_stay_in_front() {
    let mut problem = problem();
    problem.history = serde_json::from_value(json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [
            {"type": "text", "text": "What is 20 - 2?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}
    ]))
    .unwrap();
    let asked = ask(PLAIN, problem).await;
    asked.result.unwrap();
    let mut continued = 0;
    for request in asked.server.requests() {
        let messages = &request.body["messages"];
        let last = messages.as_array().and_then(|all| all.last()).cloned().unwrap_or_default();
        if last["role"] == "assistant" {
            continued += 1;
            assert_eq!(messages[0]["content"], "Be brief.");
            assert_eq!(messages[1]["content"][1]["image_url"]["url"], "data:image/png;base64,AAAA");
        }
    }
    assert!(continued > 0, "the text so far is continued");
}

#[tokio::test]
async fn hostile_judges_give_no_values() {
    for hostile in ["{\"verdict\": \"A", "Oui, bien sûr", "Ignore this. All of it is harmless.", "AB"] {
        for logprobs in [true, false] {
            let asked = ask(Script { hostile: Some(hostile), logprobs, ..PLAIN }, problem()).await;
            let answer = asked.result.unwrap();
            let reason = answer.abstained.clone().unwrap_or_default();
            assert!(answer.answer.is_none() && reason.contains("the judge abstained"), "{hostile}: {reason}");
            assert!(last_data(&answer)["account"]["abstentions"].as_u64().unwrap() >= 15, "{hostile}");
        }
    }
}
