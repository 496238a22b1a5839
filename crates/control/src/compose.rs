//! Strategies made of strategies: one after the other, the best of several, one in the place of another that failed.

use crate::assembly::{Assembly, Branch};
use crate::{
    ControlError, ControlKind, Estimate, EstimateInput, EvaluateKind, GenerateKind, Keeps, Minimum, Strategy,
    Triple,
};
use async_trait::async_trait;
use elenchus_evaluate::{
    Candidate, CandidateSize, EvaluateError, EvaluateInput, Evaluator, Needs, RoleNeeds, evaluate_all,
    evaluator,
};
use elenchus_generate::{Context, GenerateError, TraceObserver};
use elenchus_task::Task;
use elenchus_trace::{Answer, Completion, NodeId, Problem, Usage};
use futures::future::join_all;
use serde_json::{Value, json};
use std::sync::Arc;

/// A strategy with the name under which it stands in the trace.
#[derive(Clone)]
pub struct Member {
    /// As it was asked for: a strategy, a recipe, or a composition.
    pub label: String,
    /// The strategy.
    pub strategy: Arc<dyn Strategy>,
}

/// Runs a member in a branch of its own; `last` where its answer is that of the whole.
async fn run(
    assembly: &Arc<Assembly>,
    member: &Member,
    context: &Context,
    task: &dyn Task,
    problem: &Problem,
    draft: Option<&Completion>,
    last: bool,
) -> (Result<Answer, ControlError>, Arc<Branch>, NodeId) {
    let stage = assembly.stage(&member.label);
    let branch = assembly.branch(stage);
    let live = context.live().filter(|_| last).cloned();
    let observer = Some(Arc::clone(&branch) as Arc<dyn TraceObserver>);
    let inner = context.branch(context.seed(), observer, live);
    let result = member.strategy.run_from(&inner, task, problem, draft).await;
    if let Err(error) = &result {
        assembly.failed(stage, error.to_string());
    }
    (result, branch, stage)
}

/// An answer of a member with the trace of the whole, behind what another member's failed answer has told already.
fn adopt(
    context: &Context,
    assembly: &Assembly,
    branch: &Branch,
    mut answer: Answer,
    decision: String,
    data: Value,
) -> Answer {
    assembly.decided(decision, Some(branch.chosen(&answer)), data);
    if let Some(live) = context.live() {
        answer.text = live.settled(answer.text);
    }
    let trace = assembly.trace();
    Answer { usage: trace.usage(), trace, ..answer }
}

/// Whether nobody wants an answer any more.
fn is_cancelled(error: &ControlError) -> bool {
    matches!(
        error,
        ControlError::Generate(GenerateError::Cancelled)
            | ControlError::Evaluate(EvaluateError::Generate(GenerateError::Cancelled))
    )
}

fn needs(members: &[Member]) -> Needs {
    members.iter().fold(Needs::default(), |needs, member| needs.and(member.strategy.needs()))
}

/// The roles alone: what a member lacks is its own failure.
fn roles(needs: Needs) -> Needs {
    let roles = needs.roles.into_iter().map(|needs| RoleNeeds::new(needs.role)).collect();
    Needs { roles, ..needs }
}

fn estimate(members: &[Member], input: &EstimateInput) -> (Usage, String) {
    let mut usage = Usage::default();
    let mut formula = Vec::with_capacity(members.len());
    for member in members {
        let one = member.strategy.estimate(input);
        usage += one.usage;
        formula.push(format!("{}: {}", member.label, one.formula));
    }
    (usage, formula.join("; "))
}

fn minimum(members: &[Member]) -> Minimum {
    members.iter().map(|member| member.strategy.minimum()).fold(
        Minimum { calls: 0, tokens: 0 },
        |sum, one| Minimum { calls: sum.calls + one.calls, tokens: sum.tokens + one.tokens },
    )
}

fn check_all(members: &[Member], context: &Context) -> Result<(), ControlError> {
    members.iter().try_for_each(|member| member.strategy.check(context))
}

fn at_least_two(name: &'static str, members: &[Member]) -> Result<(), ControlError> {
    match members.len() {
        2.. => Ok(()),
        _ => Err(ControlError::setting(
            name,
            "members",
            "there are fewer than two",
            "name two or more strategies",
        )),
    }
}

/// `a then b`: b begins with the answer of a in the place of its own first response. Only strategies that improve one
/// response can stand behind `then` ([`Strategy::takes_draft`]). Where a has nothing to give, b begins by itself; where b
/// fails or its budget ends, the answer of a stands, and the trace says so. Confidence and votes are those of whose answer
/// it is.
pub struct Then {
    members: Vec<Member>,
}

impl Then {
    /// Errors: [`ControlError::Setting`] for fewer than two strategies, or one that cannot begin with a draft.
    pub fn new(members: Vec<Member>) -> Result<Self, ControlError> {
        at_least_two("then", &members)?;
        if let Some(member) = members[1..].iter().find(|member| !member.strategy.takes_draft()) {
            let able: Vec<&str> = crate::strategies_that(|strategy| strategy.takes_draft());
            let problem = format!("`{}` cannot begin with another's answer", member.label);
            let hint = format!("behind `then` can stand {}", able.join(", "));
            return Err(ControlError::setting("then", &member.label, problem, hint));
        }
        Ok(Then { members })
    }
}

#[async_trait]
impl Strategy for Then {
    fn name(&self) -> &'static str {
        "then"
    }

    fn summary(&self) -> &'static str {
        "one strategy after the other, each beginning with the answer of the one before"
    }

    fn triple(&self) -> Triple {
        self.members.last().map_or(Triple::SELF_VOTE, |last| last.strategy.triple())
    }

    fn needs(&self) -> Needs {
        needs(&self.members)
    }

    fn minimum(&self) -> Minimum {
        let mut sum = minimum(&self.members);
        // The first response of a later one is given.
        let given = self.members.len() as u64 - 1;
        sum.calls = sum.calls.saturating_sub(given);
        sum.tokens = sum.tokens.saturating_sub(given);
        sum
    }

    fn estimate(&self, input: &EstimateInput) -> Estimate {
        let (usage, formula) = estimate(&self.members, input);
        Estimate { usage, formula }
    }

    fn check(&self, context: &Context) -> Result<(), ControlError> {
        check_all(&self.members, context)
    }

    /// The answer of each is text to the next.
    fn keeps(&self) -> Keeps {
        let keeps = |member: &Member| member.strategy.keeps().response_format;
        if self.members.iter().all(keeps) { Keeps::FORM } else { Keeps::NOTHING }
    }

    fn takes_draft(&self) -> bool {
        self.members[0].strategy.takes_draft()
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
        let assembly = Assembly::new(context, self.name(), problem);
        let mut draft = draft.cloned();
        let mut standing: Option<(Answer, Arc<Branch>, String)> = None;
        let mut decision = None;
        for (index, member) in self.members.iter().enumerate() {
            // Where it fails, what was told would stand before the answer of the one before: JSON would be none.
            let last = index + 1 == self.members.len() && !problem.wants_form();
            let (result, branch, _) =
                run(&assembly, member, context, task, problem, draft.as_ref(), last).await;
            match (result, &standing) {
                (Ok(Answer { abstained: Some(why), text, .. }), Some((_, _, before))) if text.is_empty() => {
                    decision =
                        Some(format!("the answer of `{before}` stands: `{}` abstains, {why}", member.label));
                    break;
                }
                (Ok(answer), _) => {
                    // What costs nothing again: the draft was paid for by who wrote it.
                    draft = (!answer.text.trim().is_empty()).then(|| Completion::text(&answer.text));
                    standing = Some((answer, branch, member.label.clone()));
                }
                (Err(error), Some((_, _, before))) if !is_cancelled(&error) => {
                    decision = Some(format!("the answer of `{before}` stands: `{}` failed", member.label));
                    break;
                }
                (Err(error), _) => return Err(error),
            }
        }
        match standing {
            Some((answer, branch, label)) => {
                let decision = decision.unwrap_or_else(|| format!("the answer of `{label}`"));
                Ok(adopt(context, &assembly, &branch, answer, decision, Value::Null))
            }
            None => {
                Err(ControlError::setting("then", "members", "there are none", "name two or more strategies"))
            }
        }
    }
}

/// `best of a, b by judge`: all answer at the same time, and an evaluator chooses among their answers. Of equal scores the
/// first named wins. A member that fails or abstains is out; when the evaluator has no score for any, the first answer
/// stands. Fails when all fail.
pub struct BestOf {
    members: Vec<Member>,
    evaluator: Arc<dyn Evaluator>,
}

impl BestOf {
    /// Errors: [`ControlError::Setting`] for fewer than two strategies; [`ControlError::Evaluate`] for an unknown evaluator
    /// or a wrong setting of it.
    pub fn new(members: Vec<Member>, by: &str, settings: Value) -> Result<Self, ControlError> {
        at_least_two("best-of", &members)?;
        Ok(BestOf { members, evaluator: evaluator(by, settings)? })
    }
}

#[async_trait]
impl Strategy for BestOf {
    fn name(&self) -> &'static str {
        "best-of"
    }

    fn summary(&self) -> &'static str {
        "several strategies at once; an evaluator chooses among their answers"
    }

    fn triple(&self) -> Triple {
        Triple {
            generate: GenerateKind::HandWritten,
            evaluate: EvaluateKind::of(self.evaluator.as_ref()),
            control: ControlKind::Ensemble,
            line: None,
        }
    }

    fn needs(&self) -> Needs {
        roles(needs(&self.members)).and(self.evaluator.needs())
    }

    fn minimum(&self) -> Minimum {
        minimum(&self.members)
    }

    fn estimate(&self, input: &EstimateInput) -> Estimate {
        let (usage, mut formula) = estimate(&self.members, input);
        let judged = self.evaluator.cost(CandidateSize {
            candidates: self.members.len() as u64,
            prompt_tokens: input.prompt_tokens,
            completion_tokens: input.completion_tokens,
        });
        formula.push_str(&format!("; `{}` adds {} calls", self.evaluator.name(), judged.calls));
        Estimate { usage: usage + judged, formula }
    }

    fn keeps(&self) -> Keeps {
        self.members.iter().fold(Keeps::SAMPLE, |keeps, member| keeps.and(member.strategy.keeps()))
    }

    async fn attempt(
        &self,
        context: &Context,
        task: &dyn Task,
        problem: &Problem,
    ) -> Result<Answer, ControlError> {
        let assembly = Assembly::new(context, self.name(), problem);
        let runs =
            self.members.iter().map(|member| run(&assembly, member, context, task, problem, None, false));
        let mut answers: Vec<(Answer, Arc<Branch>, &str)> = Vec::new();
        let mut failed = None;
        for ((result, branch, _), member) in join_all(runs).await.into_iter().zip(&self.members) {
            match result {
                Ok(answer) => answers.push((answer, branch, &member.label)),
                Err(error) if is_cancelled(&error) => return Err(error),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        let answered: Vec<usize> =
            (0..answers.len()).filter(|&index| answers[index].0.abstained.is_none()).collect();
        let candidates: Vec<Candidate> = answered
            .iter()
            .map(|&index| {
                let answer = &answers[index].0;
                let written = answer.trace.chosen().and_then(|node| answer.trace.completion(node)).cloned();
                // What was put together of several texts has no completion of its own.
                let written = written.filter(|written| written.text == answer.text);
                let completion = written.unwrap_or_else(|| Completion::text(&answer.text));
                Candidate { completion, answer: answer.answer.clone() }
            })
            .collect();
        let mut scores = vec![None; answers.len()];
        let mut remark = String::new();
        if candidates.len() > 1 {
            let scope = context.child(Default::default());
            let input = EvaluateInput { context: &scope, task, problem, candidates: &candidates };
            match evaluate_all(self.evaluator.as_ref(), input).await {
                Ok(judged) => {
                    for (&index, feedback) in answered.iter().zip(judged) {
                        scores[index] = feedback.score.filter(|score| score.is_finite());
                        let (answer, branch, _) = &answers[index];
                        assembly.evaluated(branch.chosen(answer), feedback);
                    }
                }
                Err(error) => {
                    let error = ControlError::from(error);
                    if is_cancelled(&error) {
                        return Err(error);
                    }
                    remark = format!(": the evaluator failed, {}", first_line(&error));
                }
            }
        }
        let mut best: Option<(usize, f64)> = None;
        for (index, score) in scores.iter().enumerate() {
            if let Some(score) = *score
                && best.is_none_or(|(_, most)| score > most)
            {
                best = Some((index, score));
            }
        }
        let data = json!({ "evaluator": self.evaluator.name(), "scores": scores });
        let (index, decision) = match (best, answered.first()) {
            (Some((index, score)), _) => {
                (index, format!("the answer of `{}`: score {score:.4}", answers[index].2))
            }
            (None, Some(&index)) if answered.len() == 1 => {
                (index, format!("the answer of `{}`: no other has one", answers[index].2))
            }
            (None, Some(&index)) => {
                if remark.is_empty() {
                    remark = ": the evaluator has no score".into();
                }
                (index, format!("the answer of `{}`, the first{remark}", answers[index].2))
            }
            (None, None) if !answers.is_empty() => (0, format!("`{}` abstains, and so do all", answers[0].2)),
            (None, None) => {
                let none =
                    || ControlError::setting("best-of", "members", "there are none", "name two or more");
                return Err(failed.unwrap_or_else(none));
            }
        };
        let (answer, branch, _) = answers.swap_remove(index);
        Ok(adopt(context, &assembly, &branch, answer, decision, data))
    }
}

/// `a else b`: where a fails or abstains, b answers; where all do, the last one's failure or abstention is the outcome.
pub struct Otherwise {
    members: Vec<Member>,
}

impl Otherwise {
    /// Errors: [`ControlError::Setting`] for fewer than two strategies.
    pub fn new(members: Vec<Member>) -> Result<Self, ControlError> {
        at_least_two("else", &members)?;
        Ok(Otherwise { members })
    }
}

#[async_trait]
impl Strategy for Otherwise {
    fn name(&self) -> &'static str {
        "else"
    }

    fn summary(&self) -> &'static str {
        "one strategy, and the next in its place where it fails or abstains"
    }

    fn triple(&self) -> Triple {
        self.members[0].strategy.triple()
    }

    fn needs(&self) -> Needs {
        roles(needs(&self.members))
    }

    fn minimum(&self) -> Minimum {
        // The cheapest may be the one that answers.
        let least =
            self.members.iter().map(|member| member.strategy.minimum()).min_by_key(|least| least.tokens);
        least.unwrap_or(Minimum { calls: 0, tokens: 0 })
    }

    fn estimate(&self, input: &EstimateInput) -> Estimate {
        let (usage, formula) = estimate(&self.members, input);
        Estimate { usage, formula }
    }

    fn keeps(&self) -> Keeps {
        self.members.iter().fold(Keeps::SAMPLE, |keeps, member| keeps.and(member.strategy.keeps()))
    }

    async fn attempt(
        &self,
        context: &Context,
        task: &dyn Task,
        problem: &Problem,
    ) -> Result<Answer, ControlError> {
        let assembly = Assembly::new(context, self.name(), problem);
        let last = self.members.len() - 1;
        for (index, member) in self.members.iter().enumerate() {
            let (result, branch, stage) =
                run(&assembly, member, context, task, problem, None, index == last).await;
            match result {
                Ok(answer) if answer.abstained.is_none() || index == last => {
                    let decision = format!("the answer of `{}`", member.label);
                    return Ok(adopt(context, &assembly, &branch, answer, decision, Value::Null));
                }
                Ok(answer) => {
                    let why = answer.abstained.unwrap_or_default();
                    assembly.failed(stage, format!("no answer: {why}"));
                }
                Err(error) if index == last || is_cancelled(&error) => return Err(error),
                // Written down where it ran.
                Err(_) => {}
            }
        }
        Err(ControlError::setting("else", "members", "there are none", "name two or more strategies"))
    }
}

fn first_line(error: &ControlError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_string()
}

#[cfg(test)]
#[path = "compose_tests.rs"]
mod tests;
