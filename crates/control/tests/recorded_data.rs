//! Selection among the recorded samples of real models in `shared/data`, where a checkout has them.

use elenchus_control::{RecordedMethod, RecordedSettings, ScoreField, select_recorded};
use elenchus_trace::SampleRow;
use serde_json::Value;
use std::io::Read;

#[expect(clippy::panic, reason = "a test helper; a file that is there must be readable")]
fn rows(path: &str) -> Option<Vec<Value>> {
    let path = format!("{}/../../../shared/data/{path}", env!("CARGO_MANIFEST_DIR"));
    let Ok(file) = std::fs::File::open(&path) else {
        eprintln!("skipped: {path} is not there");
        return None;
    };
    let mut text = String::new();
    if let Err(error) = flate2::read::GzDecoder::new(file).read_to_string(&mut text) {
        panic!("{path}: {error}");
    }
    Some(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

fn sample_rows(rows: Vec<Value>) -> Vec<SampleRow> {
    rows.into_iter()
        .filter_map(|mut row| {
            for sample in row["samples"].as_array_mut().into_iter().flatten() {
                if let Some(score) = sample.get("rm").cloned() {
                    sample["score"] = score;
                }
                if sample["answer"] == "No answer!" {
                    sample["answer"] = Value::String(String::new());
                }
            }
            if row.get("id").is_none() {
                row["id"] = row["question"].clone();
            }
            serde_json::from_value(row).ok()
        })
        .collect()
}

fn right(rows: &[SampleRow], settings: &RecordedSettings) -> usize {
    rows.iter()
        .filter(|row| {
            let choice = select_recorded(row, settings, |_| None, |left, right| left == right);
            choice.is_ok_and(|choice| choice.correct == Some(true))
        })
        .count()
}

#[test]
fn a_reward_model_and_a_vote_beat_the_first_sample() {
    let Some(rows) = rows("rec_qwen_math_rm8/samples.jsonl.gz") else { return };
    let rows = sample_rows(rows);
    assert_eq!(rows.len(), 50, "every row of the file must be readable");
    let count = |method| right(&rows, &RecordedSettings::new(method));
    // Counted independently with a script: first 43, majority 45, best by reward 46, any 46.
    let found = [
        RecordedMethod::First,
        RecordedMethod::SelfConsistency,
        RecordedMethod::BestOfN,
        RecordedMethod::Pass,
    ]
    .map(count);
    assert_eq!(found, [43, 45, 46, 46]);
    let borda =
        RecordedSettings { by: Some(ScoreField::Score), ..RecordedSettings::new(RecordedMethod::Borda) };
    assert!((45..=46).contains(&right(&rows, &borda)), "Borda lies between vote and reward here");
}

#[test]
fn the_majority_is_the_one_that_the_authors_recorded() {
    let Some(values) = rows("rec_verify_cot_chatgpt/date_10samples.jsonl.gz") else { return };
    let recorded: Vec<Vec<String>> = values
        .iter()
        .map(|row| serde_json::from_value(row["majority"].clone()).unwrap_or_default())
        .collect();
    let settings = RecordedSettings::new(RecordedMethod::SelfConsistency);
    let (mut agree, mut compared) = (0, 0);
    for (row, majority) in sample_rows(values).iter().zip(&recorded) {
        // They let `No answer!` win a vote; we do not.
        if majority.iter().any(|answer| answer == "No answer!") {
            continue;
        }
        let choice = select_recorded(row, &settings, |_| None, |left, right| left == right);
        compared += 1;
        agree += usize::from(choice.is_ok_and(|c| c.answer.is_some_and(|a| majority.contains(&a))));
    }
    assert!(compared > 100, "{compared} questions compared");
    assert_eq!(agree, compared);
}
