//! Compositions and recipe files as strategies of `ask`, `eval` and `compare`, over an OpenAI-compatible server.

mod support;

use serde_json::Value;
use support::{Server, code, completion, json_of, last_message, run, scratch, stderr, write};

/// Says 4, as a judge A.
fn server() -> Server {
    Server::answering(|body| {
        let count = body["n"].as_u64().unwrap_or(1) as usize;
        let text = if last_message(body).contains("single letter") { "A" } else { "2 + 2 = 4\nAnswer: 4" };
        completion(body, &vec![text.to_string(); count], false)
    })
}

/// Names of the stages of an answer.
fn stages(answer: &Value) -> Vec<String> {
    let nodes = answer["trace"]["nodes"].as_array().cloned().unwrap_or_default();
    nodes.iter().filter_map(|node| node["name"].as_str().map(str::to_string)).collect()
}

const MINE: &str = r#"
name = "mine"
title = "Three samples"
paper = "arXiv:2203.11171"
sheet = 1
summary = "A vote of three"
kind = "test-time"
state = "preview"

[triple]
generate = "three samples"
evaluate = "none"
control = "vote"
learner = "none"

[strategy]
name = "self-consistency"
settings = { samples = 3, temperature = 0.9, early_stop = false }
"#;

#[test]
fn the_best_of_several_is_chosen_by_an_evaluator_with_its_own_settings() {
    let folder = scratch();
    let server = server();
    let ask = [
        "ask",
        "What is 2+2?",
        "--strategy",
        "best of single, self-consistency@2 by judge",
        "--set",
        "by.reading=sample",
        "--set",
        "by.samples=3",
        "--set",
        "self-consistency.temperature=0.5",
        "--set",
        "self-consistency.early_stop=false",
        "--endpoint",
        &server.url,
        "--model",
        "m",
        "--json",
        "-q",
    ];
    let answer = json_of(&run(folder.path(), &ask));
    assert_eq!(answer["answer"], "4");
    assert!(stages(&answer).contains(&"single".to_string()), "{:?}", stages(&answer));
    let asked = server.asked();
    let judged: Vec<&Value> = asked
        .iter()
        .filter(|one| last_message(&one.body).contains("single letter"))
        .map(|one| &one.body["n"])
        .collect();
    assert!(
        !judged.is_empty() && judged.iter().all(|n| **n == 3),
        "replies are counted, three each: {judged:?}"
    );
    assert!(
        asked.iter().any(|one| one.body["n"] == 2 && one.body["temperature"] == 0.5),
        "the part's setting"
    );
    let wrong = [&ask[..5], &["by.reeding=sample"][..], &ask[10..]].concat();
    let output = run(folder.path(), &wrong);
    assert!(code(&output) != 0 && stderr(&output).contains("reeding"), "{}", stderr(&output));
}

#[test]
fn another_answers_where_the_first_cannot() {
    let folder = scratch();
    let server = server();
    // Certainty needs distributions, which no endpoint gives.
    let ask = [
        "ask",
        "What is 2+2?",
        "--strategy",
        "self-certainty else self-consistency@2",
        "--endpoint",
        &server.url,
        "--model",
        "m",
        "--json",
        "-q",
    ];
    let answer = json_of(&run(folder.path(), &ask));
    assert_eq!((&answer["answer"], server.count()), (&"4".into(), 1), "{answer}");
    let trace = answer["trace"].to_string();
    assert!(trace.contains("distributions"), "why the first could not: {trace}");
}

#[test]
fn eval_and_compare_take_compositions_and_recipe_files() {
    let folder = scratch();
    write(folder.path(), "my_recipe.toml", MINE);
    let server = server();
    let shared = ["--endpoint", &server.url, "--model", "m", "--problems", "2", "--json", "-q"];
    let eval = ["eval", "--recipe", "my_recipe.toml", "--set", "samples=5"];
    json_of(&run(folder.path(), &[&eval[..], &shared[..]].concat()));
    let all = |n: u64| server.asked().iter().filter(|one| one.body["n"] == n).count();
    assert_eq!(all(5), 2, "a setting wins over the file's");
    assert!(server.asked().iter().all(|one| one.body["temperature"] == 0.9), "and the others stay");
    let eval = [
        "eval",
        "--strategy",
        "my_recipe.toml then critique-and-refine",
        "--set",
        "critique-and-refine.rounds=1",
    ];
    let measured = json_of(&run(folder.path(), &[&eval[..], &shared[..]].concat()));
    assert_eq!((&measured["problems"], all(3)), (&2.into(), 2), "{measured}");
    let compare = [
        "compare",
        "--strategy",
        "single",
        "--strategy",
        "my_recipe.toml:samples=4",
        "--strategy",
        "best of single, my_recipe.toml by judge:by.reading=sample,my_recipe.toml.samples=7",
    ];
    let compared = json_of(&run(folder.path(), &[&compare[..], &shared[..]].concat()));
    assert_eq!(compared["strategies"].as_array().map(Vec::len), Some(3), "{compared}");
    assert_eq!((all(4), all(7)), (2, 2), "settings behind the colon");

    write(folder.path(), "broken.toml", "name = \"broken\"\nstratgy = 1\n");
    for (file, said) in [("broken.toml", "broken.toml:2"), ("nowhere.toml", "nowhere.toml")] {
        let output = run(folder.path(), &[&["eval", "--recipe", file][..], &shared[..]].concat());
        assert_ne!(code(&output), 0);
        assert!(stderr(&output).contains(said) && stderr(&output).contains("hint:"), "{}", stderr(&output));
    }
}

#[test]
fn ask_shows_time_and_tokens_of_each_stage_and_what_the_server_did() {
    let folder = scratch();
    let long = "two and two are four, as everybody knows who has counted\nAnswer: 4";
    let server = Server::answering(move |body| {
        let count = body["n"].as_u64().unwrap_or(1) as usize;
        completion(body, &vec![long.to_string(); count], false)
    });
    let ask = [
        "ask",
        "What is 2+2?",
        "--set",
        "samples=3",
        "--set",
        "early_stop=false",
        "--endpoint",
        &server.url,
        "--model",
        "m",
    ];
    let shown = stderr(&run(folder.path(), &ask));
    assert!(
        shown.contains("start ms") && shown.contains("took ms") && shown.contains("tokens in+out"),
        "{shown}"
    );
    assert!(shown.lines().any(|line| line.contains("10 + 1") && line.contains("actor:")), "{shown}");
    assert!(shown.contains("note: all 3 samples are the same text"), "{shown}");
    let composed = [
        "ask",
        "What is 2+2?",
        "--strategy",
        "single then critique-and-refine",
        "--endpoint",
        &server.url,
        "--model",
        "m",
    ];
    let shown = stderr(&run(folder.path(), &composed));
    let stage = shown.lines().find(|line| line.ends_with("\u{2014} single")).unwrap_or_default();
    assert!(stage.contains("10 + 1"), "a stage has the tokens of its calls: {shown}");
}
