//! Universal self-consistency: the model itself picks the most consistent response (arXiv 2311.17311), the baseline of
//! arXiv 2502.18581.

use crate::drafts::{DraftCall, Drafts, check_reply_tokens};
use crate::draw::check_samples;
use crate::place::Place;
use crate::{ControlError, Draw, Estimate, EstimateInput, Keeps, Minimum, Strategy, Trail, Triple};
use async_trait::async_trait;
use elenchus_evaluate::{Needs, RoleNeeds};
use elenchus_generate::{ACTOR, Context, LogprobDetail, PromptSlots, Sampling, Voice};
use elenchus_task::Task;
use elenchus_trace::{Answer, Problem, Usage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Settings of `universal-self-consistency`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UniversalSelfConsistencySettings {
    /// Number of responses; all of them stand in one prompt.
    pub samples: usize,
    /// Role that picks.
    pub selector: String,
    /// Most tokens of the selector's reply.
    pub selector_max_tokens: u32,
    /// How the responses are drawn.
    #[serde(flatten)]
    pub draw: Draw,
}

impl Default for UniversalSelfConsistencySettings {
    fn default() -> Self {
        UniversalSelfConsistencySettings {
            samples: 8,
            selector: "selector".into(),
            selector_max_tokens: 512,
            draw: Draw::default(),
        }
    }
}

/// Draws n responses, lists them in one prompt, and asks for the one that agrees most with the others. Works where
/// answers cannot be compared by a program; the prompt grows with n.
///
/// As in the comparison of arXiv 2502.18581: the last `Response <number>` of the reply counts; when there is none, or it
/// is out of range, the first response is taken; when the response taken has no answer, the first one that has. The
/// trace says when this happened. Chat voice only. Without any answer it abstains; no confidence is claimed.
#[derive(Debug, Clone)]
pub struct UniversalSelfConsistency {
    settings: UniversalSelfConsistencySettings,
}

impl UniversalSelfConsistency {
    /// Errors: [`ControlError::Setting`].
    pub fn new(settings: UniversalSelfConsistencySettings) -> Result<Self, ControlError> {
        const NAME: &str = "universal-self-consistency";
        check_samples(NAME, settings.samples)?;
        settings.draw.check(NAME)?;
        check_reply_tokens(NAME, "selector_max_tokens", settings.selector_max_tokens)?;
        Ok(UniversalSelfConsistency { settings })
    }
}

/// Index (from 0) of the last `Response <number>` in a reply to a list numbered from 1; `None` when there is none or the
/// last one is not in the list.
pub fn parse_response_number(reply: &str, count: usize) -> Option<usize> {
    let lower = reply.to_ascii_lowercase();
    let number = lower
        .match_indices("response")
        .filter_map(|(at, word)| {
            let rest = lower[at + word.len()..].trim_start_matches([' ', '#', ':', '*', '(', '[', '`']);
            let digits = rest.chars().take_while(char::is_ascii_digit).count();
            rest[..digits].parse::<usize>().ok()
        })
        .last()?;
    (1..=count).contains(&number).then(|| number - 1)
}

#[async_trait]
impl Strategy for UniversalSelfConsistency {
    fn name(&self) -> &'static str {
        "universal-self-consistency"
    }

    fn summary(&self) -> &'static str {
        "the model itself picks the response that agrees most with the others"
    }

    fn triple(&self) -> Triple {
        Triple::SELF_VOTE
    }

    fn needs(&self) -> Needs {
        Needs::role(RoleNeeds::new(ACTOR)).and(Needs::role(RoleNeeds::new(&self.settings.selector)))
    }

    fn keeps(&self) -> Keeps {
        Keeps::TEXT_SAMPLE
    }

    fn minimum(&self) -> Minimum {
        // Samples that agree need no selector.
        Minimum { calls: 1, tokens: 1 + self.settings.samples as u64 }
    }

    fn estimate(&self, input: &EstimateInput) -> Estimate {
        let samples = self.settings.samples as u64;
        let reply = input.completion_tokens.min(self.settings.selector_max_tokens.into());
        // The instruction of the selection prompt is some 60 tokens.
        Estimate {
            usage: Usage {
                calls: 2,
                prompt_tokens: 2 * input.prompt_tokens + samples * input.completion_tokens + 60,
                completion_tokens: samples * input.completion_tokens + reply,
                ..Usage::default()
            },
            formula: format!("2 calls, about 2p + 2nc + c tokens, n = {samples}"),
        }
    }

    fn check(&self, context: &Context) -> Result<(), ControlError> {
        if context.voice_of(&self.settings.selector) == Voice::Chat {
            return Ok(());
        }
        Err(ControlError::Capability {
            strategy: self.name().into(),
            role: self.settings.selector.clone(),
            what: "the chat voice".into(),
            hint: "the embedded model does not know this skill: use `self-consistency`, or bind an endpoint to the role"
                .into(),
        })
    }

    async fn attempt(
        &self,
        context: &Context,
        task: &dyn Task,
        problem: &Problem,
    ) -> Result<Answer, ControlError> {
        let place = Place { context, task, problem };
        let mut trail = Trail::new(context, self.name(), problem);
        let count = self.settings.samples;
        let drafts = Drafts::draw(&mut trail, place, &self.settings.draw, count, LogprobDetail::None).await?;
        let answers = drafts.drawn.answers();
        let Some(first_answered) = answers.iter().position(Option::is_some) else {
            let reason =
                format!("none of the {} responses has an answer that the task can extract", answers.len());
            trail.decided(None, reason.clone(), None, Value::Null);
            let text = drafts.drawn.texts().first().copied().unwrap_or_default().to_string();
            return Ok(trail.answer(text, None, None, Vec::new(), Some(reason)));
        };
        let agreed = drafts.vote(place).groups.len() == 1 && answers.iter().all(Option::is_some);
        let (sample, decision, data) = if agreed {
            (0, "all responses agree".to_string(), Value::Null)
        } else {
            let call = DraftCall {
                role: &self.settings.selector,
                skill: "choose",
                samples: 1,
                sampling: Sampling {
                    temperature: 0.0,
                    max_tokens: self.settings.selector_max_tokens,
                    seed: self.settings.draw.seed,
                    ..Sampling::default()
                },
                writes_answer: false,
            };
            let slots = PromptSlots::new(problem).drafts(drafts.shown());
            let reply = match call.ask(&mut trail, place, None, &slots).await?.first() {
                Ok((reply, _)) => reply.completion.text,
                Err(why) => {
                    let reason = format!("the selector failed: {why}");
                    trail.decided(None, reason.clone(), None, Value::Null);
                    let text = drafts.drawn.texts().first().copied().unwrap_or_default().to_string();
                    return Ok(trail.answer(text, None, None, Vec::new(), Some(reason)));
                }
            };
            let picked = parse_response_number(&reply, answers.len()).and_then(|place| drafts.at(place));
            let taken = picked.unwrap_or(0);
            let sample = if answers[taken].is_some() { taken } else { first_answered };
            let decision = match (picked, sample == taken) {
                (Some(_), true) => format!("the selector picked response {}", sample + 1),
                (Some(_), false) => {
                    format!("the picked response has no answer: response {} instead", sample + 1)
                }
                (None, _) => {
                    format!("the selector named no response of the list: response {} instead", sample + 1)
                }
            };
            (sample, decision, json!({ "picked": picked, "fallback": picked != Some(sample) }))
        };
        let decision = drafts.noting_identical(decision);
        trail.decided(None, decision, drafts.drawn.nodes.get(sample).copied(), data);
        let chosen = &drafts.drawn.candidates[sample];
        Ok(trail.answer(chosen.completion.text.clone(), chosen.answer.clone(), None, Vec::new(), None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{away, compact, context, run};
    use elenchus_generate::Scripted;
    use elenchus_trace::NodeKind;

    fn strategy(samples: usize) -> UniversalSelfConsistency {
        let settings = UniversalSelfConsistencySettings { samples, ..Default::default() };
        UniversalSelfConsistency::new(settings).unwrap()
    }

    fn answer_to(reply: &str) -> Answer {
        let model =
            Scripted::new("m").on("Several responses", [reply]).on("Solve", ["x#1", "hm", "x#2"]).shared();
        run(&strategy(3), &context(model)).unwrap()
    }

    #[test]
    fn the_last_response_number_counts() {
        for (reply, wanted) in [
            ("The most consistent response is Response 3", Some(2)),
            ("Response 1 is odd. So: **Response 2**.", Some(1)),
            ("RESPONSE #3", Some(2)),
            ("response: 1", Some(0)),
            ("Response 1 or Response 9", None),
            ("Response 0", None),
            ("the third", None),
            ("Response", None),
            ("Response 99999999999999999999999", None),
            ("Réponse 2", None),
        ] {
            assert_eq!(parse_response_number(reply, 3), wanted, "{reply}");
        }
    }

    #[test]
    fn the_pick_and_its_fallbacks() {
        assert_eq!(answer_to("Response 3").answer.as_deref(), Some("2"));
        assert_eq!(
            answer_to("Response 2").answer.as_deref(),
            Some("1"),
            "it has no answer: the first that has"
        );
        let lost = answer_to("all are lovely");
        assert_eq!(lost.answer.as_deref(), Some("1"));
        let said = lost.trace.nodes.iter().any(
            |node| matches!(&node.kind, NodeKind::Decided { data, .. } if data["fallback"] == json!(true)),
        );
        assert!(said, "a fallback must be visible in the trace");
    }

    #[test]
    fn agreement_needs_no_selector_and_silence_abstains() {
        let model = Scripted::always(["x#7", "y#07"]).shared();
        let answer = run(&strategy(2), &context(model.clone())).unwrap();
        assert_eq!((answer.answer.as_deref(), model.calls()), (Some("7"), 1));
        let model = Scripted::always(["hm"]).shared();
        assert!(run(&strategy(2), &context(model)).unwrap().abstained.is_some());
    }

    #[test]
    fn a_selector_that_fails_is_an_abstention_and_the_compact_voice_an_error() {
        let model = Scripted::new("m")
            .on_completions("Several responses", [Err(away())])
            .on("Solve", ["x#1", "x#2"])
            .shared();
        let answer = run(&strategy(2), &context(model)).unwrap();
        assert!(answer.answer.is_none() && answer.abstained.unwrap().contains("selector failed"));
        let model = Scripted::always(["x#1"]).shared();
        let error = run(&strategy(2), &compact(model.clone())).unwrap_err();
        assert!(error.to_string().contains("chat voice"), "{error}");
        assert_eq!(model.calls(), 0);
    }
}
