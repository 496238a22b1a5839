//! Every recipe with a strategy, with its own settings, against a scripted OpenAI-compatible server: with and without
//! log-probabilities, with history, tool results and images.

#![expect(clippy::panic, clippy::unwrap_used, reason = "what cannot be set up should stop the test")]

#[path = "../../generate/tests/support/mod.rs"]
mod support;

use elenchus_control::ControlError;
use elenchus_generate::{Context, OpenAi, OpenAiConfig, PrefixStyle, ServerAbilities};
use elenchus_recipe::{Recipe, built_in_recipes, strategy_of};
use elenchus_task::{Split, task};
use elenchus_trace::{Answer, Budget};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;
use support::{Server, asker, keeps, said, sensible};

/// More than any recipe but a search over tokens needs; where it ends one, an answer or an abstention must still come.
const MOST_CALLS: u64 = 600;

/// The task of the paper where the strategy is made for it, else arithmetic.
fn task_of(recipe: &str) -> &'static str {
    match recipe {
        "cyberv" => "evidence",
        "rain" => "rules",
        _ => "arithmetic",
    }
}

/// What a recipe must be told of an endpoint beside its own settings: there are no full distributions there.
fn settings(recipe: &str) -> Map<String, Value> {
    let told = match recipe {
        "self-certainty" => json!({"evaluator_settings": {"top_k": {"k": 20, "vocabulary": 50_000}}}),
        _ => json!({}),
    };
    told.as_object().cloned().unwrap_or_default()
}

async fn ask(
    recipe: &str,
    server: &Server,
    logprobs: bool,
    history: bool,
    settings: &Map<String, Value>,
) -> Result<Answer, ControlError> {
    let top_logprobs = if logprobs { 20 } else { 0 };
    let abilities = ServerAbilities { logprobs, top_logprobs, ..ServerAbilities::default() };
    let prefix = if logprobs { PrefixStyle::ContinueFinalMessage } else { PrefixStyle::Refuse };
    let model = OpenAi::new(OpenAiConfig { abilities, prefix, ..server.config() }).unwrap();
    let budget = Budget { calls: Some(MOST_CALLS), ..Budget::default() };
    let context = Context::builder().role("actor", Arc::new(model)).budget(budget).build().unwrap();
    let task = task(task_of(recipe), &Value::Null).unwrap();
    let mut problem = task.problems(Split::Test, 1, 1).unwrap().remove(0);
    if history {
        problem.history = asker();
    }
    let strategy = strategy_of(recipe, settings).unwrap_or_else(|error| panic!("{recipe}: {error}"));
    let answer = strategy.run(&context, task.as_ref(), &problem);
    let patience = Duration::from_secs(120);
    tokio::time::timeout(patience, answer).await.unwrap_or_else(|_| panic!("{recipe} does not end"))
}

fn recipes() -> impl Iterator<Item = Recipe> {
    built_in_recipes().unwrap().into_iter().filter(|recipe| recipe.strategy.is_some())
}

async fn server(logprobs: bool) -> Server {
    Server::start(move |received, _| said(&sensible(&received.body), &received.body, logprobs)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_runs_with_its_own_settings_with_and_without_log_probabilities() {
    let mut cannot = Vec::new();
    for recipe in recipes() {
        let name = recipe.name.as_str();
        for logprobs in [true, false] {
            let server = server(logprobs).await;
            match ask(name, &server, logprobs, false, &settings(name)).await {
                Ok(answer) => {
                    let (whole, trace) = (answer.usage, answer.trace.usage());
                    // What a judge was paid in the moment in which the budget ended is in no node.
                    if whole.calls < MOST_CALLS {
                        assert_eq!(
                            (whole.calls, whole.tokens()),
                            (trace.calls, trace.tokens()),
                            "{name}: in the trace"
                        );
                    }
                    assert!(whole.calls <= MOST_CALLS && server.count() > 0, "{name}: {whole:?}");
                    assert!(
                        answer.answer.is_some() != answer.abstained.is_some(),
                        "{name}: an answer or a reason, {:?} {:?}",
                        answer.answer,
                        answer.abstained
                    );
                }
                Err(error) => {
                    assert!(!logprobs, "{name}: {error}");
                    assert!(matches!(error, ControlError::Capability { .. }), "{name}: {error}");
                    assert!(error.to_string().contains("hint:"), "{name}: {error}");
                    assert_eq!(server.count(), 0, "{name}: refused before the first request");
                    cannot.push(recipe.name.clone());
                }
            }
        }
    }
    assert_eq!(cannot, ["rpc", "self-certainty"], "these weigh samples by probabilities of tokens");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_endpoint_lacks_is_said_with_the_setting_that_helps() {
    let server = server(true).await;
    let error = ask("self-certainty", &server, true, false, &Map::new()).await.unwrap_err().to_string();
    assert!(error.contains("top_k") && error.contains("hint:"), "{error}");
    assert_eq!(server.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_tool_results_and_images_stay_in_front() {
    let mut partly = Vec::new();
    for recipe in recipes() {
        let name = recipe.name.as_str();
        let server = server(true).await;
        let result = ask(name, &server, true, true, &settings(name)).await;
        // Embeddings have no messages.
        let mut requests = server.requests();
        requests.retain(|request| request.body["messages"].is_array());
        assert!(!requests.is_empty() && result.is_ok(), "{name}: {result:?}");
        assert!(keeps(&requests[0].body), "{name}: the first request");
        if !requests.iter().all(|request| keeps(&request.body)) {
            partly.push(recipe.name.clone());
        }
    }
    // A backward question is another problem: who asks it must not see the answer in the history.
    assert_eq!(partly, ["fobar"], "with calls that do not show the history");
}
