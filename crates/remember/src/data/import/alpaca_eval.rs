//! AlpacaEval records: a judge compares the responses of many systems with a baseline's.
//!
//! Each system is one sample, ordered by name; `score` is the judge's probability that its response is better than the
//! baseline's (the recorded preference minus 1). There is no human label. One thing is known: the system `NullModel`
//! answers every instruction with the same text, made to win the judge over, so it is never the right choice
//! (`correct` false; absent for the others). `select --method best-of-n` then says how often the judge would choose it.

use super::{Format, Imported, Importer, Rows, Source, refused};
use crate::error::Result;
use elenchus_trace::{Sample, SampleRow};
use serde::Deserialize;
use serde_json::{Map, json};
use std::collections::BTreeMap;

/// The system whose response does not depend on the instruction.
const CONSTANT: &str = "NullModel";

pub(super) const SAMPLES: Importer = Importer {
    name: "alpaca-eval",
    reads: "AlpacaEval judge records: instruction, dataset, baseline, judged{system: {preference, len_model}}",
    writes: Format::Samples,
    summary: "the systems as samples; score is the judge's probability that the system beats the baseline; only NullModel is known to be wrong",
    fields: &[],
    companion: None,
    run: samples,
};

#[derive(Deserialize)]
struct Row {
    instruction: String,
    dataset: String,
    baseline: String,
    judged: BTreeMap<String, Judged>,
}

#[derive(Deserialize)]
struct Judged {
    preference: f64,
    len_model: u64,
}

fn samples(source: &Source<'_>) -> Result<Imported> {
    let made = source.each(|line, row: Row| {
        let mut samples = Vec::with_capacity(row.judged.len());
        for (system, judged) in row.judged {
            if !(1.0..=2.0).contains(&judged.preference) {
                let problem = format!("{} is not between 1 and 2", judged.preference);
                return refused(format!("judged.{system}.preference"), problem);
            }
            samples.push(Sample {
                correct: (system == CONSTANT).then_some(false),
                answer: Some(system),
                score: Some(judged.preference - 1.0),
                extra: Map::from_iter([("characters".to_owned(), json!(judged.len_model))]),
                ..Sample::default()
            });
        }
        Ok(SampleRow {
            id: line.to_string(),
            question: row.instruction,
            gold: None,
            samples,
            extra: Map::from_iter([
                ("dataset".to_owned(), json!(row.dataset)),
                ("baseline".to_owned(), json!(row.baseline)),
            ]),
        })
    })?;
    Ok(made.imported(Rows::Samples))
}
