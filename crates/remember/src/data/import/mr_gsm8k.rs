//! MR-GSM8K records: critics name the first wrong step of a solution and the reason.
//!
//! Steps: the step that people found and the one that the critic names, for `verify`. Reasons: a critic states one
//! reason without reserve, so `confidence` is 1; `correct` is the recorded grade of the reason. The published files
//! hold only critiques whose reason was graded, and those were graded only where the step was found already: they say
//! how often the reason is right *then*, not how often a critic finds the step.

use super::{Format, Imported, Importer, Rows, Source, TextOrNumber};
use crate::error::Result;
use elenchus_trace::{JudgementRow, PairRow};
use serde::Deserialize;
use serde_json::{Map, json};

pub(super) const STEPS: Importer = Importer {
    name: "mr-gsm8k-steps",
    reads: "MR-GSM8K critiques: uuid, model_output_solution_first_error_step, critic, critique{error_step_pred}, error_reason_correctness",
    writes: Format::Pairs,
    summary: "the number of the first wrong step: gold as people say, pred as the critic says",
    fields: &[],
    companion: None,
    run: steps,
};

pub(super) const REASONS: Importer = Importer {
    name: "mr-gsm8k-reasons",
    reads: "MR-GSM8K critiques, as `mr-gsm8k-steps`",
    writes: Format::Judgements,
    summary: "one judgement per critique: confidence 1, correct when the stated reason was graded right",
    fields: &[],
    companion: None,
    run: reasons,
};

#[derive(Deserialize)]
struct Row {
    uuid: String,
    model_output_solution_first_error_step: TextOrNumber,
    critic: String,
    critique: Critique,
    error_reason_correctness: Grade,
}

#[derive(Deserialize)]
struct Critique {
    error_step_pred: TextOrNumber,
}

#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Grade {
    Correct,
    Incorrect,
}

/// `4` of `Step 4` and `4`; the text itself when it names no step.
fn step_number(text: &str) -> String {
    let digits: String =
        text.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    if digits.is_empty() { text.trim().to_owned() } else { digits }
}

fn steps(source: &Source<'_>) -> Result<Imported> {
    let made = source.each(|_, row: Row| {
        Ok(PairRow {
            id: row.uuid,
            gold: step_number(&String::from(row.model_output_solution_first_error_step)),
            pred: step_number(&String::from(row.critique.error_step_pred)),
            extract: None,
            boxed_match_priority: None,
            precision: None,
            strict: None,
            allow_set_relation_comp: None,
            extra: Map::from_iter([
                ("critic".to_owned(), json!(row.critic)),
                ("reason_correct".to_owned(), json!(row.error_reason_correctness == Grade::Correct)),
            ]),
        })
    })?;
    Ok(made.imported(Rows::Pairs))
}

fn reasons(source: &Source<'_>) -> Result<Imported> {
    let made = source.each(|_, row: Row| {
        Ok(JudgementRow {
            id: row.uuid,
            confidence: 1.0,
            correct: row.error_reason_correctness == Grade::Correct,
        })
    })?;
    Ok(made.imported(Rows::Judgements))
}
