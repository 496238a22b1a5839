//! `elenchus grid` with another model as the evaluator, at a server of its own.

mod support;

use serde_json::Value;
use support::{Server, completion, json_of, last_message, run, scratch};

/// Wrong, right, wrong, … as samples; its judgement is that a response is right where it says so.
fn server() -> Server {
    Server::answering(|body| {
        let count = body["n"].as_u64().unwrap_or(1) as usize;
        let said = last_message(body);
        let texts: Vec<String> = match said.contains("single letter A or B") {
            true => {
                let (right, right_is_a) = (said.contains("so it is\n"), said.contains("(A) right"));
                vec![if right == right_is_a { "A" } else { "B" }.to_string(); count]
            }
            false => (0..count).map(|i| ["Answer: 0", "so it is\nAnswer: 1"][i % 2].to_string()).collect(),
        };
        completion(body, &texts, false)
    })
}

#[test]
fn another_model_is_the_evaluator_where_a_role_names_it() {
    let (actor, judge) = (server(), server());
    let role = format!("judge=big@{}", judge.url);
    let grid = |more: &[&str]| -> Value {
        let folder = scratch();
        let fixed = ["grid", "--task", "arithmetic", "--problems", "2", "--pilot", "2", "--times", "4"];
        let server = ["--endpoint", &actor.url, "--model", "m", "--role", &role, "--json", "-q"];
        json_of(&run(folder.path(), &[&fixed[..], &server[..], more].concat()))
    };
    let narrow = ["--generators", "steps", "--controllers", "vote,select,step-search"];
    let found = grid(&[&narrow[..], &["--evaluators", "model"]].concat());
    let rows = found["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
    let kinds: Vec<&str> = rows.iter().filter_map(|row| row["axes"]["evaluate"].as_str()).collect();
    assert_eq!(kinds, ["external-model", "external-model"], "{found}");
    assert!(judge.count() > 0, "the other model was asked");
    assert!(judge.asked().iter().all(|asked| last_message(&asked.body).contains("single letter A or B")));
    assert!(actor.asked().iter().all(|asked| !last_message(&asked.body).contains("single letter A or B")));
    // A server that is not known to continue prefixes.
    let skipped = found["skipped"][0]["triple"].as_str().unwrap_or_default();
    assert_eq!(skipped, "steps/model/step-search", "{found}");

    let found = grid(&["--generators", "steps", "--controllers", "select"]);
    let rows = found["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
    let evaluators: Vec<&str> = rows.iter().filter_map(|row| row["evaluator"].as_str()).collect();
    assert_eq!(evaluators, ["coin", "self", "tool", "model"], "a role for it is a wish for it");
}
