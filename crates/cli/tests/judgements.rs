//! `eval --judgements` and what `eval` says of consistency, end to end against an endpoint.

#![expect(clippy::expect_used, reason = "a test helper that fails should stop the test")]

mod support;

use serde_json::{Value, json};
use std::path::Path;
use support::{Server, code, completion, json_of, last_message, run, scratch, stderr, write};

/// Questions on `sure` things are answered with 4 each time, others with 0 to 4 in turn. Asked to judge, it holds 4 for
/// right with probability 0.9 and everything else for wrong.
fn server() -> Server {
    Server::answering(|body| {
        let prompt = last_message(body);
        let samples = body["n"].as_u64().unwrap_or(1);
        if !prompt.contains("single letter A or B") {
            let seed = body["seed"].as_u64().unwrap_or(0);
            let number = |index: u64| if prompt.contains("sure") { 4 } else { (seed + index) % 4 };
            let texts: Vec<String> =
                (0..samples).map(|index| format!("The answer is {}.", number(index))).collect();
            return completion(body, &texts, false);
        }
        let judged = prompt.rsplit("Proposed solution").next().unwrap_or_default();
        let right = judged.contains("answer is 4");
        let (letter, other) = if right != prompt.contains("(A) wrong") { ("A", "B") } else { ("B", "A") };
        let mut answer = completion(body, &[letter.to_string()], false);
        let likely = json!([{"token": letter, "logprob": -0.105_360_5}, {"token": other, "logprob": -std::f64::consts::LN_10}]);
        let token = json!({"token": letter, "logprob": -0.105_360_5, "top_logprobs": likely});
        answer["choices"][0]["logprobs"] = json!({ "content": [token] });
        answer
    })
}

/// Two questions that are answered right and surely, one surely and wrong, two not surely and wrong.
const QUESTIONS: &str = r#####"{"id": "a", "question": "A sure thing: 2+2?", "answer": "#### 4"}
{"id": "b", "question": "A sure thing: 1+3?", "answer": "#### 4"}
{"id": "c", "question": "A sure thing: 3+4?", "answer": "#### 7"}
{"id": "d", "question": "Hard: 55+44?", "answer": "#### 99"}
{"id": "e", "question": "Hard: 44+44?", "answer": "#### 88"}
"#####;

fn eval(folder: &Path, server: &Server, more: &[&str]) -> std::process::Output {
    write(folder, "questions.jsonl", QUESTIONS);
    let asked = ["eval", "--file", "questions.jsonl", "--endpoint", &server.url, "--model", "m", "--quiet"];
    run(folder, &[&asked[..], more].concat())
}

fn rows(folder: &Path, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join(name)).expect("the file is written");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn what_a_judge_says_is_written_down_and_measured() {
    let (folder, server) = (scratch(), server());
    let arguments = ["--strategy", "p-true-p-ik", "--judgements", "j.jsonl"];
    let output = eval(folder.path(), &server, &arguments);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let rows = rows(folder.path(), "j.jsonl");
    let told: Vec<(&str, bool, bool)> = rows
        .iter()
        .map(|row| {
            let sure = row["confidence"].as_f64().is_some_and(|p| (p - 0.9).abs() < 0.01);
            (row["id"].as_str().unwrap_or_default(), sure, row["correct"] == true)
        })
        .collect();
    // What is withheld below one half has a confidence, and so a row.
    let wanted =
        [("a", true, true), ("b", true, true), ("c", true, false), ("d", false, false), ("e", false, false)];
    assert_eq!(told, wanted);
    let measured = json_of(&run(folder.path(), &["measure", "j.jsonl", "--json"]));
    assert_eq!(measured["n"], 5);
    // Right ones against c tie (one half), against d and e they win.
    assert!((measured["auroc"].as_f64().unwrap_or_default() - 2.5 / 3.0).abs() < 1e-9, "{measured}");
}

#[test]
fn a_run_goes_on_and_may_write_its_judgements_elsewhere() {
    let (folder, server) = (scratch(), server());
    let fixed = ["--strategy", "p-true-p-ik", "--out", "run", "--at-once", "1"];
    let stopped = eval(
        folder.path(),
        &server,
        &[&fixed[..], &["--judgements", "first.jsonl", "--max-calls", "9"]].concat(),
    );
    assert_eq!(code(&stopped), 5, "{}", stderr(&stopped));
    assert!(!folder.path().join("first.jsonl").exists(), "nothing is measured yet");
    write(folder.path(), "second.jsonl", "what stood there before\n");
    let done = eval(folder.path(), &server, &[&fixed[..], &["--judgements", "second.jsonl"]].concat());
    assert_eq!(code(&done), 0, "{}", stderr(&done));
    assert_eq!(rows(folder.path(), "second.jsonl").len(), 5, "it is replaced whole");
}

#[test]
fn answers_without_confidence_are_told_and_no_zeros() {
    let (folder, server) = (scratch(), server());
    let output = eval(
        folder.path(),
        &server,
        &["--strategy", "single", "--judgements", "none.jsonl", "--set", "temperature=1"],
    );
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.contains("none of 5 answers has a confidence") && said.contains("hint:"), "{said}");
    assert!(!folder.path().join("none.jsonl").exists());
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("single") && told.contains("accuracy"), "what was measured is told: {told}");
}

#[test]
fn consistency_stands_beside_correctness() {
    let (folder, server) = (scratch(), server());
    let arguments = ["--strategy", "internal-consistency", "--set", "samples=5"];
    let found = json_of(&eval(folder.path(), &server, &[&arguments[..], &["--json"]].concat()));
    let found = &found["consistency"];
    assert_eq!((&found["measure"], &found["questions"]), (&json!("agreement"), &json!(5)), "{found}");
    assert_eq!(found["consistent_and_wrong"]["value"], 0.2, "one of five is sure and wrong: {found}");
    assert!((found["auroc"]["value"].as_f64().unwrap_or_default() - 2.5 / 3.0).abs() < 1e-9, "{found}");
    assert_eq!(found["identical"], 3, "sure answers are one text: {found}");
    assert!(found["ece"]["equal_mass"].as_f64().is_some_and(|ece| ece > 0.0), "{found}");

    let output = eval(folder.path(), &server, &arguments);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("consistency (pairs of answers that agree)") && told.contains("ECE"), "{told}");
    assert!(told.contains("on 3 of 5 problems all responses are one text"), "{told}");

    let voted = json_of(&eval(folder.path(), &server, &["--strategy", "self-consistency", "--json"]));
    assert_eq!(voted["consistency"], Value::Null, "a strategy that records none: {voted}");
}
