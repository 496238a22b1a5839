//! A critique is worth the correction that it leads to (arXiv 2501.14492).

use crate::attempts::{Account, budget_over};
use crate::draw::{ask, first};
use crate::place::Place;
use crate::{
    Attempt, ControlError, ControlKind, Draw, Estimate, EstimateInput, EvaluateKind, FeedbackLine,
    GenerateKind, Minimum, Strategy, Trail, Triple,
};
use async_trait::async_trait;
use elenchus_evaluate::{
    Candidate, Critic, CriticSettings, EvaluateInput, Needs, RoleNeeds, evaluate_all,
    parse_closed_loop_critique,
};
use elenchus_generate::{ACTOR, Context, GenerateRequest, LogprobDetail, PromptSlots, Voice};
use elenchus_task::{Skill, Task};
use elenchus_trace::{
    Answer, Completion, FinishReason, Message, NodeId, NodeKind, Outcome, Problem, Step, Trace, Usage,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const NAME: &str = "closed-loop-critique";

/// Whose solution is criticised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CritiqueOf {
    /// The actor's own, drawn first: self-critique.
    #[default]
    Own,
    /// The one in the field `solution` of the problem's data: cross-critique of recorded solutions.
    Given,
}

/// What becomes of a solution whose critique cannot be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unreadable {
    /// There is no answer: the protocol of the paper, where a correction without an answer is wrong.
    #[default]
    Abstain,
    /// The solution stays.
    Keep,
}

/// Settings of `closed-loop-critique`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClosedLoopCritiqueSettings {
    /// Whose solution is criticised.
    pub solution: CritiqueOf,
    /// Critiques: 1, or more for iterative critique.
    pub turns: usize,
    /// Role that criticises and corrects.
    pub critic: String,
    /// What becomes of a solution whose critique cannot be read.
    pub unreadable: Unreadable,
    /// How own solution, critique and correction are drawn; greedy unless a temperature is given.
    #[serde(flatten)]
    pub draw: Draw,
}

impl Default for ClosedLoopCritiqueSettings {
    fn default() -> Self {
        ClosedLoopCritiqueSettings {
            solution: CritiqueOf::Own,
            turns: 1,
            critic: "critic".into(),
            unreadable: Unreadable::Abstain,
            draw: Draw::default(),
        }
    }
}

/// What one critique said, and what came of it; stands in the trace of every answer, see [`CritiqueTurn::all`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CritiqueTurn {
    /// From 1.
    pub turn: usize,
    /// Which attempt of the account was criticised: the solution itself, or in the compact voice the correction of the turn
    /// before. Absent in traces of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub criticised: Option<usize>,
    /// Whether it calls the solution right; `None` when it cannot be read or says neither.
    pub verdict: Option<bool>,
    /// The first wrong step that it names, 0-based.
    pub first_error: Option<usize>,
    /// Whether the correction keeps the steps before that one as they were; `None` where nothing tells. A critic that
    /// silently solves anew does not keep them.
    pub kept_steps: Option<bool>,
    /// What is not as asked for, and why it could not be read.
    pub remarks: Vec<String>,
    /// Whether there was nothing to read.
    pub unreadable: bool,
}

impl CritiqueTurn {
    /// All turns in a trace, in order.
    pub fn all(trace: &Trace) -> Vec<CritiqueTurn> {
        let of = |kind: &NodeKind| match kind {
            NodeKind::Decided { data, .. } => serde_json::from_value(data.get("critique_turn")?.clone()).ok(),
            _ => None,
        };
        trace.nodes.iter().filter_map(|node| of(&node.kind)).collect()
    }
}

/// A critic goes through a solution, says whether it is right and where its first error is, and writes the correction;
/// the answer of the correction is the answer. So a critique is judged by what it leads to, not by its verdict. The
/// solution is the actor's own (self-critique) or a recorded one (cross-critique); with more turns the critic is asked
/// to reconsider (iterative critique). The account in the trace tells what went from right to wrong and back.
///
/// In the chat voice critique and correction are one call, and further turns go on in the same dialogue about the same
/// solution. The embedded model has two skills for it, critique and refine: two calls where an error is found, one where
/// none is, and further turns look at the correction before. A critique that cannot be read, has no correction or was
/// cut leaves no answer (`unreadable = "keep"`: the solution as it was), and the trace keeps its text.
///
/// Costs 1 call for an own solution, and per turn 1 (chat) or up to 2 (compact). Needs text only.
#[derive(Debug, Clone)]
pub struct ClosedLoopCritique {
    settings: ClosedLoopCritiqueSettings,
    /// For the compact voice.
    steps: Critic,
}

/// A solution under critique.
struct Student {
    text: String,
    answer: Option<String>,
    node: Option<NodeId>,
}

/// What a turn gave.
struct Turn {
    report: CritiqueTurn,
    node: Option<NodeId>,
    /// The correction, or the solution where it is called right; `None` when it cannot be read.
    correction: Option<String>,
}

impl ClosedLoopCritique {
    /// Errors: [`ControlError::Setting`]; [`ControlError::Evaluate`] for settings that the critic refuses.
    pub fn new(settings: ClosedLoopCritiqueSettings) -> Result<Self, ControlError> {
        settings.draw.check(NAME)?;
        if !(1..=100).contains(&settings.turns) {
            let problem = format!("{} is out of range", settings.turns);
            return Err(ControlError::setting(NAME, "turns", problem, "between 1 and 100; 1 to 3 are usual"));
        }
        let steps = Critic::new(CriticSettings {
            role: settings.critic.clone(),
            temperature: settings.draw.temperature.unwrap_or(0.0),
            max_tokens: settings.draw.max_tokens,
        })?;
        Ok(ClosedLoopCritique { settings, steps })
    }

    /// The solution that stands in the problem.
    fn given(&self, place: Place<'_>) -> Result<Student, ControlError> {
        let text = place.problem.data.get("solution").and_then(Value::as_str).unwrap_or_default();
        if text.trim().is_empty() {
            return Err(ControlError::Recorded {
                question: place.problem.id.clone(),
                problem: "there is no solution to criticise".into(),
                hint: "give each row of the file a field `solution`, or set `solution = \"own\"`".into(),
            });
        }
        let answer = place.task.extract(place.problem, text);
        Ok(Student { text: text.into(), answer, node: None })
    }

    fn request(&self, place: Place<'_>, messages: Vec<Message>, turn: usize, what: &str) -> GenerateRequest {
        let Place { context, problem, .. } = place;
        let draw = &self.settings.draw;
        let label = format!("{NAME}\0{what}\0{}\0{}\0{}", problem.task, problem.id, draw.seed);
        GenerateRequest {
            sampling: draw.sampling(false, context.seed_for(&label, turn as u64)),
            logprobs: LogprobDetail::Offered,
            // The correction becomes the answer.
            extra: problem.wants.clone(),
            ..GenerateRequest::new(messages)
        }
    }

    /// One call that criticises and corrects; `dialogue` is what was said in the turns before.
    async fn chat_turn(
        &self,
        trail: &mut Trail,
        place: Place<'_>,
        student: &Student,
        dialogue: &mut Vec<Message>,
        turn: usize,
    ) -> Result<Turn, ControlError> {
        let Place { context, task, problem } = place;
        let role = self.settings.critic.as_str();
        let steps = task.steps(problem, &student.text);
        if dialogue.is_empty() {
            let mut slots = PromptSlots::new(problem).solution(&student.text);
            if steps.len() > 1 {
                slots = slots.steps(steps.iter().map(|step| step.text.as_str()));
                slots.answer = student.answer.as_deref();
            }
            *dialogue = context.prompt(role, "critique_correct", &slots)?;
        } else {
            let mut without_history = problem.clone();
            without_history.history.clear();
            dialogue.extend(context.prompt(role, "reconsider", &PromptSlots::new(&without_history))?);
        }
        let stage = trail.stage(student.node, format!("critique {turn}"));
        let request = self.request(place, dialogue.clone(), turn, "critique");
        let drawn = ask(trail, context, task, problem, role, Some(stage), &request).await?;
        let (Some(candidate), Some(&node)) = (drawn.candidates.into_iter().next(), drawn.nodes.first())
        else {
            let report = CritiqueTurn::nothing(turn, "the critic gave no response");
            return Ok(Turn { report, node: None, correction: None });
        };
        let Completion { text, finish, .. } = candidate.completion;
        dialogue.push(Message::assistant(text.clone()));
        let read = match finish {
            FinishReason::Length => Err(format!("it was cut at {} tokens", self.settings.draw.max_tokens)),
            _ => parse_closed_loop_critique(&text),
        };
        let read = match read {
            Ok(read) => read,
            Err(reason) => {
                return Ok(Turn {
                    report: CritiqueTurn::nothing(turn, &reason),
                    node: Some(node),
                    correction: None,
                });
            }
        };
        let mut report = CritiqueTurn {
            turn,
            criticised: None,
            verdict: read.verdict,
            first_error: read.first_error,
            kept_steps: read
                .first_error
                .map(|first| keeps_steps(&steps, &task.steps(problem, &read.correction), first)),
            remarks: read.remarks,
            unreadable: false,
        };
        if task.extract(problem, &read.correction).is_none() {
            report.remarks.push("the correction has no answer that the task can extract".into());
            report.unreadable = true;
            return Ok(Turn { report, node: Some(node), correction: None });
        }
        Ok(Turn { report, node: Some(node), correction: Some(read.correction) })
    }

    /// The skill `critique`, and where it finds an error the skill `refine`.
    async fn compact_turn(
        &self,
        trail: &mut Trail,
        place: Place<'_>,
        student: &Student,
        turn: usize,
    ) -> Result<Turn, ControlError> {
        let Place { context, task, problem } = place;
        let stage = trail.stage(student.node, format!("critique {turn}"));
        let started = trail.now();
        let candidate =
            Candidate { completion: Completion::text(&student.text), answer: student.answer.clone() };
        let input = EvaluateInput { context, task, problem, candidates: std::slice::from_ref(&candidate) };
        let critique = evaluate_all(&self.steps, input).await?.into_iter().next().unwrap_or_default();
        trail.evaluated(stage, &critique, started);
        let (Some(verdict), Some(text)) = (&critique.verdict, &critique.text) else {
            let reason = critique.abstained.as_deref().unwrap_or("the critic said nothing");
            let report = CritiqueTurn::nothing(turn, reason);
            return Ok(Turn { report, node: None, correction: None });
        };
        let first_error = match verdict.first_wrong_step() {
            Some(first) => Some(first),
            // The end is missing: the error is behind the last step.
            None => (verdict.outcome == Outcome::Wrong).then_some(verdict.steps.len()),
        };
        let mut report = CritiqueTurn {
            turn,
            criticised: None,
            verdict: Some(first_error.is_none()),
            first_error,
            kept_steps: None,
            remarks: Vec::new(),
            unreadable: false,
        };
        let Some(first) = first_error else {
            return Ok(Turn { report, node: None, correction: Some(student.text.clone()) });
        };
        let role = self.settings.critic.as_str();
        let slots = PromptSlots::new(problem).solution(&student.text).critique(text);
        let request = self.request(place, context.prompt(role, Skill::Refine, &slots)?, turn, "refine");
        let drawn = ask(trail, context, task, problem, role, Some(stage), &request).await?;
        let (Some(refined), Some(&node)) = (drawn.candidates.into_iter().next(), drawn.nodes.first()) else {
            let report = CritiqueTurn::nothing(turn, "the critic gave no correction");
            return Ok(Turn { report, node: None, correction: None });
        };
        let text = refined.completion.text;
        report.kept_steps =
            Some(keeps_steps(&task.steps(problem, &student.text), &task.steps(problem, &text), first));
        if refined.answer.is_none() {
            report.remarks.push("the correction has no answer that the task can extract".into());
            report.unreadable = true;
            return Ok(Turn { report, node: Some(node), correction: None });
        }
        Ok(Turn { report, node: Some(node), correction: Some(text) })
    }

    async fn turns(
        &self,
        trail: &mut Trail,
        place: Place<'_>,
        student: &mut Student,
        account: &mut Account,
    ) -> Result<(), ControlError> {
        let Place { context, task, problem } = place;
        let compact = context.voice_of(&self.settings.critic) == Voice::Compact;
        let mut dialogue = Vec::new();
        // In a dialogue every turn is about the first solution.
        let original =
            Student { text: student.text.clone(), answer: student.answer.clone(), node: student.node };
        for turn in 1..=self.settings.turns {
            // What was unreadable leaves nothing for a further turn of the compact voice to look at.
            if compact && student.text.is_empty() {
                break;
            }
            let mut made = match compact {
                true => self.compact_turn(trail, place, student, turn).await?,
                false => self.chat_turn(trail, place, &original, &mut dialogue, turn).await?,
            };
            made.report.criticised = Some(if compact { turn - 1 } else { 0 });
            let mut decision = match (made.report.unreadable, made.report.verdict) {
                (true, _) => "the critique cannot be used".to_string(),
                (false, Some(true)) => "the critic finds no error".into(),
                (false, Some(false)) => "the critic finds an error".into(),
                (false, None) => "the critic gives no verdict".into(),
            };
            if let Some(remark) = made.report.remarks.last() {
                decision = format!("{decision}: {remark}");
            }
            trail.decided(made.node, decision.clone(), made.node, json!({ "critique_turn": made.report }));
            let before = student.answer.clone();
            let (accepted, text) = match (made.correction, self.settings.unreadable) {
                (Some(text), _) => (true, text),
                (None, Unreadable::Abstain) => (true, String::new()),
                (None, Unreadable::Keep) => (false, student.text.clone()),
            };
            let answer = task.extract(problem, &text);
            let attempt = Attempt {
                round: turn,
                node: made.node,
                text: Some(text.clone()),
                answer: answer.clone(),
                accepted,
                reason: decision,
                spent: Usage::default(),
            };
            account.later(trail, task, problem, before.as_deref(), attempt);
            *student = Student { text, answer, node: made.node.or(student.node) };
        }
        Ok(())
    }
}

impl CritiqueTurn {
    fn nothing(turn: usize, reason: &str) -> Self {
        CritiqueTurn {
            turn,
            criticised: None,
            verdict: None,
            first_error: None,
            kept_steps: None,
            remarks: vec![reason.to_string()],
            unreadable: true,
        }
    }
}

/// Whether the steps before `first` stand in the correction as they were, white space aside.
fn keeps_steps(before: &[Step], after: &[Step], first: usize) -> bool {
    let plain = |step: &Step| step.text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    let count = first.min(before.len());
    after.len() >= count && before.iter().zip(after).take(count).all(|(a, b)| plain(a) == plain(b))
}

#[async_trait]
impl Strategy for ClosedLoopCritique {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "a critic finds the first error and writes the correction, whose answer counts; own or recorded solutions"
    }

    fn triple(&self) -> Triple {
        Triple {
            generate: GenerateKind::ModelGenerated,
            evaluate: EvaluateKind::ExternalModel,
            control: ControlKind::Reinforcement,
            line: Some(FeedbackLine::RefiningIteratively),
        }
    }

    fn needs(&self) -> Needs {
        let critic = Needs::role(RoleNeeds::new(&self.settings.critic));
        match self.settings.solution {
            CritiqueOf::Own => Needs::role(RoleNeeds::new(ACTOR)).and(critic),
            CritiqueOf::Given => critic,
        }
    }

    fn minimum(&self) -> Minimum {
        let own = u64::from(self.settings.solution == CritiqueOf::Own);
        Minimum { calls: own + 1, tokens: 2 * (own + 1) }
    }

    fn estimate(&self, input: &EstimateInput) -> Estimate {
        let own = u64::from(self.settings.solution == CritiqueOf::Own);
        let turns = self.settings.turns as u64;
        // The instruction of the chat prompt is some 250 tokens; each further turn reads the dialogue before it.
        let (p, c) = (input.prompt_tokens, input.completion_tokens);
        let dialogue: u64 = (0..turns).map(|turn| turn * 2 * c).sum();
        Estimate {
            usage: Usage {
                calls: own + 2 * turns,
                prompt_tokens: own * p + 2 * turns * (250 + p + c) + dialogue,
                completion_tokens: own * c + turns * 2 * c,
                ..Usage::default()
            },
            formula: format!(
                "{own} call for an own solution, and for each of {turns} turns 1 call (chat) or up to 2 (compact) of about \
                 p + c to read and 2c to write"
            ),
        }
    }

    fn takes_draft(&self) -> bool {
        self.settings.solution == CritiqueOf::Own
    }

    async fn attempt(
        &self,
        context: &Context,
        task: &dyn Task,
        problem: &Problem,
    ) -> Result<Answer, ControlError> {
        self.attempt_from(context, task, problem, None).await
    }

    async fn attempt_from(
        &self,
        context: &Context,
        task: &dyn Task,
        problem: &Problem,
        draft: Option<&Completion>,
    ) -> Result<Answer, ControlError> {
        let place = Place { context, task, problem };
        let mut trail = Trail::new(context, NAME, problem);
        let mut account = Account::default();
        let mut student = match self.settings.solution {
            CritiqueOf::Given => self.given(place)?,
            CritiqueOf::Own => {
                let request =
                    self.settings.draw.request(context, problem, 1, false, LogprobDetail::Offered, 0)?;
                let drawn = first(&mut trail, context, task, problem, draft, &request).await?;
                let (Some(own), Some(&node)) = (drawn.candidates.into_iter().next(), drawn.nodes.first())
                else {
                    let reason = Some("the model gave no response".to_string());
                    return Ok(trail.answer("", None, None, Vec::new(), reason));
                };
                Student { text: own.completion.text, answer: own.answer, node: Some(node) }
            }
        };
        let given = student.node.is_none().then_some(student.text.as_str());
        account.first(&trail, student.node, given, student.answer.as_deref());
        let stopped = match self.turns(&mut trail, place, &mut student, &mut account).await {
            Ok(()) => "the turns are over".to_string(),
            Err(error) => budget_over(&mut trail, student.node, error)?,
        };
        account.close(&mut trail, stopped, student.node);
        let abstained = student
            .answer
            .is_none()
            .then(|| "no critique led to an answer that the task can extract".to_string());
        Ok(trail.answer(student.text, student.answer, None, Vec::new(), abstained))
    }
}

#[cfg(test)]
#[path = "closed_loop_critique_tests.rs"]
mod tests;
