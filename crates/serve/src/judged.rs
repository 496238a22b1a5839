//! What people spoke of, read from stored traces: prompt and answer of the whole, and of each stage that was addressed.

use crate::exchange::{answer_of, messages, trace_of};
use crate::tape::{calls_of, choices, critics_prompt};
use elenchus_remember::RememberError;
use elenchus_remember::service::{Exchange, Judged, Labelled, StagePart, TraceStatus};
use elenchus_trace::{Message, NodeKind, Step, Trace};
use std::collections::BTreeSet;

/// A stored trace with what was said of it, for training rows.
///
/// # Errors
/// The trace cannot be read.
pub(crate) fn judged(item: Labelled) -> Result<Judged, RememberError> {
    let Labelled { trace: entry, feedback } = item;
    let trace = trace_of(&entry).map_err(|error| RememberError::Damaged {
        what: format!("trace `{}`", entry.summary.id),
        path: "traces".into(),
        reason: error.to_string(),
        hint: "remove it from the store, or restore a backup",
    })?;
    let prompt = messages(&entry.request);
    // The text of a failure is our error; one that was cancelled has no end.
    let answered = matches!(entry.summary.status, TraceStatus::Answered | TraceStatus::Abstained);
    let completion = answered.then(|| answer_of(&entry, &trace));
    let whole = (!prompt.is_empty()).then_some(Exchange { prompt, completion, steps: Vec::new() });
    let addressed: BTreeSet<u32> = feedback.iter().filter_map(|said| said.stage).collect();
    let stages = addressed.into_iter().filter_map(|stage| {
        let mut exchange = match &trace.nodes.get(stage as usize)?.kind {
            // What a last decision should have taken is what should have been answered.
            NodeKind::Decided { .. } if choices(&trace, stage).is_ok() => whole.clone()?,
            _ => stage_exchange(&trace, entry.trace.as_deref(), stage)?,
        };
        let is_step = |part: StagePart| part == StagePart::Step;
        let mut said = feedback.iter().filter(|said| said.stage == Some(stage));
        if said.any(|said| said.edit.as_ref().is_some_and(|edit| is_step(edit.part))) {
            exchange.steps =
                steps(&trace, &exchange.completion.as_ref().map(Message::text).unwrap_or_default());
        }
        Some((stage, exchange))
    });
    let stages = stages.collect();
    Ok(Judged { summary: entry.summary, feedback, whole, stages })
}

/// The steps of a text by the rules of the trace's task; where the task has gone, or knows no finer division, its lines.
pub(crate) fn steps(trace: &Trace, text: &str) -> Vec<Step> {
    let task = elenchus_recipe::steps_of(&trace.problem, text);
    if task.len() > 1 {
        return task;
    }
    let mut start = 0;
    let lines = text.split_inclusive('\n').map(|line| {
        let step = Step { text: line.trim_end().to_string(), start, end: start + line.trim_end().len() };
        start += line.len();
        step
    });
    lines.filter(|step| !step.text.is_empty()).collect()
}

/// What a model was told and wrote at a stage: a response, or what a critic said, whose prompt stands with the calls.
fn stage_exchange(trace: &Trace, stored: Option<&str>, stage: u32) -> Option<Exchange> {
    let node = trace.nodes.get(stage as usize)?;
    let (prompt, completion) = match &node.kind {
        NodeKind::Generated { role, completion, .. } => {
            // Further samples of one request share the prompt of the first.
            let before =
                trace.nodes[..=stage as usize].iter().rev().filter(|other| other.parent == node.parent);
            let prompt = before.filter_map(|other| match &other.kind {
                NodeKind::Generated { role: other, prompt, .. } if other == role => Some(prompt),
                _ => None,
            });
            let prompt = prompt.into_iter().find(|prompt| !prompt.is_empty())?.clone();
            let whole = completion.message.clone().filter(|message| !message.tool_calls.is_empty());
            (prompt, whole.unwrap_or_else(|| Message::assistant(&completion.text)))
        }
        NodeKind::Evaluated { feedback, .. } => {
            let prompt = critics_prompt(trace, &calls_of(stored?), stage)?;
            (prompt, Message::assistant(feedback.text.as_deref()?))
        }
        _ => return None,
    };
    Some(Exchange { prompt, completion: Some(completion), steps: Vec::new() })
}
