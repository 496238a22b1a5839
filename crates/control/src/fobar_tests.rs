use super::*;
use crate::testing::{compact, context, context_with, run};
use elenchus_generate::Scripted;
use elenchus_trace::{Budget, NodeKind};
use serde_json::Value;

fn fobar(settings: Value) -> Fobar {
    Fobar::new(serde_json::from_value(settings).unwrap()).unwrap()
}

fn decided(answer: &Answer) -> Value {
    let last = answer.trace.nodes.iter().rev().find_map(|node| match &node.kind {
        NodeKind::Decided { data, .. } => Some(data.clone()),
        _ => None,
    });
    last.unwrap()
}

#[test]
fn the_numbers_of_the_sheet() {
    let settings = FobarSettings::default();
    let found = forward_backward(&[5, 4, 1], &[2, 13, 1], &settings);
    for (found, wanted) in found.iter().zip([0.2780420247, 0.6340333669, 0.0879246084]) {
        assert!((found - wanted).abs() < 1e-8, "{found} {wanted}");
    }
    let none = forward_backward(&[5, 4, 1], &[0, 0, 0], &settings);
    assert!(none[0] > none[1] && none[1] > none[2], "nothing recovered leaves the order of the votes");
    let forward = FobarSettings { alpha: 1.0, ..FobarSettings::default() };
    assert!((forward_backward(&[5, 4, 1], &[2, 13, 1], &forward)[0] - 0.5).abs() < 1e-12);
    let backward = FobarSettings { alpha: 0.0, ..FobarSettings::default() };
    assert!((forward_backward(&[5, 4, 1], &[2, 13, 1], &backward)[1] - 0.8125).abs() < 1e-8);
    let mean = FobarSettings { fusion: Fusion::Arithmetic, ..FobarSettings::default() };
    assert!((forward_backward(&[5, 4, 1], &[2, 13, 1], &mean)[1] - 0.60625).abs() < 1e-8);
}

/// Votes 8 : 7 = 2 : 1; only the answer 7 leads back to the hidden numbers 2 and 5.
fn model() -> Scripted {
    Scripted::new("m")
        .on("The answer to the problem is 7", ["Answer: 2", "Answer: 5"])
        .on("The answer to the problem is 8", ["Answer: 99"])
        .on("", ["x#8", "y#7", "z#8"])
}

#[test]
fn the_backward_check_overrules_the_vote() {
    let model = model().shared();
    let strategy = fobar(json!({"samples": 3, "backward_samples": 2}));
    let answer = run(&strategy, &context(model.clone())).unwrap();
    assert_eq!((answer.answer.as_deref(), answer.text.as_str()), (Some("7"), "y#7"));
    let data = decided(&answer);
    assert_eq!((&data["candidates"], &data["hidden_numbers"]), (&json!(["8", "7"]), &json!(2)));
    // The last scripted reply repeats: 2 and 5 where 2 is hidden, 5 and 5 where 5 is.
    assert_eq!(data["hits"], json!([0, 3]), "each reply that finds the hidden number counts");
    assert!(answer.confidence.unwrap() > 0.99);
    assert_eq!(model.calls(), 1 + 2 * 2);
    let asked = model.requests();
    assert!(asked[1].messages[0].text().contains("What is x + 5?"), "{}", asked[1].messages[0].text());
    assert_eq!((asked[0].sampling.temperature, asked[1].sampling.temperature), (0.7, 0.7));
    assert_eq!(answer.usage, answer.trace.usage(), "the trace accounts for every call");
}

#[test]
fn agreement_needs_no_check() {
    let model = Scripted::always(["x#7"]).shared();
    let answer = run(&fobar(json!({"samples": 4})), &context(model.clone())).unwrap();
    assert_eq!((answer.answer.as_deref(), answer.confidence, model.calls()), (Some("7"), Some(1.0), 1));
    let silent = run(&fobar(json!({"samples": 4})), &context(Scripted::always(["hm"]).shared())).unwrap();
    assert!(silent.abstained.unwrap().contains("none of the 4"));
}

#[test]
fn a_budget_that_ends_in_the_check_leaves_the_vote() {
    let budget = Budget { calls: Some(2), ..Budget::default() };
    let strategy = fobar(json!({"samples": 3, "backward_samples": 2}));
    let answer = run(&strategy, &context_with(model().shared(), budget)).unwrap();
    assert_eq!((answer.answer.as_deref(), answer.votes[0].count), (Some("8"), 2));
    assert!(decided(&answer)["vote_only"].as_str().unwrap().contains("budget"));
}

#[test]
fn the_compact_voice_checks_arithmetic_only() {
    let model = Scripted::always(["x#7"]).shared();
    let error = run(&fobar(json!({})), &compact(model.clone())).unwrap_err();
    assert!(matches!(error, ControlError::Capability { .. }), "{error}");
    assert_eq!(model.calls(), 0);
}

#[test]
fn the_embedded_models_notation_of_a_backward_problem() {
    let task = elenchus_task::task("arithmetic", &Value::Null).unwrap();
    let question = task.problems(elenchus_task::Split::Test, 1, 3).unwrap().remove(0);
    let gold = question.gold.clone().unwrap();
    let hidden = crate::masks::backward_questions(task.as_ref(), &question, &gold);
    assert!(!hidden.is_empty());
    // A model that answers every backward problem rightly when the true answer is given, and the vote is wrong.
    let mut model = Scripted::new("m");
    for backward in &hidden {
        let compact = backward.problem.compact.clone().unwrap();
        model = model.on(format!("B{compact}"), [task.reference(&backward.problem).unwrap()]);
    }
    let right = task.reference(&question).unwrap();
    let solve = format!("S{}", question.compact.clone().unwrap());
    let model = model.on(solve, ["#98765".to_string(), right, "#98765".to_string()]).on("B", ["#0"]).shared();
    let context = compact(model.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let strategy = fobar(json!({"samples": 3, "backward_samples": 2}));
    let answer = runtime.block_on(strategy.run(&context, task.as_ref(), &question)).unwrap();
    assert_eq!(answer.answer, Some(gold), "{:?}", decided(&answer));
}

#[test]
fn settings_out_of_range_are_refused() {
    for (field, settings) in [
        ("alpha", json!({"alpha": 1.5})),
        ("epsilon", json!({"epsilon": 0.0})),
        ("threshold", json!({"threshold": 0})),
        ("masks", json!({"masks": 0})),
        ("backward_samples", json!({"backward_samples": 0})),
    ] {
        let message = Fobar::new(serde_json::from_value(settings).unwrap()).unwrap_err().to_string();
        assert!(message.contains(field) && message.contains("hint:"), "{message}");
    }
}
