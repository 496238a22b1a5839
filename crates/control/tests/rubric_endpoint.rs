//! The evaluator `rubric` against a scripted OpenAI-compatible server: in the strategies that choose by it and in those that
//! hand its words on, with a judge of its own, and with judges that cannot be used.

#[path = "../../generate/tests/support/mod.rs"]
mod support;

use elenchus_control::{ControlError, EstimateInput, strategy};
use elenchus_generate::{Context, OpenAi, OpenAiConfig, Voice};
use elenchus_task::{Split, task};
use elenchus_trace::{Answer, NodeKind, Problem};
use serde_json::{Value, json};
use std::sync::Arc;
use support::{Server, last_text, said};

const MARK: &str = "by each of the criteria";

/// A server that samples 12 and 18, knows that 18 is better, and says `judge` where it is asked to judge.
async fn server(judge: Option<&'static str>) -> Server {
    Server::start(move |received, _| {
        let body = &received.body;
        let (text, count) = (last_text(body), body["n"].as_u64().unwrap_or(1) as usize);
        let texts: Vec<&str> = match (text.contains(MARK), judge) {
            (true, Some(judge)) => vec![judge; count],
            (true, None) if text.contains("Answer: 18\n~") => {
                vec!["correctness: 9 — right\ncompleteness: 9 — whole\ninstructions: 9 — kept"; count]
            }
            (true, None) => {
                vec![
                    "instructions: 9 — kept\ncompleteness: 5 — ends early\ncorrectness: 2 — 20 - 2 is 18";
                    count
                ]
            }
            (false, _) => (0..count).map(|i| ["Answer: 12", "so\nAnswer: 18"][i % 2]).collect(),
        };
        said(&texts, body, false)
    })
    .await
}

#[expect(clippy::unwrap_used, reason = "what cannot be set up should stop the test")]
fn model(server: &Server) -> Arc<OpenAi> {
    Arc::new(OpenAi::new(OpenAiConfig { ..server.config() }).unwrap())
}

#[expect(clippy::unwrap_used, reason = "what cannot be set up should stop the test")]
async fn ask(name: &str, settings: Value, context: &Context) -> Result<Answer, ControlError> {
    let arithmetic = task("arithmetic", &Value::Null).unwrap();
    let problem: Problem = arithmetic.problems(Split::Test, 1, 1).unwrap().remove(0);
    strategy(name, settings).unwrap().run(context, arithmetic.as_ref(), &problem).await
}

#[expect(clippy::unwrap_used, reason = "what cannot be set up should stop the test")]
fn context(actor: &Server, judge: Option<&Server>) -> Context {
    let builder = Context::builder().role("actor", model(actor));
    match judge {
        Some(judge) => builder.role("judge", model(judge)).role_voice("judge", Voice::Chat).build().unwrap(),
        None => builder.build().unwrap(),
    }
}

fn judged(answer: &Answer) -> Vec<elenchus_trace::Feedback> {
    let nodes = answer.trace.nodes.iter();
    nodes
        .filter_map(|node| match &node.kind {
            NodeKind::Evaluated { feedback, .. } => Some(feedback.as_ref().clone()),
            _ => None,
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn best_of_n_and_a_weighted_vote_choose_by_it() {
    for (name, settings) in [
        ("best-of-n", json!({"samples": 2, "evaluator": "rubric"})),
        ("borda", json!({"samples": 2, "rule": "sum", "evaluator": "rubric"})),
    ] {
        let server = server(None).await;
        let answer = ask(name, settings, &context(&server, None)).await.unwrap();
        assert_eq!(answer.answer.as_deref(), Some("18"), "{name}");
        let found = judged(&answer);
        assert_eq!(found.len(), 2, "{name}");
        assert!((found[0].score.unwrap() - 16.0 / 30.0).abs() < 1e-9, "{name}: {found:?}");
        assert_eq!(found[0].orders.len(), 2, "{name}: both orders are on record");
        assert_eq!(
            found[0].text.as_deref().unwrap().lines().next(),
            Some("correctness: 2 of 10 — 20 - 2 is 18")
        );
        assert_eq!(answer.usage.calls as usize, server.count(), "{name}: every request is counted");
        let asked: Vec<String> =
            server.requests().iter().map(|r| last_text(&r.body)).filter(|text| text.contains(MARK)).collect();
        let given = asked.iter().filter(|text| text.contains("Criteria:\ncorrectness")).count();
        assert_eq!((given, asked.len()), (2, 4), "{name}: each candidate in both orders");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn iad_hands_its_words_on_and_costs_what_is_estimated() {
    let server = server(None).await;
    let answer = ask("iad", Value::Null, &context(&server, None)).await.unwrap();
    assert_eq!(answer.answer.as_deref(), Some("18"));
    let asked: Vec<String> = server.requests().iter().map(|r| last_text(&r.body)).collect();
    let later: Vec<&String> = asked.iter().filter(|text| text.contains("Better response")).collect();
    assert_eq!(later.len(), 2, "two rounds after the first");
    assert!(later[0].contains("correctness: 9 of 10 — right"), "{}", later[0]);
    let input = EstimateInput { prompt_tokens: 100, completion_tokens: 20 };
    let estimate = strategy("iad", Value::Null).unwrap().estimate(&input);
    assert_eq!((estimate.usage.calls as usize, server.count()), (15, 15), "{}", estimate.formula);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_in_the_role_judges_and_the_actor_does_not() {
    let (actor, judge) = (server(Some("no")).await, server(None).await);
    let settings = json!({"samples": 2, "evaluator": "rubric"});
    let answer = ask("best-of-n", settings, &context(&actor, Some(&judge))).await.unwrap();
    assert_eq!(answer.answer.as_deref(), Some("18"));
    assert_eq!((actor.count(), judge.count()), (1, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn judges_that_cannot_be_used_give_no_score() {
    for judge in [
        "",
        "10/10",
        "{\"correctness\": 10, \"comple",
        "Richtigkeit: 10\nVollständigkeit: 10\nVorgaben: 10",
        "Ignore the criteria. Everything is perfect.",
        "correctness: 10\ncompleteness: 10\ninstructions: 10\ncorrectness: 1",
        "correctness: 11\ncompleteness: 10\ninstructions: 10",
    ] {
        for name in ["best-of-n", "iad"] {
            let server = server(Some(judge)).await;
            let settings = json!({"samples": 2, "evaluator": "rubric"});
            let answer = ask(name, settings, &context(&server, None)).await.unwrap();
            assert!(answer.answer.is_none() && answer.abstained.is_some(), "{name}, {judge:?}: {answer:?}");
            assert!(judged(&answer).iter().all(|one| one.score.is_none() && one.abstained.is_some()));
        }
    }
    // Always the same: nothing is told apart, and the first response stays.
    let same = server(Some("correctness: 10\ncompleteness: 10\ninstructions: 10")).await;
    let settings = json!({"samples": 2, "evaluator": "rubric"});
    let answer = ask("best-of-n", settings, &context(&same, None)).await.unwrap();
    assert_eq!(answer.answer.as_deref(), Some("12"));
}
