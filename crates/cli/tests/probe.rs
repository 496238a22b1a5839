//! `elenchus probe`, end to end against endpoints that obey the temperature and that ignore it.

#![expect(clippy::expect_used, reason = "a test helper that fails should stop the test")]

mod support;

use serde_json::Value;
use std::path::Path;
use std::process::Output;
use support::{Server, code, completion, json_of, run, scratch, stderr, write};

/// Cold responses are right and one text; warm ones differ and half of them are right; hot ones are wrong.
fn reply(temperature: f64, index: u64) -> String {
    match temperature {
        t if t < 0.6 => "We add them up. The answer is 4.".into(),
        t if t < 1.1 => {
            format!("We add {index} times. The answer is {}.", if index.is_multiple_of(2) { 4 } else { 5 })
        }
        _ => format!("{index} odd words here. The answer is 9."),
    }
}

/// The temperature that is obeyed is the request's, or always `fixed`.
fn server(fixed: Option<f64>) -> Server {
    Server::answering(move |body| {
        let temperature = fixed.or(body["temperature"].as_f64()).unwrap_or(1.0);
        let texts: Vec<String> =
            (0..body["n"].as_u64().unwrap_or(1)).map(|index| reply(temperature, index)).collect();
        completion(body, &texts, false)
    })
}

fn probe(folder: &Path, server: &Server, more: &[&str]) -> Output {
    let questions: Vec<String> = (0..4)
        .map(|i| format!(r#"{{"id": "q{i}", "question": "What is {i}+{}?", "answer": "4"}}"#, 4 - i))
        .collect();
    write(folder, "train.jsonl", &questions.join("\n"));
    let asked = ["probe", "--file", "train.jsonl", "--endpoint", &server.url, "--model", "m"];
    let drawn =
        ["--temperatures", "0.4,0.8,1.2", "--samples", "4", "--rows", "sft.jsonl", "--pairs", "dpo.jsonl"];
    run(folder, &[&asked[..], &drawn[..], more].concat())
}

fn lines(folder: &Path, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join(name)).expect("the file is written");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn the_temperature_of_the_best_yield_is_chosen_and_its_responses_become_rows() {
    let (folder, server) = (scratch(), server(None));
    let output = probe(folder.path(), &server, &["--json"]);
    assert!(
        stderr(&output).contains("3 temperatures, 4 problems, 4 samples of each: 48 responses"),
        "{}",
        stderr(&output)
    );
    let found = json_of(&output);
    let column = |name: &str| -> Vec<Value> {
        let rows = found["temperatures"].as_array().expect("a list");
        rows.iter().map(|row| row[name].get("value").unwrap_or(&row[name]).clone()).collect()
    };
    assert_eq!(column("accuracy"), [1.0, 0.5, 0.0]);
    assert_eq!(column("distinct_right"), [0.25, 0.5, 0.0]);
    assert_eq!(column("pass"), [1.0, 1.0, 0.0]);
    assert_eq!(column("balance"), [0.5, 1.0, 0.0]);
    assert_eq!((&found["chosen"], &found["ignored"]), (&0.8.into(), &Value::Null), "{found}");
    let rows = lines(folder.path(), "sft.jsonl");
    assert_eq!((rows.len(), &found["rows"]), (8, &8.into()), "two distinct right ones of each problem");
    assert!(rows.iter().all(|row| row["completion"].to_string().contains("answer is 4")), "{rows:?}");
    let pairs = lines(folder.path(), "dpo.jsonl");
    assert_eq!((pairs.len(), &found["pairs"]), (8, &8.into()));
    assert!(pairs.iter().all(|row| row["rejected"].to_string().contains("answer is 5")), "{pairs:?}");
}

#[test]
fn an_endpoint_that_ignores_the_temperature_is_told_and_no_rows_are_written() {
    for (fixed, why) in [(0.1, "one and the same text"), (0.8, "at 0.4 and at 1.2 cannot be told apart")] {
        let (folder, server) = (scratch(), server(Some(fixed)));
        let output = probe(folder.path(), &server, &[]);
        let said = stderr(&output);
        assert_eq!(code(&output), 4, "{said}");
        assert!(
            said.contains("ignore the temperature") && said.contains(why) && said.contains("hint:"),
            "{said}"
        );
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(told.contains("balance") && !told.contains("chosen"), "what was measured is shown: {told}");
        assert!(!folder.path().join("sft.jsonl").exists() && !folder.path().join("dpo.jsonl").exists());
    }
}

#[test]
fn the_budget_holds_for_all_temperatures_and_a_run_goes_on() {
    let (folder, server) = (scratch(), server(None));
    let stopped =
        probe(folder.path(), &server, &["--out", "run", "--max-calls", "6", "--at-once", "1", "--quiet"]);
    assert_eq!(code(&stopped), 5, "{}", stderr(&stopped));
    assert_eq!(server.count(), 6, "not six for each temperature");
    assert!(!folder.path().join("sft.jsonl").exists());
    let done =
        json_of(&probe(folder.path(), &server, &["--out", "run", "--at-once", "1", "--quiet", "--json"]));
    assert_eq!(server.count(), 12, "no call was made twice");
    assert_eq!((&done["chosen"], &done["usage"]["calls"]), (&0.8.into(), &12.into()), "{done}");
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_is_asked() {
    let (folder, server) = (scratch(), server(None));
    for (options, word) in [
        (["--temperatures", "0"], "draws nothing"),
        (["--temperatures", "0.5,0.5"], "twice"),
        (["--samples", "1"], "two samples"),
    ] {
        let asked = ["probe", "--endpoint", &server.url, "--model", "m"];
        let output = run(folder.path(), &[&asked[..], &options[..]].concat());
        assert_eq!(code(&output), 2, "{}", stderr(&output));
        assert!(stderr(&output).contains(word) && stderr(&output).contains("hint:"), "{}", stderr(&output));
    }
    assert_eq!(server.count(), 0);
}
