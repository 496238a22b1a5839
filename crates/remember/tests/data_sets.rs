//! Data sets survive a way out and back in, and no input makes a reader panic.

use elenchus_remember::data::{
    JsonlOptions, JsonlReader, JsonlRows, ParquetOptions, PreferenceRow, PromptCompletionRow, Turns,
    UnpairedPreferenceRow, check_rows, read_jsonl, read_parquet, read_rows, write_jsonl, write_parquet,
    write_rows,
};
use elenchus_trace::{Message, SampleRow};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::io::Cursor;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-c]{1,3}", any::<String>(), Just("\u{0}\r\n\u{feff}\"\\".to_string())]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-5i64..5).prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no NaN", |float| float.is_finite()).prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-c]?", inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn rows() -> impl Strategy<Value = Vec<Map<String, Value>>> {
    prop::collection::vec(prop::collection::vec(("[a-d]", value()), 0..4), 1..8).prop_map(|rows| {
        let with_id = |(index, fields): (usize, Vec<(String, Value)>)| {
            let mut row: Map<String, Value> = fields.into_iter().collect();
            row.insert("id".into(), index.into());
            row
        };
        rows.into_iter().enumerate().map(with_id).collect()
    })
}

/// What Parquet cannot tell apart: absent and null fields, `1` and `1.0` in a column that has fractions.
fn normal(value: &Value) -> Value {
    match value {
        Value::Object(object) => Value::Object(
            object.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), normal(v))).collect(),
        ),
        Value::Array(elements) => elements.iter().map(normal).collect(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0 => {
                json!(float as i64)
            }
            _ => value.clone(),
        },
        other => other.clone(),
    }
}

fn turns() -> impl Strategy<Value = (Turns, Turns, Turns)> {
    let message = |role: &'static str| {
        (text(), prop::option::of("[a-c]{1,3}")).prop_map(move |(text, name)| {
            let mut message = if role == "user" { Message::user(text) } else { Message::assistant(text) };
            message.name = name;
            message
        })
    };
    prop_oneof![
        (text(), text(), text()).prop_map(|(a, b, c)| (Turns::Text(a), Turns::Text(b), Turns::Text(c))),
        (message("user"), message("assistant"), message("assistant")).prop_map(|(a, b, c)| {
            (Turns::Messages(vec![a]), Turns::Messages(vec![b]), Turns::Messages(vec![c]))
        }),
    ]
}

fn extra() -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::vec(("x_[a-c]", "[a-z]{0,4}".prop_map(Value::from)), 0..3)
        .prop_map(|fields| fields.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, ..ProptestConfig::default() })]

    #[test]
    fn json_lines_round_trip(rows in prop::collection::vec(value(), 1..10), packed: bool) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(if packed { "rows.jsonl.gz" } else { "rows.jsonl" });
        write_jsonl(&path, &rows).unwrap();
        let read: JsonlRows<Value> = read_jsonl(&path, &JsonlOptions::default()).unwrap();
        prop_assert_eq!(read.rows, rows);
    }

    #[test]
    fn parquet_round_trip(rows in rows()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.parquet");
        write_parquet(&path, &rows).unwrap();
        let read = read_parquet(&path, &ParquetOptions::default()).unwrap();
        let normal_rows = |rows: &[Map<String, Value>]| -> Vec<Value> {
            rows.iter().map(|row| normal(&Value::Object(row.clone()))).collect()
        };
        prop_assert_eq!(normal_rows(&read), normal_rows(&rows));
    }

    #[test]
    fn readers_do_not_panic_on_random_bytes(mut bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 0..4) {
        match kind {
            1 => { bytes.splice(0..0, [0x1f, 0x8b, 8, 0]); }
            2 => { bytes.splice(0..0, *b"PAR1"); bytes.extend(b"\x10\x00\x00\x00PAR1"); }
            3 => { bytes.splice(0..0, *b"{\"id\":1,\"samples\":[{\"text\":\"x\"}]}\n"); }
            _ => {}
        }
        for skip_bad_lines in [false, true] {
            let options = JsonlOptions { skip_bad_lines, ..JsonlOptions::default() };
            let reader = JsonlReader::<SampleRow>::new(Cursor::new(bytes.clone()), "random", &options);
            if let Err(error) = reader.and_then(JsonlReader::read_all) {
                prop_assert!(error.to_string().contains("hint:"), "{}", error);
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("random");
        std::fs::write(&path, &bytes).unwrap();
        if let Err(error) = read_rows::<Value>(&path, &JsonlOptions::default()) {
            prop_assert!(error.to_string().contains("hint:"), "{}", error);
        }
    }

    #[test]
    fn a_changed_byte_in_a_parquet_file_is_no_panic(place in any::<prop::sample::Index>(), byte: u8, cut: bool) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.parquet");
        let rows: Vec<Map<String, Value>> = serde_json::from_value(json!([
            {"a": [{"role": "user", "content": "x"}], "b": 1, "c": true, "d": 0.5},
            {"a": [], "b": 2, "c": false},
        ])).unwrap();
        write_parquet(&path, &rows).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let place = place.index(bytes.len());
        if cut { bytes.truncate(place) } else { bytes[place] = byte }
        std::fs::write(&path, &bytes).unwrap();
        // The rows may differ, the reader may refuse; it must come back.
        let limited = ParquetOptions { max_total_bytes: 1 << 20 };
        if let Err(error) = read_parquet(&path, &limited) {
            prop_assert!(error.to_string().contains("hint:"), "{}", error);
        }
    }
}

proptest! {
    // Nine files per case, each with its fsyncs.
    #![proptest_config(ProptestConfig { cases: 25, ..ProptestConfig::default() })]

    #[test]
    fn training_rows_round_trip(made in prop::collection::vec((turns(), any::<bool>(), extra()), 1..6)) {
        let folder = tempfile::tempdir().unwrap();
        for name in ["rows.jsonl", "rows.jsonl.gz", "rows.parquet"] {
            let path = folder.path().join(name);
            let supervised: Vec<PromptCompletionRow> = made.iter().cloned().map(|((prompt, completion, _), _, extra)| {
                PromptCompletionRow { prompt, completion, extra }
            }).collect();
            check_rows(&supervised).unwrap();
            write_rows(&path, &supervised).unwrap();
            prop_assert_eq!(read_rows::<PromptCompletionRow>(&path, &JsonlOptions::default()).unwrap().rows, supervised);
            let pairs: Vec<PreferenceRow> = made.iter().cloned().map(|((prompt, chosen, rejected), explicit, extra)| {
                PreferenceRow { prompt: explicit.then_some(prompt), chosen, rejected, extra }
            }).collect();
            write_rows(&path, &pairs).unwrap();
            prop_assert_eq!(read_rows::<PreferenceRow>(&path, &JsonlOptions::default()).unwrap().rows, pairs);
            let marked: Vec<UnpairedPreferenceRow> = made.iter().cloned().map(|((prompt, completion, _), label, extra)| {
                UnpairedPreferenceRow { prompt, completion, label, extra }
            }).collect();
            write_rows(&path, &marked).unwrap();
            prop_assert_eq!(read_rows::<UnpairedPreferenceRow>(&path, &JsonlOptions::default()).unwrap().rows, marked);
        }
    }
}

/// Recorded samples of real models, as they lie beside the repository.
#[test]
fn recorded_files_are_read() {
    let shared = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/rec_truthfulqa_gpt3");
    for (name, expected) in [("ada.jsonl", 408), ("davinci.jsonl.gz", 408)] {
        let path = std::path::Path::new(shared).join(name);
        if !path.exists() {
            eprintln!("skipped: the shared data is not there");
            return;
        }
        let read: JsonlRows<Value> = read_jsonl(&path, &JsonlOptions::default()).unwrap();
        assert_eq!(read.rows.len(), expected, "{name}");
        let folder = tempfile::tempdir().unwrap();
        write_rows(folder.path().join("rows.parquet"), &read.rows).unwrap();
        let back = read_rows::<Value>(folder.path().join("rows.parquet"), &JsonlOptions::default()).unwrap();
        assert_eq!(
            back.rows.iter().map(normal).collect::<Vec<_>>(),
            read.rows.iter().map(normal).collect::<Vec<_>>(),
            "real rows with lists of tokens survive Parquet"
        );
    }
}

#[test]
fn a_parquet_row_of_another_type_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.parquet");
    write_rows(&path, &[json!({"prompt": "a", "completion": "b", "label": true}), json!({"prompt": "a"})])
        .unwrap();
    let error = read_rows::<UnpairedPreferenceRow>(&path, &JsonlOptions::default()).unwrap_err().to_string();
    assert!(error.contains("line 2") && error.contains("missing field `completion`"), "{error}");
    let skipping = JsonlOptions { skip_bad_lines: true, ..JsonlOptions::default() };
    let read = read_rows::<UnpairedPreferenceRow>(&path, &skipping).unwrap();
    assert_eq!((read.rows.len(), read.skipped_count, read.skipped[0].line), (1, 1, 2));
}
