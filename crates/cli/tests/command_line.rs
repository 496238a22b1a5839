//! The binary from outside: results, messages, exit codes, and files that others feed in.

#![expect(clippy::expect_used, reason = "a test helper that fails should stop the test")]

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

/// Runs the binary in a scratch folder with its own cache.
fn elenchus(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_elenchus"))
        .args(arguments)
        .current_dir(folder)
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .output()
        .expect("the binary starts")
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(output: &Output) -> Value {
    assert_eq!(code(output), 0, "{}", stderr(output));
    serde_json::from_slice(&output.stdout).expect("standard output is JSON and nothing else")
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a scratch folder")
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).expect("the scratch folder can be written");
}

#[test]
fn mistakes_on_the_command_line_are_named_with_a_hint_and_code_2() {
    let folder = scratch();
    for (arguments, word) in [
        (vec!["reproduce", "self-certanty"], "self-certainty"),
        (vec!["improve", "--recipe", "b-sta"], "b-star"),
        (vec!["improve", "--set", "rounds.train.stepz=3"], "stepz"),
        (vec!["improve", "--set", "rounds.train.steps=many"], "many"),
        (vec!["improve", "--task-set", "stepz=3"], "stepz"),
        (vec!["eval", "--task", "aritmetic"], "arithmetic"),
        (vec!["eval", "--strategy", "self-consistancy"], "self-consistency"),
        (vec!["eval", "--strategy", "self-consistency", "--set", "sampels=3"], "sampels"),
        (vec!["models", "nowhere"], "nowhere"),
        (vec!["ask", "1+1", "--voice", "loud"], "compact"),
        (vec!["select", "--method", "bordo", "x.jsonl"], "borda"),
        (vec!["eval", "--split", "validate"], "validation"),
        (vec!["eval", "--split", "validation", "--file", "x.jsonl"], "--split"),
        (vec!["recipes", "--parts", "best-of-m"], "best-of-n"),
        (vec!["reproduce", "fobar", "--set", "question=3"], "question"),
    ] {
        let output = elenchus(folder.path(), &arguments);
        let text = stderr(&output);
        assert_eq!(code(&output), 2, "{arguments:?}: {text}");
        assert!(text.contains(word), "{arguments:?} does not name `{word}`: {text}");
        assert!(text.contains("hint:"), "{arguments:?} gives no hint: {text}");
        assert!(output.stdout.is_empty(), "{arguments:?} printed a result");
    }
}

#[test]
fn files_that_are_not_there_are_named_with_a_hint_and_code_3() {
    let folder = scratch();
    for arguments in [
        vec!["recipes", "mine.toml"],
        vec!["verify", "mine.toml"],
        vec!["select", "mine.toml"],
        vec!["eval", "--file", "mine.toml"],
        vec!["eval", "--replay", "mine.toml"],
        vec!["train", "mine.toml", "--out", "model"],
        vec!["resume", "mine.toml"],
        vec!["report", "mine.toml"],
    ] {
        let output = elenchus(folder.path(), &arguments);
        let text = stderr(&output);
        assert_eq!(code(&output), 3, "{arguments:?}: {text}");
        assert!(text.contains("mine.toml") && text.contains("hint: "), "{arguments:?}: {text}");
    }
}

#[test]
fn selection_over_recorded_samples() {
    let folder = scratch();
    write(
        folder.path(),
        "samples.jsonl",
        concat!(
            r##"{"id":1,"question":"2+2","gold":"4","samples":[{"text":"#4","answer":"4","score":0.1},{"text":"#5","answer":"5","score":0.9},{"text":"#4","answer":"4","score":0.2}]}"##,
            "\n",
            r#"{"id":"b","question":"1/2","gold":"0.5","samples":[{"text":"the answer is \\boxed{\\frac12}"}]}"#,
            "\n"
        ),
    );
    let vote = json(&elenchus(folder.path(), &["select", "samples.jsonl", "--json"]));
    assert_eq!(vote["method"], "self-consistency");
    assert_eq!(vote["questions"], 2);
    assert_eq!(vote["results"][0]["answer"], "4", "two of three say 4");
    assert_eq!(vote["results"][0]["correct"], true);
    assert_eq!(vote["results"][1]["correct"], true, "a fraction equals its decimal");
    assert_eq!(vote["accuracy"]["value"], 1.0);
    let first =
        elenchus(folder.path(), &["select", "samples.jsonl", "--method", "best-of-n", "--samples", "3"]);
    assert_eq!(code(&first), 3, "the second question has no score: {}", stderr(&first));
    assert!(
        stderr(&first).contains("question `b`") && stderr(&first).contains("hint: "),
        "{}",
        stderr(&first)
    );
    let methods = json(&elenchus(folder.path(), &["select", "--list", "--json"]));
    let methods: Vec<&str> =
        methods.as_array().into_iter().flatten().filter_map(|m| m["name"].as_str()).collect();
    assert!(methods.contains(&"borda"), "{methods:?}");
}

/// Programs are run by this very executable, in processes of its own.
#[cfg(target_os = "linux")]
#[test]
fn programs_of_a_file_are_run_against_their_tests() {
    let folder = scratch();
    write(
        folder.path(),
        "mbpp.jsonl",
        concat!(
            r#"{"task_id":1,"text":"Add one to a number.","code":"def more(x): return x + 1","test_list":["assert more(1) == 2","assert more(5) == 6"]}"#,
            "\n",
            r#"{"task_id":2,"text":"Turn a list around.","code":"def back(x): return x[::-1]","test_list":["assert back([1, 2]) == [2, 1]"]}"#,
            "\n"
        ),
    );
    write(
        folder.path(),
        "samples.jsonl",
        concat!(
            r#"{"id":"MBPP/1","question":"Add one to a number.","samples":[{"text":"Like this:\n```python\ndef more(x):\n    return x + 1\n```"}]}"#,
            "\n",
            r#"{"id":"MBPP/2","question":"Turn a list around.","samples":[{"text":"```python\ndef back(x):\n    return x\n```"}]}"#,
            "\n"
        ),
    );
    let run = |more: &[&str]| {
        let always =
            ["eval", "--task", "program", "--file", "mbpp.jsonl", "--replay", "samples.jsonl", "--json"];
        elenchus(folder.path(), &[&always[..], more].concat())
    };
    let measured = json(&run(&["--task-set", "runner=embedded"]));
    assert_eq!(measured["problems"], 2, "{measured}");
    assert_eq!(measured["accuracy"]["value"], 0.5, "one program is right, one is wrong: {measured}");
    let missing = run(&["--task-set", "runner=cpython", "--task-set", "python=no-such-python"]);
    assert_ne!(code(&missing), 0, "without an interpreter nothing is called wrong");
    let text = stderr(&missing);
    assert!(text.contains("no-such-python") && text.contains("hint:"), "{text}");
}

#[test]
fn pairs_are_verified() {
    let folder = scratch();
    write(
        folder.path(),
        "pairs.jsonl",
        concat!(r#"{"id":1,"gold":"1/2","pred":"0.5"}"#, "\n", r#"{"id":2,"gold":"3","pred":"4"}"#, "\n"),
    );
    let result = json(&elenchus(folder.path(), &["verify", "pairs.jsonl", "--json"]));
    assert_eq!((&result["pairs"], &result["equivalent"]), (&Value::from(2), &Value::from(1)));
    assert_eq!(result["results"][0]["equivalent"], true);
    assert_eq!(result["results"][1]["equivalent"], false);
}

#[test]
fn confidences_are_measured() {
    let folder = scratch();
    let rows: String =
        (0..10).map(|i| format!("{{\"id\":{i},\"confidence\":0.{i},\"correct\":{}}}\n", i > 4)).collect();
    write(folder.path(), "judgements.jsonl", &rows);
    let result = json(&elenchus(folder.path(), &["measure", "judgements.jsonl", "--json"]));
    assert_eq!(result["n"], 10);
    assert_eq!(result["auroc"], 1.0, "confidence divides right from wrong");
    for field in ["accuracy", "brier", "nll"] {
        assert!(result[field].is_number(), "{field}");
    }
    assert!(result["ece"]["equal_width"].is_number() && result["ece"]["equal_mass"].is_number());
    write(folder.path(), "bad.jsonl", "{\"id\":1,\"confidence\":1.5,\"correct\":true}\n");
    let refused = elenchus(folder.path(), &["measure", "bad.jsonl"]);
    assert_eq!(code(&refused), 3, "a confidence above 1 is wrong input");
}

#[test]
fn broken_lines_are_named_or_counted() {
    let folder = scratch();
    write(
        folder.path(),
        "pairs.jsonl",
        "{\"id\":1,\"gold\":\"1\",\"pred\":\"1\"}\n{\"id\":2,\"gold\n{\"id\":3,\"gold\":\"1\",\"pred\":\"2\"}\n",
    );
    let refused = elenchus(folder.path(), &["verify", "pairs.jsonl"]);
    assert_eq!(code(&refused), 3, "{}", stderr(&refused));
    assert!(stderr(&refused).contains("`pairs.jsonl` line 2"), "{}", stderr(&refused));
    let skipped = elenchus(folder.path(), &["verify", "pairs.jsonl", "--skip-bad-lines", "--json"]);
    assert_eq!(json(&skipped)["pairs"], 2);
    assert!(stderr(&skipped).contains("1 broken line"), "{}", stderr(&skipped));
    write(folder.path(), "empty.jsonl", "");
    let empty = elenchus(folder.path(), &["verify", "empty.jsonl"]);
    assert_eq!(code(&empty), 3, "an empty file is wrong input: {}", stderr(&empty));
}

#[test]
fn broken_lines_of_problems_and_recorded_samples_are_named_or_counted() {
    let folder = scratch();
    let problem = |id: &str, answer: &str| {
        format!("{{\"id\":\"{id}\",\"question\":\"{id}+1?\",\"answer\":\"{answer}\"}}\n")
    };
    let sample = |id: &str| {
        format!("{{\"id\":\"{id}\",\"question\":\"{id}+1?\",\"samples\":[{{\"text\":\"#### 2\"}}]}}\n")
    };
    write(
        folder.path(),
        "problems.jsonl",
        &format!("{}{{\"question\":\n{}", problem("1", "2"), problem("2", "3")),
    );
    write(folder.path(), "samples.jsonl", &format!("{}{}broken\n", sample("1"), sample("2")));
    let eval = ["eval", "--file", "problems.jsonl", "--replay", "samples.jsonl", "--json"];
    let refused = elenchus(folder.path(), &eval);
    assert_eq!(code(&refused), 3, "{}", stderr(&refused));
    assert!(stderr(&refused).contains("`problems.jsonl`, line 2"), "{}", stderr(&refused));
    let skipped = elenchus(folder.path(), &[&eval[..], &["--skip-bad-lines"]].concat());
    let found = json(&skipped);
    assert_eq!((&found["problems"], &found["accuracy"]["value"]), (&2.into(), &0.5.into()), "{found}");
    let said = stderr(&skipped);
    assert!(said.contains("1 broken lines left out of `problems.jsonl` (line 2)"), "{said}");
    assert!(said.contains("1 broken lines left out (line 3)"), "{said}");

    let item = r#"{"id":"w","question":"Who wrote it?","gold":"Ann","alternative":"Bob"}"#;
    write(folder.path(), "items.jsonl", &format!("broken\n{item}\n"));
    let said = r#"{"id":"w","question":"Who wrote it?","samples":[{"text":"Answer: Ann"}]}"#;
    write(folder.path(), "said.jsonl", said);
    let eval = ["eval", "--task", "disputed", "--file", "items.jsonl", "--replay", "said.jsonl", "--json"];
    assert_eq!(code(&elenchus(folder.path(), &eval)), 3);
    let skipped = elenchus(folder.path(), &[&eval[..], &["--skip-bad-lines"]].concat());
    assert_eq!(json(&skipped)["accuracy"]["value"], 1.0);
    assert!(
        stderr(&skipped).contains("1 broken lines left out of `items.jsonl` (line 1)"),
        "{}",
        stderr(&skipped)
    );
}

#[test]
fn broken_lines_of_questions_to_databases_and_of_evidence_are_named_or_counted() {
    let folder = scratch();
    write(folder.path(), "databases.jsonl", "{\"db\":\"d\",\"sqlite_sql\":\"CREATE TABLE t (a);\"}\n");
    let asks = |db: &str| {
        format!(
            "{{\"id\":\"{db}\",\"db\":\"{db}\",\"question\":\"How many?\",\"gold_sql\":\"SELECT count(*) FROM t\"}}\n"
        )
    };
    write(folder.path(), "sql.jsonl", &format!("broken\n{}{}", asks("d"), asks("elsewhere")));
    let passage = "{\"id\":\"p\",\"question\":\"Who?\",\"answer\":\"Ann\",\"passages\":[\"Ann.\"]}\n";
    write(folder.path(), "evidence.jsonl", &format!("{passage}{{\"question\":\"Who?\"}}\n{{\n"));
    let sample = |question: &str, text: &str| {
        format!(
            "{{\"id\":\"{question}\",\"question\":\"{question}\",\"samples\":[{{\"text\":\"{text}\"}}]}}\n"
        )
    };
    let said = format!("{}{}", sample("How many?", "SELECT count(*) FROM t"), sample("Who?", "Answer: Ann"));
    write(folder.path(), "said.jsonl", &said);
    for (task, named, lines) in [("sql", "row 1", "(line 1, 3)"), ("evidence", "line 2", "(line 2, 3)")] {
        let file = format!("{task}.jsonl");
        let eval = ["eval", "--task", task, "--file", &file, "--replay", "said.jsonl", "--json"];
        let refused = elenchus(folder.path(), &eval);
        assert_eq!(code(&refused), 3, "{}", stderr(&refused));
        assert!(stderr(&refused).contains(&file) && stderr(&refused).contains(named), "{}", stderr(&refused));
        let skipped = elenchus(folder.path(), &[&eval[..], &["--skip-bad-lines"]].concat());
        let found = json(&skipped);
        assert_eq!((&found["problems"], &found["accuracy"]["value"]), (&1.into(), &1.0.into()), "{found}");
        let counted = format!("2 broken lines left out of `{file}` {lines}");
        assert!(stderr(&skipped).contains(&counted), "{}", stderr(&skipped));
    }
}

#[test]
fn the_embedded_model_answers_and_strategies_compare() {
    let folder = scratch();
    let answer = json(&elenchus(
        folder.path(),
        &["ask", "g=50;e=g-1;d=e+81;d?", "--task", "math", "--json", "--set", "samples=4", "--quiet"],
    ));
    assert_eq!(answer["trace"]["version"], 1);
    let calls = answer["usage"]["calls"].as_u64().unwrap_or(0);
    assert!(calls >= 1, "what was spent is told");
    let compared = json(&elenchus(
        folder.path(),
        &[
            "compare",
            "--strategy",
            "single",
            "--strategy",
            "self-consistency:samples=4",
            "--problems",
            "20",
            "--task-set",
            "steps=2",
            "--json",
            "--quiet",
        ],
    ));
    assert_eq!(compared["strategies"].as_array().map(Vec::len), Some(2));
    let interval = &compared["comparisons"][0]["difference"];
    assert!(interval["low"].as_f64() <= interval["high"].as_f64(), "{interval}");
}

#[test]
fn a_budget_too_small_is_said_before_the_first_call() {
    let folder = scratch();
    let output = elenchus(folder.path(), &["ask", "g=50;g?", "--max-calls", "0", "--quiet"]);
    assert_eq!(code(&output), 5, "{}", stderr(&output));
    assert!(stderr(&output).contains("hint: raise `--max-calls`"), "{}", stderr(&output));
}

#[test]
fn an_endpoint_that_refuses_is_a_model_failure() {
    let folder = scratch();
    write(folder.path(), "elenchus.toml", "[endpoint.layers.retry]\nattempts = 2\nbase_seconds = 0.01\n");
    // Nothing listens on port 9 of the loopback.
    let output = elenchus(
        folder.path(),
        &["ask", "1+1", "--endpoint", "http://127.0.0.1:9/v1", "--model", "m", "--quiet"],
    );
    assert_eq!(code(&output), 4, "{}", stderr(&output));
    assert!(stderr(&output).contains("127.0.0.1:9"), "where it was asked: {}", stderr(&output));
    assert!(stderr(&output).contains("hint:"), "{}", stderr(&output));
}

/// A run small enough for a test.
const TINY: &[&str] = &[
    "--rounds",
    "1",
    "--set",
    "rounds.problems=24",
    "--set",
    "rounds.samples=2",
    "--set",
    "rounds.probe.problems=8",
    "--set",
    "rounds.probe.samples=2",
    "--set",
    "rounds.train.steps=3",
    "--set",
    "rounds.train.batch=4",
    "--set",
    "rounds.evaluate.problems=12",
    "--set",
    "rounds.evaluate.samples=2",
    "--task-set",
    "steps=2",
    "--json",
    "--quiet",
];

#[test]
fn improve_reports_what_the_contract_names_and_resume_gives_the_same() {
    let folder = scratch();
    let mut arguments = vec!["improve", "--out", "run"];
    arguments.extend(TINY);
    let result = json(&elenchus(folder.path(), &arguments));
    let rounds = result["rounds"].as_array().cloned().unwrap_or_default();
    assert_eq!(rounds.len(), 2, "the start and one round");
    for (index, round) in rounds.iter().enumerate() {
        assert_eq!(round["round"], index);
        for field in ["greedy", "sampled", "vote", "pass"] {
            for number in ["value", "low", "high"] {
                assert!(round[field][number].is_number(), "{field}.{number} of round {index}");
            }
        }
        for field in ["wrong_steps", "rows", "tokens", "seconds"] {
            assert!(round[field].is_number(), "{field} of round {index}");
        }
        for field in ["temperature", "threshold", "balance"] {
            let value = round.get(field).unwrap_or_else(|| panic!("{field} of round {index} is not there"));
            assert_eq!(
                value.is_null(),
                index == 0,
                "{field} of round {index}: nothing is chosen at the start"
            );
        }
    }
    assert!(result["seconds"].is_number());
    assert_eq!(result["report"], "run/report.html");
    let report = std::fs::read_to_string(folder.path().join("run/report.html")).expect("the report");
    assert!(report.contains("<svg") && !report.contains("src=\"http"), "plots inside, nothing from outside");

    let again = json(&elenchus(folder.path(), &["resume", "run", "--json", "--quiet"]));
    for field in
        ["greedy", "sampled", "vote", "pass", "wrong_steps", "temperature", "threshold", "balance", "rows"]
    {
        assert_eq!(again["rounds"][1][field], rounds[1][field], "{field} after a resume");
    }
    let taken = elenchus(folder.path(), &arguments);
    assert_ne!(code(&taken), 0, "a run folder is not overwritten");
    assert!(stderr(&taken).contains("hint:"), "{}", stderr(&taken));
}

#[test]
fn lists_are_json_with_the_names_of_the_contract() {
    let folder = scratch();
    let recipes = json(&elenchus(folder.path(), &["recipes", "--json"]));
    for field in ["name", "paper", "sheet", "state"] {
        assert!(!recipes[0][field].is_null(), "{field}");
    }
    assert!(recipes[0].get("verdict").is_some());
    let tasks = json(&elenchus(folder.path(), &["tasks", "--json"]));
    assert!(tasks.as_array().is_some_and(|t| t.iter().any(|t| t["name"] == "arithmetic")));
    let estimate = json(&elenchus(
        folder.path(),
        &["estimate", "--strategy", "self-consistency", "--set", "samples=5", "--problems", "10", "--json"],
    ));
    assert!(estimate["completion_tokens"].as_u64().unwrap_or(0) >= 10 * 5 * 300, "{estimate}");
}

#[test]
fn a_model_card_has_every_task_and_skill() {
    let folder = scratch();
    let arguments =
        ["models", "embedded", "--card", "--problems", "12", "--samples", "3", "--json", "--quiet"];
    let card = json(&elenchus(folder.path(), &arguments));
    let tasks = card["tasks"].as_array().map_or(0, Vec::len);
    assert_eq!(tasks, 15, "the default, 1 to 8 steps, four forms, Countdown with 3 and 4 numbers");
    for skill in ["judge", "critique", "refine", "again", "aggregate"] {
        let lines = card["skills"].as_array().cloned().unwrap_or_default();
        assert!(lines.iter().any(|line| line["skill"] == skill), "{skill} is missing");
    }
    let greedy = card["tasks"][0]["greedy"]["value"].as_f64().unwrap_or(0.0);
    assert!(greedy > 0.2, "the embedded model solves some default problems, not {greedy}");
}

/// The names under the heading `Commands:` of a help text.
fn commands_in(help: &str) -> Vec<String> {
    let list = help.split("\nCommands:\n").nth(1).unwrap_or_default();
    let rows = list.lines().take_while(|line| !line.trim().is_empty());
    let names = rows.filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next().map(String::from));
    names.filter(|name| name != "help").collect()
}

fn reference(folder: &Path) -> String {
    let mut text =
        String::from("# Commands\n\nGenerated: `ELENCHUS_UPDATE=1 cargo test --release -p elenchus-cli`.\n");
    // Every command, and the commands below it.
    let mut left = vec![Vec::<String>::new()];
    while let Some(path) = left.pop() {
        let mut arguments: Vec<&str> = path.iter().map(String::as_str).collect();
        arguments.push("--help");
        let output = elenchus(folder, &arguments);
        let help = String::from_utf8_lossy(&output.stdout).replace("elenchus.exe", "elenchus");
        let name = [&["elenchus".to_string()], &path[..]].concat().join(" ");
        text.push_str(&format!("\n## {name}\n\n```text\n{}\n```\n", help.trim_end()));
        let below = commands_in(&help).into_iter().map(|name| [&path[..], &[name]].concat());
        left.extend(below.rev());
    }
    text
}

#[test]
fn the_command_reference_is_up_to_date() {
    let folder = scratch();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/commands.md");
    let wanted = reference(folder.path());
    for command in ["grid", "audit", "calibrate", "lab build"] {
        assert!(wanted.contains(&format!("\n## elenchus {command}\n")), "{command} is not in it");
    }
    if std::env::var_os("ELENCHUS_UPDATE").is_some() {
        std::fs::write(&path, &wanted).expect("the page can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "docs/reference/commands.md is stale: ELENCHUS_UPDATE=1 cargo test --release -p elenchus-cli"
    );
}

#[test]
fn the_lab_lists_its_checkpoints_and_names_what_is_missing() {
    let folder = scratch();
    let rows = json(&elenchus(folder.path(), &["lab", "list", "--seeds", "1,7", "--json"]));
    let rows = rows.as_array().expect("a list");
    assert!(rows.len() >= 2 && rows.len().is_multiple_of(2), "every checkpoint with both seeds");
    assert!(rows.iter().all(|row| row["state"] == "not made"), "the cache of this test is empty");
    let keys: std::collections::HashSet<_> = rows.iter().map(|row| row["folder"].to_string()).collect();
    assert_eq!(keys.len(), rows.len(), "every seed has a folder of its own");
    let name = rows[0]["name"].as_str().expect("a name");
    let output = elenchus(folder.path(), &["lab", "path", name, "--seed", "7"]);
    let hint = format!("hint: `elenchus lab build {name} --seeds 7` makes it");
    assert!(code(&output) == 2 && stderr(&output).contains(&hint), "{}", stderr(&output));
    let output = elenchus(folder.path(), &["lab", "build", "own-juge"]);
    assert!(code(&output) == 2 && stderr(&output).contains("own-judge"), "{}", stderr(&output));
    let elsewhere = folder.path().join("elsewhere");
    let there = elsewhere.to_str().expect("a path");
    let rows = json(&elenchus(folder.path(), &["lab", "list", "--cache", there, "--json"]));
    assert!(rows[0]["folder"].as_str().expect("a path").starts_with(there), "{rows}");
}

#[test]
fn strategies_compose_on_the_command_line() {
    let folder = scratch();
    let question = "g=50;e=g-1;d=e+81;d?";
    let ask = |strategy: &str, settings: &[&str]| {
        let arguments = [&["ask", question, "--json", "--strategy", strategy], settings].concat();
        elenchus(folder.path(), &arguments)
    };
    let output =
        ask("self-consistency@3 then critique-and-refine", &["--set", "critique-and-refine.rounds=1"]);
    let answer = json(&output);
    assert_eq!(answer["trace"]["strategy"], "then");
    let stages: Vec<&str> = answer["trace"]["nodes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|node| node["name"].as_str())
        .collect();
    assert!(stages.starts_with(&["self-consistency@3", "critique-and-refine"]), "{stages:?}");
    for (strategy, settings, said) in [
        ("self-consistency then self-consistency", vec![], "critique-and-refine"),
        ("self-consistency else", vec![], "hint:"),
        ("self-consistency else single", vec!["--set", "samples=3"], "self-consistency.samples"),
    ] {
        let output = ask(strategy, &settings);
        assert_eq!(code(&output), 2, "{strategy}: {}", stderr(&output));
        assert!(stderr(&output).contains(said), "{strategy}: {}", stderr(&output));
    }
}

/// What is counted beforehand is what is done; tokens are within a factor of 1.5, because texts change while a model learns.
#[test]
fn an_estimate_of_improve_counts_what_improve_does() {
    let folder = scratch();
    let options =
        ["--small", "--rounds", "1", "--no-control", "--set", "rounds.problems=64", "--json", "--quiet"];
    let estimate = [&["estimate", "improve", "--trial-seconds", "0.4"], &options[..]].concat();
    let expected = json(&elenchus(folder.path(), &estimate));
    assert!(!folder.path().join("runs").exists(), "no run is begun");
    let done = json(&elenchus(folder.path(), &[&["improve", "--out", "run"], &options[..]].concat()));
    let rounds = done["rounds"].as_array().expect("rounds");
    let sum = |field: &str| rounds.iter().filter_map(|round| round[field].as_u64()).sum::<u64>();
    let count = |of: &str, field: &str| expected[of][field].as_u64().expect("a number");
    assert_eq!(count("work", "probed") + count("work", "sampled"), sum("drawn"), "{expected}");
    assert_eq!(count("work", "steps"), 16, "a tenth of the recipe's 160: {expected}");
    let tokens: u64 =
        ["probed", "sampled", "measured", "trained"].map(|field| count("tokens", field)).iter().sum();
    let ratio = tokens as f64 / sum("tokens") as f64;
    assert!((1.0 / 1.5..1.5).contains(&ratio), "{tokens} expected, {} done", sum("tokens"));
    assert!(expected["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{expected}");
    let text =
        elenchus(folder.path(), &[&["estimate", "improve", "--trial-seconds", "0"], &options[..6]].concat());
    let said = String::from_utf8_lossy(&text.stdout);
    assert!(said.contains("rows read in training") && said.contains("optimiser steps  16"), "{said}");
    let neither = elenchus(folder.path(), &["estimate"]);
    assert_eq!(code(&neither), 2, "{}", stderr(&neither));
}

#[test]
fn recorded_methods_are_compared_in_pairs() {
    let folder = scratch();
    let sample = |answer: &str, score: f64| format!("{{\"text\":\"#### {answer}\",\"score\":{score}}}");
    let row = |id: usize, gold: bool, samples: [String; 3]| {
        let gold = if gold { ",\"gold\":\"7\"" } else { "" };
        format!("{{\"id\":{id},\"question\":\"?\"{gold},\"samples\":[{}]}}\n", samples.join(","))
    };
    // Twelve questions that only the vote gets right, two that only the score does, one of which nobody knows.
    let vote = |id| row(id, true, [sample("8", 9.0), sample("7", 1.0), sample("7", 1.0)]);
    let score = |id| row(id, true, [sample("7", 9.0), sample("8", 1.0), sample("8", 1.0)]);
    let rows: String = (0..12).map(vote).chain((12..14).map(score)).collect();
    let unknown = row(14, false, [sample("1", 1.0), sample("1", 1.0), sample("1", 1.0)]);
    write(folder.path(), "samples.jsonl", &format!("{rows}{unknown}"));
    let select = ["select", "samples.jsonl", "--method", "majority", "--against", "best-of-n"];
    let more = ["--against", "self-consistency:samples=1"];
    let found = json(&elenchus(folder.path(), &[&select[..], &more, &["--json"]].concat()));
    assert_eq!(found["method"], "self-consistency");
    assert_eq!(found["against"][1]["method"], "self-consistency:samples=1");
    assert_eq!(found["against"][0]["results"].as_array().map(Vec::len), Some(15));
    let compared = &found["comparisons"][0];
    assert_eq!(compared["questions"], 14, "of those where it is known what is right");
    assert_eq!(
        (&compared["mcnemar"]["only_first"], &compared["mcnemar"]["only_second"]),
        (&12.into(), &2.into())
    );
    assert_eq!(compared["preference"], "first");
    let value = compared["difference"]["value"].as_f64().unwrap_or(0.0);
    assert!((value - 10.0 / 14.0).abs() < 1e-12, "{compared}");
    let (raw, adjusted) = (&compared["mcnemar"]["p_value"], &found["adjusted_p"][0]);
    assert_eq!(adjusted.as_f64(), raw.as_f64().map(|p| 2.0 * p), "two tests");
    let text = elenchus(folder.path(), &select);
    let said = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(said.contains("self-consistency on 15 questions: 85.7 %"), "{said}");
    assert!(said.contains("self-consistency is better than best-of-n by 71.4 points"), "{said}");
    assert!(said.contains("McNemar p = ") && said.contains("only: 12;"), "{said}");
    let alone = json(&elenchus(folder.path(), &["select", "samples.jsonl", "--json"]));
    assert!(alone.get("comparisons").is_none() && alone.get("against").is_none(), "{alone}");
    for (arguments, said) in [
        (vec!["--against", "bordda"], "`borda`"),
        (vec!["--against", "first:by=score"], "compares no numbers"),
        (vec!["--against", "borda:power"], "PATH=VALUE"),
    ] {
        let refused = elenchus(folder.path(), &[&["select", "samples.jsonl"], &arguments[..]].concat());
        assert_eq!(code(&refused), 2, "{}", stderr(&refused));
        assert!(
            stderr(&refused).contains(said) && stderr(&refused).contains("hint:"),
            "{}",
            stderr(&refused)
        );
    }
    write(folder.path(), "unknown.jsonl", &unknown);
    let refused = elenchus(folder.path(), &["select", "unknown.jsonl", "--against", "first"]);
    assert_eq!(code(&refused), 3, "{}", stderr(&refused));
    assert!(stderr(&refused).contains("what is right"), "{}", stderr(&refused));
}
