//! Records of deductive verification (ChatGPT): ten solutions per question, and reasoning chains that people marked.
//!
//! Samples: `No answer!` in the source is a sample without an answer. Questions have no identifier there, so `id` is the
//! number of the line. Chains: the source keeps for each chain whether its final answer is right, and whether people found
//! the chain valid (`flag`); no verifier's opinion is recorded with them. A judgement is the verdict that the right final
//! answer alone would give: `confidence` 1 or 0, and `correct` when the chain is valid.

use super::{Format, Imported, Importer, Rows, Source, TextOrNumber, refused};
use crate::error::Result;
use elenchus_trace::{JudgementRow, Sample, SampleRow};
use serde::Deserialize;
use serde_json::{Map, json};

pub(super) const SAMPLES: Importer = Importer {
    name: "verify-cot",
    reads: "verify_cot solutions: question, gold, samples[]{text, answer, correct}, majority",
    writes: Format::Samples,
    summary: "the ten solutions of a question, in the order in which they were drawn",
    fields: &[],
    companion: None,
    run: samples,
};

pub(super) const CHAINS: Importer = Importer {
    name: "verify-cot-chains",
    reads: "verify_cot chains marked by people: question, answer, final_answer, correct, flag",
    writes: Format::Judgements,
    summary: "one judgement per chain: confidence 1 when its final answer is right, correct when people found the chain valid",
    fields: &[],
    companion: None,
    run: chains,
};

#[derive(Deserialize)]
struct Row {
    question: String,
    gold: TextOrNumber,
    samples: Vec<Solution>,
    #[serde(default)]
    majority: Vec<String>,
}

#[derive(Deserialize)]
struct Solution {
    text: String,
    answer: TextOrNumber,
    correct: bool,
}

#[derive(Deserialize)]
struct Chain {
    correct: bool,
    flag: u8,
}

fn samples(source: &Source<'_>) -> Result<Imported> {
    let made = source.each(|line, row: Row| {
        let sample = |solution: Solution| Sample {
            text: solution.text,
            answer: Some(String::from(solution.answer)).filter(|answer| answer != "No answer!"),
            correct: Some(solution.correct),
            ..Sample::default()
        };
        Ok(SampleRow {
            id: line.to_string(),
            question: row.question,
            gold: Some(row.gold.into()),
            samples: row.samples.into_iter().map(sample).collect(),
            extra: Map::from_iter([("majority".to_owned(), json!(row.majority))]),
        })
    })?;
    Ok(made.imported(Rows::Samples))
}

fn chains(source: &Source<'_>) -> Result<Imported> {
    let made = source.each(|line, chain: Chain| {
        if chain.flag > 1 {
            return refused("flag", format!("{} is neither 0 nor 1", chain.flag));
        }
        Ok(JudgementRow {
            id: line.to_string(),
            confidence: f64::from(u8::from(chain.correct)),
            correct: chain.flag == 1,
        })
    })?;
    Ok(made.imported(Rows::Judgements))
}
