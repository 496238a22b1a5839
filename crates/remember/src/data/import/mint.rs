//! MINT outcomes: the same tasks tried by the same models without feedback and with language feedback of another model.
//!
//! A line of the source has one model under one condition; here a row has one model on one task, with one sample per
//! condition that is compared: first the outcome without feedback (five turns), last the one with the feedback that
//! `--field` names. With `--field turns` there is no feedback, and the samples are the outcomes with one to five turns
//! allowed. The source records outcomes, not texts, so samples have none.

use super::{Format, Imported, Importer, Made, Rows, Source, refused};
use crate::error::{RememberError, Result};
use elenchus_trace::{Sample, SampleRow};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Who gives feedback, and in which form, as the source names them; `turns` compares numbers of turns.
const FIELDS: &[&str] = &[
    "gpt-4-0613/no_GT-textual",
    "gpt-4-0613/GT-textual",
    "gpt-4-0613/no_GT-textual-sparse",
    "gpt-4-0613/no_GT-binary",
    "gpt-3.5-turbo-16k-0613/no_GT-textual",
    "gpt-3.5-turbo-16k-0613/no_GT-textual-sparse",
    "gpt-3.5-turbo-16k-0613/no_GT-binary",
    "claude-instant-1/no_GT-textual",
    "Llama-2-70b-chat-hf/no_GT-textual",
    "Llama-2-70b-hf/no_GT-textual",
    "CodeLlama-34b-Instruct-hf/no_GT-textual",
    "CodeLlama-34b-hf/no_GT-textual",
    "Mistral-7B-Instruct-v0.1/no_GT-textual",
    "Mistral-7B-v0.1/no_GT-textual",
    "turns",
];

/// Turns of the runs that are compared with feedback.
const TURNS: u64 = 5;

pub(super) const SAMPLES: Importer = Importer {
    name: "mint",
    reads: "MINT outcomes: model, feedback_by, feedback_form, max_turns, task, rows[][task_id, success, turns, proposed answers, stop reason]",
    writes: Format::Samples,
    summary: "one row per model and task: the outcome without feedback first, with the feedback named by --field last (turns: with 1 to 5 turns, no feedback)",
    fields: FIELDS,
    companion: None,
    run: samples,
};

#[derive(Deserialize)]
struct Row {
    model: String,
    feedback_by: String,
    feedback_form: Option<String>,
    max_turns: u64,
    task: String,
    rows: Vec<(Value, u8, u64, u64, String)>,
}

/// One outcome under the condition at this place.
struct Outcome {
    place: u64,
    sample: Sample,
}

/// Which place among the samples a condition has; `None` when it is not compared.
fn place(row: &Row, field: &str) -> Option<u64> {
    let without = row.feedback_by == "None";
    if field == "turns" {
        return (without && (1..=TURNS).contains(&row.max_turns)).then_some(row.max_turns);
    }
    if row.max_turns != TURNS {
        return None;
    }
    let condition = format!("{}/{}", row.feedback_by, row.feedback_form.as_deref().unwrap_or_default());
    match (without, condition == field) {
        (true, _) => Some(0),
        (false, true) => Some(1),
        (false, false) => None,
    }
}

fn samples(source: &Source<'_>) -> Result<Imported> {
    let made = source.each(|_, row: Row| {
        let Some(place) = place(&row, source.field) else { return Ok(Vec::new()) };
        let mut outcomes = Vec::with_capacity(row.rows.len());
        for (index, (task_id, success, turns, proposed, stop)) in row.rows.iter().enumerate() {
            if *success > 1 {
                return refused(format!("rows[{index}][1]"), format!("{success} is neither 0 nor 1"));
            }
            let task_id = task_id.as_str().map_or_else(|| task_id.to_string(), str::to_owned);
            let sample = Sample {
                correct: Some(*success == 1),
                extra: Map::from_iter([
                    ("feedback_by".to_owned(), json!(row.feedback_by)),
                    ("feedback_form".to_owned(), json!(row.feedback_form)),
                    ("max_turns".to_owned(), json!(row.max_turns)),
                    ("turns".to_owned(), json!(turns)),
                    ("proposed_answers".to_owned(), json!(proposed)),
                    ("stop".to_owned(), json!(stop)),
                ]),
                ..Sample::default()
            };
            outcomes.push(((row.model.clone(), row.task.clone(), task_id), Outcome { place, sample }));
        }
        Ok(outcomes)
    })?;
    let Made { rows, skipped_count, skipped } = made;
    let mut by_task: BTreeMap<(String, String, String), Vec<Outcome>> = BTreeMap::new();
    for (key, outcome) in rows.into_iter().flatten() {
        by_task.entry(key).or_default().push(outcome);
    }
    let wanted = if source.field == "turns" { TURNS as usize } else { 2 };
    let (mut kept, mut incomplete) = (Vec::new(), 0_usize);
    for ((model, task, task_id), mut outcomes) in by_task {
        outcomes.sort_by_key(|outcome| outcome.place);
        let whole = outcomes.windows(2).all(|pair| pair[0].place < pair[1].place);
        if outcomes.len() != wanted || !whole {
            incomplete += 1;
            continue;
        }
        kept.push(SampleRow {
            id: format!("{model}/{task}/{task_id}"),
            question: String::new(),
            gold: None,
            samples: outcomes.into_iter().map(|outcome| outcome.sample).collect(),
            extra: Map::from_iter([
                ("model".to_owned(), json!(model)),
                ("task".to_owned(), json!(task)),
                ("last_is".to_owned(), json!(source.field)),
            ]),
        });
    }
    if kept.is_empty() {
        return Err(RememberError::Import {
            problem: format!(
                "`{}` has no task under both conditions of `{}`",
                source.path.display(),
                source.field
            ),
            hint: "take another `--field`, or the file per_task_success".into(),
        });
    }
    let notes = match incomplete {
        0 => Vec::new(),
        _ => vec![format!("{incomplete} tasks that are not recorded once under every condition left out")],
    };
    Ok(Imported { rows: Rows::Samples(kept), skipped_count, skipped, notes })
}
