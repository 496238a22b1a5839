//! `docs/schema/*.json` and the examples of `docs/formats.md` say what the types say.
//!
//! `ELENCHUS_UPDATE=1 cargo test -p elenchus-remember --test formats` writes the schema files anew.

use elenchus_remember::data::{
    PreferenceRow, PromptCompletionRow, TrainingRow, UnpairedPreferenceRow, VerdictRow,
};
use elenchus_trace::{JudgementRow, PairRow, SampleRow, Trace};
use serde_json::{Value, json};
use std::path::PathBuf;

fn docs() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs"))
}

/// Marks fields in which a number is accepted too and kept as its text; the derived schema knows only the text.
fn accept_numbers(mut schema: Value, fields: &[&str]) -> Value {
    for field in fields {
        let property = &mut schema["properties"][*field];
        let kind = &property["type"];
        property["type"] = match kind {
            Value::Array(kinds) => kinds.iter().cloned().chain([json!("number")]).collect(),
            _ => json!([kind, "number"]),
        };
    }
    schema
}

fn schemas() -> Vec<(&'static str, Value)> {
    let samples = accept_numbers(schemars::schema_for!(SampleRow).to_value(), &["id", "gold"]);
    let pairs = accept_numbers(schemars::schema_for!(PairRow).to_value(), &["id", "gold", "pred"]);
    let judgements = accept_numbers(schemars::schema_for!(JudgementRow).to_value(), &["id"]);
    vec![
        ("samples", samples),
        ("pairs", pairs),
        ("judgements", judgements),
        ("verdicts", schemars::schema_for!(VerdictRow).to_value()),
        ("trace", schemars::schema_for!(Trace).to_value()),
        ("prompt-completion", schemars::schema_for!(PromptCompletionRow).to_value()),
        ("preference", schemars::schema_for!(PreferenceRow).to_value()),
        ("unpaired-preference", schemars::schema_for!(UnpairedPreferenceRow).to_value()),
    ]
}

#[test]
fn schema_files_are_current() {
    let update = std::env::var("ELENCHUS_UPDATE").is_ok_and(|value| value == "1");
    let mut stale = Vec::new();
    for (name, schema) in schemas() {
        let path = docs().join("schema").join(format!("{name}.json"));
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        if update {
            std::fs::write(&path, text).unwrap();
        } else if std::fs::read_to_string(&path).unwrap_or_default() != text {
            stale.push(name);
        }
    }
    assert!(
        stale.is_empty(),
        "docs/schema is stale for {stale:?}; `ELENCHUS_UPDATE=1 cargo test -p elenchus-remember --test formats` writes it anew"
    );
}

#[test]
fn every_schema_file_has_a_type_and_is_named_in_the_page() {
    let page = std::fs::read_to_string(docs().join("formats.md")).unwrap();
    let known: Vec<String> = schemas().iter().map(|(name, _)| format!("{name}.json")).collect();
    for entry in std::fs::read_dir(docs().join("schema")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(known.contains(&name), "docs/schema/{name} belongs to no type");
    }
    for name in known {
        assert!(page.contains(&format!("(schema/{name})")), "docs/formats.md does not link schema/{name}");
    }
}

/// The lines of every block that begins with three backticks, `jsonl` and this name.
fn examples(page: &str, name: &str) -> Vec<String> {
    let start = format!("```jsonl {name}");
    let mut found = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        if inside && !line.starts_with("```") {
            found.push(line.to_string());
        }
        inside = if line.starts_with("```") { !inside && line == start } else { inside };
    }
    found
}

/// Reads each example, and writes and reads it again: nothing that the page shows may be lost on the way.
#[expect(clippy::unwrap_used, clippy::panic, reason = "a helper of tests fails as a test does")]
fn check<T: serde::Serialize + serde::de::DeserializeOwned>(page: &str, name: &str) -> Vec<T> {
    let lines = examples(page, name);
    assert!(!lines.is_empty(), "docs/formats.md has no example of {name}");
    let read = |line: &String| -> T {
        let row: T = serde_json::from_str(line).unwrap_or_else(|error| panic!("{name}: {error}\n{line}"));
        let again = serde_json::to_value(&row).unwrap();
        let shown: Value = serde_json::from_str(line).unwrap();
        for (field, value) in shown.as_object().unwrap() {
            let kept = &again[field];
            // A number given as identifier is kept as its text.
            let same = kept == value || kept.as_str() == Some(value.to_string().as_str());
            assert!(same || value.is_object() || value.is_array(), "{name}: `{field}` is lost: {line}");
        }
        row
    };
    lines.iter().map(read).collect()
}

#[test]
fn examples_of_the_page_are_read() {
    let page = std::fs::read_to_string(docs().join("formats.md")).unwrap();
    let samples: Vec<SampleRow> = check(&page, "samples");
    assert!(samples.iter().all(|row| !row.samples.is_empty()));
    check::<PairRow>(&page, "pairs");
    check::<JudgementRow>(&page, "judgements");
    assert!(check::<VerdictRow>(&page, "verdicts").iter().any(|row| row.swapped));
    for line in examples(&page, "trace") {
        Trace::from_json(&line).unwrap();
    }
    check::<Trace>(&page, "trace");
    for row in check::<PromptCompletionRow>(&page, "prompt-completion") {
        assert_eq!(row.problem(), None);
    }
    for row in check::<PreferenceRow>(&page, "preference") {
        assert_eq!(row.problem(), None);
    }
    for row in check::<UnpairedPreferenceRow>(&page, "unpaired-preference") {
        assert_eq!(row.problem(), None);
    }
}
