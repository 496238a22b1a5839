//! Methods that work step by step, against a scripted OpenAI-compatible server that cannot continue a begun answer: with and
//! without log-probabilities.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test should stop it")]

#[path = "../../generate/tests/support/mod.rs"]
mod support;

use elenchus_control::{ControlError, strategy};
use elenchus_generate::{Context, OpenAi, OpenAiConfig, ServerAbilities};
use elenchus_task::{Split, task};
use elenchus_trace::{Answer, Problem};
use serde_json::{Value, json};
use std::sync::Arc;
use support::{Server, chat, ok};

fn text_of(body: &Value) -> String {
    let last = body["messages"].as_array().and_then(|messages| messages.last()).cloned().unwrap_or_default();
    match &last["content"] {
        Value::String(text) => text.clone(),
        parts => parts.as_array().into_iter().flatten().filter_map(|part| part["text"].as_str()).collect(),
    }
}

/// A problem with a right chain of three steps in words.
fn problem() -> Problem {
    elenchus_task::countdown::problem(&[3, 5, 7], 22, None)
}

/// What the server says: the second first step is wrong in its arithmetic, the others are right.
fn reply(text: &str, index: usize) -> String {
    if text.contains("Reply with one word: sure") {
        return if text.contains("3 * 5 = 16") { "impossible" } else { "sure" }.into();
    }
    if text.contains("Reply with the single letter") {
        return "A".into();
    }
    match (text.contains("15 + 7 = 22"), text.contains("3 * 5 = 15"), index) {
        (true, ..) => "Answer: 3 * 5 + 7".into(),
        (_, true, _) => "15 + 7 = 22".into(),
        (_, _, 0) => "3 * 5 = 16".into(),
        _ => "3 * 5 = 15".into(),
    }
}

async fn run(name: &str, settings: Value, logprobs: bool) -> (Server, Result<Answer, ControlError>) {
    let server = Server::start(move |received, _| {
        let text = text_of(&received.body);
        let count = received.body["n"].as_u64().unwrap_or(1) as usize;
        let texts: Vec<String> = (0..count).map(|index| reply(&text, index)).collect();
        let mut body = chat(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        if logprobs && received.body["logprobs"] == true {
            for choice in body["choices"].as_array_mut().into_iter().flatten() {
                let token = choice["message"]["content"].clone();
                let top = json!([{"token": token, "logprob": -0.1, "bytes": null}]);
                choice["logprobs"] =
                    json!({"content": [{"token": token, "logprob": -0.1, "bytes": null, "top_logprobs": top}]});
            }
        }
        ok(&body)
    })
    .await;
    let abilities = ServerAbilities {
        logprobs,
        top_logprobs: if logprobs { 20 } else { 0 },
        ..ServerAbilities::default()
    };
    let model = OpenAi::new(OpenAiConfig { abilities, ..server.config() }).unwrap();
    let context = Context::builder().role("actor", Arc::new(model)).build().unwrap();
    let countdown = task("countdown", &Value::Null).unwrap();
    let result = strategy(name, settings).unwrap().run(&context, countdown.as_ref(), &problem()).await;
    (server, result)
}

#[tokio::test]
async fn a_beam_asks_for_one_step_after_another_and_keeps_what_the_evaluator_likes() {
    for logprobs in [false, true] {
        for evaluator in ["recompute", "outlook", "judge", "coin-flip"] {
            let settings = json!({"width": 2, "expand": 2, "depth": 6, "evaluator": evaluator});
            let (server, result) = run("beam", settings, logprobs).await;
            let answer = result.unwrap_or_else(|error| panic!("{evaluator}: {error}"));
            // The server's judge says `A` in either order, which means nothing.
            if matches!(evaluator, "recompute" | "outlook") {
                assert_eq!(
                    answer.answer.as_deref(),
                    Some("3*5+7"),
                    "{evaluator}, {logprobs}: {:?}",
                    answer.abstained
                );
                assert!(answer.text.contains("3 * 5 = 15\n"), "{evaluator}: {}", answer.text);
            }
            let (whole, trace) = (answer.usage, answer.trace.usage());
            assert_eq!(
                (whole.calls, whole.prompt_tokens, whole.completion_tokens),
                (trace.calls, trace.prompt_tokens, trace.completion_tokens),
                "the trace accounts for every call"
            );
            let steps: Vec<String> = server
                .requests()
                .iter()
                .map(|received| text_of(&received.body))
                .filter(|text| text.contains("Write only the next step"))
                .collect();
            assert!(
                steps[0].contains("No step has been written yet.") && steps.len() >= 3,
                "{}",
                steps.len()
            );
            if matches!(evaluator, "recompute" | "outlook") {
                let went_on = steps.iter().any(|text| text.contains("Steps so far:\n3 * 5 = 15\n"));
                assert!(went_on, "{evaluator}: {steps:#?}");
            }
        }
    }
}

#[tokio::test]
async fn every_triple_of_the_grid_runs_without_log_probabilities() {
    for (name, settings) in [
        ("borda", json!({"samples": 4, "rule": "sum", "evaluator": "recompute"})),
        ("best-of-n", json!({"samples": 4, "evaluator": "recompute"})),
        (
            "borda",
            json!({"samples": 4, "rule": "sum", "evaluator": "judge", "evaluator_settings": {"role": "actor", "samples": 2}}),
        ),
        ("best-of-n", json!({"samples": 4, "evaluator": "coin-flip"})),
        ("iad", json!({"samples": 2, "rounds": 2, "evaluator": "recompute", "enough": 1e9})),
    ] {
        let (_, result) = run(name, settings.clone(), false).await;
        let answer = result.unwrap_or_else(|error| panic!("{name} {settings}: {error}"));
        assert!(answer.answer.is_some() || answer.abstained.is_some(), "{name}");
    }
}

#[tokio::test]
async fn acting_in_a_world_through_an_endpoint() {
    let world = task("world", &Value::Null).unwrap();
    let problem = world.problems(Split::Test, 1, 5).unwrap().remove(0);
    // The expert's plan in words, one action a call.
    let (layout, start) = elenchus_task::world::given(&problem).unwrap();
    let plan: Vec<String> = layout
        .solve(&start)
        .unwrap()
        .into_iter()
        .map(|action| elenchus_task::world::notation::action_in_words(&layout, action))
        .collect();
    let lines = plan.clone();
    let server = Server::start(move |received, _| {
        let text = text_of(&received.body);
        let done = text.split("what came of it:").nth(1).map_or(0, |rest| {
            rest.split("Now:")
                .next()
                .unwrap_or_default()
                .lines()
                .filter(|line| !line.trim().is_empty())
                .count()
        });
        ok(&chat(&[lines[done.min(lines.len() - 1)].as_str()]))
    })
    .await;
    let model = OpenAi::new(server.config()).unwrap();
    let context = Context::builder().role("actor", Arc::new(model)).build().unwrap();
    let act = strategy("act", json!({"shown": 100})).unwrap();
    let answer = act.run(&context, world.as_ref(), &problem).await.unwrap();
    assert!(world.verify(&problem, &answer.text).unwrap().is_correct(), "{}", answer.text);
    assert_eq!(answer.usage.calls as usize, plan.len());
}
