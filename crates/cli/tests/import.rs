//! `elenchus import` from outside: from a recorded file to a choice, and what is said when something is wrong.

#![expect(clippy::expect_used, reason = "a test helper that fails should stop the test")]

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

fn elenchus(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_elenchus"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("the binary starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const REWARDED: &str = r#"{"id":1,"question":"1+1","gold":"2","level":"Level 1","samples":[{"text":"3","answer":"3","correct":false,"rm":0.1},{"text":"2","answer":"2","correct":true,"rm":0.9}]}"#;

#[test]
fn what_is_imported_can_be_selected_from() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    std::fs::write(folder.path().join("theirs.jsonl"), format!("{REWARDED}\nbroken\n")).expect("written");
    let arguments = ["import", "qwen-math-rm", "theirs.jsonl", "--out", "ours.jsonl", "--json"];
    let refused = elenchus(folder.path(), &arguments);
    assert_eq!(refused.status.code(), Some(3), "a broken line is a wrong input file");
    assert!(text(&refused.stderr).contains("`theirs.jsonl` line 2"), "{}", text(&refused.stderr));
    assert!(!folder.path().join("ours.jsonl").exists(), "nothing is written then");

    let skipped = elenchus(folder.path(), &[&arguments[..], &["--skip-bad-lines"]].concat());
    assert_eq!(skipped.status.code(), Some(0), "{}", text(&skipped.stderr));
    let said: Value = serde_json::from_slice(&skipped.stdout).expect("JSON");
    assert_eq!((&said["rows"], &said["skipped"]), (&Value::from(1), &Value::from(1)));

    let chosen = elenchus(folder.path(), &["select", "ours.jsonl", "--method", "best-of-n", "--json"]);
    let chosen: Value = serde_json::from_slice(&chosen.stdout).expect("JSON");
    assert_eq!(chosen["results"][0]["answer"], "2", "the reward prefers the second sample");
    assert_eq!(chosen["accuracy"]["value"], 1.0);
}

#[test]
fn rows_go_to_standard_output_and_mistakes_are_named() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    std::fs::write(folder.path().join("theirs.jsonl"), REWARDED).expect("written");
    let printed = elenchus(folder.path(), &["import", "qwen-math-rm", "theirs.jsonl"]);
    let row: Value = serde_json::from_slice(&printed.stdout).expect("one line of JSON");
    assert_eq!((&row["id"], &row["samples"][1]["score"]), (&Value::from("1"), &Value::from(0.9)));

    let listed = elenchus(folder.path(), &["import"]);
    assert!(text(&listed.stdout).contains("cotuq-judgements"), "without arguments the importers are listed");
    for (arguments, code, word) in [
        (vec!["import", "qwen-math", "theirs.jsonl"], 2, "`qwen-math-rm`"),
        (vec!["import", "qwen-math-rm", "theirs.jsonl", "--field", "rm"], 2, "no choice of `--field`"),
        (vec!["import", "codet", "theirs.jsonl"], 2, "--with"),
        (vec!["import", "qwen-math-rm", "absent.jsonl"], 3, "absent.jsonl"),
        (vec!["import", "qwen-math-rm"], 2, "<FILE>"),
    ] {
        let output = elenchus(folder.path(), &arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(word), "{arguments:?} does not name `{word}`: {said}");
        assert!(output.stdout.is_empty(), "{arguments:?} printed a result");
    }
}
