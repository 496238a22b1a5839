//! `elenchus grid`, and the tasks `sql` and `world` from outside.

#![expect(clippy::expect_used, reason = "a test helper that fails should stop the test")]

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

fn elenchus(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_elenchus"))
        .args(arguments)
        .current_dir(folder)
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .output()
        .expect("the binary starts")
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a scratch folder")
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("standard output is JSON and nothing else")
}

#[test]
fn a_grid_on_generated_problems_keeps_its_calls_and_its_budget() {
    let folder = scratch();
    let arguments = [
        "grid",
        "--task",
        "countdown",
        "--problems",
        "6",
        "--pilot",
        "6",
        "--times",
        "6",
        "--generators",
        "steps",
        "--evaluators",
        "none,tool",
        "--controllers",
        "greedy,vote,select,beam",
        "--json",
        "--quiet",
        "--out",
        "kept",
    ];
    let found = json(&elenchus(folder.path(), &arguments));
    let rows = found["rows"].as_array().expect("rows");
    // Greedy and vote without an evaluator; vote, select and beam with the tool.
    assert_eq!(rows.len(), 5, "{found}");
    let budget = found["budget"].as_f64().expect("a budget");
    for row in rows {
        let tokens = row["tokens"].as_f64().expect("tokens");
        match row["controller"].as_str() {
            Some("greedy") => assert!(tokens < budget / 3.0, "{row}"),
            // The pilot problems are the problems here, so only whole units keep it from the budget.
            _ => assert!((0.5..1.6).contains(&(tokens / budget)), "{row}, budget {budget}"),
        }
        assert!(row["axes"]["evaluate"].is_string() && row["units"].is_u64(), "{row}");
        let (share, price) = (row["accuracy"]["value"].as_f64(), row["tokens_per_solved"].as_f64());
        match price {
            Some(price) => assert!((price * share.expect("a share") - tokens).abs() < 1e-6, "{row}"),
            None => assert_eq!(share, Some(0.0), "{row}"),
        }
    }
    let again = elenchus(folder.path(), &arguments);
    assert_eq!(json(&again), found, "what was answered is not asked again, and the result is the same");
    let resumed = elenchus(folder.path(), &["resume", "kept", "--json", "--quiet"]);
    assert_eq!(json(&resumed), found);
}

#[test]
fn a_search_over_steps_and_an_answer_that_stays_are_controllers_too() {
    let folder = scratch();
    let arguments = "grid --task countdown --problems 4 --pilot 4 --times 4 --generators steps \
        --evaluators none,tool --controllers until-stable,step-search --json --quiet";
    let found = json(&elenchus(folder.path(), &arguments.split_whitespace().collect::<Vec<_>>()));
    let rows = found["rows"].as_array().expect("rows");
    let of = |row: &Value| [row["controller"].clone(), row["evaluator"].clone(), row["strategy"].clone()];
    assert_eq!(of(&rows[0]), ["until-stable", "none", "until-stable"], "{found}");
    assert_eq!(of(&rows[1]), ["step-search", "tool", "step-search"], "{found}");
    assert_eq!(rows.len(), 2, "{found}");
    assert!(rows[0]["calls"].as_f64().is_some_and(|calls| calls >= 2.0), "two answers at least: {found}");
}

#[test]
fn mistakes_are_named_with_a_hint() {
    let folder = scratch();
    for (arguments, word) in [
        (vec!["grid", "--controllers", "beem"], "beam"),
        (vec!["grid", "--evaluators", "tol"], "tool"),
        (vec!["grid", "--controllers", "greedy", "--evaluators", "tool"], "triple"),
        (vec!["grid", "--controllers", "until-stable", "--evaluators", "tool"], "triple"),
        (vec!["grid", "--evaluators", "model"], "--role judge="),
        (vec!["grid", "--times", "0"], "--times"),
        (vec!["grid", "--task", "sqll"], "sql"),
        (vec!["eval", "--task", "sql", "--file", "nowhere.jsonl"], "nowhere.jsonl"),
        (vec!["eval", "--task", "world", "--task-set", "rooms=[1,9]"], "rooms"),
        (vec!["eval", "--task", "arithmetic", "--strategy", "act", "--problems", "1"], "no world"),
    ] {
        let output = elenchus(folder.path(), &arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{arguments:?}");
        assert!(text.contains(word) && text.contains("hint:"), "{arguments:?}: {text}");
        assert!(output.stdout.is_empty(), "{arguments:?} printed a result");
    }
}

#[test]
fn the_embedded_model_can_be_asked_for_queries_and_plans_though_it_was_taught_neither() {
    let folder = scratch();
    for arguments in [
        ["eval", "--task", "sql", "--problems", "3", "--json", "--quiet"].as_slice(),
        ["eval", "--task", "world", "--problems", "3", "--json", "--quiet"].as_slice(),
        ["eval", "--task", "world", "--strategy", "act", "--problems", "2", "--json", "--quiet"].as_slice(),
    ] {
        let found = json(&elenchus(folder.path(), arguments));
        assert!(
            found["accuracy"]["value"].as_f64().is_some_and(|value| (0.0..=1.0).contains(&value)),
            "{found}"
        );
    }
}
