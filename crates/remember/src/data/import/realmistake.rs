//! ReaLMistake records: a critic votes five times on whether a response holds an error.
//!
//! The question is left empty, because the owner of the benchmark keeps the inputs behind a password. A vote that the
//! source could not read is a sample with an empty answer, which no method counts.

use super::{Format, Imported, Importer, Rows, Source, refused};
use crate::error::Result;
use elenchus_trace::{Sample, SampleRow};
use serde::Deserialize;
use serde_json::{Map, json};

pub(super) const SAMPLES: Importer = Importer {
    name: "realmistake",
    reads: "ReaLMistake votes: task, response_model, critic, id, label, votes[], critiques[]",
    writes: Format::Samples,
    summary: "the votes of one critic on one response (error or no_error), the human label as reference",
    fields: &[],
    companion: None,
    run: samples,
};

#[derive(Deserialize)]
struct Row {
    task: String,
    response_model: String,
    critic: String,
    id: String,
    label: Label,
    votes: Vec<Option<Label>>,
    critiques: Vec<Option<String>>,
}

#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Label {
    Error,
    NoError,
}

impl Label {
    fn name(self) -> &'static str {
        match self {
            Label::Error => "error",
            Label::NoError => "no_error",
        }
    }
}

fn samples(source: &Source<'_>) -> Result<Imported> {
    let made = source.each(|_, row: Row| {
        if row.critiques.len() != row.votes.len() {
            let problem = format!("{} critiques for {} votes", row.critiques.len(), row.votes.len());
            return refused("critiques", problem);
        }
        let sample = |(vote, critique): (Option<Label>, Option<String>)| Sample {
            text: critique.unwrap_or_default(),
            answer: Some(vote.map_or_else(String::new, |vote| vote.name().to_owned())),
            correct: vote.map(|vote| vote == row.label),
            ..Sample::default()
        };
        Ok(SampleRow {
            id: format!("{}/{}", row.critic, row.id),
            question: String::new(),
            gold: Some(row.label.name().to_owned()),
            samples: row.votes.into_iter().zip(row.critiques).map(sample).collect(),
            extra: Map::from_iter([
                ("task".to_owned(), json!(row.task)),
                ("response_model".to_owned(), json!(row.response_model)),
                ("critic".to_owned(), json!(row.critic)),
            ]),
        })
    })?;
    Ok(made.imported(Rows::Samples))
}
