//! Training rows from what people said of answers, with where each row comes from.

use super::{FeedbackEntry, Labelled, Reaction, StagePart};
use crate::data::{PreferenceRow, PromptCompletionRow, UnpairedPreferenceRow};
use crate::error::{RememberError, Result};
use elenchus_trace::{Message, NodeKind, Trace};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::HashSet;

/// A form of training rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExportFormat {
    /// Prompt and completion to imitate: corrected answers, and answers that were liked.
    Sft,
    /// Chosen and rejected answer of one prompt: a correction beside what it corrects, an edited stage beside what the
    /// model wrote, liked beside disliked answers to the same prompt.
    Preference,
    /// Prompt and completion, marked good or bad by the last reaction.
    UnpairedPreference,
    /// Prompt, completion and a number: scores, and reactions as the metric `reaction` (down 0, up and love 1).
    Reward,
}

/// What was asked and answered, in a trace or in one of its stages.
struct Exchange {
    prompt: Vec<Message>,
    completion: String,
}

/// The rows of one format. `exchange` reads prompt and answer of a trace that was passed on, whose form only the
/// gateway knows; traces whose exchange it cannot read give no rows.
///
/// # Errors
/// A stored trace of a recipe cannot be read.
pub fn export_rows(
    format: ExportFormat,
    labelled: &[Labelled],
    exchange: impl Fn(&Labelled) -> Option<(Vec<Message>, String)>,
) -> Result<Vec<Map<String, Value>>> {
    let mut rows = Vec::new();
    // For pairs between traces: prompt, answer, whether it is liked, and the row's origin.
    let mut opinions: Vec<(String, Vec<Message>, String, bool, Value)> = Vec::new();
    for item in labelled {
        let Some((prompt, completion)) = exchange(item) else { continue };
        let whole = Exchange { prompt, completion };
        let trace = item.trace.trace.as_deref().map(Trace::from_json).transpose().map_err(|error| {
            RememberError::Damaged {
                what: format!("trace `{}`", item.trace.summary.id),
                path: "traces".into(),
                reason: error.to_string(),
                hint: "remove it from the store, or restore a backup",
            }
        })?;
        let last = last_reactions(&item.feedback);
        for (index, said) in item.feedback.iter().enumerate() {
            let addressed = match said.stage {
                None => None,
                Some(stage) => match trace.as_ref().and_then(|trace| stage_exchange(trace, stage)) {
                    Some(exchange) => Some(exchange),
                    // A stage that generated nothing has nothing to learn from.
                    None => continue,
                },
            };
            let Exchange { prompt, completion } = addressed.as_ref().unwrap_or(&whole);
            let origin = origin(item, said);
            let reaction = said.reaction.filter(|_| last.contains(&index));
            let correction = said.correction.as_ref().or_else(|| {
                let edit = said.edit.as_ref()?;
                matches!(edit.part, StagePart::Answer | StagePart::Critique | StagePart::SubQuestion)
                    .then_some(edit.text.as_ref())?
            });
            let assistant = |text: &str| vec![Message::assistant(text)];
            match format {
                ExportFormat::Sft => {
                    let imitated = match (correction, reaction) {
                        (Some(correction), _) => Some(correction.as_str()),
                        (None, Some(reaction)) if reaction.is_good() => Some(completion.as_str()),
                        _ => None,
                    };
                    if let Some(text) = imitated.filter(|text| !text.is_empty()) {
                        let row = PromptCompletionRow::new(prompt.clone(), assistant(text));
                        push(&mut rows, PromptCompletionRow { extra: origin, ..row })?;
                    }
                }
                ExportFormat::Preference => {
                    if let Some(correction) = correction.filter(|correction| *correction != completion) {
                        let row =
                            PreferenceRow::new(prompt.clone(), assistant(correction), assistant(completion));
                        push(&mut rows, PreferenceRow { extra: origin.clone(), ..row })?;
                    }
                    if let (Some(reaction), None) = (reaction, said.stage) {
                        let key = serde_json::to_string(prompt).unwrap_or_default();
                        let good = reaction.is_good();
                        opinions.push((
                            key,
                            prompt.clone(),
                            completion.clone(),
                            good,
                            Value::Object(origin.clone()),
                        ));
                    }
                }
                ExportFormat::UnpairedPreference => {
                    if let Some(reaction) = reaction {
                        let row = UnpairedPreferenceRow::new(
                            prompt.clone(),
                            assistant(completion),
                            reaction.is_good(),
                        );
                        push(&mut rows, UnpairedPreferenceRow { extra: origin, ..row })?;
                    }
                }
                ExportFormat::Reward => {
                    let score = said.score.map(|score| (said.metric.as_deref().unwrap_or("score"), score));
                    let liked =
                        reaction.map(|reaction| ("reaction", f64::from(u8::from(reaction.is_good()))));
                    for (metric, reward) in score.into_iter().chain(liked) {
                        let mut row = Map::new();
                        row.insert("prompt".into(), json!(prompt));
                        row.insert("completion".into(), json!(assistant(completion)));
                        row.insert("reward".into(), json!(reward));
                        row.insert("metric".into(), json!(metric));
                        row.extend(origin.clone());
                        rows.push(row);
                    }
                }
            }
        }
    }
    for (index, (key, prompt, chosen, good, origin)) in opinions.iter().enumerate() {
        if !good {
            continue;
        }
        for (other, (rejected_key, _, rejected, rejected_good, rejected_origin)) in
            opinions.iter().enumerate()
        {
            if index == other || *rejected_good || rejected_key != key || rejected == chosen {
                continue;
            }
            let row = PreferenceRow::new(
                prompt.clone(),
                vec![Message::assistant(chosen)],
                vec![Message::assistant(rejected)],
            );
            let mut extra = origin.as_object().cloned().unwrap_or_default();
            extra.insert("rejected_trace_id".into(), rejected_origin["trace_id"].clone());
            push(&mut rows, PreferenceRow { extra, ..row })?;
        }
    }
    Ok(rows)
}

fn push<T: Serialize>(rows: &mut Vec<Map<String, Value>>, row: T) -> Result<()> {
    let refused = |reason: String| RememberError::Row {
        row: rows.len(),
        reason,
        hint: "docs/formats.md shows the rows",
    };
    match serde_json::to_value(row) {
        Ok(Value::Object(object)) => rows.push(object),
        Ok(_) => return Err(refused("not an object".into())),
        Err(error) => return Err(refused(error.to_string())),
    }
    Ok(())
}

/// Where a row comes from.
fn origin(item: &Labelled, said: &FeedbackEntry) -> Map<String, Value> {
    let summary = &item.trace.summary;
    let mut origin = Map::new();
    origin.insert("trace_id".into(), json!(summary.id));
    origin.insert("feedback_id".into(), json!(said.id));
    origin.insert("stage".into(), json!(said.stage));
    origin.insert("recipe".into(), json!(summary.recipe));
    origin.insert("model".into(), json!(summary.model));
    origin.insert("said_ms".into(), json!(said.created_ms));
    origin
}

/// Which entries hold the last reaction of a person to a trace or stage.
fn last_reactions(feedback: &[FeedbackEntry]) -> HashSet<usize> {
    let mut seen: HashSet<(&str, Option<u32>)> = HashSet::new();
    let mut last = HashSet::new();
    for (index, said) in feedback.iter().enumerate().rev() {
        if said.reaction.is_some_and(|_: Reaction| seen.insert((&said.key, said.stage))) {
            last.insert(index);
        }
    }
    last
}

/// Prompt and completion of a generated node; further samples of one request share the prompt of the first.
fn stage_exchange(trace: &Trace, stage: u32) -> Option<Exchange> {
    let mut index = stage as usize;
    let NodeKind::Generated { completion, .. } = &trace.nodes.get(index)?.kind else { return None };
    loop {
        match &trace.nodes.get(index)?.kind {
            NodeKind::Generated { prompt, .. } if !prompt.is_empty() => {
                return Some(Exchange { prompt: prompt.clone(), completion: completion.text.clone() });
            }
            _ => index = index.checked_sub(1)?,
        }
    }
}
