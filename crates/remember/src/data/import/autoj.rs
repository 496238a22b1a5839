//! Auto-J pairs: two responses to a prompt and which of them people prefer.
//!
//! The responses are the samples, with answers `1` and `2`; `score` is the number of characters. No judge is recorded,
//! so two simple judges can be held against people: `select --method first` always takes the first response,
//! `--method best-of-n` the longer one. A tie has no reference and no labels.

use super::{Format, Imported, Importer, Rows, Source, refused};
use crate::data::VerdictRow;
use crate::error::Result;
use elenchus_trace::{Sample, SampleRow};
use serde::Deserialize;
use serde_json::{Map, json};

pub(super) const SAMPLES: Importer = Importer {
    name: "autoj-pairs",
    reads: "Auto-J pairs: scenario, label (0 first, 1 second, 2 tie), prompt, response_1, response_2",
    writes: Format::Samples,
    summary: "the two responses as samples; score is their length in characters, right is the one that people prefer",
    fields: &[],
    companion: None,
    run: samples,
};

/// People are the judge here: what they prefer, by place and by length, is what a judge's own bias is held against.
pub(super) const VERDICTS: Importer = Importer {
    name: "autoj-verdicts",
    reads: "Auto-J pairs with human preference",
    writes: Format::Verdicts,
    summary: "people as the judge: 1 where they prefer the first response, 0 the second, 0.5 a tie",
    fields: &[],
    companion: None,
    run: verdicts,
};

#[derive(Deserialize)]
struct Row {
    scenario: String,
    label: u8,
    prompt: String,
    response_1: String,
    response_2: String,
}

fn samples(source: &Source<'_>) -> Result<Imported> {
    let mut ties = 0_usize;
    let made = source.each(|line, row: Row| {
        let preferred = match row.label {
            0 | 1 => Some(row.label),
            2 => None,
            other => return refused("label", format!("{other} is not 0 (first), 1 (second) or 2 (tie)")),
        };
        ties += usize::from(preferred.is_none());
        let sample = |index: u8, text: String| Sample {
            score: Some(text.chars().count() as f64),
            text,
            answer: Some((index + 1).to_string()),
            correct: preferred.map(|preferred| preferred == index),
            ..Sample::default()
        };
        Ok(SampleRow {
            id: line.to_string(),
            question: row.prompt,
            gold: preferred.map(|preferred| (preferred + 1).to_string()),
            samples: vec![sample(0, row.response_1), sample(1, row.response_2)],
            extra: Map::from_iter([("scenario".to_owned(), json!(row.scenario))]),
        })
    })?;
    let mut imported = made.imported(Rows::Samples);
    if ties > 0 {
        imported.notes.push(format!("{ties} ties have no reference"));
    }
    Ok(imported)
}

fn verdicts(source: &Source<'_>) -> Result<Imported> {
    let made = source.each(|line, row: Row| {
        let first = match row.label {
            0 => 1.0,
            1 => 0.0,
            2 => 0.5,
            other => return refused("label", format!("{other} is not 0 (first), 1 (second) or 2 (tie)")),
        };
        let characters = |text: &str| text.chars().count() as f64;
        Ok(VerdictRow {
            id: line.to_string(),
            swapped: false,
            first: Some(first),
            lengths: Some([characters(&row.response_1), characters(&row.response_2)]),
            reference: None,
            extra: Map::from_iter([("scenario".to_owned(), json!(row.scenario))]),
        })
    })?;
    Ok(made.imported(Rows::Verdicts))
}
