//! Qwen2.5-Math evaluation records: eight samples per MATH problem with the score of a reward model.

use super::{Format, Imported, Importer, Rows, Source, TextOrNumber};
use crate::error::Result;
use elenchus_trace::{Sample, SampleRow};
use serde::Deserialize;
use serde_json::{Map, Value};

pub(super) const SAMPLES: Importer = Importer {
    name: "qwen-math-rm",
    reads: "Qwen2.5-Math records: id, question, gold, level, samples[]{text, answer, correct, rm}",
    writes: Format::Samples,
    summary: "all samples of a problem; score is the reward model's",
    fields: &[],
    companion: None,
    run: samples,
};

#[derive(Deserialize)]
struct Row {
    id: TextOrNumber,
    question: String,
    gold: TextOrNumber,
    level: Option<String>,
    samples: Vec<Answer>,
}

#[derive(Deserialize)]
struct Answer {
    text: String,
    answer: String,
    correct: bool,
    rm: f64,
}

fn samples(source: &Source<'_>) -> Result<Imported> {
    let made = source.each(|_, row: Row| {
        let sample = |answer: Answer| Sample {
            text: answer.text,
            answer: Some(answer.answer),
            correct: Some(answer.correct),
            score: Some(answer.rm),
            ..Sample::default()
        };
        Ok(SampleRow {
            id: row.id.into(),
            question: row.question,
            gold: Some(row.gold.into()),
            samples: row.samples.into_iter().map(sample).collect(),
            extra: row
                .level
                .map(|level| ("level".to_owned(), Value::from(level)))
                .into_iter()
                .collect::<Map<_, _>>(),
        })
    })?;
    Ok(made.imported(Rows::Samples))
}
