//! Equivalence of answers: our own cases, and those of HF Math-Verify and latex2sympy and pairs from real models, which are
//! read from the shared data where it is there.

mod shared;

use elenchus_task::math::{self, Options, equivalent, extract_string};
use elenchus_trace::PairRow;

#[expect(clippy::unwrap_used, reason = "a torn data file should fail the test")]
fn parsed<T: serde::de::DeserializeOwned>(text: &str) -> Vec<T> {
    text.lines().filter(|l| !l.trim().is_empty()).map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn rows<T: serde::de::DeserializeOwned>(path: &str) -> Option<Vec<T>> {
    Some(parsed(&shared::text(path)?))
}

/// These need no data from elsewhere, so a fresh clone tests equivalence, too.
#[test]
fn our_own_cases_all_agree() {
    let rows = parsed(include_str!("fixtures/equivalence.jsonl"));
    assert!(rows.len() >= 100, "{} cases", rows.len());
    all_agree(&rows);
}

#[test]
fn math_verify_cases_all_agree() {
    let Some(rows) = rows::<PairRow>("math_verify_cases/triples.jsonl") else { return };
    all_agree(&rows);
}

#[expect(clippy::unwrap_used, reason = "a wrong option in the data should fail the test")]
fn all_agree(rows: &[PairRow]) {
    let mut wrong = Vec::new();
    for row in rows {
        let options = Options::from_row(row).unwrap();
        let verdict = equivalent(&row.gold, &row.pred, &options);
        let expected = row.extra["expected"].as_i64() == Some(1);
        if verdict.verdict() != Some(expected) {
            wrong.push(format!("{} expected {expected}: {verdict:?}", row.id));
        }
    }
    assert!(wrong.is_empty(), "{} of {} disagree:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

#[test]
fn real_pairs_agree_with_math_verify() {
    let Some(rows) = rows::<PairRow>("peer_math_verdicts/pairs.jsonl") else { return };
    let options = Options::default();
    let mut wrong = Vec::new();
    for row in &rows {
        let Some(peer) = row.extra["math_verify_090"].as_i64() else { continue };
        let verdict = equivalent(&row.gold, &row.pred, &options);
        if verdict.verdict() != Some(peer == 1) {
            wrong.push(format!("{} peer {peer}: {verdict:?}", row.id));
        }
    }
    eprintln!("{} of {} differ from Math-Verify:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    let agreement = 1.0 - wrong.len() as f64 / rows.len() as f64;
    assert!(agreement >= 0.98, "agreement {agreement}");
}

#[test]
fn string_extraction_cases_all_agree() {
    let Some(rows) = rows::<serde_json::Value>("math_verify_cases/string_extraction.jsonl") else { return };
    for row in rows {
        let config = row["config"].as_str().unwrap();
        let mut options = Options { lowercase: !config.contains("lowercase=False"), ..Options::default() };
        if config.contains("'U'") {
            options.strings = vec!["U".into()];
        }
        let found = extract_string(row["input"].as_str().unwrap(), &options);
        let found: Vec<String> = found.into_iter().flat_map(|(a, b)| [a, b]).collect();
        let expected: Vec<&str> =
            row["expected"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
        assert_eq!(found, expected, "{row}");
    }
}

#[test]
fn what_must_fail_is_refused() {
    let Some(rows) = rows::<serde_json::Value>("latex2sympy_cases/must_fail.jsonl") else { return };
    let accepted: Vec<_> =
        rows.iter().filter_map(|r| r["latex"].as_str()).filter(|l| math::parse(l).is_ok()).collect();
    assert!(accepted.is_empty(), "{accepted:?}");
}
