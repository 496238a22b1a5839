//! The rounds of a dialogue between a generator and a judge.

use super::gate::Gate;
use super::settings::JudgedDialogueSettings;
use crate::attempts::{Account, budget_over};
use crate::draw::{ask, first};
use crate::place::Place;
use crate::{Attempt, AttemptLog, ControlError, Trail};
use elenchus_evaluate::{
    Candidate, DialogueJudge, Question, Review, ReviewInput, ReviewedTurn, group_answers, states_ambiguity,
};
use elenchus_generate::{ACTOR, GenerateRequest, LogprobDetail, PromptSlots, Voice};
use elenchus_measure::Course;
use elenchus_task::Task;
use elenchus_trace::{Answer, Completion, Message, NodeId, NodeKind, Trace, Usage};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// What happened in one round; stands in the trace, see [`DialogueRound::all`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DialogueRound {
    /// From 1.
    pub round: usize,
    /// Who judged.
    pub judge: String,
    /// Whether it objected.
    pub objected: bool,
    /// Why it gave no review.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abstained: Option<String>,
    /// The answer that the objection argues for, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argues_for: Option<String>,
    /// Characters of the objection.
    pub characters: usize,
    /// Whether the gate let the objection through; `None` without an objection.
    pub passed: Option<bool>,
    /// What the gate said.
    pub gate: String,
    /// Whether the reply states that the evidence conflicts or the question is ambiguous; `None` without a reply.
    pub acknowledged: Option<bool>,
    /// Whether there was a reply without an answer, which leaves the answer as it was.
    pub without_answer: bool,
}

impl DialogueRound {
    /// All rounds in a trace, in order.
    pub fn all(trace: &Trace) -> Vec<DialogueRound> {
        let of = |kind: &NodeKind| match kind {
            NodeKind::Decided { data, .. } => {
                serde_json::from_value(data.get("dialogue_round")?.clone()).ok()
            }
            _ => None,
        };
        trace.nodes.iter().filter_map(|node| of(&node.kind)).collect()
    }
}

/// Where the dialogues of an audit were silent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// Reviews that abstained: the judge could not be read, or had nothing to bring forward.
    pub count: usize,
    /// Why the first of them did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
    /// Replies of the generator without an answer.
    pub without_answer: usize,
}

impl Silence {
    /// Counts over answers.
    pub fn of(answers: &[Answer]) -> Silence {
        let mut silence = Silence::default();
        for round in answers.iter().flat_map(|answer| DialogueRound::all(&answer.trace)) {
            silence.without_answer += usize::from(round.without_answer);
            silence.count += usize::from(round.abstained.is_some());
            silence.first = silence.first.or(round.abstained);
        }
        silence
    }
}

/// The course of the answers of a dialogue over `rounds` rounds, judged by the task's verifier; rounds that were not made
/// leave the answer as it was. `None` for an answer that no dialogue gave.
///
/// Errors: the task cannot verify the problem.
pub fn dialogue_course(
    task: &dyn Task,
    answer: &Answer,
    rounds: usize,
) -> Result<Option<Course>, ControlError> {
    let trace = &answer.trace;
    let Some(log) = AttemptLog::of(trace) else { return Ok(None) };
    let right = log.judged(task, trace)?;
    let incumbents = log.incumbents();
    let Some(&last) = incumbents.last() else { return Ok(None) };
    let standing: Vec<usize> =
        (0..=rounds).map(|round| incumbents.get(round).copied().unwrap_or(last)).collect();
    let problem = &trace.problem;
    let answers: Vec<Option<&str>> =
        standing.iter().map(|&at| log.attempts.get(at).and_then(|a| a.answer.as_deref())).collect();
    let groups = group_answers(&answers, |left, right| task.equivalent(problem, left, right));
    let made = DialogueRound::all(trace);
    let argued = made.iter().find_map(|round| round.argues_for.clone());
    let alternative = match &argued {
        None => Vec::new(),
        Some(argued) => answers
            .iter()
            .map(|answer| answer.is_some_and(|answer| task.equivalent(problem, answer, argued)))
            .collect(),
    };
    Ok(Some(Course {
        answers: groups.of.clone(),
        right: standing.iter().map(|&at| right.get(at).copied().unwrap_or(false)).collect(),
        alternative,
        objected: (1..=rounds)
            .map(|round| made.iter().any(|found| found.round == round && found.objected))
            .collect(),
        acknowledged: made.iter().filter_map(|round| round.acknowledged).collect(),
    }))
}

/// The answer that stands.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub(super) text: String,
    pub(super) answer: Option<String>,
    pub(super) node: NodeId,
    pub(super) mean_logprob: Option<f64>,
}

impl Standing {
    fn of(candidate: &Candidate, node: NodeId) -> Self {
        Standing {
            text: candidate.completion.text.clone(),
            answer: candidate.answer.clone(),
            node,
            mean_logprob: candidate.completion.mean_logprob(),
        }
    }
}

/// Runs a dialogue with a judge.
pub(super) struct Dialogue<'a> {
    pub(super) name: &'static str,
    pub(super) settings: &'a JudgedDialogueSettings,
    pub(super) judge: &'a dyn DialogueJudge,
    pub(super) place: Place<'a>,
}

impl Dialogue<'_> {
    /// The prompt of a reply: the whole dialogue.
    fn prompt(&self, past: &[ReviewedTurn]) -> Result<Vec<Message>, ControlError> {
        let Place { context, problem, .. } = self.place;
        if context.voice_of(ACTOR) == Voice::Compact {
            let mut slots = PromptSlots::new(problem);
            slots.extra.insert("turns".into(), json!(past));
            return Ok(context.prompt(ACTOR, "answer_objection", &slots)?);
        }
        let mut messages =
            context.prompt(ACTOR, self.settings.draw.skill.as_str(), &PromptSlots::new(problem))?;
        let mut alone = problem.clone();
        alone.history.clear();
        for turn in past {
            let mut slots = PromptSlots::new(&alone).critique(&turn.objection);
            slots.extra.insert("acknowledge".into(), json!(self.settings.acknowledge));
            messages.push(Message::assistant(turn.solution.clone()));
            messages.extend(context.prompt(ACTOR, "answer_objection", &slots)?);
        }
        Ok(messages)
    }

    async fn reply(
        &self,
        trail: &mut Trail,
        past: &[ReviewedTurn],
        stage: NodeId,
        round: usize,
    ) -> Result<Option<Standing>, ControlError> {
        let Place { context, task, problem } = self.place;
        let draw = &self.settings.draw;
        // Not by the name of the strategy: dialogues that differ in their judge alone draw the same numbers.
        let label = format!("dialogue\0{}\0{}\0{}", problem.task, problem.id, draw.seed);
        let request = GenerateRequest {
            sampling: draw.sampling(false, context.seed_for(&label, round as u64)),
            logprobs: LogprobDetail::Offered,
            ..GenerateRequest::new(self.prompt(past)?)
        };
        let drawn = ask(trail, context, task, problem, ACTOR, Some(stage), &request).await?;
        Ok(drawn.candidates.first().zip(drawn.nodes.first()).map(|(c, &node)| Standing::of(c, node)))
    }

    /// One round. Changes what stands, and adds to the dialogue what the generator was told. Says whether the judge
    /// abstained.
    async fn round(
        &self,
        trail: &mut Trail,
        standing: &mut Standing,
        past: &mut Vec<ReviewedTurn>,
        account: &mut Account,
        question: &Question,
        round: usize,
    ) -> Result<bool, ControlError> {
        let Place { context, task, problem } = self.place;
        let started = trail.now();
        let Review { feedback, objection, argues_for } = self
            .judge
            .review(ReviewInput {
                context,
                task,
                question,
                solution: &standing.text,
                answer: standing.answer.as_deref(),
                past,
                round,
                max_tokens: self.settings.draw.max_tokens,
            })
            .await?;
        let stage = trail.evaluated(standing.node, &feedback, started);
        let mut report = DialogueRound {
            round,
            judge: self.judge.name(),
            objected: objection.is_some(),
            abstained: feedback.abstained,
            argues_for,
            characters: objection.as_ref().map_or(0, |text| text.chars().count()),
            ..DialogueRound::default()
        };
        let Some(objection) = objection else {
            let decision = match &report.abstained {
                Some(reason) => format!("the judge abstains: {reason}"),
                None => "the judge has nothing against the answer".into(),
            };
            trail.decided(Some(stage), decision, None, json!({ "dialogue_round": report }));
            return Ok(report.abstained.is_some());
        };
        let passage = self.settings.passage(trail, self.place, standing, &objection, stage, round).await?;
        report.passed = Some(passage.passes);
        report.gate = passage.reason;
        if !passage.passes {
            let decision = format!("the objection is not passed on: {}", report.gate);
            trail.decided(Some(stage), decision, None, json!({ "dialogue_round": report }));
            return Ok(false);
        }
        past.push(ReviewedTurn { solution: standing.text.clone(), objection });
        let Some(reply) = self.reply(trail, past, stage, round).await? else {
            report.without_answer = true;
            trail.decided(
                Some(stage),
                "the generator gave no reply",
                None,
                json!({ "dialogue_round": report }),
            );
            return Ok(false);
        };
        report.acknowledged = Some(states_ambiguity(&reply.text));
        report.without_answer = reply.answer.is_none();
        let mut next = (!report.without_answer).then(|| reply.clone());
        if self.settings.gate == Gate::Vote && next.is_some() {
            let (winner, reason) =
                self.settings.vote(trail, self.place, standing, &reply, stage, round).await?;
            report.gate = reason;
            next = winner;
        }
        let decision = match (&next, report.without_answer) {
            (_, true) => "the reply has no answer: the one before it stands".to_string(),
            (None, _) => format!("the answer before it stands; {}", report.gate),
            (Some(next), _) => {
                let same = standing.answer.as_deref().zip(next.answer.as_deref());
                match same.is_some_and(|(left, right)| task.equivalent(problem, left, right)) {
                    true => "the answer is kept".into(),
                    false => "the answer is changed".into(),
                }
            }
        };
        let chosen = next.as_ref().map(|next| next.node);
        trail.decided(Some(stage), decision.clone(), chosen, json!({ "dialogue_round": report }));
        let counted = next.clone().unwrap_or(reply);
        let attempt = Attempt {
            round,
            node: Some(counted.node),
            text: None,
            answer: counted.answer.clone(),
            accepted: next.is_some(),
            reason: decision,
            spent: Usage::default(),
        };
        account.later(trail, task, problem, standing.answer.as_deref(), attempt);
        if let Some(next) = next {
            *standing = next;
        }
        Ok(false)
    }

    /// The whole dialogue, about a draft where one is given.
    pub(super) async fn run(&self, draft: Option<&Completion>) -> Result<Answer, ControlError> {
        let Place { context, task, problem } = self.place;
        let mut trail = Trail::new(context, self.name, problem);
        let request = self.settings.draw.request(context, problem, 1, false, LogprobDetail::Offered, 0)?;
        let drawn = first(&mut trail, context, task, problem, draft, &request).await?;
        let (Some(candidate), Some(&node)) = (drawn.candidates.first(), drawn.nodes.first()) else {
            return Ok(trail.answer("", None, None, Vec::new(), Some("the model gave no response".into())));
        };
        let mut standing = Standing::of(candidate, node);
        let mut account = Account::default();
        account.first(&trail, Some(node), None, standing.answer.as_deref());
        let question = Question::of(problem);
        let mut past = Vec::new();
        let mut stopped = "the rounds are over".to_string();
        let mut silent = 0;
        for round in 1..=self.settings.rounds {
            let made = self.round(&mut trail, &mut standing, &mut past, &mut account, &question, round).await;
            match made {
                Ok(abstained) => silent += usize::from(abstained),
                Err(error) => {
                    stopped = budget_over(&mut trail, Some(standing.node), error)?;
                    break;
                }
            }
        }
        let log = account.close(&mut trail, stopped, Some(standing.node));
        let abstained = standing.answer.is_none().then(|| {
            format!(
                "none of the {} responses has an answer that the task can extract{}",
                log.attempts.len(),
                if silent > 0 { format!("; the judge abstained {silent} times") } else { String::new() }
            )
        });
        Ok(trail.answer(standing.text, standing.answer, None, Vec::new(), abstained))
    }
}
