//! RealCritic items: a question and one recorded solution of another model, about half of them right.
//!
//! The recorded solution is the only sample of its question, so the accuracy of the first sample is that of a critic that
//! restates what it is shown: the baseline of cross-critique. The file itself can be asked about with
//! `elenchus eval --file FILE --recipe real-critic --set solution=given`.

use super::{Format, Imported, Importer, Rows, Source, TextOrNumber};
use crate::error::Result;
use elenchus_trace::{Sample, SampleRow};
use serde::Deserialize;
use serde_json::{Map, json};

pub(super) const SAMPLES: Importer = Importer {
    name: "realcritic",
    reads: "RealCritic items: id, question, gold, model, solution, pred, correct, answer_type, unit",
    writes: Format::Samples,
    summary: "one sample per question, the solution that is to be criticised; its accuracy is that of a critic that restates it",
    fields: &[],
    companion: None,
    run: samples,
};

#[derive(Deserialize)]
struct Row {
    id: TextOrNumber,
    question: String,
    gold: TextOrNumber,
    model: String,
    solution: String,
    #[serde(default)]
    pred: Option<TextOrNumber>,
    correct: bool,
    #[serde(default)]
    answer_type: Option<String>,
    #[serde(default)]
    unit: Option<String>,
}

fn samples(source: &Source<'_>) -> Result<Imported> {
    let made = source.each(|_, row: Row| {
        let mut extra = Map::new();
        for (name, value) in [("answer_type", row.answer_type), ("unit", row.unit)] {
            if let Some(value) = value {
                extra.insert(name.into(), json!(value));
            }
        }
        Ok(SampleRow {
            id: row.id.into(),
            question: row.question,
            gold: Some(row.gold.into()),
            samples: vec![Sample {
                text: row.solution,
                answer: row.pred.map(String::from).filter(|answer| !answer.trim().is_empty()),
                correct: Some(row.correct),
                extra: Map::from_iter([("model".to_owned(), json!(row.model))]),
                ..Sample::default()
            }],
            extra,
        })
    })?;
    Ok(made.imported(Rows::Samples))
}
