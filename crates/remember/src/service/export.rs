//! Training rows from what people said of answers, with where each row comes from.

use super::{FeedbackEntry, Reaction, StagePart, TraceSummary};
use crate::data::{PreferenceRow, PromptCompletionRow, UnpairedPreferenceRow};
use crate::error::{RememberError, Result};
use elenchus_trace::{Message, Step};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashSet};

/// A form of training rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExportFormat {
    /// Prompt and completion to imitate: corrected answers and stages, and those that were liked.
    Sft,
    /// Chosen and rejected answer of one prompt: a correction beside what it corrects, an edited stage beside what the
    /// model wrote, liked beside disliked answers to the same prompt. Of an edited step, both
    /// answers end with it.
    Preference,
    /// Prompt and completion, marked good or bad by the last reaction; a rejected stage is bad.
    UnpairedPreference,
    /// Prompt, completion and a number: scores, and reactions as the metric `reaction` (down 0, up and love 1).
    Reward,
}

/// What was asked and answered, in a trace or in one of its stages.
#[derive(Debug, Clone, PartialEq)]
pub struct Exchange {
    /// What was asked.
    pub prompt: Vec<Message>,
    /// What was answered; absent where nothing was: an error is no answer, and what broke off is none that anybody meant.
    pub completion: Option<Message>,
    /// Steps of the completion, where one was edited.
    pub steps: Vec<Step>,
}

/// What people said of a trace, and what they said it of.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// The trace.
    pub summary: TraceSummary,
    /// What was said, oldest first.
    pub feedback: Vec<FeedbackEntry>,
    /// The request and its answer.
    pub whole: Option<Exchange>,
    /// Stages that something was said of, by their numbers: what a model was told and wrote there.
    pub stages: BTreeMap<u32, Exchange>,
}

impl Exchange {
    /// The answer up to a step, and the part of it that stands before the step.
    fn up_to(&self, step: u32) -> Option<(Exchange, String)> {
        let text = self.completion.as_ref()?.text();
        let step = self.steps.get(step as usize)?;
        let completion = Some(Message::assistant(text.get(..step.end)?));
        let exchange = Exchange { prompt: self.prompt.clone(), completion, steps: Vec::new() };
        Some((exchange, text.get(..step.start)?.to_string()))
    }

    /// What was answered, where it says anything.
    fn said(&self) -> Option<&Message> {
        self.completion.as_ref().filter(|said| !said.text().trim().is_empty() || !said.tool_calls.is_empty())
    }
}

/// An opinion on a whole answer, for pairs between traces.
struct Opinion<'a> {
    prompt: String,
    exchange: &'a Exchange,
    said: Message,
    is_good: bool,
    origin: Map<String, Value>,
}

/// Parts of a stage whose better text is what the model should have written there. A sub-question or a piece of evidence is a
/// part of what it wrote or read: as the answer to the stage's prompt it would teach the wrong thing.
pub const WRITTEN_PARTS: &[StagePart] = &[StagePart::Answer, StagePart::Step, StagePart::Critique];

/// The rows of one format. Of what has no prompt, or neither an answer nor a better one, there are none; nor of edits of other
/// parts than these ([`WRITTEN_PARTS`] unless somebody wants the others, too). Each row says which part it corrects.
///
/// # Errors
/// A row cannot be written.
pub fn export_rows(
    format: ExportFormat,
    judged: &[Judged],
    parts: &[StagePart],
) -> Result<Vec<Map<String, Value>>> {
    let mut rows = Vec::new();
    let mut opinions: Vec<Opinion<'_>> = Vec::new();
    for item in judged {
        let last = last_reactions(&item.feedback);
        for (index, said) in item.feedback.iter().enumerate() {
            let addressed = match said.stage {
                None => item.whole.as_ref(),
                // A stage where no model wrote anything has nothing to learn from.
                Some(stage) => item.stages.get(&stage),
            };
            let Some(addressed) = addressed else { continue };
            let of_step = match said.edit.as_ref().and_then(|edit| edit.step) {
                None => None,
                Some(step) => match addressed.up_to(step) {
                    Some(found) => Some(found),
                    None => continue,
                },
            };
            let (exchange, before) = match &of_step {
                Some((exchange, before)) => (exchange, before.as_str()),
                None => (addressed, ""),
            };
            let (prompt, written) = (&exchange.prompt, exchange.said());
            let origin = origin(item, said);
            let reaction = said.reaction.filter(|_| last.contains(&index));
            // What is rejected by an edit alone is as bad as what got a bad reaction.
            let edit = said.edit.as_ref().filter(|edit| parts.contains(&edit.part));
            let is_rejected = edit.is_some_and(|edit| edit.text.is_none() && edit.step.is_none());
            let is_good = reaction.map(Reaction::is_good).or(is_rejected.then_some(false));
            let edited = edit.and_then(|edit| edit.text.as_ref());
            // A correction is the whole answer; an edited step stands behind those before it.
            let whole = said.correction.clone();
            let correction = whole
                .or_else(|| edited.filter(|text| !text.is_empty()).map(|text| format!("{before}{text}")));
            let correction = correction.filter(|text| !text.is_empty()).map(Message::assistant);
            match format {
                ExportFormat::Sft => {
                    let liked = written.filter(|_| reaction.is_some_and(Reaction::is_good));
                    if let Some(imitated) = correction.as_ref().or(liked) {
                        let row = PromptCompletionRow::new(prompt.clone(), vec![imitated.clone()]);
                        push(&mut rows, PromptCompletionRow { extra: origin, ..row })?;
                    }
                }
                ExportFormat::Preference => {
                    if let (Some(chosen), Some(rejected)) = (&correction, written)
                        && chosen.text() != rejected.text()
                    {
                        let row =
                            PreferenceRow::new(prompt.clone(), vec![chosen.clone()], vec![rejected.clone()]);
                        push(&mut rows, PreferenceRow { extra: origin.clone(), ..row })?;
                    }
                    if let (Some(reaction), None, Some(said)) = (reaction, said.stage, written) {
                        let prompt = serde_json::to_string(prompt).unwrap_or_default();
                        let (exchange, said, is_good) = (addressed, said.clone(), reaction.is_good());
                        opinions.push(Opinion { prompt, exchange, said, is_good, origin });
                    }
                }
                ExportFormat::UnpairedPreference => {
                    if let (Some(is_good), Some(written)) = (is_good, written) {
                        let row = UnpairedPreferenceRow::new(prompt.clone(), vec![written.clone()], is_good);
                        push(&mut rows, UnpairedPreferenceRow { extra: origin, ..row })?;
                    }
                }
                ExportFormat::Reward => {
                    let Some(written) = written else { continue };
                    let score = said.score.map(|score| (said.metric.as_deref().unwrap_or("score"), score));
                    let liked = is_good.map(|is_good| ("reaction", f64::from(u8::from(is_good))));
                    for (metric, reward) in score.into_iter().chain(liked) {
                        let mut row = Map::new();
                        row.insert("prompt".into(), json!(prompt));
                        row.insert("completion".into(), json!([written]));
                        row.insert("reward".into(), json!(reward));
                        row.insert("metric".into(), json!(metric));
                        row.extend(origin.clone());
                        rows.push(row);
                    }
                }
            }
        }
    }
    for liked in opinions.iter().filter(|opinion| opinion.is_good) {
        for disliked in opinions.iter().filter(|opinion| !opinion.is_good) {
            if disliked.prompt != liked.prompt || disliked.said == liked.said {
                continue;
            }
            let row = PreferenceRow::new(
                liked.exchange.prompt.clone(),
                vec![liked.said.clone()],
                vec![disliked.said.clone()],
            );
            let mut extra = liked.origin.clone();
            extra.insert("rejected_trace_id".into(), disliked.origin["trace_id"].clone());
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
fn origin(item: &Judged, said: &FeedbackEntry) -> Map<String, Value> {
    let summary = &item.summary;
    let mut origin = Map::new();
    origin.insert("trace_id".into(), json!(summary.id));
    origin.insert("feedback_id".into(), json!(said.id));
    origin.insert("stage".into(), json!(said.stage));
    origin.insert("part".into(), json!(said.edit.as_ref().map(|edit| edit.part)));
    origin.insert("step".into(), json!(said.edit.as_ref().and_then(|edit| edit.step)));
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
