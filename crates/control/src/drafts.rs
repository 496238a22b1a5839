//! Calls that see several responses to the same problem: to choose one, to count their answers, to write a new response
//! from them, to contrast the best with the worst.
//!
//! Draws the drafts, puts them in an order that does not depend on which was drawn first, asks once, and falls back on
//! the vote of the drafts where there is no usable reply. What is asked and how the reply is read belongs to the
//! strategy.

use crate::draw::{ask, ask_last};
use crate::place::{Place, all_identical};
use crate::vote::{VoteResult, majority};
use crate::{ControlError, Draw, Sampled, Trail};
use elenchus_evaluate::Candidate;
use elenchus_generate::{GenerateError, GenerateRequest, LogprobDetail, PromptSlots, Sampling};
use elenchus_trace::{Answer, NodeId};
use serde_json::{Value, json};

/// Responses to one problem, in the order in which a prompt shows them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Drafts {
    /// As they were drawn.
    pub drawn: Sampled,
    /// The draft at each place of the prompt.
    order: Vec<usize>,
}

impl Drafts {
    /// Draws `count` drafts in one request.
    pub(crate) async fn draw(
        trail: &mut Trail,
        place: Place<'_>,
        draw: &Draw,
        count: usize,
        detail: LogprobDetail,
    ) -> Result<Self, ControlError> {
        let Place { context, task, problem } = place;
        let request = draw.request(context, problem, count, count > 1, detail, 0)?;
        let role = elenchus_generate::ACTOR;
        let drawn = ask(trail, context, task, problem, role, None, &request).await?;
        let order = (0..drawn.candidates.len()).collect();
        Ok(Drafts { drawn, order })
    }

    /// In an order that depends on the seed of the run and the problem: small models copy the last draft, so its place
    /// must not mean anything.
    pub(crate) fn shuffled(mut self, place: Place<'_>, shuffle: bool) -> Self {
        if shuffle {
            let label = format!("order\0{}\0{}", place.problem.task, place.problem.id);
            self.order.sort_by_cached_key(|&draft| place.context.seed_for(&label, draft as u64));
        }
        self
    }

    /// The texts in the order of the prompt.
    pub(crate) fn shown(&self) -> Vec<&str> {
        self.order.iter().map(|&draft| self.drawn.candidates[draft].completion.text.as_str()).collect()
    }

    /// The draft at a place of the prompt.
    pub(crate) fn at(&self, place: usize) -> Option<usize> {
        self.order.get(place).copied()
    }

    /// The vote over their answers.
    pub(crate) fn vote(&self, place: Place<'_>) -> VoteResult {
        let same = |left: &str, right: &str| place.task.equivalent(place.problem, left, right);
        majority(&self.drawn.ballots(), same)
    }

    /// Whether several drafts are one text.
    pub(crate) fn identical(&self) -> bool {
        all_identical(&self.drawn.texts())
    }

    /// Whether an answer is that of a draft.
    pub(crate) fn holds(&self, place: Place<'_>, answer: &str) -> bool {
        let mut answers = self.drawn.answers().into_iter().flatten();
        answers.any(|other| place.task.equivalent(place.problem, other, answer))
    }

    /// Ends with the most frequent answer of the drafts, and says why; abstains where no draft has an answer. `text`
    /// stands in the answer when there is no draft to show.
    pub(crate) fn end_by_vote(
        &self,
        mut trail: Trail,
        place: Place<'_>,
        why: &str,
        mut data: Value,
        text: String,
    ) -> Answer {
        let vote = self.vote(place);
        data["fallback"] = json!(why);
        let ballots = self.drawn.ballots();
        let table = vote.table(&ballots);
        let Some(draft) = vote.sample() else {
            let count = self.drawn.candidates.len();
            let reason =
                format!("{why}, and none of the {count} drafts has an answer that the task can extract");
            trail.decided(None, reason.clone(), None, data);
            return trail.answer(text, None, None, table, Some(reason));
        };
        let decision = self.noting_identical(format!("{why}: the drafts' vote instead"));
        trail.decided(None, decision, self.drawn.nodes.get(draft).copied(), data);
        let chosen = &self.drawn.candidates[draft];
        trail.answer(chosen.completion.text.clone(), chosen.answer.clone(), vote.share(), table, None)
    }

    /// A decision with the remark that all drafts are identical, where they are.
    pub(crate) fn noting_identical(&self, mut decision: String) -> String {
        if self.identical() {
            decision.push_str("; all drafts are identical");
        }
        decision
    }
}

/// One call that sees drafts.
#[derive(Debug, Clone)]
pub(crate) struct DraftCall<'a> {
    /// Who is asked.
    pub role: &'a str,
    /// Template of the prompt.
    pub skill: &'a str,
    /// Samples of the reply.
    pub samples: usize,
    /// How they are drawn; its seed is a further one to the context's: that of the settings, a round.
    pub sampling: Sampling,
    /// Whether a reply may become the answer: what the asker wants of the answer goes along then.
    pub writes_answer: bool,
}

/// What came of a call that sees drafts.
#[derive(Debug)]
pub(crate) enum DraftReply {
    /// Replies with the answers that the task finds in them, and their nodes.
    Given(Sampled),
    /// None, because the other side failed or the budget ended; in words, and in the trace.
    Missing(String),
}

impl DraftReply {
    /// The first reply.
    pub(crate) fn first(self) -> Result<(Candidate, NodeId), String> {
        match self {
            DraftReply::Given(replies) => replies
                .candidates
                .into_iter()
                .zip(replies.nodes)
                .next()
                .ok_or_else(|| "there was no reply".to_string()),
            DraftReply::Missing(why) => Err(why),
        }
    }
}

impl DraftCall<'_> {
    /// Asks for what is not the answer itself. Errors that a smaller request would meet too (a refused request, a broken
    /// template) stay errors.
    pub(crate) async fn ask(
        &self,
        trail: &mut Trail,
        place: Place<'_>,
        parent: Option<NodeId>,
        slots: &PromptSlots<'_>,
    ) -> Result<DraftReply, ControlError> {
        self.send(trail, place, parent, slots, false).await
    }

    /// The same for the one reply that is the answer, which is told while it is written.
    pub(crate) async fn ask_last(
        &self,
        trail: &mut Trail,
        place: Place<'_>,
        parent: Option<NodeId>,
        slots: &PromptSlots<'_>,
    ) -> Result<DraftReply, ControlError> {
        self.send(trail, place, parent, slots, true).await
    }

    async fn send(
        &self,
        trail: &mut Trail,
        place: Place<'_>,
        parent: Option<NodeId>,
        slots: &PromptSlots<'_>,
        last: bool,
    ) -> Result<DraftReply, ControlError> {
        let Place { context, task, problem } = place;
        let label = format!("{}\0{}\0{}", self.skill, problem.task, problem.id);
        let request = GenerateRequest {
            samples: self.samples,
            sampling: Sampling {
                seed: context.seed_for(&label, self.sampling.seed),
                ..self.sampling.clone()
            },
            logprobs: LogprobDetail::Offered,
            extra: if self.writes_answer { problem.wants.clone() } else { Default::default() },
            ..GenerateRequest::new(context.prompt(self.role, self.skill, slots)?)
        };
        // What was told cannot be taken back, and JSON cannot go on behind what is none.
        let replies = match last && !problem.wants_form() {
            true => ask_last(trail, context, task, problem, self.role, parent, &request).await,
            false => ask(trail, context, task, problem, self.role, parent, &request).await,
        };
        match replies {
            Ok(replies) => Ok(DraftReply::Given(replies)),
            Err(ControlError::Generate(
                error @ (GenerateError::Unavailable { .. } | GenerateError::Budget { .. }),
            )) => {
                let why = match &error {
                    GenerateError::Budget { .. } => {
                        "the budget ended before the call that sees the drafts".into()
                    }
                    _ => format!("the call that sees the drafts failed: {error}"),
                };
                trail.failed(parent, error.to_string());
                Ok(DraftReply::Missing(why))
            }
            Err(error) => Err(error),
        }
    }
}

/// Checks the most tokens of a reply.
pub(crate) fn check_reply_tokens(strategy: &str, field: &str, tokens: u32) -> Result<(), ControlError> {
    if tokens > 0 {
        return Ok(());
    }
    Err(ControlError::setting(strategy, field, "0 leaves no room", "a reply needs some 100 tokens"))
}
