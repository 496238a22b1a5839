//! What `eval` says of strategies that try more than once, over an OpenAI-compatible server: dialogues beside an independent
//! second sample, rounds, what stayed unsolved and why, and what critiques said.

mod support;

use serde_json::Value;
use std::path::Path;
use support::{Server, code, completion, json_of, last_message, run, scratch, stderr, write};

const ROWS: &str = r#"{"id": "a", "question": "What is 2 plus 5?", "gold": "7", "solution": "2 + 5 = 8\nAnswer: 8"}
{"id": "b", "question": "What is 3 plus 5?", "gold": "8", "solution": "3 + 5 = 8\nAnswer: 8"}
"#;

fn evaluated(folder: &Path, server: &Server, arguments: &[&str], json: bool) -> std::process::Output {
    write(folder, "rows.jsonl", ROWS);
    let shared = ["--file", "rows.jsonl", "--problems", "2", "--endpoint", &server.url, "--model", "m", "-q"];
    let json: &[&str] = if json { &["--json"] } else { &[] };
    run(folder, &[&["eval"], arguments, &shared[..], json].concat())
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| text.to_string()).collect()
}

/// First answers 7, 7, 7, 8 to both questions; asked again, everybody says 7.
fn stubborn() -> Server {
    Server::answering(|body| {
        let turns = body["messages"].as_array().map_or(0, Vec::len);
        let said =
            if turns == 1 { ["Answer: 7", "Answer: 7", "Answer: 7", "Answer: 8"] } else { ["Answer: 7"; 4] };
        let samples = body["n"].as_u64().unwrap_or(1) as usize;
        completion(body, &texts(&said[..samples]), false)
    })
}

#[test]
fn dialogues_stand_beside_an_independent_second_sample() {
    let folder = scratch();
    let server = stubborn();
    let arguments = ["--recipe", "confidence-vs-critique", "--set", "dialogues=4"];
    let found = json_of(&evaluated(folder.path(), &server, &arguments, true));
    let correction = &found["correction"];
    let value = |name: &str| correction[name]["value"].as_f64().unwrap_or(f64::NAN);
    let close =
        |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found}: {correction}");
    // a: 3 of 4 right, all kept, the wrong one repaired; b: 1 of 4 right, it breaks, nothing is repaired.
    assert_eq!((&correction["dialogues"], &correction["n"]), (&8.into(), &2.into()));
    assert_eq!((&correction["right_to_wrong"], &correction["wrong_to_right"]), (&1.into(), &1.into()));
    for (name, expected) in [("acc1", 0.5), ("acc2", 0.5), ("cl", 0.75), ("cs", 0.25), ("rss", 0.5)] {
        close(value(name), expected);
    }
    // Another sample keeps (.75·2/3 + .25·0)/1 and repairs (.25·1 + .75·1/3)/1.
    let alone = &correction["independent"];
    close(alone["cl"]["value"].as_f64().unwrap_or(f64::NAN), 0.5);
    close(alone["cs"]["value"].as_f64().unwrap_or(f64::NAN), 0.5);
    close(alone["cl_above"]["value"].as_f64().unwrap_or(f64::NAN), 0.25);
    close(alone["cs_above"]["value"].as_f64().unwrap_or(f64::NAN), -0.25);
    assert_eq!(correction["caution"], Value::Null);
    let shown = evaluated(folder.path(), &server, &arguments, false);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("an independent second sample: CL 50.0 %"), "{shown}");
}

#[test]
fn one_dialogue_is_said_to_be_no_evidence() {
    let folder = scratch();
    let server = stubborn();
    let arguments = ["--strategy", "ask-again", "--set", "dialogues=1"];
    let found = json_of(&evaluated(folder.path(), &server, &arguments, true));
    let caution = found["correction"]["caution"].as_str().unwrap_or_default();
    assert!(caution.contains("sampling noise"), "{found}");
    assert_eq!(found["correction"]["independent"], Value::Null);
    let shown = evaluated(folder.path(), &server, &arguments, false);
    assert!(String::from_utf8_lossy(&shown.stdout).contains(caution));
}

#[test]
fn retries_are_told_round_by_round_and_why_they_failed() {
    let folder = scratch();
    // The first question is solved by its second attempt, the second never.
    let server = Server::answering(|body| {
        let said = last_message(body);
        let text = if said.contains("You know the right answer") {
            "Count again."
        } else if said.contains("Decide why") {
            "The error is: model is not following the feedback"
        } else if said.contains("2 plus 5") && said.contains("Earlier attempts") {
            "Answer: 7"
        } else {
            "Answer: 9"
        };
        completion(body, &texts(&[text]), false)
    });
    let arguments = ["--recipe", "feedback-friction", "--set", "feedback=critic", "--set", "rounds=3"];
    let bare = json_of(&evaluated(folder.path(), &server, &arguments, true));
    assert!(bare["unsolved"]["no_target"].as_str().unwrap_or_default().contains("why_unsolved"), "{bare}");
    let judged = [&arguments[..], &["--set", "why_unsolved=true"]].concat();
    let found = json_of(&evaluated(folder.path(), &server, &judged, true));
    let rounds = found["rounds"].as_array().cloned().unwrap_or_default();
    let told: Vec<(f64, u64, u64, u64)> = rounds
        .iter()
        .map(|round| {
            let count = |name: &str| round[name].as_u64().unwrap_or(99);
            let accuracy = round["accuracy"]["value"].as_f64().unwrap_or(9.0);
            (accuracy, count("attempts"), count("repeated"), count("repaired"))
        })
        .collect();
    assert_eq!(told, [(0.0, 2, 0, 0), (0.5, 2, 1, 1), (0.5, 1, 1, 0)], "{found}");
    let unsolved = &found["unsolved"];
    assert_eq!((&unsolved["problems"], &unsolved["repeated"]), (&1.into(), &1.into()));
    assert_eq!(unsolved["why"], serde_json::json!({"not_following": 1}));
    assert_eq!(unsolved["resistance"]["value"], 1.0);
    let friction = &unsolved["friction"];
    assert_eq!(
        [&friction["q"]["value"], &friction["target"]["value"], &friction["gap"]["value"]],
        [&1.0, &1.0, &0.5],
        "both pieces of feedback were right: {unsolved}"
    );
    let shown = evaluated(folder.path(), &server, &judged, false);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.contains("not following the feedback 1") && shown.contains("missing +50.0 points"),
        "{shown}"
    );
}

#[test]
fn critiques_are_judged_turn_by_turn() {
    let folder = scratch();
    let critique = |verdict: &str, step: i32, answer: &str| {
        format!(
            "## Critique of Student Solution Steps\n### Critique of Step 1\nWell.\n## Conclusion of Critique\nThe solution \
             is {verdict}\nThe first error step number: {step}\n## Correction of Student Solution\n\
             ===CORRECTION_START===\nAnswer: {answer}\n===CORRECTION_END==="
        )
    };
    // Calls everything right at first; then finds the error, and loses the thread of the other solution.
    let server = Server::answering(move |body| {
        let first = body["messages"][0]["content"].as_str().unwrap_or_default().contains("2 plus 5");
        let text = match (last_message(body).contains("Are you sure"), first) {
            (false, true) => critique("Correct", -1, "8"),
            (true, true) => critique("Incorrect", 1, "7"),
            (false, false) => critique("Correct", -1, "8"),
            (true, false) => "Yes.".to_string(),
        };
        completion(body, &[text], false)
    });
    let arguments = ["--recipe", "real-critic", "--set", "solution=given", "--set", "turns=2"];
    let output = evaluated(folder.path(), &server, &arguments, true);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let found = json_of(&output);
    let turns = found["critiques"].as_array().cloned().unwrap_or_default();
    let told: Vec<_> = turns
        .iter()
        .map(|turn| {
            (&turn["critiques"], &turn["unreadable"], &turn["verdicts"], &turn["verdict_accuracy"]["value"])
        })
        .collect();
    let [two, one, none] = [Value::from(2), Value::from(1), Value::from(0)];
    let [half, whole] = [Value::from(0.5), Value::from(1.0)];
    assert_eq!(told, [(&two, &none, &two, &half), (&two, &one, &one, &whole)], "{found}");
    assert_eq!(found["rounds"].as_array().map(Vec::len), Some(3), "the curve over turns: {found}");
    assert_eq!(found["rounds"][2]["broken"], 1, "what cannot be read leaves no answer");
    let shown = evaluated(folder.path(), &server, &arguments, false);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("right verdicts"));
}
