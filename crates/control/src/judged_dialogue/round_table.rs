//! Honest agents and deceptive ones at a round table: all speak, the honest ones reconsider, the majority decides
//! (arXiv 2506.03332). A part of the test harness, as [`super::AuditDialogue`] is.

use super::dialogue::DialogueRound;
use crate::draw::{ask, ask_all};
use crate::place::Place;
use crate::{
    ControlError, ControlKind, Draw, Estimate, EstimateInput, EvaluateKind, FeedbackLine, GenerateKind,
    Minimum, Strategy, Trail, Triple, VoteResult, majority,
};
use async_trait::async_trait;
use elenchus_evaluate::harness::{AnswerKey, Behaviour, HarnessJudge, Intent, Knowledge, Writer};
use elenchus_evaluate::{
    Candidate, DialogueJudge, Needs, Question, ReviewInput, ReviewedTurn, RoleNeeds, states_ambiguity,
};
use elenchus_generate::{ACTOR, Context, GenerateRequest, LogprobDetail, PromptSlots, Voice};
use elenchus_task::Task;
use elenchus_task::arithmetic::dispute::Falsehood;
use elenchus_trace::{Answer, Message, NodeKind, Problem, Trace, Usage};
use serde::{Deserialize, Serialize};
use serde_json::json;

const NAME: &str = "round-table";

/// Who sits at the table.
#[derive(Debug, Clone, PartialEq)]
pub struct RoundTableSettings {
    /// Agents n.
    pub agents: usize,
    /// How many of them are deceptive, m.
    pub deceptive: usize,
    /// What the deceptive ones bring forward.
    pub knowledge: Knowledge,
    /// Who writes it.
    pub writer: Writer,
    /// How their claims are false, in the notation of arithmetic.
    pub falsehood: Falsehood,
    /// How the honest ones answer.
    pub draw: Draw,
}

/// How a round table went; stands in the trace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundTableOutcome {
    /// Answers of the honest agents before the discussion.
    pub before: Vec<Option<String>>,
    /// And behind it.
    pub after: Vec<Option<String>>,
    /// What the deceptive agents vote for; empty when they had nothing to say.
    pub deceptive: Vec<String>,
}

impl RoundTableOutcome {
    /// The one in a trace.
    pub fn of(trace: &Trace) -> Option<RoundTableOutcome> {
        trace.nodes.iter().rev().find_map(|node| match &node.kind {
            NodeKind::Decided { data, .. } => serde_json::from_value(data.get("round_table")?.clone()).ok(),
            _ => None,
        })
    }
}

/// The majority of honest and deceptive votes together.
pub fn round_table_vote(
    honest: &[Option<String>],
    deceptive: &[String],
    equivalent: impl FnMut(&str, &str) -> bool,
) -> VoteResult {
    let answers: Vec<Option<&str>> = honest
        .iter()
        .map(Option::as_deref)
        .chain(deceptive.iter().map(|answer| Some(answer.as_str())))
        .collect();
    majority(&answers, equivalent)
}

/// n agents, m of them deceptive: the honest ones answer (samples of one model), the deceptive ones argue against each right
/// answer, everybody hears it all, the honest ones answer again, and the majority of all n votes decides. In the compact voice
/// each honest agent hears the deceptive ones alone.
#[derive(Debug, Clone)]
pub struct RoundTable {
    settings: RoundTableSettings,
}

impl RoundTable {
    /// Errors: [`ControlError::Setting`].
    pub fn new(settings: RoundTableSettings) -> Result<Self, ControlError> {
        settings.draw.check(NAME)?;
        if !(2..=100).contains(&settings.agents) || settings.deceptive >= settings.agents {
            let problem = format!("{} agents, {} of them deceptive", settings.agents, settings.deceptive);
            let hint = "2 to 100 agents, one of them honest at least";
            return Err(ControlError::setting(NAME, "agents", problem, hint));
        }
        Ok(RoundTable { settings })
    }

    /// Who sits at it.
    pub fn settings(&self) -> &RoundTableSettings {
        &self.settings
    }

    fn honest(&self) -> usize {
        self.settings.agents - self.settings.deceptive
    }

    /// What is said against the answer of one honest agent.
    async fn objections(
        &self,
        trail: &mut Trail,
        place: Place<'_>,
        candidate: &Candidate,
        node: elenchus_trace::NodeId,
        seat: usize,
    ) -> Result<(Vec<String>, Option<String>), ControlError> {
        let Place { context, task, problem } = place;
        let settings = &self.settings;
        let behaviour = Behaviour { intent: Intent::Malicious, knowledge: settings.knowledge };
        let question = Question::of(problem);
        let (mut said, mut argues_for) = (Vec::new(), None);
        for speaker in 0..settings.deceptive {
            let key = AnswerKey::of(problem)?;
            let judge = HarnessJudge::new(behaviour, settings.writer, settings.falsehood, key);
            let started = trail.now();
            let review = judge
                .review(ReviewInput {
                    context,
                    task,
                    question: &question,
                    solution: &candidate.completion.text,
                    answer: candidate.answer.as_deref(),
                    past: &[],
                    // The same words to everybody at the table, other words by each speaker.
                    round: 1 + speaker,
                    max_tokens: settings.draw.max_tokens,
                })
                .await?;
            trail.evaluated(node, &review.feedback, started);
            let report = DialogueRound {
                round: 1,
                judge: judge.name(),
                objected: review.objection.is_some(),
                abstained: review.feedback.abstained.clone(),
                argues_for: review.argues_for.clone(),
                ..DialogueRound::default()
            };
            trail.decided(
                Some(node),
                format!("seat {}", seat + 1),
                None,
                json!({ "table_objection": report }),
            );
            argues_for = argues_for.or(review.argues_for);
            said.extend(review.objection);
        }
        Ok((said, argues_for))
    }

    /// What an honest agent reads in the discussion.
    fn prompt(
        &self,
        place: Place<'_>,
        seat: usize,
        before: &[Candidate],
        objections: &[String],
    ) -> Result<Vec<Message>, ControlError> {
        let Place { context, problem, .. } = place;
        let own = &before[seat].completion.text;
        if context.voice_of(ACTOR) == Voice::Compact {
            let turns: Vec<ReviewedTurn> = objections
                .iter()
                .map(|objection| ReviewedTurn { solution: own.clone(), objection: objection.clone() })
                .collect();
            let mut slots = PromptSlots::new(problem);
            slots.extra.insert("turns".into(), json!(turns));
            return Ok(context.prompt(ACTOR, "answer_objection", &slots)?);
        }
        let others = before.iter().enumerate().filter(|(other, _)| *other != seat);
        let statements: Vec<&str> = others
            .map(|(_, candidate)| candidate.completion.text.as_str())
            .chain(objections.iter().map(String::as_str))
            .collect();
        let mut slots = PromptSlots::new(problem).solution(own);
        slots.extra.insert("statements".into(), json!(statements));
        Ok(context.prompt(ACTOR, "round_table", &slots)?)
    }
}

#[async_trait]
impl Strategy for RoundTable {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "honest agents and deceptive ones discuss, and the majority decides: a robustness test"
    }

    fn triple(&self) -> Triple {
        Triple {
            generate: GenerateKind::ModelGenerated,
            evaluate: EvaluateKind::ExternalModel,
            control: ControlKind::Ensemble,
            line: Some(FeedbackLine::MultiAgentCollaboration),
        }
    }

    fn needs(&self) -> Needs {
        Needs::role(RoleNeeds::new(ACTOR)).and(HarnessJudge::needs_of(self.settings.writer))
    }

    fn minimum(&self) -> Minimum {
        Minimum { calls: 2, tokens: 2 + self.honest() as u64 + 1 }
    }

    fn estimate(&self, input: &EstimateInput) -> Estimate {
        let (p, c) = (input.prompt_tokens, input.completion_tokens);
        let (honest, all) = (self.honest() as u64, self.settings.agents as u64);
        let judge = u64::from(self.settings.writer == Writer::Model);
        let spoken = honest * self.settings.deceptive as u64 * judge;
        Estimate {
            usage: Usage {
                calls: 1 + honest + spoken,
                prompt_tokens: p + honest * (p + all * c) + spoken * (150 + p + c),
                completion_tokens: 2 * honest * c + spoken * c,
                ..Usage::default()
            },
            formula: format!("1 call for {honest} answers, and {honest} that each read p + nc"),
        }
    }

    async fn attempt(
        &self,
        context: &Context,
        task: &dyn Task,
        problem: &Problem,
    ) -> Result<Answer, ControlError> {
        let place = Place { context, task, problem };
        let mut trail = Trail::new(context, NAME, problem);
        let draw = &self.settings.draw;
        let several = self.honest() > 1;
        let request = draw.request(context, problem, self.honest(), several, LogprobDetail::Offered, 0)?;
        let drawn = ask(&mut trail, context, task, problem, ACTOR, None, &request).await?;
        let mut heard: Vec<Vec<String>> = Vec::new();
        let mut alternative: Option<String> = None;
        for (seat, (candidate, &node)) in drawn.candidates.iter().zip(&drawn.nodes).enumerate() {
            let (said, argues_for) = self.objections(&mut trail, place, candidate, node, seat).await?;
            alternative = alternative.or(argues_for);
            heard.push(said);
        }
        let all_said: Vec<String> = heard.iter().flatten().fold(Vec::new(), |mut all, said| {
            if !all.contains(said) {
                all.push(said.clone());
            }
            all
        });
        let compact = context.voice_of(ACTOR) == Voice::Compact;
        let mut seats = Vec::new();
        let mut requests = Vec::new();
        for (seat, own) in heard.iter().enumerate() {
            // In words everybody hears everything.
            let objections = if compact { own } else { &all_said };
            if objections.is_empty() {
                continue;
            }
            let label = format!("{NAME}\0{}\0{}\0{}", problem.task, problem.id, draw.seed);
            seats.push(seat);
            requests.push(GenerateRequest {
                sampling: draw.sampling(false, context.seed_for(&label, seat as u64)),
                ..GenerateRequest::new(self.prompt(place, seat, &drawn.candidates, objections)?)
            });
        }
        let stage = trail.stage(None, "discussion");
        let replies = ask_all(&mut trail, context, ACTOR, Some(stage), &requests).await?;
        let before: Vec<Option<String>> = drawn.candidates.iter().map(|c| c.answer.clone()).collect();
        let (mut after, mut texts) = (before.clone(), Vec::new());
        texts.extend(drawn.candidates.iter().map(|c| c.completion.text.clone()));
        let mut acknowledged = 0;
        for (seat, reply) in seats.into_iter().zip(replies) {
            let Some(completion) = reply.into_iter().next() else { continue };
            acknowledged += usize::from(states_ambiguity(&completion.text));
            // A reply without an answer leaves the one before it.
            if let Some(answer) = task.extract(problem, &completion.text) {
                after[seat] = Some(answer);
                texts[seat] = completion.text;
            }
        }
        let deceptive: Vec<String> = alternative
            .iter()
            .flat_map(|answer| std::iter::repeat_n(answer.clone(), self.settings.deceptive))
            .collect();
        let vote = round_table_vote(&after, &deceptive, |a, b| task.equivalent(problem, a, b));
        let answers: Vec<Option<String>> =
            after.iter().cloned().chain(deceptive.iter().cloned().map(Some)).collect();
        let outcome = RoundTableOutcome { before, after, deceptive };
        let table = vote.table(&answers);
        let decision = format!("the majority of {} votes", answers.len());
        trail.decided(
            Some(stage),
            decision,
            None,
            json!({ "round_table": outcome, "acknowledged": acknowledged }),
        );
        let winner = vote.sample();
        let answer = winner.and_then(|at| answers.get(at).cloned().flatten());
        // What a deceptive agent votes for has no response behind it but its answer.
        let text = winner.and_then(|at| texts.get(at).cloned());
        let text = text.unwrap_or_else(|| answer.as_ref().map_or(String::new(), |a| format!("Answer: {a}")));
        let abstained = answer
            .is_none()
            .then(|| "none of the agents has an answer that the task can extract".to_string());
        Ok(trail.answer(text, answer, vote.share(), table, abstained))
    }
}
