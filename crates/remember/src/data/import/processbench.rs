//! ProcessBench: solutions in steps with the human label of the first wrong step.
//!
//! No critic's output is recorded. What can be measured is how well the outcome judges the process: `confidence` is 1
//! when the final answer is right and 0 when it is wrong, `correct` is whether all steps are right.

use super::{Format, Imported, Importer, Rows, Source, refused};
use crate::error::Result;
use elenchus_trace::JudgementRow;
use serde::Deserialize;

pub(super) const JUDGEMENTS: Importer = Importer {
    name: "processbench",
    reads: "ProcessBench: id, steps[], final_answer_correct, label (-1, or the index of the first wrong step)",
    writes: Format::Judgements,
    summary: "one judgement per solution: confidence 1 when the final answer is right, else 0; correct when all steps are right",
    fields: &[],
    companion: None,
    run: judgements,
};

#[derive(Deserialize)]
struct Row {
    id: String,
    steps: Vec<String>,
    final_answer_correct: bool,
    label: i64,
}

fn judgements(source: &Source<'_>) -> Result<Imported> {
    let made = source.each(|_, row: Row| {
        if !(-1..row.steps.len() as i64).contains(&row.label) {
            let problem = format!("{} is neither -1 nor one of {} steps", row.label, row.steps.len());
            return refused("label", problem);
        }
        Ok(JudgementRow {
            id: row.id,
            confidence: f64::from(u8::from(row.final_answer_correct)),
            correct: row.label == -1,
        })
    })?;
    Ok(made.imported(Rows::Judgements))
}
