//! What stands between an objection and the generator.

use super::dialogue::Standing;
use super::settings::JudgedDialogueSettings;
use crate::draw::{Sampled, ask};
use crate::place::{Place, all_identical};
use crate::{ControlError, Trail, majority};
use elenchus_evaluate::parse_verdict_line;
use elenchus_generate::{ACTOR, GenerateRequest, LogprobDetail, PromptSlots, Sampling, Voice};
use elenchus_task::arithmetic::dispute::{Disputed, disputed, says};
use elenchus_task::{Skill, parse_judge};
use elenchus_trace::NodeId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What stands between an objection and the generator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// Nothing: every objection reaches it.
    #[default]
    None,
    /// Verify before accepting: what is disputed is worked out anew without the generator's dialogue, `gate_samples` times;
    /// the objection passes when more of them agree with its claim than with the answer.
    Recompute,
    /// A moderator reads answer and objection, `gate_samples` times; it passes when most decide to revise. The embedded model
    /// has a skill that judges the answer alone.
    Moderator,
    /// It passes when the generator is unsure of its own answer (log-probabilities).
    Confidence,
    /// Every objection passes, and then the answers before and after it and `gate_samples` fresh ones vote; the answer before
    /// it wins a tie.
    Vote,
}

impl Gate {
    /// All gates.
    pub const ALL: [Gate; 5] = [Gate::None, Gate::Recompute, Gate::Moderator, Gate::Confidence, Gate::Vote];

    /// As in settings.
    pub fn name(self) -> &'static str {
        match self {
            Gate::None => "none",
            Gate::Recompute => "recompute",
            Gate::Moderator => "moderator",
            Gate::Confidence => "confidence",
            Gate::Vote => "vote",
        }
    }

    /// The gate of a name.
    pub fn from_name(name: &str) -> Option<Gate> {
        Gate::ALL.into_iter().find(|gate| gate.name() == name)
    }
}

/// Whether an objection passes, and why or why not.
pub(super) struct Passage {
    pub(super) passes: bool,
    pub(super) reason: String,
}

/// A remark when several samples at a temperature are one and the same text.
pub(super) fn repeated(texts: &[&str]) -> &'static str {
    match all_identical(texts) {
        true => "; all samples are identical: does the server ignore the temperature?",
        false => "",
    }
}

impl JudgedDialogueSettings {
    /// How the samples of a gate are drawn.
    fn gate_sampling(&self, place: Place<'_>, what: &str, round: usize) -> Sampling {
        let Place { context, problem, .. } = place;
        let label = format!("gate\0{what}\0{}\0{}\0{}", problem.task, problem.id, self.draw.seed);
        self.draw.sampling(self.gate_samples > 1, context.seed_for(&label, round as u64))
    }

    /// Fresh answers to the problem, drawn without the dialogue.
    pub(super) async fn fresh(
        &self,
        trail: &mut Trail,
        place: Place<'_>,
        stage: NodeId,
        round: usize,
    ) -> Result<Sampled, ControlError> {
        let Place { context, task, problem } = place;
        // Behind the answers that other strategies draw: none of these is the one that stands.
        let offset = 1 + round * self.gate_samples;
        let several = self.gate_samples > 1;
        let request =
            self.draw.request(context, problem, self.gate_samples, several, LogprobDetail::None, offset)?;
        ask(trail, context, task, problem, ACTOR, Some(stage), &request).await
    }

    /// Whether an objection reaches the generator.
    pub(super) async fn passage(
        &self,
        trail: &mut Trail,
        place: Place<'_>,
        standing: &Standing,
        objection: &str,
        stage: NodeId,
        round: usize,
    ) -> Result<Passage, ControlError> {
        let chat = place.context.voice_of(&self.checker) == Voice::Chat;
        match self.gate {
            Gate::None | Gate::Vote => Ok(Passage { passes: true, reason: "no gate before it".into() }),
            Gate::Confidence => Ok(match standing.mean_logprob {
                None => Passage {
                    passes: false,
                    reason: "the answer came without log-probabilities: nothing tells that it is unsure"
                        .into(),
                },
                Some(sure) => Passage {
                    passes: sure < self.confidence,
                    reason: format!("mean log-probability {sure:.4}, threshold {:.4}", self.confidence),
                },
            }),
            Gate::Recompute if chat => {
                let words = ("recompute", "claim check", ["holds", "fails"]);
                self.counted(trail, place, standing, objection, stage, round, words).await
            }
            Gate::Moderator if chat => {
                let words = ("moderate", "decision", ["revise", "keep"]);
                self.counted(trail, place, standing, objection, stage, round, words).await
            }
            Gate::Recompute => self.recomputed(trail, place, standing, objection, stage, round).await,
            Gate::Moderator => self.judged(trail, place, standing, stage, round).await,
        }
    }

    /// Replies that end in one of two words (or `unsure`); the objection passes when the first is said more often than all
    /// else together.
    #[expect(clippy::too_many_arguments, reason = "one place, called with two sets of words")]
    async fn counted(
        &self,
        trail: &mut Trail,
        place: Place<'_>,
        standing: &Standing,
        objection: &str,
        stage: NodeId,
        round: usize,
        (skill, heading, [pass, hold]): (&str, &str, [&str; 2]),
    ) -> Result<Passage, ControlError> {
        let Place { context, task, problem } = place;
        let slots = PromptSlots::new(problem).solution(&standing.text).critique(objection);
        let request = GenerateRequest {
            samples: self.gate_samples,
            sampling: self.gate_sampling(place, skill, round),
            ..GenerateRequest::new(context.prompt(&self.checker, skill, &slots)?)
        };
        let drawn = ask(trail, context, task, problem, &self.checker, Some(stage), &request).await?;
        let (mut passing, mut holding, mut unreadable) = (0, 0, 0);
        for text in drawn.texts() {
            match parse_verdict_line(text, heading, &[pass, hold, "unsure"]) {
                Ok(word) if word == pass => passing += 1,
                Ok(_) => holding += 1,
                Err(_) => unreadable += 1,
            }
        }
        let said = format!(
            "{heading}: {pass} {passing}, {hold} or unsure {holding}, unreadable {unreadable}{}",
            repeated(&drawn.texts())
        );
        Ok(Passage { passes: passing > holding, reason: said })
    }

    /// Fresh chains of the embedded model: what do they say of that which is disputed?
    async fn recomputed(
        &self,
        trail: &mut Trail,
        place: Place<'_>,
        standing: &Standing,
        objection: &str,
        stage: NodeId,
        round: usize,
    ) -> Result<Passage, ControlError> {
        let Place { task, problem, .. } = place;
        let drawn = self.fresh(trail, place, stage, round).await?;
        let (mut agree, mut oppose) = (0, 0);
        match disputed(objection) {
            Some(what) => {
                let claimed = match &what {
                    Disputed::Step { value, .. } | Disputed::Answer(value) => *value,
                };
                let stands = says(&standing.text, &what);
                for value in drawn.texts().into_iter().filter_map(|text| says(text, &what)) {
                    agree += usize::from(value == claimed);
                    oppose += usize::from(Some(value) == stands && value != claimed);
                }
            }
            // Nothing is claimed: does the answer come again?
            None => {
                for answer in drawn.answers().into_iter().flatten() {
                    let same =
                        standing.answer.as_deref().is_some_and(|mine| task.equivalent(problem, mine, answer));
                    agree += usize::from(!same);
                    oppose += usize::from(same);
                }
            }
        }
        let reason = format!(
            "worked out anew {} times: {agree} for the objection, {oppose} for the answer{}",
            drawn.candidates.len(),
            repeated(&drawn.texts())
        );
        Ok(Passage { passes: agree > oppose, reason })
    }

    /// The skill `judge` of the embedded model on the answer that stands.
    async fn judged(
        &self,
        trail: &mut Trail,
        place: Place<'_>,
        standing: &Standing,
        stage: NodeId,
        round: usize,
    ) -> Result<Passage, ControlError> {
        let Place { context, task, problem } = place;
        let slots = PromptSlots::new(problem).solution(&standing.text);
        let request = GenerateRequest {
            samples: self.gate_samples,
            sampling: Sampling {
                temperature: 1.0,
                top_p: 1.0,
                max_tokens: 4,
                ..self.gate_sampling(place, "judge", round)
            },
            ..GenerateRequest::new(context.prompt(&self.checker, Skill::Judge, &slots)?)
        };
        let drawn = ask(trail, context, task, problem, &self.checker, Some(stage), &request).await?;
        let said: Vec<Option<bool>> = drawn.texts().into_iter().map(|text| parse_judge(text).ok()).collect();
        let count = |wanted: Option<bool>| said.iter().filter(|found| **found == wanted).count();
        let (keep, revise, unreadable) = (count(Some(true)), count(Some(false)), count(None));
        let reason = format!("moderated: keep {keep}, revise {revise}, unreadable {unreadable}");
        Ok(Passage { passes: revise > keep, reason })
    }

    /// The vote behind a reply: which of the answer before it, the reply and the fresh ones stands. `None` keeps the answer
    /// before it.
    pub(super) async fn vote(
        &self,
        trail: &mut Trail,
        place: Place<'_>,
        standing: &Standing,
        reply: &Standing,
        stage: NodeId,
        round: usize,
    ) -> Result<(Option<Standing>, String), ControlError> {
        let Place { task, problem, .. } = place;
        let drawn = self.fresh(trail, place, stage, round).await?;
        let mut answers: Vec<Option<&str>> = vec![standing.answer.as_deref(), reply.answer.as_deref()];
        answers.extend(drawn.answers());
        let vote = majority(&answers, |left, right| task.equivalent(problem, left, right));
        let counts: Vec<String> =
            vote.table(&answers).iter().map(|votes| format!("{} × {}", votes.count, votes.answer)).collect();
        let reason = format!("vote: {}{}", counts.join(", "), repeated(&drawn.texts()));
        let winner =
            match vote.sample() {
                None | Some(0) => None,
                Some(1) => Some(reply.clone()),
                Some(place) => drawn.candidates.get(place - 2).zip(drawn.nodes.get(place - 2)).map(
                    |(candidate, &node)| Standing {
                        text: candidate.completion.text.clone(),
                        answer: candidate.answer.clone(),
                        node,
                        mean_logprob: None,
                    },
                ),
            };
        Ok((winner, reason))
    }
}
