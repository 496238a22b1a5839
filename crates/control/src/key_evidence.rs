//! Choosing the segments that a second round shows again.

use crate::cyberv::{CyberVLog, EvidenceBy, NAME};
use crate::draw::ask;
use crate::place::Place;
use crate::score_forest::{KeyLimits, key_segments, lost_attention};
use crate::{ControlError, Trail};
use elenchus_generate::{ACTOR, GenerateRequest, PromptSlots, Sampling, ScoreRequest, Voice};
use elenchus_task::evidence::{Stream, without};
use elenchus_trace::{Feedback, NodeId};
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Most tokens of a reply that names segments.
const NAMED_TOKENS: u32 = 200;

/// How the segments of a second round were chosen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ranked {
    /// By what.
    pub by: String,
    /// A number for each segment, negative for what counts; empty where the model named them.
    pub change: Vec<f64>,
    /// The segments, in their order.
    pub chosen: Vec<usize>,
}

/// The segments to show again.
pub(crate) async fn rank(
    trail: &mut Trail,
    place: Place<'_>,
    stage: NodeId,
    by: EvidenceBy,
    stream: &Stream,
    limits: KeyLimits,
    log: &mut CyberVLog,
) -> Result<Ranked, ControlError> {
    let model = place.context.model(ACTOR);
    let by = match by {
        EvidenceBy::Auto if model.capabilities().latent && lost_attention(&log.sensed).is_some() => {
            EvidenceBy::Attention
        }
        EvidenceBy::Auto if place.context.voice_of(ACTOR) == Voice::Chat => EvidenceBy::Relevance,
        EvidenceBy::Auto => EvidenceBy::LeaveOneOut,
        given => given,
    };
    let by_change = |by: &str, change: Vec<f64>| Ranked {
        by: by.into(),
        chosen: key_segments(&change, stream, limits),
        change,
    };
    match by {
        EvidenceBy::Attention | EvidenceBy::Auto => {
            Ok(by_change("attention", lost_attention(&log.sensed).unwrap_or_default()))
        }
        EvidenceBy::LeaveOneOut => {
            let change = left_out(trail, place, stage, stream, log).await?;
            Ok(by_change("leave_one_out", change))
        }
        EvidenceBy::Relevance => named(trail, place, stage, stream, limits, log).await,
        EvidenceBy::Random => {
            let count = match lost_attention(&log.sensed) {
                Some(change) => key_segments(&change, stream, limits).len(),
                None => limits.segments,
            };
            let label = format!("{NAME}\0random\0{}\0{}", place.problem.task, place.problem.id);
            let mut places: Vec<usize> = (0..stream.segments.len()).collect();
            places.sort_by_cached_key(|&segment| place.context.seed_for(&label, segment as u64));
            places.truncate(count);
            places.sort_unstable();
            Ok(Ranked { by: "random".into(), change: Vec::new(), chosen: places })
        }
        EvidenceBy::Needed => Ok(Ranked { by: "needed".into(), change: Vec::new(), chosen: stream.needed() }),
        EvidenceBy::Nothing => Ok(Ranked { by: "nothing".into(), ..Ranked::default() }),
    }
}

/// log P(direct answer | without the segment) − log P(direct answer | all), by segment.
async fn left_out(
    trail: &mut Trail,
    place: Place<'_>,
    stage: NodeId,
    stream: &Stream,
    log: &mut CyberVLog,
) -> Result<Vec<f64>, ControlError> {
    let (context, problem) = (place.context, place.problem);
    let Some(answer) = log.sensed.first().and_then(|direct| direct.answer.clone()) else {
        log.notes.push("the direct response has no answer whose probability could change".into());
        return Ok(Vec::new());
    };
    if !context.model(ACTOR).capabilities().score {
        log.notes.push("the model cannot score given text, so segments cannot be left out".into());
        return Ok(Vec::new());
    }
    let continuation = match context.voice_of(ACTOR) {
        Voice::Compact => format!("#{answer}"),
        Voice::Chat => format!("Answer: {answer}"),
    };
    let mut requests = Vec::with_capacity(stream.segments.len() + 1);
    let mut add = |problem: &elenchus_trace::Problem| -> Result<(), ControlError> {
        requests.push(ScoreRequest {
            messages: context.prompt(ACTOR, "direct", &PromptSlots::new(problem))?,
            continuations: vec![continuation.clone()],
            distributions: false,
            with_end: false,
        });
        Ok(())
    };
    add(problem)?;
    for segment in 0..stream.segments.len() {
        add(&without(problem, stream, segment)?)?;
    }
    let started = trail.now();
    let scored = join_all(requests.iter().map(|request| context.score(ACTOR, request))).await;
    let mut sums = Vec::with_capacity(scored.len());
    for replies in scored {
        let reply = replies?.into_iter().next();
        let Some(reply) = reply else { continue };
        log.ranking_usage += reply.usage;
        sums.push(reply.logprobs.iter().map(|&logprob| f64::from(logprob)).sum::<f64>());
    }
    let feedback =
        Feedback { usage: log.ranking_usage, ..Feedback::score("leave one out", sums.len() as f64) };
    trail.evaluated(stage, &feedback, started);
    let Some((all, rest)) = sums.split_first() else { return Ok(Vec::new()) };
    Ok(rest.iter().map(|sum| sum - all).collect())
}

/// Asks which segments matter. A reply that names none is no choice.
async fn named(
    trail: &mut Trail,
    place: Place<'_>,
    stage: NodeId,
    stream: &Stream,
    limits: KeyLimits,
    log: &mut CyberVLog,
) -> Result<Ranked, ControlError> {
    let (context, problem) = (place.context, place.problem);
    let labels: Vec<&str> = stream.segments.iter().map(|segment| segment.label.as_str()).collect();
    let mut slots = PromptSlots::new(problem);
    slots.extra.insert("labels".into(), json!(labels));
    slots.extra.insert("most".into(), json!(limits.segments));
    let request = GenerateRequest {
        sampling: Sampling { temperature: 0.0, max_tokens: NAMED_TOKENS, ..Sampling::default() },
        ..GenerateRequest::new(context.prompt(ACTOR, "relevant", &slots)?)
    };
    let drawn = ask(trail, context, place.task, problem, ACTOR, Some(stage), &request).await?;
    let Some(reply) = drawn.candidates.first() else { return Ok(Ranked::default()) };
    log.ranking_usage += reply.completion.usage;
    let chosen = parse_numbers(&reply.completion.text, labels.len(), limits.segments);
    if chosen.is_empty() {
        log.notes.push("the reply to which segments matter names none".into());
    }
    Ok(Ranked { by: "relevance".into(), change: Vec::new(), chosen })
}

/// The numbers in the last line that has any: at most `most` different ones from 1 to `count`, as indices in order. A line
/// with another number is no list of segments.
pub(crate) fn parse_numbers(reply: &str, count: usize, most: usize) -> Vec<usize> {
    let numbers = |line: &str| -> Vec<usize> {
        line.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
    };
    let said = reply.lines().rev().map(numbers).find(|numbers| !numbers.is_empty()).unwrap_or_default();
    if said.iter().any(|number| !(1..=count).contains(number)) {
        return Vec::new();
    }
    let mut chosen: Vec<usize> = Vec::new();
    for number in said {
        if !chosen.contains(&(number - 1)) && chosen.len() < most {
            chosen.push(number - 1);
        }
    }
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_segments_are_read_strictly() {
        assert_eq!(parse_numbers("Segments: 7, 3 and 3", 8, 5), [2, 6]);
        assert_eq!(
            parse_numbers("I looked at 2.\nSegments: 1, 4, 5", 8, 2),
            [0, 3],
            "no more than asked for"
        );
        for reply in ["Segments: 1, 9", "none of them", "", "Segment 0"] {
            assert!(parse_numbers(reply, 8, 5).is_empty(), "{reply}");
        }
    }
}
