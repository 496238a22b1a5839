//! What is sensed of a response: the probability of its answer's token, and where that token looks.

use crate::ControlError;
use crate::Trail;
use crate::cyberv::{CyberVLog, Response};
use crate::place::Place;
use elenchus_generate::Segment as Part;
use elenchus_generate::{
    ACTOR, Capabilities, LatentRead, LatentRequest, LatentValues, LogprobDetail, Stretch, Voice,
};
use elenchus_task::evidence::Stream;
use elenchus_trace::{Completion, Feedback, Message, NodeId, Role};
use futures::future::join_all;

/// What a request must report so that the answer's token can be found: its text stands beside the likeliest tokens.
pub(crate) fn probability_detail(capabilities: &Capabilities) -> LogprobDetail {
    match capabilities.top_logprobs {
        0 => LogprobDetail::Offered,
        _ => LogprobDetail::Top(1),
    }
}

/// Texts of the tokens: as the server gives them; of a greedy text, the likeliest ones.
fn token_text(completion: &Completion, place: usize) -> Option<&str> {
    match completion.token_texts.get(place) {
        Some(text) => Some(text),
        None => completion.top.get(place)?.first().map(|top| top.token.as_str()),
    }
}

/// Probability of the last token that is the answer; `None` without log-probabilities. Where no token is the answer as a
/// whole, the last one that holds it counts.
pub(crate) fn answer_probability(completion: &Completion, answer: &str) -> Option<f64> {
    let place = answer_place(completion, answer)?;
    completion.logprobs.get(place).map(|&logprob| f64::from(logprob).exp().clamp(0.0, 1.0))
}

/// Place of the answer's token; behind the last token where none is.
pub(crate) fn answer_place(completion: &Completion, answer: &str) -> Option<usize> {
    if completion.logprobs.is_empty() {
        return None;
    }
    let bare = |text: &str| text.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    let wanted = bare(answer);
    let places = || (0..completion.logprobs.len()).rev();
    let exact =
        places().find(|&place| token_text(completion, place).is_some_and(|text| bare(text) == wanted));
    let within = || {
        places().find(|&place| {
            token_text(completion, place).is_some_and(|text| {
                text.split(|c: char| !c.is_alphanumeric()).any(|word| word.to_lowercase() == wanted)
            })
        })
    };
    exact.or_else(within)
}

/// Where the parts of a prompt stand that are segments; `None` where one of them stands nowhere.
pub(crate) fn places(place: Place<'_>, messages: &[Message], stream: &Stream) -> Option<Vec<Part>> {
    let compact = place.context.voice_of(ACTOR) == Voice::Compact;
    let whole = if compact { place.problem.compact.as_deref()? } else { place.problem.question.as_str() };
    let message = messages.iter().rposition(|message| message.role == Role::User)?;
    let start = messages[message].text().find(whole)?;
    let part = |segment: &elenchus_task::evidence::Segment| {
        let [from, to] = if compact { segment.in_compact } else { segment.in_question }?;
        Some(Part::Bytes { message, from: start + from, to: start + to })
    };
    stream.segments.iter().map(part).collect()
}

/// Attention of each response's answer token on the segments, mean over the heads of the last layer. `None` for a response
/// without an answer, or where the model refused to look; both are told.
pub(crate) async fn attention_of(
    trail: &mut Trail,
    place: Place<'_>,
    stage: NodeId,
    responses: &[Response],
    stream: &Stream,
    log: &mut CyberVLog,
) -> Result<Vec<Option<Vec<f64>>>, ControlError> {
    let started = trail.now();
    let request = |one: &Response| {
        let answer = one.answer.as_deref()?;
        let from = one.text.rfind(answer)?;
        Some(LatentRequest {
            messages: one.messages.clone(),
            continuation: one.text.clone(),
            read: LatentRead::Attention {
                rows: Stretch::Bytes { from, to: from + answer.len() },
                segments: places(place, &one.messages, stream)?,
                layer: None,
            },
        })
    };
    let requests: Vec<Option<LatentRequest>> = responses.iter().map(request).collect();
    let context = place.context;
    let look = |request: Option<LatentRequest>| async move {
        match request {
            Some(request) => Some(context.latent(ACTOR, &request).await),
            None => None,
        }
    };
    let readings = join_all(requests.into_iter().map(look)).await;
    let mut found = Vec::with_capacity(readings.len());
    for (one, reading) in responses.iter().zip(readings) {
        let node = one.node.unwrap_or(stage);
        found.push(match reading {
            None => None,
            Some(Ok(reading)) => {
                log.attention_usage += reading.usage;
                let masses = match reading.values {
                    LatentValues::Attention(heads) => Some(mean_of(&heads, stream.segments.len())),
                    _ => None,
                };
                let feedback = Feedback {
                    score: masses.as_ref().map(|masses| masses.iter().sum()),
                    usage: reading.usage,
                    ..Feedback::score("attention on the evidence", 0.0)
                };
                trail.evaluated(node, &feedback, started);
                masses
            }
            Some(Err(error)) => {
                let why = error.to_string().lines().next().unwrap_or_default().to_string();
                trail.evaluated(node, &Feedback::abstain("attention on the evidence", why.clone()), started);
                log.notes.push(format!("no attention of a response: {why}"));
                None
            }
        });
    }
    Ok(found)
}

/// The mean over heads of each segment; what lies outside of all segments is left out.
fn mean_of(heads: &[Vec<f32>], segments: usize) -> Vec<f64> {
    let mean = |place: usize| {
        let sum: f64 = heads.iter().map(|head| f64::from(head.get(place).copied().unwrap_or(0.0))).sum();
        sum / heads.len().max(1) as f64
    };
    (0..segments).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use elenchus_trace::TopToken;

    fn completion(tokens: &[(&str, f32)]) -> Completion {
        let mut completion = Completion::text(tokens.iter().map(|(text, _)| *text).collect::<String>());
        completion.logprobs = tokens.iter().map(|(_, logprob)| *logprob).collect();
        completion.token_texts = tokens.iter().map(|(text, _)| text.to_string()).collect();
        completion
    }

    #[test]
    fn the_last_token_that_is_the_answer_counts() {
        let said = completion(&[("B", -2.0), (" or", -0.1), (" (B", -0.5), (")", -0.1)]);
        assert_eq!(answer_place(&said, "B"), Some(2));
        assert!((answer_probability(&said, "B").unwrap() - (-0.5f64).exp()).abs() < 1e-6);
        assert_eq!(answer_probability(&said, "C"), None, "no token is the answer");
        assert_eq!(answer_place(&completion(&[("Answer: D.", -0.3)]), "D"), Some(0), "one token for all");
        assert_eq!(answer_probability(&Completion::text("B"), "B"), None, "no log-probabilities");
        let mut native = completion(&[("#", -0.1), ("C", -0.7)]);
        native.token_texts.clear();
        native.top = ["#", "C"].map(|token| vec![TopToken { token: token.into(), logprob: -0.1 }]).to_vec();
        assert_eq!(answer_place(&native, "C"), Some(1), "the likeliest token of a greedy text");
    }

    #[test]
    fn heads_are_averaged_and_the_rest_is_left_out() {
        assert_eq!(mean_of(&[vec![0.5, 0.25, 0.25], vec![0.0, 0.75, 0.25]], 2), [0.25, 0.5]);
    }
}
