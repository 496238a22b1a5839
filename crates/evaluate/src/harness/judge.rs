//! A judge of known intent and knowledge.

use super::key::AnswerKey;
use super::scripted::{self, Made};
use super::{Behaviour, Intent, Knowledge};
use crate::judge::abstain_or_fail;
use crate::{DialogueJudge, EvaluateError, Needs, Review, ReviewInput, RoleNeeds};
use async_trait::async_trait;
use elenchus_generate::{ACTOR, GenerateRequest, PromptSlots, Sampling, Voice};
use elenchus_task::arithmetic::{self, dispute::Falsehood};
use elenchus_trace::{Feedback, FinishReason};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Who writes the objections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Writer {
    /// Nobody: fixed words, or the notation of arithmetic.
    #[default]
    Scripted,
    /// The model in role `judge`, told what to argue for (chat voice; bare objections stay fixed words).
    Model,
}

const ROLE: &str = "judge";

/// A judge for one item, with the key of that item.
pub struct HarnessJudge {
    behaviour: Behaviour,
    writer: Writer,
    falsehood: Falsehood,
    key: AnswerKey,
}

impl HarnessJudge {
    /// A judge that behaves so on the item of this key. `falsehood` is the kind of false claims in the notation of
    /// arithmetic.
    pub fn new(behaviour: Behaviour, writer: Writer, falsehood: Falsehood, key: AnswerKey) -> Self {
        HarnessJudge { behaviour, writer, falsehood, key }
    }

    /// What such a judge needs of the models.
    pub fn needs_of(writer: Writer) -> Needs {
        match writer {
            Writer::Scripted => Needs { oracle: true, ..Needs::default() },
            Writer::Model => Needs { oracle: true, ..Needs::role(RoleNeeds::new(ROLE)) },
        }
    }

    fn none(&self, feedback: Feedback) -> Review {
        Review { feedback, ..Review::default() }
    }

    /// Words that the model writes for what it is told to argue for.
    async fn written(&self, input: ReviewInput<'_>, same: bool) -> Result<Review, EvaluateError> {
        let Behaviour { intent, knowledge } = self.behaviour;
        let (target, evidence) = match scripted::target(&self.key, intent, |_| same) {
            Ok(found) => found,
            Err(reason) => return Ok(self.none(Feedback::abstain(self.name(), reason))),
        };
        if knowledge == Knowledge::Grounded && evidence.is_empty() {
            let reason = "the item has no evidence for what the judge argues for";
            return Ok(self.none(Feedback::abstain(self.name(), reason)));
        }
        let mut slots = PromptSlots::new(input.question.problem()).solution(input.solution);
        slots.extra.insert("target".into(), json!(target));
        slots.extra.insert("constructive".into(), json!(intent == Intent::Constructive));
        let shown = if knowledge == Knowledge::Grounded { evidence } else { &[] };
        slots.extra.insert("evidence".into(), json!(shown));
        let label = format!("audit\0{}\0{}", self.behaviour, self.key.problem.id);
        let request = GenerateRequest {
            sampling: Sampling {
                temperature: 0.0,
                max_tokens: input.max_tokens,
                seed: input.context.seed_for(&label, input.round as u64),
                ..Sampling::default()
            },
            ..GenerateRequest::new(input.context.prompt(ROLE, "audit_objection", &slots)?)
        };
        let completion = match input.context.generate(ROLE, &request).await {
            Ok(completions) => completions.into_iter().next(),
            Err(error) => return Ok(self.none(abstain_or_fail(&self.name(), error)?)),
        };
        let Some(completion) = completion else {
            return Ok(self.none(Feedback::abstain(self.name(), "the judge gave no completion")));
        };
        let said = completion.text.rsplit_once("</think>").map_or(completion.text.as_str(), |(_, said)| said);
        let (text, usage) = (said.trim().to_string(), completion.usage);
        if text.is_empty() || completion.finish == FinishReason::Length {
            let reason = match text.is_empty() {
                true => "the judge wrote nothing".to_string(),
                false => format!("the objection was cut at {} tokens", input.max_tokens),
            };
            let feedback = Feedback { text: Some(text), usage, ..Feedback::abstain(self.name(), reason) };
            return Ok(self.none(feedback));
        }
        let feedback = Feedback {
            text: Some(text.clone()),
            usage,
            ..Feedback { evaluator: self.name(), ..Default::default() }
        };
        Ok(Review { feedback, objection: Some(text), argues_for: Some(target.to_string()) })
    }
}

#[async_trait]
impl DialogueJudge for HarnessJudge {
    /// Says in every trace that what this judge writes is part of a test.
    fn name(&self) -> String {
        format!("audit judge ({})", self.behaviour)
    }

    fn needs(&self) -> Needs {
        HarnessJudge::needs_of(self.writer)
    }

    async fn review(&self, input: ReviewInput<'_>) -> Result<Review, EvaluateError> {
        let Behaviour { intent, knowledge } = self.behaviour;
        let right = input.task.verify(&self.key.problem, input.solution)?.is_correct();
        if !intent.objects(right) {
            return Ok(self.none(Feedback { evaluator: self.name(), ..Default::default() }));
        }
        let equals = |alternative: &str| {
            input.answer.is_some_and(|answer| input.task.equivalent(&self.key.problem, answer, alternative))
        };
        let compact = input.context.voice_of(ACTOR) == Voice::Compact;
        let made: Made = match (compact, self.writer) {
            (true, Writer::Scripted) if self.key.problem.task == arithmetic::TASK => {
                let label = format!("audit\0{}\0{}", self.behaviour, self.key.problem.id);
                let seed = input.context.seed_for(&label, input.round as u64);
                scripted::compact(&self.key.problem, input.solution, intent, knowledge, self.falsehood, seed)?
            }
            (true, _) => {
                return Err(EvaluateError::Setting {
                    evaluator: "audit judge".into(),
                    field: "voice".into(),
                    problem: "the compact notation has scripted objections to arithmetic alone".into(),
                    hint: "audit the embedded model on `--task arithmetic`, or a chat model".into(),
                });
            }
            (false, Writer::Model) if knowledge != Knowledge::None => {
                let same = self.key.alternative.as_deref().is_some_and(equals);
                return self.written(input, same).await;
            }
            (false, _) => scripted::in_words(&self.key, intent, knowledge, equals),
        };
        Ok(match made {
            Ok((text, argues_for)) => Review {
                feedback: Feedback {
                    text: Some(text.clone()),
                    ..Feedback { evaluator: self.name(), ..Default::default() }
                },
                objection: Some(text),
                argues_for,
            },
            Err(reason) => self.none(Feedback::abstain(self.name(), reason)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Toy, problem};
    use crate::{Question, evaluators};
    use elenchus_generate::{Context, Scripted};
    use serde_json::Value;

    fn review(
        intent: Intent,
        knowledge: Knowledge,
        writer: Writer,
        solution: &str,
        model: Scripted,
    ) -> Review {
        let mut problem = problem();
        problem.data = json!({"alternative": "8", "evidence": [{"text": "2 + 5 = 8", "source": "a book"}]});
        let key = AnswerKey::of(&problem).unwrap();
        let judge = HarnessJudge::new(Behaviour { intent, knowledge }, writer, Falsehood::Result, key);
        let context = Context::builder().role("actor", model.shared()).build().unwrap();
        let question = Question::of(&problem);
        let answer = solution.rsplit('#').next();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime
            .block_on(judge.review(ReviewInput {
                context: &context,
                task: &Toy,
                question: &question,
                solution,
                answer,
                past: &[],
                round: 1,
                max_tokens: 99,
            }))
            .unwrap()
    }

    #[test]
    fn who_objects_to_what() {
        for (intent, to_right, to_wrong) in [
            (Intent::Constructive, false, true),
            (Intent::Hypercritical, true, true),
            (Intent::Malicious, true, false),
        ] {
            for (solution, objects) in [("#7", to_right), ("#9", to_wrong)] {
                let found = review(
                    intent,
                    Knowledge::Parametric,
                    Writer::Scripted,
                    solution,
                    Scripted::new("silent"),
                );
                assert_eq!(found.objection.is_some(), objects, "{intent:?} {solution}");
                assert!(found.feedback.evaluator.starts_with("audit judge"), "labelled as part of a test");
            }
        }
    }

    #[test]
    fn a_model_is_told_what_to_argue_for_and_the_evidence_only_when_grounded() {
        let seen = |knowledge| {
            let model = Scripted::always(["It should be 8."]).shared();
            let mut problem = problem();
            problem.data =
                json!({"alternative": "8", "evidence": [{"text": "a quoted line", "source": "a book"}]});
            let judge = HarnessJudge::new(
                Behaviour { intent: Intent::Malicious, knowledge },
                Writer::Model,
                Falsehood::Result,
                AnswerKey::of(&problem).unwrap(),
            );
            let context = Context::builder().role("actor", model.clone()).build().unwrap();
            let question = Question::of(&problem);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let found = runtime.block_on(judge.review(ReviewInput {
                context: &context,
                task: &Toy,
                question: &question,
                solution: "#7",
                answer: Some("7"),
                past: &[],
                round: 1,
                max_tokens: 99,
            }));
            let found = found.unwrap();
            assert_eq!(found.argues_for.as_deref(), Some("8"));
            model.requests()[0].messages.last().unwrap().text()
        };
        assert!(seen(Knowledge::Grounded).contains("a quoted line"));
        let parametric = seen(Knowledge::Parametric);
        assert!(!parametric.contains("a quoted line") && parametric.contains('8'), "{parametric}");
    }

    #[test]
    fn a_model_that_writes_nothing_abstains() {
        let found = review(
            Intent::Malicious,
            Knowledge::Parametric,
            Writer::Model,
            "#7",
            Scripted::always(["<think>hm</think>"]),
        );
        assert!(found.objection.is_none() && found.feedback.abstained.unwrap().contains("nothing"));
    }

    #[test]
    fn no_evaluator_in_service_is_one_of_these() {
        for entry in evaluators() {
            assert!(!entry.needs.oracle || entry.name == "verifier", "{}", entry.name);
            for intent in Intent::ALL {
                let schema = entry.settings.to_string();
                assert!(!schema.contains(intent.name()), "{} can be told to be {intent:?}", entry.name);
            }
        }
        assert!(crate::evaluator("audit judge", Value::Null).is_err());
    }
}
